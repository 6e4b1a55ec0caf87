"""The journal: counted always, bounded in memory, written line by line, read back and merged."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import textwrap
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isolation_core.errors import IsolationError, JournalError
from isolation_core.findings import Change, Leak
from isolation_core.journal import (
    SCHEMA,
    Event,
    Journal,
    JournalRecords,
    ProcessRecord,
    as_finding,
    get_journal,
    merge_journals,
    read_journal,
    totals_of,
    use_journal,
    write_journal,
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
LEAK = Leak("thread", "Thread 'pump'", code="THR001", owner="tests/test_b.py::test_two", created_at="app.py:7")


def fill(journal: Journal) -> None:
    """Record a little of everything."""
    journal.record("open", owner="a", scope="function")
    journal.record_finding(CHANGE)
    journal.record("close", owner="a", scope="function", checks=20, clean=False, restored=True)
    journal.count_clean("function", checks=20, owner="b")
    journal.count_clean("module", checks=0, owner="looked at nothing")
    journal.record_finding(LEAK)
    journal.record_finding(attrs.evolve(CHANGE, severity="note", restored=False))
    journal.record("close", owner="c", scope="function", checks=20, clean=False, restored=False)
    journal.record("dirty", reason="a thread cannot be ended")
    journal.record("probe-disabled", kind="locale", error="Error: no such locale")
    journal.record("truncated", what="ledger", limit=50_000)
    journal.record("note", text="hello")
    journal.record("service-started", name="kafka", port=9092)


def test_counts_what_closed_clean_and_what_did_not() -> None:
    """Totals distinguish barriers, checks, contaminated and escaped ones."""
    journal = Journal()
    fill(journal)
    totals = journal.totals
    assert (totals.barriers, totals.checked, totals.checks) == (4, 3, 60)
    assert (totals.clean, totals.contaminated, totals.escaped) == (1, 2, 1)
    assert totals.by_scope == {"function": 3, "module": 1}
    assert (totals.changes_by_kind, totals.leaks_by_kind, totals.notes_by_kind) == (
        {"environ": 1},
        {"thread": 1},
        {"environ": 1},
    )
    assert (totals.restored, totals.remaining, totals.unrecoverable) == (1, 1, 0)
    assert totals.dirty == {"a thread cannot be ended": 1}
    assert totals.disabled_probes == {"locale": "Error: no such locale"}
    assert totals.truncated == {"ledger": "50000"}
    assert totals.notes == {"hello": 1}


def test_totals_are_a_copy() -> None:
    """Totals that were handed out do not move when more is recorded."""
    journal = Journal()
    fill(journal)
    totals = journal.totals
    before = attrs.asdict(totals)
    fill(journal)
    assert attrs.asdict(totals) == before


def test_findings_come_back_as_they_went_in() -> None:
    """A change and a leak survive the way through the journal, field by field."""
    journal = Journal()
    journal.record_finding(CHANGE)
    journal.record_finding(LEAK)
    journal.record("note", text="no finding")
    assert [as_finding(event) for event in journal.events] == [CHANGE, LEAK, None]


def test_a_finding_of_another_version_is_read_as_far_as_it_goes() -> None:
    """Missing and unknown fields of a finding do not stop the reader."""
    finding = as_finding(Event(1, 0.0, "change", {"kind": "cwd", "path": 7, "severity": "odd", "new": 1}))
    assert isinstance(finding, Change)
    assert (finding.kind, finding.path, finding.owner, finding.severity) == ("cwd", "7", "?", "leak")


def test_clean_barriers_cost_no_memory() -> None:
    """A hundred thousand clean barriers leave the journal as small as it was."""
    journal = Journal()
    journal.count_clean("function", checks=20)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(100_000):
            journal.count_clean("function", checks=20)
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown < 10_000
    assert journal.events == ()
    assert journal.totals.clean == 100_001


def test_findings_are_kept_up_to_a_limit_and_counted_beyond() -> None:
    """If there are too many findings, the first stay as events, all are counted, and the loss is reported."""
    journal = Journal(max_findings=3, max_others=2)
    for number in range(5):
        journal.record_finding(attrs.evolve(CHANGE, path=f"app.x{number}"))
        journal.record("note", text=f"note {number}")
    kept = [event.fields.get("path") or event.fields["text"] for event in journal.events]
    assert kept == ["app.x0", "app.x1", "app.x2", "note 3", "note 4"]
    assert journal.totals.changes_by_kind == {"environ": 5}
    assert journal.totals.dropped == 2


def test_many_notes_do_not_crowd_out_a_leak() -> None:
    """Harmless notes have room of their own and never displace findings."""
    journal = Journal(max_findings=1, max_others=2)
    for _ in range(10):
        journal.record_finding(attrs.evolve(CHANGE, severity="note"))
    journal.record_finding(CHANGE)
    assert as_finding(journal.events[-1]) == CHANGE
    assert journal.totals.dropped == 0


def test_texts_are_bounded_too() -> None:
    """Endless different notes and reasons do not grow the totals without end."""
    journal = Journal()
    for number in range(1_000):
        journal.record("note", text=f"n{number}")
        journal.record("dirty", reason=f"r{number}")
        journal.record("probe-disabled", kind=f"k{number}", error="")
        journal.record("truncated", what=f"w{number}")
    totals = journal.totals
    assert {len(t) for t in (totals.notes, totals.dirty, totals.disabled_probes, totals.truncated)} == {100}


def test_the_process_wide_journal_can_be_replaced_for_a_while() -> None:
    """`use_journal` puts another journal in place and takes it back, also on errors."""
    outer = get_journal()
    with suppress(KeyError), use_journal(Journal()) as inner:
        assert get_journal() is inner
        raise KeyError
    assert get_journal() is outer


def test_no_sink_means_open_is_not_even_counted() -> None:
    """Without a file, the opening of a barrier leaves no trace."""
    journal = Journal()
    journal.record("open", owner="a")
    assert journal.events == ()
    assert not journal.writing


class Hostile:
    """A value whose every answer is an error."""

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        return 1


class BadError(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("str")


def test_values_that_are_not_json_become_text(tmp_path: Path) -> None:
    """Whatever is recorded can be written and is read back as the same JSON values."""
    journal = Journal()
    journal.write_to(tmp_path)
    loop: list[Any] = []
    loop.append(loop)
    journal.record(
        "odd",
        seq="not mine",
        hostile=Hostile(),
        error=ValueError("no"),
        bad=BadError(),
        path=PurePosixPath("/tmp/x"),
        nan=float("nan"),
        huge=10**5000,
        data=b"\xff",
        keys={(1, 2): "t", 3: "i", None: 0},
        some={3, 1, 2},
        surrogate="\udc80</script>\x00",
        loop=loop,
        text="x" * 30_000,
        many=list(range(5_000)),
    )
    event = journal.events[0]
    fields = event.fields
    assert fields["seq_"] == "not mine"
    assert fields["error"] == "ValueError: no"
    assert fields["bad"].endswith("BadError>")
    assert (fields["path"], fields["nan"], fields["data"]) == ("/tmp/x", "nan", repr(b"\xff"))
    assert fields["keys"] == {"<builtins.tuple>": "t", "3": "i", "None": 0}
    assert fields["some"] == [1, 2, 3]
    assert (len(fields["many"]), fields["text"][-20:]) == (1_000, "... (30000 characters)"[-20:])
    assert read_journal(tmp_path).events == (event,)


def test_a_file_begins_with_a_header_and_holds_every_event(tmp_path: Path) -> None:
    """One file WORKER-PID.jsonl: a header line with the facts, then one event a line."""
    journal = Journal()
    journal.write_to(tmp_path / "deep" / "er", worker="gw0", mode="restore", kinds=["environ"], seed=7, root="/x")
    fill(journal)
    assert journal.path
    assert journal.path == str(tmp_path / "deep" / "er" / f"gw0-{os.getpid()}.jsonl")
    lines = Path(journal.path).read_text(encoding="utf-8").splitlines()
    header = json.loads(lines[0])
    assert header["schema"] == SCHEMA
    assert (header["worker"], header["mode"], header["kinds"], header["seed"]) == ("gw0", "restore", ["environ"], 7)
    assert set(header) == {
        *("schema", "run", "report", "shard", "worker", "pid", "python", "platform", "runner", "seed", "mode"),
        *("kinds", "root_hash", "t0_wall", "t0_mono", "versions"),
    }
    assert header["root_hash"]
    assert "/x" not in lines[0]
    assert [json.loads(line)["seq"] for line in lines[1:]] == list(range(1, len(lines)))


def test_a_journal_that_was_read_counts_the_same(tmp_path: Path) -> None:
    """Totals from the file equal the totals in memory."""
    journal = Journal()
    journal.write_to(tmp_path)
    fill(journal)
    assert totals_of(read_journal(tmp_path)) == totals_of(journal)


def test_changing_the_working_directory_does_not_move_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative target is fixed when writing starts."""
    monkeypatch.chdir(tmp_path)
    journal = Journal()
    journal.write_to("journals")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    journal.record("note", text="late")
    assert [event.ev for event in read_journal(tmp_path / "journals").events] == ["note"]


def test_a_named_file_is_replaced_by_the_next_run_only_if_it_is_a_journal(tmp_path: Path) -> None:
    """A journal file of an earlier run makes room; anything else is left alone with a note."""
    target = tmp_path / "run.jsonl"
    for word in ("first", "second"):
        journal = Journal()
        journal.write_to(target)
        journal.record("note", text=word)
        journal.close()
    assert [event.fields["text"] for event in read_journal(target).events] == ["second"]

    foreign = tmp_path / "precious.jsonl"
    foreign.write_text('{"mine": 1}\n', encoding="utf-8")
    journal = Journal()
    journal.write_to(foreign)
    assert foreign.read_text(encoding="utf-8") == '{"mine": 1}\n'
    assert not journal.writing
    assert "is not a journal" in next(iter(journal.totals.notes))


def test_a_directory_that_cannot_be_made_is_noted_once(tmp_path: Path) -> None:
    """A journal that cannot be opened leaves a note and recording goes on in memory."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    journal = Journal()
    journal.write_to(tmp_path / "file" / "dir")
    fill(journal)
    assert not journal.writing
    assert [text for text in journal.totals.notes if "cannot be written" in text]
    assert journal.totals.barriers == 4


def test_a_full_disk_never_breaks_a_test(tmp_path: Path) -> None:
    """When a write fails, the file is given up with one note and what was written stays readable."""
    done = run_python(
        tmp_path,
        """
        import resource
        from isolation_core.journal import Journal, read_journal
        journal = Journal()
        journal.write_to("out")
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
        for number in range(100):
            journal.record("note", text="x" * 50)
        assert not journal.writing
        print(sum("cannot be written" in text for text in journal.totals.notes))
        """,
    )
    assert done.stdout == "1\n"
    records = read_journal(tmp_path / "out")
    assert len(records.events) > 5
    # None at all if the limit happens to fall on the end of a line.
    assert all("the last line is torn" in note for note in records.notes)


def test_a_descriptor_closed_by_a_test_is_replaced_and_its_successor_left_alone(tmp_path: Path) -> None:
    """Code that closes all descriptors neither stops the journal nor gets its lines."""
    journal = Journal()
    journal.write_to(tmp_path)
    (descriptor,) = journal.owned_descriptors
    os.close(descriptor)
    with open(tmp_path / "other.txt", "wb") as other:  # likely to get the same number
        journal.record("note", text="still here")
        journal.close()
        other.write(b"untouched")
    assert (tmp_path / "other.txt").read_bytes() == b"untouched"
    assert [event.fields["text"] for event in read_journal(tmp_path).events] == ["still here"]


def run_python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run *code* in a fresh interpreter in *folder*; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode in (0, -9), done.stderr
    return done


@pytest.mark.parametrize("target", ["out", "out/run.jsonl"])
def test_a_forked_child_writes_a_file_of_its_own(tmp_path: Path, target: str) -> None:
    """After a fork the child begins its own file, with a header that names its parent."""
    done = run_python(
        tmp_path,
        f"""
        import os
        from isolation_core.journal import Journal
        journal = Journal()
        journal.write_to({target!r})
        journal.record("note", text="parent before")
        if (pid := os.fork()) == 0:
            journal.record("note", text="child")
            os._exit(0)
        os.waitpid(pid, 0)
        if os.fork() == 0:  # has nothing to say, so it writes nothing
            os._exit(0)
        os.wait()
        journal.record("note", text="parent after")
        print(os.getpid())
        """,
    )
    parent_pid = int(done.stdout)
    records = read_journal(tmp_path / "out")
    texts = {p.header["pid"] == parent_pid: [e.fields["text"] for e in p.events] for p in records.processes}
    assert texts == {True: ["parent before", "parent after"], False: ["child"]}
    (child,) = (p for p in records.processes if p.header["pid"] != parent_pid)
    assert child.header["parent"] == parent_pid
    assert len(list((tmp_path / "out").glob("*.jsonl"))) == 2
    assert records.notes == ()


def test_forking_while_another_thread_records_does_not_lock_up_the_child(tmp_path: Path) -> None:
    """A child never waits for a lock that a thread of its parent held."""
    run_python(
        tmp_path,
        """
        import os, threading, warnings
        warnings.simplefilter("ignore")
        from isolation_core.journal import get_journal
        journal = get_journal()
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                journal.record("note", text="busy")
        thread = threading.Thread(target=busy)
        thread.start()
        for _ in range(20):
            if os.fork() == 0:
                journal.record("note", text="child")
                os._exit(0)
            os.wait()
        stop.set()
        thread.join()
        """,
    )


def test_a_killed_process_loses_nothing_it_had_recorded(tmp_path: Path) -> None:
    """Everything recorded before a SIGKILL is in the file, including the barrier that was open."""
    run_python(
        tmp_path,
        """
        import os, signal
        from isolation_core.journal import Journal
        journal = Journal()
        journal.write_to("out")
        journal.record("open", owner="tests/test_a.py::test_fatal", scope="function")
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    (event,) = read_journal(tmp_path / "out").events
    assert (event.ev, event.fields["owner"]) == ("open", "tests/test_a.py::test_fatal")


def test_recording_from_many_threads_loses_nothing(tmp_path: Path) -> None:
    """Numbers stay unique and every line whole when threads record at once."""
    journal = Journal(max_others=10_000)
    journal.write_to(tmp_path)

    def work(name: int) -> None:
        for number in range(200):
            journal.record("step", name=name, number=number)
            journal.count_clean("function")

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = read_journal(tmp_path)
    assert records.notes == ()
    assert [event.seq for event in records.events] == list(range(1, 1_601))
    assert totals_of(records) == journal.totals


def write_lines(path: Path, *lines: str) -> Path:
    """Write raw lines, without an end after the last one."""
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


HEADER = json.dumps({"schema": SCHEMA, "run": "r", "report": "p", "worker": "main", "pid": 1})
NOTE = json.dumps({"seq": 1, "t": 0.5, "ev": "note", "text": "kept"})


@pytest.mark.parametrize(
    ("lines", "kept", "word"),
    [
        ([HEADER, NOTE, NOTE[:-9]], 1, "j.jsonl:3: the last line is torn"),
        ([HEADER, "{{{", NOTE], 1, "j.jsonl:2: not JSON"),
        ([HEADER, "[1]", NOTE], 1, "j.jsonl:2: neither a header nor an event"),
        ([HEADER, '{"seq": "x", "t": 0, "ev": "a"}', NOTE], 1, "j.jsonl:2: neither"),
        ([NOTE, HEADER], 0, "j.jsonl:1: an event before any header"),
        (["", " "], 0, "j.jsonl: empty"),
        ([HEADER, "[" * 100_000, NOTE], 1, "j.jsonl:2: not JSON"),
    ],
)
def test_what_cannot_be_read_is_skipped_with_a_word(tmp_path: Path, lines: list[str], kept: int, word: str) -> None:
    """Torn, foreign and misplaced lines cost themselves only, and are named by file and line."""
    records = read_journal(write_lines(tmp_path / "j.jsonl", *lines))
    assert len(records.events) == kept
    assert len(records.notes) == 1
    assert records.notes[0].startswith(word)


@given(share=st.floats(0, 1))
@settings(deadline=None)
def test_a_file_cut_anywhere_is_still_read(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    """However much of the end is missing, the whole lines before it are read."""
    folder = tmp_path_factory.mktemp("cut")
    journal = Journal()
    journal.write_to(folder / "j.jsonl")
    fill(journal)
    whole = (folder / "j.jsonl").read_bytes()
    cut = round(len(whole) * share)
    (folder / "j.jsonl").write_bytes(whole[:cut])
    records = read_journal(folder)
    lines = whole[:cut].count(b"\n")
    assert len(records.events) in {max(lines - 1, 0), lines}


@pytest.mark.parametrize(
    ("schema", "word"),
    [("isolation-journal/2", "read it with the release"), ("else/1", "is not a journal"), (3, "is not a journal")],
)
def test_another_major_version_is_refused(tmp_path: Path, schema: object, word: str) -> None:
    """A journal of another major version is an error that says so."""
    path = write_lines(tmp_path / "j.jsonl", json.dumps({"schema": schema}))
    with pytest.raises(JournalError, match=word) as caught:
        read_journal(path)
    assert isinstance(caught.value, IsolationError)
    assert isinstance(caught.value, ValueError)
    assert caught.value.path == path


def test_a_later_minor_version_is_read(tmp_path: Path) -> None:
    """Minor versions only add; they are read."""
    path = write_lines(tmp_path / "j.jsonl", HEADER.replace(SCHEMA, SCHEMA + ".4"), NOTE)
    assert len(read_journal(path).events) == 1


def test_no_journal_is_an_error_not_an_empty_result(tmp_path: Path) -> None:
    """A path that does not exist and a folder without journals differ from a clean run."""
    with pytest.raises(JournalError, match=r"no \*\.jsonl"):
        read_journal(tmp_path)
    with pytest.raises(JournalError, match="cannot be read"):
        read_journal(tmp_path / "missing.jsonl")


def test_merging_warns_when_modes_or_kinds_differ(tmp_path: Path) -> None:
    """Scores of processes that watched different things do not compare, and the result says so."""
    for worker, mode, kinds in (("gw0", "report", ["environ"]), ("gw1", "restore", ["environ", "cwd"])):
        journal = Journal()
        journal.write_to(tmp_path, worker=worker, mode=mode, kinds=kinds)
    warnings = read_journal(tmp_path).warnings
    assert ["mode" in warnings[0], "kinds" in warnings[1]] == [True, True]
    assert '"report" / "restore"' in warnings[0]


def test_one_file_may_hold_several_sections(tmp_path: Path) -> None:
    """Journals merge by concatenation, also when a process number comes around again."""
    other = HEADER.replace('"p"', '"q"')
    records = read_journal(write_lines(tmp_path / "j.jsonl", HEADER, NOTE, other, NOTE, ""))
    assert [process.header["report"] for process in records.processes] == ["p", "q"]
    assert len(records.events) == 2


def test_workers_are_ordered_by_number(tmp_path: Path) -> None:
    """gw10 comes after gw9 in every report."""
    for number in (10, 9, 1):
        Journal().write_to(tmp_path, run="r", worker=f"gw{number}")
    assert [p.header["worker"] for p in read_journal(tmp_path).processes] == ["gw1", "gw9", "gw10"]


def test_a_worker_hands_its_findings_to_the_main_process() -> None:
    """Exported events that are absorbed count, and are available, like local ones."""
    main, workers = Journal(), [Journal(), Journal()]
    fill(main)
    for worker in workers:
        fill(worker)
        main.absorb(json.loads(json.dumps(worker.export())))
    alone = Journal()
    for _ in range(3):
        fill(alone)
    assert main.totals == alone.totals
    assert [as_finding(event) for event in main.events].count(LEAK) == 3
    assert [event.seq for event in main.events] == sorted({event.seq for event in main.events})


def test_findings_since_a_count_are_the_newer_ones() -> None:
    """A runner that remembers `finding_count` gets exactly what is new, notes left out."""
    journal = Journal()
    journal.record_finding(CHANGE)
    seen = journal.finding_count
    assert journal.findings_since(seen) == ()
    journal.record_finding(attrs.evolve(CHANGE, severity="note"))
    journal.record_finding(LEAK)
    assert [as_finding(event) for event in journal.findings_since(seen)] == [LEAK]
    assert journal.finding_count == 2


def test_workers_that_were_given_one_file_write_beside_it(tmp_path: Path) -> None:
    """Several processes with the same FILE.jsonl do not overwrite one another."""
    for worker in ("main", "gw0", "gw1"):
        journal = Journal()
        journal.write_to(tmp_path / "run.jsonl", run="r", worker=worker)
        journal.record("note", text=worker)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-gw0.jsonl", "run-gw1.jsonl", "run.jsonl"]
    assert [event.fields["text"] for event in read_journal(tmp_path).events] == ["gw0", "gw1", "main"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
field_names = st.text(max_size=4).filter(lambda name: name not in {"seq", "t", "ev", "schema"})
event_lists = st.lists(
    st.builds(
        Event,
        st.integers(1, 4),
        st.floats(0, 9),
        st.sampled_from(["note", "change", "close"]),
        st.dictionaries(field_names, json_values, max_size=2),
    ),
    max_size=3,
    unique_by=lambda event: event.seq,
).map(lambda events: tuple(sorted(events, key=lambda event: event.seq)))
headers = st.fixed_dictionaries(
    {
        "schema": st.just(SCHEMA),
        "run": st.sampled_from(["r1", "r2"]),
        "report": st.sampled_from(["p", "q"]),
        "worker": st.sampled_from(["main", "gw2", "gw10", "a/b"]),
        "pid": st.integers(1, 2),
        "shard": st.sampled_from([None, [1, 2]]),
        "mode": st.sampled_from(["restore", "report"]),
    }
)
journals = st.lists(st.builds(ProcessRecord, headers, event_lists), max_size=3).map(
    lambda processes: merge_journals([JournalRecords(tuple(processes))])
)


@given(journals, journals, journals)
@settings(deadline=None)
def test_merging_is_associative_commutative_and_idempotent(
    a: JournalRecords, b: JournalRecords, c: JournalRecords
) -> None:
    """Shards may be merged in any order, any grouping and more than once."""
    left = merge_journals([merge_journals([a, b]), c])
    assert left == merge_journals([a, merge_journals([b, c])])
    assert left == merge_journals([c, b, a, b])
    assert left == merge_journals([left, left])


@given(journals)
@settings(deadline=None)
def test_a_merged_journal_is_written_and_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, records: JournalRecords
) -> None:
    """The result of a merge is a journal folder again, notes included."""
    folder = write_journal(records, tmp_path_factory.mktemp("merged"))
    assert (read_journal(folder) if any(folder.iterdir()) else JournalRecords()) == records


def test_contradicting_copies_of_one_event_are_named() -> None:
    """If two sources differ in one event, one is taken and the difference is reported."""
    header = json.loads(HEADER)
    one, two = (JournalRecords((ProcessRecord(header, (Event(1, 0.0, "note", {"text": t}),)),)) for t in "ab")
    merged = merge_journals([two, one])
    assert [event.fields["text"] for event in merged.events] == ["a"]
    assert merged.notes == ("p/main/1: event 1 is recorded in two ways, one was taken",)


@pytest.mark.parametrize("late", [lambda j: j.record("note", text="x"), lambda j: j.count_clean("function")])
def test_after_close_recording_goes_on_in_memory(tmp_path: Path, late: Callable[[Journal], None]) -> None:
    """Closing ends the file only."""
    journal = Journal()
    journal.write_to(tmp_path)
    journal.close()
    journal.close()
    late(journal)
    assert journal.path is None
    assert read_journal(tmp_path).events == ()


def test_a_finalizer_may_record_while_the_journal_records(tmp_path: Path) -> None:
    """Recording from inside a recording of the same thread neither hangs nor loses an event."""
    journal = Journal()
    journal.write_to(tmp_path)
    with journal._lock:  # as it stands when a collection runs in the middle of record()
        journal.record("note", text="from a finalizer")
    journal.record("note", text="outer")
    assert [event.fields["text"] for event in read_journal(tmp_path).events] == ["from a finalizer", "outer"]
