"""The time of the doubles: real by default, and on request the event loop's own clock made virtual."""

# A task group or cancel scope may swallow what is raised inside, for all that pyright knows.
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from isolation_core.errors import ConfigurationError
from isolation_core.services import Clock, MockContext, VirtualClock

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True
TRIO = {"clock": MockClock(autojump_threshold=0)}


def run(function: Any, backend: str) -> Any:
    """Run *function* on a loop that can have virtual time."""
    return anyio.run(function, backend=backend, backend_options=TRIO if backend == "trio" else {})


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_time_is_real_unless_asked_for(backend: str) -> None:
    """A context without virtual time has the real time, and its timers are timers of the running loop."""

    async def main() -> None:
        async with MockContext("real") as context:
            clock = context.clock
            assert not clock.is_virtual
            assert abs(clock.time() - time.time()) < 5
            rung: list[float] = []
            clock.call_at(0.02, lambda: rung.append(clock.now()))
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                await clock.wait(lambda: None, timeout=0.04)
            assert time.monotonic() - began > 0.03
            assert len(rung) == 1

    anyio.run(main, backend=backend)


async def test_real_time_cannot_be_advanced() -> None:
    """Advancing a real clock is an error that says how to ask for virtual time."""
    with pytest.raises(ConfigurationError, match="virtual_time=True"):
        Clock().advance(1)


async def test_sleeps_of_the_code_under_test_are_virtual() -> None:
    """An hour of sleeping passes at once, on the loop's own clock, and the date moves with it."""
    began = time.monotonic()
    async with MockContext("x", virtual_time=datetime(2030, 1, 1, tzinfo=UTC)) as context:
        before = anyio.current_time()
        await anyio.sleep(3600)
        assert anyio.current_time() - before == pytest.approx(3600)
        assert context.clock.now() == 3600
        assert context.clock.time() == datetime(2030, 1, 1, 1, tzinfo=UTC).timestamp()
    assert time.monotonic() - began < 60


async def test_timeouts_and_timers_move_together() -> None:
    """Timers of doubles and timeouts of the code under test happen in order of their due time."""
    seen: list[tuple[str, float]] = []
    async with MockContext("x", virtual_time=True) as context:
        clock = context.clock
        clock.call_at(2, lambda: seen.append(("timer", clock.now())))
        with anyio.move_on_after(1):
            await anyio.sleep(5)
        seen.append(("timeout", clock.now()))
        with pytest.raises(TimeoutError):
            await clock.wait(lambda: None, timeout=3)
        seen.append(("wait", clock.now()))
    assert seen == [("timeout", 1), ("timer", 2), ("wait", 4)]


async def test_sleepers_wake_in_order_of_their_due_time() -> None:
    """Tasks wake in order of due time, each at its own moment."""
    woken: list[tuple[int, float]] = []
    async with MockContext("x", virtual_time=True) as context:

        async def sleeper(seconds: int) -> None:
            await anyio.sleep(seconds)
            woken.append((seconds, context.clock.now()))

        async with anyio.create_task_group() as tasks:
            for seconds in (5, 1, 3, 9, 7):
                tasks.start_soon(sleeper, seconds)
    assert woken == [(n, float(n)) for n in (1, 3, 5, 7, 9)]


async def test_time_stands_still_while_a_task_works() -> None:
    """The clock does not jump while another task can go on."""
    seen: set[float] = set()
    async with MockContext("x", virtual_time=True) as context:

        async def worker() -> None:
            for _ in range(50):
                await anyio.lowlevel.checkpoint()
                seen.add(context.clock.now())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 10)
            tasks.start_soon(worker)
        assert context.clock.now() == 10
    assert seen == {0.0}


async def test_jobs_in_threads_are_waited_for() -> None:
    """A timeout longer than a job in a thread does not fire, however long the next timer is."""
    async with MockContext("x", virtual_time=True) as context:
        with anyio.move_on_after(30) as scope:
            await anyio.to_thread.run_sync(time.sleep, 0.05)
        assert not scope.cancelled_caught
        assert context.clock.now() < 30


async def test_a_timeout_fires_while_a_job_hangs() -> None:
    """Time passes as usual while a job is running, so that a timeout around it still fires."""
    release = threading.Event()
    async with MockContext("x", virtual_time=True):
        with anyio.move_on_after(0.05) as scope:
            await anyio.to_thread.run_sync(release.wait, 20, abandon_on_cancel=True)
        release.set()
    assert scope.cancelled_caught


def test_requests_to_other_processes_are_waited_for() -> None:
    """A request without an answer holds the time; connections that only stay open do not."""
    code = (
        "import socket, time\n"
        "s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
        "idle, _ = s.accept(); c, _ = s.accept()\n"
        "while c.recv(10): time.sleep(0.1); c.sendall(b'answer')\n"
    )

    async def main() -> None:
        server = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        assert server.stdout is not None
        port = int(await server.stdout.readline())
        async with MockContext("x", virtual_time=True) as context:
            _, pooled = await asyncio.open_connection("127.0.0.1", port)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(3):
                writer.write(b"ask")
                assert await asyncio.wait_for(reader.read(10), 5) == b"answer"
            assert context.clock.now() < 5
            await asyncio.sleep(1000)
            assert context.clock.now() >= 1000
            writer.close()
            pooled.close()
        await server.wait()

    asyncio.run(main())


def test_a_server_in_the_same_loop_does_not_hold_the_time() -> None:
    """A handler that sleeps in the loop of its client sleeps virtually."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        await asyncio.sleep(600)
        writer.write(b"late")
        writer.close()

    async def main() -> None:
        began = time.monotonic()
        async with MockContext("x", virtual_time=True) as context:
            server = await asyncio.start_server(handle, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"ask")
            assert await asyncio.wait_for(reader.read(10), 1000) == b"late"
            assert context.clock.now() >= 600
            writer.close()
            server.close()
        assert time.monotonic() - began < 60

    asyncio.run(main())


def test_a_child_process_is_waited_for() -> None:
    """A timeout longer than the life of a child does not fire."""

    async def main() -> None:
        async with MockContext("x", virtual_time=True):
            child = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(0.05)")
            assert await asyncio.wait_for(child.wait(), 60) == 0

    asyncio.run(main())


def test_sockets_without_transport_are_waited_for() -> None:
    """The socket functions of the loop hold the time while an answer is awaited."""
    mine, other = socket.socketpair()
    mine.setblocking(False)

    def answer() -> None:
        other.recv(10)
        time.sleep(0.05)
        other.sendall(b"answer")

    async def main() -> None:
        async with MockContext("x", virtual_time=True):
            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(mine, b"ask")
            assert await asyncio.wait_for(loop.sock_recv(mine, 10), 30) == b"answer"

    with mine, other:
        asyncio.run(main())


def test_the_loop_goes_on_in_real_time_afterwards() -> None:
    """After the context the loop's clock runs in real time, and has not gone back."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        selector = loop._selector  # type: ignore[attr-defined]
        async with MockContext("x", virtual_time=True):
            await asyncio.sleep(1000)
            late = loop.time()
        assert loop._selector is selector  # type: ignore[attr-defined]
        assert late <= loop.time() < late + 60
        began = time.monotonic()
        await asyncio.sleep(0.02)
        assert time.monotonic() - began > 0.01

    asyncio.run(main())


def test_a_loop_without_a_clock_of_its_own_is_refused() -> None:
    """Virtual time on another kind of loop is an error with the way out."""

    async def main() -> None:
        with pytest.raises(ConfigurationError, match="does not allow that; run this test on asyncio's own"):
            async with MockContext("x", virtual_time=True):
                raise AssertionError

    class Other(asyncio.SelectorEventLoop):
        def __init__(self) -> None:
            super().__init__()
            self._hidden = self._selector

        def __getattribute__(self, name: str) -> Any:
            # Like uvloop, which has no selector.
            if name == "_selector" and sys._getframe(1).f_code.co_name == "loop_time":
                raise AttributeError(name)
            return super().__getattribute__(name)

    with asyncio.Runner(loop_factory=Other) as runner:
        runner.run(main())


def test_trio_without_its_mock_clock_is_refused() -> None:
    """Virtual time on trio with its real clock is an error with the way out."""

    async def main() -> None:
        with pytest.raises(ConfigurationError, match="MockClock"):
            async with MockContext("x", virtual_time=True):
                raise AssertionError

    anyio.run(main, backend="trio")


async def test_several_contexts_in_one_loop() -> None:
    """Contexts that share a loop share its time, each from its own beginning."""
    async with MockContext("one", virtual_time=True) as one:
        await anyio.sleep(5)
        async with MockContext("two", virtual_time=True) as two:
            await anyio.sleep(10)
            assert (one.clock.now(), two.clock.now()) == (15, 10)
        await anyio.sleep(1)
        assert one.clock.now() == 16


def test_one_clock_in_several_loops() -> None:
    """Timers set in plain code or in a loop that is over run in the next loop; time does not pass in between."""
    with MockContext("x", virtual_time=True) as context:
        clock = context.clock
        rung: list[float] = []
        clock.call_at(3, lambda: rung.append(clock.now()))
        asyncio.run(clock.sleep(2))
        assert clock.now() == 2
        run(partial(clock.sleep, 2), "trio")
        assert (clock.now(), rung) == (4, [3])
        clock.advance(1)
        assert clock.now() == 5


def test_real_timers_that_are_due_run_at_the_next_use() -> None:
    """A timer of plain code runs when the clock is used after its due time."""
    clock = Clock()
    rung: list[int] = []
    clock.call_at(0.001, lambda: rung.append(1))
    time.sleep(0.01)
    clock.notify()
    assert rung == [1]


async def test_wait_returns_what_the_condition_gives() -> None:
    """A waiter checks again after notify, and gets what its condition gave."""
    async with MockContext("x", virtual_time=True) as context:
        clock = context.clock
        items: list[str] = []

        async def producer() -> None:
            await anyio.sleep(2)
            items.append("x")
            clock.notify()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(producer)
            got = await clock.wait(lambda: items.pop() if items else None, timeout=100)
        assert got == "x"
        assert clock.now() == 2


async def test_what_is_due_at_the_timeout_still_counts() -> None:
    """A message that arrives at the very moment of the timeout is delivered."""
    async with MockContext("x", virtual_time=True) as context:
        clock = context.clock
        items: list[int] = []

        def arrive() -> None:
            items.append(1)
            clock.notify()

        clock.call_at(5, arrive)
        assert await clock.wait(lambda: items.pop() if items else None, timeout=5) == 1


async def test_a_cancelled_waiter_takes_nothing() -> None:
    """A cancelled wait consumes nothing and leaves the clock running for the others."""
    async with MockContext("x", virtual_time=True) as context:
        clock = context.clock
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


def test_a_start_needs_a_time_zone() -> None:
    """A date without a time zone is refused."""
    with pytest.raises(ConfigurationError, match="time zone"):
        VirtualClock(start=datetime(2030, 1, 1))  # noqa: DTZ001


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
