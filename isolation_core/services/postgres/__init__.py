"""A PostgreSQL double in asyncpg's shape, over an embedded engine or a real server."""

from __future__ import annotations

from isolation_core.services.postgres._connection import Connection
from isolation_core.services.postgres._cursors import Cursor, PreparedStatement
from isolation_core.services.postgres._double import PostgresDouble
from isolation_core.services.postgres._pool import Pool
from isolation_core.services.postgres._record import QueryResult, Record
from isolation_core.services.postgres._stubs import StatementStub
from isolation_core.services.postgres._transactions import Transaction

__all__ = [
    "Connection",
    "Cursor",
    "Pool",
    "PostgresDouble",
    "PreparedStatement",
    "QueryResult",
    "Record",
    "StatementStub",
    "Transaction",
]
