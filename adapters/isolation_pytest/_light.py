"""The short way for the most frequent fixture: synchronous, function scope, nothing out of the ordinary.

It promises what `FixtureRun` promises and does the same things in the same
order, but prepares nothing for rare cases: objects that are needed to
report a failure are created when there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import copy_context
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from isolation_core._bindings import Bindings, changes
from isolation_core._shapes import start
from isolation_core._teardown import Entry, Outcome
from isolation_core.errors import TeardownTimeout
from isolation_core.fixtures import FixtureScope, FixtureSpec, _audit
from isolation_core.fixtures._host import Host
from isolation_core.fixtures._instance import Instance
from isolation_core.journal import get_journal

if TYPE_CHECKING:
    from contextvars import ContextVar

    from isolation_core._portal import RemoteLoop
    from isolation_core.findings import Leak
    from isolation_core.graph import DependencyGraph
    from isolation_core.lifecycle import Lifecycle

__all__ = ["LightRun", "is_light"]

_SYNC: Final = frozenset({"plain", "generator", "context manager"})


def is_light(spec: FixtureSpec, scope: str) -> bool:
    """Return whether a value of *spec* can use the fast path."""
    return scope == "function" and spec.kind in _SYNC and not spec.wants_request and not spec.cleanup_callbacks


class _Described(Host):
    """The host of a description: a fixture on the fast path has no lifecycle."""

    @property
    def lifecycle(self) -> Lifecycle:
        raise AttributeError(f"{self.owner}: a fixture that goes the short way has no lifecycle")


class LightRun:
    """One value of a fixture that goes the short way; see `FixtureRun` for what its methods do."""

    __slots__ = (
        "_arguments", "_began", "_bindings", "_context", "_finish", "_opened", "_timeout", "graph", "leaks", "owner",
        "since", "spec", "value",
    )  # fmt: skip

    dirty: Final = None
    param: Final = None
    scope: Final = FixtureScope.FUNCTION

    def __init__(
        self, spec: FixtureSpec, arguments: Mapping[str, Any], owner: str, timeout: float | None, graph: DependencyGraph
    ) -> None:
        self.spec = spec
        self.owner = owner
        self.graph = graph
        self.value: Any = None
        self.leaks: tuple[Leak, ...] = ()
        self._arguments = arguments
        self._timeout = timeout if spec.timeout is None else spec.timeout
        self._bindings: Bindings | None = None
        self._opened: tuple[_audit.Resource, ...] = ()

    @property
    def name(self) -> str:
        """The name of the fixture."""
        return self.spec.name

    def set_up(self) -> Any:
        """Set it up and return the value."""
        spec = self.spec
        self._context = context = copy_context()
        before = _audit.glance()
        self._began = perf_counter()
        try:
            self.value, self._finish = context.run(start, spec.kind, spec.function, self._arguments, spec.name)
        except BaseException as error:
            error.add_note(f"while setting up {self.graph[spec.name]} for {self.owner}")
            get_journal().count_fixture("failed")
            raise
        self.since = perf_counter()
        self._opened = _audit.opened_since_glance(before)
        if changed := changes(context):
            self._bindings = Bindings()
            self._bindings.add(self._entry(), changed)
        get_journal().count_fixture("set_up")
        return self.value

    def _entry(self) -> Entry:
        return Entry(
            self.spec.name, self._finish, self.spec.timeout, node=self.graph[self.spec.name], context=self._context
        )

    def tear_down(self, body: BaseException | None = None) -> None:
        """Tear it down; see `FixtureRun.tear_down`."""
        finish, self._finish = self._finish, None
        outcome: Outcome | None = None
        if finish is not None:
            began = perf_counter()
            try:
                self._context.run(finish, body)
            except BaseException as error:
                outcome = Outcome(self.owner, body, self._describe)
                outcome.add(self._entry(), error)
            if self._timeout is not None and perf_counter() - began > self._timeout:
                outcome = outcome or Outcome(self.owner, body, self._describe)
                outcome.add(self._entry(), TeardownTimeout(self.spec.name, self._timeout, interrupted=False))
        if self._bindings is not None:
            self._bindings.undo()
        self.value = None
        if self._opened:
            self._audit()
        if outcome is not None:
            get_journal().count_fixture("teardown_failed")
            outcome.conclude()

    def _describe(self, entry: Entry) -> str:
        return entry.describe(self.owner, ())

    def _audit(self) -> None:
        from isolation_core.findings import Leak

        self.leaks = tuple(
            Leak(
                resource.kind,
                resource.text,
                code={"file": "FDS001", "socket": "FDS001", "thread": "THR001", "task": "TSK001"}[resource.kind],
                owner=f"fixture {self.spec.name!r}",
                scope="function",
                created_at=self.spec.defined_at,
                reason=f"opened in the set-up of {self.spec.name!r} and still there after its teardown",
            )
            for resource in _audit.alive(self._opened)
        )
        for leak in self.leaks:
            get_journal().record_finding(leak)

    def described(self) -> Instance:
        """Return its description for debugging, made on request."""
        found = Instance(self.spec, _Described(self.owner), name=self.spec.name, scope=self.scope)
        found.state = "up"
        found.since = self.since
        found.seconds = self.since - self._began
        return found

    def live_on(self, loop: RemoteLoop) -> None:
        """It needs no event loop."""

    def used_by(self, user: str) -> None:
        """It has one user, the test it was set up for."""

    def check(self, changes: object) -> None:
        """Nothing narrower could change its value."""

    def mark_dirty(self, reason: str) -> None:
        """It is rebuilt for each test anyway."""

    def bindings(self) -> list[tuple[ContextVar[Any], Any]]:
        """Return the context variables its set-up has changed, with their values."""
        return [] if self._bindings is None else [(each.variable, each.value) for each in self._bindings._bindings]
