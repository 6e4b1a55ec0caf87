"""Text and pictures of a dependency graph."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isolation_core.graph import DependencyGraph, Node

__all__ = ["as_json", "dot", "explain", "mermaid"]


def explain(graph: DependencyGraph, name: str) -> str:
    """Return why *name* comes where it does; the graph must be valid."""
    node = graph[name]
    order = graph.order
    place = graph.position(name)
    lines = [
        f"{name!r} is set up as number {place + 1} of {len(order)} and torn down after everything that needs it.",
        f"  {node.scope} scope, priority {node.priority}, group {node.group!r}, {node.kind}",
        f"  defined at {node.defined_at}",
    ]
    if node.dependencies:
        lines.append(f"  needs {_places(graph, node.dependencies)}")
    if users := graph.dependents(name):
        lines.append(f"  is needed by {_places(graph, users)}")
    if place:
        lines.append(f"  after {order[place - 1].name!r}, because {_reason(order[place - 1], node)}")
    if place + 1 < len(order):
        lines.append(f"  before {order[place + 1].name!r}, because {_reason(node, order[place + 1])}")
    return "\n".join(lines)


def _places(graph: DependencyGraph, names: Iterable[str]) -> str:
    return ", ".join(
        f"{name!r} (number {graph.position(name) + 1})" if name in graph else f"{name!r} (provided from outside)"
        for name in dict.fromkeys(names)
    )


def _reason(first: Node, second: Node) -> str:
    # Of two neighbours in the order the later one either has the greater key,
    # or only became free when the earlier one was up: nothing else can be.
    if first.name in second.dependencies:
        return f"{second.name!r} needs {first.name!r}, and dependencies always win"
    if first.rank != second.rank:
        return f"{first.scope} scope is wider than {second.scope} scope"
    if first.priority != second.priority:
        return f"priority {first.priority} comes before priority {second.priority}"
    return f"{first.name!r} was declared before {second.name!r}, and nothing else distinguishes them"


def _by_scope(graph: DependencyGraph) -> list[tuple[str, list[tuple[str, Node]]]]:
    """Return the nodes with an identifier each, by scope, the widest first."""
    scopes: dict[tuple[int, str], list[tuple[str, Node]]] = {}
    for number, node in enumerate(graph):
        scopes.setdefault((-node.rank, node.scope), []).append((f"n{number}", node))
    return [(scope, nodes) for (_, scope), nodes in sorted(scopes.items())]


def _edges(graph: DependencyGraph) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Return the edges as pairs of identifiers, and the identifiers of names that have no node."""
    identifiers: dict[str, str] = {}
    for number, node in enumerate(graph):
        identifiers.setdefault(node.name, f"n{number}")
    outside: dict[str, str] = {}
    edges = []
    for number, node in enumerate(graph):
        for name in dict.fromkeys(node.dependencies):
            target = identifiers.get(name) or outside.setdefault(name, f"x{len(outside)}")
            edges.append((f"n{number}", target))
    return edges, outside


def mermaid(graph: DependencyGraph) -> str:
    """Return a mermaid flowchart."""
    edges, outside = _edges(graph)
    lines = ["flowchart TD"]
    for number, (scope, nodes) in enumerate(_by_scope(graph)):
        lines.append(f'    subgraph s{number}["{_entity(scope)}"]')
        lines += [f'        {identifier}["{_entity(node.name)}"]' for identifier, node in nodes]
        lines.append("    end")
    lines += [
        f'    {identifier}(["{_entity(name)} ({"external" if name in graph.external else "missing"})"])'
        for name, identifier in outside.items()
    ]
    lines += [f"    {source} --> {target}" for source, target in edges]
    return "\n".join(lines) + "\n"


def _entity(text: str) -> str:
    """Return *text* for a quoted mermaid label, where only entities are safe."""
    return "".join(
        character if character.isalnum() or character in " _-.:/()" else f"#{ord(character)};" for character in text
    )


def dot(graph: DependencyGraph) -> str:
    """Return a Graphviz digraph."""
    edges, outside = _edges(graph)
    lines = ["digraph dependencies {", "    rankdir=TB;", "    node [shape=box];"]
    for number, (scope, nodes) in enumerate(_by_scope(graph)):
        lines += [f"    subgraph cluster_{number} {{", f"        label={_quoted(scope)};"]
        lines += [
            f"        {identifier} [label={_quoted(node.name)}, tooltip={_quoted(node.defined_at)}];"
            for identifier, node in nodes
        ]
        lines.append("    }")
    lines += [
        f"    {identifier} [label={_quoted(name)}, style={'rounded' if name in graph.external else 'dashed'}];"
        for name, identifier in outside.items()
    ]
    lines += [f"    {source} -> {target};" for source, target in edges]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def as_json(graph: DependencyGraph) -> str:
    """Return a JSON object; see `DependencyGraph.to_json`."""
    problems = graph.problems
    return json.dumps(
        {
            "schema": 1,
            "order": None if problems else [node.name for node in graph.order],
            "external": sorted(graph.external),
            "nodes": [
                {
                    "name": node.name,
                    "kind": node.kind,
                    "scope": node.scope,
                    "rank": node.rank,
                    "priority": node.priority,
                    "group": node.group,
                    "index": node.index,
                    "dependencies": list(node.dependencies),
                    "dependents": list(graph.dependents(node.name)),
                    "timeout": node.timeout,
                    "concurrent": node.concurrent,
                    "defined_at": node.defined_at,
                }
                for node in graph
            ],
            "problems": [
                {"code": problem.code, "message": problem.message, "nodes": list(problem.nodes)} for problem in problems
            ],
        },
        indent=2,
    )
