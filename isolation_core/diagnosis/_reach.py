"""Reach: which modules a module leads to through what it imports."""

from __future__ import annotations

import sys
from collections import deque
from types import FunctionType, ModuleType
from typing import Any, Final

__all__ = ["modules_reached"]

_MAX_MODULES: Final = 300
_FOREIGN: Final = ("site-packages", "dist-packages")


def modules_reached(name: str) -> frozenset[str]:
    """Return the names of the modules that the module called *name* leads to, itself included.

    Modules that are imported, and those that imported functions and classes come from, are followed
    through the user's own code; installed modules are named, and not followed.
    """
    found = {name}
    queue = deque([name])
    while queue and len(found) < _MAX_MODULES:
        module = sys.modules.get(queue.popleft())
        if type(module) is not ModuleType or _is_installed(module):
            continue
        for value in tuple(vars(module).values()):
            reached = _module_of(value)
            if reached is not None and reached not in found:
                found.add(reached)
                queue.append(reached)
    return frozenset(found)


def _module_of(value: Any) -> str | None:
    kind = type(value)
    # Asked of the value's own dictionary: attributes of modules and classes may be code.
    if kind is ModuleType:
        name = vars(value).get("__name__")
    elif kind is FunctionType:
        name = value.__module__
    elif issubclass(kind, type):
        name = type.__dict__["__dict__"].__get__(value).get("__module__")
    else:
        name = type.__dict__["__dict__"].__get__(kind).get("__module__")
    return name if type(name) is str else None


def _is_installed(module: ModuleType) -> bool:
    spec = vars(module).get("__spec__")
    origin = getattr(spec, "origin", None) or vars(module).get("__file__")
    if type(origin) is not str or origin in ("built-in", "frozen"):
        return True
    return any(part in origin for part in _FOREIGN) or origin.startswith(_STDLIB)


_STDLIB: Final = sys.modules["types"].__spec__.origin.removesuffix("types.py")  # type: ignore[union-attr]
