"""The examples: the pollution is real, and is healed the same way through every door."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SUITE = EXAMPLES / "polluted_suite"


def load_demo() -> ModuleType:
    """Import ``examples/demo.py`` without making the folder importable."""
    spec = importlib.util.spec_from_file_location("examples_demo", EXAMPLES / "demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


demo = load_demo()
UNITTEST_PAIRS = [pytest.param(pair, id=pair.state) for pair in demo.PAIRS if pair.polluter.count("::") == 2]
FUNCTION_PAIRS = [pytest.param(pair, id=pair.state) for pair in demo.PAIRS if pair.polluter.count("::") == 1]


def run(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the folder of the suite, free of the settings of this run."""
    foreign = ("PYTEST_", "PYTHONWARN", "ISOLATION_CORE_", "COV_")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | variables
    command = [sys.executable, *args]
    return subprocess.run(command, cwd=SUITE, env=ours, capture_output=True, text=True, timeout=120, check=False)


def run_pytest(*args: str) -> subprocess.CompletedProcess[str]:
    """Run tests of the suite with plain pytest: no isolation, no random order, no cache folder."""
    quiet = ("-p", "no:isolation", "-p", "no:randomly", "-p", "no:cacheprovider", "-q")
    return run("-m", "pytest", *quiet, *args)


def unittest_name(test_id: str) -> str:
    """Return the dotted name under which unittest knows a test."""
    return test_id.replace("/", ".").replace(".py::", ".").replace("::", ".")


class TestPollution:
    @pytest.mark.parametrize("pair", UNITTEST_PAIRS)
    def test_victim_fails_after_its_polluter_only(self, pair: Any) -> None:
        """Without isolation a victim fails right after its polluter, and passes alone."""
        polluter, victim = unittest_name(pair.polluter), unittest_name(pair.victim)
        together = run("-m", "unittest", polluter, victim)
        assert "Ran 2 tests" in together.stderr and "FAILED (" in together.stderr, together.stderr
        assert victim in together.stderr
        assert run("-m", "unittest", victim).returncode == 0

    @pytest.mark.parametrize("pair", FUNCTION_PAIRS)
    def test_victim_function_fails_after_its_polluter_only(self, pair: Any) -> None:
        """The same holds for the pairs that only pytest can run."""
        together = run_pytest(pair.polluter, pair.victim)
        assert "1 failed, 1 passed" in together.stdout, together.stdout
        alone = run_pytest(pair.victim)
        assert "1 passed" in alone.stdout, alone.stdout

    def test_only_victims_mind(self) -> None:
        """In a plain run of everything exactly the victims fail."""
        done = run_pytest()
        assert f"{len(demo.PAIRS)} failed, {len(demo.PAIRS) + 2} passed" in done.stdout, done.stdout
        for pair in demo.PAIRS:
            assert f"FAILED {pair.victim}" in done.stdout
