"""JetStream, in the shape of nats-py's ``JetStreamContext``: a subset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, ClassVar, Final

from isolation_core.services._double import ClientObject
from isolation_core.services._operations import operation
from isolation_core.services.nats._client import Callback, Connection, Msg, Subscription
from isolation_core.services.nats._errors import api_error, nats_error
from isolation_core.services.nats._streams import CONSUMER_DEFAULTS, STREAM_DEFAULTS, Consumer, Entry, Stream, Streams
from isolation_core.services.nats._subjects import fits

__all__ = ["JetStream", "PullSubscription"]


# Values of settings that the double accepts without effect: the default, or one without an observable effect.
_IDLE: Final[Mapping[str, frozenset[object]]] = {
    "replay_policy": frozenset({"instant"}),
    "num_replicas": frozenset({0, 1}),
    "replicas": frozenset({0, 1}),
    "pending_msgs_limit": frozenset({512 * 1024}),
    "pending_bytes_limit": frozenset({256 * 1024 * 1024}),
    "max_waiting": frozenset({512}),
}
_UNSEEN: Final = frozenset(
    {"storage", "mem_storage", "direct", "compression", "persist_mode", "allow_direct", "inbox_prefix"}
)
"""How the server keeps or finds what it keeps, and names of inboxes."""
_VALUES: Final[Mapping[str, frozenset[object]]] = {
    "retention": frozenset({"limits", "workqueue"}),
    "num_replicas": frozenset({0, 1}),
}


def refuse_settings(given: Mapping[str, Any], implemented: Iterable[str] = ()) -> None:
    """Refuse settings that the double would have to ignore.

    Args:
        given: settings by name; what is None, False, or the default of the client passes.
        implemented: names of settings that the double knows.

    Raises:
        TypeError: naming the setting, and what to do.
    """
    known = set(implemented)
    for name, value in given.items():
        plain = getattr(value, "value", value)
        if name in known:
            fits = plain is None or name not in _VALUES or plain in _VALUES[name]
        else:
            fits = plain is None or plain is False or name in _UNSEEN or plain in _IDLE.get(name, ())
        if not fits:
            raise TypeError(
                f"{name}={plain!r} is not supported by the NATS double: leave it out, "
                f"or run this test with a real server; supported are {', '.join(sorted(known)) or 'no others'}"
            )


def _settings(defaults: Mapping[str, Any], config: object, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole configuration from an object of nats-py, or none, and keywords."""
    given = {**{name: value for name, value in getattr(config, "__dict__", {}).items() if name[:1] != "_"}, **changes}
    refuse_settings(given, defaults)
    found = dict(defaults)
    for name in defaults:
        value = given.get(name)
        if value is not None and not (name == "duplicate_window" and value == 0):
            found[name] = getattr(value, "value", value)
    return found


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)


def _check_name(name: str | None) -> str:
    if not name:
        raise ValueError("nats: stream name is required")
    if any(each in name for each in ". *>\t\n"):
        raise ValueError(f"nats: invalid stream name: {name!r}")
    return name


class JetStream(ClientObject):
    """Streams, consumers and publishing with acknowledgement."""

    label: ClassVar[str] = "jetstream"

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.double)
        self._connection = connection

    @property
    def _streams(self) -> Streams:
        self._connection._require_open()
        return self._connection._nats.streams

    # -- streams -----------------------------------------------------------------------

    def connection_lost(self, error: BaseException) -> None:
        """Its connection is closed."""
        self._connection.connection_lost(error)

    @operation
    async def add_stream(self, /, config: object = None, **params: Any) -> Any:
        """Make a stream; parameters as ``StreamConfig`` has them."""
        return self._stream_info(self._streams.add(self._config(config, params)))

    @operation
    async def update_stream(self, /, config: object = None, **params: Any) -> Any:
        """Change a stream; what is not given is as by default."""
        return self._stream_info(self._streams.update(self._config(config, params)))

    @staticmethod
    def _config(config: object, params: Mapping[str, Any]) -> dict[str, Any]:
        found = _settings(STREAM_DEFAULTS, config, params)
        _check_name(found["name"])
        found["subjects"] = list(found["subjects"] or [found["name"]])
        return found

    @operation
    async def stream_info(self, name: str, subjects_filter: str | None = None) -> Any:
        """Return ``config`` and ``state`` of a stream."""
        return self._stream_info(self._streams.get(_check_name(name)))

    @staticmethod
    def _stream_info(stream: Stream) -> Any:
        first = next(iter(stream.entries), stream.last_seq + 1 if stream.last_seq else 0)
        state = SimpleNamespace(
            messages=len(stream.entries), bytes=stream.size, first_seq=first, last_seq=stream.last_seq,
            consumer_count=len(stream.consumers),
        )  # fmt: skip
        config = SimpleNamespace(**stream.config)
        return SimpleNamespace(config=config, state=state, created=_moment(stream.created))

    @operation
    async def delete_stream(self, name: str) -> bool:
        """Delete a stream with its consumers."""
        self._streams.delete(_check_name(name))
        return True

    @operation
    async def purge_stream(
        self, name: str, seq: int | None = None, subject: str | None = None, keep: int | None = None
    ) -> bool:
        """Drop messages: all, those before *seq*, those of *subject*, all but the newest *keep*."""
        stream = self._streams.get(_check_name(name))
        if stream.config["deny_purge"]:
            raise api_error(500, 10110, "stream purge not permitted")
        gone = [each.seq for each in stream.entries.values() if not subject or fits(subject, each.subject)]
        if seq:
            gone = [each for each in gone if each < seq]
        if keep:
            gone = gone[:-keep]
        for each in gone:
            del stream.entries[each]
        return True

    @operation
    async def find_stream_name_by_subject(self, subject: str) -> str:
        """Return the stream that keeps *subject*."""
        return self._find(subject)

    def _find(self, subject: str) -> str:
        stream = self._streams.of_subject(subject)
        if stream is None:
            raise nats_error("js.NotFoundError")
        return stream.name

    @operation
    async def get_msg(self, stream_name: str, seq: int) -> Any:
        """Return a message of a stream."""
        return self._raw(self._streams.get(_check_name(stream_name)).entries.get(seq))

    @operation
    async def get_last_msg(self, stream_name: str, subject: str) -> Any:
        """Return the newest message of *subject*."""
        return self._raw(self._streams.get(_check_name(stream_name)).last_of(subject))

    @staticmethod
    def _raw(entry: Entry | None) -> Any:
        if entry is None:
            raise api_error(404, 10037, "no message found")
        return SimpleNamespace(
            subject=entry.subject, seq=entry.seq, data=entry.data, headers=entry.headers, time=_moment(entry.time)
        )

    @operation
    async def delete_msg(self, stream_name: str, seq: int) -> bool:
        """Delete a message of a stream."""
        stream = self._streams.get(_check_name(stream_name))
        if stream.config["deny_delete"]:
            raise api_error(500, 10057, "message delete not permitted")
        if stream.entries.pop(seq, None) is None:
            if stream.entries and next(iter(stream.entries)) < seq <= stream.last_seq:
                raise api_error(400, 10043, f"sequence {seq} not found")
            raise api_error(500, 10057, "no message found")
        return True

    # -- publishing --------------------------------------------------------------------

    @operation
    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float | None = None,
        stream: str | None = None,
        headers: dict[str, Any] | None = None,
        msg_ttl: float | None = None,
    ) -> Any:
        """Publish to a stream; returns ``stream``, ``seq`` and ``duplicate``.

        Raises:
            NoStreamResponseError: no stream keeps *subject*.
            BadRequestError: what headers expect is not so.
            ServiceUnavailableError: the stream is full and discards what is new.
        """
        sent = dict(headers or {})
        if stream is not None:
            sent["Nats-Expected-Stream"] = stream
        double = self._connection._nats
        double.acknowledgement()
        self._connection._publish(subject, payload, "", sent or None)
        acknowledgement = double.acknowledgement()
        if acknowledgement is None:
            raise nats_error("js.NoStreamResponseError")
        if isinstance(acknowledgement, BaseException):
            raise acknowledgement
        name, seq, duplicate = acknowledgement
        return SimpleNamespace(stream=name, seq=seq, duplicate=duplicate or None, domain=None)

    # -- consumers ---------------------------------------------------------------------

    @operation
    async def add_consumer(
        self,
        /,
        stream: str,
        config: object = None,
        timeout: float | None = None,
        **params: Any,
    ) -> Any:
        """Make a consumer; parameters as ``ConsumerConfig`` has them."""
        found = self._streams.add_consumer(_check_name(stream), _settings(CONSUMER_DEFAULTS, config, params))
        return self._consumer_info(found)

    @operation
    async def consumer_info(self, stream: str, consumer: str, timeout: float | None = None) -> Any:
        """Return how a consumer is."""
        return self._consumer_info(self._streams.consumer(_check_name(stream), consumer))

    @staticmethod
    def _consumer_info(consumer: Consumer) -> Any:
        return SimpleNamespace(
            name=consumer.name, stream_name=consumer.stream.name, config=SimpleNamespace(**consumer.config),
            num_pending=consumer.num_pending, num_ack_pending=len(consumer.pending),
            num_redelivered=sum(1 for each in consumer.pending.values() if each.delivered > 1),
            delivered=SimpleNamespace(consumer_seq=consumer.sequence, stream_seq=consumer.next_seq - 1),
        )  # fmt: skip

    @operation
    async def delete_consumer(self, stream: str, consumer: str) -> bool:
        """Delete a consumer."""
        found = self._streams.consumer(_check_name(stream), consumer)
        found.stop()
        del found.stream.consumers[consumer]
        return True

    def _consumer(self, stream: str, durable: str | None, subject: str, config: object, **params: Any) -> Consumer:
        known = self._streams.get(stream).consumers.get(durable) if durable else None
        if known is not None:
            return known
        settings = _settings(CONSUMER_DEFAULTS, config, params)
        settings["durable_name"] = durable or settings["durable_name"]
        settings["filter_subject"] = subject
        return self._streams.add_consumer(stream, settings)

    @operation
    async def pull_subscribe(
        self,
        /,
        subject: str,
        durable: str | None = None,
        stream: str | None = None,
        config: object = None,
        **options: Any,
    ) -> PullSubscription:
        """Make a consumer, if there is none of that name, to fetch messages from.

        Raises:
            TypeError: for an option or setting that is not supported.
        """
        refuse_settings(options)
        name = stream or self._find(subject)
        return PullSubscription(self._connection, self._consumer(name, durable, subject, config))

    @operation
    async def subscribe(
        self,
        /,
        subject: str,
        queue: str | None = None,
        cb: Callback | None = None,
        durable: str | None = None,
        stream: str | None = None,
        config: object = None,
        manual_ack: bool = False,  # noqa: FBT001, FBT002 - as nats-py has it
        deliver_policy: object = None,
        **options: Any,
    ) -> Subscription:
        """Make a consumer, if there is none of that name, that pushes; after *cb* messages are acknowledged.

        Raises:
            TypeError: for an option or setting that is not supported.
        """
        refuse_settings(options)
        name = stream or self._find(subject)
        consumer = self._consumer(
            name, durable or queue, subject, config, deliver_policy=deliver_policy, deliver_group=queue
        )
        if consumer.bound and not queue:
            raise nats_error("js.Error", "consumer is already bound to a subscription")
        subscription = self._connection._subscribe(
            self._connection.new_inbox(), "", cb if cb is None or manual_ack else _acknowledging(cb)
        )
        PushBinding(self._connection, consumer, subscription)
        return subscription

    # -- key-value -----------------------------------------------------------------------

    @operation
    async def create_key_value(self, /, config: object = None, **params: Any) -> Any:
        """Make a bucket: *bucket*, *history*, *ttl*."""
        from isolation_core.services.nats._keyvalue import KeyValue

        return KeyValue.make(self, config, params)

    @operation
    async def key_value(self, bucket: str) -> Any:
        """Return a bucket."""
        from isolation_core.services.nats._keyvalue import KeyValue

        return KeyValue.find(self, bucket)

    @operation
    async def delete_key_value(self, bucket: str) -> bool:
        """Delete a bucket."""
        self._streams.delete(f"KV_{bucket}")
        return True


def _acknowledging(callback: Callback) -> Callback:
    async def call(message: Msg) -> None:
        await callback(message)
        if not message.is_acked:
            await message.ack()

    return call


def _message(connection: Connection, consumer: Consumer, entry: Entry, count: int, sequence: int, pending: int) -> Msg:
    moment = round(entry.time * 1_000_000_000)
    reply = f"$JS.ACK.{consumer.stream.name}.{consumer.name}.{count}.{entry.seq}.{sequence}.{moment}.{pending}"
    message = Msg(connection, entry.subject, reply, entry.data, entry.headers)
    message._delivery = consumer, entry, count, sequence, pending
    return message


class PushBinding:
    """Subscriptions that a consumer pushes to; several take turns."""

    def __init__(self, connection: Connection, consumer: Consumer, subscription: Subscription) -> None:
        before = consumer.deliver.__self__ if consumer.deliver is not None else None  # type: ignore[attr-defined]
        self.members: list[tuple[Connection, Subscription]] = before.members if before is not None else []
        self.members.append((connection, subscription))
        self.consumer = consumer
        consumer.bound = True
        consumer.deliver = self.deliver
        consumer.pump()

    def deliver(self, entry: Entry, count: int, sequence: int, pending: int) -> None:
        """Push one message."""
        self.members[:] = [each for each in self.members if each[1]._interest]
        if not self.members:
            self.consumer.bound = False
            self.consumer.deliver = None
            self.consumer.counts[entry.seq] = count - 1
            self.consumer._redeliver(entry.seq)
            return
        member = self.members.pop(0)
        self.members.append(member)
        member[1]._receive(_message(member[0], self.consumer, entry, count, sequence, pending))


class PullSubscription(ClientObject):
    """See `JetStream.pull_subscribe`."""

    label: ClassVar[str] = "pull_subscription"

    def __init__(self, connection: Connection, consumer: Consumer) -> None:
        super().__init__(connection.double)
        self._connection = connection
        self._consumer = consumer

    def connection_lost(self, error: BaseException) -> None:
        """Its connection is closed."""
        self._connection.connection_lost(error)

    @operation
    async def consumer_info(self) -> Any:
        """Return how its consumer is."""
        return JetStream._consumer_info(self._consumer)

    @operation
    async def fetch(self, batch: int = 1, timeout: float | None = 5, heartbeat: float | None = None) -> list[Msg]:
        """Take up to *batch* messages, waiting for the first one.

        Raises:
            TimeoutError: none came within *timeout* seconds; ``nats.errors.TimeoutError``.
        """
        if batch < 1:
            raise ValueError("nats: invalid batch size")
        if timeout is not None and timeout <= 0:
            raise ValueError("nats: invalid fetch timeout")
        self._connection._require_open()

        def look() -> list[Msg] | None:
            found: list[Msg] = []
            while len(found) < batch and (taken := self._consumer.take()) is not None:
                found.append(_message(self._connection, self._consumer, *taken))
            return found or None

        try:
            return await self.context.clock.wait(look, timeout=timeout)
        except TimeoutError:
            raise nats_error("TimeoutError") from None

    @operation
    async def unsubscribe(self) -> None:
        """Fetch no more."""
        if self._ended:
            raise nats_error("BadSubscriptionError")
        self.end()

    def problems(self) -> tuple[str, ...]:
        return (f"the pull subscription to {self._consumer.stream.name!r} is open",)
