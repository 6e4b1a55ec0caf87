"""The history of a run: everything that went into it and every command it gave, in order."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, overload

from attrs import asdict, field, frozen

from isolation_core.services.workflow._errors import ActivityError, ApplicationError, ChildWorkflowError
from isolation_core.services.workflow._policies import ActivityOptions, RetryPolicy

__all__ = ["Event", "EventType", "History", "copied"]


class EventType(StrEnum):
    """What happened; the names are Temporal's."""

    WORKFLOW_STARTED = "WorkflowExecutionStarted"
    WORKFLOW_COMPLETED = "WorkflowExecutionCompleted"
    WORKFLOW_FAILED = "WorkflowExecutionFailed"
    WORKFLOW_TIMED_OUT = "WorkflowExecutionTimedOut"
    WORKFLOW_CANCEL_REQUESTED = "WorkflowExecutionCancelRequested"
    WORKFLOW_CANCELED = "WorkflowExecutionCanceled"
    WORKFLOW_TERMINATED = "WorkflowExecutionTerminated"
    WORKFLOW_CONTINUED_AS_NEW = "WorkflowExecutionContinuedAsNew"
    WORKFLOW_SIGNALED = "WorkflowExecutionSignaled"
    UPDATE_ACCEPTED = "WorkflowExecutionUpdateAccepted"
    UPDATE_COMPLETED = "WorkflowExecutionUpdateCompleted"
    ACTIVITY_SCHEDULED = "ActivityTaskScheduled"
    ACTIVITY_STARTED = "ActivityTaskStarted"
    ACTIVITY_COMPLETED = "ActivityTaskCompleted"
    ACTIVITY_FAILED = "ActivityTaskFailed"
    ACTIVITY_TIMED_OUT = "ActivityTaskTimedOut"
    ACTIVITY_CANCEL_REQUESTED = "ActivityTaskCancelRequested"
    ACTIVITY_CANCELED = "ActivityTaskCanceled"
    TIMER_STARTED = "TimerStarted"
    TIMER_FIRED = "TimerFired"
    TIMER_CANCELED = "TimerCanceled"
    CHILD_INITIATED = "StartChildWorkflowExecutionInitiated"
    CHILD_START_FAILED = "StartChildWorkflowExecutionFailed"
    CHILD_STARTED = "ChildWorkflowExecutionStarted"
    CHILD_COMPLETED = "ChildWorkflowExecutionCompleted"
    CHILD_FAILED = "ChildWorkflowExecutionFailed"
    CHILD_CANCELED = "ChildWorkflowExecutionCanceled"
    CHILD_TERMINATED = "ChildWorkflowExecutionTerminated"
    CHILD_TIMED_OUT = "ChildWorkflowExecutionTimedOut"
    SIGNAL_EXTERNAL_INITIATED = "SignalExternalWorkflowExecutionInitiated"
    SIGNAL_EXTERNAL_FAILED = "SignalExternalWorkflowExecutionFailed"
    EXTERNAL_SIGNALED = "ExternalWorkflowExecutionSignaled"
    CANCEL_EXTERNAL_INITIATED = "RequestCancelExternalWorkflowExecutionInitiated"
    MARKER_RECORDED = "MarkerRecorded"


COMMANDS = frozenset(
    {
        EventType.WORKFLOW_COMPLETED, EventType.WORKFLOW_FAILED, EventType.WORKFLOW_CANCELED,
        EventType.WORKFLOW_CONTINUED_AS_NEW, EventType.UPDATE_COMPLETED, EventType.ACTIVITY_SCHEDULED,
        EventType.ACTIVITY_CANCEL_REQUESTED, EventType.TIMER_STARTED, EventType.TIMER_CANCELED,
        EventType.CHILD_INITIATED, EventType.SIGNAL_EXTERNAL_INITIATED, EventType.CANCEL_EXTERNAL_INITIATED,
        EventType.MARKER_RECORDED,
    }
)  # fmt: skip
"""What the code of a workflow causes; everything else happens to it."""

_DECIDING = ("activity", "workflow", "seconds", "workflow_id", "signal", "marker", "update")


def copied(value: Any) -> Any:
    """Return a copy of a payload, on which later changes have no effect; objects that cannot be copied are shared."""
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def _read_only(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(attributes))


@frozen
class Event:
    """One event of a history.

    Attributes:
        id: its number, from 1.
        type: what happened.
        time: when, in seconds since the epoch, by the virtual clock.
        attributes: the facts; payloads are copies.
        refers_to: the id of the event that this one is the outcome of, if it is one.
    """

    id: int
    type: EventType
    time: float = field(kw_only=True)
    attributes: Mapping[str, Any] = field(kw_only=True, converter=_read_only, factory=dict)
    refers_to: int | None = field(kw_only=True, default=None)

    @property
    def is_command(self) -> bool:
        """Whether the workflow's own code caused it."""
        return self.type in COMMANDS

    def told(self) -> str:
        """Return the event as one short text, for messages."""
        facts = ", ".join(f"{key}={self.attributes[key]!r}" for key in _DECIDING if key in self.attributes)
        return f"{self.type.value}({facts})"

    def same_command(self, other: Event) -> bool:
        """Return whether both are the same decision; payloads and times may differ."""
        return (
            self.type is other.type
            and self.refers_to == other.refers_to
            and all(self.attributes.get(key) == other.attributes.get(key) for key in _DECIDING)
        )


class History(Sequence[Event]):
    """The events of one run, in order.

    Args:
        workflow: the name of the workflow.
        events: what happened.
    """

    def __init__(self, workflow: str, events: Sequence[Event]) -> None:
        self.workflow = workflow
        self._events = tuple(events)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | Sequence[Event]:
        return self._events[index]

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __repr__(self) -> str:
        return f"<History of {self.workflow!r}, {len(self)} events>"

    @property
    def types(self) -> tuple[str, ...]:
        """The kinds of events, in order, for comparisons in tests."""
        return tuple(event.type.value for event in self)

    def to_json(self) -> str:
        """Return the history as JSON, to be kept beside the code and replayed later; payloads must be JSON data."""
        rows = [
            {
                "id": event.id, "type": event.type.value, "time": event.time, "refers_to": event.refers_to,
                "attributes": dict(event.attributes),
            }
            for event in self
        ]  # fmt: skip
        return json.dumps({"workflow": self.workflow, "events": rows}, default=_encoded, indent=1)

    @classmethod
    def from_json(cls, text: str) -> History:
        """Read what `to_json` wrote; failures come back as `ApplicationError` of the original's type name."""
        data = json.loads(text, object_hook=_decoded)
        return cls(
            data["workflow"],
            [
                Event(
                    row["id"], EventType(row["type"]), time=row["time"], refers_to=row["refers_to"],
                    attributes=row["attributes"],
                )
                for row in data["events"]
            ],
        )  # fmt: skip


def _encoded(value: object) -> Any:
    if isinstance(value, ActivityError):
        facts = {"activity": value.activity, "attempt": value.attempt, "retry_state": value.retry_state}
        return {"__activity__": facts, "cause": value.__cause__}
    if isinstance(value, ChildWorkflowError):
        return {"__child__": [value.workflow_id, value.workflow_type], "cause": value.__cause__}
    if isinstance(value, BaseException):
        kind = value.type if isinstance(value, ApplicationError) else type(value).__name__
        return {"__failure__": str(value), "type": kind}
    if isinstance(value, (ActivityOptions, RetryPolicy)):
        return asdict(value, recurse=False)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    raise TypeError(
        f"a payload of type {type(value).__name__} cannot be kept as JSON; give the workflow plain data, or replay the "
        "history object itself"
    )


def _decoded(value: dict[str, Any]) -> object:
    if "arguments" in value:
        value["arguments"] = tuple(value["arguments"])
    if "__activity__" in value:
        facts = value["__activity__"]
        return ActivityError(
            facts["activity"], attempt=facts["attempt"], retry_state=facts["retry_state"], cause=value["cause"]
        )
    if "__child__" in value:
        workflow_id, workflow_type = value["__child__"]
        return ChildWorkflowError(workflow_id, workflow_type, value["cause"])
    if "__failure__" in value:
        return ApplicationError(value["__failure__"], type=value["type"])
    return value
