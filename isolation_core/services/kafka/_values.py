"""The values of aiokafka, where that is not installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["ConsumerRecord", "OffsetAndMetadata", "OffsetAndTimestamp", "RecordMetadata", "TopicPartition"]


class TopicPartition(NamedTuple):
    """One partition."""

    topic: str
    partition: int


class OffsetAndMetadata(NamedTuple):
    """What is committed."""

    offset: int
    metadata: str


class OffsetAndTimestamp(NamedTuple):
    """The result of a search by time."""

    offset: int
    timestamp: int | None


class RecordMetadata(NamedTuple):
    """Where a message was written."""

    topic: str
    partition: int
    topic_partition: TopicPartition
    offset: int
    timestamp: int | None
    timestamp_type: int
    log_start_offset: int | None


@dataclass
class ConsumerRecord:
    """A message as a consumer reads it."""

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
