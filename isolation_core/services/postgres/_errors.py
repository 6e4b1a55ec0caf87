"""Errors with the classes and fields that asyncpg gives them."""

from __future__ import annotations

from typing import Any, Final

from isolation_core.services._clients import client_class

__all__ = ["Blocked", "data_error", "interface_error", "pg_error", "sqlstate_of"]

MODULE: Final = "asyncpg.exceptions"
_FIELDS: Final = ("detail", "hint", "schema_name", "table_name", "column_name", "data_type_name", "constraint_name")

_SQLSTATES: Final = {
    "ActiveSQLTransactionError": "25001",
    "AmbiguousColumnError": "42702",
    "AmbiguousFunctionError": "42725",
    "AmbiguousParameterError": "42P08",
    "CannotCoerceError": "42846",
    "CardinalityViolationError": "21000",
    "CheckViolationError": "23514",
    "CharacterNotInRepertoireError": "22021",
    "DataError": "22000",
    "DatatypeMismatchError": "42804",
    "DatetimeFieldOverflowError": "22008",
    "DeadlockDetectedError": "40P01",
    "DependentObjectsStillExistError": "2BP01",
    "DivisionByZeroError": "22012",
    "DuplicateAliasError": "42712",
    "DuplicateColumnError": "42701",
    "DuplicateTableError": "42P07",
    "FeatureNotSupportedError": "0A000",
    "ForeignKeyViolationError": "23503",
    "GeneratedAlwaysError": "428C9",
    "GroupingError": "42803",
    "InFailedSQLTransactionError": "25P02",
    "IndeterminateDatatypeError": "42P18",
    "LockNotAvailableError": "55P03",
    "InvalidColumnReferenceError": "42P10",
    "InvalidDatetimeFormatError": "22007",
    "InvalidForeignKeyError": "42830",
    "InvalidRowCountInLimitClauseError": "2201W",
    "InvalidRowCountInResultOffsetClauseError": "2201X",
    "InvalidSavepointSpecificationError": "3B001",
    "InvalidTableDefinitionError": "42P16",
    "InvalidTextRepresentationError": "22P02",
    "NoActiveSQLTransactionError": "25P01",
    "NotNullViolationError": "23502",
    "NumericValueOutOfRangeError": "22003",
    "PostgresSyntaxError": "42601",
    "QueryCanceledError": "57014",
    "ReadOnlySQLTransactionError": "25006",
    "StringDataRightTruncationError": "22001",
    "TooManyConnectionsError": "53300",
    "UndefinedColumnError": "42703",
    "UndefinedFunctionError": "42883",
    "UndefinedObjectError": "42704",
    "UndefinedParameterError": "42P02",
    "UndefinedTableError": "42P01",
    "UniqueViolationError": "23505",
    "WrongObjectTypeError": "42809",
}


def sqlstate_of(name: str) -> str:
    """Return the SQLSTATE of asyncpg's class *name*."""
    return _SQLSTATES[name]


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


def data_error(position: int, value: object, why: str) -> BaseException:
    """Return asyncpg's ``DataError`` for an argument that its type cannot take."""
    shown = repr(value)
    shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
    base: Any = client_class(MODULE, "InterfaceError", Exception)
    return client_class(MODULE, "DataError", base)(f"invalid input for query argument ${position}: {shown} ({why})")


class Blocked(Exception):
    """A statement needs a row that an open transaction of another session has.

    Attributes:
        holder: the transaction to wait for.
    """

    def __init__(self, holder: Any) -> None:
        super().__init__("blocked")
        self.holder = holder
