"""The tracker: one view of the process, a log of what moved, and frames that own it.

There is one snapshot of everything, not one per barrier. A boundary looks at
the process once, appends what moved to the log, and believes the new state.
A frame (an open barrier) remembers its position in the log; entries behind
that position when it closes happened inside it. Undoing is walking that part
of the log, so it costs what changed and not what is watched.

Entries can be *promoted*: the set-up of a session fixture that a test happens
to trigger, or the import of a new module, is logged behind the test's position
but belongs to a wider frame. The narrower frames step over such entries, and
undo around them. While such a set-up runs, every look belongs to it by
default: see `_set_ups`.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import ModuleType
from typing import Any

from isolation_core._own_context import OwnContext, innermost_own_context
from isolation_core.contamination._difference import MISSING, Difference
from isolation_core.contamination._first_party import Territory
from isolation_core.contamination._slot import Slot
from isolation_core.contamination.probes._probe import Probe
from isolation_core.contamination.probes._quarantine import Quarantine
from isolation_core.contamination.probes._slot import ProbeSlot
from isolation_core.contamination.undo._entries import Entry
from isolation_core.contamination.undo._first_imports import FirstImports, describe_forgotten
from isolation_core.contamination.undo._first_imports import describe as describe_import
from isolation_core.contamination.undo._imports import ImportWatch
from isolation_core.contamination.undo._rollback import apply, undo
from isolation_core.contamination.undo._savepoint import BASELINE, Frame, join
from isolation_core.contamination.undo._set_ups import LiveSetUps, Promotions
from isolation_core.contamination.undo._snapshot import View
from isolation_core.findings import Change

__all__ = ["BASELINE", "Frame", "Tracker", "get_tracker"]


class Tracker:
    """Looks at the process at boundaries and undoes what frames leave behind."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._view: View | None = None
        self._log: list[Entry] = []
        self._open: list[Frame] = []
        self._frames_opened = 0
        self._quarantine = Quarantine()
        self._promotions = Promotions()
        self._set_ups = LiveSetUps()
        self._first_imports = FirstImports()
        self._loaded: set[str] = set()
        # Names of modules imported inside of the frames that are open.
        self._born: set[str] = set()
        self._watch = ImportWatch(self._before_import, self._after_import, self._is_new_module)
        # Whether no frame is open or about to be; see `_on_collection`.
        self._idle = True
        self._listening = False
        self.test_modules: frozenset[str] = frozenset()
        # What the last frame to close saw of its thread's own state, by kind.
        self._local_seen: tuple[int, dict[str, Any]] = (0, {})

    # -- frames --------------------------------------------------------------

    def enter(
        self, frame: Frame, *, territory: Territory, probes: tuple[Probe, ...], heap: bool = True, quiet: bool = False
    ) -> None:
        """Open *frame*: earlier changes do not belong to it.

        Args:
            frame: the frame, not open yet.
            territory: the modules it watches deeply.
            probes: further state it watches.
            heap: whether module state is watched.
            quiet: whether nothing but the runner's own code has run since the
                last look: then that look serves as this frame's first.
        """
        with self._lock:
            self._idle = False
            if not self._open:
                self._prepare(territory, probes, heap=heap)
            elif self._view is not None:
                self._view.widen(territory, probes)
            if quiet and self._open:
                assert self._view is not None
                self._view.probes.accept_runners_own()
            else:
                self.checkpoint(
                    entering=True, test_module=frame.test_module, hooks=frame.hooks_depth if self._open else None
                )
            # As a rule the frames that are open are exactly those around this one.
            if len(self._open) != frame.depth or (self._open and self._open[-1] is not frame.parent):
                related = {frame, *frame.ancestors()}
                strangers = [other for other in self._open if other not in related]
                if strangers:
                    join([frame, *strangers])
            frame.position = len(self._log)
            frame.touches = 0 if self._view is None else self._view.graph.touches
            self._frames_opened += 1
            frame.number = self._frames_opened
            # The widest frame inside of a context of the test's own: it closes last in there.
            own = innermost_own_context()
            frame.own_context = None if any(other.own_context is own for other in self._open) else own
            self._open.append(frame)
            view = self._view
            assert view is not None
            self._capture_local(frame, view, quiet=quiet)

    def _capture_local(self, frame: Frame, view: View, *, quiet: bool) -> None:
        """Take down the state of the current thread and task for *frame*."""
        thread, seen = self._local_seen
        if thread != threading.get_ident():
            seen = {}
        for probe in view.probes.local:
            try:
                last = seen.get(probe.kind)
                # Between two tests only the runner ran: what the last one left is
                # what this one finds. Not so for variables of the context, where
                # the current barrier itself is one.
                if last is not None and quiet and not probe.dies_with_context:
                    frame.local_state.append((probe, last))
                    continue
                now = probe.capture()
                frame.local_state.append((probe, now))
                if frame.hooks_depth is not None and last is not None and now is not last:
                    # What hooks do between two tests is not for the frames around them to undo.
                    moved = {(probe.kind, difference.key) for difference in probe.diff(last, now)}
                    for outer in self._open[:-1]:
                        if outer.depth > frame.hooks_depth:
                            outer.kept_keys |= moved
            except Exception as error:
                self._quarantine.disable(probe, error)

    def leave(self, frame: Frame, *, restore: bool, ignored: Callable[[str, str], bool] | None = None) -> None:
        """Close *frame*: log changes, undo its part, and deliver the findings.

        While another frame is open that overlaps with it, only the state of
        its own task is compared. The shared state waits for the last of them,
        and changes are then delivered to all, because their owner is ambiguous.
        """
        with self._lock:
            local = self._leave_local(frame, restore=restore, ignored=ignored)
            if local:
                frame.deliver(local)
            # While it counts as open: its last look is its own, also inside of a set-up.
            members = frame.cohort or (frame,)
            is_last = not any(member.open for member in members if member is not frame)
            if is_last:
                self.checkpoint(settle=False, test_module=frame.test_module)
            frame.open = False
            if frame in self._open:
                self._open.remove(frame)
            self._set_ups.drop_frame(frame)
            self._note_forgotten(frame)
            if not is_last:
                return
            position = min(member.position for member in members)
            if len(self._log) == position and self._open:
                return
            owner = " or ".join(sorted({member.owner for member in members}))
            widest = min(members, key=lambda member: member.depth)
            view = self._view
            assert view is not None
            self._first_imports.accept(self._log[position:], BASELINE)
            changes = undo(
                self._log,
                view,
                widest,
                position,
                owner=owner,
                restore=restore,
                ignored=ignored,
                protector=self._set_ups.protector,
            )
            if restore and self._first_imports.rebind():
                self.checkpoint(depth=BASELINE)
            # What a frame inside of a set-up has left is the set-up's in the eyes of all others.
            outer = self._promotions.depth(self._open[-1] if self._open else None)
            for entry in self._log[position:] if outer is not None else ():
                entry.depth = outer if entry.depth is None else entry.depth
            if changes:
                for member in members:
                    member.deliver(changes)
            view.graph.settle()
            if not self._open:
                self._rest()

    def is_innermost(self, frame: Frame) -> bool:
        """Return whether no frame was opened after *frame* and is still open."""
        return bool(self._open) and self._open[-1] is frame

    def depth_around(self, frame: Frame | None) -> int:
        """Return the depth of the owner of what a run does that starts inside *frame*; None: in no frame."""
        if frame is None or not frame.open:
            return BASELINE
        promoted = self._promotions.depth(frame)
        return frame.depth if promoted is None else promoted

    def abandon(self, frame: Frame) -> None:
        """Forget *frame* and everything seen so far, after a fault of our own; the next look starts anew."""
        with self._lock:
            frame.open = False
            self._log.clear()
            self._set_ups.clear()
            if frame in self._open:
                self._open.remove(frame)
            for other in self._open:
                other.position = 0
            if self._view is not None:
                self._view = View(self._view.territory, self._view.probes.given, self._quarantine, heap=self._view.heap)
            if not self._open:
                self._rest()

    def _prepare(self, territory: Territory, probes: tuple[Probe, ...], *, heap: bool) -> None:
        """Have a view of the process that fits the outermost frame."""
        view = self._view
        if view is None or not view.fits(territory, probes, heap=heap):
            self._view = View(territory, probes, self._quarantine, heap=heap)
            self._view.graph.test_modules = self.test_modules
            with _collector_paused():
                self._view.find_modules(entering=True)
        self._log.clear()
        self._watch.install()
        if not self._listening:
            self._listening = True
            gc.callbacks.append(self._on_collection)

    def _rest(self) -> None:
        """After the outermost frame: keep the view for the next one, hold nothing else."""
        self._log.clear()
        self._local_seen = (0, {})
        self._watch.uninstall()
        self._idle = True

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        # A full collection while nothing is open: a test that asks what is still
        # alive must not find our references. The next frame takes a new snapshot.
        if phase == "start" and info["generation"] == 2 and self._idle:
            self._view = None
            self._listening = False
            gc.callbacks.remove(self._on_collection)
            return
        # Not in the middle of our own work, which may be what made the collector run; nor is it waited for.
        mine = self._lock._is_owned()  # type: ignore[attr-defined]
        if (
            phase == "start"
            and info["generation"] == 2
            and self._born
            and not mine
            and self._lock.acquire(blocking=False)
        ):
            try:
                self._let_go()
            finally:
                self._lock.release()

    def _let_go(self) -> None:
        """Hold no module that was imported inside of a frame and taken out again: the test may ask whether it died.

        The collector is about to look for it. There is no earlier moment: that something was taken out of a
        dictionary is seen at the next look only, which comes too late.
        """
        view = self._view
        gone = [] if view is None else [name for name in self._born if view.modules.is_gone(name)]
        if view is None or not gone:
            return
        self.checkpoint()
        for name in gone:
            self._born.discard(name)
            module, node = view.modules.forget(name)
            self._log[:] = [
                entry
                for entry in self._log
                if not (entry.slot.tells_imports and (entry.before is module or entry.after is module))
                and (node is None or entry.slot.root() is not node)
            ]

    # -- looking -------------------------------------------------------------

    def checkpoint(
        self,
        *,
        depth: int | None = None,
        settle: bool = True,
        entering: bool = False,
        test_module: str | None = None,
        hooks: int | None = None,
    ) -> None:
        """Log what moved since the last look, and believe what is there now.

        Args:
            depth: depth of the frame the entries are promoted to, `BASELINE`
                for the process; None: to the set-up that is under way, else
                they are left to the open frames. This is the one place that decides.
            settle: whether to watch new children at once.
            entering: whether a frame is being opened.
            test_module: name of the module whose test the look is for; see `ObjectGraph.scan`.
            hooks: if only hooks of the runner ran since the last look, the depth of their
                owner, unless a set-up is under way; see `Frame.hooks_depth`.
        """
        view = self._view
        if view is None:
            return
        if depth is None:
            depth = self._promotions.depth(self._open[-1] if self._open else None)
            if depth is None:
                depth = hooks
        view.graph.created_in = self._frames_opened if depth is None else self._number_at(depth)
        view.find_modules(entering=entering)
        view.compare(test_module, lambda slot, difference: self._append(slot, difference, depth))
        if settle:
            view.graph.settle()

    def _number_at(self, depth: int) -> int:
        """Return the number of the frame open at *depth*: what a set-up of its scope makes was made inside of it."""
        return min((frame.number for frame in self._open if frame.depth == depth), default=0)

    def _append(self, slot: Slot, difference: Difference, depth: int | None) -> None:
        if depth == BASELINE and slot.tells_imports and not _is_made_by_import(difference):
            # That a module is imported is not a finding; but if it is taken out
            # again, only both steps together show that nothing has changed.
            depth = None
        self._promotions.note(slot, difference.before, difference.after)
        if depth is not None:
            self._set_ups.follow(slot, difference.after)
        self._log.append(Entry.of(slot, difference, depth))

    def checkpoint_after_hooks(self, depth: int) -> None:
        """Log what hooks of a runner did since the last look; *depth* is that of their owner."""
        with self._lock:
            self.checkpoint(hooks=depth)

    @contextlib.contextmanager
    def promoting(self, frame: Frame, *, holder: Hashable = None, hooks: int | None = None) -> Iterator[None]:
        """Give everything that moves in the block to *frame*, which is around or above the innermost one.

        Args:
            frame: the frame of the scope that the set-up in the block belongs to.
            holder: the resource that lives from now on, to be released by `tear_down`: until then no narrower
                frame takes back what moved in the block. None: nothing does.
            hooks: see `checkpoint`: the owner of changes before the block.
        """
        with self._lock:
            self.checkpoint(hooks=hooks)
            promotion = self._promotions.begin(frame, self._frames_opened)
            local = self._read_local()
        try:
            yield
        finally:
            with self._lock:
                self.checkpoint()
                self._promotions.end(promotion)
                if holder is not None:
                    self._set_ups.add(holder, promotion)
                narrower = [each for each in self._open if each.depth > frame.depth]
                for probe, before in local if narrower else ():
                    with self._quarantine(probe):
                        self._accept_local(narrower, probe, before, probe.capture())

    def release(self, holder: Hashable) -> None:
        """Protect no longer what was set up for *holder*; see `promoting`."""
        with self._lock:
            self._set_ups.release(holder)

    def _read_local(self) -> list[tuple[Probe, Any]]:
        """Return the state of the current thread and task."""
        state = []
        for probe in self._view.probes.local if self._view else ():
            with self._quarantine(probe):
                state.append((probe, probe.capture()))
        return state

    @staticmethod
    def _accept_local(frames: Iterable[Frame], probe: Probe, before: Any, after: Any) -> None:
        """Have *frames* take what moved between two readings of *probe* for what they found at their start."""
        for difference in () if before is after else probe.diff(before, after):
            for frame in frames:
                frame.accepted[probe.kind, difference.key] = difference

    # The lock is not held while the module runs: the import system has locks of
    # its own, and another thread may hold one of those and wait for ours.

    def _before_import(self) -> None:
        with self._lock:
            if self._open:
                self.checkpoint()
                self._loaded = set(sys.modules)

    def _after_import(self, name: str) -> None:
        with self._lock:
            view = self._view
            if self._open and view is not None:
                view.modules.imported.add(name)
                position = len(self._log)
                self.checkpoint(depth=BASELINE)
                self._note_import(name, view, position)

    def _note_import(self, name: str, view: View, position: int) -> None:
        """Take note of the module called *name*, and of those it imported, executed just now."""
        names = set(sys.modules) - self._loaded
        self._born |= names
        new = [sys.modules.get(each) for each in names]
        modules = [each for each in new if type(each) is ModuleType]
        self._loaded = set()
        moved = self._log[self._open[0].position : position]
        patched = [entry for entry in moved if entry.depth is None and not entry.slot.tells_imports]
        self._first_imports.add(modules, patched, self.test_modules, view.modules.includes)
        innermost = self._open[-1]
        if innermost.scope != "function" or self._promotions.depth(innermost) is not None:
            # What a wide set-up imports is there for all its tests.
            return
        mine = [entry for entry in self._log[innermost.position : position] if entry in patched]
        own = view.modules.includes(name)
        note = describe_import(
            name, self._log[position:], mine, owner=innermost.owner, scope=innermost.scope, first_party=own
        )
        if note is not None:
            innermost.deliver([note])

    def _note_forgotten(self, frame: Frame) -> None:
        """Take note of modules that were imported inside of *frame* and are not to be had at its end.

        ``patch.dict(sys.modules)`` does that. They are not put in again: a test may have done it on purpose.
        """
        view = self._view
        forgotten = [] if view is None else sorted(filter(view.modules.is_gone, self._born))
        self._born.clear()
        for name in forgotten:
            assert view is not None
            if view.modules.includes(name):
                frame.deliver([describe_forgotten(name, owner=frame.owner, scope=frame.scope)])
            view.modules.forget(name)

    def _is_new_module(self, name: str) -> bool:
        view = self._view
        return view is not None and bool(self._open) and name not in view.modules

    def set_test_modules(self, names: Iterable[str]) -> None:
        """Say which modules hold tests; see `ObjectGraph.test_modules`."""
        self.test_modules = frozenset(names)
        if self._view is not None:
            self._view.graph.test_modules = self.test_modules

    # -- values that no module leads to --------------------------------------

    def watch_value(self, key: object, label: str, value: object, *, keep: bool = False) -> None:
        """Watch *value*, as deep as it goes.

        Args:
            key: the key for `forget_value`.
            label: text of the value in reports.
            value: the object; see `ObjectGraph.add_value`.
            keep: whether changes are reported and not undone.
        """
        with self._lock:
            if self._view is not None and self._view.heap:
                self._view.graph.created_in = 0
                self._view.graph.add_value(key, label, value)
                if keep:
                    self._view.kept.add(label)

    def forget_value(self, key: object) -> None:
        """Release the value watched under *key*."""
        with self._lock:
            if self._view is not None:
                gone = self._view.graph.drop_root(key)
                if gone is not None and self._view.kept:
                    self._view.kept.discard(gone.label)
                if gone is not None:
                    self._set_ups.forget_root(gone)
                if gone is not None and self._log:
                    self._log[:] = [entry for entry in self._log if entry.slot.root() is not gone]

    # -- undoing -------------------------------------------------------------

    def _leave_local(self, frame: Frame, *, restore: bool, ignored: Callable[[str, str], bool] | None) -> list[Change]:
        changes: list[Change] = []
        view = self._view
        if view is None:
            return changes
        seen: dict[str, Any] = {}
        for probe, before in frame.local_state:
            if id(probe) in self._quarantine.disabled:
                continue
            try:
                after = seen[probe.kind] = probe.capture()
                if (after is not before and not probe.same(before, after)) or frame.accepted:
                    del seen[probe.kind]
                    changes += self._undo_local(view, frame, probe, before, after, restore=restore, ignored=ignored)
            except Exception as error:
                self._quarantine.disable(probe, error)
        self._local_seen = (threading.get_ident(), seen)
        frame.local_state = []
        return changes

    def _undo_local(
        self,
        view: View,
        frame: Frame,
        probe: Probe,
        before: Any,
        after: Any,
        *,
        restore: bool,
        ignored: Callable[[str, str], bool] | None,
    ) -> list[Change]:
        own = frame.own_context if restore and probe.dies_with_context else None
        outliving = None if own is None else _outliving(probe, after, own)
        entries = []
        for difference in frame.net(probe, before, after):
            key = difference.key
            if (probe.kind, key) in frame.kept_keys or (outliving is not None and key not in outliving):
                continue
            entry = Entry.of(ProbeSlot(probe, key), difference)
            if own is not None and entry.before is MISSING:
                # Where there is no default it cannot be unset, and need not be: the context ends with the test.
                with contextlib.suppress(LookupError):
                    probe.restore(key, MISSING)
                entry.restored = True
            entries.append(entry)
        if not restore:
            told = {(probe.kind, entry.slot.key) for entry in entries}
            for outer in frame.ancestors():
                if not outer.restores:
                    outer.kept_keys |= told
        return apply(view, entries, frame, frame.owner, restore=restore, ignored=ignored)


def _outliving(probe: Probe, after: Any, own: OwnContext) -> set[Hashable]:
    """Return the keys that a test would leave to the next one, if its context did not end with it.

    A hook may set a variable before the test's frame is opened, and reset it before the frame is closed:
    then it is as it is in the context around the test.
    """
    return {difference.key for difference in probe.diff(own.look_around(probe.capture), after)}


def _is_made_by_import(difference: Difference) -> bool:
    """Return whether a name is new in ``sys.modules`` and holds what the import system did not make.

    What a module puts there while it is executed belongs to the import, although it has no ``__spec__``:
    the submodules of an extension module, the lazy modules of a library.
    """
    module = difference.after
    if difference.before is not MISSING or module is MISSING:
        return False
    # Asked of its type: what stands there may lie about its class.
    if not issubclass(type(module), ModuleType):
        return True
    return ModuleType.__getattribute__(module, "__dict__").get("__spec__") is None


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Make many objects at once without the collector looking at all others in between."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


_tracker = Tracker()


def get_tracker() -> Tracker:
    """Return the tracker of this process."""
    return _tracker
