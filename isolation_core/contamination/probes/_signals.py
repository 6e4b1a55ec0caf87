"""Signal handlers, timers, the mask and the wake-up descriptor: all of the main thread."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from isolation_core.contamination._difference import MISSING, Difference
from isolation_core.contamination._first_party import is_loop_hook, is_runners
from isolation_core.contamination.probes._keyed import KeyedProbe, attempt, same_items
from isolation_core.contamination.probes._probe import Guard

__all__ = ["SignalMaskProbe", "SignalsProbe", "TimersProbe"]

# The functions of the C module: the ones of `signal` make an enum member per call.
_c: Any = sys.modules.get("_signal", signal)


def _is_main() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def _settable() -> tuple[int, ...]:
    fixed = {getattr(signal, name, None) for name in ("SIGKILL", "SIGSTOP")}
    return tuple(int(number) for number in sorted(signal.valid_signals()) if number not in fixed)


class SignalsProbe(KeyedProbe):
    """Handlers of the signals Python can set.

    A handler that was installed from C reads as None: a change from or to it
    is reported, and never overwritten.
    """

    kind = "signal"
    code = "SIG001"
    cost = 1.5

    def __init__(self) -> None:
        self._numbers = _settable()
        self._get: Callable[[int], Any] = _c.getsignal
        self._last: tuple[Any, ...] = ()

    def capture(self) -> Any:
        # Handlers belong to the process, and may be set by its main thread only.
        if self._last and not _is_main():
            return self._last
        now = tuple(map(self._get, self._numbers))
        if not same_items(self._last, now):
            self._last = now
        return self._last

    def guard(self) -> Guard:
        return Guard(objects=(partial(map, self._get, self._numbers),))

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        return dict(zip(self._numbers, snapshot, strict=True)) if type(snapshot) is tuple else snapshot

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        # A running loop installs its own handlers and takes them out when it ends.
        return any(callable(value) and (is_runners(value) or is_loop_hook(value)) for value in (one, other))

    def restore(self, key: Hashable, value: Any) -> None:
        number: Any = key
        if value is None or self._get(number) is None:
            raise RuntimeError("a handler installed from C cannot be read, and must not be overwritten")
        signal.signal(number, value)

    def describe(self, key: Hashable) -> str:
        name = attempt(lambda: f"signal.{signal.Signals(key).name}", default=key)  # type: ignore[arg-type]
        return f"signal.getsignal({name})"

    def render(self, key: Hashable, value: Any) -> str:
        if value is None:
            return "<installed from C>"
        if type(value) is int and value in (0, 1):
            return "SIG_IGN" if value else "SIG_DFL"
        return super().render(key, value)


class TimersProbe(KeyedProbe):
    """Interval timers and ``alarm()``: whether they are armed, not how much is left."""

    kind = "timer"
    code = "SIG002"
    cost = 0.8
    _NAMES: Final = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")

    def __init__(self) -> None:
        self._timers = tuple(int(getattr(signal, name)) for name in self._NAMES if hasattr(signal, name))
        self._get = getattr(_c, "getitimer", None)
        self._seen: tuple[tuple[float, float], ...] = ()
        self._last: tuple[bool, ...] = ()

    def capture(self) -> Any:
        if self._get is None:
            return self._last
        now = tuple(map(self._get, self._timers))
        if now != self._seen:
            # A running timer reads differently every time.
            self._seen = now
            armed = tuple([left > 0 for left, _ in now])
            if armed != self._last:
                self._last = armed
        return self._last

    def guard(self) -> Guard | None:
        if any(self._last):
            return None  # a running timer reads differently every time
        return Guard(() if self._get is None else tuple(partial(self._get, timer) for timer in self._timers))

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        return dict(zip(self._timers, snapshot, strict=True)) if type(snapshot) is tuple else snapshot

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        # One that was running may have expired meanwhile.
        return one is True or one is MISSING

    def restore(self, key: Hashable, value: Any) -> None:
        signal.setitimer(key, 0)  # type: ignore[arg-type]

    def describe(self, key: Hashable) -> str:
        return f"signal.getitimer(signal.{self._NAMES[self._timers.index(key)]})"

    def render(self, key: Hashable, value: Any) -> str:
        return "armed" if value is True else "not armed"


class SignalMaskProbe(KeyedProbe):
    """Signals the main thread blocks, and the descriptor that is written to when one arrives."""

    kind = "signal-mask"
    code = "SIG003"
    cost = 0.6
    process_wide = False
    _MASK: Final = "signal.pthread_sigmask(signal.SIG_BLOCK, ())"
    _WAKEUP: Final = "signal.set_wakeup_fd()"

    def __init__(self) -> None:
        self._mask = getattr(_c, "pthread_sigmask", None)
        self._last: tuple[set[int], int | None] | None = None

    def capture(self) -> Any:
        if not _is_main():
            return None
        mask = self._mask(0, ()) if self._mask is not None else set()
        now = (mask, None if _loop_is_running() else _wakeup_descriptor())
        if now != self._last:
            self._last = now
        return self._last

    def same(self, before: Any, after: Any) -> bool:
        return before is None or after is None or before == after or super().same(before, after)

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if type(snapshot) is not tuple:
            return snapshot  # type: ignore[no-any-return]
        return {self._MASK: tuple(sorted(snapshot[0])), self._WAKEUP: snapshot[1]}

    def diff(self, before: Any, after: Any) -> Iterable[Difference]:
        return super().diff(before, after) if before is not None and after is not None else ()

    def unchanged(self, key: Hashable, one: Any, other: Any) -> bool:
        return bool(one == other)

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        return key == self._WAKEUP and (one is None or other is None)

    def restore(self, key: Hashable, value: Any) -> None:
        if key == self._MASK:
            signal.pthread_sigmask(signal.SIG_SETMASK, value)
        else:
            signal.set_wakeup_fd(value)

    def describe(self, key: Hashable) -> str:
        return str(key)


def _loop_is_running() -> bool:
    """Return whether an event loop runs in this thread: the descriptor is then its own."""
    for name in ("_asyncio", "asyncio.events"):
        module: Any = sys.modules.get(name)
        if module is not None:
            if module._get_running_loop() is not None:
                return True
            break
    trio: Any = sys.modules.get("trio")
    return trio is not None and bool(attempt(trio.lowlevel.in_trio_run, default=True))


def _wakeup_descriptor() -> int:
    # Reading means writing. -1 is what nearly everybody has, and then nothing
    # is written; otherwise it goes straight back.
    found: int = _c.set_wakeup_fd(-1)
    if found != -1:
        _c.set_wakeup_fd(found, warn_on_full_buffer=False)
    return found
