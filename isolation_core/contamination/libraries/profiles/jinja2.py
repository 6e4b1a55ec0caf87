"""Jinja2: environments, and the defaults of new ones. Compiled templates hold filters: they go with them."""

from __future__ import annotations

from typing import Any

from isolation_core.contamination.libraries._profile import Changes, Profile, Unit, attributes, content


def _drop_templates(env: Any, _: Changes) -> None:
    if env.cache is not None:
        env.cache.clear()


PROFILE = Profile(
    "jinja2",
    [
        Unit(
            "defaults",
            [
                content("jinja2.defaults:DEFAULT_FILTERS"),
                content("jinja2.defaults:DEFAULT_TESTS"),
                content("jinja2.defaults:DEFAULT_NAMESPACE"),
            ],
        )
    ],
    objects=[
        Unit("Environment", [attributes("", skip=("cache", "_lexer_cache", "shared"))], then=_drop_templates),
        Unit("DictLoader", [attributes()]),
    ],
    versions=("3", "4"),
    hint="Use env.overlay(), or make the environment in a fixture.",
)
