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

__all__ = [
    "Barrier",
    "Change",
    "ContaminationError",
    "DependencyGraph",
    "FixtureManager",
    "FixtureScope",
    "IsolationError",
    "Leak",
    "Probe",
    "debug_fixture_state",
    "deep_cleanup",
    "get_contamination_summary",
    "isolated_mock",
    "isolation_barrier",
    "managed_fixture",
    "register_mock_builder",
    "register_probe",
    "validate_suite_isolation",
    "validate_suite_isolation_sync",
]

_FROM_FIXTURES = frozenset({"FixtureManager", "FixtureScope", "managed_fixture"})
_FROM_MOCKS = frozenset({"deep_cleanup", "isolated_mock", "register_mock_builder"})


def __getattr__(name: str) -> Any:
    if name in _FROM_MOCKS:
        from isolation_core import mocks

        return getattr(mocks, name)
    if name in _FROM_FIXTURES:
        from isolation_core import fixtures

        return getattr(fixtures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
