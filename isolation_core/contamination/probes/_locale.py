"""Locale and time zone of the C library."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any, Final

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.probes._keyed import KeyedProbe
from isolation_core.contamination.probes._probe import Guard

__all__ = ["LocaleProbe", "TimeZoneProbe"]

_ZONE: Final = "time.tzname"


class LocaleProbe(KeyedProbe):
    """Every category of the process-wide locale."""

    kind = "locale"
    code = "LOC001"
    cost = 0.5

    def __init__(self) -> None:
        self._c: Any = None
        with contextlib.suppress(ImportError):  # a build without locales
            self._c = importlib.import_module("_locale")
        self._categories = {
            f"locale.{name}": value
            for name, value in sorted(getattr(self._c, "__dict__", {}).items())
            if name.startswith("LC_") and name != "LC_ALL"
        }
        self._text: str | None = None
        self._last: dict[str, str] = {}

    def capture(self) -> Any:
        if self._c is not None:
            text = self._c.setlocale(self._c.LC_ALL)
            if text != self._text:
                self._text = text
                self._last = {path: self._c.setlocale(category) for path, category in self._categories.items()}
        return self._last

    def guard(self) -> Guard:
        return Guard(() if self._c is None else (partial(self._c.setlocale, self._c.LC_ALL),))

    def restore(self, key: Hashable, value: Any) -> None:
        self._c.setlocale(self._categories[str(key)], value)

    def describe(self, key: Hashable) -> str:
        return f"locale.setlocale({key})"


class _Zone:
    """The zone the C library is in, and the variable it came from."""

    __slots__ = ("names", "variable")

    def __init__(self, names: tuple[Any, ...], variable: str | None) -> None:
        self.names = names
        self.variable = variable


class TimeZoneProbe(KeyedProbe):
    """The zone `time.localtime` uses.

    It moves at `time.tzset`, not when ``TZ`` is set: putting the variable back
    is half of the work.
    """

    kind = "timezone"
    code = "LOC002"
    cost = 0.4

    def __init__(self) -> None:
        self._last: _Zone | None = None

    def capture(self) -> Any:
        get = time.__dict__.get
        names = (get("tzname"), get("timezone"), get("altzone"), get("daylight"))
        last = self._last
        if last is None or last.names != names:
            self._last = last = _Zone(names, os.environ.get("TZ"))
        return last

    def guard(self) -> Guard:
        return Guard(dicts=(time.__dict__,))

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        return {_ZONE: snapshot} if isinstance(snapshot, _Zone) else snapshot

    def unchanged(self, key: Hashable, one: Any, other: Any) -> bool:
        return isinstance(one, _Zone) and isinstance(other, _Zone) and one.names == other.names

    def restore(self, key: Hashable, value: Any) -> None:
        if not hasattr(time, "tzset"):
            time.tzname, time.timezone, time.altzone, time.daylight = value.names
            return
        now = os.environ.get("TZ")
        self._set_variable(value.variable)
        time.tzset()
        if self._names() != value.names and now != value.variable:
            # The zone did not come from the variable as it was when we looked.
            self._set_variable(now)
            time.tzset()
        if self._names() != value.names:
            time.tzname, time.timezone, time.altzone, time.daylight = value.names

    @staticmethod
    def _names() -> tuple[Any, ...]:
        return (time.tzname, time.timezone, time.altzone, time.daylight)

    @staticmethod
    def _set_variable(value: str | None) -> None:
        if value is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = value

    def describe(self, key: Hashable) -> str:
        return _ZONE

    def render(self, key: Hashable, value: Any) -> str:
        return repr(MISSING) if value is MISSING else repr(value.names[0])
