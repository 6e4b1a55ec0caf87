"""Starlette: applications, routers and converters."""

from __future__ import annotations

from isolation_core.contamination.libraries._profile import Profile, Unit, attributes, content
from isolation_core.contamination.libraries.profiles.fastapi import APP, LAZY_ROUTER, drop_derived, forget_routes

PROFILE = Profile(
    "starlette",
    [
        Unit("converters", [content("starlette.convertors:CONVERTOR_TYPES")]),
        Unit("environment", [content("starlette.config:environ._has_been_read")]),
    ],
    objects=[
        Unit("Starlette", APP, then=drop_derived),
        Unit("Router", [attributes("", skip=LAZY_ROUTER)], then=forget_routes),
    ],
    versions=("0.27", "2"),
    hint="Make the application in a fixture, or undo the change after yield.",
)
