"""The tracker: one view of the process, a log of what moved, and frames that own it.

There is one snapshot of everything, not one per barrier. A boundary looks at
the process once, appends what moved to the log, and believes the new state.
A frame (an open barrier) remembers its position in the log; what is behind
that position when it closes happened inside it. Undoing is walking that part
of the log, so it costs what changed and not what is watched.

Entries can be *promoted*: the set-up of a session fixture that a test happens
to trigger, or the import of a new module, is logged behind the test's position
but belongs to a wider frame. The narrower frames step over such entries, and
undo around them.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from isolation_core.contamination._imports import ImportWatch
from isolation_core.contamination._ledger import Ledger, identical
from isolation_core.contamination._namespaces import ModuleFacet
from isolation_core.contamination._probe import MISSING, Difference, Probe
from isolation_core.contamination._reloads import merge_reloads
from isolation_core.contamination._slots import Entry, FacetSlot, ProbeSlot, Slot
from isolation_core.contamination._territory import PROBED_MODULES, Territory, foreign_classes_in, imports_of
from isolation_core.contamination._versions import HAS_TAGS, tag_of
from isolation_core.findings import Change
from isolation_core.journal import get_journal

__all__ = ["BASELINE", "Frame", "Tracker", "get_tracker"]

BASELINE: Final = -1
"""The depth of entries that belong to the process itself."""


class Frame:
    """One open barrier, as the tracker sees it.

    Attributes:
        owner: who is responsible for what happens in it.
        scope: word for the width of the frame, such as ``"function"``.
        parent: the frame it is nested in.
        depth: nesting depth; entries promoted to a smaller depth are not ours.
        position: length of the log at entry.
        kinds: the kinds of state it looks at; None: all.
        home: name of the module whose test it is around, if it is around one.
        own_globals: name of the module whose top level opened it: the names that
            block assigns are its own, not contamination.
        restores: whether it puts back what moved.
        hooks_between: whether fixtures are told apart from the hooks that run
            between two frames: then what moved is the hooks' doing, and nobody's fault.
        deliver: takes what changed, when that is known.
    """

    def __init__(
        self,
        owner: str,
        scope: str,
        parent: Frame | None,
        territory: Territory | None,
        *,
        kinds: frozenset[str] | None = None,
        home: str | None = None,
        own_globals: str | None = None,
        restores: bool = True,
        hooks_between: bool = False,
        deliver: Callable[[list[Change]], None],
    ) -> None:
        self.owner = owner
        self.kinds = kinds
        self.home = home
        self.own_globals = own_globals
        self.restores = restores
        self.hooks_between = hooks_between
        self.deliver = deliver
        self.scope = scope
        self.parent = parent
        self.depth = 0 if parent is None else parent.depth + 1
        self.territory = territory
        self.position = 0
        self.open = True
        self.cohort: set[Frame] | None = None
        self.local_state: list[tuple[Probe, Any]] = []
        self.kept_keys: set[tuple[str, Any]] = set()

    def ancestors(self) -> Iterator[Frame]:
        """Yield the frames this one is nested in, innermost first."""
        frame = self.parent
        while frame is not None:
            yield frame
            frame = frame.parent


class _View:
    """What one tracker looks at: the ledger, the probes and their last snapshots."""

    def __init__(self, territory: Territory, probes: Iterable[Probe], *, heap: bool) -> None:
        self.territories = [territory]
        self.heap = heap
        self.given = tuple(probes)
        self.probes = [probe for probe in probes if probe.process_wide]
        self.local_probes = [probe for probe in probes if not probe.process_wide]
        self.snapshots: list[Any] = []
        self.ledger = Ledger(self.includes)
        self.modules: dict[str, Any] = {}
        self._modules_seen: object = None
        # Modules somebody imported by name while we looked.
        self.imported: set[str] = set()

    @property
    def territory(self) -> Territory:
        """The territory of the outermost frame."""
        return self.territories[0]

    def includes(self, name: str) -> bool:
        """Tell whether any frame watches the module called *name* deeply."""
        return any(territory.includes(name) for territory in self.territories)

    def modules_moved(self) -> bool:
        """Tell whether ``sys.modules`` may have changed since the last time it was asked."""
        now: object = bytes(tag_of(sys.modules)) if HAS_TAGS else identical(tuple(sys.modules.values()))
        moved, self._modules_seen = now != self._modules_seen, now
        return moved

    def ask_again(self) -> None:
        """Have `modules_moved` say yes the next time."""
        self._modules_seen = None

    def is_users(self, name: str, module: Any) -> bool:
        """Tell whether a module is somebody's own code: watched, or at least not installed."""
        return self.includes(name) or self.territory.is_users(name, module)

    def widen(self, territory: Territory) -> None:
        """Watch what *territory* includes as well, from now on."""
        if territory not in self.territories:
            self.territories.append(territory)
            self.ledger.forget_anatomy()
            self.modules.clear()
            self._modules_seen = None


class Tracker:
    """Looks at the process at boundaries and undoes what frames leave behind."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._view: _View | None = None
        self._log: list[Entry] = []
        self._open: list[Frame] = []
        self._disabled: set[str] = set()
        self._watch = ImportWatch(self._before_import, self._after_import, self._is_new_module)
        # Whether no frame is open or about to be; see `_on_collection`.
        self._idle = True
        self._listening = False
        self._leaf_modules: frozenset[str] = frozenset()

    # -- frames --------------------------------------------------------------

    def enter(
        self, frame: Frame, *, territory: Territory, probes: tuple[Probe, ...], heap: bool = True, quiet: bool = False
    ) -> None:
        """Open *frame*: what moved until now is not its doing.

        Args:
            frame: the frame, not open yet.
            territory: what it watches deeply.
            probes: what else it watches.
            heap: whether module state is watched.
            quiet: whether nothing but the runner's own code has run since the
                last look: then that look serves as this frame's first.
        """
        with self._lock:
            self._idle = False
            if not self._open:
                self._prepare(territory, probes, heap=heap)
            elif self._view is not None:
                self._view.widen(territory)
                self._watch_more(self._view, probes)
            if quiet and self._open:
                self._look_at_runners_own()
            else:
                self.checkpoint(
                    entering=True, home=frame.home, depth=BASELINE if frame.hooks_between and self._open else None
                )
            # As a rule the frames that are open are exactly those around this one.
            if len(self._open) != frame.depth or (self._open and self._open[-1] is not frame.parent):
                related = {frame, *frame.ancestors()}
                strangers = [other for other in self._open if other not in related]
                if strangers:
                    _join([frame, *strangers])
            frame.position = len(self._log)
            self._open.append(frame)
            view = self._view
            assert view is not None
            for probe in view.local_probes:
                try:
                    frame.local_state.append((probe, probe.capture()))
                except Exception as error:
                    self._disable(probe, error)

    def leave(self, frame: Frame, *, restore: bool, ignored: Callable[[str, str], bool] | None = None) -> None:
        """Close *frame*: log what moved, undo its part, and tell whom it concerns.

        While another frame is open that overlaps with it, only the state of
        its own task is compared. The shared state waits for the last of them,
        and what changed is then delivered to all: they cannot be told apart.
        """
        with self._lock:
            local = self._leave_local(frame, restore=restore, ignored=ignored)
            if local:
                frame.deliver(local)
            frame.open = False
            if frame in self._open:
                self._open.remove(frame)
            members = frame.cohort or (frame,)
            if any(member.open for member in members):
                return
            self.checkpoint(settle=False, home=frame.home)
            position = min(member.position for member in members)
            if len(self._log) == position and self._open:
                return
            owner = " or ".join(sorted({member.owner for member in members}))
            widest = min(members, key=lambda member: member.depth)
            changes = self._undo(widest, position, owner, restore=restore, ignored=ignored)
            if changes:
                for member in members:
                    member.deliver(changes)
            if self._view is not None:
                self._view.ledger.settle()
            if not self._open:
                self._rest()

    def abandon(self, frame: Frame) -> None:
        """Forget *frame* and everything seen so far, after a fault of our own; the next look starts anew."""
        with self._lock:
            frame.open = False
            self._log.clear()
            if frame in self._open:
                self._open.remove(frame)
            for other in self._open:
                other.position = 0
            if self._view is not None:
                self._view = _View(self._view.territory, self._view.given, heap=self._view.heap)
                self._snapshot_probes()
            if not self._open:
                self._rest()

    def _prepare(self, territory: Territory, probes: tuple[Probe, ...], *, heap: bool) -> None:
        """Have a view of the process that fits the outermost frame."""
        view = self._view
        fits = (
            view is not None
            and view.heap == heap
            and view.territory.packages == territory.packages
            and view.territory.root == territory.root
            and view.given == probes
        )
        if not fits:
            self._view = _View(territory, probes, heap=heap)
            self._view.ledger.leaf_modules = self._leaf_modules
            self._snapshot_probes()
        self._log.clear()
        self._watch.install()
        if not self._listening:
            self._listening = True
            gc.callbacks.append(self._on_collection)

    def _watch_more(self, view: _View, probes: tuple[Probe, ...]) -> None:
        """Use probes that were registered after the outermost frame was opened."""
        if len(view.probes) + len(view.local_probes) >= len(probes):
            return
        for probe in probes:
            if probe.process_wide and probe not in view.probes:
                with self._guarded(probe):
                    snapshot = probe.capture()
                    view.probes.append(probe)
                    view.snapshots.append(snapshot)

    def _rest(self) -> None:
        """After the outermost frame: keep the view for the next one, hold nothing else."""
        self._log.clear()
        self._watch.uninstall()
        self._idle = True

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        # A full collection while nothing is open: whoever asks what is still
        # alive must not find our references. The next frame looks anew.
        if phase == "start" and info["generation"] == 2 and self._idle:
            self._view = None
            self._listening = False
            gc.callbacks.remove(self._on_collection)

    # -- looking -------------------------------------------------------------

    def checkpoint(
        self, *, depth: int | None = None, settle: bool = True, entering: bool = False, home: str | None = None
    ) -> None:
        """Log what moved since the last look, and believe what is there now.

        Args:
            depth: depth of the frame the entries are promoted to, `BASELINE`
                for the process; None leaves them to whoever is open.
            settle: whether to watch new children at once.
            entering: whether a frame is being opened.
            home: name of the module whose test the look is for; see `Ledger.scan`.
        """
        view = self._view
        if view is None:
            return
        self._find_modules(view, entering=entering)
        for facet, difference in view.ledger.scan(home):
            if not facet.agrees(difference.before, difference.after):
                self._append(FacetSlot(facet, difference.key), difference, depth)
        snapshots = view.snapshots
        disabled = self._disabled
        for index, probe in enumerate(view.probes):
            if disabled and probe.kind in disabled:
                continue
            # Not `_guarded`: a context manager for each probe costs as much as the probes.
            try:
                last = snapshots[index]
                now = probe.capture()
                if now is not last:
                    if not probe.same(last, now):
                        for difference in probe.diff(last, now):
                            self._append(ProbeSlot(probe, difference.key), difference, depth)
                    snapshots[index] = now
            except Exception as error:
                self._disable(probe, error)
        if settle:
            view.ledger.settle()

    def _look_at_runners_own(self) -> None:
        """Believe what runners change between two tests as a matter of course."""
        view = self._view
        assert view is not None
        for index, probe in enumerate(view.probes):
            if probe.moved_by_runners:
                with self._guarded(probe):
                    view.snapshots[index] = probe.capture()

    def _append(self, slot: Slot, difference: Difference, depth: int | None) -> None:
        if depth == BASELINE and isinstance(slot, ProbeSlot) and slot.probe.tells_imports:
            # That a module is imported is no finding; but if it is taken out
            # again, only both steps together show that nothing has changed.
            depth = None
        self._log.append(Entry.of(slot, difference, depth))

    @contextlib.contextmanager
    def promoting(self, depth: int) -> Iterator[None]:
        """Give everything that moves in the block to the frame at *depth*."""
        with self._lock:
            self.checkpoint()
            local = [(probe, probe.capture()) for probe in (self._view.local_probes if self._view else ())]
        try:
            yield
        finally:
            with self._lock:
                self.checkpoint(depth=depth)
                for probe, before in local:
                    moved = {(probe.kind, difference.key) for difference in probe.diff(before, probe.capture())}
                    for frame in self._open:
                        if frame.depth > depth:
                            frame.kept_keys |= moved

    # The lock is not held while the module runs: the import system has locks of
    # its own, and another thread may hold one of those and wait for ours.

    def _before_import(self) -> None:
        with self._lock:
            if self._open:
                self.checkpoint()

    def _after_import(self, name: str) -> None:
        with self._lock:
            if self._open and self._view is not None:
                self._view.imported.add(name)
                self.checkpoint(depth=BASELINE)

    def _is_new_module(self, name: str) -> bool:
        view = self._view
        return view is not None and bool(self._open) and name not in view.modules

    @contextlib.contextmanager
    def _guarded(self, probe: Probe) -> Iterator[None]:
        """Disable a probe that raises, for the run, and say so once: it must never break a test."""
        try:
            yield
        except Exception as error:
            self._disable(probe, error)

    def _disable(self, probe: Probe, error: Exception) -> None:
        if probe.kind not in self._disabled:
            self._disabled.add(probe.kind)
            get_journal().record("probe-disabled", kind=probe.kind, error=f"{type(error).__name__}: {error}")

    def _snapshot_probes(self) -> None:
        view = self._view
        assert view is not None
        view.snapshots = [None] * len(view.probes)
        for index, probe in enumerate(view.probes):
            with self._guarded(probe):
                view.snapshots[index] = probe.capture()

    def _find_modules(self, view: _View, *, entering: bool) -> None:
        """Watch first-party modules that are new, and what they import.

        Args:
            view: where to watch them.
            entering: whether a frame is being opened. Only then another module
                under a known name takes the place of the one we watch: at the
                end of a frame it is a fake that a test left behind.
        """
        if not view.heap or not view.modules_moved():
            return
        ledger = view.ledger
        known = view.modules
        now = dict(sys.modules)
        fresh = [name for name in now if name not in known]
        replaced = [name for name, module in known.items() if now.get(name) is not module]
        if replaced and not entering:
            view.ask_again()
        elif replaced:
            for name in replaced:
                ledger.drop_root(name)
                del known[name]
                if name in now:
                    fresh.append(name)
        known.update((name, now[name]) for name in fresh)
        modules = [(name, sys.modules.get(name)) for name in fresh]
        theirs = [(n, m) for n, m in modules if isinstance(m, types.ModuleType) and view.is_users(n, m)]
        # The last imported first: a module that defines a thing is imported
        # after the ones that start by importing it.
        for name, module in reversed(theirs):
            if view.includes(name):
                ledger.add_module(name, module)
        wanted = {name for name in view.imported if name in sys.modules}
        view.imported.clear()
        for _, module in theirs:
            wanted |= imports_of(module)
            for label, cls in foreign_classes_in(module, view.is_users):
                ledger.add_foreign_class(label, cls)
        for name in sorted(wanted - PROBED_MODULES):
            imported = sys.modules.get(name)
            if type(imported) is types.ModuleType and not view.is_users(name, imported):
                ledger.add_foreign_module(name, imported)
        ledger.write()

    def set_leaf_modules(self, names: Iterable[str]) -> None:
        """Say which modules hold tests; see `Ledger.leaf_modules`."""
        self._leaf_modules = frozenset(names)
        if self._view is not None:
            self._view.ledger.leaf_modules = self._leaf_modules

    # -- values that no module leads to --------------------------------------

    def watch_value(self, key: object, label: str, value: object) -> None:
        """Watch *value*, as deep as it goes.

        Args:
            key: what to give to `forget_value`.
            label: text of the value in reports.
            value: the object; see `Ledger.add_value`.
        """
        with self._lock:
            if self._view is not None and self._view.heap:
                self._view.ledger.add_value(key, label, value)

    def forget_value(self, key: object) -> None:
        """Let go of the value watched under *key*."""
        with self._lock:
            if self._view is not None:
                gone = self._view.ledger.drop_root(key)
                if gone is not None and self._log:
                    self._log[:] = [entry for entry in self._log if entry.slot.root() is not gone]

    def context_changes(self, before: list[tuple[Probe, Any]], owner: str, scope: str) -> list[Change]:
        """Describe what moved in a copied context since *before*; the copy is its undoing."""
        found = []
        for probe, older in before:
            with self._guarded(probe):
                newer = probe.capture()
                for difference in () if newer is older else probe.diff(older, newer):
                    entry = Entry.of(ProbeSlot(probe, difference.key), difference)
                    entry.restored = True
                    found.append(entry.describe(owner=owner, scope=scope))
        return found

    # -- undoing -------------------------------------------------------------

    def _leave_local(
        self, frame: Frame, *, restore: bool, ignored: Callable[[str, str], bool] | None
    ) -> list[Change]:
        changes: list[Change] = []
        for probe, before in frame.local_state:
            if probe.kind in self._disabled or probe.capture() is before:
                continue
            with self._guarded(probe):
                after = probe.capture()
                if probe.same(before, after):
                    continue
                entries = [
                    Entry.of(ProbeSlot(probe, d.key), d)
                    for d in probe.diff(before, after)
                    if (probe.kind, d.key) not in frame.kept_keys
                ]
                changes += self._apply(entries, frame, frame.owner, restore=restore, ignored=ignored)
                if not restore:
                    told = {(probe.kind, entry.slot.key) for entry in entries}
                    for outer in frame.ancestors():
                        if not outer.restores:
                            outer.kept_keys |= told
        frame.local_state = []
        return changes

    def _undo(
        self,
        frame: Frame,
        position: int,
        owner: str,
        *,
        restore: bool,
        ignored: Callable[[str, str], bool] | None,
    ) -> list[Change]:
        tail = self._log[position:]
        if not tail:
            return []
        net: dict[Slot, Entry] = {}
        promoted: list[Entry] = []
        expected: dict[Slot, Any] = {}
        for entry in tail:
            slot = entry.slot
            if entry.depth is not None and entry.depth < frame.depth:
                promoted.append(entry)
                if slot in net:
                    # Somebody wider wrote over our change: undo around theirs.
                    was = expected[slot]
                    expected[slot] = slot.rebased(was, entry.before, entry.after)
                    entry.before = was
                    net[slot].after = entry.after
                continue
            if slot in net:
                net[slot].after = entry.after
            else:
                net[slot] = Entry(
                    slot, before=entry.before, after=entry.after, severity=entry.severity, depth=None, owner=entry.owner
                )
                expected[slot] = entry.before
        if not restore:
            # A narrower frame that changes nothing has told of these already.
            net = {slot: entry for slot, entry in net.items() if entry.owner is None}
        mine = []
        refilled: set[int] = set()
        for slot, entry in net.items():
            entry.target = expected[slot]
            if not slot.is_silent and not slot.agrees(entry.target, entry.after):
                mine.append(entry)
                if entry.after is MISSING and isinstance(slot, FacetSlot):
                    refilled.add(id(slot.facet))
        # An order of keys has to be put right where keys come back, or where
        # keys that were there all the time changed places.
        mine += [
            entry
            for slot, entry in net.items()
            if slot.is_silent and (id(slot.facet) in refilled or _reordered(entry.target, entry.after))
        ]
        changes = self._apply(mine, frame, owner, restore=restore, ignored=ignored)
        # What a narrower frame could not or did not want to undo stays in the
        # log of the wider one, under the name of who did it.
        left = [entry for entry in mine if not entry.restored and not entry.failed]
        for entry in left:
            entry.owner = entry.owner or owner
        earlier = {entry.slot for entry in self._log[:position]}
        kept = [entry for entry in promoted if entry.depth != BASELINE or entry.slot in earlier]
        self._log[position:] = [*kept, *left] if frame.parent is not None else []
        return changes

    def _apply(
        self,
        entries: list[Entry],
        frame: Frame,
        owner: str,
        *,
        restore: bool,
        ignored: Callable[[str, str], bool] | None,
    ) -> list[Change]:
        """Undo *entries* newest first, verify, and describe them oldest first."""
        entries = [entry for entry in entries if self._concerns(frame, entry, ignored)]
        if restore:
            self._write(entries)
        shown, reloads = merge_reloads(entries, owner, frame.scope)
        return reloads + [
            entry.describe(owner=entry.owner or owner, scope=frame.scope)
            for entry in shown
            if not entry.slot.is_silent or not any(same_holder(entry, other) for other in entries)
        ]

    def _concerns(self, frame: Frame, entry: Entry, ignored: Callable[[str, str], bool] | None) -> bool:
        kind = entry.slot.kind if isinstance(entry.slot, ProbeSlot) else "heap"
        if frame.kinds is not None and kind not in frame.kinds:
            return False
        if frame.own_globals is not None and isinstance(entry.slot, FacetSlot):
            facet = entry.slot.facet
            if isinstance(facet, ModuleFacet) and facet.holder.__name__ == frame.own_globals:
                return False
        packages = None if frame.territory is None else frame.territory.packages
        if packages is not None and isinstance(entry.slot, FacetSlot) and entry.slot.is_first_party:
            root = entry.slot.module()
            if root and not any(root == name or root.startswith(f"{name}.") for name in packages):
                return False
        return ignored is None or not ignored(entry.slot.kind, entry.slot.path())

    def _write(self, entries: list[Entry]) -> None:
        touched_probes: dict[int, Probe] = {}
        facets: dict[int, Any] = {}
        # Patches first: stopping one puts its target back by itself.
        for entry in sorted(reversed(entries), key=lambda entry: entry.slot.turn):
            try:
                entry.slot.write(entry.target)
            except Exception as error:
                entry.fail(f"{type(error).__name__} while restoring: {error}")
            if isinstance(entry.slot, ProbeSlot):
                touched_probes[id(entry.slot.probe)] = entry.slot.probe
            else:
                facets[id(entry.slot.facet)] = entry.slot.facet
        for probe in touched_probes.values():
            with self._guarded(probe):
                probe.finish()
        self._verify(entries, touched_probes, facets)

    def _verify(self, entries: list[Entry], probes: dict[int, Probe], facets: dict[int, Any]) -> None:
        """Look again: what does not have its old value now is unrecoverable."""
        view = self._view
        assert view is not None
        before_facets = {ident: facet.saved for ident, facet in facets.items()}
        view.ledger.reread(facets.values())
        seen: dict[Slot, Any] = {}
        for ident, facet in facets.items():
            for difference in facet.diff(before_facets[ident], facet.saved):
                seen[FacetSlot(facet, difference.key)] = difference.after
        for probe in probes.values():
            with self._guarded(probe):
                now = probe.capture()
                if probe.process_wide:
                    index = view.probes.index(probe)
                    last, view.snapshots[index] = view.snapshots[index], now
                    for difference in probe.diff(last, now):
                        seen[ProbeSlot(probe, difference.key)] = difference.after
                else:
                    for entry in entries:
                        if isinstance(entry.slot, ProbeSlot) and entry.slot.probe is probe:
                            seen[entry.slot] = entry.target
        for entry in entries:
            if entry.failed:
                continue
            value = seen.get(entry.slot, entry.after)
            if entry.slot.is_silent or entry.slot.agrees(value, entry.target):
                entry.restored = True
            else:
                entry.fail("still different after restoring")


_tracker = Tracker()


def get_tracker() -> Tracker:
    """Return the tracker of this process."""
    return _tracker


def same_holder(one: Entry, other: Entry) -> bool:
    """Tell whether *other* is a different slot of the object of *one*."""
    return one is not other and getattr(one.slot, "facet", None) is getattr(other.slot, "facet", None)


def _reordered(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    """Tell whether keys that are in both come in another order."""
    older, newer = {id(key) for key in before}, {id(key) for key in after}
    return [id(key) for key in before if id(key) in newer] != [id(key) for key in after if id(key) in older]


def _join(frames: list[Frame]) -> None:
    """Make *frames*, and whoever overlaps with them already, one cohort."""
    cohort: set[Frame] = set()
    for frame in frames:
        cohort |= frame.cohort or {frame}
    for frame in cohort:
        frame.cohort = cohort

