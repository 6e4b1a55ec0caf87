"""Functions: those PostgreSQL has, as SQLite calls them."""

from __future__ import annotations

import json
import math
import sqlite3
import uuid
from collections.abc import Callable
from decimal import Decimal
from functools import cache, partial
from typing import Any, Final

from isolation_core.errors import UnsupportedSQLError
from isolation_core.services.postgres._arithmetic import (
    arithmetic,
    cast_value,
    check_integer,
    divide_numeric,
    numeric_text,
    round_numeric,
)
from isolation_core.services.postgres._errors import pg_error
from isolation_core.services.postgres._literals import jsonb_text
from isolation_core.services.postgres._types import TEXTS, element_of

__all__ = ["AGGREGATES", "SCALARS", "Clock", "Overloads", "aggregate_result", "register"]

AGGREGATES: Final = frozenset({"count", "sum", "avg", "min", "max", "bool_and", "bool_or", "every", "string_agg",
                               "array_agg"})  # fmt: skip

Overloads = tuple[tuple[tuple[str, ...], str], ...]
SCALARS: Final[dict[str, Overloads]] = {
    "now": (((), "timestamptz"),),
    "current_timestamp": (((), "timestamptz"),),
    "transaction_timestamp": (((), "timestamptz"),),
    "statement_timestamp": (((), "timestamptz"),),
    "clock_timestamp": (((), "timestamptz"),),
    "localtimestamp": (((), "timestamp"),),
    "current_date": (((), "date"),),
    "gen_random_uuid": (((), "uuid"),),
    "length": ((("text",), "int4"),),
    "char_length": ((("text",), "int4"),),
    "lower": ((("text",), "text"),),
    "upper": ((("text",), "text"),),
    "btrim": ((("text",), "text"),),
    "ltrim": ((("text",), "text"),),
    "rtrim": ((("text",), "text"),),
    "replace": ((("text", "text", "text"), "text"),),
    "left": ((("text", "int4"), "text"),),
    "right": ((("text", "int4"), "text"),),
    "strpos": ((("text", "text"), "int4"),),
    "abs": (
        (("int2",), "int2"), (("int4",), "int4"), (("int8",), "int8"), (("numeric",), "numeric"),
        (("float8",), "float8"),
    ),
    "round": ((("numeric",), "numeric"), (("float8",), "float8"), (("numeric", "int4"), "numeric")),
    "floor": ((("numeric",), "numeric"), (("float8",), "float8")),
    "ceil": ((("numeric",), "numeric"), (("float8",), "float8")),
    "ceiling": ((("numeric",), "numeric"), (("float8",), "float8")),
    "mod": ((("int4", "int4"), "int4"), (("int8", "int8"), "int8"), (("numeric", "numeric"), "numeric")),
}  # fmt: skip
"""The overloads of each function: types of the arguments, type of the result."""

_ORDERED: Final = ("int2", "int4", "int8", "numeric", "float8", "text", "date", "timestamp", "timestamptz")


def aggregate_result(name: str, types: list[str]) -> str | None:
    """Return the type an aggregate gives; None if there is no such aggregate."""
    if not types:
        return None
    first = "text" if types[0] == "varchar" else types[0]
    match name:
        case "string_agg":
            return "text" if len(types) == 2 and first == "text" and types[1] in TEXTS else None
        case _ if len(types) != 1:
            return None
        case "sum":
            return {"int2": "int8", "int4": "int8", "int8": "numeric", "numeric": "numeric", "float8": "float8"}.get(
                first
            )
        case "avg":
            return "float8" if first == "float8" else "numeric" if first in _ORDERED[:4] else None
        case "min" | "max":
            return types[0].replace("varchar", "text") if first in _ORDERED else None
        case "array_agg":
            return None if element_of(first) or first in {"json", "jsonb", "bytea"} else f"{types[0]}[]"
        case _:
            return "bool" if first == "bool" else None


class Clock:
    """What time it is for SQL; filled in before each statement.

    Attributes:
        transaction: when the transaction began, in microseconds since 1970.
        now: what the virtual clock shows.
    """

    def __init__(self) -> None:
        self.transaction = 0
        self.now = 0


class _Aggregate:
    """An aggregate over one column; NULLs do not count."""

    def __init__(self, name: str, type_: str) -> None:
        self.name = name
        self.type = type_
        self.values: list[Any] = []
        self.separators: list[str | None] = []

    def step(self, value: Any, separator: str | None = None) -> None:
        if value is not None or self.name == "array_agg":
            self.values.append(value)
            self.separators.append(separator)

    def finalize(self) -> Any:
        if not self.values:
            return None
        match self.name:
            case "sum" | "avg":
                return self._total()
            case "min":
                return min(self.values, key=self._order)
            case "max":
                return max(self.values, key=self._order)
            case "bool_or":
                return int(any(self.values))
            case "string_agg":
                pairs = zip(self.values[1:], self.separators[1:], strict=True)
                return self.values[0] + "".join(f"{separator or ''}{value}" for value, separator in pairs)
            case "array_agg":
                return json.dumps(self.values)
            case _:
                return int(all(self.values))

    def _order(self, value: Any) -> Any:
        return _ordered(value, self.type)

    def _total(self) -> Any:
        if self.type == "float8":
            total = 0.0
            for value in self.values:
                total = arithmetic("+", "float8", total, value)
            return total if self.name == "sum" else total / len(self.values)
        exact = "0"
        for value in self.values:
            exact = arithmetic("+", "numeric", exact, str(value))
        if self.name == "avg":
            return numeric_text(divide_numeric(Decimal(exact), Decimal(len(self.values))))
        return check_integer(int(exact), "int8") if self.type in {"int2", "int4"} else exact


def _like(text: str | None, pattern: str | None, insensitive: int) -> int | None:
    if text is None or pattern is None:
        return None
    if insensitive:
        if not (text.isascii() and pattern.isascii()):
            raise UnsupportedSQLError(f"{text!r} ILIKE {pattern!r}", "ILIKE of other letters than ASCII")
        text, pattern = text.lower(), pattern.lower()
    import re

    parts, at = [], 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 1
            if at == len(pattern):
                raise pg_error("InvalidEscapeSequenceError", "LIKE pattern must not end with escape character")
            parts.append(re.escape(pattern[at]))
        else:
            parts.append(".*" if char == "%" else "." if char == "_" else re.escape(char))
        at += 1
    return int(re.fullmatch("".join(parts), text, re.DOTALL) is not None)


def _ordered(value: Any, type_: str) -> Any:
    """Return a kept value as what it is compared by; text by its bytes."""
    if type_ == "numeric":
        return Decimal(value)
    return value.encode() if isinstance(value, str) else value


def _any(operator: str, element: str, value: Any, array: str | None, every: int) -> int | None:
    if array is None:
        return None
    unknown = False
    for item in json.loads(array):
        if value is None or item is None:
            unknown = True
            continue
        left, right = _ordered(value, element), _ordered(item, element)
        holds = {
            "=": left == right, "<>": left != right, "<": left < right, ">": left > right, "<=": left <= right,
            ">=": left >= right,
        }[operator]  # fmt: skip
        if holds != bool(every):
            return int(holds)
    return None if unknown else int(bool(every))


def _extreme(name: str, type_: str, *values: Any) -> Any:
    aggregate = _Aggregate("max" if name == "greatest" else "min", type_)
    for value in values:
        aggregate.step(value)
    return aggregate.finalize()


def _single(count: int, value: Any) -> Any:
    if count > 1:
        raise pg_error("CardinalityViolationError", "more than one row returned by a subquery used as an expression")
    return value


def _json_step(document: str | None, step: Any, as_text: int) -> str | None:
    if document is None or step is None:
        return None
    value = json.loads(document, parse_float=Decimal)
    if isinstance(step, int):
        if not isinstance(value, list) or not -len(value) <= step < len(value):
            return None
        value = value[step]
    elif isinstance(value, dict) and step in value:
        value = value[step]
    else:
        return None
    if as_text:
        return None if value is None else value if isinstance(value, str) else jsonb_text(value)
    return jsonb_text(value)


def _ascii(text: str, name: str) -> str:
    if not text.isascii():
        raise UnsupportedSQLError(
            f"{name}({text!r})", f"{name} of other letters than ASCII, which depends on the locale"
        )
    return text


_TEXT: Final[dict[str, Callable[..., Any]]] = {
    "length": len,
    "char_length": len,
    "lower": lambda text: _ascii(text, "lower").lower(),
    "upper": lambda text: _ascii(text, "upper").upper(),
    "btrim": lambda text: text.strip(" "),
    "ltrim": lambda text: text.lstrip(" "),
    "rtrim": lambda text: text.rstrip(" "),
    "replace": lambda text, old, new: text.replace(old, new) if old else text,
    "left": lambda text, count: text[:count] if count else "",
    "right": lambda text, count: text[-count:] if count else "",
    "strpos": lambda text, part: text.find(part) + 1,
}
"""Functions of text, of arguments that are not NULL."""

_NOW: Final = frozenset({"now", "current_timestamp", "transaction_timestamp", "statement_timestamp", "localtimestamp"})


def _scalar(clock: Clock) -> Callable[..., Any]:
    def call(name: str, wanted: str, *values: Any) -> Any:
        if None in values:
            return None
        if name in _TEXT:
            return _TEXT[name](*values)
        if name in _NOW:
            return clock.transaction
        match name:
            case "clock_timestamp":
                return clock.now
            case "current_date":
                return clock.transaction // 86_400_000_000
            case "gen_random_uuid":
                return str(uuid.uuid4())
            case "mod":
                return arithmetic("%", wanted.split("/", maxsplit=1)[0], *values)
            case _:
                return _number(name, wanted, *values)

    return call


def _number(name: str, wanted: str, value: Any, places: int = 0) -> Any:
    if name == "abs":
        if wanted == "numeric":
            return numeric_text(abs(Decimal(value)))
        return abs(value) if wanted == "float8" else check_integer(abs(value), wanted)
    if wanted == "float8":
        # Half to even, and the sign stays: -0.4 gives -0.0.
        whole = round(value) if name == "round" else math.floor(value) if name == "floor" else math.ceil(value)
        return math.copysign(float(whole), value)
    number = Decimal(value)
    if name == "round":
        if places < 0:
            raise UnsupportedSQLError(f"round({value}, {places})", "round() to negative places")
        return numeric_text(round_numeric(number, places))
    rounding = "ROUND_FLOOR" if name == "floor" else "ROUND_CEILING"
    return numeric_text(number.quantize(Decimal(1), rounding))


def _cast(value: Any, source: str, target: str, modifiers: str, explicit: int) -> Any:
    return cast_value(value, source, target, tuple(json.loads(modifiers)), explicit=bool(explicit))


def _compare_numeric(left: str, right: str) -> int:
    first, second = Decimal(left), Decimal(right)
    return (first > second) - (first < second)


def register(connection: sqlite3.Connection, clock: Clock, failed: Callable[[BaseException], None]) -> None:
    """Make everything compiled text calls known to *connection*.

    Args:
        connection: to SQLite.
        clock: what ``now()`` shows.
        failed: told of an error in one of them, which SQLite itself cannot carry.
    """

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any) -> Any:
            try:
                return function(*values)
            except BaseException as error:
                failed(error)
                raise

        return call

    scalars: dict[str, tuple[int, Callable[..., Any]]] = {
        "pg_arithmetic": (4, arithmetic),
        "pg_cast": (5, _cast),
        "pg_like": (3, _like),
        "pg_any": (5, _any),
        "pg_extreme": (-1, _extreme),
        "pg_single": (2, _single),
        "pg_json_step": (3, _json_step),
        "pg_call": (-1, _scalar(clock)),
    }
    for name, (count, function) in scalars.items():
        connection.create_function(name, count, guarded(function))
    connection.create_collation("pg_numeric", _compare_numeric)
    for name, type_, count in _aggregates():
        factory: Any = partial(_Guarded, name, type_, failed)
        connection.create_aggregate(f"pg_{name}_{type_}", count, factory)


@cache
def _aggregates() -> tuple[tuple[str, str, int], ...]:
    """Return the aggregates with the type and the number of their arguments."""
    return tuple(
        (name, type_, 2 if name == "string_agg" else 1)
        for name in sorted(AGGREGATES - {"count"})
        for type_ in (*_ORDERED, "bool", "uuid")
        if aggregate_result(name, [type_, "text"] if name == "string_agg" else [type_]) is not None
    )


class _Guarded(_Aggregate):
    """An aggregate that tells of its errors. One class for all: a class each would be work for the collector."""

    def __init__(self, name: str, type_: str, failed: Callable[[BaseException], None]) -> None:
        super().__init__(name, type_)
        self._failed = failed

    def finalize(self) -> Any:
        try:
            return super().finalize()
        except BaseException as error:
            self._failed(error)
            raise
