"""`IntegrationScenario`: services under one name, with a context of their own that nothing gets out of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from isolation_core._ambient import current_barrier
from isolation_core.errors import ConfigurationError, ScenarioRequirementError
from isolation_core.journal import get_journal
from isolation_core.scenarios._requirements import Requirements, find_requirements
from isolation_core.services import (
    Clock,
    MockContext,
    Orchestration,
    ServiceMocks,
    ServiceRule,
    debug_cross_service_interactions,
)

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

__all__ = ["IntegrationScenario"]


class IntegrationScenario:
    """A named set of services, up together, isolated from every other scenario.

    Use it with ``async with`` or ``with``; as a target it unpacks into itself and
    its doubles: ``async with scenario as (scenario, mocks)``. Awaiting it starts it
    for the rest of the current barrier. It can be started once.

    Scenarios may run at the same time in one event loop: each task sees its own. A double
    or connection of one that is used in another is reported with both names (an error if
    either is strict), and any use after its end raises `MockDiscardedError`.

    Args:
        name: its name in reports.
        services: `ServiceType` members, or names given to `register_service`; or a mapping from these to options.
        dependencies: for each service the ones that must be up before it and until it is down.
        rules: held against the log at the end; see `ServiceRule`.
        strict: True: using what was not required, not using what was, and uses from other scenarios are errors.
            None: as the barrier around it, for uses from other scenarios only.
        seed: see `MockContext`.
        clock: see `MockContext`.
        virtual_time: see `MockContext`.
        connect: False: leave connecting to the test.
        max_concurrency: how many services may be connected or closed at once.

    Attributes:
        name: as given.
        services: the required services.
        state: ``"new"``, ``"open"`` or ``"closed"``.
        context: the `MockContext` of its doubles.
    """

    def __init__(
        self,
        name: str,
        services: Iterable[str] | Mapping[str, Mapping[str, Any]],
        dependencies: Mapping[str, str | Iterable[str]] | None = None,
        *,
        rules: Iterable[ServiceRule] = (),
        strict: bool | None = None,
        seed: int | None = None,
        clock: Clock | None = None,
        virtual_time: bool | datetime = False,
        connect: bool = True,
        max_concurrency: int = 1,
    ) -> None:
        if not name or not isinstance(name, str):
            raise ConfigurationError(f"a scenario needs a name, such as 'checkout'; got {name!r}", name="name")
        barrier = current_barrier()
        self.name = name
        self.state: Literal["new", "open", "closed"] = "new"
        self._strict = bool(strict)
        owner = f"scenario {name!r}{f' of {barrier.owner}' if barrier is not None else ''}"
        self.context = MockContext(owner, seed=seed, clock=clock, virtual_time=virtual_time, strict=strict)
        self._orchestration = Orchestration(
            services, self.context, dependencies, rules=rules, connect=connect, max_concurrency=max_concurrency
        )
        self.services: tuple[str, ...] = tuple(self._orchestration.required)
        self._provided: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<IntegrationScenario {self.name!r} of {', '.join(self.services)}, {self.state}>"

    @property
    def mocks(self) -> ServiceMocks:
        """The doubles by service; complete while the scenario is open."""
        return self._orchestration.mocks

    def __getitem__(self, service: str) -> Any:
        return self.mocks[service]

    def __iter__(self) -> Iterator[Any]:
        yield self
        yield self.mocks

    @property
    def requirements(self) -> Requirements:
        """The services required, provided, used, unused, and used without being required, so far."""
        up = {*self._provided, *self.context.doubles}
        return find_requirements(self.services, up, self.context.log)

    def validate(self) -> Self:
        """Return the scenario itself, if it can be started.

        Raises:
            GraphError: for cycles and for dependencies that are not among the services.
        """
        self._orchestration.graph.validate()
        return self

    def explain(self) -> str:
        """Return text: in which order the services start, and why."""
        graph = self._orchestration.graph
        return "\n".join(graph.explain(node.name) for node in graph.order)

    def debug(self) -> dict[str, Any]:
        """Return what `debug_cross_service_interactions` does, for this scenario, and its requirements."""
        needs = self.requirements
        report = debug_cross_service_interactions(self.context)
        report["requirements"] = {
            "required": needs.required, "provided": needs.provided, "used": needs.used,
            "unused": needs.unused, "undeclared": needs.undeclared,
        }  # fmt: skip
        return report

    # -- start and end -----------------------------------------------------------------

    def _open(self) -> None:
        if self.state != "new":
            raise ConfigurationError(
                f"the scenario {self.name!r} is {self.state}; make a new one for each block", name="name"
            )
        self.context.__enter__()
        self.state = "open"

    def _opened(self) -> None:
        self._provided = tuple(self.context.doubles)

    async def __aenter__(self) -> Self:
        return await self._enter(self._orchestration.__aenter__)

    async def _enter(self, start: Callable[[], Awaitable[ServiceMocks]]) -> Self:
        self._open()
        await self.context.clock.enter()
        try:
            await start()
        except BaseException as error:
            self.state = "closed"
            await self.context.__aexit__(type(error), error, None)
            raise
        self._opened()
        return self

    def __enter__(self) -> Self:
        self._open()
        try:
            self._orchestration.__enter__()
        except BaseException as error:
            self.state = "closed"
            self.context.__exit__(type(error), error, None)
            raise
        self._opened()
        return self

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._start().__await__()

    async def _start(self) -> Self:
        barrier = current_barrier()
        if barrier is None:
            raise ConfigurationError(
                f"nothing would end the scenario {self.name!r}: use `async with`, or await it inside a barrier",
                name="name",
            )
        # The block that ends it is the barrier's, around whatever scopes are open here.
        await self._enter(self._orchestration.start)
        barrier.on_cleanup(self._end, name=f"the scenario {self.name!r}")
        return self

    def _end(self) -> Awaitable[None] | None:
        if any(double.needs_await for double in self.mocks.values()):
            return self.__aexit__(None, None, None)
        self.__exit__(None, None, None)
        return None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.state = "closed"
        failure = error
        try:
            await self._orchestration.__aexit__(kind, error, traceback)
        except BaseException as raised:
            failure = raised
            raise
        finally:
            try:
                self._closing(failure)
            finally:
                await self.context.__aexit__(kind, error, traceback)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.state = "closed"
        failure = error
        try:
            self._orchestration.__exit__(kind, error, traceback)
        except BaseException as raised:
            failure = raised
            raise
        finally:
            try:
                self._closing(failure)
            finally:
                self.context.__exit__(kind, error, traceback)

    def _closing(self, error: BaseException | None) -> None:
        needs = self.requirements
        if not needs.unused and not needs.undeclared:
            return
        if self._strict and error is None:
            raise ScenarioRequirementError(self.name, unused=needs.unused, undeclared=needs.undeclared)
        get_journal().record(
            "scenario-requirements", scenario=self.name, owner=self.context.owner,
            unused=needs.unused, undeclared=needs.undeclared,
        )  # fmt: skip
