"""Errors of managed fixtures: when they are raised, and under which name they are reported."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import pytest

import isolation_core
from isolation_core.errors import GraphError, TeardownErrors, did_you_mean
from isolation_core.fixtures import FixtureScope, FixtureSpec, node_of
from isolation_core.graph import DependencyGraph
from isolation_pytest._relay import LISTENER, WORKER_REPORTS

if TYPE_CHECKING:
    from isolation_core.findings import Leak
    from isolation_pytest._instances import Instance

__all__ = ["Failures", "problems_of", "suggest", "without_our_frames"]

_OURS: Final = (os.path.dirname(isolation_core.__file__) + os.sep, os.path.dirname(__file__) + os.sep)


class Failures:
    """Keeps errors of teardowns until it is time to raise or report them.

    Attributes:
        collecting: whether `conclude` is going to be called; otherwise errors of narrow fixtures are reported.
        body_error: the exception of the body of the current test, for fixtures that see errors.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.collecting = False
        self.body_error: BaseException | None = None
        self._narrow: list[Exception] = []
        self._interrupts: list[BaseException] = []
        self._wide: list[tuple[Instance, list[Exception]]] = []
        self._unreached: list[str] = []
        self._leaks: list[Leak] = []
        self._watching_bodies = False
        # A worker of pytest-xdist whose controller does not listen has only the reports of its tests.
        self._may_report = not hasattr(config, "workeroutput") or config.pluginmanager.has_plugin(LISTENER)

    # -- taking in --------------------------------------------------------------

    def add(self, instance: Instance, errors: list[Exception]) -> None:
        """Take the errors of the cleanups of *instance*."""
        if self.collecting and (instance.run.scope is FixtureScope.FUNCTION or not self._may_report):
            self._narrow += errors
        else:
            self._wide.append((instance, errors))

    def add_other(self, instance: Instance, error: BaseException, body: BaseException | None) -> None:
        """Take what came out of a teardown that is not only errors of cleanups."""
        if isinstance(error, BaseExceptionGroup) and body is not None:
            for each in error.exceptions:
                if isinstance(each, TeardownErrors):
                    self.add(instance, list(each.exceptions))
                elif each is not body:
                    self.add_other(instance, each, None)
        elif isinstance(error, Exception):
            self.add(instance, [error])
        else:
            self._interrupts.append(error)

    def note_stray(self, instance: Instance, error: BaseException) -> None:
        """Take the teardown error of ordinary fixtures that depend on *instance*."""
        if isinstance(error, Exception):
            error.add_note(f"while tearing down the dependents of the fixture {instance.run.name!r}")
            self._wide.append((instance, [error]))
        else:
            self._interrupts.append(error)

    def note_unreached(self, instance: Instance) -> None:
        """Remember that pytest did not reach the cleanup of *instance*."""
        self._unreached.append(
            f"{instance.run.name!r} of {instance.run.owner} was still up when its scope had ended; "
            "it has been torn down"
        )

    def note_leak(self, leak: Leak) -> None:
        """Remember what outlived a fixture."""
        self._leaks.append(leak)

    def remember_bodies(self) -> None:
        """From now on, keep the exception of each test for the fixtures that want to see it."""
        if not self._watching_bodies:
            self._watching_bodies = True
            self._config.pluginmanager.register(_BodyErrors(self), "isolation-body-errors")

    # -- giving out -------------------------------------------------------------

    def conclude(self, error: BaseException | None, owner: str) -> None:
        """Raise *error* together with everything kept for this moment; return if there is nothing.

        Raises:
            TeardownErrors: if only cleanups of narrow fixtures failed.
            KeyboardInterrupt, SystemExit: the first that was held back, caused by the rest.
            BaseException: *error*, in a group with the others if there are any.
        """
        # No frame of this is hidden: pytest 8 cannot show an exception that has no other.
        narrow, self._narrow = self._narrow, []
        interrupts, self._interrupts = self._interrupts, []
        self.body_error = None
        text = f"{len(narrow)} cleanup{'s' if len(narrow) != 1 else ''} failed after {owner}"
        for each in narrow:
            without_our_frames(each)
        group = TeardownErrors(text, narrow) if narrow else None
        if isinstance(error, KeyboardInterrupt | SystemExit):
            interrupts.insert(0, error)
            error = None
        parts = [each for each in (error, group) if each is not None]
        together = BaseExceptionGroup("errors during test teardown", parts) if len(parts) > 1 else None
        rest = together or next(iter(parts), None)
        if interrupts:
            raise interrupts[0] from (rest or interrupts[0].__cause__)
        if rest is not None:
            raise rest

    def publish(self) -> bool:
        """Report errors of wide fixtures, each under the name of its fixture; return whether there were any."""
        wide, self._wide = self._wide, []
        hook = self._config.hook
        for instance, errors in wide:
            report = self._report_of(instance, errors)
            output = getattr(self._config, "workeroutput", None)
            if output is None:
                hook.pytest_runtest_logreport(report=report)
            else:
                # A worker of pytest-xdist may only speak of the test it was sent.
                data = hook.pytest_report_to_serializable(config=self._config, report=report)
                output.setdefault(WORKER_REPORTS, []).append(data)
        return bool(wide)

    def _report_of(self, instance: Instance, errors: list[Exception]) -> pytest.TestReport:
        run = instance.run
        spec = run.spec
        path, _, line = spec.defined_at.rpartition(":")
        relative = os.path.relpath(path, self._config.rootpath) if os.path.isabs(path) else path
        count = len(instance.users)
        first = instance.users[0] if count else "nobody"
        group = TeardownErrors(
            f"{len(errors)} cleanup{'s' if len(errors) != 1 else ''} of the {run.scope.value} fixture "
            f"{spec.name!r} failed; {count} test{'s' if count != 1 else ''} used it, first {first}",
            errors,
        )
        for each in errors:
            without_our_frames(each)
        try:
            raise group
        except TeardownErrors:
            info = pytest.ExceptionInfo.from_current()
        return pytest.TestReport(
            nodeid=f"{relative}::{spec.name}",
            location=(relative, int(line) - 1 if line.isdigit() else None, f"{run.scope.value} fixture {spec.name!r}"),
            keywords={},
            outcome="failed",
            longrepr=info.getrepr(style="native"),
            when="teardown",
        )

    def summary(self, counts: Mapping[str, int]) -> list[str]:
        """Return the lines for the end of the session; none if nothing happened."""
        lines = [*self._unreached]
        lines += [f"{leak.owner}: {leak.kind} {leak.path} {leak.reason}" for leak in self._leaks]
        if any(counts[what] for what in counts if what != "reused"):
            lines.append("values of wide fixtures: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
        return lines


class _BodyErrors:
    """Listens to what tests raise."""

    def __init__(self, failures: Failures) -> None:
        self._failures = failures

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
        """Keep the exception of the body."""
        if call.when == "call" and call.excinfo is not None:
            self._failures.body_error = call.excinfo.value


def without_our_frames(error: BaseException) -> BaseException:
    """Return *error* with a traceback that begins in the code of the fixture."""
    found: TracebackType | None = error.__traceback__
    while found is not None and found.tb_frame.f_code.co_filename.startswith(_OURS):
        found = found.tb_next
    return error if found is None else error.with_traceback(found)


def problems_of(names: Sequence[str], definitions: Mapping[str, list[tuple[FixtureSpec, str]]]) -> GraphError | None:
    """Return what is wrong between the managed fixtures among *names*: circles, and wide ones that need narrow ones.

    Other names may be those of ordinary fixtures, and a name with several definitions
    means one of them here; pytest itself reports problems of those.
    """
    nodes = {
        name: node_of(definitions[name][0][0], scope=FixtureScope(definitions[name][0][1]))
        for name in names
        if len(definitions.get(name, ())) == 1
    }
    if not nodes:
        return None
    external = {each for node in nodes.values() for each in node.dependencies if each not in nodes}
    graph = DependencyGraph(nodes.values(), external=external)
    return GraphError(graph.problems) if graph.problems else None


def suggest(
    error: pytest.FixtureLookupError, definitions: Mapping[str, list[tuple[FixtureSpec, str]]], known: Collection[str]
) -> None:
    """Add to *error* which managed fixture requests an undefined name, and the nearest defined one."""
    name = error.argname
    if name is None or error.msg is not None:
        return
    asking = [spec.name for found in definitions.values() for spec, _ in found if name in spec.dependencies]
    if asking:
        # The names that tests ask for hold the wrong ones too.
        wanted = {each for found in definitions.values() for spec, _ in found for each in spec.dependencies}
        names = {*definitions, *(each for each in known if each not in wanted)} - {name}
        who = " and ".join(map(repr, asking))
        error.msg = (
            f"fixture {name!r} not found; {who} needs {name!r}{did_you_mean(name, sorted(names), before='; ')}\n"
            "a definition of the core becomes a fixture with isolation_pytest.expose\n"
            "use 'pytest --fixtures [testpath]' for the fixtures there are"
        )
