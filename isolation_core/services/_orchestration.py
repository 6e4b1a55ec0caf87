"""Several doubles at once: up in order of their dependencies, down in reverse, each while those it needs still work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from isolation_core._suggest import nearest
from isolation_core.errors import ConfigurationError, ServiceRuleError, UnknownServiceError
from isolation_core.graph import DependencyGraph, Node
from isolation_core.lifecycle import Lifecycle
from isolation_core.services._context import MockContext, current_context
from isolation_core.services._interactions import task_name
from isolation_core.services._registry import service_spec

if TYPE_CHECKING:
    from types import TracebackType

    from isolation_core.services._double import ServiceDouble
    from isolation_core.services._rules import ServiceRule

__all__ = [
    "Orchestration",
    "ServiceMocks",
    "complex_service_interaction_mock",
    "cross_service_mock_orchestration",
]

Services = Iterable[str] | Mapping[str, Mapping[str, Any]]
Dependencies = Mapping[str, str | Iterable[str]]


class ServiceMocks(dict[str, Any]):
    """The doubles by service; a `ServiceType` and its text are the same key.

    Attributes:
        context: what they share: log, clock, fault plan.
    """

    def __init__(self, context: MockContext) -> None:
        super().__init__()
        self.context = context

    def __missing__(self, service: object) -> Any:
        name = str(service)
        raise UnknownServiceError(name, tuple(self), nearest(name, self), wanted_by=self.context.owner)


class Orchestration:
    """Doubles that are up together; made by `cross_service_mock_orchestration`, entered once.

    Attributes:
        context: the context that the doubles share.
        graph: the services and their dependencies; `DependencyGraph.explain` gives the reasons for the order.
        mocks: the doubles; complete while it is open.
    """

    def __init__(
        self,
        services: Services,
        mock_context: MockContext | None = None,
        dependencies: Dependencies | None = None,
        *,
        rules: Iterable[ServiceRule] = (),
        connect: bool = True,
        max_concurrency: int = 1,
    ) -> None:
        if isinstance(services, str):
            raise ConfigurationError(
                f"services={services!r} is one text; give a list of services, such as [{services!r}]",
                name="services",
                value=services,
            )
        self.context = current_context() if mock_context is None else mock_context
        self.mocks = ServiceMocks(self.context)
        self._rules = tuple(rules)
        self._connect = connect
        self._max_concurrency = max_concurrency
        options = services if isinstance(services, Mapping) else {name: {} for name in services}
        self._options: dict[str, Mapping[str, Any]] = {str(name): dict(given) for name, given in options.items()}
        self._wanted = _needs(self._options, dependencies or {})
        self.graph = self._graph()
        self._lifecycle: Lifecycle | None = None

    @property
    def required(self) -> tuple[str, ...]:
        """The services that were named, without what they brought along."""
        return tuple(self._options)

    def __repr__(self) -> str:
        return f"<Orchestration of {', '.join(self._wanted)} for {self.context.owner}>"

    def _graph(self) -> DependencyGraph:
        nodes = [
            Node(
                name,
                _Bound(self._serve, name),
                dependencies=needs,
                arguments=(),
                kind="async generator",
                defined_at="services" if name in self._options else "register_service()",
                index=index,
            )
            for index, (name, needs) in enumerate(self._wanted.items())
        ]
        return DependencyGraph(nodes)

    async def _serve(self, name: str) -> AsyncIterator[ServiceDouble]:
        double, mine = self._make(name)
        try:
            if self._connect:
                await double.connect()
            yield double
        finally:
            if mine:
                await self._finish_async(double)

    def _make(self, name: str) -> tuple[ServiceDouble, bool]:
        # An existing one belongs to other code, which ends it.
        mine = name not in self.context
        double = self.context.service(name, **self._options.get(name, {})) if mine else self.context[name]
        self.mocks[name] = double
        return double, mine

    def _finish(self, double: ServiceDouble) -> object:
        """End one of our doubles; return an awaitable if there is something to await."""
        if double.needs_await:
            return self._finish_async(double)
        try:
            self.context._end(double)
        finally:
            self.context._release(double)
        return None

    async def _finish_async(self, double: ServiceDouble) -> None:
        try:
            await self.context._aend(double)
        finally:
            self.context._release(double)

    # -- with and async with ---------------------------------------------------------

    def _begin(self, graph: DependencyGraph) -> Lifecycle:
        if self._lifecycle is not None:
            raise ConfigurationError(f"{self!r} was entered before; make a new one for each block", name="services")
        self._lifecycle = Lifecycle(
            graph, owner=self.context.owner, timeout=self.context._timeout, max_concurrency=self._max_concurrency
        )
        return self._lifecycle

    async def __aenter__(self) -> ServiceMocks:
        await self._begin(self.graph).aset_up()
        return self.mocks

    async def start(self) -> ServiceMocks:
        """Like ``__aenter__``, for a caller that ends it elsewhere: nothing stays open in the task meanwhile."""
        lifecycle = self._begin(DependencyGraph())
        try:
            for node in self.graph.order:
                double = self._make_for(lifecycle, node.name)
                if self._connect:
                    await double.connect()
        except BaseException as error:
            await lifecycle.atear_down(error)
            raise
        return self.mocks

    def __enter__(self) -> ServiceMocks:
        lifecycle = self._begin(DependencyGraph())
        if task_name() is not None:
            raise ConfigurationError(
                f"{self!r} was entered by `with` inside of an event loop, where connecting cannot wait; "
                "use `async with`",
                name="services",
            )
        # A loop of our own, and not the current one of this thread: that belongs to the test. Doubles are
        # bound to no loop, they may be used in another one later.
        loop = asyncio.new_event_loop()
        try:
            for node in self.graph.order:
                double = self._make_for(lifecycle, node.name)
                if self._connect:
                    loop.run_until_complete(double.connect())
        except BaseException as error:
            lifecycle.tear_down(error)
            raise
        finally:
            loop.close()
        return self.mocks

    def _make_for(self, lifecycle: Lifecycle, name: str) -> ServiceDouble:
        double, mine = self._make(name)
        if mine:
            lifecycle.add_cleanup(lambda: self._finish(double), name=f"the service {name!r}")
        return double

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._lifecycle is not None
        try:
            await self._lifecycle.atear_down(error)
        except BaseException as failure:
            self._judge(failure)
            raise
        self._judge(error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._lifecycle is not None
        try:
            self._lifecycle.tear_down(error)
        except BaseException as failure:
            self._judge(failure)
            raise
        self._judge(error)

    def _judge(self, error: BaseException | None) -> None:
        """Hold the rules against the log; with an error on its way the verdict becomes a note of it."""
        context = self.context
        broken = [f"{_name_of(rule)}: {violation}" for rule in self._rules for violation in _verdict(rule, context)]
        if not broken:
            return
        verdict = ServiceRuleError(self.context.owner, broken, str(self.context.log))
        if error is None:
            raise verdict
        error.add_note(str(verdict))


def cross_service_mock_orchestration(
    services: Services,
    mock_context: MockContext | None = None,
    dependencies: Dependencies | None = None,
    *,
    rules: Iterable[ServiceRule] = (),
    connect: bool = True,
    max_concurrency: int = 1,
) -> Orchestration:
    """Return doubles of several services as one (async) context manager; it gives a mapping of them.

    They are connected in order of their dependencies and closed in reverse, each while
    what it depends on still works. Whatever fails, all of them are closed. A double that
    the context had already is used, connected, and left to its owner.

    Args:
        services: `ServiceType` members or names of `register_service`; or a mapping from these to options
            of their doubles. Dependencies of registered services are added.
        mock_context: where the doubles belong; None: the context of the current barrier.
        dependencies: for each service the ones that must be up before it and until it is down.
        rules: held against the log at the end; see `ServiceRule`.
        connect: False: leave connecting to the test.
        max_concurrency: how many may be connected or closed at once.

    Returns:
        A context manager for ``with`` and ``async with``; it can be entered once. ``with`` is for synchronous
        code; inside of an event loop use ``async with``.

    Raises:
        UnknownServiceError: for a service that is not registered, with a suggestion.
        GraphError: on entering, for cycles and for dependencies that are not among the services; nothing was
            started then.
        ServiceRuleError: on leaving, if rules are broken; a note on the error of the body if there is one.
    """
    return Orchestration(
        services, mock_context, dependencies, rules=rules, connect=connect, max_concurrency=max_concurrency
    )


def complex_service_interaction_mock(
    names: Services, mock_context: MockContext | None = None, *, rules: Iterable[ServiceRule] = ()
) -> Orchestration:
    """Return doubles of *names*, with the dependencies they were registered with.

    The short form of `cross_service_mock_orchestration`; arguments and errors are the same.
    """
    return Orchestration(names, mock_context, rules=rules)


class _Bound:
    """The factory of one node: knows its service, takes nothing."""

    __slots__ = ("_factory", "_name")

    def __init__(self, factory: Callable[[str], Any], name: str) -> None:
        self._factory = factory
        self._name = name

    def __call__(self) -> Any:
        return self._factory(self._name)


def _needs(options: Mapping[str, object], dependencies: Dependencies) -> dict[str, tuple[str, ...]]:
    """Return all services with their dependencies; those of registered services are added."""
    declared = {
        str(name): tuple(map(str, (needs,) if isinstance(needs, str) else needs))
        for name, needs in dependencies.items()
    }
    for name in declared:
        if name not in options:
            raise UnknownServiceError(name, tuple(options), nearest(name, options), wanted_by="dependencies=")
    found: dict[str, tuple[str, ...]] = {}
    pending: list[tuple[str, str | None]] = [(name, None) for name in options]
    while pending:
        name, wanted_by = pending.pop(0)
        if name in found:
            continue
        registered = service_spec(name, wanted_by=wanted_by).depends_on
        found[name] = tuple(dict.fromkeys((*declared.get(name, ()), *registered)))
        pending.extend((each, name) for each in registered)
    return found


def _verdict(rule: ServiceRule, context: MockContext) -> list[str]:
    try:
        said = rule(context.log)
    except AssertionError as error:
        return [str(error)]
    return [] if said is None else list(said)


def _name_of(rule: object) -> str:
    return str(getattr(rule, "__name__", type(rule).__name__))
