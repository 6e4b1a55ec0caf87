"""The virtual backend: statements are recorded and answered from stubs, or by their tag if they give no rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.lowlevel

from isolation_core.errors import UnsupportedSQLError
from isolation_core.services._double import ClientObject
from isolation_core.services._operations import operation
from isolation_core.services.postgres._dual import dual
from isolation_core.services.postgres._errors import interface_error, pg_error
from isolation_core.services.postgres._record import Answer
from isolation_core.services.postgres._sql import gives_rows, split, tag_of, verb_of

if TYPE_CHECKING:
    from isolation_core.services.postgres._double import PostgresDouble

__all__ = ["Connection", "Cursor", "Pool", "PreparedStatement", "Transaction"]

Hook = Callable[["Connection"], Awaitable[None]]


class _Statements(ClientObject):
    """The statements that connections and pools have in common."""

    async def _answer(self, query: str, args: Sequence[Any], *, script: bool = False) -> Answer:
        raise NotImplementedError

    @operation
    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """Record a statement, or without arguments several, and return the (last) command tag."""
        return (await self._answer(query, args, script=not args)).tag

    @operation
    async def executemany(self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        """Record a statement once for each sequence of arguments."""
        for each in args:
            await self._answer(command, tuple(each))

    @operation
    async def fetch(
        self, query: str, *args: Any, timeout: float | None = None, record_class: type[Any] | None = None
    ) -> list[Any]:
        """Return the rows of the stub."""
        return (await self._answer(query, args)).records

    @operation
    async def fetchrow(
        self, query: str, *args: Any, timeout: float | None = None, record_class: type[Any] | None = None
    ) -> Any:
        """Return the first row of the stub; None if there is none."""
        rows = (await self._answer(query, args)).records
        return rows[0] if rows else None

    @operation
    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """Return one value of the first row; None if there is no row."""
        rows = (await self._answer(query, args)).records
        return rows[0][column] if rows else None

    @operation
    async def fetchmany(
        self,
        query: str,
        args: Iterable[Sequence[Any]],
        *,
        timeout: float | None = None,
        record_class: type[Any] | None = None,
    ) -> list[Any]:
        """Return the rows of the stub for each sequence of arguments, together."""
        return [row for each in args for row in (await self._answer(query, tuple(each))).records]

    @operation
    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        records: Iterable[Sequence[Any]],
        columns: Sequence[str] | None = None,
        schema_name: str | None = None,
        timeout: float | None = None,
        where: str | None = None,
    ) -> str:
        """Record many rows at once."""
        await anyio.lowlevel.checkpoint()
        return f"COPY {len(list(records))}"


class Connection(_Statements):
    """A connection in asyncpg's shape. Made by `PostgresDouble.open_connection` and `Pool.acquire`."""

    label = "connection"

    def __init__(self, double: PostgresDouble, pool: Pool | None = None) -> None:
        super().__init__(double)
        self._server = double
        self._pool = pool
        self._pid = double._next_pid()
        self._own = self._released = self._closed = self._failed = False
        self._transaction: int | None = None  # its number
        self._depth = 0  # of `transaction` blocks
        self._listeners: set[tuple[str, Any]] = set()

    def __repr__(self) -> str:
        state = "released" if self._released else "closed" if self._closed else f"pid {self._pid}"
        return f"<Connection of {self.double.name!r}, {state}>"

    def problems(self) -> tuple[str, ...]:
        """Return what is left open."""
        if self._released or self._closed:
            return ()
        found = [f"connection {self._pid} still listens to {name!r}" for name in {name for name, _ in self._listeners}]
        if self._transaction is not None:
            found.insert(0, f"a transaction of connection {self._pid} was neither committed nor rolled back")
        if not self._own:
            how = "was not closed" if self._pool is None else "was not released to its pool"
            found.append(f"connection {self._pid} {how}")
        return tuple(found)

    def _check(self) -> None:
        if self._released:
            raise interface_error("cannot use the connection: it has been released back to the pool")
        if self._closed or self._ended:
            raise interface_error("connection is closed")

    async def _answered(self, query: str, args: Sequence[Any], *, script: bool = False) -> Answer:
        """Run a statement for the double itself."""
        return await self._answer(query, args, script=script)

    async def _answer(self, query: str, args: Sequence[Any], *, script: bool = False) -> Answer:
        self._check()
        await anyio.lowlevel.checkpoint()
        stub = self._server._stub_for(query, args)
        if stub is None:
            statements = split(query)
            if len(statements) > 1 and not script:
                raise pg_error("PostgresSyntaxError", "cannot insert multiple commands into a prepared statement")
            answer = Answer()
            for statement in statements:
                answer = self._recorded(statement)
            return answer
        self._refuse_if_failed()
        try:
            return stub.answer()
        except Exception:
            self._failed = self._transaction is not None
            raise

    def _refuse_if_failed(self) -> None:
        if self._failed:
            raise pg_error(
                "InFailedSQLTransactionError",
                "current transaction is aborted, commands ignored until end of transaction block",
            )

    def _recorded(self, statement: str) -> Answer:
        verb = verb_of(statement)
        if verb in {"begin", "start"}:
            self._refuse_if_failed()
            self._begin()
        elif verb in {"commit", "end"}:
            return Answer([], self._end("rollback" if self._failed else "commit"))
        elif verb in {"rollback", "abort"}:
            if " to " in f" {statement.lower()} ":
                self._failed = False
            else:
                return Answer([], self._end("rollback"))
        else:
            self._refuse_if_failed()
            if gives_rows(statement):
                raise UnsupportedSQLError(statement, self._server.backend.origin)
        return Answer([], tag_of(statement))

    def _begin(self) -> None:
        if self._transaction is None:
            self._transaction = self._server._next_transaction()
            self._server.record("begin", transaction=self._transaction, connection=self._pid)

    def _end(self, how: str) -> str:
        if self._transaction is not None:
            self._server.record(how, transaction=self._transaction, connection=self._pid)
        self._transaction, self._failed = None, False
        return how.upper()

    @operation
    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> Transaction:
        """Return a transaction, not started yet; inside of another one a savepoint."""
        self._check()
        return Transaction(self)

    @operation
    def cursor(
        self,
        query: str,
        *args: Any,
        prefetch: int | None = None,
        timeout: float | None = None,
        record_class: type[Any] | None = None,
    ) -> Cursor:
        """Return a cursor over the rows of the stub: await it, or iterate over it."""
        self._check()
        return Cursor(self, query, args)

    @operation
    async def prepare(
        self,
        query: str,
        *,
        name: str | None = None,
        timeout: float | None = None,
        record_class: type[Any] | None = None,
    ) -> PreparedStatement:
        """Return a prepared statement."""
        self._check()
        return PreparedStatement(self, query)

    @operation
    async def add_listener(self, channel: str, callback: Callable[..., object]) -> None:
        """Note a listener; nothing is ever delivered to it."""
        self._check()
        self._listeners.add((channel, callback))

    @operation
    async def remove_listener(self, channel: str, callback: Callable[..., object]) -> None:
        """Forget a listener."""
        self._listeners.discard((channel, callback))

    @operation
    async def set_type_codec(self, /, typename: str, **options: Any) -> None:
        """Record it; values of stubs are given as they are."""
        self._check()

    def is_in_transaction(self) -> bool:
        """Tell whether a transaction is open."""
        return self._transaction is not None

    def is_closed(self) -> bool:
        """Tell whether the connection is closed."""
        return self._closed or self._ended

    def get_server_pid(self) -> int:
        """Return the number of the connection."""
        return self._pid

    @operation
    async def reset(self, *, timeout: float | None = None) -> None:
        """Roll back, and forget listeners."""
        self._check()
        self._reset()

    def _reset(self) -> None:
        self._listeners.clear()
        self._depth = 0
        self._end("rollback")

    @operation
    async def close(self, *, timeout: float | None = None) -> None:
        """Close the connection; doing it again does nothing."""
        self._over()

    @operation
    def terminate(self) -> None:
        """Close the connection."""
        self._over()

    def _over(self) -> None:
        if not self._closed:
            self._reset()
            self._closed = True
            self._server._clients.pop(id(self), None)
            if self._pool is not None:
                self._pool._give_back(self)

    def _release(self) -> None:
        self._reset()
        self._released = True
        self._server._clients.pop(id(self), None)

    def connection_lost(self, error: BaseException) -> None:
        """An injected fault says that the connection was lost: it is closed, and its transaction rolled back."""
        self._over()

    def end(self) -> None:
        """Its double is disconnected or closed."""
        self._closed = True
        super().end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._pool is not None:
            self._pool._give_back(self)


class Pool(_Statements):
    """A pool in asyncpg's shape. Made by `PostgresDouble.create_pool`; await it or use ``async with``."""

    label = "pool"

    def __init__(
        self,
        double: PostgresDouble,
        *,
        min_size: int = 10,
        max_size: int = 10,
        setup: Hook | None = None,
        init: Hook | None = None,
        reset: Hook | None = None,
    ) -> None:
        if max_size <= 0:
            raise ValueError("max_size is expected to be greater than zero")
        if min_size < 0:
            raise ValueError("min_size is expected to be greater or equal to zero")
        if min_size > max_size:
            raise ValueError("min_size is greater than max_size")
        super().__init__(double)
        self._server = double
        self._min_size, self._max_size = min_size, max_size
        self._setup, self._init = setup, init
        self._used: list[Connection] = []
        self._initialized = self._closed = False

    def __repr__(self) -> str:
        return f"<Pool of {self.double.name!r}, {len(self._used)} of {self._max_size} in use>"

    def problems(self) -> tuple[str, ...]:
        """Return what is left open; connections tell for themselves."""
        if self._initialized and not self._closed and not self._server._is_own(self):
            return (f"a pool of {self._max_size} connections was not closed",)
        return ()

    async def _start(self) -> Self:
        await anyio.lowlevel.checkpoint()
        self._server._require_reachable()
        self._initialized = True
        return self

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._start().__await__()

    async def __aenter__(self) -> Self:
        return await self._start()

    async def __aexit__(self, *_exc: object) -> None:
        self._over()

    @dual
    async def acquire(self, *, timeout: float | None = None) -> Connection:
        """Return a connection: await it, or use ``async with``, which releases it."""
        return await self._acquire(timeout)

    async def _acquire(self, timeout: float | None = None) -> Connection:
        if not self._initialized:
            raise interface_error("pool is not initialized")
        self._server._require_reachable()

        def free() -> bool | None:
            if self._closed or self._ended:
                raise interface_error("pool is closed")
            return len(self._used) < self._max_size or None

        await self.context.clock.wait(free, timeout=timeout)
        connection = Connection(self._server, self)
        self._used.append(connection)
        try:
            for hook in (self._init, self._setup):
                if hook is not None:
                    await hook(connection)
        except BaseException:
            self._give_back(connection)
            raise
        return connection

    @operation
    async def release(self, connection: Connection, *, timeout: float | None = None) -> None:
        """Give a connection back; doing it again does nothing."""
        if not isinstance(connection, Connection) or connection._pool is not self:
            raise interface_error(
                f"Pool.release() received invalid connection: {connection!r} is not a member of this pool"
            )
        self._give_back(connection)

    def _give_back(self, connection: Connection) -> None:
        if connection in self._used:
            self._used.remove(connection)
            connection._release()
            self.context.clock.notify()

    async def _answer(self, query: str, args: Sequence[Any], *, script: bool = False) -> Answer:
        connection = await self._acquire()
        try:
            return await connection._answer(query, args, script=script)
        finally:
            self._give_back(connection)

    def get_size(self) -> int:
        """Return how many connections are open."""
        return max(self._min_size, len(self._used))

    def get_max_size(self) -> int:
        """Return how many there can be."""
        return self._max_size

    def get_idle_size(self) -> int:
        """Return how many are open and not in use."""
        return self.get_size() - len(self._used)

    @operation
    async def close(self) -> None:
        """Wait until every connection is released, then close them all."""
        await self.context.clock.wait(lambda: True if not self._used else None)
        self._over()

    @operation
    def terminate(self) -> None:
        """Close every connection at once."""
        self._over()

    def _over(self) -> None:
        self._closed = True
        for connection in tuple(self._used):
            connection._over()
        super().end()

    def end(self) -> None:
        """Its double is disconnected or closed."""
        self._over()


class _Part(ClientObject):
    """Something of a connection; reached through that, not to be ended by itself."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.double)
        self.double._clients.pop(id(self), None)
        self._connection = connection

    def connection_lost(self, error: BaseException) -> None:
        """An injected fault says that the connection was lost."""
        self._connection.connection_lost(error)


class Transaction(_Part):
    """A transaction in asyncpg's shape. Made by `Connection.transaction`."""

    label = "transaction"

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._state = "new"
        self._nested = False

    async def __aenter__(self) -> None:
        self._begin()

    async def __aexit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        self._end("commit" if kind is None else "rollback")

    def _begin(self) -> None:
        connection = self._connection
        connection._check()
        if self._state != "new":
            raise interface_error("cannot start; the transaction is already started")
        if connection._transaction is not None and connection._depth == 0:
            raise interface_error("cannot use Connection.transaction() in a manually started transaction")
        self._nested = connection._depth > 0
        connection._depth += 1
        connection._begin()
        self._state = "started"

    def _end(self, how: str) -> None:
        if self._state != "started":
            raise interface_error(f"cannot {how}; the transaction is {self._state}")
        connection = self._connection
        connection._check()
        self._state = "over"
        connection._depth -= 1
        if not self._nested:
            connection._end("rollback" if connection._failed else how)
        elif how == "rollback":
            connection._failed = False

    @operation
    async def start(self) -> None:
        """Begin the transaction or savepoint."""
        self._begin()

    @operation
    async def commit(self) -> None:
        """Commit."""
        self._end("commit")

    @operation
    async def rollback(self) -> None:
        """Roll back."""
        self._end("rollback")


class PreparedStatement(_Part):
    """A prepared statement. Made by `Connection.prepare`."""

    label = "statement"

    def __init__(self, connection: Connection, query: str) -> None:
        super().__init__(connection)
        self._query = query
        self._tag: str | None = None

    def get_query(self) -> str:
        """Return its text."""
        return self._query

    def get_statusmsg(self) -> str | None:
        """Return the command tag of the last run; None before that."""
        return self._tag

    async def _rows(self, args: Sequence[Any]) -> list[Any]:
        answer = await self._connection._answer(self._query, args)
        self._tag = answer.tag
        return answer.records

    @operation
    def cursor(self, *args: Any, prefetch: int | None = None, timeout: float | None = None) -> Cursor:
        """Return a cursor over the rows of the stub."""
        return Cursor(self._connection, self._query, args)

    @operation
    async def fetch(self, *args: Any, timeout: float | None = None) -> list[Any]:
        """Return the rows of the stub."""
        return await self._rows(args)

    @operation
    async def fetchrow(self, *args: Any, timeout: float | None = None) -> Any:
        """Return the first row; None if there is none."""
        rows = await self._rows(args)
        return rows[0] if rows else None

    @operation
    async def fetchval(self, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """Return one value of the first row; None if there is no row."""
        rows = await self._rows(args)
        return rows[0][column] if rows else None

    @operation
    async def executemany(self, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        """Record it once for each sequence of arguments."""
        for each in args:
            await self._rows(tuple(each))


class Cursor(_Part):
    """A cursor over the rows of a stub."""

    label = "cursor"

    def __init__(self, connection: Connection, query: str, args: Sequence[Any]) -> None:
        super().__init__(connection)
        self._query, self._args = query, args
        self._rows: list[Any] = []

    async def _open(self) -> Self:
        if self._connection._transaction is None:
            raise pg_error("NoActiveSQLTransactionError", "cursor cannot be created outside of a transaction")
        self._rows = list((await self._connection._answer(self._query, self._args)).records)
        return self

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._open().__await__()

    async def __aiter__(self) -> AsyncIterator[Any]:
        for row in (await self._open())._rows:
            yield row

    @operation
    async def fetch(self, n: int, *, timeout: float | None = None) -> list[Any]:
        """Return the next *n* rows."""
        found, self._rows = self._rows[:n], self._rows[n:]
        return found

    @operation
    async def fetchrow(self, *, timeout: float | None = None) -> Any:
        """Return the next row; None at the end."""
        return self._rows.pop(0) if self._rows else None

    @operation
    async def forward(self, n: int, *, timeout: float | None = None) -> int:
        """Skip *n* rows; return how many there were to skip."""
        skipped = min(n, len(self._rows))
        self._rows = self._rows[n:]
        return skipped
