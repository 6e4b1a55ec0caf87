"""FastAPI: applications and routers. What is served is worked out from the routes, so it is worked out anew."""

from __future__ import annotations

from typing import Any

from isolation_core.contamination.libraries._profile import Changes, Profile, Unit, attributes, content

LAZY_APP = ("middleware_stack", "openapi_schema", "_openapi_routes_version", "router", "state", "webhooks")
LAZY_ROUTER = (
    "_effective_candidates",
    "_effective_candidates_version",
    "_effective_routes_lock",
    "_routes_version",
)


def drop_derived(app: Any, changes: Changes) -> None:
    """Have schema, middleware and table of routes made anew, unless only overrides and state changed."""
    names = {key[0] for (part, key) in changes if part in (0, 1, 3)}
    if changes and not names - {"dependency_overrides"}:
        return
    if hasattr(app, "openapi_schema"):
        app.openapi_schema = None
    if not changes or names & {"user_middleware", "exception_handlers"} or "debug" in names:
        app.middleware_stack = None
    forget_routes(app.router, changes)


def forget_routes(router: Any, _: Changes) -> None:
    """Tell a router that its routes changed. Its version is never wound back."""
    version = vars(router).get("_routes_version")
    if type(version) is int:
        router._routes_version = version + 1


APP = (
    attributes("", skip=LAZY_APP),
    attributes(".router", skip=LAZY_ROUTER),
    content(".state._state"),
)

PROFILE = Profile(
    "fastapi",
    objects=[
        Unit("FastAPI", [*APP, content(".webhooks.routes")], then=drop_derived),
        Unit("APIRouter", [attributes("", skip=LAZY_ROUTER)], then=forget_routes),
    ],
    versions=("0.99", "1"),
    hint="Set app.dependency_overrides in a fixture, and clear() it after yield.",
)
