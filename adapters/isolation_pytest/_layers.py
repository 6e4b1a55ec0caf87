"""One barrier per scope, opened where pytest stands between two scopes' fixtures.

pytest sets the fixtures of a test up widest scope first and tears them down
narrowest first. The barrier of a scope has to open after every wider fixture
and before the first fixture of its own scope, and to close in mirror order.
An autouse fixture per scope would sit there too, but it costs fifty
microseconds a test and shows up in ``request.fixturenames`` and ``--setup-show``;
two public hooks find the same place without being seen: `pytest_fixture_setup`
tells the scope of the fixture that is about to be set up, and a finalizer added
to a node before any fixture of it runs after all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final

import pytest

from isolation_core._ambient import runner_barriers
from isolation_core.barrier import Barrier
from isolation_core.contamination.undo._savepoint import Frame
from isolation_core.contamination.undo._undo_log import get_tracker

__all__ = ["SCOPES", "Layers"]

SCOPES: Final = ("session", "package", "module", "class", "function")
"""Widest first."""

_RANK: Final = {scope: rank for rank, scope in enumerate(SCOPES)}
_KINDS: Final[dict[str, type[pytest.Collector]]] = {
    "package": pytest.Package,
    "module": pytest.Module,
    "class": pytest.Class,
}
_FUNCTION: Final = _RANK["function"]


class _Layer:
    """One open barrier and the node it belongs to."""

    __slots__ = ("barrier", "node", "rank")

    def __init__(self, rank: int, node: pytest.Item | pytest.Collector, barrier: Barrier) -> None:
        self.rank = rank
        self.node = node
        self.barrier = barrier


class Layers:
    """The barriers that are open, widest first.

    Args:
        make: makes the barrier of a scope for a node of the collection tree.
    """

    def __init__(self, make: Callable[[str, Any, pytest.Item], Barrier]) -> None:
        self._make = make
        self._layers: list[_Layer] = []
        # The collector whose wide barriers are known to be open, all of them.
        self._complete_for: object = None

    def top(self, scope: str) -> Barrier | None:
        """Return the open barrier of *scope*, if there is one."""
        return next((layer.barrier for layer in self._layers if layer.rank == _RANK[scope]), None)

    @property
    def innermost(self) -> Barrier | None:
        """The narrowest barrier that is open."""
        return self._layers[-1].barrier if self._layers else None

    def open_until(self, scope: str, item: pytest.Item) -> None:
        """Have the barriers of *scope* and of all wider scopes open around *item*."""
        wanted = _RANK[scope]
        layers = self._layers
        if layers and layers[-1].rank >= wanted and layers[-1].node is _node(SCOPES[layers[-1].rank], item):
            return
        if self._complete_for is not item.parent or layers[-1].rank == _FUNCTION:
            self._drop_stale(item)
            present = {layer.rank for layer in layers}
            for rank in range(min(wanted + 1, _FUNCTION)):
                node = None if rank in present else _node(SCOPES[rank], item)
                if node is not None:
                    self._open(rank, node, item)
        if wanted == _FUNCTION:
            self._complete_for = item.parent
            self._open(_FUNCTION, item, item)

    def _open(self, rank: int, node: Any, item: pytest.Item) -> None:
        barrier = self._make(SCOPES[rank], node, item)
        barrier._open()
        runner_barriers.append(barrier)
        layer = _Layer(rank, node, barrier)
        self._layers.append(layer)
        node.addfinalizer(partial(self.close, layer))

    def _drop_stale(self, item: pytest.Item) -> None:
        """Close barriers whose node is not around *item*: somebody dropped their finalizers."""
        for layer in reversed(self._layers):
            if layer.node is not _node(SCOPES[layer.rank], item):
                self.close(layer)

    def close(self, layer: _Layer) -> None:
        """Leave the barrier of *layer*, and the narrower ones that are somehow still open."""
        __tracebackhide__ = True
        if layer not in self._layers:
            return
        if layer.rank != _FUNCTION:
            self._complete_for = None
        errors: list[BaseException] = []
        while True:
            last = self._layers.pop()
            if last.barrier in runner_barriers:
                runner_barriers.remove(last.barrier)
            try:
                last.barrier.__exit__(None, None, None)
            except BaseException as error:
                errors.append(error)
            if last is layer:
                break
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise BaseExceptionGroup("several isolation barriers failed to close", errors)

    def close_all(self) -> None:
        """Leave every barrier that is still open."""
        if self._layers:
            self.close(self._layers[0])

    @contextmanager
    def setting_up(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest, item: pytest.Item
    ) -> Iterator[None]:
        """Wrap the set-up of a fixture: what a wide one does belongs to the barrier of its scope.

        One that comes late (``request.getfixturevalue`` inside a test, a second test of a class that
        is the first to ask for it) finds narrower barriers open already. Its teardown may come just
        as late, when its parameter changes; so that is wrapped as well.
        """
        scope = fixturedef.scope
        if scope == "package" and request.node is not _node(scope, item):
            # It lives as long as the package its fixture is defined in, or the session where that is none.
            scope = "session"
        rank = _RANK[scope]
        in_order = not self._layers or self._layers[-1].rank <= rank
        if in_order:
            self.open_until(scope, item)
        if rank == _FUNCTION:
            yield
            return
        holder = next((layer for layer in reversed(self._layers) if layer.rank <= rank), None)
        frame = None if holder is None else holder.barrier._frame
        if frame is None:
            yield
            return
        tearing_down = ExitStack()
        # Finalizers run newest first: what is added before the set-up runs after the teardown.
        fixturedef.addfinalizer(tearing_down.close)
        try:
            with get_tracker().promoting(frame, holder=fixturedef, hooks=in_order):
                yield
        finally:
            fixturedef.addfinalizer(partial(_begin_teardown, tearing_down, frame, fixturedef))


def _begin_teardown(tearing_down: ExitStack, frame: Frame, fixturedef: pytest.FixtureDef[Any]) -> None:
    if frame.open:
        get_tracker().release(fixturedef)
        tearing_down.enter_context(get_tracker().promoting(frame))


def _node(scope: str, item: pytest.Item) -> pytest.Item | pytest.Collector | None:
    """Return the node that fixtures of *scope* belong to when *item* requests them."""
    if scope == "function":
        return item
    if scope == "session":
        return item.session
    return item.getparent(_KINDS[scope])
