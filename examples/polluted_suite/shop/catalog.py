"""What is for sale; prices are cached, because the real table is far away."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

PRICES = {"mug": "8.50", "shirt": "19.90", "poster": "12.00"}


@lru_cache
def price(sku: str) -> Decimal:
    """Return the price of one *sku*."""
    return Decimal(PRICES[sku])
