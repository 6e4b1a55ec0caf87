# Dotted names come as a dict, which no type checker can match with parameters.
# mypy: disable-error-code="arg-type"
"""A mock that outlives a test is, for the next one, as its owner left it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock

import pytest

from isolation_core import isolation_barrier
from isolation_core.mocks import MockRegistry, isolated_mock


def run(coroutine: Any) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError


class Client:
    url: str

    async def get(self, key: str) -> str:
        """Stand for a request."""
        raise NotImplementedError


_CHANGES: dict[str, Callable[[Any], object]] = {
    "call": lambda m: run(m.get("k")),
    "value": lambda m: setattr(m.get, "return_value", 2),
    "effect": lambda m: setattr(m.get, "side_effect", KeyError),
    "attribute": lambda m: setattr(m, "url", "http://changed"),
    "delete": lambda m: m.__delattr__("get"),
    "replace": lambda m: setattr(m, "get", AsyncMock(return_value=3)),
    "reset_mock": lambda m: m.reset_mock(return_value=True, side_effect=True),
    "used new child": lambda m: m.url.upper(),
}


@pytest.fixture
def client() -> Any:
    """Make a mock in a registry around the barriers of the test, with one call of its owner."""
    with MockRegistry("wide") as registry:
        registry.opened_in = None
        configured: dict[str, Any] = {"get.return_value": 1}
        mock = registry.create(Client, **configured)
        run(mock.get("by its owner"))
        yield mock


@pytest.mark.parametrize("change", _CHANGES)
def test_a_change_inside_is_undone_and_reported(client: Any, change: str) -> None:
    """Configuration and history are as before; the finding names the mock and what was done."""
    with isolation_barrier(packages=[], owner="narrow") as barrier:
        _CHANGES[change](client)
    (found,) = [each for each in barrier.changes if each.kind == "mock"]
    assert found.code == "MCK004"
    assert found.restored
    assert found.path.startswith("mock")
    assert run(client.get("k")) == 1
    assert [each.args for each in client.get.await_args_list] == [("by its owner",), ("k",)]
    assert "url" not in vars(client) or change == "used new child"


def test_looking_is_no_change(client: Any) -> None:
    """Attributes that are only read, and results that are only looked at, leave nothing behind."""
    with isolation_barrier(packages=[], owner="narrow") as barrier:
        assert client.url.upper is not None
        assert client.get.return_value == 1
        assert not client.url.called
    assert [each for each in barrier.changes if each.kind == "mock"] == []


def test_a_mock_of_no_barrier_is_wide() -> None:
    """A mock made outside of all barriers goes back as well, a list of results to its beginning."""
    with MockRegistry("wide") as registry:
        registry.opened_in = None
        mock = registry.create(side_effect=[1, 2])
        for _ in range(3):
            with isolation_barrier(packages=[], owner="narrow"):
                assert run(mock()) == 1
        assert mock.call_count == 0


def test_report_mode_leaves_it(client: Any) -> None:
    """In mode ``report`` the change is reported and stays."""
    with isolation_barrier(packages=[], owner="narrow", mode="report") as barrier:
        client.get.return_value = 2
    assert [each.restored for each in barrier.changes if each.kind == "mock"] == [False]
    assert run(client.get("k")) == 2


def test_a_wide_mock_that_is_dropped_dies() -> None:
    """Savepoints keep no mock alive."""
    mock: Any = isolated_mock(Client)
    registry = MockRegistry("wide")
    registry.opened_in = None
    mock = registry.create(Client)
    mock.get.return_value = 3
    with isolation_barrier(packages=[], owner="narrow"):
        mock.get.return_value = 4
    gone = weakref.ref(mock)
    del mock
    gc.collect()
    assert gone() is None
    registry.close()


@pytest.mark.parametrize("where", ["module", "session fixture", "class fixture", "unittest"])
def test_under_the_runners(pytester: pytest.Pytester, where: str) -> None:
    """A module's global, the value of a wider fixture and the attribute of a test class are put back between tests."""
    header = (
        "import asyncio, pytest, unittest\n"
        "from isolation_core import isolated_mock\n"
        "def make(): return isolated_mock(name='client', **{'f.return_value': 1})\n"
    )
    polluter = "client.f.return_value = 99; asyncio.run(client.f())"
    victim = "assert client.f.await_count == 0; assert asyncio.run(client.f()) == 1"
    if where == "module":
        body = f"client = make()\ndef test_polluter(): {polluter}\ndef test_victim(): {victim}\n"
    elif where == "unittest":
        body = (
            "class Test(unittest.TestCase):\n"
            "    @classmethod\n    def setUpClass(cls): cls.client = make()\n"
            f"    def test_a_polluter(self):\n        client = self.client; {polluter}\n"
            f"    def test_b_victim(self):\n        client = self.client; {victim}\n"
        )
    else:
        scope = where.partition(" ")[0]
        body = (
            f"class Test:\n    @pytest.fixture(scope={scope!r})\n    def client(self): return make()\n"
            f"    def test_polluter(self, client): {polluter}\n    def test_victim(self, client): {victim}\n"
        )
    pytester.makepyfile(test_suite=header + body)
    pytester.makefile(".ini", pytest="[pytest]\n")
    result = pytester.runpytest_subprocess("-p", "isolation_pytest.plugin", "-p", "no:randomly", "-p", "no:asyncio")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*MCK004 client.f (made at *: return_value=1 -> return_value=*, put back*"])
