"""`MockContext`: the log, clock, fault plan and seed that the doubles of one barrier share."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from isolation_core._ambient import current_barrier
from isolation_core.errors import ConfigurationError, ForeignMockUseError, LifecycleClosedError
from isolation_core.findings import Leak
from isolation_core.journal import get_journal
from isolation_core.lifecycle import Lifecycle
from isolation_core.mocks import MockRegistry, current_registry
from isolation_core.services._clock import Clock, VirtualClock
from isolation_core.services._faults import FaultPlan
from isolation_core.services._interactions import InteractionLog
from isolation_core.services._operations import Operable
from isolation_core.services._provenance import sender_of
from isolation_core.services._registry import service_spec
from isolation_core.services._resources import resource_named

if TYPE_CHECKING:
    from types import TracebackType

    from isolation_core.findings import Severity
    from isolation_core.services._double import ServiceDouble
    from isolation_core.services._operations import Operation

__all__ = ["MockContext", "current_context"]

_PLAIN: Final = frozenset({str, int, float, bool, bytes, type(None)})
_CONTAINERS: Final = frozenset({dict, list, tuple, set})
_NO_MESSAGE: Final = _PLAIN | _CONTAINERS


class MockContext:
    """Doubles and what they share; one belongs to each barrier and each scenario.

    A barrier makes its own (`Barrier.services`). By itself it can be used as a
    sync or async context manager.

    Args:
        owner: whose it is, usually a test id; messages name it.
        seed: of the fault plan and of whatever rolls dice; by default it follows from *owner*,
            so that a test that failed fails again.
        mocks: the registry the mocks of the doubles belong to; by default one of its own.
        clock: one that several contexts share; by default a new one, of real time.
        virtual_time: True: the event loop this is used in has `VirtualClock` time until the end, sleeps and
            timeouts of the code under test included; a date: the same, beginning then.
        timeout: seconds of real time the end of one double may take.
        strict: True: use from another scenario or barrier raises, instead of only being reported;
            None: as the barrier around it, where strict means mode ``strict``.
        report: called with things left open and faults that never fired; by default the barrier around it,
            without one the journal.

    Attributes:
        owner: as given.
        seed: as given.
        log: every call of every double.
        clock: the clock of timers and timeouts.
        faults: the fault plan.
        problems: things that doubles had left open or unconsumed at the end, by name of the double.
        foreign_uses: uses from elsewhere, or after the end: facts as in the journal.
    """

    def __init__(
        self,
        owner: str | None = None,
        *,
        seed: int | None = None,
        mocks: MockRegistry | None = None,
        clock: Clock | None = None,
        virtual_time: bool | datetime = False,
        timeout: float | None = 10.0,
        strict: bool | None = None,
        report: Callable[[Leak], object] | None = None,
    ) -> None:
        barrier = current_barrier()
        self._report = report or (get_journal().record_finding if barrier is None else barrier.report_leak)
        self.owner = owner or (f"a mock context in {barrier.owner}" if barrier else "a mock context")
        self.seed = zlib.crc32(self.owner.encode()) if seed is None else seed
        if clock is None:
            clock = VirtualClock(start=None if virtual_time is True else virtual_time) if virtual_time else Clock()
        elif virtual_time:
            raise ConfigurationError("give either clock= or virtual_time=", name="virtual_time", value=virtual_time)
        self.clock = clock
        clock.join()
        self.log = InteractionLog()
        self.faults = FaultPlan(self, seed=self.seed)
        self.problems: dict[str, tuple[str, ...]] = {}
        self.foreign_uses: list[dict[str, Any]] = []
        self._own_mocks = mocks is None
        if mocks is None:
            if barrier is not None:
                # Its registry is around ours: what belongs to the barrier may be used in here.
                _ = barrier.mocks
                strict = barrier.mode == "strict" if strict is None else strict
            mocks = MockRegistry(self.owner, strict=bool(strict), record=self._record, running=_users)
        mocks.borrowed = self.foreign_uses.append
        self.mocks = mocks
        self._doubles: dict[str, ServiceDouble] = {}
        self._resources: dict[str, Any] = {}
        self._endings: dict[object, tuple[Callable[[], object], str | None]] = {}
        self._timeout = timeout
        self._callbacks = False
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._doubles)} services"
        return f"<MockContext of {self.owner}, {state}, seed {self.seed}>"

    def use_virtual_time(self, start: datetime | float | None = None) -> None:
        """Have virtual time from now on, as with ``virtual_time=True``; before the first double is made.

        Args:
            start: the date it begins with; None: today.

        Raises:
            ConfigurationError: if there is a double already, which has its timers.
        """
        if self._doubles:
            raise ConfigurationError(
                f"{self.owner} has doubles already ({', '.join(self._doubles)}); ask for virtual time before the first",
                name="virtual_time",
            )
        self.clock.part()
        self.clock = VirtualClock(start=start)
        self.clock.join()

    # -- doubles -------------------------------------------------------------------

    def service(self, service: str, *, name: str | None = None, **options: Any) -> Any:
        """Return the double of *service*, made at first; the same one every time.

        Args:
            service: a `ServiceType` or a name given to `register_service`.
            name: asks for a second double of the same service, under a name of its own.
            **options: for the double, when it is made now.

        Raises:
            UnknownServiceError: with a did-you-mean.
            ConfigurationError: if options come when the double exists already.
        """
        key = name or str(service)
        double = self._doubles.get(key)
        if double is None:
            self._require_open(f"make the service {key!r}")
            return service_spec(service).build(self, name=key, **options)
        if options:
            raise ConfigurationError(
                f"the double {key!r} of {self.owner} exists already; its options ({', '.join(options)}) are given "
                "when it is first asked for. Ask for a second one with name=",
                name="options",
                value=options,
            )
        return double

    @property
    def doubles(self) -> dict[str, ServiceDouble]:
        """The doubles by name, in the order in which they were made."""
        return dict(self._doubles)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._doubles))

    def __contains__(self, service: object) -> bool:
        return str(service) in self._doubles

    def __getitem__(self, service: str) -> Any:
        return self._doubles[str(service)]

    def resource(self, name: str) -> Any:
        """Return a share of a real resource, clean and exclusive; the same one every time.

        At the end it is reset and compared with what it was like; a difference is reported.

        Args:
            name: a name given to `register_resource`.

        Raises:
            ConfigurationError: for a resource that is not registered.
        """
        if name not in self._resources:
            self._require_open(f"use the resource {name!r}")
            shares = resource_named(name)
            share, clean = shares.take()
            self._resources[name] = share

            def give_back() -> None:
                if wrong := shares.give_back(share, clean):
                    self._tell(name, (wrong,), "SVC001", "leak", ended=True)

            self._endings[object()] = give_back, f"the resource {name!r}"
        return self._resources[name]

    def add_cleanup(self, callback: Callable[[], object], *, name: str | None = None) -> None:
        """Run *callback*, sync or async, at the end: the newest first, doubles made later than it before it."""
        self._require_open("add a cleanup")
        self._endings[object()] = callback, name
        self._callbacks = True

    def reset(self) -> None:
        """Bring every double back to how it was made, and forget the log."""
        for double in self._doubles.values():
            double.reset()
        self.log.clear()

    # -- for the doubles -------------------------------------------------------------

    def _adopt(self, double: ServiceDouble) -> None:
        self._require_open(f"make the service {double.name!r}")
        if double.name in self._doubles:
            raise ConfigurationError(
                f"{self.owner} has a double called {double.name!r} already; give the second one name=",
                name="name",
                value=double.name,
            )
        self._doubles[double.name] = double
        for known in (str(double.service), double.name):
            self.log.doubles.setdefault(known, {})[type(double)] = None
        self._endings[double] = partial(self._end, double), f"the service {double.name!r}"

    def _release(self, double: ServiceDouble) -> None:
        """Forget a double that was closed elsewhere; its name is free again."""
        self._doubles.pop(double.name, None)
        self._endings.pop(double, None)

    @contextlib.contextmanager
    def _closing(self, double: ServiceDouble) -> Iterator[None]:
        """Wrap the end of *double*: collect open things before it, and report their fate after it."""
        problems: tuple[str, ...] = ()
        blind: Exception | None = None
        try:
            problems = tuple(double.problems())
        except Exception as error:  # it is closed all the same
            blind = error
        ended = False
        try:
            yield
            ended = True
        finally:
            if problems:
                self._tell(double.name, problems, "SVC001", "leak", ended=ended)
        if blind is not None:
            raise blind

    def _tell(self, name: str, problems: tuple[str, ...], code: str, severity: Severity, *, ended: bool) -> None:
        self.problems[name] = problems
        get_journal().record("service-problems", service=name, problems=problems, owner=self.owner)
        for problem in dict.fromkeys(problems):
            leak = Leak("service", f"{name}: {problem}", code=code, owner=self.owner, severity=severity, ended=ended)
            self._report(leak)

    def _record(self, event: str, /, **fields: Any) -> None:
        if event == "cross-scenario":
            self.foreign_uses.append(fields)
        get_journal().record(event, **fields)

    def _mock_for(self, operable: Operable) -> Any:
        """Return the mock the operations of *operable* hang on."""
        double = operable.double
        name = f"{double.name}.{operable.label}" if operable.label else double.name
        if self._closed:
            self.mocks.tomb_for(None, name, None).refuse("use")
        return self.mocks.create(type(operable)._shape_class, name=name)

    def check_arguments(
        self, target: Operable, operation: Operation[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Look for connections, messages and the like of another context in the arguments of a call.

        Lists, tuples, sets and dictionaries are looked into, one level deep.

        Raises:
            ForeignMockUseError: if one of the two contexts is strict.
        """
        for value in (*args, *kwargs.values()) if kwargs else args:
            kind = type(value)
            if kind in _PLAIN:
                continue
            if kind not in _CONTAINERS:
                self._check_value(value, target, operation)
                continue
            for item in value.values() if kind is dict else value:
                if type(item) not in _NO_MESSAGE:
                    self._check_value(item, target, operation)

    def _check_value(self, value: object, target: Operable, operation: Operation[Any, Any]) -> None:
        if isinstance(value, Operable):
            if value.context is not self:
                self._refuse_foreign(value.double, value.label or "", target, operation)
        elif (sender := sender_of(value)) is not None and sender.context is not self:
            self._refuse_foreign(sender, "message", target, operation)

    def _refuse_foreign(
        self, double: ServiceDouble, label: str, target: Operable, operation: Operation[Any, Any]
    ) -> None:
        other = double.context
        around: MockRegistry | None = self.mocks
        while around is not None:
            if around is other.mocks:  # what belongs to a barrier around us may be used in here
                return
            around = around.parent
        path = f"{double.name}.{label}" if label else double.name
        facts = {
            "what": label or "service", "path": path, "owner": other.owner, "user": self.owner,
            "operation": f"{target.double.name}.{operation.name}", "discarded": not other.is_open,
        }  # fmt: skip
        self._record("cross-scenario", **facts)
        other.foreign_uses.append(facts)
        if self.mocks.strict or other.mocks.strict:
            raise ForeignMockUseError(path, owner=other.owner, user=self.owner, kind=label or "service")

    # -- end ---------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether doubles can still be made and used."""
        return not self._closed

    def _require_open(self, action: str) -> None:
        if self._closed:
            raise LifecycleClosedError(self.owner, action)

    def _end(self, double: ServiceDouble) -> object:
        """Close one double; the lifecycle gets an awaitable if there is something to await."""
        if double.needs_await:
            return self._aend(double)
        with self._closing(double):
            double.close_now()
        return None

    async def _aend(self, double: ServiceDouble) -> None:
        with self._closing(double):
            await double.close()

    def close(self) -> None:
        """Close every double, newest first, whatever fails. Doing it again does nothing.

        Raises:
            TeardownErrors: if some could not be closed; all were tried.
        """
        try:
            self._ending().tear_down()
        finally:
            self._finish()
            if self._own_mocks:
                self.mocks.close()

    async def aclose(self) -> None:
        """The same in the running event loop; shielded from cancellation."""
        try:
            await self._ending().atear_down()
        finally:
            self._finish()
            if self._own_mocks:
                await self.mocks.aclose()

    def _ending(self) -> Lifecycle:
        lifecycle = Lifecycle(owner=self.owner, timeout=self._timeout)
        endings, self._endings = self._endings, {}
        for callback, name in endings.values():
            lifecycle.add_cleanup(callback, name=name)
        return lifecycle

    def end(self) -> Awaitable[None] | None:
        """Close every double; a barrier's cleanup. It returns an awaitable if there is something to await."""
        if self._callbacks or any(double.needs_await for double in self._doubles.values()):
            return self.aclose()
        self.close()
        return None

    def _finish(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.clock.part()
        if self.faults.rules and (unused := self.faults.unused):
            told = tuple(f"{rule} never fired; {rule.seen} calls matched" for rule in unused)
            self._tell("faults", told, "SVC002", "note", ended=False)

    def __enter__(self) -> Self:
        self.clock.touch()
        if self._own_mocks:
            self._enter_mocks()
        return self

    async def __aenter__(self) -> Self:
        await self.clock.enter()
        return self.__enter__()

    def _enter_mocks(self) -> None:
        self.mocks.entered_in = current_barrier()
        self._token = current_registry.set(self.mocks)

    def _leave_mocks(self) -> None:
        if self._own_mocks:
            self.mocks.entered_in = None
            # Left in another context than it was entered in (a runner's phases): the variable dies with that.
            with contextlib.suppress(ValueError):
                self._token.var.reset(self._token)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._leave_mocks()
        finally:
            self.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._leave_mocks()
        finally:
            await self.aclose()


def _users() -> tuple[str, ...]:
    """Return who is using something now: the scenario of this task, else its barrier."""
    registry, barrier = current_registry.get(), current_barrier()
    if registry is not None:
        return (registry.owner,)
    return () if barrier is None else (barrier.owner,)


def current_context() -> MockContext:
    """Return the context of the current barrier.

    Raises:
        ConfigurationError: outside of any barrier.
    """
    barrier = current_barrier()
    if barrier is None:
        raise ConfigurationError(
            "a service double needs a context: make it inside isolation_barrier(), or give it one: "
            "KafkaDouble(MockContext())",
            name="context",
        )
    return barrier.services
