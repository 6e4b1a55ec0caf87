"""Every exception of isolation-core: one base, each concrete one also a fitting builtin.

Messages say what happened, where, and what to do next; the facts they are made
of stay on the instance as fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from isolation_core.findings import Change, Leak

__all__ = [
    "ConfigurationError",
    "ContaminationError",
    "IsolationError",
    "JournalError",
]


class IsolationError(Exception):
    """Base of everything isolation-core raises on purpose."""


class ConfigurationError(IsolationError, ValueError):
    """A mode, option or configuration key is not one we know.

    Attributes:
        name: the offending key or option.
        value: what was given.
    """

    def __init__(self, message: str, *, name: str, value: object = None) -> None:
        super().__init__(message)
        self.name = name
        self.value = value


class ContaminationError(IsolationError, AssertionError):
    """Raised by a barrier in mode ``strict`` when something leaked out of it.

    Attributes:
        owner: who is responsible: a test id, or the barrier's group.
        changes: the `Change` objects above severity ``note``.
        leaks: the `Leak` objects above severity ``note``.
    """

    def __init__(self, owner: str, changes: Sequence[Change], leaks: Sequence[Leak]) -> None:
        self.owner = owner
        self.changes = tuple(changes)
        self.leaks = tuple(leaks)
        lines = [f"  {finding}" for finding in (*self.changes, *self.leaks)]
        super().__init__(
            f"{owner} left {len(lines)} thing(s) behind:\n" + "\n".join(lines) + "\n"
            "Undo them in the code under test, put the undo in barrier.on_cleanup(), "
            "or allow them with ignore=('kind:path-glob',)."
        )


class JournalError(IsolationError, ValueError):
    """A journal cannot be read: it is missing, something else, or of another version.

    Attributes:
        path: the file or directory in question.
    """

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path
