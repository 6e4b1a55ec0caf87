"""The standard streams and their settings."""

from __future__ import annotations

import io
import sys
from collections.abc import Hashable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, Final

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination._first_party import is_runners
from isolation_core.contamination.probes._keyed import KeyedProbe, SlotsProbe, attempt, same_items
from isolation_core.contamination.probes._probe import Guard

__all__ = ["StreamSettingsProbe", "StreamsProbe"]

_STREAMS: Final = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
_SETTINGS: Final = ("encoding", "errors", "line_buffering", "write_through")


class StreamsProbe(SlotsProbe):
    """``sys.stdin``, ``sys.stdout``, ``sys.stderr`` and the originals."""

    kind = "stream"
    code = "STD001"
    cost = 0.6

    def __init__(self) -> None:
        super().__init__(sys, _STREAMS)

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        # Capturing starts and stops as the runner decides, and what the runner
        # has closed must not come back.
        if is_runners(other):
            return True
        name = str(key).rpartition(".")[2]
        return is_runners(one) and (one.closed is True or other is sys.__dict__.get(f"__{name}__"))


class StreamSettingsProbe(KeyedProbe):
    """Settings of the standard streams that `io.TextIOWrapper.reconfigure` changes."""

    kind = "stream-settings"
    code = "STD002"
    cost = 1.0

    def __init__(self) -> None:
        self._read = attrgetter(*_SETTINGS)
        self._streams: tuple[Any, ...] = ()
        self._wrappers: tuple[io.TextIOWrapper, ...] = ()
        self._settings: tuple[Any, ...] = ()
        self._last: tuple[Any, Any] = ((), ())

    def capture(self) -> Any:
        streams = tuple(map(sys.__dict__.get, _STREAMS))
        if not same_items(streams, self._streams):
            self._streams = streams
            wrappers = {id(stream): stream for stream in streams if type(stream) is io.TextIOWrapper}
            self._wrappers = tuple(wrappers.values())
        try:
            settings = tuple(map(self._read, self._wrappers))
        except ValueError:  # one of them is closed or detached: there is nothing to reconfigure
            self._wrappers = tuple(wrapper for wrapper in self._wrappers if not wrapper.closed)
            settings = tuple(attempt(partial(self._read, wrapper), default=()) for wrapper in self._wrappers)
        # Exact builtin types all the way down.
        if settings != self._settings or self._wrappers is not self._last[0]:
            self._settings = settings
            self._last = (self._wrappers, settings)
        return self._last

    def guard(self) -> Guard:
        return Guard(
            tuple(partial(self._read, wrapper) for wrapper in self._wrappers),
            attributes=((sys.__dict__, _STREAMS),),
        )

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if type(snapshot) is not tuple:
            return snapshot  # type: ignore[no-any-return]
        return {
            (stream, name): value
            for stream, values in zip(*snapshot, strict=True)
            for name, value in zip(_SETTINGS, values, strict=False)
        }

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        # A stream that came or went is the business of the streams probe.
        return one is MISSING or other is MISSING

    def restore(self, key: Hashable, value: Any) -> None:
        stream, name = _parts(key)
        stream.reconfigure(**{name: value})

    def describe(self, key: Hashable) -> str:
        stream, name = _parts(key)
        for slot in _STREAMS:
            if sys.__dict__.get(slot) is stream:
                return f"sys.{slot}.{name}"
        return f"{type(stream).__name__}.{name}"


def _parts(key: Any) -> tuple[Any, Any]:
    first, second = key
    return first, second
