"""A PostgreSQL double: asyncpg over an embedded server or one of the user's, or a recorder that answers from stubs."""

from __future__ import annotations

from isolation_core.services.postgres._double import PostgresDouble
from isolation_core.services.postgres._record import QueryResult, Record
from isolation_core.services.postgres._recorder import Connection, Cursor, Pool, PreparedStatement, Transaction
from isolation_core.services.postgres._stubs import StatementStub

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
