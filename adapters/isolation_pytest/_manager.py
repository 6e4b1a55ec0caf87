"""Everything about managed fixtures that belongs to one pytest session.

pytest resolves, orders, caches and parametrises managed fixtures as it does
ordinary ones; each value is one `FixtureRun`. The manager guarantees what pytest
does not: a cleanup runs even if pytest gives up on it, an interrupt
waits for the cleanups, errors are reported under the name of the fixture, and
values that cannot be used any more are rebuilt before the next test.

The manager comes into being when pytest asks a managed fixture for its scope,
that is during collection, and not at all where there is none.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from isolation_core.errors import did_you_mean
from isolation_core.fixtures import FixtureScope, FixtureSpec, LightRun, add_holder, is_light
from isolation_pytest import _failures
from isolation_pytest._instances import Instance, PytestRun
from isolation_pytest._loop_choice import LoopChooser

if TYPE_CHECKING:
    from isolation_core.barrier import Barrier
    from isolation_core.fixtures import Instance as FixtureInstance
    from isolation_core.graph import DependencyGraph
    from isolation_pytest._session import SessionIsolation

__all__ = ["ManagedFixtures", "manager_of", "requested"]

_PLUGIN: Final = "isolation-managed-fixtures"
_KEY: Final[pytest.StashKey[ManagedFixtures]] = pytest.StashKey()
_WIDE: Final = frozenset({"class", "module", "package", "session"})


_requested: Final[list[tuple[ManagedFixtures, pytest.FixtureDef[Any], pytest.FixtureRequest]]] = []
"""The fixtures that pytest is setting up, innermost last; also across nested sessions."""


def requested() -> tuple[ManagedFixtures, pytest.FixtureDef[Any], pytest.FixtureRequest]:
    """Return the manager, the fixture and the request of the function that pytest calls now."""
    return _requested[-1]


def manager_of(config: pytest.Config) -> ManagedFixtures:
    """Return the manager of the session of *config*."""
    return config.stash[_KEY]


class ManagedFixtures:
    """The managed fixtures of one session: definitions by name, and the values that are up."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._definitions: dict[str, list[tuple[FixtureSpec, str]]] = {}
        self._light: dict[FixtureSpec, DependencyGraph] = {}
        self._graphs: dict[tuple[FixtureSpec, str], DependencyGraph] = {}
        self._live: dict[Instance, None] = {}
        self._loops = LoopChooser(config)
        self._failures = _failures.Failures(config)
        self._item: pytest.Item | None = None
        self._barrier: Barrier | None = None
        self._problems: dict[tuple[str, ...], Exception | None] = {}
        self.counts = {"reused": 0, "rebuilt": 0}
        add_holder(self)

    @classmethod
    def of(cls, config: pytest.Config) -> ManagedFixtures:
        """Return the manager of *config*, a new one if there is none."""
        manager = config.stash.get(_KEY, None)
        if manager is None:
            manager = config.stash[_KEY] = cls(config)
            config.pluginmanager.register(manager, _PLUGIN)
        return manager

    def learn(self, spec: FixtureSpec, scope: str) -> None:
        """Take note of a definition that pytest has found."""
        known = self._definitions.setdefault(spec.name, [])
        if all(each is not spec for each, _ in known):
            known.append((spec, scope))
            graph = self._graphs[spec, scope] = PytestRun.graph_of(spec, FixtureScope(scope))
            if is_light(spec, scope):
                self._light[spec] = graph
            self._problems.clear()
        if spec.is_async:
            self._loops.prepare()

    # -- one fixture ----------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Know whose function is being called, and for whom.

        Were the function to ask for ``request`` like others do, that alone would
        cost as much as the whole fixture.
        """
        _requested.append((self, fixturedef, request))
        try:
            value = yield
        finally:
            _requested.pop()
        if self._loops.concerns(fixturedef.argname):
            self._loops.came_up(fixturedef, value)
        return value

    def set_up(
        self,
        spec: FixtureSpec,
        fixturedef: pytest.FixtureDef[Any],
        request: pytest.FixtureRequest,
        arguments: Mapping[str, Any],
    ) -> Any:
        """Set one managed fixture up for pytest, and have it torn down by pytest."""
        __tracebackhide__ = True
        item = self._item
        assert item is not None
        run: PytestRun | LightRun
        graph = self._light.get(spec)
        if graph is not None and fixturedef.scope == "function" and not hasattr(request, "param"):
            run = LightRun(spec, arguments, item.nodeid, self._timeout, graph)
        else:
            run = PytestRun(spec, arguments, request, self._session(), self._graphs.get((spec, fixturedef.scope)))
        instance = Instance(run, fixturedef, request, request.node)
        instance.users.append(item.nodeid)
        if spec.is_async:
            self._loops.choose(instance, item, arguments, self._live)
        try:
            value = run.set_up()
        except BaseException as error:
            raise _failures.without_our_frames(error)  # noqa: B904 - the same object, with less of a traceback
        self._live[instance] = None
        if spec.sees_errors:
            self._failures.remember_bodies()
        fixturedef.addfinalizer(partial(self._tear_down, instance))
        return value

    def _session(self) -> SessionIsolation | None:
        return self._config.pluginmanager.get_plugin("isolation-session")

    @cached_property
    def _timeout(self) -> float:
        session = self._session()
        return 10.0 if session is None else session.settings.timeout

    def _tear_down(self, instance: Instance) -> None:
        """Tear one down; its errors are raised later, or reported under its own name."""
        __tracebackhide__ = True
        if self._live.pop(instance, instance) is instance:
            return
        instance.tear_down(self._failures)

    def _finish(self, instance: Instance) -> None:
        """Have pytest tear down an active fixture, and all its dependents."""
        try:
            instance.fixturedef.finish(instance.request)  # type: ignore[arg-type]
        except BaseException as error:
            self._failures.note_stray(instance, error)
        finally:
            self._tear_down(instance)

    def mark_dirty(self, name: str, reason: str) -> None:
        """Have the wide fixture called *name* rebuilt before the next test; see `isolation_pytest.mark_dirty`."""
        found = [each for each in self._live if each.fixturedef.argname == name]
        if not found:
            known = sorted({each.fixturedef.argname for each in self._live})
            raise LookupError(f"no managed fixture called {name!r} is up{did_you_mean(name, known, before='; ')}")
        for each in found:
            each.run.mark_dirty(reason)

    def alive(self) -> Iterator[FixtureInstance]:
        """Yield the description of each active fixture, for `debug_fixture_state`."""
        found: dict[str, FixtureInstance] = {}
        for each in list(self._live):
            told = each.run.described()
            told.users = dict.fromkeys(each.users)
            told.dependencies = {name: found[name] for name in each.run.spec.dependencies if name in found}
            found[each.fixturedef.argname] = told
            yield told

    # -- around one test ------------------------------------------------------

    # No wrapper: one that raises before the others have begun upsets pytest's own.
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Before anything is set up: get rid of what this test must not get, and check what it asks for."""
        __tracebackhide__ = True
        self._item = item
        if self._live:
            self._judge()
            self._prepare_for(item)
        names = tuple(getattr(item, "fixturenames", ()))
        if names not in self._problems:
            self._problems[names] = _failures.problems_of(names, self._definitions)
        problem = self._problems[names]
        if problem is not None:
            raise problem.with_traceback(None)

    @pytest.hookimpl(wrapper=True, specname="pytest_runtest_setup")
    def pytest_runtest_setup_explained(self, item: pytest.Item) -> Generator[None, object, object]:
        """Add a suggestion for an undefined name."""
        __tracebackhide__ = True
        try:
            return (yield)
        except pytest.FixtureLookupError as error:
            _failures.suggest(error, self._definitions, self._known_names(item))
            raise

    def _known_names(self, item: pytest.Item) -> set[str]:
        """Return known names of fixtures; pytest does not list all of them in public."""
        return {name for each in item.session.items for name in getattr(each, "fixturenames", ())}

    def _prepare_for(self, item: pytest.Item) -> None:
        names = getattr(item, "fixturenames", ())
        chain = item.listchain()
        for instance in list(self._live):
            if instance not in self._live:
                continue
            if instance.node is item or instance.node not in chain:
                self._failures.note_unreached(instance)
                self._finish(instance)
            elif instance.run.dirty is not None or self._loops.is_wrong_for(instance, item):
                self.counts["rebuilt"] += 1
                self._finish(instance)
            elif instance.is_for(item, names):
                self.counts["reused"] += 1
                instance.users.append(item.nodeid)

    def _judge(self) -> None:
        """Look whether the last test has changed the value of a wide fixture."""
        barrier, self._barrier = self._barrier, None
        if barrier is not None and barrier.changes:
            for instance in self._live:
                instance.run.check(barrier.changes)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Let an asynchronous test see the context variables of its fixtures, and their crashes."""
        if not self._live:
            return (yield)
        session = self._session()
        if session is not None:
            self._barrier = session.function_barrier
        if self._loops.is_coroutine_test(item):
            with self._loops.around_body(item, self._live):
                return (yield)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """See to it that every cleanup runs, and raise only then what they have raised."""
        self._failures.collecting = True
        error: BaseException | None = None
        result: object = None
        try:
            result = yield
        except BaseException as raised:
            error = raised
        # pytest drops the other finalizers of a node when one is interrupted.
        for instance in [each for each in reversed(self._live) if each.node is item]:
            if not isinstance(error, KeyboardInterrupt | SystemExit):
                self._failures.note_unreached(instance)
            self._finish(instance)
        self._failures.collecting = False
        self._failures.conclude(error, item.nodeid)
        return result

    def pytest_runtest_logfinish(self) -> None:
        """Report what went wrong with wide fixtures, after the test that happened to be the last."""
        self._failures.publish()

    # -- around the session ---------------------------------------------------

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Have fixtures of high priority set up before others of their scope."""
        priorities = {name: (found[-1][0].priority, found[-1][1]) for name, found in self._definitions.items() if found}
        if any(priority for priority, _ in priorities.values()):
            for item in session.items:
                names = getattr(item, "fixturenames", None)
                if isinstance(names, list):
                    _reorder(names, priorities)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Tear down fixtures that pytest has not torn down."""
        error: BaseException | None = None
        result: object = None
        self._failures.collecting = True
        try:
            result = yield
        except BaseException as raised:
            error = raised
        for instance in list(reversed(self._live)):
            self._finish(instance)
        self._failures.collecting = False
        if self._failures.publish() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._failures.conclude(error, "the session")
        return result

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what was rebuilt and what outlived its fixture, if anything."""
        lines = self._failures.summary(self.counts)
        if lines:
            terminalreporter.section("managed fixtures")
            for line in lines:
                terminalreporter.line(line)


def _reorder(names: list[str], priorities: Mapping[str, tuple[int, str]]) -> None:
    """Sort the managed names of each scope among the places they have; dependencies still come first."""
    for scope in ("function", *_WIDE):
        places = [place for place, name in enumerate(names) if priorities.get(name, (0, ""))[1] == scope]
        wanted = sorted((names[place] for place in places), key=lambda name: -priorities[name][0])
        for place, name in zip(places, wanted, strict=True):
            names[place] = name
