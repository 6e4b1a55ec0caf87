"""Tasks that a double runs for callbacks of its users: started in order, ended with it, errors kept."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from contextvars import copy_context

import anyio

from isolation_core._drive import spawn

__all__ = ["Background"]


class Background:
    """Runs callbacks in tasks beside the code that caused them.

    They begin in the order in which they were given, on trio too, and run
    concurrently from their first wait on.

    Attributes:
        errors: exceptions of callbacks.
    """

    __slots__ = ("_begun", "_live", "errors")

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self._live: dict[anyio.CancelScope, None] = {}
        self._begun: anyio.Event | None = None

    def __len__(self) -> int:
        return len(self._live)

    def start(self, function: Callable[[], Awaitable[object]], name: str) -> anyio.CancelScope:
        """Run *function* in a task of its own; the scope returned ends it."""
        before, begun = self._begun, anyio.Event()
        self._begun = begun
        scope = anyio.CancelScope()
        self._live[scope] = None

        async def run() -> None:
            try:
                with scope:
                    # Trio starts the tasks of one batch in any order.
                    if before is not None and not before.is_set():
                        await before.wait()
                    begun.set()
                    await function()
            except Exception as error:
                self.errors.append(error)
            finally:
                begun.set()
                self._live.pop(scope, None)

        spawn(run, copy_context(), name)
        return scope

    def cancel(self) -> None:
        """End every task, whether its loop still runs or not."""
        for scope in tuple(self._live):
            with contextlib.suppress(RuntimeError):  # its event loop is closed, and the task with it
                scope.cancel()
        self._live.clear()
        self._begun = None
