"""The virtual clock moves when a test advances it, or when every task is blocked."""

# A task group or cancel scope may swallow what is raised inside, for all that pyright knows.
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

import time
from functools import partial

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolation_core.errors import ConfigurationError
from isolation_core.services import VirtualClock

pytestmark = pytest.mark.anyio


async def test_sleeping_takes_no_real_time() -> None:
    """A day of virtual time passes at once; the clock starts at zero, its time at a fixed moment."""
    clock = VirtualClock()
    assert (clock.now(), clock.time()) == (0.0, 1_700_000_000.0)
    began = time.monotonic()
    await clock.sleep(86_400)
    assert time.monotonic() - began < 60
    assert clock.now() == 86_400
    assert clock.time() == 1_700_086_400.0


async def test_sleepers_wake_in_order_of_their_due_time() -> None:
    """Tasks wake in order of due time, each at its own moment."""
    clock = VirtualClock()
    woken: list[tuple[int, float]] = []

    async def sleeper(seconds: int) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.now()))

    async with anyio.create_task_group() as tasks:
        for seconds in (5, 1, 3, 9, 7):
            tasks.start_soon(sleeper, seconds)
    assert woken == [(n, float(n)) for n in (1, 3, 5, 7, 9)]


async def test_time_stands_still_while_somebody_works() -> None:
    """The clock does not jump while another task can go on."""
    clock = VirtualClock()
    seen: list[float] = []

    async def worker() -> None:
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
            seen.append(clock.now())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 10)
        tasks.start_soon(worker)
    assert set(seen) == {0.0}
    assert clock.now() == 10


async def test_several_clocks_in_one_loop_do_not_wait_for_each_other() -> None:
    """Twenty clocks, each with its own sleepers, all arrive."""
    clocks = [VirtualClock() for _ in range(20)]
    async with anyio.create_task_group() as tasks:
        for number, clock in enumerate(clocks):
            for each in range(3):
                tasks.start_soon(clock.sleep, number + each)
    assert [clock.now() for clock in clocks] == [float(number + 2) for number in range(20)]


async def test_wait_returns_what_the_condition_gives() -> None:
    """A waiter looks again after notify, and gets what its condition gave."""
    clock = VirtualClock()
    items: list[str] = []

    async def producer() -> None:
        await clock.sleep(2)
        items.append("x")
        clock.notify()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(producer)
        got = await clock.wait(lambda: items.pop() if items else None, timeout=100)
    assert got == "x"
    assert clock.now() == 2


async def test_wait_times_out_in_virtual_time() -> None:
    """A timeout is virtual; a timeout of zero looks once."""
    clock = VirtualClock()
    with pytest.raises(TimeoutError):
        await clock.wait(lambda: None, timeout=30)
    assert clock.now() == 30
    looks: list[int] = []
    with pytest.raises(TimeoutError):
        await clock.wait(lambda: looks.append(1), timeout=0)
    assert looks
    assert clock.now() == 30
    assert await clock.wait(lambda: 1, timeout=0) == 1


async def test_what_is_due_at_the_timeout_still_counts() -> None:
    """A message that arrives at the very moment of the timeout is delivered."""
    clock = VirtualClock()
    items: list[int] = []

    def arrive() -> None:
        items.append(1)
        clock.notify()

    clock.call_at(5, arrive)
    assert await clock.wait(lambda: items.pop() if items else None, timeout=5) == 1


async def test_a_cancelled_waiter_takes_nothing() -> None:
    """A cancelled wait consumes nothing and leaves the clock running for the others."""
    clock = VirtualClock()
    items: list[int] = []
    got: list[int] = []

    async def taker() -> None:
        got.append(await clock.wait(lambda: items.pop() if items else None, timeout=None))

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as inner:
                inner.start_soon(taker)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        tasks.start_soon(taker)
        await clock.sleep(1)
        assert got == []
        items.append(7)
        clock.notify()
    assert got == [7]


async def test_the_driver_may_be_cancelled() -> None:
    """When the task that would move the clock is cancelled, another one takes over."""
    clock = VirtualClock()
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as inner:
                inner.start_soon(clock.sleep, 1)
                tasks.start_soon(clock.sleep, 50)
                await anyio.lowlevel.checkpoint()
                scope.cancel()
    assert clock.now() == 50


async def test_an_untimed_wait_really_waits() -> None:
    """With nothing due a wait ends by a change or a cancellation, not by a jump."""
    clock = VirtualClock()
    with anyio.move_on_after(0.02) as scope:
        await clock.wait(lambda: None, timeout=None)
    assert scope.cancelled_caught
    assert clock.now() == 0


async def test_a_timer_wakes_an_untimed_wait() -> None:
    """A timer registered while everybody waits without a limit is jumped to."""
    clock = VirtualClock()
    done: list[float] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.wait, lambda: True if done else None)
        await anyio.wait_all_tasks_blocked()

        def ring() -> None:
            done.append(clock.now())
            clock.notify()

        clock.call_at(3, ring)
    assert done == [3.0]


async def test_without_autojump_time_passes_by_advance_only() -> None:
    """With autojump off, a sleeping task waits until the clock is advanced."""
    clock = VirtualClock(autojump=False)
    woken = anyio.Event()

    async def sleeper() -> None:
        await clock.sleep(5)
        woken.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleeper)
        await anyio.wait_all_tasks_blocked()
        clock.advance(4.9)
        await anyio.wait_all_tasks_blocked()
        assert not woken.is_set()
        clock.advance(0.1)
    assert woken.is_set()


@given(st.lists(st.floats(0, 100, allow_nan=False), max_size=20), st.floats(0, 100, allow_nan=False))
def test_advance_fires_what_is_due_in_order(due: list[float], seconds: float) -> None:
    """Whatever is due fires once, at its own moment, in order; the rest does not."""
    clock = VirtualClock()
    fired: list[tuple[float, float]] = []

    def note(when: float) -> None:
        fired.append((when, clock.now()))

    for when in due:
        clock.call_at(when, partial(note, when))
    clock.advance(seconds)
    assert fired == [(when, when) for when in sorted(due) if when <= seconds]
    assert clock.now() == seconds


def test_a_cancelled_timer_does_not_fire() -> None:
    """A timer can be cancelled, also from another timer; one that ran counts as cancelled."""
    clock = VirtualClock()
    fired: list[str] = []
    second = clock.call_at(2, lambda: fired.append("second"))
    first = clock.call_at(1, second.cancel)
    clock.advance(5)
    assert fired == []
    assert first.cancelled
    assert second.cancelled


def test_timers_may_add_timers() -> None:
    """A periodic timer fires as often as fits into an advance."""
    clock = VirtualClock()
    ticks: list[float] = []

    def tick() -> None:
        ticks.append(clock.now())
        clock.call_at(clock.now() + 1, tick)

    clock.call_at(1, tick)
    clock.advance(4.5)
    assert ticks == [1, 2, 3, 4]


def test_time_never_goes_back() -> None:
    """A negative advance is refused."""
    with pytest.raises(ConfigurationError, match="forward only"):
        VirtualClock().advance(-1)
