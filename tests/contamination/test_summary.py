"""The summary, the score and the issues: read from the journal and from nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolation_core import _alive
from isolation_core.findings import Change, Leak
from isolation_core.journal import Journal, read_journal, use_journal
from isolation_core.reports import (
    debug_fixture_state,
    get_contamination_summary,
    register_live_source,
    validate_suite_isolation,
    validate_suite_isolation_sync,
)

CHANGE = Change(
    "environ", "os.environ['A']", before="'1'", after="'2'", code="ENV001", owner="test_a", scope="function"
)
LEAK = Leak("thread", "Thread 'pump'", code="THR001", owner="test_b", scope="function")


@pytest.fixture(autouse=True)
def own_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test registers what is alive by itself."""
    monkeypatch.setattr(_alive, "_live_sources", {})


def close(journal: Journal, *, clean: bool = True, restored: bool = True, checks: int = 20) -> None:
    """Record the end of a barrier."""
    journal.record("close", scope="function", checks=checks, clean=clean, restored=restored)


def some_journal() -> Journal:
    """One clean barrier, one put back, one that let two things escape."""
    journal = Journal()
    close(journal)
    journal.record_finding(attrs.evolve(CHANGE, restored=True))
    close(journal, clean=False)
    journal.record_finding(attrs.evolve(CHANGE, owner="test_b", severity="unrecoverable", reason="gone"))
    journal.record_finding(LEAK)
    journal.record_finding(attrs.evolve(CHANGE, owner="test_c", kind="cache", severity="note"))
    close(journal, clean=False, restored=False)
    return journal


def test_the_summary_has_the_promised_keys() -> None:
    """Counts, polluters with their changes, and what could not be put back."""
    summary = get_contamination_summary(some_journal())
    assert summary["total_barriers"] == 3
    assert (summary["checked_barriers"], summary["checks"]) == (3, 60)
    assert (summary["contaminated_barriers"], summary["escaped_barriers"]) == (2, 1)
    assert summary["changes_by_kind"] == {"environ": 2}
    assert summary["leaks_by_kind"] == {"thread": 1}
    assert summary["notes_by_kind"] == {"cache": 1}
    assert (summary["restored"], summary["remaining"], summary["unrecoverable"]) == (1, 2, 1)
    assert list(summary["polluters"]) == ["test_a", "test_b"]
    assert summary["polluters"]["test_a"] == [attrs.asdict(attrs.evolve(CHANGE, restored=True))]
    assert summary["leakers"] == {"test_b": [attrs.asdict(LEAK)]}


def test_an_untouched_journal_has_an_empty_summary() -> None:
    """Without any barrier the summary has zeros, no issues, and a score of 1.0 that means nothing."""
    summary = get_contamination_summary(Journal())
    assert not any(summary.values())
    verdict = validate_suite_isolation_sync(Journal())
    assert (verdict["isolation_score"], verdict["checked_barriers"], verdict["issues"]) == (1.0, 0, [])


def test_the_journal_of_the_process_is_the_default() -> None:
    """Without an argument the process-wide journal is read."""
    with use_journal(some_journal()):
        assert get_contamination_summary()["total_barriers"] == 3
        assert validate_suite_isolation_sync()["checked_barriers"] == 3
        assert len(debug_fixture_state()["recent"]) == 4


def test_a_journal_from_a_file_sums_up_the_same(tmp_path: Path) -> None:
    """A journal that was written and read gives the same summary as the live one."""
    journal = Journal()
    journal.write_to(tmp_path)
    journal.record_finding(CHANGE)
    close(journal, clean=False, restored=False)
    journal.count_clean("function", checks=20)
    journal.record("dirty", reason="r")
    assert get_contamination_summary(read_journal(tmp_path)) == get_contamination_summary(journal)


def test_the_score_counts_what_escaped_and_cleanliness_what_happened() -> None:
    """Put back counts as kept; cleanliness is stricter."""
    verdict = validate_suite_isolation_sync(some_journal())
    assert verdict["isolation_score"] == pytest.approx(2 / 3)
    assert verdict["cleanliness"] == pytest.approx(1 / 3)


def test_barriers_that_looked_at_nothing_are_no_evidence() -> None:
    """The denominator are boundaries really compared; without any, an issue says so."""
    journal = Journal()
    close(journal, checks=0)
    verdict = validate_suite_isolation_sync(journal)
    assert (verdict["isolation_score"], verdict["checked_barriers"]) == (1.0, 0)
    assert "the score says nothing" in verdict["issues"][0]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 2)), max_size=20))
def test_scores_stay_between_zero_and_one(barriers: list[tuple[bool, bool, int]]) -> None:
    """Both shares are shares, and nothing can escape from a clean barrier."""
    journal = Journal()
    for clean, restored, checks in barriers:
        close(journal, clean=clean, restored=restored, checks=checks)
    verdict = validate_suite_isolation_sync(journal)
    assert 0 <= verdict["cleanliness"] <= verdict["isolation_score"] <= 1
    checked = [(clean, restored) for clean, restored, checks in barriers if checks]
    assert verdict["checked_barriers"] == len(checked)
    if checked:
        kept = sum(clean or restored for clean, restored in checked)
        assert verdict["isolation_score"] == pytest.approx(kept / len(checked))


def test_issues_say_who_what_and_the_next_step_worst_first() -> None:
    """Each issue names the polluter, the state and the remedy; notes are not issues."""
    journal = some_journal()
    journal.record("dirty", reason="the directory is gone")
    journal.record("probe-disabled", kind="locale", error="Error: broken")
    journal.record("truncated", what="ledger", limit=50_000)
    issues = validate_suite_isolation_sync(journal)["issues"]
    assert len(issues) == 5
    assert issues[0].startswith("test_a and 1 more left ENV001 os.environ['A']")
    assert "cannot be undone (gone)" in issues[0]
    assert "isolation explain ENV001" in issues[0]
    assert issues[1].startswith("test_b left THR001 Thread 'pump'")
    assert "the directory is gone. Run what comes after it in a fresh process" in issues[2]
    assert "locale was not watched" in issues[3]
    assert "Narrow packages=" in issues[4]


def test_issues_are_bounded() -> None:
    """Hundreds of findings end in one line with the number that was cut."""
    journal = Journal()
    for number in range(150):
        journal.record_finding(attrs.evolve(CHANGE, path=f"app.x{number:03}"))
    issues = validate_suite_isolation_sync(journal)["issues"]
    assert len(issues) == 101
    assert issues[-1] == "and 50 more issues"


@pytest.mark.anyio
async def test_the_async_twin_says_the_same() -> None:
    """`await validate_suite_isolation()` and the sync twin agree."""
    journal = some_journal()
    assert await validate_suite_isolation(journal) == validate_suite_isolation_sync(journal)


def test_what_is_alive_is_asked_of_whoever_knows() -> None:
    """Registered sources are counted and named; the newest source of a name answers."""
    register_live_source("barriers", lambda: ["nobody"])
    register_live_source("barriers", lambda: ["test_a (function)", "tests (session)"])
    register_live_source("mocks", lambda: iter(["mock 1"]))
    verdict = validate_suite_isolation_sync(Journal())
    assert (verdict["active_barriers"], verdict["live_mocks"], verdict["live_fixtures"]) == (2, 1, 0)
    assert verdict["alive"] == {"barriers": ["test_a (function)", "tests (session)"], "mocks": ["mock 1"]}
    state = debug_fixture_state(some_journal())
    assert state["alive"] == verdict["alive"]
    assert "barriers alive: 2\n  test_a (function)" in state["text"]
    assert "Thread 'pump'" in state["recent"][-2]


def test_a_source_that_fails_is_told_and_harms_nothing() -> None:
    """The rest of the summary does not suffer from one part that cannot answer."""

    def broken() -> list[str]:
        raise RuntimeError("boom")

    register_live_source("fixtures", broken)
    verdict: dict[str, Any] = validate_suite_isolation_sync(some_journal())
    assert verdict["live_fixtures"] == 0
    assert verdict["issues"][-1] == "it is not known which fixtures are alive: RuntimeError: boom"
