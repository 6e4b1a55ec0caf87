"""Undoing: from a part of the log to what has to be written, and whether that helped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination._slot import Slot
from isolation_core.contamination.undo._case import Case
from isolation_core.contamination.undo._decision import Decision
from isolation_core.contamination.undo._entries import Entry
from isolation_core.contamination.undo._policy import decide
from isolation_core.contamination.undo._reloads import merge_reloads
from isolation_core.contamination.undo._savepoint import BASELINE, Frame
from isolation_core.contamination.undo._snapshot import View
from isolation_core.findings import Change

__all__ = ["apply", "undo"]


def undo(
    log: list[Entry],
    view: View,
    frame: Frame,
    position: int,
    *,
    owner: str,
    restore: bool,
    ignored: Callable[[str, str], bool] | None,
    protector: Callable[[Entry, Frame], Frame | None],
) -> list[Change]:
    """Undo what the part of *log* behind *position* says *frame* has done, and describe it.

    Entries of wider frames are skipped, and undone around. Entries that they
    need, and those left of this frame's own, stay in the log. Entries whose undo
    would take the set-up of a live wide fixture back are kept, and belong to the
    frame that *protector* names from then on.
    """
    # Changes of objects that were met inside are undone by the slot that leads to those objects.
    log[position:] = [entry for entry in log[position:] if entry.slot.created_in < frame.number]
    tail = log[position:]
    if not tail:
        return []
    net, promoted = _net_of(tail, frame, restore=restore)
    mine = _moved(net, view)
    protected = [(entry, wider) for entry in mine if restore and (wider := protector(entry, frame)) is not None]
    for entry, wider in protected:
        entry.decision = Decision.kept("fixture", f"a fixture of {wider.owner} has set it up and is in use")
    decide(Case(tuple(entry for entry in mine if _concerns(frame, entry, ignored)), frame, view, tuple(tail)))
    changes = apply(view, mine, frame, owner, restore=restore, ignored=ignored)
    left = _left_of(mine, owner, {id(entry): wider for entry, wider in protected})
    # What the process did matters to a wider frame where one of its own steps came before.
    others = {entry.slot for entry in (*log[:position], *promoted, *left) if entry.depth != BASELINE}
    kept = [entry for entry in (*promoted, *left) if entry.depth != BASELINE or entry.slot in others]
    log[position:] = kept if frame.parent is not None else []
    return changes


def _net_of(tail: list[Entry], frame: Frame, *, restore: bool) -> tuple[dict[Slot, Entry], list[Entry]]:
    """Return what *frame* has done in all, by slot, and the steps of wider frames in between."""
    net: dict[Slot, Entry] = {}
    promoted: list[Entry] = []
    expected: dict[Slot, Any] = {}
    for entry in tail:
        slot = entry.slot
        if entry.depth is not None and entry.depth < frame.depth:
            promoted.append(entry)
            if slot in net:
                # A wider frame wrote over our change: undo around theirs.
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
    for slot, entry in net.items():
        entry.target = expected[slot]
    return net, promoted


def _moved(net: dict[Slot, Entry], view: View) -> list[Entry]:
    """Return the changes that left something behind."""
    mine = []
    refilled: set[int] = set()
    for slot, entry in net.items():
        if view.kept and entry.owner is not None and slot.label() in view.kept:
            continue  # told of already, when a narrower frame left it
        if not slot.is_silent and not slot.agrees(entry.target, entry.after):
            mine.append(entry)
            if entry.after is MISSING:
                refilled.add(id(slot.holder))
    # An order of keys has to be put right where keys come back, or where
    # keys that were there all the time changed places.
    mine += [
        entry
        for slot, entry in net.items()
        if slot.is_silent and (id(slot.holder) in refilled or _reordered(entry.target, entry.after))
    ]
    return mine


def _left_of(mine: list[Entry], owner: str, protected: dict[int, Frame]) -> list[Entry]:
    """Return what is still there of *mine*, as entries for wider frames: each under the name of who did it."""
    left = [entry for entry in mine if not entry.restored and not entry.failed]
    for entry in left:
        wider = protected.get(id(entry))
        if wider is not None:
            entry.depth, entry.owner = wider.depth, None
        elif entry.stays:
            # A kept change is baseline from now on: no wider frame undoes it or reports it again.
            entry.depth = BASELINE
        else:
            entry.owner = entry.owner or owner
    return left


def apply(
    view: View,
    entries: list[Entry],
    frame: Frame,
    owner: str,
    *,
    restore: bool,
    ignored: Callable[[str, str], bool] | None,
) -> list[Change]:
    """Undo *entries* newest first, verify, and describe them oldest first."""
    entries = [entry for entry in entries if _concerns(frame, entry, ignored)]
    if restore:
        _write(
            view, [each for each in entries if not (each.stays or each.restored) and each.slot.label() not in view.kept]
        )
    entries = [entry for entry in entries if entry.decision is None or entry.decision.is_recorded]
    shown, reloads = merge_reloads(entries, owner, frame.scope)
    return reloads + [
        entry.describe(owner=entry.owner or owner, scope=frame.scope)
        for entry in shown
        if not entry.slot.is_silent or not any(_same_holder(entry, other) for other in entries)
    ]


def _concerns(frame: Frame, entry: Entry, ignored: Callable[[str, str], bool] | None) -> bool:
    slot = entry.slot
    if frame.kinds is not None and slot.family not in frame.kinds:
        return False
    if frame.own_globals is not None:
        namespace = slot.namespace()
        if namespace is not None and namespace.get("__name__") == frame.own_globals:
            return False
    if frame.territory is not None and slot.is_first_party:
        root = slot.module()
        if root and not frame.territory.is_asked_for(root):
            return False
    return ignored is None or not ignored(slot.kind, slot.path())


def _write(view: View, entries: list[Entry]) -> None:
    """Write the targets of *entries*; slots without their old value afterwards are unrecoverable."""
    # Newest first within one turn.
    for entry in sorted(reversed(entries), key=lambda entry: entry.slot.turn):  # noqa: C414 - stable
        try:
            entry.slot.write(entry.target)
        except Exception as error:
            entry.fail(f"{type(error).__name__} while restoring: {error}")
    found = view.accept([(entry.slot, entry.target) for entry in entries])
    for entry in entries:
        if entry.failed:
            continue
        value = found[entry.slot] if entry.slot in found else entry.slot.last_read(entry.after)
        if entry.slot.is_silent or entry.slot.agrees(value, entry.target):
            entry.restored = True
        else:
            entry.fail(entry.slot.refusal or "still different after restoring")


def _same_holder(one: Entry, other: Entry) -> bool:
    """Return whether *other* is a different slot of the object of *one*."""
    return one is not other and one.slot.holder is other.slot.holder


def _reordered(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    """Return whether keys that are in both come in another order."""
    older, newer = {id(key) for key in before}, {id(key) for key in after}
    return [id(key) for key in before if id(key) in newer] != [id(key) for key in after if id(key) in older]
