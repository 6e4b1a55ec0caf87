"""Which barrier is the current one: of this task, or of the runner."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final
from weakref import ref

if TYPE_CHECKING:
    from isolation_core.barrier import Barrier

__all__ = ["current_barrier", "open_barriers", "runner_barriers", "task_barrier"]

task_barrier: Final[ContextVar[Barrier | None]] = ContextVar("isolation_core.barrier", default=None)

runner_barriers: Final[list[Barrier]] = []
"""Barriers a test runner has open, widest first.

A runner opens them around phases whose code runs in contexts of its own (an
event loop made earlier keeps the context it was made in), so a context
variable alone would show a barrier that is closed long since.
"""

open_barriers: Final[dict[int, ref[Barrier]]] = {}
"""All barriers that are open, by identity. One that was dropped while open leaves
a dead reference behind; a `WeakSet` would clear it, at twice the cost for each barrier."""


def current_barrier() -> Barrier | None:
    """Return the innermost open barrier around the caller, or None."""
    mine = task_barrier.get()
    while mine is not None and not mine.is_open:
        mine = mine.parent
    theirs = runner_barriers[-1] if runner_barriers else None
    if mine is None or (theirs is not None and mine in theirs.ancestors()):
        return theirs
    return mine
