"""fakeredis: the data that clients of one address share. The databases stay the same objects."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.libraries._parts import Key, Part
from isolation_core.contamination.libraries._profile import Profile, Unit, custom


class Data(Part):
    """Every key of every database of every server."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__("fakeredis.FakeServer._servers_map")
        self._find = find

    def _databases(self) -> dict[tuple[Any, Any], Any]:
        return {
            (address, number): database
            for address, server in tuple(self._find()._servers_map.items())
            for number, database in tuple(server.dbs.items())
        }

    def read(self) -> dict[Key, Any]:
        return {
            (*where, name): _Item(item)
            for where, database in self._databases().items()
            for name, item in tuple(database._dict.items())
        }

    def agrees(self, one: Any, other: Any) -> bool:
        return one is other or (isinstance(one, _Item) and isinstance(other, _Item) and one.is_like(other))

    def put(self, values: Mapping[Key, Any]) -> None:
        databases = self._databases()
        for (address, number, name), item in values.items():
            database = databases.get((address, number))
            if database is None:
                continue
            if item is MISSING:
                database._dict.pop(name, None)
            else:
                item.item.value = copy.copy(item.value)
                item.item.expireat = item.expires
                database._dict[name] = item.item

    def text(self, key: Key) -> str:
        return f"{self.label}[{key[0]!r}].dbs[{key[1]!r}][{key[2]!r}]"


class _Item:
    """One value, with a copy of what it held."""

    __slots__ = ("expires", "item", "value")

    def __init__(self, item: Any) -> None:
        self.item = item
        self.value = copy.copy(item.value)
        self.expires = item.expireat

    def is_like(self, other: _Item) -> bool:
        """Return whether another item holds the same."""
        return self.item is other.item and self.expires == other.expires and repr(self.value) == repr(other.value)

    def __repr__(self) -> str:
        return f"<{type(self.value).__name__}>"


PROFILE = Profile(
    "fakeredis",
    [Unit("data", [custom("fakeredis:FakeServer", Data)], silent=lambda _: True)],
    versions=("2.20", "3"),
    hint="Give each test FakeRedis(server=FakeServer()), or call flushall() after yield.",
)
