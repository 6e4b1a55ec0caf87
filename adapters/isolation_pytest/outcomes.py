"""A plugin for experiments: writes which tests passed to the file that ``ISOLATION_CORE_OUTCOMES`` names.

Loaded by name (``-p isolation_pytest.outcomes``), also where isolation is off. It imports nothing but
the standard library and pytest.
"""

from __future__ import annotations

import json
import os

import pytest

__all__: list[str] = []

_passed: dict[str, bool] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember the outcome: a test passed if none of its phases failed."""
    _passed[report.nodeid] = _passed.get(report.nodeid, True) and not report.failed


def pytest_sessionfinish() -> None:
    """Write the outcomes."""
    target = os.environ.get("ISOLATION_CORE_OUTCOMES")
    if target:
        with open(target, "w", encoding="utf-8") as file:
            json.dump(_passed, file)
