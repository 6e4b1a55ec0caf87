"""The table of file name extensions of `mimetypes`."""

from __future__ import annotations

import gc
import os
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from isolation_core.contamination._cpython import identical
from isolation_core.contamination._difference import MISSING, Difference, is_same_value
from isolation_core.contamination.probes._keyed import KeyedProbe, loaded

__all__ = ["MimeTypesProbe"]


class _Tables:
    __slots__ = ("containers", "entries", "print", "values")

    def __init__(self, database: Any) -> None:
        self.containers = _containers(database)
        self.values = tuple(gc.get_referents(*self.containers))
        self.print = identical(self.values)
        self.entries = _entries(database)


def _containers(database: Any) -> tuple[dict[str, Any], ...]:
    return (*database.types_map, database.encodings_map, database.suffix_map)


def _entries(database: Any) -> dict[Hashable, Any]:
    names = ("types_map[False]", "types_map[True]", "encodings_map", "suffix_map")
    found: dict[Hashable, Any] = {
        (name, key): value
        for name, table in zip(names, _containers(database), strict=True)
        for key, value in table.items()
    }
    for strict, table in enumerate(database.types_map_inv):
        found.update(((f"types_map_inv[{bool(strict)}]", key), tuple(value)) for key, value in table.items())
    return found


class MimeTypesProbe(KeyedProbe):
    """Types added to, or taken from, the database behind `mimetypes.guess_type`.

    The database is read from the system's files at first use, which is no
    difference: then what is there is compared with a database of our own.
    """

    kind = "mimetypes"
    code = "REG002"
    cost = 4.0

    def __init__(self) -> None:
        self._last: _Tables | None = None

    def capture(self) -> Any:
        mimetypes: Any = loaded("mimetypes")
        database = mimetypes.__dict__.get("_db") if mimetypes is not None else None
        if database is None:
            return None
        last = self._last
        containers = _containers(database)
        if (
            last is None
            or identical(containers) != identical(last.containers)
            or identical(tuple(gc.get_referents(*containers))) != last.print
        ):
            self._last = last = _Tables(database)
        return last

    def same(self, before: Any, after: Any) -> bool:
        return before is after or super().same(before, after)

    def diff(self, before: Any, after: Any) -> Iterable[Difference]:
        if before is None and after is not None:
            before = _pristine()
        return super().diff(before, after) if before is not None and after is not None else ()

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        return snapshot.entries if isinstance(snapshot, _Tables) else snapshot

    def unchanged(self, key: Hashable, one: Any, other: Any) -> bool:
        if type(one) is tuple and type(other) is tuple:
            return one == other
        return is_same_value(one, other)

    def restore(self, key: Hashable, value: Any) -> None:
        table_name, entry = _parts(key)
        mimetypes: Any = loaded("mimetypes")
        attribute, _, index = table_name.partition("[")
        table = getattr(mimetypes._db, attribute)
        if index:
            table = table[index == "True]"]
        if value is MISSING:
            table.pop(entry, None)
        else:
            table[entry] = list(value) if type(value) is tuple else value

    def describe(self, key: Hashable) -> str:
        table, entry = _parts(key)
        return f"mimetypes._db.{table}[{entry!r}]"


def _pristine() -> dict[Hashable, Any]:
    mimetypes: Any = loaded("mimetypes")
    database = mimetypes.MimeTypes()
    if hasattr(database, "read_windows_registry"):
        database.read_windows_registry()
    for path in mimetypes.knownfiles:
        if os.path.isfile(path):
            database.read(path)
    return _entries(database)


def _parts(key: Any) -> tuple[Any, Any]:
    first, second = key
    return first, second
