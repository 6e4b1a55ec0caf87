"""Whose mocks are made here, and who is using them: one context variable."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from isolation_core._ambient import current_barrier

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from isolation_core.mocks._registry import MockRegistry

__all__ = ["Place", "caller", "current_registry", "note_use", "place_text"]

current_registry: Final[ContextVar[MockRegistry | None]] = ContextVar("isolation_core.current_registry", default=None)
"""The registry new mocks belong to. A barrier sets it; tasks and ``to_thread`` inherit it, plain threads do not."""

Place = tuple["CodeType", int]
"""Code and line, turned into text only when somebody asks."""


def caller() -> Place | None:
    """Return the nearest place outside isolation_core."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frame = frame.f_back
    return None if frame is None else (frame.f_code, frame.f_lineno)


_OURS: Final = frozenset({"isolation_core", "isolation_pytest", "isolation_unittest", "isolation_script"})


def place_text(place: Place | None) -> str:
    """Return ``file:line``, or ``an unknown place``."""
    return f"{place[0].co_filename}:{place[1]}" if place else "an unknown place"


def note_use(mock: Any, state: Any) -> None:
    """Report to the owner of *mock* that code outside its barrier uses it.

    Called when the current registry is not the mock's own. Use from a barrier
    inside the owner's is what wide fixtures are for; use from no barrier at
    all (a plain thread has no context) says nothing.
    """
    home, here = state.home, current_registry.get()
    if home is None:
        return
    outer: MockRegistry | None = here
    while outer is not None:
        if outer is home:
            return
        outer = outer.parent
    barrier = current_barrier()
    if here is not None and (barrier is None or here.opened_in is barrier or here.entered_in is barrier):
        home.note_foreign_use(mock, here.owner, borrower=here, strict=here.strict)
    elif barrier is not None and home.opened_in not in (None, barrier, *barrier.ancestors()):
        # A barrier without mocks of its own.
        home.note_foreign_use(mock, barrier.owner, strict=barrier.mode == "strict")
