"""Mistakes of users under pytest: one clear error that names the nearest name, and nothing else is lost."""

from __future__ import annotations

import pytest

PLUGINS = ("--disable-plugin-autoload", "-p", "isolation", "-p", "no:cacheprovider")


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    """Run pytest in a process of its own."""
    return pytester.runpytest_subprocess(*PLUGINS, *args)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("mode='strikt'", "*mode='strikt' is not one of off, report, restore, strict*"),
        ("mod='strict'", "*unknown argument 'mod'*takes mode=, group= and ignore= by keyword*"),
        ("'strict'", "*positional arguments ('strict',)*"),
        ("ignore=['envrion:TZ']", "*'envrion' is not a kind of finding; did you mean 'environ'?*"),
        ("ignore=3", "*@pytest.mark.isolation: *int*"),
    ],
)
def test_a_mistake_in_a_marker_is_an_error_of_its_test_alone(
    pytester: pytest.Pytester, marker: str, message: str
) -> None:
    """The test with the mistake says what is wrong; all others, also of its module, run in isolation."""
    pytester.makepyfile(
        app="LEFT = []",
        test_m=f"""
        import pytest, app
        @pytest.mark.isolation({marker})
        def test_wrong(): pass
        def test_leaves(): app.LEFT.append(1)
        """,
        test_n="import app\ndef test_next(): assert app.LEFT == []",
    )
    result = run(pytester)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at setup of test_wrong*", message])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--isolation-ignore=envrion:HOME", "*'envrion' is not a kind of finding; did you mean 'environ'?*"),
        ("--isolation-ignore=:HOME", "*must be of patterns 'kind:path-glob'*"),
    ],
)
def test_a_mistake_in_an_option_is_a_usage_error(pytester: pytest.Pytester, option: str, message: str) -> None:
    """No test runs under an option that does nothing."""
    pytester.makepyfile("def test_a(): pass")
    result = run(pytester, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "passed" not in result.stdout.str()
    result.stderr.fnmatch_lines([message])


def test_a_kind_of_probe_that_does_not_exist_is_a_usage_error(pytester: pytest.Pytester) -> None:
    """`probes` in the file is checked before the first test."""
    pytester.makepyfile("def test_a(): pass")
    pytester.makepyprojecttoml("[tool.isolation-core]\nprobes = ['enviro']")
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*probes='enviro' is not a kind of probe; did you mean 'environ'?*"])


def test_probes_of_a_conftest_are_known_kinds(pytester: pytest.Pytester) -> None:
    """A kind that a conftest registers can be ignored and chosen."""
    pytester.makeconftest(
        """
        from isolation_core import Probe, register_probe
        class Mine(Probe):
            kind = "mine"
            def capture(self): return {}
            def restore(self, key, value): pass
        register_probe(Mine())
        """
    )
    pytester.makepyfile("def test_a(): pass")
    pytester.makepyprojecttoml("[tool.isolation-core]\nprobes = ['mine', 'environ']\nignore = ['mine:*']")
    assert run(pytester).ret == 0


def test_a_misspelt_variable_is_a_usage_error(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that nothing reads ends the run with the nearest one."""
    monkeypatch.setenv("ISOLATION_CORE_MOED", "strict")
    pytester.makepyfile("def test_a(): pass")
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*ISOLATION_CORE_MOED is not a setting; did you mean 'ISOLATION_CORE_MODE'?*"])


def test_the_header_says_which_of_two_files_counts(pytester: pytest.Pytester) -> None:
    """A table that is not read is named where the run begins."""
    pytester.makepyfile("def test_a(): pass")
    pytester.makepyprojecttoml("[tool.isolation-core]\nmode = 'report'")
    pytester.makefile(".toml", isolation="mode = 'strict'")
    result = run(pytester)
    result.stdout.fnmatch_lines(["isolation: settings come from *isolation.toml; *pyproject.toml is not read"])
