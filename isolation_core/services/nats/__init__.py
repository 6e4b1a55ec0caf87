"""The NATS double: a server in memory, with JetStream, in the shape of nats-py."""

from __future__ import annotations

from isolation_core.services.nats._client import Connection, Metadata, Msg, SequencePair, Subscription
from isolation_core.services.nats._double import NatsDouble
from isolation_core.services.nats._jetstream import JetStream, PullSubscription
from isolation_core.services.nats._keyvalue import KeyValue, KeyValueEntry

__all__ = [
    "Connection", "JetStream", "KeyValue", "KeyValueEntry", "Metadata", "Msg", "NatsDouble", "PullSubscription",
    "SequencePair", "Subscription",
]  # fmt: skip
