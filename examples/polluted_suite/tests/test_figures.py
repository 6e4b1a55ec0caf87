"""Reports, written in pytest's own style. They leave things behind as well."""

from __future__ import annotations

import decimal
import os
import time
from decimal import Decimal

from shop import orders, shipping

NOON = 1_767_225_600.0


def test_rounding() -> None:
    """Decimal context, made coarse."""
    decimal.getcontext().prec = 3
    assert orders.with_vat(Decimal("1234.56")) == Decimal("1.47E+3")


def test_abroad() -> None:
    """Time zone of the process, moved."""
    before = shipping.hour_of_pickup(NOON)
    os.environ["TZ"] = "ABROAD-5:45"
    time.tzset()
    assert shipping.hour_of_pickup(NOON) != before
