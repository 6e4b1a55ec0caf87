"""Connections and channels, in the shape of aio-pika."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, Self

from isolation_core.services._double import ClientObject
from isolation_core.services._operations import operation
from isolation_core.services.rabbitmq._broker import Broker, BrokerQueue, Consumer, Stored
from isolation_core.services.rabbitmq._entities import Exchange, Queue
from isolation_core.services.rabbitmq._errors import amqp_class, amqp_error, frame
from isolation_core.services.rabbitmq._message import IncomingMessage

if TYPE_CHECKING:
    from isolation_core.services.rabbitmq._double import RabbitMQDouble

__all__ = ["Channel", "Connection"]


_log: Final = logging.getLogger("aio_pika.tools")


class Callbacks(dict[Callable[..., Any], None]):
    """Callbacks of an event, in order of `add`."""

    def add(self, callback: Callable[..., Any], *_: object, **__: object) -> None:
        """Call *callback* too."""
        self[callback] = None

    def discard(self, callback: Callable[..., Any]) -> None:
        """Call it no more."""
        self.pop(callback, None)

    def tell(self, double: RabbitMQDouble, *args: object) -> None:
        """Call them all; awaitable results are awaited in tasks beside the caller."""
        for callback in tuple(self):
            try:
                result = callback(*args)
            except Exception as error:
                # As in aio-pika: what called goes on. The double tells of it at the end.
                _log.error("Callback %r error: %s: %s", callback, type(error).__name__, error)
                double.background.errors.append(error)
                continue
            if isawaitable(result):

                async def wait(result: Any = result) -> None:
                    await result

                double.background.start(wait, "rabbitmq callback")


class Connection(ClientObject):
    """A connection, in the shape of ``aio_pika.Connection``.

    Attributes:
        number: counts the connections of the double.
        is_closed: whether it was closed, by whom ever.
        close_callbacks: called with the connection and the error, or None.
    """

    label: ClassVar[str] = "connection"

    def __init__(self, double: RabbitMQDouble, number: int, *, internal: bool = False) -> None:
        super().__init__(double)
        self._rabbit = double
        self._internal = internal
        self._channels: list[Channel] = []
        self._numbers = 0
        self.number = number
        self.is_closed = False
        self.close_callbacks = Callbacks()

    def __repr__(self) -> str:
        return f"<Connection {self.number} of {self.double.name!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    @operation(shape="dual")
    async def channel(
        self,
        channel_number: int | None = None,
        publisher_confirms: bool = True,  # noqa: FBT001, FBT002 - as aio-pika has it
        on_return_raises: bool = False,  # noqa: FBT001, FBT002
    ) -> Channel:
        """Open a channel; await it, or use it with ``async with``."""
        if self.is_closed:
            raise RuntimeError("Connection was not opened")
        if not publisher_confirms and on_return_raises:
            raise RuntimeError('"on_return_raises" not applicable without "publisher_confirms"')
        self._numbers += 1
        number = channel_number or self._numbers
        channel = Channel(self, number, publisher_confirms=publisher_confirms, on_return_raises=on_return_raises)
        self._channels.append(channel)
        return channel

    @operation
    async def close(self, exc: BaseException | None = None) -> None:
        """Close it with its channels; its exclusive queues go with it."""
        self._close(exc)

    def _close(self, error: BaseException | None = None) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        for channel in tuple(self._channels):
            channel._close(error)
        broker = self._rabbit.broker
        for queue in [each for each in broker.queues.values() if each.owner is self]:
            broker.delete_queue(queue)
        self.close_callbacks.tell(self._rabbit, self, error)
        super().end()

    def connection_lost(self, error: BaseException) -> None:
        """It is closed, with its channels, as one that is not robust."""
        self._close(error)

    def problems(self) -> tuple[str, ...]:
        if self.is_closed or self._internal:
            return ()
        return (f"connection {self.number} was not closed",)

    def end(self) -> None:
        self._close()
        super().end()


class Channel(ClientObject):
    """A channel, in the shape of ``aio_pika.Channel``.

    Attributes:
        number: counts the channels of its connection.
        is_closed: whether it was closed, by whom ever.
        default_exchange: routes by the name of the queue.
        return_callbacks: called with the channel and a message that was returned.
        close_callbacks: called with the channel and the error, or None.
    """

    label: ClassVar[str] = "channel"

    def __init__(
        self, connection: Connection, number: int, *, publisher_confirms: bool, on_return_raises: bool
    ) -> None:
        super().__init__(connection.double)
        self._rabbit = connection._rabbit
        self._connection = connection
        self._consumers: dict[str, tuple[BrokerQueue, Consumer]] = {}
        self._prefetch = 0
        self._tags = 0
        self._published = 0
        self.unsettled: dict[int, tuple[BrokerQueue, Stored]] = {}
        self.global_prefetch = 0
        self.number = number
        self.is_closed = False
        self.publisher_confirms = publisher_confirms
        self.on_return_raises = on_return_raises
        self.return_callbacks = Callbacks()
        self.close_callbacks = Callbacks()
        self.default_exchange = Exchange(self, "", "direct")

    def __repr__(self) -> str:
        return f"<Channel {self.number} of connection {self._connection.number} of {self.double.name!r}>"

    @property
    def broker(self) -> Broker:
        """The connection it belongs to."""
        return self._rabbit.broker

    @property
    def connection(self) -> Connection:
        """The connection it belongs to."""
        return self._connection

    @property
    def is_initialized(self) -> bool:
        """Whether it is open."""
        return not self.is_closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    # -- operations --------------------------------------------------------------------

    @operation
    async def declare_exchange(
        self,
        name: str,
        type: str = "direct",  # noqa: A002 - as aio-pika has it
        *,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        passive: bool = False,
        arguments: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Exchange:
        """Make an exchange, or find the one that is there; *passive*: only find it."""
        kind = str(getattr(type, "value", type))
        with self._asking() as broker:
            broker.declare_exchange(
                name, kind, passive=passive, durable=durable, auto_delete=auto_delete, internal=internal,
                arguments=arguments or {},
            )  # fmt: skip
        return Exchange(
            self, name, kind, durable=durable, auto_delete=auto_delete, internal=internal, passive=passive,
            arguments=arguments,
        )  # fmt: skip

    @operation
    async def get_exchange(self, name: str, *, ensure: bool = True) -> Exchange:
        """Return an exchange; *ensure*: it has to be there."""
        if ensure:
            with self._asking() as broker:
                broker.exchange(name)
        return Exchange(self, name, "direct", passive=True)

    @operation
    async def declare_queue(
        self,
        name: str | None = None,
        *,
        durable: bool = False,
        exclusive: bool = False,
        passive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Queue:
        """Make a queue, or find the one that is there; *passive*: only find it."""
        connection = self._connection
        with self._asking() as broker:
            found = broker.declare_queue(
                name or "", passive=passive, durable=durable and not exclusive, auto_delete=auto_delete,
                owner=connection if exclusive else None, connection=connection, arguments=arguments or {},
            )  # fmt: skip
        queue = Queue(
            self, found.name, durable=durable, exclusive=exclusive, auto_delete=auto_delete, passive=passive,
            arguments=arguments,
        )  # fmt: skip
        queue.declaration_result = frame(
            "Queue.DeclareOk", queue=found.name, message_count=len(found.ready), consumer_count=len(found.consumers)
        )
        return queue

    @operation
    async def get_queue(self, name: str, *, ensure: bool = True) -> Queue:
        """Return a queue; *ensure*: it has to be there."""
        if ensure:
            return await Channel.declare_queue.function(self, name, passive=True)
        return Queue(self, name, passive=True)

    @operation
    async def set_qos(
        self,
        prefetch_count: int = 0,
        prefetch_size: int = 0,
        global_: bool = False,  # noqa: FBT001, FBT002 - as aio-pika has it
        timeout: float | None = None,
    ) -> Any:
        """Limit how many unacknowledged messages each new consumer holds; *global_*: the channel in all."""
        with self._asking():
            if global_:
                self.global_prefetch = prefetch_count
            else:
                self._prefetch = prefetch_count
        return frame("Basic.QosOk")

    @operation
    async def queue_delete(
        self,
        queue_name: str,
        timeout: float | None = None,
        if_unused: bool = False,  # noqa: FBT001, FBT002
        if_empty: bool = False,  # noqa: FBT001, FBT002
        nowait: bool = False,  # noqa: FBT001, FBT002
    ) -> Any:
        """Delete a queue; one that is not there is as good as deleted."""
        count = 0
        with self._asking() as broker:
            if queue_name in broker.queues:
                found = broker.queue(queue_name, self._connection)
                count = broker.delete_queue(found, if_unused=if_unused, if_empty=if_empty)
        return None if nowait else frame("Queue.DeleteOk", message_count=count)

    @operation
    async def exchange_delete(
        self,
        exchange_name: str,
        timeout: float | None = None,
        if_unused: bool = False,  # noqa: FBT001, FBT002
        nowait: bool = False,  # noqa: FBT001, FBT002
    ) -> Any:
        """Delete an exchange; one that is not there is as good as deleted."""
        with self._asking() as broker:
            broker.delete_exchange(exchange_name, if_unused=if_unused)
        return None if nowait else frame("Exchange.DeleteOk")

    @operation
    async def close(self, exc: BaseException | None = None) -> None:
        """Close it: unacknowledged messages return to their queues. Closing again changes nothing."""
        self._close(exc)

    def connection_lost(self, error: BaseException) -> None:
        """Its connection is closed."""
        self._connection.connection_lost(error)

    # -- for the rest of the package -----------------------------------------------------

    def _require_open(self) -> None:
        if self.is_closed:
            raise amqp_error("ChannelInvalidStateError", f"{self!r} closed")

    @contextlib.contextmanager
    def _asking(self) -> Iterator[Broker]:
        """Call the broker: a refusal closes the channel, or even the connection."""
        self._require_open()
        try:
            yield self.broker
        except amqp_class("ChannelClosed") as error:
            self._close(error)
            raise
        except amqp_class("ConnectionClosed") as error:
            self._connection._close(error)
            raise

    def _fail(self, error: BaseException) -> NoReturn:
        self._close(error)
        raise error

    def _close(self, error: BaseException | None = None) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        consumers, self._consumers = self._consumers, {}
        for queue, consumer in consumers.values():
            if consumer in queue.consumers:
                queue.consumers.remove(consumer)
        unsettled, self.unsettled = self.unsettled, {}
        for queue, stored in unsettled.values():
            self.broker.requeue(queue, stored)
        for queue in {id(queue): queue for queue, _ in (*consumers.values(), *unsettled.values())}.values():
            if queue.auto_delete and not queue.consumers and any(each is queue for each, _ in consumers.values()):
                self.broker.delete_queue(queue)
            elif not queue.deleted:
                self.broker.touch(queue)
                self.broker._schedule(queue)
                self.broker.pump(queue)
        if self in self._connection._channels:
            self._connection._channels.remove(self)
        for client in [each for each in self._rabbit._clients.values() if getattr(each, "_channel", None) is self]:
            client.end()
        self.close_callbacks.tell(self._rabbit, self, error)
        super().end()
        self.context.clock.notify()

    def _delivered(
        self, queue: BrokerQueue, stored: Stored, *, no_ack: bool, consumer_tag: str | None = None
    ) -> IncomingMessage:
        self._tags += 1
        if not no_ack:
            self.unsettled[self._tags] = queue, stored
        left = len(queue.ready) if consumer_tag is None else None
        return IncomingMessage(
            self, stored, self._tags, no_ack=no_ack, consumer_tag=consumer_tag, message_count=left
        )  # fmt: skip

    def _settle(self, tag: int, what: Callable[[BrokerQueue, Stored], None], *, multiple: bool) -> None:
        tags = [each for each in self.unsettled if each <= tag] if multiple else [tag] if tag in self.unsettled else []
        if not tags:
            # As with the real client, an acknowledgement is sent and not answered: what is wrong closes the channel.
            text = f"PRECONDITION_FAILED - unknown delivery tag {tag}"
            self._close(amqp_error("ChannelPreconditionFailed", text))
            return
        touched: dict[int, BrokerQueue] = {}
        for each in tags:
            queue, stored = self.unsettled.pop(each)
            touched[id(queue)] = queue
            what(queue, stored)
        for _, consumer in self._consumers.values():
            consumer.unsettled.difference_update(tags)
        for queue in touched.values():
            if not queue.deleted:
                self.broker._schedule(queue)
                self.broker.pump(queue)
        if self.global_prefetch:
            for queue, _ in tuple(self._consumers.values()):
                self.broker.pump(queue)

    def problems(self) -> tuple[str, ...]:
        found = []
        waiting: dict[str, int] = {}
        for queue, _ in self.unsettled.values():
            waiting[queue.name] = waiting.get(queue.name, 0) + 1
        for name, count in waiting.items():
            messages = "1 message" if count == 1 else f"{count} messages"
            found.append(f"{messages} of queue {name!r} delivered and not acknowledged")
        if not self.is_closed and not self._connection._internal:
            found.append(f"channel {self.number} of connection {self._connection.number} was not closed")
        return tuple(found)

    def end(self) -> None:
        self._close()
        super().end()
