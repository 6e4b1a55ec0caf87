"""Settings that come from the environment."""

from __future__ import annotations

import os

CURRENCIES = {"eu": "EUR", "us": "USD", "jp": "JPY"}


def currency() -> str:
    """Return the currency of the region the service runs in."""
    return CURRENCIES[os.environ.get("SHOP_REGION", "eu")]
