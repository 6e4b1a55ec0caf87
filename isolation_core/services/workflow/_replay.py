"""Replay: the events of a history go in again, and the commands must come out again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any

from isolation_core.services.workflow._context import WorkflowContext
from isolation_core.services.workflow._errors import NonDeterminismError
from isolation_core.services.workflow._history import Event, EventType, History
from isolation_core.services.workflow._machine import Machine

__all__ = ["replay"]

# What ends a run from outside: the machine is not asked.
_OUTSIDE = frozenset({EventType.WORKFLOW_TERMINATED, EventType.WORKFLOW_TIMED_OUT})


def replay(function: Callable[..., Any], history: History) -> None:
    """Check that *function* still does what *history* says it did.

    Nothing but the code of the workflow runs: no activity, no timer, no child.

    Args:
        function: the workflow function.
        history: of a run of it, finished or not.

    Raises:
        NonDeterminismError: naming the event at which they part.
    """
    _Replay(function, history).run()


class _Replay:
    def __init__(self, function: Callable[..., Any], history: History) -> None:
        self._history = history
        self._next = 0
        self._parted: NonDeterminismError | None = None
        context = WorkflowContext()
        self._machine = context._machine = Machine(
            history.workflow, lambda *arguments: function(context, *arguments), self._emit,
            context=copy_context(), recorded=self._recorded,
        )  # fmt: skip

    def run(self) -> None:
        try:
            while self._next < len(self._history) and self._parted is None:
                event = self._history[self._next]
                if event.type in _OUTSIDE:
                    break
                if event.is_command:
                    self._part(event, None)
                    break
                self._next += 1
                self._machine.apply(event)
        finally:
            self._machine.end()
        if self._parted is not None:
            raise self._parted

    def _emit(self, kind: EventType, attributes: Mapping[str, Any], refers_to: int | None = None) -> int:
        given = Event(self._next + 1, kind, time=self._machine.now, attributes=attributes, refers_to=refers_to)
        if self._parted is not None:
            return given.id
        expected = self._history[self._next] if self._next < len(self._history) else None
        if expected is None or not expected.same_command(given):
            self._part(expected, given)
        self._next += 1
        return given.id

    def _recorded(self) -> Event | None:
        expected = self._history[self._next] if self._next < len(self._history) else None
        return expected if expected is not None and expected.type is EventType.MARKER_RECORDED else None

    def _part(self, expected: Event | None, given: Event | None) -> None:
        self._parted = NonDeterminismError(
            self._history.workflow,
            self._next + 1,
            expected=expected.told() if expected is not None else None,
            actual=given.told() if given is not None else None,
        )
