"""Codec search functions and error handlers."""

from __future__ import annotations

import codecs
import encodings
import gc
from collections.abc import Hashable, Mapping
from typing import Any, Final

from isolation_core.contamination._cpython import identical
from isolation_core.contamination._difference import MISSING
from isolation_core.contamination._first_party import is_runners
from isolation_core.contamination.probes._keyed import ItemKey, ListSnapshot, ListsProbe, OrderKey
from isolation_core.contamination.probes._probe import Guard

__all__ = ["CodecsProbe"]

_SEARCH: Final = "codecs.register()"
_TRIAL: Final = "isolation-core"


def _find() -> tuple[list[Any] | None, dict[str, Any] | None]:
    """Return the interpreter's list of search functions and its dict of error handlers.

    Neither has a name in Python. Both are ordinary objects that refer to
    something known, so the collector can say where they are: one scan, once.
    Others may hold copies; the real ones are those a registration shows up in.
    """

    def nothing(_name: Any) -> Any:
        return None

    functions: list[Any] | None = None
    errors: dict[str, Any] | None = None
    codecs.register(nothing)
    codecs.register_error(_TRIAL, nothing)
    try:
        for holder in gc.get_referrers(nothing):
            if type(holder) is list and encodings.search_function in holder:
                functions = holder
            elif type(holder) is dict and holder.get(_TRIAL) is nothing:
                errors = holder
    finally:
        codecs.unregister(nothing)
        if errors is not None:
            errors.pop(_TRIAL, None)
    return functions, errors


class _Codecs:
    __slots__ = ("errors", "flat", "functions", "print")

    def __init__(self, flat: tuple[Any, ...], functions: tuple[Any, ...], errors: dict[str, Any]) -> None:
        self.flat = flat
        self.print = identical(flat)
        self.functions = functions
        self.errors = errors


class CodecsProbe(ListsProbe):
    """Search functions of ``codecs.register`` and handlers of ``codecs.register_error``."""

    kind = "codec"
    code = "REG003"
    cost = 0.7

    def __init__(self) -> None:
        super().__init__()
        self._found = False
        self._functions: list[Any] | None = None
        self._errors: dict[str, Any] | None = None
        self._last: _Codecs | None = None

    def capture(self) -> Any:
        if not self._found:
            self._functions, self._errors = _find()
            self._found = True
        functions, errors = self._functions or (), self._errors or {}
        flat = (*functions, MISSING, *errors, *errors.values())
        last = self._last
        if last is None or identical(flat) != last.print:
            self._last = last = _Codecs(flat, tuple(functions), dict(errors))
        return last

    def guard(self) -> Guard:
        functions, errors = self._functions, self._errors
        return Guard(
            dicts=() if errors is None else (errors,),
            lists=() if functions is None else (functions,),
        )

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if not isinstance(snapshot, _Codecs):
            return snapshot  # type: ignore[no-any-return]
        found: dict[Hashable, Any] = {f"codecs.lookup_error({name!r})": f for name, f in snapshot.errors.items()}
        found.update(self.expand(_SEARCH, ListSnapshot(self._functions, snapshot.functions)))
        return found

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        return isinstance(key, ItemKey) and is_runners(key.item)

    def restore(self, key: Hashable, value: Any) -> None:
        if isinstance(key, (ItemKey, OrderKey)):
            super().restore(key, value)
        elif type(key) is str and self._errors is not None:
            name = key[len("codecs.lookup_error(") + 1 : -2]
            if value is MISSING:
                self._errors.pop(name, None)
            else:
                self._errors[name] = value

    def finish(self) -> None:
        super().finish()
        # Taking a function out empties the cache of codecs found through others.
        codecs.register(_nothing)
        codecs.unregister(_nothing)

    def read_list(self, slot: Any) -> Any:
        return self._functions

    def bind_list(self, slot: Any, holder: list[Any]) -> None:
        """The list is the interpreter's own: it cannot be rebound."""


def _nothing(_name: str) -> None:
    return None
