"""RabbitMQ: one body for each promise, over the double and over a real server with aio-pika."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import anyio
import pytest
from aio_pika import Message
from aio_pika import exceptions as amqp
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource

from isolation_core.services import MockContext
from isolation_core.services.rabbitmq import RabbitMQDouble


def _is_up(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


REAL = _is_up(5672)

# aio-pika runs on asyncio only.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        ("anyio_backend", "side"),
        [
            ("asyncio", "double"),
            ("trio", "double"),
            pytest.param(
                "asyncio", "real", marks=pytest.mark.skipif(not REAL, reason="no RabbitMQ server on 127.0.0.1:5672")
            ),
        ],
        indirect=True,
    ),
]
VIRTUAL_TIME = True


class Side:
    """The double or the server, with names of this test alone."""

    def __init__(self, double: RabbitMQDouble | None) -> None:
        self.double = double
        self.prefix = uuid.uuid4().hex[:10]
        self.connections: list[Any] = []

    def name(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    async def connect(self) -> Any:
        if self.double is not None:
            connection: Any = await self.double.open_connection("amqp://guest:guest@127.0.0.1/")
        else:
            connection = await aio_pika.connect("amqp://guest:guest@127.0.0.1/")
        self.connections.append(connection)
        return connection

    async def channel(self, **options: Any) -> Any:
        connection = self.connections[0] if self.connections else await self.connect()
        return await connection.channel(**options)

    async def queue(self, channel: Any, name: str = "q", **options: Any) -> Any:
        return await channel.declare_queue(self.name(name), **({"exclusive": True} | options))

    async def pause(self, seconds: float) -> None:
        """Let virtual time pass, or a little real time."""
        if self.double is not None:
            await self.double.context.clock.sleep(seconds)
        else:
            await asyncio.sleep(seconds)

    async def until(self, condition: Any) -> None:
        for _ in range(200):
            if condition():
                return
            await self.pause(0.002)
        raise AssertionError("it never came true")


@pytest.fixture
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    """Give the double or the server."""
    if request.param == "real":
        each = Side(None)
        yield each
        for connection in each.connections:
            await connection.close()
        return
    async with MockContext("behaviour", virtual_time=True) as context:
        yield Side(RabbitMQDouble(context))


async def publish(channel: Any, key: str, body: bytes = b"x", exchange: str = "", **options: Any) -> Any:
    """Publish a message of those properties."""
    target = channel.default_exchange if not exchange else await channel.get_exchange(exchange, ensure=False)
    return await target.publish(Message(body, **options), key)


async def nothing(_message: Any) -> None:
    """Take a message and leave it."""


async def bodies(queue: Any) -> list[bytes]:
    """Take and acknowledge all that is ready."""
    found = []
    while (message := await queue.get(fail=False)) is not None:
        found.append(message.body)
        await message.ack()
    return found


async def test_what_is_published_can_be_got(side: Side) -> None:
    """Body, headers and properties arrive; the default exchange routes by the name of the queue."""
    channel = await side.channel()
    queue = await side.queue(channel)
    answer = await publish(
        channel, queue.name, b"body", headers={"a": 1}, priority=3, correlation_id="c", reply_to="r", expiration=5
    )
    assert answer.name == "Basic.Ack"
    message = await queue.get()
    assert (message.body, message.headers, message.priority) == (b"body", {"a": 1}, 3)
    assert (message.correlation_id, message.reply_to, message.expiration) == ("c", "r", 5.0)
    assert (message.exchange, message.routing_key, message.redelivered) == ("", queue.name, False)
    assert message.message_count == 0
    await message.ack()
    assert await queue.get(fail=False) is None
    with pytest.raises(amqp.QueueEmpty):
        await queue.get()


@pytest.mark.parametrize(
    ("kind", "bindings", "key", "expected"),
    [
        ("direct", ["a", "b"], "a", [1, 0]),
        ("fanout", ["a", "b"], "zzz", [1, 1]),
        ("topic", ["a.*", "a.#"], "a", [0, 1]),
        ("topic", ["a.*", "*.b"], "a.b", [1, 1]),
        ("topic", ["#.c", "a.#.c"], "a.b.b.c", [1, 1]),
        ("topic", ["*", "#"], "", [0, 1]),
        ("topic", ["a.*.c", "a.b"], "a.b.c", [1, 0]),
        ("topic", ["#.#", "*.#.*"], "a", [1, 0]),
    ],
)
async def test_exchanges_route_by_their_type(
    side: Side, kind: str, bindings: list[str], key: str, expected: list[int]
) -> None:
    """Direct, fanout and topic exchanges; words of a topic are matched by * and #."""
    channel = await side.channel()
    exchange = await channel.declare_exchange(side.name("x"), kind, auto_delete=True)
    queues = []
    for number, binding in enumerate(bindings):
        queue = await side.queue(channel, f"q{number}")
        await queue.bind(exchange, binding)
        queues.append(queue)
    await exchange.publish(Message(b"x"), key)
    assert [len(await bodies(queue)) for queue in queues] == expected


@pytest.mark.parametrize(
    ("arguments", "headers", "expected"),
    [
        ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 3}, 1),
        ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1}, 0),
        ({"x-match": "any", "a": 1, "b": "x"}, {"a": 1}, 1),
        ({"x-match": "any", "a": 1}, {"a": 2}, 0),
        ({"a": 1}, {"a": 1}, 1),
    ],
)
async def test_headers_exchanges_match_headers(
    side: Side, arguments: dict[str, Any], headers: dict[str, Any], expected: int
) -> None:
    """All of the headers of the binding, or any of them."""
    channel = await side.channel()
    exchange = await channel.declare_exchange(side.name("x"), "headers", auto_delete=True)
    queue = await side.queue(channel)
    await queue.bind(exchange, "", arguments=arguments)
    await exchange.publish(Message(b"x", headers=headers), "")
    assert len(await bodies(queue)) == expected


async def test_a_queue_gets_a_message_once(side: Side) -> None:
    """Two matching bindings deliver one message; unbinding ends delivery and accepts an unknown binding."""
    channel = await side.channel()
    exchange = await channel.declare_exchange(side.name("x"), "topic", auto_delete=True)
    queue = await side.queue(channel)
    await queue.bind(exchange, "a.*")
    await queue.bind(exchange, "#")
    await exchange.publish(Message(b"1"), "a.b")
    assert await bodies(queue) == [b"1"]
    await queue.unbind(exchange, "#")
    await queue.unbind(exchange, "never")
    await exchange.publish(Message(b"2"), "z", mandatory=False)
    assert await bodies(queue) == []


async def test_exchanges_can_be_bound_to_exchanges(side: Side) -> None:
    """A message goes on from exchange to exchange."""
    channel = await side.channel()
    source = await channel.declare_exchange(side.name("source"), "topic", auto_delete=True)
    target = await channel.declare_exchange(side.name("target"), "fanout", auto_delete=True)
    queue = await side.queue(channel)
    await queue.bind(target, "")
    await target.bind(source, "a.#")
    await source.publish(Message(b"1"), "a.b")
    assert await bodies(queue) == [b"1"]
    await target.unbind(source, "a.#")


async def test_unroutable_messages_come_back(side: Side) -> None:
    """Returned to the callback and to the publisher; raised if the channel was opened so; dropped if not mandatory."""
    channel = await side.channel()
    returned: list[Any] = []
    channel.return_callbacks.add(lambda _channel, message: returned.append(message))
    key = side.name("nowhere")
    answer = await channel.default_exchange.publish(Message(b"x"), key)
    assert (answer.delivery.reply_text, answer.delivery.routing_key, answer.body) == ("NO_ROUTE", key, b"x")
    assert [message.body for message in returned] == [b"x"]
    assert (await channel.default_exchange.publish(Message(b"x"), key, mandatory=False)).name == "Basic.Ack"
    raising = await side.channel(on_return_raises=True)
    with pytest.raises(amqp.PublishError):
        await raising.default_exchange.publish(Message(b"x"), key)
    assert not raising.is_closed
    unconfirmed = await side.channel(publisher_confirms=False)
    assert await unconfirmed.default_exchange.publish(Message(b"x"), key) is None


@pytest.mark.parametrize(
    ("error", "ask"),
    [
        (amqp.ChannelPreconditionFailed, lambda c, s: c.declare_queue(s.name("q"), exclusive=True, auto_delete=True)),
        (amqp.ChannelPreconditionFailed, lambda c, s: s.queue(c, arguments={"x-max-length": 3})),
        (amqp.ChannelPreconditionFailed, lambda c, s: c.declare_queue(s.name("n"), arguments={"x-message-ttl": -1})),
        (amqp.ChannelPreconditionFailed, lambda c, s: c.declare_queue(s.name("n"), arguments={"x-message-ttl": "1"})),
        (amqp.ChannelPreconditionFailed, lambda c, s: c.declare_queue(s.name("n"), arguments={"x-overflow": "x"})),
        (amqp.ChannelPreconditionFailed, lambda c, s: s.queue(c, "n", arguments={"x-dead-letter-routing-key": "x"})),
        (amqp.ChannelNotFoundEntity, lambda c, s: c.declare_queue(s.name("none"), passive=True)),
        (amqp.ChannelNotFoundEntity, lambda c, s: c.declare_exchange(s.name("none"), passive=True)),
        (amqp.ChannelNotFoundEntity, lambda c, s: publish(c, "k", exchange=s.name("none"))),
        (ChannelAccessRefused, lambda c, s: c.declare_queue("amq.mine")),
        (ChannelAccessRefused, lambda c, s: c.declare_exchange("amq.mine")),
        (ChannelAccessRefused, lambda c, s: c.declare_exchange("")),
        (amqp.ChannelPreconditionFailed, lambda c, s: c.declare_exchange("amq.topic", "direct", durable=True)),
        (amqp.ChannelPreconditionFailed, lambda c, s: c.declare_exchange("amq.topic", "topic")),
    ],
)  # fmt: skip
async def test_what_the_broker_refuses_closes_the_channel(side: Side, error: type[Exception], ask: Any) -> None:
    """With the client's class for the reason; afterwards the channel is of no use, and others are."""
    keeper = await side.channel()
    await side.queue(keeper)
    channel = await side.channel()
    with pytest.raises(error):
        await ask(channel, side)
    assert channel.is_closed
    with pytest.raises(amqp.ChannelInvalidStateError):
        await channel.declare_queue(side.name("again"))
    assert not keeper.is_closed


@pytest.mark.parametrize("what", ["get", "consume", "purge", "bind"])
async def test_queues_that_are_not_there(side: Side, what: str) -> None:
    """Every use closes the channel; deleting one is as good as done."""
    channel = await side.channel()
    assert (await channel.queue_delete(side.name("none"))).message_count == 0
    await channel.exchange_delete(side.name("none"))
    queue = await channel.get_queue(side.name("none"), ensure=False)
    calls: dict[str, Any] = {
        "get": queue.get, "purge": queue.purge,
        "consume": lambda: queue.consume(nothing), "bind": lambda: queue.bind("amq.topic", "k"),
    }  # fmt: skip
    with pytest.raises(amqp.ChannelNotFoundEntity):
        await calls[what]()
    assert channel.is_closed


async def test_exclusive_queues_belong_to_their_connection(side: Side) -> None:
    """Another connection can neither declare nor use one; it goes with its connection."""
    mine, other = await side.connect(), await side.connect()
    await side.queue(await mine.channel())
    for _ in range(2):
        channel = await other.channel()
        with pytest.raises(ChannelLockedResource):
            await channel.declare_queue(side.name("q"), exclusive=True)
    await mine.close()
    with pytest.raises(amqp.ChannelNotFoundEntity):
        await (await other.channel()).declare_queue(side.name("q"), passive=True)


async def test_a_rejected_message_comes_back_to_its_place(side: Side) -> None:
    """Requeued messages keep their order and are marked as redelivered."""
    channel = await side.channel()
    queue = await side.queue(channel)
    for body in (b"1", b"2", b"3"):
        await publish(channel, queue.name, body)
    first, second = await queue.get(), await queue.get()
    await second.reject(requeue=True)
    await first.nack()
    got = [await queue.get() for _ in range(3)]
    assert [(each.body, each.redelivered) for each in got] == [(b"1", True), (b"2", True), (b"3", False)]
    await got[-1].ack(multiple=True)
    assert await queue.get(fail=False) is None


async def test_a_message_is_settled_once(side: Side) -> None:
    """Settling it again raises, and so does settling one that needed no acknowledgement."""
    channel = await side.channel()
    queue = await side.queue(channel)
    await publish(channel, queue.name)
    await publish(channel, queue.name)
    message = await queue.get()
    await message.ack()
    assert message.processed
    for again in (message.ack, message.reject, message.nack):
        with pytest.raises(amqp.MessageProcessError):
            await again()
    free = await queue.get(no_ack=True)
    for settle in (free.ack, free.reject, free.nack):
        with pytest.raises(TypeError):
            await settle()


async def test_closing_a_channel_gives_messages_back(side: Side) -> None:
    """Unacknowledged messages are redelivered to others; the closed channel cannot settle them any more."""
    channel = await side.channel()
    keeper = await side.channel()
    queue = await side.queue(keeper)
    await publish(keeper, queue.name)
    message = await (await channel.get_queue(queue.name)).get()
    await channel.close()
    with pytest.raises(amqp.ChannelInvalidStateError):
        await message.ack()
    again = await queue.get()
    assert again.redelivered
    await again.ack()


async def test_consumers_are_called(side: Side) -> None:
    """For what is there already and for what comes; not any more once cancelled."""
    channel = await side.channel()
    queue = await side.queue(channel)
    await publish(channel, queue.name, b"1")
    got: list[bytes] = []

    async def take(message: Any) -> None:
        async with message.process():
            got.append(message.body)

    tag = await queue.consume(take)
    await publish(channel, queue.name, b"2")
    await side.until(lambda: len(got) == 2)
    await queue.cancel(tag)
    await publish(channel, queue.name, b"3")
    await side.pause(0.02)
    assert got == [b"1", b"2"]
    assert await bodies(queue) == [b"3"]
    await queue.consume(take, consumer_tag="mine")
    with pytest.raises(amqp.DuplicateConsumerTag):
        await queue.consume(take, consumer_tag="mine")


async def test_process_rejects_when_its_body_raises(side: Side) -> None:
    """With requeue it comes back, without it is gone."""
    channel = await side.channel()
    queue = await side.queue(channel)
    await publish(channel, queue.name)
    for requeue in (True, False):
        message = await queue.get()
        with pytest.raises(LookupError):
            async with message.process(requeue=requeue):
                raise LookupError
    await side.pause(0.005)
    assert await queue.get(fail=False) is None


async def test_prefetch_limits_what_a_consumer_holds(side: Side) -> None:
    """The next message comes with the acknowledgement of one before."""
    channel = await side.channel()
    await channel.set_qos(prefetch_count=2)
    queue = await side.queue(channel)
    held: list[Any] = []

    async def hold(message: Any) -> None:
        held.append(message)

    await queue.consume(hold)
    for number in range(4):
        await publish(channel, queue.name, b"%d" % number)
    await side.until(lambda: len(held) == 2)
    await side.pause(0.02)
    assert len(held) == 2
    await held[0].ack()
    await side.until(lambda: len(held) == 3)
    assert [each.body for each in held] == [b"0", b"1", b"2"]


async def test_consumers_take_turns(side: Side) -> None:
    """Round-robin; with a single active consumer only the first, until it leaves."""
    channel = await side.channel()
    got: list[tuple[str, bytes]] = []

    def taking(name: str) -> Any:
        async def take(message: Any) -> None:
            got.append((name, message.body))
            await message.ack()

        return take

    queue = await side.queue(channel)
    await queue.consume(taking("a"))
    await queue.consume(taking("b"))
    for number in range(4):
        await publish(channel, queue.name, b"%d" % number)
    await side.until(lambda: len(got) == 4)
    assert sorted(got) == [("a", b"0"), ("a", b"2"), ("b", b"1"), ("b", b"3")]
    got.clear()
    single = await side.queue(channel, "single", arguments={"x-single-active-consumer": True})
    tag = await single.consume(taking("a"))
    await single.consume(taking("b"))
    for number in range(2):
        await publish(channel, single.name, b"%d" % number)
    await side.until(lambda: len(got) == 2)
    await single.cancel(tag)
    await publish(channel, single.name, b"2")
    await side.until(lambda: len(got) == 3)
    assert got == [("a", b"0"), ("a", b"1"), ("b", b"2")]


async def test_iterators_give_back_what_they_did_not_hand_out(side: Side) -> None:
    """Leaving the loop cancels the consumer; the rest is in the queue again."""
    channel = await side.channel()
    queue = await side.queue(channel)
    for number in range(3):
        await publish(channel, queue.name, b"%d" % number)
    async with queue.iterator() as messages:
        async for message in messages:
            await message.ack()
            break
    assert await bodies(queue) == [b"1", b"2"]
    async with queue.iterator(timeout=0.02) as messages:
        with pytest.raises(TimeoutError):
            await anext(messages)


async def test_rejected_messages_go_to_the_dead_letters(side: Side) -> None:
    """With what happened to them in x-death; a second death counts."""
    channel = await side.channel()
    dead = await side.queue(channel, "dead")
    queue = await side.queue(
        channel, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name}
    )  # fmt: skip
    await publish(channel, queue.name, b"x", headers={"mine": 1})
    await (await queue.get()).reject()
    await side.pause(0.02)
    message = await dead.get()
    death = message.headers["x-death"][0]
    assert (death["count"], death["reason"], death["queue"], death["exchange"]) == (1, "rejected", queue.name, "")
    assert death["routing-keys"] == [queue.name]
    assert message.headers["x-first-death-reason"] == "rejected"
    assert message.headers["mine"] == 1
    assert (message.routing_key, message.redelivered) == (dead.name, False)
    await channel.default_exchange.publish(Message(b"x", headers=message.headers), queue.name)
    await (await queue.get()).nack(requeue=False)
    await side.pause(0.02)
    assert (await dead.get()).headers["x-death"][0]["count"] == 2


@pytest.mark.parametrize(
    ("arguments", "expiration"), [({"x-message-ttl": 30}, None), ({}, 0.03), ({"x-message-ttl": 60_000}, 0.03)]
)
async def test_messages_expire(side: Side, arguments: dict[str, Any], expiration: float | None) -> None:
    """By the queue's time or their own, whichever is shorter; expired ones are dead letters too."""
    channel = await side.channel()
    dead = await side.queue(channel, "dead")
    routing = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name}
    queue = await side.queue(channel, arguments=arguments | routing)
    await publish(channel, queue.name, b"x", expiration=expiration)
    await side.pause(0.09)
    assert await queue.get(fail=False) is None
    message = await dead.get()
    assert message.headers["x-death"][0]["reason"] == "expired"
    assert message.headers["x-death"][0].get("original-expiration") == ("30" if expiration else None)
    assert message.expiration is None


async def test_full_queues_drop_or_reject(side: Side) -> None:
    """A full queue drops its oldest message or rejects the new one, as declared."""
    channel = await side.channel()
    dropping = await side.queue(channel, "dropping", arguments={"x-max-length": 2})
    for number in range(3):
        await publish(channel, dropping.name, b"%d" % number)
    assert await bodies(dropping) == [b"1", b"2"]
    rejecting = await side.queue(channel, "rejecting", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    await publish(channel, rejecting.name, b"0")
    with pytest.raises(amqp.DeliveryError):
        await publish(channel, rejecting.name, b"1")
    assert await bodies(rejecting) == [b"0"]


async def test_priorities(side: Side) -> None:
    """In a queue that knows them, higher ones come first; equal ones in order."""
    channel = await side.channel()
    queue = await side.queue(channel, arguments={"x-max-priority": 5})
    for body, priority in ((b"a", 0), (b"b", 3), (b"c", 3), (b"d", 9), (b"e", 5)):
        await publish(channel, queue.name, body, priority=priority)
    assert await bodies(queue) == [b"d", b"e", b"b", b"c", b"a"]


async def test_purge_and_delete(side: Side) -> None:
    """Purging returns the number of messages; deleting optionally refuses a queue that is in use or not empty."""
    channel = await side.channel()
    queue = await side.queue(channel)
    for _ in range(3):
        await publish(channel, queue.name)
    held = await queue.get()
    assert (await queue.purge()).message_count == 2
    await held.reject(requeue=True)
    other = await side.channel()
    with pytest.raises(amqp.ChannelPreconditionFailed):
        await (await other.get_queue(queue.name)).delete()
    await queue.consume(nothing, no_ack=True)
    other = await side.channel()
    with pytest.raises(amqp.ChannelPreconditionFailed):
        await (await other.get_queue(queue.name)).delete(if_empty=False)
    assert (await queue.delete(if_unused=False, if_empty=False)).message_count == 0


async def test_auto_delete(side: Side) -> None:
    """A queue goes with its last consumer, an exchange with its last binding."""
    channel = await side.channel()
    exchange = await channel.declare_exchange(side.name("x"), "fanout", auto_delete=True)
    queue = await side.queue(channel, auto_delete=True)
    await queue.bind(exchange)
    tag = await queue.consume(nothing)
    await queue.cancel(tag)
    for ask in ("declare_queue", "declare_exchange"):
        other = await side.channel()
        name = queue.name if ask == "declare_queue" else exchange.name
        with pytest.raises(amqp.ChannelNotFoundEntity):
            await getattr(other, ask)(name, passive=True)


async def test_exclusive_consumers(side: Side) -> None:
    """One consumer keeps all others away."""
    channel = await side.channel()
    queue = await side.queue(channel)
    await queue.consume(nothing, exclusive=True)
    other = await side.channel()
    with pytest.raises(ChannelAccessRefused):
        await (await other.get_queue(queue.name)).consume(nothing)


async def test_alternate_exchanges_take_what_fits_nowhere(side: Side) -> None:
    """A message no binding fits goes to the exchange named for that."""
    channel = await side.channel()
    fallback = await channel.declare_exchange(side.name("fallback"), "fanout", auto_delete=True)
    queue = await side.queue(channel)
    await queue.bind(fallback, "")
    arguments = {"alternate-exchange": fallback.name}
    exchange = await channel.declare_exchange(side.name("x"), "direct", arguments=arguments)
    await exchange.publish(Message(b"lost"), "nowhere")
    assert await bodies(queue) == [b"lost"]
    await exchange.delete()


async def test_names_and_counts_are_told(side: Side) -> None:
    """A queue without a name gets one; declaring returns the numbers of messages and consumers."""
    channel = await side.channel()
    queue = await channel.declare_queue(exclusive=True)
    assert queue.name.startswith("amq.gen-")
    await publish(channel, queue.name)
    again = await channel.declare_queue(queue.name, passive=True)
    assert (again.declaration_result.message_count, again.declaration_result.consumer_count) == (1, 0)


async def test_closed_things_stay_closed(side: Side) -> None:
    """Closing twice is not an error; a closed connection opens no channels."""
    connection = await side.connect()
    async with connection.channel() as channel:
        assert not channel.is_closed
    assert channel.is_closed
    await channel.close()
    await connection.close()
    await connection.close()
    assert connection.is_closed
    with pytest.raises(RuntimeError):
        await connection.channel()


async def test_request_and_reply(side: Side) -> None:
    """A remote call works with an exclusive reply queue and a correlation id."""
    channel = await side.channel()
    requests, replies = await side.queue(channel, "requests"), await channel.declare_queue(exclusive=True)

    async def answer(message: Any) -> None:
        async with message.process():
            reply = Message(message.body.upper(), correlation_id=message.correlation_id)
            await channel.default_exchange.publish(reply, message.reply_to)

    await requests.consume(answer)
    await publish(channel, requests.name, b"hello", reply_to=replies.name, correlation_id="1")
    with anyio.fail_after(2):
        async with replies.iterator() as messages:
            async for message in messages:
                assert (message.body, message.correlation_id) == (b"HELLO", "1")
                await message.ack()
                break
