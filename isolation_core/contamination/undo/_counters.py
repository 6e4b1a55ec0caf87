"""Numbers that count up, and random generators that were used: their old values are not wanted.

A number that was handed out may be the key of a row, the name of a file or the
identity of an object that lives on. Wound back, it is handed out a second time.
So a counter keeps its value. A tally that is not handed out (``calls += 1``) is
state like any other. A generator of random numbers continues after it was used,
and is put back after it was seeded.
"""

from __future__ import annotations

import itertools
import random
import struct
from typing import Any, Final

from isolation_core.contamination._cpython import HAS_TWISTER, twister_of
from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.objects._opaque import CounterState, RandomState
from isolation_core.contamination.objects._slot import ObjectSlot
from isolation_core.contamination.probes._numbers import RandomProbe
from isolation_core.contamination.probes._slot import ProbeSlot
from isolation_core.contamination.undo._case import Case
from isolation_core.contamination.undo._decision import Decision
from isolation_core.contamination.undo._entries import Entry
from isolation_core.contamination.undo._spelling import counts_up, value_in

__all__ = ["is_advanced", "keep_counters", "keep_generators"]

_WORDS: Final = 624
_ROUNDS: Final = 200
"""How often the state of a generator is renewed in search of the new one: 125,000 draws, one millisecond."""


def keep_counters(case: Case) -> None:
    """Keep what counts up and is handed out."""
    for entry in case.undecided():
        slot = entry.slot
        if not isinstance(slot, ObjectSlot):
            continue
        if isinstance(slot.state, CounterState) or (_went_up(entry) and counts_up(slot, case.view.modules.includes)):
            entry.decision = Decision.kept("counter", "a number that was handed out is not handed out again")


def _went_up(entry: Entry) -> bool:
    before, after = value_in(entry.slot, entry.target), value_in(entry.slot, entry.after)
    return type(after) is int and (before is MISSING or (type(before) is int and before < after))


def keep_generators(case: Case) -> None:
    """Keep the state of generators that were drawn from; one that was seeded is put back."""
    for entry in case.undecided():
        slot = entry.slot
        if isinstance(slot, ProbeSlot) and isinstance(slot.probe, RandomProbe):
            used = _is_drawn_from(slot.probe, entry.target, entry.after)
        elif isinstance(slot, ObjectSlot) and isinstance(slot.state, RandomState):
            used = is_advanced(entry.target, entry.after)
        else:
            continue
        if used:
            entry.decision = Decision.kept("generator", "the generator was drawn from, not seeded")


def _is_drawn_from(probe: RandomProbe, before: Any, after: Any) -> bool:
    states = [probe.state_of(value) for value in (before, after)]
    return None not in states and is_advanced(*states)


def is_advanced(before: Any, after: Any) -> bool:
    """Return whether the state *after* of a Mersenne twister is *before* with some numbers drawn.

    Args:
        before: the result of ``getstate()``.
        after: the same, later.
    """
    if type(before) is not tuple or type(after) is not tuple or before[0] != after[0]:
        return False
    old, new = before[1], after[1]
    if old[:_WORDS] == new[:_WORDS]:
        return bool(old[_WORDS] <= new[_WORDS])
    generator = random.Random()  # noqa: S311 - to compare with, not to draw secrets from
    generator.setstate((before[0], old, None))
    # The words are renewed when the last one has been given out: from then on only the position moves.
    generator.getrandbits(32 * (_WORDS - old[_WORDS] + 1))
    wanted = struct.pack(f"{_WORDS}I", *new[:_WORDS])
    for _ in itertools.repeat(None, _ROUNDS):
        if _words_of(generator) == wanted:
            return True
        generator.getrandbits(32 * _WORDS)
    return False


def _words_of(generator: random.Random) -> bytes:
    if HAS_TWISTER:
        return bytes(twister_of(generator))[4:]
    return struct.pack(f"{_WORDS}I", *generator.getstate()[1][:_WORDS])
