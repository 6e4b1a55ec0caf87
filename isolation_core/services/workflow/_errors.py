"""Errors of workflows and activities; the names are those of the field."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from isolation_core._suggest import did_you_mean
from isolation_core.errors import IsolationError

__all__ = [
    "ActivityError",
    "ActivityTimeoutError",
    "ApplicationError",
    "ChildWorkflowError",
    "CoordinatorTimeoutError",
    "CoordinatorUnavailableError",
    "ForeignAwaitError",
    "HandlerError",
    "NonDeterminismError",
    "NotRegisteredError",
    "ReadOnlyContextError",
    "UpdateFailedError",
    "UpdateRejectedError",
    "WorkflowAlreadyStartedError",
    "WorkflowCancelledError",
    "WorkflowError",
    "WorkflowFailedError",
    "WorkflowNotFoundError",
    "WorkflowTerminatedError",
    "WorkflowTimedOutError",
]


class WorkflowError(IsolationError, RuntimeError):
    """Base of the errors of the workflow coordinator."""


class CoordinatorUnavailableError(WorkflowError, ConnectionError):
    """A fault plan made the coordinator unreachable, or refuse a request.

    Attributes:
        kind: which of the kinds of faults it was.
    """

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class CoordinatorTimeoutError(WorkflowError, TimeoutError):
    """A fault plan let a request of the coordinator time out; whether it was carried out is not known."""


class ApplicationError(WorkflowError):
    """Raised by activities and workflows on purpose, or standing for an error read back from a saved history.

    Attributes:
        type: the kind of error, matched by `RetryPolicy.non_retryable_error_types`.
        non_retryable: whether retrying is pointless.
        details: whatever the raiser adds.
    """

    def __init__(self, message: str, *details: Any, type: str | None = None, non_retryable: bool = False) -> None:  # noqa: A002
        super().__init__(message)
        self.type = type or "ApplicationError"
        self.non_retryable = non_retryable
        self.details = details


class WorkflowFailedError(WorkflowError):
    """A workflow ended, but not with a result; the failure itself is the ``__cause__``.

    Attributes:
        workflow_id: which workflow.
        run_id: which run of it.
    """

    how = "failed"

    def __init__(self, workflow_id: str, run_id: str, detail: str = "") -> None:
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.detail = detail
        super().__init__(
            f"workflow {workflow_id!r} (run {run_id}) {self.how}{f': {detail}' if detail else ''}; "
            f"its history is coordinator.history({workflow_id!r})"
        )


class WorkflowCancelledError(WorkflowFailedError):
    """A workflow was cancelled; inside of it, raised where it waits at that moment.

    It is an `Exception`: a workflow may catch it, compensate with further
    activities, and raise it again.
    """

    how = "was cancelled"


class WorkflowTerminatedError(WorkflowFailedError):
    """A workflow was ended from outside, without running any of its code."""

    how = "was terminated"


class WorkflowTimedOutError(WorkflowFailedError, TimeoutError):
    """A workflow took longer than its run timeout."""

    how = "timed out"


class ActivityError(WorkflowError):
    """An activity failed for good; the exception of its last attempt is the ``__cause__``.

    Attributes:
        activity: its name.
        attempt: how many attempts were made.
        retry_state: why there was no further one: ``"maximum_attempts"``, ``"non_retryable"``, ``"timeout"``,
            ``"cancelled"`` or ``"runaway"``.
    """

    def __init__(self, activity: str, *, attempt: int, retry_state: str, cause: BaseException | None) -> None:
        self.activity = activity
        self.attempt = attempt
        self.retry_state = retry_state
        self.__cause__ = cause
        times = "1 attempt" if attempt == 1 else f"{attempt} attempts"
        why = f": {type(cause).__name__}: {cause}" if cause is not None else ""
        hint = ""
        if retry_state == "runaway":
            hint = ". No limit was set; give retry=RetryPolicy(maximum_attempts=...) or a schedule_to_close_timeout"
        super().__init__(f"activity {activity!r} gave up after {times} ({retry_state}){why}{hint}")


class ActivityTimeoutError(IsolationError, TimeoutError):
    """An attempt of an activity, or all of them together, took too long; the time is virtual.

    Attributes:
        activity: its name.
        kind: ``"start_to_close"``, ``"schedule_to_close"``, ``"schedule_to_start"`` or ``"heartbeat"``.
        timeout: the limit, in seconds.
    """

    def __init__(self, activity: str, kind: str, timeout: float) -> None:
        self.activity = activity
        self.kind = kind
        self.timeout = timeout
        super().__init__(f"activity {activity!r} exceeded its {kind}_timeout of {timeout:g} s (virtual time)")


class ChildWorkflowError(WorkflowError):
    """A child workflow did not end with a result; why is the ``__cause__``.

    Attributes:
        workflow_id: the child's id.
        workflow_type: the name of the workflow.
    """

    def __init__(self, workflow_id: str, workflow_type: str, cause: BaseException | None) -> None:
        self.workflow_id = workflow_id
        self.workflow_type = workflow_type
        self.__cause__ = cause
        super().__init__(f"child workflow {workflow_type!r} (id {workflow_id!r}) did not complete: {cause}")


class WorkflowAlreadyStartedError(WorkflowError):
    """The id is taken, by a running workflow or, by the reuse policy, by one that ended.

    Attributes:
        workflow_id: the id.
        run_id: the run that has it.
    """

    def __init__(self, workflow_id: str, run_id: str, why: str) -> None:
        self.workflow_id = workflow_id
        self.run_id = run_id
        super().__init__(
            f"workflow id {workflow_id!r} is taken by run {run_id}, which {why}; "
            "start with another id, or choose another id_reuse_policy or id_conflict_policy"
        )


class WorkflowNotFoundError(WorkflowError, LookupError):
    """The workflow does not exist, or it has ended already.

    Attributes:
        workflow_id: the id asked for.
    """

    def __init__(self, workflow_id: str, why: str, known: Iterable[str] = ()) -> None:
        self.workflow_id = workflow_id
        super().__init__(f"workflow {workflow_id!r} {why}{did_you_mean(workflow_id, known, before='; ')}")


class NotRegisteredError(WorkflowError, LookupError):
    """A workflow or activity was asked for by a name that nothing is registered under.

    Attributes:
        kind: ``"workflow"`` or ``"activity"``.
        name: the requested name.
        known: the registered names.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(known)
        hint = did_you_mean(name, self.known, before="; ")
        super().__init__(
            f"no {kind} is registered as {name!r}{hint or '.'} Registered: {', '.join(self.known) or 'none'}. "
            f"Register it with coordinator.register_{kind}(function, name={name!r})."
        )


class HandlerError(WorkflowError, LookupError):
    """A workflow has no handler for a query or an update, or the handler of a query raised (``__cause__``).

    Attributes:
        kind: ``"query"`` or ``"update"``.
        name: the name of the handler.
    """

    def __init__(self, workflow_id: str, kind: str, name: str, detail: str) -> None:
        self.kind = kind
        self.name = name
        super().__init__(f"{kind} {name!r} of workflow {workflow_id!r}: {detail}")


class UpdateRejectedError(WorkflowError):
    """The validator of an update refused it; nothing of it is in the history. Why is the ``__cause__``."""


class UpdateFailedError(WorkflowError):
    """The handler of an accepted update raised (``__cause__``), or the workflow ended before it was done."""


class ReadOnlyContextError(WorkflowError):
    """A query handler or a validator tried to do something: they may only look."""


class ForeignAwaitError(WorkflowError):
    """Workflow code awaited something that its context did not give; that cannot be replayed.

    Attributes:
        awaited: what it was.
    """

    def __init__(self, workflow_type: str, awaited: object) -> None:
        self.awaited = type(awaited).__name__
        super().__init__(
            f"workflow {workflow_type!r} awaited {self.awaited}, which its context did not give: a replay could not "
            "repeat it. Use the context (ctx.sleep, ctx.gather, ctx.activity, ...), or do it in an activity."
        )


class NonDeterminismError(WorkflowError):
    """Replaying a history, the workflow did something else than the history says.

    Attributes:
        event_id: the event at which they part.
        expected: the event of the history, as text; None if the history ends there.
        actual: the command of the code instead, as text; None if it gave none.
    """

    def __init__(self, workflow_type: str, event_id: int, *, expected: str | None, actual: str | None) -> None:
        self.event_id = event_id
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"workflow {workflow_type!r} parts from its history at event {event_id}: the history has "
            f"{expected or 'no further event'}, the code did {actual or 'nothing'}. Changed workflow code must still "
            "do what running workflows have done; keep the old path for them, and take time, randomness and "
            "input/output from the context or from activities."
        )
