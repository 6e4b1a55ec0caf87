"""Cursors and prepared statements."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from isolation_core.services._double import ClientObject
from isolation_core.services._operations import operation
from isolation_core.services.postgres._errors import interface_error, pg_error
from isolation_core.services.postgres._record import Record, records
from isolation_core.services.postgres._types import Attribute, Type, oid_of

if TYPE_CHECKING:
    from isolation_core.services.postgres._connection import Connection
    from isolation_core.services.postgres._session import Result

__all__ = ["Cursor", "CursorFactory", "PreparedStatement"]


class CursorFactory:
    """What ``connection.cursor(...)`` gives: await it, or iterate over it."""

    def __init__(
        self, connection: Connection, query: str, args: Sequence[Any], prefetch: int | None, timeout: float | None
    ) -> None:
        self._connection = connection
        self._query = query
        self._args = args
        self._prefetch = prefetch
        self._timeout = timeout

    def __aiter__(self) -> CursorIterator:
        prefetch = 50 if self._prefetch is None else self._prefetch
        if prefetch <= 0:
            raise interface_error("prefetch argument must be greater than zero")
        return CursorIterator(self._connection, self._query, self._args, self._timeout)

    def __await__(self) -> Generator[Any, Any, Cursor]:
        if self._prefetch is not None:
            raise interface_error("prefetch argument can only be specified for iterable cursor")
        return Cursor(self._connection, self._query, self._args)._open(self._timeout).__await__()


async def _rows_of(connection: Connection, query: str, args: Sequence[Any], timeout: float | None) -> list[Record]:
    connection._check("cursor")
    if not connection._link.in_transaction:
        raise pg_error("NoActiveSQLTransactionError", "cursor cannot be created outside of a transaction")
    return await connection._rows(query, args, timeout)


class CursorIterator:
    """A cursor under ``async for``; the rows are those of the moment of the first step."""

    def __init__(self, connection: Connection, query: str, args: Sequence[Any], timeout: float | None) -> None:
        self._connection = connection
        self._query = query
        self._args = args
        self._timeout = timeout
        self._rows: list[Record] | None = None
        self._at = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record:
        self._connection._check_resource("CursorIterator", "__anext__")
        if self._rows is None:
            self._rows = await _rows_of(self._connection, self._query, self._args, self._timeout)
        if self._at >= len(self._rows):
            raise StopAsyncIteration
        self._at += 1
        return self._rows[self._at - 1]


class Cursor(ClientObject):
    """An open cursor; the rows are those of the moment it was opened."""

    label = "cursor"

    def __init__(self, connection: Connection, query: str, args: Sequence[Any]) -> None:
        super().__init__(connection.double)
        connection.double._clients.pop(id(self), None)
        self._connection = connection
        self._query = query
        self._args = args
        self._rows: list[Record] = []
        self._at = 0

    async def _open(self, timeout: float | None) -> Self:
        self._rows = await _rows_of(self._connection, self._query, self._args, timeout)
        return self

    def _check(self, method: str) -> None:
        self._connection._check_resource("Cursor", method)
        if not self._connection._link.in_transaction:
            raise pg_error("NoActiveSQLTransactionError", "cursor cannot be created outside of a transaction")

    @operation
    async def fetch(self, n: int, *, timeout: float | None = None) -> list[Record]:
        """Return the next *n* rows."""
        self._check("fetch")
        if n <= 0:
            raise interface_error("n must be greater than zero")
        found = self._rows[self._at : self._at + n]
        self._at += len(found)
        return found

    @operation
    async def fetchrow(self, *, timeout: float | None = None) -> Record | None:
        """Return the next row; None at the end."""
        self._check("fetchrow")
        if self._at >= len(self._rows):
            return None
        self._at += 1
        return self._rows[self._at - 1]

    @operation
    async def forward(self, n: int, *, timeout: float | None = None) -> int:
        """Skip *n* rows; return how many there were to skip."""
        self._check("forward")
        if n <= 0:
            raise interface_error("n must be greater than zero")
        skipped = min(n, len(self._rows) - self._at)
        self._at += skipped
        return skipped


class PreparedStatement(ClientObject):
    """A prepared statement. Made by `Connection.prepare`."""

    label = "statement"

    def __init__(self, connection: Connection, query: str, described: Result | None, name: str) -> None:
        super().__init__(connection.double)
        connection.double._clients.pop(id(self), None)
        self._connection = connection
        self._query = query
        self._described = described
        self._name = name
        self._status: str | None = None

    def _check(self, method: str) -> None:
        self._connection._check_resource("PreparedStatement", method)

    async def _run(self, args: Sequence[Any], timeout: float | None, *, first: bool = False) -> list[Record]:
        result = await self._connection._run(self._query, args, timeout)
        # asyncpg stops after the first row, and then the server does not say how it ended.
        self._status = None if first and result.rows else result.tag
        return records([name for name, _ in result.columns], result.rows)

    @operation
    def get_name(self) -> str:
        """Return its name."""
        return self._name

    @operation
    def get_query(self) -> str:
        """Return its text."""
        return self._query

    @operation
    def get_statusmsg(self) -> str | None:
        """Return the command tag of the last run; None before that."""
        return self._status

    @operation
    def get_parameters(self) -> tuple[Type, ...]:
        """Return the types of the parameters."""
        self._check("get_parameters")
        return tuple(map(oid_of, self._described.parameters)) if self._described else ()

    @operation
    def get_attributes(self) -> tuple[Attribute, ...]:
        """Return names and types of the columns."""
        self._check("get_attributes")
        columns = self._described.columns if self._described else []
        return tuple(Attribute(name, oid_of(type_)) for name, type_ in columns)

    @operation
    def cursor(self, *args: Any, prefetch: int | None = None, timeout: float | None = None) -> CursorFactory:
        """Return a cursor over the statement."""
        self._check("cursor")
        return CursorFactory(self._connection, self._query, args, prefetch, timeout)

    @operation
    async def fetch(self, *args: Any, timeout: float | None = None) -> list[Record]:
        """Return all rows."""
        self._check("fetch")
        return await self._run(args, timeout)

    @operation
    async def fetchrow(self, *args: Any, timeout: float | None = None) -> Record | None:
        """Return the first row; None if there is none."""
        self._check("fetchrow")
        rows = await self._run(args, timeout, first=True)
        return rows[0] if rows else None

    @operation
    async def fetchval(self, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """Return one value of the first row; None if there is no row."""
        self._check("fetchval")
        rows = await self._run(args, timeout, first=True)
        return rows[0][column] if rows else None

    @operation
    async def executemany(self, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        """Run it once for each sequence of arguments; all or nothing."""
        self._check("executemany")
        await type(self._connection).executemany.function(self._connection, self._query, args, timeout=timeout)
