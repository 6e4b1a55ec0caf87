"""First use: an object that code makes when it is first asked for, and what becomes of it.

``_engine = None`` becomes an engine in whichever test comes first. If nothing
else holds the engine, it is put back to None silently.
If a library's registry, a thread or the interpreter holds it, it is kept, with
everything that was made together with it: otherwise the next test would make it
a second time. It is a finding where the test wrote to the new object, or where
the object holds something dead or something of the test's own.
"""

from __future__ import annotations

import gc
import io
import types
from typing import Any, Final

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination._first_party import module_of
from isolation_core.contamination.objects import _namespaces as names
from isolation_core.contamination.objects._caches import CacheState
from isolation_core.contamination.objects._containers import ORDER, DictState
from isolation_core.contamination.objects._functions import CellState, SlotsState
from isolation_core.contamination.objects._slot import ObjectSlot
from isolation_core.contamination.undo._caches import is_cache
from isolation_core.contamination.undo._case import Case
from isolation_core.contamination.undo._decision import Decision
from isolation_core.contamination.undo._entries import Entry
from isolation_core.contamination.undo._escape import CAN_COUNT, Units, is_bound_by_a_library, is_evidence, new_values
from isolation_core.contamination.undo._spelling import asks_first, is_own_name, value_in
from isolation_core.contamination.undo._syntax import syntax_of

__all__ = ["decide_first_use"]

_MOCKS: Final = ("unittest.mock", "mock.mock", "mock", "isolation_core.mocks")
_REGISTRATIONS: Final[tuple[type, ...]] = (type, types.FunctionType, types.MethodType, types.ModuleType)


def decide_first_use(case: Case) -> None:
    """Undo silently what was made on first use, or keep it whole where it escaped."""
    first = [entry for entry in case.undecided() if _is_first_use(entry, case)]
    if not first:
        return
    units = Units(case, first)
    escaped = _escaped(case, first, units) if CAN_COUNT else []
    for entry in escaped:
        name = type(value_in(entry.slot, entry.after)).__name__
        entry.decision = Decision.kept(
            "escaped", f"made on first use, and something that is not put back holds the {name} as well"
        )
    if escaped:
        _keep_companions(case, escaped, units)
    for entry in first:
        if entry.decision is None and not any(_is_suspicious(case, value) for value in units.near(entry)):
            entry.decision = Decision.undone("first use", "made on first use, and put back whole")


def _is_first_use(entry: Entry, case: Case) -> bool:
    """Return whether *entry* fills a place that was empty, by code that asked first whether it is empty."""
    slot = entry.slot
    if not isinstance(slot, ObjectSlot) or slot.key is ORDER or not slot.is_first_party:
        return False
    state = slot.state
    known = (names.ModuleState, names.ClassState, names.AttributesState, names.LocalState, SlotsState, CellState)
    if not isinstance(state, (*known, DictState)) or isinstance(state, CacheState):
        return False
    before, after = value_in(slot, entry.target), value_in(slot, entry.after)
    if not _is_empty(before) or after is MISSING or after is None:
        return False
    if isinstance(state, known):
        own = case.view.modules.includes(
            module_of(state.holder if isinstance(state, names.ClassState) else type(state.holder))
        )
        by_itself = (
            own and before is MISSING and str(slot.key).startswith("_") and is_own_name(slot, case.frame.test_module)
        )
        if is_cache(entry, case.view.modules.includes):
            return False
        return asks_first(slot, case.view.modules.includes) or (by_itself and not isinstance(state, names.ModuleState))
    return (
        not isinstance(after, _REGISTRATIONS)
        and not is_cache(entry, case.view.modules.includes)
        and asks_first(slot, case.view.modules.includes)
    )


def _is_empty(value: Any) -> bool:
    return value is MISSING or value is None or value is False or type(value) is object


def _escaped(case: Case, first: list[Entry], units: Units) -> list[Entry]:
    """Return those of *first* that cannot be unmade."""
    if not any(units.objects_of(entry) for entry in first):
        return []
    alive = units.held_outside()
    return [entry for entry in first if _lives_on(case, entry, units, alive)]


def _lives_on(case: Case, entry: Entry, units: Units, alive: set[int]) -> bool:
    roots = {id(value) for value in new_values(entry)}
    return any(
        id(value) in alive
        and is_evidence(value, root=id(value) in roots, is_first_party=case.view.modules.includes)
        and not (id(value) in roots and is_bound_by_a_library(value, case.view.modules.includes))
        for value in units.objects_of(entry)
    )


def _keep_companions(case: Case, escaped: list[Entry], units: Units) -> None:
    """Keep what was made together with *escaped*: other places that lead to it, and flags beside it."""
    holders = {id(entry.slot.state) for entry in escaped if isinstance(entry.slot, ObjectSlot)}
    for entry in case.undecided():
        if not isinstance(entry.slot, ObjectSlot) or not entry.slot.is_first_party:
            continue
        is_flag = not gc.is_tracked(value_in(entry.slot, entry.after))
        beside = is_flag and id(entry.slot.state) in holders and _is_first_use(entry, case)
        if beside or units.share(entry, escaped):
            entry.decision = Decision.kept("escaped", "made together with something that cannot be put back")


def _is_suspicious(case: Case, value: Any) -> bool:
    """Return whether *value* is dead, or the test's own, or something the test has written to."""
    kind = type(value)
    module = module_of(kind)
    if module.startswith(_MOCKS) or (case.frame.test_module is not None and module == case.frame.test_module):
        return True
    bases = {(module_of(base), base.__name__) for base in type.__dict__["__mro__"].__get__(kind)}
    if ("asyncio.base_events", "BaseEventLoop") in bases:
        return bool(value.is_closed())
    if kind in (io.FileIO, io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.StringIO, io.BytesIO):
        return bool(value.closed)
    if ("socket", "socket") in bases:
        return bool(value.fileno() < 0)
    if case.frame.test_module is None or not case.view.modules.includes(module):
        return False
    space = names.instance_dict(value)
    return any(name in syntax_of(case.frame.test_module).assigned for name in space)
