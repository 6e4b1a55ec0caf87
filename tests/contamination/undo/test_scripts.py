"""Scripts: the variables of the script that opens a barrier are kept, and those of a test file are not."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def run(folder: Path, text: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run *text* as a script in *folder*."""
    file = folder / "script.py"
    file.write_text(textwrap.dedent(text))
    return subprocess.run([sys.executable, "-W", "error", str(file), *args], cwd=folder, capture_output=True, text=True)


SCRIPT = """
from isolation_core import isolation_barrier

results = []
LIMITS = {"low": 1}
class Tally:
    count = []

def measure(packages=None):
    with isolation_barrier(owner="measure", packages=packages) as barrier:
        results.append("measured")
        LIMITS["high"] = 2
        Tally.count.append(1)
        barrier.on_cleanup(lambda: results.append("cleaned"))
    return barrier
"""


def test_results_of_a_script_are_kept_and_noted(tmp_path: Path) -> None:
    """A list of results that is filled inside a barrier is full afterwards, and the barrier says so."""
    done = run(
        tmp_path,
        SCRIPT
        + """
barrier = measure()
assert results == ["measured", "cleaned"], results
assert LIMITS == {"low": 1, "high": 2}
assert Tally.count == [1]
assert barrier.clean
assert {change.path for change in barrier.changes} >= {"__main__.results", "__main__.LIMITS['high']"}
assert all("a variable of the script itself" in change.reason for change in barrier.changes)
barrier = measure()
assert results == ["measured", "cleaned"] * 2
""",
    )
    assert done.returncode == 0, done.stderr


def test_a_script_can_ask_for_its_variables(tmp_path: Path) -> None:
    """`packages=["__main__"]` has them put back."""
    done = run(tmp_path, SCRIPT + "\nmeasure(['__main__'])\nassert results == [] and LIMITS == {'low': 1}\n")
    assert done.returncode == 0, done.stderr


def test_the_process_is_put_back_all_the_same(tmp_path: Path) -> None:
    """Only variables of the script are its workbench; its environment is not."""
    done = run(
        tmp_path,
        """
        import os
        from isolation_core import isolation_barrier
        def block():
            with isolation_barrier(owner="block"):
                os.environ["LEFT_BY_SCRIPT"] = "1"
        block()
        assert "LEFT_BY_SCRIPT" not in os.environ
        """,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("base", ["isolation_unittest.IsolationMixin, unittest.TestCase", "unittest.TestCase"])
def test_a_test_file_that_runs_itself_is_put_back(tmp_path: Path, base: str) -> None:
    """With `unittest.main()` the tests are in `__main__`, whose state is then that of tests."""
    done = run(
        tmp_path,
        f"""
        import unittest, isolation_unittest
        from isolation_unittest import load_tests
        STATE = []
        class T({base}):
            def test_1(self):
                self.assertEqual(STATE, [])
                STATE.append(1)
            def test_2(self):
                self.assertEqual(STATE, [])
                STATE.append(1)
        unittest.main()
        """,
    )
    assert done.returncode == 0, done.stderr
