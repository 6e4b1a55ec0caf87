"""Integration scenarios: several services under one name, isolated from each other."""

from __future__ import annotations

from isolation_core.scenarios._ready_made import (
    integration_scenario,
    known_scenarios,
    register_scenario,
    unregister_scenario,
)
from isolation_core.scenarios._requirements import Requirements
from isolation_core.scenarios._scenario import IntegrationScenario

__all__ = [
    "IntegrationScenario",
    "Requirements",
    "integration_scenario",
    "known_scenarios",
    "register_scenario",
    "unregister_scenario",
]
