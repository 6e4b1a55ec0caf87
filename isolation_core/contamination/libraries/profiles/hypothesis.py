"""Hypothesis: profiles of settings, and strategies registered for types. The runner's own state is left alone."""

from __future__ import annotations

from typing import Any

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.libraries._profile import Changes, Profile, Unit, attributes, content, resolve, value


def _get_default(settings: Any) -> Any:
    return vars(settings.default_variable.data).get("value", MISSING)


def _set_default(settings: Any, wanted: Any) -> None:
    space = vars(settings.default_variable.data)
    if wanted is MISSING:
        space.pop("value", None)
    else:
        space["value"] = wanted


def _forget_strategies(_: Any, __: Changes) -> None:
    getattr(resolve("hypothesis.strategies:from_type"), "__clear_cache")()


PROFILE = Profile(
    "hypothesis",
    [
        Unit(
            "settings",
            [
                attributes("hypothesis._settings:settings", "_profiles", "_current_profile"),
                value("hypothesis._settings:", ".default_variable", _get_default, _set_default),
            ],
        ),
        Unit(
            "strategies of types",
            [content("hypothesis.strategies._internal.types:_global_type_lookup")],
            then=_forget_strategies,
        ),
    ],
    versions=("6.80", "7"),
    hint="Decorate the test with @settings(...), or load profiles in conftest.py.",
)
