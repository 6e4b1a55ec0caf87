"""With pytest: ``pytest test_with_pytest.py``."""

from __future__ import annotations

import pytest
import stack

pytestmark = pytest.mark.anyio


async def test_one_order(client: stack.Service) -> None:
    assert client.order("tea") == 1


async def test_another_order(client: stack.Service, broker: list[str]) -> None:
    assert client.order("coffee") == 1
    assert broker == []
