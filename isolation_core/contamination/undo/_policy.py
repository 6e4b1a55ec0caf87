"""The undo policy: which changes are undone, which are kept, and which belong to their scope.

Without a rule that says otherwise a change is undone and reported. The rules
below name the exceptions. Each looks at all changes that one barrier found,
because a group of changes is undone whole or not at all: a decision for one change
holds for those that belong with it. The first rule that decides a change wins.

Nothing here runs where nothing moved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from isolation_core.contamination.undo._caches import decide_caches
from isolation_core.contamination.undo._capsules import keep_library_work
from isolation_core.contamination.undo._case import Case
from isolation_core.contamination.undo._counters import keep_counters, keep_generators
from isolation_core.contamination.undo._first_use import decide_first_use
from isolation_core.contamination.undo._libraries import ask_profiles
from isolation_core.contamination.undo._scripts import keep_script
from isolation_core.contamination.undo._set_ups import leave_to_scope
from isolation_core.contamination.undo._threads import leave_to_threads

__all__ = ["Rule", "decide"]

Rule = Callable[[Case], None]
"""Sets the decision of some of the undecided changes of a case."""

_RULES: Final[tuple[Rule, ...]] = (
    leave_to_scope,
    keep_script,
    ask_profiles,
    leave_to_threads,
    keep_counters,
    keep_generators,
    keep_library_work,
    decide_first_use,
    decide_caches,
)


def decide(case: Case) -> None:
    """Decide about all changes of *case*; those without a decision are undone and reported."""
    for rule in _RULES:
        if next(case.undecided(), None) is None:
            return
        rule(case)
