"""The names every module sees."""

from __future__ import annotations

import builtins
from collections.abc import Hashable
from typing import Any

from isolation_core.contamination._cpython import Watch, identical
from isolation_core.contamination._difference import MISSING
from isolation_core.contamination._first_party import is_runners
from isolation_core.contamination.probes._keyed import KeyedProbe
from isolation_core.contamination.probes._probe import Guard

__all__ = ["BuiltinsProbe"]


class BuiltinsProbe(KeyedProbe):
    """`builtins`, name by name: clearing the namespace would take away what refilling it needs."""

    kind = "builtins"
    code = "BLT001"
    cost = 2.0

    def __init__(self) -> None:
        self._values: tuple[Any, ...] = ()
        self._print = b""
        self._youngest = ""
        self._last: dict[str, Any] = {}
        self._watch = Watch(builtins.__dict__)

    def capture(self) -> Any:
        if not self._watch.moved():
            return self._last
        names = builtins.__dict__
        values = tuple(names.values())
        text = identical(values)
        youngest = next(reversed(names))
        # A new name is always the last one: with the same values in the same
        # order, and the same last name, the names are the same as well.
        if text != self._print or youngest != self._youngest:
            self._values, self._print, self._youngest = values, text, youngest
            self._last = dict(names)
        return self._last

    def guard(self) -> Guard:
        return Guard(dicts=(builtins.__dict__,))

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        if key == "_":
            # The last value shown by an interactive session or a doctest; a
            # callable is a translation function that was installed.
            return not any(callable(value) for value in (one, other) if value is not MISSING)
        return is_runners(other)

    def restore(self, key: Hashable, value: Any) -> None:
        name: Any = key
        if value is MISSING:
            builtins.__dict__.pop(name, None)
        else:
            builtins.__dict__[name] = value

    def describe(self, key: Hashable) -> str:
        return f"builtins.{key}"
