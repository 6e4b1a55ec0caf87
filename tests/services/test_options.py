"""Options of real clients: unknown ones are errors, known ones are modelled, harmless, or refused."""

from __future__ import annotations

import inspect
from typing import Any

import aio_pika
import aiokafka  # type: ignore[import-untyped]
import anyio
import pytest
from nats.aio.client import Client

from isolation_core.errors import ConfigurationError
from isolation_core.services import MockContext
from isolation_core.services._options import Options
from isolation_core.services.kafka._options import CONSUMER_OPTIONS, PRODUCER_OPTIONS
from isolation_core.services.nats._double import CONNECT_OPTIONS as NATS_OPTIONS
from isolation_core.services.rabbitmq._double import CONNECT_OPTIONS as RABBITMQ_OPTIONS

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("options", "function"),
    [
        (NATS_OPTIONS, Client.connect),
        (RABBITMQ_OPTIONS, aio_pika.connect),
        (RABBITMQ_OPTIONS, aio_pika.connect_robust),
        (PRODUCER_OPTIONS, aiokafka.AIOKafkaProducer),
        (CONSUMER_OPTIONS, aiokafka.AIOKafkaConsumer),
    ],
)
def test_every_option_of_the_client_is_known(options: Options, function: Any) -> None:
    """The table of a double has every keyword argument of the installed client."""
    parameters = inspect.signature(function).parameters.values()
    names = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    assert names - options.names - {"self", "servers", "url"} == set()


def test_an_unknown_option_is_the_error_of_the_client() -> None:
    """An option that does not exist is a TypeError with the nearest name."""
    with pytest.raises(TypeError, match=r"f\(\) got an unexpected keyword argument 'no_ecko'; did you mean 'no_echo'"):
        Options("f", modelled="no_echo").check({"no_ecko": True})


def test_an_option_that_is_not_modelled_is_refused() -> None:
    """A known option that is not modelled may have its default; any other value names the way out."""
    options = Options("f", refused={"domain": None})
    options.check({"domain": None})
    with pytest.raises(ConfigurationError, match="backend='real'"):
        options.check({"domain": "hub"})


async def test_doubles_check_the_options_of_their_clients() -> None:
    """Connections, producers and consumers refuse misspelt options."""
    async with MockContext() as context:
        for service in ("nats", "rabbitmq"):
            with pytest.raises(TypeError, match="totally_wrong"):
                await context.service(service).open_connection(totally_wrong=1)
        kafka = context.service("kafka")
        for make in (kafka.producer_class, kafka.consumer_class):
            with pytest.raises(TypeError, match="totally_wrong"):
                make(totally_wrong=1)
        with pytest.raises(ConfigurationError, match="group_instance_id"):
            kafka.consumer_class("t", group_instance_id="a")
        with pytest.raises(ConfigurationError, match="domain"):
            (await context.service("nats").open_connection()).jetstream(domain="hub")


async def test_options_of_nats_have_their_effect() -> None:
    """No echo, a prefix of inboxes, a number of messages, and limits of what may wait."""
    async with MockContext() as context:
        nats = context.service("nats")
        slow, told = [], anyio.Event()

        async def failed(error: BaseException) -> None:
            slow.append(type(error).__name__)
            told.set()

        nc = await nats.open_connection(no_echo=True, inbox_prefix=b"MINE")
        other = await nats.open_connection(error_cb=failed)
        mine = await nc.subscribe("a")
        few = await other.subscribe("a", max_msgs=1)
        full = await other.subscribe("a", pending_msgs_limit=2)
        assert nc.new_inbox().startswith("MINE.")
        for _ in range(3):
            await nc.publish("a", b"x")
        with anyio.fail_after(5):
            await told.wait()
        assert (mine.pending_msgs, few.pending_msgs, full.pending_msgs) == (0, 1, 2)
        assert slow == ["SlowConsumerError"]
        await nc.close()
        await other.close()


async def test_an_error_in_a_return_callback_does_not_end_publish() -> None:
    """As in aio-pika it is logged and publish goes on; the double reports it at the end."""
    async with MockContext(report=lambda _: None) as context:
        rabbit = context.service("rabbitmq")
        async with await rabbit.open_connection("amqp://x/") as connection:
            channel = await connection.channel()

            def fails(channel: object, message: object) -> None:
                raise ValueError("in the callback")

            channel.return_callbacks.add(fails)
            await channel.default_exchange.publish(aio_pika.Message(b"x"), "nowhere")
        assert "a callback raised ValueError('in the callback')" in rabbit.problems()
