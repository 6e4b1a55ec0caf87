"""`Lifecycle`: runs a dependency graph up and down, and a plain stack of cleanups just as well.

This module is the synchronous half and what both halves share; it never
touches an event loop by itself. The asynchronous half is
`isolation_core._lifecycle_async`, loaded when something asynchronous is up.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context, ContextVar, copy_context
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from isolation_core._bindings import Bindings, changes
from isolation_core._shapes import Finisher, start
from isolation_core._teardown import Entry, Outcome, Run
from isolation_core.errors import (
    CleanupError,
    ConfigurationError,
    LifecycleClosedError,
    SetupError,
    TeardownTimeout,
)
from isolation_core.graph import EMPTY_GRAPH, DependencyGraph, Node

if TYPE_CHECKING:
    from isolation_core._portal import RemoteLoop

__all__ = ["Lifecycle"]

_C = TypeVar("_C", bound=Callable[[], object])


class Lifecycle:
    """Sets nodes of a graph up, keeps them, and cleans everything up, whatever happens.

    Cleanups and nodes go down one after another, each only after everything that
    came up after it (with ``max_concurrency`` above 1: after everything that
    depends on it). Every one of them runs, also when others failed or timed out,
    when the body was cancelled, and after an interrupt.

    A lifecycle belongs to one thread; it is used once. Making one is cheap.

    Args:
        graph: what there is; it may be shared.
        owner: for whom, such as a test id; part of every note and warning.
        timeout: budget of each cleanup in seconds unless it has one of its own; None: no limit.
        max_concurrency: how many nodes `aset_up` and `atear_down` may run at the same time.
        on_event: called as ``on_event(event, **fields)``, see below; it must not raise.
        backend: the event loop for asynchronous nodes of a synchronous lifecycle.
        inject: called with a node before its set-up, returns further keyword arguments for its factory.

    Attributes:
        values: the values of the nodes that are up, by name.

    Events and their fields, durations in seconds:

    - ``node_set_up``: ``node, scope, seconds``
    - ``node_setup_failed``: ``node, scope, seconds, error``
    - ``node_skipped``: ``node, reason``
    - ``node_crashed``: ``node, scope``; it failed in its background, and the body is cancelled
    - ``context_conflict``: ``node, other, variable``; two independent nodes set one context
      variable to different values, that of *node* holds
    - ``node_torn_down``, ``node_teardown_failed``, ``node_teardown_timeout``: ``node, scope, seconds``,
      ``error`` if there was one, ``timeout`` if that ran out
    - ``cleanup_done``, ``cleanup_failed``, ``cleanup_timeout``: the same with ``cleanup`` for ``node, scope``
    """

    __slots__ = (
        "__weakref__", "_backend", "_bindings", "_body_scope", "_body_task", "_entries", "_failed", "_inject",
        "_on_event", "_portal", "_skipped", "_stack", "_starting", "_state", "graph", "max_concurrency", "owner",
        "timeout", "values",
    )  # fmt: skip

    def __init__(
        self,
        graph: DependencyGraph = EMPTY_GRAPH,
        *,
        owner: str = "",
        timeout: float | None = 10.0,
        max_concurrency: int = 1,
        on_event: Callable[..., object] | None = None,
        backend: str = "asyncio",
        inject: Callable[[Node], Mapping[str, Any]] | None = None,
    ) -> None:
        if max_concurrency < 1:
            raise ConfigurationError(
                f"max_concurrency is {max_concurrency}; 1 means one after another",
                name="max_concurrency",
                value=max_concurrency,
            )
        self.graph = graph
        self.owner = owner
        self.timeout = timeout
        self.max_concurrency = max_concurrency
        self.values: dict[str, Any] = {}
        self._on_event = on_event
        self._backend = backend
        self._inject = inject
        self._state: Literal["open", "closing", "closed"] = "open"
        # What is up and pending, in the order in which it came up.
        self._stack: list[Entry] = []
        # The rest is made when it is needed: most lifecycles never set anything up.
        self._entries: dict[str, Entry] | None = None
        self._failed: dict[str, BaseException] | None = None
        self._skipped: dict[str, str] | None = None
        self._bindings: Bindings | None = None
        self._portal: RemoteLoop | None = None
        self._body_scope: Any = None
        self._body_task: object = None
        self._starting: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Lifecycle{f' of {self.owner}' if self.owner else ''}, {self._state}, {len(self._stack)} to clean up>"

    def __del__(self) -> None:
        # A failed __init__ leaves no stack.
        stack = getattr(self, "_stack", None)
        if stack and self._state != "closed":
            alive = ", ".join(repr(entry.name) for entry in stack)
            warnings.warn(
                f"a lifecycle{f' of {self.owner}' if self.owner else ''} was dropped while still open; "
                f"never cleaned up: {alive}. Tear it down, or open it with a with statement",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    # --- what both halves share ----------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether nodes can still be set up."""
        return self._state == "open"

    def add_cleanup(self, callback: _C, *, name: str | None = None, timeout: float | None = None) -> _C:
        """Run *callback* at teardown: after everything that comes up later, before all that is up now.

        Args:
            callback: takes no arguments; an awaitable result is awaited.
            name: its name in reports; that of the callback unless given.
            timeout: its budget in seconds; None: that of the lifecycle.

        Returns:
            The callback, so that this can be a decorator.

        Raises:
            LifecycleClosedError: if the teardown is over. A cleanup may still register another.
        """
        if self._state == "closed":
            raise LifecycleClosedError(self.owner, "register a cleanup")
        self.push(Entry(name or _name_of(callback), callback, timeout))
        return callback

    def push(self, entry: Entry) -> None:
        """Finish *entry* at teardown, like `add_cleanup`, for callers that keep a reference to it."""
        self._stack.append(entry)

    def attach(
        self,
        graph: DependencyGraph,
        *,
        on_event: Callable[..., object],
        inject: Callable[[Node], Mapping[str, Any]],
    ) -> None:
        """Run *graph* from now on; for a lifecycle that has kept only cleanups so far."""
        self.graph, self._on_event, self._inject = graph, on_event, inject

    def record_use(self, name: str, user: str) -> None:
        """Remember that *user* has used the node *name*, for notes and for `active`."""
        entry = self._entries.get(name) if self._entries else None
        if entry is not None:
            if entry.users is None:
                entry.users = []
            if user not in entry.users:
                entry.users.append(user)

    def active(self) -> list[dict[str, Any]]:
        """Return what is up, in order of set-up, as plain data; ages are in seconds."""
        now = perf_counter()
        return [
            {
                "name": entry.name,
                "kind": entry.node.kind,
                "scope": entry.node.scope,
                "group": entry.node.group,
                "state": entry.state,
                "age": now - entry.since,
                "owner": self.owner,
                "users": list(self._users_of(entry)),
                "dependencies": list(entry.node.dependencies),
                "timeout": entry.timeout if entry.timeout is not None else self.timeout,
                "defined_at": entry.node.defined_at,
            }
            for entry in self._stack
            if entry.node is not None
        ]

    def pending_cleanups(self) -> list[dict[str, Any]]:
        """Return the cleanups still to run, those of nodes too, the next one first; ages are in seconds."""
        now = perf_counter()
        return [
            {
                "name": entry.name,
                "node": entry.node is not None,
                "age": now - entry.since,
                "timeout": entry.timeout if entry.timeout is not None else self.timeout,
            }
            for entry in reversed(self._stack)
            if entry.finish is not None or entry.owner is not None
        ]

    def skipped(self) -> dict[str, str]:
        """Return the reason for each node that was not set up because another one failed."""
        return dict(self._skipped or {})

    def _emit(self, event: str, /, **fields: Any) -> None:
        if self._on_event is not None:
            self._on_event(event, **fields)

    def _users_of(self, entry: Entry) -> tuple[str, ...]:
        dependents = self.graph.dependents(entry.name) if entry.name in self.graph else ()
        up = [name for name in dependents if self._entries is not None and name in self._entries]
        return tuple(dict.fromkeys((*up, *(entry.users or ()))))

    def _describe(self, entry: Entry) -> str:
        return entry.describe(self.owner, self._users_of(entry) if entry.node is not None else ())

    # --- set-up --------------------------------------------------------------

    def _plan(self, names: Iterable[str] | None, provided: Mapping[str, Any] | None) -> list[Node]:
        """Return the nodes to set up now, in order."""
        if self._state != "open":
            raise LifecycleClosedError(self.owner, "set anything up")
        if provided:
            self.values.update(provided)
        order = self.graph.order if names is None else self.graph.order_for(names, given=self.values)
        nodes = [node for node in order if node.name not in self.values]
        if self._failed:
            for node in nodes:
                if (failure := self._failed.get(node.name)) is not None:
                    # A new exception: raising the old one again would make its traceback grow.
                    raise SetupError(
                        node.name, f"the set-up of {node.name!r} failed before: {type(failure).__name__}: {failure}"
                    ) from failure
        return nodes

    def _arguments(self, node: Node) -> dict[str, Any]:
        values = self.values
        try:
            arguments = {parameter: values[name] for parameter, name in node.arguments}
        except KeyError as error:
            raise SetupError(
                node.name,
                f"{node.name!r} takes {error.args[0]!r}, which nobody has set up; "
                "make it a dependency, or pass it in provided=",
            ) from None
        if self._inject is not None:
            arguments.update(self._inject(node))
        return arguments

    def _start_inline(self, node: Node, context: Context | None = None) -> Entry:
        """Set a synchronous *node* up, here and now."""
        arguments = self._arguments(node)
        if context is None:
            context = copy_context()
        began = perf_counter()
        value, finish = context.run(start, node.kind, node.factory, arguments, node.name)
        entry = Entry(node.name, finish, node.timeout, node=node, context=context)
        self._adopt(entry, value, began)
        return entry

    def _adopt(self, entry: Entry, value: Any, began: float) -> None:
        """Take over a node that is up: from here on it is going to be torn down."""
        self._stack.append(entry)
        self.values[entry.name] = value
        if self._entries is None:
            self._entries = {}
        self._entries[entry.name] = entry
        if self._skipped:
            self._skipped.pop(entry.name, None)
        if self._on_event is not None and entry.node is not None:
            self._emit("node_set_up", node=entry.name, scope=entry.node.scope, seconds=entry.since - began)

    def _setup_failed(self, node: Node, error: BaseException, began: float, nodes: Iterable[Node]) -> None:
        """Record that *node* failed, and which of *nodes* are skipped therefore."""
        if self._failed is None:
            self._failed = {}
            self._skipped = {}
        assert self._skipped is not None
        self._failed[node.name] = error
        note = f"while setting up {node}{f' for {self.owner}' if self.owner else ''}"
        skipped = []
        for other in nodes:
            if other.name in self.values or other.name in self._failed or other.name in self._skipped:
                continue
            if node.name in self.graph.closure(other.name):
                reason = f"it needs {node.name!r}, whose set-up failed: {type(error).__name__}"
                skipped.append(repr(other.name))
            else:
                reason = f"nothing new was started after the set-up of {node.name!r} failed"
            self._skipped[other.name] = reason
            self._emit("node_skipped", node=other.name, reason=reason)
        error.add_note(f"{note}; skipped, because they need it: {', '.join(skipped)}" if skipped else note)
        self._emit(
            "node_setup_failed",
            node=node.name,
            scope=node.scope,
            seconds=perf_counter() - began,
            error=f"{type(error).__name__}: {error}",
        )

    def set_up(
        self, names: Iterable[str] | None = None, *, provided: Mapping[str, Any] | None = None, late: bool = False
    ) -> None:
        """Set up *names* and what they need, one after another, without an event loop if that can be.

        Asynchronous nodes each live in a task of their own in a portal, an event loop in
        another thread, which is started for the first one.

        Args:
            names: names of nodes; None: all.
            provided: values of names that are managed elsewhere.
            late: False: a failure tears down all that is up. True: the body asks for these,
                what is up stays so until the body ends.

        Raises:
            GraphError: if the graph has problems; nothing was started then.
            SetupError: if one of the nodes failed earlier.
            BaseException: whatever a set-up raised, with a note naming the node; together with
                `TeardownErrors` in one group if cleanups failed then.
        """
        try:
            nodes = self._plan(names, provided)
            self._start_all(nodes)
        except BaseException as error:
            if not late:
                self.tear_down(error)
            raise

    def _start_all(self, nodes: list[Node]) -> None:
        for node in nodes:
            began = perf_counter()
            try:
                entry = self._start_in_portal(node) if node.is_async else self._start_inline(node)
            except BaseException as error:
                self._setup_failed(node, error, began, nodes)
                raise
            self._bind(entry)

    def _start_in_portal(self, node: Node) -> Entry:
        arguments = self._arguments(node)
        context = copy_context()
        began = perf_counter()
        owner = self.open_portal().set_up(node, arguments, context)
        if owner.failure is not None:
            raise owner.failure
        entry = Entry(node.name, None, node.timeout, node=node, context=context, owner=owner)
        entry.in_portal = True
        self._adopt(entry, owner.value, began)
        return entry

    def _bind(self, entry: Entry) -> None:
        """Replay here the context variables that the set-up of *entry* has changed in its own context."""
        assert entry.context is not None
        changed = changes(entry.context)
        if not changed:
            return
        if self._bindings is None:
            self._bindings = Bindings()
        for variable, other in self._bindings.add(entry, changed):
            if other.name not in self.graph.closure(entry.name):
                self._emit("context_conflict", node=entry.name, other=other.name, variable=variable.name)

    # --- teardown ------------------------------------------------------------

    def tear_down(self, body_error: BaseException | None = None) -> None:
        """Clean everything up, newest first. Calling it again does nothing.

        Cleanups that have to be awaited run in a portal, each within its budget. A blocking
        one cannot be interrupted; it is reported when it took too long.

        Args:
            body_error: the exception of the body, if any; when nothing else went wrong
                it is not raised here, but left to the caller.

        Raises:
            TeardownErrors: if cleanups failed, one leaf for each error.
            BaseExceptionGroup: *body_error* and `TeardownErrors`, in this order.
            KeyboardInterrupt, SystemExit: one that arrived during a cleanup, after all of them
                have run, caused by the others.
        """
        if not self._stack and self._bindings is None and self._portal is None:
            self._finish_closing()
            return
        if self._state == "closing":
            return
        self._state = "closing"
        outcome = Outcome(self.owner, body_error, self._describe)
        while True:
            try:
                self._drain(outcome)
                break
            except BaseException as error:  # an interrupt between two cleanups
                outcome.add(None, error)
        self._finish_closing()
        outcome.conclude()

    def _drain(self, outcome: Outcome) -> None:
        stack = self._stack
        while stack:
            entry = stack[-1]
            # It stays on the stack while it runs, so that an interrupt just
            # before that does not lose it; and it may push others meanwhile.
            if entry.state == "up":
                self._finish(entry, outcome)
            else:
                stack.pop()
        if self._bindings is not None:
            self._bindings.undo()
        if self._portal is not None:
            portal, self._portal = self._portal, None
            portal.close()

    def _finish_closing(self) -> None:
        self._state = "closed"
        self.values.clear()
        self._entries = self._failed = self._bindings = None

    def _finish(self, entry: Entry, outcome: Outcome) -> None:
        """Tear down one *entry*, here and now."""
        run = outcome.begin(entry, self.timeout)
        seen = outcome.seen_by(entry)
        try:
            if entry.owner is not None:
                run.cut_short = self._finish_owner(entry, run.budget, seen, outcome)
            elif entry.node is not None:
                _finish_inline(entry, seen)
            elif entry.finish is not None:
                awaitable = entry.finish()
                if hasattr(type(awaitable), "__await__"):
                    run.cut_short = self._await_in_portal(entry, awaitable, run.budget, outcome)
        except BaseException as error:
            outcome.add(entry, error)
        self._finished(entry, outcome, run)

    def _finished(self, entry: Entry, outcome: Outcome, run: Run) -> None:
        """Account for a teardown that is over, well or not."""
        entry.state = "down"
        if self._bindings is not None:
            self._bindings.undo(entry)
        if entry.node is not None:
            self.values.pop(entry.name, None)
        seconds = perf_counter() - run.began
        late = run.cut_short or seconds > run.budget
        errors: list[BaseException] = list(outcome.errors[run.errors :])
        if late:
            outcome.add(entry, TeardownTimeout(entry.name, run.budget, interrupted=run.cut_short))
        if self._on_event is None:
            return
        errors += outcome.interrupts[run.interrupts :]
        fields: dict[str, Any] = {"seconds": seconds}
        if entry.node is None:
            fields["cleanup"] = entry.name
        else:
            fields["node"], fields["scope"] = entry.name, entry.node.scope
        if errors:
            fields["error"] = "; ".join(f"{type(error).__name__}: {error}" for error in errors)
        prefix, done = ("cleanup", "cleanup_done") if entry.node is None else ("node_teardown", "node_torn_down")
        if late:
            self._emit(f"{prefix}_timeout", timeout=run.budget, **fields)
        else:
            self._emit(f"{prefix}_failed" if errors else done, **fields)

    def _finish_owner(self, entry: Entry, budget: float, seen: BaseException | None, outcome: Outcome) -> bool:
        owner = entry.owner
        assert owner is not None
        if self._portal is None or not entry.in_portal:
            raise _needs_a_loop(entry)
        self._portal.tear_down(owner, budget, seen, lambda error: _note_interrupt(outcome, entry, error))
        if owner.error is not None:
            outcome.add(entry, owner.error)
        return owner.timed_out

    def _await_in_portal(self, entry: Entry, awaitable: Any, budget: float, outcome: Outcome) -> bool:
        portal = self.open_portal()
        error, timed_out = portal.run(awaitable, budget, lambda error: _note_interrupt(outcome, entry, error))
        if error is not None:
            outcome.add(entry, error)
        return timed_out

    def open_portal(self) -> RemoteLoop:
        """Return the event loop of asynchronous nodes in synchronous code, started if it was not."""
        if self._portal is None:
            from isolation_core._portal import Portal

            self._portal = Portal(self._backend)
        return self._portal

    def live_on(self, loop: RemoteLoop) -> None:
        """Have asynchronous nodes run on *loop*, which is closed at the end, instead of a portal."""
        self._portal = loop

    def bindings(self) -> list[tuple[ContextVar[Any], Any]]:
        """Return the context variables that set-ups have changed, with their values."""
        return [] if self._bindings is None else self._bindings.values()

    # --- the asynchronous half -----------------------------------------------

    async def aset_up(
        self, names: Iterable[str] | None = None, *, provided: Mapping[str, Any] | None = None, late: bool = False
    ) -> None:
        """Set up *names* and what they need; the asynchronous twin of `set_up`.

        Without concurrency everything runs in the calling task, which has to be the one that
        tears down. A node that holds a task group open shares cancellation from outside with
        the body then, as code in one task does; ``own_task`` on the node keeps it apart.

        With concurrency a node starts as soon as all it needs is up, each asynchronous one in a
        task of its own; the first failure cancels those in flight.

        Cancelling it cancels the set-up that runs, then tears down what is up, shielded.

        Args:
            names: names of nodes; None: all.
            provided: values of names that are managed elsewhere.
            late: True: the body asks for these, from whatever task and inside whatever cancel
                scopes: nodes that stay open get a task of their own, and a failure leaves the rest active.

        Raises:
            GraphError: if the graph has problems; nothing was started then.
            SetupError: if one of the nodes failed earlier.
            BaseException: whatever a set-up raised, as for `set_up`; if several did at the same
                time, a group of them.
        """
        try:
            nodes = self._plan(names, provided)
            if self.graph.is_async:
                from isolation_core import _lifecycle_async

                await _lifecycle_async.set_up(self, nodes, late=late)
            else:
                # With nothing asynchronous in it, it costs what it costs without a loop.
                self._start_all(nodes)
        except BaseException as error:
            if not late:
                await self.atear_down(error)
            raise

    async def atear_down(self, body_error: BaseException | None = None) -> None:
        """Clean everything up; the asynchronous twin of `tear_down`. Calling it again does nothing.

        It is shielded from cancellation by cancel scopes and by `asyncio.Task.cancel` alike; each
        cleanup is cancelled when its budget runs out. A native cancellation that arrives
        meanwhile is raised again at the end.

        Args:
            body_error: the exception of the body, if any. A cancellation that a node of this
                lifecycle has caused by failing in the background is replaced by that failure.

        Raises:
            TeardownErrors: if cleanups failed, one leaf for each error.
            BaseExceptionGroup: *body_error* and `TeardownErrors`, in this order.
            KeyboardInterrupt, SystemExit: as for `tear_down`.
        """
        if not self._stack and self._bindings is None and self._portal is None and self._body_scope is None:
            self._finish_closing()
            return
        if self._state == "closing":
            return
        from isolation_core import _lifecycle_async

        await _lifecycle_async.tear_down(self, body_error)


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


def _name_of(callback: Callable[..., object]) -> str:
    name = getattr(callback, "__qualname__", None)
    if isinstance(name, str):
        return name
    inner = getattr(callback, "func", None)
    return _name_of(inner) if callable(inner) and inner is not callback else type(callback).__qualname__
