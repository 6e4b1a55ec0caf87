"""Errors with the classes and fields that asyncpg gives them."""

from __future__ import annotations

from typing import Any, Final

from isolation_core.services._clients import client_class

__all__ = ["interface_error", "pg_error"]

MODULE: Final = "asyncpg.exceptions"
_FIELDS: Final = ("detail", "hint", "schema_name", "table_name", "column_name", "data_type_name", "constraint_name")

_SQLSTATES: Final = {
    "InFailedSQLTransactionError": "25P02",
    "NoActiveSQLTransactionError": "25P01",
    "PostgresSyntaxError": "42601",
    "TooManyConnectionsError": "53300",
}


def pg_error(name: str, message: str, **fields: str | None) -> BaseException:
    """Return the error *name* of asyncpg as a server would send it.

    Args:
        name: the class in ``asyncpg.exceptions``.
        message: the server's message.
        **fields: ``detail``, ``hint``, ``table_name``, ``column_name``, ``constraint_name``, ...
    """
    base: Any = client_class(MODULE, "PostgresError", Exception)
    error: Any = client_class(MODULE, name, base)(message)
    state = {field: fields.get(field) for field in _FIELDS}
    error.__dict__.update(state, severity="ERROR", message=message, sqlstate=_SQLSTATES[name])
    return error  # type: ignore[no-any-return]


def interface_error(message: str, *, hint: str | None = None) -> BaseException:
    """Return asyncpg's ``InterfaceError``: the client is used in a way it does not allow."""
    error: Any = client_class(MODULE, "InterfaceError", Exception)(message)
    error.hint = hint
    return error  # type: ignore[no-any-return]
