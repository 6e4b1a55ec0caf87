"""The exceptions of aio-pika and aiormq: the real classes where those are installed."""

from __future__ import annotations

import importlib
from typing import Any, Final

from attrs import define, field

from isolation_core.services._clients import client_class

__all__ = ["EXCEPTIONS", "Frame", "amqp_class", "amqp_error", "delivered_message", "frame", "publish_error"]

EXCEPTIONS: Final[dict[str, str | type[BaseException]]] = {
    "AMQPError": Exception,
    "AMQPConnectionError": "AMQPError",
    "ConnectionClosed": "AMQPConnectionError",
    "ConnectionCommandInvalid": "ConnectionClosed",
    "AMQPChannelError": "AMQPError",
    "ChannelClosed": "AMQPChannelError",
    "ChannelAccessRefused": "ChannelClosed",
    "ChannelNotFoundEntity": "ChannelClosed",
    "ChannelLockedResource": "ChannelClosed",
    "ChannelPreconditionFailed": "ChannelClosed",
    "DuplicateConsumerTag": "ChannelClosed",
    "DeliveryError": "AMQPError",
    "PublishError": "DeliveryError",
    "ChannelInvalidStateError": RuntimeError,
}
"""Of ``aiormq.exceptions``: the class, and what a look-alike derives from."""


def amqp_error(name: str, *args: object) -> BaseException:
    """Build the exception *name*."""
    if name in {"QueueEmpty", "MessageProcessError"}:
        return client_class("aio_pika.exceptions", name, amqp_class("AMQPError"))(*args)
    return amqp_class(name)(*args)


def amqp_class(name: str) -> type[BaseException]:
    """Return the class *name* of ``aiormq.exceptions``, or its look-alike below the look-alikes of its bases."""
    base = EXCEPTIONS[name]
    return client_class("aiormq.exceptions", name, amqp_class(base) if isinstance(base, str) else base)


@define
class Frame:
    """The answers of the broker, if pamqp is not installed."""

    name: str
    values: dict[str, Any] = field(factory=dict)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None


def frame(name: str, **values: Any) -> Any:
    """Return the frame *name*, such as ``"Basic.Ack"``, as pamqp has it."""
    try:
        commands: Any = importlib.import_module("pamqp.commands")
    except ImportError:
        return Frame(name, values)
    group, _, method = name.partition(".")
    return getattr(getattr(commands, group), method)(**values)


@define
class DeliveredMessage:
    """A returned message, where aiormq is not installed."""

    delivery: Any
    header: Any
    body: bytes
    channel: Any


def delivered_message(exchange: str, routing_key: str, body: bytes, channel: object, properties: object) -> Any:
    """Return what a publisher gets back for an unroutable message."""
    returned = frame(
        "Basic.Return", reply_code=312, reply_text="NO_ROUTE", exchange=exchange, routing_key=routing_key
    )  # fmt: skip
    try:
        cls: Any = importlib.import_module("aiormq.abc").DeliveredMessage
        header: Any = importlib.import_module("pamqp.header").ContentHeader
    except ImportError:
        return DeliveredMessage(returned, properties, body, channel)
    return cls(delivery=returned, header=header(properties=properties, body_size=len(body)), body=body, channel=channel)


def publish_error(message: Any) -> BaseException:
    """Return what a publisher is raised for an unroutable message, if it asked for that."""
    return amqp_error("PublishError", message, message.delivery)
