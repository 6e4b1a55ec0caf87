"""A message of one scenario that turns up in another: both sides are named."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from isolation_core import IntegrationScenario, integration_scenario, isolation_barrier
from isolation_core.errors import ForeignMockUseError
from isolation_core.services import ServiceDouble, operation
from isolation_core.services import _provenance as provenance

pytestmark = pytest.mark.anyio


class Sink(ServiceDouble):
    """Takes anything."""

    service = "sink"

    @operation
    async def take(self, *what: object) -> None:
        pass


async def from_kafka(kafka: Any) -> object:
    """Return a record read with the double."""
    await kafka.send_event("t", {"id": 1})
    record: object = await kafka.consume("t")
    return record


async def from_a_kafka_consumer(kafka: Any) -> object:
    """Return a record read with a consumer."""
    await kafka.send_event("t", {"id": 1})
    async with kafka.consumer("t", auto_offset_reset="earliest") as consumer:
        record: object = await consumer.getone()
    return record


async def from_kafka_topic(kafka: Any) -> object:
    """Return a record looked at."""
    await kafka.send_event("t", {"id": 1})
    (record,) = kafka.messages("t")
    return record


async def from_rabbitmq(rabbitmq: Any) -> object:
    """Return a message of a queue, acknowledged."""
    await rabbitmq.declare_queue("t")
    await rabbitmq.publish("", "t", b"1")
    message: Any = await rabbitmq.consume("t")
    await message.ack()
    return message


async def from_nats(nats: Any) -> object:
    """Return a message of a subscription."""
    subscription = await nats.subscribe("t")
    await nats.publish("t", b"1")
    message: object = await subscription.next_msg(1)
    await subscription.unsubscribe()
    return message


Source = Callable[[Any], Awaitable[object]]
SOURCES = [
    ("kafka", from_kafka),
    ("kafka", from_a_kafka_consumer),
    ("kafka", from_kafka_topic),
    ("rabbitmq", from_rabbitmq),
    ("nats", from_nats),
]


async def leave_one(service: str, source: Source) -> tuple[IntegrationScenario, object]:
    """Return a message of a scenario that has ended, with the scenario."""
    async with integration_scenario("first", [service]) as (scenario, mocks):
        message = await source(mocks[service])
    return scenario, message


@pytest.mark.parametrize(("service", "source"), SOURCES, ids=lambda each: getattr(each, "__name__", each))
@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_message_of_a_scenario_in_another(service: str, source: Source, wrapped: bool) -> None:
    """A message passed to a double of another scenario, bare or in a container, is reported to both."""
    first, message = await leave_one(service, source)
    async with integration_scenario("second", []) as (second, _):
        sink = Sink(second.context)
        await sink.take({"original": message} if wrapped else message)
    (use,) = second.context.foreign_uses
    assert use in first.context.foreign_uses
    assert (use["what"], use["path"], use["owner"], use["user"], use["operation"]) == (
        "message", f"{service}.message", first.context.owner, second.context.owner, "sink.take",
    )  # fmt: skip


@pytest.mark.parametrize(("service", "source"), SOURCES, ids=lambda each: getattr(each, "__name__", each))
async def test_in_strict_mode_it_is_an_error(service: str, source: Source) -> None:
    """The error names the message, whose it was, and who used it."""
    _, message = await leave_one(service, source)
    async with integration_scenario("second", []) as (second, _):
        second.context.mocks.strict = True
        with pytest.raises(
            ForeignMockUseError, match=rf"the message '{service}\.message' of scenario 'first'.*'second'"
        ):
            await Sink(second.context).take(message)


@pytest.mark.parametrize(("service", "source"), SOURCES, ids=lambda each: getattr(each, "__name__", each))
async def test_its_own_messages_and_those_of_the_barrier_around_are_fine(service: str, source: Source) -> None:
    """Within a scenario, and from the barrier into a scenario, a message may be used."""
    async with isolation_barrier() as barrier:
        theirs = await source(await barrier.service(service).connect())
        async with integration_scenario("inner", [service]) as (scenario, mocks):
            own = await source(mocks[service])
            await Sink(scenario.context).take(own, theirs, [own, theirs])
        assert scenario.context.foreign_uses == barrier.services.foreign_uses == []


async def test_marks_go_with_their_messages() -> None:
    """Messages that are not referenced any more leave no records behind."""
    gc.collect()
    before = len(provenance._marks)
    _, message = await leave_one("kafka", from_kafka)
    assert provenance.sender_of(message) is not None
    assert provenance.sender_of([message]) is None
    del message
    gc.collect()
    assert len(provenance._marks) <= before
