"""Fixtures of service doubles and scenarios.

They are synchronous, so that they work in every test: sync ones, those of
anyio's plugin and those of pytest-asyncio. A double is connected by the test
(``await isolated_kafka_mock.connect()``), those of a scenario are connected
already; the barrier awaits asynchronous cleanups at the end.
Nothing is imported until a test asks for one of them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from isolation_core.barrier import Barrier
    from isolation_core.scenarios import IntegrationScenario
    from isolation_core.services import MockContext, ServiceMocks
    from isolation_core.services.http import HttpDouble
    from isolation_core.services.kafka import KafkaDouble
    from isolation_core.services.nats import NatsDouble
    from isolation_core.services.postgres import PostgresDouble
    from isolation_core.services.rabbitmq import RabbitMQDouble
    from isolation_core.services.redis import RedisDouble
    from isolation_core.services.workflow import WorkflowCoordinatorDouble

__all__: list[str] = []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests with the marker ``services`` the fixture that reads it, before all others they ask for."""
    for item in items:
        names = getattr(item, "fixturenames", None)
        if names is not None and "_marked_services" not in names and item.get_closest_marker("services"):
            names.insert(0, "_marked_services")


@pytest.fixture
def _marked_services(request: pytest.FixtureRequest) -> None:
    """The services that the marker ``services`` requests."""
    marker = request.node.get_closest_marker("services")
    unknown = sorted(set(marker.kwargs) - {"install", "virtual_time"})
    if unknown:
        raise pytest.UsageError(f"{request.node.nodeid}: @pytest.mark.services() has no argument {', '.join(unknown)}")
    context: MockContext = request.getfixturevalue("mock_context")
    start = marker.kwargs.get("virtual_time", False)
    if start:
        context.use_virtual_time(None if start is True else start)
        item = request.node
        if inspect.iscoroutinefunction(item.obj):
            item.obj = _in_virtual_time(item.obj, context)
    for name in marker.args:
        double = context.service(name)
        if marker.kwargs.get("install"):
            double.install()


def _in_virtual_time(test: Callable[..., Awaitable[object]], context: MockContext) -> Callable[..., Awaitable[object]]:
    """Have virtual time from the first line of *test* on, not only from its first use of a double."""

    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> object:
        await context.clock.enter()
        return await test(*args, **kwargs)

    return run


@pytest.fixture
def mock_context(isolation: Barrier) -> MockContext:
    """The log, clock and fault plan of this test's service doubles."""
    return isolation.services


@pytest.fixture
def isolated_kafka_mock(mock_context: MockContext) -> KafkaDouble:
    """A Kafka double that belongs to this test, not connected yet."""
    double: KafkaDouble = mock_context.service("kafka")
    return double


@pytest.fixture
def isolated_postgres_mock(mock_context: MockContext) -> PostgresDouble:
    """A PostgreSQL double that belongs to this test, not connected yet.

    It records, and answers from stubs, unless the configuration or ``ISOLATION_CORE_POSTGRES``
    says that the backend is a real server.
    """
    from isolation_core.services import choose_backend, service_spec

    # A double that the user registered under this name has options of its own.
    theirs = not isinstance(service_spec("postgres").builder, str)
    decided = theirs or "postgres" in mock_context or choose_backend("postgres").pinned
    double: PostgresDouble = mock_context.service("postgres", **({} if decided else {"backend": "virtual"}))
    return double


@pytest.fixture
def isolated_redis_mock(mock_context: MockContext) -> RedisDouble:
    """A Redis double that belongs to this test, not connected yet."""
    double: RedisDouble = mock_context.service("redis")
    return double


@pytest.fixture
def isolated_rabbitmq_mock(mock_context: MockContext) -> RabbitMQDouble:
    """A RabbitMQ double that belongs to this test, not connected yet."""
    double: RabbitMQDouble = mock_context.service("rabbitmq")
    return double


@pytest.fixture
def isolated_nats_mock(mock_context: MockContext) -> NatsDouble:
    """A NATS double that belongs to this test, not connected yet."""
    double: NatsDouble = mock_context.service("nats")
    return double


@pytest.fixture
def isolated_http_mock(mock_context: MockContext) -> HttpDouble:
    """An HTTP double that belongs to this test, not connected yet."""
    double: HttpDouble = mock_context.service("http")
    return double


@pytest.fixture
def isolated_workflow_coordinator_mock(mock_context: MockContext) -> WorkflowCoordinatorDouble:
    """A workflow coordinator that belongs to this test, not connected yet."""
    double: WorkflowCoordinatorDouble = mock_context.service("workflow_coordinator")
    return double


@pytest.fixture
def integration_scenario_factory(isolation: Barrier) -> Callable[..., IntegrationScenario]:
    """Factory of scenarios, called with a name and services, which are entered as ``(scenario, mocks)``.

    ``await`` instead of ``async with`` makes one last until the test ends.
    """

    def make(
        name: str,
        services: Iterable[str] | Mapping[str, Mapping[str, Any]] | None = None,
        dependencies: Mapping[str, str | Iterable[str]] | None = None,
        **options: Any,
    ) -> IntegrationScenario:
        from isolation_core.scenarios import integration_scenario

        return integration_scenario(name, services, dependencies, **options)

    return make


@pytest.fixture
def kafka_postgres_integration_scenario(isolation: Barrier) -> Iterator[tuple[IntegrationScenario, ServiceMocks]]:
    """The scenario ``kafka_postgres`` and its doubles, connected: ``scenario, mocks = ...``."""
    yield from _ready_made("kafka_postgres")


@pytest.fixture
def full_service_integration_scenario(isolation: Barrier) -> Iterator[tuple[IntegrationScenario, ServiceMocks]]:
    """The scenario ``full_service``, with every built-in service, and its doubles, connected."""
    yield from _ready_made("full_service")


def _ready_made(name: str) -> Iterator[tuple[IntegrationScenario, ServiceMocks]]:
    from isolation_core.scenarios import integration_scenario

    with integration_scenario(name) as (scenario, mocks):
        yield scenario, mocks
