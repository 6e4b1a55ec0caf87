"""`PostgresDouble`: a PostgreSQL server and its client in one object."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import anyio
import anyio.lowlevel
from attrs import evolve

from isolation_core._backends import choose_backend
from isolation_core.errors import ConfigurationError
from isolation_core.services._clients import client_class
from isolation_core.services._double import ServiceDouble
from isolation_core.services._operations import operation
from isolation_core.services._types import ServiceType
from isolation_core.services.postgres._dual import dual
from isolation_core.services.postgres._errors import pg_error
from isolation_core.services.postgres._lenient import insert_of
from isolation_core.services.postgres._real import Isolation, RealServer
from isolation_core.services.postgres._record import QueryResult
from isolation_core.services.postgres._recorder import Connection, Pool
from isolation_core.services.postgres._sql import normalise, split, to_numbered
from isolation_core.services.postgres._stubs import StatementStub

if TYPE_CHECKING:
    from typing import Literal

    from isolation_core._backends import BackendKind
    from isolation_core.services._context import MockContext
    from isolation_core.services.postgres._databases import Cleaning, Prepare

__all__ = ["PostgresDouble"]

Hook = Callable[[Any], Awaitable[None]]
Params = Sequence[Any] | Mapping[str, Any]


class PostgresDouble(ServiceDouble):
    """A PostgreSQL double.

    Pools and connections are those of asyncpg, and `dsn` serves any other client, if the
    backend is a real server: the embedded one where ``isolation-core[postgres]`` is installed,
    or one of yours. The virtual backend records statements and answers from stubs (`when`);
    what gives no rows is answered with its command tag.

    Args:
        context: what it belongs to; None: that of the current barrier.
        name: what the log calls it.
        backend: ``virtual`` or ``real``; None: ``ISOLATION_CORE_POSTGRES``, the configuration, or what is installed.
        dsn: the address of a server of yours.
        isolation: what keeps the work apart on a real server. ``auto``: a database of its own, cleaned in the
            cheapest way that undoes what was done (nothing, tables truncated, schemas dropped, copied anew); for a
            server of yours a copy of your database, or ``rollback`` if that cannot be had. ``truncate``: the same
            in a database of its own, always. ``clone``: the database is copied anew for each double. ``rollback``:
            one connection, one transaction around everything, rolled back at the end.
        prepare: what every test finds in the database: SQL, a `pathlib.Path` of a file, or a function called with
            the DSN, sync or async; it runs once in each process.
        schema: ``lenient``: a table first seen in an ``INSERT INTO t (columns) VALUES ...`` of
            `execute_query` is made, its columns typed after the values, and the log says so
            (``table-created``); ``strict``: it does not exist. Everything but `execute_query` is strict always.
    """

    service: ClassVar[str] = ServiceType.POSTGRES

    def __init__(
        self,
        context: MockContext | None = None,
        *,
        name: str | None = None,
        backend: BackendKind | None = None,
        dsn: str | None = None,
        isolation: Isolation = "auto",
        prepare: Prepare | None = None,
        schema: Literal["lenient", "strict"] = "lenient",
    ) -> None:
        for option, value, known in (
            ("schema", schema, ("lenient", "strict")),
            ("isolation", isolation, get_args(Isolation)),
        ):
            if value not in known:
                raise ConfigurationError(
                    f"{option}={value!r} is not one of {', '.join(map(repr, known))}", name=option, value=value
                )
        # Before it belongs to the context: a choice that fails makes no double.
        choice = choose_backend("postgres", backend=backend, url=dsn)
        super().__init__(context, name=name)
        self._backend = choice
        self._schema = schema
        self._stubs: list[StatementStub] = []
        self._real = RealServer(self, self._backend, isolation, prepare) if self._backend.kind == "real" else None
        self._pids = count(1001)
        self._transactions = count(1)
        self._forget()

    def _forget(self) -> None:
        self._own: Any = None
        self._own_turn = anyio.Lock()
        self._own_pool: Any = None
        self._tables: set[str] = set()

    # -- server ------------------------------------------------------------------------

    @property
    def dsn(self) -> str:
        """The address of the database of this double, for any client: psycopg, SQLAlchemy, Django.

        Raises:
            ConfigurationError: with the virtual backend, and where everything happens on one connection.
        """
        if self._real is None:
            raise ConfigurationError(
                f"the virtual PostgreSQL has no address ({self._backend.origin}): pip install "
                "'isolation-core[postgres]' and PostgresDouble(backend='real'), or give one of yours with dsn=",
                name="dsn",
            )
        return self._real.dsn

    @property
    def isolation(self) -> Cleaning | None:
        """How the work of this double was undone; None before that, and with the virtual backend."""
        return None if self._real is None else self._real.how

    @property
    def needs_await(self) -> bool:
        """Whether `close` has to be awaited: connections are open."""
        return self._real is not None and bool(self._clients)

    def _is_real(self) -> bool:
        """Tell whether the real backend answers here; asyncpg knows asyncio only."""
        if self._real is None:
            return False
        trio = sys.modules.get("trio")
        if trio is None or not trio.lowlevel.in_trio_run():
            return True
        if self._backend.pinned:
            raise ConfigurationError(
                f"the real PostgreSQL ({self._backend.origin}) is used through asyncpg, which runs on asyncio, and "
                "this is trio: use the virtual backend here, or postgres.dsn with a client that knows trio",
                name="backend",
                value="real",
            )
        # What is installed has decided, and that does not hold here.
        self._real.close()
        self._real = None
        self._backend = evolve(self._backend, kind="virtual", origin="asyncpg runs on asyncio, and this is trio")
        return False

    def _require_reachable(self) -> None:
        """Raise what a client does that cannot connect."""
        if self.name in self.context.faults.down:
            raise self.fault_error("unavailable")
        if not self._was_connected:
            self._require_connected()

    def _next_pid(self) -> int:
        return next(self._pids)

    def _next_transaction(self) -> int:
        return next(self._transactions)

    def _is_own(self, pool: object) -> bool:
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
        **options: Any,
    ) -> Any:
        """Return a pool, as ``asyncpg.create_pool``: await it or use ``async with``.

        Args:
            dsn: where the code under test would connect to; of no consequence.
            min_size: how many connections are opened at first.
            max_size: how many there can be.
            setup: awaited with each connection that is acquired.
            init: awaited with each connection that is opened.
            reset: awaited with each connection that is released.
            **options: any other of ``asyncpg.create_pool`` and ``asyncpg.connect``; where to connect does not matter.

        Raises:
            TypeError: for an option that asyncpg does not know.
        """
        hooks = {"min_size": min_size, "max_size": max_size, "setup": setup, "init": init, "reset": reset}
        if self._is_real():
            assert self._real is not None
            from isolation_core.services.postgres._client import make_pool

            return make_pool(self, self._real, {**hooks, **options})
        _check_options("create_pool", options)
        return Pool(self, **hooks)  # type: ignore[arg-type]  # each under its name

    @operation
    async def open_connection(self, /, dsn: str | None = None, **options: Any) -> Any:
        """Return a connection of its own, as ``asyncpg.connect``, whose options it takes.

        Raises:
            TypeError: for an option that asyncpg does not know.
        """
        return await self._connect(options)

    async def _connect(self, options: Mapping[str, Any]) -> Any:
        self._require_reachable()
        if self._is_real():
            assert self._real is not None
            from isolation_core.services.postgres._client import connect_options

            return await self._real.connect(**connect_options(options))
        _check_options("connect", options)
        await anyio.lowlevel.checkpoint()
        return Connection(self)

    @dual
    async def acquire(self, *, timeout: float | None = None) -> Any:
        """Return a connection from the double's own pool of ten: await it, or use ``async with``."""
        return await (await self._default_pool())._acquire(timeout)

    @operation
    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        """Give a connection from `acquire` back."""
        pool = await self._default_pool()
        await type(pool).release.function(pool, connection, timeout=timeout)

    async def _default_pool(self) -> Any:
        self._require_connected()
        loop = asyncio._get_running_loop()
        pool = self._own_pool
        if pool is None or getattr(pool, "_loop", loop) is not loop:
            pool = type(self).create_pool.function(self, min_size=0, max_size=10)
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
            UnsupportedSQLError: with the virtual backend, if it gives rows and no stub answers.
            ConfigurationError: if placeholders and *params* do not fit.
        """
        return await self._query(sql, params)

    @operation
    async def fetch_all(self, sql: str, params: Params = ()) -> list[Any]:
        """Return all rows; placeholders as in `execute_query`."""
        return list(await self._query(sql, params, make=False))

    @operation
    async def fetch_one(self, sql: str, params: Params = ()) -> Any:
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
            if make and self._schema == "lenient" and self._is_real() and self._stub_for(sql, args) is None:
                await self._make_table(connection, sql, args)
            # Without parameters it may be a script, whose rows nobody gets.
            script = not args and len(split(sql)) > 1
            answer = await connection._answered(sql, args, script=script)
        return QueryResult(answer.records, answer.tag)

    async def _make_table(self, connection: Any, sql: str, args: Sequence[Any]) -> None:
        insert = insert_of(sql, args)
        if insert is None or insert.table in self._tables:
            return
        found = await connection._answered("SELECT to_regclass($1) IS NOT NULL", (insert.table,))
        if not found.records[0][0]:
            await connection._answered(insert.definition, ())
            self.record("table-created", table=insert.table, sql=insert.definition)
        self._tables.add(insert.table)

    @operation
    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """Run a statement with ``$1`` placeholders and return the command tag, as a pool does."""
        return str(await self._on_own("execute", query, *args, timeout=timeout))

    @operation
    async def executemany(self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        """Run a statement once for each sequence of arguments; all or nothing."""
        await self._on_own("executemany", command, args, timeout=timeout)

    @operation
    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """Return all rows of a statement with ``$1`` placeholders, as a pool does."""
        rows: list[Any] = await self._on_own("fetch", query, *args, timeout=timeout)
        return rows

    @operation
    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        """Return the first row; None if there is none."""
        return await self._on_own("fetchrow", query, *args, timeout=timeout)

    @operation
    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """Return one value of the first row; None if there is no row."""
        return await self._on_own("fetchval", query, *args, column=column, timeout=timeout)

    async def _on_own(self, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of the double's own connection as part of a call of the double."""
        async with _Turn(self) as connection:
            return await getattr(type(connection), method).function(connection, *args, **options)

    @operation
    def transaction(self) -> _Block:
        """Use with ``async with postgres.transaction() as connection``: committed, or rolled back on an error."""
        return _Block(self)

    # -- end -----------------------------------------------------------------------------

    @operation
    async def connect(self) -> PostgresDouble:
        """Connect. The embedded server is started when it is used first; one of yours has to answer now.

        Returns:
            The double itself.
        """
        if self._is_real() and self._backend.url is not None:
            assert self._real is not None
            await self._real.aopen()
        self._connected()
        return self

    @operation
    async def disconnect(self) -> None:
        """Disconnect and end every pool and connection; on a real server, what was done is undone."""
        await self._end()

    def reset(self) -> None:
        """Bring it back to how it was made: no tables, no stubs, no connections."""
        super().reset()
        self._undo()
        self._stubs.clear()

    async def close(self) -> None:
        """End it; on a real server, what was done is undone."""
        if not self._closed:
            self._closed = True
            with anyio.CancelScope(shield=True):
                await self._end()

    async def _end(self) -> None:
        self._disconnect_now()
        if self._real is not None and asyncio._get_running_loop() is not None:
            # Transports that were aborted are closed by the loop, in its next turns.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        self._undo()

    def close_now(self) -> None:
        """The same for those who cannot await; enough unless `needs_await`."""
        super().close_now()
        self._undo()

    def _undo(self) -> None:
        self._forget()
        if self._real is not None:
            self._real.close()

    def _disconnect_now(self) -> None:
        super()._disconnect_now()
        self._own = self._own_pool = None


class _Turn:
    """The double's own connection, for one call at a time."""

    def __init__(self, double: PostgresDouble) -> None:
        self._double = double
        self._lock = double._own_turn

    async def __aenter__(self) -> Any:
        double = self._double
        double._require_connected()
        await self._lock.acquire()
        try:
            loop = asyncio._get_running_loop()
            own = double._own
            if own is None or own.is_closed() or getattr(own, "_loop", loop) is not loop:
                own = double._own = await double._connect({})
                own._own = True
        except BaseException:
            self._lock.release()
            raise
        return own

    async def __aexit__(self, *_exc: object) -> None:
        self._lock.release()


class _Block:
    """A connection with a transaction around it."""

    def __init__(self, double: PostgresDouble) -> None:
        self._double = double
        self._connection: Any = None
        self._transaction: Any = None

    async def __aenter__(self) -> Any:
        self._connection = await (await self._double._default_pool())._acquire()
        self._transaction = self._connection.transaction()
        try:
            await self._transaction.__aenter__()
        except BaseException:
            await self._connection.__aexit__()
            raise
        return self._connection

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
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


def _check_options(call: str, options: Mapping[str, Any]) -> None:
    """Refuse what asyncpg does not know, where it is installed."""
    try:
        import asyncpg  # type: ignore[import-untyped]
    except ImportError:
        return
    known = {*inspect.signature(asyncpg.connect).parameters, *inspect.signature(asyncpg.create_pool).parameters}
    for name in options:
        if name not in known:
            raise TypeError(f"{call}() got an unexpected keyword argument {name!r}")
