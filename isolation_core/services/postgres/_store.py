"""Rows, in one SQLite database in memory, with the versions that transactions see.

Each table has two columns more: the transaction that made a row and the one that
deleted it. A transaction sees rows of committed ones (0) and its own, unless it
deleted them. Committing rewrites its number to 0 and removes what it deleted;
rolling back does the opposite. A savepoint is a number more of the same transaction.
"""

from __future__ import annotations

import sqlite3
from itertools import count
from typing import TYPE_CHECKING, Any

from attrs import define, field

from isolation_core.services.postgres._errors import Blocked, pg_error
from isolation_core.services.postgres._functions import Clock, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isolation_core.services.postgres._catalog import Table

__all__ = ["Store", "Work"]


@define(eq=False)
class Work:
    """An open transaction.

    Attributes:
        numbers: its own and those of its savepoints and statements.
        savepoints: their names, each with how many numbers there were before.
        failed: whether only a rollback is left.
        implicit: whether it is that of one statement alone.
        isolation: its level.
        readonly: whether it may change nothing.
        began: when, in microseconds since 1970.
        commits: how many commits there were when it took its snapshot.
        wrote: whether it has changed rows or tables.
        over: whether it has ended.
        made: rows it added: table, row, and the number under which.
        gone: rows it deleted, likewise.
        waits_for: the transaction it is blocked by.
        notices: notifications to send when it commits.
        listens: what to listen to, or no longer, when it commits.
    """

    numbers: list[int]
    implicit: bool = False
    isolation: str = "read_committed"
    readonly: bool = False
    began: int = 0
    savepoints: list[tuple[str, int]] = field(factory=list)
    failed: bool = False
    commits: int | None = None
    wrote: bool = False
    over: bool = False
    made: list[tuple[Table, int, int]] = field(factory=list)
    gone: list[tuple[Table, int, int]] = field(factory=list)
    waits_for: Work | None = None
    notices: list[tuple[str, str, int]] = field(factory=list)
    listens: list[tuple[str | None, bool, int]] = field(factory=list)


class Store:
    """Tables and rows, shared by all sessions of a double."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.failure: BaseException | None = None
        self.tables: list[Table] = []
        self.works: dict[int, Work] = {}
        self.locks: dict[tuple[str, int], int] = {}
        self.commits = 0
        self.version = 0  # changes whenever others may go on: not when a statement that has to wait undoes itself
        self._numbers = count(1)
        self._physical = count(1)
        self._database: sqlite3.Connection | None = None

    @property
    def database(self) -> sqlite3.Connection:
        """The database, opened when first needed."""
        if self._database is None:
            # Closed by whichever thread ends the barrier.
            self._database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            register(self._database, self.clock, self._failed)
            self._database.create_function("pg_limit", 2, self._limit)
        return self._database

    def _failed(self, error: BaseException) -> None:
        self.failure = error

    def _limit(self, what: str, number: int | None) -> int:
        if number is None:
            return -1 if what == "LIMIT" else 0
        if number < 0:
            name = (
                "InvalidRowCountInLimitClauseError" if what == "LIMIT" else "InvalidRowCountInResultOffsetClauseError"
            )
            self._failed(pg_error(name, f"{what} must not be negative"))
            raise ValueError(what)
        return number

    def run(self, sql: str, values: dict[str, Any] | Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run *sql* and return all rows; an error in a function of ours comes out as it is."""
        self.failure = None
        try:
            return self.database.execute(sql, values).fetchall()
        except sqlite3.Error:
            failure, self.failure = self.failure, None
            if failure is not None:
                failure.__traceback__ = None
                raise failure from None
            raise

    # -- transactions ------------------------------------------------------------------

    def begin(self, **options: Any) -> Work:
        """Begin a transaction."""
        number = next(self._numbers)
        work = Work([number], **options)
        self.works[number] = work
        return work

    def mark(self, work: Work) -> int:
        """Begin a part of *work* that can be undone by itself; return what `undo` wants."""
        place = len(work.numbers)
        number = next(self._numbers)
        work.numbers.append(number)
        self.works[number] = work
        return place

    def undo(self, work: Work, place: int) -> None:
        """Undo everything since `mark` gave *place*."""
        numbers = work.numbers[place:]
        del work.numbers[place:]
        self._forget(work, numbers)
        work.notices = [each for each in work.notices if each[2] not in numbers]
        work.listens = [each for each in work.listens if each[2] not in numbers]

    def _forget(self, work: Work, numbers: list[int]) -> None:
        doomed = set(numbers)
        for table, row, number in work.made:
            if number in doomed:
                self.run(f"DELETE FROM {table.physical} WHERE _id = ?", (row,))
        for table, row, number in work.gone:
            if number in doomed:
                self.run(f"UPDATE {table.physical} SET _xmax = 0 WHERE _id = ?", (row,))
        work.made = [each for each in work.made if each[2] not in doomed]
        work.gone = [each for each in work.gone if each[2] not in doomed]
        for table in self.tables:
            if table.dropped in doomed:
                table.dropped = 0
        for table in [each for each in self.tables if each.created in doomed]:
            self._drop(table)
        self._release(numbers)

    def _drop(self, table: Table) -> None:
        self.tables.remove(table)
        self.run(f"DROP TABLE {table.physical}")

    def _release(self, numbers: list[int]) -> None:
        gone = set(numbers)
        for number in numbers:
            self.works.pop(number, None)
        self.locks = {row: number for row, number in self.locks.items() if number not in gone}

    def commit(self, work: Work) -> None:
        """Make what *work* did visible to all."""
        numbers = work.numbers
        if work.wrote:
            for table, row, _ in work.made:
                self.run(f"UPDATE {table.physical} SET _xmin = 0 WHERE _id = ?", (row,))
            for table, row, _ in work.gone:
                self.run(f"DELETE FROM {table.physical} WHERE _id = ?", (row,))
            for table in self.tables:
                if table.created in numbers:
                    table.created = 0
            for table in [each for each in self.tables if each.dropped in numbers]:
                self._drop(table)
            self.commits += 1
        work.over = True
        self.version += 1
        self._release(numbers)

    def rollback(self, work: Work) -> None:
        """Undo all of *work*."""
        work.over = True
        self.version += 1
        if work.wrote:
            self._forget(work, work.numbers)
        else:
            self._release(work.numbers)

    # -- tables ------------------------------------------------------------------------

    def table_of(self, name: str, work: Work) -> Table | None:
        """Return the table *name* as *work* sees it."""
        for table in self.tables:
            if table.name == name and (not table.created or table.created in work.numbers):
                if table.dropped in work.numbers:
                    continue
                if table.dropped and table.dropped in self.works:
                    raise Blocked(self.works[table.dropped])
                return table
        return None

    def make(self, table: Table, work: Work) -> None:
        """Make the place of the rows of *table*, and add it."""
        table.physical = f"t{next(self._physical)}"
        listed = "".join(f", c{at}" for at in range(len(table.columns)))
        self.run(f"CREATE TABLE {table.physical} (_id INTEGER PRIMARY KEY AUTOINCREMENT, _xmin, _xmax{listed})")
        for rule in table.uniques:
            self.index(table, rule.columns)
        work.wrote = True
        self.tables.append(table)

    def index(self, table: Table, columns: Sequence[int]) -> None:
        """Make looking for equal *columns* fast."""
        listed = ", ".join(self._column(table, at) for at in columns)
        self.run(f"CREATE INDEX i{next(self._physical)} ON {table.physical} ({listed})")

    @staticmethod
    def _column(table: Table, at: int) -> str:
        return f"c{at}{' COLLATE pg_numeric' if table.columns[at].type == 'numeric' else ''}"

    def rows_of(self, table: Table, work: Work) -> str:
        """Return the text that selects the rows of *table* that *work* sees."""
        listed = ", ".join(map(str, work.numbers))
        return f"SELECT * FROM {table.physical} WHERE _xmin IN (0, {listed}) AND _xmax NOT IN ({listed})"

    # -- rows --------------------------------------------------------------------------

    def insert(self, table: Table, row: Sequence[Any], work: Work) -> int:
        """Add a row; return its number."""
        marks = ", ".join("?" * (len(row) + 2))
        work.wrote = True
        names = ", ".join(["_xmin", "_xmax", *(f"c{at}" for at in range(len(row)))])
        cursor = self.database.execute(
            f"INSERT INTO {table.physical} ({names}) VALUES ({marks})",
            (work.numbers[-1], 0, *row),
        )
        assert cursor.lastrowid is not None
        work.made.append((table, cursor.lastrowid, work.numbers[-1]))
        return cursor.lastrowid

    def claim(self, table: Table, number: int, work: Work) -> bool:
        """Make sure that no other transaction has the row; return whether it is still there.

        Raises:
            Blocked: if another one has it.
        """
        found = self.run(f"SELECT _xmax FROM {table.physical} WHERE _id = ?", (number,))
        if not found:
            return False
        for holder in (found[0][0], self.locks.get((table.physical, number), 0)):
            if holder and holder not in work.numbers:
                raise Blocked(self.works[holder])
        return found[0][0] not in work.numbers

    def delete(self, table: Table, number: int, work: Work) -> None:
        """Delete a row that was claimed."""
        work.wrote = True
        work.gone.append((table, number, work.numbers[-1]))
        self.run(
            f"UPDATE {table.physical} SET _xmax = ? WHERE _id = ?",
            (work.numbers[-1], number),
        )

    def matching(self, table: Table, columns: Sequence[int], values: Sequence[Any]) -> list[tuple[int, int, int]]:
        """Return number, maker and deleter of all versions of rows that have *values*, visible or not."""
        conditions = " AND ".join(f"{self._column(table, at)} = ?" for at in columns)
        return self.run(
            f"SELECT _id, _xmin, _xmax FROM {table.physical} WHERE {conditions}",
            tuple(values),
        )

    def close(self) -> None:
        """Let go of everything."""
        if self._database is not None:
            self._database.close()
            self._database = None
        self.tables.clear()
        self.works.clear()
        self.locks.clear()
