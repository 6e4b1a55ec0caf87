"""The values of aiokafka: its own classes where it is installed, equal ones where not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

__all__ = ["ConsumerRecord", "OffsetAndMetadata", "OffsetAndTimestamp", "RecordMetadata", "TopicPartition"]


class _TopicPartition(NamedTuple):
    topic: str
    partition: int


class _OffsetAndMetadata(NamedTuple):
    offset: int
    metadata: str


class _OffsetAndTimestamp(NamedTuple):
    offset: int
    timestamp: int | None


class _RecordMetadata(NamedTuple):
    topic: str
    partition: int
    topic_partition: _TopicPartition
    offset: int
    timestamp: int | None
    timestamp_type: int
    log_start_offset: int | None


@dataclass
class _ConsumerRecord:
    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: Any
    value: Any
    checksum: int | None
    serialized_key_size: int
    serialized_value_size: int
    headers: Sequence[tuple[str, bytes]]


if TYPE_CHECKING:
    TopicPartition = _TopicPartition
    OffsetAndMetadata = _OffsetAndMetadata
    OffsetAndTimestamp = _OffsetAndTimestamp
    RecordMetadata = _RecordMetadata
    ConsumerRecord = _ConsumerRecord
else:
    try:
        # This module is imported by whoever uses the double; nobody else pays for the client.
        from aiokafka.structs import (
            ConsumerRecord,
            OffsetAndMetadata,
            OffsetAndTimestamp,
            RecordMetadata,
            TopicPartition,
        )
    except ImportError:
        TopicPartition = _TopicPartition
        OffsetAndMetadata = _OffsetAndMetadata
        OffsetAndTimestamp = _OffsetAndTimestamp
        RecordMetadata = _RecordMetadata
        ConsumerRecord = _ConsumerRecord
