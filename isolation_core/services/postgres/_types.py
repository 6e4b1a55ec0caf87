"""Types: their names and how values are kept.

A value is kept in SQLite as: integers, floats and bytes as they are; ``bool`` as
0 or 1; ``numeric`` as its decimal text; dates as days, times stamps as microseconds since
1970 (UTC); ``uuid``, ``json`` and ``jsonb`` as text; arrays as JSON text of kept elements.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable, Collection
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

from isolation_core.errors import UnsupportedSQLError
from isolation_core.services.postgres._ast import TypeName
from isolation_core.services.postgres._errors import data_error, pg_error

__all__ = [
    "DISPLAY", "INTS", "NUMBERS", "SERIALS", "TEXTS", "Attribute", "Type", "decode", "element_of", "encode_argument",
    "oid_of", "resolve_type",
]  # fmt: skip

INTS: Final = {"int2": 2, "int4": 4, "int8": 8}
NUMBERS: Final = ("int2", "int4", "int8", "numeric", "float8")
TEXTS: Final = ("text", "varchar")
SERIALS: Final = {"smallserial": "int2", "serial2": "int2", "serial": "int4", "serial4": "int4", "bigserial": "int8",
                  "serial8": "int8"}  # fmt: skip

_NAMES: Final = {
    "smallint": "int2", "int2": "int2", "integer": "int4", "int": "int4", "int4": "int4", "bigint": "int8",
    "int8": "int8", "numeric": "numeric", "decimal": "numeric", "float8": "float8", "float": "float8",
    "bool": "bool", "boolean": "bool", "text": "text", "varchar": "varchar", "date": "date",
    "timestamp": "timestamp", "timestamptz": "timestamptz", "uuid": "uuid", "json": "json", "jsonb": "jsonb",
    "bytea": "bytea",
}  # fmt: skip
_KNOWN_ELSEWHERE: Final = frozenset(
    [
        "bit",
        "bpchar",
        "box",
        "char",
        "character",
        "cidr",
        "circle",
        "citext",
        "daterange",
        "float4",
        "hstore",
        "inet",
        "int4range",
        "int8range",
        "interval",
        "line",
        "lseg",
        "macaddr",
        "macaddr8",
        "money",
        "name",
        "numrange",
        "oid",
        "path",
        "pg_lsn",
        "point",
        "polygon",
        "real",
        "regclass",
        "time",
        "timetz",
        "tsquery",
        "tsrange",
        "tstzrange",
        "tsvector",
        "txid_snapshot",
        "varbit",
        "xml",
    ]
)
DISPLAY: Final = {
    "int2": "smallint", "int4": "integer", "int8": "bigint", "float8": "double precision", "bool": "boolean",
    "varchar": "character varying", "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
}  # fmt: skip
"""What messages call a type, where that is not its name."""

_OIDS: Final = {
    "bool": (16, 1000), "bytea": (17, 1001), "int8": (20, 1016), "int2": (21, 1005), "int4": (23, 1007),
    "text": (25, 1009), "json": (114, 199), "float8": (701, 1022), "varchar": (1043, 1015), "date": (1082, 1182),
    "timestamp": (1114, 1115), "timestamptz": (1184, 1185), "numeric": (1700, 1231), "uuid": (2950, 2951),
    "jsonb": (3802, 3807),
}  # fmt: skip

EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NAIVE_EPOCH: Final = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - a timestamp without time zone
_DAY_ZERO: Final = dt.date(1970, 1, 1).toordinal()
_MICROSECOND: Final = dt.timedelta(microseconds=1)


class Type(NamedTuple):
    """A data type, as ``asyncpg.types.Type``."""

    oid: int
    name: str
    kind: str
    schema: str


class Attribute(NamedTuple):
    """A column of a result, as ``asyncpg.types.Attribute``."""

    name: str
    type: Type


def display(type_: str) -> str:
    """Return what messages call *type_*."""
    return f"{display(type_[:-2])}[]" if type_.endswith("[]") else DISPLAY.get(type_, type_)


def element_of(type_: str) -> str | None:
    """Return the type of the elements of an array type; None for others."""
    return type_[:-2] if type_.endswith("[]") else None


def oid_of(type_: str) -> Type:
    """Return what asyncpg tells of *type_*."""
    element = element_of(type_)
    if element is not None:
        return Type(_OIDS[element][1], f"{element}[]", "array", "pg_catalog")
    return Type(_OIDS[type_][0], type_, "scalar", "pg_catalog")


def resolve_type(name: TypeName, sql: str) -> tuple[str, tuple[int, ...]]:
    """Return the type that *name* means, and its modifiers.

    Raises:
        UndefinedObjectError: if PostgreSQL has no such type.
        UnsupportedSQLError: if the engine has not.
    """
    known = _NAMES.get(name.name)
    if known is None:
        if name.name in _KNOWN_ELSEWHERE:
            raise UnsupportedSQLError(sql, f"the type {name.name}")
        raise pg_error("UndefinedObjectError", f'type "{name.name}" does not exist')
    if name.modifiers and (known not in {"varchar", "numeric"} or (name.array and name.modifiers)):
        raise UnsupportedSQLError(sql, f"the type {name.name}({', '.join(map(str, name.modifiers))})")
    if name.array and known in {"json", "jsonb", "bytea"}:
        raise UnsupportedSQLError(sql, f"the type {name.name}[]")
    return (f"{known}[]" if name.array else known), name.modifiers


# -- arguments, as asyncpg takes them ------------------------------------------------


def _integer(size: int) -> Callable[[Any], int]:
    limit = 1 << (8 * size - 1)

    def encode(value: Any) -> int:
        if isinstance(value, str) or not hasattr(value, "__index__"):
            raise TypeError(f"'{type(value).__name__}' object cannot be interpreted as an integer")
        number = int(value)
        if not -limit <= number < limit:
            raise OverflowError(f"value out of int{size * 8} range")
        return number

    return encode


def _bool(value: Any) -> int:
    if not isinstance(value, bool):
        raise TypeError(f"a boolean is required (got type {type(value).__name__})")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected str, got {type(value).__name__}")
    if "\0" in value:
        raise pg_error("CharacterNotInRepertoireError", 'invalid byte sequence for encoding "UTF8": 0x00')
    return value


def _float(value: Any) -> float:
    if isinstance(value, (str, bytes)) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise TypeError(f"must be real number, not {type(value).__name__}")
    number = float(value)
    if number != number:  # noqa: PLR0124 - NaN, which SQLite has not
        raise UnsupportedSQLError(repr(value), "NaN")
    return number


def _numeric(value: Any) -> str:
    try:
        number = value if isinstance(value, Decimal) else Decimal(value)
    except InvalidOperation as error:
        raise ValueError(str(error)) from None
    if not number.is_finite():
        raise UnsupportedSQLError(repr(value), f"the number {number}")
    return format(number, "f")


def _date(value: Any) -> int:
    if not hasattr(value, "toordinal"):
        raise TypeError(f"'{type(value).__name__}' object has no attribute 'toordinal'")
    ordinal: int = value.toordinal()
    return ordinal - _DAY_ZERO


def _moment(value: Any) -> dt.datetime:
    if isinstance(value, dt.datetime):
        return value
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day)  # noqa: DTZ001 - as asyncpg does
    raise TypeError(f"expected a datetime.date or datetime.datetime instance, got {type(value).__name__!r}")


def _timestamp(value: Any) -> int:
    moment = _moment(value)
    if moment.tzinfo is not None:
        raise TypeError("can't subtract offset-naive and offset-aware datetimes")
    return (moment - _NAIVE_EPOCH) // _MICROSECOND


def _timestamptz(value: Any) -> int:
    # A naive one is local time for asyncpg.
    return (_moment(value).astimezone(dt.UTC) - EPOCH) // _MICROSECOND


def _uuid(value: Any) -> str:
    if isinstance(value, str):
        try:
            return str(uuid.UUID(value))
        except ValueError as error:
            raise ValueError(f"invalid UUID {value!r}: {error}") from None
    if not isinstance(getattr(value, "bytes", None), bytes):
        raise TypeError(f"'{type(value).__name__}' object has no attribute 'bytes'")
    return str(uuid.UUID(bytes=value.bytes))


def _bytea(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"a bytes-like object is required, not '{type(value).__name__}'")
    return bytes(value)


_ENCODERS: Final[dict[str, Callable[[Any], Any]]] = {
    "int2": _integer(2), "int4": _integer(4), "int8": _integer(8), "bool": _bool, "text": _text, "varchar": _text,
    "float8": _float, "numeric": _numeric, "date": _date, "timestamp": _timestamp, "timestamptz": _timestamptz,
    "uuid": _uuid, "json": _text, "jsonb": _text, "bytea": _bytea,
}  # fmt: skip


def encode_argument(value: Any, type_: str, position: int) -> Any:
    """Return *value* as it is kept.

    Args:
        value: the argument.
        type_: what the statement wants there.
        position: its number, for the message.

    Raises:
        DataError: with asyncpg's words, if asyncpg would not take it.
    """
    if value is None:
        return None
    element = element_of(type_)
    try:
        if element is None:
            return _ENCODERS[type_](value)
        if not isinstance(value, Collection) or isinstance(value, (str, bytes, dict)):
            raise TypeError(f"a sized iterable container expected (got type {type(value).__name__!r})")
        kept: list[Any] = []
        for index, item in enumerate(value):
            if isinstance(item, (list, tuple)):
                raise UnsupportedSQLError(repr(value), "arrays of several dimensions")
            try:
                kept.append(None if item is None else _ENCODERS[element](item))
            except (TypeError, ValueError, OverflowError) as error:
                raise TypeError(f"invalid array element at index {index}: {error}") from None
        return json.dumps(kept)
    except (UnsupportedSQLError, NotImplementedError):
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise data_error(position, value, str(error)) from None


# -- results -------------------------------------------------------------------------


def decode(value: Any, type_: str) -> Any:
    """Return what asyncpg gives for the kept *value*."""
    if value is None:
        return None
    element = element_of(type_)
    if element is not None:
        return [decode(item, element) for item in json.loads(value)]
    decoder = _DECODERS.get(type_)
    return value if decoder is None else decoder(value)


def _decimal(text: str) -> Decimal:
    if "." in text or not text.endswith("0000"):
        return Decimal(text)
    # The server sends groups of four digits and leaves out zero ones at the end; asyncpg makes an exponent of them.
    head, groups = text, 0
    while head.endswith("0000"):
        head, groups = head[:-4], groups + 1
    return Decimal(f"{head}E+{4 * groups}")


_DECODERS: Final[dict[str, Callable[[Any], Any]]] = {
    "bool": bool,
    "numeric": _decimal,
    "date": lambda days: dt.date.fromordinal(days + _DAY_ZERO),
    "timestamp": lambda moment: _NAIVE_EPOCH + moment * _MICROSECOND,
    "timestamptz": lambda moment: EPOCH + moment * _MICROSECOND,
    "uuid": uuid.UUID,
}
