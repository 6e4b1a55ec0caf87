"""isolation-core: an isolation barrier for every test.

The mocks are imported when they are first asked for: they need `unittest.mock`,
which brings `asyncio` along, and a process that uses neither should not have to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isolation_core.barrier import Barrier, isolation_barrier
from isolation_core.contamination import (
    Probe,
    debug_fixture_state,
    get_contamination_summary,
    register_probe,
    validate_suite_isolation,
    validate_suite_isolation_sync,
)
from isolation_core.errors import ContaminationError, IsolationError
from isolation_core.findings import Change, Leak
from isolation_core.graph import DependencyGraph

if TYPE_CHECKING:
    from isolation_core.fixtures import FixtureManager, FixtureScope, managed_fixture
    from isolation_core.mocks import deep_cleanup, isolated_mock, register_mock_builder
    from isolation_core.scenarios import IntegrationScenario, integration_scenario
    from isolation_core.services import (
        MockContext,
        ServiceType,
        complex_service_interaction_mock,
        cross_service_mock_orchestration,
        debug_cross_service_interactions,
        register_service,
    )

__all__ = [
    "Barrier",
    "Change",
    "ContaminationError",
    "DependencyGraph",
    "FixtureManager",
    "FixtureScope",
    "IntegrationScenario",
    "IsolationError",
    "Leak",
    "MockContext",
    "Probe",
    "ServiceType",
    "complex_service_interaction_mock",
    "cross_service_mock_orchestration",
    "debug_cross_service_interactions",
    "debug_fixture_state",
    "deep_cleanup",
    "get_contamination_summary",
    "integration_scenario",
    "isolated_mock",
    "isolation_barrier",
    "managed_fixture",
    "register_mock_builder",
    "register_probe",
    "register_service",
    "validate_suite_isolation",
    "validate_suite_isolation_sync",
]

_FROM_FIXTURES = frozenset({"FixtureManager", "FixtureScope", "managed_fixture"})
_FROM_MOCKS = frozenset({"deep_cleanup", "isolated_mock", "register_mock_builder"})
_FROM_SCENARIOS = frozenset({"IntegrationScenario", "integration_scenario"})
_FROM_SERVICES = frozenset(
    {
        "MockContext",
        "ServiceType",
        "complex_service_interaction_mock",
        "cross_service_mock_orchestration",
        "debug_cross_service_interactions",
        "register_service",
    }
)


def __getattr__(name: str) -> Any:
    if name in _FROM_MOCKS:
        from isolation_core import mocks

        return getattr(mocks, name)
    if name in _FROM_FIXTURES:
        from isolation_core import fixtures

        return getattr(fixtures, name)
    if name in _FROM_SERVICES:
        from isolation_core import services

        return getattr(services, name)
    if name in _FROM_SCENARIOS:
        from isolation_core import scenarios

        return getattr(scenarios, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
