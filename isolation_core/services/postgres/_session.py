"""`Session`: what one connection is for the embedded engine. Runs statements, keeps the transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, field

from isolation_core.errors import UnsupportedSQLError
from isolation_core.services.postgres import _ast as ast
from isolation_core.services.postgres._compile import pg_error_indeterminate
from isolation_core.services.postgres._ddl import create_index, create_table, drop_tables, truncate_tables
from isolation_core.services.postgres._dml import DataChanger
from isolation_core.services.postgres._errors import Blocked, interface_error, pg_error
from isolation_core.services.postgres._parser import parse
from isolation_core.services.postgres._scope import Typed
from isolation_core.services.postgres._select import QueryCompiler
from isolation_core.services.postgres._types import decode, encode_argument

if TYPE_CHECKING:
    from isolation_core.services.postgres._store import Store, Work
    from isolation_core.services.postgres._tokens import Token

__all__ = ["Result", "Session"]

SETTINGS = {
    "server_version": "15.0", "server_encoding": "UTF8", "client_encoding": "UTF8", "timezone": "UTC",
    "standard_conforming_strings": "on", "search_path": '"$user", public',
}  # fmt: skip


@define
class Result:
    """What a statement gave.

    Attributes:
        rows: decoded values.
        columns: name and type of each column.
        tag: the command tag, such as ``INSERT 0 1``.
        parameters: the types of the parameters.
    """

    rows: list[tuple[Any, ...]] = field(factory=list)
    columns: list[tuple[str, str]] = field(factory=list)
    tag: str = ""
    parameters: tuple[str, ...] = ()


@define
class _Plan:
    run: Callable[[dict[str, Any]], tuple[list[tuple[Any, ...]], int]]
    columns: list[Typed]
    compiler: QueryCompiler
    verb: str


class Session:
    """One connection to the engine.

    Args:
        store: the tables, shared with other sessions.
        clock: seconds since the epoch.
        pid: the number of the server process it stands for.
    """

    def __init__(self, store: Store, clock: Callable[[], float], pid: int) -> None:
        self.store = store
        self.clock = clock
        self.pid = pid
        self.work: Work | None = None
        self.channels: set[str] = set()
        self.inbox: list[tuple[int, str, str]] = []
        self.outbox: list[tuple[str, str]] = []
        self.ended: Callable[[str], None] = lambda _how: None

    # -- transaction ---------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        """Whether BEGIN was said and neither COMMIT nor ROLLBACK."""
        return self.work is not None and not self.work.implicit

    def _now(self) -> int:
        return round(self.clock() * 1_000_000)

    def fail(self) -> None:
        """Something went wrong: an open transaction can only be rolled back."""
        if self.work is not None and not self.work.implicit:
            self.work.failed = True

    def _end(self, *, commit: bool) -> None:
        work, self.work = self.work, None
        assert work is not None
        if not commit:
            self.store.rollback(work)
        else:
            self.store.commit(work)
            for channel, payload, _ in work.notices:
                if (channel, payload) not in self.outbox:
                    self.outbox.append((channel, payload))
            for heard, on, _ in work.listens:
                self._listen(heard, on=on)
        if not work.implicit:
            self.ended("commit" if commit else "rollback")

    def _listen(self, channel: str | None, *, on: bool) -> None:
        if channel is None:
            self.channels.clear()
        elif on:
            self.channels.add(channel)
        else:
            self.channels.discard(channel)

    def close(self) -> None:
        """The connection is gone: what was open is rolled back."""
        if self.work is not None:
            self._end(commit=False)
        self.channels.clear()

    # -- statements ------------------------------------------------------------------------

    def describe(self, sql: str, tokens: list[Token]) -> Result:
        """Return the types of parameters and columns without running the statement."""
        statement = parse(sql, tokens)
        self._refuse_failed(statement)
        if not isinstance(statement, (ast.Query, ast.Insert, ast.Update, ast.Delete)):
            return Result()
        temporary = self.work is None
        work = self.work or self.store.begin(implicit=True, began=self._now())
        try:
            plan = self._plan(statement, sql, work)
            return Result([], self._columns(plan), "", self._parameters(plan))
        finally:
            if temporary:
                self.store.rollback(work)

    def _refuse_failed(self, statement: ast.Statement) -> None:
        if self.work is None or not self.work.failed:
            return
        if isinstance(statement, ast.Transaction) and statement.action in {"commit", "rollback", "rollback to"}:
            return
        raise pg_error(
            "InFailedSQLTransactionError",
            "current transaction is aborted, commands ignored until end of transaction block",
        )

    def execute(self, sql: str, tokens: list[Token], args: Sequence[Any], *, simple: bool = False) -> Result:
        """Run one statement.

        Args:
            sql: the text it is in.
            tokens: of it.
            args: its arguments.
            simple: whether it is sent as text alone, which can have no parameters.

        Raises:
            Blocked: if it has to wait; nothing has happened then.
            UnsupportedSQLError: if the engine cannot run it faithfully; nothing has happened, and
                an open transaction goes on.
            PostgresError: what the server would say; an open transaction has failed then.
        """
        try:
            statement = parse(sql, tokens)
            self._refuse_failed(statement)
            if isinstance(statement, ast.Transaction):
                _expect(args, 0)
                return self._transaction(statement)
            return self._in_work(statement, sql, None if simple else args)
        except (Blocked, UnsupportedSQLError):
            raise
        except Exception as error:
            if _from_server(error):
                self.fail()
            raise

    def open_script(self) -> None:
        """Several statements sent at once are one transaction."""
        if self.work is None:
            self.work = self.store.begin(implicit=True, began=self._now())

    def close_script(self, *, commit: bool) -> None:
        """The script is over."""
        if self.work is not None and self.work.implicit:
            self._end(commit=commit)

    def _in_work(self, statement: ast.Statement, sql: str, args: Sequence[Any] | None) -> Result:
        store = self.store
        own = self.work is None
        if own:
            self.work = store.begin(implicit=True, began=self._now())
        work = self.work
        assert work is not None
        place = store.mark(work)
        store.clock.transaction = work.began
        store.clock.now = self._now()
        try:
            self._check_snapshot(work, sql)
            result = self._run(statement, sql, args, work)
        except BaseException:
            store.undo(work, place)
            if own:
                # Nobody can have waited for it meanwhile.
                version = store.version
                self._end(commit=False)
                store.version = version
            raise
        if own:
            self._end(commit=True)
        return result

    def _check_snapshot(self, work: Work, sql: str) -> None:
        if work.isolation in {"read_committed", "read_uncommitted"}:
            return
        if work.commits is None:
            work.commits = self.store.commits
        elif work.commits != self.store.commits:
            raise UnsupportedSQLError(
                sql, f"a {work.isolation.replace('_', ' ')} transaction while another one has committed, which"
            )

    def _run(self, statement: ast.Statement, sql: str, args: Sequence[Any] | None, work: Work) -> Result:
        if isinstance(statement, (ast.Query, ast.Insert, ast.Update, ast.Delete)):
            return self._planned(statement, sql, args, work)
        _expect(args or (), 0)
        match statement:
            case ast.CreateTable():
                self._refuse_readonly(work, "CREATE TABLE")
                create_table(statement, sql, self.store, work)
                return Result(tag="CREATE TABLE")
            case ast.CreateIndex():
                self._refuse_readonly(work, "CREATE INDEX")
                create_index(statement, self.store, work)
                return Result(tag="CREATE INDEX")
            case ast.DropTable():
                self._refuse_readonly(work, "DROP TABLE")
                drop_tables(statement, self.store, work)
                return Result(tag="DROP TABLE")
            case ast.Truncate():
                self._refuse_readonly(work, "TRUNCATE TABLE")
                truncate_tables(statement, sql, self.store, work)
                return Result(tag="TRUNCATE TABLE")
            case ast.Listen():
                work.listens.append((statement.channel, True, work.numbers[-1]))
                return Result(tag="LISTEN")
            case ast.Unlisten():
                work.listens.append((statement.channel, False, work.numbers[-1]))
                return Result(tag="UNLISTEN")
            case ast.Notify():
                work.notices.append((statement.channel, statement.payload, work.numbers[-1]))
                return Result(tag="NOTIFY")
            case ast.Show():
                return self._show(statement, sql, work)
            case _:
                raise UnsupportedSQLError(sql, type(statement).__name__)

    def _show(self, statement: ast.Show, sql: str, work: Work) -> Result:
        settings = SETTINGS | {"transaction_isolation": work.isolation.replace("_", " ")}
        if statement.name not in settings:
            raise UnsupportedSQLError(sql, f"SHOW {statement.name}")
        name = "TimeZone" if statement.name == "timezone" else statement.name
        return Result([(settings[statement.name],)], [(name, "text")], "SHOW")

    @staticmethod
    def _refuse_readonly(work: Work, verb: str) -> None:
        if work.readonly:
            raise pg_error("ReadOnlySQLTransactionError", f"cannot execute {verb} in a read-only transaction")

    # -- planned ones ------------------------------------------------------------------------

    def _plan(self, statement: ast.Statement, sql: str, work: Work) -> _Plan:
        store = self.store
        compiler = QueryCompiler(sql, lambda name: store.table_of(name, work), lambda table: store.rows_of(table, work))
        if isinstance(statement, ast.Query):
            return self._query(statement, compiler, work)
        assert isinstance(statement, (ast.Insert, ast.Update, ast.Delete))
        verb = type(statement).__name__.upper()
        changer = DataChanger(compiler, store, work)
        run = changer.compile(statement)
        return _Plan(run, changer.columns, compiler, verb)

    def _query(self, statement: ast.Query, compiler: QueryCompiler, work: Work) -> _Plan:
        store = self.store
        found = compiler.query(statement, None, top=True)

        def run(values: dict[str, Any]) -> tuple[list[tuple[Any, ...]], int]:
            rows = store.run(found.sql, values)
            if found.locked is None:
                return rows, len(rows)
            for row in rows:
                try:
                    store.claim(found.locked, row[-1], work)
                except Blocked:
                    if not found.nowait:
                        raise
                    raise pg_error(
                        "LockNotAvailableError",
                        f'could not obtain lock on row in relation "{found.locked.name}"',
                    ) from None
                store.locks[found.locked.physical, row[-1]] = work.numbers[-1]
            return [row[:-1] for row in rows], len(rows)

        return _Plan(run, found.columns, compiler, "SELECT")

    @staticmethod
    def _columns(plan: _Plan) -> list[tuple[str, str]]:
        return [(each.name or "?column?", each.type) for each in plan.columns]

    @staticmethod
    def _parameters(plan: _Plan) -> tuple[str, ...]:
        known = plan.compiler.binder.params
        found = []
        for number in range(1, max(known, default=0) + 1):
            type_ = known.get(number)
            if type_ is None:
                raise pg_error_indeterminate(number)
            found.append(type_)
        return tuple(found)

    def _planned(self, statement: ast.Statement, sql: str, args: Sequence[Any] | None, work: Work) -> Result:
        plan = self._plan(statement, sql, work)
        if plan.verb != "SELECT" or (isinstance(statement, ast.Query) and statement.locks):
            self._refuse_readonly(work, plan.verb if plan.verb != "SELECT" else "SELECT FOR UPDATE")
        if args is None and plan.compiler.binder.params:
            raise pg_error("UndefinedParameterError", f"there is no parameter ${min(plan.compiler.binder.params)}")
        args = args or ()
        parameters = self._parameters(plan)
        _expect(args, len(parameters))
        values = {
            f"p{number}": encode_argument(value, type_, number)
            for number, (value, type_) in enumerate(zip(args, parameters, strict=True), 1)
        }
        values = {name: _stored(value, parameters[int(name[1:]) - 1]) for name, value in values.items()}
        rows, touched = plan.run(values | plan.compiler.binder.constants)
        types = [each.type for each in plan.columns]
        decoded = [tuple(decode(value, type_) for value, type_ in zip(row, types, strict=True)) for row in rows]
        tag = f"INSERT 0 {touched}" if plan.verb == "INSERT" else f"{plan.verb} {touched}"
        return Result(decoded, self._columns(plan), tag, parameters)

    # -- BEGIN and its like ----------------------------------------------------------------------

    def _transaction(self, statement: ast.Transaction) -> Result:
        work, store = self.work, self.store
        match statement.action:
            case "begin":
                # A second one only warns.
                if work is not None and work.implicit:
                    # In a script of several statements, what went before belongs to it too.
                    work.implicit = False
                if work is None:
                    self.work = store.begin(
                        isolation=statement.isolation or "read_committed",
                        readonly=statement.readonly,
                        began=self._now(),
                    )
                return Result(tag="START TRANSACTION" if statement.start else "BEGIN")
            case "commit":
                if work is None:
                    return Result(tag="COMMIT")
                failed = work.failed
                self._end(commit=not failed)
                return Result(tag="ROLLBACK" if failed else "COMMIT")
            case "rollback":
                if work is not None:
                    self._end(commit=False)
                return Result(tag="ROLLBACK")
            case _:
                return self._savepoint(statement)

    def _savepoint(self, statement: ast.Transaction) -> Result:
        work, store = self.work, self.store
        verb = {"savepoint": "SAVEPOINT", "release": "RELEASE SAVEPOINT", "rollback to": "ROLLBACK TO SAVEPOINT"}[
            statement.action
        ]
        if work is None:
            raise pg_error("NoActiveSQLTransactionError", f"{verb} can only be used in transaction blocks")
        assert statement.name is not None
        if statement.action == "savepoint":
            work.savepoints.append((statement.name, store.mark(work)))
            return Result(tag="SAVEPOINT")
        at = next((i for i in range(len(work.savepoints) - 1, -1, -1) if work.savepoints[i][0] == statement.name), None)
        if at is None:
            raise pg_error("InvalidSavepointSpecificationError", f'savepoint "{statement.name}" does not exist')
        name, place = work.savepoints[at]
        del work.savepoints[at:]
        if statement.action == "release":
            return Result(tag="RELEASE")
        store.undo(work, place)
        store.version += 1
        work.savepoints.append((name, store.mark(work)))
        work.failed = False
        return Result(tag="ROLLBACK")


def _stored(value: Any, type_: str) -> Any:
    """Return an encoded argument as it is kept: JSON is checked and, as ``jsonb``, evened out."""
    if value is not None and type_ in {"json", "jsonb"}:
        from isolation_core.services.postgres._literals import from_text

        return from_text(value, type_)
    return value


def _expect(args: Sequence[Any], wanted: int) -> None:
    if len(args) == wanted:
        return
    were = "was" if len(args) == 1 else "were"
    raise interface_error(
        f"the server expects {wanted} argument{'s' if wanted != 1 else ''} for this query, {len(args)} {were} passed",
        hint="Check the query against the passed list of arguments.",
    )


def _from_server(error: BaseException) -> bool:
    """Return whether an error is one of the server's, not of the client's own checks."""
    return getattr(error, "severity", None) == "ERROR"
