"""The Kafka double behaves as the documentation of Kafka and of aiokafka says."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import anyio.lowlevel
import pytest
from aiokafka import errors  # type: ignore[import-untyped]
from aiokafka.abc import ConsumerRebalanceListener  # type: ignore[import-untyped]
from aiokafka.partitioner import murmur2 as reference  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from isolation_core.services import MockContext
from isolation_core.services.kafka import KafkaConsumer, KafkaDouble, KafkaProducer, TopicPartition, murmur2

pytestmark = pytest.mark.anyio
P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.fixture
async def kafka() -> AsyncIterator[KafkaDouble]:
    """A connected cluster with the topic ``t`` of two partitions."""
    context = MockContext("behaviour")
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


@ConsumerRebalanceListener.register
class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, set[TopicPartition]]] = []

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Note it."""
        self.told.append(("revoked", revoked))

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Note it."""
        self.told.append(("assigned", assigned))


@given(st.binary(max_size=40))
def test_keys_hash_as_in_the_client(key: bytes) -> None:
    """The hash of a key is that of the client."""
    assert murmur2(key) == reference(key)


async def test_a_message_comes_back_whole(kafka: KafkaDouble) -> None:
    """Key, value, headers, timestamp and place of a message are read as they were written."""
    producer = await writer(kafka, key_serializer=str.encode, value_serializer=lambda each: repr(each).encode())
    sent = await producer.send_and_wait("t", [1], key="k", timestamp_ms=5, headers=[("h", b"1")])
    consumer = await reader(kafka, "t", key_deserializer=bytes.decode, value_deserializer=bytes.decode)
    got = await consumer.getone()
    assert (got.key, got.value, got.headers, got.timestamp) == ("k", "[1]", (("h", b"1"),), 5)
    assert (got.topic, got.partition, got.offset) == (sent.topic, sent.partition, sent.offset)
    assert sent.partition == (reference(b"k") & 0x7FFFFFFF) % 2


async def test_send_gives_something_to_await(kafka: KafkaDouble) -> None:
    """What `send` returns gives the place of the message, offsets count up."""
    producer = await writer(kafka)
    deliveries = [await producer.send("t", b"v", partition=1) for _ in range(3)]
    assert [(await each).offset for each in deliveries] == [0, 1, 2]


async def test_values_must_be_bytes(kafka: KafkaDouble) -> None:
    """Without a serializer only bytes can be sent."""
    producer = await writer(kafka)
    with pytest.raises(TypeError, match="value_serializer"):
        await producer.send("t", "text")


async def test_too_large_a_message_is_refused(kafka: KafkaDouble) -> None:
    """A message above the limit raises and is not written."""
    producer = await writer(kafka, max_request_size=100)
    with pytest.raises(errors.MessageSizeTooLargeError):
        await producer.send("t", b"x" * 100)
    assert kafka.messages("t") == []


async def test_only_a_started_producer_sends(kafka: KafkaDouble) -> None:
    """Before `start` and after `stop` nothing can be sent."""
    producer = kafka.producer()
    with pytest.raises(errors.ProducerClosed):
        await producer.send("t", b"v")
    await producer.start()
    await producer.stop()
    await producer.stop()
    with pytest.raises(errors.ProducerClosed):
        await producer.send("t", b"v")


async def test_unknown_topics() -> None:
    """A topic is created by use, unless that is switched off."""
    async with MockContext("strict topics") as context:
        kafka = KafkaDouble(context, auto_create=False)
        await kafka.connect()
        producer = await writer(kafka)
        with pytest.raises(errors.UnknownTopicOrPartitionError):
            await producer.send("nope", b"v")
        await kafka.create_topic("nope")
        await producer.send_and_wait("nope", b"v")
        with pytest.raises(errors.TopicAlreadyExistsError):
            await kafka.create_topic("nope")


@pytest.mark.parametrize(("policy", "expected"), [("earliest", [b"old", b"new"]), ("latest", [b"new"])])
async def test_where_a_consumer_begins(kafka: KafkaDouble, policy: str, expected: list[bytes]) -> None:
    """Without a committed offset the policy says where to begin."""
    producer = await writer(kafka)
    await producer.send("t", b"old", partition=0)
    consumer = await reader(kafka, "t", group_id="g", auto_offset_reset=policy)
    await producer.send("t", b"new", partition=0)
    assert [each.value for each in (await consumer.getmany()).get(P0, [])] == expected


async def test_no_policy_no_offset(kafka: KafkaDouble) -> None:
    """With the policy none, reading without a committed offset raises."""
    consumer = await reader(kafka, "t", group_id="g", auto_offset_reset="none")
    with pytest.raises(errors.NoOffsetForPartitionError):
        await consumer.getone()


async def test_deleted_records_are_out_of_range(kafka: KafkaDouble) -> None:
    """Behind the log's start a reader is reset by its policy, or told."""
    producer = await writer(kafka)
    for number in range(4):
        await producer.send("t", b"%d" % number, partition=0)
    lenient = await reader(kafka, "t")
    strict = kafka.consumer(auto_offset_reset="none")
    strict.assign([P0])
    await strict.start()
    strict.seek(P0, 0)
    await kafka.delete_records("t", 2)
    assert (await lenient.getone()).offset == 2
    with pytest.raises(errors.OffsetOutOfRangeError):
        await strict.getone()
    assert await strict.beginning_offsets([P0]) == {P0: 2}


async def test_retention_on_the_virtual_clock(kafka: KafkaDouble) -> None:
    """What is older than the retention of its topic is gone."""
    await kafka.create_topic("short", retention_ms=1000)
    producer = await writer(kafka)
    await producer.send("short", b"old")
    kafka.context.clock.advance(2)
    await producer.send("short", b"new")
    consumer = await reader(kafka, "short")
    assert (await consumer.getone()).offset == 1


async def test_an_empty_read_waits(kafka: KafkaDouble) -> None:
    """`getone` waits for the next message; `getmany` for its timeout, in virtual time."""
    consumer = await reader(kafka, "t")
    before = kafka.context.clock.now()
    assert await consumer.getmany(timeout_ms=3000) == {}
    assert kafka.context.clock.now() - before == 3
    got = []
    async with anyio.create_task_group() as group:

        async def read() -> None:
            got.append(await consumer.getone())

        group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        assert got == []
        await (await writer(kafka)).send("t", b"v")
    assert got[0].value == b"v"


async def test_a_cancelled_read_loses_nothing(kafka: KafkaDouble) -> None:
    """What was not handed out is read by the next call."""
    consumer = await reader(kafka, "t")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await consumer.getone()
    await (await writer(kafka)).send("t", b"v")
    assert (await consumer.getone()).value == b"v"


async def test_stop_ends_a_waiting_read(kafka: KafkaDouble) -> None:
    """A waiting `getone` raises when its consumer is stopped, `async for` ends."""
    consumer = await reader(kafka, "t")
    ended: list[object] = []

    async def read() -> None:
        with pytest.raises(errors.ConsumerStoppedError):
            await consumer.getone()
        ended.append("getone")

    async def loop() -> None:
        ended.extend([each async for each in consumer])
        ended.append("for")

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        group.start_soon(loop)
        await anyio.wait_all_tasks_blocked()
        await consumer.stop()
    assert sorted(map(str, ended)) == ["for", "getone"]


async def test_limits_of_getmany(kafka: KafkaDouble) -> None:
    """`max_records` limits all partitions together, and none is starved."""
    producer = await writer(kafka)
    for number in range(6):
        await producer.send("t", b"v", partition=number % 2)
    consumer = await reader(kafka, "t", max_poll_records=4)
    assert sum(map(len, (await consumer.getmany(max_records=2)).values())) == 2
    assert (await consumer.getone()).partition == 1
    assert sum(map(len, (await consumer.getmany()).values())) == 3
    with pytest.raises(ValueError, match="positive"):
        await consumer.getmany(max_records=0)


async def test_seek_pause_and_position(kafka: KafkaDouble) -> None:
    """Positions are set by hand; a paused partition gives nothing."""
    producer = await writer(kafka)
    for number in range(3):
        await producer.send("t", b"%d" % number, partition=0)
    consumer = await reader(kafka, "t")
    consumer.seek(P0, 2)
    assert (await consumer.getone(P0)).value == b"2"
    await consumer.seek_to_beginning(P0)
    consumer.pause(P0)
    assert consumer.paused() == {P0}
    assert await consumer.getmany() == {}
    consumer.resume(P0)
    assert (await consumer.getone()).value == b"0"
    assert await consumer.position(P0) == 1
    await consumer.seek_to_end()
    assert await consumer.position(P0) == consumer.highwater(P0) == 3
    assert await consumer.end_offsets([P0, P1]) == {P0: 3, P1: 0}
    with pytest.raises(errors.IllegalStateError):
        consumer.seek(TopicPartition("t", 9), 0)


async def test_offsets_for_times(kafka: KafkaDouble) -> None:
    """The first message that is not older is found; None if all are."""
    producer = await writer(kafka)
    for moment in (10, 20):
        await producer.send("t", b"v", partition=0, timestamp_ms=moment)
    consumer = await reader(kafka, "t")
    found = await consumer.offsets_for_times({P0: 15, P1: 15})
    assert found == {P0: (1, 20), P1: None}


async def test_subscription_is_one_of_three(kafka: KafkaDouble) -> None:
    """Topics, pattern and partitions exclude each other; bad ones raise as in the client."""
    consumer = kafka.consumer()
    with pytest.raises(TypeError):
        consumer.subscribe()
    with pytest.raises(TypeError):
        consumer.subscribe(["t"], pattern="t")
    with pytest.raises(ValueError, match="not a valid pattern"):
        consumer.subscribe(pattern="(")
    consumer.subscribe(["t"])
    with pytest.raises(errors.IllegalStateError):
        consumer.assign([P0])
    consumer.unsubscribe()
    consumer.assign([P0])
    with pytest.raises(errors.IllegalStateError):
        consumer.subscribe(["t"])


@pytest.mark.parametrize("group_id", [None, "g"])
async def test_a_pattern_finds_later_topics(kafka: KafkaDouble, group_id: str | None) -> None:
    """A topic created later is read if it fits the pattern."""
    consumer = kafka.consumer(group_id=group_id, auto_offset_reset="earliest")
    consumer.subscribe(pattern="^later")
    await consumer.start()
    await kafka.send_event("later.on", {"a": 1})
    assert (await consumer.getone()).topic == "later.on"


async def test_a_group_shares_and_rebalances(kafka: KafkaDouble) -> None:
    """Members share the partitions; listeners hear what goes and comes; who leaves gives back."""
    listener = Listener()
    first = kafka.consumer(group_id="g")
    first.subscribe(["t"], listener=listener)
    await first.start()
    second = await reader(kafka, "t", group_id="g")
    assert first.assignment() | second.assignment() == {P0, P1}
    assert not first.assignment() & second.assignment()
    await second.stop()
    await first.getmany()
    assert first.assignment() == {P0, P1}
    assert listener.told[1:4] == [("assigned", {P0, P1}), ("revoked", {P0, P1}), ("assigned", {P0})]


@pytest.mark.parametrize(("strategy", "share"), [("range", {0, 1}), ("roundrobin", {0, 2})])
async def test_assignors(kafka: KafkaDouble, strategy: str, share: set[int]) -> None:
    """The assignors share out as those of the client."""
    await kafka.create_topic("three", 3)
    members = [await reader(kafka, "three", group_id="g", partition_assignment_strategy=[strategy]) for _ in range(2)]
    assert {each.partition for each in members[0].assignment()} == share


async def test_commits_are_kept_per_group(kafka: KafkaDouble) -> None:
    """A group goes on where it committed; another begins anew."""
    producer = await writer(kafka)
    for number in range(3):
        await producer.send("t", b"%d" % number, partition=0)
    consumer = await reader(kafka, "t", group_id="g", enable_auto_commit=False)
    await consumer.getone()
    assert await consumer.committed(P0) is None
    await consumer.commit()
    await consumer.getone()
    await consumer.stop()
    again = await reader(kafka, "t", group_id="g", enable_auto_commit=False)
    assert (await again.getone()).value == b"1"
    await again.commit({P0: 3})
    assert await again.committed(P0) == 3
    assert (await (await reader(kafka, "t", group_id="other")).getone()).value == b"0"


async def test_commit_needs_a_group_and_the_partition(kafka: KafkaDouble) -> None:
    """Without a group, for foreign partitions or in a wrong format a commit raises."""
    with pytest.raises(errors.IllegalOperation):
        await (await reader(kafka, "t")).commit()
    consumer = await reader(kafka, "t", group_id="g")
    with pytest.raises(errors.IllegalStateError):
        await consumer.commit({TopicPartition("other", 0): 1})
    with pytest.raises(ValueError, match="TopicPartition"):
        await consumer.commit({"t": 1})  # type: ignore[dict-item]


async def test_automatic_commits_on_the_virtual_clock(kafka: KafkaDouble) -> None:
    """What was handed out is committed when the interval is over, and at the end."""
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


@pytest.mark.parametrize("how", ["expelled", "too slow"])
async def test_a_commit_after_the_group_went_on_fails(kafka: KafkaDouble, how: str) -> None:
    """Who was put out cannot commit, and is back with the next read, which gives the message again."""
    await (await writer(kafka)).send("t", b"v", partition=0)
    consumer = await reader(kafka, "t", group_id="g", enable_auto_commit=False)
    await consumer.getone()
    if how == "expelled":
        kafka.expel(consumer)
    else:
        kafka.context.clock.advance(301)
    with pytest.raises(errors.CommitFailedError):
        await consumer.commit()
    assert (await consumer.getone()).value == b"v"
    await consumer.commit()


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


async def test_transactions_out_of_order(kafka: KafkaDouble) -> None:
    """What does not fit the state of the transaction raises."""
    plain, producer = await writer(kafka), await writer(kafka, transactional_id="x")
    with pytest.raises(errors.IllegalOperation):
        await plain.begin_transaction()
    with pytest.raises(errors.IllegalOperation):
        await producer.send("t", b"v")
    with pytest.raises(AssertionError):
        await producer.commit_transaction()


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


@given(
    keys=st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), max_size=20),
    steps=st.lists(st.sampled_from(["read0", "read1", "commit0", "commit1", "join", "leave"]), max_size=12),
)
def test_order_delivery_and_commits(keys: list[bytes], steps: list[str]) -> None:
    """Partitions keep their order, members that commit share without loss or repetition, commits never go back."""

    async def body() -> None:
        async with MockContext("property") as context:
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
