"""Shipping dates, and a function on its way out."""

from __future__ import annotations

import time
import warnings


def hour_of_pickup(timestamp: float) -> int:
    """Return the local hour at which the parcel of *timestamp* is picked up."""
    return time.localtime(timestamp).tm_hour


def express(sku: str) -> str:
    """Ship *sku* overnight; use `standard` from the next version on."""
    warnings.warn("express() goes away, use standard()", FutureWarning, stacklevel=2)
    return f"{sku}: overnight"
