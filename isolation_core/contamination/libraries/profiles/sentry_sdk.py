"""sentry_sdk: the client and data of the scopes. Integrations patch once per process and stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.libraries._parts import Content, Key, Part
from isolation_core.contamination.libraries._profile import Profile, Unit, custom
from isolation_core.contamination.probes._probe import Guard


class Scopes(Part):
    """What is set on the global scope, and on the two scopes of this context."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__("sentry_sdk")
        self._find = find
        self._thread = get_ident()
        self._seen: dict[Key, Any] = {}

    def _scopes(self) -> dict[str, Any]:
        module = self._find()
        found = {
            "get_global_scope()": module._global_scope,
            "get_isolation_scope()": module._isolation_scope.get(),
            "get_current_scope()": module._current_scope.get(),
        }
        return {name: scope for name, scope in found.items() if scope is not None}

    def read(self) -> dict[Key, Any]:
        # Two of the three belong to this thread.
        if get_ident() == self._thread:
            self._seen = self._now()
        return self._seen

    def _now(self) -> dict[Key, Any]:
        found: dict[Key, Any] = {}
        for name, scope in self._scopes().items():
            table = {slot: each for slot in _slots_of(scope) if (each := getattr(scope, slot, MISSING)) is not MISSING}
            found.update({(name, *key): each for key, each in Content("", lambda table=table: table, 1).read().items()})  # type: ignore[misc]
        return found

    def earlier(self, older: dict[Key, Any], newer: dict[Key, Any]) -> dict[Key, Any]:
        # A scope is made when it is asked for: what a new one has is nothing anybody set.
        known = {key[0] for key in older}
        fresh = {name: type(scope)(ty=scope._type) for name, scope in self._scopes().items() if name not in known}
        made: dict[Key, Any] = {}
        for key, each in newer.items():
            name: Any = key[0]
            if name in fresh and len(key) == 2:
                was = getattr(fresh[str(name)], str(key[1]), MISSING)
                empty = type(each) in (dict, list, set) or type(each).__name__ == "deque"
                made[key] = each if empty or type(was) is type(each) else was
            elif name in fresh and len(key) > 2 and not isinstance(each, (tuple, frozenset)):
                continue
            elif name in fresh:
                made[key] = type(each)()
        return {**older, **made}

    def put(self, values: Mapping[Key, Any]) -> None:
        scopes = self._scopes()
        for key in sorted(values, key=len):
            scope, item = scopes.get(str(key[0])), values[key]
            if scope is None:
                continue
            if len(key) == 2:
                if item is not MISSING:
                    setattr(scope, str(key[1]), item)
                continue
            table = {key[1]: getattr(scope, str(key[1]), MISSING)}
            Content("", lambda table=table: table, 1).put({key[1:]: item})  # type: ignore[misc]

    def guard(self) -> Guard | None:
        return None

    def text(self, key: Key) -> str:
        return f"{self.label}.{key[0]}.{key[1]}" + "".join(f"[{step!r}]" for step in key[2:] if type(step) is str)


def _slots_of(scope: Any) -> tuple[str, ...]:
    skipped = ("_propagation_context", "_type", "_n_breadcrumbs_truncated", "_last_event_id", "_profile", "_span")
    return tuple(slot for slot in type(scope).__slots__ if slot not in skipped)


PROFILE = Profile(
    "sentry_sdk",
    [Unit("scopes", [custom("sentry_sdk.scope:", Scopes)])],
    versions=("2", "3"),
    distribution="sentry-sdk",
    hint="Use sentry_sdk.new_scope(), and init() in a fixture that takes it back.",
)
