"""The handle that starting a workflow returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from isolation_core.services.workflow._policies import WorkflowStatus

if TYPE_CHECKING:
    from isolation_core.services.workflow._double import WorkflowCoordinatorDouble
    from isolation_core.services.workflow._history import History

__all__ = ["WorkflowDescription", "WorkflowHandle"]


@frozen
class WorkflowDescription:
    """The status of a run.

    Attributes:
        workflow_id: its workflow's id.
        run_id: its own.
        workflow: the name of the workflow.
        status: whether it runs, or how it ended.
        started_at: in virtual seconds since the epoch.
        closed_at: likewise; None while it runs.
        attempt: by the retry policy of the workflow, from 1.
        parent_id: the id of the workflow that started it as a child.
        pending_activities: names of activities that are scheduled or running, with the number of the attempt.
        unreceived_signals: how many signals of each name were not received.
        history_length: how many events there are.
    """

    workflow_id: str
    run_id: str
    workflow: str = field(kw_only=True)
    status: WorkflowStatus = field(kw_only=True)
    started_at: float = field(kw_only=True)
    closed_at: float | None = field(kw_only=True)
    attempt: int = field(kw_only=True)
    parent_id: str | None = field(kw_only=True)
    pending_activities: tuple[tuple[str, int], ...] = field(kw_only=True)
    unreceived_signals: Mapping[str, int] = field(kw_only=True)
    history_length: int = field(kw_only=True)


@frozen
class WorkflowHandle:
    """A workflow that was started. Everything it does is an operation of the coordinator, logged there.

    Attributes:
        workflow_id: the id.
        run_id: the run that was started; None in a handle made from an id alone.
    """

    _coordinator: WorkflowCoordinatorDouble = field(repr=False)
    workflow_id: str
    run_id: str | None = None

    async def result(self) -> Any:
        """Wait for the end and return the result, following continuations and retries.

        The virtual clock jumps to the next timer when nothing else can go on. Cancelling the wait
        does not cancel the workflow.

        Raises:
            WorkflowFailedError: or its subclasses for cancelled, terminated and timed out; ``__cause__`` says why.
        """
        return await self._coordinator.get_result(self.workflow_id, run_id=self.run_id)

    async def signal(self, signal: str, *arguments: Any) -> None:
        """Send a signal."""
        await self._coordinator.signal_workflow(self.workflow_id, signal, *arguments)

    async def query(self, query: str, *arguments: Any) -> Any:
        """Ask a query handler; works on ended workflows too."""
        return await self._coordinator.query_workflow(self.workflow_id, query, *arguments)

    async def update(self, update: str, *arguments: Any) -> Any:
        """Have an update handler run, and return what it gives."""
        return await self._coordinator.update_workflow(self.workflow_id, update, *arguments)

    async def cancel(self) -> None:
        """Ask it to cancel itself; how it ends is up to its code."""
        await self._coordinator.cancel_workflow(self.workflow_id)

    async def terminate(self, reason: str = "") -> None:
        """End it at once, without running its code."""
        await self._coordinator.terminate_workflow(self.workflow_id, reason)

    async def describe(self) -> WorkflowDescription:
        """Return its status."""
        return await self._coordinator.describe_workflow(self.workflow_id, run_id=self.run_id)

    @property
    def history(self) -> History:
        """The events of this run so far."""
        return self._coordinator.history(self.workflow_id, run_id=self.run_id)
