"""`KafkaProducer`: in the shape of ``AIOKafkaProducer``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from isolation_core.services._double import ClientObject
from isolation_core.services._operations import operation
from isolation_core.services.kafka._cluster import Transactional, offsets_of
from isolation_core.services.kafka._errors import kafka_error
from isolation_core.services.kafka._options import PRODUCER_OPTIONS, check_delivery
from isolation_core.services.kafka._records import check_headers, check_parts, record_size
from isolation_core.services.kafka._structs import RecordMetadata, TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from isolation_core.services.kafka._double import KafkaDouble

__all__ = ["Delivery", "KafkaProducer"]


class Delivery:
    """The result of `KafkaProducer.send` without asyncio: awaitable, done already."""

    def __init__(self, metadata: RecordMetadata | None) -> None:
        self._metadata = metadata

    def __await__(self) -> Generator[Any, None, RecordMetadata | None]:
        yield from ()
        return self._metadata

    def done(self) -> bool:
        """Return True."""
        return True

    def result(self) -> RecordMetadata | None:
        """Return where the message is."""
        return self._metadata


def _delivery(metadata: RecordMetadata | None) -> Awaitable[RecordMetadata | None]:
    try:
        future: asyncio.Future[RecordMetadata | None] = asyncio.get_running_loop().create_future()
    except RuntimeError:
        return Delivery(metadata)
    future.set_result(metadata)
    return future


class KafkaProducer(ClientObject):
    """Writes to the double's cluster; a message is in the log when `send` returns.

    Args:
        double: the cluster.
        key_serializer: run over each key.
        value_serializer: run over each value.
        acks: one of 0, 1, -1 and ``"all"``; with 0 the offset is unknown, and the future of `send` yields None.
        compression_type: checked, without effect.
        enable_idempotence: checked against *acks*, without effect.
        partitioner: called as ``partitioner(key, all_partitions, available)``; by default the client's.
        max_request_size: in bytes.
        transactional_id: makes it transactional.
        transaction_timeout_ms: on the virtual clock; then the transaction is aborted and the producer fenced.
        **options: the client's other ones, which have no effect in memory.
    """

    label = "producer"

    def __init__(
        self,
        double: KafkaDouble,
        *,
        key_serializer: Callable[[Any], bytes | None] | None = None,
        value_serializer: Callable[[Any], bytes | None] | None = None,
        acks: int | str | None = None,
        compression_type: str | None = None,
        enable_idempotence: bool = False,
        partitioner: Callable[[bytes | None, Sequence[int], Sequence[int]], int] | None = None,
        max_request_size: int = 1048576,
        transactional_id: str | None = None,
        transaction_timeout_ms: int = 60000,
        **options: Any,
    ) -> None:
        PRODUCER_OPTIONS.check(options)
        check_delivery(acks, compression_type, exactly_once=enable_idempotence or transactional_id is not None)
        super().__init__(double)
        self._cluster = double._cluster
        self._kafka = double
        self._request_timeout = options.get("request_timeout_ms", 40000) / 1000
        self._key_serializer = key_serializer
        self._value_serializer = value_serializer
        self._partitioner = partitioner or double._partitioner
        self._told = acks != 0
        self._max_size = max_request_size
        self._transactional_id = transactional_id
        self._transaction_timeout = transaction_timeout_ms / 1000
        self._transactional: Transactional | None = None
        self._epoch = 0
        self._in_transaction = False
        self._fenced = False
        self._started = False
        self._closed = False

    @operation
    async def start(self) -> None:
        """Connect; a transactional one takes over its id, and earlier producers with it are fenced.

        Raises:
            KafkaConnectionError: the client's, if the double is not connected.
        """
        self._kafka._require_connected()
        if self._transactional_id is not None:
            self._transactional, self._epoch = self._cluster.initialise(self._transactional_id)
        self._started = True

    @operation
    async def stop(self) -> None:
        """Stop; an open transaction stays open until it times out or its id is taken over. Idempotent."""
        self._closed = True
        self._double._clients.pop(id(self), None)
        if self._in_transaction:
            self._kafka._left_open.append(
                f"a transaction of {self._transactional_id!r} was open when its producer stopped"
            )

    def end(self) -> None:
        """Its double is disconnected."""
        self._closed = True
        super().end()

    @operation
    async def flush(self) -> None:
        """Return when all that was sent is delivered: at once."""

    @operation
    async def partitions_for(self, topic: str) -> set[int]:
        """Return the numbers of the partitions of *topic*."""
        self._usable()
        return {log.partition for log in self._cluster.logs(topic)}

    @operation
    async def send(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> Awaitable[RecordMetadata | None]:
        """Write one message.

        Returns:
            An awaitable of where it is; on asyncio a future.
        """
        metadata = self._send(topic, value, key, partition, timestamp_ms, headers)
        return _delivery(metadata if self._told else None)

    @operation
    async def send_and_wait(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> RecordMetadata | None:
        """Write one message and return where it is."""
        metadata = self._send(topic, value, key, partition, timestamp_ms, headers)
        return metadata if self._told else None

    def _send(
        self,
        topic: str,
        value: Any,
        key: Any,
        partition: int | None,
        timestamp_ms: int | None,
        headers: Sequence[tuple[str, bytes]] | None,
        *,
        event: bool = False,
    ) -> RecordMetadata:
        self._usable()
        if value is None and key is None:
            raise AssertionError("Need at least one: key or value")
        if self._transactional_id is not None and not self._in_transaction:
            raise kafka_error("IllegalOperation", "Can't send messages while not in transaction")
        logs = self._cluster.logs(topic)
        raw_key = key if self._key_serializer is None else self._key_serializer(key)
        raw = value if self._value_serializer is None else self._value_serializer(value)
        check_parts(raw_key, raw)
        pairs = check_headers(headers)
        if timestamp_ms is not None and not isinstance(timestamp_ms, int | float):
            raise TypeError("an integer is required")
        size = record_size(raw_key, raw, pairs)
        if size > self._max_size:
            raise kafka_error(
                "MessageSizeTooLargeError",
                f"The message is {size} bytes when serialized which is larger than the maximum request size "
                "you have configured with the max_request_size configuration",
            )
        if partition is None:
            numbers = [log.partition for log in logs]
            partition = self._partitioner(raw_key, numbers, numbers)
        assert 0 <= partition < len(logs), "Unrecognized partition"
        log = logs[partition]
        message = self._cluster.write(
            log, None if raw_key is None else bytes(raw_key), None if raw is None else bytes(raw),
            pairs, None if timestamp_ms is None else int(timestamp_ms), self._transactional, event=event,
        )  # fmt: skip
        return RecordMetadata(
            topic, partition, TopicPartition(topic, partition), message.offset, message.timestamp, 0, log.start
        )

    def _usable(self) -> None:
        if self._closed or not self._started:
            raise kafka_error("ProducerClosed", "the producer is not started, or stopped; await producer.start() first")
        if self._stale and not self._fenced:
            # Told once; then the client is in a state in which nothing can be begun any more.
            self._in_transaction, self._fenced = False, True
            raise kafka_error(
                "ProducerFenced",
                f"There is a newer producer using the same transactional_id {self._transactional_id!r} "
                "or transaction timeout occurred",
            )

    # -- transactions --------------------------------------------------------------------

    @property
    def _stale(self) -> bool:
        return self._transactional is not None and self._transactional.epoch != self._epoch

    def _transaction(self, *, begun: bool) -> Transactional:
        if self._transactional_id is None:
            raise kafka_error("IllegalOperation", "You need to configure transaction_id to use transactions")
        self._usable()
        assert self._transactional is not None
        # The client asserts it, too.
        assert begun or not self._fenced, "no transaction can be begun: the producer was fenced"
        assert self._in_transaction or not begun, "no transaction was begun"
        assert begun or not self._in_transaction, "a transaction was begun already"
        return self._transactional

    @operation
    async def begin_transaction(self) -> None:
        """Begin; on the virtual clock it may take ``transaction_timeout_ms``."""
        transactional = self._transaction(begun=False)
        self._in_transaction = True
        clock = self._cluster.clock
        transactional.timer = clock.call_at(
            clock.now() + self._transaction_timeout, lambda: self._cluster.expire(transactional)
        )

    @operation
    async def commit_transaction(self) -> None:
        """Commit messages and offsets together."""
        self._end_transaction(committed=True)

    @operation
    async def abort_transaction(self) -> None:
        """Abort: readers of committed messages never see what was sent."""
        self._end_transaction(committed=False)

    def _end_transaction(self, *, committed: bool) -> None:
        transactional = self._transaction(begun=True)
        self._in_transaction = False
        self._cluster.finish(transactional, committed=committed)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Self]:
        """Begin; commit at the end, abort if the block raises."""
        await self.begin_transaction()
        try:
            yield self
        except BaseException:
            if self._in_transaction and not self._stale:
                # Logged and faultable like a call, but it must also be done when the task is cancelled.
                await self.abort_transaction()
            raise
        await self.commit_transaction()

    @operation
    async def send_offsets_to_transaction(self, offsets: Mapping[TopicPartition, Any], group_id: str) -> None:
        """Commit *offsets* of *group_id* if and when the transaction is committed."""
        if self._transactional_id is not None and not self._in_transaction:
            raise kafka_error("IllegalOperation", "Not in the middle of a transaction")
        transactional = self._transaction(begun=True)
        if not group_id or not isinstance(group_id, str):
            raise ValueError(group_id)
        transactional.offsets.setdefault(group_id, {}).update(offsets_of(offsets))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def problems(self) -> tuple[str, ...]:
        """Return a problem for an open transaction, and one if it was started and not stopped."""
        if not self._started or self._closed:
            return ()
        found = (f"a transaction of {self._transactional_id!r} is open",) if self._in_transaction else ()
        return (*found, "a producer was started and not stopped")
