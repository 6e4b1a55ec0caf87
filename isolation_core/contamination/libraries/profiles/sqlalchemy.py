"""SQLAlchemy: tables of metadata, mapped classes of tests, listeners, options of sessions and engines."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.libraries._parts import Key, Part
from isolation_core.contamination.libraries._profile import Changes, Profile, Unit, attributes, custom, resolve
from isolation_core.contamination.probes._probe import Guard


class Held:
    """A table in the place of which nothing but its registry needs to know it."""

    __slots__ = ("_strong", "ref", "text")

    def __init__(self, table: Any, *, strong: bool) -> None:
        self.ref = weakref.ref(table)
        self.text = f"<Table {table.name!r}>"
        self._strong = table if strong else None

    def __repr__(self) -> str:
        return self.text


class Tables(Part):
    """The tables of one metadata. Those that came later are not kept alive by knowing them."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__(f"{label}.tables")
        self._find = find
        self._known: dict[int, Held] = {}
        self._first = True

    def read(self) -> dict[Key, Any]:
        found: dict[Key, Any] = {}
        known: dict[int, Held] = {}
        for name, table in dict.items(self._find().tables):
            held = self._known.get(id(table))
            if held is None or held.ref() is not table:
                held = Held(table, strong=self._first)
            known[id(table)] = held
            found[(name,)] = held
        # One that was taken out may be put back: it is kept with the key.
        self._known = {**self._known, **known} if len(self._known) < 2 * len(known) + 16 else known
        self._first = False
        return found

    def put(self, values: Mapping[Key, Any]) -> None:
        metadata = self._find()
        for (name,), held in values.items():
            now = dict.get(metadata.tables, name)
            if now is not None:
                metadata.remove(now)
            table = None if held is MISSING else held.ref()
            if table is not None:
                dict.__setitem__(metadata.tables, name, table)
                if table.schema is not None:
                    metadata._schemas.add(table.schema)

    def guard(self) -> Guard | None:
        return Guard(dicts=(self._find().tables,))


def _keep_what_is_mapped(metadata: Any, changes: Changes) -> Mapping[tuple[int, Key], str]:
    """Return the new tables that other code holds, or whose classes live on: both would lose their other half."""
    new = {key for key, (before, _) in changes.items() if before is MISSING and key[0] == 0}
    if not new:
        return {}
    # Classes that only a cycle holds go away with their mappers.
    gc.collect()
    mapped: set[int] = set()
    for registry in tuple(getattr(resolve("sqlalchemy.orm.mapper:"), "_mapper_registries", ())) if _has_orm() else ():
        for mapper in tuple(registry.mappers):
            mapped.update(map(id, mapper.tables))
    kept: dict[tuple[int, Key], str] = {}
    for key in new:
        name = key[1][0]
        table = dict.get(metadata.tables, name)
        if table is None:
            continue
        reference = weakref.ref(table)
        if id(table) in mapped:
            kept[key] = "a class that is mapped to it lives on"
        else:
            dict.pop(metadata.tables, name)
            del table
            # Columns and their table refer to each other.
            gc.collect()
            alive = reference()
            if alive is not None:
                dict.__setitem__(metadata.tables, name, alive)
                if _is_held(alive, metadata):
                    kept[key] = "something that lives on holds it"
            del alive
    return kept


def _has_orm() -> bool:
    return "sqlalchemy.orm.mapper" in sys.modules


def _is_held(table: Any, metadata: Any) -> bool:
    """Return whether a module holds a table, not only a frame or other tables."""
    holders = gc.get_referrers(table)
    return any(type(each) is dict and each is not metadata.tables and "__name__" in each for each in holders)


class ScopedSession(Part):
    """The session that a `scoped_session` has made for this thread."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__(label)
        self._find = find
        self._thread = get_ident()
        self._seen: dict[Key, Any] = {}

    def read(self) -> dict[Key, Any]:
        if get_ident() == self._thread:
            registry = self._find().registry
            self._seen = {("session",): registry()} if registry.has() else {}
        return self._seen

    def put(self, values: Mapping[Key, Any]) -> None:
        scoped = self._find()
        for session in values.values():
            if session is MISSING:
                # Its connection goes back to the pool.
                scoped.remove()
            else:
                scoped.registry.set(session)

    def text(self, key: Key) -> str:
        return f"{self.label}.registry"


class _Listener:
    """One registered listener: which collections it is in, and where."""

    __slots__ = ("places", "text")

    def __init__(self, places: list[tuple[Any, Any, dict[Any, int]]], text: str) -> None:
        self.places = places
        self.text = text

    def __repr__(self) -> str:
        return self.text


class Listeners(Part):
    """Listeners of user code, on classes and objects; those that SQLAlchemy adds for itself are left alone."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__(label)
        self._find = find
        self._mark: tuple[Any, ...] = ()
        self._last: dict[Key, Any] = {}
        self._library = os.path.dirname(str(sys.modules["sqlalchemy"].__file__)) + os.sep

    def read(self) -> dict[Key, Any]:
        table = self._find()._key_to_collection
        mark = (len(table), next(reversed(table), None))
        if mark != self._mark:
            self._mark = mark
            last = self._last
            self._last = {}
            for key, places in tuple(table.items()):
                known = last.get((key,), MISSING)
                self._last[key,] = self._listener(key, places) if known is MISSING else known
        return {key: each for key, each in self._last.items() if each is not None}

    def _listener(self, key: Any, places: Any) -> _Listener | None:
        found = []
        own = None
        for collection, listener in tuple(places.items()):
            where, function = collection(), listener()
            if where is None or function is None:
                continue
            if own is None and self._is_own(function):
                own = function
            found.append(
                (
                    collection,
                    listener,
                    {id(each): list(each).index(function) for each in _lists_of(where) if function in each},
                )
            )
        if own is None:
            return None
        return _Listener(found, f"<listener {getattr(own, '__qualname__', own)} of {key[1]!r}>")

    def _is_own(self, function: Any) -> bool:
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        function = getattr(function, "__func__", function)
        code = getattr(function, "__code__", None)
        if code is None:
            return False
        if not code.co_filename.startswith(self._library):
            return True
        for cell in function.__closure__ or ():
            try:
                inner = getattr(cell.cell_contents, "__code__", None)
            except ValueError:
                continue
            if inner is not None and not inner.co_filename.startswith(self._library):
                return True
        return False

    def put(self, values: Mapping[Key, Any]) -> None:
        registry = self._find()
        now = self.read()
        for key, before in values.items():
            there = now.get(key)
            if before is MISSING:
                registry._key_to_collection.pop(key[0], None)
                for collection, listener, _ in there.places if there is not None else ():
                    registry._collection_to_key.get(collection, {}).pop(listener, None)
                    where, function = collection(), listener()
                    for each in _lists_of(where) if where is not None else ():
                        if function in each:
                            each.remove(function)
                    if where is not None and hasattr(where, "propagate"):
                        where.propagate.discard(function)
                continue
            for collection, listener, at in before.places:
                where, function = collection(), listener()
                if where is None or function is None:
                    continue
                registry._key_to_collection[key[0]][collection] = listener
                registry._collection_to_key[collection][listener] = key[0]
                for each in _lists_of(where):
                    if id(each) in at and function not in each:
                        each.insert(min(at[id(each)], len(each)), function)
        self._mark = ()

    def guard(self) -> Guard | None:
        return Guard(dicts=(self._find()._key_to_collection,))

    def text(self, key: Key) -> str:
        return f"sqlalchemy.event.listen({key[0][1]!r})"  # type: ignore[index]


def _lists_of(collection: Any) -> list[Any]:
    """Return the lists that hold the listeners of a collection."""
    per_class = getattr(collection, "_clslevel", None)
    return list(per_class.values()) if per_class is not None else [collection.listeners]


PROFILE = Profile(
    "sqlalchemy",
    [Unit("listeners", [custom("sqlalchemy.event.registry:", Listeners)])],
    objects=[
        Unit("scoped_session", [custom("", ScopedSession)], silent=lambda _: True),
        Unit("Engine", [attributes("", "_execution_options", "echo", "_should_log_info", "_should_log_debug")]),
        Unit(
            "MetaData", [custom("", Tables), attributes("", "naming_convention", "schema")], keep=_keep_what_is_mapped
        ),
        Unit("sessionmaker", [attributes("", "kw", "class_")]),
        Unit("async_sessionmaker", [attributes("", "kw", "class_")]),
    ],
    leaves=frozenset(
        {"Table", "Column", "Mapper", "registry", "InstrumentedAttribute", "QueryableAttribute", "ClassManager"}
    ),
    versions=("1.4", "2.2"),
    distribution="SQLAlchemy",
    hint="Define tables in modules, or give a test its own MetaData().",
)
