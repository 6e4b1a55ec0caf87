"""Who still holds a discarded mock.

Cutting the links first is what makes the question meaningful: a mock that is
alive afterwards is held by somebody, not by its own cycles. The answer takes a
walk over the heap, so it is asked once for all, and only when the names of
finished functions and the values of finished fixtures have had time to go.
"""

from __future__ import annotations

import gc
import threading
from collections import Counter
from types import FrameType, MethodType
from typing import Any
from weakref import ref

from isolation_core.findings import Leak
from isolation_core.mocks._ownership import Place, place_text

__all__ = ["audit_survivors", "describe_survivors", "quarantine"]

Survivor = tuple["ref[Any]", str, str, Place | None]

_quarantine: list[Survivor] = []
_lock = threading.Lock()


def quarantine(survivors: list[Survivor]) -> None:
    """Keep weak references to *survivors* until `audit_survivors` asks."""
    with _lock:
        # Those of the barrier before have usually gone meanwhile, so this stays short.
        _quarantine[:] = [entry for entry in _quarantine if entry[0]() is not None]
        _quarantine.extend(survivors)


def audit_survivors() -> tuple[Leak, ...]:
    """Tell which mocks of closed registries are still held, and by what types of objects.

    Walks the heap once if there are any, so ask at the end of a run or module,
    not after every test. What is told is not told again.

    Returns:
        One `Leak` for each mock that something other than a running function holds.
    """
    with _lock:
        survivors = [entry for entry in _quarantine if entry[0]() is not None]
        _quarantine.clear()
    return tuple(describe_survivors(survivors)) if survivors else ()


def describe_survivors(survivors: list[Survivor]) -> list[Leak]:
    """Return a `Leak` for each of *survivors* that has a holder, naming the types of its holders."""
    # A tuple, because that very object is what the call below passes on, and so
    # can be told from the holders.
    mocks = tuple(mock for entry in survivors if (mock := entry[0]()) is not None)
    mock = None
    alive: dict[int, list[str]] = {id(each): [] for each in mocks}
    for holder in gc.get_referrers(*mocks):
        # A name of a function under way is no leak: it goes when that returns.
        if holder is mocks or isinstance(holder, FrameType):
            continue
        for referent in gc.get_referents(holder):
            if id(referent) in alive:
                alive[id(referent)].append(_type_name(holder))
    leaks = []
    for reference, name, owner, made_at in survivors:
        mock = reference()
        holders = Counter(alive.get(id(mock), ())) if mock is not None else Counter()
        mock = None
        if holders:
            types = ", ".join(f"{kind} x{count}" if count > 1 else kind for kind, count in sorted(holders.items()))
            leaks.append(
                Leak(
                    "mock", name, code="MCK003", owner=owner, created_at=place_text(made_at), ended=True,
                    severity="note", reason=f"discarded, but still held by: {types}",
                )
            )  # fmt: skip
    return leaks


def _type_name(holder: object) -> str:
    if isinstance(holder, dict) and "__name__" in holder and "__builtins__" in holder:
        return f"module {holder['__name__']}"
    if isinstance(holder, MethodType):
        return "method"
    return type(holder).__qualname__
