# Dotted names come as a dict, which no type checker can match with parameters.
# mypy: disable-error-code="arg-type,attr-defined"
"""Each of the four levels keeps what it promises, whatever was done before."""

from __future__ import annotations

import asyncio
from types import FunctionType
from typing import Any
from unittest.mock import DEFAULT, AsyncMock, MagicMock, Mock, PropertyMock, create_autospec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolation_core.errors import NotAMockError
from isolation_core.mocks import (
    MockRegistry,
    clear,
    deep_cleanup,
    is_discarded,
    isolated_mock,
    reset,
    restore,
    set_baseline,
)
from isolation_core.mocks._make import make


def run(coroutine: Any) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine waits for something")


def build() -> Any:
    """Make a mock with a bit of every kind of configuration."""
    mock = make(
        None,
        name="m",
        own_class=False,
        attributes=(),
        configure={
            "return_value": 1,
            "a.return_value": 2,
            "a.deep.side_effect": [3, 4],
            "b.side_effect": KeyError,
            "plain": 5,
            "__len__.return_value": 6,
        },
    )
    set_baseline(mock)
    return mock


def observe(mock: Any) -> dict[str, Any]:
    """Look at everything `build` configured, and at what must not be there; forget the calls of looking."""
    seen = {
        "call": run(mock()),
        "a": run(mock.a()),
        "deep": [run(mock.a.deep()), run(mock.a.deep())],
        "b": mock.b.side_effect,
        "plain": mock.plain,
        "len": len(mock),
        "int": int(mock),
        "magic": "k" in mock,
        "new": isinstance(mock.new, AsyncMock) and mock.new._mock_return_value is DEFAULT,
        "calls": len(mock.mock_calls),
    }
    clear(mock)
    return seen


_CHANGES: dict[str, Any] = {
    "call": lambda m: run(m.a(1)),
    "await deep": lambda m: run(m.a.deep()),
    "value": lambda m: setattr(m, "return_value", 10),
    "child value": lambda m: setattr(m.a, "return_value", 20),
    "effect": lambda m: setattr(m, "side_effect", [1, 2]),
    "no effect": lambda m: setattr(m.b, "side_effect", None),
    "attribute": lambda m: setattr(m, "plain", 50),
    "delete": lambda m: m.__delattr__("a"),
    "replace": lambda m: setattr(m, "a", AsyncMock(return_value=7)),
    "new": lambda m: setattr(m.new, "return_value", 8),
    "magic": lambda m: setattr(m, "__contains__", lambda _self, _key: True),
    "magic value": lambda m: setattr(m.__len__, "return_value", 60),
    "magic mock": lambda m: setattr(m, "__int__", MagicMock(return_value=9)),
    "attach": lambda m: m.attach_mock(AsyncMock(), "attached"),
    "reset_mock": lambda m: m.reset_mock(return_value=True, side_effect=True),
    "restore child": lambda m: deep_cleanup(m.a) if isinstance(m.a, Mock) else None,
}


@given(st.lists(st.sampled_from(sorted(_CHANGES)), max_size=8))
def test_reset_undoes_any_sequence_of_changes(changes: list[str]) -> None:
    """Whatever a test did, ``reset`` brings back the observable configuration; doing it twice changes nothing."""
    mock = build()
    expected = observe(build())
    for name in changes:
        try:
            _CHANGES[name](mock)
        except (AttributeError, StopAsyncIteration):
            continue  # deleted before, or used up
    for _ in range(2):
        reset(mock)
        if "restore child" in changes:
            # A child cleaned by hand has no baseline any more.
            assert run(mock()) == 1
            continue
        assert observe(mock) == expected


@given(st.lists(st.sampled_from(sorted(_CHANGES)), max_size=8))
def test_restore_leaves_an_empty_double_after_any_changes(changes: list[str]) -> None:
    """Nothing of the configuration is left, and the mock works."""
    mock = build()
    for name in changes:
        try:
            _CHANGES[name](mock)
        except (AttributeError, StopAsyncIteration):
            continue
    deep_cleanup(mock)
    assert (mock.call_count, mock.mock_calls, mock.side_effect) == (0, [], None)
    assert isinstance(mock.plain, Mock)
    assert (len(mock), int(mock), "k" in mock) == (0, 1, False)
    assert run(mock.a()) is mock.a.return_value


@pytest.mark.parametrize("level", ["clear", "reset", "restore", "discard"])
@pytest.mark.parametrize(
    "factory",
    [
        Mock, MagicMock, AsyncMock, PropertyMock, isolated_mock, lambda: create_autospec(build),
        lambda: create_autospec(MockRegistry, instance=True), lambda: isolated_mock(own_class=True),
        lambda: MagicMock(spec=["a"]), lambda: isolated_mock(MockRegistry),
    ],
)  # fmt: skip
def test_deep_cleanup_takes_everything_unittest_mock_makes(factory: Any, level: Any) -> None:
    """Every class, autospecced functions and light mocks, at every level, twice."""
    target = factory()
    deep_cleanup(target, level=level)
    deep_cleanup(target, level=level)
    if level == "discard":
        assert is_discarded(getattr(target, "mock") if isinstance(target, FunctionType) else target)
    else:
        assert target.call_count == 0


def test_deep_cleanup_refuses_what_is_no_mock() -> None:
    """It says what it takes and where other objects go."""
    with pytest.raises(NotAMockError, match=r"barrier\.on_cleanup"):
        deep_cleanup({"a": 1})


def test_a_mock_used_during_reset_by_a_task_goes_on() -> None:
    """A call under way when the mock is reset ends with its own result."""

    async def main() -> None:
        go = asyncio.Event()

        async def slow() -> int:
            await go.wait()
            return 3

        mock = isolated_mock(side_effect=slow)
        task = asyncio.create_task(mock())
        await asyncio.sleep(0)
        restore(mock)
        go.set()
        assert await task == 3

    asyncio.run(main())
