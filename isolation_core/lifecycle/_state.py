"""The state of one lifecycle: the record that its synchronous and its asynchronous half both work on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import Context, copy_context
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from isolation_core._shapes import start
from isolation_core.errors import LifecycleClosedError, SetupError, TeardownTimeout
from isolation_core.graph import DependencyGraph, Node
from isolation_core.lifecycle._bindings import Bindings, changes
from isolation_core.lifecycle._teardown import Entry, Outcome, Run

if TYPE_CHECKING:
    from isolation_core.lifecycle._portal import RemoteLoop

__all__ = ["LifecycleState"]


class LifecycleState:
    """The active nodes, the failed ones, and pending cleanups; see `Lifecycle` for the arguments.

    Attributes:
        phase: whether it can set up, is being torn down, or is over.
        values: the values of the nodes that are set up, by name.
        stack: active nodes and pending cleanups, in the order of set-up.
        entries: the nodes on the stack, by name.
        failed: the exceptions of set-ups, by node name.
        skipped: why nodes were not set up, by name.
        bindings: the context variables that set-ups have changed.
        portal: the event loop of asynchronous nodes in synchronous code.
        body_scope: the cancel scope around the body, of the task `body_task`.
        starting: nodes that tasks of the body are setting up right now.
    """

    __slots__ = (
        "backend", "bindings", "body_scope", "body_task", "entries", "failed", "graph", "inject", "max_concurrency",
        "on_event", "owner", "phase", "portal", "skipped", "stack", "starting", "timeout", "values",
    )  # fmt: skip

    def __init__(
        self,
        graph: DependencyGraph,
        *,
        owner: str,
        timeout: float | None,
        max_concurrency: int,
        on_event: Callable[..., object] | None,
        backend: str,
        inject: Callable[[Node], Mapping[str, Any]] | None,
    ) -> None:
        self.graph = graph
        self.owner = owner
        self.timeout = timeout
        self.max_concurrency = max_concurrency
        self.values: dict[str, Any] = {}
        self.on_event = on_event
        self.backend = backend
        self.inject = inject
        self.phase: Literal["open", "closing", "closed"] = "open"
        self.stack: list[Entry] = []
        # The rest is made when it is needed: most lifecycles never set anything up.
        self.entries: dict[str, Entry] | None = None
        self.failed: dict[str, BaseException] | None = None
        self.skipped: dict[str, str] | None = None
        self.bindings: Bindings | None = None
        self.portal: RemoteLoop | None = None
        self.body_scope: Any = None
        self.body_task: object = None
        self.starting: dict[str, Any] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to clean up."""
        return not self.stack and self.bindings is None and self.portal is None

    # --- reporting -------------------------------------------------------------

    def emit(self, event: str, /, **fields: Any) -> None:
        """Report *event* to the listener."""
        if self.on_event is not None:
            self.on_event(event, **fields)

    def users_of(self, entry: Entry) -> tuple[str, ...]:
        """Return who uses the node of *entry*."""
        dependents = self.graph.dependents(entry.name) if entry.name in self.graph else ()
        up = [name for name in dependents if self.entries is not None and name in self.entries]
        return tuple(dict.fromkeys((*up, *(entry.users or ()))))

    def describe(self, entry: Entry) -> str:
        """Return the note for an error of *entry*."""
        return entry.describe(self.owner, self.users_of(entry) if entry.node is not None else ())

    # --- set-up --------------------------------------------------------------

    def plan(self, names: Iterable[str] | None, provided: Mapping[str, Any] | None) -> list[Node]:
        """Return the nodes to set up now, in order."""
        if self.phase != "open":
            raise LifecycleClosedError(self.owner, "set anything up")
        if provided:
            self.values.update(provided)
        order = self.graph.order if names is None else self.graph.order_for(names, given=self.values)
        nodes = [node for node in order if node.name not in self.values]
        if self.failed:
            for node in nodes:
                if (failure := self.failed.get(node.name)) is not None:
                    # A new exception: raising the old one again would make its traceback grow.
                    raise SetupError(
                        node.name, f"the set-up of {node.name!r} failed before: {type(failure).__name__}: {failure}"
                    ) from failure
        return nodes

    def arguments(self, node: Node) -> dict[str, Any]:
        """Return the keyword arguments for the factory of *node*."""
        values = self.values
        try:
            arguments = {parameter: values[name] for parameter, name in node.arguments}
        except KeyError as error:
            raise SetupError(
                node.name,
                f"{node.name!r} takes {error.args[0]!r}, which was not set up; "
                "make it a dependency, or pass it in provided=",
            ) from None
        if self.inject is not None:
            arguments.update(self.inject(node))
        return arguments

    def start_inline(self, node: Node, context: Context | None = None) -> Entry:
        """Set a synchronous *node* up, here and now."""
        arguments = self.arguments(node)
        if context is None:
            context = copy_context()
        began = perf_counter()
        value, finish = context.run(start, node.kind, node.factory, arguments, node.name)
        entry = Entry(node.name, finish, node.timeout, node=node, context=context)
        self.adopt(entry, value, began)
        return entry

    def adopt(self, entry: Entry, value: Any, began: float) -> None:
        """Take over a node that is up: from here on it is going to be torn down."""
        self.stack.append(entry)
        self.values[entry.name] = value
        if self.entries is None:
            self.entries = {}
        self.entries[entry.name] = entry
        if self.skipped:
            self.skipped.pop(entry.name, None)
        if self.on_event is not None and entry.node is not None:
            self.emit("node_set_up", node=entry.name, scope=entry.node.scope, seconds=entry.since - began)

    def setup_failed(self, node: Node, error: BaseException, began: float, nodes: Iterable[Node]) -> None:
        """Record that *node* failed, and which of *nodes* are skipped therefore."""
        if self.failed is None:
            self.failed = {}
            self.skipped = {}
        assert self.skipped is not None
        self.failed[node.name] = error
        note = f"while setting up {node}{f' for {self.owner}' if self.owner else ''}"
        skipped = []
        for other in nodes:
            if other.name in self.values or other.name in self.failed or other.name in self.skipped:
                continue
            if node.name in self.graph.closure(other.name):
                reason = f"it needs {node.name!r}, whose set-up failed: {type(error).__name__}"
                skipped.append(repr(other.name))
            else:
                reason = f"nothing new was started after the set-up of {node.name!r} failed"
            self.skipped[other.name] = reason
            self.emit("node_skipped", node=other.name, reason=reason)
        error.add_note(f"{note}; skipped, because they need it: {', '.join(skipped)}" if skipped else note)
        self.emit(
            "node_setup_failed",
            node=node.name,
            scope=node.scope,
            seconds=perf_counter() - began,
            error=f"{type(error).__name__}: {error}",
        )

    def bind(self, entry: Entry) -> None:
        """Replay here the context variables that the set-up of *entry* has changed in its own context."""
        assert entry.context is not None
        changed = changes(entry.context)
        if not changed:
            return
        if self.bindings is None:
            self.bindings = Bindings()
        for variable, other in self.bindings.add(entry, changed):
            if other.name not in self.graph.closure(entry.name):
                self.emit("context_conflict", node=entry.name, other=other.name, variable=variable.name)

    # --- teardown ------------------------------------------------------------

    def finished(self, entry: Entry, outcome: Outcome, run: Run) -> None:
        """Account for a teardown that is over, well or not."""
        entry.state = "down"
        if self.bindings is not None:
            self.bindings.undo(entry)
        if entry.node is not None:
            self.values.pop(entry.name, None)
        seconds = perf_counter() - run.began
        late = run.cut_short or seconds > run.budget
        errors: list[BaseException] = list(outcome.errors[run.errors :])
        if late:
            outcome.add(entry, TeardownTimeout(entry.name, run.budget, interrupted=run.cut_short))
        if self.on_event is None:
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
            self.emit(f"{prefix}_timeout", timeout=run.budget, **fields)
        else:
            self.emit(f"{prefix}_failed" if errors else done, **fields)

    def finish_closing(self) -> None:
        """End the lifecycle: nothing is left to clean up."""
        self.phase = "closed"
        self.values.clear()
        self.entries = self.failed = self.bindings = None

    # --- the event loop of synchronous code ------------------------------------

    def open_portal(self) -> RemoteLoop:
        """Return the event loop of asynchronous nodes in synchronous code, started if it was not."""
        if self.portal is None:
            from isolation_core.lifecycle._portal import Portal

            self.portal = Portal(self.backend)
        return self.portal
