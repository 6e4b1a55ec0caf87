"""The public API of the adapters under type checkers: read by mypy and pyright, never run."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterator
from typing import assert_type

import isolation_pytest
from isolation_script import isolated
from isolation_unittest import IsolationMixin

from isolation_core import Barrier

# -- isolated: the decorated function keeps its parameters and its result


@isolated
def total(prices: list[float], *, tax: float = 0.2) -> float:
    return sum(prices) * (1 + tax)


@isolated("orders", mode="strict", timeout=2)
async def fetch(name: str) -> bytes:
    return name.encode()


assert_type(total([1.0], tax=0.1), float)
total("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def the_asynchronous_twin() -> None:
    assert_type(await fetch("a"), bytes)
    await fetch()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


isolated(mode="loud")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]

# -- pytest's managed fixtures


@isolation_pytest.managed_fixture
def plain() -> int:
    return 1


@isolation_pytest.managed_fixture(scope="module", dependencies=[plain])
def pool(plain: int) -> Iterator[int]:
    yield plain


def decorate(function: Callable[[], int]) -> object:
    return isolation_pytest.managed_fixture(scope="galaxy")(function)  # a scope may be a name: checked when decorated


# -- unittest: the mixin goes with both kinds of cases


class StoreTest(IsolationMixin, unittest.TestCase):
    isolation_mode = "strict"

    def test_it(self) -> None:
        assert_type(self.isolation, Barrier)


class AsyncStoreTest(IsolationMixin, unittest.IsolatedAsyncioTestCase):
    async def test_it(self) -> None:
        assert_type(self.isolation, Barrier)
