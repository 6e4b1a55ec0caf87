"""The time of the doubles: that of the running event loop, real by default and virtual on request."""

from __future__ import annotations

import asyncio
import heapq
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import copy_context
from datetime import datetime
from itertools import count
from typing import Any, ClassVar, Final, TypeVar

import anyio
import anyio.lowlevel

from isolation_core._drive import spawn
from isolation_core.errors import ConfigurationError
from isolation_core.services._loop_time import LoopTime, loop_time, running_place

__all__ = ["Clock", "TimerHandle", "VirtualClock"]

T = TypeVar("T")

_NAME: Final = "timers of service doubles"
_DIGITS: Final = 6
"""Virtual time is told in microseconds: on the scale of a loop, sums of seconds are not exact."""


class TimerHandle:
    """A callback that is due at a moment of a clock."""

    __slots__ = ("_callback", "when")

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self._callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Never run the callback; does nothing once it has run."""
        self._callback = None

    @property
    def cancelled(self) -> bool:
        """Whether it is not going to run any more: cancelled, or run already."""
        return self._callback is None

    def _fire(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Clock:
    """Real time: `now` follows the running event loop, and timers are timers of that loop.

    A clock belongs to no loop and may be made without one. A timer that becomes due
    while no loop runs is run by the next use of the clock. It is not meant to be
    shared between threads.

    Args:
        start: the first value of `time`, a date or seconds since the epoch; by default the present.
    """

    is_virtual: ClassVar[bool] = False

    def __init__(self, *, start: datetime | float | None = None) -> None:
        if isinstance(start, datetime) and start.tzinfo is None:
            raise ConfigurationError(
                f"start={start!r} has no time zone: give one, such as datetime(2030, 1, 1, tzinfo=UTC)",
                name="start",
                value=start,
            )
        self._date = start.timestamp() if isinstance(start, datetime) else start
        self._start = time.time() if self._date is None else self._date
        self._place, self._then = running_place()
        self._since = time.monotonic()
        self._base = 0.0  # what `now` was at `_then`
        self._heap: list[tuple[float, int, TimerHandle]] = []
        self._sequence = count()
        self._parked: dict[anyio.Event, None] = {}
        self._armed: _Alarm | None = None
        self._users = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.now():g} s, {len(self._parked)} waiting>"

    def now(self) -> float:
        """Return the seconds since the clock was made, by the time of the running event loop."""
        place, moment = running_place()
        if place is not self._place:
            self._move(place, moment)
        return self._base + (moment - self._then)

    def _move(self, place: object, moment: float) -> None:
        """Go on from the same moment in another event loop."""
        monotonic = time.monotonic()
        self._base = max(self._base, self._base + self._elapsed(monotonic))
        self._place, self._then, self._since = place, moment, monotonic

    def _elapsed(self, monotonic: float) -> float:
        return monotonic - self._since

    def time(self) -> float:
        """Return the seconds since the epoch."""
        return time.time() if self._date is None else self._start + self.now()

    @property
    def start(self) -> float:
        """The value of `time` when the clock was made."""
        return self._start

    def hold(self) -> AbstractContextManager[None]:
        """Say that something outside of the event loop is awaited: virtual time does not jump meanwhile."""
        return nullcontext()

    # -- timers ------------------------------------------------------------------

    def call_at(self, when: float, callback: Callable[[], object]) -> TimerHandle:
        """Run *callback* at *when*; callbacks of one moment run in order of registration.

        Args:
            when: seconds on the scale of `now`. A past moment runs as soon as the loop does.
            callback: called without arguments, by the event loop.

        Returns:
            A handle to cancel it by.
        """
        handle = TimerHandle(when, callback)
        heapq.heappush(self._heap, (when, next(self._sequence), handle))
        self._arm()
        return handle

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass; virtual time only.

        Raises:
            ConfigurationError: always, in real time.
        """
        raise ConfigurationError(
            "this clock is real and cannot be advanced; ask for virtual time: MockContext(virtual_time=True), "
            "@pytest.mark.services(virtual_time=True), or integration_scenario(..., virtual_time=True)",
            name="virtual_time",
            value=seconds,
        )

    def pause(self, seconds: float) -> None:
        """Let plain code wait: really, or in virtual time by advancing the clock."""
        time.sleep(max(seconds, 0.0))

    def _next_due(self) -> float | None:
        heap = self._heap
        while heap and heap[0][2].cancelled:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def _run_due(self, reached: float) -> None:
        """Run what is due until *reached*, and see to the rest."""
        heap = self._heap
        while heap and heap[0][0] <= reached:
            heapq.heappop(heap)[2]._fire()
        self._arm()

    def _arm(self) -> None:
        """Set a timer of the running loop to what is due next; without a loop, the next use of the clock does it."""
        due = self._next_due()
        armed = self._armed
        if due is None or self._closed:
            if armed is not None:
                self._armed = None
                armed.cancel()
            return
        loop = _running_loop()
        if armed is not None and armed.loop is loop and armed.due <= due:
            return
        if armed is not None:
            self._armed = None
            armed.cancel()
        if loop is not None:
            self._armed = _Alarm(self, loop, due)

    def _rung(self, alarm: _Alarm) -> None:
        if self._armed is alarm:
            self._armed = None
            # Loops round: the moment an alarm was set for has come, whatever they say.
            self._reach(alarm.due)
            self._run_due(max(alarm.due, self.now()))

    def _reach(self, moment: float) -> None:
        behind = moment - self.now()
        if 0 < behind < 0.01:
            self._base += behind

    # -- waiting -----------------------------------------------------------------

    def notify(self) -> None:
        """Signal a change: tasks in `wait` check again. Cheap if no task waits."""
        if self._heap:
            self._catch_up()
        for signal in self._parked:
            signal.set()

    def _catch_up(self) -> None:
        """Run what became due while no loop ran, or is due at this very moment."""
        now = self.now()
        if (due := self._next_due()) is not None and due <= now:
            self._run_due(now)
        else:
            self._arm()

    async def sleep(self, seconds: float) -> None:
        """Return when *seconds* have passed; a checkpoint at least."""
        await self.enter()
        due = self.now() + max(seconds, 0.0)
        await anyio.sleep(max(seconds, 0.0))
        # What is due at this very moment has happened when the sleep is over.
        self._reach(due)
        self.touch()

    async def wait(self, condition: Callable[[], T | None], *, timeout: float | None = None) -> T:
        """Return what *condition* gives as soon as that is not None.

        It is called at once, then after every `notify`. A value it gave is never
        lost to a cancellation: nothing is awaited between the call and the return.

        Args:
            condition: checks the state; it may also change it (take a message).
            timeout: seconds; None: no limit.

        Raises:
            TimeoutError: when *timeout* has passed.
        """
        await self.enter()
        await anyio.lowlevel.checkpoint()
        value = condition()
        if value is not None:
            return value
        over = False
        signal = anyio.Event()

        def end() -> None:
            nonlocal over
            over = True
            signal.set()

        timer = None if timeout is None else self.call_at(self.now() + max(timeout, 0.0), end)
        try:
            while True:
                self._parked[signal] = None
                try:
                    await signal.wait()
                finally:
                    del self._parked[signal]
                signal = anyio.Event()
                value = condition()
                if value is not None:
                    return value
                if over:
                    raise TimeoutError(f"nothing came within {timeout:g} s")
        finally:
            if timer is not None:
                timer.cancel()
                self._arm()

    async def enter(self) -> None:
        """Make sure that the timers run in the running loop; virtual time begins in it."""
        self.touch()

    def touch(self) -> None:
        """The same for those who cannot await; every call of an operation does it."""
        if self._heap:
            self._catch_up()

    def join(self) -> None:
        """Note one more context that uses the clock."""
        self._users += 1
        self._closed = False

    def part(self) -> None:
        """End the clock once every context that used it has ended."""
        self._users -= 1
        if not self._users:
            self.close()

    def close(self) -> None:
        """End it: timers are dropped, and the loop has its own time again."""
        self._closed = True
        self._heap.clear()
        self._arm()


class VirtualClock(Clock):
    """Virtual time: the clock of the running event loop, which jumps to its next timer when nothing else can happen.

    Sleeps and timeouts of the code under test and those of the doubles move together.
    The loop never jumps past its next timer, nor while jobs in threads, child processes
    or requests to other processes are pending; then time passes as usual. Without a running
    loop, only `advance` moves the clock.

    Args:
        start: the first value of `time`, a date or seconds since the epoch; by default the present.
    """

    is_virtual = True

    def __init__(self, *, start: datetime | float | None = None) -> None:
        super().__init__(start=start)
        self._date = self._start
        self._loops: dict[int, LoopTime] = {}
        self._entered: LoopTime | None = None

    def _elapsed(self, monotonic: float) -> float:
        return self._seen - self._base

    def now(self) -> float:
        """Return the seconds since the clock was made, by the virtual time of the running event loop."""
        place, moment = running_place()
        if place is None:
            if self._entered is None:
                return self._seen
            moment = self._entered.read()  # outside of the loop time stands still
        elif place is not self._place:
            self._move(place, moment)
        self._seen = max(self._seen, round(self._base + (moment - self._then), _DIGITS))
        return self._seen

    _seen: float = 0.0

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass: runs every timer of the doubles due until then, each at its own moment.

        Tasks that wait go on with the next await. In asynchronous code, sleeping does the same
        and runs the tasks as well.

        Raises:
            ConfigurationError: if *seconds* is negative.
        """
        if not seconds >= 0:
            raise ConfigurationError(
                f"advance({seconds!r}): time goes forward only; give seconds, 0 or more", name="seconds", value=seconds
            )
        self._enter_now()
        end = self.now() + seconds
        while (due := self._next_due()) is not None and due <= end:
            self._pass_until(due)
            self._run_due(due)
        self._pass_until(end)
        self.notify()

    def pause(self, seconds: float) -> None:
        """Advance the clock."""
        self.advance(max(seconds, 0.0))

    def _pass_until(self, moment: float) -> None:
        if self._entered is not None and running_place()[0] is self._place:
            self._entered.advance(max(moment - self.now(), 0.0))
        self._reach(moment)
        self._seen = max(self._seen, moment)

    def _reach(self, moment: float) -> None:
        super()._reach(moment)
        if 0 < moment - self._seen < 0.01:
            self._seen = moment

    def hold(self) -> AbstractContextManager[None]:
        """Say that something outside of the event loop is awaited: time passes as usual meanwhile."""
        self._enter_now()
        return nullcontext() if self._entered is None else self._entered.hold()

    async def enter(self) -> None:
        """Begin virtual time in the running loop.

        Raises:
            ConfigurationError: if the loop cannot have any, with what to do instead.
        """
        self.touch()

    def touch(self) -> None:
        """The same for those who cannot await."""
        self._enter_now()
        super().touch()

    def _enter_now(self) -> None:
        found = None if self._closed else loop_time()
        if found is None or found is self._entered:
            return
        if self._entered is not None:
            self.now()
        if id(found) not in self._loops:
            self._loops[id(found)] = found
            found.enter()
        self._entered = found
        self._move(*running_place())
        self._arm()

    def close(self) -> None:
        super().close()
        self._seen = self.now()
        loops, self._loops, self._entered = self._loops, {}, None
        for each in loops.values():
            each.leave()


def _running_loop() -> object | None:
    """Return the event loop, or the run of trio, of this thread."""
    loop = asyncio._get_running_loop()
    trio = sys.modules.get("trio")
    if trio is not None and (loop is None or asyncio.current_task(loop) is None):
        try:
            return trio.lowlevel.current_trio_token()  # type: ignore[no-any-return]
        except RuntimeError:
            return loop
    return loop


class _Alarm:
    """One timer of the running loop, set to the next moment at which something is due."""

    __slots__ = ("_clock", "_handle", "_scope", "_task", "due", "loop")

    def __init__(self, clock: Clock, loop: Any, due: float) -> None:
        self.loop = loop
        self.due = due
        self._clock = clock
        self._handle: asyncio.TimerHandle | None = None
        self._task: object = None
        self._scope: anyio.CancelScope | None = None
        delay = max(due - clock.now(), 0.0)
        if isinstance(loop, asyncio.AbstractEventLoop):
            self._handle = loop.call_later(delay, self._start)
        else:
            self._scope = anyio.CancelScope()
            spawn(lambda: self._sleep(delay), copy_context(), _NAME)

    def _start(self) -> None:
        # What is due may start tasks and use cancel scopes, which a plain callback of the loop cannot.
        self._task = self.loop.create_task(self._ring(), name=_NAME)

    async def _sleep(self, delay: float) -> None:
        assert self._scope is not None
        with self._scope:
            await anyio.sleep(delay)
            await self._ring()

    async def _ring(self) -> None:
        self._clock._rung(self)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        if self._scope is not None:
            with suppress(RuntimeError):  # its event loop is over, and the task with it
                self._scope.cancel()
