"""Messages: those to publish if aio-pika is not installed, and those that are delivered."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import define, field

from isolation_core.services._double import ClientObject
from isolation_core.services._operations import operation
from isolation_core.services.rabbitmq._broker import Properties, Stored
from isolation_core.services.rabbitmq._errors import amqp_error

if TYPE_CHECKING:
    from isolation_core.services.rabbitmq._channel import Channel

__all__ = ["IncomingMessage", "Message", "ProcessContext", "message_class", "properties_of"]


@define(slots=False)
class Message:
    """A message to publish, in the shape of ``aio_pika.Message``; *expiration* in seconds."""

    body: bytes
    headers: dict[str, Any] = field(factory=dict, kw_only=True)
    content_type: str | None = field(default=None, kw_only=True)
    content_encoding: str | None = field(default=None, kw_only=True)
    delivery_mode: int = field(default=1, kw_only=True)
    priority: int = field(default=0, kw_only=True)
    correlation_id: str | None = field(default=None, kw_only=True)
    reply_to: str | None = field(default=None, kw_only=True)
    expiration: float | timedelta | datetime | None = field(default=None, kw_only=True)
    message_id: str | None = field(default=None, kw_only=True)
    timestamp: datetime | None = field(default=None, kw_only=True)
    type: str | None = field(default=None, kw_only=True)
    user_id: str | None = field(default=None, kw_only=True)
    app_id: str | None = field(default=None, kw_only=True)


def message_class() -> Any:
    """Return ``aio_pika.Message``, or `Message` where aio-pika is not installed."""
    try:
        return importlib.import_module("aio_pika").Message
    except ImportError:
        return Message


def _milliseconds(expiration: float | timedelta | datetime | None, now: float) -> str | None:
    if expiration is None:
        return None
    if isinstance(expiration, datetime):
        seconds = expiration.timestamp() - now
    elif isinstance(expiration, timedelta):
        seconds = expiration.total_seconds()
    else:
        seconds = expiration
    return str(max(0, round(seconds * 1000)))


def properties_of(message: Any, now: float) -> Properties:
    """Return the properties of *message*, of aio-pika's class or ours; *now* in seconds since the epoch."""
    return Properties(
        headers=dict(message.headers or {}),
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode=message.delivery_mode or 1,
        priority=message.priority or 0,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration=_milliseconds(message.expiration, now),
        message_id=message.message_id,
        timestamp=message.timestamp.astimezone(UTC) if message.timestamp else None,
        type=message.type,
        user_id=message.user_id,
        app_id=message.app_id,
    )


class IncomingMessage(ClientObject):
    """A delivered message, in the shape of ``aio_pika.IncomingMessage``.

    Attributes:
        body: what was published.
        expiration: in seconds.
        redelivered: whether it was delivered before.
        delivery_tag: its number on its channel.
        consumer_tag: of the consumer it was delivered to; None after `Queue.get`.
        message_count: how many messages were left in the queue; after `Queue.get` only.
        processed: whether it needs no acknowledgement any more.
    """

    label: ClassVar[str] = "message"

    def __init__(
        self, channel: Channel, stored: Stored, delivery_tag: int, *, no_ack: bool, consumer_tag: str | None = None,
        message_count: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(channel.double)
        properties = stored.properties
        self._channel = channel
        self._no_ack = no_ack
        self.processed = no_ack
        self.body = stored.body
        self.body_size = len(stored.body)
        self.headers = dict(properties.headers)
        self.content_type = properties.content_type
        self.content_encoding = properties.content_encoding
        self.delivery_mode = properties.delivery_mode
        self.priority = properties.priority
        self.correlation_id = properties.correlation_id
        self.reply_to = properties.reply_to
        self.expiration = None if properties.expiration is None else int(properties.expiration) / 1000
        self.message_id = properties.message_id
        self.timestamp = properties.timestamp
        self.type = properties.type
        self.user_id = properties.user_id
        self.app_id = properties.app_id
        self.exchange = stored.exchange
        self.routing_key = stored.routing_key
        self.redelivered = stored.redelivered
        self.delivery_tag = delivery_tag
        self.consumer_tag = consumer_tag
        self.message_count = message_count
        if no_ack:
            self.end()

    def __repr__(self) -> str:
        return f"<IncomingMessage {self.delivery_tag} from {self.routing_key!r}: {self.body[:60]!r}>"

    def connection_lost(self, error: BaseException) -> None:
        """Its connection is closed."""
        self._channel.connection_lost(error)

    @property
    def channel(self) -> Channel:
        """The channel it came on; raises ``ChannelInvalidStateError`` once that is closed."""
        if self._channel.is_closed:
            raise amqp_error("ChannelInvalidStateError", f"{self._channel!r} closed")
        return self._channel

    def info(self) -> dict[str, Any]:
        """Return its properties as a mapping."""
        return {
            name: value
            for name, value in sorted(vars(self).items())
            if name[:1] != "_" and name not in {"body", "processed"}
        }

    def process(
        self,
        requeue: bool = False,  # noqa: FBT001, FBT002 - as aio-pika has it
        reject_on_redelivered: bool = False,  # noqa: FBT001, FBT002
        ignore_processed: bool = False,  # noqa: FBT001, FBT002
    ) -> ProcessContext:
        """Return what acknowledges it at the end of an ``async with``, and rejects it when that raises."""
        return ProcessContext(
            self, requeue=requeue, reject_on_redelivered=reject_on_redelivered, ignore_processed=ignore_processed
        )

    @operation
    async def ack(self, multiple: bool = False) -> None:  # noqa: FBT001, FBT002 - as aio-pika has it
        """Acknowledge it; *multiple*: and all before it on this channel."""
        self._settle('Can\'t ack message with "no_ack" flag', lambda _queue, _stored: None, multiple=multiple)

    @operation
    async def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002
        """Give it back, or drop it to the dead letters."""
        self._settle('This message has "no_ack" flag.', self._giving_up(requeue=requeue))

    @operation
    async def nack(self, multiple: bool = False, requeue: bool = True) -> None:  # noqa: FBT001, FBT002
        """Give it back, or drop it to the dead letters; *multiple*: and all before it on this channel."""
        self._settle('Can\'t nack message with "no_ack" flag', self._giving_up(requeue=requeue), multiple=multiple)

    def _giving_up(self, *, requeue: bool) -> Any:
        broker = self._channel.broker
        return broker.requeue if requeue else broker.reject

    def _settle(self, refusal: str, what: Any, *, multiple: bool = False) -> None:
        if self._no_ack:
            raise TypeError(refusal)
        if self.processed:
            raise amqp_error("MessageProcessError", "Message already processed", self)
        channel = self.channel
        self.processed = True
        self.end()
        channel._settle(self.delivery_tag, what, multiple=multiple)


class ProcessContext:
    """See `IncomingMessage.process`."""

    def __init__(
        self, message: IncomingMessage, *, requeue: bool, reject_on_redelivered: bool, ignore_processed: bool
    ) -> None:
        self.message = message
        self.requeue = requeue
        self.reject_on_redelivered = reject_on_redelivered
        self.ignore_processed = ignore_processed

    async def __aenter__(self) -> IncomingMessage:
        return self.message

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        message = self.message
        if self.ignore_processed and message.processed:
            return
        if kind is None:
            await message.ack()
        elif not message._channel.is_closed:
            # On a closed channel nothing can be rejected: the broker has it back already.
            again = self.requeue and not (self.reject_on_redelivered and message.redelivered)
            await message.reject(requeue=again)
