"""The pytest fixtures of services and scenarios, in sync tests and in async ones of both plugins."""

from __future__ import annotations

import pytest

from isolation_core.services import ServiceType

SUITE = """
import sys
import pytest
from isolation_core import (
    MockContext, ServiceType, cross_service_mock_orchestration, register_service, isolation_barrier,
)
from isolation_core.services import ServiceDouble, operation

class Fake(ServiceDouble):
    # Stands in for the built-in doubles: these tests are about the fixtures.

    def __init__(self, context=None, *, name=None):
        super().__init__(context, name=name)
        self.sent = []

    @operation
    async def send(self, item):
        self._require_connected()
        self.sent.append(item)
        return len(self.sent)

for each in ServiceType:
    register_service(each, type(each.name, (Fake,), {"service": each}))
"""

ASYNC = """
async def test_double(isolated_kafka_mock, mock_context, isolation):
    await isolated_kafka_mock.connect()
    assert await isolated_kafka_mock.send(1) == 1
    isolated_kafka_mock.send.assert_awaited_once_with(1)
    assert mock_context is isolation.services
    assert mock_context["kafka"] is isolated_kafka_mock

async def test_double_is_fresh(isolated_kafka_mock):
    assert isolated_kafka_mock.sent == []
    isolated_kafka_mock.send.assert_not_called()

async def test_orchestration(mock_context):
    async with cross_service_mock_orchestration(
        [ServiceType.KAFKA, ServiceType.POSTGRES],
        mock_context,
        dependencies={ServiceType.KAFKA: [ServiceType.POSTGRES]},
    ) as services:
        await services[ServiceType.KAFKA].send("x")
        await services["postgres"].send("y")
    assert [entry.double for entry in mock_context.log.calls("*.connect")] == ["postgres", "kafka"]

async def test_factory(integration_scenario_factory):
    async with integration_scenario_factory("custom_test", ["kafka", "postgres", "workflow_coordinator"]) as (
        scenario, mocks,
    ):
        await mocks["workflow_coordinator"].send(1)
    assert scenario.requirements.used == ("workflow_coordinator",)

async def test_factory_awaited(integration_scenario_factory, isolation):
    scenario, mocks = await integration_scenario_factory("custom_test", ["kafka"])
    await mocks["kafka"].send(1)
    assert "custom_test" in scenario.context.owner and isolation.owner in scenario.context.owner

async def test_ready_made(kafka_postgres_integration_scenario):
    scenario, service_mocks = kafka_postgres_integration_scenario
    assert await service_mocks[ServiceType.KAFKA].send(1) == 1
    assert scenario.services == ("kafka", "postgres")

async def test_full(full_service_integration_scenario):
    scenario, service_mocks = full_service_integration_scenario
    assert set(service_mocks) == set(ServiceType)
    for double in service_mocks.values():
        await double.send(1)
    assert scenario.requirements.unused == ()
"""

SYNC = """
import asyncio

def test_sync(kafka_postgres_integration_scenario, isolated_redis_mock):
    scenario, mocks = kafka_postgres_integration_scenario
    assert asyncio.run(mocks["kafka"].send(1)) == 1
    asyncio.run(isolated_redis_mock.connect())
    assert asyncio.run(isolated_redis_mock.send(1)) == 1

@pytest.mark.parametrize("name", [str(each) for each in ServiceType])
def test_every_service_has_a_fixture(request, name):
    double = request.getfixturevalue(f"isolated_{name}_mock")
    assert double.service == name and not double.is_connected

def test_sync_factory(integration_scenario_factory):
    with integration_scenario_factory("sync", ["kafka"]) as (scenario, mocks):
        assert mocks["kafka"].is_connected

@pytest.fixture(scope="session")
def kept():
    return []

@pytest.mark.isolation(mode="off")
def test_keeps_a_double(isolated_kafka_mock, kept):
    kept.append(isolated_kafka_mock)

def test_uses_it_later(kept):
    from isolation_core.errors import MockDiscardedError
    with pytest.raises(MockDiscardedError, match="test_keeps_a_double had ended, during .*test_uses_it_later"):
        kept.pop().send
"""


def run(pytester: pytest.Pytester, source: str, *options: str) -> pytest.RunResult:
    """Run *source* as a suite in a process of its own, with the plugin in strict mode."""
    pytester.makepyfile(test_suite=SUITE + source)
    # What one test leaves with isolation off is seen at the next one only where hooks of others ran in between.
    without = ("-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:django")
    return pytester.runpytest_subprocess("-p", "isolation_pytest.plugin", "--isolation=strict", *without, *options)


def test_async_tests_of_anyio(pytester: pytest.Pytester) -> None:
    """All fixtures work in tests that anyio's plugin runs, on both loops."""
    header = """
pytestmark = pytest.mark.anyio

@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param
"""
    run(pytester, header + ASYNC, "-p", "no:asyncio").assert_outcomes(passed=14)


def test_async_tests_of_pytest_asyncio(pytester: pytest.Pytester) -> None:
    """All fixtures work in tests that pytest-asyncio runs."""
    pytest.importorskip("pytest_asyncio")
    result = run(
        pytester,
        ASYNC,
        "-o",
        "asyncio_mode=auto",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        "-p",
        "pytest_asyncio",
    )
    result.assert_outcomes(passed=7)


def test_sync_tests(pytester: pytest.Pytester) -> None:
    """All fixtures work in tests without an event loop; a double kept for the next test names whose it was."""
    run(pytester, SYNC, "-p", "no:asyncio").assert_outcomes(passed=4 + len(ServiceType))


LEFT = """
from isolation_core.services import ClientObject, fail

class Channel(ClientObject):
    def problems(self):
        return ("a channel was not closed",)

async def test_leaves_a_channel(isolated_kafka_mock):
    Channel(isolated_kafka_mock)

async def test_plans_a_fault(mock_context):
    mock_context.faults.add("kafka.send", fail())

async def test_is_tidy(isolated_kafka_mock):
    await isolated_kafka_mock.connect()
"""


def test_what_a_double_had_open_is_told_at_the_end_of_the_run(pytester: pytest.Pytester) -> None:
    """The terminal summary lists it under its test; mode strict fails that test alone; unused faults are notes."""
    header = """
pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""
    result = run(pytester, header + LEFT, "-p", "no:asyncio", "--isolation=restore", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "test_suite.py::test_leaves_a_channel",
            "  SVC001 kafka: a channel was not closed: open or unused at the end, ended",
        ]
    )
    result.stdout.fnmatch_lines(["  SVC002 faults: fail('unavailable') on kafka.send never fired*"])
    strict = run(pytester, header + LEFT, "-p", "no:asyncio")
    strict.assert_outcomes(passed=3, errors=1)
    strict.stdout.fnmatch_lines(["*SVC001 kafka: a channel was not closed*"])


def test_nothing_is_imported_unused(pytester: pytest.Pytester) -> None:
    """A suite that asks for none of these fixtures does not import the services."""
    pytester.makepyfile(
        test_plain="""
        import sys

        def test_plain(isolation):
            assert "isolation_core.services" not in sys.modules
            assert "isolation_core.scenarios" not in sys.modules
        """
    )
    pytester.runpytest_subprocess("-p", "isolation_pytest.plugin", "-p", "no:cacheprovider").assert_outcomes(passed=1)
