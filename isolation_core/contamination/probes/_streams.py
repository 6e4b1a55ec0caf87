"""The standard streams and their settings."""

from __future__ import annotations

import io
import sys
from collections.abc import Hashable, Mapping
from operator import attrgetter
from typing import Any, Final

from isolation_core.contamination._probe import MISSING
from isolation_core.contamination.probes._keyed import KeyedProbe, SlotsProbe
from isolation_core.contamination.probes._owners import is_runners

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
        # A capture fixture comes and goes as the runner decides, and what the
        # runner has closed must not come back.
        return is_runners(other) or (is_runners(one) and one.closed is True)


class StreamSettingsProbe(KeyedProbe):
    """What `io.TextIOWrapper.reconfigure` changes on the standard streams."""

    kind = "stream-settings"
    code = "STD002"
    cost = 1.0

    def __init__(self) -> None:
        self._read = attrgetter(*_SETTINGS)
        self._last: tuple[Any, ...] = ()

    def capture(self) -> Any:
        found = []
        for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__, *self._others()):
            if type(stream) is io.TextIOWrapper:
                try:
                    found.append((stream, self._read(stream)))
                except ValueError:  # detached or closed
                    continue
        now = tuple(found)
        # Exact builtin types all the way down but for the streams, which are
        # compared by the identity shortcut of tuples: equality of a text
        # wrapper is identity.
        if now != self._last:
            self._last = now
        return self._last

    @staticmethod
    def _others() -> tuple[Any, ...]:
        space = sys.__dict__
        return tuple(
            stream
            for name in _STREAMS[:3]
            if (stream := space.get(name)) is not None and stream is not space.get(f"__{name}__")
        )

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if type(snapshot) is not tuple:
            return snapshot  # type: ignore[no-any-return]
        return {
            (stream, name): value for stream, values in snapshot for name, value in zip(_SETTINGS, values, strict=True)
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
