"""Patches of `unittest.mock` that were started and not stopped."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Hashable, Mapping
from itertools import chain
from types import ModuleType
from typing import Any, Final

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination._first_party import is_library
from isolation_core.contamination._rendering import bounded_repr
from isolation_core.contamination.probes._keyed import KeyedProbe, loaded, same_items
from isolation_core.contamination.probes._probe import Guard

__all__ = ["PatchesProbe"]

_LIBRARIES: Final = ("unittest.mock", "mock.mock")


class _Patch:
    """Key of one started patcher."""

    __slots__ = ("patcher",)

    def __init__(self, patcher: Any) -> None:
        self.patcher = patcher

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Patch) and self.patcher is other.patcher

    def __hash__(self) -> int:
        return id(self.patcher)


class PatchesProbe(KeyedProbe):
    """Started patches, of the standard library's `unittest.mock` and of the ``mock`` package.

    Only patches started inside are stopped, newest first: of two patches of
    one target the older one keeps the true original.
    """

    kind = "patch"
    code = "MCK001"
    cost = 0.3
    restores_targets = True

    def __init__(self) -> None:
        self._last: tuple[Any, ...] = ()
        self._stop: list[Any] = []

    @staticmethod
    def _active() -> list[list[Any]]:
        found = []
        for name in _LIBRARIES:
            module = sys.modules.get(name)
            if module is not None:
                active = getattr(getattr(module, "_patch", None), "_active_patches", None)
                if type(active) is list:
                    found.append(active)
        return found

    def capture(self) -> Any:
        now = tuple(chain.from_iterable(self._active()))
        if not same_items(self._last, now):
            self._last = now
        return self._last

    def guard(self) -> Guard:
        modules = [module for name in _LIBRARIES if (module := loaded(name)) is not None]
        return Guard(dicts=(sys.modules, *(module.__dict__ for module in modules)), lists=tuple(self._active()))

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if type(snapshot) is not tuple:
            return snapshot  # type: ignore[no-any-return]
        return {_Patch(patcher): patcher for patcher in snapshot}

    def restore(self, key: Hashable, value: Any) -> None:
        if value is MISSING:
            self._stop.append(key.patcher)  # type: ignore[attr-defined]
            return
        new = getattr(value, "new", None)
        if type(value).__name__ == "_patch" and type(new).__name__ == "_SentinelObject":
            raise RuntimeError("a patch of another owner was stopped, and its mock cannot be made again")
        value.start()

    def finish(self) -> None:
        pending, self._stop = self._stop, []
        for active in self._active():
            mine = [patcher for patcher in active if any(patcher is each for each in pending)]
            for patcher in reversed(mine):
                # One that fails to stop is found by the verification, and must
                # not keep the others from being stopped.
                with contextlib.suppress(Exception):
                    patcher.stop()

    def describe(self, key: Hashable) -> str:
        patcher = key.patcher  # type: ignore[attr-defined]
        return f"unittest.mock.patch({_target(patcher)})"

    def render(self, key: Hashable, value: Any) -> str:
        return repr(MISSING) if value is MISSING else "<started, not stopped>"


def _target(patcher: Any) -> str:
    space = getattr(patcher, "__dict__", {})
    if "in_dict" in space:
        found = space["in_dict"]
        name = found if type(found) is str else _name_of(found)
        return f"dict with {bounded_repr(list(space.get('values') or ()))}" if name is None else f"dict {name!r}"
    attribute = space.get("attribute")
    # Calling the getter of a patch by name would import it: read what it holds.
    getter = space.get("getter")
    cells = getattr(getter, "__closure__", None) or ()
    held = [cell.cell_contents for cell in cells] or list(getattr(getter, "args", ()))
    if not held:
        return repr(attribute)
    if type(held[0]) is str:
        return f"'{held[0]}.{attribute}'"
    name = getattr(held[0], "__name__", None)
    return f"{name if type(name) is str else bounded_repr(held[0])}.{attribute}"


def _name_of(value: object) -> str | None:
    """Return the name a module has for *value*, of several modules the first that is not a library."""
    names = []
    for module in tuple(sys.modules.values()):
        if type(module) is ModuleType:
            names += [(module.__name__, name) for name, each in tuple(module.__dict__.items()) if each is value]
    names.sort(key=lambda found: is_library(found[0]))
    return ".".join(names[0]) if names else None
