"""Scripts: the variables of the script that runs are its workbench, not contamination.

A script that opens a barrier collects results in its own variables, inside the
block. Putting those back would empty the list the script is about to print. So
what hangs off ``__main__`` is kept and noted, unless ``__main__`` holds the
tests (``unittest.main()`` in a test file), or is named in ``packages``.
"""

from __future__ import annotations

from isolation_core.contamination.undo._case import Case
from isolation_core.contamination.undo._decision import Decision

__all__ = ["keep_script"]

_REASON = "a variable of the script itself; packages=['__main__'] has it put back"


def keep_script(case: Case) -> None:
    """Keep changes of the script that opened the barrier."""
    if not case.frame.spares_script:
        return
    for entry in case.undecided():
        if entry.slot.module().partition(".")[0] == "__main__":
            entry.decision = Decision.kept("script", _REASON)
