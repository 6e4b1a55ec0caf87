"""The exceptions of aiokafka: the real classes where that is installed, look-alikes of the same name where not."""

from __future__ import annotations

from typing import Final

from isolation_core.services._clients import client_class

__all__ = ["kafka_class", "kafka_error"]

_BASES: Final[dict[str, type[Exception] | str]] = {
    "KafkaError": RuntimeError,
    "ConsumerStoppedError": Exception,
    "IllegalOperation": Exception,
    "BrokerResponseError": "KafkaError",
    "OffsetOutOfRangeError": "BrokerResponseError",
    "UnknownTopicOrPartitionError": "BrokerResponseError",
    "MessageSizeTooLargeError": "BrokerResponseError",
    "NotEnoughReplicasError": "BrokerResponseError",
    "TopicAlreadyExistsError": "BrokerResponseError",
}
"""What a look-alike derives from; all others from ``KafkaError``."""


def kafka_class(name: str) -> type[BaseException]:
    """Return the class *name* of ``aiokafka.errors``, or its look-alike below those of its bases."""
    base = _BASES.get(name, "KafkaError")
    return client_class("aiokafka.errors", name, kafka_class(base) if isinstance(base, str) else base)


def kafka_error(name: str, *args: object) -> BaseException:
    """Build the exception *name*."""
    return kafka_class(name)(*args)
