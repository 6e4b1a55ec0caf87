"""Where modules and arguments come from: ``sys.path`` and the other lists of `sys`."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Hashable, Mapping
from importlib.machinery import FileFinder
from typing import Any, Final

from isolation_core.contamination._cpython import Watch, identical
from isolation_core.contamination._difference import MISSING
from isolation_core.contamination._first_party import is_library_code, is_runners
from isolation_core.contamination.probes._keyed import ItemKey, KeyedProbe, ListSnapshot, ListsProbe, same_items
from isolation_core.contamination.probes._probe import Guard

__all__ = ["ImporterCacheProbe", "PathsProbe"]

_LISTS: Final = ("argv", "path", "meta_path", "path_hooks", "warnoptions", "orig_argv")
_IMPORTING: Final = frozenset({"sys.path", "sys.meta_path", "sys.path_hooks"})


class _Lists:
    __slots__ = ("flat", "states")

    def __init__(self, flat: tuple[Any, ...], states: dict[str, ListSnapshot]) -> None:
        self.flat = flat
        self.states = states


class PathsProbe(ListsProbe):
    """``sys.argv``, ``path``, ``meta_path``, ``path_hooks``, ``warnoptions``: object, items and order."""

    kind = "path"
    code = "PTH001"
    cost = 1.0

    def __init__(self) -> None:
        super().__init__()
        self._last: _Lists | None = None

    def capture(self) -> Any:
        # One flat tuple with the list objects between their items: identical
        # tuples mean identical lists.
        flat: list[Any] = []
        space = sys.__dict__
        for name in _LISTS:
            holder = space.get(name, MISSING)
            flat.append(holder)
            if type(holder) is list:
                flat += holder
        now = tuple(flat)
        last = self._last
        if last is None or not same_items(last.flat, now):
            states = {f"sys.{name}": _state(space.get(name, MISSING)) for name in _LISTS}
            self._last = last = _Lists(now, states)
        return last

    def guard(self) -> Guard:
        space = sys.__dict__
        return Guard(
            attributes=((space, _LISTS),),
            lists=tuple(holder for name in _LISTS if type(holder := space.get(name)) is list),
        )

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if not isinstance(snapshot, _Lists):
            return snapshot  # type: ignore[no-any-return]
        return {key: value for slot, state in snapshot.states.items() for key, value in self.expand(slot, state)}

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        return isinstance(key, ItemKey) and type(key.item) is not str and is_runners(key.item)

    def read_list(self, slot: Any) -> Any:
        return getattr(sys, slot[4:])

    def bind_list(self, slot: Any, holder: list[Any]) -> None:
        setattr(sys, slot[4:], holder)

    def finish(self) -> None:
        importing = not _IMPORTING.isdisjoint(self._pending)
        super().finish()
        if importing:
            # Finders remember what they did not find; another's finder may raise.
            with contextlib.suppress(Exception):
                importlib.invalidate_caches()


def _state(holder: Any) -> ListSnapshot:
    return ListSnapshot(holder, tuple(holder) if isinstance(holder, (list, tuple)) else ())


class ImporterCacheProbe(KeyedProbe):
    """Finders put into ``sys.path_importer_cache`` by hand.

    Entries that the import system caches by itself are not a difference.
    """

    kind = "importer-cache"
    code = "PTH002"
    severity = "note"
    cost = 1.0

    def __init__(self) -> None:
        self._flat: tuple[Any, ...] = ()
        self._print = b""
        self._last: dict[Any, Any] = {}
        self._cache: Any = sys.path_importer_cache
        self._watch = Watch(self._cache)

    def capture(self) -> Any:
        cache = sys.path_importer_cache
        if cache is self._cache and not self._watch.moved():
            return self._last
        flat = (*cache, *cache.values())
        text = identical(flat)
        if text != self._print:
            self._flat, self._print = flat, text
            self._last = dict(cache)
        return self._last

    def guard(self) -> Guard | None:
        # That `sys` has another one is for the probe of flags to say.
        return Guard(dicts=(self._cache,)) if sys.path_importer_cache is self._cache else None

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        return _is_cache(one) and _is_cache(other)

    def restore(self, key: Hashable, value: Any) -> None:
        name: Any = key
        if value is MISSING:
            sys.path_importer_cache.pop(name, None)
        else:
            sys.path_importer_cache[name] = value

    def describe(self, key: Hashable) -> str:
        return f"sys.path_importer_cache[{key!r}]"


def _is_cache(finder: Any) -> bool:
    kind = type(finder)
    return finder is MISSING or finder is None or kind is FileFinder or is_library_code(kind) or is_runners(finder)
