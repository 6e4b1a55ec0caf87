"""The live side: runs, their timers, activities and children, and the queue of what happens to them."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from random import Random
from typing import Any, Final

from isolation_core.services._clock import Clock, TimerHandle
from isolation_core.services.workflow._activities import ActivityExecution, ActivityPool
from isolation_core.services.workflow._context import WorkflowContext
from isolation_core.services.workflow._errors import (
    ChildWorkflowError,
    HandlerError,
    NotRegisteredError,
    UpdateFailedError,
    UpdateRejectedError,
    WorkflowAlreadyStartedError,
    WorkflowCancelledError,
    WorkflowFailedError,
    WorkflowNotFoundError,
    WorkflowTerminatedError,
    WorkflowTimedOutError,
)
from isolation_core.services.workflow._history import Event, EventType, History, copied
from isolation_core.services.workflow._machine import Machine
from isolation_core.services.workflow._policies import (
    IdConflictPolicy,
    IdReusePolicy,
    ParentClosePolicy,
    RetryPolicy,
    WorkflowStatus,
)

__all__ = ["Coordinator", "Run"]

_CLOSINGS: Final = {
    EventType.WORKFLOW_COMPLETED: WorkflowStatus.COMPLETED,
    EventType.WORKFLOW_FAILED: WorkflowStatus.FAILED,
    EventType.WORKFLOW_CANCELED: WorkflowStatus.CANCELED,
    EventType.WORKFLOW_TERMINATED: WorkflowStatus.TERMINATED,
    EventType.WORKFLOW_TIMED_OUT: WorkflowStatus.TIMED_OUT,
    EventType.WORKFLOW_CONTINUED_AS_NEW: WorkflowStatus.CONTINUED_AS_NEW,
}
_TOLD_PARENT: Final = {
    WorkflowStatus.COMPLETED: EventType.CHILD_COMPLETED,
    WorkflowStatus.FAILED: EventType.CHILD_FAILED,
    WorkflowStatus.CANCELED: EventType.CHILD_CANCELED,
    WorkflowStatus.TERMINATED: EventType.CHILD_TERMINATED,
    WorkflowStatus.TIMED_OUT: EventType.CHILD_TIMED_OUT,
}


class Run:
    """One run of a workflow."""

    def __init__(
        self, workflow: str, workflow_id: str, run_id: str, arguments: tuple[Any, ...], *, context: Context,
        run_timeout: float | None, retry: RetryPolicy | None, attempt: int = 1,
        parent: tuple[Run, int] | None = None, parent_close_policy: ParentClosePolicy = ParentClosePolicy.TERMINATE,
    ) -> None:  # fmt: skip
        self.workflow = workflow
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.arguments = arguments
        self.context = context
        self.run_timeout = run_timeout
        self.retry = retry
        self.attempt = attempt
        self.parent = parent
        self.parent_close_policy = parent_close_policy
        self.status = WorkflowStatus.RUNNING
        self.events: list[Event] = []
        self.machine: Machine
        self.result: Any = None
        self.failure: BaseException | None = None
        self.successor: Run | None = None
        self.started_at = self.closed_at = 0.0
        self.activities: dict[int, ActivityExecution] = {}
        self.timers: dict[int, TimerHandle] = {}
        self.children: dict[int, Run] = {}
        self.timeout: TimerHandle | None = None
        self.updates: dict[int, Event] = {}

    def __repr__(self) -> str:
        return f"<workflow {self.workflow!r} id {self.workflow_id!r} run {self.run_id}, {self.status.value}>"

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.status is WorkflowStatus.RUNNING

    @property
    def history(self) -> History:
        """The events so far."""
        return History(self.workflow, self.events)

    def error(self) -> WorkflowFailedError:
        """Return the error that represents its end."""
        kinds: dict[WorkflowStatus, type[WorkflowFailedError]] = {
            WorkflowStatus.CANCELED: WorkflowCancelledError,
            WorkflowStatus.TERMINATED: WorkflowTerminatedError,
            WorkflowStatus.TIMED_OUT: WorkflowTimedOutError,
        }
        detail = f"{type(self.failure).__name__}: {self.failure}" if self.failure is not None else ""
        if self.status is WorkflowStatus.TERMINATED:
            detail = str(self.events[-1].attributes.get("reason") or "")
        error = kinds.get(self.status, WorkflowFailedError)(self.workflow_id, self.run_id, detail)
        error.__cause__ = self.failure
        return error


class Coordinator:
    """Holds every run, and lets things happen to them one after the other.

    Args:
        clock: whose time counts.
        seed: makes the ids of runs, and with them their dice, repeatable.
        max_concurrent_activities: how many attempts of activities run at once; None: any number.
    """

    def __init__(self, clock: Clock, *, seed: object = 0, max_concurrent_activities: int | None = None) -> None:
        self.clock = clock
        self.workflows: dict[str, Callable[..., Any]] = {}
        self.activities: dict[str, Callable[..., Any]] = {}
        self.runs: list[Run] = []
        self.pool = ActivityPool(self.activity, max_concurrent_activities)
        self._latest: dict[str, Run] = {}
        self._dice = Random(str(seed))  # noqa: S311 - must be repeatable
        self._inbox: deque[tuple[Run, EventType, Mapping[str, Any], int | None]] = deque()
        self._draining = False

    # Looking things up.

    def activity(self, name: str) -> Callable[..., Any]:
        """Return the activity *name*."""
        if name not in self.activities:
            raise NotRegisteredError("activity", name, self.activities)
        return self.activities[name]

    def find(self, workflow_id: str, run_id: str | None = None) -> Run:
        """Return a run: the latest of *workflow_id*, or that one."""
        if run_id is None:
            run = self._latest.get(workflow_id)
        else:
            run = next((each for each in self.runs if (each.workflow_id, each.run_id) == (workflow_id, run_id)), None)
        if run is None:
            what = "was never started" if run_id is None else f"has no run {run_id}"
            raise WorkflowNotFoundError(workflow_id, what, self._latest)
        return run

    def running(self, workflow_id: str, run_id: str | None = None) -> Run:
        """Return a run that has not ended."""
        run = self.find(workflow_id, run_id)
        if not run.running:
            raise WorkflowNotFoundError(workflow_id, f"has ended already: {run.status.value}")
        return run

    def following(self, run: Run) -> Run:
        """Return the last run of the chain of continuations and retries that *run* began."""
        while run.successor is not None:
            run = run.successor
        return run

    # What can be done to workflows.

    def start(
        self,
        workflow: str,
        arguments: tuple[Any, ...],
        *,
        workflow_id: str | None = None,
        reuse: IdReusePolicy = IdReusePolicy.ALLOW_DUPLICATE,
        conflict: IdConflictPolicy = IdConflictPolicy.FAIL,
        run_timeout: float | None = None,
        retry: RetryPolicy | None = None,
        parent: tuple[Run, int] | None = None,
        parent_close_policy: ParentClosePolicy = ParentClosePolicy.TERMINATE,
    ) -> Run:
        """Start a workflow; its code runs up to its first wait before this returns."""
        if workflow not in self.workflows:
            raise NotRegisteredError("workflow", workflow, self.workflows)
        workflow_id = workflow_id or f"{workflow}-{self._uuid()}"
        previous = self._latest.get(workflow_id)
        if previous is not None and previous.running:
            if conflict is IdConflictPolicy.USE_EXISTING:
                return previous
            if conflict is IdConflictPolicy.FAIL:
                raise WorkflowAlreadyStartedError(workflow_id, previous.run_id, "is running")
            self.terminate(previous, "another was started with its id")
        elif previous is not None:
            completed = previous.status is WorkflowStatus.COMPLETED
            if reuse is IdReusePolicy.REJECT_DUPLICATE or (
                reuse is IdReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY and completed
            ):
                raise WorkflowAlreadyStartedError(
                    workflow_id, previous.run_id, f"has ended ({previous.status.value}) and the policy is {reuse.value}"
                )
        # Nothing of one workflow's variables is seen by another.
        context = parent[0].context.copy() if parent is not None else copy_context()
        run = Run(
            workflow, workflow_id, self._uuid(), copied(arguments), context=context, run_timeout=run_timeout,
            retry=retry, parent=parent, parent_close_policy=parent_close_policy,
        )  # fmt: skip
        self._prepare(run)
        if parent is not None:
            facts = {"workflow_id": workflow_id, "run_id": run.run_id}
            self._inbox.append((parent[0], EventType.CHILD_STARTED, facts, parent[1]))
        self._begin(run)
        return run

    def signal(self, run: Run, name: str, arguments: tuple[Any, ...]) -> None:
        """Send a signal."""
        self.happen(run, EventType.WORKFLOW_SIGNALED, {"signal": name, "arguments": copied(arguments)})

    def cancel(self, run: Run) -> None:
        """Ask a workflow to cancel itself; asking twice is asking once."""
        if not any(event.type is EventType.WORKFLOW_CANCEL_REQUESTED for event in run.events):
            self.happen(run, EventType.WORKFLOW_CANCEL_REQUESTED, {})

    def terminate(self, run: Run, reason: str) -> None:
        """End a workflow without running its code."""
        self._close(run, EventType.WORKFLOW_TERMINATED, {"reason": reason})

    def update(self, run: Run, name: str, arguments: tuple[Any, ...]) -> int:
        """Begin an update; return the id of its event."""
        arguments = copied(arguments)
        try:
            run.machine.validate(name, arguments)
        except HandlerError:
            raise
        except Exception as error:
            raise UpdateRejectedError(
                f"update {name!r} of workflow {run.workflow_id!r} was rejected: {error}"
            ) from error
        facts = {"update": name, "arguments": arguments}
        event = self._record(run, EventType.UPDATE_ACCEPTED, facts, None)
        self._deliver(run, event)
        return event.id

    def update_outcome(self, run: Run, event_id: int) -> Event | None:
        """Return the event of the end of an update, if it has ended.

        Raises:
            UpdateFailedError: if the workflow ended first.
        """
        event = run.updates.get(event_id)
        if event is None and not run.running:
            raise UpdateFailedError(f"workflow {run.workflow_id!r} ended ({run.status.value}) before its update did")
        return event

    def halt(self) -> None:
        """Stop everything where it is: no code of a workflow goes on, timers are off, activities are cancelled."""
        self._draining = True
        self._inbox.clear()
        for run in self.runs:
            if run.running:
                run.machine.end()
            for timer in (*run.timers.values(), *([run.timeout] if run.timeout else ())):
                timer.cancel()
            for execution in tuple(run.activities.values()):
                execution.cancel()

    # What happens to runs.

    def happen(self, run: Run, kind: EventType, attributes: Mapping[str, Any], refers_to: int | None = None) -> None:
        """Let an event happen to a run, after everything that happened before; nothing happens to one that ended."""
        self._inbox.append((run, kind, attributes, refers_to))
        self._drain()

    def _drain(self) -> None:
        # Runs cause events for each other while their code runs; one at a time keeps the order the same every time.
        if self._draining:
            return
        self._draining = True
        try:
            while self._inbox:
                run, kind, attributes, refers_to = self._inbox.popleft()
                if run.running:
                    run.machine.apply(self._record(run, kind, attributes, refers_to))
        finally:
            self._draining = False
        self.clock.notify()

    def _deliver(self, run: Run, event: Event) -> None:
        draining, self._draining = self._draining, True
        try:
            run.machine.apply(event)
        finally:
            self._draining = draining
        self._drain()

    def _record(self, run: Run, kind: EventType, attributes: Mapping[str, Any], refers_to: int | None) -> Event:
        event = Event(len(run.events) + 1, kind, time=self.clock.time(), attributes=attributes, refers_to=refers_to)
        run.events.append(event)
        return event

    def _prepare(self, run: Run) -> None:
        function = self.workflows[run.workflow]
        context = WorkflowContext()
        run.machine = context._machine = Machine(
            run.workflow,
            lambda *arguments: function(context, *arguments),
            lambda kind, attributes, refers_to=None: self._command(run, kind, attributes, refers_to),
            context=run.context,
        )
        self.runs.append(run)
        self._latest[run.workflow_id] = run

    def _begin(self, run: Run) -> None:
        run.started_at = self.clock.time()
        if run.run_timeout is not None:
            run.timeout = self.clock.call_at(
                self.clock.now() + run.run_timeout, lambda: self._close(run, EventType.WORKFLOW_TIMED_OUT, {})
            )
        facts = {
            "workflow": run.workflow, "workflow_id": run.workflow_id, "run_id": run.run_id,
            "arguments": run.arguments, "attempt": run.attempt,
        }  # fmt: skip
        self.happen(run, EventType.WORKFLOW_STARTED, facts)

    # What runs do.

    def _command(self, run: Run, kind: EventType, attributes: Mapping[str, Any], refers_to: int | None = None) -> int:
        if kind in _CLOSINGS:
            return self._close(run, kind, attributes)
        event = self._record(run, kind, attributes, refers_to)
        facts = event.attributes
        if kind is EventType.ACTIVITY_SCHEDULED:
            self._schedule(run, event)
        elif kind is EventType.TIMER_STARTED:
            due = self.clock.now() + facts["seconds"]
            run.timers[event.id] = self.clock.call_at(
                due, lambda: self.happen(run, EventType.TIMER_FIRED, {}, event.id)
            )
        elif kind is EventType.TIMER_CANCELED and refers_to is not None:
            run.timers.pop(refers_to).cancel()
        elif kind is EventType.ACTIVITY_CANCEL_REQUESTED and refers_to is not None:
            execution = run.activities.get(refers_to)
            if execution is not None:
                execution.cancel()
        elif kind is EventType.UPDATE_COMPLETED and refers_to is not None:
            run.updates[refers_to] = event
        elif kind is EventType.CHILD_INITIATED:
            self._start_child(run, event)
        elif kind is EventType.SIGNAL_EXTERNAL_INITIATED:
            self._signal_external(run, event)
        elif kind is EventType.CANCEL_EXTERNAL_INITIATED:
            target = self._latest.get(facts["workflow_id"])
            if target is not None and target.running:
                self.cancel(target)
        return event.id

    def _schedule(self, run: Run, event: Event) -> None:
        facts = event.attributes
        execution = run.activities[event.id] = ActivityExecution(
            facts["activity"], facts["arguments"], facts["options"], workflow_id=run.workflow_id, event_id=event.id,
            run=run, context=run.context, clock=self.clock, report=self._activity_over, pool=self.pool,
        )  # fmt: skip
        execution.schedule()

    def _activity_over(self, execution: ActivityExecution, kind: EventType, facts: dict[str, Any]) -> None:
        run = execution.run
        assert isinstance(run, Run)
        run.activities.pop(execution.event_id, None)
        if execution.attempt:
            # As in Temporal, the start is written with the outcome, so that retries do not fill the history.
            self._inbox.append((run, EventType.ACTIVITY_STARTED, {"attempt": execution.attempt}, execution.event_id))
        self.happen(run, kind, facts, execution.event_id)

    def _start_child(self, run: Run, event: Event) -> None:
        facts = event.attributes
        try:
            child = self.start(
                facts["workflow"], facts["arguments"], workflow_id=facts["workflow_id"],
                run_timeout=facts["run_timeout"], retry=facts["retry"], parent=(run, event.id),
                parent_close_policy=facts["parent_close_policy"],
            )  # fmt: skip
        except (WorkflowAlreadyStartedError, NotRegisteredError) as error:
            self.happen(run, EventType.CHILD_START_FAILED, {"failure": error}, event.id)
        else:
            run.children[event.id] = child

    def _signal_external(self, run: Run, event: Event) -> None:
        facts = event.attributes
        try:
            target = self.running(facts["workflow_id"])
        except WorkflowNotFoundError as error:
            self.happen(run, EventType.SIGNAL_EXTERNAL_FAILED, {"failure": error}, event.id)
        else:
            self.signal(target, facts["signal"], facts["arguments"])
            self.happen(run, EventType.EXTERNAL_SIGNALED, {}, event.id)

    def _close(self, run: Run, kind: EventType, attributes: Mapping[str, Any]) -> int:
        if not run.running:
            return 0
        event = self._record(run, kind, attributes, None)
        run.status = _CLOSINGS[kind]
        run.closed_at = self.clock.time()
        run.result, run.failure = event.attributes.get("result"), event.attributes.get("failure")
        run.machine.end()
        if run.timeout is not None:
            run.timeout.cancel()
        for timer in run.timers.values():
            timer.cancel()
        for execution in tuple(run.activities.values()):
            execution.cancel()
        self._close_children(run)
        self._succeed(run, event)
        if run.successor is None:
            self._tell_parent(run)
        self.clock.notify()
        return event.id

    def _close_children(self, run: Run) -> None:
        for first in run.children.values():
            child = self.following(first)
            if not child.running or child.parent_close_policy is ParentClosePolicy.ABANDON:
                continue
            if child.parent_close_policy is ParentClosePolicy.TERMINATE:
                self.terminate(child, f"its parent {run.workflow_id!r} ended")
            else:
                self.cancel(child)

    def _succeed(self, run: Run, event: Event) -> None:
        """Start the run that follows a continuation or a failure that is retried."""
        if event.type is EventType.WORKFLOW_CONTINUED_AS_NEW:
            self._follow(run, event.attributes["arguments"], 1)
        elif event.type is EventType.WORKFLOW_FAILED and run.retry is not None and run.failure is not None:
            policy = run.retry
            exhausted = policy.maximum_attempts and run.attempt >= policy.maximum_attempts
            if policy.retries(run.failure) and not exhausted:
                self._follow(run, run.arguments, run.attempt + 1, after=policy.interval(run.attempt))

    def _follow(self, run: Run, arguments: tuple[Any, ...], attempt: int, *, after: float = 0.0) -> None:
        successor = run.successor = Run(
            run.workflow, run.workflow_id, self._uuid(), copied(arguments), context=run.context.copy(),
            run_timeout=run.run_timeout, retry=run.retry, attempt=attempt, parent=run.parent,
            parent_close_policy=run.parent_close_policy,
        )  # fmt: skip
        self._prepare(successor)
        if after:
            successor.timers[0] = self.clock.call_at(self.clock.now() + after, lambda: self._begin(successor))
        else:
            self._begin(successor)

    def _tell_parent(self, run: Run) -> None:
        if run.parent is None:
            return
        parent, event_id = run.parent
        facts: dict[str, Any] = {"workflow_id": run.workflow_id}
        if run.status is WorkflowStatus.COMPLETED:
            facts["result"] = copied(run.result)
        else:
            facts["failure"] = ChildWorkflowError(run.workflow_id, run.workflow, run.error())
        self.happen(parent, _TOLD_PARENT[run.status], facts, event_id)

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._dice.getrandbits(128), version=4))
