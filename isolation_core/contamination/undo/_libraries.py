"""State of libraries: what their profiles say must stay, and what is put back without a word."""

from __future__ import annotations

from isolation_core.contamination.libraries._state import LibraryKey, LibraryState
from isolation_core.contamination.undo._case import Case
from isolation_core.contamination.undo._decision import Decision
from isolation_core.contamination.undo._entries import Entry

__all__ = ["ask_profiles"]


def ask_profiles(case: Case) -> None:
    """Decide about changes of library state as the unit they belong to says."""
    units: dict[int, tuple[LibraryState, list[Entry]]] = {}
    for entry in case.undecided():
        state = entry.slot.holder
        if isinstance(state, LibraryState):
            units.setdefault(id(state), (state, []))[1].append(entry)
    for state, entries in units.values():
        unit = state.unit
        keys: list[LibraryKey] = [entry.slot.key for entry in entries]  # type: ignore[misc]
        stays = state.kept({key: (entry.target, entry.after) for key, entry in zip(keys, entries, strict=True)})
        for key, entry in zip(keys, entries, strict=True):
            reason = stays.get(key)
            if reason is not None:
                entry.decision = Decision.kept("library", reason)
            elif unit.silent is not None and unit.silent(key[1]):
                entry.decision = Decision.undone("library-lazy", "healthy tests change it as well")
