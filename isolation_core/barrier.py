"""`isolation_barrier`: the one door. A scope with an owner that captures, cleans, restores and reports.

Entering takes a snapshot; leaving tears down everything that was set up inside,
compares, restores, verifies, and reports. Each of these steps is done by
the components below it; this module only says in which order, and that no
error on the way makes a later step be skipped.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping
from contextvars import Token
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, get_args
from weakref import ref

from attrs import evolve

from isolation_core._ambient import current_barrier, open_barriers, task_barrier
from isolation_core._baseline import mark_known
from isolation_core._modes import Mode
from isolation_core._opening import PLAIN, Opening
from isolation_core._watched import check_kinds, territory_of
from isolation_core.contamination import default_probes
from isolation_core.contamination._first_party import Territory
from isolation_core.contamination._ignore import IgnoreRules
from isolation_core.contamination.undo._undo_log import Frame, get_tracker
from isolation_core.errors import ConfigurationError, ContaminationError
from isolation_core.findings import Change, Leak
from isolation_core.journal import Journal, get_journal
from isolation_core.lifecycle import Lifecycle
from isolation_core.lifecycle._teardown import both

if TYPE_CHECKING:
    from isolation_core.fixtures._override import Override
    from isolation_core.fixtures._scope import ScopeLike
    from isolation_core.fixtures._set import FixtureSet
    from isolation_core.mocks import MockRegistry
    from isolation_core.services import MockContext

__all__ = ["Barrier", "Mode", "isolation_barrier"]

# Tracebacks are about the code of others: unittest leaves out frames of modules
# with this name, pytest those that have a local of its own name, see below.
__unittest = True

_F = TypeVar("_F", bound=Callable[..., Any])
_MODES: Final = get_args(Mode)


def isolation_barrier(
    group: str = "default",
    *,
    mode: Mode = "restore",
    packages: Iterable[str] | None = None,
    probes: Iterable[str] | None = None,
    ignore: Iterable[str] = (),
    owner: str | None = None,
    timeout: float = 10.0,
    max_concurrency: int = 1,
    scope: str = "barrier",
    fixtures: Iterable[str | Callable[..., Any]] = (),
) -> Barrier:
    """Return a barrier, to be entered by ``with`` or ``async with``.

    Args:
        group: the isolation group: fixtures of one group are fresh in each of its barriers.
        mode: see `Mode`.
        packages: names of the packages whose module state is watched deeply.
            None: every module whose file lies under the current folder and is not installed.
        probes: kinds of probes to use; None: all of them. ``"heap"`` means module state.
        ignore: ``"kind:path-glob"`` patterns of changes that are neither reported nor undone.
        owner: the name under which its findings are reported; None: the line that enters.
        timeout: budget of one cleanup, in seconds.
        max_concurrency: how many fixtures may be set up at once.
        scope: word for the width of the barrier in reports: ``"function"`` (one test), ``"class"``, ``"module"``,
            ``"package"``, ``"session"``, or one of your own. Managed fixtures live in the barrier of their scope.
        fixtures: managed fixtures to set up at entry, by name or as decorated objects.

    Returns:
        A `Barrier` that is not open yet. It can be entered once.

    Raises:
        ConfigurationError: if an argument is not one of those above.
    """
    return Barrier(
        group,
        mode=mode,
        packages=packages,
        probes=probes,
        ignore=ignore,
        owner=owner,
        timeout=timeout,
        max_concurrency=max_concurrency,
        scope=scope,
        fixtures=fixtures,
    )


class Barrier:
    """One scope of isolation; make it with `isolation_barrier`.

    Attributes:
        group: the isolation group.
        mode: the treatment of changes.
        owner: the name under which its findings are reported.
        scope: word for its width: ``"barrier"``, or a runner's scope such as ``"function"``.
        parent: the barrier around it, if any.
        changes: the changes made inside; complete after the exit.
        leaks: what outlived it; complete after the exit.
    """

    def __init__(
        self,
        group: str = "default",
        *,
        mode: Mode = "restore",
        packages: Iterable[str] | Territory | None = None,
        probes: Iterable[str] | None = None,
        ignore: Iterable[str] = (),
        owner: str | None = None,
        timeout: float = 10.0,
        max_concurrency: int = 1,
        scope: str = "barrier",
        fixtures: Iterable[str | Callable[..., Any]] = (),
    ) -> None:
        if mode not in _MODES:
            raise ConfigurationError(
                f"mode={mode!r} is not one of {', '.join(_MODES)}; choose 'restore' to heal silently, "
                "'strict' to fail on leaks, 'report' to look only",
                name="mode",
                value=mode,
            )
        if not timeout > 0:
            raise ConfigurationError(
                f"timeout={timeout!r} leaves no time for a cleanup; give seconds, such as 10.0", name="timeout"
            )
        self.group = group
        self.mode: Mode = mode
        self.scope = scope
        self.parent: Barrier | None = None
        self.changes: tuple[Change, ...] = ()
        self.leaks: tuple[Leak, ...] = ()
        self._owner = owner
        self._ignore = IgnoreRules.parse(ignore)
        self._timeout = timeout
        self._max_concurrency = max_concurrency
        self._territory = territory_of(packages)
        self._probe_kinds = None if probes is None else frozenset(probes)
        if self._probe_kinds is not None and mode != "off":
            check_kinds(self._probe_kinds, default_probes())
        self._lifecycle: Lifecycle | None = None
        self._mocks: MockRegistry | None = None
        self._fixtures: FixtureSet | None = None
        self._wanted = tuple(fixtures)
        self._is_async = False
        self._lends_loop = False
        self._services: MockContext | None = None
        self._frame: Frame | None = None
        self._token: Token[Barrier | None] | None = None
        self._registry_token: Token[MockRegistry | None] | None = None
        self._state: Literal["new", "open", "closed"] = "new"
        self._entered_at = 0.0
        self._dirty: list[str] = []
        self._own_globals: str | None = None

    def __repr__(self) -> str:
        found = f", {len(self.changes)} changes, {len(self.leaks)} leaks" if self._state == "closed" else ""
        return f"<Barrier {self.owner!r} group={self.group!r} mode={self.mode} {self._state}{found}>"

    # -- what it knows -------------------------------------------------------

    @property
    def owner(self) -> str:
        """The name under which its findings are reported."""
        return self._owner or f"barrier {self.group!r}"

    @property
    def is_open(self) -> bool:
        """Whether it has been entered and not yet left."""
        return self._state == "open"

    @property
    def clean(self) -> bool:
        """Whether nothing above a note was found. Only complete after the exit."""
        findings: tuple[Change | Leak, ...] = (*self.changes, *self.leaks)
        return not any(finding.severity != "note" for finding in findings) and not self._dirty

    @property
    def journal(self) -> Journal:
        """The journal its events go to."""
        return get_journal()

    def ancestors(self) -> Iterator[Barrier]:
        """Yield the barriers around it, innermost first."""
        barrier = self.parent
        while barrier is not None:
            yield barrier
            barrier = barrier.parent

    # -- what one can ask of it while it is open -------------------------------

    def on_cleanup(
        self,
        callback: Callable[[], Awaitable[object] | object],
        *,
        name: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Run *callback* when the barrier is left, newest first, whatever else fails.

        Args:
            callback: sync or async, called without arguments.
            name: its name in errors; by default its qualified name.
            timeout: its budget in seconds; by default the barrier's.

        Raises:
            RuntimeError: if the barrier is not open.
        """
        self._require_open("on_cleanup()")
        self._living().add_cleanup(callback, name=name, timeout=timeout)

    def mock(self, spec: Any = None, **configure: Any) -> Any:
        """Return an isolated `AsyncMock` that belongs to this barrier; see `isolated_mock`."""
        self._require_open("mock()")
        return self.mocks.create(spec, **configure)

    @property
    def is_async(self) -> bool:
        """Whether it was opened with ``async with``."""
        return self._is_async

    @property
    def lends_loop(self) -> bool:
        """Whether asynchronous fixtures may live in an event loop that ends before it; see `lend_loop`."""
        return self._lends_loop

    def lend_loop(self) -> Callable[[], Awaitable[None]]:
        """Let `afixture` set up asynchronous fixtures in the caller's loop, although it was opened with ``with``.

        For runners that open a barrier around a test whose event loop they do not own.

        Returns:
            The teardown of the fixtures, to be awaited in that loop before it ends.
        """
        self._lends_loop = True

        async def end() -> None:
            if self._fixtures is not None:
                await self._fixtures.atear_down()

        return end

    @property
    def fixtures(self) -> FixtureSet:
        """The managed fixtures of this barrier, for everything `fixture` and `afixture` do not do."""
        if self._fixtures is None:
            self._require_open("fixtures")
            from isolation_core.fixtures._set import FixtureSet

            self._fixtures = FixtureSet(self)
        return self._fixtures

    def fixture(
        self,
        wanted: str | Callable[..., Any],
        *,
        param: Any = None,
        params: Mapping[str, Any] | None = None,
        scope: ScopeLike | None = None,
    ) -> Any:
        """Return the value of a managed fixture; the fixture and its dependencies are set up first if necessary.

        An asynchronous one runs in an event loop in another thread, one for all barriers opened with ``with``.

        Args:
            wanted: its name, or the decorated object.
            param: the parameter to ask for it with.
            params: parameters for its dependencies, by name.
            scope: another scope than its own; it may be up at several scopes at a time.

        Raises:
            GraphError: holding everything that is wrong; nothing was set up then.
            FixtureUseError: if it is asynchronous, and this barrier was opened with ``async with``.
            BaseException: the exception of its set-up, with a note that names it.
        """
        return self.fixtures.get(wanted, param=param, params=params, scope=scope)

    async def afixture(
        self,
        wanted: str | Callable[..., Any],
        *,
        param: Any = None,
        params: Mapping[str, Any] | None = None,
        scope: ScopeLike | None = None,
    ) -> Any:
        """Return the value of a managed fixture; the asynchronous twin of `fixture`.

        It may be called from any task and inside any cancel scope of the body. Cancelling it cancels
        the set-up that runs; active fixtures stay until the barrier is left.
        """
        return await self.fixtures.aget(wanted, param=param, params=params, scope=scope)

    def inject(self, function: _F) -> _F:
        """Return *function* with managed fixtures for the required parameters that a call does not give."""
        return self.fixtures.wrap(function)  # type: ignore[return-value]

    def override(self, wanted: str | Callable[..., Any], replacement: Any) -> Override:
        """Replace a managed fixture inside a ``with`` or ``async with`` block.

        Args:
            wanted: its name, or the decorated object.
            replacement: a value, or another managed fixture.

        Returns:
            The context manager; see `Override`.

        Raises:
            GraphError: if the fixture is not defined.
        """
        return self.fixtures.override(wanted, replacement)

    @property
    def mocks(self) -> MockRegistry:
        """The registry of the mocks that belong to this barrier."""
        if self._mocks is None:
            from isolation_core.mocks import MockRegistry, current_registry

            self._mocks = MockRegistry(self.owner, strict=self.mode == "strict", record=get_journal().record)
            self._registry_token = current_registry.set(self._mocks)
        return self._mocks

    def service(self, service: str, *, name: str | None = None, **options: Any) -> Any:
        """Return the double of *service* that belongs to this barrier; see `MockContext.service`."""
        return self.services.service(service, name=name, **options)

    @property
    def services(self) -> MockContext:
        """The service doubles that belong to this barrier, with their log, clock and fault plan."""
        if self._services is None:
            self._require_open("services")
            from isolation_core.services import MockContext

            self._services = MockContext(self.owner, mocks=self.mocks, timeout=self._timeout, report=self.report_leak)
            self._living().add_cleanup(self._services.end, name="the services")
        return self._services

    @contextlib.contextmanager
    def promoting(self, *, holder: Hashable = None, after_hooks: bool = False) -> Iterator[None]:
        """Give everything that happens in a ``with`` block to this barrier, not to the narrower ones inside it.

        For a resource of this barrier's width that is made late, while narrower barriers are open:
        a database that the first test which needs it sets up, and later tests share. Without it,
        what the set-up did would be undone at the end of that first test. Its teardown, if it
        comes before this barrier closes, belongs in such a block as well::

            with isolation_barrier(scope="session") as wide:
                with isolation_barrier(scope="function"):
                    with wide.promoting():
                        database.create()

        Does nothing if the barrier is closed or its mode is ``"off"``.

        Args:
            holder: any hashable that identifies the resource. Until `release` is called with it, no
                narrower barrier takes back what the block did, whatever else writes to the same place.
            after_hooks: whether only hooks of a test runner ran since the last comparison: changes
                before the block are then not attributed to a barrier.
        """
        frame = self._frame
        if frame is None or not frame.open:
            yield
            return
        hooks = frame.hooks_depth if after_hooks else None
        with get_tracker().promoting(frame, holder=holder, hooks=hooks):
            yield

    def release(self, holder: Hashable) -> None:
        """Protect what was set up for *holder* no longer, because its teardown begins; see `promoting`."""
        get_tracker().release(holder)

    @property
    def depth_inside(self) -> int:
        """Nesting depth of the owner of what a run does that starts inside; for `RunnerSession`."""
        return get_tracker().depth_around(self._frame)

    def mark_dirty(self, reason: str) -> None:
        """Say that the process cannot be trusted any more after this barrier, and why."""
        self._dirty.append(reason)
        get_journal().record("dirty", reason=reason, owner=self.owner, scope=self.scope)

    def report_leak(self, leak: Leak) -> None:
        """Take *leak*, found by something that lived inside, as one of this barrier's; after its end, record it."""
        if self.mode == "off" or ((ignored := self._ignore.matcher()) and ignored(leak.kind, leak.path)):
            return
        if self._state != "open":
            get_journal().record_finding(leak)
            return
        within = leak.owner.removesuffix(f" of {self.owner}")
        reason = leak.reason if leak.owner == self.owner else f"in {within}"
        self.leaks += (evolve(leak, owner=self.owner, scope=self.scope, reason=reason),)

    def _living(self) -> Lifecycle:
        if self._lifecycle is None:
            self._lifecycle = Lifecycle(owner=self.owner, timeout=self._timeout, max_concurrency=self._max_concurrency)
        return self._lifecycle

    def _require_open(self, what: str) -> None:
        if self._state != "open":
            raise RuntimeError(
                f"{what} of {self.owner}: the barrier is {self._state}, not open; "
                "call it inside the `with` or `async with` block"
            )

    # -- entering ------------------------------------------------------------

    def __enter__(self) -> Self:
        __tracebackhide__ = True
        self._open(sys._getframe(1))
        self._set_up_wanted()
        return self

    async def __aenter__(self) -> Self:
        __tracebackhide__ = True
        self._open(sys._getframe(1))
        self._is_async = True
        if self._wanted:
            try:
                await self.fixtures.aget_all(self._wanted, late=False)
            except BaseException as error:
                await self.__aexit__(type(error), error, error.__traceback__)
                raise
        return self

    def open(self, opening: Opening = PLAIN) -> None:
        """Enter the barrier without a ``with`` block; `close` leaves it.

        Test runners do this through `isolation_core.runner.RunnerSession`, which also
        closes what is still open inside, and knows what to say about the *opening*.
        """
        __tracebackhide__ = True
        self._open(opening=opening)
        self._set_up_wanted()

    def close(self, error: BaseException | None = None) -> None:
        """Leave a barrier that was entered by `open`.

        Args:
            error: the exception of the code inside, if any.

        Raises:
            TeardownErrors: if cleanups failed.
            ContaminationError: in mode ``strict``, if something above a note was found.
        """
        __tracebackhide__ = True
        self.__exit__(None if error is None else type(error), error, None)

    def _set_up_wanted(self) -> None:
        if self._wanted:
            try:
                self.fixtures.get_all(self._wanted, late=False)
            except BaseException as error:
                self.__exit__(type(error), error, error.__traceback__)
                raise

    def _open(self, caller: FrameType | None = None, opening: Opening = PLAIN) -> None:
        if self._state != "new":
            raise RuntimeError(f"{self!r} was entered before; make a new one with isolation_barrier() for each block")
        if self._owner is None and caller is not None:
            self._owner = f"{caller.f_code.co_filename}:{caller.f_lineno}"
        if caller is not None and caller.f_code.co_name == "<module>":
            # The block's own names, ``as barrier`` among them, are to be there afterwards.
            self._own_globals = caller.f_globals.get("__name__")
        self._entered_at = time.perf_counter()
        self.parent = current_barrier()
        # Before the first look: the variable must not seem set inside.
        self._token = task_barrier.set(self)
        if self.mode != "off":
            try:
                self._frame = self._track(opening)
            except ConfigurationError:
                task_barrier.reset(self._token)
                raise
            except Exception as error:
                _excuse(error, f"{self.owner}: opening")
        self._state = "open"
        open_barriers[id(self)] = ref(self)
        journal = get_journal()
        if journal.writing:
            journal.record("open", owner=self.owner, group=self.group, scope=self.scope, mode=self.mode)

    def _track(self, opening: Opening) -> Frame:
        parents = (
            barrier._frame for barrier in (self.parent, *(self.parent.ancestors() if self.parent else ())) if barrier
        )
        parent = next((frame for frame in parents if frame is not None and frame.open), None)
        kinds = self._probe_kinds
        frame = Frame(
            self.owner,
            self.scope,
            parent,
            self._territory,
            kinds=kinds,
            test_module=opening.test_module,
            own_globals=self._own_globals,
            spares_script=self._spares_script(opening, parent),
            restores=self.mode != "report",
            hooks_depth=opening.hooks_depth,
            own=opening.subject,
            test=opening.test,
            deliver=self._receive,
        )
        probes = default_probes()
        if kinds is not None:
            probes = tuple(probe for probe in probes if probe.kind in kinds)
        heap = kinds is None or "heap" in kinds
        get_tracker().enter(frame, territory=self._territory, probes=probes, heap=heap, quiet=opening.untouched)
        return frame

    def _spares_script(self, opening: Opening, parent: Frame | None) -> bool:
        """Return whether ``__main__`` is a script with variables of its own, not a module of tests or one asked for."""
        if "__main__" in (self._territory.packages or ()) or (parent is not None and not parent.spares_script):
            return False
        subject = opening.subject
        name = getattr(subject, "__module__", None) or getattr(subject, "__name__", None)
        return "__main__" not in (opening.test_module, name)

    # -- leaving -------------------------------------------------------------

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        __tracebackhide__ = True
        self._require_open("leaving")
        teardown: BaseException | None = None
        try:
            if self._lifecycle is not None:
                self._lifecycle.tear_down(error)
        except BaseException as failure:
            teardown = failure
        if self._fixtures is not None:
            self._fixtures.close()
        if self._mocks is not None:
            try:
                self._mocks.close()
            except BaseException as failure:
                teardown = both(teardown, failure)
            # Also when a cleanup failed: what was found until then is true.
            self.leaks += tuple(self._mocks.leaks)
        self._close(error, teardown)
        return False

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        __tracebackhide__ = True
        self._require_open("leaving")
        teardown: BaseException | None = None
        try:
            if self._lifecycle is not None:
                await self._lifecycle.atear_down(error)
        except BaseException as failure:
            teardown = failure
        if self._fixtures is not None:
            self._fixtures.close()
        if self._mocks is not None:
            try:
                await self._mocks.aclose()
            except BaseException as failure:
                teardown = both(teardown, failure)
            self.leaks += tuple(self._mocks.leaks)
        self._close(error, teardown)
        return False

    def _close(self, error: BaseException | None, teardown: BaseException | None) -> None:
        """The part of leaving that awaits nothing: compare, restore, report, raise."""
        __tracebackhide__ = True
        try:
            self._settle()
        finally:
            self._state = "closed"
            open_barriers.pop(id(self), None)
            self._reset_context()
        if self.changes or self.leaks:
            self.changes, self.leaks = mark_known(self.changes), mark_known(self.leaks)
        self._tell()
        if self.mode == "strict" and (found := self._news()):
            contamination = ContaminationError(self.owner, *found)
            if error is not None:
                # The body's own error is the news; ours must not hide it.
                error.add_note(str(contamination))
            else:
                teardown = both(teardown, contamination)
        if teardown is not None:
            raise teardown

    def _news(self) -> tuple[list[Change], list[Leak]] | None:
        """Return what speaks against this barrier: no notes, and nothing the baseline has."""
        changes = [finding for finding in self.changes if finding.severity != "note" and not finding.known]
        leaks = [finding for finding in self.leaks if finding.severity != "note" and not finding.known]
        return (changes, leaks) if changes or leaks or self._dirty else None

    def _settle(self) -> None:
        if self._frame is None:
            return
        restore = self.mode in ("restore", "strict")
        try:
            get_tracker().leave(self._frame, restore=restore, ignored=self._ignore.matcher())
        except Exception as error:
            _excuse(error, f"{self.owner}: closing")
            get_tracker().abandon(self._frame)

    def _receive(self, changes: Iterable[Change]) -> None:
        """Take the changes of this barrier; they come late if it overlapped with others."""
        changes = tuple(changes)
        outer = self.parent
        while outer is not None and outer._fixtures is None:
            outer = outer.parent
        if outer is not None and outer._fixtures is not None:
            outer._fixtures.note_changes(changes)
        patches = [change for change in changes if change.kind == "patch"]
        self.changes += tuple(change for change in changes if change.kind != "patch")
        self.leaks += tuple(
            Leak(
                "patch",
                change.path,
                code=change.code,
                owner=change.owner,
                scope=change.scope,
                created_at=None,
                ended=change.restored,
                severity=change.severity,
                reason=change.reason,
            )
            for change in patches
        )

    def _reset_context(self) -> None:
        # Left in another context than it was entered in (a runner's phases, an
        # async generator): the variable dies with that context.
        for token in (self._token, self._registry_token):
            if token is not None:
                with contextlib.suppress(ValueError):
                    token.var.reset(token)  # type: ignore[arg-type]

    def _tell(self) -> None:
        journal = get_journal()
        checks = 0 if self.mode == "off" else len(default_probes()) + 1
        facts: dict[str, Any] = {"owner": self.owner, "group": self.group, "mode": self.mode}
        if not self.changes and not self.leaks and not self._dirty:
            if journal.writing:
                facts["duration_us"] = round((time.perf_counter() - self._entered_at) * 1e6)
            journal.count_clean(self.scope, checks, **facts)
            return
        findings: tuple[Change | Leak, ...] = (*self.changes, *self.leaks)
        for finding in findings:
            journal.record_finding(finding)
        undone = all(change.restored or change.severity == "note" for change in self.changes)
        ended = all(leak.ended or leak.severity == "note" for leak in self.leaks)
        journal.record(
            "close",
            scope=self.scope,
            checks=checks,
            clean=self.clean,
            restored=undone and ended and not self._dirty,
            duration_us=round((time.perf_counter() - self._entered_at) * 1e6),
            **facts,
        )


def _excuse(error: Exception, where: str) -> None:
    """Record a fault of our own; no test fails for it, unless ISOLATION_CORE_DEBUG is set."""
    if os.environ.get("ISOLATION_CORE_DEBUG"):
        raise error
    get_journal().record("note", text=f"isolation-core failed in {where}: {type(error).__name__}: {error}")
