"""`isolation_core.runner`: sessions of test runners."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import sys
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from isolation_core.barrier import isolation_barrier
from isolation_core.config import Settings
from isolation_core.errors import ConfigurationError, ContaminationError
from isolation_core.journal import Journal, get_journal, merge_journals, use_journal
from isolation_core.runner import RunnerSession

NAME = "runner_app"
WATCHED = Settings(packages=(NAME,), probes=("heap",))


@pytest.fixture
def app() -> Iterator[Any]:
    """A module with state, loaded for one test."""
    module = types.ModuleType(NAME)
    module.__dict__.update(CONFIG={"a": 1}, COUNT=0, RESOURCE=None)
    sys.modules[NAME] = module
    with use_journal(Journal()):
        yield module
    sys.modules.pop(NAME, None)


class TestBarriers:
    def test_each_barrier_owns_what_happens_inside_it(self, app: Any) -> None:
        """A change is undone when its barrier closes, and reported under the owner of that barrier."""
        with RunnerSession(WATCHED) as session:
            with session.barrier("module", "the module"):
                app.CONFIG["wide"] = True
                with session.barrier("function", "the test") as barrier:
                    app.COUNT = 1
                assert (app.COUNT, app.CONFIG) == (0, {"a": 1, "wide": True})
            assert app.CONFIG == {"a": 1}
        assert [(change.path, change.owner, change.scope) for change in barrier.changes] == [
            ("runner_app.COUNT", "the test", "function")
        ]

    def test_closing_a_wide_barrier_closes_the_narrower_ones_first(self, app: Any) -> None:
        """The cleanups of narrower barriers run first; closing one of these later does nothing."""
        log: list[str] = []
        with RunnerSession(WATCHED) as session:
            for scope in ("session", "module", "function"):
                barrier = session.open(scope, scope)
                barrier.on_cleanup(partial(log.append, scope))
            assert session.innermost is barrier and session.find("module") is session.barriers[1]
            session.close(session.barriers[0])
            session.close(barrier)
            assert session.barriers == () and log == ["function", "module", "session"]

    def test_leaving_a_session_closes_its_barriers(self, app: Any) -> None:
        """Barriers that are still open when a session ends are closed, and what happened in them is undone."""
        with RunnerSession(WATCHED) as session:
            session.open("function", "a test")
            app.COUNT = 1
        assert app.COUNT == 0

    def test_every_narrower_barrier_closes_although_some_raise(self, app: Any) -> None:
        """Errors of several barriers come together, and each barrier has undone its part."""
        with RunnerSession(WATCHED) as session:
            wide = session.open("module", "module", mode="strict")
            app.COUNT = 1
            session.open("function", "test", mode="strict")
            app.CONFIG["b"] = 2
            with pytest.raises(BaseExceptionGroup) as caught:
                session.close(wide)
        assert [type(each) for each in caught.value.exceptions] == [ContaminationError, ContaminationError]
        assert (app.COUNT, app.CONFIG) == (0, {"a": 1})

    def test_the_error_of_the_body_is_not_hidden(self, app: Any) -> None:
        """In mode strict, what a failing test left is a note on its own error."""
        with RunnerSession(WATCHED) as session, pytest.raises(ZeroDivisionError) as caught:  # noqa: PT012, SIM117
            with session.barrier("function", "test", mode="strict"):
                app.COUNT = 1
                _ = 1 / 0
        assert "runner_app.COUNT" in "".join(caught.value.__notes__)


class TestLateSetUps:
    @pytest.mark.parametrize("promoted", [False, True])
    def test_a_shared_resource_made_inside_a_test(self, app: Any, promoted: bool) -> None:
        """Changes of a late set-up in a promoting block last as long as the wide barrier."""
        with isolation_barrier(packages=[NAME], probes=["heap"], owner="run", scope="session") as wide:
            with isolation_barrier(packages=[NAME], probes=["heap"], owner="test 1", scope="function") as test:
                if promoted:
                    with wide.promoting(holder="resource"):
                        app.RESOURCE = "up"
                else:
                    app.RESOURCE = "up"
            assert bool(app.RESOURCE) is promoted
        assert app.RESOURCE is None
        assert [(c.path, c.owner, c.scope) for c in (wide if promoted else test).changes] == [
            ("runner_app.RESOURCE", "run" if promoted else "test 1", "session" if promoted else "function")
        ]
        assert (test if promoted else wide).clean

    def test_in_a_closed_barrier_nothing_is_promoted(self, app: Any) -> None:
        """A block of a closed barrier, or of one in mode off, is an ordinary block."""
        closed = isolation_barrier(packages=[NAME], probes=["heap"])
        with closed:
            pass
        with isolation_barrier(packages=[NAME], probes=["heap"], owner="test") as test:
            with closed.promoting():
                app.COUNT = 1
            with isolation_barrier(mode="off") as off, off.promoting():
                app.RESOURCE = 1
        assert sorted(change.path for change in test.changes) == ["runner_app.COUNT", "runner_app.RESOURCE"]


class TestHooks:
    def test_what_hooks_do_between_two_tests_is_nobodys(self, app: Any) -> None:
        """A change before a barrier that opens after hooks stays, and no barrier reports it."""
        with RunnerSession(WATCHED) as session:
            with session.barrier("session", "run") as wide:
                app.COUNT = 1
                with session.barrier("function", "test", after_hooks=True) as test:
                    pass
                app.RESOURCE = 2
                session.checkpoint()
            assert (app.COUNT, app.RESOURCE) == (1, 2)
        assert wide.clean and test.clean

    def test_hooks_of_a_nested_session_belong_to_the_test_around_it(self, app: Any) -> None:
        """Changes of hooks in a session inside a test of another are undone and reported with that test."""
        with RunnerSession(WATCHED) as outer:
            with outer.barrier("session", "outer run"), outer.barrier("function", "outer test") as test:
                app.CONFIG["b"] = 2
                with RunnerSession(WATCHED) as inner, inner.barrier("session", "inner run", after_hooks=True):
                    app.COUNT = 1
                    with inner.barrier("function", "inner test", after_hooks=True):
                        app.RESOURCE = 3
                    assert (app.COUNT, app.RESOURCE) == (1, None)
            assert (app.CONFIG, app.COUNT) == ({"a": 1}, 0)
        assert sorted(change.path for change in test.changes) == ["runner_app.CONFIG['b']", "runner_app.COUNT"]

    def test_what_the_outer_test_takes_back_itself_is_no_finding(self, app: Any) -> None:
        """A test that prepares something, runs a session in it and takes that back is clean."""
        with RunnerSession(WATCHED) as outer, outer.barrier("function", "outer test") as test:
            app.COUNT = 1
            with RunnerSession(WATCHED) as inner, inner.barrier("session", "inner run", after_hooks=True):
                pass
            app.COUNT = 0
        assert test.changes == ()


class TestNesting:
    def test_each_session_has_a_summary_of_its_own(self, app: Any) -> None:
        """The findings of an inner session are not in the summary of the outer one."""
        with RunnerSession(WATCHED) as outer, outer.barrier("function", "outer test"):
            with RunnerSession(WATCHED) as inner:
                with inner.barrier("function", "inner test"):
                    app.COUNT = 1
                assert any("inner test" in line for line in inner.summary())
            assert get_journal() is outer.journal
        assert outer.summary() == []

    def test_a_shared_session_records_in_the_journal_there_is(self, app: Any) -> None:
        """An adapter inside of another runner adds to the findings of that runner."""
        with RunnerSession(WATCHED) as outer:
            with RunnerSession(WATCHED, shared=True) as inner, inner.barrier("function", "inner test"):
                app.COUNT = 1
            assert any("inner test" in line for line in outer.summary())


class TestValues:
    def test_a_watched_value_is_put_back_until_it_is_forgotten(self, app: Any) -> None:
        """State that no module leads to is compared and restored while it is watched."""
        value = [1]
        with RunnerSession(WATCHED) as session, session.barrier("session", "run"):
            session.watch("key", "the_value", value)
            with session.barrier("function", "test") as test:
                value.append(2)
            assert value == [1] and [change.path for change in test.changes] == ["the_value"]
            session.forget("key")
            with session.barrier("function", "test 2") as test:
                value.append(2)
            assert value == [1, 2] and test.clean


class TestReports:
    def test_clean_run_prints_nothing(self, app: Any) -> None:
        """The summary of a clean run is empty, and nothing is printed."""
        out = io.StringIO()
        with RunnerSession(WATCHED) as session:
            with session.barrier("function", "test"):
                pass
            session.print_summary(out)
        assert out.getvalue() == ""

    def test_findings_and_missing_packages_are_printed(self, app: Any) -> None:
        """The printed summary has a heading, the findings, and packages that do not exist."""
        out = io.StringIO()
        with RunnerSession(Settings(packages=(NAME, "no_such_thing"), probes=("heap",))) as session:
            with session.barrier("function", "test"):
                app.COUNT = 1
            session.print_summary(out)
            session.print_summary(out)
        text = out.getvalue()
        assert "= isolation =" in text and "MOD001 runner_app.COUNT: 0 -> 1, put back" in text
        assert text.count("'no_such_thing'") == 2

    def test_workers_hand_their_findings_over(self, app: Any) -> None:
        """The session of the controller reports what the sessions of its workers exported."""
        with RunnerSession(WATCHED) as worker, worker.barrier("function", "test in a worker"):
            app.COUNT = 1
        found = json.loads(json.dumps(worker.export()))
        with RunnerSession(WATCHED) as session:
            session.absorb(found)
            assert any("test in a worker" in line for line in session.summary())

    def test_the_baseline_of_a_session_ends_with_it(self, app: Any, tmp_path: Path) -> None:
        """Findings in the baseline are known, also after they were written there by a session before."""
        settings = Settings(packages=(NAME,), probes=("heap",), baseline=tmp_path / "known.json")
        for update in (True, False):
            with RunnerSession(settings, update_baseline=update) as session:
                with session.barrier("function", "test") as test:
                    app.COUNT = 1
                assert [change.known for change in test.changes] == [not update]
                if update:
                    assert session.write_baseline() == 1
        with isolation_barrier(packages=[NAME], probes=["heap"], owner="test") as test:
            app.COUNT = 1
        assert [change.known for change in test.changes] == [False]

    def test_a_missing_baseline_is_an_error_at_once(self, tmp_path: Path) -> None:
        """A session refuses a baseline that cannot be read, and an update without a file."""
        with pytest.raises(ConfigurationError, match=r"none\.json cannot be read"):
            RunnerSession(Settings(baseline=tmp_path / "none.json"))
        with pytest.raises(ConfigurationError, match="no baseline file"):
            RunnerSession(Settings(), update_baseline=True)


def _work(settings: Settings) -> int:
    session = RunnerSession(settings, runner="pool", shared=True)
    with session.barrier("function", f"test in {os.getpid()}"):
        sys.modules[NAME].COUNT = 5  # type: ignore[attr-defined]
    return os.getpid()


class TestJournals:
    @pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the system cannot fork")
    @pytest.mark.parametrize("target", ["folder", "file.jsonl"])
    def test_processes_of_a_pool_write_journals(self, app: Any, tmp_path: Path, target: str) -> None:
        """Each worker of a pool writes a journal of its own, although it is ended without exit handlers."""
        settings = Settings(packages=(NAME,), probes=("heap",), journal_dir=tmp_path / target)
        _work(settings)
        pids = {os.getpid()}
        for _ in range(2):
            with multiprocessing.get_context("fork").Pool(1) as pool:
                pids |= set(pool.map(_work, [settings]))
        get_journal().close()
        records = merge_journals([str(each) for each in tmp_path.rglob("*.jsonl")])
        owners = {event.fields["owner"] for event in records.events if event.ev == "change"}
        assert owners == {f"test in {pid}" for pid in pids} and len(pids) == 3
