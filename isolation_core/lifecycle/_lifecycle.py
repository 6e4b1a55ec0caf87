"""`Lifecycle`: runs a dependency graph, and a plain stack of cleanups just as well."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from isolation_core.errors import ConfigurationError, LifecycleClosedError
from isolation_core.graph import EMPTY_GRAPH, DependencyGraph, Node
from isolation_core.lifecycle import _sync
from isolation_core.lifecycle._state import LifecycleState
from isolation_core.lifecycle._teardown import Entry

if TYPE_CHECKING:
    from isolation_core.lifecycle._portal import RemoteLoop

__all__ = ["Lifecycle", "name_of"]

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

    __slots__ = ("__weakref__", "_state")

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
        self._state = LifecycleState(
            graph,
            owner=owner,
            timeout=timeout,
            max_concurrency=max_concurrency,
            on_event=on_event,
            backend=backend,
            inject=inject,
        )

    def __repr__(self) -> str:
        state = self._state
        return (
            f"<Lifecycle{f' of {state.owner}' if state.owner else ''}, {state.phase}, {len(state.stack)} to clean up>"
        )

    def __del__(self) -> None:
        # A failed __init__ leaves no state.
        state: LifecycleState | None = getattr(self, "_state", None)
        if state is not None and state.stack and state.phase != "closed":
            alive = ", ".join(repr(entry.name) for entry in state.stack)
            warnings.warn(
                f"a lifecycle{f' of {state.owner}' if state.owner else ''} was dropped while still open; "
                f"never cleaned up: {alive}. Tear it down, or open it with a with statement",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    @property
    def graph(self) -> DependencyGraph:
        """What there is."""
        return self._state.graph

    @property
    def owner(self) -> str:
        """For whom it is."""
        return self._state.owner

    @property
    def max_concurrency(self) -> int:
        """How many nodes may run at the same time."""
        return self._state.max_concurrency

    @max_concurrency.setter
    def max_concurrency(self, count: int) -> None:
        self._state.max_concurrency = count

    @property
    def values(self) -> dict[str, Any]:
        """The values of the nodes that are set up, by name."""
        return self._state.values

    @property
    def is_open(self) -> bool:
        """Whether nodes can still be set up."""
        return self._state.phase == "open"

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
        if self._state.phase == "closed":
            raise LifecycleClosedError(self.owner, "register a cleanup")
        self.push(Entry(name or name_of(callback), callback, timeout))
        return callback

    def push(self, entry: Entry) -> None:
        """Finish *entry* at teardown, like `add_cleanup`, for callers that keep a reference to it."""
        self._state.stack.append(entry)

    def drop(self, entry: Entry) -> None:
        """Take back a `push` of *entry*: there is nothing to finish after all."""
        self._state.stack.remove(entry)

    def entry(self, name: str) -> Entry | None:
        """Return the entry of the node *name* if it is set up, for `take_down`."""
        return self._state.entries.get(name) if self._state.entries else None

    def attach(
        self,
        graph: DependencyGraph,
        *,
        on_event: Callable[..., object],
        inject: Callable[[Node], Mapping[str, Any]],
    ) -> None:
        """Run *graph* from now on; for a lifecycle that has kept only cleanups so far."""
        state = self._state
        state.graph, state.on_event, state.inject = graph, on_event, inject

    def record_use(self, name: str, user: str) -> None:
        """Remember that *user* has used the node *name*, for notes and for `active`."""
        entry = self.entry(name)
        if entry is not None:
            if entry.users is None:
                entry.users = []
            if user not in entry.users:
                entry.users.append(user)

    def active(self) -> list[dict[str, Any]]:
        """Return what is up, in order of set-up, as plain data; ages are in seconds."""
        now, state = perf_counter(), self._state
        return [
            {
                "name": entry.name,
                "kind": entry.node.kind,
                "scope": entry.node.scope,
                "group": entry.node.group,
                "state": entry.state,
                "age": now - entry.since,
                "owner": self.owner,
                "users": list(state.users_of(entry)),
                "dependencies": list(entry.node.dependencies),
                "timeout": entry.timeout if entry.timeout is not None else state.timeout,
                "defined_at": entry.node.defined_at,
            }
            for entry in state.stack
            if entry.node is not None
        ]

    def skipped(self) -> dict[str, str]:
        """Return the reason for each node that was not set up because another one failed."""
        return dict(self._state.skipped or {})

    # --- set-up --------------------------------------------------------------

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
            _sync.set_up(self._state, self._state.plan(names, provided))
        except BaseException as error:
            if not late:
                self.tear_down(error)
            raise

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
        if self._state.is_empty:
            self._state.finish_closing()
        elif self._state.phase != "closing":
            _sync.tear_down(self._state, body_error)

    def take_down(self, entries: Iterable[Entry]) -> None:
        """Tear *entries* down, the newest first, while the rest stays; no other active node may depend on them.

        Raises:
            TeardownErrors: if cleanups failed; all of them have run.
            KeyboardInterrupt, SystemExit: one that arrived meanwhile, after all of them have run.
        """
        _sync.take_down(self._state, entries)

    def open_portal(self) -> RemoteLoop:
        """Return the event loop of asynchronous nodes in synchronous code, started if it was not."""
        return self._state.open_portal()

    @property
    def has_portal(self) -> bool:
        """Whether that event loop is there already."""
        return self._state.portal is not None

    def live_on(self, loop: RemoteLoop) -> None:
        """Have asynchronous nodes run on *loop*, which is closed at the end, instead of a portal."""
        self._state.portal = loop

    def bindings(self) -> list[tuple[ContextVar[Any], Any]]:
        """Return the context variables that set-ups have changed, with their values."""
        bindings = self._state.bindings
        return [] if bindings is None else bindings.values()

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
            state = self._state
            nodes = state.plan(names, provided)
            if state.graph.is_async:
                from isolation_core.lifecycle import _async

                await _async.set_up(state, nodes, late=late)
            else:
                # With nothing asynchronous in it, it costs what it costs without a loop.
                _sync.set_up(state, nodes)
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
        state = self._state
        if state.is_empty and state.body_scope is None:
            state.finish_closing()
        elif state.phase != "closing":
            from isolation_core.lifecycle import _async

            await _async.tear_down(state, body_error)

    async def atake_down(self, entries: Iterable[Entry]) -> None:
        """Tear *entries* down, shielded from cancellation; the asynchronous twin of `take_down`."""
        from isolation_core.lifecycle import _async

        await _async.take_down(self._state, entries)


def name_of(callback: Callable[..., object]) -> str:
    """Return the name of *callback* for reports."""
    name = getattr(callback, "__qualname__", None)
    if isinstance(name, str):
        return name
    inner = getattr(callback, "func", None)
    return name_of(inner) if callable(inner) and inner is not callback else type(callback).__qualname__
