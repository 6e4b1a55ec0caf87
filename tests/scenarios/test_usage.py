"""Usage as documented, with the built-in doubles: Kafka and PostgreSQL together, and an outbox that loses messages."""

from __future__ import annotations

from typing import Any

import pytest

from isolation_core import (
    ServiceType,
    complex_service_interaction_mock,
    cross_service_mock_orchestration,
    integration_scenario,
)
from isolation_core._backends import choose_backend
from isolation_core.services import MockContext, fault_matrix, lose_reply

pytestmark = pytest.mark.anyio


@pytest.fixture
def rows(anyio_backend: str) -> None:
    """Rows come from the embedded PostgreSQL, through asyncpg."""
    if anyio_backend != "asyncio" or choose_backend("postgres").kind != "real":
        pytest.skip("no rows without a real PostgreSQL, and asyncpg runs on asyncio only")


async def test_a_kafka_mock_on_its_own() -> None:
    """Connect, send an event, and assert on it."""
    async with MockContext() as context:
        kafka = context.service(ServiceType.KAFKA)
        await kafka.connect()
        await kafka.send_event("test.topic", {"key": "value"})
        kafka.send_event.assert_awaited_once_with("test.topic", {"key": "value"})
        assert kafka.is_connected


@pytest.mark.usefixtures("rows")
async def test_orchestration_of_kafka_and_postgres() -> None:
    """Inserted rows can be selected, and a message sent afterwards comes later in the log."""
    async with (
        MockContext() as context,
        cross_service_mock_orchestration(
            [ServiceType.KAFKA, ServiceType.POSTGRES],
            context,
            dependencies={ServiceType.KAFKA: [ServiceType.POSTGRES]},
        ) as services,
    ):
        postgres, kafka = services[ServiceType.POSTGRES], services["kafka"]
        await postgres.execute_query("CREATE TABLE users (id int PRIMARY KEY)")
        await postgres.execute_query("INSERT INTO users (id) VALUES (%s)", (123,))
        await kafka.send_event("user.created", {"id": 123})
        assert await postgres.fetchval("SELECT id FROM users") == 123
        context.log.assert_in_order("postgres.execute_query", "kafka.send_event")


async def test_complex_interaction_by_names() -> None:
    """Names are enough."""
    async with MockContext() as context, complex_service_interaction_mock(["kafka", "postgres"], context) as mocks:
        assert all(double.is_connected for double in mocks.values())


@pytest.mark.parametrize("name", ["kafka_postgres", "full_service"])
async def test_ready_made_scenarios(name: str, anyio_backend: str) -> None:
    """Both ready-made scenarios start, with every service connected, and end."""
    if (name, anyio_backend) == ("full_service", "trio"):
        pytest.skip("the Redis double runs on asyncio only, as its client does")
    async with integration_scenario(name) as (scenario, mocks):
        assert set(scenario.services) == set(mocks)
        for double in mocks.values():
            assert (await double.health_check())["status"] == "up"
    assert not any(double.is_connected for double in mocks.values())


async def test_a_scenario_by_names() -> None:
    """A custom scenario of three services."""
    async with integration_scenario("custom_test", ["kafka", "postgres", "workflow_coordinator"]) as (scenario, mocks):
        await mocks["kafka"].send_event("t", 1)
    assert scenario.requirements.used == ("kafka",)


def publisher(*, mark_first: bool) -> Any:
    """An outbox publisher: correct, or with the bug that marks a message as sent before it is."""

    async def run(context: MockContext) -> None:
        postgres, kafka = context.service("postgres"), context.service("kafka")
        await postgres.connect()
        await kafka.connect()
        await postgres.execute_query("CREATE TABLE outbox (id int PRIMARY KEY, sent boolean)")
        await postgres.execute_query("INSERT INTO outbox (id, sent) VALUES (1, false), (2, false)")
        for number in (1, 2):

            async def mark(number: int = number) -> None:
                await postgres.execute_query("UPDATE outbox SET sent = true WHERE id = %s", (number,))

            async def send(number: int = number) -> None:
                await kafka.send_event("orders", {"id": number})

            for step in (mark, send) if mark_first else (send, mark):
                await step()

    return run


async def nothing_lost(context: MockContext) -> None:
    """Every message that is marked as sent was sent."""
    postgres, kafka = context["postgres"], context["kafka"]
    if not postgres.is_connected:
        return
    marked = {row["id"] for row in await postgres.fetch("SELECT id FROM outbox WHERE sent")}
    sent = {
        entry.arguments["data"]["id"]
        for entry in context.log.calls("kafka.send_event", where=lambda entry: entry.state == "returned")
    }
    assert marked <= sent, f"messages {marked - sent} are marked as sent, but were not"
    assert kafka.is_connected


@pytest.mark.usefixtures("rows")
async def test_a_failure_at_each_call_finds_the_lost_message() -> None:
    """A failure at every call of the outbox finds the planted bug, and nothing in the correct one."""
    calls = ("kafka.send_event", "postgres.execute_query")
    for pattern in calls:
        (await fault_matrix(publisher(mark_first=False), nothing_lost_or_unset, on=pattern)).assert_holds()
    bad = await fault_matrix(publisher(mark_first=True), nothing_lost_or_unset, on="kafka.send_event")
    assert [case.number for case in bad.violations] == [1, 2]


async def nothing_lost_or_unset(context: MockContext) -> None:
    """As `nothing_lost`; a run that failed before there was a table has lost nothing."""
    inserted = [
        entry
        for entry in context.log.calls("postgres.execute_query")
        if "INSERT" in entry.args[0] and entry.state == "returned"
    ]
    if inserted:
        await nothing_lost(context)


async def test_a_lost_reply_sends_twice() -> None:
    """With the reply lost, a publisher that retries sends the same message twice."""

    async def retrying(context: MockContext) -> None:
        kafka = await context.service("kafka").connect()
        for _ in range(2):
            try:
                await kafka.send_event("orders", {"id": 1}, key=b"1")
            except Exception:
                continue
            break

    def once(context: MockContext) -> None:
        sent = context.log.calls("kafka.send_event", topic="orders")
        assert len(sent) == 1, f"sent {len(sent)} times"

    matrix = await fault_matrix(retrying, once, on="kafka.send_event", action=lose_reply())
    assert [case.number for case in matrix.violations] == [1]
