"""The resource stack: one definition, run four ways."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

STACK = Path(__file__).resolve().parents[2] / "examples" / "resource_stack"
WAYS = {
    "script": ("script.py",),
    "custom runner": ("custom_runner.py",),
    "unittest": ("-m", "unittest", "with_unittest"),
    "pytest": (
        "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider",
        "--disable-plugin-autoload", "-p", "isolation", "-p", "anyio",
        "-c", os.devnull, "--rootdir", str(STACK), "test_with_pytest.py",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_stack_runs_each_way(way: str) -> None:
    """The same fixtures are set up and torn down in the same order by every runner."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "ISOLATION_CORE_"))}
    done = subprocess.run(
        [sys.executable, *WAYS[way]], cwd=STACK, env=ours, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [line.lstrip(".") for line in done.stdout.splitlines() if line.lstrip(".").endswith((" up", " down"))]
    chain = ["settings up", "database up", "session up", "client up"]
    assert [step for step in steps if step in chain][:4] == chain
    first_down = ["client down", "session down"]
    assert [step for step in steps if step in first_down][:2] == first_down
    assert steps.count("database up") == steps.count("database down") == 1
    assert steps.count("session up") == steps.count("session down") == (1 if way == "script" else 2)
    assert steps.count("broker up") == steps.count("broker down") == 1
    assert steps.index("database down") > max(place for place, step in enumerate(steps) if step == "session down")
