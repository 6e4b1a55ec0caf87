"""The problems of a dependency graph, found all at once and drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from isolation_core._suggest import nearest_few
from isolation_core.errors import GraphProblem

if TYPE_CHECKING:
    from isolation_core.graph import DependencyGraph, Node

__all__ = ["CYCLE", "DUPLICATE", "INVERSION", "MISSING_NAME", "find_problems", "missing_request"]

CYCLE = "ISO001"
MISSING_NAME = "ISO002"
INVERSION = "ISO003"
DUPLICATE = "ISO004"

# A tangle of n nodes can hold exponentially many loops, and fifty are too many to
# read: each loop drawn breaks one edge, so fixing those drawn is progress.
_MAX_CYCLES = 20
# Each search for a similar name looks at every name there is.
_MAX_SUGGESTIONS = 25


def find_problems(graph: DependencyGraph) -> tuple[GraphProblem, ...]:
    """Return every problem of *graph*: by code, then in order of declaration."""
    return (*_cycles(graph), *_missing(graph), *_inversions(graph), *_duplicates(graph))


def missing_request(graph: DependencyGraph, name: str) -> GraphProblem:
    """Return the problem of a request for *name*, which *graph* does not have."""
    lines = [f"{name!r} is requested, but is not defined", *_suggestion(graph, name)]
    return GraphProblem(MISSING_NAME, "\n    ".join(lines), nodes=(name,))


def _edges(graph: DependencyGraph) -> dict[str, list[str]]:
    edges: dict[str, dict[str, None]] = {}
    for node in graph:
        edges.setdefault(node.name, {}).update(dict.fromkeys(each for each in node.dependencies if each in graph))
    return {name: list(needed) for name, needed in edges.items()}


# --- cycles ------------------------------------------------------------------


def _cycles(graph: DependencyGraph) -> Iterator[GraphProblem]:
    edges = _edges(graph)
    found = 0
    for component in _tangles(edges):
        inside = set(component)
        members = sorted(component, key=lambda name: graph[name].index)
        for start in members:
            # One loop through each edge that leads back to the first node of
            # the tangle, then the next node without it: no loop twice.
            while found < _MAX_CYCLES and (loop := _shortest_loop(edges, start, inside)):
                found += 1
                yield _draw_cycle(graph, loop)
                edges[loop[-1]].remove(start)
            inside.discard(start)


def _tangles(edges: dict[str, list[str]]) -> list[list[str]]:
    """Return the strongly connected components that hold a cycle (Tarjan's algorithm, without recursion)."""
    numbers: dict[str, int] = {}
    low: dict[str, int] = {}
    on_path: dict[str, None] = {}
    tangles: list[list[str]] = []
    for root, needed in edges.items():
        if root in numbers:
            continue
        numbers[root] = low[root] = len(numbers)
        on_path[root] = None
        work = [(root, iter(needed))]
        while work:
            name, following = work[-1]
            for each in following:
                if each not in numbers:
                    numbers[each] = low[each] = len(numbers)
                    on_path[each] = None
                    work.append((each, iter(edges[each])))
                    break
                if each in on_path:
                    low[name] = min(low[name], numbers[each])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == numbers[name]:
                    component = []
                    while True:
                        member, _ = on_path.popitem()
                        component.append(member)
                        if member == name:
                            break
                    if len(component) > 1 or name in edges[name]:
                        tangles.append(component)
    return tangles


def _shortest_loop(edges: dict[str, list[str]], start: str, inside: set[str]) -> list[str]:
    """Return the nodes of a shortest loop from *start* back to it, or nothing."""
    came_from: dict[str, str] = {}
    pending = deque([start])
    while pending:
        name = pending.popleft()
        for each in edges[name]:
            if each == start:
                loop = [name]
                while loop[-1] != start:
                    loop.append(came_from[loop[-1]])
                return loop[::-1]
            if each in inside and each not in came_from:
                came_from[each] = name
                pending.append(each)
    return []


def _draw_cycle(graph: DependencyGraph, loop: list[str]) -> GraphProblem:
    if len(loop) == 1:
        return GraphProblem(CYCLE, f"{graph[loop[0]]} depends on itself", nodes=(loop[0],))
    width = max(map(len, loop)) + 2
    lines = [f"{len(loop)} nodes need one another in a circle, so none of them can be first"]
    for place, (name, needed) in enumerate(zip(loop, [*loop[1:], loop[0]], strict=True)):
        corner = "┌─>" if not place else "└──" if place == len(loop) - 1 else "│  "
        lines.append(f"{corner} {name!r:<{width}} needs {needed!r:<{width}}  {graph[name].defined_at}")
    lines.append("take one of these dependencies away, or split the node they meet in")
    return GraphProblem(CYCLE, "\n    ".join(lines), nodes=tuple(loop))


# --- missing names -----------------------------------------------------------


def _missing(graph: DependencyGraph) -> Iterator[GraphProblem]:
    searched = 0
    for node in graph:
        for name in dict.fromkeys(node.dependencies):
            if name in graph or name in graph.external:
                continue
            lines = [f"{name!r} is needed by {node}, but is not defined"]
            chain = _who_asked(graph, node.name)
            if len(chain) > 1:
                lines.append("asked for by: " + " -> ".join([*chain, name]))
            if searched < _MAX_SUGGESTIONS:
                searched += 1
                lines += _suggestion(graph, name)
            yield GraphProblem(MISSING_NAME, "\n    ".join(lines), nodes=(node.name, name))


def _who_asked(graph: DependencyGraph, name: str) -> list[str]:
    """Return a chain of dependents that ends in *name*, each the first one declared."""
    chain = [name]
    while True:
        users = [each for each in graph.dependents(chain[-1]) if each not in chain]
        if not users:
            return chain[::-1]
        chain.append(users[0])


def _suggestion(graph: DependencyGraph, name: str) -> list[str]:
    names = [node.name for node in graph] + sorted(graph.external)
    same_letters = [each for each in names if each.casefold() == name.casefold()]
    # Of two letters that changed places only half is alike.
    cutoff = 0.6 if len(name) > 3 else 0.5
    similar = list(dict.fromkeys([*same_letters, *nearest_few(name, names, cutoff=cutoff)]))[:3]
    if not similar:
        return ["define it, or declare it as provided from outside with external="]
    return [f"did you mean {_introduce(graph, each)}?" for each in similar]


def _introduce(graph: DependencyGraph, name: str) -> str:
    if name not in graph:
        return f"{name!r} (provided from outside)"
    node = graph[name]
    group = "" if node.group == "default" else f"group {node.group!r}, "
    return f"{name!r} ({group}{node.scope} scope, defined at {node.defined_at})"


# --- scopes and duplicates ---------------------------------------------------


def _inversions(graph: DependencyGraph) -> Iterator[GraphProblem]:
    for node in graph:
        for name in dict.fromkeys(node.dependencies):
            if name not in graph or (needed := graph[name]).rank >= node.rank:
                continue
            width = max(len(node.name), len(name))
            wide = max(len(node.scope), len(needed.scope))
            lines = [
                f"{node.name!r} lives for a whole {node.scope} and needs {name!r}, which ends with each {needed.scope}",
                *(f"{each.name:<{width}}  {each.scope:<{wide}}  {each.defined_at}" for each in (node, needed)),
                f"make {name!r} at least as wide as {node.scope}, or {node.name!r} no wider than {needed.scope}",
            ]
            yield GraphProblem(INVERSION, "\n    ".join(lines), nodes=(node.name, name))


def _duplicates(graph: DependencyGraph) -> Iterator[GraphProblem]:
    by_name: dict[str, list[Node]] = {}
    for node in graph:
        by_name.setdefault(node.name, []).append(node)
    for name, nodes in by_name.items():
        if len(nodes) > 1:
            yield GraphProblem(DUPLICATE, "\n    ".join(_describe_duplicates(name, nodes)), nodes=(name,))


def _describe_duplicates(name: str, nodes: Iterable[Node]) -> Iterator[str]:
    sites = [f"{node.defined_at} ({node.scope} scope, group {node.group!r})" for node in nodes]
    yield f"{name!r} is defined {len(sites)} times"
    yield from sites
    yield "rename all but one, or leave the one that is overridden out of the graph"
