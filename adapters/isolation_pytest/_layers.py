"""One barrier per scope, opened between the fixtures of the wider scope and those of its own.

pytest sets the fixtures of a test up widest scope first and tears them down
narrowest first. The barrier of a scope has to open after every wider fixture
and before the first fixture of its own scope, and to close in mirror order.
An autouse fixture per scope would sit there too, but it costs fifty
microseconds a test and shows up in ``request.fixturenames`` and ``--setup-show``;
two public hooks find the same place without being visible: `pytest_fixture_setup`
receives the scope of the fixture that is about to be set up, and a finalizer added
to a node before any fixture of it runs after all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any, Final

import pytest

from isolation_core.barrier import Barrier
from isolation_core.runner import RunnerSession

__all__ = ["SCOPES", "Layers"]

SCOPES: Final = ("session", "package", "module", "class", "function")
"""Widest first."""

_RANK: Final = {scope: rank for rank, scope in enumerate((*SCOPES, "example"))}
_KINDS: Final[dict[str, type[pytest.Collector]]] = {
    "package": pytest.Package,
    "module": pytest.Module,
    "class": pytest.Class,
}
_FUNCTION: Final = _RANK["function"]


class Layers:
    """The barriers that are open, widest first, and the nodes they belong to.

    Args:
        session: opens and closes them.
        open_barrier: opens the barrier of a scope for a node of the collection tree.
    """

    def __init__(self, session: RunnerSession, open_barrier: Callable[[str, Any, pytest.Item], Barrier]) -> None:
        self._session = session
        self._open_barrier = open_barrier
        self._nodes: dict[Barrier, pytest.Item | pytest.Collector] = {}
        # The collector whose wide barriers are known to be open, all of them.
        self._complete_for: object = None

    def open_until(self, scope: str, item: pytest.Item) -> None:
        """Have the barriers of *scope* and of all wider scopes open around *item*."""
        wanted = _RANK[scope]
        last = self._session.innermost
        if last is not None and _RANK[last.scope] >= wanted and self._nodes.get(last) is _node(last.scope, item):
            return
        if self._complete_for is not item.parent or last is None or _RANK[last.scope] >= _FUNCTION:
            self._drop_stale(item)
            present = {barrier.scope for barrier in self._session.barriers}
            for wider in SCOPES[: min(wanted + 1, _FUNCTION)]:
                node = None if wider in present else _node(wider, item)
                if node is not None:
                    self._open(wider, node, item)
        if wanted == _FUNCTION:
            self._complete_for = item.parent
            self._open("function", item, item)

    def _open(self, scope: str, node: Any, item: pytest.Item) -> None:
        barrier = self._open_barrier(scope, node, item)
        self._nodes[barrier] = node
        node.addfinalizer(partial(self.close, barrier))

    def _drop_stale(self, item: pytest.Item) -> None:
        """Close barriers whose node is not around *item*: another plugin dropped their finalizers."""
        for barrier in reversed(self._session.barriers):
            if self._nodes.get(barrier) is not _node(barrier.scope, item):
                self.close(barrier)

    def close(self, barrier: Barrier) -> None:
        """Leave *barrier*, and the narrower ones that are somehow still open."""
        __tracebackhide__ = True
        if barrier.scope != "function":
            self._complete_for = None
        try:
            self._session.close(barrier)
        finally:
            self._nodes = {each: self._nodes[each] for each in self._session.barriers if each in self._nodes}

    @contextmanager
    def setting_up(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest, item: pytest.Item
    ) -> Iterator[None]:
        """Wrap the set-up of a fixture: changes of a wide one belong to the barrier of its scope.

        One that comes late (``request.getfixturevalue`` inside a test, a second test of a class that
        is the first to ask for it) finds narrower barriers open already. Its teardown may come just
        as late, when its parameter changes; so that is wrapped as well.
        """
        scope = fixturedef.scope
        if scope == "class" and _node(scope, item) is None:
            # For a test outside of any class it is made and torn down with that test.
            scope = "function"
        elif scope == "package" and request.node is not _node(scope, item):
            # It lives as long as the package its fixture is defined in, or the session where that is none.
            scope = "session"
        rank = _RANK[scope]
        last = self._session.innermost
        in_order = last is None or _RANK[last.scope] <= rank
        if in_order:
            self.open_until(scope, item)
        if rank == _FUNCTION:
            yield
            return
        # Around what the barriers compare, because variables of the test are lent to the set-up and taken back.
        with self._session.outside_test():
            yield from self._promote(fixturedef, self._widest_enough(rank), in_order=in_order)

    def _promote(self, fixturedef: pytest.FixtureDef[Any], holder: Barrier | None, *, in_order: bool) -> Iterator[None]:
        tearing_down = ExitStack()
        # Finalizers run newest first: what is added before the set-up runs after the teardown.
        fixturedef.addfinalizer(tearing_down.close)
        try:
            with nullcontext() if holder is None else holder.promoting(holder=fixturedef, after_hooks=in_order):
                yield
        finally:
            fixturedef.addfinalizer(partial(self._begin_teardown, tearing_down, holder, fixturedef))

    def _begin_teardown(
        self, tearing_down: ExitStack, holder: Barrier | None, fixturedef: pytest.FixtureDef[Any]
    ) -> None:
        tearing_down.enter_context(self._session.outside_test())
        if holder is not None and holder.is_open:
            holder.release(fixturedef)
            tearing_down.enter_context(holder.promoting())

    def _widest_enough(self, rank: int) -> Barrier | None:
        """Return the narrowest open barrier in which a fixture of *rank* can live."""
        return next((each for each in reversed(self._session.barriers) if _RANK[each.scope] <= rank), None)


def _node(scope: str, item: pytest.Item) -> pytest.Item | pytest.Collector | None:
    """Return the node that fixtures of *scope* belong to when *item* requests them."""
    if scope in ("function", "example"):
        return item
    if scope == "session":
        return item.session
    return item.getparent(_KINDS[scope])
