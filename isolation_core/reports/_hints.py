"""What a finding's code means and what to do about it."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

__all__ = ["CodeEntry", "explain"]


class CodeEntry(Protocol):
    """What is known about a code."""

    @property
    def title(self) -> str:
        """A few words: what happened."""
        ...

    @property
    def explanation(self) -> str:
        """A paragraph: how it is noticed and why it matters."""
        ...

    @property
    def fix(self) -> str:
        """What to type instead."""
        ...

    @property
    def reserved(self) -> bool:
        """Whether no part of this version reports it."""
        ...


def explain(code: str) -> CodeEntry | None:
    """Return what is known about *code*, None for a code nobody has described.

    Args:
        code: the stable code of a finding, such as ``"ENV001"``; letter case does not matter.
    """
    # Loaded late: reports are also rendered where no barrier was ever opened.
    try:
        table: Any = importlib.import_module("isolation_core.contamination._codes")
    except ModuleNotFoundError:
        return None
    entry: CodeEntry | None = table.CODES.get(code.upper())
    return entry
