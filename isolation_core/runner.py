"""For test runners: `RunnerSession` opens and closes barriers, and reports at the end of the run.

Every adapter of this project is built on this module. So can be a runner of your own::

    from isolation_core.runner import RunnerSession

    with RunnerSession(runner="mine") as session:
        with session.barrier("session", "nightly run"):
            for test in tests:
                with session.barrier("function", test.name):
                    test.run()
        session.print_summary()

Sessions nest: changes of a session that runs inside a test belong to that test.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TextIO

from isolation_core._ambient import current_barrier, runner_barriers
from isolation_core._backends import real_by_default
from isolation_core._baseline import Baseline, current_baseline, load_baseline, set_baseline, write_baseline
from isolation_core._opening import Opening
from isolation_core._own_context import OwnContext, can_switch
from isolation_core._test_facts import NO_TEST, TestFacts
from isolation_core._watched import territory_of
from isolation_core.barrier import Barrier
from isolation_core.config import Mode, Settings, current_settings
from isolation_core.contamination._first_party import absent_packages, is_library, leave_to_runner
from isolation_core.contamination.objects._by_type import LEAF_TYPES
from isolation_core.contamination.undo._taint import taint_of
from isolation_core.contamination.undo._undo_log import BASELINE, get_tracker
from isolation_core.errors import ConfigurationError
from isolation_core.journal import Journal, get_journal, set_journal

if TYPE_CHECKING:
    from isolation_core.reports import Style

__all__ = ["NO_TEST", "RunnerSession", "TestFacts", "is_library", "taint_of"]

# unittest leaves frames of modules with this name out of tracebacks.
__unittest = True

_EVENTS: Final = "events"
_ABSENT: Final = "absent"
_SHARED: Final = frozenset({"session", "package", "module", "class"})
"""Scopes of barriers that outlive a test."""


class RunnerSession:
    """One run of a test runner: its settings, its open barriers, and what they found.

    Use it as a context manager. At exit it closes the barriers that are still open.

    Args:
        settings: how to isolate; None: the settings of the process, see `isolation_core.config`.
        runner: name of the runner, for the journal.
        root: modules under this folder are first-party, unless ``settings.packages`` says otherwise;
            None: the folder that is current when its outermost barrier opens.
        worker: name of this process among several that run tests at the same time.
        shared: record into the journal that the process has already, and leave its baseline in place.
            For adapters that run inside a runner which knows nothing of them. By default a session
            has a journal of its own, so that the summary of an inner session is about that alone.
        update_baseline: whether `write_baseline` is going to be called, so that the file need not exist yet.

    Attributes:
        runner: name of the runner.
        roots: the folders whose modules are first-party by default, if any were given; see `add_root`.

    Raises:
        ConfigurationError: if the settings are wrong, or the baseline cannot be read.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        runner: str = "custom",
        root: str | os.PathLike[str] | None = None,
        worker: str | None = None,
        shared: bool = False,
        update_baseline: bool = False,
    ) -> None:
        self.runner = runner
        self.roots: tuple[str, ...] = () if root is None else (os.fspath(root),)
        self._given = settings
        self._worker = worker
        self._shared = shared
        self._own_journal = None if shared else Journal()
        self._former: tuple[Journal, Baseline, frozenset[str]] | None = None
        self._known = Baseline()
        if not shared:
            if update_baseline and self.settings.baseline is None:
                raise ConfigurationError("there is no baseline file to write; name one with baseline=", name="baseline")
            self._known = load_baseline(self.settings.baseline, missing_ok=update_baseline)
        self._open: list[Barrier] = []
        self._test_contexts: list[OwnContext] = []
        # Owner of what the hooks of this runner do between two tests; see `Opening.hooks_depth`.
        self._hooks_depth = BASELINE
        self._absent: dict[str, str] | None = None
        self._notes: list[str] = []

    def __repr__(self) -> str:
        return f"<RunnerSession {self.runner!r}, open: {' > '.join(each.scope for each in self._open) or 'nothing'}>"

    # -- begin and end ---------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close_all()
        finally:
            self.stop()

    def start(self) -> None:
        """Make the journal and the baseline of this session those of the process; `stop` ends that.

        A shared session need not be started: it is when its first barrier opens. Started earlier,
        it finds earlier what is wrong with the settings.

        Raises:
            ConfigurationError: if the settings are wrong, or the baseline cannot be read.
        """
        if self._own_journal is not None and self._former is None:
            self._former = (get_journal(), current_baseline(), get_tracker().test_modules)
            set_journal(self._own_journal)
            set_baseline(self._known)
        self._follow_baseline()
        self._begin_journal(self.settings.mode)

    def stop(self) -> None:
        """Give the process back the journal and the baseline it had before `start`."""
        if self._own_journal is not None:
            self._own_journal.close()
        if self._former is not None:
            journal, baseline, test_modules = self._former
            self._former = None
            set_journal(journal)
            set_baseline(baseline)
            get_tracker().set_test_modules(test_modules)

    def _begin_journal(self, mode: Mode) -> None:
        """Write the journal to a file from now on, if that is set and not done yet.

        Not at the end of the process: a worker of a pool is ended without running exit handlers.
        """
        target = self.settings.journal_dir
        if target is not None and mode != "off" and not self.journal.writing:
            worker = self._worker or _worker_name()
            self.journal.write_to(
                target, runner=self.runner, mode=mode, worker=worker, root=self.roots[0] if self.roots else None
            )

    def _follow_baseline(self) -> None:
        """In a shared session: use the baseline of the settings, if they name one."""
        path = self.settings.baseline if self._shared else None
        if path is not None and path != current_baseline().path:
            set_baseline(load_baseline(path))

    @property
    def settings(self) -> Settings:
        """How to isolate."""
        return current_settings() if self._given is None else self._given

    @property
    def journal(self) -> Journal:
        """Where the findings of this session are recorded."""
        return get_journal() if self._own_journal is None else self._own_journal

    # -- barriers --------------------------------------------------------------

    @property
    def barriers(self) -> tuple[Barrier, ...]:
        """The open barriers of this session, widest first."""
        return tuple(self._open)

    @property
    def innermost(self) -> Barrier | None:
        """The open barrier that was opened last."""
        return self._open[-1] if self._open else None

    def find(self, scope: str) -> Barrier | None:
        """Return the innermost open barrier of *scope*, if there is one."""
        return next((each for each in reversed(self._open) if each.scope == scope), None)

    def make(
        self,
        scope: str,
        owner: str,
        *,
        group: str = "default",
        mode: Mode | None = None,
        packages: Iterable[str] | None = None,
        probes: Iterable[str] | None = None,
        ignore: Iterable[str] | None = None,
        timeout: float | None = None,
        max_concurrency: int = 1,
        fixtures: Iterable[str | Callable[..., Any]] = (),
        settings: Settings | None = None,
    ) -> Barrier:
        """Return a barrier that is not open yet, made by the settings of this session.

        Args:
            scope: ``"session"``, ``"package"``, ``"module"``, ``"class"``, ``"function"``, or a word of your own.
            owner: the name under which findings are reported, such as that of the test.
            group: see `isolation_barrier`, as for all that follow; None means what the settings say.
            mode: see there.
            packages: see there.
            probes: see there.
            ignore: see there.
            timeout: see there.
            max_concurrency: see there.
            fixtures: see there.
            settings: settings to use instead of those of the session: of the project that a test belongs to,
                in a run that covers several of them.
        """
        settings = self.settings if settings is None else settings
        chosen = mode or settings.mode
        self._follow_baseline()
        self._begin_journal(chosen)
        return Barrier(
            group,
            mode=chosen,
            packages=territory_of(settings.packages if packages is None else packages, self.roots),
            probes=settings.probes if probes is None else probes,
            ignore=settings.ignore if ignore is None else ignore,
            owner=owner,
            timeout=settings.timeout if timeout is None else timeout,
            max_concurrency=max_concurrency,
            scope=scope,
            fixtures=fixtures,
        )

    def open(
        self,
        scope: str,
        owner: str,
        *,
        test_module: str | None = None,
        after_hooks: bool = False,
        untouched: bool = False,
        subject: object = None,
        test: TestFacts = NO_TEST,
        **options: Any,
    ) -> Barrier:
        """Open a barrier inside those that are open; `close` leaves it.

        Args:
            scope: see `make`.
            owner: see `make`.
            test_module: name of the module the test is in: state that only other test modules
                lead to is not compared; see `set_test_modules`.
            after_hooks: whether only hooks of the runner and its plugins ran since the last
                comparison: what moved is then not blamed on the tests around this one. It belongs
                to the process, or to the test that a nested session runs in.
            untouched: whether nothing but code of the runner itself ran since then, which changes
                nothing that is watched. It saves one of the two comparisons of a test.
            subject: the test class or module whose set-up happens inside, if there is one: attributes
                that the set-up sets on it are not findings.
            test: the facts about the test inside, for the decisions of the undo policy.
            options: see `make`.

        Returns:
            The barrier.
        """
        barrier = self.make(scope, owner, **options)
        self.enter(
            barrier, test_module=test_module, after_hooks=after_hooks, untouched=untouched, subject=subject, test=test
        )
        return barrier

    def enter(
        self,
        barrier: Barrier,
        *,
        test_module: str | None = None,
        after_hooks: bool = False,
        untouched: bool = False,
        subject: object = None,
        test: TestFacts = NO_TEST,
    ) -> None:
        """Open a barrier that `make` returned; see `open`."""
        if not self._open:
            around = current_barrier()
            self._hooks_depth = BASELINE if around is None else around.depth_inside
        hooks_depth = self._hooks_depth if after_hooks else None
        opening = Opening(test_module, hooks_depth, untouched, subject, test)
        self._run_for(barrier, partial(barrier.open, opening))
        self._open.append(barrier)
        runner_barriers.append(barrier)

    def close(self, barrier: Barrier, error: BaseException | None = None) -> None:
        """Leave *barrier*, and before it the narrower ones that are still open; nothing if it is closed.

        Args:
            barrier: one that `open` returned.
            error: the exception of the code inside, if any; see `Barrier.close`.

        Raises:
            ContaminationError: in mode ``strict``, if something above a note was found.
            TeardownErrors: if cleanups failed.
            BaseExceptionGroup: if more than one barrier raised.
        """
        __tracebackhide__ = True
        errors: list[BaseException] = []
        while barrier in self._open:
            last = self._open.pop()
            if last in runner_barriers:
                runner_barriers.remove(last)
            try:
                if last.is_open:
                    self._run_for(last, partial(last.close, error if last is barrier else None))
            except BaseException as failure:
                errors.append(failure)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise BaseExceptionGroup("several isolation barriers failed to close", errors)

    def close_all(self) -> None:
        """Leave every barrier of this session that is still open; see `close`."""
        if self._open:
            self.close(self._open[0])

    @contextmanager
    def barrier(self, scope: str, owner: str, **options: Any) -> Iterator[Barrier]:
        """Open a barrier for a ``with`` block; arguments as for `open`."""
        barrier = self.open(scope, owner, **options)
        try:
            yield barrier
        except BaseException as error:
            self.close(barrier, error)
            raise
        self.close(barrier)

    # -- context variables -----------------------------------------------------

    @contextmanager
    def test_context(self, mode: Mode | None = None) -> Iterator[None]:
        """Give one test a context of its own: everything that belongs to the test runs in the block, also its hooks.

        Set-up, body and teardown then share it, so a token of a `ContextVar` fits in each of them. What is
        left set is gone after the block, also where the variable has no default. The barrier of the test is
        opened and closed inside. Does nothing in the modes that undo nothing.

        It is for synchronous code. The block must not contain an ``await`` or a ``yield`` to an event loop.

        Args:
            mode: the mode of the test's barrier; None: that of the settings.
        """
        if (mode or self.settings.mode) not in ("restore", "strict"):
            yield
            return
        context = OwnContext()
        context.enter()
        self._test_contexts.append(context)
        try:
            yield
        finally:
            self._test_contexts.remove(context)
            context.leave()

    def outside_test(self) -> AbstractContextManager[None]:
        """Run the block in the context around the test that runs: for set-up and teardown that tests share.

        What it sets outlives the test, and a token made in one such block fits in the next. It
        sees the variables of the test as well.
        """
        return self._test_contexts[-1].outside() if self._test_contexts else nullcontext()

    def _run_for(self, barrier: Barrier, function: Callable[[], object]) -> None:
        """Run a part of *barrier* in the context that lives as long as the barrier."""
        __tracebackhide__ = True
        if barrier.scope in _SHARED and self._test_contexts:
            self._test_contexts[-1].look_around(function)
        else:
            function()

    # -- what the runner knows -------------------------------------------------

    def add_root(self, folder: str | os.PathLike[str]) -> None:
        """Have barriers that open from now on watch the modules under *folder* as well.

        For a run whose tests lie in several projects. Does nothing if the folder lies under another root.
        """
        path = os.fspath(folder)
        if not any(path == root or path.startswith(os.path.join(root, "")) for root in self.roots):
            self.roots = (*self.roots, path)

    def checkpoint(self) -> None:
        """Compare now: changes since the last comparison were made by hooks, not by the tests around them."""
        if self._open:
            get_tracker().checkpoint_after_hooks(self._hooks_depth)

    def watch(self, key: Hashable, label: str, value: object, *, keep: bool = False) -> None:
        """Watch *value*, which no module leads to, as deep as it goes, until `forget`.

        For objects that several tests share: values of wide fixtures, of parameters.

        Args:
            key: the key for `forget`.
            label: its name in reports; an expression to paste, if there is one.
            value: any object; numbers, texts and the like have nothing to watch.
            keep: whether changes are reported and not undone.
        """
        if type(value) not in LEAF_TYPES:
            get_tracker().watch_value(key, label, value, keep=keep)

    def forget(self, key: Hashable) -> None:
        """Release the value watched under *key*, and stop protecting set-ups with it as the holder."""
        tracker = get_tracker()
        tracker.forget_value(key)
        tracker.release(key)

    def set_test_modules(self, names: Iterable[str]) -> None:
        """Say which modules hold the tests: each is compared around its own tests only."""
        get_tracker().set_test_modules(names)

    def leave_alone(self, names: Iterable[str]) -> None:
        """Never watch the modules called *names*: plugins of the runner keep their own state in them."""
        leave_to_runner(names)

    def header(self, verbosity: int = 0) -> list[str]:
        """Return the lines that a run may begin with: settings that do not count, servers that are started.

        Args:
            verbosity: below 0 only mistakes are named, above 0 also the mode and what is watched.
        """
        settings = self.settings
        lines = []
        if settings.unread is not None:
            lines.append(f"isolation: settings come from {settings.source}; the table in {settings.unread} is not read")
        if verbosity > 0:
            packages = ", ".join(settings.packages) if settings.packages else "everything under the root folder"
            switch = "" if can_switch() else "; context variables: put back one by one, for want of ctypes"
            lines.append(f"isolation: mode {settings.mode}, first-party: {packages}{switch}")
        if verbosity >= 0:
            lines += real_by_default(settings)
        return lines

    # -- what was found --------------------------------------------------------

    def export(self) -> dict[str, Any]:
        """Return what this process found as plain data, for the session of another process to `absorb`."""
        return {_EVENTS: self.journal.export(), _ABSENT: absent_packages(self.settings.packages)}

    def absorb(self, found: Mapping[str, Any]) -> None:
        """Take over what a worker process handed out by `export`."""
        self.journal.absorb(found[_EVENTS])
        # What one worker did not need another one may have loaded.
        absent: dict[str, str] = found[_ABSENT]
        self._absent = absent if self._absent is None else {k: v for k, v in self._absent.items() if k in absent}

    def note(self, text: str) -> None:
        """Have the summary say *text*: something a reader must know to judge the findings."""
        self._notes.append(text)

    def summary(
        self, *, limit: int | None = 10, include_notes: bool = False, width: int | None = 79, style: Style | None = None
    ) -> list[str]:
        """Return the lines of the summary of this session; none when there is nothing to say.

        Args:
            limit: how many entries are shown; None: all of them.
            include_notes: whether harmless findings are entries too.
            width: columns an entry should fit into; None: values in full.
            style: see `isolation_core.reports.render_summary`.
        """
        from isolation_core.reports import render_summary

        absent = absent_packages(self.settings.packages) if self._absent is None else self._absent
        notes, self._notes = [*absent.values(), *self._notes], []
        for text in notes:
            if text not in self.journal.totals.notes:
                self.journal.record("note", text=text)
        return render_summary(self.journal, limit=limit, include_notes=include_notes, width=width, style=style)

    def print_summary(self, stream: TextIO | None = None) -> None:
        """Print the summary to *stream* (by default ``sys.stderr``), under a heading, if there is anything to say."""
        lines: Sequence[str] = self.summary()
        if lines:
            from isolation_core.reports import SECTION_HEADER

            # The tests may have closed or replaced the stream, its reader may be gone; the run is over anyway.
            with suppress(Exception):
                out = sys.stderr if stream is None else stream
                out.write("\n".join([SECTION_HEADER, *lines, ""]))
                out.flush()

    def write_baseline(self) -> int:
        """Write everything found above a note to the baseline file of the settings; return how many they are.

        Raises:
            ConfigurationError: if the settings name no such file.
        """
        if self.settings.baseline is None:
            raise ConfigurationError("there is no baseline file to write; name one with baseline=", name="baseline")
        return write_baseline(self.settings.baseline, self.journal)


def _worker_name() -> str:
    """Return ``main``, or a name that no other process of this run has."""
    # Not imported for this: a process that has not loaded it was not started by it.
    multiprocessing = sys.modules.get("multiprocessing")
    is_child = multiprocessing is not None and multiprocessing.parent_process() is not None
    return f"w{os.getpid()}" if is_child else "main"
