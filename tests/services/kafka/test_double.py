"""Features of the Kafka double besides Kafka's behaviour: mock API, faults, problems, isolation, drop-in classes."""

from __future__ import annotations

import inspect
import subprocess
import sys
from types import SimpleNamespace
from typing import Literal
from unittest import mock

import aiokafka  # type: ignore[import-untyped]
import anyio
import pytest
from aiokafka import errors

from isolation_core.services import MockContext, fail
from isolation_core.services.kafka import KafkaConsumer, KafkaDouble, KafkaProducer, TopicPartition

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True


async def test_send_event_is_a_mock_with_behaviour() -> None:
    """Sent messages can be asserted, consumed and inspected."""
    async with MockContext("mock", virtual_time=True) as context:
        kafka = KafkaDouble(context)
        await kafka.connect()
        await kafka.send_event("test.topic", {"a": 1}, key="k", headers={"h": "v"})
        kafka.send_event.assert_awaited_once_with("test.topic", {"a": 1}, key="k", headers={"h": "v"})
        event = await kafka.consume("test.topic", group="g")
        assert (event.key, event.value, event.headers) == (b"k", {"a": 1}, (("h", b"v"),))
        assert [each.value for each in kafka.messages("test.topic")] == [{"a": 1}]
        assert kafka.committed_offsets("g") == {TopicPartition("test.topic", 0): 1}
        with pytest.raises(TimeoutError):
            await kafka.consume("test.topic", group="g", timeout=5)
        assert (await kafka.consume("test.topic")).value == {"a": 1}


async def test_a_configured_effect_wins() -> None:
    """With a side effect nothing is written."""
    async with MockContext("effect", virtual_time=True) as context:
        kafka = KafkaDouble(context)
        await kafka.connect()
        kafka.send_event.side_effect = errors.KafkaTimeoutError
        with pytest.raises(errors.KafkaTimeoutError):
            await kafka.send_event("t", {})
        assert kafka.messages("t") == []


async def test_without_connection_the_client_error() -> None:
    """Unconnected, sending and starting raise what the client does."""
    async with MockContext("off", virtual_time=True) as context:
        kafka = KafkaDouble(context)
        for call in (kafka.send_event("t", {}), kafka.producer().start(), kafka.consumer("t").start()):
            with pytest.raises(errors.KafkaConnectionError, match="connect"):
                await call


@pytest.mark.parametrize(
    ("kind", "expected"), [("timeout", errors.KafkaTimeoutError), ("unavailable", errors.KafkaConnectionError)]
)
async def test_faults_are_the_clients(kind: Literal["timeout", "unavailable"], expected: type[Exception]) -> None:
    """The fault plan raises the client's exceptions, also from producers."""
    async with MockContext("faults", virtual_time=True) as context:
        kafka = KafkaDouble(context)
        await kafka.connect()
        context.faults.add("kafka.send_and_wait", fail(kind), nth=1)
        async with kafka.producer() as producer:
            with pytest.raises(expected):
                await producer.send_and_wait("t", b"v")
            await producer.send_and_wait("t", b"v")
        assert len(kafka.messages("t")) == 1


async def test_what_is_left_open_is_told() -> None:
    """Open transactions and unstopped clients are problems; stopped ones are not."""
    context = MockContext("open", virtual_time=True)
    kafka = KafkaDouble(context)
    await kafka.connect()
    producer, stopped = kafka.producer(transactional_id="x"), kafka.consumer("t", group_id="g")
    await producer.start()
    await producer.begin_transaction()
    await stopped.start()
    assert len(kafka.problems()) == 3
    await stopped.stop()
    assert kafka.problems() == ("a transaction of 'x' is open", "a producer was started and not stopped")
    await context.aclose()
    assert context.problems["kafka"][0] == "a transaction of 'x' is open"


async def test_code_under_test_gets_the_double() -> None:
    """The classes of the client can be patched with those of the double."""
    library = SimpleNamespace(AIOKafkaProducer=aiokafka.AIOKafkaProducer, AIOKafkaConsumer=aiokafka.AIOKafkaConsumer)
    async with MockContext("patched", virtual_time=True) as context:
        kafka = KafkaDouble(context)
        await kafka.connect()
        with (
            mock.patch.object(library, "AIOKafkaProducer", kafka.producer_class),
            mock.patch.object(library, "AIOKafkaConsumer", kafka.consumer_class),
        ):
            async with library.AIOKafkaProducer(bootstrap_servers="kafka:9092", acks="all") as producer:
                await producer.send_and_wait("t", b"v")
            async with library.AIOKafkaConsumer(
                "t", bootstrap_servers="kafka:9092", auto_offset_reset="earliest"
            ) as got:
                assert (await got.getone()).value == b"v"
            with pytest.raises(TypeError, match="did you mean 'acks'"):
                library.AIOKafkaProducer(ack="all")


@pytest.mark.parametrize(
    ("ours", "theirs"), [(KafkaProducer, aiokafka.AIOKafkaProducer), (KafkaConsumer, aiokafka.AIOKafkaConsumer)]
)
def test_shape_of_the_client(ours: type[KafkaProducer | KafkaConsumer], theirs: type[object]) -> None:
    """Every operation is a method of the client, with its parameters, and async where that is."""
    assert len(ours._operations) > 9
    for name, operation in ours._operations.items():
        real = getattr(theirs, name)
        assert list(inspect.signature(operation.function).parameters) == list(inspect.signature(real).parameters), name
        assert inspect.iscoroutinefunction(operation.function) == inspect.iscoroutinefunction(real), name


async def test_clusters_and_resets_are_apart() -> None:
    """Two clusters share nothing, and a reset leaves nothing."""
    async with MockContext("apart", virtual_time=True) as context:
        first, second = KafkaDouble(context), KafkaDouble(context, name="other")
        await first.connect()
        await second.connect()
        await first.send_event("t", {})
        assert (len(first.messages("t")), len(second.messages("t"))) == (1, 0)
        first.reset()
        assert first.messages("t") == []
        assert not first.send_event.called


async def test_a_slow_listener_holds_up_its_own_group_only() -> None:
    """While a listener waits, other tasks of its group wait as well, and go on afterwards."""

    @aiokafka.ConsumerRebalanceListener.register
    class Slow:
        async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
            pass

        async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
            await context.clock.sleep(5)

    async with MockContext("slow", virtual_time=True) as context:
        kafka = KafkaDouble(context)
        await kafka.connect()
        await kafka.send_event("t", {})
        consumer = kafka.consumer(group_id="g", auto_offset_reset="earliest")
        consumer.subscribe(["t"], listener=Slow())
        await consumer.start()
        kafka.expel(consumer)
        got: list[object] = []

        async def read() -> None:
            got.extend(await consumer.getmany(timeout_ms=60000))

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(read)
        assert got == [TopicPartition("t", 0)]
        assert context.clock.now() >= 10
        await consumer.stop()


def test_works_without_the_client() -> None:
    """Where aiokafka is missing there are look-alikes, and everything else is the same."""
    code = """
import sys
sys.modules["aiokafka"] = None
import anyio
from isolation_core import errors
from isolation_core.services import MockContext
from isolation_core.services.kafka import KafkaDouble
async def main():
    async with MockContext("bare", virtual_time=True) as context:
        kafka = KafkaDouble(context)
        try:
            await kafka.send_event("t", {})
        except errors.IsolationError as error:
            print(type(error).__name__, isinstance(error, RuntimeError))
        await kafka.connect()
        await kafka.send_event("t", {"a": 1})
        print((await kafka.consume("t", group="g")).value)
anyio.run(main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["KafkaConnectionError True", "{'a': 1}", ""]
