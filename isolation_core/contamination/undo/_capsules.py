"""Objects and classes of libraries that own code holds: what the library does to them by itself is kept.

A framework finishes its objects when they are first used: an application builds
its middleware, a model class its validator, settings remember what was read. No
test did that, and half of it lies in places that are not watched. So an attribute that
was empty, or a private one of a class that derives from a library's, is kept if
the code of the test and the code that holds the object never assign to its name.
What they do assign to is a change like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination._first_party import is_installed_class, module_of
from isolation_core.contamination.objects import _namespaces as names
from isolation_core.contamination.objects._containers import ORDER
from isolation_core.contamination.objects._slot import ObjectSlot
from isolation_core.contamination.undo._case import Case
from isolation_core.contamination.undo._decision import Decision
from isolation_core.contamination.undo._entries import Entry
from isolation_core.contamination.undo._syntax import syntax_of

__all__ = ["keep_library_work"]

_MRO_OF: Final = type.__dict__["__mro__"]


def keep_library_work(case: Case) -> None:
    """Keep what a library did by itself to its own objects and to classes that derive from its own."""
    work = [entry for entry in case.undecided() if _is_library_work(entry) and not _is_assigned(entry, case)]
    # What the test changed about the same object may be the reason: then all of it is put back.
    known = {id(entry) for entry in work}
    touched = {ident for entry in case.undecided() if id(entry) not in known for ident in _holders_of(entry)}
    for entry in work:
        if id(entry.slot.holder.holder) not in touched:
            entry.decision = Decision.kept("capsule", "a library did it by itself, when its object was first used")


def _holders_of(entry: Entry) -> Iterator[int]:
    """Yield the addresses of the objects that lead to the slot of *entry*, up to the module."""
    slot = entry.slot
    if isinstance(slot, ObjectSlot) and not slot.is_silent:
        node = slot.state.node
        while node is not None and type(node.value) is not ModuleType:
            yield id(node.value)
            node = None if node.parent is None else node.parent.node


def _is_library_work(entry: Entry) -> bool:
    slot = entry.slot
    if not isinstance(slot, ObjectSlot) or slot.key is ORDER or type(slot.key) is not str:
        return False
    state = slot.state
    if isinstance(state, names.ShallowClassState):
        return False
    if isinstance(state, names.ClassState):
        return slot.key.startswith("_") and entry.after is not MISSING and _derives_from_a_library(state.holder)
    if not isinstance(state, names.AttributesState) or not state.is_foreign:
        return False
    # Where a class computes attributes, those of the instance are remembered answers: Django's settings.
    remembers = "__getattr__" in set(names.dir_of_type(type(state.holder))) and MISSING in (entry.target, entry.after)
    return remembers or _is_filled(entry.target, entry.after)


def _is_filled(before: Any, after: Any) -> bool:
    return (before is MISSING or before is None or before is False) and after is not MISSING


def _derives_from_a_library(cls: type) -> bool:
    return is_installed_class(type(cls)) or any(map(is_installed_class, _MRO_OF.__get__(cls)[1:]))


def _is_assigned(entry: Entry, case: Case) -> bool:
    """Return whether the test's module, or the one that holds the object, assigns to the name of *entry*."""
    slot = entry.slot
    assert isinstance(slot, ObjectSlot)
    modules = {case.frame.test_module, slot.module(), *(part for part in (_module_of_class(slot),) if part)} - {
        None,
        "",
    }
    return any(slot.key in syntax_of(str(name)).assigned for name in modules)


def _module_of_class(slot: ObjectSlot) -> str:
    holder = slot.state.holder
    return module_of(holder) if isinstance(slot.state, names.ClassState) else ""
