"""The engine is chosen by what the interpreter has; either passes CPython's own tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from isolation_core.errors import ConfigurationError
from isolation_core.mocks import ENGINE, ENGINE_REASON, MockRegistry, _engine, _stdlib, isolated_mock
from isolation_core.mocks._kinds import IsolatedMock
from isolation_core.mocks._plain_engine import PlainMock

RUNNER = Path(__file__).resolve().parents[2] / "benchmarks" / "cpython_mock_suite.py"


def test_the_light_engine_is_the_default_here() -> None:
    """On a supported interpreter no private name is missing and the self-test passes."""
    assert _stdlib.MISSING_NAMES == ()
    assert (ENGINE, ENGINE_REASON) == ("light", "all private names are there and the self-test passed")
    assert isinstance(isolated_mock(), IsolatedMock)


def test_a_missing_private_name_or_a_failed_self_test_chooses_the_plain_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The fallback is taken by itself, and says why."""
    monkeypatch.setattr(_engine, "MISSING_NAMES", ("_Call",))
    assert _engine._choose() == ("plain", "this version of unittest.mock has no _Call")
    monkeypatch.setattr(_engine, "MISSING_NAMES", ())
    monkeypatch.setattr(_engine, "IsolatedMock", lambda **_: 1 / 0)
    engine, reason = _engine._choose()
    assert engine == "plain"
    assert "ZeroDivisionError" in reason


def test_the_environment_forces_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """``ISOLATION_CORE_MOCK_ENGINE`` decides; an unknown value is an error."""
    monkeypatch.setenv("ISOLATION_CORE_MOCK_ENGINE", "plain")
    assert _engine._choose()[0] == "plain"
    monkeypatch.setenv("ISOLATION_CORE_MOCK_ENGINE", "light")
    assert _engine._choose()[0] == "light"
    monkeypatch.setenv("ISOLATION_CORE_MOCK_ENGINE", "havey")
    with pytest.raises(ConfigurationError):
        _engine._choose()


def test_a_registry_can_have_its_own_engine() -> None:
    """For a suite in trouble with the light one."""
    with MockRegistry("x", engine="plain"):
        assert isinstance(MockRegistry("y", engine="plain").create(), PlainMock)


def test_everything_imports_with_the_plain_engine() -> None:
    """A process that asks for it makes plain mocks from the start."""
    code = "from isolation_core.mocks import ENGINE, isolated_mock; print(ENGINE, type(isolated_mock()).__name__)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "ISOLATION_CORE_MOCK_ENGINE": "plain"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.split() == ["plain", "PlainMock"]


@pytest.mark.parametrize("engine", ["own", "plain", "shared"])
@pytest.mark.parametrize("module", ["testasync", "testmock"])
def test_cpythons_own_tests_pass_with_our_class(engine: str, module: str) -> None:
    """At least 95 % of the interpreter's own tests of `AsyncMock`; where they are not installed nothing is shown."""
    done = subprocess.run(
        [sys.executable, str(RUNNER), "--engine", engine, "--module", module, "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for result in json.loads(done.stdout).values():
        assert len(result["failed"]) <= 0.05 * result["ran"], result["failed"]
        assert result["ran"] > 80
