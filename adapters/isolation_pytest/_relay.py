"""The controller's half of pytest-xdist: reports of wide fixtures that do not belong to a test."""

from __future__ import annotations

from typing import Any, Final

import pytest

__all__ = ["LISTENER", "WORKER_REPORTS", "FixtureReports"]

LISTENER: Final = "isolation_pytest.plugin"
"""The plugin that has to be there for the controller to listen; it has the same plugins as its workers."""

WORKER_REPORTS: Final = "isolation_fixture_reports"
"""Where a worker puts what went wrong with its wide fixtures."""


class FixtureReports:
    """Logs what workers have put there when they are done."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Log the reports of a worker; one that crashed has none."""
        hook = self._config.hook
        for data in getattr(node, "workeroutput", {}).get(WORKER_REPORTS, ()):
            report = hook.pytest_report_from_serializable(config=self._config, data=data)
            report.node = node
            hook.pytest_runtest_logreport(report=report)
