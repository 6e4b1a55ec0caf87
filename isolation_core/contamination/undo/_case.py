"""The input of the undo policy: all changes of one barrier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from isolation_core.contamination.undo._entries import Entry
    from isolation_core.contamination.undo._savepoint import Frame
    from isolation_core.contamination.undo._snapshot import View

__all__ = ["Case"]


@frozen
class Case:
    """All changes that one barrier is responsible for.

    Attributes:
        entries: the changes.
        frame: the barrier.
        view: what is watched.
        log: the steps the changes are made of.
    """

    entries: tuple[Entry, ...]
    frame: Frame
    view: View
    log: tuple[Entry, ...] = ()

    def undecided(self) -> Iterator[Entry]:
        """Yield the changes that no rule has decided yet."""
        return (entry for entry in self.entries if entry.decision is None)
