"""requests: sessions of own code, with headers, cookies, hooks and adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.libraries._parts import Key, Part
from isolation_core.contamination.libraries._profile import Profile, Unit, attributes, content, custom


class Cookies(Part):
    """The cookies of a session, each known by its domain, path and name."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__(f"{label}.cookies")
        self._find = find

    def read(self) -> dict[Key, Any]:
        return {(cookie.domain, cookie.path, cookie.name): cookie for cookie in self._find().cookies}

    def put(self, values: Mapping[Key, Any]) -> None:
        jar = self._find().cookies
        for (domain, path, name), cookie in values.items():
            if cookie is MISSING:
                jar.clear(domain, path, name)
            else:
                jar.set_cookie(cookie)

    def text(self, key: Key) -> str:
        return f"{self.label}[{key[2]!r}]"


PROFILE = Profile(
    "requests",
    [Unit("defaults", [attributes("requests.adapters:", "DEFAULT_RETRIES", "DEFAULT_POOLSIZE", "DEFAULT_POOLBLOCK")])],
    objects=[
        Unit(
            "Session",
            [attributes("", skip=("cookies",), depth=2), content(".headers._store"), custom("", Cookies)],
        )
    ],
    versions=("2.28", "3"),
    hint="Make the session in a fixture, or pass headers with each call.",
)
