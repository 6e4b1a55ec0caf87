"""Ready-made scenarios: two built-in ones, and those that users register."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final

from isolation_core._suggest import nearest
from isolation_core.errors import UnknownScenarioError
from isolation_core.scenarios._scenario import IntegrationScenario
from isolation_core.services import ServiceType

__all__ = ["integration_scenario", "known_scenarios", "register_scenario", "unregister_scenario"]

_T = ServiceType
_BUILTIN: Final[Mapping[str, Mapping[str, Any]]] = {
    # The publisher of an outbox needs its table until it has stopped.
    "kafka_postgres": {"services": (_T.KAFKA, _T.POSTGRES), "dependencies": {_T.KAFKA: (_T.POSTGRES,)}},
    "full_service": {
        "services": tuple(_T),
        "dependencies": {
            _T.KAFKA: (_T.POSTGRES,),
            _T.RABBITMQ: (_T.POSTGRES,),
            _T.HTTP: (_T.POSTGRES, _T.REDIS),
            _T.WORKFLOW_COORDINATOR: (_T.KAFKA, _T.POSTGRES, _T.REDIS, _T.RABBITMQ, _T.NATS, _T.HTTP),
        },
    },
}
_registered: Final[dict[str, Mapping[str, Any]]] = {}
_lock = threading.RLock()


def register_scenario(
    name: str,
    services: Iterable[str] | Mapping[str, Mapping[str, Any]],
    dependencies: Mapping[str, str | Iterable[str]] | None = None,
    **options: Any,
) -> None:
    """Make ``integration_scenario(name)`` work without naming services.

    A later registration under the same name replaces the earlier one, or the
    built-in scenario of that name.

    Args:
        name: the name to request.
        services: see `IntegrationScenario`.
        dependencies: likewise.
        **options: any other argument of `IntegrationScenario`.

    Raises:
        GraphError: for cycles and missing dependencies, now instead of in each test.
        UnknownServiceError: for a service that is not registered.
    """
    # A trial, so that an invalid scenario fails here.
    IntegrationScenario(name, services, dependencies, **options).validate()
    with _lock:
        _registered[name] = {"services": services, "dependencies": dependencies, **options}


def unregister_scenario(name: str) -> None:
    """Take a registration back. Unknown names are ignored."""
    with _lock:
        _registered.pop(name, None)


def known_scenarios() -> tuple[str, ...]:
    """Return the names of all ready-made scenarios, in alphabetical order."""
    with _lock:
        return tuple(sorted({*_BUILTIN, *_registered}))


def integration_scenario(
    name: str,
    services: Iterable[str] | Mapping[str, Mapping[str, Any]] | None = None,
    dependencies: Mapping[str, str | Iterable[str]] | None = None,
    **options: Any,
) -> IntegrationScenario:
    """Return a scenario that is not started yet.

    ``async with integration_scenario("orders", ["kafka"]) as (scenario, mocks)`` starts and ends it.

    Args:
        name: its name; without *services* that of a ready-made one: ``"kafka_postgres"``, ``"full_service"``, or what
            `register_scenario` was given.
        services: see `IntegrationScenario`.
        dependencies: likewise.
        **options: any other argument of `IntegrationScenario`.

    Raises:
        UnknownScenarioError: if no services are given and *name* is not a ready-made one.
        UnknownServiceError: for a service that is not registered, with a suggestion.
    """
    if services is not None:
        return IntegrationScenario(name, services, dependencies, **options)
    with _lock:
        recipe = _registered.get(name) or _BUILTIN.get(name)
    if recipe is None:
        known = known_scenarios()
        raise UnknownScenarioError(name, known, nearest(name, known))
    arguments = {**recipe, **options}
    if dependencies is not None:
        arguments["dependencies"] = dependencies
    return IntegrationScenario(name, **arguments)
