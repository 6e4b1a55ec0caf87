"""`isolation audit` on real suites: it proves, says what it could not prove, and fails on what is not a suite."""

from __future__ import annotations

from pathlib import Path

import pytest
from isolation_script.audit import PytestRuns, render_audit
from isolation_script.cli import main

ALONE = ("--disable-plugin-autoload", "-p", "isolation")

SUITE = """
import app

def test_innocent():
    app.OTHER.append(1)

def test_polluter():
    app.CONFIG["url"] = "polluted"
    app.UNUSED = 2

def test_needs_polluter():
    assert app.CONFIG["url"] == "polluted"

def test_victim():
    assert app.CONFIG == {"url": "real"}

def test_broken():
    assert 1 == 2
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Return the folder of a suite with a victim, a brittle test and a broken one."""
    (tmp_path / "app.py").write_text("CONFIG = {'url': 'real'}\nOTHER = []\nUNUSED = 1\n")
    (tmp_path / "test_it.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def test_the_polluter_the_state_and_the_victim_are_proved(suite: Path) -> None:
    """The verdict names who, through what, whom, and the command that shows it."""
    audit = PytestRuns(ALONE, folder=suite).audit()
    (verdict,) = audit.verdicts
    assert (verdict.word, verdict.test, verdict.polluter) == (
        "proved",
        "test_it.py::test_victim",
        "test_it.py::test_polluter",
    )
    assert [each.path for each in verdict.state] == ["app.CONFIG['url']"]
    assert audit.brittle == ("test_it.py::test_needs_polluter",)
    assert audit.broken == ("test_it.py::test_broken",)
    lines = list(render_audit(audit))
    assert "  to see it     pytest --isolation=off test_it.py::test_polluter test_it.py::test_victim" in lines
    assert lines[-1].startswith("5 tests, 2 depend on others: 1 proved, 0 likely, 0 not explained, 1 brittle")


def test_pairs_prove_the_same(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long suite, which is not run as a whole for each state, gets the same verdict."""
    monkeypatch.setattr("isolation_script.audit._WHOLE_RUNS", 0.0)
    (verdict,) = PytestRuns([*ALONE, "test_it.py"], folder=suite).audit().verdicts
    assert (verdict.word, verdict.polluter) == ("proved", "test_it.py::test_polluter")
    assert [each.path for each in verdict.state] == ["app.CONFIG['url']"]


def test_where_no_test_runs_the_reason_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong arguments end with what pytest said."""
    monkeypatch.chdir(tmp_path)
    assert main(["audit", *ALONE, "no_such_file.py"]) == 2
    assert "no_such_file.py" in capsys.readouterr().err
