"""Tearing down a part of a lifecycle while the rest stays up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from isolation_core._teardown import Entry, Outcome
from isolation_core.errors import CleanupError

if TYPE_CHECKING:
    from isolation_core.lifecycle import Lifecycle

__all__ = ["atake_down", "take_down"]


def take_down(life: Lifecycle, entries: Iterable[Entry]) -> None:
    """Tear *entries* of *life* down, the newest first; no other active node may depend on them.

    Raises:
        TeardownErrors: if cleanups failed; all of them have run.
        KeyboardInterrupt, SystemExit: one that arrived meanwhile, after all of them have run.
    """
    outcome = Outcome(life.owner, None, life._describe)
    for entry in _newest_first(life, entries):
        life._finish(entry, outcome)
        _forget(life, entry)
    outcome.conclude()


async def atake_down(life: Lifecycle, entries: Iterable[Entry]) -> None:
    """Tear *entries* of *life* down, shielded from cancellation; the asynchronous twin of `take_down`."""
    from isolation_core import _lifecycle_async
    from isolation_core._drive import current_task, request_again

    outcome = Outcome(life.owner, None, life._describe)
    outcome.task = current_task()
    for entry in _newest_first(life, entries):
        if entry.scope is not None and entry is not life._stack[-1]:
            # Its cancel scope lies around those of all that came up later in this task.
            outcome.add(entry, _held(entry))
            continue
        await _lifecycle_async.finish(life, entry, outcome)
        _forget(life, entry)
    if outcome.held_off:
        outcome.cancelled = outcome.held_off[0]
        await request_again(len(outcome.held_off))
    outcome.conclude()


def _newest_first(life: Lifecycle, entries: Iterable[Entry]) -> Iterator[Entry]:
    chosen = {id(entry) for entry in entries}
    for entry in list(reversed(life._stack)):
        if id(entry) in chosen and entry.state == "up":
            yield entry


def _forget(life: Lifecycle, entry: Entry) -> None:
    life._stack.remove(entry)
    if entry.node is not None and life._entries is not None:
        life._entries.pop(entry.name, None)


def _held(entry: Entry) -> CleanupError:
    return CleanupError(
        entry.name,
        f"{entry.name!r} shares its task with what came up after it, and can only go down with the barrier; "
        "give it a scope wider than function, or ask for it with afixture()",
    )
