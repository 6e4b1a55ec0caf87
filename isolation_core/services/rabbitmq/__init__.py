"""The RabbitMQ double: a broker in memory, in the shape of aio-pika."""

from __future__ import annotations

from isolation_core.services.rabbitmq._channel import Channel, Connection
from isolation_core.services.rabbitmq._double import RabbitMQDouble
from isolation_core.services.rabbitmq._entities import Exchange, Queue, QueueIterator
from isolation_core.services.rabbitmq._message import IncomingMessage, Message

__all__ = [
    "Channel",
    "Connection",
    "Exchange",
    "IncomingMessage",
    "Message",
    "Queue",
    "QueueIterator",
    "RabbitMQDouble",
]
