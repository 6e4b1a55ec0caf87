"""How the code of a module would write the slot of a watched object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, Final

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination._first_party import module_of
from isolation_core.contamination._slot import Slot
from isolation_core.contamination.objects import _namespaces as names
from isolation_core.contamination.objects._caches import CacheState
from isolation_core.contamination.objects._containers import ORDER, DictState, ObjectState
from isolation_core.contamination.objects._functions import CellState, FunctionState, SlotsState
from isolation_core.contamination.objects._slot import ObjectSlot
from isolation_core.contamination.undo._syntax import Spelling, syntax_of

__all__ = ["asks_first", "counts_up", "is_own_name", "spell", "value_in"]

_MRO_OF: Final = type.__dict__["__mro__"]


def spell(state: ObjectState, key: Any) -> Iterator[tuple[str, Spelling]]:
    """Yield the modules whose code may write the slot *key* of *state*, and how they would write it."""
    if isinstance(state, names.ShallowModuleState | names.ShallowClassState):
        return
    if isinstance(state, names.ModuleState):
        yield state.holder.__name__, ("name", str(key))
    elif isinstance(state, names.ClassState):
        for module in _modules_of(state.holder):
            yield module, ("attribute", str(key))
    elif isinstance(state, names.AttributesState | SlotsState | names.LocalState):
        for module in _modules_of(type(state.holder)):
            yield module, ("attribute", str(key))
        if isinstance(state, names.LocalState) and state.node.parent is not None:
            for module, _ in spell(state.node.parent, state.node.key):
                yield module, ("attribute", str(key))
    elif isinstance(state, CellState):
        yield from _spell_cell(state)
    elif isinstance(state, DictState) and not isinstance(state, CacheState) and state.node.parent is not None:
        for module, spelling in spell(state.node.parent, state.node.key):
            yield module, ("item", *spelling)


def _modules_of(kind: type) -> list[str]:
    found = [module_of(base) for base in _MRO_OF.__get__(kind)]
    return list(dict.fromkeys(name for name in found if name != "builtins"))


def _spell_cell(state: CellState) -> Iterator[tuple[str, Spelling]]:
    parent: ObjectState | None = state.node.parent
    function = parent.holder if isinstance(parent, FunctionState) else None
    if type(function) is not FunctionType:
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        if cell is state.holder:
            yield function.__globals__.get("__name__", ""), ("name", name)


def _any(slot: Slot, sought: str, is_first_party: Callable[[str], bool]) -> bool:
    if not isinstance(slot, ObjectSlot) or slot.key is ORDER:
        return False
    for module, spelling in spell(slot.state, slot.key):
        # How a library keeps its own objects, such as the children of a mock, says nothing about the user's code.
        if is_first_party(module) and spelling in getattr(syntax_of(module), sought):
            return True
    return False


def counts_up(slot: Slot, is_first_party: Callable[[str], bool]) -> bool:
    """Return whether the code that owns *slot* counts it upward and hands the number out."""
    return _any(slot, "counters", is_first_party)


def asks_first(slot: Slot, is_first_party: Callable[[str], bool]) -> bool:
    """Return whether the code that owns *slot* writes it only after it asked whether it is there."""
    return _any(slot, "lazies", is_first_party)


def value_in(slot: Slot, raw: Any) -> Any:
    """Return the object in *slot* for what its log entry holds."""
    if isinstance(slot, ObjectSlot) and isinstance(slot.state, CellState) and type(raw) is tuple:
        return raw[0] if raw else MISSING
    return raw


def is_own_name(slot: ObjectSlot, module_name: str | None) -> bool:
    """Return whether no code in the module *module_name*, that of the test, assigns to the name of *slot*."""
    return module_name is None or str(slot.key) not in syntax_of(module_name).assigned
