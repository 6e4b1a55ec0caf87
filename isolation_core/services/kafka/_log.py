"""One partition: an append-only log with a start, open transactions and markers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import define, field

__all__ = ["Message", "PartitionLog"]


@define(eq=False)
class Message:
    """One entry of a log.

    Attributes:
        offset: its place; also markers of transactions have one.
        key: serialised, or None.
        value: serialised; None is a tombstone.
        headers: in order.
        timestamp: milliseconds since the epoch.
        producer_id: of the transactional producer, or None.
        aborted: its transaction was aborted.
        control: a marker, which is never handed out.
        event: the argument of `send_event`, as JSON.
    """

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int
    producer_id: int | None = None
    aborted: bool = False
    control: bool = False
    event: bool = False


@define(eq=False)
class PartitionLog:
    """The log of one partition.

    Attributes:
        topic: whose.
        partition: which, from 0.
        start: the first offset there is.
        messages: from *start* on, without gaps.
        open: where the open transaction of a producer id begins.
    """

    topic: str
    partition: int
    start: int = 0
    messages: list[Message] = field(factory=list)
    open: dict[int, int] = field(factory=dict)

    @property
    def end(self) -> int:
        """The high watermark: the offset the next message gets."""
        return self.start + len(self.messages)

    @property
    def stable(self) -> int:
        """The last stable offset: everything before it is decided."""
        return min(self.open.values(), default=self.end)

    def append(self, key: bytes | None, value: bytes | None, **facts: Any) -> Message:
        """Write one message."""
        message = Message(self.end, key, value, **facts)
        self.messages.append(message)
        if message.producer_id is not None:
            self.open.setdefault(message.producer_id, message.offset)
        return message

    def finish(self, producer_id: int, *, committed: bool, timestamp: int) -> None:
        """End the transaction of *producer_id* with a marker."""
        first = self.open.pop(producer_id, None)
        if first is None:
            return
        if not committed:
            for message in self.messages[max(first - self.start, 0) :]:
                message.aborted |= message.producer_id == producer_id and not message.control
        self.messages.append(Message(self.end, None, None, (), timestamp, control=True))

    def visible(self, offset: int, *, committed: bool) -> Iterator[Message]:
        """Yield what a reader at *offset* is given."""
        end = self.stable if committed else self.end
        messages = self.messages
        for index in range(offset - self.start, end - self.start):
            message = messages[index]
            if not message.control and not (committed and message.aborted):
                yield message

    def delete_before(self, offset: int) -> None:
        """Forget everything before *offset*."""
        gone = min(max(offset - self.start, 0), len(self.messages))
        del self.messages[:gone]
        self.start += gone

    def at_time(self, timestamp: int) -> Message | None:
        """Return the first message that is not older than *timestamp*."""
        return next((each for each in self.messages if not each.control and each.timestamp >= timestamp), None)
