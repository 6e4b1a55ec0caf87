"""Isolated mocks pass CPython's own tests, and say what they need of `unittest.mock`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).resolve().parents[2] / "benchmarks" / "cpython_mock_suite.py"


def test_a_missing_private_name_is_an_import_error_that_names_it() -> None:
    """Where `unittest.mock` has lost a name, importing isolated mocks says which, and what to do."""
    code = (
        "import unittest.mock as m; del m._try_iter\n"
        "try: import isolation_core.mocks\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "no '_try_iter'" in done.stdout
    assert "use AsyncMock" in done.stdout


@pytest.mark.parametrize("engine", ["own", "shared"])
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
        assert result["ran"] > (70 if module == "testasync" else 1)
