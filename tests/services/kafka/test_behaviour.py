"""Kafka: one body for each promise, over the double and with aiokafka over librdkafka's mock cluster.

Behaviour that only the double has is in ``test_virtual.py``, with the reasons.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.metadata
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, errors  # type: ignore[import-untyped]
from aiokafka.abc import ConsumerRebalanceListener  # type: ignore[import-untyped]
from aiokafka.consumer.group_coordinator import GroupCoordinator  # type: ignore[import-untyped]
from aiokafka.partitioner import murmur2 as reference  # type: ignore[import-untyped]
from aiokafka.protocol.group import LeaveGroupRequest  # type: ignore[import-untyped]
from trio.testing import MockClock

from isolation_core.services import MockContext
from isolation_core.services.kafka import KafkaDouble, TopicPartition


def _library() -> str | None:
    """Return where the librdkafka is that confluent-kafka's wheel brings; None without it."""
    try:
        files = importlib.metadata.files("confluent-kafka") or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((str(each.locate()) for each in files if each.name.startswith("librdkafka")), None)


LIBRARY = _library()

# aiokafka runs on asyncio only.
SIDES = [("asyncio", "double"), ("trio", "double")] + ([] if LIBRARY is None else [("asyncio", "mock cluster")])
pytestmark = pytest.mark.anyio


@pytest.fixture(params=SIDES, ids="-".join)
def where(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Give an event loop and a side."""
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def anyio_backend(where: tuple[str, str]) -> str | tuple[str, dict[str, Any]]:
    """Run on that event loop, where virtual time can be had."""
    return (where[0], {"clock": MockClock(autojump_threshold=0)}) if where[0] == "trio" else where[0]


_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    # name: what it returns, what it takes
    "rd_kafka_conf_new": (ctypes.c_void_p,),
    "rd_kafka_conf_set": (ctypes.c_int, ctypes.c_void_p, *[ctypes.c_char_p] * 3, ctypes.c_size_t),
    "rd_kafka_new": (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t),
    "rd_kafka_destroy": (None, ctypes.c_void_p),
    "rd_kafka_mock_cluster_new": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int),
    "rd_kafka_mock_cluster_destroy": (None, ctypes.c_void_p),
    "rd_kafka_mock_cluster_bootstraps": (ctypes.c_char_p, ctypes.c_void_p),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, ctypes.c_void_p, ctypes.c_int32),
    "rd_kafka_mock_topic_create": (ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int),
    "rd_kafka_mock_topic_set_error": (None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int),
    "rd_kafka_mock_push_request_errors_array": (
        None, ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int),
    ),
    "rd_kafka_mock_partition_delete_records": (
        ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int64,
    ),
}  # fmt: skip


class MockCluster:
    """One broker on the loopback, in this process: librdkafka's."""

    def __init__(self, library: str) -> None:
        # The client's test.mock.num.brokers starts the same; by its C functions there is more to be set.
        self._library = ctypes.CDLL(library)
        for name, (result, *arguments) in _FUNCTIONS.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        self._text = ctypes.create_string_buffer(256)
        conf = self._call("conf_new")
        self._call("conf_set", conf, b"log_level", b"0", self._text, 256)
        self._client = self._call("new", 0, conf, self._text, 256)
        assert self._client, self._text.value
        self._cluster = self._call("mock_cluster_new", self._client, 1)
        self.address = self._call("mock_cluster_bootstraps", self._cluster).decode()
        self._call("mock_group_initial_rebalance_delay_ms", self._cluster, 0)

    def _call(self, name: str, *arguments: Any) -> Any:
        return getattr(self._library, f"rd_kafka_{name}")(*arguments)

    def create_topic(self, topic: str, partitions: int) -> None:
        assert self._call("mock_topic_create", self._cluster, topic.encode(), partitions, 1) == 0

    def forbid_topic(self, topic: str) -> None:
        self._call("mock_topic_set_error", self._cluster, topic.encode(), 3)  # unknown topic or partition

    def delete_records(self, partition: TopicPartition, before: int) -> None:
        name = partition.topic.encode()
        assert self._call("mock_partition_delete_records", self._cluster, name, partition.partition, before) == 0

    def answer(self, request: int, error: int) -> None:
        """Answer the next request of a kind with an error."""
        self._call("mock_push_request_errors_array", self._cluster, request, 1, (ctypes.c_int * 1)(error))

    def close(self) -> None:
        self._call("mock_cluster_destroy", self._cluster)
        self._call("destroy", self._client)


class Side:
    """The double or the cluster, with topics and groups of this test alone."""

    def __init__(self, double: KafkaDouble | None, cluster: MockCluster | None) -> None:
        self.double = double
        self.cluster = cluster
        self.prefix = "T" + uuid.uuid4().hex[:10]
        self.clients: list[Any] = []

    def name(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    async def topic(self, name: str = "t", partitions: int = 2) -> tuple[TopicPartition, ...]:
        """Create a topic."""
        topic = self.name(name)
        if self.double is not None:
            await self.double.create_topic(topic, partitions)
        if self.cluster is not None:
            self.cluster.create_topic(topic, partitions)
        return tuple(TopicPartition(topic, number) for number in range(partitions))

    def producer(self, **options: Any) -> Any:
        if self.cluster is None:
            assert self.double is not None
            return self.double.producer(**options)
        producer = AIOKafkaProducer(bootstrap_servers=self.cluster.address, retry_backoff_ms=20, **options)
        self.clients.append(producer)
        return producer

    def consumer(self, *topics: str, **options: Any) -> Any:
        if self.cluster is None:
            assert self.double is not None
            return self.double.consumer(*topics, **options)
        # The cluster waits for members to join again a second less than a session takes.
        quick: dict[str, Any] = {
            "retry_backoff_ms": 20,
            "fetch_max_wait_ms": 20,
            "session_timeout_ms": 1500,
            "heartbeat_interval_ms": 20,
        }
        consumer = AIOKafkaConsumer(*topics, bootstrap_servers=self.cluster.address, **(quick | options))
        self.clients.append(consumer)
        return consumer

    async def writer(self, **options: Any) -> Any:
        """Return a started producer."""
        producer = self.producer(**options)
        await producer.start()
        return producer

    async def reader(self, *topics: str, **options: Any) -> Any:
        """Return a started consumer that begins at the beginning."""
        consumer = self.consumer(*topics, **({"auto_offset_reset": "earliest"} | options))
        await consumer.start()
        return consumer

    async def read(self, consumer: Any, count: int, *partitions: TopicPartition) -> list[Any]:
        """Return the next messages."""
        with anyio.fail_after(10):
            return [await consumer.getone(*partitions) for _ in range(count)]

    async def nothing(self, consumer: Any) -> bool:
        """Whether nothing comes for a while."""
        return bool(await consumer.getmany(timeout_ms=100) == {})

    async def pause(self, seconds: float) -> None:
        """Let virtual time pass, or real time."""
        if self.double is not None:
            await self.double.context.clock.sleep(seconds)
        else:
            await asyncio.sleep(seconds)

    async def until(self, condition: Callable[[], object], *reading: Any) -> None:
        """Wait, while these consumers read."""
        for _ in range(400):
            for each in reading:
                await each.getmany()
            if condition():
                return
            await self.pause(0.01)
        raise AssertionError("it never came true")

    async def committed(self, group: str, partition: TopicPartition) -> int | None:
        """Return what the group has committed."""
        observer = self.consumer(group_id=group, enable_auto_commit=False)
        observer.assign([partition])
        await observer.start()
        found: int | None = await observer.committed(partition)
        await observer.stop()
        return found

    async def written(self, partition: TopicPartition) -> int:
        """Return how many offsets are taken."""
        observer = self.consumer()
        await observer.start()
        found: int = (await observer.end_offsets([partition]))[partition]
        await observer.stop()
        return found

    async def delete_records(self, partition: TopicPartition, before: int) -> None:
        if self.double is not None:
            await self.double.delete_records(partition.topic, before, partition=partition.partition)
        if self.cluster is not None:
            self.cluster.delete_records(partition, before)

    async def fence(self, transactional_id: str) -> None:
        """Let another producer take over the id of one."""
        if self.cluster is not None:
            # It knows no ids: its answer is given by hand, what the client makes of it is compared.
            self.cluster.answer(26, 47)  # the end of a transaction, invalid producer epoch
            return
        await self.writer(transactional_id=transactional_id)

    def forbid(self, topic: str) -> None:
        """Let this topic be unknown."""
        if self.double is not None:
            self.double._cluster.auto_create = False
        if self.cluster is not None:
            self.cluster.forbid_topic(topic)

    async def expel(self, consumer: Any) -> None:
        """Take a consumer out of its group behind its back."""
        if self.double is not None:
            self.double.expel(consumer)
            return
        coordinator = consumer._coordinator
        await coordinator._send_req(LeaveGroupRequest(coordinator.group_id, coordinator.member_id))


@pytest.fixture(scope="module")
def cluster() -> Iterator[MockCluster]:
    """Give the one cluster of all tests."""
    assert LIBRARY is not None
    cluster = MockCluster(LIBRARY)
    yield cluster
    cluster.close()


@pytest.fixture
async def side(
    where: tuple[str, str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Side]:
    """Give the double or the cluster."""
    if where[1] == "double":
        async with MockContext("behaviour", virtual_time=True) as context:
            double = KafkaDouble(context)
            await double.connect()
            yield Side(double, None)
        return
    share_out = GroupCoordinator._perform_assignment

    async def slowly(self: Any, response: Any) -> Any:
        await asyncio.sleep(0.02)
        return await share_out(self, response)

    # The mock cluster refuses the members that ask for their share after the leader has sent all shares,
    # which a broker would give them: the leader lets the others ask first.
    monkeypatch.setattr(GroupCoordinator, "_perform_assignment", slowly)
    each = Side(None, request.getfixturevalue("cluster"))
    yield each
    for client in reversed(each.clients):
        await client.stop()


@ConsumerRebalanceListener.register
class Listener:
    """A listener that records its notifications."""

    def __init__(self) -> None:
        self.told: list[tuple[str, set[TopicPartition]]] = []

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Note it."""
        self.told.append(("revoked", set(revoked)))

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Note it."""
        self.told.append(("assigned", set(assigned)))


def test_the_client_takes_part() -> None:
    """Without the mock cluster this test is skipped with the reason, and the others test the double alone."""
    if LIBRARY is None:
        pytest.skip("the wheel of confluent-kafka is not installed: no cluster for aiokafka to be compared on")
    assert ("asyncio", "mock cluster") in SIDES


async def test_a_message_comes_back_whole(side: Side) -> None:
    """Key, value, headers, timestamp and place of a message are read as they were written."""
    partitions = await side.topic()
    topic = partitions[0].topic
    producer = await side.writer(key_serializer=str.encode, value_serializer=lambda each: repr(each).encode())
    sent = await producer.send_and_wait(topic, [1], key="k", timestamp_ms=5, headers=[("h", b"1"), ("h", b"2")])
    consumer = await side.reader(topic, key_deserializer=bytes.decode, value_deserializer=bytes.decode)
    (got,) = await side.read(consumer, 1)
    assert (got.key, got.value, got.headers, got.timestamp) == ("k", "[1]", (("h", b"1"), ("h", b"2")), 5)
    assert (got.timestamp_type, got.checksum, got.serialized_key_size, got.serialized_value_size) == (0, None, 1, 3)
    assert (got.topic, got.partition, got.offset) == (sent.topic, sent.partition, sent.offset)
    assert sent.topic_partition == partitions[sent.partition]
    assert sent.partition == (reference(b"k") & 0x7FFFFFFF) % 2
    assert await producer.partitions_for(topic) == {0, 1}


async def test_what_a_message_lacks(side: Side) -> None:
    """A tombstone has no value, a message without key none; one of the two there must be."""
    p0, _ = await side.topic()
    producer = await side.writer()
    await producer.send_and_wait(p0.topic, None, key=b"k", partition=0)
    await producer.send_and_wait(p0.topic, b"", partition=0)
    tombstone, empty = await side.read(await side.reader(p0.topic), 2)
    assert (tombstone.key, tombstone.value, tombstone.headers, tombstone.serialized_value_size) == (b"k", None, (), -1)
    assert (empty.key, empty.value, empty.serialized_key_size, empty.serialized_value_size) == (None, b"", -1, 0)
    with pytest.raises(AssertionError):
        await producer.send(p0.topic)
    with pytest.raises(AssertionError):
        await producer.send(p0.topic, b"v", partition=2)


async def test_send_gives_something_to_await(side: Side) -> None:
    """The result of `send` resolves to the partition and offset of the message; offsets count up."""
    p0, _ = await side.topic()
    producer = await side.writer()
    deliveries = [await producer.send(p0.topic, b"v", partition=1) for _ in range(3)]
    assert [(await each).offset for each in deliveries] == [0, 1, 2]


async def test_values_must_be_bytes(side: Side) -> None:
    """Without a serializer only bytes can be sent."""
    p0, _ = await side.topic()
    producer = await side.writer()
    for wrong in ({"value": "text"}, {"value": b"", "key": 1}):
        with pytest.raises(TypeError):
            await producer.send(p0.topic, **wrong)
    assert await side.written(p0) == 0


async def test_too_large_a_message_is_refused(side: Side) -> None:
    """A message above the limit raises and is not written."""
    p0, _ = await side.topic()
    producer = await side.writer(max_request_size=200)
    parts: dict[str, Any] = {"key": b"k" * 20, "headers": [("head", b"x" * 20)], "partition": 0}
    fits = 0
    while True:
        try:
            await producer.send_and_wait(p0.topic, b"x" * (fits + 1), **parts)
        except errors.MessageSizeTooLargeError:
            break
        fits += 1
    assert fits == 68
    assert await side.written(p0) == fits


async def test_only_a_started_producer_sends(side: Side) -> None:
    """After `stop` nothing can be sent."""
    p0, _ = await side.topic()
    producer = await side.writer()
    await producer.send_and_wait(p0.topic, b"v")
    await producer.stop()
    await producer.stop()
    with pytest.raises(errors.ProducerClosed):
        await producer.send(p0.topic, b"v")


@pytest.mark.parametrize(("policy", "expected"), [("earliest", [b"old", b"new"]), ("latest", [b"new"])])
async def test_where_a_consumer_begins(side: Side, policy: str, expected: list[bytes]) -> None:
    """Without a committed offset the policy says where to begin."""
    p0, _ = await side.topic()
    producer = await side.writer()
    await producer.send_and_wait(p0.topic, b"old", partition=0)
    consumer = await side.reader(p0.topic, group_id=side.name("g"), auto_offset_reset=policy)
    assert await consumer.position(p0) == 2 - len(expected)
    await producer.send_and_wait(p0.topic, b"new", partition=0)
    assert [each.value for each in await side.read(consumer, len(expected))] == expected


async def test_no_policy_no_offset(side: Side) -> None:
    """With the policy none, reading raises until each partition has an offset, also a paused one."""
    p0, p1 = await side.topic()
    await (await side.writer()).send_and_wait(p0.topic, b"v", partition=0)
    consumer = await side.reader(p0.topic, group_id=side.name("g"), auto_offset_reset="none")
    with pytest.raises(errors.NoOffsetForPartitionError):
        await side.read(consumer, 1)
    await consumer.seek_to_beginning(p0)
    consumer.pause(p1)
    with pytest.raises(errors.NoOffsetForPartitionError):
        await side.read(consumer, 1, p1)
    assert [each.value for each in await side.read(consumer, 1, p0)] == [b"v"]


async def test_one_partition_out_of_range_takes_nothing_from_another(side: Side) -> None:
    """Messages read before an offset out of range are handed out first; the error follows."""
    p0, p1 = await side.topic()
    producer = await side.writer()
    consumer = side.consumer(auto_offset_reset="none")
    consumer.assign([p0, p1])
    await consumer.start()
    consumer.seek(p0, 0)
    consumer.seek(p1, 9)
    await producer.send_and_wait(p0.topic, b"v", partition=0)
    told = False
    got: list[bytes] = []
    with anyio.fail_after(10):
        while not (told and got):
            try:
                got += [each.value for records in (await consumer.getmany()).values() for each in records]
            except errors.OffsetOutOfRangeError:
                told = True
            await side.pause(0.01)
    assert got == [b"v"]


async def test_deleted_records_are_out_of_range(side: Side) -> None:
    """A reader behind the start of the log is reset by its policy, or gets an error."""
    p0, _ = await side.topic()
    producer = await side.writer()
    for number in range(4):
        await producer.send_and_wait(p0.topic, b"%d" % number, partition=0)
    await side.delete_records(p0, 2)
    for policy in ("earliest", "none"):
        consumer = side.consumer(auto_offset_reset=policy)
        consumer.assign([p0])
        await consumer.start()
        consumer.seek(p0, 0)
        if policy == "earliest":
            assert (await side.read(consumer, 1))[0].offset == 2
        else:
            with pytest.raises(errors.OffsetOutOfRangeError):
                await side.read(consumer, 1)
        assert await consumer.beginning_offsets([p0]) == {p0: 2}


async def test_an_empty_read_waits(side: Side) -> None:
    """`getone` waits for the next message."""
    p0, _ = await side.topic()
    consumer = await side.reader(p0.topic)
    producer = await side.writer()
    assert await side.nothing(consumer)
    got: list[Any] = []

    async def read() -> None:
        got.extend(await side.read(consumer, 1))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await side.pause(0.05)
        assert got == []
        await producer.send_and_wait(p0.topic, b"v")
    assert got[0].value == b"v"


async def test_a_cancelled_read_loses_nothing(side: Side) -> None:
    """Messages that were not handed out are returned by the next call."""
    p0, _ = await side.topic()
    consumer = await side.reader(p0.topic)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await consumer.getone()
    await (await side.writer()).send_and_wait(p0.topic, b"v")
    assert [each.value for each in await side.read(consumer, 1)] == [b"v"]


async def test_stop_ends_a_waiting_read(side: Side) -> None:
    """A waiting `getone` raises when its consumer is stopped, `async for` ends; so do later ones."""
    p0, _ = await side.topic()
    consumer = await side.reader(p0.topic)
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
        await side.pause(0.05)
        await consumer.stop()
    assert sorted(map(str, ended)) == ["for", "getone"]
    with pytest.raises(errors.ConsumerStoppedError):
        await consumer.getmany()
    with pytest.raises(errors.ConsumerStoppedError):
        aiter(consumer)


async def test_limits_of_getmany(side: Side) -> None:
    """`max_records` limits all partitions together, and nothing is lost or given twice."""
    p0, _ = await side.topic()
    producer = await side.writer()
    for number in range(6):
        await producer.send_and_wait(p0.topic, b"v", partition=number % 2)
    consumer = await side.reader(p0.topic, max_poll_records=3)
    seen: list[tuple[int, int]] = []
    for limit in (2, None, None, None, None):
        batch = await consumer.getmany(timeout_ms=100, max_records=limit)
        found = [(each.partition, each.offset) for records in batch.values() for each in records]
        assert len(found) <= (limit or 3)
        seen.extend(found)
    assert sorted(seen) == [(partition, offset) for partition in (0, 1) for offset in range(3)]
    with pytest.raises(ValueError, match="positive"):
        await consumer.getmany(max_records=0)


async def test_seek_pause_and_position(side: Side) -> None:
    """Positions are set by hand; a paused partition gives nothing."""
    p0, p1 = await side.topic()
    producer = await side.writer()
    for number in range(3):
        await producer.send_and_wait(p0.topic, b"%d" % number, partition=0)
    consumer = await side.reader(p0.topic)
    consumer.seek(p0, 2)
    assert (await side.read(consumer, 1, p0))[0].value == b"2"
    assert consumer.highwater(p0) == 3
    await consumer.seek_to_beginning(p0)
    consumer.pause(p0)
    assert consumer.paused() == {p0}
    assert await side.nothing(consumer)
    consumer.resume(p0)
    assert (await side.read(consumer, 1))[0].value == b"0"
    assert await consumer.position(p0) == 1
    await consumer.seek_to_end()
    assert await consumer.position(p0) == 3
    assert await consumer.end_offsets([p0, p1]) == {p0: 3, p1: 0}
    with pytest.raises(errors.IllegalStateError):
        consumer.seek(TopicPartition(p0.topic, 9), 0)
    with pytest.raises(ValueError, match="positive integer"):
        consumer.seek(p0, -1)


async def test_subscription_is_one_of_three(side: Side) -> None:
    """Topics, pattern and partitions exclude each other; bad ones raise as in the client."""
    p0, _ = await side.topic()
    consumer = side.consumer()
    with pytest.raises(TypeError):
        consumer.subscribe()
    with pytest.raises(TypeError):
        consumer.subscribe([p0.topic], pattern="t")
    with pytest.raises(ValueError, match="not a valid pattern"):
        consumer.subscribe(pattern="(")
    consumer.subscribe([p0.topic])
    with pytest.raises(errors.IllegalStateError):
        consumer.assign([p0])
    consumer.unsubscribe()
    consumer.assign([p0])
    with pytest.raises(errors.IllegalStateError):
        consumer.subscribe([p0.topic])
    assert consumer.assignment() == {p0}


@pytest.mark.parametrize("group", [None, "g"])
async def test_a_pattern_finds_later_topics(side: Side, group: str | None) -> None:
    """A topic created later is read if it fits the pattern."""
    group_id = group and side.name(group)
    consumer = side.consumer(group_id=group_id, auto_offset_reset="earliest", metadata_max_age_ms=100)
    consumer.subscribe(pattern="^" + side.name("later"))
    await consumer.start()
    assert consumer.assignment() == set()
    await side.topic("other", 1)
    (fits,) = await side.topic("later.on", 1)
    await (await side.writer()).send_and_wait(fits.topic, b"v")
    assert (await side.read(consumer, 1))[0].topic == fits.topic
    assert consumer.subscription() == {fits.topic}


async def test_a_group_shares_and_rebalances(side: Side) -> None:
    """Members share the partitions, listeners are notified, and a leaving member gives its partitions back."""
    both = set(await side.topic())
    topic = next(iter(both)).topic
    listener = Listener()
    first = side.consumer(group_id=side.name("g"))
    first.subscribe([topic], listener=listener)
    await first.start()
    await side.until(lambda: first.assignment() == both, first)
    second = await side.reader(topic, group_id=side.name("g"))
    await side.until(lambda: len(first.assignment()) == len(second.assignment()) == 1, first, second)
    assert first.assignment() | second.assignment() == both
    await second.stop()
    await side.until(lambda: len(listener.told) == 6, first)
    assert first.assignment() == both
    _, _, *told = listener.told
    assert listener.told[:2] == [("revoked", set()), ("assigned", both)]
    kept = told[1][1]
    assert told == [("revoked", both), ("assigned", kept), ("revoked", kept), ("assigned", both)]


@pytest.mark.parametrize(("strategy", "shares"), [("range", [{0, 1}, {2}]), ("roundrobin", [{0, 2}, {1}])])
async def test_assignors(side: Side, strategy: str, shares: list[set[int]]) -> None:
    """The assignors share out as those of the client."""
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor  # type: ignore[import-untyped]
    from aiokafka.coordinator.assignors.roundrobin import (  # type: ignore[import-untyped]
        RoundRobinPartitionAssignor,
    )

    assignor = RangePartitionAssignor if strategy == "range" else RoundRobinPartitionAssignor
    three = await side.topic("three", 3)
    members = [
        await side.reader(three[0].topic, group_id=side.name("g"), partition_assignment_strategy=[assignor])
        for _ in range(2)
    ]
    await side.until(lambda: sum(len(each.assignment()) for each in members) == 3, *members)
    # Who comes first is up to the ids, which the broker hands out.
    found = [{each.partition for each in member.assignment()} for member in members]
    assert sorted(found, key=len, reverse=True) == shares


async def test_commits_are_kept_per_group(side: Side) -> None:
    """A group goes on where it committed; another begins anew."""
    p0, _ = await side.topic()
    producer = await side.writer()
    for number in range(3):
        await producer.send_and_wait(p0.topic, b"%d" % number, partition=0)
    group = side.name("g")
    consumer = await side.reader(p0.topic, group_id=group, enable_auto_commit=False)
    await side.read(consumer, 1)
    assert await consumer.committed(p0) is None
    await consumer.commit()
    await side.read(consumer, 1)
    await consumer.stop()
    again = await side.reader(p0.topic, group_id=group, enable_auto_commit=False)
    assert (await side.read(again, 1))[0].value == b"1"
    await again.commit({p0: 3})
    assert await again.committed(p0) == 3
    await again.seek_to_committed(p0)
    assert await again.position(p0) == 3
    assert (await side.read(await side.reader(p0.topic, group_id=side.name("other")), 1))[0].value == b"0"


async def test_commit_needs_a_group_and_the_partition(side: Side) -> None:
    """Without a group, for foreign partitions or in a wrong format a commit raises."""
    p0, _ = await side.topic()
    with pytest.raises(errors.IllegalOperation):
        await (await side.reader(p0.topic)).commit()
    consumer = await side.reader(p0.topic, group_id=side.name("g"))
    with pytest.raises(errors.IllegalStateError):
        await consumer.commit({TopicPartition("other", 0): 1})
    for wrong, error in (({"t": 1}, TypeError), ({p0: (1, 2)}, TypeError), ({p0: None}, ValueError), ({}, ValueError)):
        with pytest.raises(error):
            await consumer.commit(wrong)


async def test_automatic_commits(side: Side) -> None:
    """Positions of messages that were handed out are committed after the interval, and at the end."""
    p0, _ = await side.topic()
    producer = await side.writer()
    for _ in range(2):
        await producer.send_and_wait(p0.topic, b"v", partition=0)
    group = side.name("g")
    consumer = await side.reader(p0.topic, group_id=group, auto_commit_interval_ms=1000)
    await side.read(consumer, 1)
    assert not await side.committed(group, p0)
    await side.pause(1.2)
    assert await side.committed(group, p0) == 1
    await side.read(consumer, 1)
    await consumer.stop()
    assert await side.committed(group, p0) == 2


@pytest.mark.parametrize("how", ["expelled", "too slow"])
async def test_a_commit_after_the_group_went_on_fails(side: Side, how: str) -> None:
    """An expelled member cannot commit; its next read joins the group again and returns the message again."""
    p0, _ = await side.topic()
    await (await side.writer()).send_and_wait(p0.topic, b"v", partition=0)
    options = {"group_id": side.name("g"), "enable_auto_commit": False, "max_poll_interval_ms": 1000}
    consumer = await side.reader(p0.topic, **options)
    await side.read(consumer, 1)
    if how == "expelled":
        await side.expel(consumer)
    else:
        await side.pause(1.4)
    with pytest.raises(errors.CommitFailedError):
        await consumer.commit()
    assert (await side.read(consumer, 1))[0].value == b"v"
    await consumer.commit()
    assert await consumer.committed(p0) == 1


async def test_a_transaction_is_read_when_it_is_committed(side: Side) -> None:
    """Committed messages are read; the marker at the end of a transaction takes an offset and is not handed out."""
    p0, _ = await side.topic()
    producer = await side.writer(transactional_id=side.name("x"))
    async with producer.transaction():
        await producer.send_and_wait(p0.topic, b"first", partition=0)
    await producer.begin_transaction()
    assert (await producer.send_and_wait(p0.topic, b"second", partition=0)).offset == 2
    await producer.commit_transaction()
    for level in ("read_committed", "read_uncommitted"):
        # The cluster's markers have no checksum.
        consumer = await side.reader(p0.topic, isolation_level=level, check_crcs=False)
        assert [(each.value, each.offset) for each in await side.read(consumer, 2)] == [(b"first", 0), (b"second", 2)]
        assert await side.nothing(consumer)
        assert await consumer.position(p0) == consumer.highwater(p0) == 4
        if level == "read_committed":
            assert consumer.last_stable_offset(p0) == 4


async def test_transactions_out_of_order(side: Side) -> None:
    """Calls that do not fit the state of the transaction raise."""
    p0, _ = await side.topic()
    plain, producer = await side.writer(), await side.writer(transactional_id=side.name("x"))
    with pytest.raises(errors.IllegalOperation):
        await plain.begin_transaction()
    with pytest.raises(errors.IllegalOperation):
        await producer.send(p0.topic, b"v")
    with pytest.raises(errors.IllegalOperation):
        await producer.send_offsets_to_transaction({p0: 5}, side.name("g"))
    with pytest.raises(AssertionError):
        await producer.commit_transaction()


async def test_a_newer_producer_fences(side: Side) -> None:
    """A producer whose id was taken over can do nothing any more."""
    p0, _ = await side.topic()
    old = await side.writer(transactional_id=side.name("x"))
    await old.begin_transaction()
    await old.send_and_wait(p0.topic, b"lost", partition=0)
    await side.fence(side.name("x"))
    with pytest.raises(errors.ProducerFenced):
        await old.commit_transaction()
    with pytest.raises(AssertionError):
        await old.begin_transaction()
    with pytest.raises(errors.IllegalOperation):
        await old.send(p0.topic, b"v")


async def test_an_unknown_topic_is_refused(side: Side) -> None:
    """Where topics are not created by use, sending to an unknown one raises."""
    nowhere = side.name("nowhere")
    side.forbid(nowhere)
    producer = await side.writer(request_timeout_ms=200)
    with pytest.raises(errors.UnknownTopicOrPartitionError):
        await producer.send(nowhere, b"v")


async def test_what_delivery_can_be_asked_for(side: Side) -> None:
    """Without acknowledgement the offset is unknown; unknown and contradictory options are refused."""
    p0, _ = await side.topic()
    producer = await side.writer(acks=0)
    assert await producer.send_and_wait(p0.topic, b"v", partition=0) is None
    assert [each.value for each in await side.read(await side.reader(p0.topic), 1)] == [b"v"]
    for wrong in ({"acks": 7}, {"compression_type": "x"}, {"acks": 1, "enable_idempotence": True}):
        with pytest.raises(ValueError, match=r"ACKS|compression|not supported"):
            side.producer(**wrong)
    with pytest.raises(ValueError, match="not supported"):
        side.producer(acks=1, transactional_id="x")
    with pytest.raises(TypeError, match="unexpected keyword"):
        side.producer(ack=1)


@pytest.mark.parametrize(
    "headers", [{"a": b"b"}, [("a", "b")], [(b"a", b"b")], (("a", b"b"),), [["a", b"b"]], [("a", bytearray(b"b"))]]
)
async def test_headers_are_pairs_of_text_and_bytes(side: Side, headers: Any) -> None:
    """Other headers are refused, and nothing is written."""
    p0, _ = await side.topic()
    producer = await side.writer()
    with pytest.raises(TypeError):
        await producer.send_and_wait(p0.topic, b"v", partition=0, headers=headers)
    assert await side.written(p0) == 0


async def test_a_consumer_knows_its_state(side: Side) -> None:
    """Calls that do not fit the subscription, the assignment or the state of the consumer raise or return nothing."""
    p0, p1 = await side.topic()
    consumer = side.consumer(group_id=side.name("g"))
    with pytest.raises(TypeError, match="listener"):
        consumer.subscribe([p0.topic], listener=object())
    assert (consumer.subscription(), consumer.assignment()) == (set(), set())
    consumer.assign([p0])
    with pytest.raises(errors.IllegalStateError):
        await side.consumer(p0.topic, group_id=side.name("h")).commit()
    await consumer.start()
    assert (consumer.subscription(), consumer.assignment()) == ({p0.topic}, {p0})
    with pytest.raises(AssertionError):
        await consumer.start()
    for call in (consumer.highwater, consumer.last_stable_offset):
        with pytest.raises(AssertionError):
            call(p1)
    for call in (consumer.position, consumer.seek_to_end, consumer.seek_to_beginning):
        with pytest.raises(errors.IllegalStateError):
            await call(p1)
    for call in (consumer.pause, consumer.resume):
        with pytest.raises(errors.IllegalStateError):
            call(p1)
    assert await consumer.getmany(p1) == {}
    with pytest.raises(AssertionError):
        await consumer.getmany(p1.topic)
    named = side.consumer(p0.topic)
    with pytest.raises(errors.IllegalStateError):
        named.subscribe(pattern="t")
    with pytest.raises(ValueError, match="max_poll_records"):
        side.consumer(max_poll_records=0)
