"""The context of workflow code: every way to wait, to act, and to answer."""

from __future__ import annotations

import inspect
import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from isolation_core.services.workflow._errors import WorkflowCancelledError
from isolation_core.services.workflow._future import Future
from isolation_core.services.workflow._history import EventType, copied
from isolation_core.services.workflow._machine import ContinueAsNew, Machine
from isolation_core.services.workflow._policies import ActivityOptions, ParentClosePolicy, RetryPolicy

__all__ = ["ChildHandle", "WorkflowContext"]


def _name_of(function: str | Callable[..., Any]) -> str:
    return function if isinstance(function, str) else getattr(function, "__name__", type(function).__name__)


class ChildHandle:
    """A child workflow that was started; await it for its result.

    Attributes:
        workflow_id: its id.
        run_id: its run.
    """

    def __init__(self, context: WorkflowContext, event_id: int, workflow_id: str, run_id: str, outcome: Future) -> None:
        self.workflow_id = workflow_id
        self.run_id = run_id
        self._context = context
        self._event_id = event_id
        self._outcome = outcome

    def __await__(self) -> Any:
        return self._outcome.__await__()

    def result(self) -> Future:
        """Return the future of its result."""
        return self._outcome

    def signal(self, name: str, *arguments: Any) -> Future:
        """Send it a signal."""
        return self._context.signal_external(self.workflow_id, name, *arguments)

    def cancel(self) -> None:
        """Ask it to cancel itself."""
        self._context._machine.command(
            EventType.CANCEL_EXTERNAL_INITIATED, {"workflow_id": self.workflow_id}, self._event_id
        )


class WorkflowContext:
    """The first argument of every workflow function.

    Workflow code may await only what comes from here; anything else could not
    be repeated by a replay, and raises `ForeignAwaitError`.
    """

    def __init__(self) -> None:
        self._machine: Machine
        self._dice: random.Random | None = None

    @property
    def workflow_id(self) -> str:
        """The id of this workflow."""
        return self._machine.workflow_id

    @property
    def run_id(self) -> str:
        """The id of this run."""
        return self._machine.run_id

    @property
    def cancel_requested(self) -> bool:
        """Whether cancellation of this workflow was requested."""
        return self._machine.cancel_requested

    def now(self) -> float:
        """Return the time of the latest event, in virtual seconds since the epoch; the same in a replay."""
        return self._machine.now

    @property
    def random(self) -> random.Random:
        """Dice that fall the same way in a replay."""
        if self._dice is None:
            self._dice = random.Random(self._machine.run_id)  # noqa: S311 - must be repeatable
        return self._dice

    def uuid4(self) -> uuid.UUID:
        """Return a UUID that is the same in a replay."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4)

    def activity(
        self,
        activity: str | Callable[..., Any],
        *arguments: Any,
        retry: RetryPolicy | None = None,
        start_to_close_timeout: float | None = None,
        schedule_to_close_timeout: float | None = None,
        schedule_to_start_timeout: float | None = None,
        heartbeat_timeout: float | None = None,
    ) -> Future:
        """Schedule an activity; it starts at once, awaiting gives its result.

        Args:
            activity: its name, or the function it is registered with.
            *arguments: what it gets.
            retry: when it is tried again; without, forever, as in Temporal.
            start_to_close_timeout: limit of one attempt, in virtual seconds.
            schedule_to_close_timeout: limit of all attempts together.
            schedule_to_start_timeout: limit of waiting for a free slot.
            heartbeat_timeout: longest silence between two heartbeats.

        Returns:
            A future. It raises `ActivityError` when the activity failed for good, and
            `WorkflowCancelledError` when the workflow is cancelled meanwhile.
        """
        options = ActivityOptions(
            retry=retry or RetryPolicy(),
            start_to_close_timeout=start_to_close_timeout,
            schedule_to_close_timeout=schedule_to_close_timeout,
            schedule_to_start_timeout=schedule_to_start_timeout,
            heartbeat_timeout=heartbeat_timeout,
        )
        name = _name_of(activity)
        facts = {"activity": name, "arguments": copied(arguments), "options": options}
        return self._give(
            EventType.ACTIVITY_SCHEDULED, facts, f"activity {name!r}", EventType.ACTIVITY_CANCEL_REQUESTED
        )

    def sleep(self, seconds: float) -> Future:
        """Start a timer; awaiting it returns after that many virtual seconds."""
        facts = {"seconds": float(seconds)}
        return self._give(EventType.TIMER_STARTED, facts, f"timer of {seconds:g} s", EventType.TIMER_CANCELED)

    async def wait_condition(self, condition: Callable[[], object], *, timeout: float | None = None) -> None:
        """Wait until *condition* is true; it is looked at whenever something happened to the workflow.

        Args:
            condition: a plain function that only looks.
            timeout: how long at most, in virtual seconds.

        Raises:
            TimeoutError: when that long has passed.
        """
        future = Future("wait_condition")
        self._machine.conditions.append((condition, future))
        await self._limited(future, timeout, "the condition did not come true")

    async def receive(self, signal: str, *, timeout: float | None = None) -> Any:
        """Wait for the next signal of that name, and return its argument (several: a tuple; none: None).

        Args:
            signal: its name.
            timeout: how long at most, in virtual seconds.

        Raises:
            TimeoutError: when that long has passed.
        """
        return await self._limited(self._machine.receive(signal), timeout, f"signal {signal!r} did not come")

    def on_signal(self, name: str, handler: Callable[..., Any]) -> None:
        """Let *handler*, plain or asynchronous, take the signals of that name, also those that came before."""
        self._machine.handle_signals(name, handler)

    def on_query(self, name: str, handler: Callable[..., Any]) -> None:
        """Let the plain function *handler* answer queries; it may look at the state, not change it."""
        self._machine.queries[name] = handler

    def on_update(self, name: str, handler: Callable[..., Any], *, validator: Callable[..., Any] | None = None) -> None:
        """Let *handler*, plain or asynchronous, take updates; *validator* refuses one by raising."""
        self._machine.updates[name] = (handler, validator)

    async def gather(self, *awaitables: Awaitable[Any]) -> list[Any]:
        """Run several things side by side; return their results in order.

        All of them are waited for; then the first failure, in the order given, is raised.
        """
        futures: list[Future] = []
        for index, each in enumerate(awaitables):
            if isinstance(each, Future):
                futures.append(each)
            else:
                coroutine = each if inspect.iscoroutine(each) else _awaited(each)
                futures.append(self._machine.start_routine(coroutine, f"gathered {index}").outcome)
        failure: BaseException | None = None
        for future in futures:
            try:
                await future
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return [future.result() for future in futures]

    async def start_child(
        self,
        workflow: str | Callable[..., Any],
        *arguments: Any,
        id: str | None = None,  # noqa: A002 - the field's name for it
        parent_close_policy: ParentClosePolicy | str = ParentClosePolicy.TERMINATE,
        run_timeout: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> ChildHandle:
        """Start a child workflow, and return a handle once it has started.

        Args:
            workflow: its name, or the function it is registered with.
            *arguments: what it gets.
            id: its id; by default made from this workflow's.
            parent_close_policy: its fate if this workflow ends first.
            run_timeout: how long it may take, in virtual seconds.
            retry: when it is run again after a failure; by default never.

        Raises:
            WorkflowAlreadyStartedError: if the id is taken.
        """
        name = _name_of(workflow)
        workflow_id = id or f"{self.workflow_id}/{name}-{self.uuid4().hex[:8]}"
        facts = {
            "workflow": name, "workflow_id": workflow_id, "arguments": copied(arguments),
            "parent_close_policy": ParentClosePolicy(parent_close_policy), "run_timeout": run_timeout, "retry": retry,
        }  # fmt: skip
        event_id = self._machine.command(EventType.CHILD_INITIATED, facts)
        started = Future(f"start of child {name!r}")
        outcome = Future(
            f"child {name!r}",
            on_cancel=lambda: self._machine.command(
                EventType.CANCEL_EXTERNAL_INITIATED, {"workflow_id": workflow_id}, event_id
            ),
            patient=True,
        )
        self._machine.started[event_id] = started
        self._machine.pending[event_id] = outcome
        run_id = await started
        return ChildHandle(self, event_id, workflow_id, run_id, outcome)

    async def child(self, workflow: str | Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Run a child workflow to its end, and return its result; options as for `start_child`.

        Raises:
            ChildWorkflowError: if it ended without one.
        """
        return await (await self.start_child(workflow, *arguments, **options))

    def signal_external(self, workflow_id: str, signal: str, *arguments: Any) -> Future:
        """Send a signal to another workflow; awaiting raises `WorkflowNotFoundError` if there is none running."""
        facts = {"workflow_id": workflow_id, "signal": signal, "arguments": copied(arguments)}
        event_id = self._machine.command(EventType.SIGNAL_EXTERNAL_INITIATED, facts)
        future = self._machine.pending[event_id] = Future(f"signal {signal!r} to {workflow_id!r}")
        return future

    def side_effect(self, function: Callable[[], Any], *, name: str = "side_effect") -> Any:
        """Call *function* once and keep its result in the history; a replay takes it from there."""
        return self._machine.marker(name, function)

    def continue_as_new(self, *arguments: Any) -> NoReturn:
        """End this run and begin a new one, of the same workflow and id, with *arguments* and an empty history."""
        raise ContinueAsNew(copied(arguments))

    def _give(self, kind: EventType, facts: dict[str, Any], label: str, cancellation: EventType) -> Future:
        machine = self._machine
        event_id = machine.command(kind, facts)
        future = Future(label, on_cancel=lambda: machine.command(cancellation, {}, event_id))
        machine.pending[event_id] = future
        return future

    async def _limited(self, future: Future, timeout: float | None, what: str) -> Any:
        if timeout is None or future.done:
            return await future
        timer = self.sleep(timeout)

        def give_up() -> None:
            if timer.error is None:
                future.set_error(TimeoutError(f"{what} within {timeout:g} s (workflow {self.workflow_id!r})"))

        timer.when_done(give_up)
        try:
            return await future
        finally:
            if not timer.done and not self._machine.closed:
                timer.cancel(WorkflowCancelledError(self.workflow_id, self.run_id))


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
