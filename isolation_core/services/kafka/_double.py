"""`KafkaDouble`: a cluster in memory, with the mock API."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from isolation_core.services._double import ServiceDouble
from isolation_core.services._operations import operation
from isolation_core.services._types import ServiceType
from isolation_core.services.kafka._cluster import Cluster
from isolation_core.services.kafka._consumer import KafkaConsumer
from isolation_core.services.kafka._errors import kafka_error
from isolation_core.services.kafka._log import Message
from isolation_core.services.kafka._partitioner import SeededPartitioner
from isolation_core.services.kafka._producer import KafkaProducer
from isolation_core.services.kafka._records import record_of
from isolation_core.services.kafka._structs import ConsumerRecord, RecordMetadata, TopicPartition

if TYPE_CHECKING:
    from isolation_core.services._context import MockContext
    from isolation_core.services._interactions import Interaction
    from isolation_core.services._operations import Operable

__all__ = ["KafkaDouble"]

Headers = Mapping[str, bytes | str] | Sequence[tuple[str, bytes]]

_REQUEST_TIMEOUT: Final = 40.0
"""The client's default, in seconds."""


class KafkaDouble(ServiceDouble):
    """A Kafka cluster in memory.

    Args:
        context: the context it belongs to; None: that of the current barrier.
        name: its name in the log.
        partitions: how many a topic gets that is created by use.
        auto_create: False: sending to or reading from an unknown topic is an error.
    """

    service: ClassVar[str] = ServiceType.KAFKA

    def __init__(
        self,
        context: MockContext | None = None,
        *,
        name: str | None = None,
        partitions: int = 1,
        auto_create: bool = True,
    ) -> None:
        super().__init__(context, name=name)
        self._options = (partitions, auto_create)
        self._callback_task: int | None = None  # the task in which a rebalance listener runs
        self._begin()

    def _begin(self) -> None:
        partitions, auto_create = self._options
        self._cluster = Cluster(self.context.clock, partitions=partitions, auto_create=auto_create)
        self._partitioner = SeededPartitioner(self.context.seed)
        self._sender: KafkaProducer | None = None
        self._readers: dict[tuple[str, str | None], KafkaConsumer] = {}
        self._left_open: list[str] = []

    # -- operations ----------------------------------------------------------------------

    @operation
    async def send_event(
        self, topic: str, data: object, key: str | bytes | None = None, headers: Headers | None = None
    ) -> RecordMetadata:
        """Write one event.

        Args:
            topic: made if there is none.
            data: bytes and None are written as they are, all else as JSON.
            key: text is encoded as UTF-8.
            headers: a mapping, or pairs as the client takes them.

        Returns:
            Where it is.

        Raises:
            KafkaConnectionError: the client's, if the double is not connected.
            TypeError: if *data* cannot be written as JSON.
        """
        self._require_connected()
        plain = data is None or isinstance(data, bytes)
        value = data if plain else json.dumps(data, separators=(",", ":")).encode()
        pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
        raw = [(each, text.encode() if isinstance(text, str) else text) for each, text in pairs]
        sender = self._sender
        if sender is None:
            sender = self._sender = KafkaProducer(self)
            self._clients.pop(id(sender))
            sender._started = True
        return sender._send(
            topic, value, key.encode() if isinstance(key, str) else key, None, None, raw, event=not plain
        )

    @operation
    async def consume(self, topic: str, group: str | None = None, *, timeout: float | None = None) -> ConsumerRecord:
        """Return the next event of *topic*; waits until there is one. JSON that `send_event` wrote is decoded.

        Args:
            topic: from its beginning.
            group: reads as a member of this group, and commits; None: by itself.
            timeout: in seconds of virtual time.

        Raises:
            TimeoutError: when nothing came.
        """
        self._require_connected()
        reader = self._readers.get((topic, group))
        if reader is None or reader._closed:
            reader = KafkaConsumer(self, topic, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False)
            reader._hidden = True
            self._readers[topic, group] = reader
            reader._started = True
        batch = await reader._poll((), timeout, 1)
        record = next(iter(batch.values()))[0]
        if reader._group is not None:
            reader._group.commit(reader._member, reader._generation, reader._consumed())
        return record

    @operation
    async def create_topic(self, topic: str, partitions: int = 1, *, retention_ms: int | None = None) -> None:
        """Create a topic.

        Args:
            topic: its name.
            partitions: how many.
            retention_ms: the age, on the clock, at which messages are deleted.

        Raises:
            TopicAlreadyExistsError: the client's.
        """
        self._require_connected()
        self._cluster.create_topic(topic, partitions, retention_ms)

    @operation
    async def delete_records(self, topic: str, before: int, *, partition: int = 0) -> None:
        """Forget what lies before an offset: readers behind it are out of range."""
        self._cluster.log(TopicPartition(topic, partition)).delete_before(before)

    # -- clients ---------------------------------------------------------------------------

    @property
    def producer_class(self) -> Callable[..., KafkaProducer]:
        """Makes producers of this cluster; to put in the place of ``AIOKafkaProducer``."""
        return partial(KafkaProducer, self)

    @property
    def consumer_class(self) -> Callable[..., KafkaConsumer]:
        """Makes consumers of this cluster; to put in the place of ``AIOKafkaConsumer``."""
        return partial(KafkaConsumer, self)

    def producer(self, **options: Any) -> KafkaProducer:
        """Return a producer, to be started."""
        return KafkaProducer(self, **options)

    def consumer(self, *topics: str, **options: Any) -> KafkaConsumer:
        """Return a consumer, to be started."""
        return KafkaConsumer(self, *topics, **options)

    # -- for tests -----------------------------------------------------------------------------

    def messages(self, topic: str, *, partition: int | None = None, committed: bool = True) -> list[ConsumerRecord]:
        """Return what is in *topic*, partition by partition; nothing is consumed.

        Args:
            topic: an unknown one is empty.
            partition: only this one.
            committed: leave out what belongs to aborted and open transactions.
        """
        found = []
        for log in self._cluster.topics.get(topic, ()):
            if partition is None or log.partition == partition:
                for message in log.visible(log.start, committed=committed):
                    place = TopicPartition(topic, log.partition)
                    record = record_of(place, message, message.key, self._value(message))
                    found.append(self.hand_out(record))
        return found

    def committed_offsets(self, group: str) -> dict[TopicPartition, int]:
        """Return what *group* has committed."""
        found = self._cluster.groups.get(group)
        if found is None:
            return {}
        found.catch_up()
        return {partition: entry.offset for partition, entry in found.offsets.items()}

    def expel(self, consumer: KafkaConsumer) -> None:
        """Put *consumer* out of its group, as the coordinator does when heartbeats stay away."""
        if consumer._group is not None:
            consumer._group.leave(consumer._member)

    def _value(self, message: Message) -> Any:
        return json.loads(message.value) if message.event and message.value is not None else message.value

    # -- life --------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget topics, groups and transactions, too."""
        super().reset()
        self._begin()

    def problems(self) -> tuple[str, ...]:
        """Return what is open: transactions, producers and consumers that were not stopped."""
        return (*self._left_open, *super().problems())

    def fault_error(self, kind: str) -> BaseException:
        """Return what aiokafka raises."""
        name = {"timeout": "KafkaTimeoutError", "rejected": "NotEnoughReplicasError"}.get(kind, "KafkaConnectionError")
        return kafka_error(name, f"{self.name}: {kind}, by the fault plan")

    def call_timeout(self, target: Operable, entry: Interaction) -> float | None:
        """Return the timeout of a read, else that of requests."""
        if entry.operation == "getmany":
            return float(entry.arguments.get("timeout_ms") or 0) / 1000
        if entry.operation == "getone":
            return None
        own = super().call_timeout(target, entry)
        return getattr(target, "_request_timeout", _REQUEST_TIMEOUT) if own is None else own

    def call_timed_out(self, target: Operable, entry: Interaction) -> Any:
        """Return no records for a read; raise for a request."""
        return {} if entry.operation == "getmany" else super().call_timed_out(target, entry)

    def _disconnect_now(self) -> None:
        super()._disconnect_now()
        self._sender = None
        self._readers.clear()

    def _require_connected(self) -> None:
        if not self.is_connected:
            raise kafka_error(
                "KafkaConnectionError", f"the double {self.name!r} is not connected; await {self.name}.connect() first"
            )
