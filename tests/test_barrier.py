"""`isolation_barrier`: modes, nesting, overlap, cleanups, and what it says afterwards."""

from __future__ import annotations

import gc
import sys
import threading
import types
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from isolation_core import barrier as barrier_module
from isolation_core import config
from isolation_core.barrier import Barrier, isolation_barrier
from isolation_core.contamination import (
    MISSING,
    Probe,
    register_probe,
    unregister_probe,
)
from isolation_core.errors import ConfigurationError, ContaminationError
from isolation_core.journal import Journal, use_journal
from isolation_core.reports import validate_suite_isolation_sync

NAME = "barrier_app"


@pytest.fixture
def app() -> Iterator[Any]:
    """A module with state, loaded for one test."""
    module = types.ModuleType(NAME)
    module.__dict__.update(CONFIG={"a": 1}, ITEMS=[1], COUNT=0, Thing=type("Thing", (), {"__module__": NAME}))
    sys.modules[NAME] = module
    with use_journal(Journal()):
        yield module
    sys.modules.pop(NAME, None)


def barrier(group: str = "default", **options: Any) -> Barrier:
    """Return a barrier that watches that module only."""
    return isolation_barrier(group, **{"packages": [NAME], "probes": ["heap"], **options})


def paths(found: Barrier) -> list[str]:
    """Return what was changed, sorted."""
    return sorted(change.path for change in found.changes)


def test_restore_puts_back_and_names(app: Any) -> None:
    """The default mode: state is back, each change has path, before, after, owner and fate."""
    with barrier(owner="me") as b:
        app.CONFIG["b"] = 2
        app.COUNT = 5
    assert app.CONFIG == {"a": 1}
    assert app.COUNT == 0
    assert [(c.path, c.before, c.after, c.owner, c.restored, c.severity) for c in b.changes] == [
        ("barrier_app.COUNT", "0", "5", "me", True, "leak"),
        ("barrier_app.CONFIG['b']", "<absent>", "2", "me", True, "leak"),
    ]
    assert not b.clean


def test_report_looks_and_touches_nothing(app: Any) -> None:
    """Mode report: everything named, nothing put back."""
    with barrier(mode="report") as b:
        app.COUNT = 5
    assert app.COUNT == 5
    assert [(c.path, c.restored) for c in b.changes] == [("barrier_app.COUNT", False)]


def test_strict_restores_and_then_raises(app: Any) -> None:
    """Mode strict: the state is back, and the error lists what leaked and by whom."""
    with pytest.raises(ContaminationError, match=r"^leaks barrier_app\.COUNT: me left 1 thing.*\n.*COUNT") as caught:  # noqa: SIM117
        with barrier(mode="strict", owner="me"):
            app.COUNT = 5
    assert app.COUNT == 0
    assert caught.value.owner == "me"
    assert [change.path for change in caught.value.changes] == ["barrier_app.COUNT"]


def test_strict_does_not_hide_the_bodys_own_error(app: Any) -> None:
    """When the body failed, its error comes out and carries the contamination as a note."""
    with pytest.raises(KeyError) as caught, barrier(mode="strict"):
        app.COUNT = 5
        raise KeyError("mine")
    assert any("barrier_app.COUNT" in note for note in caught.value.__notes__)


def test_off_does_nothing_at_all(app: Any) -> None:
    """Mode off: nothing is compared, restored or counted as checked; cleanups still run."""
    done = []
    with barrier(mode="off") as b:
        app.COUNT = 5
        b.on_cleanup(lambda: done.append(1))
    assert app.COUNT == 5
    assert b.changes == ()
    assert done == [1]
    assert b.journal.totals.checked == 0


def test_notes_alone_leave_a_barrier_clean(app: Any) -> None:
    """A cache that grew is undone and reported as a note, but is not contamination."""
    exec("import functools\n@functools.lru_cache\ndef cached(x): return x", app.__dict__)
    app.cached.__module__ = NAME
    with barrier(mode="strict") as b:
        app.cached(1)
    assert b.clean
    assert [change.severity for change in b.changes] == ["note"]
    assert app.cached.cache_info().currsize == 0


def test_an_inner_barrier_owns_what_happens_inside(app: Any) -> None:
    """The outer barrier does not see what the inner one restored; changes of the outer body are the inner baseline."""
    with barrier() as outer:
        app.CONFIG["outer"] = 1
        app.ITEMS.append("outer")
        with barrier() as inner:
            app.CONFIG["inner"] = 1
            app.CONFIG["outer"] = 2
            app.ITEMS.append("inner")
        assert app.CONFIG == {"a": 1, "outer": 1}
        assert app.ITEMS == [1, "outer"]
    assert app.CONFIG == {"a": 1}
    assert app.ITEMS == [1]
    assert paths(inner) == ["barrier_app.CONFIG['inner']", "barrier_app.CONFIG['outer']", "barrier_app.ITEMS"]
    assert paths(outer) == ["barrier_app.CONFIG['outer']", "barrier_app.ITEMS"]


def test_what_an_inner_report_leaves_the_outer_restores_in_its_name(app: Any) -> None:
    """The outer barrier undoes it and says who did it."""
    with barrier(owner="outer") as outer, barrier(owner="inner", mode="report"):
        app.COUNT = 5
    assert app.COUNT == 0
    assert [(change.path, change.owner) for change in outer.changes] == [("barrier_app.COUNT", "inner")]


def test_a_deleted_and_remade_key_keeps_its_place(app: Any) -> None:
    """Order of keys is restored, and is not reported beside the key it belongs to."""
    app.CONFIG.update(b=2, c=3)
    with barrier() as b:
        app.CONFIG["a"] = app.CONFIG.pop("a") + 1
        del app.CONFIG["b"]
    assert list(app.CONFIG.items()) == [("a", 1), ("b", 2), ("c", 3)]
    assert paths(b) == ["barrier_app.CONFIG['a']", "barrier_app.CONFIG['b']"]


def test_a_change_undone_inside_is_no_change(app: Any) -> None:
    """There and back again is nothing to report, even through an inner barrier's look."""
    with barrier() as b:
        app.CONFIG["b"] = 1
        with barrier():
            pass
        del app.CONFIG["b"]
        app.COUNT = 10**9
        app.COUNT = int("0")
    assert b.changes == ()
    assert b.clean


def test_a_path_outside_the_packages_is_left_alone(app: Any) -> None:
    """Only the packages asked for are watched deeply; an inner barrier may ask for more."""
    other = sys.modules["other_app"] = types.ModuleType("other_app")
    other.__dict__["STATE"] = [1]
    try:
        with barrier() as outer:
            with barrier(packages=["other_app"]) as inner:
                other.__dict__["STATE"].append(2)
                app.COUNT = 5
            assert app.COUNT == 5
            assert other.__dict__["STATE"] == [1]
        assert paths(inner) == ["other_app.STATE"]
        assert paths(outer) == ["barrier_app.COUNT"]
        assert app.COUNT == 0
    finally:
        del sys.modules["other_app"]


def test_ignored_changes_are_neither_told_nor_undone(app: Any) -> None:
    """ignore= takes kinds and path globs."""
    with barrier(ignore=["container:barrier_app.CONFIG*"]) as b:
        app.CONFIG["b"] = 2
        app.COUNT = 5
    assert app.CONFIG == {"a": 1, "b": 2}
    assert paths(b) == ["barrier_app.COUNT"]


def test_overlapping_barriers_are_honest(app: Any) -> None:
    """Changes under two overlapping barriers are ambiguous: the last one reports them for both, and restores."""
    first, second = barrier(owner="first"), barrier(owner="second")
    first.__enter__()

    def other() -> None:
        with second:
            app.COUNT = 1
            first_left.set()
            assert done.wait(10)

    first_left, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    assert first_left.wait(10)
    app.CONFIG["b"] = 1
    first.__exit__(None, None, None)
    assert app.COUNT == 1, "nothing is restored under a neighbour that is still running"
    assert first.changes == ()
    done.set()
    thread.join()
    assert app.COUNT == 0
    assert app.CONFIG == {"a": 1}
    assert {change.owner for change in second.changes} == {"first or second"}
    assert paths(first) == paths(second) == ["barrier_app.CONFIG['b']", "barrier_app.COUNT"]


@pytest.mark.anyio
async def test_concurrent_tasks_are_honest_too(app: Any, anyio_backend: str) -> None:
    """Barriers of two tasks of one loop overlap as those of threads do."""
    found: list[Barrier] = []

    async def one(name: str, delay: float) -> None:
        async with barrier(owner=name) as b:
            found.append(b)
            app.CONFIG[name] = 1
            await anyio.sleep(delay)

    async with anyio.create_task_group() as group:
        group.start_soon(one, "a1", 0.01)
        group.start_soon(one, "b1", 0.05)
    assert app.CONFIG == {"a": 1}
    assert {change.owner for b in found for change in b.changes} == {"a1 or b1"}


@pytest.mark.anyio
async def test_async_with_restores(app: Any, anyio_backend: str) -> None:
    """The async form does the same, and awaits async cleanups."""
    done = []

    async def cleanup() -> None:
        await anyio.lowlevel.checkpoint()
        done.append(app.COUNT)

    async with barrier() as b:
        app.COUNT = 5
        b.on_cleanup(cleanup)
    assert done == [5]
    assert app.COUNT == 0


@pytest.mark.anyio
async def test_cancellation_in_the_body_skips_nothing(app: Any, anyio_backend: str) -> None:
    """Cancelled from outside, the barrier still runs its cleanups, restores and reports."""
    done = []
    b = barrier()

    async def cleanup() -> None:
        await anyio.sleep(0.01)
        done.append(1)

    with anyio.move_on_after(0.02):
        async with b:
            b.on_cleanup(cleanup)
            app.COUNT = 5
            await anyio.sleep_forever()
    assert done == [1]
    assert app.COUNT == 0
    assert paths(b) == ["barrier_app.COUNT"]


def test_cleanups_run_newest_first_and_before_the_look(app: Any) -> None:
    """State that a cleanup restores is not a leak; a failing cleanup hides neither the others nor the report."""
    order = []

    def failing() -> None:
        order.append("failing")
        raise ValueError("broken")

    b = barrier()
    with pytest.raises(ExceptionGroup) as caught, b:
        app.COUNT = 5
        app.CONFIG["b"] = 1
        b.on_cleanup(lambda: order.append("first"))
        b.on_cleanup(failing)
        b.on_cleanup(lambda: setattr(app, "COUNT", 0))
    assert order == ["failing", "first"]
    assert caught.group_contains(ValueError, match="broken")
    assert paths(b) == ["barrier_app.CONFIG['b']"]
    assert app.CONFIG == {"a": 1}


def test_an_interrupt_is_raised_after_everything_is_done(app: Any) -> None:
    """KeyboardInterrupt in the body or in a cleanup: the state is back before it goes on."""
    with pytest.raises(KeyboardInterrupt), barrier():
        app.COUNT = 5
        raise KeyboardInterrupt
    assert app.COUNT == 0

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), barrier() as b:
        b.on_cleanup(interrupt)
        app.COUNT = 5
    assert app.COUNT == 0


def test_a_barrier_is_entered_once(app: Any) -> None:
    """A second entry, a cleanup outside and leaving twice are errors that say what to do."""
    b = barrier()
    with pytest.raises(RuntimeError, match="is new, not open"):
        b.on_cleanup(print)
    with b:
        pass
    with pytest.raises(RuntimeError, match="make a new one"):
        b.__enter__()
    with pytest.raises(RuntimeError, match="is closed"):
        b.mock()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "restor"}, "mode='restor' is not one of"),
        ({"timeout": 0}, "timeout=0 leaves no time"),
        ({"packages": "app"}, r"give a list of package names, such as \['app'\]"),
        ({"ignore": "environ:X"}, "give a list of patterns"),
        ({"ignore": [":x"]}, "names no kind"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], message: str) -> None:
    """Every mistaken argument is an error that quotes it and says what would be right."""
    with pytest.raises(ConfigurationError, match=message):
        isolation_barrier(**options)


def test_an_unknown_probe_suggests_the_nearest(app: Any) -> None:
    """probes= with a misspelt kind names the kind that was meant."""
    with pytest.raises(ConfigurationError, match="did you mean 'environ'"), isolation_barrier(probes=["enviro"]):
        pass


class Flags(Probe):
    """A probe of state only its author knows."""

    kind = "flags"
    code = "USR002"
    state: dict[str, int]

    def __init__(self) -> None:
        self.state = {"x": 1}
        self.stuck: set[str] = set()
        self.broken = False

    def capture(self) -> dict[str, int]:
        if self.broken:
            raise OSError("gone")
        return dict(self.state)

    def restore(self, key: Any, value: Any) -> None:
        if key in self.stuck:
            raise PermissionError("not allowed")
        if value is MISSING:
            self.state.pop(key)
        else:
            self.state[key] = value


@pytest.fixture
def flags() -> Iterator[Flags]:
    """A probe of one's own, registered for one test."""
    probe = Flags()
    register_probe(probe)
    yield probe
    unregister_probe("flags")


def test_a_probe_of_ones_own_takes_part(app: Any, flags: Flags) -> None:
    """Registered, it is watched, restored and verified like the built-in ones."""
    with barrier(probes=["heap", "flags"]) as b:
        flags.state.update(x=2, y=1)
    assert flags.state == {"x": 1}
    assert [(c.kind, c.path, c.restored) for c in b.changes] == [
        ("flags", "flags['x']", True),
        ("flags", "flags['y']", True),
    ]


def test_what_cannot_be_undone_is_said(app: Any, flags: Flags) -> None:
    """A restore that fails makes the change unrecoverable, with the reason; the others are undone."""
    flags.stuck = {"x"}
    with barrier(probes=["heap", "flags"]) as b:
        flags.state["x"] = 2
        app.COUNT = 5
    assert app.COUNT == 0
    change = next(change for change in b.changes if change.kind == "flags")
    assert (change.severity, change.restored) == ("unrecoverable", False)
    assert "not allowed" in str(change.reason)


def test_a_probe_that_raises_is_disabled_and_said_so_once(app: Any, flags: Flags) -> None:
    """It never breaks a test; the rest of the look goes on."""
    with barrier(probes=["heap", "flags"]) as b:
        flags.broken = True
        app.COUNT = 5
    assert app.COUNT == 0
    with barrier(probes=["heap", "flags"]):
        pass
    assert b.journal.totals.disabled_probes == {"flags": "OSError: gone"}
    assert len([event for event in b.journal.events if event.ev == "probe-disabled"]) == 1


def test_nothing_is_kept_alive_once_nothing_is_open(app: Any) -> None:
    """Outside of barriers, an object has no reference from the ledger."""
    app.HELD = app.Thing()
    with barrier():
        pass
    reference = weakref.ref(app.HELD)
    app.HELD = None
    gc.collect()
    assert reference() is None
    with barrier() as b:
        pass
    assert b.changes == ()


def test_the_process_wide_machinery_is_gone_outside(app: Any) -> None:
    """Outside of barriers sys.meta_path is as it was."""
    before = list(sys.meta_path)
    with barrier():
        assert sys.meta_path != before
    assert sys.meta_path == before


def test_dirty_is_remembered(app: Any) -> None:
    """mark_dirty makes the barrier unclean and reaches the journal with its reason."""
    with barrier() as b:
        b.mark_dirty("the database is in a strange state")
    assert not b.clean
    assert b.journal.totals.dirty == {"the database is in a strange state": 1}


def test_the_owner_is_the_line_that_enters(app: Any) -> None:
    """Without owner= a change is blamed on file and line of the with statement."""
    with barrier() as b:
        app.COUNT = 5
    assert b.changes[0].owner.startswith(f"{__file__}:")


def test_leaving_in_another_context_works(app: Any) -> None:
    """A barrier held by a generator that is closed elsewhere still closes."""

    def generator() -> Iterator[None]:
        with barrier():
            app.COUNT = 5
            yield

    import contextvars

    it = generator()
    contextvars.copy_context().run(next, it)
    with suppress(StopIteration):
        next(it)
    assert app.COUNT == 0


def test_a_hundred_nested_barriers_unwind(app: Any) -> None:
    """Depth costs nothing but itself; every level restores its own."""

    def descend(level: int) -> None:
        if level:
            with barrier():
                app.COUNT = level
                descend(level - 1)
                assert level == app.COUNT

    descend(100)
    assert app.COUNT == 0


def test_what_is_alive_is_told_while_it_is(app: Any) -> None:
    """Open barriers, in every mode, and the mocks of each are counted and named; nothing of them afterwards."""
    before = validate_suite_isolation_sync()
    with barrier(owner="outer"), barrier(owner="inner", mode="off") as inner:
        mocks = [inner.mock(), inner.mock()]
        during = validate_suite_isolation_sync()
        assert during["active_barriers"] == before["active_barriers"] + 2
        assert during["live_mocks"] == before["live_mocks"] + len(mocks)
        assert {"outer (barrier)", "inner (barrier)"} <= set(during["alive"]["barriers"])
        assert during["alive"]["mocks"].count("a mock of inner") == 2
    after = validate_suite_isolation_sync()
    assert (after["active_barriers"], after["live_mocks"], after["live_fixtures"]) == (
        *(before["active_barriers"], before["live_mocks"], 0),
    )


def test_an_open_barrier_that_was_dropped_is_not_alive(app: Any) -> None:
    """A barrier without references from user code is freed."""
    before = validate_suite_isolation_sync()["active_barriers"]
    dropped = barrier(mode="off")
    dropped._open()
    dropped._reset_context()
    del dropped
    gc.collect()
    assert validate_suite_isolation_sync()["active_barriers"] == before


def test_there_is_one_definition_of_mode() -> None:
    """The settings and the barrier speak of the same modes."""
    assert barrier_module.Mode is config.Mode


@pytest.mark.parametrize("way", ["with", "async with"])
def test_leaks_of_mocks_are_told_also_when_a_cleanup_failed(app: Any, way: str) -> None:
    """A failing mock cleanup is reported, and so is a coroutine that was never awaited."""
    b = barrier()

    def forget() -> None:
        def fail() -> None:
            raise ValueError("broken")

        mock = b.mock(on_cleanup=fail)
        app.forgotten = mock()

    async def asynchronously() -> None:
        async with b:
            forget()

    with pytest.raises(ExceptionGroup) as caught:
        if way == "with":
            with b:
                forget()
        else:
            anyio.run(asynchronously)
    assert caught.group_contains(ValueError, match="broken")
    assert [leak.kind for leak in b.leaks] == ["coroutine"]


def test_a_double_in_place_for_a_moment_is_no_finding(app: Any) -> None:
    """Objects first met inside a barrier are not its concern: the slot that leads to them is."""
    with barrier() as b:
        app.CONFIG["double"] = calls = [1]
        with barrier():
            pass
        calls.append(2)
        del app.CONFIG["double"]
    assert b.changes == ()
    with barrier() as b:
        app.CONFIG["double"] = calls = [1]
        with barrier() as inner:
            calls.append(2)
        assert calls == [1]
    assert paths(inner) == ["barrier_app.CONFIG['double']"]
    assert paths(b) == ["barrier_app.CONFIG['double']"]
    assert app.CONFIG == {"a": 1}
