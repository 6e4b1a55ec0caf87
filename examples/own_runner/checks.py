"""Tests for the runner beside this file: the first one leaves a price changed, and connects for all of them."""

from __future__ import annotations

from collections.abc import Callable

import kiosk

Shared = Callable[[Callable[[], object]], None]


def connect() -> None:
    if not kiosk.CONNECTIONS:
        kiosk.CONNECTIONS.append("memory:")


def test_sale(shared: Shared) -> None:
    kiosk.PRICES["tea"] = 2
    shared(connect)
    assert kiosk.CONNECTIONS == ["memory:"]


def test_price(shared: Shared) -> None:
    assert kiosk.PRICES["tea"] == 3


def test_the_connection_is_still_there(shared: Shared) -> None:
    assert kiosk.CONNECTIONS == ["memory:"]
