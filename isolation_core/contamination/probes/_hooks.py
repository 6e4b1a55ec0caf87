"""Functions the interpreter calls back: exceptions, display, tracing, profiling, async generators."""

from __future__ import annotations

import sys
import threading
from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any, Final

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination._first_party import is_loop_hook, is_runners
from isolation_core.contamination.probes._keyed import KeyedProbe, SlotsProbe, same_items
from isolation_core.contamination.probes._probe import Guard

__all__ = ["HooksProbe", "MonitoringProbe", "ThreadHooksProbe", "TraceProbe"]


class HooksProbe(SlotsProbe):
    """``sys.excepthook`` and its like."""

    kind = "hook"
    code = "HOK001"
    cost = 0.6

    def __init__(self) -> None:
        hooks = ("excepthook", "displayhook", "unraisablehook", "breakpointhook")
        super().__init__(sys, (*hooks, *(f"__{name}__" for name in hooks)))

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        return is_runners(other)


class ThreadHooksProbe(SlotsProbe):
    """``threading.excepthook`` and what new threads are traced and profiled with."""

    kind = "thread-hook"
    code = "HOK002"
    cost = 0.3
    _paths_by_name: Final = {"_trace_hook": "threading.gettrace()", "_profile_hook": "threading.getprofile()"}

    def __init__(self) -> None:
        super().__init__(threading, ("excepthook", "_trace_hook", "_profile_hook"))

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        return is_runners(other)

    def describe(self, key: Hashable) -> str:
        return self._paths_by_name.get(str(key).rpartition(".")[2], str(key))


_TRACE: Final = "sys.gettrace()"
_PROFILE: Final = "sys.getprofile()"
_FIRST: Final = "sys.get_asyncgen_hooks().firstiter"
_FINAL: Final = "sys.get_asyncgen_hooks().finalizer"
_DEPTH: Final = "sys.get_coroutine_origin_tracking_depth()"
_THREAD: Final = "thread"


class TraceProbe(KeyedProbe):
    """Trace and profile functions, and asynchronous hooks, of the current thread."""

    kind = "trace"
    code = "HOK003"
    cost = 0.5
    process_wide = False

    def __init__(self) -> None:
        self._last: tuple[Any, ...] = ()

    def capture(self) -> Any:
        now = (
            sys.gettrace(), sys.getprofile(), *sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth(),
            threading.get_ident(),
        )  # fmt: skip
        last = self._last
        if not same_items(last[:-1], now[:-1]) or last[-1] != now[-1]:
            self._last = now
        return self._last

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if type(snapshot) is not tuple:
            return snapshot  # type: ignore[no-any-return]
        return dict(zip((_TRACE, _PROFILE, _FIRST, _FINAL, _DEPTH, _THREAD), snapshot, strict=True))

    def diff(self, before: Any, after: Any) -> Any:
        older, newer = self.entries(before), self.entries(after)
        if older.get(_THREAD) == newer.get(_THREAD):
            yield from super().diff(older, newer)

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        if key in (_FIRST, _FINAL):
            return is_loop_hook(one) or is_loop_hook(other)
        # A tracer that put itself in, or took itself out, knows what it does;
        # one that was replaced by something else wants to be back.
        return key != _DEPTH and (is_runners(other) or (other is None and is_runners(one)))

    def restore(self, key: Hashable, value: Any) -> None:
        if key == _TRACE:
            sys.settrace(value)
        elif key == _PROFILE:
            sys.setprofile(value)
        elif key == _FIRST:
            sys.set_asyncgen_hooks(firstiter=value)
        elif key == _FINAL:
            sys.set_asyncgen_hooks(finalizer=value)
        elif key == _DEPTH:
            sys.set_coroutine_origin_tracking_depth(value)

    def describe(self, key: Hashable) -> str:
        return str(key)


class MonitoringProbe(KeyedProbe):
    """Tools registered with ``sys.monitoring`` (Python 3.12 and newer)."""

    kind = "monitoring"
    code = "HOK004"
    cost = 0.3
    _OWNED: Final = ("coverage", "pydevd", "debug", "pdb")

    def __init__(self) -> None:
        self._monitoring: Any = getattr(sys, "monitoring", None)
        self._last: tuple[Any, ...] = ()

    def capture(self) -> Any:
        if self._monitoring is None:
            return self._last
        now = tuple(map(self._monitoring.get_tool, range(6)))
        if now != self._last:
            self._last = now
        return self._last

    def guard(self) -> Guard:
        if self._monitoring is None:
            return Guard()
        return Guard(tuple(partial(self._monitoring.get_tool, tool) for tool in range(6)))

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        return dict(enumerate(snapshot)) if type(snapshot) is tuple else snapshot

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        if one is MISSING:
            return True
        return any(isinstance(name, str) and name.lower().startswith(self._OWNED) for name in (one, other))

    def restore(self, key: Hashable, value: Any) -> None:
        tool: Any = key
        if self._monitoring.get_tool(tool) is not None:
            self._monitoring.set_events(tool, 0)
            self._monitoring.free_tool_id(tool)
        if value is not None:
            self._monitoring.use_tool_id(tool, value)
            raise RuntimeError(f"the tool {value!r} has its id again, but its callbacks and events are gone")

    def describe(self, key: Hashable) -> str:
        return f"sys.monitoring.get_tool({key})"
