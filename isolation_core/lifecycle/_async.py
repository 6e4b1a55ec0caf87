"""The asynchronous half of `Lifecycle`, for asyncio and trio."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from functools import partial
from graphlib import TopologicalSorter
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any

import anyio

from isolation_core._drive import (
    cancelled_here,
    current_task,
    is_native,
    leave,
    request_again,
    run_in,
    run_to_the_end,
    withdraw,
)
from isolation_core._shapes import start_async
from isolation_core.errors import CleanupError, SetupError, SetupTimeout
from isolation_core.lifecycle import _sync
from isolation_core.lifecycle._bindings import replay
from isolation_core.lifecycle._owner import Owner, silent_crash
from isolation_core.lifecycle._state import LifecycleState
from isolation_core.lifecycle._teardown import Entry, Outcome, Run, caused_by

if TYPE_CHECKING:
    from isolation_core.graph import Node

__all__ = ["set_up", "take_down", "tear_down"]


class _Signal:
    """Wakes one waiting task; a signal without a waiting task is not lost."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def give(self, _: object = None) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = anyio.Event()


# --- set-up ------------------------------------------------------------------


async def set_up(state: LifecycleState, nodes: list[Node], *, late: bool) -> None:
    """Do what `Lifecycle.aset_up` says with *nodes*."""
    if late:
        await _set_up_late(state, nodes)
        return
    task = current_task()
    if state.body_scope is None:
        # Around everything, the body too: how a node that fails in the
        # background of a task of its own stops the body.
        scope = anyio.CancelScope()
        scope.__enter__()
        state.body_scope, state.body_task = scope, task
    if state.max_concurrency > 1:
        await _Concurrently(state, nodes).set_up()
        return
    for node in nodes:
        began = perf_counter()
        try:
            if not node.is_async:
                entry = state.start_inline(node)
            elif node.own_task:
                entry = await _start_in_owner(state, node)
            else:
                entry = await _start_here(state, node, task)
        except BaseException as error:
            state.setup_failed(node, error, began, nodes)
            raise
        state.bind(entry)


async def _start_here(state: LifecycleState, node: Node, task: object) -> Entry:
    """Set an asynchronous *node* up in this *task*, which will tear it down too."""
    arguments = state.arguments(node)
    context = copy_context()
    began = perf_counter()
    if node.kind == "async" and node.setup_timeout is None:
        value, finish = await run_in(context, start_async(node.kind, node.factory, arguments, node.name))
        entry = Entry(node.name, finish, node.timeout, node=node, context=context)
        state.adopt(entry, value, began)
        return entry
    # Entered before the set-up and changed for the teardown: see Owner, whose
    # second scope is only needed here for a set-up with a deadline.
    around = None
    if node.setup_timeout is not None:
        around = anyio.CancelScope(deadline=anyio.current_time() + node.setup_timeout)
        around.__enter__()
    scope = anyio.CancelScope()
    scope.__enter__()
    try:
        value, finish = await run_in(context, start_async(node.kind, node.factory, arguments, node.name))
    except BaseException as error:
        remaining = leave(scope, error)
        if around is not None:
            expired = around.cancel_called
            remaining = leave(around, remaining)
            if expired and node.setup_timeout is not None:
                raise SetupTimeout(node.name, node.setup_timeout) from remaining
        if remaining is error or remaining is None:
            raise
        raise remaining from None
    if around is not None:
        around.deadline = inf
    entry = Entry(node.name, finish, node.timeout, node=node, context=context)
    if finish is None:
        leave(scope, None)
        if around is not None:
            leave(around, None)
    else:
        entry.scope = (scope, around)
        entry.task = task
    state.adopt(entry, value, began)
    return entry


async def _set_up_late(state: LifecycleState, nodes: list[Node]) -> None:
    if state.starting is None:
        state.starting = {}
    starting: dict[str, anyio.Event] = state.starting
    for node in nodes:
        # Two tasks of the body may ask for the same node at the same time.
        while (pending := starting.get(node.name)) is not None:
            await pending.wait()
        if node.name in state.values:
            continue
        if state.failed is not None and (failure := state.failed.get(node.name)) is not None:
            raise SetupError(node.name, f"the set-up of {node.name!r} failed before: {failure!r}") from failure
        starting[node.name] = anyio.Event()
        began = perf_counter()
        try:
            if not node.is_async:
                entry = state.start_inline(node)
            elif node.kind == "async":
                # Nothing stays open, so the task of the caller will do.
                entry = await _start_here(state, node, None)
            else:
                entry = await _start_in_owner(state, node)
        except BaseException as error:
            state.setup_failed(node, error, began, nodes)
            if _is_cancellation(error) and state.failed is not None:
                # The requester gave up waiting; the node itself has not failed.
                del state.failed[node.name]
            raise
        finally:
            starting.pop(node.name).set()
        state.bind(entry)


async def _start_in_owner(state: LifecycleState, node: Node) -> Entry:
    began = perf_counter()
    owner = _make_owner(state, node, copy_context(), _ignore)
    try:
        await owner.settled.wait()
    except BaseException:
        owner.cancel_set_up()
        held_off: list[BaseException] = []
        await _shielded(owner.settled.wait(), held_off)
        if owner.up:
            _adopt_owner(state, owner, began)
        await request_again(len(held_off))
        raise
    if owner.failure is not None:
        raise owner.failure
    return _adopt_owner(state, owner, began)


def _ignore(_: Owner) -> None:
    pass


def _make_owner(state: LifecycleState, node: Node, context: Context, notify: Callable[[Owner], None]) -> Owner:
    # The callbacks hold what they need and not the lifecycle: one that is
    # dropped while open has to be collectable to warn about it.
    on_event, body_scope = state.on_event, state.body_scope

    def on_crash(owner: Owner) -> None:
        if on_event is not None:
            on_event("node_crashed", node=owner.node.name, scope=owner.node.scope)
        if body_scope is not None:
            body_scope.cancel()

    owner = Owner(node, state.arguments(node), context, notify=notify, on_crash=on_crash)
    owner.spawn()
    return owner


def _adopt_owner(state: LifecycleState, owner: Owner, began: float) -> Entry:
    entry = Entry(owner.node.name, None, owner.node.timeout, node=owner.node, context=owner.context, owner=owner)
    state.adopt(entry, owner.value, began)
    return entry


class _Concurrently:
    """Sets nodes up as soon as what they need is up, never level by level."""

    def __init__(self, state: LifecycleState, nodes: list[Node]) -> None:
        self.state = state
        self.nodes = nodes
        self.base = copy_context()
        self.signal = _Signal()
        self.flying: dict[str, tuple[Owner, float]] = {}
        self.settled: dict[str, None] = {}
        self.entries: dict[str, Entry] = {}
        self.failures: list[BaseException] = []
        self.places = {node.name: place for place, node in enumerate(nodes)}
        self.sorter = TopologicalSorter(
            {node.name: [name for name in node.dependencies if name in self.places] for node in nodes}
        )
        # Those that are ready, as places in the order of the graph.
        self.ready: list[int] = []

    async def set_up(self) -> None:
        self.sorter.prepare()
        try:
            while True:
                while self._start_next():
                    pass
                if self.failures or not self.flying:
                    break
                await self.signal.wait()
                self._collect()
        except BaseException as error:  # cancelled, or interrupted
            self.failures.insert(0, error)
        if self.failures:
            await self._give_up()
        # In the order of the graph, so that it does not depend on timing which
        # of two nodes that set one variable has the last word.
        for node in self.nodes:
            self.state.bind(self.entries[node.name])

    def _start_next(self) -> bool:
        """Start one node if there is one to start."""
        if self.failures:
            return False
        for name in self.sorter.get_ready():
            heapq.heappush(self.ready, self.places[name])
        if not self.ready or len(self.flying) >= self.state.max_concurrency:
            return False
        node = self.nodes[self.ready[0]]
        if self.flying and not (node.concurrent and all(owner.node.concurrent for owner, _ in self.flying.values())):
            return False
        heapq.heappop(self.ready)
        began = perf_counter()
        try:
            context = self._context_for(node)
            if node.is_async:
                self.flying[node.name] = _make_owner(self.state, node, context, self._note), began
            else:
                # Blocking as it is, it would gain nothing from a task.
                self._done(self.state.start_inline(node, context))
        except BaseException as error:
            self._failed(node, error, began)
        return True

    def _context_for(self, node: Node) -> Context:
        """Return a context with the variables set by what *node* needs, and by nothing else."""
        context = self.base.copy()
        needed = self.state.graph.closure(node.name)
        for other in self.nodes:
            if other.name in needed and (set_there := self.entries[other.name].context) is not None:
                context.run(replay, self.base, set_there)
        return context

    def _note(self, owner: Owner) -> None:
        self.settled[owner.node.name] = None
        self.signal.give()

    def _collect(self) -> None:
        # In the order in which they came up, which their teardown will reverse.
        for name in [name for name in self.settled if name in self.flying]:
            owner, began = self.flying.pop(name)
            if owner.up:
                self._done(_adopt_owner(self.state, owner, began))
            elif owner.failure is not None:
                self._failed(owner.node, owner.failure, began)
            else:
                assert owner.cancelled
                reason = "its set-up was cancelled, because another one failed"
                if self.state.skipped is not None:
                    self.state.skipped[name] = reason
                self.state.emit("node_skipped", node=name, reason=reason)

    def _done(self, entry: Entry) -> None:
        self.entries[entry.name] = entry
        self.sorter.done(entry.name)

    def _failed(self, node: Node, error: BaseException, began: float) -> None:
        self.failures.append(error)
        waiting = [other for other in self.nodes if other.name not in self.flying]
        self.state.setup_failed(node, error, began, waiting)

    async def _give_up(self) -> None:
        for owner, _ in self.flying.values():
            owner.cancel_set_up()
        interruptions: list[BaseException] = []
        while self.flying:
            await _shielded(self.signal.wait(), interruptions)
            self._collect()
        await request_again(len(interruptions))
        failures = [*self.failures, *interruptions[:1]]
        if len(failures) == 1:
            raise failures[0]
        for failure in failures:
            if isinstance(failure, KeyboardInterrupt | SystemExit):
                others = [other for other in failures if other is not failure]
                raise caused_by(failure, BaseExceptionGroup("other set-ups failed too", others))
        raise BaseExceptionGroup(f"{len(failures)} set-ups failed", failures)


# --- teardown ----------------------------------------------------------------


async def tear_down(state: LifecycleState, body_error: BaseException | None) -> None:
    """Do what `Lifecycle.atear_down` says."""
    state.phase = "closing"
    outcome = Outcome(state.owner, body_error, state.describe)
    outcome.task = current_task()
    held_off = outcome.held_off
    # Like those that arrive later, requests that brought us here are taken back
    # for the time of the teardown: see `_drive`.
    requests = withdraw()
    while True:
        try:
            await _drain(state, outcome)
            break
        except BaseException as error:  # an interrupt between two cleanups
            outcome.add(None, error)
    state.finish_closing()
    scope, state.body_scope = state.body_scope, None
    if scope is not None and state.body_task is outcome.task:
        outcome.body_error = leave(scope, outcome.body_error)
    outside = is_native(body_error) or cancelled_here()
    if outcome.crashed and outcome.body_error is not None and not outside:
        # The scope that caused it was inside a node and is gone: no scope above
        # is waiting for this cancellation, and the crash is among the errors.
        outcome.body_error = _without(outcome.body_error, anyio.get_cancelled_exc_class())
    # One that came together with a cancellation by a scope was folded into it.
    if folded := withdraw():
        held_off += [asyncio.CancelledError()] * folded
    if held_off:
        outcome.cancelled = held_off[0]
    # Those of cancel scopes stay withdrawn: a scope does not miss them, and which
    # of them were of scopes that lie within nodes, and are gone, is unknown.
    await request_again((requests if is_native(body_error) else 0) + len(held_off))
    outcome.conclude()


def _without(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.split(kind)[1]
    return None if isinstance(error, kind) else error


async def _shielded(awaitable: Any, interruptions: list[BaseException]) -> None:
    with anyio.CancelScope(shield=True):
        await run_to_the_end(None, awaitable, interruptions)


async def _drain(state: LifecycleState, outcome: Outcome) -> None:
    stack = state.stack
    while stack:
        entry = stack[-1]
        if entry.state == "down":
            stack.pop()
        elif entry.state == "tearing down":
            await _wait_for(state, entry, outcome)
        elif state.max_concurrency == 1 or entry.node is None:
            await _finish(state, entry, outcome)
        else:
            # Everything newer than the newest plain cleanup.
            newest: list[Entry] = []
            for each in reversed(stack):
                if each.node is None or each.state != "up":
                    break
                newest.append(each)
            await _FinishConcurrently(state, newest, outcome).run()
    if state.bindings is not None:
        state.bindings.undo()
    if state.portal is not None:
        portal, state.portal = state.portal, None
        portal.close()


async def _wait_for(state: LifecycleState, entry: Entry, outcome: Outcome) -> None:
    """Wait for a teardown that had begun when something interrupted us."""
    run = outcome.begin(entry, None)
    if entry.owner is not None and not entry.in_portal:
        await _shielded(entry.owner.over.wait(), outcome.held_off)
        run.cut_short = _take_over(entry, outcome)
    state.finished(entry, outcome, run)


async def _finish(state: LifecycleState, entry: Entry, outcome: Outcome) -> None:
    """Tear down one *entry* in this task, or wait for the task that owns it."""
    if entry.in_portal or (entry.owner is None and entry.node is not None and not entry.node.is_async):
        _sync.finish(state, entry, outcome)
        return
    run = outcome.begin(entry, state.timeout)
    seen = outcome.seen_by(entry)
    try:
        if entry.owner is not None:
            entry.owner.release(run.budget, seen)
            await _shielded(entry.owner.over.wait(), outcome.held_off)
            run.cut_short = _take_over(entry, outcome)
        elif entry.scope is not None and entry.task is outcome.task:
            await _finish_here(entry, outcome, run, seen)
        elif entry.node is not None:
            # A runner that opens and closes us in two tasks: good enough for
            # what holds no task group or cancel scope open.
            if entry.finish is not None:
                await _finish_anywhere(entry, entry.finish(seen), outcome, run)
        elif entry.finish is not None:
            awaitable = entry.finish()
            if hasattr(type(awaitable), "__await__"):
                await _finish_anywhere(entry, awaitable, outcome, run)
    except BaseException as error:
        outcome.add(entry, error)
    state.finished(entry, outcome, run)


def _take_over(entry: Entry, outcome: Outcome) -> bool:
    """Account for the end of an owner; return whether it was cut short."""
    owner = entry.owner
    assert owner is not None
    outcome.crashed |= owner.crashed
    if owner.error is not None and not (owner.timed_out and _is_cancellation(owner.error)):
        outcome.add(entry, owner.error)
    return owner.timed_out


def _is_cancellation(error: BaseException) -> bool:
    return isinstance(error, anyio.get_cancelled_exc_class())


async def _finish_anywhere(entry: Entry, awaitable: Any, outcome: Outcome, run: Run) -> None:
    """Await *awaitable*, shielded, in a scope of its own."""
    raised: BaseException | None = None
    scope = anyio.CancelScope(shield=True)
    scope.__enter__()
    try:
        await run_to_the_end(entry.context, awaitable, outcome.held_off, partial(_set_deadline, scope, run.budget))
    except BaseException as error:
        raised = error
    _settle(entry, outcome, run, scope, raised)


async def _finish_here(entry: Entry, outcome: Outcome, run: Run, seen: BaseException | None) -> None:
    """Resume a node of this task inside the scope that was entered before its set-up."""
    scope, around = entry.scope
    assert entry.finish is not None
    assert entry.node is not None
    scope.shield = True
    # Behind the shield only what lies within the node can still be cancelled.
    cancelled_within = outcome.body_error is not None and cancelled_here()
    raised: BaseException | None = None
    try:
        # Most cleanups never wait, and a deadline costs more than they do.
        await run_to_the_end(
            entry.context, entry.finish(seen), outcome.held_off, partial(_set_deadline, scope, run.budget)
        )
    except BaseException as error:
        raised = error
    _settle(entry, outcome, run, scope, raised)
    if around is not None:
        leave(around, None)
    if cancelled_within and not cancelled_here():
        # It began in there: a task in the background of the node has failed,
        # and ended the body. Else it came from further outside and took the
        # background of the node along.
        outcome.crashed = True
        if not run.cut_short and not outcome.has_grown_since(run):
            outcome.add(entry, silent_crash(entry.node))


def _set_deadline(scope: anyio.CancelScope, budget: float) -> None:
    scope.deadline = anyio.current_time() + budget


def _settle(entry: Entry, outcome: Outcome, run: Run, scope: anyio.CancelScope, raised: BaseException | None) -> None:
    remaining = leave(scope, raised)
    run.cut_short = scope.cancel_called
    # With a native cancellation pending, anyio's scopes hand their own on.
    if remaining is not None and not (run.cut_short and _is_cancellation(remaining)):
        outcome.add(entry, remaining)


class _FinishConcurrently:
    """Tears nodes down, each as soon as all that depend on it are down."""

    def __init__(self, state: LifecycleState, entries: Iterable[Entry], outcome: Outcome) -> None:
        self.state = state
        self.outcome = outcome
        self.entries = {entry.name: entry for entry in entries}
        self.signal = _Signal()
        self.flying: dict[str, tuple[Entry, Run]] = {}
        # The newest first among those that are free.
        self.places = {name: place for place, name in enumerate(self.entries)}
        self.names = list(self.entries)
        self.ready: list[int] = []
        self.sorter: TopologicalSorter[str] = TopologicalSorter()
        for entry in self.entries.values():
            self.sorter.add(entry.name)
            for name in entry.node.dependencies if entry.node is not None else ():
                if name in self.entries:
                    self.sorter.add(name, entry.name)

    async def run(self) -> None:
        self.sorter.prepare()
        while self.sorter.is_active():
            for name in self.sorter.get_ready():
                heapq.heappush(self.ready, self.places[name])
            while self._start_next():
                pass
            if self.flying:
                await _shielded(self.signal.wait(), self.outcome.held_off)
                self._collect()

    def _start_next(self) -> bool:
        if not self.ready or len(self.flying) >= self.state.max_concurrency:
            return False
        entry = self.entries[self.names[self.ready[0]]]
        assert entry.node is not None
        alone = not entry.node.concurrent or any(
            other.node is not None and not other.node.concurrent for other, _ in self.flying.values()
        )
        if self.flying and alone:
            return False
        heapq.heappop(self.ready)
        if entry.owner is None or entry.in_portal:
            _sync.finish(self.state, entry, self.outcome)
            self.sorter.done(entry.name)
            return True
        run = self.outcome.begin(entry, self.state.timeout)
        self.flying[entry.name] = entry, run
        entry.owner.listen(self.signal.give)
        entry.owner.release(run.budget, self.outcome.seen_by(entry))
        return True

    def _collect(self) -> None:
        for name, (entry, run) in list(self.flying.items()):
            assert entry.owner is not None
            if not entry.owner.over.is_set():
                continue
            del self.flying[name]
            run.errors, run.interrupts = len(self.outcome.errors), len(self.outcome.interrupts)
            run.cut_short = _take_over(entry, self.outcome)
            self.state.finished(entry, self.outcome, run)
            self.sorter.done(name)


# --- a part of it --------------------------------------------------------------


async def take_down(state: LifecycleState, entries: Iterable[Entry]) -> None:
    """Tear *entries* of *state* down, shielded from cancellation; see `Lifecycle.take_down`."""
    outcome = Outcome(state.owner, None, state.describe)
    outcome.task = current_task()
    for entry in _sync.newest_first(state, entries):
        if entry.scope is not None and entry is not state.stack[-1]:
            # Its cancel scope lies around those of all that came up later in this task.
            outcome.add(entry, _held(entry))
            continue
        await _finish(state, entry, outcome)
        _sync.forget(state, entry)
    if outcome.held_off:
        outcome.cancelled = outcome.held_off[0]
        await request_again(len(outcome.held_off))
    outcome.conclude()


def _held(entry: Entry) -> CleanupError:
    return CleanupError(
        entry.name,
        f"{entry.name!r} shares its task with what came up after it, and can only go down with the barrier; "
        "give it a scope wider than function, or ask for it with afixture()",
    )
