"""Running activities: attempts in tasks of their own, retries and timeouts on the virtual clock."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, Protocol

import anyio
from attrs import frozen

from isolation_core._drive import is_trio, spawn
from isolation_core.services._clock import Clock, TimerHandle
from isolation_core.services.workflow._errors import (
    ActivityError,
    ActivityTimeoutError,
    NotRegisteredError,
    WorkflowError,
)
from isolation_core.services.workflow._history import EventType, copied
from isolation_core.services.workflow._policies import ActivityOptions

__all__ = ["ActivityExecution", "ActivityInfo", "ActivityPool", "activity_info", "heartbeat"]

RUNAWAY = 100
"""Attempts after which an activity without any limit is taken for one that never ends: the clock would spin."""

_running: ContextVar[ActivityExecution] = ContextVar("isolation_core_activity")


@frozen
class ActivityInfo:
    """The facts that an activity can read about itself.

    Attributes:
        activity: its name.
        workflow_id: the workflow that scheduled it.
        attempt: the number of this attempt, from 1.
        scheduled_at: when it was scheduled, in virtual seconds since the epoch.
        heartbeat_details: the details of the last heartbeat, of this or an earlier attempt.
    """

    activity: str
    workflow_id: str
    attempt: int
    scheduled_at: float
    heartbeat_details: tuple[Any, ...]


def _current() -> ActivityExecution:
    try:
        return _running.get()
    except LookupError:
        raise WorkflowError(
            "this is not inside an activity: heartbeat() and activity_info() work in functions that a workflow "
            "started with ctx.activity()"
        ) from None


def heartbeat(*details: Any) -> None:
    """Say from within an activity that it is alive; *details* are there for the next attempt."""
    _current().beat(details)


def activity_info() -> ActivityInfo:
    """Return what the running activity may know about itself."""
    return _current().info


class Report(Protocol):
    """Takes the outcome of an activity."""

    def __call__(self, execution: ActivityExecution, kind: EventType, facts: dict[str, Any]) -> None: ...


class ActivityExecution:
    """One scheduled activity, over all its attempts."""

    def __init__(
        self, name: str, arguments: tuple[Any, ...], options: ActivityOptions, *, workflow_id: str, event_id: int,
        run: object, context: Context, clock: Clock, report: Report, pool: ActivityPool,
    ) -> None:  # fmt: skip
        self.name = name
        self.event_id = event_id
        self.run = run
        self.context = context
        self.attempt = 0
        self.closed = False
        self.last_error: BaseException | None = None
        self._arguments = arguments
        self._options = options
        self._workflow_id = workflow_id
        self._clock = clock
        self._report = report
        self._pool = pool
        self._details: tuple[Any, ...] = ()
        self._scheduled_at = clock.now()
        self._timers: dict[str, TimerHandle] = {}
        self._scope: anyio.CancelScope | None = None
        self._cut: BaseException | None = None
        self._turn: tuple[anyio.Event | None, anyio.Event] | None = None

    @property
    def info(self) -> ActivityInfo:
        """The facts that the activity can read about itself."""
        at = self._clock.start + self._scheduled_at
        return ActivityInfo(self.name, self._workflow_id, self.attempt, at, self._details)

    def schedule(self) -> None:
        """Begin."""
        self._limit("schedule_to_close", self._options.schedule_to_close_timeout, self._expire)
        self._queue()

    def cancel(self) -> None:
        """End it, whatever it is doing."""
        if not self.closed:
            self._close(EventType.ACTIVITY_CANCELED, self._error("cancelled", None))

    def beat(self, details: tuple[Any, ...]) -> None:
        """Take a heartbeat."""
        self._details = details
        self._limit("heartbeat", self._options.heartbeat_timeout, self._cut_short)

    def _queue(self) -> None:
        self._limit("schedule_to_start", self._options.schedule_to_start_timeout, self._expire)
        self._pool.enter(self)

    def begin(self, before: anyio.Event | None) -> anyio.Event:
        """Start an attempt; there is a free slot and an event loop.

        Args:
            before: set when the attempt that was started before this one has begun.

        Returns:
            The event that is set when this attempt has ended.
        """
        self._turn = before, anyio.Event()
        self._stop("schedule_to_start")
        self.attempt += 1
        self._cut = None
        self._limit("start_to_close", self._options.start_to_close_timeout, self._cut_short)
        self._limit("heartbeat", self._options.heartbeat_timeout, self._cut_short)
        return self._turn[1]

    async def perform(self) -> None:
        """Run one attempt to its end; raises nothing but what must end the process."""
        assert self._turn is not None
        before, begun = self._turn
        token = _running.set(self)
        error: BaseException | None = None
        result: Any = None
        try:
            with anyio.CancelScope() as self._scope:
                # Trio starts the tasks of one batch in any order; the history is to be the same every time.
                if before is not None and not before.is_set():
                    await before.wait()
                begun.set()
                if self.closed:
                    return
                result = self._pool.function(self.name)(*copied(self._arguments))
                if inspect.isawaitable(result):
                    result = await result
        except BaseException as raised:
            error = raised
        finally:
            begun.set()
            _running.reset(token)
            caught = self._scope.cancelled_caught if self._scope is not None else False
            self._scope = None
            self._pool.leave(self)
        if self.closed:
            # It was cut off; what it raised on its way out would be lost otherwise.
            if isinstance(error, Exception):
                self._pool.late_errors.append(error)
            return
        if self._cut is not None and (caught or isinstance(error, asyncio.CancelledError)):
            error = self._cut
        self._stop("start_to_close")
        self._stop("heartbeat")
        if _ending(error):
            self.closed = True
        elif error is None:
            self._close(EventType.ACTIVITY_COMPLETED, None, result)
        else:
            self._failed(error)
            # A system task of trio's may not raise; there the workflow alone gets to know.
            if isinstance(error, (KeyboardInterrupt, SystemExit)) and not is_trio():
                raise error

    def _failed(self, error: BaseException) -> None:
        self.last_error = error
        policy = self._options.retry
        limited = policy.maximum_attempts or self._options.schedule_to_close_timeout is not None
        if not isinstance(error, Exception) or isinstance(error, NotRegisteredError) or not policy.retries(error):
            self._give_up("non_retryable", error)
        elif policy.maximum_attempts and self.attempt >= policy.maximum_attempts:
            self._give_up("maximum_attempts", error)
        elif not limited and self.attempt >= RUNAWAY:
            self._give_up("runaway", error)
        else:
            pause = policy.interval(self.attempt)
            end = self._options.schedule_to_close_timeout
            if end is not None and self._clock.now() + pause >= self._scheduled_at + end:
                self._give_up("timeout", error)
            else:
                self._timers["retry"] = self._clock.call_at(self._clock.now() + pause, self._queue)

    def _give_up(self, why: str, error: BaseException) -> None:
        kind = EventType.ACTIVITY_TIMED_OUT if isinstance(error, ActivityTimeoutError) else EventType.ACTIVITY_FAILED
        self._close(kind, self._error(why, error))

    def _error(self, why: str, cause: BaseException | None) -> ActivityError:
        return ActivityError(self.name, attempt=self.attempt, retry_state=why, cause=cause)

    def _limit(self, kind: str, seconds: float | None, action: Callable[[str, float], None]) -> None:
        self._stop(kind)
        if seconds is not None:
            self._timers[kind] = self._clock.call_at(self._clock.now() + seconds, lambda: action(kind, seconds))

    def _stop(self, kind: str) -> None:
        timer = self._timers.pop(kind, None)
        if timer is not None:
            timer.cancel()

    def _cut_short(self, kind: str, seconds: float) -> None:
        """End this attempt; there may be another."""
        self._cut = ActivityTimeoutError(self.name, kind, seconds)
        if self._scope is not None:
            self._scope.cancel()

    def _expire(self, kind: str, seconds: float) -> None:
        """End it for good."""
        if not self.closed:
            timeout = ActivityTimeoutError(self.name, kind, seconds)
            timeout.__cause__ = self.last_error
            self._close(EventType.ACTIVITY_TIMED_OUT, self._error("timeout", timeout))

    def _close(self, kind: EventType, error: ActivityError | None, result: Any = None) -> None:
        self.closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._pool.forget(self)
        if self._scope is not None:
            self._scope.cancel()
        self._report(self, kind, {"result": copied(result)} if error is None else {"failure": error})


class ActivityPool:
    """The slots that activities run in.

    Args:
        function: gives what is registered under a name.
        limit: how many attempts run at once; None: any number.
    """

    def __init__(self, function: Callable[[str], Callable[..., Any]], limit: int | None) -> None:
        self.function = function
        self.limit = limit
        self.late_errors: list[Exception] = []
        self._queue: list[ActivityExecution] = []
        self._busy: dict[ActivityExecution, anyio.Event] = {}
        self._begun: anyio.Event | None = None

    @property
    def busy(self) -> bool:
        """Whether some attempt runs."""
        return bool(self._busy)

    def enter(self, execution: ActivityExecution) -> None:
        """Queue an attempt; it starts as soon as there is a free slot and a running event loop."""
        self._queue.append(execution)
        self.fill()

    def forget(self, execution: ActivityExecution) -> None:
        """Take an execution out of the queue."""
        if execution in self._queue:
            self._queue.remove(execution)

    def fill(self) -> None:
        """Start what can be started."""
        if not _loop_runs():
            return  # the clock was advanced by plain code: begun with the next asynchronous operation
        while self._queue and (self.limit is None or len(self._busy) < self.limit):
            execution = self._queue.pop(0)
            self._busy[execution] = anyio.Event()
            self._begun = execution.begin(self._begun)
            spawn(execution.perform, execution.context.copy(), f"activity {execution.name}")

    def leave(self, execution: ActivityExecution) -> None:
        """Free the slot of an attempt that ended."""
        over = self._busy.pop(execution, None)
        if over is not None:
            over.set()
        self.fill()

    async def drain(self) -> None:
        """Wait until nothing runs any more."""
        self._queue.clear()
        while self._busy:
            await next(iter(self._busy.values())).wait()


def _loop_runs() -> bool:
    if asyncio._get_running_loop() is not None:
        return True
    trio = sys.modules.get("trio")
    return trio is not None and trio.lowlevel.in_trio_run()


def _ending(error: BaseException | None) -> bool:
    """Return whether the event loop is being shut down: nothing more may be started in it."""
    if error is None or isinstance(error, (Exception, KeyboardInterrupt, SystemExit)):
        return False
    task = None if is_trio() else asyncio.current_task()
    return task is None or task.cancelling() > 0
