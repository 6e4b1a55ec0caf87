"""The state of one unit of a library, as the object graph watches it."""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, cast

from isolation_core.contamination._difference import MISSING, Difference
from isolation_core.contamination.libraries._parts import Attributes, Key, Part, same_tables
from isolation_core.contamination.libraries._profile import Changes, Profile, Unit
from isolation_core.contamination.objects._containers import ObjectState
from isolation_core.contamination.probes._probe import Guard
from isolation_core.journal import get_journal

__all__ = ["LibraryKey", "LibraryState"]

LibraryKey = tuple[int, Key]
"""Number of the part and key in it."""


class _Anchor:
    """Stands in the graph for state that the whole process shares."""


class LibraryState(ObjectState):
    """All stores of one unit: read together, and put back whole or not at all.

    Values to put back are gathered by `write` and written by `finish`. If one of
    them cannot be written, everything is taken back to what it was before.

    Args:
        profile: the profile the unit is of.
        unit: the unit.
        root: the object it is about; `MISSING`: the process.

    Attributes:
        off: why it is not watched any more, once a read has failed.
        refusal: why the last values could not be put back, if they could not.

    Raises:
        LookupError: if a module is not imported yet.
        AttributeError: if the library lacks what the profile names.
    """

    __slots__ = ("_pending", "is_global", "off", "parts", "profile", "refusal", "unit")
    kind = "library"
    code = "LIB001"

    def __init__(self, profile: Profile, unit: Unit, root: Any = MISSING) -> None:
        self.profile = profile
        self.unit = unit
        self.is_global = root is MISSING
        self.parts: tuple[Part, ...] = tuple(place.bind(root) for place in unit.places)
        self.off: str | None = None
        self.refusal: str | None = None
        self._pending: dict[int, dict[Key, Any]] = {}
        self.holder: Any = _Anchor() if root is MISSING else root
        self.node: Any = None
        # A library that lacks what the profile names differs here from one that fails later.
        self.saved: Any = tuple(part.read() for part in self.parts)

    @property
    def targets(self) -> tuple[Any, ...]:
        return ()

    @property
    def root(self) -> Any:
        """The object it is about, None for the process."""
        return None if self.is_global else self.holder

    def read(self) -> tuple[dict[Key, Any], ...]:
        saved: tuple[dict[Key, Any], ...] = self.saved
        if self.off is not None:
            return saved
        try:
            now = tuple(part.read() for part in self.parts)
            if all(map(same_tables, saved, now)):
                return saved
        except Exception as error:
            self._switch_off(error)
            return saved
        return now

    def _switch_off(self, error: Exception) -> None:
        self.off = f"{type(error).__name__}: {error}"
        get_journal().record("library-unit-off", library=self.profile.library, unit=self.unit.name, error=self.off)

    def guard(self) -> Guard | None:
        """Return readings that prove that nothing has moved, or None."""
        if self.off is not None:
            return Guard()
        try:
            guards = [part.guard() for part in self.parts]
        except Exception as error:
            self._switch_off(error)
            return Guard()
        known = [guard for guard in guards if guard is not None]
        if len(known) < len(guards):
            return None
        return Guard(
            values=tuple(each for guard in known for each in guard.values),
            objects=tuple(each for guard in known for each in guard.objects),
            attributes=tuple(each for guard in known for each in guard.attributes),
            dicts=tuple(each for guard in known for each in guard.dicts),
            lists=tuple(each for guard in known for each in guard.lists),
            memory=tuple(each for guard in known for each in guard.memory),
        )

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        for index, (part, table) in enumerate(zip(self.parts, snapshot, strict=True)):
            for key, value in table.items() if part.leads else ():
                # The containers are part of this state.
                if not issubclass(type(value), (dict, list, set, deque, tuple, frozenset)):
                    yield (index, key), value

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        if before is after:
            return
        for index, (part, was_all, newer) in enumerate(zip(self.parts, before, after, strict=True)):
            older = part.earlier(was_all, newer)
            for key, was in older.items():
                now = newer.get(key, MISSING)
                if was is not now and not part.agrees(was, now):
                    yield Difference((index, key), before=was, after=now)
            for key, now in newer.items():
                if key not in older and not _is_asked_for(key, newer):
                    yield Difference((index, key), before=MISSING, after=now)

    def agrees_at(self, key: Hashable, one: Any, other: Any) -> bool:
        """Return whether two values of *key* are the same for restoring."""
        index, _ = cast("LibraryKey", key)
        return self.parts[index].agrees(one, other)

    def write(self, key: Hashable, value: Any) -> None:
        index, inner = cast("LibraryKey", key)
        self._pending.setdefault(index, {})[inner] = value

    def kept(self, changes: Changes) -> Mapping[LibraryKey, str]:
        """Return which of *changes* must stay, with the reasons; all of them if that cannot be worked out."""
        try:
            return {} if self.unit.keep is None else self.unit.keep(self.root, changes)
        except Exception as error:
            reason = f"{type(error).__name__} while looking at who holds it: {error}"
            return dict.fromkeys(changes, reason)

    def finish(self) -> None:
        pending, self._pending = self._pending, {}
        if not pending:
            return
        self.refusal = None
        before = tuple(part.read() for part in self.parts)
        changes = {
            (index, key): (value, before[index].get(key, MISSING))
            for index, values in pending.items()
            for key, value in values.items()
        }
        try:
            for index in sorted(pending):
                self.parts[index].put(pending[index])
            if self.unit.then is not None:
                self.unit.then(self.root, changes)
        except Exception as error:
            self.refusal = f"{type(error).__name__} while putting it back: {error}; all of it was left as it was"
            self._take_back(before)

    def _take_back(self, before: tuple[dict[Key, Any], ...]) -> None:
        for part, older in zip(self.parts, before, strict=True):
            with contextlib.suppress(Exception):
                now = part.read()
                moved = {key: older.get(key, MISSING) for key in (*older, *now)}
                part.put({key: each for key, each in moved.items() if now.get(key, MISSING) is not each})
        if self.unit.then is not None:
            with contextlib.suppress(Exception):
                self.unit.then(self.root, {})

    def accessor(self, key: Hashable) -> str:
        index, inner = cast("LibraryKey", key)
        return self.parts[index].text(inner)

    def shown(self, value: Any) -> Any:
        return list(value) if type(value) is tuple else value

    def owned(self) -> Iterator[tuple[int, str]]:
        """Yield the attributes of modules and classes that the graph may watch as well."""
        for part in self.parts:
            if isinstance(part, Attributes):
                yield from part.owned()


def _is_asked_for(key: Key, table: dict[Key, Any]) -> bool:
    """Return whether something is one of the empty containers that a `defaultdict` makes when it is asked."""
    if len(key) < 2 or not _is_hollow(table[key]):
        return False
    return any(issubclass(type(table.get(key[:steps])), defaultdict) for steps in range(1, len(key)))


def _is_hollow(value: Any) -> bool:
    """Return whether there is nothing in a container but empty containers."""
    kind = type(value)
    if issubclass(kind, dict):
        return all(map(_is_hollow, dict.values(value)))
    return issubclass(kind, (list, set, tuple, frozenset)) and len(value) == 0
