"""`Connection`: asyncpg's connection, as far as it goes."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import anyio

from isolation_core.errors import UnsupportedSQLError
from isolation_core.services._clients import client_class
from isolation_core.services._double import ClientObject
from isolation_core.services._operations import operation
from isolation_core.services.postgres._cursors import CursorFactory, PreparedStatement
from isolation_core.services.postgres._errors import interface_error
from isolation_core.services.postgres._record import Record, records
from isolation_core.services.postgres._transactions import Transaction

if TYPE_CHECKING:
    from isolation_core.services.postgres._double import PostgresDouble
    from isolation_core.services.postgres._link import Link
    from isolation_core.services.postgres._pool import Pool
    from isolation_core.services.postgres._session import Result

__all__ = ["Connection", "ServerVersion"]

Listener = Callable[["Connection", int, str, str], object]


class ServerVersion(NamedTuple):
    """The version of the server."""

    major: int
    minor: int
    micro: int
    releaselevel: str
    serial: int


_VERSION: Final = ServerVersion(15, 0, 0, "final", 0)


class Connection(ClientObject):
    """A connection in asyncpg's shape. Made by `PostgresDouble.open_connection` and `Pool.acquire`.

    Args:
        double: what it belongs to.
        link: what carries its statements.
        pool: the pool it came from.
        command_timeout: default for ``timeout``, in seconds on the virtual clock.
    """

    label = "connection"

    def __init__(
        self, double: PostgresDouble, link: Link, pool: Pool | None = None, *, command_timeout: float | None = None
    ) -> None:
        super().__init__(double)
        self._server = double
        self._link: Link = link
        self._pool = pool
        self._command_timeout = command_timeout
        self._released = False
        self._gone = False
        self._transaction: Transaction | None = None
        self._listeners: dict[str, list[Listener]] = {}
        self._terminations: list[Callable[[Connection], object]] = []
        self._names = 0
        self._own = False
        link.listener = self._notified

    def __repr__(self) -> str:
        state = "released" if self._released else "closed" if self._gone else f"pid {self._link.pid}"
        return f"<Connection of {self.double.name!r}, {state}>"

    # -- state -----------------------------------------------------------------------

    def problems(self) -> tuple[str, ...]:
        """Return what is left open."""
        if self._released or self._gone:
            return ()
        found = []
        if self._link.in_transaction:
            found.append(f"a transaction of connection {self._link.pid} was neither committed nor rolled back")
        found += [
            f"connection {self._link.pid} still listens to {channel!r}"
            for channel, each in self._listeners.items()
            if each
        ]
        if self._pool is not None:
            found.append(f"connection {self._link.pid} was not released to its pool")
        elif not self._own:
            found.append(f"connection {self._link.pid} was not closed")
        return tuple(found)

    def _check(self, method: str) -> None:
        if self._released:
            raise interface_error(f"cannot call Connection.{method}(): connection has been released back to the pool")
        if self._gone or self._ended:
            raise interface_error("connection is closed")

    def _check_resource(self, kind: str, method: str) -> None:
        if self._released or self._gone or self._ended:
            what = "has been released back to the pool" if self._released else "is closed"
            raise interface_error(f"cannot call {kind}.{method}(): the underlying connection {what}")

    def _unique(self, prefix: str) -> str:
        self._names += 1
        return f"__isolation_{prefix}_{self._names:x}__"

    async def _run(
        self, sql: str, args: Sequence[Any] = (), timeout: float | None = None, *, script: bool = False
    ) -> Result:
        timeout = self._command_timeout if timeout is None else timeout
        stub = self._server._stub_for(sql, args)
        if stub is None:
            return await self._link.run(sql, args, timeout, script=script)
        await anyio.lowlevel.checkpoint()
        try:
            return stub.answer()
        except Exception:
            self._link.fail()
            raise

    async def _rows(self, sql: str, args: Sequence[Any], timeout: float | None) -> list[Record]:
        result = await self._run(sql, args, timeout)
        return records([name for name, _ in result.columns], result.rows)

    # -- statements --------------------------------------------------------------------

    @operation
    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """Run a statement, or without arguments several, and return the (last) command tag."""
        self._check("execute")
        return (await self._run(query, args, timeout, script=not args)).tag

    @operation
    async def executemany(self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        """Run a statement once for each sequence of arguments; all or nothing."""
        self._check("executemany")
        outer = self._link.in_transaction
        if not outer:
            await self._run("BEGIN", (), timeout)
        try:
            for each in args:
                await self._run(command, tuple(each), timeout)
        except BaseException:
            if not outer:
                with anyio.CancelScope(shield=True):
                    await self._run("ROLLBACK")
            raise
        if not outer:
            await self._run("COMMIT", (), timeout)

    @operation
    async def fetch(
        self, query: str, *args: Any, timeout: float | None = None, record_class: type[Any] | None = None
    ) -> list[Record]:
        """Return all rows."""
        self._check("fetch")
        return await self._rows(query, args, timeout)

    @operation
    async def fetchrow(
        self, query: str, *args: Any, timeout: float | None = None, record_class: type[Any] | None = None
    ) -> Record | None:
        """Return the first row; None if there is none."""
        self._check("fetchrow")
        rows = await self._rows(query, args, timeout)
        return rows[0] if rows else None

    @operation
    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """Return one value of the first row; None if there is no row."""
        self._check("fetchval")
        rows = await self._rows(query, args, timeout)
        return rows[0][column] if rows else None

    @operation
    async def fetchmany(
        self,
        query: str,
        args: Iterable[Sequence[Any]],
        *,
        timeout: float | None = None,
        record_class: type[Any] | None = None,
    ) -> list[Record]:
        """Run a statement for each sequence of arguments and return all rows together."""
        self._check("fetchmany")
        found: list[Record] = []
        for each in args:
            found += await self._rows(query, tuple(each), timeout)
        return found

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
        """Insert many rows at once; all or nothing."""
        self._check("copy_records_to_table")
        if where is not None or schema_name not in {None, "public"}:
            raise UnsupportedSQLError(f"COPY {table_name} ... WHERE", "COPY with WHERE or into another schema")
        if columns is None:
            described = await self._link.describe(f"SELECT * FROM {_quote(table_name)}")
            columns = [name for name, _ in described.columns]
        marks = ", ".join(f"${at}" for at in range(1, len(columns) + 1))
        names = ", ".join(map(_quote, columns))
        statement = f"INSERT INTO {_quote(table_name)} ({names}) VALUES ({marks})"
        name = self._unique("copy")
        outer = self._link.in_transaction
        count = 0
        await self._run(f"SAVEPOINT {name}" if outer else "BEGIN", (), timeout)
        try:
            for each in records:
                await self._link.run(statement, tuple(each), timeout, script=False)
                count += 1
        except BaseException:
            # In a transaction of the caller that one has failed, as after a COPY that failed.
            if not outer:
                with anyio.CancelScope(shield=True):
                    await self._run("ROLLBACK")
            raise
        await self._run(f"RELEASE SAVEPOINT {name}" if outer else "COMMIT", (), timeout)
        return f"COPY {count}"

    # -- objects -------------------------------------------------------------------------

    @operation
    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> Transaction:
        """Return a transaction, not started yet; inside of another one a savepoint."""
        self._check("transaction")
        return Transaction(self, isolation, readonly=readonly, deferrable=deferrable)

    @operation
    def cursor(
        self,
        query: str,
        *args: Any,
        prefetch: int | None = None,
        timeout: float | None = None,
        record_class: type[Any] | None = None,
    ) -> CursorFactory:
        """Return a cursor: to be awaited, or to be iterated with ``async for``."""
        self._check("cursor")
        return CursorFactory(self, query, args, prefetch, timeout)

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
        self._check("prepare")
        stub = self._server._stub_for(query, None)
        described = await self._link.describe(query) if stub is None else None
        return PreparedStatement(self, query, described, name or self._unique("stmt"))

    # -- notifications ---------------------------------------------------------------------

    @operation
    async def add_listener(self, channel: str, callback: Listener) -> None:
        """Call ``callback(connection, pid, channel, payload)`` for each notification of *channel*."""
        self._check("add_listener")
        if channel not in self._listeners:
            await self._run(f"LISTEN {_quote(channel)}")
            self._listeners[channel] = []
        if callback not in self._listeners[channel]:
            self._listeners[channel].append(callback)

    @operation
    async def remove_listener(self, channel: str, callback: Listener) -> None:
        """Do not call *callback* any more."""
        if self._gone or self._ended:
            return
        self._check("remove_listener")
        known = self._listeners.get(channel)
        if known is None or callback not in known:
            return
        known.remove(callback)
        if not known:
            del self._listeners[channel]
            await self._run(f"UNLISTEN {_quote(channel)}")

    async def _notified(self, pid: int, channel: str, payload: str) -> None:
        for callback in tuple(self._listeners.get(channel, ())):
            outcome = callback(self, pid, channel, payload)
            if isinstance(outcome, Awaitable):
                await outcome

    @operation
    def add_termination_listener(self, callback: Callable[[Connection], object]) -> None:
        """Call ``callback(connection)`` when the connection ends."""
        self._check("add_termination_listener")
        self._terminations.append(callback)

    @operation
    def remove_termination_listener(self, callback: Callable[[Connection], object]) -> None:
        """Do not call *callback* any more."""
        if callback in self._terminations:
            self._terminations.remove(callback)

    # -- state and end -------------------------------------------------------------------------

    @operation
    def is_in_transaction(self) -> bool:
        """Whether a transaction is open."""
        self._check("is_in_transaction")
        return self._link.in_transaction

    @operation
    def is_closed(self) -> bool:
        """Whether the connection is closed."""
        if self._released:
            self._check("is_closed")
        return self._gone or self._ended

    @operation
    def get_server_pid(self) -> int:
        """Return the number of the server process."""
        self._check("get_server_pid")
        return self._link.pid

    @operation
    def get_server_version(self) -> ServerVersion:
        """Return the version of PostgreSQL whose behaviour this is."""
        self._check("get_server_version")
        return _VERSION

    @operation
    async def reset(self, *, timeout: float | None = None) -> None:
        """Roll back, and forget listeners."""
        self._check("reset")
        await self._reset()

    async def _reset(self) -> None:
        self._listeners.clear()
        self._transaction = None
        await self._link.reset()

    @operation
    async def close(self, *, timeout: float | None = None) -> None:
        """Close the connection; doing it again does nothing."""
        if self._released:
            self._check("close")
        if not self._gone:
            await self._link.close()
            self._over()

    @operation
    def terminate(self) -> None:
        """Close the connection without waiting for anything."""
        if self._released:
            self._check("terminate")
        if not self._gone:
            self._link.close_now()
            self._over()

    def _over(self) -> None:
        self._gone = True
        self._ended = True
        self._server._clients.pop(id(self), None)
        self._transaction = None
        if self._pool is not None:
            self._pool._lost(self)
        for callback in tuple(self._terminations):
            callback(self)

    def _detach(self) -> None:
        """It is back in its pool: whoever still holds it cannot use it."""
        count = sum(map(len, self._listeners.values()))
        if count:
            warning: Any = client_class("asyncpg.exceptions", "InterfaceWarning", UserWarning)
            warnings.warn(
                warning(
                    f"{self!r} is being released to the pool but has {count} active notification "
                    f"listener{'s' if count > 1 else ''}"
                ),
                stacklevel=4,
            )
        self._released = True
        self._server._clients.pop(id(self), None)

    def end(self) -> None:
        """Its double is disconnected or closed."""
        if not self._gone and not self._released:
            self._link.close_now()
            self._gone = True
        super().end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._pool is not None:
            with anyio.CancelScope(shield=True):
                await self._pool._release(self)


def _quote(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
