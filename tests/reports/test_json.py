"""The JSON report: one object with a schema, the same bytes for the same journal."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from isolation_core.findings import Change, Leak
from isolation_core.journal import Journal, read_journal
from isolation_core.reports import REPORT_SCHEMA, render_json, report_data

CHANGE = Change("cwd", "os.getcwd()", before="'/a'", after="'/b'", code="PTH001", owner="test_a", restored=True)
LEAK = Leak("task", "Task 'poll'", code="TSK001", owner="test_b")


def written(folder: Path) -> Path:
    """Write a small journal and return its folder."""
    journal = Journal()
    journal.write_to(folder, worker="gw0", mode="restore")
    journal.record_finding(CHANGE)
    journal.record_finding(attrs.evolve(CHANGE, owner="test_c"))
    journal.record_finding(LEAK)
    journal.record("victim", kind="task", path=LEAK.path, victim="test_v")
    journal.record("close", checks=20, clean=False, restored=False)
    journal.record("open", owner="fatal", scope="function")
    return folder


def test_the_object_has_the_promised_keys(tmp_path: Path) -> None:
    """Schema, scores, totals, findings worst first, and where it all comes from."""
    data = json.loads(render_json(read_journal(written(tmp_path))))
    assert data["schema"] == REPORT_SCHEMA
    assert (data["isolation_score"], data["cleanliness"]) == (0.0, 0.0)
    assert (data["totals"]["checks"], data["totals"]["restored"], data["totals"]["remaining"]) == (20, 2, 1)
    task, cwd = data["findings"]
    assert (task["type"], task["path"], task["victims"], task["undone"]) == ("leak", LEAK.path, ["test_v"], False)
    assert (cwd["type"], cwd["count"], cwd["owners"], cwd["undone"]) == ("change", 2, ["test_a", "test_c"], True)
    assert (cwd["before"], cwd["after"], cwd["code"]) == ("'/a'", "'/b'", "PTH001")
    assert [header["worker"] for header in data["processes"]] == ["gw0"]
    assert len(data["unfinished"]) == 1


def test_a_live_journal_can_be_reported_too() -> None:
    """The same object without processes, straight from memory."""
    journal = Journal()
    journal.record_finding(CHANGE)
    data = report_data(journal)
    assert data["processes"] == []
    assert data["findings"][0]["owner"] == "test_a"
    json.dumps(data)


def test_the_same_journal_gives_the_same_bytes(tmp_path: Path) -> None:
    """Reports can be compared and cached."""
    folder = written(tmp_path)
    assert render_json(read_journal(folder)) == render_json(read_journal(folder))
    assert "\n" not in render_json(read_journal(folder), indent=None)
