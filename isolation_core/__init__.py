"""isolation-core: an isolation barrier for every test.

Names that need many imports are imported on first use: mocks need
`unittest.mock`, which brings `asyncio` along, and a process that uses neither
should not have to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from isolation_core.barrier import Barrier, isolation_barrier
from isolation_core.contamination import Probe, register_probe
from isolation_core.errors import ContaminationError, IsolationError
from isolation_core.findings import Change, Leak
from isolation_core.graph import DependencyGraph

if TYPE_CHECKING:
    from isolation_core.fixtures import FixtureManager, FixtureScope, managed_fixture
    from isolation_core.mocks import deep_cleanup, isolated_mock, register_mock_builder
    from isolation_core.reports import (
        debug_fixture_state,
        get_contamination_summary,
        validate_suite_isolation,
        validate_suite_isolation_sync,
    )
    from isolation_core.scenarios import IntegrationScenario, integration_scenario
    from isolation_core.services import (
        MockContext,
        ServiceType,
        complex_service_interaction_mock,
        cross_service_mock_orchestration,
        debug_cross_service_interactions,
        register_resource,
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
    "register_resource",
    "register_service",
    "validate_suite_isolation",
    "validate_suite_isolation_sync",
]

_LAZY: Final = {
    "FixtureManager": "fixtures",
    "FixtureScope": "fixtures",
    "IntegrationScenario": "scenarios",
    "MockContext": "services",
    "ServiceType": "services",
    "complex_service_interaction_mock": "services",
    "cross_service_mock_orchestration": "services",
    "debug_cross_service_interactions": "services",
    "debug_fixture_state": "reports",
    "deep_cleanup": "mocks",
    "get_contamination_summary": "reports",
    "integration_scenario": "scenarios",
    "isolated_mock": "mocks",
    "managed_fixture": "fixtures",
    "register_mock_builder": "mocks",
    "register_resource": "services",
    "register_service": "services",
    "validate_suite_isolation": "reports",
    "validate_suite_isolation_sync": "reports",
}


def __getattr__(name: str) -> Any:
    package = _LAZY.get(name)
    if package is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{package}"), name)
