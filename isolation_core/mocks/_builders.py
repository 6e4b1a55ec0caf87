"""Builders: named recipes for mocks that need more than a specification.

A builder gets a `MockRequest` and returns a configured mock; what it returns
is the baseline `reset` goes back to. Builders may depend on others, and come
from code, from the decorator or from the entry point group
``isolation_core.mock_builders``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from attrs import field, frozen

from isolation_core.errors import UnknownMockBuilderError
from isolation_core.graph import DependencyGraph, Node

if TYPE_CHECKING:
    from isolation_core.mocks._registry import MockRegistry

__all__ = ["MockBuilder", "MockRequest", "build", "mock_builder", "mock_builders", "register_mock_builder"]

ENTRY_POINTS: Final = "isolation_core.mock_builders"


@frozen
class MockRequest:
    """The argument of a builder.

    Attributes:
        registry: makes mocks (`MockRegistry.create`) and takes cleanups (`MockRegistry.add_cleanup`).
        name: the name the mock is to have.
        options: keyword arguments of the caller.
        dependencies: the mocks of the builders this one depends on, by name.
    """

    registry: MockRegistry
    name: str
    options: Mapping[str, Any] = field(factory=dict, kw_only=True)
    dependencies: Mapping[str, Any] = field(factory=dict, kw_only=True)

    def mock(self, spec: Any = None, **configure: Any) -> Any:
        """Make a mock in the registry, named as requested."""
        configure.setdefault("name", self.name)
        return self.registry.create(spec, **configure)


MockBuilder = Callable[[MockRequest], Any]
_B = TypeVar("_B", bound=MockBuilder)

_builders: Final[dict[str, Node]] = {}
_lock = threading.RLock()
_loaded: Final[list[str]] = []  # the entry point groups that were read


def register_mock_builder(name: str, builder: MockBuilder, depends_on: Iterable[str] = ()) -> None:
    """Make ``isolated_mock(name)`` call *builder*.

    A later registration under the same name replaces the earlier one.

    Args:
        name: the name to request.
        builder: gets a `MockRequest`, returns a mock.
        depends_on: names of builders whose mocks this one needs. They are made
            before it, at most once in each registry, and shared.
    """
    with _lock:
        _builders[name] = Node(name, builder, dependencies=tuple(depends_on), arguments=())


def mock_builder(name: str, *, depends_on: Iterable[str] = ()) -> Callable[[_B], _B]:
    """Decorate a builder; the same as `register_mock_builder`."""

    def decorate(builder: _B) -> _B:
        register_mock_builder(name, builder, depends_on)
        return builder

    return decorate


def mock_builders() -> tuple[str, ...]:
    """Return the names of all builders, those of installed packages included."""
    _load_entry_points()
    with _lock:
        return tuple(sorted(_builders))


def _load_entry_points() -> None:
    """Register what installed packages offer, once; a builder registered in code wins."""
    with _lock:
        if ENTRY_POINTS in _loaded:
            return
        _loaded.append(ENTRY_POINTS)
        # Imported here: it costs more than all of this package.
        from importlib.metadata import entry_points

        for entry in entry_points(group=ENTRY_POINTS):
            if entry.name not in _builders:
                builder = entry.load()
                register_mock_builder(entry.name, builder, getattr(builder, "depends_on", ()))


def build(name: str, registry: MockRegistry, *, as_name: str | None, options: Mapping[str, Any]) -> Any:
    """Make the mock of the builder *name*, its dependencies first.

    Raises:
        UnknownMockBuilderError: if the builder is unknown.
        GraphError: if dependencies are missing or go round in a circle.
    """
    with _lock:
        if name not in _builders:
            _load_entry_points()
        if name not in _builders:
            raise UnknownMockBuilderError(name, sorted(_builders))
        reached = {name: _builders[name]}
        pending = list(_builders[name].dependencies)
        while pending:
            each = pending.pop()
            if each not in reached and each in _builders:
                reached[each] = _builders[each]
                pending.extend(_builders[each].dependencies)
    made: dict[str, Any] = {}
    # Only what is needed: the broken builder of an unrelated package is no
    # reason to refuse this one.
    for node in DependencyGraph(reached.values()).order:
        needed = {each: made[each] for each in node.dependencies}
        if node.name != name:
            shared = registry.built(node.name)
            made[node.name] = shared if shared is not None else _run(node, registry, node.name, {}, needed)
        else:
            made[name] = _run(node, registry, as_name or name, options, needed)
    return made[name]


def _run(
    node: Node, registry: MockRegistry, as_name: str, options: Mapping[str, Any], needed: Mapping[str, Any]
) -> Any:
    mock = node.factory(MockRequest(registry, as_name, options=options, dependencies=needed))
    registry.keep_built(node.name, registry.adopt(mock), needed)
    return mock
