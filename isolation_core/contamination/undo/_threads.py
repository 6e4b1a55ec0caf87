"""Live threads: what one works on is not put back under it, and no test is blamed for it.

A thread works on what its functions hold at the moment: their local variables,
the object its target belongs to, its arguments and its closure, and the module
variables that its code names; and on what own objects and containers among
these lead to. Never on what a library's object, a class, a module or a function
leads to: followed without limits, one idle thread of a pool reaches nearly
everything. So what a server changes while a test waits for its answer is the
test's doing as a rule: between two requests no frame of the server holds it.
"""

from __future__ import annotations

import gc
import sys
import threading
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from weakref import WeakSet

from isolation_core.contamination._first_party import is_runner_class, module_of
from isolation_core.contamination.objects import _namespaces as names
from isolation_core.contamination.objects._slot import ObjectSlot
from isolation_core.contamination.undo._case import Case
from isolation_core.contamination.undo._decision import Decision

__all__ = ["leave_to_threads"]

_MOST: Final = 2_000
"""Objects followed for one thread."""

_CONTAINERS: Final[frozenset[type]] = frozenset(
    {dict, list, set, tuple, deque, OrderedDict, defaultdict, types.SimpleNamespace}
)
_QUEUES: Final = frozenset({"queue", "_queue"})

_noted: WeakSet[threading.Thread] = WeakSet()


def leave_to_threads(case: Case) -> None:
    """Keep the state that a live thread works on; the first change of each thread is noted."""
    if case.frame.scope not in ("function", "barrier", "example"):
        _leave_to_ended(case)
    others = [thread for thread in tuple(threading._active.values()) if _is_other(thread)]  # type: ignore[attr-defined]
    if not others:
        return
    entries = [entry for entry in case.undecided() if isinstance(entry.slot, ObjectSlot)]
    if not entries:
        return
    frames = sys._current_frames()
    for thread in others:
        work = _Work(thread, frames.get(thread.ident or 0), case.view.modules.includes)
        for entry in entries:
            slot = entry.slot
            if entry.decision is None and isinstance(slot, ObjectSlot) and work.concerns(slot.state, slot.key):
                entry.decision = Decision.kept(
                    "thread", f"the thread {thread.name!r} is alive and works on it", quiet=thread in _noted
                )
                _noted.add(thread)
                case.view.graph.mark_threaded(work.addresses())


def _leave_to_ended(case: Case) -> None:
    """Keep what a thread worked on that a wide teardown has ended: its last step belongs to those kept before."""
    for entry in case.undecided():
        if isinstance(entry.slot, ObjectSlot) and entry.slot.state.node.threaded:
            entry.decision = Decision.kept("thread", "a thread worked on it that has ended since", quiet=True)


def _is_other(thread: threading.Thread) -> bool:
    return thread is not threading.main_thread() and thread.ident != threading.get_ident()


class _Work:
    """What one thread works on.

    Args:
        thread: the thread.
        frame: its innermost frame.
        is_first_party: tells whether a module is the user's own.
    """

    def __init__(
        self, thread: threading.Thread, frame: types.FrameType | None, is_first_party: Callable[[str], bool]
    ) -> None:
        self._is_first_party = is_first_party
        self._objects: dict[int, Any] = {}
        # The variables that its code writes, by the namespace of their module.
        self._globals: dict[int, set[str]] = {}
        todo = [value for value in self._roots(thread, frame) if value is not None]
        while todo and len(self._objects) < _MOST:
            value = todo.pop()
            if id(value) not in self._objects:
                self._objects[id(value)] = value
                todo += self._below(value)

    def addresses(self) -> Iterable[int]:
        """Return the addresses of all objects it works on."""
        return self._objects.keys()

    def concerns(self, state: Any, key: Any) -> bool:
        """Return whether the thread works on the slot *key* of *state*."""
        if isinstance(state, names.ModuleState):
            space = types.ModuleType.__getattribute__(state.holder, "__dict__")
            return key in self._globals.get(id(space), ())
        return id(state.holder) in self._objects

    def _roots(self, thread: threading.Thread, frame: types.FrameType | None) -> Iterator[Any]:
        kind = type(thread)
        if self._is_first_party(module_of(kind)):
            yield thread
        space = names.instance_dict(thread)
        yield from self._of_callable(space.get("_target"))
        yield from space.get("_args") or ()
        yield from (space.get("_kwargs") or {}).values()
        while frame is not None:
            name = frame.f_globals.get("__name__")
            if isinstance(name, str) and self._is_first_party(name):
                yield from frame.f_locals.values()
                yield from self._named(frame.f_code, frame.f_globals)
            frame = frame.f_back

    def _of_callable(self, target: Any) -> Iterator[Any]:
        if type(target) is types.MethodType:
            yield target.__self__
            target = target.__func__
        if type(target) is types.FunctionType:
            yield from (each for cell in target.__closure__ or () for each in gc.get_referents(cell))
            name = target.__globals__.get("__name__")
            if isinstance(name, str) and self._is_first_party(name):
                yield from self._named(target.__code__, target.__globals__)

    def _named(self, code: types.CodeType, space: dict[str, Any]) -> Iterator[Any]:
        self._globals.setdefault(id(space), set()).update(code.co_names)
        yield from (space[name] for name in code.co_names if name in space)
        for constant in code.co_consts:
            if type(constant) is types.CodeType:
                yield from self._named(constant, space)

    def _below(self, value: Any) -> list[Any]:
        kind = type(value)
        if kind in _CONTAINERS:
            return gc.get_referents(value)
        module = module_of(kind)
        if issubclass(kind, type) or kind is types.ModuleType or is_runner_class(kind):
            return []
        if module in _QUEUES or self._is_first_party(module):
            return list(names.instance_dict(value).values())
        return []
