"""One value of a managed fixture, as pytest holds it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from isolation_core.errors import TeardownErrors
from isolation_core.fixtures import REQUEST, FixtureRequest, FixtureRun, FixtureScope, FixtureSpec, LightRun

if TYPE_CHECKING:
    import pytest

    from isolation_core.graph import DependencyGraph, Node
    from isolation_pytest._failures import Failures
    from isolation_pytest._loops import SharedLoop
    from isolation_pytest._session import SessionIsolation

__all__ = ["Instance", "PytestRun", "Request"]

_MOST_USERS = 5


class Request:
    """The value of the parameter ``request`` of a managed fixture under pytest.

    It is a `isolation_core.fixtures.FixtureRequest`, and where that ends pytest's own request:
    ``request.add_cleanup`` and ``request.barrier`` as well as ``request.node`` and ``request.getfixturevalue``.
    """

    def __init__(self, core: FixtureRequest, own: pytest.FixtureRequest) -> None:
        self._core = core
        self._own = own

    def __getattr__(self, name: str) -> Any:
        # An attribute of pytest's that is not there, such as param, is so for us too.
        return (
            getattr(self._core, name) if hasattr(FixtureRequest, name) and name != "param" else getattr(self._own, name)
        )

    def __repr__(self) -> str:
        return repr(self._core)


class PytestRun(FixtureRun):
    """One value of a fixture whose dependencies pytest has resolved."""

    def __init__(
        self,
        spec: FixtureSpec,
        arguments: Mapping[str, Any],
        request: pytest.FixtureRequest,
        session: SessionIsolation | None,
        graph: DependencyGraph | None,
    ) -> None:
        super().__init__(
            spec,
            arguments,
            owner=request.node.nodeid or "the session",
            scope=FixtureScope(request.scope),
            param=getattr(request, "param", None),
            barrier=session.function_barrier if session is not None and request.scope == "function" else None,
            timeout=session.settings.timeout if session is not None else 10.0,
            graph=graph,
            described=False,  # the manager does it, with what pytest knows
        )
        self._pytest_request = request

    def inject(self, node: Node) -> dict[str, Any]:
        """Return further arguments for the function."""
        found = super().inject(node)
        if REQUEST in found:
            found[REQUEST] = Request(found[REQUEST], self._pytest_request)
        return found


class Instance:
    """One value that is up.

    Attributes:
        run: the run that sets it up and tears it down.
        fixturedef: whose value it is, for pytest.
        request: for whom pytest has it set up.
        node: the scope it lives in, as a node of the collection tree.
        loop: the event loop it lives on, if it needs one.
        users: the tests that got it.
    """

    __slots__ = ("fixturedef", "loop", "node", "request", "run", "users")

    def __init__(
        self, run: PytestRun | LightRun, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest, node: Any
    ) -> None:
        self.run = run
        self.fixturedef = fixturedef
        self.request = request
        self.node = node
        self.loop: SharedLoop | None = None
        self.users: list[str] = []

    def is_for(self, item: pytest.Item, names: Collection[str]) -> bool:
        """Return whether *item*, which requests *names*, is going to get this value."""
        name = self.fixturedef.argname
        if name not in names:
            return False
        callspec = getattr(item, "callspec", None)
        return callspec is None or name not in callspec.params or callspec.params[name] is self.run.param

    def tear_down(self, failures: Failures) -> None:
        """Run its teardown and all its cleanups; *failures* keeps their errors."""
        for user in self.users[:_MOST_USERS]:
            self.run.used_by(user)
        if len(self.users) > _MOST_USERS:
            self.run.used_by(f"{len(self.users) - _MOST_USERS} more")
        wanted = self.run.spec.sees_errors and self.run.scope is FixtureScope.FUNCTION
        body = failures.body_error if wanted else None
        try:
            self.run.tear_down(body)
        except TeardownErrors as errors:
            failures.add(self, list(errors.exceptions))
        except BaseException as error:
            failures.add_other(self, error, body)
        for leak in self.run.leaks:
            failures.note_leak(leak)
