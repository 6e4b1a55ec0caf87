"""`KafkaConsumer`: in the shape of ``AIOKafkaConsumer``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from isolation_core.services._double import ClientObject
from isolation_core.services._operations import operation
from isolation_core.services.kafka._assignors import assignor_name
from isolation_core.services.kafka._cluster import offsets_of
from isolation_core.services.kafka._errors import kafka_class, kafka_error
from isolation_core.services.kafka._log import Message
from isolation_core.services.kafka._options import CONSUMER_OPTIONS, check_limit, check_subscription
from isolation_core.services.kafka._records import record_of
from isolation_core.services.kafka._structs import (
    ConsumerRecord,
    OffsetAndMetadata,
    OffsetAndTimestamp,
    TopicPartition,
)

if TYPE_CHECKING:
    from isolation_core.services.kafka._double import KafkaDouble

__all__ = ["KafkaConsumer"]

_EXCLUSIVE: Final = "Subscription to topics, partitions and pattern are mutually exclusive"


class KafkaConsumer(ClientObject):
    """Reads from the double's cluster, alone or as a member of a group.

    Args:
        double: the cluster.
        *topics: to subscribe to.
        group_id: None: no group, nothing can be committed.
        key_deserializer: run over each key that is not None.
        value_deserializer: run over each value that is not None.
        auto_offset_reset: where to begin without a valid position: ``"latest"``, ``"earliest"``, ``"none"``.
        enable_auto_commit: commit what was handed out, every *auto_commit_interval_ms* and when partitions go.
        auto_commit_interval_ms: on the virtual clock.
        partition_assignment_strategy: the first one counts: ``"range"``, ``"roundrobin"`` or the client's classes.
        max_poll_interval_ms: a member that does not read for so long, on the clock, leaves the group.
        max_poll_records: the limit of `getmany`.
        isolation_level: ``"read_uncommitted"`` or ``"read_committed"``.
        **options: the client's other ones, which have no effect in memory; ``group_instance_id`` is refused.
    """

    label = "consumer"

    def __init__(
        self,
        double: KafkaDouble,
        *topics: str,
        group_id: str | None = None,
        key_deserializer: Callable[[bytes], Any] | None = None,
        value_deserializer: Callable[[bytes], Any] | None = None,
        auto_offset_reset: str = "latest",
        enable_auto_commit: bool = True,
        auto_commit_interval_ms: int = 5000,
        partition_assignment_strategy: Sequence[object] = ("roundrobin",),
        max_poll_interval_ms: int = 300000,
        max_poll_records: int | None = None,
        isolation_level: str = "read_uncommitted",
        **options: Any,
    ) -> None:
        CONSUMER_OPTIONS.check(options)
        if isolation_level not in {"read_uncommitted", "read_committed"}:
            raise ValueError(f"Incorrect isolation level {isolation_level}")
        check_limit("max_poll_records", max_poll_records, verb="should be")
        if auto_offset_reset not in {"latest", "earliest", "none"}:
            raise ValueError(f"Unrecognized auto_offset_reset {auto_offset_reset!r}: latest, earliest or none")
        super().__init__(double)
        self._kafka = double
        self._request_timeout = options.get("request_timeout_ms", 40000) / 1000
        self._cluster = double._cluster
        self._group = None if group_id is None else self._cluster.group(group_id)
        self._key_deserializer = key_deserializer
        self._value_deserializer = value_deserializer
        self._reset_policy = auto_offset_reset
        self._auto_commit = enable_auto_commit and group_id is not None
        self._interval = auto_commit_interval_ms / 1000
        self._assignor = assignor_name(partition_assignment_strategy[0])
        self._max_poll_interval = max_poll_interval_ms / 1000
        self._max_records = max_poll_records
        self._committed_only = isolation_level == "read_committed"
        self._topics: frozenset[str] = frozenset(topics)
        self._pattern: re.Pattern[str] | None = None
        self._manual = False
        self._listener: Any = None
        self._member: str | None = None
        self._generation = 0
        self._positions: dict[TopicPartition, int | None] = {}
        self._paused: set[TopicPartition] = set()
        self._last: TopicPartition | None = None
        self._next_commit = 0.0
        self._last_poll = 0.0
        self._waiting = 0
        self._started = False
        self._closed = False
        self._hidden = False

    # -- life --------------------------------------------------------------------------

    @operation
    async def start(self) -> None:
        """Connect, and join the group if there is one; returns with the partitions assigned.

        Raises:
            KafkaConnectionError: the client's, if the double is not connected.
        """
        self._kafka._require_connected()
        if self._started:
            raise AssertionError("Did you call `start` twice?")
        self._started = True
        now = self._cluster.clock.now()
        self._last_poll, self._next_commit = now, now + self._interval
        if self._manual:
            self._resolve_all()
        await self._settle()

    @operation
    async def stop(self) -> None:
        """Commit what was handed out, if commits are automatic, and leave the group. Idempotent."""
        if not self._closed:
            if self._started:
                self._commit_quietly()
            self._close()

    def end(self) -> None:
        """Its double is disconnected."""
        self._close()
        super().end()

    def _close(self) -> None:
        self._closed = True
        self._double._clients.pop(id(self), None)
        if self._group is not None:
            self._group.leave(self._member)
        self._member = None
        self._cluster.clock.notify()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    def problems(self) -> tuple[str, ...]:
        """Return a problem if it was started and not stopped."""
        if self._started and not self._closed and not self._hidden:
            of = f" of the group {self._group.name!r}" if self._group else ""
            return (f"a consumer{of} was started and not stopped",)
        return ()

    # -- subscription --------------------------------------------------------------------

    @operation
    def subscribe(self, topics: Iterable[str] = (), pattern: str | None = None, listener: Any = None) -> None:
        """Ask for topics by name or by pattern; replaces what was asked for before."""
        compiled = check_subscription(topics, pattern, listener)
        if self._manual or (self._topics if pattern else self._pattern):
            raise kafka_error("IllegalStateError", _EXCLUSIVE)
        self._pattern = compiled
        self._topics = frozenset(topics)
        self._listener = listener
        if self._group is not None and self._member is not None:
            self._group.topics_changed()

    @operation
    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read exactly *partitions*, without the group sharing them out."""
        if self._topics or self._pattern:
            raise kafka_error("IllegalStateError", _EXCLUSIVE)
        self._manual = True
        self._positions = {partition: self._positions.get(partition) for partition in partitions}
        self._paused &= set(self._positions)
        if self._started:
            self._resolve_all()

    @operation
    def unsubscribe(self) -> None:
        """Ask for nothing any more; leaves the group."""
        self._topics, self._pattern, self._manual = frozenset(), None, False
        self._positions = {}
        self._paused.clear()
        if self._group is not None:
            self._group.leave(self._member)
        self._member = None

    @operation
    def assignment(self) -> frozenset[TopicPartition]:
        """Return the partitions that are read."""
        return frozenset(self._positions)

    @operation
    def subscription(self) -> frozenset[str]:
        """Return the topics asked for, or those of the partitions asked for."""
        return frozenset(each.topic for each in self._positions) if self._manual else frozenset(self._wanted_topics())

    @operation
    async def topics(self) -> set[str]:
        """Return all topics there are."""
        return set(self._cluster.topics)

    @operation
    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """Return the numbers of the partitions of *topic*; None if the topic does not exist."""
        logs = self._cluster.topics.get(topic)
        return None if logs is None else {log.partition for log in logs}

    def _wanted_topics(self) -> set[str]:
        if self._pattern is not None:
            return {topic for topic in self._cluster.topics if self._pattern.match(topic)}
        return set(self._topics)

    # -- what the group does ---------------------------------------------------------------

    async def _settle(self) -> None:
        """Be in the group, with nothing due; without a group take all partitions."""
        if self._manual or not (self._topics or self._pattern):
            return
        for topic in self._topics:
            self._cluster.logs(topic)
        if self._group is None:
            wanted = {
                TopicPartition(topic, log.partition)
                for topic in sorted(self._wanted_topics())
                for log in self._cluster.logs(topic)
            }
            if wanted != set(self._positions):
                await self._revoke()
                await self._receive(wanted, 0)
            return
        self._group.catch_up()
        if self._member not in self._group.members:
            self._last_poll = self._cluster.clock.now()
            self._member = self._group.join(self)
        if self._group.unsettled and not self._in_callback():
            await self._group.settle()

    def _in_callback(self) -> bool:
        return self._kafka._callback_task == anyio.get_current_task().id

    async def _revoke(self) -> None:
        self._commit_quietly()
        await self._tell("on_partitions_revoked", set(self._positions))

    async def _receive(self, partitions: set[TopicPartition], generation: int) -> None:
        kept = self._positions if self._group is None else {}
        self._positions = {partition: kept.get(partition) for partition in sorted(partitions)}
        self._paused &= partitions
        self._generation = generation
        self._resolve_all()
        await self._tell("on_partitions_assigned", set(partitions))

    async def _tell(self, name: str, partitions: set[TopicPartition]) -> None:
        if self._listener is None:
            return
        before, self._kafka._callback_task = self._kafka._callback_task, anyio.get_current_task().id
        try:
            told = getattr(self._listener, name)(partitions)
            if inspect.isawaitable(told):
                await told
        finally:
            self._kafka._callback_task = before

    def _overdue(self, now: float) -> bool:
        return not self._waiting and now - self._last_poll > self._max_poll_interval

    def _commit_if_due(self, now: float) -> None:
        if self._auto_commit and now >= self._next_commit:
            self._next_commit = now + self._interval
            self._commit_quietly()

    def _commit_quietly(self) -> None:
        if self._auto_commit and self._group is not None and (self._manual or self._member in self._group.members):
            self._group.offsets.update(self._consumed())

    def _consumed(self) -> dict[TopicPartition, OffsetAndMetadata]:
        known = self._positions.items()
        return {partition: OffsetAndMetadata(at, "") for partition, at in known if at is not None}

    # -- positions ---------------------------------------------------------------------------

    def _resolve_all(self) -> None:
        for partition, at in self._positions.items():
            if at is None:
                self._positions[partition] = self._beginning(partition, self._reset_policy)

    def _beginning(self, partition: TopicPartition, policy: str) -> int | None:
        log = self._cluster.log(partition)
        if self._group is not None and (committed := self._group.offsets.get(partition)) is not None:
            return committed.offset
        if policy == "none":
            return None
        return log.start if policy == "earliest" else self._end(partition)

    def _end(self, partition: TopicPartition) -> int:
        log = self._cluster.log(partition)
        return log.stable if self._committed_only else log.end

    def _checked(self, partition: TopicPartition) -> int:
        """Return a position there is something to read at, or will be."""
        at = self._positions[partition]
        log = self._cluster.log(partition)
        if at is None:
            at = self._beginning(partition, self._reset_policy)
            if at is None:
                raise kafka_error("NoOffsetForPartitionError", partition)
        elif not log.start <= at <= log.end:
            if self._reset_policy == "none":
                raise kafka_error("OffsetOutOfRangeError", {partition: at})
            at = log.start if self._reset_policy == "earliest" else self._end(partition)
        self._positions[partition] = at
        return at

    def _require(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            if not isinstance(partition, TopicPartition):
                raise TypeError("partitions must be TopicPartition namedtuples")
            if partition not in self._positions:
                raise kafka_error("IllegalStateError", f"Partition {partition} is not assigned")

    def _require_started(self) -> None:
        if not self._started:
            raise kafka_error("IllegalStateError", "the consumer is not started; await consumer.start() first")

    async def _ready(self, partitions: tuple[TopicPartition, ...]) -> None:
        self._require_started()
        await self._settle()
        self._require(partitions)
        assert partitions or self._positions, "No partitions are currently assigned"

    @operation
    async def position(self, partition: TopicPartition) -> int:
        """Return the offset of what is read next."""
        await self._ready((partition,))
        return self._checked(partition)

    @operation
    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read *partition* from *offset* on."""
        if not isinstance(offset, int) or offset < 0:
            raise ValueError("Offset must be a positive integer")
        self._require_started()
        self._require((partition,))
        self._positions[partition] = offset
        self._cluster.clock.notify()

    @operation
    async def seek_to_beginning(self, *partitions: TopicPartition) -> bool:
        """Read from the first offset there is; all partitions, or these."""
        await self._ready(partitions)
        for partition in partitions or tuple(self._positions):
            self._positions[partition] = self._cluster.log(partition).start
        self._cluster.clock.notify()
        return True

    @operation
    async def seek_to_end(self, *partitions: TopicPartition) -> bool:
        """Read only what comes from now on."""
        await self._ready(partitions)
        for partition in partitions or tuple(self._positions):
            self._positions[partition] = self._end(partition)
        return True

    @operation
    async def seek_to_committed(self, *partitions: TopicPartition) -> dict[TopicPartition, int | None]:
        """Read from the committed offsets on; partitions without one stay where they are."""
        await self._ready(partitions)
        found: dict[TopicPartition, int | None] = {}
        for partition in partitions or tuple(self._positions):
            found[partition] = at = await self.committed(partition)
            if at is not None:
                self._positions[partition] = at
        self._cluster.clock.notify()
        return found

    @operation
    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the first offsets there are."""
        return {partition: self._cluster.log(partition).start for partition in partitions}

    @operation
    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offsets the next messages get; for readers of committed ones, the last stable offsets."""
        return {partition: self._end(partition) for partition in partitions}

    @operation
    async def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """Return the first offsets whose messages are not older; None where there is none."""
        found: dict[TopicPartition, OffsetAndTimestamp | None] = {}
        for partition, timestamp in timestamps.items():
            if timestamp < 0:
                raise ValueError(f"The target time for partition {partition} is {timestamp}. It cannot be negative.")
            message = self._cluster.log(partition).at_time(timestamp)
            found[partition] = None if message is None else OffsetAndTimestamp(message.offset, message.timestamp)
        return found

    @operation
    def highwater(self, partition: TopicPartition) -> int:
        """Return the offset the next message gets."""
        assert partition in self._positions, "Partition is not assigned"
        return self._cluster.log(partition).end

    @operation
    def last_stable_offset(self, partition: TopicPartition) -> int:
        """Return up to where all transactions are decided; -1 for readers of uncommitted messages."""
        assert partition in self._positions, "Partition is not assigned"
        return self._cluster.log(partition).stable if self._committed_only else -1

    @operation
    def pause(self, *partitions: TopicPartition) -> None:
        """Hand out nothing of *partitions* until `resume`."""
        self._require(partitions)
        self._paused.update(partitions)

    @operation
    def paused(self) -> set[TopicPartition]:
        """Return what is paused."""
        return set(self._paused)

    @operation
    def resume(self, *partitions: TopicPartition) -> None:
        """End `pause`."""
        self._require(partitions)
        self._paused.difference_update(partitions)
        self._cluster.clock.notify()

    # -- commits -------------------------------------------------------------------------------

    @operation
    async def commit(self, offsets: Mapping[TopicPartition, Any] | None = None) -> None:
        """Commit *offsets*, by default what was handed out.

        Raises:
            CommitFailedError: the client's, if the group has gone on without this member.
        """
        if self._group is None:
            raise kafka_error("IllegalOperation", "Requires group_id")
        if not (self._manual or self._topics or self._pattern):
            raise kafka_error("IllegalStateError", "Not subscribed to any topics")
        self._require_started()
        self._group.catch_up()
        wanted = self._consumed() if offsets is None else offsets_of(offsets)
        self._require(wanted)
        self._group.commit(self._member, self._generation, wanted)

    @operation
    async def committed(self, partition: TopicPartition) -> int | None:
        """Return the committed offset of *partition*, by any member; None without one."""
        if self._group is None:
            raise kafka_error("IllegalOperation", "Requires group_id")
        self._require_started()
        self._group.catch_up()
        found = self._group.offsets.get(partition)
        return None if found is None else found.offset

    # -- reading -------------------------------------------------------------------------------

    @operation
    async def getone(self, *partitions: TopicPartition) -> ConsumerRecord:
        """Return the next message; waits until there is one.

        Nothing is lost to a cancellation.

        Raises:
            ConsumerStoppedError: the client's, once stopped, also while it waits.
        """
        batch = await self._poll(partitions, None, 1)
        return next(iter(batch.values()))[0]

    @operation
    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Return what there is, by partition.

        Args:
            *partitions: only these.
            timeout_ms: how long to wait on the virtual clock if there is nothing.
            max_records: at most so many.
        """
        check_limit("max_records", max_records, verb="must be a")
        try:
            return await self._poll(partitions, timeout_ms / 1000, max_records or self._max_records)
        except TimeoutError:
            return {}

    async def _poll(
        self, partitions: tuple[TopicPartition, ...], timeout: float | None, limit: int | None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        assert all(isinstance(each, TopicPartition) for each in partitions)
        clock = self._cluster.clock
        due = None if timeout is None else clock.now() + timeout
        while True:
            self._require_open()
            await self._settle()
            if self._unsettled():
                raise kafka_error("IllegalStateError", "a listener cannot read while its group is being rebalanced")
            self._waiting += 1
            try:
                left = None if due is None else max(due - clock.now(), 0.0)
                batch = await clock.wait(lambda: self._look(partitions, limit), timeout=left)
            finally:
                self._waiting -= 1
                self._last_poll = clock.now()
            if batch:
                return batch

    def _require_open(self) -> None:
        if self._closed or not self._started:
            raise kafka_error("ConsumerStoppedError", "the consumer is not started, or stopped; await consumer.start()")

    def _look(
        self, partitions: tuple[TopicPartition, ...], limit: int | None
    ) -> dict[TopicPartition, list[ConsumerRecord]] | None:
        """Take what there is; nothing at all, but not None, if the group has to be settled first."""
        self._require_open()
        if self._group is not None:
            self._group.catch_up()
        if self._unsettled():
            return {}
        for partition, at in self._positions.items():
            if at is None and (not partitions or partition in partitions):
                self._checked(partition)  # raises without an offset, also where reading is paused
        batch: dict[TopicPartition, list[ConsumerRecord]] = {}
        for partition in self._turns(partitions):
            room = None if limit is None else limit - sum(map(len, batch.values()))
            if room == 0:
                break
            try:
                messages = self._take(partition, room)
            except kafka_class("OffsetOutOfRangeError"):
                if not batch:
                    raise
                break  # what was taken is handed out; the next read raises
            if messages:
                batch[partition] = messages
                self._last = partition
        return batch or None

    def _unsettled(self) -> bool:
        if self._manual:
            return False
        if self._group is not None:
            wants = bool(self._topics or self._pattern)
            return wants and (self._member not in self._group.members or self._group.unsettled)
        return self._pattern is not None and self._wanted_topics() != {each.topic for each in self._positions}

    def _turns(self, partitions: tuple[TopicPartition, ...]) -> Iterator[TopicPartition]:
        """Yield what may be read, beginning after what was read last: none is starved."""
        ready = [each for each in partitions or self._positions if each in self._positions and each not in self._paused]
        first = ready.index(self._last) + 1 if self._last is not None and self._last in ready else 0
        yield from ready[first:]
        yield from ready[:first]

    def _take(self, partition: TopicPartition, limit: int | None) -> list[ConsumerRecord]:
        at = self._checked(partition)
        log = self._cluster.log(partition)
        found: list[ConsumerRecord] = []
        for message in log.visible(at, committed=self._committed_only):
            if limit is not None and len(found) >= limit:
                break
            found.append(self._record(partition, message))
            at = message.offset + 1
        else:
            at = max(at, self._end(partition))  # past markers and what was aborted
        self._positions[partition] = at
        return found

    def _record(self, partition: TopicPartition, message: Message) -> ConsumerRecord:
        key: Any = message.key
        value: Any = message.value
        if self._hidden:
            value = self._kafka._value(message)
        if key is not None and self._key_deserializer is not None:
            key = self._key_deserializer(key)
        if value is not None and self._value_deserializer is not None:
            value = self._value_deserializer(value)
        return self._kafka.hand_out(record_of(partition, message, key, value))

    def __aiter__(self) -> Self:
        if self._closed:
            raise kafka_error("ConsumerStoppedError")
        return self

    async def __anext__(self) -> ConsumerRecord:
        try:
            return await self.getone()
        except kafka_class("ConsumerStoppedError"):
            raise StopAsyncIteration from None
