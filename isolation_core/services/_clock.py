"""Virtual time: every delay, timeout and expiry of the doubles, without waiting for any of them."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Final, TypeVar

import anyio
import anyio.lowlevel

from isolation_core.errors import ConfigurationError
from isolation_core.services._idle import others_blocked

__all__ = ["EPOCH", "TimerHandle", "VirtualClock"]

T = TypeVar("T")

EPOCH: Final = 1_700_000_000.0
"""What `VirtualClock.time` starts at: a fixed moment, so that timestamps repeat from run to run."""


class TimerHandle:
    """A callback that is due at a moment of virtual time."""

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


class _Waiter:
    """One parked task."""

    __slots__ = ("looks", "signal")

    def __init__(self, *, looks: bool) -> None:
        self.looks = looks  # whether a change of state, not only the time, interests it
        self.signal: anyio.Event | None = None

    def wake(self) -> None:
        if self.signal is not None:
            self.signal.set()


class VirtualClock:
    """Time that passes when somebody says so, or when nobody has anything else to do.

    With *autojump*, when every task of the loop is blocked and at least one of
    them waits on this clock, it jumps to the next moment at which something is
    due. A wait without a timeout for which nothing is due really waits.

    It belongs to no event loop and may be made without one. It is not meant to
    be shared between threads.

    Args:
        start: what `time` starts at, in seconds since the epoch.
        autojump: False: time passes by `advance` only.

    Attributes:
        start: as given.
    """

    __slots__ = ("_autojump", "_changes", "_driver", "_heap", "_now", "_parked", "_sequence", "start")

    def __init__(self, *, start: float = EPOCH, autojump: bool = True) -> None:
        self.start = start
        self._autojump = autojump
        self._now = 0.0
        self._heap: list[tuple[float, int, TimerHandle]] = []
        self._sequence = count()
        self._parked: dict[_Waiter, None] = {}
        self._driver: _Waiter | None = None
        self._changes = 0

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._now:g} s, {len(self._parked)} waiting>"

    @property
    def autojump(self) -> bool:
        """Whether the clock moves by itself; may be switched at any time."""
        return self._autojump

    @autojump.setter
    def autojump(self, value: bool) -> None:
        self._autojump = value
        if self._driver is None:
            self._pass_on()

    def now(self) -> float:
        """Return the seconds since the clock began; 0.0 at first."""
        return self._now

    def time(self) -> float:
        """Return the seconds since the epoch: a fixed start and `now`."""
        return self.start + self._now

    # -- timers ------------------------------------------------------------------

    def call_at(self, when: float, callback: Callable[[], object]) -> TimerHandle:
        """Run *callback* when the clock reaches *when*; what is due at one moment runs in order of registration.

        Args:
            when: seconds on the scale of `now`. What is past already runs with the next jump or `advance`.
            callback: called without arguments, in whatever task moves the clock.

        Returns:
            A handle to cancel it by.
        """
        handle = TimerHandle(when, callback)
        heapq.heappush(self._heap, (when, next(self._sequence), handle))
        if self._driver is None:
            # Those parked had nothing to wait for but a change; now there is a time to jump to.
            self._pass_on()
        return handle

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass: fires everything due until then, each at its own moment, in order of due time.

        Raises:
            ConfigurationError: if *seconds* is negative.
        """
        if not seconds >= 0:
            raise ConfigurationError(
                f"advance({seconds!r}): time goes forward only; give seconds, 0 or more", name="seconds", value=seconds
            )
        end = self._now + seconds
        while (due := self._next_due()) is not None and due <= end:
            self._jump_to(due)
        self._now = end
        self.notify()

    def _next_due(self) -> float | None:
        heap = self._heap
        while heap and heap[0][2].cancelled:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def _jump_to(self, due: float) -> None:
        self._now = max(self._now, due)
        heap = self._heap
        while heap and heap[0][0] <= self._now:
            heapq.heappop(heap)[2]._fire()

    # -- waiting -----------------------------------------------------------------

    def notify(self) -> None:
        """Say that something has changed: those in `wait` look again. Cheap when nobody waits."""
        self._changes += 1
        for waiter in self._parked:
            if waiter.looks:
                waiter.wake()

    async def sleep(self, seconds: float) -> None:
        """Return when *seconds* of virtual time have passed; a checkpoint at least."""
        await anyio.lowlevel.checkpoint()
        due = self._now + seconds
        if self._now < due:
            await self._park(due, lambda: True if self._now >= due else None, looks=False)

    async def wait(self, condition: Callable[[], T | None], *, timeout: float | None = None) -> T:
        """Return what *condition* gives as soon as that is not None.

        It is called at once, then after every `notify`. A value it gave is never
        lost to a cancellation: nothing is awaited between the call and the return.

        Args:
            condition: looks at the state; it may also change it (take a message).
            timeout: seconds of virtual time; None: no limit.

        Raises:
            TimeoutError: when *timeout* has passed.
        """
        await anyio.lowlevel.checkpoint()
        value = condition()
        if value is not None:
            return value
        due = None if timeout is None else self._now + timeout
        return await self._park(due, condition, looks=True)

    async def _park(self, due: float | None, condition: Callable[[], T | None], *, looks: bool) -> T:
        waiter = _Waiter(looks=looks)
        timer = None if due is None else self.call_at(due, waiter.wake)
        self._parked[waiter] = None
        try:
            while True:
                if due is not None and self._now >= due and looks:
                    raise TimeoutError(f"nothing came within the timeout; it is {self._now:g} s on the virtual clock")
                changes = self._changes
                signal = waiter.signal = anyio.Event()
                if self.autojump and self._driver is None and self._next_due() is not None:
                    await self._drive(waiter)
                else:
                    await signal.wait()
                if changes != self._changes or due is not None:
                    value = condition()
                    if value is not None:
                        return value
        finally:
            del self._parked[waiter]
            if timer is not None:
                timer.cancel()
            if self._driver is None:
                self._pass_on()

    async def _drive(self, waiter: _Waiter) -> None:
        """Jump to what is due next, unless something else happens first."""
        assert waiter.signal is not None
        self._driver = waiter
        changes = self._changes
        try:
            await others_blocked()
            if waiter.signal.is_set() or changes != self._changes or not self.autojump:
                return
            due = self._next_due()
            if due is not None:
                self._jump_to(due)
        finally:
            self._driver = None

    def _pass_on(self) -> None:
        """Wake somebody who can move the clock, if there is anything to move it to."""
        if self._parked and self.autojump and self._next_due() is not None:
            next(iter(self._parked)).wake()
