"""Which modules are watched: first-party ones deeply, and of others what first-party code can reach."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, Final

from isolation_core.contamination._cpython import HAS_TAGS, identical, tag_of
from isolation_core.contamination._first_party import Territory, module_of
from isolation_core.contamination.libraries._known import GlobalUnits, generation
from isolation_core.contamination.objects._graph import ObjectGraph

__all__ = ["WatchedModules"]

_PROBED: Final = frozenset({"builtins", "gc", "locale", "logging", "mimetypes", "signal", "sys", "typing", "warnings"})
"""Watched slot by slot by probes of their own, or (typing) nothing but caches."""


class WatchedModules:
    """Finds modules that are new, and has the object graph watch them.

    Args:
        territory: what is first-party.

    Attributes:
        territories: the first-party rules of the open frames; the outermost one first.
        graph: the object graph.
        imported: names of modules that were imported by name since the last search.
    """

    def __init__(self, territory: Territory) -> None:
        self.territories = [territory]
        self.graph = ObjectGraph(self.includes)
        self.imported: set[str] = set()
        self._known: dict[str, Any] = {}
        self._seen: object = None
        self._units = GlobalUnits()

    def __contains__(self, name: str) -> bool:
        """Return whether the module called *name* was there at the last search."""
        return name in self._known

    @property
    def territory(self) -> Territory:
        """The territory of the outermost frame."""
        return self.territories[0]

    def includes(self, name: str) -> bool:
        """Return whether any frame watches the module called *name* deeply."""
        return any(territory.includes(name) for territory in self.territories)

    def _is_users(self, name: str, module: Any) -> bool:
        """Return whether a module is the user's own code: watched, or at least not installed."""
        return self.includes(name) or self.territory.is_users(name, module)

    def widen(self, territory: Territory) -> None:
        """Watch what *territory* includes as well, from now on."""
        if territory not in self.territories:
            self.territories.append(territory)
            self.graph.forget_anatomy()
            self._known.clear()
            self._seen = None

    def _moved(self) -> bool:
        """Return whether ``sys.modules`` may have changed since the last time it was asked."""
        now: object = (bytes(tag_of(sys.modules)) if HAS_TAGS else identical(tuple(sys.modules.values())), generation())
        moved, self._seen = now != self._seen, now
        return moved

    def find(self, *, entering: bool) -> None:
        """Watch first-party modules that are new, and what they import.

        Args:
            entering: whether a frame is being opened. Only then another module
                under a known name takes the place of the one we watch: at the
                end of a frame it is a fake that a test left behind.
        """
        if not self._moved():
            return
        fresh = self._fresh(entering=entering)
        modules = [(name, sys.modules.get(name)) for name in fresh]
        theirs = [(n, m) for n, m in modules if isinstance(m, types.ModuleType) and self._is_users(n, m)]
        # The import system moves a module to the end of `sys.modules` when it has been executed. So the one
        # that defines a thing comes before those that import it from there, and what is met first gives the name.
        for name, module in theirs:
            if self.includes(name):
                self.graph.add_module(name, module)
        self._watch_others([module for _, module in theirs], fresh)
        for key, state in self._units.find(self.includes):
            self.graph.add_library(key, state)
        self.graph.write()

    def is_gone(self, name: str) -> bool:
        """Return whether the module that was found under *name* is not there any more."""
        return name in self._known and sys.modules.get(name) is not self._known[name]

    def forget(self, name: str) -> tuple[Any, object]:
        """Hold the module found under *name* no longer; return it, and its node if it was watched."""
        return self._known.pop(name, None), self.graph.drop_root(name)

    def _fresh(self, *, entering: bool) -> list[str]:
        """Return the names of modules that are new, or in the place of another."""
        known = self._known
        now = dict(sys.modules)
        fresh = [name for name in now if name not in known]
        replaced = [name for name, module in known.items() if now.get(name) is not module]
        if replaced and not entering:
            self._seen = None  # search again the next time
        elif replaced:
            for name in replaced:
                self.graph.drop_root(name)
                del known[name]
                if name in now:
                    fresh.append(name)
        known.update((name, now[name]) for name in fresh)
        return fresh

    def _watch_others(self, users: list[types.ModuleType], fresh: list[str]) -> None:
        """Watch the attributes of what the modules of *users* import, and of all modules where that was asked for."""
        wanted = {name for name in self.imported if name in sys.modules}
        self.imported.clear()
        for module in users:
            wanted |= _imports_of(module)
            for label, cls in _foreign_classes_in(module, self._is_users):
                self.graph.add_foreign_class(label, cls)
        distant = set(fresh) if any(territory.every for territory in self.territories) else set()
        for name in sorted((wanted | distant) - _PROBED):
            imported = sys.modules.get(name)
            if type(imported) is not types.ModuleType or self._is_users(name, imported):
                continue
            if name in wanted:
                self.graph.add_foreign_module(name, imported)
            elif not self.territory.is_runners(name):
                self.graph.add_distant_module(name, imported)


def _imports_of(module: types.ModuleType) -> set[str]:
    """Return the names of loaded modules that *module* imports, at its top or inside its functions."""
    found = set()
    for value in tuple(module.__dict__.values()):
        kind = type(value)
        if kind is types.ModuleType:
            name = value.__dict__.get("__name__")
            if isinstance(name, str):
                found.add(name)
        elif kind is types.FunctionType:
            found.update(_loaded_names(value.__code__))
        elif issubclass(kind, type) and module_of(value) == module.__name__:
            for member in tuple(type.__dict__["__dict__"].__get__(value).values()):
                if type(member) is types.FunctionType:
                    found.update(_loaded_names(member.__code__))
    return found


def _loaded_names(code: types.CodeType) -> Iterator[str]:
    """Yield the names in *code* that are loaded modules: an import statement keeps its name there."""
    modules = sys.modules
    for name in code.co_names:
        if name in modules:
            yield name
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from _loaded_names(constant)


def _foreign_classes_in(module: types.ModuleType, is_users: Callable[[str, Any], bool]) -> Iterator[tuple[str, type]]:
    """Yield label and class of the installed or standard classes *module* imported by name."""
    for value in tuple(module.__dict__.values()):
        if issubclass(type(value), type):
            space = type.__dict__["__dict__"].__get__(value)
            origin = space.get("__module__")
            if isinstance(origin, str) and not is_users(origin, sys.modules.get(origin)):
                yield f"{origin}.{type.__dict__['__qualname__'].__get__(value)}", value
