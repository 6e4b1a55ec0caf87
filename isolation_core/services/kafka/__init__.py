"""A double of Kafka."""

from __future__ import annotations

from isolation_core.services.kafka._consumer import KafkaConsumer
from isolation_core.services.kafka._double import KafkaDouble
from isolation_core.services.kafka._partitioner import murmur2
from isolation_core.services.kafka._producer import KafkaProducer
from isolation_core.services.kafka._structs import (
    ConsumerRecord,
    OffsetAndMetadata,
    OffsetAndTimestamp,
    RecordMetadata,
    TopicPartition,
)

__all__ = [
    "ConsumerRecord",
    "KafkaConsumer",
    "KafkaDouble",
    "KafkaProducer",
    "OffsetAndMetadata",
    "OffsetAndTimestamp",
    "RecordMetadata",
    "TopicPartition",
    "murmur2",
]
