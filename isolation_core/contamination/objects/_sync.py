"""Facets of what threads and tasks agree by, and of what moves on when it is used.

Events, semaphores, locks and queues at the top of a module are as shared as
any list, and a lock of asyncio remembers the loop it first had to wait in.
An object with a waiting thread or task is never touched: it is only reported.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Final

from isolation_core.contamination._difference import Difference
from isolation_core.contamination.objects._containers import ORDER, WHOLE
from isolation_core.contamination.objects._namespaces import AttributesState
from isolation_core.contamination.objects._opaque import ReadState

__all__ = [
    "PRIMITIVES",
    "LockState",
    "OwnedLockState",
    "PrimitiveState",
]

PRIMITIVES: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("threading", "Event"): frozenset({"_flag"}),
    ("threading", "Semaphore"): frozenset({"_value"}),
    ("threading", "BoundedSemaphore"): frozenset({"_value"}),
    ("asyncio.locks", "Event"): frozenset({"_value", "_loop"}),
    ("asyncio.locks", "Lock"): frozenset({"_locked", "_loop"}),
    ("asyncio.locks", "Condition"): frozenset({"_lock", "_loop"}),
    ("asyncio.locks", "Semaphore"): frozenset({"_value", "_loop"}),
    ("asyncio.locks", "BoundedSemaphore"): frozenset({"_value", "_loop"}),
    **dict.fromkeys(
        (("asyncio.queues", name) for name in ("Queue", "PriorityQueue", "LifoQueue")),
        frozenset({"_queue", "_unfinished_tasks", "_is_shutdown", "_loop"}),
    ),
}
"""Module and name of a class, and which of its attributes are its state."""

_PATIENCE: Final = 0.005  # seconds
# Healthy tests that share a loop, or a queue that is never joined, do these too.
_NOTED: Final = frozenset({"_loop", "_unfinished_tasks"})
_WAITING: Final = ("_waiters", "_getters", "_putters")


class PrimitiveState(AttributesState):
    """The state of an event, a semaphore, a lock or a queue, among the attributes it keeps.

    Args:
        holder: the primitive.
        getset: the ``__dict__`` descriptor of its type.
        names: the attributes that are its state.
    """

    __slots__ = ("_names",)

    def __init__(self, holder: Any, getset: Any, *, names: frozenset[str]) -> None:
        self._names = names
        super().__init__(holder, getset)

    def read(self) -> dict[Any, Any]:
        return {name: value for name, value in super().read().items() if name in self._names}

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        for difference in super().diff(before, after):
            if difference.key in _NOTED or (difference.key is not ORDER and self._is_awaited()):
                yield Difference(difference.key, before=difference.before, after=difference.after, severity="note")
            elif difference.key is not ORDER:
                yield difference

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        return ((name, value) for name, value in snapshot.items() if name != "_loop")

    def _is_awaited(self) -> bool:
        """Return whether a thread or task waits on it, so that it is in use."""
        condition = self._namespace.get("_cond")
        inner = condition.__dict__ if condition is not None else {}
        return any(holder.get(name) for holder in (self._namespace, inner) for name in _WAITING)

    def write(self, key: Hashable, value: Any) -> None:
        if self._is_awaited():
            raise RuntimeError("a thread or task is waiting on it")
        super().write(key, value)
        finished = self._namespace.get("_finished")
        if key == "_unfinished_tasks" and finished is not None:
            finished.__dict__["_value"] = not value


class LockState(ReadState):
    """Whether a `threading.Lock` is held.

    While other threads live, one of them may hold it and be about to give it
    back: it gets a moment to do so, and is not robbed of the lock after that.
    """

    __slots__ = ()
    reader = type(threading.Lock()).locked

    def read(self) -> tuple[bool]:
        reader = type(self).reader
        return (reader is not None and reader(self.holder),)

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        if before == after:
            return
        alone = threading.active_count() == 1
        if not alone and (not after[0] or self._is_given_back()):
            return
        yield Difference(WHOLE, before=before, after=after, severity=None if alone else "note")

    def _is_given_back(self) -> bool:
        if self.holder.acquire(timeout=_PATIENCE):
            self.holder.release()
            return True
        return False

    def write(self, key: Hashable, value: Any) -> None:
        if threading.active_count() > 1:
            raise RuntimeError("another thread may hold it")
        if value[0]:
            self.holder.acquire(blocking=False)
        elif self.read()[0]:
            self.holder.release()

    def shown(self, value: Any) -> Any:
        return value[0]

    def accessor(self, key: Hashable) -> str:
        return ".locked()"


class OwnedLockState(LockState):
    """Whether a `threading.RLock` is held by the thread that looks."""

    __slots__ = ()
    reader = type(threading.RLock())._is_owned  # type: ignore[attr-defined]

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        if before != after:
            yield Difference(WHOLE, before=before, after=after)

    def write(self, key: Hashable, value: Any) -> None:
        if value[0]:
            self.holder.acquire(blocking=False)
        while not value[0] and self.read()[0]:
            self.holder.release()

    def accessor(self, key: Hashable) -> str:
        return "._is_owned()"
