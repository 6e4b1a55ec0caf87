"""The state machine of one run: events go in, commands come out, and nothing else decides what happens."""

from __future__ import annotations

import contextlib
import inspect
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any, Protocol

from isolation_core.services.workflow._errors import (
    ApplicationError,
    ForeignAwaitError,
    HandlerError,
    ReadOnlyContextError,
    UpdateFailedError,
    WorkflowCancelledError,
)
from isolation_core.services.workflow._future import Future, Routine
from isolation_core.services.workflow._history import Event, EventType, copied

__all__ = ["ContinueAsNew", "Emit", "Machine"]


class Emit(Protocol):
    """Takes a command, and returns the id of its event."""

    def __call__(self, kind: EventType, attributes: Mapping[str, Any], refers_to: int | None = None) -> int: ...


class ContinueAsNew(BaseException):
    """Ends a run in favour of a new one with *arguments*."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments
        super().__init__("continue as new")


_FAILURES = frozenset(
    {
        EventType.ACTIVITY_FAILED, EventType.ACTIVITY_TIMED_OUT, EventType.ACTIVITY_CANCELED, EventType.CHILD_FAILED,
        EventType.CHILD_CANCELED, EventType.CHILD_TERMINATED, EventType.CHILD_TIMED_OUT, EventType.CHILD_START_FAILED,
        EventType.SIGNAL_EXTERNAL_FAILED,
    }
)  # fmt: skip
_RESULTS = frozenset(
    {
        EventType.ACTIVITY_COMPLETED, EventType.TIMER_FIRED, EventType.CHILD_COMPLETED, EventType.EXTERNAL_SIGNALED,
    }
)  # fmt: skip


class Machine:
    """Runs the code of a workflow, driven by the events of its history.

    The same events in the same order give the same commands in the same order,
    as long as the code is deterministic; a replay relies on nothing else.

    Args:
        name: the name of the workflow.
        start: makes the coroutine of the workflow from its arguments.
        emit: takes the commands.
        context: the context variables its code runs with.
        recorded: in a replay, gives the next command of the history.
    """

    def __init__(
        self,
        name: str,
        start: Callable[..., Any],
        emit: Emit,
        *,
        context: Context,
        recorded: Callable[[], Event | None] | None = None,
    ) -> None:
        self.name = name
        self.workflow_id = self.run_id = ""
        self.now = 0.0
        self.closed = False
        self.cancel_requested = False
        self.signals: dict[str, deque[tuple[Any, ...]]] = {}
        self.signal_handlers: dict[str, Callable[..., Any]] = {}
        self.receivers: dict[str, deque[Future]] = {}
        self.queries: dict[str, Callable[..., Any]] = {}
        self.updates: dict[str, tuple[Callable[..., Any], Callable[..., Any] | None]] = {}
        self.conditions: list[tuple[Callable[[], object], Future]] = []
        self.pending: dict[int, Future] = {}
        self.started: dict[int, Future] = {}
        self._start = start
        self._emit = emit
        self._context = context
        self._recorded = recorded
        self._read_only = False
        self._main: Routine | None = None
        self._routines: dict[Routine, None] = {}  # in the order they were started
        self._ready: deque[Routine] = deque()

    # What the context of the workflow uses.

    def command(self, kind: EventType, attributes: Mapping[str, Any], refers_to: int | None = None) -> int:
        """Give a command; return the id of its event."""
        if self._read_only:
            raise ReadOnlyContextError(
                f"a query handler or validator of workflow {self.workflow_id!r} gave the command {kind.value}; "
                "it may only look, do that in a signal or update handler"
            )
        if self.closed:
            raise ReadOnlyContextError(f"workflow {self.workflow_id!r} has ended, it cannot do {kind.value} any more")
        return self._emit(kind, attributes, refers_to)

    def start_routine(self, coroutine: Any, label: str, *, is_handler: bool = False) -> Routine:
        """Let *coroutine* run beside the others."""
        routine = Routine(coroutine, label, is_handler=is_handler)
        self._routines[routine] = None
        self._ready.append(routine)
        return routine

    def marker(self, name: str, function: Callable[[], Any]) -> Any:
        """Call *function* and record what it returns; in a replay, return what was recorded."""
        recorded = self._recorded() if self._recorded is not None else None
        value = function() if recorded is None else recorded.attributes.get("result")
        self.command(EventType.MARKER_RECORDED, {"marker": name, "result": copied(value)})
        return copied(value)

    # What the outside uses.

    def apply(self, event: Event) -> None:
        """Let *event* happen, and run the code as far as it goes."""
        self.now = event.time
        facts = event.attributes
        if event.type is EventType.WORKFLOW_STARTED:
            self.workflow_id, self.run_id = facts["workflow_id"], facts["run_id"]
            arguments = copied(facts["arguments"])
            self._main = self.start_routine(self._context.run(self._begin, arguments), f"workflow {self.name!r}")
        elif event.type in _RESULTS:
            self._settle(event.refers_to, copied(facts.get("result")), None)
        elif event.type is EventType.CHILD_CANCELED and self.cancel_requested:
            self._settle(event.refers_to, None, WorkflowCancelledError(self.workflow_id, self.run_id))
        elif event.type in _FAILURES:
            self._settle(event.refers_to, None, facts["failure"])
        elif event.type is EventType.CHILD_STARTED:
            if future := self.started.pop(event.refers_to or 0, None):
                future.set_result(facts["run_id"])
        elif event.type is EventType.WORKFLOW_SIGNALED:
            self._signal(facts["signal"], copied(facts["arguments"]))
        elif event.type is EventType.WORKFLOW_CANCEL_REQUESTED:
            self._cancel()
        elif event.type is EventType.UPDATE_ACCEPTED:
            self._update(event.id, facts["update"], copied(facts["arguments"]))
        self._pump()

    async def _begin(self, arguments: tuple[Any, ...]) -> Any:
        return await self._start(*arguments)

    def query(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Ask a query handler; it may look, not touch."""
        handler = self.queries.get(name)
        if handler is None:
            known = ", ".join(self.queries) or "none"
            raise HandlerError(self.workflow_id, "query", name, f"there is no handler; there are: {known}")
        return copied(self._looking(handler, arguments))

    def validate(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Ask the validator of an update."""
        if name not in self.updates:
            known = ", ".join(self.updates) or "none"
            raise HandlerError(self.workflow_id, "update", name, f"there is no handler; there are: {known}")
        validator = self.updates[name][1]
        if validator is not None:
            self._looking(validator, arguments)

    def end(self) -> None:
        """Stop running: coroutines that still wait are closed."""
        self.closed = True
        self._ready.clear()
        for routine in tuple(self._routines):
            # Its last exception has no receiver any more.
            with contextlib.suppress(Exception):
                self._context.run(routine.coroutine.close)
        self._routines.clear()

    @property
    def unreceived(self) -> dict[str, int]:
        """How many signals of each name were not received."""
        return {name: len(waiting) for name, waiting in self.signals.items() if waiting}

    def receive(self, name: str) -> Future:
        """Return a future of the next signal *name*."""
        future = Future(f"signal {name!r}")
        waiting = self.signals.get(name)
        if waiting:
            future.set_result(_unpacked(waiting.popleft()))
        else:
            self.receivers.setdefault(name, deque()).append(future)
        return future

    def handle_signals(self, name: str, handler: Callable[..., Any]) -> None:
        """Give the signals *name*, also those that came before, to *handler*."""
        self.signal_handlers[name] = handler
        for arguments in self.signals.pop(name, ()):
            self._handle_signal(handler, name, arguments)

    # Inside.

    def _looking(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        self._read_only = True
        try:
            value = self._context.run(function, *copied(arguments))
            if inspect.isawaitable(value):
                close = getattr(value, "close", None)
                if close is not None:
                    close()
                raise ReadOnlyContextError(
                    f"{getattr(function, '__name__', function)!s} of workflow {self.workflow_id!r} is asynchronous; "
                    "query handlers and validators are plain functions"
                )
            return value
        finally:
            self._read_only = False

    def _settle(self, event_id: int | None, value: Any, error: BaseException | None) -> None:
        started = self.started.pop(event_id or 0, None)
        future = self.pending.pop(event_id or 0, None)
        for each in (started, future):
            if each is None:
                continue
            if error is None:
                each.set_result(value)
            else:
                each.set_error(error)

    def _signal(self, name: str, arguments: tuple[Any, ...]) -> None:
        receivers = self.receivers.get(name)
        while receivers:
            future = receivers.popleft()
            if not future.done:
                future.set_result(_unpacked(arguments))
                return
        handler = self.signal_handlers.get(name)
        if handler is not None:
            self._handle_signal(handler, name, arguments)
        else:
            self.signals.setdefault(name, deque()).append(arguments)

    def _handle_signal(self, handler: Callable[..., Any], name: str, arguments: tuple[Any, ...]) -> None:
        routine = self.start_routine(_called(handler, arguments), f"handler of signal {name!r}", is_handler=True)
        routine.outcome.when_done(lambda: self._signal_handled(routine.outcome.error))

    def _signal_handled(self, error: BaseException | None) -> None:
        # As in Temporal's SDKs, a failing handler fails the workflow.
        if error is not None and self._main is not None and not self._main.outcome.done:
            self._main.outcome.set_error(error)

    def _update(self, event_id: int, name: str, arguments: tuple[Any, ...]) -> None:
        handler = self.updates[name][0]
        routine = self.start_routine(_called(handler, arguments), f"handler of update {name!r}", is_handler=True)
        routine.outcome.when_done(lambda: self._updated(event_id, name, routine.outcome))

    def _updated(self, event_id: int, name: str, outcome: Future) -> None:
        if self.closed:
            return
        facts: dict[str, Any] = {"update": name}
        if outcome.error is not None:
            error = UpdateFailedError(f"update {name!r} of workflow {self.workflow_id!r} failed: {outcome.error}")
            error.__cause__ = outcome.error
            facts["failure"] = error
        else:
            facts["result"] = copied(outcome.result())
        self._emit(EventType.UPDATE_COMPLETED, facts, event_id)

    def _cancel(self) -> None:
        self.cancel_requested = True
        error = WorkflowCancelledError(self.workflow_id, self.run_id)
        # One that waits for another routine is notified by that routine's end.
        ends = {each.outcome for each in self._routines}
        waiting = [each.waiting_on for each in self._routines if not each.is_handler]
        for future in waiting:
            if future is not None and future not in ends:
                future.cancel(error)

    def _pump(self) -> None:
        while not self.closed:
            while self._ready and not self.closed:
                self._step(self._ready.popleft())
            if self._main is not None and self._main.outcome.done:
                self._close(self._main.outcome)
                return
            if not self._check_conditions():
                return

    def _check_conditions(self) -> bool:
        for entry in tuple(self.conditions):
            condition, future = entry
            if future.done:
                self.conditions.remove(entry)
                continue
            try:
                held = self._looking(condition, ())
            except Exception as error:
                future.set_error(error)
            else:
                if not held:
                    continue
                future.set_result(True)
            self.conditions.remove(entry)
            return True
        return bool(self._ready)

    def _step(self, routine: Routine) -> None:
        routine.waiting_on = None
        step: Callable[..., Any] = routine.coroutine.send
        argument: Any = None
        while True:
            try:
                item = self._context.run(step, argument)
            except StopIteration as stop:
                self._routines.pop(routine, None)
                routine.outcome.set_result(stop.value)
                return
            except (Exception, ContinueAsNew) as error:
                self._routines.pop(routine, None)
                routine.outcome.set_error(error)
                return
            except BaseException as error:
                # KeyboardInterrupt and similar: the run is over, and its caller must know.
                self._routines.pop(routine, None)
                routine.outcome.set_error(ApplicationError(f"{type(error).__name__}: {error}"))
                self._close(routine.outcome)
                raise
            if isinstance(item, Future):
                routine.waiting_on = item
                item.when_done(lambda: self._ready.append(routine))
                return
            step, argument = routine.coroutine.throw, ForeignAwaitError(self.name, item)

    def _close(self, outcome: Future) -> None:
        if self.closed:
            return
        error = outcome.error
        if error is None:
            self._emit(EventType.WORKFLOW_COMPLETED, {"result": copied(outcome.result())})
        elif isinstance(error, ContinueAsNew):
            self._emit(EventType.WORKFLOW_CONTINUED_AS_NEW, {"arguments": copied(error.arguments)})
        elif isinstance(error, WorkflowCancelledError) and self.cancel_requested:
            self._emit(EventType.WORKFLOW_CANCELED, {})
        else:
            self._emit(EventType.WORKFLOW_FAILED, {"failure": error})
        self.end()


async def _called(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    value = function(*arguments)
    return await value if inspect.isawaitable(value) else value


def _unpacked(arguments: tuple[Any, ...]) -> Any:
    """Return what a receiver gets: nothing, the argument, or all of them."""
    if not arguments:
        return None
    return arguments[0] if len(arguments) == 1 else arguments
