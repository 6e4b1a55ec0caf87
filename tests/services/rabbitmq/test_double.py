"""Features of the RabbitMQ double only: mock API, log, faults, reset, problems at the end."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from aio_pika import Message as RealMessage
from aio_pika import exceptions as amqp
from hypothesis import given
from hypothesis import strategies as st

from isolation_core.errors import ServiceNotConnectedError
from isolation_core.services import MockContext, ServiceType, VirtualClock
from isolation_core.services.rabbitmq import Message, RabbitMQDouble
from isolation_core.services.rabbitmq._broker import Broker, Properties, Stored
from isolation_core.services.rabbitmq._routing import topic_fits

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True


async def test_it_is_a_service() -> None:
    """Found by name; without a connection nothing works; text and data are encoded."""
    async with MockContext("test", virtual_time=True) as context:
        rabbit = context.service(ServiceType.RABBITMQ)
        assert isinstance(rabbit, RabbitMQDouble)
        with pytest.raises(ServiceNotConnectedError):
            await rabbit.publish("", "q", b"")
        await rabbit.connect()
        await rabbit.declare_exchange("orders", "topic")
        await rabbit.declare_queue("q", exchange="orders", routing_key="order.*")
        await rabbit.publish("orders", "order.new", {"id": 1})
        await rabbit.publish("orders", "order.new", "text", priority=2)
        assert rabbit.messages("q") == [b'{"id": 1}', b"text"]
        message = await rabbit.consume("q")
        assert (message.body, message.content_type) == (b'{"id": 1}', "application/json")
        await message.ack()
        rabbit.publish.assert_awaited_with("orders", "order.new", "text", priority=2)
        assert rabbit.publish.await_count == 3


async def test_an_empty_read_waits() -> None:
    """`consume` waits for its timeout in virtual time."""
    async with MockContext("test", virtual_time=True) as context:
        rabbit: RabbitMQDouble = await context.service("rabbitmq").connect()
        await rabbit.declare_queue("q")
        with pytest.raises(TimeoutError):
            await rabbit.consume("q", timeout=3600)
        assert context.clock.now() == 3600


async def test_operations_are_mocks() -> None:
    """A configured effect wins; wrong signatures and unknown names raise; calls of client objects are logged."""
    async with MockContext("test", virtual_time=True) as context:
        rabbit = RabbitMQDouble(context)
        connection = await rabbit.open_connection("amqp://somewhere")
        channel = await connection.channel()
        queue: Any = await channel.declare_queue("q")
        queue.get.side_effect = amqp.QueueEmpty
        with pytest.raises(amqp.QueueEmpty):
            await queue.get()
        with pytest.raises(TypeError):
            await queue.get("positional")
        with pytest.raises(AttributeError, match="declare_queue"):
            channel.declare_queues  # noqa: B018
        channel.declare_queue.assert_awaited_once_with("q")
        rabbit.open_connection.assert_awaited_once_with("amqp://somewhere")
        assert [each.operation for each in context.log] == ["open_connection", "channel", "declare_queue", "get"]


async def test_what_is_left_open_is_told() -> None:
    """Unacknowledged messages, channels, connections, and what callbacks raised."""
    context = MockContext("test", virtual_time=True)
    async with context:
        rabbit = RabbitMQDouble(context)
        connection = await rabbit.open_connection()
        channel = await connection.channel()
        queue = await channel.declare_queue("q")
        await channel.default_exchange.publish(Message(b"x"), "q")
        await queue.get()
        failing = await channel.declare_queue("failing")

        async def fail(_message: Any) -> None:
            raise LookupError("no")

        await failing.consume(fail, no_ack=True)
        await channel.default_exchange.publish(Message(b"x"), "failing")
        await context.clock.sleep(1)
    assert set(context.problems["rabbitmq"]) == {
        "1 message of queue 'q' delivered and not acknowledged",
        "channel 1 of connection 1 was not closed",
        "connection 1 was not closed",
        "a callback raised LookupError('no')",
    }
    tidy = MockContext("tidy", virtual_time=True)
    async with tidy:
        opened: Any = await RabbitMQDouble(tidy).open_connection()
        async with opened, opened.channel() as channel:
            await channel.declare_queue("q")
    assert not tidy.problems


async def test_faults_raise_what_the_client_does() -> None:
    """The classes of aio-pika, for each kind."""
    async with MockContext("test", virtual_time=True) as context:
        rabbit = RabbitMQDouble(context)
        for kind, error in (
            ("unavailable", amqp.AMQPConnectionError),
            ("timeout", TimeoutError),
            ("disconnected", amqp.ConnectionClosed),
            ("rejected", amqp.DeliveryError),
        ):
            assert isinstance(rabbit.fault_error(kind), error)


async def test_reset_and_disconnect() -> None:
    """Disconnecting gives unacknowledged messages back; a reset leaves nothing; two doubles share nothing."""
    async with MockContext("test", virtual_time=True) as context:
        rabbit, other = RabbitMQDouble(context), RabbitMQDouble(context, name="other")
        await rabbit.connect()
        await rabbit.declare_queue("q")
        await rabbit.publish("", "q", b"x")
        await rabbit.consume("q")
        await rabbit.disconnect()
        await rabbit.connect()
        assert (await rabbit.consume("q")).redelivered
        rabbit.reset()
        assert not rabbit.broker.queues
        assert not rabbit.publish.called
        assert not other.broker.queues
        assert not rabbit.problems()


async def test_messages_of_aio_pika_and_ours_are_alike() -> None:
    """A message of the double's class and one of aio-pika's class are received alike."""
    async with MockContext("test", virtual_time=True) as context:
        channel = await (await RabbitMQDouble(context).open_connection()).channel()
        queue: Any = await channel.declare_queue("q")
        infos = []
        for cls in (Message, RealMessage):
            await channel.default_exchange.publish(cls(b"x", headers={"a": 1}, expiration=2, message_id="m"), "q")
            infos.append((await queue.get(no_ack=True)).info() | {"delivery_tag": 0})
        assert infos[0] == infos[1]
        await channel.connection.close()


async def test_a_message_going_round_is_dropped() -> None:
    """A message that expires back and forth between two queues, without a rejection, is dropped."""
    async with MockContext("test", virtual_time=True) as context:
        rabbit = await RabbitMQDouble(context).connect()
        for name, other in (("a", "b"), ("b", "a")):
            arguments = {"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": other}
            await rabbit.declare_queue(name, arguments=arguments)
        await rabbit.publish("", "a", b"x")
        await context.clock.sleep(1)
        assert rabbit.messages("a") == rabbit.messages("b") == []


async def test_unused_queues_expire() -> None:
    """After x-expires without consumers or use."""
    async with MockContext("test", virtual_time=True) as context:
        rabbit = await RabbitMQDouble(context).connect()
        await rabbit.declare_queue("q", arguments={"x-expires": 1000})
        await context.clock.sleep(0.9)
        assert rabbit.messages("q") == []
        await context.clock.sleep(0.9)
        assert "q" in rabbit.broker.queues
        await context.clock.sleep(0.2)
        assert "q" not in rabbit.broker.queues


@given(st.lists(st.sampled_from(["publish", "take", "requeue", "ack"]), max_size=40), st.randoms())
def test_no_message_is_lost_or_doubled(steps: list[str], dice: Any) -> None:
    """Whatever is taken, given back and acknowledged: ready, held and done are all, in order."""
    broker = Broker(VirtualClock())
    queue = broker.declare_queue(
        "q", passive=False, durable=False, auto_delete=False, owner=None, connection=None, arguments={}
    )
    held: list[Stored] = []
    done: list[bytes] = []
    numbers = itertools.count()
    published: list[bytes] = []
    for step in steps:
        if step == "publish":
            published.append(b"%d" % next(numbers))
            broker.publish(Stored(published[-1], Properties(), "", "q"), [queue])
        elif step == "take" and (message := broker.take(queue)) is not None:
            held.append(message)
        elif held and step in {"requeue", "ack"}:
            message = held.pop(dice.randrange(len(held)))
            if step == "ack":
                done.append(message.body)
            else:
                broker.requeue(queue, message)
    ready = [each.body for each in queue.ready]
    assert sorted(ready + [each.body for each in held] + done) == sorted(published)
    assert ready == [each for each in published if each in ready]


_WORDS = st.lists(st.sampled_from(["a", "b", "*", "#"]), max_size=5)


@given(_WORDS, st.lists(st.sampled_from(["a", "b"]), max_size=5))
def test_topics_match_as_defined(pattern: list[str], words: list[str]) -> None:
    """The matcher agrees with the definition, word by word."""

    def fits(parts: list[str], rest: list[str]) -> bool:
        if not parts:
            return not rest
        if parts[0] == "#":
            return fits(parts[1:], rest) or (bool(rest) and fits(parts, rest[1:]))
        return bool(rest) and parts[0] in {"*", rest[0]} and fits(parts[1:], rest[1:])

    assert topic_fits(".".join(pattern), ".".join(words)) == fits(pattern, words)
