"""Routines of a workflow and what they wait for: a scheduler of its own, so that a replay repeats it exactly."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

__all__ = ["Future", "Routine"]


class Future:
    """The outcome of a command. Await it in the workflow that gave the command, as often as you like.

    Attributes:
        done: whether the outcome is known.
        label: the name of its operation.
        patient: whether a cancelled one still waits for the outcome, because its operation cleans up.
    """

    def __init__(self, label: str, *, on_cancel: Callable[[], object] | None = None, patient: bool = False) -> None:
        self.label = label
        self.patient = patient
        self.done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._on_cancel = on_cancel
        self._callbacks: list[Callable[[], object]] = []

    def __await__(self) -> Generator[Future, None, Any]:
        while not self.done:
            yield self
        return self.result()

    def __repr__(self) -> str:
        return f"<{self.label}, {'done' if self.done else 'pending'}>"

    def result(self) -> Any:
        """Return the result, or raise what it failed with."""
        if self._error is not None:
            raise self._error
        return self._value

    @property
    def error(self) -> BaseException | None:
        """The error it failed with."""
        return self._error

    def when_done(self, callback: Callable[[], object]) -> None:
        """Call *callback* when the outcome is known; at once if it is."""
        if self.done:
            callback()
        else:
            self._callbacks.append(callback)

    def set_result(self, value: Any) -> None:
        """Settle it; later outcomes are ignored."""
        self._settle(value, None)

    def set_error(self, error: BaseException) -> None:
        """Settle it with a failure; later outcomes are ignored."""
        self._settle(None, error)

    def cancel(self, error: BaseException) -> None:
        """Give up waiting: the awaiting code gets *error*, unless it is patient."""
        if not self.done:
            if self._on_cancel is not None:
                self._on_cancel()
            if not self.patient:
                self._settle(None, error)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        if self.done:
            return
        self.done, self._value, self._error = True, value, error
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


class Routine:
    """One strand of a workflow: its main function, an awaitable of `gather`, or a handler.

    Attributes:
        coroutine: what is run.
        outcome: a future of its end.
        waiting_on: the future it waits for, if it does.
        is_handler: whether it handles a signal or an update: those are not cancelled with the workflow.
    """

    __slots__ = ("coroutine", "is_handler", "outcome", "waiting_on")

    def __init__(self, coroutine: Any, label: str, *, is_handler: bool = False) -> None:
        self.coroutine = coroutine
        self.outcome = Future(label)
        self.waiting_on: Future | None = None
        self.is_handler = is_handler
