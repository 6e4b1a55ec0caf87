"""Constraints: checked row by row as rows are written, foreign keys when the statement is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from isolation_core.errors import UnsupportedSQLError
from isolation_core.services.postgres._errors import Blocked, pg_error
from isolation_core.services.postgres._literals import to_text
from isolation_core.services.postgres._scope import Scope

if TYPE_CHECKING:
    from isolation_core.services.postgres._catalog import CheckRule, ForeignRule, Table, UniqueRule
    from isolation_core.services.postgres._select import QueryCompiler
    from isolation_core.services.postgres._store import Store, Work

__all__ = ["Checks", "Constraints"]

Checks = list[tuple["CheckRule", str]]


class Constraints:
    """What rows must be.

    Args:
        store: where they are.
        work: the transaction that writes.
        sql: the statement.
    """

    def __init__(self, store: Store, work: Work, sql: str) -> None:
        self.store = store
        self.work = work
        self.sql = sql

    def checks_of(self, table: Table, compiler: QueryCompiler) -> Checks:
        """Return the check constraints, each with the text that evaluates it for one row."""
        found = []
        for rule in table.checks:
            relation = compiler.relation(table, None)
            scope = Scope(relations=[relation])
            condition = compiler.condition(rule.expr, scope, "CHECK")
            listed = ", ".join(f":x{at} AS c{at}" for at in range(len(table.columns)))
            found.append((rule, f"SELECT {condition} FROM (SELECT {listed}) AS {relation.sql_name}"))
        return found

    def before(self, table: Table, row: Sequence[Any], checks: Checks, values: dict[str, Any]) -> None:
        """Check what a row alone can violate.

        Raises:
            NotNullViolationError: by position.
            CheckViolationError: by name.
        """
        for at, column in enumerate(table.columns):
            if column.not_null and row[at] is None:
                raise pg_error(
                    "NotNullViolationError",
                    f'null value in column "{column.name}" of relation "{table.name}" violates not-null constraint',
                    detail=f"Failing row contains {table.row_text(tuple(row))}.",
                    schema_name="public",
                    table_name=table.name,
                    column_name=column.name,
                )
        bound = values | {f"x{at}": value for at, value in enumerate(row)}
        for rule, text in checks:
            if self.store.run(text, bound)[0][0] == 0:
                raise pg_error(
                    "CheckViolationError",
                    f'new row for relation "{table.name}" violates check constraint "{rule.name}"',
                    detail=f"Failing row contains {table.row_text(tuple(row))}.",
                    schema_name="public",
                    table_name=table.name,
                    constraint_name=rule.name,
                )

    # -- unique ------------------------------------------------------------------------

    def duplicate(self, table: Table, rule: UniqueRule, row: Sequence[Any]) -> int | None:
        """Return the row that has the same key as *row*; None if there is none.

        Raises:
            Blocked: if that depends on how another transaction ends.
        """
        key = [row[at] for at in rule.columns]
        if None in key:
            return None
        mine = self.work.numbers
        for number, maker, deleter in self.store.matching(table, rule.columns, key):
            if deleter in mine:
                continue
            if maker and maker not in mine:
                raise Blocked(self.store.works[maker])
            if deleter:
                raise Blocked(self.store.works[deleter])
            return number
        return None

    def _key_text(self, table: Table, columns: Sequence[int], row: Sequence[Any]) -> tuple[str, str]:
        names = ", ".join(table.columns[at].name for at in columns)
        values = ", ".join(_shown(row[at], table.columns[at].type) for at in columns)
        return names, values

    def violated(self, table: Table, rule: UniqueRule, row: Sequence[Any]) -> NoReturn:
        """Raise that a key is taken."""
        names, values = self._key_text(table, rule.columns, row)
        raise pg_error(
            "UniqueViolationError",
            f'duplicate key value violates unique constraint "{rule.name}"',
            detail=f"Key ({names})=({values}) already exists.",
            schema_name="public",
            table_name=table.name,
            constraint_name=rule.name,
        )

    # -- foreign keys --------------------------------------------------------------------

    def parents(self, table: Table, row: Sequence[Any], old: Sequence[Any] | None = None) -> None:
        """Check that what a row refers to exists.

        Raises:
            ForeignKeyViolationError: if not.
        """
        for rule in table.foreigns:
            key = [row[at] for at in rule.columns]
            if None in key or (old is not None and key == [old[at] for at in rule.columns]):
                continue
            if self._visible(rule.target, rule.targets, key):
                continue
            names, values = self._key_text(table, rule.columns, row)
            raise pg_error(
                "ForeignKeyViolationError",
                f'insert or update on table "{table.name}" violates foreign key constraint "{rule.name}"',
                detail=f'Key ({names})=({values}) is not present in table "{rule.target.name}".',
                schema_name="public",
                table_name=table.name,
                constraint_name=rule.name,
            )

    def _visible(self, table: Table, columns: Sequence[int], key: Sequence[Any]) -> bool:
        mine = self.work.numbers
        for _, maker, deleter in self.store.matching(table, columns, key):
            if (maker and maker not in mine) or deleter in mine:
                continue
            if deleter:
                raise Blocked(self.store.works[deleter])
            return True
        return False

    def children(self, table: Table, old: Sequence[Any], new: Sequence[Any] | None) -> None:
        """Check, or do what ON DELETE says to, the rows that refer to one that is deleted or changed.

        Raises:
            ForeignKeyViolationError: if there are some and they hold it.
        """
        for child in self.store.tables:
            for rule in child.foreigns:
                if rule.target is not table or child.dropped:
                    continue
                key = [old[at] for at in rule.targets]
                if None in key or (new is not None and key == [new[at] for at in rule.targets]):
                    continue
                # Another row may have taken its place meanwhile.
                if rule.on_delete != "restrict" and self._visible(table, rule.targets, key):
                    continue
                self._child(child, rule, key, old, deleted=new is None)

    def _child(self, child: Table, rule: ForeignRule, key: list[Any], old: Sequence[Any], *, deleted: bool) -> None:
        mine = self.work.numbers
        held = []
        for number, maker, deleter in self.store.matching(child, rule.columns, key):
            if deleter in mine:
                continue
            if maker and maker not in mine:
                raise Blocked(self.store.works[maker])
            if deleter:
                raise Blocked(self.store.works[deleter])
            held.append(number)
        if not held:
            return
        if not deleted or rule.on_delete in {"no action", "restrict"}:
            names, values = self._key_text(rule.target, rule.targets, old)
            raise pg_error(
                "ForeignKeyViolationError",
                f'update or delete on table "{rule.target.name}" violates foreign key constraint "{rule.name}" '
                f'on table "{child.name}"',
                detail=f'Key ({names})=({values}) is still referenced from table "{child.name}".',
                schema_name="public",
                table_name=child.name,
                constraint_name=rule.name,
            )
        self._follow(child, rule, held)

    def _follow(self, child: Table, rule: ForeignRule, held: list[int]) -> None:
        listed = ", ".join(f"c{at}" for at in range(len(child.columns)))
        changes: list[tuple[tuple[Any, ...], tuple[Any, ...] | None]] = []
        for number in held:
            old = self.store.run(f"SELECT {listed} FROM {child.physical} WHERE _id = ?", (number,))[0]
            self.store.claim(child, number, self.work)
            self.store.delete(child, number, self.work)
            new = None
            if rule.on_delete == "set null":
                if child.checks:
                    raise UnsupportedSQLError(self.sql, "ON DELETE SET NULL of a table with checks")
                new = tuple(None if at in rule.columns else value for at, value in enumerate(old))
                self.before(child, new, [], {})
                self.store.insert(child, new, self.work)
            changes.append((old, new))
        for old, new in changes:
            self.children(child, old, new)


def _shown(value: Any, type_: str) -> str:
    if type_ == "bool":
        return "t" if value else "f"
    return f"{value:g}" if type_ == "float8" else to_text(value, type_)
