"""The barriers a unittest run has open, and the summary at its end."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import Any, Final

from isolation_core._ambient import runner_barriers
from isolation_core._baseline import follow_baseline
from isolation_core.barrier import Barrier
from isolation_core.config import current_settings
from isolation_core.contamination._first_party import absent_packages
from isolation_core.journal import get_journal
from isolation_core.reports import SECTION_HEADER, render_summary

__all__ = ["enter", "leave", "make_barrier", "tell_at_exit", "tell_now"]

# unittest leaves frames of modules with this name out of tracebacks.
__unittest = True

_ROOT: Final = os.getcwd()
_OPTIONS: Final = ("mode", "packages", "probes", "ignore", "timeout")
_telling: dict[str, int] = {}


def make_barrier(owner: str, scope: str, holder: object = None) -> Barrier:
    """Return a barrier, set up by the ``isolation_*`` attributes of *holder* or else by the settings.

    Args:
        owner: who is responsible for what happens inside.
        scope: word for its width.
        holder: the test case, class or module it is around.
    """
    settings = current_settings()
    follow_baseline(settings.baseline)
    options: dict[str, Any] = {name: getattr(settings, name) for name in _OPTIONS}
    for name in _OPTIONS:
        own = getattr(holder, f"isolation_{name}", None)
        if own is not None:
            options[name] = own
    group = getattr(holder, "isolation_group", None) or "default"
    own = holder if scope in ("class", "module") else None
    return Barrier(group, owner=owner, scope=scope, root=_ROOT, own=own, **options)


def enter(barrier: Barrier) -> None:
    """Open *barrier* for code in any context: each async test case runs in one of its own."""
    barrier.__enter__()
    runner_barriers.append(barrier)
    if barrier.mode != "off":
        tell_at_exit()


def leave(barrier: Barrier) -> None:
    """Close *barrier* and whatever narrower one is somehow still open.

    Raises:
        ContaminationError: in mode ``strict``, if it found something.
        TeardownErrors: if cleanups failed.
    """
    while barrier in runner_barriers:
        last = runner_barriers.pop()
        if last is not barrier and last.is_open:
            last.__exit__(None, None, None)
    if barrier.is_open:
        barrier.__exit__(None, None, None)


def tell_at_exit() -> None:
    """Have the summary printed when the process ends, unless `tell_now` did it."""
    if not _telling:
        _telling["pid"] = os.getpid()
        atexit.register(_tell)


def tell_now() -> None:
    """Print the summary to stderr if there is anything to say, once."""
    _telling.setdefault("pid", os.getpid())
    _tell()


def _tell() -> None:
    # A child that was forked has the summary of its parent in memory.
    if _telling.get("pid") == os.getpid():
        _telling["pid"] = 0
        for text in absent_packages(current_settings().packages).values():
            get_journal().record("note", text=text)
        lines = render_summary(get_journal())
        if lines:
            # The stream may be closed and its reader gone; the run is over anyway.
            with suppress(OSError, ValueError):
                sys.stderr.write("\n".join(["", SECTION_HEADER, *lines, ""]))
                sys.stderr.flush()
