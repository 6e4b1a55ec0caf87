"""Numbers: arithmetic, casts and rounding as PostgreSQL does them."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, localcontext
from typing import Any, Final

from isolation_core.errors import UnsupportedSQLError
from isolation_core.services.postgres._errors import pg_error
from isolation_core.services.postgres._literals import from_text, to_text
from isolation_core.services.postgres._types import INTS, TEXTS, display, element_of

__all__ = ["arithmetic", "cast_value", "check_integer", "divide_numeric", "numeric_text", "round_numeric"]

_WIDE: Final = Context(prec=2000)
_DAY: Final = 86_400_000_000


def numeric_text(number: Decimal) -> str:
    """Return *number* as it is kept."""
    return format(number or abs(number), "f")


def round_numeric(number: Decimal, scale: int) -> Decimal:
    """Round half away from zero."""
    return number.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, _WIDE)


def _leading(number: Decimal) -> tuple[int, int]:
    """Return weight and first digit in base 10000, as the server stores them."""
    if not number:
        return 0, 0
    exponent = number.adjusted()
    weight = exponent // 4
    scaled = abs(number).scaleb(-4 * weight, _WIDE)
    return weight, int(scaled)


def divide_numeric(left: Decimal, right: Decimal) -> Decimal:
    """Divide, with at least 16 significant digits as ``select_div_scale`` picks them."""
    if not right:
        raise pg_error("DivisionByZeroError", "division by zero")
    (weight1, first1), (weight2, first2) = _leading(left), _leading(right)
    weight = weight1 - weight2 - (first1 <= first2)
    scale = max(16 - weight * 4, _scale(left), _scale(right), 0)
    return round_numeric(_WIDE.divide(left, right), min(scale, 1000))


def _scale(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    return max(-exponent, 0)


def check_integer(number: int, type_: str) -> int:
    """Return *number* if it fits.

    Raises:
        NumericValueOutOfRangeError: if not.
    """
    limit = 1 << (8 * INTS[type_] - 1)
    if not -limit <= number < limit:
        raise pg_error("NumericValueOutOfRangeError", f"{display(type_)} out of range")
    return number


def arithmetic(operator: str, type_: str, left: Any, right: Any) -> Any:
    """Calculate with two kept values of one type; NULL if one is."""
    if left is None or right is None:
        return None
    if type_ == "date":
        return left - right if operator == "-" else left + right
    if type_ == "float8":
        return _floats(operator, left, right)
    if type_ == "numeric":
        return _numerics(operator, Decimal(left), Decimal(right))
    if operator in "/%" and not right:
        raise pg_error("DivisionByZeroError", "division by zero")
    match operator:
        case "+":
            number = left + right
        case "-":
            number = left - right
        case "*":
            number = left * right
        case "/":
            number = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        case _:
            number = abs(left) % abs(right) * (-1 if left < 0 else 1)
    return check_integer(number, type_)


def _numerics(operator: str, left: Decimal, right: Decimal) -> str:
    with localcontext(_WIDE):
        match operator:
            case "+":
                return numeric_text(left + right)
            case "-":
                return numeric_text(left - right)
            case "*":
                return numeric_text(left * right)
            case "/":
                return numeric_text(divide_numeric(left, right))
            case _:
                if not right:
                    raise pg_error("DivisionByZeroError", "division by zero")
                scale = max(_scale(left), _scale(right))
                return numeric_text(round_numeric(left % right, scale))


def _floats(operator: str, left: float, right: float) -> float:
    if math.isinf(left) or math.isinf(right):
        raise UnsupportedSQLError(f"{left} {operator} {right}", "arithmetic with infinity")
    if operator == "/" and not right:
        raise pg_error("DivisionByZeroError", "division by zero")
    number = {"+": left.__add__, "-": left.__sub__, "*": left.__mul__, "/": left.__truediv__}[operator](right)
    if math.isinf(number):
        raise pg_error("NumericValueOutOfRangeError", "value out of range: overflow")
    if not number and ((operator == "*" and left and right) or (operator == "/" and left)):
        raise pg_error("NumericValueOutOfRangeError", "value out of range: underflow")
    return number


def _fit_numeric(number: Decimal, modifiers: tuple[int, ...]) -> str:
    if modifiers:
        precision, scale = modifiers[0], modifiers[1] if len(modifiers) > 1 else 0
        number = round_numeric(number, scale)
        if abs(number) >= Decimal(10) ** (precision - scale):
            raise pg_error(
                "NumericValueOutOfRangeError",
                "numeric field overflow",
                detail=f"A field with precision {precision}, scale {scale} must round to an absolute value less than "
                f"{f'10^{precision - scale}' if precision > scale else '1'}.",
            )
    return numeric_text(number)


def _fit_varchar(text: str, modifiers: tuple[int, ...], *, explicit: bool) -> str:
    if not modifiers or len(text) <= modifiers[0]:
        return text
    if not explicit and text[modifiers[0] :].strip(" "):
        raise pg_error("StringDataRightTruncationError", f"value too long for type character varying({modifiers[0]})")
    return text[: modifiers[0]]


def cast_value(value: Any, source: str, target: str, modifiers: tuple[int, ...] = (), *, explicit: bool = True) -> Any:
    """Return the kept *value* of type *source* as *target*; that the cast exists was checked before."""
    if value is None:
        return None
    if target == "numeric":
        number = (
            Decimal(repr(value) if source == "float8" else value)
            if source != "text"
            else Decimal(from_text(value, "numeric"))
        )
        if source == "float8":
            # 15 significant digits, as the server prints a float for this.
            number = Decimal(f"{value:.15g}")
        return _fit_numeric(number, modifiers)
    if target in TEXTS:
        text = value if source in TEXTS else to_text(value, source)
        return _fit_varchar(text, modifiers, explicit=explicit)
    if source == target or element_of(target) is not None:
        return value
    if source in TEXTS:
        return from_text(value, target)
    if target in INTS:
        if source == "numeric":
            return check_integer(int(round_numeric(Decimal(value), 0)), target)
        if source == "float8":
            return check_integer(int(Decimal(value).quantize(Decimal(1), ROUND_HALF_EVEN, _WIDE)), target)
        return check_integer(int(value), target)
    if target == "float8":
        return float(value)
    return _other(value, source, target)


def _other(value: Any, source: str, target: str) -> Any:
    if target == "bool":
        return int(bool(value))
    if target in {"timestamp", "timestamptz"}:
        return value * _DAY if source == "date" else value
    if target == "date":
        return value // _DAY
    if target == "jsonb":
        return from_text(value, "jsonb")
    assert target == "json", (source, target)
    return value
