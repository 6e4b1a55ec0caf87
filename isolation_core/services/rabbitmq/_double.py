"""`RabbitMQDouble`: a broker in memory, with connections and channels in the shape of aio-pika."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from isolation_core.services._background import Background
from isolation_core.services._double import ServiceDouble
from isolation_core.services._operations import operation
from isolation_core.services._options import Options
from isolation_core.services._types import ServiceType
from isolation_core.services.rabbitmq._broker import Broker
from isolation_core.services.rabbitmq._channel import Channel, Connection
from isolation_core.services.rabbitmq._entities import Exchange, Queue
from isolation_core.services.rabbitmq._errors import amqp_error, frame
from isolation_core.services.rabbitmq._message import IncomingMessage, Message

if TYPE_CHECKING:
    from isolation_core.services._context import MockContext

__all__ = ["CONNECT_OPTIONS", "RabbitMQDouble"]


# Where a server is, and how to log in, says nothing in memory.
CONNECT_OPTIONS: Final = Options(
    "aio_pika.connect",
    harmless="host port login password virtualhost ssl loop ssl_options ssl_context timeout client_properties name "
    "heartbeat auth channel_max frame_max interleave happy_eyeballs_delay reconnect_interval fail_fast "
    "connection_timeout",
    refused={"connection_class": None},
)


class RabbitMQDouble(ServiceDouble):
    """A RabbitMQ broker in memory: all that is published can be consumed, by the rules of the real one.

    `open_connection` replaces ``aio_pika.connect``. For tests that need no connections of their own,
    the double itself declares, publishes and consumes.

    Args:
        context: the context it belongs to; None: that of the current barrier.
        name: its name in the log.

    Attributes:
        broker: exchanges and queues.
        background: the tasks of consumers; its ``errors`` are what callbacks have raised.
    """

    service: ClassVar[str] = ServiceType.RABBITMQ

    def __init__(self, context: MockContext | None = None, *, name: str | None = None) -> None:
        super().__init__(context, name=name)
        self.broker = Broker(self.context.clock)
        self.background = Background()
        self._connections = 0
        self._ids = 0
        self._own: Channel | None = None

    def next_id(self) -> str:
        """Return a unique id, for messages and consumer tags."""
        self._ids += 1
        return f"{self._ids:032x}"

    # -- connections -----------------------------------------------------------------

    @operation
    async def open_connection(self, /, url: str | None = None, **options: Any) -> Connection:
        """Open a connection, as ``aio_pika.connect`` and ``connect_robust`` do; it connects the double too.

        Raises:
            TypeError: for an option that aio-pika does not have.
            ConfigurationError: for one that is not modelled: ``connection_class``.
        """
        CONNECT_OPTIONS.check(options)
        self.is_connected = True
        self._connections += 1
        return Connection(self, self._connections)

    @operation(shape="dual")
    async def channel(self, publisher_confirms: bool = True, on_return_raises: bool = False) -> Channel:  # noqa: FBT001, FBT002
        """Open a channel on a connection of its own; await it, or use it with ``async with``."""
        self._require_connected()
        connection = await RabbitMQDouble.open_connection.function(self)
        connection._internal = True
        channel: Channel = await Connection.channel.function(connection, None, publisher_confirms, on_return_raises)
        return channel

    def _channel(self) -> Channel:
        self._require_connected()
        own = self._own
        if own is None or own.is_closed:
            self._connections += 1
            connection = Connection(self, self._connections, internal=True)
            own = self._own = Channel(connection, 1, publisher_confirms=True, on_return_raises=False)
            connection._channels.append(own)
        return own

    # -- without connections ---------------------------------------------------------

    @operation
    async def declare_exchange(self, /, name: str, type: str = "direct", **options: Any) -> Exchange:  # noqa: A002 - as aio-pika has it
        """Declare an exchange; options as `Channel.declare_exchange` has them."""
        exchange: Exchange = await Channel.declare_exchange.function(self._channel(), name, type, **options)
        return exchange

    @operation
    async def declare_queue(
        self, /, name: str | None = None, *, exchange: str | None = None, routing_key: str | None = None, **options: Any
    ) -> Queue:
        """Declare a queue, and bind it to *exchange* if that is given; options as `Channel.declare_queue` has them."""
        queue: Queue = await Channel.declare_queue.function(self._channel(), name, **options)
        if exchange is not None:
            await Queue.bind.function(queue, exchange, routing_key)
        return queue

    @operation
    async def publish(
        self,
        /,
        exchange: str,
        routing_key: str,
        body: object,
        *,
        headers: Mapping[str, Any] | None = None,
        **properties: Any,
    ) -> Any:
        """Publish; the exchange ``""`` routes by the name of the queue.

        Args:
            exchange: by name.
            routing_key: as the exchange understands it.
            body: bytes; text is encoded, anything else is JSON.
            headers: of the message.
            **properties: as `Message` has them: ``priority``, ``expiration`` in seconds, ``correlation_id``...

        Returns:
            As `Exchange.publish`.
        """
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, (bytes, bytearray)):
            body = json.dumps(body).encode()
            properties.setdefault("content_type", "application/json")
        message = Message(bytes(body), headers=dict(headers or {}), **properties)
        return await Exchange.publish.function(Exchange(self._channel(), exchange, "direct"), message, routing_key)

    @operation
    async def consume(self, queue: str, *, timeout: float | None = None, no_ack: bool = False) -> IncomingMessage:
        """Take the next message of *queue*, waiting for it if there is none.

        Args:
            queue: by name.
            timeout: seconds of virtual time; None: no limit.
            no_ack: whether it needs no acknowledgement.

        Raises:
            TimeoutError: none came within *timeout*.
        """
        channel = self._channel()
        source = Queue(channel, queue)
        source._find()
        return await self.context.clock.wait(lambda: self._take(source, no_ack=no_ack), timeout=timeout)

    @staticmethod
    def _take(source: Queue, *, no_ack: bool) -> IncomingMessage | None:
        found = source._find()
        stored = source.channel.broker.take(found)
        return None if stored is None else source.channel._delivered(found, stored, no_ack=no_ack)

    # -- for those who use it ------------------------------------------------------

    def messages(self, queue: str) -> list[bytes]:
        """Return the bodies that are ready in *queue*, first one first; nothing is taken."""
        return [each.body for each in self.broker.queue(queue, self._owner_of(queue)).ready]

    def _owner_of(self, queue: str) -> object:
        found = self.broker.queues.get(queue)
        return None if found is None else found.owner

    def reset(self) -> None:
        """Bring it back to how it was made: no queues, no exchanges but the predeclared, no connections."""
        super().reset()
        self.background.cancel()
        self.background = Background()
        for queue in tuple(self.broker.queues.values()):
            self.broker.delete_queue(queue)
        self.broker = Broker(self.context.clock)
        self._connections = self._ids = 0
        self._own = None

    def problems(self) -> tuple[str, ...]:
        """Return unacknowledged messages, open connections and channels, and errors of consumers."""
        errors = tuple(f"a callback raised {error!r}" for error in self.background.errors)
        return (*super().problems(), *errors)

    def fault_error(self, kind: str) -> BaseException:
        """Return what aio-pika raises for *kind*."""
        text = f"{self.name}: {kind}, by the fault plan"
        if kind == "timeout":
            return TimeoutError(text)
        if kind == "disconnected":
            return amqp_error("ConnectionClosed", 320, f"CONNECTION_FORCED - {text}")
        if kind == "rejected":
            return amqp_error("DeliveryError", None, frame("Basic.Nack", delivery_tag=0, multiple=False))
        return amqp_error("AMQPConnectionError", text)

    def connection_lost(self, error: BaseException) -> None:
        """Its own channel is closed; the next call has a new one."""
        if self._own is not None:
            self._own.connection_lost(error)

    def _disconnect_now(self) -> None:
        super()._disconnect_now()
        self.background.cancel()
        self._own = None
