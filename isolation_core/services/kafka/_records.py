"""The valid records, and their sizes as the client computes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from isolation_core.services.kafka._log import Message
from isolation_core.services.kafka._structs import ConsumerRecord, TopicPartition

__all__ = ["check_headers", "check_parts", "record_of", "record_size"]

_BATCH: Final = 61  # bytes: the header of a batch
_RECORD: Final = 21  # bytes: the client's upper bound of a record without its parts


def check_parts(key: Any, value: Any) -> None:
    """Raise TypeError, as the client does, unless both are bytes or None."""
    for what, each in (("key", key), ("value", value)):
        if each is not None and not isinstance(each, bytes | bytearray | memoryview):
            raise TypeError(f"Unsupported type for {what}: {type(each)}; give bytes, or a {what}_serializer")


def check_headers(headers: Sequence[tuple[str, bytes]] | None) -> tuple[tuple[str, bytes], ...]:
    """Return *headers* as a record has them.

    Raises:
        TypeError: as the compiled client does for all but a list of tuples of text and bytes.
    """
    if not headers:
        return ()
    _expect(headers, list)
    for each in headers:
        _expect(each, tuple)
        key, value = each
        _expect(key, str)
        if value is not None:
            _expect(value, bytes)
    return tuple(headers)


def _expect(given: object, kind: type) -> None:
    if not isinstance(given, kind):
        raise TypeError(f"Expected {kind.__name__}, got {type(given).__name__}")


def record_size(key: Any, value: Any, headers: Iterable[tuple[str, bytes | None]]) -> int:
    """Return the size in bytes that the client compares with ``max_request_size``: an upper bound."""
    pairs = tuple(headers)
    size = _BATCH + _RECORD + _part(key) + _part(value) + _varint(len(pairs))
    return size + sum(_part(name.encode()) + _part(content) for name, content in pairs)


def _part(part: Any) -> int:
    return 1 if part is None else _varint(len(part)) + len(part)


def _varint(number: int) -> int:
    """Return the bytes of a length: the sign takes the lowest bit, each byte has seven."""
    return max(1, ((number << 1).bit_length() + 6) // 7)


def record_of(partition: TopicPartition, message: Message, key: Any, value: Any) -> ConsumerRecord:
    """Return what a reader gets of *message*, with its parts deserialized."""
    sizes = [-1 if part is None else len(part) for part in (message.key, message.value)]
    record: ConsumerRecord = ConsumerRecord(
        partition.topic, partition.partition, message.offset, message.timestamp, 0, key, value, None,
        sizes[0], sizes[1], message.headers,
    )  # fmt: skip
    return record
