"""Owners of mocks: one registry for each barrier, with weak references only."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakSet, ref

from isolation_core._ambient import current_barrier, runner_barriers
from isolation_core.errors import ForeignMockUseError, LifecycleClosedError
from isolation_core.findings import Leak
from isolation_core.lifecycle import Lifecycle
from isolation_core.mocks._builders import build
from isolation_core.mocks._levels import clear, discard_into, reset, restore, set_baseline, tree_of
from isolation_core.mocks._light import is_light
from isolation_core.mocks._make import make
from isolation_core.mocks._ownership import caller, current_registry, place_text
from isolation_core.mocks._poison import Tomb, is_discarded
from isolation_core.mocks._stdlib import DEFAULT

if TYPE_CHECKING:
    from types import TracebackType

    from isolation_core.barrier import Barrier
    from isolation_core.mocks._ownership import Place
    from isolation_core.mocks._records import State

__all__ = ["MockRegistry", "open_registries", "settle", "unowned"]

_C = TypeVar("_C", bound=Callable[..., Any])

# Mocks made outside of any barrier.
unowned: list[ref[Any]] = []

_open: WeakSet[MockRegistry] = WeakSet()
_open_lock = threading.Lock()


def open_registries() -> tuple[MockRegistry, ...]:
    """Return the registries that are open now."""
    with _open_lock:
        return tuple(_open)


def _running() -> tuple[str, ...]:
    """Return whose barriers are open, innermost ones only: those with mocks, or the runner's when it has none."""
    registries = open_registries()
    outer = {id(registry.parent) for registry in registries}
    inner = [registry for registry in registries if id(registry) not in outer]
    if runner_barriers:
        top = runner_barriers[-1]
        inner = [each for each in inner if (at := each.opened_in) and (at is top or top in at.ancestors())]
        if not inner:
            return (top.owner,)
    return tuple(sorted({registry.owner for registry in inner}))


class MockRegistry:
    """The mocks of one barrier.

    Holds weak references only: a mock lives as long as its users want. Can be
    used by itself as a (sync or async) context manager, which also makes it the
    current registry.

    Args:
        owner: whose mocks these are, usually a test id; every message names it.
        strict: use of a mock from a barrier outside raises instead of only
            being reported.
        record: called as ``record(event, **fields)`` for the journal.
        running: returns the owners of open barriers, for messages about
            use after the end; by default the runner's innermost barrier, or
            without a runner the owners of all open registries.
        timeout: seconds each cleanup callback may take, unless it has its own.

    Attributes:
        leaks: the findings of `close`, even if it raised.
    """

    __slots__ = (
        "__weakref__", "_built", "_closed", "_lifecycle", "_lost", "_mocks", "_patchers", "_prune_at", "_running",
        "_token", "_told", "borrowed", "entered_in", "leaks", "opened_in", "owner", "parent", "pending",
        "record", "strict", "timeout",
    )  # fmt: skip

    def __init__(
        self,
        owner: str,
        *,
        strict: bool = False,
        record: Callable[..., object] | None = None,
        running: Callable[[], Sequence[str]] | None = None,
        timeout: float | None = 10.0,
    ) -> None:
        self.owner = owner
        self.strict = strict
        self.record = record
        self.borrowed: Callable[[dict[str, Any]], object] | None = None  # receives uses of mocks of others in here
        self.timeout = timeout
        self.parent: MockRegistry | None = current_registry.get()
        self.leaks: tuple[Leak, ...] = ()
        # Coroutines made and not yet awaited, by the id of their record.
        self.pending: dict[int, ref[Any]] = {}
        self._running = running or _running
        self._mocks: list[ref[Any]] = []
        self._prune_at = 64
        self._lifecycle: Lifecycle | None = None
        self._patchers: list[tuple[Any, Any]] = []
        self._built: dict[str, ref[Any]] | None = None
        self._closed = False
        self._lost = False  # whether a mock has dead coroutines to tell of
        self._told: set[tuple[int, str]] | None = None
        self._token: Any = None
        self.opened_in: Barrier | None = current_barrier()
        self.entered_in: Barrier | None = None  # where it was entered by hand
        with _open_lock:
            _open.add(self)

    def __repr__(self) -> str:
        return f"<MockRegistry of {self.owner}, {'closed' if self._closed else f'{len(self)} mocks'}>"

    # -- making ----------------------------------------------------------------

    def create(
        self,
        spec: Any = None,
        *,
        spec_set: Any = None,
        name: str | None = None,
        on_cleanup: Callable[[], object] | None = None,
        strict: bool | None = None,
        deep: bool = True,
        own_class: bool = False,
        attributes: Sequence[str] = (),
        **configure: Any,
    ) -> Any:
        """Make a mock that belongs to this registry; see `isolated_mock` for the arguments.

        Raises:
            LifecycleClosedError: after `close`.
        """
        if self._closed:
            raise LifecycleClosedError(self.owner, "make a mock")
        if type(spec) is str:
            mock = build(spec, self, as_name=name, options=configure)
        else:
            mock = make(
                spec, spec_set, name=name, deep=deep, own_class=own_class, attributes=attributes, configure=configure
            )
        return self.adopt(mock, on_cleanup=on_cleanup, strict=strict)

    def adopt(self, mock: Any, *, on_cleanup: Callable[[], object] | None = None, strict: bool | None = None) -> Any:
        """Take *mock*, made elsewhere, into this registry; its present configuration becomes its baseline.

        Args:
            mock: any mock, light or of `unittest.mock`.
            on_cleanup: called (and awaited) when the registry is closed.
            strict: as for `isolated_mock`.

        Returns:
            The same mock.
        """
        if is_light(mock):
            state: State = mock._isolation_state
            known = state.home is self and state.root is not None
            settle(mock, state, self, strict)
            state.made_at = caller()
        else:
            known = any(reference() is mock for reference in self._mocks)
            set_baseline(mock)
        if not known:
            self._mocks.append(ref(mock))
        if len(self._mocks) > self._prune_at:
            self._mocks = [r for r in self._mocks if r() is not None]
            self._prune_at = 64 + 2 * len(self._mocks)
        if on_cleanup is not None:
            self.add_cleanup(on_cleanup, name=f"the mock {mock._extract_mock_name()!r}")
        return mock

    def built(self, name: str) -> Any:
        """Return the living mock that the builder *name* made here, or None."""
        reference = None if self._built is None else self._built.get(name)
        mock = None if reference is None else reference()
        return None if mock is None or is_discarded(mock) else mock

    def keep_built(self, name: str, mock: Any, needed: Mapping[str, Any]) -> None:
        """Keep the mock that the builder *name* made; mocks it *needed* live as long."""
        if needed:
            if is_light(mock):
                mock._isolation_state.holds = tuple(needed.values())
            else:
                mock.__dict__["_isolation_holds"] = tuple(needed.values())
        if self._built is None:
            self._built = {}
        self._built[name] = ref(mock)

    def add_cleanup(self, callback: _C, *, name: str | None = None, timeout: float | None = None) -> _C:
        """Run *callback*, sync or async, when the registry is closed: the newest first, each one in any case.

        Args:
            callback: called without arguments; an awaitable result is awaited.
            name: for reports.
            timeout: seconds it may take, instead of the registry's.

        Returns:
            *callback*, so that this can be used as a decorator.
        """
        if self._lifecycle is None:
            if self._closed:
                raise LifecycleClosedError(self.owner, "add a cleanup")
            self._lifecycle = Lifecycle(owner=self.owner, timeout=self.timeout)
        return self._lifecycle.add_cleanup(callback, name=name, timeout=timeout)

    def start_patch(self, patcher: Any) -> Any:
        """Start a patcher of `unittest.mock` that belongs to this registry.

        It is stopped when the registry is restored or closed, newest first and
        whether or not another fails; other patches are never touched.

        Args:
            patcher: the result of ``patch(...)``, ``patch.object(...)`` or ``patch.dict(...)``.

        Returns:
            The result of ``patcher.start()``.
        """
        for own, replacement in self._patchers:
            if own is patcher:
                # Starting it again would take the replacement for the original.
                return replacement
        replacement = patcher.start()
        self._patchers.append((patcher, replacement))
        self.add_cleanup(lambda: self._stop_patch(patcher), name=f"the patch of {_target_of(patcher)}")
        return replacement

    def _stop_patch(self, patcher: Any) -> None:
        for entry in self._patchers:
            if entry[0] is patcher:
                self._patchers.remove(entry)
                patcher.stop()
                return

    # -- levels ----------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        for reference in tuple(self._mocks):
            mock = reference()
            if mock is not None and not is_discarded(mock):
                yield mock

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def clear(self) -> None:
        """`clear` every mock of this registry."""
        for mock in self:
            clear(mock)

    def reset(self) -> None:
        """`reset` every mock of this registry."""
        for mock in self:
            reset(mock)

    def restore(self) -> None:
        """`restore` every mock of this registry and stop its patches, newest first.

        Raises:
            ExceptionGroup: if patches could not be stopped; all were tried.
        """
        errors = []
        for patcher, _ in tuple(reversed(self._patchers)):
            try:
                self._stop_patch(patcher)
            except Exception as error:
                errors.append(error)
        for mock in self:
            restore(mock)
        if errors:
            raise ExceptionGroup(f"patches of {self.owner} could not be stopped", errors)

    def discard(self) -> None:
        """`discard` every mock of this registry; the registry can make new ones."""
        for mock in self:
            discard_into(mock, self.tomb_for)
        self._mocks.clear()

    def tomb_for(self, _node: Any, name: str, made_at: Place | None) -> Tomb:
        """Return what a mock of this registry turns into."""
        return Tomb(self.owner, name, made_at, self.record, self._running)

    # -- use by others ---------------------------------------------------------

    def note_foreign_use(
        self, mock: Any, user: str, *, borrower: MockRegistry | None = None, strict: bool = False
    ) -> None:
        """Report that *mock* is used in the barrier of *user*, which is not inside this one.

        Args:
            mock: the mock of this registry.
            user: the owner of the barrier it is used in.
            borrower: the registry of that barrier, if it has one.
            strict: whether that barrier is strict.

        Raises:
            ForeignMockUseError: if the mock, its registry or the barrier it is used in is strict.
        """
        name, made_at = _root_name(mock), place_text(_root(mock)._isolation_state.made_at)
        key = id(_root(mock)), user
        if self._told is None:
            self._told = set()
        if key not in self._told and self.record is not None:
            self._told.add(key)
            facts = {
                "what": "mock", "path": name, "owner": self.owner, "user": user, "operation": "call",
                "made_at": made_at, "used_at": place_text(caller()), "discarded": False,
            }  # fmt: skip
            self.record("cross-scenario", **facts)
            if borrower is not None and borrower.borrowed is not None:
                borrower.borrowed(facts)
        if self.strict or strict or mock._isolation_state.strict:
            raise ForeignMockUseError(name, owner=self.owner, user=user, made_at=made_at)

    # -- closing ---------------------------------------------------------------

    def close(self) -> tuple[Leak, ...]:
        """Run the cleanups, stop the patches, close forgotten coroutines, discard the mocks, and tell what was found.

        An asynchronous cleanup is run in an event loop of its own. Closing
        again does nothing.

        Returns:
            What was found, also kept in `leaks`.

        Raises:
            TeardownErrors: if cleanups failed, after everything else was done.
        """
        try:
            if self._lifecycle is not None:
                self._lifecycle.tear_down()
        finally:
            self._finish()
        return self.leaks

    async def aclose(self) -> tuple[Leak, ...]:
        """Like `close`, in the running event loop; shielded from cancellation, each cleanup within its budget."""
        try:
            if self._lifecycle is not None:
                await self._lifecycle.atear_down()
        finally:
            self._finish()
        return self.leaks

    def _finish(self) -> None:
        if self._closed:
            return
        self._closed = True
        with _open_lock:
            _open.discard(self)
        leaks = self._close_coroutines() if self.pending or self._lost else []
        self.discard()
        self.pending.clear()
        self.leaks = tuple(leaks)

    def account_for(self, state: State) -> None:
        """Keep count of dead, never-awaited coroutines of a mock whose calls are about to be forgotten."""
        for record in state.calls:
            reference = self.pending.get(id(record))
            if reference is not None and reference() is None:
                del self.pending[id(record)]
                state.lost += 1
                self._lost = True

    def _close_coroutines(self) -> list[Leak]:
        """Close the coroutines nobody awaited and say whose they were."""
        leaks = []
        for mock in self:
            for node in _nodes(mock):
                state: State = node._isolation_state
                dead, closed = state.lost, 0
                for record in state.calls:
                    reference = self.pending.pop(id(record), None)
                    if reference is not None:
                        dead, closed = _close(reference(), dead, closed)
                if dead or closed:
                    leaks.append(self._unawaited(node, dead, closed))
        for reference in self.pending.values():
            coroutine = reference()
            if coroutine is not None and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                node = coroutine.cr_frame.f_locals["mock"]
                coroutine.close()
                leaks.append(self._unawaited(node, 0, 1))
        return leaks

    def _unawaited(self, node: Any, dead: int, closed: int) -> Leak:
        count = dead + closed
        calls = f"{count} call{'s were' if count != 1 else ' was'} never awaited"
        return Leak(
            "coroutine",
            f"{node._extract_mock_name()}()",
            code="MCK002",
            owner=self.owner,
            created_at=place_text(_root(node)._isolation_state.made_at),
            ended=True,
            # What was dropped on the spot has warned on the spot and leaks
            # nowhere; what is still held would have warned in another test.
            severity="leak" if closed else "note",
            reason=f"{calls}, {closed} of them still held by somebody and now closed" if closed else calls,
        )

    def __enter__(self) -> Self:
        self.entered_in = current_barrier()
        self._token = current_registry.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.entered_in = None
        current_registry.reset(self._token)
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.entered_in = None
        current_registry.reset(self._token)
        await self.aclose()


def _close(coroutine: Any, dead: int, closed: int) -> tuple[int, int]:
    if coroutine is None:
        return dead + 1, closed
    if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        coroutine.close()
        return dead, closed + 1
    return dead, closed  # a task was cancelled before its first step


def settle(mock: Any, state: State, registry: MockRegistry | None, strict: bool | None) -> None:
    """Make *mock* a root: it and the children its configuration made belong to *registry*."""
    state.home, state.root = registry, state.name or ""
    if strict is not None:
        state.strict = strict
    if state.children or state.value is not DEFAULT or state.source is not None or mock.__dict__:
        for node in _nodes(mock):
            node._isolation_state.home = registry
            node._isolation_state.strict = state.strict
        set_baseline(mock)


def _nodes(mock: Any) -> list[Any]:
    return [node for node in tree_of(mock) if is_light(node)]


def _root(mock: Any) -> Any:
    while mock._isolation_state.root is None and mock._mock_new_parent is not None and is_light(mock._mock_new_parent):
        mock = mock._mock_new_parent
    return mock


def _root_name(mock: Any) -> str:
    name: str = mock._extract_mock_name()
    return name


def _target_of(patcher: Any) -> str:
    attribute = getattr(patcher, "attribute", None)
    if attribute is None:
        return "a dict"
    return str(attribute)
