"""Exchanges, queues and iterators, in the shape of aio-pika."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from isolation_core.services._double import ClientObject
from isolation_core.services._operations import Operable, operation
from isolation_core.services.rabbitmq._broker import BrokerQueue, Consumer, Stored
from isolation_core.services.rabbitmq._errors import amqp_error, delivered_message, frame, publish_error
from isolation_core.services.rabbitmq._message import IncomingMessage, properties_of
from isolation_core.services.rabbitmq._routing import Binding

if TYPE_CHECKING:
    from isolation_core.services._context import MockContext
    from isolation_core.services.rabbitmq._channel import Channel
    from isolation_core.services.rabbitmq._double import RabbitMQDouble

__all__ = ["Exchange", "Queue", "QueueIterator"]


class _Entity(Operable):
    """Something with a name on a channel."""

    def __init__(
        self, channel: Channel, name: str, *, durable: bool = False, auto_delete: bool = False, passive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.channel = channel
        self.name = name
        self.durable = durable
        self.auto_delete = auto_delete
        self.passive = passive
        self.arguments = arguments

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def connection_lost(self, error: BaseException) -> None:
        """Its connection is closed."""
        self.channel.connection_lost(error)

    @property
    def context(self) -> MockContext:
        """The context of the double."""
        return self.channel.context

    @property
    def double(self) -> RabbitMQDouble:
        """The double it belongs to."""
        return self.channel._rabbit


def _name_of(exchange: str | Exchange) -> str:
    return exchange if isinstance(exchange, str) else exchange.name


class Exchange(_Entity):
    """An exchange, in the shape of ``aio_pika.Exchange``."""

    label: ClassVar[str] = "exchange"

    def __init__(self, channel: Channel, name: str, kind: str, *, internal: bool = False, **options: Any) -> None:
        super().__init__(channel, name, **options)
        self.type = kind
        self.internal = internal

    @operation
    async def publish(
        self,
        message: Any,
        routing_key: str,
        *,
        mandatory: bool = True,
        immediate: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Publish *message*, a message of aio-pika or a `Message`.

        Returns:
            ``Basic.Ack``; the message itself if it is *mandatory* and no queue wants it; None without confirms.

        Raises:
            DeliveryError: a queue that rejects what it has no room for is full.
            PublishError: no queue wants it, on a channel with *on_return_raises*.
            ChannelNotFoundEntity: if the exchange does not exist; the channel is then closed.
        """
        channel = self.channel
        if self.internal:
            raise ValueError(f"Can not publish to internal exchange: '{self.name}'!")
        if len(routing_key) > 255:
            raise ValueError("Routing key too long (max 255 bytes)")
        properties = properties_of(message, self.context.clock.time())
        if channel.publisher_confirms and properties.message_id is None:
            properties.message_id = self.double.next_id()
        with channel._asking() as broker:
            known = broker.exchange(self.name)
            if known.internal:
                text = f"ACCESS_REFUSED - cannot publish to internal exchange '{self.name}' in vhost '/'"
                raise amqp_error("ChannelAccessRefused", text)
        body = bytes(message.body)
        queues = broker.route(self.name, routing_key, properties.headers)
        channel._published += 1
        tag = channel._published
        taken = broker.publish(Stored(body, properties, self.name, routing_key), queues)
        if not queues and mandatory:
            returned = IncomingMessage(channel, Stored(body, properties, self.name, routing_key), 0, no_ack=True)
            channel.return_callbacks.tell(self.double, channel, returned)
            unroutable = delivered_message(self.name, routing_key, body, channel, properties)
            if channel.on_return_raises:
                raise publish_error(unroutable)
            return unroutable if channel.publisher_confirms else None
        if not channel.publisher_confirms:
            return None
        if not taken:
            raise amqp_error("DeliveryError", None, frame("Basic.Nack", delivery_tag=tag, multiple=False))
        return frame("Basic.Ack", delivery_tag=tag, multiple=False)

    @operation
    async def bind(
        self,
        exchange: str | Exchange,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Have messages of *exchange* come here."""
        with self.channel._asking() as broker:
            broker.bind(_name_of(exchange), Binding(False, self.name, routing_key, dict(arguments or {})))  # noqa: FBT003
        return frame("Exchange.BindOk")

    @operation
    async def unbind(
        self,
        exchange: str | Exchange,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Have them come no more."""
        with self.channel._asking() as broker:
            broker.unbind(_name_of(exchange), Binding(False, self.name, routing_key, dict(arguments or {})))  # noqa: FBT003
        return frame("Exchange.UnbindOk")

    @operation
    async def delete(self, if_unused: bool = False, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002
        """Delete it."""
        with self.channel._asking() as broker:
            broker.delete_exchange(self.name, if_unused=if_unused)
        return frame("Exchange.DeleteOk")


class Queue(_Entity):
    """A queue, in the shape of ``aio_pika.Queue``."""

    label: ClassVar[str] = "queue"

    def __init__(self, channel: Channel, name: str, *, exclusive: bool = False, **options: Any) -> None:
        super().__init__(channel, name, **options)
        self.exclusive = exclusive
        self.declaration_result: Any = None

    def _find(self) -> BrokerQueue:
        with self.channel._asking() as broker:
            return broker.queue(self.name, self.channel.connection)

    @operation
    async def bind(
        self,
        exchange: str | Exchange,
        routing_key: str | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Have messages of *exchange* come here; by default those with the name of the queue as routing key."""
        key = self.name if routing_key is None else routing_key
        with self.channel._asking() as broker:
            broker.queue(self.name, self.channel.connection)
            broker.bind(_name_of(exchange), Binding(True, self.name, key, dict(arguments or {})))  # noqa: FBT003
        return frame("Queue.BindOk")

    @operation
    async def unbind(
        self,
        exchange: str | Exchange,
        routing_key: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Have them come no more."""
        key = self.name if routing_key is None else routing_key
        with self.channel._asking() as broker:
            broker.unbind(_name_of(exchange), Binding(True, self.name, key, dict(arguments or {})))  # noqa: FBT003
        return frame("Queue.UnbindOk")

    @operation
    async def get(
        self, *, no_ack: bool = False, fail: bool = True, timeout: float | None = 5
    ) -> IncomingMessage | None:
        """Take the first message; it never waits.

        Raises:
            QueueEmpty: there is none; with *fail* false, None is returned.
        """
        found = self._find()
        stored = self.channel.broker.take(found)
        if stored is None:
            if fail:
                raise amqp_error("QueueEmpty")
            return None
        return self.channel._delivered(found, stored, no_ack=no_ack)

    @operation
    async def consume(
        self,
        callback: Callable[[IncomingMessage], Awaitable[Any] | Any],
        no_ack: bool = False,  # noqa: FBT001, FBT002
        exclusive: bool = False,  # noqa: FBT001, FBT002
        arguments: Mapping[str, Any] | None = None,
        consumer_tag: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Have *callback* called with each message, in a task of its own; returns the consumer tag."""

        def deliver(message: IncomingMessage) -> None:
            async def run() -> None:
                result = callback(message)
                if isinstance(result, Awaitable):
                    await result

            self.double.background.start(run, f"consumer of {self.name}")

        return self._consume(deliver, no_ack=no_ack, exclusive=exclusive, arguments=arguments, tag=consumer_tag)

    def _consume(
        self, deliver: Callable[[IncomingMessage], None], *, no_ack: bool, exclusive: bool,
        arguments: Mapping[str, Any] | None, tag: str | None,
    ) -> str:  # fmt: skip
        channel = self.channel
        found = self._find()
        name = tag or f"ctag{channel.number}.{self.double.next_id()}"
        if name in channel._consumers:
            raise amqp_error("DuplicateConsumerTag", channel.number)

        def delivered(queue: BrokerQueue, stored: Stored) -> int:
            message = channel._delivered(queue, stored, no_ack=no_ack, consumer_tag=name)
            deliver(message)
            return message.delivery_tag

        priority = int((arguments or {}).get("x-priority", 0))
        consumer = Consumer(name, channel, delivered, no_ack, channel._prefetch, exclusive, priority)
        channel._consumers[name] = found, consumer
        try:
            with channel._asking() as broker:
                broker.add_consumer(found, consumer)
        except BaseException:
            channel._consumers.pop(name, None)
            raise
        return name

    @operation
    async def cancel(self, consumer_tag: str, timeout: float | None = None, nowait: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Stop calling a consumer; it may still acknowledge messages that it already has."""
        self._cancel(consumer_tag)
        return None if nowait else frame("Basic.CancelOk", consumer_tag=consumer_tag)

    def _cancel(self, tag: str) -> None:
        self.channel._require_open()
        known = self.channel._consumers.pop(tag, None)
        if known is not None:
            self.channel.broker.remove_consumer(*known)

    @operation
    async def purge(self, no_wait: bool = False, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002
        """Drop ready messages; delivered ones stay with their consumers."""
        found = self._find()
        count = len(found.ready)
        found.ready.clear()
        return None if no_wait else frame("Queue.PurgeOk", message_count=count)

    @operation
    async def delete(self, *, if_unused: bool = True, if_empty: bool = True, timeout: float | None = None) -> Any:
        """Delete it; by default only if it has no consumers and no messages."""
        count = 0
        with self.channel._asking() as broker:
            if self.name in broker.queues:
                found = broker.queue(self.name, self.channel.connection)
                count = broker.delete_queue(found, if_unused=if_unused, if_empty=if_empty)
        return frame("Queue.DeleteOk", message_count=count)

    def iterator(self, **options: Any) -> QueueIterator:
        """Return an iterator over its messages, for ``async with``; options as for `consume`, and *timeout*."""
        return QueueIterator(self, **options)

    def __aiter__(self) -> QueueIterator:
        return self.iterator()


class QueueIterator(ClientObject):
    """See `Queue.iterator`. Messages that it holds and that were not taken are returned when it is closed."""

    label: ClassVar[str] = "iterator"

    def __init__(
        self, queue: Queue, *, timeout: float | None = None, no_ack: bool = False, exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None, consumer_tag: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(queue.double)
        self._queue = queue
        self._timeout = timeout
        self._options: dict[str, Any] = {
            "no_ack": no_ack, "exclusive": exclusive, "arguments": arguments, "tag": consumer_tag
        }  # fmt: skip
        self._held: deque[IncomingMessage] = deque()
        self._closed = False
        self.consumer_tag: str | None = None

    async def __aenter__(self) -> Self:
        self._consume()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    def _consume(self) -> None:
        if self.consumer_tag is None and not self._closed:
            self.consumer_tag = self._queue._consume(self._hold, **self._options)

    def _hold(self, message: IncomingMessage) -> None:
        self._held.append(message)
        self.context.clock.notify()

    def _next(self) -> tuple[IncomingMessage | None] | None:
        if self._held:
            return (self._held.popleft(),)
        return (None,) if self._closed or self._queue.channel.is_closed else None

    async def __anext__(self) -> IncomingMessage:
        if self._closed:
            raise StopAsyncIteration
        self._consume()
        try:
            (message,) = await self.context.clock.wait(self._next, timeout=self._timeout)
        except BaseException:
            # As the real one, it is of no more use once it was interrupted; nothing is lost.
            self._close()
            raise
        if message is None:
            raise StopAsyncIteration
        return message

    @operation
    async def close(self) -> None:
        """Consume no more."""
        self._close()

    def _close(self) -> None:
        self._closed = True
        tag, self.consumer_tag = self.consumer_tag, None
        channel = self._queue.channel
        if tag is not None and not channel.is_closed:
            self._queue._cancel(tag)
            while self._held:
                message = self._held.popleft()
                if not message.processed:
                    message.processed = True
                    message.end()
                    channel._settle(message.delivery_tag, channel.broker.requeue, multiple=False)
        self.context.clock.notify()
        super().end()

    def end(self) -> None:
        self._close()
