"""Options of workflows and activities."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from attrs import field, frozen

from isolation_core.errors import ConfigurationError
from isolation_core.services.workflow._errors import ApplicationError

__all__ = [
    "ActivityOptions",
    "IdConflictPolicy",
    "IdReusePolicy",
    "ParentClosePolicy",
    "RetryPolicy",
    "WorkflowStatus",
]


class WorkflowStatus(StrEnum):
    """The status of a run."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    TERMINATED = "terminated"
    TIMED_OUT = "timed_out"
    CONTINUED_AS_NEW = "continued_as_new"


class IdReusePolicy(StrEnum):
    """Whether an id may be used again once the workflow that had it has ended."""

    ALLOW_DUPLICATE = "allow_duplicate"
    ALLOW_DUPLICATE_FAILED_ONLY = "allow_duplicate_failed_only"
    REJECT_DUPLICATE = "reject_duplicate"


class IdConflictPolicy(StrEnum):
    """The effect of a start while a workflow with the same id runs."""

    FAIL = "fail"
    USE_EXISTING = "use_existing"
    TERMINATE_EXISTING = "terminate_existing"


class ParentClosePolicy(StrEnum):
    """The fate of a child that still runs when its parent ends."""

    TERMINATE = "terminate"
    REQUEST_CANCEL = "request_cancel"
    ABANDON = "abandon"


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


@frozen
class RetryPolicy:
    """When and how often something is tried again; the defaults are Temporal's.

    Attributes:
        initial_interval: seconds before the second attempt.
        backoff_coefficient: the factor of the interval after each attempt.
        maximum_interval: its upper limit, by default a hundred times the first.
        maximum_attempts: how many attempts in all; 0 means without limit.
        non_retryable_error_types: names of exception classes (or `ApplicationError.type`) never retried.
    """

    initial_interval: float = field(default=1.0, kw_only=True)
    backoff_coefficient: float = field(default=2.0, kw_only=True)
    maximum_interval: float | None = field(default=None, kw_only=True)
    maximum_attempts: int = field(default=0, kw_only=True)
    non_retryable_error_types: tuple[str, ...] = field(default=(), kw_only=True, converter=_names)

    def __attrs_post_init__(self) -> None:
        for name, value, least in (
            ("initial_interval", self.initial_interval, 0.0),
            ("backoff_coefficient", self.backoff_coefficient, 1.0),
            ("maximum_attempts", self.maximum_attempts, 0),
        ):
            if value < least:
                raise ConfigurationError(f"{name} must be at least {least:g}, not {value!r}", name=name, value=value)

    def interval(self, attempt: int) -> float:
        """Return the seconds to wait after the failed attempt number *attempt*, counted from 1."""
        limit = 100 * self.initial_interval if self.maximum_interval is None else self.maximum_interval
        try:
            return min(limit, self.initial_interval * self.backoff_coefficient ** (attempt - 1))
        except OverflowError:
            return limit

    def retries(self, error: BaseException) -> bool:
        """Return whether *error* is one that is retried at all."""
        if isinstance(error, ApplicationError) and (
            error.non_retryable or error.type in self.non_retryable_error_types
        ):
            return False
        return not any(base.__name__ in self.non_retryable_error_types for base in type(error).__mro__)


@frozen
class ActivityOptions:
    """How an activity is run; all times are virtual seconds.

    Attributes:
        retry: when it is tried again.
        start_to_close_timeout: limit of one attempt; exceeding it is retried.
        schedule_to_close_timeout: limit of all attempts together.
        schedule_to_start_timeout: limit of waiting for a free slot, where activities are limited in number.
        heartbeat_timeout: longest silence between two calls of `heartbeat`.
    """

    retry: RetryPolicy = field(factory=RetryPolicy, kw_only=True)
    start_to_close_timeout: float | None = field(default=None, kw_only=True)
    schedule_to_close_timeout: float | None = field(default=None, kw_only=True)
    schedule_to_start_timeout: float | None = field(default=None, kw_only=True)
    heartbeat_timeout: float | None = field(default=None, kw_only=True)
