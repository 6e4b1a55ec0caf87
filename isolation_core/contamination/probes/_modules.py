"""``sys.modules``: fakes, replaced and removed modules. Real imports are not a difference."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final

from isolation_core.contamination._cpython import Watch, identical
from isolation_core.contamination._difference import MISSING, Difference
from isolation_core.contamination._first_party import is_of_runner, is_runners
from isolation_core.contamination.probes._keyed import KeyedProbe
from isolation_core.contamination.probes._probe import Guard

__all__ = ["ModulesProbe"]

_OF_CYTHON: Final = re.compile(r"cython_runtime|_cython_\w+")
_NAMESPACE = types.ModuleType.__getattribute__


class _Modules:
    """The table: all names, all modules, and the addresses of the modules."""

    __slots__ = ("modules", "names", "print")

    def __init__(self, names: tuple[Any, ...], modules: tuple[Any, ...], text: bytes) -> None:
        self.names = names
        self.modules = modules
        self.print = text

    def tail(self, start: int) -> dict[Any, Any]:
        """Return the entries from position *start* on."""
        return dict(zip(self.names[start:], self.modules[start:], strict=True))

    def common(self, other: _Modules) -> int:
        """Return how many leading entries both tables are sure to share."""
        count = min(len(self.names), len(other.names))
        same = self.names[:count] == other.names[:count] and identical(self.modules[:count]) == identical(
            other.modules[:count]
        )
        return count if same else 0


class ModulesProbe(KeyedProbe):
    """Modules that are not what the import system put there.

    A module that was really imported stays: taking it out would give its
    classes a second identity at the next import. A fake goes: it has no
    ``__spec__``, or one of another module. A module that was removed or replaced
    comes back, as attribute of its package too.

    """

    kind = "modules"
    code = "SYM001"
    tells_imports = True
    cost = 30.0

    def __init__(self) -> None:
        # The dict the interpreter imports into, whatever `sys.modules` is bound to.
        self._table: dict[str, Any] = sys.modules
        self._last = _Modules((), (), b"")
        self._watch = Watch(self._table)

    def capture(self) -> Any:
        if not self._watch.moved():
            return self._last
        table = self._table
        last = self._last
        modules = tuple(table.values())
        text = identical(modules)
        # A new name is always the last one: with the same modules in the same
        # order, and the same last name, the names are the same as well.
        if text != last.print or not last.names or next(reversed(table)) != last.names[-1]:
            self._last = last = _Modules(tuple(table), modules, text)
        return last

    def guard(self) -> Guard:
        return Guard(dicts=(self._table,))

    def same(self, before: Any, after: Any) -> bool:
        return bool(before.print == after.print and before.names == after.names)

    def diff(self, before: Any, after: Any) -> Iterable[Difference]:
        if not isinstance(before, _Modules):
            yield from super().diff(before, after)
            return
        # New imports are appended: usually all but the tail is the same.
        start = before.common(after)
        older, newer = before.tail(start), after.tail(start)
        for name, was in older.items():
            now = newer.get(name, MISSING)
            if was is not now:
                yield Difference(name, before=was, after=now)
        for name, now in newer.items():
            if name not in older:
                yield Difference(name, before=MISSING, after=now)

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        return snapshot.tail(0) if isinstance(snapshot, _Modules) else snapshot

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        if other is MISSING and is_of_runner(str(key).partition(".")[0]):
            # A part of the runner that could not be imported after all, for want of a package.
            return True
        return one is MISSING and (is_real_module(key, other) or is_runners(other))

    def restore(self, key: Hashable, value: Any) -> None:
        name = str(key)
        current = self._table.get(name, MISSING)
        if value is MISSING:
            self._table.pop(name, None)
        else:
            self._table[name] = value
        package, _, attribute = name.rpartition(".")
        parent: Any = self._table.get(package)
        if not package or not issubclass(type(parent), types.ModuleType):
            return
        namespace = _NAMESPACE(parent, "__dict__")
        bound = namespace.get(attribute, MISSING)
        if value is MISSING or value is None:
            if bound is current and bound is not MISSING:
                del namespace[attribute]
        elif bound is MISSING or bound is current or _name_of(bound) == name:
            # Not if the package gave the name to something else, such as the
            # function its submodule is called after.
            namespace[attribute] = value

    def describe(self, key: Hashable) -> str:
        return f"sys.modules[{key!r}]"


def _spec_of(module: Any) -> Any:
    if not issubclass(type(module), types.ModuleType):
        return None
    return _NAMESPACE(module, "__dict__").get("__spec__")


def _name_of(module: Any) -> Any:
    return _NAMESPACE(module, "__dict__").get("__name__") if issubclass(type(module), types.ModuleType) else None


def is_real_module(name: Any, module: Any) -> bool:
    """Return whether *module* is the module that the import system found under *name*."""
    spec = _spec_of(module)
    if spec is None:
        return name == "__mp_main__" or _is_part_of_extension(name, module)
    found = getattr(spec, "name", None)
    return type(found) is str and name in (found, "__mp_main__")


def _is_part_of_extension(name: Any, module: Any) -> bool:
    """Return whether *module* is one of those a compiled module makes for itself, such as ``pyexpat.errors``."""
    if _OF_CYTHON.fullmatch(str(name)) and type(module) is types.ModuleType:
        # Shared by everything Cython has compiled: without it the next import makes the types a second time.
        return True
    package, _, attribute = str(name).rpartition(".")
    parent: Any = sys.modules.get(package)
    if _spec_of(parent) is None:
        return False
    namespace = _NAMESPACE(parent, "__dict__")
    path = namespace.get("__file__")
    compiled = path is None or (type(path) is str and path.endswith((".so", ".pyd", ".dylib")))
    return compiled and "__path__" not in namespace and namespace.get(attribute) is module
