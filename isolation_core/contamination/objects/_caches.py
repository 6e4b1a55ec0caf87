"""State that grows by itself: functools caches, virtual subclasses of abstract classes, weak containers."""

from __future__ import annotations

import abc
import gc
import weakref
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, ClassVar

from isolation_core.contamination._difference import Difference
from isolation_core.contamination.objects._containers import DictState, ObjectState

__all__ = ["AbcState", "CacheState", "WeakState"]


class CacheState(DictState):
    """A ``functools`` cache that grew.

    The C implementation keeps results in one dict and, when bounded, in a
    linked list as well. Taking a key out of that dict is something it expects
    (it calls the entry an orphan and skips it on eviction), putting one in is
    not. So new entries are removed one by one and the older ones stay, which
    keeps ``get_settings() is get_settings()`` true across tests; only a cache
    that was empty at the start is cleared as a whole, counters included.
    """

    __slots__ = ("_cache",)
    kind = "cache"
    code = "MOD008"

    def __init__(self, holder: Any) -> None:
        self._cache = next(
            item for item in gc.get_referents(holder) if type(item) is dict and item is not holder.__dict__
        )
        super().__init__(holder)

    @property
    def targets(self) -> tuple[Any, ...]:
        return ()

    @property
    def keyed(self) -> dict[Any, Any] | None:
        return self._cache

    def read(self) -> dict[Any, Any]:
        # Keys only: a cached result must be able to die when it is evicted.
        return dict.fromkeys(self._cache)

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        return ()

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        # Look-ups move links of a bounded cache about: only keys count.
        added = [key for key in after if key not in before]
        if added:
            yield Difference("cache", before=tuple(before), after=tuple(after), severity="note")

    def write(self, key: Hashable, value: Any) -> None:
        if not value:
            self.holder.cache_clear()
            return
        known = set(value)
        for entry in tuple(self._cache):
            if entry not in known:
                self._cache.pop(entry, None)

    def accessor(self, key: Hashable) -> str:
        return ".cache_info().currsize"

    def agrees(self, one: Any, other: Any) -> bool:
        return len(one) >= len(other)

    def rebased(self, value: Any, before: Any, after: Any) -> Any:
        return after

    def shown(self, value: Any) -> Any:
        return len(value) if type(value) is tuple else value


class AbcState(ObjectState):
    """The virtual subclasses registered with an abstract base class."""

    __slots__ = ()
    kind = "class"
    code = "CLS003"

    @property
    def targets(self) -> tuple[Any, ...]:
        return ()

    def read(self) -> tuple[Any, ...]:
        from _abc import _get_dump  # type: ignore[import-not-found]  # the stubs leave it out

        registered = _get_dump(self.holder)[0]
        return tuple(sorted(registered, key=id))

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        return ()

    def write(self, key: Hashable, value: Any) -> None:
        from _abc import _reset_caches, _reset_registry  # pyright: ignore[reportMissingImports]

        _reset_registry(self.holder)
        _reset_caches(self.holder)
        for reference in value:
            cls = reference()
            if cls is not None:
                abc.ABCMeta.register(self.holder, cls)

    def accessor(self, key: Hashable) -> str:
        return ".register"

    def agrees(self, one: Any, other: Any) -> bool:
        # Registering again makes new weak references to the same classes.
        return {id(reference()) for reference in one} == {id(reference()) for reference in other}

    def shown(self, value: Any) -> Any:
        return [reference() for reference in value]


class WeakState(ObjectState):
    """The members of a ``WeakSet``, ``WeakKeyDictionary`` or ``WeakValueDictionary``.

    Only the weak references are kept, so members still die when their owner
    drops them; a member that died is not a change and is never put back.
    """

    __slots__ = ("_store",)
    kind = "container"
    code = "MOD009"
    types: ClassVar[tuple[type, ...]] = (weakref.WeakSet, weakref.WeakKeyDictionary, weakref.WeakValueDictionary)

    def __init__(self, holder: Any) -> None:
        self._store: Any = object.__getattribute__(holder, "data")
        super().__init__(holder)

    @property
    def targets(self) -> tuple[Any, ...]:
        return (self._store,)

    def _entries(self) -> list[tuple[Any, Any]]:
        if isinstance(self._store, set):
            return [(reference, True) for reference in set.__iter__(self._store)]
        return list(dict.items(self._store))

    def read(self) -> tuple[tuple[Any, Any], ...]:
        return tuple(entry for entry in self._entries() if self._alive(entry))

    def _alive(self, entry: tuple[Any, Any]) -> bool:
        reference = entry[1] if isinstance(self.holder, weakref.WeakValueDictionary) else entry[0]
        return reference() is not None

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        return ()

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        older = {id(key): (key, value) for key, value in before if self._alive((key, value))}
        newer = {id(key): (key, value) for key, value in after}
        moved = older.keys() != newer.keys() or any(newer[k][1] is not v[1] for k, v in older.items())
        if moved:
            yield Difference("members", before=before, after=after, severity="note")

    def write(self, key: Hashable, value: Any) -> None:
        wanted = {id(entry[0]): entry for entry in value if self._alive(entry)}
        present = {id(entry[0]): entry for entry in self._entries()}
        for ident, (reference, _) in present.items():
            if ident not in wanted:
                self._store.discard(reference) if isinstance(self._store, set) else self._store.pop(reference, None)
        for ident, (reference, item) in wanted.items():
            if ident not in present or present[ident][1] is not item:
                if isinstance(self._store, set):
                    self._store.add(reference)
                else:
                    self._store[reference] = item

    def accessor(self, key: Hashable) -> str:
        return ""

    def agrees(self, one: Any, other: Any) -> bool:
        return {id(key) for key, _ in one} == {id(key) for key, _ in other}

    def rebased(self, value: Any, before: Any, after: Any) -> Any:
        return after

    def shown(self, value: Any) -> Any:
        return f"{len(value)} live members" if type(value) is tuple else value
