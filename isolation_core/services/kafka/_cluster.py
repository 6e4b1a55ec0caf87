"""The broker's side: topics, transactions, fencing. Plain state; time comes from the clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field

from isolation_core.errors import ConfigurationError
from isolation_core.services._clock import Clock, TimerHandle
from isolation_core.services.kafka._errors import kafka_error
from isolation_core.services.kafka._groups import Group
from isolation_core.services.kafka._log import Message, PartitionLog
from isolation_core.services.kafka._structs import OffsetAndMetadata, TopicPartition

__all__ = ["Cluster", "Transactional", "offsets_of"]


@define(eq=False)
class Transactional:
    """The state of one transactional id in the transaction coordinator.

    Attributes:
        transactional_id: the id.
        producer_id: stays the same for all epochs.
        epoch: of the producer that may write; older ones are fenced.
        partitions: written to in the open transaction.
        offsets: to be committed with it, by group.
    """

    transactional_id: str
    producer_id: int
    epoch: int = 0
    partitions: dict[PartitionLog, None] = field(factory=dict)
    offsets: dict[str, dict[TopicPartition, OffsetAndMetadata]] = field(factory=dict)
    timer: TimerHandle | None = None


class Cluster:
    """Topics, groups and transactional ids of one double.

    Args:
        clock: for timestamps, retention and timeouts.
        partitions: how many a topic gets that is created by use.
        auto_create: False: an unknown topic is an error.
    """

    def __init__(self, clock: Clock, *, partitions: int, auto_create: bool) -> None:
        self.clock = clock
        self.default_partitions = partitions
        self.auto_create = auto_create
        self.topics: dict[str, list[PartitionLog]] = {}
        self.retention: dict[str, int] = {}
        self.groups: dict[str, Group] = {}
        self.transactional: dict[str, Transactional] = {}

    def timestamp(self) -> int:
        """Return the milliseconds since the epoch."""
        return int(self.clock.time() * 1000)

    # -- topics --------------------------------------------------------------------

    def create_topic(self, topic: str, partitions: int, retention_ms: int | None) -> None:
        """Create *topic*."""
        if topic in self.topics:
            raise kafka_error("TopicAlreadyExistsError", f"Topic '{topic}' already exists.")
        if not isinstance(topic, str) or not topic:
            raise ConfigurationError(
                f"a topic needs a name, such as 'orders', not {topic!r}", name="topic", value=topic
            )
        if partitions < 1:
            raise ConfigurationError(
                f"the topic {topic!r} needs at least one partition, not {partitions}",
                name="partitions",
                value=partitions,
            )
        self.topics[topic] = [PartitionLog(topic, number) for number in range(partitions)]
        if retention_ms is not None:
            self.retention[topic] = retention_ms
        for group in self.groups.values():
            group.topics_changed()
        self.clock.notify()

    def logs(self, topic: str) -> list[PartitionLog]:
        """Return the partitions of *topic*; creates it if that is allowed."""
        found = self.topics.get(topic)
        if found is None:
            if not self.auto_create:
                raise kafka_error(
                    "UnknownTopicOrPartitionError", f"the topic {topic!r} does not exist; create_topic() it"
                )
            self.create_topic(topic, self.default_partitions, None)
            found = self.topics[topic]
        if topic in self.retention:
            oldest = self.timestamp() - self.retention[topic]
            for log in found:
                kept = next((each.offset for each in log.messages if each.timestamp >= oldest), log.end)
                log.delete_before(kept)
        return found

    def log(self, partition: TopicPartition) -> PartitionLog:
        """Return one partition."""
        logs = self.logs(partition.topic)
        if not 0 <= partition.partition < len(logs):
            raise kafka_error(
                "UnknownTopicOrPartitionError",
                f"{partition.topic!r} has the partitions 0 to {len(logs) - 1}, not {partition.partition}",
            )
        return logs[partition.partition]

    def write(
        self,
        log: PartitionLog,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[tuple[str, bytes], ...],
        timestamp: int | None,
        transactional: Transactional | None = None,
        *,
        event: bool = False,
    ) -> Message:
        """Append one message and wake the readers."""
        producer_id = None
        if transactional is not None:
            transactional.partitions[log] = None
            producer_id = transactional.producer_id
        message = log.append(
            key, value, headers=headers, timestamp=self.timestamp() if timestamp is None else timestamp,
            producer_id=producer_id, event=event,
        )  # fmt: skip
        self.clock.notify()
        return message

    # -- groups ----------------------------------------------------------------------

    def group(self, name: str) -> Group:
        """Return the group *name*; made by use."""
        found = self.groups.get(name)
        if found is None:
            found = self.groups[name] = Group(name, self)
        return found

    # -- transactions ------------------------------------------------------------------

    def initialise(self, transactional_id: str) -> tuple[Transactional, int]:
        """Let a producer take over *transactional_id*: the last one is fenced and its open transaction aborted."""
        found = self.transactional.get(transactional_id)
        if found is None:
            found = Transactional(transactional_id, 1000 + len(self.transactional))
            self.transactional[transactional_id] = found
        else:
            self.finish(found, committed=False)
            found.epoch += 1
        return found, found.epoch

    def expire(self, transactional: Transactional) -> None:
        """The transaction took too long: it is aborted and its producer fenced."""
        self.finish(transactional, committed=False)
        transactional.epoch += 1

    def finish(self, transactional: Transactional, *, committed: bool) -> None:
        """End the open transaction."""
        if transactional.timer is not None:
            transactional.timer.cancel()
            transactional.timer = None
        for log in transactional.partitions:
            log.finish(transactional.producer_id, committed=committed, timestamp=self.timestamp())
        if committed:
            for group, offsets in transactional.offsets.items():
                self.group(group).offsets.update(offsets)
        transactional.partitions.clear()
        transactional.offsets.clear()
        self.clock.notify()


def offsets_of(offsets: Mapping[TopicPartition, Any]) -> dict[TopicPartition, OffsetAndMetadata]:
    """Check and convert what is to be committed.

    Raises:
        ValueError: as in the client, for anything but a mapping of partitions to offsets.
        TypeError: as in the client, for keys that are not partitions, and metadata that is not text.
    """
    if not isinstance(offsets, Mapping) or not offsets:
        raise ValueError(offsets)
    found: dict[TopicPartition, OffsetAndMetadata] = {}
    for partition, entry in offsets.items():
        if not isinstance(partition, TopicPartition):
            raise TypeError("Key should be TopicPartition instance")
        try:
            offset, metadata = (entry, "") if isinstance(entry, int) else entry
        except Exception as error:
            raise ValueError(offsets) from error
        if not isinstance(metadata, str):
            raise TypeError("Metadata should be a string")
        if not isinstance(offset, int):
            raise ValueError(f"{partition}: {entry!r} is neither an offset nor (offset, metadata)")  # noqa: TRY004 - as above
        found[partition] = OffsetAndMetadata(offset, metadata)
    return found
