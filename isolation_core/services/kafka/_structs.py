"""The values of aiokafka: its own classes where it is installed, equal ones where not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isolation_core.services.kafka._values import (
        ConsumerRecord,
        OffsetAndMetadata,
        OffsetAndTimestamp,
        RecordMetadata,
        TopicPartition,
    )
else:
    try:
        # This module, and with it the client, is imported by users of the double only.
        from aiokafka.structs import (
            ConsumerRecord,
            OffsetAndMetadata,
            OffsetAndTimestamp,
            RecordMetadata,
            TopicPartition,
        )
    except ImportError:
        from isolation_core.services.kafka._values import (
            ConsumerRecord,
            OffsetAndMetadata,
            OffsetAndTimestamp,
            RecordMetadata,
            TopicPartition,
        )

__all__ = ["ConsumerRecord", "OffsetAndMetadata", "OffsetAndTimestamp", "RecordMetadata", "TopicPartition"]
