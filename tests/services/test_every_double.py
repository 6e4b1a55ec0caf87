"""Common parts of all doubles: behaviour, log and mock API, and the names of operations in rules."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock

import pytest

from isolation_core.errors import UnknownOperationError
from isolation_core.services import MockContext, known_services
from isolation_core.services._fault_actions import fail

pytestmark = pytest.mark.anyio

BUILT_IN = ("http", "kafka", "nats", "postgres", "rabbitmq", "redis", "workflow_coordinator")


async def _use(name: str, double: Any) -> None:
    """Do what the double is for, over what it hands out."""
    match name:
        case "kafka":
            await double.send_event("t", {"n": 1})
        case "postgres":
            double.when("SELECT 1").returns([{"n": 1}])
            pool = await double.create_pool()
            async with pool.acquire() as connection:
                assert await connection.fetchval("SELECT 1") == 1
        case "redis":
            await double.set("a", 1)
            assert await double.get("a") is not None
        case "rabbitmq":
            connection = await double.open_connection()
            async with connection, connection.channel() as channel:
                await channel.declare_queue("q")
        case "nats":
            async with await double.open_connection() as connection:
                js = connection.jetstream()
                await js.add_stream(name="S", subjects=["s"])
                assert (await js.publish("s", b"1")).seq == 1
        case _:
            assert (await double.health_check())["status"] == "up"


@pytest.mark.parametrize("name", BUILT_IN)
async def test_every_service_behaves_logs_and_can_be_configured(name: str, anyio_backend_name: str) -> None:
    """A double behaves, logs calls where they are made, and does what it is configured to do."""
    assert name in known_services()
    if name == "redis" and anyio_backend_name == "trio":
        pytest.skip("the Redis double runs on asyncio only")
    async with MockContext() as context:
        double: Any = context.service(name)
        assert isinstance(double.connect, AsyncMock)
        await double.connect()
        await _use(name, double)
        double.health_check.return_value = {"status": "configured"}
        assert await double.health_check() == {"status": "configured"}
        double.health_check.assert_awaited()
        forgotten = double.disconnect()
        assert context.log[-1].state == "called"
        forgotten.close()
        await double.disconnect()


@pytest.mark.parametrize(
    ("misspelt", "right"),
    [
        ("kafka.getmanyy", "getmany"),
        ("postgres.fetchvall", "fetchval"),
        ("redis.gett", "get"),
        ("rabbitmq.declare_queu", "declare_queue"),
        ("nats.add_strem", "add_stream"),
        ("nats.create_key_valu", "create_key_value"),
        ("http.health_chek", "health_check"),
        ("workflow_coordinator.start_workflw", "start_workflow"),
    ],
)
async def test_misspelt_operations_of_client_objects_are_refused(misspelt: str, right: str) -> None:
    """A rule about an operation that no client object has is an error with the nearest name; the right one is taken."""
    service = misspelt.partition(".")[0]
    async with MockContext() as context:
        context.service(service)
        with pytest.raises(UnknownOperationError, match=f"Did you mean '{right}'"):
            context.faults.add(misspelt, fail())
        context.faults.add(f"{service}.{right}", fail(), optional=True)


async def test_a_second_double_is_known_by_its_own_name() -> None:
    """Rules may name a second double of a service, and are checked all the same."""
    async with MockContext() as context:
        context.service("nats", name="nats2")
        context.faults.add("nats2.publish", fail(), optional=True)
        with pytest.raises(UnknownOperationError, match="Did you mean 'publish'"):
            context.faults.add("nats2.publsh", fail())
