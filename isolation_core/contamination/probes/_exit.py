"""Callbacks that run at the end of the process: `atexit` and finalizers."""

from __future__ import annotations

import atexit
import gc
import sys
import types
import weakref
from collections.abc import Hashable, Mapping
from typing import Any, Final

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination._first_party import home_of, is_library_code, is_runners
from isolation_core.contamination._rendering import bounded_repr
from isolation_core.contamination.probes._keyed import KeyedProbe, attempt
from isolation_core.contamination.probes._probe import Guard

__all__ = ["AtExitProbe", "FinalizersProbe"]


class _Listener:
    """Equal to nothing, and hears what it is compared with."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def __eq__(self, other: object) -> bool:
        self.heard.append(other)
        return False

    __hash__ = None  # type: ignore[assignment]


class _Callback:
    """Key of one callback: by identity."""

    __slots__ = ("function", "ordinal")

    def __init__(self, function: Any, ordinal: int) -> None:
        self.function = function
        self.ordinal = ordinal

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Callback) and self.function is other.function and self.ordinal == other.ordinal

    def __hash__(self) -> int:
        return hash((id(self.function), self.ordinal))


class AtExitProbe(KeyedProbe):
    """Functions registered with `atexit` by the project's own code.

    Libraries register theirs when they are first used, once, for good reasons:
    those are none of our business.
    """

    kind = "atexit"
    code = "EXT001"
    cost = 0.2

    def __init__(self) -> None:
        self._count: Any = getattr(atexit, "_ncallbacks", None)
        self._last: tuple[int, tuple[Any, ...]] = (-1, ())

    def capture(self) -> Any:
        if self._count is None:
            return self._last
        count = self._count()
        if count != self._last[0]:
            # The callbacks cannot be listed, but unregister() compares
            # its argument with each of them.
            listener = _Listener()
            atexit.unregister(listener)  # type: ignore[arg-type]
            self._last = (count, tuple(listener.heard))
        return self._last

    def guard(self) -> Guard:
        return Guard(() if self._count is None else (self._count,))

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if type(snapshot) is not tuple:
            return snapshot  # type: ignore[no-any-return]
        found: dict[Hashable, Any] = {}
        for function in snapshot[1]:
            ordinal = 0
            while _Callback(function, ordinal) in found:
                ordinal += 1
            found[_Callback(function, ordinal)] = function
        return found

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        if one is not MISSING:
            return True  # one that was taken out cannot be known to be needed
        return is_library_code(other) or is_runners(other)

    def restore(self, key: Hashable, value: Any) -> None:
        function = key.function  # type: ignore[attr-defined]
        if sum(known is function for known in self._last[1]) > 1:
            raise RuntimeError("it was registered before as well, and unregister() would take all of them")
        atexit.unregister(function)

    def finish(self) -> None:
        # The count does not go down when a callback is taken out.
        self._last = (-1, ())

    def describe(self, key: Hashable) -> str:
        return f"atexit.register({bounded_repr(key.function, 80)})"  # type: ignore[attr-defined]

    def render(self, key: Hashable, value: Any) -> str:
        return repr(MISSING) if value is MISSING else "<registered>"


class _Finalizer:
    """Key of one finalizer; says what it was of after it is gone."""

    __slots__ = ("finalizer", "text")

    def __init__(self, finalizer: Any) -> None:
        self.finalizer = finalizer
        found = attempt(finalizer.peek, default=None)
        parts = (bounded_repr(part, 60) for part in found[:2]) if found else ()
        self.text = f"weakref.finalize({', '.join(parts)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Finalizer) and self.finalizer is other.finalizer

    def __hash__(self) -> int:
        return id(self.finalizer)


class FinalizersProbe(KeyedProbe):
    """Finalizers (`weakref.finalize`) the project's own code left on objects that are still alive.

    A library's finalizer looks after the library's own object (a temporary
    folder, a pool) and stays. One on an object that another clean-up is about
    to release stays as well and runs then: only a finalizer of an
    object that a module or a class holds directly is detached.
    """

    kind = "finalizer"
    code = "EXT002"
    severity = "note"
    cost = 0.3
    _registry: Final = getattr(weakref.finalize, "_registry", {})

    def __init__(self) -> None:
        self._last: frozenset[Any] = frozenset()
        self._wanted: list[Any] = []

    def capture(self) -> Any:
        registry = self._registry
        last = self._last
        if len(registry) != len(last) or not last.issuperset(registry):
            self._last = last = frozenset(registry)
        return last

    def guard(self) -> Guard:
        return Guard(dicts=(self._registry,))

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        return {_Finalizer(each): each for each in snapshot} if type(snapshot) is frozenset else snapshot

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        if one is not MISSING:
            return True  # it ran, or was detached
        found = other.peek()
        if found is None:
            return True
        target, function = found[0], found[1]
        if home_of(function) in ("", "builtins"):
            return is_library_code(type(target)) or is_runners(target)
        return is_library_code(function) or is_runners(function)

    def restore(self, key: Hashable, value: Any) -> None:
        self._wanted.append(key.finalizer)  # type: ignore[attr-defined]

    def finish(self) -> None:
        # By now everything else is restored: objects that were only left behind
        # have no reference but ours.
        wanted, self._wanted = self._wanted, []
        for finalizer in wanted[:8]:
            found = finalizer.peek()
            if found and any(map(_is_namespace, gc.get_referrers(found[0]))):
                finalizer.detach()

    def describe(self, key: Hashable) -> str:
        return key.text  # type: ignore[attr-defined, no-any-return]

    def render(self, key: Hashable, value: Any) -> str:
        return repr(MISSING) if value is MISSING else "<alive>"


def _is_namespace(holder: Any) -> bool:
    """Return whether *holder* is the namespace of an imported module, or a class."""
    if type(holder) is not dict:
        return isinstance(holder, type)
    name = holder.get("__name__")
    module = sys.modules.get(name) if type(name) is str else None
    return type(module) is types.ModuleType and module.__dict__ is holder
