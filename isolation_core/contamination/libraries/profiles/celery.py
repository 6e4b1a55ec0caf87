"""Celery: configuration of applications, with the router and backend made from it, and attributes of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.libraries._parts import Content, Key, Part
from isolation_core.contamination.libraries._profile import Changes, Profile, Unit, attributes, content, custom, resolve
from isolation_core.contamination.probes._probe import Guard


class Configuration(Part):
    """What was set on ``app.conf``; the sources it is read from when it is used for the first time stay as they are."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__(f"{label}.conf")
        self._find = find

    def _is_made(self) -> bool:
        app = self._find()
        return bool(app.configured) and vars(app).get("_conf") is not None

    def read(self) -> dict[Key, Any]:
        app = self._find()
        found: dict[Key, Any] = {("before first use", *key): each for key, each in _flat(app._preconf).items()}
        if self._is_made():
            found.update(_flat(app._conf.maps[0]))
        return found

    def earlier(self, older: dict[Key, Any], newer: dict[Key, Any]) -> dict[Key, Any]:
        if any(key[0] != "before first use" for key in older) or not self._is_made():
            return older
        # It was read for the first time since. What a new reading of the same sources has was not set by anybody.
        app = self._find()
        fresh = resolve("celery.app.base:detect_settings")(
            app.prepare_config(app.loader.conf),
            {key[1]: each for key, each in older.items() if len(key) == 2},
            ignore_keys=app._preconf_set_by_auto,
            prefix=app.namespace,
        ).maps[0]
        was = dict(older)
        for key, each in newer.items():
            if key[0] == "before first use":
                continue
            name: Any = key[0]
            if len(key) > 1 or _is_equal(fresh.get(name, MISSING), each):
                was[key] = each
            elif name in fresh:
                was[key] = fresh[name]
        return was

    def put(self, values: Mapping[Key, Any]) -> None:
        app = self._find()
        early = {key[1:]: each for key, each in values.items() if key[0] == "before first use"}
        Content("", lambda: app._preconf, 2).put(early)
        late = {key: each for key, each in values.items() if key[0] != "before first use"}
        if self._is_made():
            # It began with what was set before.
            late = {**early, **late}
        if late:
            Content("", lambda: app._conf.maps[0], 2).put(late)

    def guard(self) -> Guard | None:
        app = self._find()
        readings = [Content("", lambda: app._preconf, 2).guard()]
        if self._is_made():
            readings.append(Content("", lambda: app._conf.maps[0], 2).guard())
        known = [each for each in readings if each is not None]
        return Guard(
            attributes=((vars(app), ("_conf", "configured", "_preconf")),),
            dicts=tuple(each for reading in known for each in reading.dicts),
            lists=tuple(each for reading in known for each in reading.lists),
        )

    def text(self, key: Key) -> str:
        return f"{self.label}[{key[1] if key[0] == 'before first use' else key[0]!r}]"


def _flat(table: Any) -> dict[Key, Any]:
    return Content("", lambda: table, 2).read()


def _is_equal(one: Any, other: Any) -> bool:
    """Return whether two values are plain data that is equal."""
    if one is other:
        return True
    plain = (str, bytes, int, float, bool, list, tuple, dict, set, frozenset)
    return type(one) is type(other) and type(one) in plain and bool(one == other)


def _drop_derived(app: Any, _: Changes) -> None:
    app._backend_cache = None
    vars(app._local).pop("backend", None)
    if app.finalized:
        for task in dict.values(app._tasks):
            vars(task).pop("_backend", None)
    amqp = vars(app).get("amqp")
    if amqp is not None:
        for name in ("queues", "router", "routes", "_queues"):
            vars(amqp).pop(name, None)
        amqp._rtable = None


PROFILE = Profile(
    "celery",
    [
        Unit("tasks called in tasks", [attributes("celery._state:", "_task_join_will_block")]),
        Unit("results in memory", [content("celery.backends.cache:_DUMMY_CLIENT_CACHE")], silent=lambda _: True),
    ],
    objects=[
        Unit("Celery", [custom("", Configuration)], then=_drop_derived),
        Unit(
            "Task",
            [
                attributes(
                    "",
                    skip=(
                        "_exec_options",
                        "request_stack",
                        "_backend",
                        "__trace__",
                        "__qualname__",
                        "__doc__",
                        "_app",
                        "backend",
                        "_default_request",
                    ),
                )
            ],
        ),
    ],
    versions=("5.3", "6"),
    hint="Set app.conf in a fixture, and set it back after yield.",
)
