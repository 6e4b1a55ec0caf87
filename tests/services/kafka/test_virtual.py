"""Behaviour of the Kafka double that cannot be compared with the client on the mock cluster.

A comment above each group of tests gives the reason. Behaviour of both is in ``test_behaviour.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import anyio.lowlevel
import pytest
from aiokafka import errors  # type: ignore[import-untyped]
from aiokafka.partitioner import murmur2 as reference  # type: ignore[import-untyped]
from aiokafka.record.default_records import DefaultRecordBatchBuilder  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from isolation_core.services import MockContext
from isolation_core.services.kafka import KafkaConsumer, KafkaDouble, KafkaProducer, TopicPartition, murmur2
from isolation_core.services.kafka._records import record_size

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True
P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.fixture
async def kafka() -> AsyncIterator[KafkaDouble]:
    """A connected cluster with the topic ``t`` of two partitions."""
    context = MockContext("behaviour", virtual_time=True)
    double = KafkaDouble(context)
    await double.connect()
    await double.create_topic("t", 2)
    yield double
    await context.aclose()


async def writer(kafka: KafkaDouble, **options: Any) -> KafkaProducer:
    """Return a started producer."""
    producer = kafka.producer(**options)
    await producer.start()
    return producer


async def reader(kafka: KafkaDouble, *topics: str, **options: Any) -> KafkaConsumer:
    """Return a started consumer that begins at the beginning."""
    consumer = kafka.consumer(*topics, **{"auto_offset_reset": "earliest", **options})
    await consumer.start()
    return consumer


# Functions of the client, without any server.


@given(st.binary(max_size=40))
def test_keys_hash_as_in_the_client(key: bytes) -> None:
    """The hash of a key is that of the client."""
    assert murmur2(key) == reference(key)


@given(
    key=st.none() | st.binary(max_size=200),
    value=st.none() | st.binary(max_size=200),
    headers=st.lists(st.tuples(st.text(max_size=80), st.none() | st.binary(max_size=80)), max_size=70),
)
def test_sizes_are_those_of_the_client(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    """A record is as large as the client takes it to be."""
    assert record_size(key, value, headers) == DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers)


# The client waits for what the double tells at once: before a first message it has not even the metadata.


async def test_only_a_started_producer_sends(kafka: KafkaDouble) -> None:
    """Before `start` and after `stop` nothing can be sent."""
    producer = kafka.producer()
    with pytest.raises(errors.ProducerClosed):
        await producer.send("t", b"v")
    await producer.start()
    await producer.stop()
    with pytest.raises(errors.ProducerClosed):
        await producer.send("t", b"v")


# The mock cluster creates no topics by request, and forgets nothing by age.


async def test_unknown_topics() -> None:
    """A topic is created by use, unless that is switched off."""
    async with MockContext("strict topics", virtual_time=True) as context:
        kafka = KafkaDouble(context, auto_create=False)
        await kafka.connect()
        producer = await writer(kafka)
        with pytest.raises(errors.UnknownTopicOrPartitionError):
            await producer.send("nope", b"v")
        await kafka.create_topic("nope")
        await producer.send_and_wait("nope", b"v")
        with pytest.raises(errors.TopicAlreadyExistsError):
            await kafka.create_topic("nope")


async def test_retention_on_the_virtual_clock(kafka: KafkaDouble) -> None:
    """Messages older than the retention of their topic are deleted."""
    await kafka.create_topic("short", retention_ms=1000)
    producer = await writer(kafka)
    await producer.send("short", b"old")
    kafka.context.clock.advance(2)
    await producer.send("short", b"new")
    consumer = await reader(kafka, "short")
    assert (await consumer.getone()).offset == 1


# The mock cluster finds no offsets by time: it answers each question with none.


async def test_offsets_for_times(kafka: KafkaDouble) -> None:
    """The first message that is not older is found; None if all are."""
    producer = await writer(kafka)
    for moment in (10, 20):
        await producer.send("t", b"v", partition=0, timestamp_ms=moment)
    consumer = await reader(kafka, "t")
    found = await consumer.offsets_for_times({P0: 15, P1: 15})
    assert found == {P0: (1, 20), P1: None}


# Virtual time, and what is certain only because nothing runs in the background.


async def test_an_empty_read_waits_in_virtual_time(kafka: KafkaDouble) -> None:
    """`getmany` waits for its timeout, in virtual time."""
    consumer = await reader(kafka, "t")
    before = kafka.context.clock.now()
    assert await consumer.getmany(timeout_ms=3000) == {}
    assert kafka.context.clock.now() - before == 3


async def test_no_partition_is_starved(kafka: KafkaDouble) -> None:
    """The partition that was read last comes last in the next read."""
    producer = await writer(kafka)
    for number in range(6):
        await producer.send("t", b"v", partition=number % 2)
    consumer = await reader(kafka, "t", max_poll_records=4)
    assert sum(map(len, (await consumer.getmany(max_records=2)).values())) == 2
    assert (await consumer.getone()).partition == 1
    assert sum(map(len, (await consumer.getmany()).values())) == 3


async def test_automatic_commits_on_the_virtual_clock(kafka: KafkaDouble) -> None:
    """Positions of messages that were handed out are committed after the interval, and at the end."""
    producer = await writer(kafka)
    for _ in range(2):
        await producer.send("t", b"v", partition=0)
    consumer = await reader(kafka, "t", group_id="g")
    await consumer.getone()
    assert kafka.committed_offsets("g") == {}
    kafka.context.clock.advance(6)
    assert kafka.committed_offsets("g")[P0] == 1
    await consumer.getone()
    await consumer.stop()
    assert kafka.committed_offsets("g")[P0] == 2


# The mock cluster takes transactions, but lets all readers see them at once, also aborted ones; commits no offsets with
# them; gives each producer an id of its own, so that none is fenced; and times nothing out.


async def test_transactions(kafka: KafkaDouble) -> None:
    """Readers of committed messages see whole transactions only, up to the first that is open."""
    producer = await writer(kafka, transactional_id="x")
    other = await writer(kafka)
    committed = await reader(kafka, "t", isolation_level="read_committed")
    dirty = await reader(kafka, "t")
    await producer.begin_transaction()
    await producer.send("t", b"aborted", partition=0)
    await other.send("t", b"plain", partition=0)
    assert await committed.getmany() == {}
    assert committed.last_stable_offset(P0) == 0
    assert [each.value for each in (await dirty.getmany())[P0]] == [b"aborted", b"plain"]
    await producer.abort_transaction()
    assert [each.value for each in (await committed.getmany())[P0]] == [b"plain"]
    async with producer.transaction():
        await producer.send("t", b"good", partition=0)
    assert (await committed.getone()).value == b"good"
    with anyio.CancelScope() as scope:
        async with producer.transaction():
            await producer.send("t", b"bad", partition=0)
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert await committed.getmany() == {}
    assert await committed.position(P0) == committed.highwater(P0)


async def test_offsets_of_a_transaction(kafka: KafkaDouble) -> None:
    """Offsets are committed with their transaction, or not at all."""
    producer = await writer(kafka, transactional_id="x")
    await producer.begin_transaction()
    await producer.send_offsets_to_transaction({P0: 4}, "g")
    await producer.abort_transaction()
    assert kafka.committed_offsets("g") == {}
    async with producer.transaction():
        await producer.send_offsets_to_transaction({P0: 5}, "g")
        assert kafka.committed_offsets("g") == {}
    assert kafka.committed_offsets("g") == {P0: 5}
    with pytest.raises(errors.IllegalOperation):
        await producer.send_offsets_to_transaction({P0: 5}, "g")


@pytest.mark.parametrize("how", ["newer producer", "timeout"])
async def test_fencing(kafka: KafkaDouble, how: str) -> None:
    """A producer whose id was taken over, or whose transaction took too long, can do nothing any more."""
    old = await writer(kafka, transactional_id="x")
    await old.begin_transaction()
    await old.send("t", b"lost", partition=0)
    if how == "timeout":
        kafka.context.clock.advance(61)
    else:
        await writer(kafka, transactional_id="x")
    with pytest.raises(errors.ProducerFenced):
        await old.commit_transaction()
    assert kafka.messages("t") == []


# One cluster for each of hundreds of examples.


@given(
    keys=st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), max_size=20),
    steps=st.lists(st.sampled_from(["read0", "read1", "commit0", "commit1", "join", "leave"]), max_size=12),
)
def test_order_delivery_and_commits(keys: list[bytes], steps: list[str]) -> None:
    """Partitions keep their order, members that commit share without loss or repetition, commits never go back."""

    async def body() -> None:
        async with MockContext("property", virtual_time=True) as context:
            kafka = KafkaDouble(context)
            await kafka.connect()
            await kafka.create_topic("t", 3)
            producer = await writer(kafka)
            for number, key in enumerate(keys):
                await producer.send("t", b"%d" % number, key=key)
            members = [await reader(kafka, "t", group_id="g") for _ in range(2)]
            seen: list[tuple[int, int]] = []
            committed: dict[TopicPartition, int] = {}

            async def read(member: KafkaConsumer, limit: int | None) -> None:
                for records in (await member.getmany(max_records=limit)).values():
                    seen.extend((each.partition, each.offset) for each in records)

            for step in [*steps, "all"]:
                if step == "join":
                    members.append(await reader(kafka, "t", group_id="g"))
                elif step == "leave" and len(members) > 2:
                    await members.pop().stop()
                elif step.startswith("read"):
                    await read(members[int(step[-1])], 2)
                elif step.startswith("commit"):
                    await members[int(step[-1])].commit()
                elif step == "all":
                    for member in members:
                        await read(member, None)
                now = kafka.committed_offsets("g")
                assert all(now[each] >= at for each, at in committed.items())
                committed = now
            for partition in range(3):
                offsets = [offset for where, offset in seen if where == partition]
                assert offsets == sorted(offsets)
            assert max(Counter(seen).values(), default=1) == 1
            assert len(seen) == len(keys)

    anyio.run(body)
