# Dotted names come as a dict, which no type checker can match with parameters; members that only
# show their declaration need no body; and a mock of a class has more than the class.
# mypy: disable-error-code="arg-type,attr-defined,call-arg,empty-body"
"""The traps of `unittest.mock`'s own reset and life cycle, one by one."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock, NonCallableMock, PropertyMock, call, create_autospec, patch, seal

import anyio
import anyio.lowlevel
import pytest

from isolation_core.errors import TeardownErrors
from isolation_core.mocks import (
    MockRegistry,
    clear,
    deep_cleanup,
    discard,
    isolated_mock,
    reset,
    restore,
    set_baseline,
)

LEVELS = pytest.mark.parametrize("level", [clear, reset, restore])


@pytest.fixture
def registry() -> Iterator[MockRegistry]:
    """Provide a registry."""
    with MockRegistry("this test") as registry:
        yield registry


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Keep the collector out, so that only reference counts free objects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def swallows(mock: Any) -> bool:
    """Return whether ``async with mock`` hides an exception."""
    try:
        async with mock:
            os.environ["NOT THERE"]
    except KeyError:
        return False
    return True


def run(coroutine: Any) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine waits for something")


# -- reset and configuration -------------------------------------------------------


def test_an_exception_gets_through_async_with_after_reset_mock_with_return_value(registry: MockRegistry) -> None:
    """``__aexit__`` stays falsy after ``reset_mock(return_value=True, side_effect=True)``, also once it was used."""
    mock = registry.create()
    assert not run(swallows(mock))
    mock.reset_mock(return_value=True, side_effect=True)
    assert not run(swallows(mock))
    mock.reset_mock(return_value=True)
    assert not run(swallows(mock))


def test_an_exception_gets_through_sync_with_after_reset_mock_with_return_value(registry: MockRegistry) -> None:
    """``__exit__`` stays falsy after ``reset_mock(return_value=True)``."""
    mock = registry.create()
    for _ in range(2):
        with pytest.raises(KeyError), mock:
            raise KeyError
        mock.reset_mock(return_value=True)


@LEVELS
def test_an_exception_gets_through_async_with_after_every_level(registry: MockRegistry, level: Any) -> None:
    """No level makes ``async with`` swallow exceptions, used before or not."""
    mock = registry.create()
    level(mock)
    assert not run(swallows(mock))
    level(mock)
    assert not run(swallows(mock))
    mock.reset_mock(return_value=True)
    level(mock)
    assert not run(swallows(mock))


@LEVELS
@pytest.mark.parametrize("kind", [AsyncMock, MagicMock])
def test_an_exception_gets_through_a_plain_mock_after_every_level(level: Any, kind: type[Mock]) -> None:
    """Deep cleanup of a standard library mock keeps ``async with`` honest, where its own reset does not."""
    mock = kind()
    assert not run(swallows(mock))
    if level is not restore:
        set_baseline(mock)
    level(mock)
    assert not run(swallows(mock))


def test_reset_mock_copes_with_an_autospecced_function_among_the_children(registry: MockRegistry) -> None:
    """``parent.reset_mock()`` clears an autospecced child function instead of raising TypeError."""

    def function(a: int) -> int:
        return a

    mock = registry.create()
    mock.function = create_autospec(function)
    mock.function(1)
    mock.reset_mock(return_value=True, side_effect=True)
    assert mock.function.call_count == 0
    mock.function(2)
    for level in (clear, reset, restore):
        level(mock)


def test_an_autospecced_function_itself_can_be_cleaned() -> None:
    """Every level takes the function ``create_autospec`` returns; its own ``reset_mock(return_value=True)`` raises."""

    async def function(a: int) -> int:
        return a

    spec = create_autospec(function, return_value=3)
    assert asyncio.run(spec(1)) == 3
    with pytest.raises(TypeError):
        spec.reset_mock(return_value=True)
    clear(spec)
    assert (spec.call_count, spec.await_count, spec.mock_calls) == (0, 0, [])
    assert asyncio.run(spec(1)) == 3
    restore(spec)
    assert asyncio.run(spec(1)) != 3


def test_a_users_subclass_resets_in_its_own_way() -> None:
    """An overridden ``reset_mock`` below a light mock is called, and its own reset works."""

    class Counting(AsyncMock):
        resets = 0

        def reset_mock(self, *args: object, **kwargs: object) -> None:
            type(self).__mro__[1].resets += 1
            super().reset_mock(*args, **kwargs)

    mock = isolated_mock()
    mock.child = Counting()
    run(mock.child(1))
    mock.reset_mock()
    assert (mock.child.call_count, Counting.resets) == (0, 1)


def test_flags_of_reset_mock_reach_mocks_below_a_kept_return_value(registry: MockRegistry) -> None:
    """``reset_mock(side_effect=True)`` drops side effects below ``return_value`` too."""
    mock = registry.create()
    mock.return_value.x.side_effect = ValueError
    mock.reset_mock(side_effect=True)
    assert mock.return_value.x.side_effect is None


def test_a_half_used_or_exhausted_side_effect_starts_over(registry: MockRegistry) -> None:
    """``clear`` and ``reset`` rewind a list of results, where ``reset_mock`` goes on in its middle."""
    mock = registry.create(side_effect=[1, 2])
    assert run(mock()) == 1
    reset(mock)
    assert [run(mock()), run(mock())] == [1, 2]
    with pytest.raises(StopAsyncIteration):
        run(mock())
    reset(mock)
    assert run(mock()) == 1


def test_a_generator_as_side_effect_starts_over() -> None:
    """Even an iterator that cannot be rewound gives its results again after ``clear`` and ``reset``."""
    mock = isolated_mock(side_effect=(n * n for n in range(4)))
    assert [run(mock()), run(mock())] == [0, 1]
    for level in (clear, reset, clear):
        level(mock)
        assert [run(mock()) for _ in range(3)] == [0, 1, 4]
    clear(mock)
    assert [run(mock()) for _ in range(4)] == [0, 1, 4, 9]


def test_a_list_the_test_appends_to_does_not_change_the_baseline() -> None:
    """``reset`` goes back to the list as it was, not as it became."""
    results = [1]
    mock = isolated_mock(side_effect=results)
    results.append(2)
    reset(mock)
    assert run(mock()) == 1
    with pytest.raises(StopAsyncIteration):
        run(mock())


def test_an_exception_instance_does_not_collect_tracebacks(registry: MockRegistry) -> None:
    """The same instance is raised each time, and ``clear`` frees the frames it holds."""
    error = ValueError("boom")
    mock = registry.create(side_effect=error)
    lengths = []
    for _ in range(3):
        with pytest.raises(ValueError, match="boom") as caught:
            run(mock())
        assert caught.value is error
        length, tb = 0, error.__traceback__
        while tb is not None:
            length, tb = length + 1, tb.tb_next
        lengths.append(length)
    if type(mock).__name__ == "IsolatedMock":
        assert len(set(lengths)) == 1
    clear(mock)
    assert error.__traceback__ is None


def test_exceptions_in_a_list_of_results_let_go_of_their_frames() -> None:
    """``clear`` also frees what exceptions inside a side effect list hold."""
    error = ValueError("boom")
    mock = isolated_mock(side_effect=[1, error])
    run(mock())
    with pytest.raises(ValueError, match="boom"):
        run(mock())
    clear(mock)
    assert error.__traceback__ is None


def test_reset_empties_the_child_table_but_keeps_baseline_children(registry: MockRegistry) -> None:
    """Children of the baseline keep their identity, those made later are gone."""
    stubs: dict[str, Any] = {"known.return_value": 1}
    mock = registry.create(**stubs)
    known, new = mock.known, mock.new
    new.return_value = 2
    reset(mock)
    assert mock.known is known
    assert mock.new is not new
    assert run(mock.known()) == 1


def test_deleted_attributes_come_back(registry: MockRegistry) -> None:
    """``reset`` and ``restore`` undo ``del mock.attribute``, which ``reset_mock`` never does."""
    stubs: dict[str, Any] = {"a.return_value": 1}
    mock = registry.create(**stubs)
    a = mock.a
    for level in (reset, restore):
        del mock.a
        del mock.b
        assert not hasattr(mock, "a")
        level(mock)
        assert hasattr(mock, "b")
        assert (mock.a is a) is (level is reset)


def test_plain_attributes_not_in_the_baseline_go(registry: MockRegistry) -> None:
    """``mock.url = ...`` survives ``reset_mock``; ``reset`` brings back the baseline's value or nothing."""
    mock = registry.create(url="http://a")
    mock.url, mock.token = "http://b", "secret"
    mock.reset_mock()
    assert mock.token == "secret"
    reset(mock)
    assert mock.url == "http://a"
    assert isinstance(mock.token, Mock)
    restore(mock)
    assert isinstance(mock.url, Mock)


def test_magic_methods_set_as_functions_go(registry: MockRegistry) -> None:
    """``mock.__len__ = f`` lives on the class in the standard library; only the level ``clear`` keeps it."""
    mock = registry.create()
    for level in (reset, restore):
        mock.__len__ = lambda _self: 5
        assert len(mock) == 5
        clear(mock)
        assert len(mock) == 5
        level(mock)
        assert len(mock) == 0


def test_magic_methods_of_the_baseline_come_back(registry: MockRegistry) -> None:
    """The configuration of a magic method by a builder survives ``reset``, that by a test does not."""
    stubs: dict[str, Any] = {"__aenter__.return_value": "conn"}
    mock = registry.create(**stubs)

    async def enter() -> object:
        async with mock as value:
            return value

    assert run(enter()) == "conn"
    mock.__aenter__.return_value = "other"
    reset(mock)
    assert run(enter()) == "conn"


def test_properties_of_an_own_class_go_with_reset() -> None:
    """``type(mock).p = PropertyMock()`` does not outlive ``reset``; that of the baseline does."""
    mock = isolated_mock(own_class=True)
    type(mock).kept = PropertyMock(return_value=1)
    set_baseline(mock)
    type(mock).added = PropertyMock(return_value=2)
    assert (mock.kept, mock.added) == (1, 2)
    reset(mock)
    assert mock.kept == 1
    assert mock.added != 2


def test_a_plain_mocks_property_is_reset_and_removed() -> None:
    """The counters of a PropertyMock are cleared, and ``restore`` removes it from the class."""
    mock = MagicMock()
    type(mock).p = prop = PropertyMock(return_value=1)
    assert mock.p == 1
    deep_cleanup(mock, level="clear")
    assert prop.call_count == 0
    deep_cleanup(mock)
    assert mock.p != 1


def test_a_seal_does_not_outlive_reset(registry: MockRegistry) -> None:
    """``seal`` is configuration: it goes back to the baseline."""
    mock = registry.create()
    seal(mock)
    with pytest.raises(AttributeError):
        _ = mock.anything
    reset(mock)
    assert isinstance(mock.anything, AsyncMock)


def test_wrapped_objects_are_let_go(registry: MockRegistry, no_collector: None) -> None:
    """``restore`` drops ``wraps``, which would keep the real client and its sockets."""

    class Client:
        def ping(self) -> str:
            return "pong"

    client = Client()
    mock = registry.create(wraps=client)
    assert run(mock.ping()) == "pong"
    gone = weakref.ref(client)
    restore(mock)
    del client
    assert gone() is None


def test_call_arguments_are_let_go(registry: MockRegistry, no_collector: None) -> None:
    """``clear`` frees the payloads that recorded calls pin."""

    class Payload:
        pass

    payload = Payload()
    mock = registry.create()
    run(mock.send(payload, extra=payload))
    gone = weakref.ref(payload)
    del payload
    clear(mock)
    assert gone() is None


# -- parents and children ----------------------------------------------------------


def test_clearing_a_child_takes_its_calls_out_of_the_parents_record() -> None:
    """``clear(parent.child)`` leaves no trace in ``parent.mock_calls``; siblings stay."""
    mock = isolated_mock()
    run(mock.a())
    run(mock.b(1))
    run(mock.a.deep())
    clear(mock.a)
    assert mock.mock_calls == [call.b(1)]
    assert mock.method_calls == [call.b(1)]


@pytest.mark.parametrize("remove", ["delete", "replace"])
def test_a_removed_child_reports_to_its_old_parent_no_longer(remove: str) -> None:
    """After ``del mock.a`` or ``mock.a = other`` the former child is on its own."""
    mock = isolated_mock()
    child = mock.a
    if remove == "delete":
        del mock.a
    else:
        mock.a = 1
    run(child())
    assert mock.mock_calls == []


def test_children_dropped_by_reset_report_no_longer(registry: MockRegistry) -> None:
    """A child made before ``reset`` does not write into the fresh record."""
    mock = registry.create()
    child = mock.a
    reset(mock)
    run(child())
    assert mock.mock_calls == []


@LEVELS
def test_an_attached_mock_keeps_its_state_when_its_new_parent_is_cleaned(level: Any) -> None:
    """``attach_mock`` shares a mock for ordering; cleaning the manager leaves the mock alone."""
    manager, db = isolated_mock(), isolated_mock(name="db", return_value=7)
    manager.attach_mock(db, "db")
    run(db("x"))
    assert manager.mock_calls == [call.db("x")]
    level(manager)
    assert manager.mock_calls == []
    assert db.await_count == 1
    assert run(db()) == 7


def test_discarding_a_manager_leaves_attached_mocks_usable() -> None:
    """``discard`` poisons what is the manager's own only."""
    manager, db = isolated_mock(), isolated_mock(return_value=7)
    manager.attach_mock(db, "db")
    discard(manager)
    assert run(db()) == 7
    assert db._mock_new_parent is None


def test_order_across_mocks_is_kept_in_the_manager() -> None:
    """``mock_calls`` of a manager has the order over all attached mocks, light and plain."""
    manager, db, plain = isolated_mock(), isolated_mock(), AsyncMock()
    manager.attach_mock(db, "db")
    manager.attach_mock(plain, "bus")
    run(db.begin())
    run(plain.publish("x"))
    run(db.commit())
    assert manager.mock_calls == [call.db.begin(), call.bus.publish("x"), call.db.commit()]
    outer = MagicMock()
    outer.attach_mock(manager, "m")
    run(db.commit())
    assert outer.mock_calls == [call.m.db.commit()]
    assert outer.method_calls == [call.m.db.commit()]


# -- patches -------------------------------------------------------------------------


class Target:
    a = 1
    b = 2
    c = 3


def test_every_patch_is_stopped_although_one_fails() -> None:
    """One failing ``stop`` leaves no other patch in place, unlike ``patch.stopall``."""
    registry = MockRegistry("this test")
    registry.start_patch(patch.object(Target, "a", 10))
    broken = patch.object(Target, "b", 20)
    registry.start_patch(broken)
    registry.start_patch(patch.object(Target, "c", 30))
    stop = broken.stop
    setattr(broken, "stop", lambda: 1 / 0)
    with pytest.raises(TeardownErrors) as caught:
        registry.close()
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
    assert (Target.a, Target.c) == (1, 3)
    stop()
    assert Target.b == 2


def test_starting_and_stopping_twice_is_harmless() -> None:
    """A patch started twice by the registry keeps the true original; one stopped by hand is not stopped again."""
    registry = MockRegistry("this test")
    patcher = patch.object(Target, "a", 10)
    assert registry.start_patch(patcher) == registry.start_patch(patcher) == 10
    patcher.stop()
    assert Target.a == 1
    registry.close()
    assert Target.a == 1


def test_only_the_registrys_own_patches_are_stopped() -> None:
    """A patch that was started elsewhere survives ``restore`` and ``close``."""
    foreign = patch.object(Target, "b", 20)
    foreign.start()
    registry = MockRegistry("this test")
    registry.start_patch(patch.object(Target, "a", 10))
    registry.start_patch(patch.dict("os.environ", ISOLATION_TRAP="1"))
    registry.restore()
    assert (Target.a, Target.b) == (1, 20)
    registry.close()
    assert Target.b == 20
    foreign.stop()


def test_deep_cleanup_stops_a_patcher() -> None:
    """A patcher is something `unittest.mock` makes too."""
    patcher = patch.object(Target, "a", 10)
    patcher.start()
    deep_cleanup(patcher)
    assert Target.a == 1
    deep_cleanup(patcher)


# -- counting --------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 2])
def test_no_call_is_lost_under_threads(depth: int) -> None:
    """80,000 calls from eight threads are 80,000 calls, here and in every ancestor."""
    root = isolated_mock()
    mock = root.a.b if depth else root
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for _ in range(10_000):
            run(mock(1))

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work) for _ in range(8)]:
            future.result()
    assert (mock.call_count, mock.await_count, len(mock.call_args_list)) == (80_000, 80_000, 80_000)
    assert len(root.mock_calls) == 80_000


def test_a_child_is_made_once_under_threads() -> None:
    """Eight threads that touch the same new attribute get the same child."""
    for _ in range(50):
        mock = isolated_mock()
        barrier = threading.Barrier(8)

        def touch(mock: Any = mock, barrier: threading.Barrier = barrier) -> int:
            barrier.wait()
            return id(mock.child)

        with ThreadPoolExecutor(8) as pool:
            assert len({future.result() for future in [pool.submit(touch) for _ in range(8)]}) == 1


def test_cleaning_does_not_rely_on_assigning_counters(registry: MockRegistry) -> None:
    """The lists themselves are emptied, so counts derived from them are zero on every version."""
    mock = registry.create()
    run(mock(1))
    run(mock.child(2))
    clear(mock)
    assert (mock.call_count, mock.await_count, mock.called) == (0, 0, False)
    assert mock.call_args is mock.await_args is None
    assert mock.call_args_list == mock.await_args_list == mock.mock_calls == mock.method_calls == []
    assert mock.child.call_count == 0


def test_assigning_counters_works_as_it_always_did() -> None:
    """``mock.call_count = 0`` shifts the count; later calls go on from there."""
    mock = isolated_mock()
    run(mock())
    mock.call_count = 0
    mock.await_count = 5
    mock.called = False
    assert (mock.call_count, mock.await_count, mock.called) == (0, 5, False)
    run(mock())
    assert (mock.call_count, mock.await_count, mock.called) == (1, 6, True)


async def fails_or_hangs(how: str) -> None:
    """Raise, or wait until cancelled."""
    if how == "fail":
        raise ZeroDivisionError
    await asyncio.Event().wait()


def test_an_await_counts_when_it_begins(registry: MockRegistry) -> None:
    """``await_count`` is 1 after the await raised and after it was cancelled: the standard library's meaning."""
    mock = registry.create(side_effect=fails_or_hangs)

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await mock("fail")
        assert mock.await_count == 1
        task = asyncio.create_task(mock("hang"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert mock.await_count == 2
        first, second = mock("fail"), mock("fail")
        for coroutine in (second, first):
            with pytest.raises(ZeroDivisionError):
                await coroutine
        assert (mock.call_count, mock.await_count) == (4, 4)

    asyncio.run(main())


def test_call_order_and_await_order_are_told_apart() -> None:
    """``call_args_list`` is in order of calls, ``await_args_list`` in order of awaits."""
    mock = isolated_mock()
    first, second = mock(1), mock(2)
    run(second)
    run(first)
    assert mock.call_args_list == [call(1), call(2)]
    assert mock.await_args_list == [call(2), call(1)]


@pytest.mark.anyio
async def test_a_thousand_tasks_on_one_mock_are_counted_exactly() -> None:
    """1,000 concurrent tasks: every call and every await is there, with its own arguments."""

    async def slow(n: int) -> int:
        await anyio.lowlevel.checkpoint()
        return n

    mock = isolated_mock(side_effect=slow)
    results: list[int] = []

    async def one(n: int) -> None:
        results.append(await mock.service(n) if n % 2 else await mock(n))

    mock.service.side_effect = slow
    async with anyio.create_task_group() as group:
        for n in range(1000):
            group.start_soon(one, n)
    assert sorted(results) == list(range(1000))
    assert (mock.await_count, mock.service.await_count) == (500, 500)
    assert len(mock.mock_calls) == 1000
    assert {record.args[0] for record in mock.service.await_args_list} == set(range(1, 1000, 2))


# -- versions --------------------------------------------------------------------------


def test_a_verified_function_records_its_call_at_the_call_on_every_version() -> None:
    """Since 3.13 autospec records only at the await; here a call is a call."""

    async def function(a: int) -> int:
        return a

    mock = isolated_mock(function)
    coroutine = mock(1)
    assert (mock.call_count, mock.await_count) == (1, 0)
    run(coroutine)
    assert mock.await_count == 1


# -- life and death ----------------------------------------------------------------------


def test_an_unused_or_used_mock_dies_with_its_last_reference(no_collector: None) -> None:
    """No cycle keeps a mock alive that has no mocks below it, called or not."""
    mock = isolated_mock(name="m", return_value=None)
    run(mock(1))
    gone = weakref.ref(mock)
    del mock
    assert gone() is None


def test_a_discarded_tree_dies_with_its_last_reference(registry: MockRegistry, no_collector: None) -> None:
    """Children, return values, magic methods and records notwithstanding."""
    mock = registry.create()
    run(mock.a.b(1))
    mock.a.return_value.c.side_effect = [1]
    run(mock.a())
    len(mock)
    run(swallows(mock))
    gone = [weakref.ref(node) for node in (mock, mock.a, mock.a.b, mock.a.return_value, mock.__aenter__)]
    discard(mock)
    assert all(ref() is None for ref in gone[1:])
    del mock
    assert gone[0]() is None


@pytest.mark.parametrize("kind", [Mock, MagicMock, AsyncMock, NonCallableMock])
def test_a_plain_mock_dies_after_deep_cleanup(kind: type[Mock], no_collector: None) -> None:
    """The placeholders of magic methods alone keep every MagicMock from dying; cutting them frees it."""
    mock = kind()
    _ = mock.a.b
    gone = weakref.ref(mock), weakref.ref(mock.a)
    deep_cleanup(mock, level="discard")
    assert gone[1]() is None
    del mock
    assert gone[0]() is None


def test_a_plain_mock_dies_after_restore_too_and_still_works(no_collector: None) -> None:
    """``restore`` leaves a usable mock that no cycle keeps alive."""
    mock = MagicMock()
    mock.a.return_value = 1
    deep_cleanup(mock)
    gone = weakref.ref(mock)
    del mock
    assert gone() is None
    mock = MagicMock()
    deep_cleanup(mock)
    assert len(mock) == 0
    with mock:
        pass
    assert mock.a() is mock.a.return_value


def test_ten_thousand_discarded_mocks_leave_nothing_to_collect(no_collector: None) -> None:
    """The collector finds no object of a discarded mock that was used and had children."""
    with MockRegistry("this test") as registry:
        stubs: dict[str, Any] = {"get.return_value": 1}

        def use_up(count: int) -> None:
            for _ in range(count):
                mock = registry.create(**stubs)
                run(mock.get("k"))
                discard(mock)

        use_up(1000)
        gc.collect()
        use_up(10_000)
        assert gc.collect() == 0


def test_cleaning_measures_nothing_with_getsizeof() -> None:
    """``sys.getsizeof`` calls mocks and makes them grow; ours answer with the real size and record nothing."""
    import sys

    mock = isolated_mock()
    assert sys.getsizeof(mock) > 0
    assert mock.mock_calls == []


def test_a_mock_in_a_registry_is_referenced_weakly(registry: MockRegistry, no_collector: None) -> None:
    """The registry keeps no mock alive, whatever else it knows of it."""
    mock = registry.create(name="m", on_cleanup=lambda: None)
    gone = weakref.ref(mock)
    if type(mock).__name__ != "IsolatedMock":
        deep_cleanup(mock)  # a plain mock is a cycle until its placeholders are cut
    del mock
    assert gone() is None
    assert len(registry) == 0


def test_forgotten_coroutines_do_not_warn_in_another_test() -> None:
    """A coroutine that was never awaited is closed at the end, so that no RuntimeWarning comes later."""
    registry = MockRegistry("this test")
    mock = registry.create(name="db")
    forgotten = [mock.get(1), mock.get(2)]
    (leak,) = registry.close()
    assert (leak.kind, leak.path, leak.owner, leak.severity) == ("coroutine", "db.get()", "this test", "leak")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forgotten.clear()


def test_a_forgotten_coroutine_that_warned_at_once_is_a_note() -> None:
    """A coroutine that was dropped at once has warned at once; it is reported, but not as a leak."""
    registry = MockRegistry("this test")
    mock = registry.create(name="db")
    with pytest.warns(RuntimeWarning, match="never awaited"):
        mock.get(1)
    run(mock.get(2))
    clear(mock)
    (leak,) = registry.close()
    assert (leak.path, leak.severity) == ("db.get()", "note")
    assert leak.reason == "1 call was never awaited"


def test_a_coroutine_made_before_clear_is_still_closed() -> None:
    """Forgetting the calls does not forget coroutines that are still referenced."""
    registry = MockRegistry("this test")
    mock = registry.create(name="db")
    held = mock.get(1)
    registry.clear()
    (leak,) = registry.close()
    assert (leak.path, leak.severity) == ("db.get()", "leak")
    del held
