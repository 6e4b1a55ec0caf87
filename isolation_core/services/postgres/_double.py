"""`PostgresDouble`: a PostgreSQL server and its client in one object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import anyio

from isolation_core.errors import ConfigurationError
from isolation_core.services._clients import client_class
from isolation_core.services._double import ServiceDouble
from isolation_core.services._operations import operation
from isolation_core.services._types import ServiceType
from isolation_core.services.postgres._connection import Connection
from isolation_core.services.postgres._dual import dual
from isolation_core.services.postgres._errors import pg_error
from isolation_core.services.postgres._lenient import table_for
from isolation_core.services.postgres._link import Engine, EngineLink, Link
from isolation_core.services.postgres._pool import Pool
from isolation_core.services.postgres._real import RealServer
from isolation_core.services.postgres._record import QueryResult, Record, records
from isolation_core.services.postgres._stubs import StatementStub
from isolation_core.services.postgres._tokens import normalise, to_numbered

if TYPE_CHECKING:
    from isolation_core.services._context import MockContext
    from isolation_core.services.postgres._transactions import Transaction

__all__ = ["PostgresDouble"]

Hook = Callable[[Connection], Awaitable[None]]
Params = Sequence[Any] | Mapping[str, Any]

MAX_CONNECTIONS: Final = 100


class PostgresDouble(ServiceDouble):
    """A PostgreSQL double.

    Pools and connections have asyncpg's shape; `execute_query` and `fetch_one` take
    ``%s`` placeholders. Statements are answered by stubs (`when`), else by an embedded
    engine that runs plain SQL as PostgreSQL does and refuses the rest, or by a real
    server if a *dsn* is given.

    Args:
        context: what it belongs to; None: that of the current barrier.
        name: what the log calls it.
        schema: ``lenient``: a table first seen in an ``INSERT INTO t (columns) VALUES ...`` of
            `execute_query` is made, its columns typed after the values, and the log says so
            (``table-created``); ``strict``: it does not exist, as on a server. Everything but
            `execute_query` is strict always.
        dsn: of a real server to run on.
        isolation: with a *dsn*, what keeps the barrier's work apart: ``rollback``: one transaction
            around everything, rolled back at the end; ``template``: a copy of the database, dropped
            at the end.
        max_connections: how many connections the server allows.
    """

    service: ClassVar[str] = ServiceType.POSTGRES

    def __init__(
        self,
        context: MockContext | None = None,
        *,
        name: str | None = None,
        schema: Literal["lenient", "strict"] = "lenient",
        dsn: str | None = None,
        isolation: Literal["rollback", "template"] = "rollback",
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        if schema not in {"lenient", "strict"}:
            raise ConfigurationError(
                f"schema={schema!r} is neither 'lenient' nor 'strict'", name="schema", value=schema
            )
        if isolation not in {"rollback", "template"}:
            raise ConfigurationError(
                f"isolation={isolation!r} is neither 'rollback' nor 'template'", name="isolation", value=isolation
            )
        super().__init__(context, name=name)
        self._schema = schema
        self._max_connections = max_connections
        self._stubs: list[StatementStub] = []
        self._engine = Engine(self._context.clock, self._transaction_ended, self._listener_failed)
        self._real = None if dsn is None else RealServer(dsn, isolation, self._transaction_ended)
        self._own: Connection | None = None
        self._own_busy = False
        self._own_pool: Pool | None = None

    # -- server ------------------------------------------------------------------------

    @property
    def needs_await(self) -> bool:
        """Whether `close` has to be awaited: a real server is behind it."""
        return self._real is not None and self._real.is_open

    def _transaction_ended(self, how: str, pid: int) -> None:
        self.record(how, connection=pid)

    def _listener_failed(self, error: BaseException) -> None:
        self.record("listener-failed", error=f"{type(error).__name__}: {error}")

    async def _new_link(self) -> Link:
        self._require_connected()
        if self._real is not None:
            return await self._real.link()
        if len(self._engine.links) >= self._max_connections:
            raise pg_error("TooManyConnectionsError", "sorry, too many clients already")
        return self._engine.open()

    def _is_own(self, pool: Pool) -> bool:
        return pool is self._own_pool

    def _stub_for(self, sql: str, args: Sequence[Any] | None) -> StatementStub | None:
        if not self._stubs:
            return None
        text = normalise(sql)
        for stub in reversed(self._stubs):
            if stub.matches(text, stub._args or () if args is None else args):
                return stub
        return None

    def fault_error(self, kind: str) -> BaseException:
        """Return what asyncpg raises for *kind*."""
        text = f"{self.name}: {kind}, by the fault plan"
        if kind == "timeout":
            return TimeoutError(text)
        if kind == "disconnected":
            base: Any = client_class("asyncpg.exceptions", "PostgresError", Exception)
            return client_class("asyncpg.exceptions", "ConnectionDoesNotExistError", base)(
                "connection was closed in the middle of operation"
            )
        return (
            pg_error("TooManyConnectionsError", "sorry, too many clients already")
            if kind == "rejected"
            else (ConnectionRefusedError(text))
        )

    # -- stubs -------------------------------------------------------------------------

    def when(self, sql: str, *args: Any) -> StatementStub:
        """Say what a statement answers, instead of running it.

        Args:
            sql: the statement; white space, comments, the case of words and the style of
                placeholders do not matter.
            *args: the arguments it must have; none: any.

        Returns:
            The stub: go on with ``.returns(rows)`` or ``.raises(error)``. Of several that fit, the last made answers.
        """
        stub = StatementStub(sql, args or None)
        self._stubs.append(stub)
        return stub

    # -- clients -----------------------------------------------------------------------

    @operation
    def create_pool(
        self,
        /,
        dsn: str | None = None,
        *,
        min_size: int = 10,
        max_size: int = 10,
        setup: Hook | None = None,
        init: Hook | None = None,
        reset: Hook | None = None,
        command_timeout: float | None = None,
        **connect_kwargs: Any,
    ) -> Pool:
        """Return a pool, as ``asyncpg.create_pool``: await it or use ``async with``.

        Args:
            dsn: where the code under test would connect to; of no consequence, like *connect_kwargs*.
            min_size: how many connections are opened at first.
            max_size: how many there can be.
            setup: awaited with each connection that is acquired.
            init: awaited with each connection that is opened.
            reset: awaited with each connection that is released.
            command_timeout: default timeout of statements, in seconds on the virtual clock.
            **connect_kwargs: as *dsn*.
        """
        return Pool(
            self,
            min_size=min_size,
            max_size=max_size,
            setup=setup,
            init=init,
            reset=reset,
            command_timeout=command_timeout,
        )

    @operation
    async def open_connection(
        self, /, dsn: str | None = None, *, command_timeout: float | None = None, **connect_kwargs: Any
    ) -> Connection:
        """Return a connection of its own, as ``asyncpg.connect``."""
        return Connection(self, await self._new_link(), command_timeout=command_timeout)

    @dual
    async def acquire(self, *, timeout: float | None = None) -> Connection:
        """Return a connection from the double's own pool of ten: await it, or use ``async with``."""
        return await (await self._default_pool())._acquire(timeout)

    @operation
    async def release(self, connection: Connection, *, timeout: float | None = None) -> None:
        """Give a connection from `acquire` back."""
        await (await self._default_pool())._release(connection)

    async def _default_pool(self) -> Pool:
        self._require_connected()
        pool = self._own_pool
        if pool is None:
            pool = Pool(self, min_size=0, max_size=10, setup=None, init=None, reset=None, command_timeout=None)
            self._own_pool = pool
            await pool
        return pool

    # -- statements on the double itself ---------------------------------------------------

    @operation
    async def execute_query(self, sql: str, params: Params = ()) -> QueryResult:
        """Run a statement with ``%s``, ``%(name)s`` or ``$1`` placeholders, on the double's own connection.

        ``BEGIN`` and ``COMMIT`` hold from call to call; calls run one after another.

        Args:
            sql: the statement. With ``%s``, a per cent sign is written ``%%``, if there are *params*.
            params: the values.

        Returns:
            The rows, as a list; empty for a statement that gives none. ``status`` is the command tag.

        Raises:
            PostgresError: as asyncpg raises it.
            UnsupportedSQLError: if the embedded engine cannot run it faithfully.
            ConfigurationError: if placeholders and *params* do not fit.
        """
        return await self._query(sql, params)

    @operation
    async def fetch_all(self, sql: str, params: Params = ()) -> list[Record]:
        """Return all rows; placeholders as in `execute_query`."""
        return list(await self._query(sql, params, make=False))

    @operation
    async def fetch_one(self, sql: str, params: Params = ()) -> Record | None:
        """Return the first row; None if there is none."""
        rows = await self._query(sql, params, make=False)
        return rows[0] if rows else None

    @operation
    async def fetch_value(self, sql: str, params: Params = ()) -> Any:
        """Return the first value of the first row; None if there is no row."""
        rows = await self._query(sql, params, make=False)
        return rows[0][0] if rows else None

    async def _query(self, sql: str, params: Params, *, make: bool = True) -> QueryResult:
        sql, args = _numbered(sql, params)
        async with _Turn(self) as connection:
            if make and self._schema == "lenient" and self._stub_for(sql, args) is None:
                await self._make_table(connection, sql, args)
            # Without parameters it may be a script, whose rows nobody gets.
            script = not args and len(self._engine.statements(sql)) > 1 if self._real is None else False
            result = await connection._run(sql, args, script=script)
        found = records([name for name, _ in result.columns], result.rows)
        return QueryResult(found, result.tag)

    async def _make_table(self, connection: Connection, sql: str, args: Sequence[Any]) -> None:
        link = connection._link
        if not isinstance(link, EngineLink):
            return
        needed = table_for(link, sql, args)
        if needed is not None:
            table, statement = needed
            await connection._run(statement)
            self.record("table-created", table=table, sql=statement)

    @operation
    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """Run a statement with ``$1`` placeholders and return the command tag, as a pool does."""
        async with _Turn(self) as connection:
            return (await connection._run(query, args, timeout, script=not args)).tag

    @operation
    async def executemany(self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        """Run a statement once for each sequence of arguments; all or nothing."""
        async with _Turn(self) as connection:
            await Connection.executemany.function(connection, command, args, timeout=timeout)

    @operation
    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Record]:
        """Return all rows of a statement with ``$1`` placeholders, as a pool does."""
        async with _Turn(self) as connection:
            return await connection._rows(query, args, timeout)

    @operation
    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Record | None:
        """Return the first row; None if there is none."""
        async with _Turn(self) as connection:
            rows = await connection._rows(query, args, timeout)
            return rows[0] if rows else None

    @operation
    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """Return one value of the first row; None if there is no row."""
        async with _Turn(self) as connection:
            rows = await connection._rows(query, args, timeout)
            return rows[0][column] if rows else None

    @operation
    def transaction(self) -> _Block:
        """Use with ``async with postgres.transaction() as connection``: committed, or rolled back on an error."""
        return _Block(self)

    # -- end -----------------------------------------------------------------------------

    @operation
    async def connect(self) -> PostgresDouble:
        """Connect; with a *dsn*, to the server.

        Returns:
            The double itself.
        """
        if self._real is not None:
            await self._real.open()
        self.is_connected = True
        self.context.clock.notify()
        return self

    @operation
    async def disconnect(self) -> None:
        """Disconnect and end every pool and connection; with a *dsn*, what was done there is undone."""
        self._disconnect_now()
        if self._real is not None:
            await self._real.close()

    def problems(self) -> tuple[str, ...]:
        """Return what is left open: transactions, connections, pools, listeners."""
        return super().problems()

    def reset(self) -> None:
        """Bring it back to how it was made: no tables, no stubs, no connections."""
        super().reset()
        self._forget()
        self._stubs.clear()

    def _forget(self) -> None:
        self._own = self._own_pool = None
        self._engine.close()
        self._engine = Engine(self._context.clock, self._transaction_ended, self._listener_failed)

    async def close(self) -> None:
        """End it; with a *dsn*, what was done on the server is undone."""
        self.close_now()
        if self._real is not None:
            with anyio.CancelScope(shield=True):
                await self._real.close()

    def close_now(self) -> None:
        """The same for those who cannot await; enough unless `needs_await`."""
        super().close_now()
        self._engine.close()

    def _disconnect_now(self) -> None:
        super()._disconnect_now()
        self._own = self._own_pool = None


class _Turn:
    """The double's own connection, for one call at a time."""

    def __init__(self, double: PostgresDouble) -> None:
        self._double = double

    async def __aenter__(self) -> Connection:
        double = self._double
        double._require_connected()

        def free() -> bool | None:
            if double._own_busy:
                return None
            double._own_busy = True
            return True

        await double.context.clock.wait(free)
        try:
            own = double._own
            if own is None:
                own = double._own = Connection(double, await double._new_link())
                own._own = True
        except BaseException:
            double._own_busy = False
            raise
        return own

    async def __aexit__(self, *_exc: object) -> None:
        self._double._own_busy = False
        self._double.context.clock.notify()


class _Block:
    """A connection with a transaction around it."""

    def __init__(self, double: PostgresDouble) -> None:
        self._double = double
        self._connection: Connection | None = None
        self._transaction: Transaction | None = None

    async def __aenter__(self) -> Connection:
        self._connection = await (await self._double._default_pool())._acquire()
        self._transaction = self._connection.transaction()
        try:
            await self._transaction.__aenter__()
        except BaseException:
            await self._connection.__aexit__()
            raise
        return self._connection

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        assert self._connection is not None
        assert self._transaction is not None
        try:
            await self._transaction.__aexit__(kind, *exc)
        finally:
            await self._connection.__aexit__()


def _numbered(sql: str, params: Params) -> tuple[str, tuple[Any, ...]]:
    """Return *sql* with ``$1`` placeholders, and the values in their order."""
    if isinstance(params, (str, bytes)):
        raise ConfigurationError(
            f"params={params!r} is one string, whose letters would be the values; write ({params!r},)",
            name="params",
            value=params,
        )
    if not params:
        return sql, ()
    names: list[str | None] = []
    text = to_numbered(sql, names)
    if not names:
        if isinstance(params, Mapping):
            raise ConfigurationError(
                f"{sql!r} has no %(name)s placeholders for {sorted(params)}", name="params", value=params
            )
        return sql, tuple(params)
    if isinstance(params, Mapping):
        missing = [name for name in names if name is None or name not in params]
        if missing:
            raise ConfigurationError(
                f"{sql!r} needs values for {missing}, and params has {sorted(params)}", name="params", value=params
            )
        return text, tuple(params[name] for name in names if name is not None)
    if len(names) != len(params) or any(names):
        raise ConfigurationError(
            f"{sql!r} has {len(names)} placeholders and there are {len(params)} params", name="params", value=params
        )
    return text, tuple(params)
