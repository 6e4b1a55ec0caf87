"""Wide set-ups: values written by a fixture that outlives a test, and the owner of each snapshot during its set-up.

A wide fixture that is first requested inside a test runs while the test's
frame is open. Everything it does, from its first line to its last, belongs to
the frame of its own scope. Two parts hold that:

`Promotions` knows which set-up (or teardown) is under way. The depth of the
innermost one is the default of every snapshot, whatever caused it: an
import in the middle, a nested request, a hook, another thread. No caller has
to know that it runs inside a set-up.

`LiveSetUps` is a second net that does not rest on the first. It remembers each
step of each slot that moved while a set-up ran. As long as the fixture lives,
no narrower frame may write a value that lacks such a step, whatever the log
says about whose it was. A fixture's teardown relies on what its set-up wrote:
Django's drops the database whose name its set-up had left in the settings.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from isolation_core.contamination._slot import Slot
from isolation_core.contamination.objects._containers import ObjectState
from isolation_core.contamination.objects._slot import ObjectSlot
from isolation_core.contamination.undo._case import Case
from isolation_core.contamination.undo._decision import Decision
from isolation_core.contamination.undo._entries import Entry
from isolation_core.contamination.undo._savepoint import Frame

__all__ = ["LiveSetUps", "Promotion", "Promotions", "leave_to_scope"]


class Promotion:
    """One set-up or teardown under way.

    Attributes:
        frame: the frame of the scope it belongs to.
        since: how many frames had been opened when it began.
        steps: changes while it ran: value before the first step and after the last, by slot.
    """

    __slots__ = ("frame", "since", "steps")

    def __init__(self, frame: Frame, since: int) -> None:
        self.frame = frame
        self.since = since
        self.steps: dict[Slot, tuple[Any, Any]] = {}


class Promotions:
    """The set-ups and teardowns under way, outermost first."""

    def __init__(self) -> None:
        self._under_way: list[Promotion] = []

    def begin(self, frame: Frame, since: int) -> Promotion:
        """Return a new promotion to *frame*, the innermost one from now on."""
        promotion = Promotion(frame, since)
        self._under_way.append(promotion)
        return promotion

    def end(self, promotion: Promotion) -> None:
        """Take *promotion* off; asynchronous ones may end in another order than they began."""
        if promotion in self._under_way:
            self._under_way.remove(promotion)

    def depth(self, innermost: Frame | None) -> int | None:
        """Return the depth that a snapshot belongs to by default, or None: to the open frames.

        Args:
            innermost: the frame opened last. One that was opened inside the set-up owns what
                happens in it, until it is closed.
        """
        if not self._under_way:
            return None
        promotion = self._under_way[-1]
        if innermost is not None and innermost.number > promotion.since:
            return None
        return promotion.frame.depth

    def note(self, slot: Slot, before: Any, after: Any) -> None:
        """Remember that *slot* moved, for every set-up under way."""
        for promotion in self._under_way:
            first = promotion.steps[slot][0] if slot in promotion.steps else before
            promotion.steps[slot] = (first, after)


class LiveSetUps:
    """Values that live wide fixtures wrote in their set-ups."""

    def __init__(self) -> None:
        self._by_holder: dict[Hashable, Promotion] = {}

    def add(self, holder: Hashable, set_up: Promotion) -> None:
        """Protect what *set_up* wrote until `release` is called for *holder*, or its frame is closed."""
        if set_up.steps:
            earlier = self._by_holder.get(holder)
            if earlier is not None:
                set_up.steps = {**earlier.steps, **set_up.steps}
            self._by_holder[holder] = set_up

    def release(self, holder: Hashable) -> None:
        """Protect nothing for *holder* any more: its fixture was torn down."""
        self._by_holder.pop(holder, None)

    def drop_frame(self, frame: Frame) -> None:
        """Protect nothing any more that belongs to *frame*, which is closed."""
        for holder in [each for each, set_up in self._by_holder.items() if set_up.frame is frame]:
            del self._by_holder[holder]

    def clear(self) -> None:
        """Protect nothing any more."""
        self._by_holder.clear()

    def forget_root(self, root: object) -> None:
        """Hold nothing of what was reached from *root*, a value that is not watched any more."""
        for set_up in self._by_holder.values():
            for slot in [each for each in set_up.steps if each.root() is root]:
                del set_up.steps[slot]

    def follow(self, slot: Slot, after: Any) -> None:
        """Take note that a wider owner, such as an import, has given *slot* the value *after*."""
        for set_up in self._by_holder.values():
            if slot in set_up.steps:
                set_up.steps[slot] = (set_up.steps[slot][0], after)

    def protector(self, entry: Entry, frame: Frame) -> Frame | None:
        """Return the frame whose live set-up *entry*'s target would undo, if *frame* is narrower than it."""
        if entry.slot.is_silent:
            return None
        for set_up in self._by_holder.values():
            step = set_up.steps.get(entry.slot)
            if step is not None and frame.depth > set_up.frame.depth and not _has_step(entry.slot, entry.target, *step):
                return set_up.frame
        return None


def leave_to_scope(case: Case) -> None:
    """Leave to a class or module what its own set-up added to it, and what only that leads to."""
    own = case.frame.own
    if own is None:
        return
    for entry in case.undecided():
        if isinstance(entry.slot, ObjectSlot) and _is_below(entry.slot.state, own):
            entry.decision = Decision.of_scope("the set-up of a class or module may add to it what it likes")


def _is_below(state: ObjectState, own: object) -> bool:
    """Return whether *state* belongs to *own*, or to something that nothing but *own* refers to."""
    for _ in range(64):
        node = state.node
        if node.value is own:
            return True
        if node.parent is None or node.label or node.users > 1:
            return False
        state = node.parent
    return False


def _has_step(slot: Slot, value: Any, before: Any, after: Any) -> bool:
    """Return whether *value* contains the step from *before* to *after* of *slot*."""
    if slot.agrees(before, after) or slot.agrees(value, after):
        return True
    if type(value) is not tuple or type(before) is not tuple or type(after) is not tuple:
        return False
    there, older, newer = ({id(item) for item in items} for items in (value, before, after))
    return newer - older <= there and not (older - newer) & there
