"""The environment of the C library, including variables that `os.environ` does not see."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Final

__all__ = ["CEnviron", "c_environ"]

_POINTER: Final = ctypes.sizeof(ctypes.c_void_p)


class CEnviron:
    """The ``environ`` array of the C library, watched by the addresses of its strings.

    `setenv` never changes a string in place, it stores the address of another
    one, so an array with the same addresses holds the same variables. Reading
    the addresses costs half a microsecond; only strings at new addresses are read.

    Args:
        locate: returns the address of the array.
        renewed: name of the one variable that runners write again and again.
        ignored: names of all variables whose changes are not of interest.
    """

    def __init__(self, locate: Callable[[], int | None], renewed: str, ignored: Iterable[str]) -> None:
        self._locate = locate
        self._renewed = os.fsencode(renewed)
        self._ignored = frozenset(map(os.fsencode, ignored))
        self._addresses: tuple[int, ...] = ()
        self._raw = b""
        # Offset of the variable that runners renew in the array; it is never the first.
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
            if known[address][0] == self._renewed:
                self._volatile = position * _POINTER
        if moved.keys() <= self._ignored:
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


def c_environ(renewed: str, ignored: Iterable[str] = ()) -> CEnviron | None:
    """Return access to the C environment, or None where that is not possible.

    Args:
        renewed: name of the one variable that runners write again and again.
        ignored: names of all variables whose changes are not of interest.
    """
    try:
        if sys.platform == "win32":
            return None
        library = ctypes.CDLL(None)
        if sys.platform == "darwin":
            getter = library._NSGetEnviron
            getter.restype = ctypes.POINTER(ctypes.c_void_p)
            where = getter()
            watched = CEnviron(lambda: where.contents.value, renewed, ignored)
        else:
            variable = ctypes.c_void_p.in_dll(library, "environ")
            watched = CEnviron(lambda: variable.value, renewed, ignored)
        return watched if watched.changed_names() or not os.environ else None
    except (AttributeError, OSError, ValueError):
        return None
