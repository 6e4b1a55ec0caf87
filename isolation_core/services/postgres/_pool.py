"""`Pool`: asyncpg's pool, with its waiting on the virtual clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

import anyio
from attrs import define

from isolation_core.services._double import ClientObject
from isolation_core.services._operations import operation
from isolation_core.services.postgres._connection import Connection
from isolation_core.services.postgres._dual import dual
from isolation_core.services.postgres._errors import interface_error

if TYPE_CHECKING:
    from isolation_core.services.postgres._double import PostgresDouble
    from isolation_core.services.postgres._link import Link
    from isolation_core.services.postgres._record import Record

__all__ = ["Pool"]

Hook = Callable[[Connection], Awaitable[None]]


@define(eq=False)
class _Holder:
    """One place of the pool."""

    link: Link | None = None
    queries: int = 0
    used_by: Connection | None = None
    generation: int = 0


class Pool(ClientObject):
    """A pool in asyncpg's shape. Made by `PostgresDouble.create_pool`; await it or use ``async with``."""

    label = "pool"

    def __init__(
        self,
        double: PostgresDouble,
        *,
        min_size: int,
        max_size: int,
        setup: Hook | None,
        init: Hook | None,
        reset: Hook | None,
        command_timeout: float | None,
    ) -> None:
        if max_size <= 0:
            raise ValueError("max_size is expected to be greater than zero")
        if min_size < 0:
            raise ValueError("min_size is expected to be greater or equal to zero")
        if min_size > max_size:
            raise ValueError("min_size is greater than max_size")
        super().__init__(double)
        self._server = double
        self._min_size = min_size
        self._max_size = max_size
        self._setup, self._init, self._reset_hook = setup, init, reset
        self._command_timeout = command_timeout
        self._holders = [_Holder() for _ in range(max_size)]
        # The last one released is the first one taken.
        self._free = list(reversed(self._holders))
        self._queue: deque[object] = deque()
        self._generation = 0
        self._initialized = self._closing = self._gone = False

    def __repr__(self) -> str:
        return f"<Pool of {self.double.name!r}, {len(self._holders) - len(self._free)} of {self._max_size} in use>"

    def problems(self) -> tuple[str, ...]:
        """Return what is left open; connections tell for themselves."""
        if self._initialized and not self._gone and not self._server._is_own(self):
            return (f"a pool of {self._max_size} connections was not closed",)
        return ()

    async def _start(self) -> Self:
        if self._gone:
            raise interface_error("pool is closed")
        if not self._initialized:
            self._server._require_connected()
            for holder in self._free[len(self._free) - self._min_size :]:
                await self._open(holder)
            self._initialized = True
        return self

    async def _open(self, holder: _Holder) -> None:
        holder.link = await self._server._new_link()
        holder.generation = self._generation
        if self._init is not None:
            connection = Connection(self._server, holder.link, self, command_timeout=self._command_timeout)
            try:
                await self._init(connection)
            finally:
                connection._detach()

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._start().__await__()

    async def __aenter__(self) -> Self:
        return await self._start()

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def _check(self) -> None:
        if self._closing:
            raise interface_error("pool is closing")
        if not self._initialized:
            raise interface_error("pool is not initialized")
        if self._gone or self._ended:
            raise interface_error("pool is closed")

    # -- acquire and release ---------------------------------------------------------------

    @dual
    async def acquire(self, *, timeout: float | None = None) -> Connection:
        """Return a connection: await it, or use ``async with``, which releases it.

        Args:
            timeout: seconds of virtual time to wait for one.

        Raises:
            TimeoutError: when none was released in time.
        """
        return await self._acquire(timeout)

    async def _acquire(self, timeout: float | None = None) -> Connection:
        self._check()
        ticket = object()
        self._queue.append(ticket)

        def next_free() -> _Holder | None:
            if self._gone or self._ended:
                raise interface_error("pool is closed")
            if self._free and self._queue[0] is ticket:
                return self._free.pop()
            return None

        try:
            holder = await self.context.clock.wait(next_free, timeout=timeout)
        finally:
            self._queue.remove(ticket)
            self.context.clock.notify()
        try:
            if holder.link is None:
                await self._open(holder)
            assert holder.link is not None
            connection = Connection(self._server, holder.link, self, command_timeout=self._command_timeout)
            holder.used_by = connection
            if self._setup is not None:
                await self._setup(connection)
        except BaseException:
            if holder.used_by is not None:
                holder.used_by._detach()
            if holder.link is not None:
                holder.link.close_now()
            self._vacate(holder, keep=False)
            raise
        return connection

    def _vacate(self, holder: _Holder, *, keep: bool) -> None:
        holder.used_by = None
        if not keep:
            holder.link = None
            holder.queries = 0
        self._free.append(holder)
        self.context.clock.notify()

    def _holder_of(self, connection: object) -> _Holder | None:
        return next((each for each in self._holders if each.used_by is connection), None)

    def _lost(self, connection: Connection) -> None:
        """A connection was closed while in use: its place is free."""
        holder = self._holder_of(connection)
        if holder is not None:
            self._vacate(holder, keep=False)

    @operation
    async def release(self, connection: Connection, *, timeout: float | None = None) -> None:
        """Give a connection back; doing it again does nothing.

        Raises:
            InterfaceError: if it is none of this pool.
        """
        await self._release(connection)

    async def _release(self, connection: Connection) -> None:
        if not isinstance(connection, Connection) or connection._pool is not self:
            raise interface_error(
                f"Pool.release() received invalid connection: {connection!r} is not a member of this pool"
            )
        holder = self._holder_of(connection)
        if connection._released or connection._gone or holder is None:
            return
        self_check = self._initialized and not (self._gone or self._ended)
        if not self_check:
            raise interface_error("pool is closed" if self._initialized else "pool is not initialized")
        connection._detach()
        link = connection._link
        with anyio.CancelScope(shield=True):
            if link.in_transaction:
                self._server.record("released-in-transaction", connection=link.pid)
            await connection._reset()
            if self._reset_hook is not None:
                await self._reset_hook(connection)
            keep = holder.generation == self._generation
            if not keep:
                await link.close()
            self._vacate(holder, keep=keep)

    # -- the same as on a connection -----------------------------------------------------------

    @operation
    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """Acquire a connection, run a statement on it, release it."""
        async with self._borrowed() as connection:
            return (await connection._run(query, args, timeout, script=not args)).tag

    @operation
    async def executemany(self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        """The same, once for each sequence of arguments."""
        async with self._borrowed() as connection:
            await Connection.executemany.function(connection, command, args, timeout=timeout)

    @operation
    async def fetch(
        self, query: str, *args: Any, timeout: float | None = None, record_class: type[Any] | None = None
    ) -> list[Record]:
        """The same, for all rows."""
        async with self._borrowed() as connection:
            return await connection._rows(query, args, timeout)

    @operation
    async def fetchrow(
        self, query: str, *args: Any, timeout: float | None = None, record_class: type[Any] | None = None
    ) -> Record | None:
        """The same, for the first row."""
        async with self._borrowed() as connection:
            rows = await connection._rows(query, args, timeout)
            return rows[0] if rows else None

    @operation
    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """The same, for one value."""
        async with self._borrowed() as connection:
            rows = await connection._rows(query, args, timeout)
            return rows[0][column] if rows else None

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
        """The same, for many rows at once."""
        async with self._borrowed() as connection:
            return await Connection.copy_records_to_table.function(
                connection,
                table_name,
                records=records,
                columns=columns,
                schema_name=schema_name,
                timeout=timeout,
                where=where,
            )

    def _borrowed(self) -> _Borrowed:
        return _Borrowed(self)

    # -- state and end ---------------------------------------------------------------------------

    @operation
    def get_size(self) -> int:
        """Return how many connections are open."""
        return sum(each.link is not None for each in self._holders)

    @operation
    def get_min_size(self) -> int:
        """Return how many are opened at first."""
        return self._min_size

    @operation
    def get_max_size(self) -> int:
        """Return how many there can be."""
        return self._max_size

    @operation
    def get_idle_size(self) -> int:
        """Return how many are open and not in use."""
        return sum(each.link is not None for each in self._free)

    @operation
    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._gone or self._closing

    @operation
    async def expire_connections(self) -> None:
        """Replace each connection by a new one, when it is acquired or released next."""
        self._generation += 1
        for holder in self._free:
            if holder.link is not None:
                await holder.link.close()
                holder.link = None

    @operation
    async def close(self) -> None:
        """Wait until every connection is released, then close them all."""
        if self._gone:
            return
        if not self._initialized:
            raise interface_error("pool is not initialized")
        self._closing = True
        try:
            await self.context.clock.wait(lambda: True if len(self._free) == self._max_size else None)
            for holder in self._holders:
                if holder.link is not None:
                    await holder.link.close()
                    holder.link = None
        except BaseException:
            self._terminate()
            raise
        finally:
            self._closing = False
        self._over()

    @operation
    def terminate(self) -> None:
        """Close every connection at once."""
        if not self._gone:
            if not self._initialized:
                raise interface_error("pool is not initialized")
            self._terminate()

    def _terminate(self) -> None:
        for holder in self._holders:
            if holder.used_by is not None:
                holder.used_by._link.close_now()
                holder.used_by._over()
            elif holder.link is not None:
                holder.link.close_now()
                holder.link = None
        self._over()

    def _over(self) -> None:
        self._gone = True
        super().end()
        self.context.clock.notify()

    def end(self) -> None:
        """Its double is disconnected or closed."""
        if not self._gone:
            self._terminate()


class _Borrowed:
    """A connection for one statement of the pool's own methods."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: Connection | None = None

    async def __aenter__(self) -> Connection:
        self._connection = await self._pool._acquire()
        return self._connection

    async def __aexit__(self, *_exc: object) -> None:
        assert self._connection is not None
        await self._pool._release(self._connection)
