"""The units in use, and whether any of them moved."""

from __future__ import annotations

from collections.abc import Iterable

from isolation_core.contamination.libraries._state import LibraryState
from isolation_core.contamination.probes._guards import CAN_GUARD, Guards

__all__ = ["LibraryWatch"]


class LibraryWatch:
    """Asks all units at once whether any of them moved.

    Attributes:
        owned: attributes of modules and classes that a unit speaks for: address of the holder, and name.
    """

    def __init__(self) -> None:
        self._states: dict[int, LibraryState] = {}
        self._guards = Guards()
        self._unguarded: tuple[LibraryState, ...] = ()
        self.owned: set[tuple[int, object]] = set()

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, state: object) -> bool:
        return id(state) in self._states

    def add(self, state: LibraryState) -> None:
        """Watch *state*."""
        self._states[id(state)] = state
        self.owned.update(state.owned())
        self._guards.invalidate()

    def remove(self, state: LibraryState) -> None:
        """Watch it no longer."""
        if self._states.pop(id(state), None) is not None:
            self._guards.invalidate()

    def invalidate(self) -> None:
        """Ask all of them the next time."""
        self._guards.invalidate()

    def suspects(self) -> Iterable[LibraryState]:
        """Return those that may have moved; `accept` has to be called when they have been read."""
        if CAN_GUARD and self._guards.nothing_moved():
            return self._unguarded
        self._guards.invalidate()
        return tuple(self._states.values())

    def accept(self, read: Iterable[LibraryState]) -> None:
        """Take the readings as they are now, if *read* was all of them."""
        if not CAN_GUARD or read is self._unguarded:
            return
        named = []
        unguarded = []
        for state in self._states.values():
            guard = state.guard()
            if guard is None:
                unguarded.append(state)
            else:
                named.append(guard)
        self._unguarded = tuple(unguarded)
        self._guards.accept(named)
