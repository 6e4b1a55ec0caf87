"""The terminal summary: silent when clean, worst first, who - what - whom - what now."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolation_core.findings import Change, Leak
from isolation_core.journal import Journal, read_journal
from isolation_core.reports import _text as text_module
from isolation_core.reports import (
    group_findings,
    render_change,
    render_score,
    render_summary,
    unfinished_barriers,
)

CHANGE = Change(
    "environ",
    "os.environ['API_MODE']",
    before="<absent>",
    after="<str len=4 #a1b2c3>",
    code="ENV001",
    owner="tests/test_a.py::test_one",
    scope="function",
    restored=True,
)
LEAK = Leak(
    "thread",
    "Thread 'pump'",
    code="THR001",
    owner="tests/test_b.py::test_two",
    scope="function",
    created_at="app/pump.py:7",
)


@pytest.fixture(autouse=True)
def no_code_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout is tested here, not the texts of the codes."""
    monkeypatch.setattr(text_module, "explain", lambda code: None)


def test_a_clean_run_says_nothing() -> None:
    """No findings, no lines; not even for caches and counters."""
    journal = Journal()
    journal.count_clean("function", checks=20)
    assert render_summary(journal) == []
    journal.record_finding(attrs.evolve(CHANGE, severity="note"))
    assert render_summary(journal) == []


def test_a_clean_run_says_one_line_if_asked() -> None:
    """With `always` there is the score, and the number of what is not listed."""
    journal = Journal()
    journal.count_clean("function", checks=20)
    journal.record_finding(attrs.evolve(CHANGE, kind="cache", severity="note"))
    assert render_summary(journal, always=True) == [
        "1 harmless change not listed (cache)",
        "isolation score 100 %: 1 barrier checked, 1 clean",
    ]


def test_an_entry_tells_who_what_whom_and_what_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finding is printed in the promised order, with the title and the remedy of its code."""
    entry = type(
        "Entry", (), {"title": "set and left", "explanation": "", "fix": "Use monkeypatch.setenv(...). Or do not."}
    )()
    monkeypatch.setattr(text_module, "explain", lambda code: entry)
    journal = Journal()
    journal.record_finding(CHANGE)
    journal.record("victim", kind="environ", path=CHANGE.path, victim="tests/test_b.py::test_victim")
    journal.record("close", checks=20, clean=False, restored=True)
    assert render_summary(journal) == [
        "tests/test_a.py::test_one",
        "  ENV001 os.environ['API_MODE']: <absent> -> <str len=4 #a1b2c3>, put back",
        "  broke tests/test_b.py::test_victim",
        "  try   Use monkeypatch.setenv(...)",
        "more  isolation explain ENV001",
        "isolation score 100 %: 1 barrier checked, 0 clean, 1 cleaned up",
    ]


def test_the_most_damaging_comes_first() -> None:
    """Findings are sorted: unrecoverable, not restored, restored, notes; within each, those that broke tests first."""
    journal = Journal()
    for path, severity, restored in (
        ("note", "note", False),
        ("undone", "leak", True),
        ("undone-by-many", "leak", True),
        ("undone-and-broke", "leak", True),
        ("left", "leak", False),
        ("lost", "unrecoverable", False),
    ):
        finding = Change("k", path, before="1", after="2", code="X1", owner="a", severity=severity, restored=restored)  # type: ignore[arg-type]
        journal.record_finding(finding)
    journal.record_finding(Change("k", "undone-by-many", before="1", after="2", code="X1", owner="b", restored=True))
    journal.record("victim", kind="k", path="undone-and-broke", victim="v")
    groups = group_findings(journal)
    assert [group.finding.path for group in groups] == [
        *("lost", "left", "undone-and-broke", "undone-by-many", "undone", "note"),
    ]
    assert [group.rank for group in groups] == [0, 1, 2, 2, 2, 3]


def test_ones_own_state_comes_before_that_of_the_process_and_of_others() -> None:
    """Among equally bad findings: first-party, process-wide, foreign; only then by the number of owners."""
    journal = Journal()
    for kind in ("foreign-class", "environ", "environ", "container"):
        owner = f"test_{journal.finding_count}"
        journal.record_finding(Change(kind, kind, before="1", after="2", code="X1", owner=owner, restored=True))
    assert [group.finding.kind for group in group_findings(journal)] == ["container", "environ", "foreign-class"]


def test_a_patch_and_what_it_replaced_are_one_entry() -> None:
    """The attribute is shown, under the code of the patch; other findings of the same owner stay."""
    journal = Journal()
    for path in ("app.Mail.send", "app.Mail.address"):
        journal.record_finding(attrs.evolve(CHANGE, kind="class", code="CLS001", path=path))
    patch = Leak("patch", "unittest.mock.patch(Mail.send)", code="MCK001", owner=CHANGE.owner, ended=True)
    journal.record_finding(patch)
    journal.record_finding(attrs.evolve(patch, path="unittest.mock.patch('app.other')"))
    text = "\n".join(render_summary(journal))
    assert "MCK001 app.Mail.send: <absent> -> " in text
    assert "CLS001 app.Mail.address: " in text
    assert "patch(Mail.send)" not in text and "MCK001 unittest.mock.patch('app.other')" in text


def test_an_owner_is_named_once() -> None:
    """Also when what it left is not equally bad, and a hint is given once for neighbours of one code."""
    journal = Journal()
    for path, owner, restored in (("app.a", "test_1", False), ("app.b", "test_2", False), ("app.c", "test_1", True)):
        journal.record_finding(attrs.evolve(CHANGE, path=path, owner=owner, restored=restored))
    lines = render_summary(journal)
    assert [line.split(":")[0] for line in lines[:5]] == [
        *("test_1", "  ENV001 app.a", "  ENV001 app.c", "test_2", "  ENV001 app.b"),
    ]


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("<function app.x.Pay.charge>", "<function t.test_a.<locals>.<lambda>>", "charge() -> <lambda>()"),
        ("<class app.x.Pay>", "<unittest.mock.MagicMock object>", "<class Pay> -> <MagicMock object>"),
        ("<class app.Pay>", "<class fake.Pay>", "<class app.Pay> -> <class fake.Pay>"),
        ("1", "'" + "x" * 99 + "'", "1 -> 'xxxx"),
    ],
)
def test_an_entry_fits_on_a_line(before: str, after: str, shown: str) -> None:
    """Values are shortened to 79 columns, unless that makes them equal; in full on request."""
    journal = Journal()
    journal.record_finding(attrs.evolve(CHANGE, before=before, after=after))
    (line,) = (line for line in render_summary(journal) if "ENV001 os" in line)
    assert shown in line and len(line) <= 79
    assert any(f": {before} -> {after}, put back" in line for line in render_summary(journal, width=None))


def test_harmless_things_before_a_failure_are_shown() -> None:
    """A cache filled before a test failed may be the reason: a bounded number of such entries follows the leaks."""
    journal = Journal()
    note = attrs.evolve(CHANGE, kind="cache", code="MOD008", severity="note", restored=False)
    for number in range(7):
        journal.record_finding(attrs.evolve(note, path=f"app.early{number}"))
    assert render_summary(journal) == []
    journal.record("failure", test="tests/test_b.py::test_two")
    journal.record_finding(attrs.evolve(note, path="app.late"))
    journal.record_finding(attrs.evolve(CHANGE, path="app.leak"))
    lines = render_summary(journal)
    assert lines.index("before a test failed there was also this, harmless as a rule:") == 2
    assert sum("app.early" in line and line.endswith(", harmless") for line in lines) == 5
    assert "... and 2 more entries of this kind" in lines
    assert not any("app.late" in line for line in lines)


def test_one_state_polluted_by_many_is_one_entry() -> None:
    """The same path is one entry, with the first owners named and the others counted."""
    journal = Journal()
    for number in range(9):
        journal.record_finding(attrs.evolve(CHANGE, owner=f"test_{number}"))
        journal.record_finding(attrs.evolve(CHANGE, owner=f"test_{number}", restored=number != 4))
    lines = render_summary(journal)
    assert lines[:4] == ["test_0", "  and   test_1", "  and   test_2", "  and   6 more"]
    assert lines[4].endswith("left as it is")
    (group,) = group_findings(journal)
    assert (group.count, len(group.owners), group.undone) == (18, 9, False)


def test_what_one_test_left_stands_together_under_its_name() -> None:
    """Several things of one owner have one heading."""
    journal = Journal()
    for path, owner in (("app.a", "test_1"), ("app.b", "test_2"), ("app.c", "test_1")):
        journal.record_finding(attrs.evolve(CHANGE, path=path, owner=owner))
    lines = [line for line in render_summary(journal) if not line.startswith("  try")]
    assert [line.split(":")[0] for line in lines[:5]] == [
        *("test_1", "  ENV001 app.a", "  ENV001 app.c", "test_2", "  ENV001 app.b"),
    ]


def test_the_list_is_bounded_and_says_by_how_much() -> None:
    """Ten entries by default, then the number of the others and how bad they are."""
    journal = Journal()
    for number in range(25):
        journal.record_finding(attrs.evolve(CHANGE, path=f"app.x{number:02}", restored=number >= 12))
    lines = render_summary(journal)
    assert sum(line.startswith("  ENV001") for line in lines) == 10
    assert "... and 15 more entries (2 left as they are, 13 put back)" in lines
    assert sum(line.startswith("  ENV001") for line in render_summary(journal, limit=None)) == 25


def test_notes_are_listed_only_if_asked() -> None:
    """Caches and counters are one line with their number, or entries on request."""
    journal = Journal()
    journal.record_finding(CHANGE)
    journal.record_finding(attrs.evolve(CHANGE, kind="cache", path="app.cached", severity="note", restored=False))
    assert "1 harmless change not listed (cache)" in render_summary(journal)
    lines = render_summary(journal, include_notes=True)
    assert next(line for line in lines if "app.cached" in line).endswith(", harmless")
    assert not [line for line in lines if "not listed" in line]


def test_known_findings_are_counted_only() -> None:
    """Known findings are only counted, even if a listed owner left the same state behind."""
    journal = Journal()
    journal.record_finding(attrs.evolve(CHANGE, owner="old", known=True))
    assert render_summary(journal)[0] == "1 known finding (baseline) not listed"
    journal.record_finding(attrs.evolve(CHANGE, owner="new"))
    lines = render_summary(journal)
    assert lines[0] == "new" and "old" not in lines


def test_a_wider_scope_is_told() -> None:
    """A finding of module scope is not attributed to a test."""
    journal = Journal()
    journal.record_finding(attrs.evolve(CHANGE, owner="tests/test_a.py", scope="module"))
    assert render_summary(journal)[0] == "tests/test_a.py (module scope)"


def test_a_living_thing_says_where_it_was_made() -> None:
    """A leak shows its origin and its fate, with the reason if there is one."""
    assert render_change(LEAK) == "THR001 Thread 'pump' (made at app/pump.py:7), still alive"
    ended = render_change(attrs.evolve(LEAK, ended=True, reason="joined"))
    assert ended.endswith(", ended (joined)")


def test_what_limits_trust_is_told_even_without_findings() -> None:
    """A dirty process, a probe that failed and a full ledger are worth a summary."""
    journal = Journal(max_findings=0)
    journal.record("dirty", reason="a thread cannot be ended")
    journal.record("probe-disabled", kind="locale", error="broken")
    journal.record("truncated", what="ledger", limit=50_000)
    journal.record("note", text="the journal cannot be written")
    journal.record_finding(CHANGE)
    lines = render_summary(journal)
    assert lines[:5] == [
        "note  the process is dirty: a thread cannot be ended",
        "note  not watched: locale (its probe failed: broken)",
        "note  not watched to the end: ledger (limit 50000)",
        "note  the journal cannot be written",
        "note  1 finding more, counted but no longer available",
    ]
    journal.record("note", text="one more")
    assert "note  and 1 more notes of this kind" in render_summary(journal)


def test_the_score_says_what_it_is_a_share_of() -> None:
    """The line names the denominator, and warns that unhealed state hides more."""
    journal = Journal()
    assert render_score(journal.totals) == "isolation: no boundary was compared, so there is no score"
    for _ in range(1_999):
        journal.count_clean("function")
    journal.record_finding(attrs.evolve(CHANGE, restored=False))
    journal.record("close", checks=1, clean=False, restored=False)
    assert render_score(journal.totals) == (
        "isolation score 99.9 %: 2,000 barriers checked, 1,999 clean, 1 not cleaned up"
        " (the count of findings is a lower bound)"
    )


@given(st.integers(0, 3_000), st.integers(0, 3_000))
def test_rounding_never_says_all_or_nothing_falsely(escaped: int, kept: int) -> None:
    """100 % means that nothing escaped and 0 % that everything did."""
    journal = Journal()
    totals = journal.totals
    totals.checked, totals.escaped = escaped + kept, escaped
    line = render_score(totals)
    assert (" 100 %" in line) == (escaped == 0 and kept > 0)
    assert (" 0 %" in line) == (kept == 0 and escaped > 0)


@given(st.text())
def test_any_id_is_one_line_that_any_terminal_can_print(owner: str) -> None:
    """Control characters and lone surrogates are spelled out; printable ids are not touched, however long."""
    journal = Journal()
    journal.record_finding(attrs.evolve(CHANGE, owner=owner))
    first = render_summary(journal)[0]
    assert first.isprintable()
    first.encode("utf-8")
    if owner.isprintable():
        assert first == owner


def test_long_ids_are_never_cut() -> None:
    """An id of five thousand characters is printed whole."""
    journal = Journal()
    journal.record_finding(attrs.evolve(CHANGE, owner="t" * 5_000))
    assert render_summary(journal)[0] == "t" * 5_000


def test_a_runner_may_dress_the_pieces() -> None:
    """The style hook receives each part with its kind; all other text is unchanged."""
    journal = Journal()
    journal.record_finding(CHANGE)
    journal.record("close", checks=1, clean=False, restored=True)
    plain = render_summary(journal)
    dressed = render_summary(journal, style=lambda text, kind: f"<{kind}>{text}</{kind}>")
    assert dressed[0] == "<owner>tests/test_a.py::test_one</owner>"
    assert "<code>ENV001</code> <path>os.environ['API_MODE']</path>" in dressed[1]
    assert "<good>put back</good>" in dressed[1]
    assert len(dressed) == len(plain)


def test_a_process_that_died_is_named_with_what_was_running(tmp_path: Path) -> None:
    """A barrier that was opened and never closed is reported, with its worker and process."""
    journal = Journal()
    journal.write_to(tmp_path, worker="gw1")
    for owner in ("done", "fatal"):
        journal.record("open", owner=owner, scope="function")
        if owner == "done":
            journal.count_clean("function", owner=owner)
    records = read_journal(tmp_path)
    (text,) = unfinished_barriers(records)
    assert text.startswith("fatal (function, gw1, pid ")
    assert f"note  open when the process ended: {text}" in render_summary(records)


def test_a_long_name_costs_no_time() -> None:
    """Shortening a value is linear in its length, also where nothing can be shortened."""
    long = "<" + "averylongname" * 40 + " with more behind it"
    finding = Change("module", "app.X", before=long, after="1", code="MOD001", owner="test_it")
    assert "averylongname" in render_change(finding)
    journal = Journal()
    journal.record_finding(finding)
    assert any("app.X" in line for line in render_summary(journal))
