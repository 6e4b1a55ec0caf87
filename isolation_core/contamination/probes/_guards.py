"""Guards: whether any of many probes would find anything new, asked in a few calls into C.

A probe that captures its kind of state costs a microsecond or two, and three
times that when a test has just pushed it out of the processor's caches. Most
of them can name readings that prove, while they stay the same, that `capture`
would return what it returned the last time. All of those are compared at once,
and the probes are only asked when one of them moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from operator import call
from typing import Any, Final

from isolation_core.contamination._cpython import (
    HAS_STORES,
    HAS_TAGS,
    Store,
    contents,
    identical_lists,
    moved,
    store_of,
    tag_of,
)
from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.probes._probe import Guard

__all__ = ["CAN_GUARD", "Guards"]

CAN_GUARD: Final = HAS_TAGS and HAS_STORES
"""Whether this interpreter shows what is needed; otherwise every probe is asked every time."""

_ABSENT: Final = repeat(MISSING)


class Guards:
    """The readings of all probes that have some."""

    def __init__(self) -> None:
        # They keep alive what is read.
        self._guards: Sequence[Guard] = ()
        self._stores: dict[int, Store] = {}
        self._values: list[Callable[[], Any]] = []
        self._objects: list[Callable[[], Iterable[Any]]] = []
        self._words: list[memoryview] = []
        self._blocks: list[memoryview] = []
        self._seen: tuple[bytes, bytes] = (b"", b"")
        self._known: list[Any] | None = None
        self._holders: list[dict[str, Any]] = []
        self._names: list[str] = []
        # Identical addresses are identical objects for as long as these are held.
        self._held: list[Any] = []
        self._image = b""

    def invalidate(self) -> None:
        """Have the probes asked the next time, because their last answer was not accepted."""
        self._known = None

    def nothing_moved(self) -> bool:
        """Return whether every reading is unchanged."""
        known, image = self._known, self._image
        if known is None or moved(self._words, self._blocks, self._seen):
            return False
        try:
            # Builtin atoms by value, everything else by identity: no code of a user runs.
            if list(map(call, self._values)) != known:
                return False
            return identical_lists(self._read_objects()) == image
        except Exception:  # a folder that is gone, a stream that was closed: the probe knows what to make of it
            return False

    def _read_objects(self) -> list[Any]:
        now = list(map(dict.get, self._holders, self._names, _ABSENT))
        now.extend(chain.from_iterable(map(call, self._objects)))
        return now

    def accept(self, guards: Sequence[Guard]) -> None:
        """Take the readings named in *guards*, as they are now."""
        self._guards = guards
        self._values = [read for guard in guards for read in guard.values]
        self._objects = [read for guard in guards for read in guard.objects]
        spots = [(space, name) for guard in guards for space, names in guard.attributes for name in names]
        self._holders = [space for space, _ in spots]
        self._names = [name for _, name in spots]
        stores: dict[int, Store] = {}
        for holder in (holder for guard in guards for holder in guard.lists):
            store = self._stores.get(id(holder))
            stores[id(holder)] = store_of(holder) if store is None or store.moved() else store
        self._stores = stores
        words = b"".join([store.seen for store in stores.values()])
        blocks = [block for store in stores.values() for block in store.blocks]
        inside = contents([store.words for store in stores.values()], blocks, words)
        others = [tag_of(each) for guard in guards for each in guard.dicts]
        others += [view for guard in guards for view in guard.memory]
        self._words = [*others, *(store.words for store in stores.values())]
        self._blocks = blocks
        self._seen = (b"".join(others) + words, inside)
        try:
            self._known = list(map(call, self._values))
            self._held = self._read_objects()
            self._image = identical_lists(list(self._held))
        except Exception:  # as above
            self._known = None
