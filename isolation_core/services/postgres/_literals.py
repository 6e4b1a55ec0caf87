"""Text to values and back, as PostgreSQL's input and output functions have it, for the forms that are certain."""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NoReturn

from isolation_core.errors import UnsupportedSQLError
from isolation_core.services.postgres._errors import pg_error
from isolation_core.services.postgres._types import INTS, decode, display, element_of, encode_argument

__all__ = ["from_text", "jsonb_text", "to_text"]

_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_DATE: Final = r"(\d{4})-(\d{1,2})-(\d{1,2})"
_ISO_DATE: Final = re.compile(_DATE)
_ISO_MOMENT: Final = re.compile(
    _DATE + r"(?:[ T](\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?\s*(Z|[+-]\d{2}(?::?\d{2})?)?)?"
)
_HAS_MEANING: Final = re.compile(r"now|today|tomorrow|yesterday|epoch|infinity|allballs|\d", re.IGNORECASE)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
_TRUE: Final = ("t", "tr", "tru", "true", "y", "ye", "yes", "on", "1")
_FALSE: Final = ("f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0")


def _invalid(text: str, type_: str) -> NoReturn:
    raise pg_error("InvalidTextRepresentationError", f'invalid input syntax for type {display(type_)}: "{text}"')


def _integer(text: str, type_: str) -> int:
    if not re.fullmatch(r"\s*[+-]?\d+\s*", text, re.ASCII):
        _invalid(text, type_)
    number = int(text)
    limit = 1 << (8 * INTS[type_] - 1)
    if not -limit <= number < limit:
        raise pg_error("NumericValueOutOfRangeError", f'value "{text}" is out of range for type {display(type_)}')
    return number


def _numeric(text: str, type_: str) -> Any:
    stripped = text.strip()
    if stripped.lower() in {"nan", "inf", "-inf", "+inf", "infinity", "-infinity", "+infinity"}:
        raise UnsupportedSQLError(text, f"the number {stripped}")
    if not _NUMBER.fullmatch(stripped):
        _invalid(text, type_)
    if type_ == "float8":
        return float(stripped)
    return format(Decimal(stripped), "f")


def _bool(text: str, type_: str) -> int:
    word = text.strip().lower()
    if word in _TRUE:
        return 1
    if word in _FALSE:
        return 0
    _invalid(text, type_)


def _date(text: str, type_: str) -> int:
    match = _ISO_DATE.fullmatch(text.strip())
    if match is None:
        return _moment(text, type_)
    try:
        found: int = encode_argument(dt.date(*map(int, match.groups())), "date", 0)
    except ValueError:
        _out_of_range(text)
    return found


def _out_of_range(text: str) -> NoReturn:
    raise pg_error("DatetimeFieldOverflowError", f'date/time field value out of range: "{text}"')


def _moment(text: str, type_: str) -> int:
    match = _ISO_MOMENT.fullmatch(text.strip())
    if match is None:
        if not _HAS_MEANING.search(text):
            raise pg_error("InvalidDatetimeFormatError", f'invalid input syntax for type {display(type_)}: "{text}"')
        raise UnsupportedSQLError(text, f"the {type_} {text!r}: only ISO 8601 is certain, and")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = dt.datetime(  # noqa: DTZ001 - the zone comes below
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0),
            int((fraction or "0").ljust(6, "0")),
        )  # fmt: skip
    except ValueError:
        _out_of_range(text)
    if type_ == "date":
        found: int = encode_argument(moment.date(), "date", 0)
        return found
    if type_ == "timestamptz" and zone and zone != "Z":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset = dt.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        moment -= offset if zone[0] == "+" else -offset
    kept: int = encode_argument(moment, "timestamp", 0)
    return kept


def _uuid(text: str, type_: str) -> str:
    if not _UUID.fullmatch(text):
        if text.startswith("{"):
            raise UnsupportedSQLError(text, "a uuid in braces")
        _invalid(text, type_)
    return str(uuid.UUID(text))


def _strict(word: str) -> NoReturn:
    raise ValueError(word)


def _loads(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_strict)
    except ValueError:
        raise pg_error("InvalidTextRepresentationError", "invalid input syntax for type json") from None


def jsonb_text(value: Any) -> str:
    """Return parsed JSON as ``jsonb`` is shown: keys by length, then by bytes; one space after ``:`` and ``,``."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return "{" + ", ".join(f"{_quote(key)}: {jsonb_text(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(jsonb_text, value)) + "]"
    if isinstance(value, Decimal):
        return format(value, "f")
    return _quote(value) if isinstance(value, str) else json.dumps(value)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\x7f")


def _json(text: str, type_: str) -> str:
    parsed = _loads(text)
    if type_ == "json":
        return text
    if "\\u0000" in text:
        raise UnsupportedSQLError(text, r"\u0000 in jsonb")
    return jsonb_text(parsed)


def _bytea(text: str, _type: str) -> bytes:
    if text.startswith("\\x"):
        try:
            return bytes.fromhex(text[2:])
        except ValueError:
            raise pg_error("InvalidTextRepresentationError", "invalid hexadecimal data") from None
    if "\\" in text:
        raise UnsupportedSQLError(text, "bytea in escape format")
    return text.encode()


def _text(text: str, _type: str) -> str:
    return text


_INPUT: Final[dict[str, Callable[[str, str], Any]]] = {
    "int2": _integer, "int4": _integer, "int8": _integer, "numeric": _numeric, "float8": _numeric, "bool": _bool,
    "text": _text, "varchar": _text, "date": _date, "timestamp": _moment, "timestamptz": _moment, "uuid": _uuid,
    "json": _json, "jsonb": _json, "bytea": _bytea,
}  # fmt: skip


def from_text(text: str, type_: str) -> Any:
    """Return *text* as a kept value of *type_*.

    Raises:
        InvalidTextRepresentationError: and its like, as the server does.
        UnsupportedSQLError: for forms the engine does not read.
    """
    element = element_of(type_)
    if element is None:
        return _INPUT[type_](text, type_)
    inner = text.strip()
    if not (inner.startswith("{") and inner.endswith("}")):
        raise pg_error("InvalidTextRepresentationError", f'malformed array literal: "{text}"')
    inner = inner[1:-1].strip()
    if re.search(r'[{}"\\]', inner):
        raise UnsupportedSQLError(text, "an array literal with quotes or several dimensions")
    items = [item.strip() for item in inner.split(",")] if inner else []
    if "" in items:
        raise pg_error("InvalidTextRepresentationError", f'malformed array literal: "{text}"')
    return json.dumps([None if item.lower() == "null" else _INPUT[element](item, element) for item in items])


def to_text(value: Any, type_: str) -> str:
    """Return the kept *value* as the cast to text has it."""
    if type_ == "bool":
        return "true" if value else "false"
    if type_ in {"int2", "int4", "int8", "numeric", "text", "varchar", "json", "jsonb", "uuid"}:
        return str(value)
    if type_ == "bytea":
        return f"\\x{value.hex()}"
    if type_ in {"date", "timestamp", "timestamptz"}:
        moment = decode(value, type_)
        if type_ == "date":
            return str(moment.isoformat())
        fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
        return f"{moment:%Y-%m-%d %H:%M:%S}{fraction}{'+00' if type_ == 'timestamptz' else ''}"
    raise UnsupportedSQLError(f"{value!r}::text", f"the text of {display(type_)}")
