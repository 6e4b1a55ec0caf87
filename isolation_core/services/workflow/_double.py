"""`WorkflowCoordinatorDouble`: a deterministic workflow engine behind the mock API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar, overload

from isolation_core.errors import ConfigurationError
from isolation_core.services._context import MockContext
from isolation_core.services._double import ServiceDouble
from isolation_core.services._operations import operation
from isolation_core.services._types import ServiceType
from isolation_core.services.workflow._activities import ActivityPool
from isolation_core.services.workflow._coordinator import Coordinator, Run
from isolation_core.services.workflow._errors import (
    CoordinatorTimeoutError,
    CoordinatorUnavailableError,
    NotRegisteredError,
)
from isolation_core.services.workflow._handle import WorkflowDescription, WorkflowHandle
from isolation_core.services.workflow._history import History
from isolation_core.services.workflow._policies import IdConflictPolicy, IdReusePolicy, RetryPolicy, WorkflowStatus
from isolation_core.services.workflow._replay import replay

__all__ = ["WorkflowCoordinatorDouble"]

F = TypeVar("F", bound=Callable[..., Any])


class WorkflowCoordinatorDouble(ServiceDouble):
    """Runs workflows: plain ``async def`` functions whose first argument is a `WorkflowContext`.

    Workflow code is stepped by the double itself, never by the event loop, so
    that its history can be replayed. Activities are plain functions, sync or
    async, and run in tasks of the loop that the double ends when it is closed.

    Args:
        context: the context it belongs to; None: that of the current barrier.
        name: its name in the log.
        max_concurrent_activities: how many attempts of activities run at once; None: any number.
    """

    service: ClassVar[str] = ServiceType.WORKFLOW_COORDINATOR

    def __init__(
        self,
        context: MockContext | None = None,
        *,
        name: str | None = None,
        max_concurrent_activities: int | None = None,
    ) -> None:
        if max_concurrent_activities is not None and max_concurrent_activities < 1:
            raise ConfigurationError(
                f"max_concurrent_activities must be at least 1, not {max_concurrent_activities}",
                name="max_concurrent_activities",
                value=max_concurrent_activities,
            )
        super().__init__(context, name=name)
        self._limit = max_concurrent_activities
        self._retired: list[ActivityPool] = []
        self._functions: dict[str, Any] = {}
        self._engine = self._new_engine()

    def _new_engine(self) -> Coordinator:
        engine = Coordinator(self.context.clock, seed=self.context.seed, max_concurrent_activities=self._limit)
        engine.pool.function = self._performing
        return engine

    # -- registering -----------------------------------------------------------------

    @overload
    def register_workflow(self, function: F, *, name: str | None = None) -> F: ...
    @overload
    def register_workflow(self, *, name: str | None = None) -> Callable[[F], F]: ...
    def register_workflow(self, function: Any = None, *, name: str | None = None) -> Any:
        """Make a workflow known; also a decorator, with or without arguments.

        Args:
            function: ``async def workflow(ctx, ...)``.
            name: the name to start it by; by default that of the function.

        Returns:
            The function, unchanged.

        Raises:
            ConfigurationError: if the name is taken.
        """
        if function is None:
            return partial(self.register_workflow, name=name)
        self._engine.workflows[self._free(self._engine.workflows, "workflow", function, name)] = function
        return function

    @overload
    def register_activity(self, function: F, *, name: str | None = None) -> F: ...
    @overload
    def register_activity(self, *, name: str | None = None) -> Callable[[F], F]: ...
    def register_activity(self, function: Any = None, *, name: str | None = None) -> Any:
        """Make an activity known; also a decorator, with or without arguments.

        Args:
            function: any callable, sync or async; a mock will do.
            name: its name in workflows; by default that of the function.

        Returns:
            The function, unchanged.

        Raises:
            ConfigurationError: if the name is taken.
        """
        if function is None:
            return partial(self.register_activity, name=name)
        key = self._free(self._functions, "activity", function, name)
        self._functions[key] = function
        self._engine.activities[key] = function
        return function

    def _free(self, table: dict[str, Any], kind: str, function: Any, name: str | None) -> str:
        key = name or getattr(function, "__name__", None)
        if not callable(function) or not key or not isinstance(key, str):
            raise ConfigurationError(
                f"a {kind} is a function with a name, not {function!r}; give it one with name=",
                name=kind,
                value=function,
            )
        if table.get(key, function) is not function:
            raise ConfigurationError(
                f"another {kind} is registered as {key!r} already; give this one name=", name="name", value=key
            )
        return key

    def activity(self, name: str) -> Any:
        """Return the activity *name* as a mock, from now on run in its place.

        It has the whole mock API and runs the activity unless ``return_value`` or ``side_effect`` is set.

        Raises:
            NotRegisteredError: with a did-you-mean.
        """
        if name not in self._functions:
            raise NotRegisteredError("activity", name, self._functions)
        engine = self._engine
        if engine.activities[name] is self._functions[name]:
            engine.activities[name] = self.context.mocks.create(
                self._functions[name], name=f"{self.name}.activity({name!r})", wraps=self._functions[name]
            )
        return engine.activities[name]

    def _performing(self, name: str) -> Callable[..., Any]:
        return partial(self.execute_activity, name)

    # -- operations --------------------------------------------------------------------

    @operation
    async def start_workflow(
        self,
        workflow: str | Callable[..., Any],
        *arguments: Any,
        id: str | None = None,  # noqa: A002 - the field's name for it
        id_reuse_policy: IdReusePolicy | str = IdReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy: IdConflictPolicy | str = IdConflictPolicy.FAIL,
        run_timeout: float | None = None,
        retry: RetryPolicy | None = None,
        start_signal: str | None = None,
        start_signal_args: Sequence[Any] = (),
    ) -> WorkflowHandle:
        """Start a workflow; its code runs up to its first wait before this returns.

        Args:
            workflow: the name it is registered by, or the function.
            *arguments: its arguments after the context: copies, as if they were sent over a wire.
            id: its id; by default made up, the same for the same seed.
            id_reuse_policy: whether the id of an ended workflow may be used again.
            id_conflict_policy: how to treat a running workflow with this id.
            run_timeout: how long a run may take, in virtual seconds.
            retry: when it is run again after a failure; by default never.
            start_signal: a signal to send with the start, also to a workflow that runs already.
            start_signal_args: its arguments.

        Raises:
            NotRegisteredError: with a did-you-mean.
            WorkflowAlreadyStartedError: if the id is taken.
        """
        self._ready()
        run = self._engine.start(
            workflow if isinstance(workflow, str) else getattr(workflow, "__name__", str(workflow)),
            arguments,
            workflow_id=id,
            reuse=IdReusePolicy(id_reuse_policy),
            conflict=IdConflictPolicy(id_conflict_policy),
            run_timeout=run_timeout,
            retry=retry,
        )
        if start_signal is not None:
            self._engine.signal(run, start_signal, tuple(start_signal_args))
        return WorkflowHandle(self, run.workflow_id, run.run_id)

    @operation
    async def signal_workflow(self, workflow_id: str, signal: str, *arguments: Any) -> None:
        """Send a signal to a running workflow.

        Raises:
            WorkflowNotFoundError: if it was never started or has ended.
        """
        self._ready()
        self._engine.signal(self._engine.running(workflow_id), signal, arguments)

    @operation
    async def query_workflow(self, workflow_id: str, query: str, *arguments: Any) -> Any:
        """Ask a query handler of a workflow, running or ended; nothing of it is in the history.

        Raises:
            WorkflowNotFoundError: if it was never started.
            HandlerError: if it has no such handler.
        """
        self._ready()
        return self._engine.find(workflow_id).machine.query(query, arguments)

    @operation
    async def update_workflow(self, workflow_id: str, update: str, *arguments: Any) -> Any:
        """Have an update handler run, wait for its end, and return what it gives.

        Raises:
            WorkflowNotFoundError: if the workflow was never started or has ended.
            HandlerError: if it has no such handler.
            UpdateRejectedError: if the validator refused it.
            UpdateFailedError: if the handler raised, or the workflow ended first.
        """
        self._ready()
        engine = self._engine
        run = engine.running(workflow_id)
        event_id = engine.update(run, update, arguments)
        event = await self.context.clock.wait(lambda: engine.update_outcome(run, event_id))
        if "failure" in event.attributes:
            raise event.attributes["failure"]
        return event.attributes.get("result")

    @operation
    async def cancel_workflow(self, workflow_id: str) -> None:
        """Ask a workflow to cancel itself: `WorkflowCancelledError` is raised where it waits.

        Raises:
            WorkflowNotFoundError: if it was never started or has ended.
        """
        self._ready()
        self._engine.cancel(self._engine.running(workflow_id))

    @operation
    async def terminate_workflow(self, workflow_id: str, reason: str = "") -> None:
        """End a workflow at once, without running its code.

        Raises:
            WorkflowNotFoundError: if it was never started or has ended.
        """
        self._ready()
        self._engine.terminate(self._engine.running(workflow_id), reason)

    @operation
    async def get_result(self, workflow_id: str, *, run_id: str | None = None) -> Any:
        """Wait for the end of a workflow and return its result; see `WorkflowHandle.result`."""
        self._ready()
        engine = self._engine
        first = engine.find(workflow_id, run_id)
        run = await self.context.clock.wait(lambda: _over(engine, first))
        if run.status is not WorkflowStatus.COMPLETED:
            raise run.error()
        return run.result

    @operation
    async def describe_workflow(self, workflow_id: str, *, run_id: str | None = None) -> WorkflowDescription:
        """Return the status of a workflow, by default of its latest run.

        Raises:
            WorkflowNotFoundError: if it was never started.
        """
        self._ready()
        return _description(self._engine.find(workflow_id, run_id))

    @operation
    async def list_workflows(
        self, *, workflow: str | None = None, status: WorkflowStatus | str | None = None
    ) -> list[WorkflowDescription]:
        """Return every run, in order of their start, or those of a workflow, or those with *status*."""
        self._ready()
        wanted = None if status is None else WorkflowStatus(status)
        return [
            _description(run)
            for run in self._engine.runs
            if workflow in (None, run.workflow) and wanted in (None, run.status)
        ]

    @operation
    async def execute_activity(self, activity: str, *arguments: Any) -> Any:
        """Run one attempt of an activity. The double calls it for workflows; faults and the log see each attempt.

        Raises:
            NotRegisteredError: with a did-you-mean.
        """
        value = self._engine.activity(activity)(*arguments)
        return await value if hasattr(value, "__await__") else value

    def _ready(self) -> None:
        self._require_connected()
        # What plain code let become due by advancing the clock.
        self._engine.pool.fill()

    # -- looking -----------------------------------------------------------------------

    def get_workflow_handle(self, workflow_id: str, *, run_id: str | None = None) -> WorkflowHandle:
        """Return a handle to a workflow by its id; whether there is one is seen when it is used."""
        return WorkflowHandle(self, workflow_id, run_id)

    def history(self, workflow_id: str, *, run_id: str | None = None) -> History:
        """Return what happened in a run so far, by default in the latest.

        Raises:
            WorkflowNotFoundError: if it was never started.
        """
        return self._engine.find(workflow_id, run_id).history

    def replay(self, history: History | str, workflow: Callable[..., Any] | None = None) -> None:
        """Check that the code of a workflow still does what a history says it did; nothing else is run.

        Args:
            history: of any run, or the id of a workflow for its latest.
            workflow: the code to check; by default what is registered by the name in the history.

        Raises:
            NonDeterminismError: naming the event at which they part.
        """
        if isinstance(history, str):
            history = self.history(history)
        if workflow is None:
            if history.workflow not in self._engine.workflows:
                raise NotRegisteredError("workflow", history.workflow, self._engine.workflows)
            workflow = self._engine.workflows[history.workflow]
        replay(workflow, history)

    def replay_all(self) -> None:
        """`replay` every run, to find code that is not deterministic."""
        for run in self._engine.runs:
            if run.events:
                self.replay(run.history)

    def fault_error(self, kind: str) -> BaseException:
        """Return what is raised for *kind* of fault."""
        text = f"workflow coordinator {self.name!r}: {kind}, by the fault plan"
        return CoordinatorTimeoutError(text) if kind == "timeout" else CoordinatorUnavailableError(text, kind=kind)

    def problems(self) -> tuple[str, ...]:
        """Return which workflows still run, and which signals and failures were never received."""
        found = list(super().problems())
        for run in self._engine.runs:
            if run.running:
                waits = ", ".join(each.name for each in run.activities.values())
                found.append(f"{run!r} still runs{f', waiting for activity {waits}' if waits else ''}")
            found.extend(
                f"signal {name!r} was never received by {run!r} ({count} times)" if count > 1
                else f"signal {name!r} was never received by {run!r}"
                for name, count in run.machine.unreceived.items()
            )  # fmt: skip
        return tuple(found)

    # -- end ---------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget every workflow, activity and run; end those that run."""
        super().reset()
        self._halt()
        self._functions.clear()
        self._engine = self._new_engine()

    @property
    def needs_await(self) -> bool:
        """Whether tasks of activities still run."""
        return any(pool.busy for pool in (*self._retired, self._engine.pool))

    async def close(self) -> None:
        """End every workflow and activity, and wait for the tasks of the latter.

        Raises:
            ExceptionGroup: of what activities raised while they were ended.
        """
        self.close_now()
        for pool in self._retired:
            await pool.drain()
        late = [error for pool in self._retired for error in pool.late_errors]
        self._retired.clear()
        if late:
            raise ExceptionGroup(f"activities of {self.name!r} failed while they were ended", late)

    def close_now(self) -> None:
        """End every workflow, and cancel activities without waiting for them."""
        self._halt()
        super().close_now()

    def _halt(self) -> None:
        engine = self._engine
        if engine.pool not in self._retired:
            self._retired.append(engine.pool)
        engine.halt()


def _over(engine: Coordinator, first: Run) -> Run | None:
    run = engine.following(first)
    return None if run.running else run


def _description(run: Run) -> WorkflowDescription:
    return WorkflowDescription(
        run.workflow_id,
        run.run_id,
        workflow=run.workflow,
        status=run.status,
        started_at=run.started_at,
        closed_at=None if run.running else run.closed_at,
        attempt=run.attempt,
        parent_id=run.parent[0].workflow_id if run.parent is not None else None,
        pending_activities=tuple((each.name, each.attempt) for each in run.activities.values()),
        unreceived_signals=run.machine.unreceived,
        history_length=len(run.events),
    )
