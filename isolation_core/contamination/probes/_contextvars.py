"""Context variables of the current thread or task."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Hashable, Iterable, Mapping
from contextvars import Context, ContextVar, copy_context
from types import ModuleType
from typing import Any, Final

from isolation_core._own_context import can_switch
from isolation_core.contamination._difference import MISSING, Difference, is_same_value
from isolation_core.contamination._first_party import is_library
from isolation_core.contamination.probes._keyed import KeyedProbe
from isolation_core.findings import Severity

__all__ = ["ContextVarsProbe"]

# Written by runners, event loops and the decimal module, which has a probe of its own.
_OTHERS: Final = frozenset(
    {
        "_current_async_library", "current_async_library_cvar", "decimal_context", "sniffio_async_library",
        "_anyio_test_runner", "_current_task", "_fixture_scopes", "current_test", "trio_task", "warnings_context",
    }
)  # fmt: skip


class _View:
    """A context: an immutable table that is shared with its copies."""

    __slots__ = ("context", "parts", "thread")

    def __init__(self, context: Context, parts: list[Any], thread: int) -> None:
        self.context = context
        self.parts = parts
        self.thread = thread


class ContextVarsProbe(KeyedProbe):
    """Values of context variables, as the code that opened the barrier sees them."""

    kind = "contextvar"
    code = "CTX001"
    cost = 0.3
    process_wide = False
    dies_with_context = True

    def __init__(self) -> None:
        self._last: _View | None = None

    def capture(self) -> Any:
        context = copy_context()
        parts = gc.get_referents(context)
        last = self._last
        thread = threading.get_ident()
        if (
            last is None
            or last.thread != thread
            or len(parts) != len(last.parts)
            or not all(a is b for a, b in zip(parts, last.parts, strict=True))
        ):
            self._last = last = _View(context, parts, thread)
        return last

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if not isinstance(snapshot, _View):
            return snapshot  # type: ignore[no-any-return]
        return dict(snapshot.context.items())

    def diff(self, before: Any, after: Any) -> Iterable[Difference]:
        # In another thread the variables are others, not changed ones.
        if not isinstance(before, _View) or before.thread == after.thread:
            yield from super().diff(before, after)

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        if isinstance(key, ContextVar) and (key.name in _OTHERS or key.name.startswith("isolation_core.")):
            return True
        # Back at its default is as good as never set.
        return one is MISSING and is_same_value(other, default_of(key))

    def severity_of(self, key: Hashable, before: Any, after: Any) -> Severity | None:
        # Where a test has no context of its own, it stays set for the tests that follow: that is more than a note.
        return "note" if before is MISSING and default_of(key) is MISSING and can_switch() else None

    def restore(self, key: Hashable, value: Any) -> None:
        variable: Any = key
        if value is MISSING:
            value = default_of(variable)
            if value is MISSING:
                raise LookupError(
                    f"{variable.name} had no value and has no default, and only the token of the set() that gave it "
                    "one can take it away; run the code in contextvars.copy_context().run(...)"
                    + ("" if can_switch() else ", because without ctypes a test has no context of its own here")
                )
        variable.set(value)

    def describe(self, key: Hashable) -> str:
        name: str = key.name  # type: ignore[attr-defined]
        found = _home_of(key)
        if found is None:
            return f"ContextVar({name!r})"
        return f"{'.'.join(found)}" if found[1] == name else f"{'.'.join(found)} (ContextVar {name!r})"


_homes: Final[dict[int, tuple[str, str]]] = {}
"""Where variables were found, by address. It is looked at again: they may be others by now."""


def _home_of(variable: object) -> tuple[str, str] | None:
    """Return module and name under which *variable* is to be had, or None.

    Modules of the project come first, then those that were imported first: a module that only imports the
    variable is loaded after the one that defines it, as a rule.
    """
    known = _homes.get(id(variable))
    if known is not None and _is_at(variable, *known):
        return known
    modules = [(name, vars(module)) for name, module in tuple(sys.modules.items()) if type(module) is ModuleType]
    found = [
        (name, attribute)
        for name, namespace in modules
        for attribute, value in tuple(namespace.items())
        if value is variable
    ]
    if not found:
        return None
    # Where it has the name it was given there; an alias elsewhere is an import.
    own = [each for each in found if each[1] == variable.name] or found  # type: ignore[attr-defined]
    home = min(own, key=lambda each: is_library(each[0]))
    _homes[id(variable)] = home
    return home


def _is_at(variable: object, module: str, attribute: str) -> bool:
    holder = sys.modules.get(module)
    return type(holder) is ModuleType and vars(holder).get(attribute) is variable


def default_of(variable: Any) -> Any:
    """Return the default of *variable*, or `MISSING` if it has none."""
    try:
        return Context().run(variable.get)
    except LookupError:
        return MISSING
