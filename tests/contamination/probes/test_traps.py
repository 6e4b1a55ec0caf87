"""Traps of process state: secrets, hostile objects, runners, threads, order."""

from __future__ import annotations

import asyncio
import atexit
import bdb
import codecs
import contextvars
import decimal
import faulthandler
import gc
import io
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import types
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolation_core import isolation_barrier
from isolation_core.contamination import MISSING, Difference, Probe
from isolation_core.contamination.probes._asyncio import EventLoopProbe
from isolation_core.contamination.probes._codecs import CodecsProbe
from isolation_core.contamination.probes._contextvars import ContextVarsProbe
from isolation_core.contamination.probes._environ import EnvironProbe
from isolation_core.contamination.probes._exit import AtExitProbe, FinalizersProbe
from isolation_core.contamination.probes._hooks import TraceProbe
from isolation_core.contamination.probes._keyed import ItemKey, reorder
from isolation_core.contamination.probes._locale import TimeZoneProbe
from isolation_core.contamination.probes._logging import LoggingProbe
from isolation_core.contamination.probes._modules import ModulesProbe
from isolation_core.contamination.probes._numbers import DecimalProbe, RandomProbe
from isolation_core.contamination.probes._patches import PatchesProbe
from isolation_core.contamination.probes._paths import PathsProbe
from isolation_core.contamination.probes._process import CwdProbe
from isolation_core.contamination.probes._signals import SignalMaskProbe, SignalsProbe
from isolation_core.contamination.probes._streams import StreamsProbe
from isolation_core.contamination.probes._warnings import WarningsProbe


class Hostile:
    """Raises whatever it is asked, also about its class."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("==")

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    def __hash__(self) -> int:
        raise RuntimeError("hash")


def steps(probe: Probe, before: Any, after: Any) -> list[Difference]:
    """Return every step between two snapshots."""
    return [] if after is before or probe.same(before, after) else list(probe.diff(before, after))


def faults(probe: Probe, before: Any, after: Any) -> list[Difference]:
    """Return what a barrier would report."""
    return [step for step in steps(probe, before, after) if not probe.agrees(step.key, step.before, step.after)]


def undo(probe: Probe, found: list[Difference]) -> None:
    """Put all of *found* back, newest first."""
    for step in reversed(found):
        probe.restore(step.key, step.before)
    probe.finish()


def of_module(name: str, base: type = object) -> type:
    """Return a class that says it comes from module *name*."""
    return type("Theirs", (base,), {"__module__": name, "__call__": lambda *_: None})


def in_thread(call: Any) -> Any:
    """Return what *call* returns in another thread."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


# -- environment ---------------------------------------------------------------


def test_values_of_the_environment_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a variable, nor a rebound mapping, nor the C level shows a value; two equal values look equal."""
    probe = EnvironProbe()
    before = probe.capture()
    monkeypatch.setenv("ZZ_ONE", "hunter2-hunter2")
    monkeypatch.setenv("ZZ_TWO", "hunter2-hunter2")
    os.putenv("ZZ_THREE", "hunter2-hunter2")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    found = faults(probe, before, probe.capture())
    shown = [probe.render(step.key, value) for step in found for value in (step.before, step.after)]
    os.unsetenv("ZZ_THREE")
    assert len(found) == 4
    assert not any("hunter2" in text for text in shown)
    assert len({text for text in shown if "len=15" in text}) == 1


def test_revealed_variables_are_shown() -> None:
    """The value of a variable on `reveal` is shown in full."""
    probe = EnvironProbe(frozenset({"ZZ_OPEN"}))
    assert probe.render("ZZ_OPEN", "value") == "'value'"


def test_the_variable_of_the_runner_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTEST_CURRENT_TEST may move on both levels, and the snapshot stays the same object."""
    probe = EnvironProbe()
    before = probe.capture()
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "somewhere else")
    assert probe.capture() is before


def test_a_variable_set_and_taken_back_is_no_fault() -> None:
    """State that was changed and changed back between two snapshots is not a finding."""
    probe = EnvironProbe()
    before = probe.capture()
    os.environ["ZZ_GONE"] = "1"
    middle = probe.capture()
    del os.environ["ZZ_GONE"]
    assert [step.key for step in faults(probe, before, middle)] == ["ZZ_GONE"]
    assert faults(probe, before, probe.capture()) == []


# -- folders, zones ------------------------------------------------------------


def test_a_working_directory_that_is_deleted_later_can_be_returned_to(tmp_path: Path) -> None:
    """The folder is held open, so that fchdir() works where chdir() does not."""
    home = Path.cwd()
    folder = tmp_path / "here"
    folder.mkdir()
    try:
        os.chdir(folder)
        probe = CwdProbe()
        before = probe.capture()
        folder.rename(tmp_path / "there")
        os.chdir(home)
        undo(probe, faults(probe, before, probe.capture()))
        assert Path.cwd() == tmp_path / "there"
    finally:
        os.chdir(home)


def test_a_closed_descriptor_is_not_mistaken_for_ours(tmp_path: Path) -> None:
    """If the descriptor of the probe was closed and its number reused for another file, that file stays open."""
    probe = CwdProbe()
    probe.capture()
    (descriptor,) = probe.descriptors
    with (tmp_path / "other").open("w") as file:
        os.dup2(file.fileno(), descriptor)
        del probe
        gc.collect()
        os.fstat(descriptor)
        os.close(descriptor)


def test_the_zone_comes_back_although_the_variable_did_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """Monkeypatch takes TZ back but never calls tzset(): the zone is a fault of its own."""
    import time

    probe = TimeZoneProbe()
    before = probe.capture()
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
    found = faults(probe, before, probe.capture())
    assert [probe.describe(step.key) for step in found] == ["time.tzname"]
    undo(probe, found)
    assert faults(probe, before, probe.capture()) == []


# -- modules -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cython_runtime", "_cython_3_2_4"])
def test_what_cython_shares_is_no_fake(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules compiled by Cython share types in modules without a spec: importing the first one is not a difference."""
    monkeypatch.delitem(sys.modules, name, raising=False)
    probe = ModulesProbe()
    before = probe.capture()
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    assert faults(probe, before, probe.capture()) == []
    monkeypatch.setitem(sys.modules, name, object())
    assert [probe.describe(step.key) for step in faults(probe, before, probe.capture())] == [f"sys.modules[{name!r}]"]


# -- lists ---------------------------------------------------------------------


def test_somebody_elses_item_survives_the_undo(monkeypatch: pytest.MonkeyPatch) -> None:
    """An item added by a wider owner after ours stays where it is when ours is taken out."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    probe = PathsProbe()
    before = probe.capture()
    sys.path.insert(0, "/zz/mine")
    mine = faults(probe, before, probe.capture())
    sys.path.insert(0, "/zz/theirs")
    undo(probe, mine)
    assert "/zz/mine" not in sys.path
    assert sys.path[0] == "/zz/theirs"


@given(st.data())
def test_any_mutation_of_a_list_is_undone(data: st.DataObject) -> None:
    """Whatever was added, removed, duplicated, reordered or rebound: object, items and order come back."""
    original = sys.argv
    held = [*original, "a", "b", "c", "b"]
    sys.argv = held
    probe = PathsProbe()
    before = probe.capture()
    try:
        content = list(held)
        held[:] = data.draw(st.lists(st.sampled_from([*content, "new", "newer"]), max_size=8))
        if data.draw(st.booleans()):
            sys.argv = list(data.draw(st.permutations(held)))
        found = data.draw(st.permutations(faults(probe, before, probe.capture())))
        undo(probe, list(found))
        assert sys.argv is held
        assert held == content
        assert faults(probe, before, probe.capture()) == []
    finally:
        sys.argv = original


def test_reordering_leaves_strangers_in_place() -> None:
    """Only the items that are known are put in order."""
    holder = ["c", "x", "a", "b"]
    reorder(holder, ("a", "b", "c"))
    assert holder == ["a", "x", "b", "c"]


# -- hostile objects -----------------------------------------------------------


def test_hostile_objects_are_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects that raise on comparison, repr, hashing and attribute access are noticed, named and undone."""
    probes: list[Probe] = [PathsProbe(), StreamsProbe(), ModulesProbe(), LoggingProbe(), WarningsProbe()]
    monkeypatch.setattr(sys, "stdin", sys.stdin)
    before = [probe.capture() for probe in probes]
    sys.argv.append(Hostile())  # type: ignore[arg-type]
    sys.stdin = Hostile()
    sys.modules["zz_hostile"] = Hostile()  # type: ignore[assignment]
    logging.getLogger("zz.hostile").handlers.append(Hostile())  # type: ignore[arg-type]
    warnings.filters.insert(0, Hostile())  # type: ignore[attr-defined]
    names = []
    for probe, was in zip(probes, before, strict=True):
        found = faults(probe, was, probe.capture())
        names += [probe.describe(step.key) for step in found]
        assert all(probe.render(step.key, step.after) for step in found)
        undo(probe, found)
        assert faults(probe, was, probe.capture()) == []
    assert "sys.modules['zz_hostile']" in names
    assert "sys.stdin" in names
    assert "warnings.filters[0]" in names
    assert "logging.getLogger('zz.hostile').handlers[0]" in names


# -- modules -------------------------------------------------------------------


def test_a_replaced_submodule_comes_back_in_its_package() -> None:
    """The original returns to sys.modules and to the attribute of its package."""
    probe = ModulesProbe()
    original = json.decoder
    before = probe.capture()
    fake = types.ModuleType("json.decoder")
    sys.modules["json.decoder"] = json.decoder = fake
    undo(probe, faults(probe, before, probe.capture()))
    assert sys.modules["json.decoder"] is json.decoder is original


def test_a_function_named_like_its_submodule_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a package gave the name of a submodule to something else, only sys.modules is repaired."""
    package, part = types.ModuleType("zz_package"), types.ModuleType("zz_package.part")
    package.part = len  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zz_package", package)
    monkeypatch.setitem(sys.modules, "zz_package.part", part)
    probe = ModulesProbe()
    before = probe.capture()
    del sys.modules["zz_package.part"]
    undo(probe, faults(probe, before, probe.capture()))
    assert sys.modules["zz_package.part"] is part
    assert package.part is len


def test_an_import_and_its_removal_cancel_each_other() -> None:
    """A module imported and taken out again is two steps, and no fault; one that stays is none either."""
    probe = ModulesProbe()
    sys.modules.pop("colorsys", None)
    before = probe.capture()
    import colorsys  # noqa: F401

    middle = probe.capture()
    del sys.modules["colorsys"]
    after = probe.capture()
    assert [step.key for step in steps(probe, before, middle)] == ["colorsys"]
    assert faults(probe, before, middle) == []
    assert [step.key for step in steps(probe, middle, after)] == ["colorsys"]
    assert faults(probe, before, after) == []


# -- patches -------------------------------------------------------------------


def test_patches_of_one_target_are_stopped_newest_first() -> None:
    """Whatever the order of undoing, the true original is back, and older patches stay."""
    original = json.dumps
    older = mock.patch("json.loads")
    older.start()
    probe = PatchesProbe()
    before = probe.capture()
    mock.patch("json.dumps").start()
    mock.patch("json.dumps").start()
    found = faults(probe, before, probe.capture())
    undo(probe, found[::-1])
    assert json.dumps is original
    assert isinstance(json.loads, mock.MagicMock)
    older.stop()


def test_a_stopped_patch_of_somebody_else_is_told() -> None:
    """A patch with a value of its own is started again; a mock that was made for it cannot be made twice."""
    made, given_value = mock.patch("json.loads"), mock.patch("json.dumps", new=len)
    made.start()
    given_value.start()
    probe = PatchesProbe()
    before = probe.capture()
    mock.patch.stopall()
    found = {probe.describe(step.key): step for step in faults(probe, before, probe.capture())}
    try:
        probe.restore(found["unittest.mock.patch('json.dumps')"].key, given_value)
        assert id(json.dumps) == id(len)
        with pytest.raises(RuntimeError, match="cannot be made again"):
            probe.restore(found["unittest.mock.patch('json.loads')"].key, made)
    finally:
        mock.patch.stopall()


# -- logging -------------------------------------------------------------------


class Counting(logging.Handler):
    """Writes to itself with every record."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 1000

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1000


@pytest.fixture
def counting() -> Iterator[Counting]:
    """A handler on a logger."""
    handler = Counting()
    logger = logging.getLogger("zz.counting")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_a_handler_that_counts_is_no_difference(counting: Counting) -> None:
    """Attributes of a handler's own may move; after that the quick look works again and sees its level."""
    probe = LoggingProbe()
    before = probe.capture()
    logging.getLogger("zz.counting").warning("one")
    middle = probe.capture()
    assert faults(probe, before, middle) == []
    logging.getLogger("zz.counting").warning("two")
    assert probe.capture() is middle
    counting.setLevel(7)
    found = faults(probe, middle, probe.capture())
    assert [probe.describe(step.key) for step in found] == ["logging.getLogger('zz.counting').handlers[0].level"]
    undo(probe, found)
    assert counting.level == 0


def test_handlers_of_the_runner_are_not_watched() -> None:
    """The runner's log handlers come and go, and change, as it likes."""
    theirs = of_module("_pytest.logging", logging.Handler)()
    logger = logging.getLogger("zz.runner")
    probe = LoggingProbe()
    before = probe.capture()
    logger.addHandler(theirs)
    middle = probe.capture()
    theirs.setLevel(7)
    assert faults(probe, before, middle) == []
    assert probe.capture() is middle
    logger.removeHandler(theirs)
    assert faults(probe, before, probe.capture()) == []


def test_asking_for_the_stack_size_does_not_change_it() -> None:
    """`threading.stack_size()` resets the size when it is read: the size that a suite chose survives a snapshot."""
    before = threading.stack_size(1 << 20)
    try:
        with isolation_barrier(probes=["interpreter"]) as outer:
            pass
        with isolation_barrier(probes=["interpreter"]) as inner:
            threading.stack_size(1 << 21)
        assert outer.changes == ()
        assert [(change.before, change.after) for change in inner.changes] == [(str(1 << 20), str(1 << 21))]
    finally:
        chosen = threading.stack_size(before)
    assert chosen == 1 << 20


def test_a_logger_nobody_had_touched_is_told_with_its_defaults() -> None:
    """The previous level of a logger is shown in full, even if it was the default."""
    logging.getLogger("zz.untouched")
    with isolation_barrier(probes=["logging"]) as barrier:
        logging.getLogger("zz.untouched").setLevel(50)
        logging.getLogger("zz.untouched").propagate = False
    told = [(change.before, change.after) for change in barrier.changes]
    assert told == [("0", "50"), ("True", "False")]


def test_loggers_forget_what_they_had_cached() -> None:
    """After the undo a logger is enabled for what it was enabled for, whatever it had remembered."""
    logger = logging.getLogger("zz.cached")
    assert logger.isEnabledFor(logging.ERROR)
    probe = LoggingProbe()
    before = probe.capture()
    logging.disable(logging.CRITICAL)
    assert not logger.isEnabledFor(logging.ERROR)
    undo(probe, faults(probe, before, probe.capture()))
    assert logger.isEnabledFor(logging.ERROR)


def test_a_file_handler_may_open_its_file(tmp_path: Path) -> None:
    """The stream of a file handler is its own business."""
    handler = logging.FileHandler(tmp_path / "log", delay=True)
    logger = logging.getLogger("zz.file")
    logger.addHandler(handler)
    probe = LoggingProbe()
    before = probe.capture()
    logger.warning("x")
    assert faults(probe, before, probe.capture()) == []
    logger.removeHandler(handler)
    handler.close()


def test_a_new_handler_is_one_finding() -> None:
    """A handler with a level, a filter and a formatter is reported once, by the list to which it was added."""
    probe = LoggingProbe()
    before = probe.capture()
    handler = logging.StreamHandler(io.StringIO())
    handler.setLevel(7)
    handler.addFilter(logging.Filter())
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("zz.many").addHandler(handler)
    found = faults(probe, before, probe.capture())
    assert [probe.describe(step.key) for step in found] == ["logging.getLogger('zz.many').handlers[0]"]
    undo(probe, found)


# -- runners, tools ------------------------------------------------------------


def test_capture_streams_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of the runner may appear, and one it closed does not come back; a foreign one in its place goes."""
    theirs = of_module("_pytest.capture", io.StringIO)()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    probe = StreamsProbe()
    before = probe.capture()
    sys.stdout = theirs
    middle = probe.capture()
    assert faults(probe, before, middle) == []
    sys.stdout = io.StringIO()
    after = probe.capture()
    assert [step.key for step in faults(probe, middle, after)] == ["sys.stdout"]
    theirs.close()
    assert faults(probe, middle, after) == []


def test_import_hooks_of_the_runner_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Assertion rewriting may come and go."""
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    probe = PathsProbe()
    before = probe.capture()
    sys.meta_path.insert(0, of_module("_pytest.assertion.rewrite")())
    assert faults(probe, before, probe.capture()) == []


class Debugger(bdb.Bdb):
    """A project's own debugger."""


@pytest.mark.parametrize("tool", [of_module("coverage.pytracer")(), of_module("pydevd")(), Debugger().trace_dispatch])
def test_tracers_of_tools_are_left_alone(tool: Any) -> None:
    """A coverage tool or debugger that starts or stops itself is not a difference; one that was displaced is."""
    probe = TraceProbe()
    nothing = (None, None, None, None, 0, 1)
    ours, foreign = (tool, *nothing[1:]), (lambda *_: None, *nothing[1:])
    assert list(probe.diff(nothing, ours)) == []
    assert list(probe.diff(ours, nothing)) == []
    assert [step.key for step in probe.diff(ours, foreign)] == ["sys.gettrace()"]


# -- threads, signals ----------------------------------------------------------


def test_other_threads_have_no_say_about_the_main_one() -> None:
    """A look from another thread sees no change of signals, mask, trace, decimal context, variables or loop."""
    probes: list[Probe] = [
        SignalsProbe(), SignalMaskProbe(), TraceProbe(), DecimalProbe(), ContextVarsProbe(), EventLoopProbe()
    ]  # fmt: skip
    variable = contextvars.ContextVar("variable", default=0)
    token = variable.set(1)
    for probe in probes:
        before = probe.capture()
        assert faults(probe, before, in_thread(probe.capture)) == []
    variable.reset(token)


def test_a_handler_from_c_is_never_overwritten() -> None:
    """A handler of `faulthandler.register()`, which Python cannot read, is reported and stays."""
    probe = SignalsProbe()
    before = probe.capture()
    faulthandler.register(signal.SIGUSR1, file=2, chain=False)
    try:
        now = signal.getsignal(signal.SIGUSR1)
        found = faults(probe, before, probe.capture())
        if now is None:
            assert [probe.describe(step.key) for step in found] == ["signal.getsignal(signal.SIGUSR1)"]
            with pytest.raises(RuntimeError, match="from C"):
                undo(probe, found)
    finally:
        faulthandler.unregister(signal.SIGUSR1)


# -- context variables ---------------------------------------------------------


def test_a_variable_without_default_cannot_be_unset() -> None:
    """The difference is a note, and restoring says what to do."""
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("bare")

    def run() -> None:
        probe = ContextVarsProbe()
        before = probe.capture()
        variable.set(1)
        (step,) = faults(probe, before, probe.capture())
        assert step.severity == "note"
        with pytest.raises(LookupError, match="copy_context"):
            probe.restore(step.key, MISSING)

    contextvars.copy_context().run(run)


@pytest.mark.parametrize("others", [0, 1])
def test_a_handler_that_comes_and_goes_is_no_finding(others: int) -> None:
    """A handler added and removed leaves nothing to undo, also where removing it gives the logger another list."""
    logger = logging.getLogger()
    handlers = [logging.NullHandler() for _ in range(others)]
    for each in handlers:
        logger.addHandler(each)
    try:
        with isolation_barrier(probes=["logging"]) as barrier:
            handler = logging.NullHandler()
            logger.addHandler(handler)
            logger.removeHandler(handler)
            held = logger.handlers
        assert barrier.changes == ()
        assert logger.handlers is held
        with isolation_barrier(probes=["logging"]) as barrier:
            kept = logging.StreamHandler()
            logger.addHandler(kept)
        assert len(barrier.changes) == 1
        assert kept not in logger.handlers
    finally:
        for each in handlers:
            logger.removeHandler(each)


def test_a_variable_is_named_by_the_module_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path can be pasted; the variable's own name is added where it is another; else it is described."""
    probe = ContextVarsProbe()
    module = types.ModuleType("shop_context")
    monkeypatch.setitem(sys.modules, "shop_context", module)
    user: contextvars.ContextVar[int] = contextvars.ContextVar("USER")
    tenant: contextvars.ContextVar[int] = contextvars.ContextVar("tenant_id")
    assert probe.describe(user) == "ContextVar('USER')"
    vars(module).update(USER=user, TENANT=tenant)
    assert probe.describe(user) == "shop_context.USER"
    assert probe.describe(tenant) == "shop_context.TENANT (ContextVar 'tenant_id')"
    del vars(module)["USER"]
    assert probe.describe(user) == "ContextVar('USER')"


# -- event loops ---------------------------------------------------------------


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="a policy no longer remembers whether a loop was set")
def test_asyncio_run_leaves_a_loop_to_be_had() -> None:
    """After one asyncio.run() get_event_loop() would raise for the rest of the run: a note, and put back."""

    def run() -> None:
        policy = asyncio.DefaultEventLoopPolicy()
        asyncio.set_event_loop_policy(policy)
        probe = EventLoopProbe()
        before = probe.capture()
        asyncio.run(asyncio.sleep(0))
        (step,) = faults(probe, before, probe.capture())
        assert step.severity == "note"
        undo(probe, [step])
        assert faults(probe, before, probe.capture()) == []
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            loop = asyncio.get_event_loop()
        # A loop that is there is reported as such, and the memory of it adds nothing to that.
        assert [found.key for found in faults(probe, before, probe.capture())] == ["asyncio.get_event_loop()"]
        loop.close()

    policy = asyncio.get_event_loop_policy()
    try:
        run()
    finally:
        asyncio.set_event_loop_policy(policy)


# -- numbers -------------------------------------------------------------------


def test_a_decimal_context_is_compared_with_a_fresh_one_if_decimal_was_not_imported() -> None:
    """Where the module is imported and its context changed between two looks, the change is seen."""
    probe = DecimalProbe()
    with decimal.localcontext(decimal.Context()) as context:
        assert faults(probe, None, probe.capture()) == []
        context.prec = 5
        found = faults(probe, None, probe.capture())
        assert [probe.describe(step.key) for step in found] == ["decimal.getcontext().prec"]
        undo(probe, found)
        assert context.prec == 28


@pytest.mark.parametrize("fast", [True, False])
def test_the_stream_of_random_numbers_is_put_back(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    """After the undo the same numbers come, read from memory or through getstate()."""
    monkeypatch.delitem(sys.modules, "pytest_randomly", raising=False)
    probe = RandomProbe()
    probe._fast = fast and probe._fast
    before = probe.capture()
    first = [random.random() for _ in range(700)] + [random.gauss(0, 1)]
    found = faults(probe, before, probe.capture())
    undo(probe, found)
    assert [random.random() for _ in range(700)] + [random.gauss(0, 1)] == first
    undo(probe, found)
    assert faults(probe, before, probe.capture()) == []


def test_a_plugin_that_seeds_is_left_to_do_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every test is seeded anyway, nothing is watched."""
    monkeypatch.setitem(sys.modules, "pytest_randomly", types.ModuleType("pytest_randomly"))
    assert RandomProbe().capture() is None


# -- registries ----------------------------------------------------------------


def test_codecs_found_through_a_leaked_function_are_forgotten() -> None:
    """After the undo a codec that only the leaked function knew is unknown again."""
    probe = CodecsProbe()
    before = probe.capture()
    codecs.register(lambda name: codecs.lookup("utf-8") if name == "zz_codec" else None)
    assert b"x".decode("zz_codec") == "x"
    undo(probe, faults(probe, before, probe.capture()))
    with pytest.raises(LookupError):
        codecs.lookup("zz_codec")


def test_the_codec_lists_are_the_interpreters_own() -> None:
    """A copy of the table that other code holds is not mistaken for the real one."""
    first = CodecsProbe()
    kept = [first.capture(), dict(first._errors or {}), list(first._functions or ())]
    second = CodecsProbe()
    second.capture()
    assert second._errors is first._errors
    assert second._functions is first._functions
    assert kept


def test_callbacks_of_libraries_stay_registered() -> None:
    """The atexit callback of a library is not a difference; one registered twice is reported and kept."""
    probe = AtExitProbe()
    before = probe.capture()
    atexit.register(logging.shutdown)
    assert faults(probe, before, probe.capture()) == []

    def mine() -> None:
        """Registered by the project, twice."""

    atexit.register(mine)
    middle = probe.capture()
    atexit.register(mine)
    (step,) = faults(probe, middle, probe.capture())
    with pytest.raises(RuntimeError, match="all of them"):
        probe.restore(step.key, MISSING)
    atexit.unregister(mine)


def test_a_finalizer_of_a_dying_object_still_runs() -> None:
    """Only a finalizer on an object that a module or class holds is detached; others run when their time comes."""
    probe = FinalizersProbe()
    before = probe.capture()
    heard: list[str] = []
    kept = [of_module("zz_project")()]
    weakref.finalize(kept[0], heard.append, "gone")
    undo(probe, faults(probe, before, probe.capture()))
    kept.clear()
    gc.collect()
    assert heard == ["gone"]


def test_finalizers_of_libraries_stay() -> None:
    """The finalizer of a temporary folder keeps looking after it."""
    probe = FinalizersProbe()
    before = probe.capture()
    folder = tempfile.TemporaryDirectory()
    assert faults(probe, before, probe.capture()) == []
    folder.cleanup()


SCRIPT = """
import sys
from isolation_core.contamination.probes._builtin import builtin_probes
probes = builtin_probes()
look = lambda: [probe.capture() for probe in probes]
def faults(before, after):
    return [probe.describe(d.key) for probe, was, now in zip(probes, before, after)
            if now is not was and not probe.same(was, now)
            for d in probe.diff(was, now) if not probe.agrees(d.key, d.before, d.after)]
loaded = set(sys.modules)
first = look(); second = look()
print("imported", sorted(set(sys.modules) - loaded))
print("restless", [probe.kind for probe, a, b in zip(probes, first, second) if a is not b])
import asyncio, csv, mimetypes, multiprocessing, sqlite3, ssl
import webbrowser, xml.etree.ElementTree
import unittest.mock, zoneinfo, decimal, logging, tracemalloc
import urllib.request, email.charset, calendar, gettext, readline
print("imports", faults(second, look()))
third = look()
mimetypes.guess_type("x.png"); multiprocessing.get_start_method(); asyncio.run(asyncio.sleep(0))
webbrowser.register_standard_browsers()
print("first use", faults(third, look()))
"""


def test_nothing_is_imported_and_imports_are_no_difference() -> None:
    """A snapshot imports nothing; the initial state of modules that appear, also lazy state, belongs to them."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    # asyncio.run() leaves a note, until Python 3.13: get_event_loop() raises after it.
    asked = ["asyncio.get_event_loop_policy()._local._set_called"] if sys.version_info < (3, 14) else []
    assert done.stdout.splitlines() == ["imported []", "restless []", "imports []", f"first use {asked}"]


def test_item_keys_compare_builtin_values_and_identities() -> None:
    """Two equal strings, or tuples of such, are one item; two equal lists are two."""
    assert ItemKey("s", "ab" * 2, 0, 1) == ItemKey("s", "abab", 0, 5)
    assert ItemKey("s", ("a", int, None), 0, 1) == ItemKey("s", ("a", int, None), 0, 1)
    assert ItemKey("s", [], 0, 1) != ItemKey("s", [], 0, 1)
    assert ItemKey("s", 1, 0, 1) != ItemKey("s", True, 0, 1)


def test_a_part_of_the_runner_that_failed_to_import_is_no_difference() -> None:
    """Modules of the runner may go as they came; those of others are missed."""
    probe = ModulesProbe()
    kept = types.ModuleType("kept")
    assert probe.agrees("hypothesis.extra._patching", kept, MISSING)
    assert not probe.agrees("json.decoder", kept, MISSING)
