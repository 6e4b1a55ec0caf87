"""The barriers a unittest run has open, and the summary at its end."""

from __future__ import annotations

import atexit
import os
from typing import Any, Final

from isolation_core.barrier import Barrier
from isolation_core.runner import RunnerSession

__all__ = ["SESSION", "make_barrier", "print_summary", "print_summary_at_exit"]

SESSION: Final = RunnerSession(runner="unittest", root=os.getcwd(), shared=True)
"""The session of this process. The mixin works in any runner, so begin and end of the run are unknown."""

_OPTIONS: Final = ("mode", "packages", "probes", "ignore", "timeout", "group")
_printing: dict[str, int] = {}


def make_barrier(owner: str, scope: str, holder: object = None) -> Barrier:
    """Return a barrier, set up by the ``isolation_*`` attributes of *holder* or else by the settings."""
    given: dict[str, Any] = {name: getattr(holder, f"isolation_{name}", None) for name in _OPTIONS}
    return SESSION.make(scope, owner, **{name: value for name, value in given.items() if value is not None})


def print_summary_at_exit() -> None:
    """Have the summary printed when the process ends, unless `print_summary` did it."""
    if not _printing:
        _printing["pid"] = os.getpid()
        atexit.register(_print)


def print_summary() -> None:
    """Print the summary to stderr if there is anything to say, once."""
    _printing.setdefault("pid", os.getpid())
    _print()


def _print() -> None:
    # A child that was forked has the summary of its parent in memory.
    if _printing.get("pid") == os.getpid():
        _printing["pid"] = 0
        SESSION.print_summary()
