"""`DependencyGraph`: nodes and dependencies, checked as a whole, in one total order that can be explained."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import count
from types import MappingProxyType
from typing import Any, Final, Self

from attrs import Factory, field, frozen

from isolation_core._shapes import ASYNC_KINDS, Kind, definition_site, kind_of, parameters_of
from isolation_core.errors import ConfigurationError, GraphError, GraphProblem

__all__ = ["EMPTY_GRAPH", "SCOPE_RANKS", "DependencyGraph", "Node"]

SCOPE_RANKS: Final[Mapping[str, int]] = MappingProxyType(
    {"subtest": 10, "example": 15, "function": 20, "class": 30, "module": 40, "package": 50, "session": 60}
)
"""How wide each scope is: the wider, the larger, with room between for others."""

_declarations = count()


def _rank_of(node: Node) -> int:
    try:
        return SCOPE_RANKS[node.scope]
    except KeyError:
        raise ConfigurationError(
            f"{node.name!r} has the scope {node.scope!r}, which is none of {', '.join(SCOPE_RANKS)}; "
            "give it one of these, or say how wide it is with rank=",
            name="scope",
            value=node.scope,
        ) from None


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(names)


def _pairs(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(pairs)


@frozen(eq=False)
class Node:
    """One thing that is set up before something else and torn down after it.

    Most callers want `Node.of`, which reads the dependencies off the signature.

    Attributes:
        name: unique within a graph.
        factory: makes the value; see *kind* for the shapes it may have.
        dependencies: names of the nodes that are up before this one and until it is down.
        arguments: pairs of parameter and node name, the arguments of the factory.
        kind: how the factory is started; derived from the factory unless given.
        scope: name of the scope, such as ``"function"`` or ``"session"``.
        rank: how wide the scope is; follows from `SCOPE_RANKS` unless given.
        priority: among nodes of one scope the higher is set up first; dependencies always win.
        group: the isolation group it belongs to.
        timeout: budget of the teardown in seconds; None: that of the lifecycle.
        setup_timeout: budget of an asynchronous set-up in seconds; None: no limit.
        concurrent: False keeps every other node still while this one is set up or torn down.
        own_task: True gives an asynchronous node a task of its own also without concurrency, so that
            cancelling the body from outside does not reach what the node runs in its background.
        sees_errors: True throws the exception of the body into the factory at teardown.
        defined_at: ``file:line`` of the factory.
        index: declaration order, the last tie-break.
    """

    name: str
    factory: Callable[..., Any]
    dependencies: tuple[str, ...] = field(default=(), converter=_names, kw_only=True)
    arguments: tuple[tuple[str, str], ...] = field(
        default=Factory(lambda self: tuple((name, name) for name in self.dependencies), takes_self=True),
        converter=_pairs,
        kw_only=True,
    )
    kind: Kind = field(default=Factory(lambda self: kind_of(self.factory), takes_self=True), kw_only=True)
    scope: str = field(default="function", kw_only=True)
    rank: int = field(default=Factory(_rank_of, takes_self=True), kw_only=True)
    priority: int = field(default=0, kw_only=True)
    group: str = field(default="default", kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)
    setup_timeout: float | None = field(default=None, kw_only=True)
    concurrent: bool = field(default=True, kw_only=True)
    own_task: bool = field(default=False, kw_only=True)
    sees_errors: bool = field(default=False, kw_only=True)
    defined_at: str = field(default=Factory(lambda self: definition_site(self.factory), takes_self=True), kw_only=True)
    index: int = field(factory=_declarations.__next__, kw_only=True)

    @classmethod
    def of(
        cls,
        factory: Callable[..., Any],
        *,
        name: str | None = None,
        dependencies: Iterable[str] | None = None,
        **fields: Any,
    ) -> Self:
        """Make a node of a *factory*, running nothing.

        Args:
            factory: a plain, generator, async or async generator function, or a factory of
                (async) context managers.
            name: its name; that of the function unless given.
            dependencies: names of other nodes. Those the factory has a parameter for are passed
                to it, the others are only waited for. None: its parameters without a default.
            fields: any other attribute of `Node`.

        Returns:
            The node.
        """
        parameters = parameters_of(factory)
        wanted = parameters if dependencies is None else tuple(dependencies)
        fields.setdefault("arguments", [(each, each) for each in wanted if each in parameters])
        own_name: str = getattr(factory, "__name__", "") or type(factory).__name__
        return cls(name or own_name, factory, dependencies=wanted, **fields)

    @property
    def is_async(self) -> bool:
        """Whether setting it up needs an event loop."""
        return self.kind in ASYNC_KINDS

    @property
    def key(self) -> tuple[int, int, int]:
        """Sorts nodes that are free to be set up: wide first, then priority, then declaration."""
        return (-self.rank, -self.priority, self.index)

    def __str__(self) -> str:
        return f"{self.name!r} ({self.scope} scope, defined at {self.defined_at})"


class DependencyGraph:
    """Nodes and their dependencies. It never changes and may be shared by any number of lifecycles.

    Making one checks nothing; `validate`, `order` and everything built on them raise
    one `GraphError` holding all problems. The pictures can be drawn of a broken graph too.

    Args:
        nodes: the nodes.
        external: names that are provided from outside, so that nodes may depend on them.

    Attributes:
        nodes: the nodes, in order of declaration.
        external: the names provided from outside.
        is_async: whether any node needs an event loop.
    """

    __slots__ = (
        "_by_name", "_closures", "_dependents", "_order", "_positions", "_problems", "external", "is_async", "nodes",
    )  # fmt: skip

    def __init__(self, nodes: Iterable[Node] = (), *, external: Iterable[str] = ()) -> None:
        # Sorted here, so that a graph made from a set or from several plugins is the same graph.
        self.nodes: tuple[Node, ...] = tuple(sorted(nodes, key=lambda node: (node.index, node.name)))
        self.external: frozenset[str] = frozenset(external)
        self._by_name: dict[str, Node] = {}
        for node in self.nodes:
            self._by_name.setdefault(node.name, node)
        self.is_async: bool = any(node.is_async for node in self.nodes)
        self._problems: tuple[GraphProblem, ...] | None = None
        self._order: tuple[Node, ...] | None = None
        self._positions: dict[str, int] = {}
        self._dependents: dict[str, tuple[str, ...]] | None = None
        self._closures: dict[tuple[str, ...], tuple[Node, ...]] = {}

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    def __repr__(self) -> str:
        return f"<DependencyGraph of {len(self.nodes)} nodes>"

    @property
    def problems(self) -> tuple[GraphProblem, ...]:
        """Everything that is wrong, in a stable order; empty for a graph that can be set up."""
        if self._problems is None:
            from isolation_core._graph_checks import find_problems

            self._problems = find_problems(self)
        return self._problems

    def validate(self) -> Self:
        """Return the graph itself.

        Raises:
            GraphError: holding every problem at once.
        """
        if self._order is None and self.problems:
            raise GraphError(self.problems)
        return self

    @property
    def order(self) -> tuple[Node, ...]:
        """All nodes in order of set-up: dependencies first, then wide scopes, priority, declaration.

        Raises:
            GraphError: if the graph cannot be ordered.
        """
        if self._order is None:
            self.validate()
            self._order = tuple(self._sorted())
            self._positions = {node.name: place for place, node in enumerate(self._order)}
        return self._order

    def _sorted(self) -> Iterator[Node]:
        """Kahn's algorithm over a heap: of all nodes that are free, the one with the least key."""
        by_name = self._by_name
        dependents = self._dependents_by_name()
        waiting = {node.name: len({each for each in node.dependencies if each in by_name}) for node in self.nodes}
        # Keys may be equal when a caller gives indexes of its own; the name settles that.
        free = [(node.key, node.name) for node in self.nodes if not waiting[node.name]]
        heapq.heapify(free)
        while free:
            name = heapq.heappop(free)[1]
            yield by_name[name]
            for dependent in dependents[name]:
                waiting[dependent] -= 1
                if not waiting[dependent]:
                    heapq.heappush(free, (by_name[dependent].key, dependent))

    def _dependents_by_name(self) -> dict[str, tuple[str, ...]]:
        if self._dependents is None:
            collected: dict[str, dict[str, None]] = {name: {} for name in self._by_name}
            for node in self._by_name.values():
                for dependency in node.dependencies:
                    if dependency in collected:
                        collected[dependency][node.name] = None
            self._dependents = {name: tuple(found) for name, found in collected.items()}
        return self._dependents

    def dependents(self, name: str) -> tuple[str, ...]:
        """Return the names of the nodes that depend on *name* directly, in order of declaration."""
        return self._dependents_by_name()[name]

    def position(self, name: str) -> int:
        """Return where *name* comes in `order`, counted from 0."""
        if self._order is None:
            _ = self.order
        return self._positions[name]

    def order_for(self, names: Iterable[str], *, given: Container[str] = ()) -> tuple[Node, ...]:
        """Return *names* and all their dependencies, in order of set-up.

        Two nodes come in the same order here as in `order`, whatever else is asked for.

        Args:
            names: names of nodes.
            given: names that are up already; they and what only they need are left out.

        Raises:
            GraphError: if the graph cannot be ordered, or one of *names* is not in it.
        """
        wanted = tuple(names)
        order = self.order
        if not given and (known := self._closures.get(wanted)) is not None:
            return known
        unknown = [name for name in wanted if name not in self._by_name and name not in given]
        if unknown := [name for name in unknown if name not in self.external]:
            from isolation_core._graph_checks import missing_request

            raise GraphError([missing_request(self, name) for name in dict.fromkeys(unknown)])
        reached: set[str] = set()
        pending = list(wanted)
        while pending:
            name = pending.pop()
            if name in reached or name in given or name not in self._by_name:
                continue
            reached.add(name)
            pending.extend(self._by_name[name].dependencies)
        found = tuple(order[place] for place in sorted(self._positions[name] for name in reached))
        if not given:
            self._closures[wanted] = found
        return found

    def closure(self, name: str) -> frozenset[str]:
        """Return the names of all direct and indirect dependencies of *name*."""
        reached: set[str] = set()
        pending = list(self._by_name[name].dependencies)
        while pending:
            each = pending.pop()
            if each not in reached:
                reached.add(each)
                pending.extend(self._by_name[each].dependencies if each in self._by_name else ())
        return frozenset(reached)

    def explain(self, name: str) -> str:
        """Return text that says why *name* comes where it does in the order of set-up.

        Raises:
            GraphError: if the graph cannot be ordered, or *name* is not in it.
        """
        from isolation_core._graph_render import explain

        self.order_for([name])
        return explain(self, name)

    def to_mermaid(self) -> str:
        """Return the graph as a mermaid flowchart, one box per scope; arrows point at what is needed."""
        from isolation_core._graph_render import mermaid

        return mermaid(self)

    def to_dot(self) -> str:
        """Return the graph in the language of Graphviz; arrows point at what is needed."""
        from isolation_core._graph_render import dot

        return dot(self)

    def to_json(self) -> str:
        """Return the graph as a JSON object: ``schema``, ``order`` (null when broken), ``nodes``, ``problems``."""
        from isolation_core._graph_render import as_json

        return as_json(self)


EMPTY_GRAPH: Final = DependencyGraph()
"""For lifecycles that only keep cleanups."""
