"""The application under test."""

from __future__ import annotations

PRICES = {"tea": 3}
CONNECTIONS: list[str] = []
TOTALS: dict[int, int] = {}


def total(orders: int) -> int:
    """Return the price of many orders; each number of orders is computed once."""
    if orders not in TOTALS:
        TOTALS[orders] = sum(PRICES["tea"] for _ in range(orders))
    return TOTALS[orders]
