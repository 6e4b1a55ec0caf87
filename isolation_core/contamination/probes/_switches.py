"""Switches of the interpreter: limits, flags, the collector, fault handling and memory tracing."""

from __future__ import annotations

import faulthandler
import gc
import sys
import threading
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, Final

from attrs import frozen

from isolation_core.contamination._first_party import is_runners
from isolation_core.contamination.probes._keyed import (
    ItemKey,
    KeyedProbe,
    ListSnapshot,
    ListsProbe,
    SlotsProbe,
    loaded,
    same_items,
)
from isolation_core.contamination.probes._probe import Guard

__all__ = ["CollectorProbe", "FlagsProbe", "SwitchesProbe"]


class FlagsProbe(SlotsProbe):
    """Plain attributes of `sys` that steer the interpreter, and ``sys.modules`` itself."""

    kind = "flag"
    code = "INT001"
    cost = 0.7

    def __init__(self) -> None:
        super().__init__(
            sys,
            ("dont_write_bytecode", "pycache_prefix", "tracebacklimit", "ps1", "ps2", "modules", "path_importer_cache"),
        )

    def render(self, key: Hashable, value: Any) -> str:
        if key in ("sys.modules", "sys.path_importer_cache") and isinstance(value, dict):
            return f"<dict of {len(value)}>"
        return super().render(key, value)


@frozen
class _Switch:
    path: str
    get: Callable[[], Any]
    put: Callable[[Any], object]


def _put_tracing(frames: int) -> None:
    tracemalloc: Any = loaded("tracemalloc")
    if frames:
        tracemalloc.start(frames)
        raise RuntimeError("memory tracing runs again, but the traces taken before it was stopped are lost")
    tracemalloc.stop()


def _put_faulthandler(on: object) -> None:
    if on:
        # Where it wrote to is not known; the original stream is the default.
        faulthandler.enable(sys.__stderr__)  # type: ignore[arg-type]
    else:
        faulthandler.disable()


def _stack_size() -> int:
    """Return the stack size of new threads, in bytes; asking for it sets it to the default, so it is set again."""
    size = threading.stack_size()
    if size:
        threading.stack_size(size)
    return size


def _switches() -> tuple[_Switch, ...]:
    found = [
        _Switch("sys.getrecursionlimit()", sys.getrecursionlimit, sys.setrecursionlimit),
        _Switch("sys.getswitchinterval()", sys.getswitchinterval, sys.setswitchinterval),
        _Switch("threading.stack_size()", _stack_size, threading.stack_size),
        _Switch("faulthandler.is_enabled()", faulthandler.is_enabled, _put_faulthandler),
    ]
    digits = getattr(sys, "get_int_max_str_digits", None)
    if digits is not None:
        found.append(_Switch("sys.get_int_max_str_digits()", digits, sys.set_int_max_str_digits))
    return tuple(found)


class SwitchesProbe(KeyedProbe):
    """Switches with a getter and a setter."""

    kind = "interpreter"
    code = "INT002"
    cost = 0.6
    _TRACING: Final = "tracemalloc.get_traceback_limit()"

    def __init__(self) -> None:
        self._switches = {switch.path: switch for switch in _switches()}
        self._getters = tuple(switch.get for switch in self._switches.values())
        self._last: tuple[Any, ...] = ()

    def capture(self) -> Any:
        tracemalloc: Any = sys.modules.get("tracemalloc")
        frames = 0
        # It may be in the table and not executed yet.
        if tracemalloc is not None and "is_tracing" in tracemalloc.__dict__ and tracemalloc.is_tracing():
            frames = tracemalloc.get_traceback_limit()
        now = (*[get() for get in self._getters], frames)
        if now != self._last:  # numbers only
            self._last = now
        return self._last

    def guard(self) -> Guard:
        tracemalloc: Any = loaded("tracemalloc")
        if tracemalloc is None or "is_tracing" not in tracemalloc.__dict__:
            # Only once it is imported can it be switched on.
            return Guard(self._getters, dicts=(sys.modules,))
        return Guard((*self._getters, tracemalloc.get_traceback_limit, tracemalloc.is_tracing))

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if type(snapshot) is not tuple:
            return snapshot  # type: ignore[no-any-return]
        return dict(zip((*self._switches, self._TRACING), snapshot, strict=True))

    def restore(self, key: Hashable, value: Any) -> None:
        if key == self._TRACING:
            _put_tracing(value)
        else:
            self._switches[str(key)].put(value)

    def describe(self, key: Hashable) -> str:
        return str(key)


class _Collector:
    __slots__ = ("callbacks", "flat", "numbers")

    def __init__(self, numbers: tuple[Any, ...], flat: tuple[Any, ...]) -> None:
        self.numbers = numbers
        self.flat = flat
        self.callbacks = ListSnapshot(flat[0], flat[1:])


class CollectorProbe(ListsProbe):
    """The garbage collector: enabled, thresholds, debug flags, callbacks, uncollectable garbage."""

    kind = "gc"
    code = "INT003"
    cost = 0.6
    _SETTERS: Final[Mapping[str, Callable[[Any], object]]] = {
        "gc.isenabled()": lambda on: gc.enable() if on else gc.disable(),
        "gc.get_threshold()": lambda values: gc.set_threshold(*values),
        "gc.get_debug()": gc.set_debug,
    }

    def __init__(self) -> None:
        super().__init__()
        self._last: _Collector | None = None

    def capture(self) -> Any:
        numbers = (gc.isenabled(), gc.get_threshold(), gc.get_debug())
        callbacks = gc.callbacks
        flat = (callbacks, *callbacks)
        last = self._last
        if last is None or last.numbers != numbers or not same_items(last.flat, flat):
            self._last = last = _Collector(numbers, flat)
        return last

    def guard(self) -> Guard:
        return Guard(
            (gc.isenabled, gc.get_threshold, gc.get_debug),
            (partial(map, vars(gc).get, ("callbacks",)),),
            lists=(gc.callbacks,),
        )

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if not isinstance(snapshot, _Collector):
            return snapshot  # type: ignore[no-any-return]
        found: dict[Hashable, Any] = dict(zip(self._SETTERS, snapshot.numbers, strict=True))
        found.update(self.expand("gc.callbacks", snapshot.callbacks))
        return found

    def unchanged(self, key: Hashable, one: Any, other: Any) -> bool:
        if key == "gc.get_threshold()":
            return bool(one == other)
        return super().unchanged(key, one, other)

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        return isinstance(key, ItemKey) and is_runners(key.item)

    def restore(self, key: Hashable, value: Any) -> None:
        setter = self._SETTERS.get(key) if isinstance(key, str) else None
        if setter is None:
            super().restore(key, value)
        else:
            setter(value)

    def read_list(self, slot: Any) -> Any:
        return gc.callbacks

    def bind_list(self, slot: Any, holder: list[Any]) -> None:
        gc.callbacks = holder
