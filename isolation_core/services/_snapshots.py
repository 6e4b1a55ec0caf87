"""Keeping what was passed as it was: calls are recorded by value as far as that is worth its price."""

from __future__ import annotations

import copy
import reprlib
from collections.abc import Callable
from typing import Any, Final, Literal

__all__ = ["SNAPSHOTS", "Snapshot"]

Snapshot = Literal["reference", "containers", "deep", "repr"]
"""How arguments are kept in the log.

``reference``: the very objects, the cheapest; later changes show.
``containers``: lists, dicts, sets and tuples are copied, what is in them is not. The default.
``deep``: ``copy.deepcopy``; what cannot be copied is kept by reference.
``repr``: text of bounded length, which keeps nothing alive.
"""

_ATOMS: Final = frozenset({str, int, float, bool, bytes, type(None)})
_DEPTH: Final = 20
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 200
_repr.maxdict = _repr.maxlist = 20


def _containers(value: Any, depth: int = _DEPTH) -> Any:
    kind = type(value)
    if kind in _ATOMS or not depth:
        return value
    if kind is dict:
        return {key: item if type(item) in _ATOMS else _containers(item, depth - 1) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind([item if type(item) in _ATOMS else _containers(item, depth - 1) for item in value])
    if kind is set or kind is bytearray:
        return kind(value)
    return value


def _deep(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def _same(value: Any) -> Any:
    return value


SNAPSHOTS: Final[dict[str, Callable[[Any], Any]]] = {
    "reference": _same, "containers": _containers, "deep": _deep, "repr": _repr.repr,
}  # fmt: skip
"""What to do with one argument, by policy."""
