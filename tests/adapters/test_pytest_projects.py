"""Runs that cover several projects: each is watched, by its own settings."""

from __future__ import annotations

from pathlib import Path

import pytest

PLUGINS = ("--disable-plugin-autoload", "-p", "isolation", "-p", "no:cacheprovider")
PYTEST = '[tool.pytest.ini_options]\npythonpath = "."\n'


def project(folder: Path, name: str, table: str = "") -> None:
    """Write a project with a module, a test that changes it, and one that is broken by that."""
    (folder / "tests").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYTEST + table)
    (folder / f"mod_{name}.py").write_text("T = {'k': [1]}")
    (folder / "tests" / f"test_{name}.py").write_text(
        f"import sys\nsys.path.insert(0, {str(folder)!r})\nimport mod_{name}\n"
        f"def test_1(): mod_{name}.T['k'].append(2)\n"
        f"def test_2(): assert mod_{name}.T == {{'k': [1]}}\n"
    )


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    """Run pytest in a process of its own."""
    return pytester.runpytest_subprocess(*PLUGINS, *args)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_every_project_of_a_run_is_watched(pytester: pytest.Pytester, order: str) -> None:
    """From above two projects, the state of both is put back, and both polluters are named."""
    for name in "ab":
        project(pytester.path / name, name)
    result = run(pytester, *order)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines_random(["*MOD002 mod_a.T?'k'?: *put back", "*MOD002 mod_b.T?'k'?: *put back"])


def test_a_file_outside_of_every_project_is_watched(pytester: pytest.Pytester) -> None:
    """A test file that lies outside of the rootdir has its own folder watched."""
    project(pytester.path / "a", "a")
    other = pytester.path / "elsewhere"
    other.mkdir()
    (other / "mod_x.py").write_text("T = []")
    (other / "test_x.py").write_text("import mod_x\ndef test_1(): mod_x.T.append(1)\ndef test_2(): assert not mod_x.T")
    result = run(pytester, "a", "elsewhere", "--rootdir=a")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*mod_x.T: *put back"])


@pytest.mark.parametrize("top", [False, True])
def test_the_table_of_each_project_counts_for_its_tests(pytester: pytest.Pytester, top: bool) -> None:
    """One project is put back, the other one only reported, as their tables say; with a rootdir above them, too."""
    if top:
        pytester.makeini("[pytest]")
    project(pytester.path / "a", "a")
    project(pytester.path / "b", "b", '[tool.isolation-core]\nmode = "report"\n')
    result = run(pytester, "a", "b")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines_random(["*mod_a.T?'k'?: *put back", "*mod_b.T?'k'?: *left as it is"])


def test_the_command_line_counts_for_all_projects(pytester: pytest.Pytester) -> None:
    """An option wins over the tables of all projects."""
    project(pytester.path / "a", "a")
    project(pytester.path / "b", "b", '[tool.isolation-core]\nmode = "report"\n')
    run(pytester, "a", "b", "--isolation=restore").assert_outcomes(passed=4)


def test_settings_that_only_a_run_can_have_are_said_not_to_count(pytester: pytest.Pytester) -> None:
    """The baseline and the journal of a second project are not read, and the summary says so."""
    project(pytester.path / "a", "a")
    project(pytester.path / "b", "b", '[tool.isolation-core]\nbaseline = "known.json"\n')
    result = run(pytester, "a", "b")
    result.stdout.fnmatch_lines(["*note  baseline of *pyproject.toml do not count: a run has one, *"])


def test_a_wrong_table_of_a_second_project_is_a_usage_error(pytester: pytest.Pytester) -> None:
    """A mistake in the table of any project is an error before the first test."""
    project(pytester.path / "a", "a")
    project(pytester.path / "b", "b", "[tool.isolation-core]\nmod = 1\n")
    result = run(pytester, "a", "b")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown setting 'mod' in *did you mean 'mode'?*"])
