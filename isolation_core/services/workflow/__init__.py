"""The workflow coordinator: deterministic workflows, retried activities, virtual timers, replay."""

from __future__ import annotations

from isolation_core.services.workflow._activities import ActivityInfo, activity_info, heartbeat
from isolation_core.services.workflow._context import ChildHandle, WorkflowContext
from isolation_core.services.workflow._double import WorkflowCoordinatorDouble
from isolation_core.services.workflow._errors import (
    ActivityError,
    ActivityTimeoutError,
    ApplicationError,
    ChildWorkflowError,
    CoordinatorTimeoutError,
    CoordinatorUnavailableError,
    ForeignAwaitError,
    HandlerError,
    NonDeterminismError,
    NotRegisteredError,
    ReadOnlyContextError,
    UpdateFailedError,
    UpdateRejectedError,
    WorkflowAlreadyStartedError,
    WorkflowCancelledError,
    WorkflowError,
    WorkflowFailedError,
    WorkflowNotFoundError,
    WorkflowTerminatedError,
    WorkflowTimedOutError,
)
from isolation_core.services.workflow._future import Future
from isolation_core.services.workflow._handle import WorkflowDescription, WorkflowHandle
from isolation_core.services.workflow._history import Event, EventType, History
from isolation_core.services.workflow._policies import (
    IdConflictPolicy,
    IdReusePolicy,
    ParentClosePolicy,
    RetryPolicy,
    WorkflowStatus,
)
from isolation_core.services.workflow._replay import replay

__all__ = [
    "ActivityError",
    "ActivityInfo",
    "ActivityTimeoutError",
    "ApplicationError",
    "ChildHandle",
    "ChildWorkflowError",
    "CoordinatorTimeoutError",
    "CoordinatorUnavailableError",
    "Event",
    "EventType",
    "ForeignAwaitError",
    "Future",
    "HandlerError",
    "History",
    "IdConflictPolicy",
    "IdReusePolicy",
    "NonDeterminismError",
    "NotRegisteredError",
    "ParentClosePolicy",
    "ReadOnlyContextError",
    "RetryPolicy",
    "UpdateFailedError",
    "UpdateRejectedError",
    "WorkflowAlreadyStartedError",
    "WorkflowCancelledError",
    "WorkflowContext",
    "WorkflowCoordinatorDouble",
    "WorkflowDescription",
    "WorkflowError",
    "WorkflowFailedError",
    "WorkflowHandle",
    "WorkflowNotFoundError",
    "WorkflowStatus",
    "WorkflowTerminatedError",
    "WorkflowTimedOutError",
    "activity_info",
    "heartbeat",
    "replay",
]
