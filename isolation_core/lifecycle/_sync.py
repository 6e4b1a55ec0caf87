"""The synchronous half of `Lifecycle`: it never touches an event loop by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextvars import copy_context
from time import perf_counter
from typing import Any

from isolation_core._shapes import Finisher
from isolation_core.errors import CleanupError
from isolation_core.graph import Node
from isolation_core.lifecycle._state import LifecycleState
from isolation_core.lifecycle._teardown import Entry, Outcome

__all__ = ["finish", "forget", "newest_first", "set_up", "take_down", "tear_down"]


def set_up(state: LifecycleState, nodes: list[Node]) -> None:
    """Set *nodes* up one after another; asynchronous ones in a portal."""
    for node in nodes:
        began = perf_counter()
        try:
            entry = _start_in_portal(state, node) if node.is_async else state.start_inline(node)
        except BaseException as error:
            state.setup_failed(node, error, began, nodes)
            raise
        state.bind(entry)


def _start_in_portal(state: LifecycleState, node: Node) -> Entry:
    arguments = state.arguments(node)
    context = copy_context()
    began = perf_counter()
    owner = state.open_portal().set_up(node, arguments, context)
    if owner.failure is not None:
        raise owner.failure
    entry = Entry(node.name, None, node.timeout, node=node, context=context, owner=owner)
    entry.in_portal = True
    state.adopt(entry, owner.value, began)
    return entry


def tear_down(state: LifecycleState, body_error: BaseException | None) -> None:
    """Do what `Lifecycle.tear_down` says."""
    if state.phase == "closing":
        return
    state.phase = "closing"
    outcome = Outcome(state.owner, body_error, state.describe)
    while True:
        try:
            _drain(state, outcome)
            break
        except BaseException as error:  # an interrupt between two cleanups
            outcome.add(None, error)
    state.finish_closing()
    outcome.conclude()


def _drain(state: LifecycleState, outcome: Outcome) -> None:
    stack = state.stack
    while stack:
        entry = stack[-1]
        # It stays on the stack while it runs, so that an interrupt just
        # before that does not lose it; and it may push others meanwhile.
        if entry.state == "up":
            finish(state, entry, outcome)
        else:
            stack.pop()
    if state.bindings is not None:
        state.bindings.undo()
    if state.portal is not None:
        portal, state.portal = state.portal, None
        portal.close()


def finish(state: LifecycleState, entry: Entry, outcome: Outcome) -> None:
    """Tear down one *entry*, here and now."""
    run = outcome.begin(entry, state.timeout)
    seen = outcome.seen_by(entry)
    try:
        if entry.owner is not None:
            run.cut_short = _finish_owner(state, entry, run.budget, seen, outcome)
        elif entry.node is not None:
            _finish_inline(entry, seen)
        elif entry.finish is not None:
            awaitable = entry.finish()
            if hasattr(type(awaitable), "__await__"):
                run.cut_short = _await_in_portal(state, entry, awaitable, run.budget, outcome)
    except BaseException as error:
        outcome.add(entry, error)
    state.finished(entry, outcome, run)


def _finish_owner(
    state: LifecycleState, entry: Entry, budget: float, seen: BaseException | None, outcome: Outcome
) -> bool:
    owner = entry.owner
    assert owner is not None
    if state.portal is None or not entry.in_portal:
        raise _needs_a_loop(entry)
    state.portal.tear_down(owner, budget, seen, lambda error: _note_interrupt(outcome, entry, error))
    if owner.error is not None:
        outcome.add(entry, owner.error)
    return owner.timed_out


def _await_in_portal(state: LifecycleState, entry: Entry, awaitable: Any, budget: float, outcome: Outcome) -> bool:
    portal = state.open_portal()
    error, timed_out = portal.run(awaitable, budget, lambda error: _note_interrupt(outcome, entry, error))
    if error is not None:
        outcome.add(entry, error)
    return timed_out


def _finish_inline(entry: Entry, seen: BaseException | None) -> None:
    finish: Finisher | None = entry.finish
    if entry.scope is not None:
        raise _needs_a_loop(entry)
    if finish is not None:
        assert entry.context is not None
        entry.context.run(finish, seen)


def _needs_a_loop(entry: Entry) -> CleanupError:
    return CleanupError(
        entry.name,
        f"{entry.name!r} was set up in an event loop and can only be torn down there; "
        "leave the barrier with `async with`, or await atear_down()",
    )


def _note_interrupt(outcome: Outcome, entry: Entry, error: BaseException) -> bool:
    outcome.add(entry, error)
    return len(outcome.interrupts) > 1


def take_down(state: LifecycleState, entries: Iterable[Entry]) -> None:
    """Tear *entries* of *state* down, the newest first; no other active node may depend on them.

    Raises:
        TeardownErrors: if cleanups failed; all of them have run.
        KeyboardInterrupt, SystemExit: one that arrived meanwhile, after all of them have run.
    """
    outcome = Outcome(state.owner, None, state.describe)
    for entry in newest_first(state, entries):
        finish(state, entry, outcome)
        forget(state, entry)
    outcome.conclude()


def newest_first(state: LifecycleState, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield those of *entries* that are set up, the newest first."""
    chosen = {id(entry) for entry in entries}
    for entry in list(reversed(state.stack)):
        if id(entry) in chosen and entry.state == "up":
            yield entry


def forget(state: LifecycleState, entry: Entry) -> None:
    """Take *entry*, which is torn down, off the stack."""
    state.stack.remove(entry)
    if entry.node is not None and state.entries is not None:
        state.entries.pop(entry.name, None)
