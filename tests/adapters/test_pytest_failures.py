"""Candidates beneath a failure: state that was restored before the test, and its polluters."""

from __future__ import annotations

import pytest

PLUGINS = ("--disable-plugin-autoload", "-p", "isolation", "-p", "no:cacheprovider")


@pytest.fixture
def brittle(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return a suite in which one test relies on what another one leaves."""
    pytester.makepyfile(
        reg="CONFIG = {}",
        app="import reg\ndef url(): return reg.CONFIG['url']",
        test_it="""
        import app, reg
        def test_setter():
            reg.CONFIG["url"] = "x"
        def test_needs_setter():
            assert app.url() == "x"
        def test_unrelated():
            assert 1 == 2
        """,
    )
    return pytester


def test_a_brittle_test_is_explained(brittle: pytest.Pytester) -> None:
    """The failure and the summary name the test and the state that the failed test may need."""
    result = brittle.runpytest_subprocess(*PLUGINS)
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "This test may pass only after test_it.py::test_setter, which left reg.CONFIG*It is put back now:",
            "  reg.CONFIG?'url'?: <absent> -> 'x', put back (by test_it.py::test_setter)",
            "*= isolation =*",
            "test_it.py::test_needs_setter failed, and may pass only after test_it.py::test_setter: reg.CONFIG*",
        ]
    )


def test_a_failure_in_a_clean_suite_is_left_alone(pytester: pytest.Pytester) -> None:
    """Where nothing was changed, nothing is said."""
    pytester.makepyfile("def test_a(): assert 1 == 2")
    result = pytester.runpytest_subprocess(*PLUGINS, "-q")  # no header, which names servers that are installed
    result.assert_outcomes(failed=1)
    assert "isolation" not in result.stdout.str().replace("isolation-core", "")


def test_workers_tell_it_as_well(brittle: pytest.Pytester) -> None:
    """Under pytest-xdist the summary names the test that a worker's test may need."""
    pytest.importorskip("xdist")
    result = brittle.runpytest_subprocess(*PLUGINS, "-p", "xdist", "-n", "1")
    result.stdout.fnmatch_lines(["test_it.py::test_needs_setter failed, and may pass only after *"])


def test_many_keys_of_one_container_are_one_line(pytester: pytest.Pytester) -> None:
    """Forty keys leave room for what else was changed."""
    pytester.makepyfile(
        app="TABLE = {}",
        test_it="""
        import os, app
        def test_fills():
            app.TABLE.update({f"k{i:03}": i for i in range(40)})
            os.environ["ZZ_SWITCH"] = "1"
        """,
    )
    result = pytester.runpytest_subprocess(*PLUGINS)
    result.stdout.fnmatch_lines(["*app.TABLE?'k000'? and 39 more keys: <absent> -> 0*", "*ZZ_SWITCH*"])
