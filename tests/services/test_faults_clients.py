"""Faults of the built-in services do what a failing server does to the client: timeouts, and connections that end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiokafka.errors  # type: ignore[import-untyped]
import anyio
import httpx
import nats.errors
import pytest
import redis.exceptions

from isolation_core.services import MockContext, ServiceDouble, delay, disconnect, fail, hang, lose_reply, operation
from isolation_core.services._fault_actions import FaultAction

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True


@pytest.fixture
def context() -> Iterator[MockContext]:
    """A context in virtual time."""
    with MockContext("a test", virtual_time=True, report=lambda _: None) as made:
        yield made


async def nats_request(context: MockContext) -> Any:
    """Wait for an answer for five seconds."""
    nc = await context.service("nats").open_connection()
    return await nc.request("q", timeout=5)


async def nats_next(context: MockContext) -> Any:
    """Wait for a message for five seconds."""
    nc = await context.service("nats").open_connection()
    return await (await nc.subscribe("q")).next_msg(timeout=5)


async def rabbit_publish(context: MockContext) -> Any:
    """Wait for a confirmation for five seconds."""
    connection = await context.service("rabbitmq").open_connection("amqp://x/")
    channel = await connection.channel()
    return await channel.declare_queue("q", timeout=5)


async def kafka_send(context: MockContext) -> Any:
    """Wait for the broker for five seconds."""
    kafka = await context.service("kafka").connect()
    producer = kafka.producer_class(request_timeout_ms=5000)
    await producer.start()
    return await producer.send_and_wait("t", b"x")


async def http_get(context: MockContext) -> Any:
    """Wait for a response for five seconds."""
    http = context.service("http")
    http.route("GET", "/x").optional().respond(200)
    async with httpx.AsyncClient(transport=http.transport, base_url="https://x", timeout=5) as client:
        return await client.get("/x")


async def http_own(context: MockContext) -> Any:
    """Wait as long as httpx does by default."""
    http = await context.service("http").connect()
    http.route("GET", "/x").optional().respond(200)
    return await http.get("/x")


CALLS: dict[str, tuple[Callable[[MockContext], Awaitable[Any]], type[BaseException]]] = {
    "nats.request": (nats_request, nats.errors.TimeoutError),
    "nats.next_msg": (nats_next, nats.errors.TimeoutError),
    "rabbitmq.declare_queue": (rabbit_publish, TimeoutError),
    "kafka.send_and_wait": (kafka_send, aiokafka.errors.KafkaTimeoutError),
    "http.handle": (http_get, httpx.ReadTimeout),
    "http.get": (http_own, httpx.ReadTimeout),
}


@pytest.mark.parametrize("action", [delay(30), hang()], ids=str)
@pytest.mark.parametrize("name", CALLS)
async def test_slow_calls_time_out_as_in_the_client(context: MockContext, name: str, action: FaultAction) -> None:
    """A delay longer than the timeout of the call, and a hang, end by that timeout, with the client's own error."""
    call, error = CALLS[name]
    context.faults.add(name, action)
    began = context.clock.now()
    with pytest.raises(error):
        await call(context)
    assert context.clock.now() - began == pytest.approx(5, abs=0.1)


async def test_a_delay_shorter_than_the_timeout_is_waited_for(context: MockContext) -> None:
    """A call that is slow, but not too slow, succeeds."""
    context.faults.add("kafka.send_and_wait", delay(4))
    await kafka_send(context)
    assert context.clock.now() == pytest.approx(4, abs=0.1)


async def test_a_read_without_an_answer_is_empty(context: MockContext) -> None:
    """A poll of Kafka that times out gives nothing, it does not raise."""
    kafka = await context.service("kafka").connect()
    await kafka.send_event("t", 1)
    context.faults.add("kafka.getmany", hang(), nth=1)
    consumer = kafka.consumer_class("t", auto_offset_reset="earliest")
    await consumer.start()
    assert await consumer.getmany(timeout_ms=5000) == {}
    assert context.clock.now() == pytest.approx(5, abs=0.1)
    assert await consumer.getmany(timeout_ms=5000)
    await consumer.stop()


def test_synchronous_requests_time_out_as_well(context: MockContext) -> None:
    """A synchronous client waits by the clock, as long as its timeout."""
    http = context.service("http")
    http.route("GET", "/x").respond(200).reusable()
    context.faults.add("http.handle_sync", delay(30), nth=1)
    context.faults.add("http.handle_sync", delay(2), nth=2)
    with httpx.Client(transport=http.transport, base_url="https://x", timeout=5) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.get("/x")
        assert context.clock.now() == 5
        assert client.get("/x").status_code == 200
        assert context.clock.now() == 7


@pytest.mark.parametrize("action", [fail("disconnected"), lose_reply("disconnected"), disconnect()], ids=str)
async def test_a_connection_of_nats_is_closed_by_a_disconnect(context: MockContext, action: FaultAction) -> None:
    """After a disconnect the connection and its subscriptions are gone, and the callbacks were called."""
    told: list[str] = []
    closed = anyio.Event()

    async def disconnected_cb() -> None:
        told.append("disconnected")

    async def closed_cb() -> None:
        told.append("closed")
        closed.set()

    double = context.service("nats")
    nc = await double.open_connection(disconnected_cb=disconnected_cb, closed_cb=closed_cb)
    subscription = await nc.subscribe("a")
    context.faults.add("nats.publish", action, nth=1)
    with pytest.raises(nats.errors.ConnectionClosedError):
        await nc.publish("a", b"x")
    assert nc.is_closed
    context.faults.clear()
    with pytest.raises(nats.errors.ConnectionClosedError):
        await nc.publish("a", b"x")
    with pytest.raises(nats.errors.ConnectionClosedError):
        await subscription.next_msg()
    if str(action) != "disconnect()":
        await closed.wait()
        assert told == ["disconnected", "closed"]
    again = await double.open_connection()
    await again.publish("a", b"x")
    await again.close()


@pytest.mark.parametrize("action", [fail("disconnected"), lose_reply("disconnected"), disconnect()], ids=str)
async def test_a_connection_of_rabbitmq_is_closed_by_a_disconnect(context: MockContext, action: FaultAction) -> None:
    """After a disconnect connection and channel are closed, and what was not acknowledged is in its queue again."""
    double = context.service("rabbitmq")
    connection = await double.open_connection("amqp://x/")
    channel = await connection.channel()
    queue = await channel.declare_queue("q")
    from isolation_core.services.rabbitmq import Message

    await channel.default_exchange.publish(Message(b"job"), "q")
    message = await queue.get()
    context.faults.add("rabbitmq.ack", action, nth=1)
    with pytest.raises(ConnectionError):
        await message.ack()
    assert connection.is_closed
    assert channel.is_closed
    context.faults.clear()
    with pytest.raises(Exception, match="closed"):
        await queue.get()
    if str(action) == "fail('disconnected')":
        assert double.messages("q") == [b"job"]


async def test_redis_ignores_the_timeouts_of_commands(context: MockContext) -> None:
    """A server that does not answer is noticed by socket_timeout, not by the timeout a blocking command takes."""
    if context.clock.is_virtual and not _is_asyncio():
        pytest.skip("the Redis double runs on asyncio only, as its client does")
    r = context.service("redis", socket_timeout=5)
    context.faults.add("redis.blpop", hang())
    with pytest.raises(redis.exceptions.TimeoutError):
        await r.blpop(["q"], timeout=60)
    assert context.clock.now() == pytest.approx(5, abs=0.1)


def _is_asyncio() -> bool:
    import asyncio

    return asyncio._get_running_loop() is not None


async def test_a_double_of_the_user_has_the_same(context: MockContext) -> None:
    """A double written by a user times out by its argument ``timeout`` and learns of lost connections."""

    class Box(ServiceDouble):
        service = "box"
        lost: list[BaseException]

        def __init__(self, context: MockContext) -> None:
            super().__init__(context)
            self.lost = []

        @operation
        async def get(self, timeout: float | None = None) -> int:
            return 1

        def connection_lost(self, error: BaseException) -> None:
            self.lost.append(error)

    box = Box(context)
    context.faults.add("box.get", hang(), nth=1)
    context.faults.add("box.get", fail("disconnected"), nth=2)
    with pytest.raises(TimeoutError):
        await box.get(timeout=3)
    assert context.clock.now() == 3
    with pytest.raises(ConnectionError) as caught:
        await box.get()
    assert box.lost == [caught.value]
