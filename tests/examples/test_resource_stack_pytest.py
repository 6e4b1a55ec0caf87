"""The stack of resources as pytest runs it: the same definitions, exposed in a conftest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

STACK = Path(__file__).resolve().parents[2] / "examples" / "resource_stack"


@pytest.fixture
def stack(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return a folder with a copy of the example."""
    for path in STACK.glob("*.py"):
        shutil.copy(path, pytester.path / path.name)
    return pytester


@pytest.mark.parametrize("mode", ["off", "restore", "strict"])
def test_the_stack_runs_under_pytest(stack: pytest.Pytester, mode: str) -> None:
    """Asynchronous and synchronous fixtures of two scopes, up and down in order, nothing contaminated."""
    result = stack.runpytest_subprocess(
        "--disable-plugin-autoload",
        "-p",
        "isolation",
        "-p",
        "anyio",
        "-p",
        "no:cacheprovider",
        "-s",
        f"--isolation={mode}",
    )
    result.assert_outcomes(passed=2)
    narrow = ["*session up*", "*client up*", "*client down*", "*session down*"]
    result.stdout.fnmatch_lines(["*settings up*", "*database up*", *narrow, *narrow, "*database down*"])
    result.stdout.no_fnmatch_line("*isolation score*")
