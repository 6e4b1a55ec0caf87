"""Environment variables: content, deletion, a rebound mapping, and the C level behind them."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Final

from attrs import frozen

from isolation_core.contamination._difference import MISSING, Difference
from isolation_core.contamination._rendering import bounded_repr, redacted
from isolation_core.contamination.probes._keyed import KeyedProbe

__all__ = ["EnvironProbe"]

_POINTER: Final = ctypes.sizeof(ctypes.c_void_p)
# The runner writes it in every phase of every test; readline writes the other
# two, at the C level only, whenever the terminal has a size.
_VOLATILE: Final = frozenset({"PYTEST_CURRENT_TEST"})
_VOLATILE_BELOW: Final = frozenset({"PYTEST_CURRENT_TEST", "LINES", "COLUMNS"})
_RUNNERS: Final = b"PYTEST_CURRENT_TEST"
_VOLATILE_BYTES: Final = frozenset(map(os.fsencode, _VOLATILE_BELOW))


@frozen
class _Below:
    """Key of a variable whose C-level value is not the one of `os.environ`."""

    name: str


class _Rebound:
    """Key of the object bound to ``os.environ``."""


_REBOUND: Final = _Rebound()


class _State:
    """The variables, decoded by nobody, and where the C level disagrees with them."""

    __slots__ = ("below", "data", "mapping")

    def __init__(self, mapping: Any, data: dict[Any, Any], below: dict[str, Any]) -> None:
        self.mapping = mapping
        self.data = data
        self.below = below

    def limited_to(self, names: set[Any]) -> _State:
        """Return the same with no other variables than these."""
        return _State(self.mapping, {name: value for name, value in self.data.items() if name in names}, self.below)


class _CEnviron:
    """The ``environ`` array of the C library, watched by the addresses of its strings.

    `setenv` never changes a string in place, it stores the address of another
    one, so an array with the same addresses holds the same variables. Reading
    the addresses costs half a microsecond; only strings at new addresses are read.
    """

    def __init__(self, locate: Callable[[], int | None]) -> None:
        self._locate = locate
        self._addresses: tuple[int, ...] = ()
        self._raw = b""
        # Offset of the runner's own variable in the array; it is never the first.
        self._volatile = 0
        self._known: dict[int, tuple[bytes, bytes]] = {}

    def changed_names(self) -> dict[bytes, bytes | None]:
        """Return the variables that moved since the last call, None for those that went."""
        start = self._locate()
        if not start:
            return {}
        raw, volatile = self._raw, self._volatile
        if raw:
            now = ctypes.string_at(start, len(raw))
            if now == raw:
                return {}
            # A runner renews its one variable in every phase; all others, and
            # the null at the end, are where they were.
            behind = volatile + _POINTER
            if volatile and now[:volatile] == raw[:volatile] and now[behind:] == raw[behind:]:
                return {}
        return self._read_anew(start)

    def _read_anew(self, start: int) -> dict[bytes, bytes | None]:
        before = self._addresses
        now = self._addresses = self._read(start, len(before))
        self._raw = struct.pack(f"{len(now)}PP", *now, 0)
        known = self._known
        gone, come = set(before).difference(now), set(now).difference(before)
        moved: dict[bytes, bytes | None] = {known.pop(address)[0]: None for address in gone}
        for address in come:
            name, _, value = ctypes.string_at(address).partition(b"=")
            known[address] = (name, value)
            moved[name] = None
        self._volatile = 0
        for position, address in enumerate(now):
            if known[address][0] == _RUNNERS:
                self._volatile = position * _POINTER
        if moved.keys() <= _VOLATILE_BYTES:
            return {}
        for address in reversed(now):
            name, value = known[address]
            if name in moved:
                moved[name] = value
        return moved

    @staticmethod
    def _read(start: int, expected: int) -> tuple[int, ...]:
        """Return the addresses up to the null that ends the array."""
        found: tuple[int, ...] = ()
        if expected:
            # One read where the array is as long as it was; it was that long
            # before, and the C library never shrinks it.
            found = struct.unpack(f"{expected}P", ctypes.string_at(start, expected * _POINTER))
            if 0 in found:
                return found[: found.index(0)]
        extra: list[int] = []
        while value := ctypes.c_void_p.from_address(start + (expected + len(extra)) * _POINTER).value:
            extra.append(value)
        return (*found, *extra)


def _c_environ() -> _CEnviron | None:
    """Return access to the C environment, or None where that is not possible."""
    try:
        if sys.platform == "win32":
            return None
        library = ctypes.CDLL(None)
        if sys.platform == "darwin":
            getter = library._NSGetEnviron
            getter.restype = ctypes.POINTER(ctypes.c_void_p)
            where = getter()
            watched = _CEnviron(lambda: where.contents.value)
        else:
            variable = ctypes.c_void_p.in_dll(library, "environ")
            watched = _CEnviron(lambda: variable.value)
        return watched if watched.changed_names() or not os.environ else None
    except (AttributeError, OSError, ValueError):
        return None


class EnvironProbe(KeyedProbe):
    """`os.environ`: variables, the object itself, and what only the C level sees.

    The check reads the private mapping of `os.environ` (0.3 us instead of 25 us
    for decoding every entry); every write goes through the public one, so that
    child processes and C code see it.

    Args:
        reveal: names of variables whose values may be shown in reports.
    """

    kind = "environ"
    code = "ENV001"
    cost = 1.0

    def __init__(self, reveal: frozenset[str] = frozenset()) -> None:
        self.reveal = reveal
        self._mapping: Any = os.environ
        self._below = _c_environ()
        self._last: _State | None = None

    def capture(self) -> Any:
        mapping = self._mapping
        bound = os.environ
        data = self._read(mapping)
        last = self._last
        moved = self._below.changed_names() if self._below is not None else {}
        if last is None or moved or last.mapping is not bound or last.data != data:
            below = dict(last.below) if last is not None else {}
            if moved:
                self._look_below(moved, data, below)
            if last is not None and last.mapping is bound and last.below == below and last.data == data:
                return last
            self._last = last = _State(bound, data, below)
        return last

    @staticmethod
    def _read(mapping: Any) -> dict[Any, Any]:
        data = getattr(mapping, "_data", None)
        if type(data) is not dict:
            data = {os.fsencode(name): os.fsencode(value) for name, value in mapping.items()}
        copy: dict[Any, Any] = data.copy()
        copy.pop(b"PYTEST_CURRENT_TEST", None)
        copy.pop("PYTEST_CURRENT_TEST", None)
        return copy

    @staticmethod
    def _look_below(moved: dict[bytes, bytes | None], data: dict[Any, Any], below: dict[str, Any]) -> None:
        for name, value in moved.items():
            text = os.fsdecode(name)
            if text in _VOLATILE_BELOW or value == data.get(name):
                below.pop(text, None)
            else:
                below[text] = value

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if not isinstance(snapshot, _State):
            return snapshot  # type: ignore[no-any-return]
        found: dict[Hashable, Any] = {_text(name): _text(value) for name, value in snapshot.data.items()}
        found.update((_Below(name), value) for name, value in snapshot.below.items())
        found[_REBOUND] = snapshot.mapping
        return found

    def diff(self, before: Any, after: Any) -> Iterable[Difference]:
        if isinstance(before, _State) and isinstance(after, _State):
            # Decoding a hundred variables to find the one that moved would cost more than all else.
            older, newer = before.data, after.data
            moved = {name for name in (*older, *newer) if older.get(name) != newer.get(name)}
            before, after = before.limited_to(moved), after.limited_to(moved)
        return super().diff(before, after)

    def restore(self, key: Hashable, value: Any) -> None:
        mapping = self._mapping
        if key is _REBOUND:
            os.environ = value  # noqa: B003 - the same mapping object as before, whose writes do reach putenv
        elif isinstance(key, _Below):
            wanted = mapping.get(key.name) if value is MISSING else value
            if wanted is None:
                os.unsetenv(key.name)
            else:
                os.putenv(key.name, wanted)
        elif value is MISSING:
            mapping.pop(key, None)
        else:
            mapping[key] = value

    def describe(self, key: Hashable) -> str:
        if key is _REBOUND:
            return "os.environ"
        return f"os.environ[{key.name!r}] (C level)" if isinstance(key, _Below) else f"os.environ[{key!r}]"

    def render(self, key: Hashable, value: Any) -> str:
        if key is _REBOUND:
            return f"<{type(value).__name__} at {id(value):#x}>"
        name = key.name if isinstance(key, _Below) else key
        if value is MISSING or value is None:
            return repr(MISSING)
        text = _text(value)
        return bounded_repr(text) if name in self.reveal else redacted(text)


def _text(value: Any) -> str:
    return value if type(value) is str else os.fsdecode(value)
