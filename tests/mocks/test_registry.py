# Dotted names come as a dict, which no type checker can match with parameters; members that only
# show their declaration need no body; and a mock of a class has more than the class.
# mypy: disable-error-code="arg-type,attr-defined,call-arg,empty-body"
"""A registry owns the mocks of one barrier: weakly, with cleanups, and with a report at the end."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import anyio
import anyio.lowlevel
import pytest

from isolation_core import isolation_barrier
from isolation_core.errors import (
    ConfigurationError,
    ForeignMockUseError,
    LifecycleClosedError,
    MockDiscardedError,
    TeardownErrors,
    TeardownTimeout,
    UnconfiguredCallError,
)
from isolation_core.mocks import (
    MockRegistry,
    _create,
    _registry,
    clear,
    current_registry,
    deep_cleanup,
    discard,
    is_discarded,
    isolated_mock,
    live_mocks,
    reset,
    restore,
)


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that no runner has a barrier open."""
    monkeypatch.setattr(_create, "current_barrier", lambda: None)
    monkeypatch.setattr(_registry, "runner_barriers", [])


class Journal(list[tuple[str, dict[str, Any]]]):
    """Keeps what a registry records."""

    def record(self, event: str, /, **fields: Any) -> None:
        self.append((event, fields))


def run(coroutine: Any) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine waits for something")


# -- ownership ------------------------------------------------------------------------


def test_a_mock_belongs_to_the_current_registry() -> None:
    """``isolated_mock`` finds the innermost registry, in tasks too; without one it works unowned."""
    with MockRegistry("outer") as outer:
        a = isolated_mock()
        with MockRegistry("inner") as inner:
            b = isolated_mock()
            assert (len(outer), len(inner), inner.parent) == (1, 1, outer)
        assert is_discarded(b)
        assert not is_discarded(a)

        async def in_a_task() -> Any:
            return isolated_mock()

        c = asyncio.run(in_a_task())
        assert len(outer) == 2
    assert is_discarded(a)
    assert is_discarded(c)
    free = isolated_mock()
    assert run(free()) is free.return_value


def test_the_innermost_of_barrier_and_registry_owns() -> None:
    """A barrier's registry is made by its first mock; a registry entered inside the barrier comes before it."""
    with isolation_barrier("outer", mode="off") as outer:
        a = isolated_mock()
        assert list(outer.mocks) == [a]
        with MockRegistry("by hand") as registry:
            b = isolated_mock()
            assert list(registry) == [b]
            with isolation_barrier("inner", mode="off") as inner:
                c = isolated_mock()
                assert list(inner.mocks) == [c]
            assert is_discarded(c)
        assert is_discarded(b)
        assert not is_discarded(a)
    assert is_discarded(a)


def test_live_mocks_counts_what_is_alive_and_not_discarded() -> None:
    """For the summary: open registries and unowned mocks, no dead and no discarded ones."""
    gc.collect()  # mocks of the tests before, in cycles, die now and not while this one counts
    before = live_mocks()
    with MockRegistry("x"):
        kept = [isolated_mock() for _ in range(3)]
        assert live_mocks() == before + 3
        discard(kept[0])
        assert live_mocks() == before + 2
        del kept[1:]
        assert live_mocks() == before
    free = isolated_mock()
    assert live_mocks() == before + 1
    del free
    assert live_mocks() == before


def test_dead_mocks_do_not_pile_up() -> None:
    """A wide registry that makes many short-lived mocks stays small."""
    with MockRegistry("x") as registry:
        for _ in range(2000):
            registry.create()
        assert len(registry._mocks) < 200


def test_a_closed_registry_makes_nothing() -> None:
    """Making mocks or adding cleanups after the end raises and says whose it was."""
    registry = MockRegistry("test_a")
    registry.close()
    assert registry.close() == ()
    with pytest.raises(LifecycleClosedError, match="test_a"):
        registry.create()
    with pytest.raises(LifecycleClosedError):
        registry.add_cleanup(lambda: None)


def test_cleanups_need_a_barrier(outside: None) -> None:
    """``on_cleanup`` outside of any barrier would never run, so it raises."""
    with pytest.raises(ConfigurationError):
        isolated_mock(on_cleanup=lambda: None)
    with pytest.raises(ConfigurationError):
        isolated_mock("some_builder")


def test_plain_mocks_can_be_adopted() -> None:
    """A mock made by `unittest.mock` gets the same four levels and the same end."""
    mock = AsyncMock(return_value=1)
    with MockRegistry("x") as registry:
        assert registry.adopt(mock) is mock
        mock.return_value = 2
        registry.reset()
        assert run(mock()) == 1
        registry.clear()
        assert mock.await_count == 0
    assert is_discarded(mock)
    with pytest.raises(MockDiscardedError):
        mock()


# -- levels ---------------------------------------------------------------------------


def test_the_registry_applies_a_level_to_all_its_mocks() -> None:
    """``clear``, ``reset``, ``restore`` and ``discard`` reach every mock, and the registry can go on."""
    with MockRegistry("x") as registry:
        stubs: dict[str, Any] = {"a.return_value": 2}
        one, two = registry.create(return_value=1), registry.create(**stubs)
        run(one())
        run(two.a())
        registry.clear()
        assert (one.await_count, two.mock_calls, run(one())) == (0, [], 1)
        one.return_value = 3
        registry.reset()
        assert (run(one()), run(two.a())) == (1, 2)
        registry.restore()
        assert run(one()) is one.return_value
        registry.discard()
        assert is_discarded(one)
        assert len(registry) == 0
        assert run(registry.create(return_value=4)()) == 4


def test_levels_refuse_what_is_no_mock() -> None:
    """Every level says what it takes."""
    for function in (clear, reset, restore, discard, deep_cleanup):
        with pytest.raises(TypeError, match="expected a mock"):
            function(object())


def test_discarding_twice_is_harmless() -> None:
    """A mock discarded by hand is discarded, and its registry closes without complaint."""
    with MockRegistry("x") as registry:
        mock = registry.create()
        discard(mock)
        discard(mock)
        deep_cleanup(mock)


# -- cleanups -------------------------------------------------------------------------


@pytest.mark.anyio
async def test_cleanups_run_newest_first_sync_and_async_each_one_in_any_case() -> None:
    """Per-mock and per-registry callbacks share one order; a failing one stops nothing."""
    order: list[str] = []
    registry = MockRegistry("this test")
    registry.add_cleanup(lambda: order.append("first"))

    async def slow() -> None:
        await anyio.lowlevel.checkpoint()
        order.append("async")

    registry.create(on_cleanup=slow, name="db")
    registry.add_cleanup(lambda: 1 / 0, name="broken")
    mock = registry.create(on_cleanup=AsyncMock(side_effect=KeyError), name="bus")

    @registry.add_cleanup
    def last() -> None:
        order.append("last")
        assert not is_discarded(mock)  # cleanups may use the mocks

    with pytest.raises(TeardownErrors) as caught:
        await registry.aclose()
    assert order == ["last", "async", "first"]
    assert [type(error) for error in caught.value.exceptions] == [KeyError, ZeroDivisionError]
    assert "'the mock 'bus''" in "".join(caught.value.exceptions[0].__notes__) or "bus" in str(
        caught.value.exceptions[0].__notes__
    )
    assert is_discarded(mock)


@pytest.mark.anyio
async def test_a_cleanup_that_hangs_is_cut_off_by_its_budget() -> None:
    """Expiry becomes a `TeardownTimeout` leaf and the next cleanup runs."""
    done: list[int] = []
    registry = MockRegistry("this test", timeout=0.05)
    registry.add_cleanup(lambda: done.append(1))
    registry.add_cleanup(anyio.sleep_forever)
    with pytest.raises(TeardownErrors) as caught:
        await registry.aclose()
    assert isinstance(caught.value.exceptions[0], TeardownTimeout)
    assert done == [1]


def test_async_cleanups_run_in_a_sync_close_too() -> None:
    """An event loop is made for them, and only then."""
    done: list[int] = []

    async def cleanup() -> None:
        await asyncio.sleep(0)
        done.append(1)

    with MockRegistry("this test") as registry:
        registry.add_cleanup(cleanup)
    assert done == [1]


@pytest.mark.anyio
async def test_as_an_async_context_manager() -> None:
    """``async with MockRegistry(...)`` sets and resets the current registry."""
    async with MockRegistry("x") as registry:
        assert current_registry.get() is registry
        mock = isolated_mock()
    assert current_registry.get() is not registry
    assert is_discarded(mock)


# -- strictness -----------------------------------------------------------------------


def test_a_strict_mock_refuses_unconfigured_calls() -> None:
    """``strict=True`` raises for a call without outcome and lists what has one."""

    class Repo:
        async def get(self, key: str) -> int: ...
        async def put(self, key: str) -> int: ...
        def sync(self) -> int: ...

    stubs: dict[str, Any] = {"get.return_value": 1}
    mock = isolated_mock(Repo, name="repo", strict=True, **stubs)
    assert run(mock.get("k")) == 1
    with pytest.raises(UnconfiguredCallError, match=r"unexpected call of repo.put\(\).*Configured: repo.get") as caught:
        run(mock.put("k"))
    assert caught.value.configured == ("repo.get",)
    with pytest.raises(AssertionError):
        mock.sync()
    mock.put.side_effect = [2]
    assert run(mock.put("k")) == 2


# -- use from elsewhere ----------------------------------------------------------------


def test_use_from_an_inner_barrier_is_fine() -> None:
    """Wide mocks are made to be used in narrow scopes."""
    journal = Journal()
    with MockRegistry("session", record=journal.record) as outer:
        mock = outer.create()
        with MockRegistry("test", record=journal.record):
            run(mock.get())
    assert journal == []


def test_use_from_a_foreign_barrier_is_an_event_naming_both() -> None:
    """A mock of A used in B is reported once for each pair; with strict it raises."""
    journal = Journal()
    a, b = MockRegistry("test_a", record=journal.record), MockRegistry("test_b", record=journal.record)
    mock = a.create(name="db")
    with b:
        run(mock.get(1))
        run(mock.get(2))
    ((event, fields),) = journal
    assert event == "cross-scenario"
    assert (fields["owner"], fields["user"], fields["path"]) == ("test_a", "test_b", "db.get")
    assert fields["discarded"] is False
    assert __file__ in fields["made_at"]
    assert __file__ in fields["used_at"]
    strict = MockRegistry("test_c", strict=True)
    mock = strict.create(name="db")
    with MockRegistry("test_d"), pytest.raises(ForeignMockUseError, match="'db' of test_c was used by test_d"):
        mock()
    with MockRegistry("test_e") as e:
        e.create(strict=True, return_value=1)
    for registry in (a, strict):
        registry.close()


def test_a_thread_without_context_is_no_foreigner() -> None:
    """A plain thread has no current registry; that says nothing about who started it."""
    journal = Journal()
    with MockRegistry("x", strict=True, record=journal.record) as registry:
        mock = registry.create(return_value=1)
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(run(mock())))
        thread.start()
        thread.join()
    assert results == [1]
    assert journal == []


def test_a_background_task_that_outlives_its_test_is_told_with_both_names() -> None:
    """The task of test A touches its mock during test B: an event names A and B, the task gets an error."""
    journal = Journal()

    async def main() -> None:
        go = asyncio.Event()
        a = MockRegistry("test_a", record=journal.record)
        with a:
            mock = a.create(name="db", return_value=1)

            async def background() -> None:
                await go.wait()
                await mock.get()

            task = asyncio.create_task(background())
            await asyncio.sleep(0)
        with MockRegistry("test_b", record=journal.record):
            go.set()
            with pytest.raises(MockDiscardedError, match="after test_a had ended, during test_b") as caught:
                await task
        assert (caught.value.owner, caught.value.during) == ("test_a", ("test_b",))

    asyncio.run(main())
    ((event, fields),) = journal
    assert event == "cross-scenario"
    assert (fields["owner"], fields["user"], fields["discarded"]) == ("test_a", "test_b", True)


def test_who_is_running_can_be_told_by_the_barrier() -> None:
    """A barrier without mocks of its own is named too when it says so."""
    registry = MockRegistry("test_a", running=lambda: ["test_a", "test_z"])
    mock = registry.create()
    registry.close()
    with pytest.raises(MockDiscardedError, match="during test_z"):
        _ = mock.x


def test_a_coroutine_made_before_the_end_cannot_be_awaited_after_it() -> None:
    """It was closed; awaiting says so instead of returning a stale answer."""
    registry = MockRegistry("test_a")
    mock = registry.create(return_value=1)
    coroutine = mock()
    assert [leak.kind for leak in registry.close()] == ["coroutine"]
    with pytest.raises(RuntimeError):
        run(coroutine)
    with MockRegistry("test_b") as other:
        mock = other.create(return_value=1)
        coroutine = mock()
        discard(mock)
        with pytest.raises(MockDiscardedError, match="await on the mock"):
            run(coroutine)


# -- poison ---------------------------------------------------------------------------


def enter(mock: Any) -> None:
    """Use *mock* as a context manager."""
    with mock:
        pass


def test_every_use_after_discard_raises() -> None:
    """Calls, attributes, assignment, deletion, operators, context managers and iteration all raise."""
    with MockRegistry("test_a") as registry:
        mock = registry.create(name="db")
        child = mock.get
    uses: list[Any] = [
        mock, child, lambda: mock.x, lambda: setattr(mock, "x", 1), lambda: delattr(mock, "x"), lambda: len(mock),
        lambda: mock + 1, lambda: iter(mock), lambda: mock["k"], lambda: "k" in mock, lambda: int(mock),
        lambda: mock.assert_called, lambda: mock.mock_calls, lambda: enter(mock), lambda: run(mock.__aenter__()),
        lambda: mock.reset_mock, lambda: mock.return_value,
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(MockDiscardedError, match="after test_a had ended") as caught:
            use()
        assert __file__ in caught.value.made_at
        assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize("kind", [AsyncMock, MagicMock])
def test_looking_at_a_discarded_mock_is_no_use(kind: Any, outside: None) -> None:
    """Identity, text, truth, type and what inspection tools read still work."""
    for mock in (isolated_mock(name="db"), kind(name="db")):
        discard(mock)
        assert mock == mock  # noqa: PLR0124
        assert len({mock, mock}) == 1
        assert repr(mock) == str(mock) == "<discarded mock 'db'>"
        assert mock
        assert isinstance(mock, kind if type(mock).__mro__[2] is kind else AsyncMock)
        assert not hasattr(mock, "__wrapped__")
        assert dir(mock) == []
        assert callable(mock)
