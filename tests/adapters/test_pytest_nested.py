"""pytest inside pytest: the inner run belongs to the test around it, and that test keeps what is its own."""

from __future__ import annotations

import pytest

PLUGINS = ("--disable-plugin-autoload", "-p", "isolation", "-p", "pytester", "-p", "no:cacheprovider")
INNER = ("-p", "isolation_pytest.plugin", "-p", "no:cacheprovider")

SUITE = f"""
import os, sys
import pytest

INNER = {INNER!r}

def outer_world():
    variables = {{name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}}
    return os.getcwd(), variables, list(sys.path)

BEFORE = outer_world()

@pytest.mark.parametrize(
    "body", ["pass", "assert 0", "import os; os.environ['LEFT'] = '1'", "import os; os.chdir('/')"]
)
def test_runs_pytest(pytester, body):
    pytester.makepyfile(test_inner=f"import helper\\ndef test_it(): {{body}}", helper="VALUE = 1")
    inside = os.getcwd()
    result = pytester.runpytest_inprocess(*INNER)
    assert result.ret == ("assert" in body)
    assert ("LEFT" in body) == ("ENV001 os.environ['LEFT']" in result.stdout.str())
    assert os.getcwd() == inside and "LEFT" not in os.environ
    assert "helper" not in sys.modules

def test_next():
    assert outer_world() == BEFORE
"""


@pytest.mark.parametrize("mode", ["restore", "strict"])
def test_an_inner_run_leaves_the_outer_test_its_own(pytester: pytest.Pytester, mode: str) -> None:
    """Folder, environment and import path are those of the outer test again, and it is blamed for nothing."""
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess(*PLUGINS, f"--isolation={mode}")
    result.assert_outcomes(passed=5)
    assert "= isolation =" not in result.stdout.str()


def test_what_an_inner_run_does_with_the_hooks_of_its_plugins_belongs_to_the_outer_test(
    pytester: pytest.Pytester,
) -> None:
    """State that a plugin of the inner run changes between its tests is put back with the outer test, and named."""
    pytester.makepyfile(
        state="SEEN = []",
        test_outer=f"""
        import state

        class Plugin:
            def pytest_runtest_logstart(self):
                state.SEEN.append(1)

        def test_runs_pytest(pytester):
            pytester.makepyfile(test_inner="def test_a(): pass\\ndef test_b(): pass")
            pytester.inline_run(*{INNER!r}, plugins=[Plugin()])
            assert state.SEEN == [1, 1]

        def test_next():
            assert state.SEEN == []
        """,
    )
    result = pytester.runpytest_subprocess(*PLUGINS)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["test_outer.py::test_runs_pytest", "*MOD002 state.SEEN: *put back"])


def test_a_configuration_without_a_run_changes_nothing(pytester: pytest.Pytester) -> None:
    """An inner configuration that no run follows takes neither the journal nor the findings of the outer run."""
    pytester.makepyfile(
        f"""
        import os

        def test_configures(pytester):
            pytester.parseconfigure(*{INNER!r})
            os.environ["LEFT"] = "1"
        """
    )
    result = pytester.runpytest_subprocess(*PLUGINS)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*::test_configures", "*ENV001 os.environ?'LEFT'?: *put back"])
