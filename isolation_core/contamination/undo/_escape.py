"""What escaped: which objects made inside a barrier are held by something that is not put back.

An object that a library's registry, a running thread, the event loop or C code
still holds cannot be unmade. Taking it out of its slot would make the code make
a second one. So before anything is put back, its references are counted, as the
cyclic collector does it: those from objects of the same unit, from the slots
that would go back, from what ends with the test and from our own records are
subtracted. What is left over comes from outside. Nothing is touched for that.
"""

from __future__ import annotations

import contextvars
import gc
import sys
import threading
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from isolation_core.contamination._first_party import Territory, is_runner_class, module_of
from isolation_core.contamination.objects._containers import WHOLE
from isolation_core.contamination.objects._functions import CellState
from isolation_core.contamination.objects._slot import ObjectSlot
from isolation_core.contamination.undo._case import Case
from isolation_core.contamination.undo._entries import Entry
from isolation_core.contamination.undo._savepoint import Frame
from isolation_core.contamination.undo._spelling import value_in

__all__ = ["CAN_COUNT", "Units", "is_bound_by_a_library", "is_evidence", "new_values"]

CAN_COUNT: Final = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether references can be counted: not on other interpreters, and not while threads count apart."""

_MOST: Final = 5_000
"""Objects followed from the slots of one barrier, and as many from what ends with the test."""

_IS_FUNCTION: Final = 1  # inspect.CO_OPTIMIZED
_NEVER: Final[tuple[type, ...]] = (type, types.ModuleType, types.CodeType, types.BuiltinFunctionType)


class Units:
    """The objects that the changes of one barrier lead to, and which of them are held from outside.

    Args:
        case: all changes of the barrier.
        entries: those whose new values are looked into.
    """

    def __init__(self, case: Case, entries: Iterable[Entry]) -> None:
        self._case = case
        self._members: dict[int, Any] = {}
        self._reach: dict[int, set[int]] = {}
        for entry in entries:
            self._reach[id(entry)] = self._follow(new_values(entry), self._members, _MOST)

    def near(self, entry: Entry) -> list[Any]:
        """Return the objects of *entry* that its new value holds itself, and it."""
        reach, level = self._reach[id(entry)], new_values(entry)
        found = {id(value): value for value in level}
        # An instance leads to its namespace first.
        for _ in range(2):
            level = [each for value in level if id(value) in reach for each in _referents(value) if id(each) in reach]
            found.update((id(value), value) for value in level)
        return list(found.values())

    def objects_of(self, entry: Entry) -> list[Any]:
        """Return the objects that *entry* leads to."""
        return [self._members[ident] for ident in self._reach[id(entry)]]

    def share(self, entry: Entry, kept: Iterable[Entry]) -> bool:
        """Return whether *entry* added something that also belongs to the unit of one of *kept*."""
        mine = self._follow(new_values(entry), {}, _MOST)
        return any(mine & self._reach[id(each)] for each in kept)

    # -- following -----------------------------------------------------------

    def _follow(self, roots: Iterable[Any], members: dict[int, Any], most: int) -> set[int]:
        """Enter what *roots* lead to into *members*, and return the addresses."""
        found: set[int] = set()
        todo = [root for root in roots if self._is_part(root)]
        while todo and len(found) < most:
            value = todo.pop()
            if id(value) in found:
                continue
            found.add(id(value))
            members[id(value)] = value
            todo += filter(self._is_part, _referents(value))
        return found

    def _is_part(self, value: Any) -> bool:
        """Return whether *value* may have been made inside: not watched before, and no code or namespace."""
        kind = type(value)
        if not gc.is_tracked(value) or issubclass(kind, _NEVER) or is_runner_class(kind):
            return False
        if kind is dict and "__builtins__" in value and "__name__" in value:
            return False
        return not self._case.view.graph.is_older(value, self._case.frame.number)

    # -- counting ------------------------------------------------------------

    def held_outside(self) -> set[int]:
        """Return the addresses of the members that live on when the slots go back."""
        case = self._case
        mortal = [*case.frame.test.mortal(), *_last_failure()]
        members = dict(self._members)
        self._follow(mortal, members, _MOST)
        # Ours: the table of this object.
        inner = Counter(self._members.keys())
        values: list[Any] = []
        for values in (*_locals_of(case.view.territory), _values_of_context(case.frame)):
            self._follow(values, members, _MOST)
            inner.update(map(id, values))
            values.clear()
        del values
        graph = case.view.graph
        states = [entry.slot.state for entry in case.entries if isinstance(entry.slot, ObjectSlot)]
        graph.let_go(members, states, case.frame.number)
        # No loops of this function from here on: their variables would hold the last object.
        records = {id(each): each for each in (*mortal, *graph.records_of(states), *_records(case))}
        _add_referents(inner, records.values())
        doomed = {id(each) for each in mortal}
        del mortal, states, records
        inner.update(id(value) for entry in case.entries for value in new_values(entry))
        _add_referents(inner, [value for ident, value in members.items() if ident not in doomed])
        explained = _explained(case)
        seeds = [
            ident
            for ident, count in _counts(members).items()
            if count > inner[ident] and ident not in doomed and ident not in explained
        ]
        return _spread(seeds, members)


def _add_referents(inner: Counter[int], containers: Iterable[Any]) -> None:
    for container in containers:
        inner.update(map(id, gc.get_referents(container)))


def _last_failure() -> list[Any]:
    """Return the last errors that the interpreter keeps, and the frames they keep with all their variables."""
    errors: list[BaseException] = []
    todo = [sys.__dict__.get("last_exc"), sys.__dict__.get("last_value")]
    while todo and len(errors) < 20:
        error = todo.pop()
        if isinstance(error, BaseException) and all(error is not each for each in errors):
            errors.append(error)
            todo += [error.__context__, error.__cause__]
    frames: list[types.FrameType] = []
    for error in errors:
        traceback = error.__traceback__
        while traceback is not None and len(frames) < 200:
            frames.append(traceback.tb_frame)
            traceback = traceback.tb_next
    return [*errors, *frames]


def _values_of_context(frame: Frame) -> list[Any]:
    """Return the values of context variables, if the context ends with the test."""
    inside = any(each.own_context is not None for each in (frame, *frame.ancestors()))
    return list(contextvars.copy_context().values()) if inside else []


def _locals_of(territory: Territory) -> Iterator[list[Any]]:
    """Yield the variables of the user's functions that are running now, around a block."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__")
        is_function = bool(frame.f_code.co_flags & _IS_FUNCTION)
        if is_function and isinstance(name, str) and territory.is_users(name, sys.modules.get(name)):
            variables = frame.f_locals
            yield list(variables.values())
            if type(variables) is dict:
                # Until 3.12 that made a copy, which the frame keeps.
                yield list(variables.values())
            del variables
        frame = frame.f_back


def new_values(entry: Entry) -> list[Any]:
    """Return the objects that *entry* put into its slot."""
    after = value_in(entry.slot, entry.after)
    if isinstance(entry.slot, ObjectSlot) and entry.slot.key is WHOLE and type(after) is tuple:
        before = {id(item) for item in entry.target} if type(entry.target) is tuple else set()
        return [item for item in after if id(item) not in before]
    return [after]


def _referents(value: Any) -> list[Any]:
    kind = type(value)
    if kind is types.FunctionType:
        return [*(value.__closure__ or ()), value.__defaults__]
    return gc.get_referents(value)


def _records(case: Case) -> list[Any]:
    """Return our own objects that hold what the log speaks of."""
    found: dict[int, Any] = {}
    for entry in (*case.entries, *case.log):
        found[id(entry)] = entry
        if isinstance(entry.slot, ObjectSlot) and (entry.slot.key is WHOLE or isinstance(entry.slot.state, CellState)):
            for state in (entry.before, entry.after, entry.target):
                if type(state) is tuple:
                    found[id(state)] = state
    return list(found.values())


def _explained(case: Case) -> set[int]:
    """Return the addresses of objects that a probe or a profile takes back itself."""
    found: set[int] = set()
    for entry in case.entries:
        if not isinstance(entry.slot, ObjectSlot) and not entry.stays:
            todo, depth = [entry.after, entry.slot.key], 0
            while todo and depth < 4:
                found.update(map(id, todo))
                todo = [each for value in todo if not isinstance(value, _NEVER) for each in gc.get_referents(value)]
                depth += 1
    return found


def _counts(members: dict[int, Any]) -> dict[int, int]:
    """Return how many references each of *members* has, apart from those of the counting itself."""
    probe: Any = []
    table = {**members, 0: probe}
    del probe
    members.clear()
    counts = {}
    for ident, value in table.items():
        counts[ident] = sys.getrefcount(value)
    own = counts.pop(0)
    del table[0]
    members.update(table)
    return {ident: count - own for ident, count in counts.items()}


def _spread(seeds: list[int], members: dict[int, Any]) -> set[int]:
    """Return *seeds* and what they lead to."""
    alive: set[int] = set()
    todo = seeds
    while todo:
        ident = todo.pop()
        if ident not in alive:
            alive.add(ident)
            todo += [id(each) for each in _referents(members[ident]) if id(each) in members]
    return alive


def is_evidence(value: Any, *, root: bool, is_first_party: Callable[[str], bool]) -> bool:
    """Return whether it says something that *value* lives on, given that it does.

    A library's logger or default pool that an object refers to was there before. The object of
    the slot itself, an instance of an own class, and a thread that runs were made here.
    """
    kind = type(value)
    if issubclass(kind, threading.Thread):
        return value.is_alive() and value is not threading.main_thread()
    return root or is_first_party(module_of(kind))


def is_bound_by_a_library(value: Any, is_first_party: Callable[[str], bool]) -> bool:
    """Return whether a library's module has *value* as one of its names: then it was there before, as a rule."""
    return any(
        any(each is value for each in tuple(module.__dict__.values())) and not is_first_party(name)
        for name, module in tuple(sys.modules.items())
        if type(module) is types.ModuleType
    )
