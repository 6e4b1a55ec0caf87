"""Caches: kept where what they learned is true, emptied of it where it may be false.

A cache that is emptied after every test does not count as a cache. A cache that was filled
while a function was patched answers the next test with a lie. So what a cache
gained is kept silently if the test did nothing that an answer could depend on,
and taken out again where it did, or where that cannot be known.
"""

from __future__ import annotations

import enum
import gc
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination._first_party import module_of
from isolation_core.contamination.objects import _namespaces as names
from isolation_core.contamination.objects._caches import CacheState
from isolation_core.contamination.objects._containers import ORDER, DictState
from isolation_core.contamination.objects._slot import ObjectSlot
from isolation_core.contamination.undo._case import Case
from isolation_core.contamination.undo._decision import CODE_OF, Decision
from isolation_core.contamination.undo._entries import Entry
from isolation_core.contamination.undo._spelling import asks_first

__all__ = ["decide_caches", "is_cache", "is_immutable"]

_IMMUTABLE: Final = frozenset({bool, bytes, complex, float, int, range, re.Pattern, str, type(None), type(Ellipsis)})
# By name: a run that uses none of them does not load them because of us.
_IMMUTABLE_NAMES: Final = frozenset(
    {
        ("datetime", "date"), ("datetime", "datetime"), ("datetime", "time"), ("datetime", "timedelta"),
        ("decimal", "Decimal"), ("fractions", "Fraction"), ("pathlib", "PosixPath"), ("pathlib", "PurePosixPath"),
        ("pathlib", "PureWindowsPath"), ("pathlib", "WindowsPath"), ("pathlib._local", "PosixPath"),
        ("uuid", "UUID"),
    }
)  # fmt: skip
_PLAIN: Final[frozenset[type]] = frozenset({dict, list, set, tuple, frozenset})


def decide_caches(case: Case) -> None:
    """Keep what caches learned, or empty them of it silently."""
    caches = [entry for entry in case.undecided() if is_cache(entry, case.view.modules.includes)]
    if not caches:
        return
    reason = _taint(case, caches)
    remade = any(entry.decision is not None and entry.decision.code == CODE_OF["first use"] for entry in case.entries)
    for entry in caches:
        if reason is None and not (remade and _holds_objects(entry)):
            entry.decision = Decision.kept("cache", "a cache learned it, and the test changed nothing it depends on")
        else:
            why = reason or "an object was put back that the answer may hold"
            entry.decision = Decision.undone("cache", f"a cache learned it while {why}")


def is_cache(entry: Entry, is_first_party: Callable[[str], bool]) -> bool:
    """Return whether *entry* is something that a cache learned."""
    slot = entry.slot
    if not isinstance(slot, ObjectSlot) or slot.key is ORDER:
        return False
    state = slot.state
    if isinstance(state, CacheState):
        return True
    if entry.target is not MISSING:
        return False
    if isinstance(state, names.AttributesState):
        return isinstance(slot.key, str) and names.is_lazy_attribute(type(state.holder), slot.key)
    if not isinstance(state, DictState):
        return False
    if slot.key == "__annotations__":
        return True
    if issubclass(type(state.holder), defaultdict) and _is_fresh(entry.after):
        return True
    return is_immutable(entry.after) and asks_first(slot, is_first_party)


def _is_fresh(value: Any) -> bool:
    """Return whether *value* is what a factory makes, and is still empty."""
    return type(value) in (dict, int, list, set, str) and not value


def is_immutable(value: Any) -> bool:
    """Return whether *value* cannot change, nor anything in it."""
    kind = type(value)
    if kind in (tuple, frozenset):
        return all(map(is_immutable, value))
    named = (module_of(kind), type.__dict__["__name__"].__get__(kind)) in _IMMUTABLE_NAMES
    return kind in _IMMUTABLE or named or issubclass(kind, enum.Enum)


def _taint(case: Case, caches: list[Entry]) -> str | None:
    """Return what the test did that an answer may depend on, or None."""
    others = {id(entry) for entry in caches}
    for entry in case.undecided():
        if id(entry) not in others and not entry.slot.is_silent and entry.severity != "note":
            return f"{entry.slot.path()} was changed"
    if case.view.graph.touches != case.frame.touches:
        return "a module or class was changed and put back"
    return case.frame.test.taint()


def _holds_objects(entry: Entry) -> bool:
    """Return whether the answer is more than plain data."""
    slot = entry.slot
    if isinstance(slot, ObjectSlot) and isinstance(slot.state, CacheState):
        holder = slot.state.holder
        own = {id(holder.__dict__), id(slot.state.keyed), id(type(holder)), id(holder.__wrapped__)}
        answers = [each for each in gc.get_referents(holder) if id(each) not in own]
    else:
        answers = [entry.after]
    return not all(is_immutable(each) or type(each) in _PLAIN or issubclass(type(each), type) for each in answers)
