"""The treatment of warnings: filters, hooks, and the registry of shown ones."""

from __future__ import annotations

import types
import warnings
from collections.abc import Hashable, Mapping
from itertools import repeat
from typing import Any, Final

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination._first_party import is_runners
from isolation_core.contamination.probes._keyed import ListSnapshot, ListsProbe, same_items
from isolation_core.findings import Severity

__all__ = ["WarningsProbe", "forget_shown_warnings"]

_SLOTS: Final = (
    "defaultaction", "showwarning", "formatwarning", "_showwarnmsg", "_showwarnmsg_impl", "_formatwarnmsg",
    "_formatwarnmsg_impl",
)  # fmt: skip
_FILTERS: Final = "warnings.filters"


def forget_shown_warnings() -> None:
    """Notify the interpreter that filters changed; without it, C code keeps its old verdicts."""
    for name in ("_filters_mutated_lock_held", "_filters_mutated"):
        bump = getattr(warnings, name, None)
        if bump is None:
            continue
        lock = getattr(warnings, "_lock", None) if name.endswith("held") else None
        if lock is None:
            bump()
        else:
            with lock:
                bump()
        return


class _Warnings:
    __slots__ = ("filters", "flat", "once")

    def __init__(self, flat: tuple[Any, ...], filters: ListSnapshot, once: dict[Any, Any]) -> None:
        self.flat = flat
        self.filters = filters
        self.once = once


def _alike(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    """Return whether two looks differ only in what `WarningsProbe` tolerates."""
    return len(before) == len(after) and all(map(_is_alike, before, after))


def _is_alike(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is tuple and type(other) is tuple and len(one) == len(other) == len(_FILTER_PARTS):
        # Action and line are plain values; patterns and classes count by identity.
        return all(
            mine is yours or (kind is not None and type(mine) is type(yours) is kind and mine == yours)
            for kind, mine, yours in zip(_FILTER_PARTS, one, other, strict=True)
        )
    return _is_recorder(one) and _is_recorder(other)


_FILTER_PARTS: Final = (str, None, None, None, int)


class WarningsProbe(ListsProbe):
    """`warnings`: filters with their order, the functions that show and format, the once registry.

    The list of filters is compared by what it holds, not by identity:
    `warnings.catch_warnings` binds a copy, and so does every runner, all day.
    """

    kind = "warnings"
    code = "WRN001"
    moved_by_runners = True
    cost = 1.0

    def __init__(self) -> None:
        super().__init__()
        self._last: _Warnings | None = None

    def capture(self) -> Any:
        get = warnings.__dict__.get
        filters: Any = get("filters", ())
        once: Any = get("onceregistry", {})
        if type(filters) is not list or type(once) is not dict:
            filters = list(filters) if isinstance(filters, (list, tuple)) else []
            once = once if isinstance(once, dict) else {}
        flat = (*map(get, _SLOTS, repeat(MISSING)), *filters, *once)
        last = self._last
        if last is not None and (same_items(last.flat, flat) or _alike(last.flat, flat)):
            # Equal entries in new tuples: a runner that copies the filters for
            # each test is not to cost each test a comparison of all of them.
            last.flat = flat
        else:
            self._last = last = _Warnings(flat, ListSnapshot(None, tuple(filters)), dict(once))
        return last

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if not isinstance(snapshot, _Warnings):
            return snapshot  # type: ignore[no-any-return]
        found: dict[Hashable, Any] = {
            f"warnings.{name}": value for name, value in zip(_SLOTS, snapshot.flat, strict=False)
        }
        found.update((("once", entry), value) for entry, value in snapshot.once.items())
        found.update((key, value) for key, value in self.expand(_FILTERS, snapshot.filters) if key != _FILTERS)
        return found

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        # A recording catch_warnings() shows warnings to the append method of
        # its list; each test of some runners has another one.
        return type(key) is str and (is_runners(other) or (_is_recorder(one) and _is_recorder(other)))

    def severity_of(self, key: Hashable, before: Any, after: Any) -> Severity | None:
        return "note" if type(key) is tuple else None

    def restore(self, key: Hashable, value: Any) -> None:
        if type(key) is tuple:
            registry = warnings.onceregistry  # type: ignore[attr-defined]
            if value is MISSING:
                registry.pop(key[1], None)
            else:
                registry[key[1]] = value
        elif type(key) is str:
            name = key.rpartition(".")[2]
            if value is not MISSING:
                setattr(warnings, name, value)
            elif name in warnings.__dict__:
                delattr(warnings, name)
        else:
            super().restore(key, value)

    def finish(self) -> None:
        super().finish()
        forget_shown_warnings()

    def read_list(self, slot: Any) -> Any:
        return warnings.filters

    def bind_list(self, slot: Any, holder: list[Any]) -> None:
        warnings.filters = holder

    def describe(self, key: Hashable) -> str:
        return f"warnings.onceregistry[{key[1]!r}]" if type(key) is tuple else super().describe(key)


def _is_recorder(value: Any) -> bool:
    return type(value) is types.BuiltinFunctionType and type(value.__self__) is list
