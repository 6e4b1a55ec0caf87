"""Flask: applications and blueprints, with the URL map that Werkzeug has no way to take rules out of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.libraries._parts import WHOLE, Key, Part
from isolation_core.contamination.libraries._profile import Profile, Unit, attributes, content, custom, resolve
from isolation_core.contamination.probes._probe import Guard

_LAZY = ("jinja_env", "name", "logger", "jinja_loader", "url_map", "cli", "_got_first_request")


class UrlMap(Part):
    """The rules of a URL map, and the tables made from them."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__(label)
        self._find = find

    def read(self) -> dict[Key, Any]:
        return {(WHOLE,): tuple(self._find()._rules)}

    def guard(self) -> Guard | None:
        return Guard(lists=(self._find()._rules,))

    def put(self, values: Mapping[Key, Any]) -> None:
        url_map = self._find()
        for rules in values.values():
            url_map._rules[:] = rules
            url_map._rules_by_endpoint.clear()
            matcher = resolve("werkzeug.routing.matcher:StateMachineMatcher")(url_map.merge_slashes)
            for rule in rules:
                url_map._rules_by_endpoint.setdefault(rule.endpoint, []).append(rule)
                if not rule.build_only:
                    matcher.add(rule)
            url_map._matcher = matcher
            url_map._remap = True


class TemplateNames(Part):
    """Globals, filters and tests of the environment, which is made when a template is used for the first time."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__(f"{label}.jinja_env")
        self._find = find

    def _tables(self) -> dict[str, dict[str, Any]]:
        env = vars(self._find()).get("jinja_env")
        return {} if env is None else {"globals": env.globals, "filters": env.filters, "tests": env.tests}

    def read(self) -> dict[Key, Any]:
        return {(table, name): item for table, items in self._tables().items() for name, item in items.items()}

    def earlier(self, older: dict[Key, Any], newer: dict[Key, Any]) -> dict[Key, Any]:
        if older or not newer:
            return older
        # Made since: what a new one of the same application has was not put in by anybody.
        fresh = self._find().create_jinja_environment()
        return {key: item for key, item in newer.items() if key[1] in getattr(fresh, str(key[0]))}

    def put(self, values: Mapping[Key, Any]) -> None:
        tables = self._tables()
        for (table, name), item in values.items():
            if item is MISSING:
                tables[str(table)].pop(str(name), None)
            else:
                tables[str(table)][str(name)] = item
        cache = vars(self._find())["jinja_env"].cache
        if cache is not None:
            cache.clear()

    def guard(self) -> Guard | None:
        return Guard(dicts=tuple(self._tables().values()), attributes=((vars(self._find()), ("jinja_env",)),))

    def text(self, key: Key) -> str:
        return f"{self.label}.{key[0]}[{key[1]!r}]"


PROFILE = Profile(
    "flask",
    objects=[
        Unit(
            "Flask",
            [
                attributes("", skip=_LAZY, depth=3),
                custom(".url_map", UrlMap),
                content(".cli.commands"),
                custom("", TemplateNames),
                attributes("", "_got_first_request"),
            ],
            # Every request sets it; left, it has the next test fail that adds a route.
            silent=lambda key: key == ("_got_first_request",),
        ),
        Unit("Blueprint", [attributes("", skip=("_got_registered_once", "cli", "jinja_loader"), depth=3)]),
    ],
    versions=("2.3", "4"),
    hint="Make the application in a fixture with a factory function.",
)
