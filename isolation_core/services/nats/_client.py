"""Connections, subscriptions and messages of core NATS, in the shape of nats-py."""

from __future__ import annotations

import inspect
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import anyio
from attrs import frozen

from isolation_core.errors import ConfigurationError
from isolation_core.services._double import ClientObject
from isolation_core.services._operations import operation
from isolation_core.services.nats._errors import nats_error
from isolation_core.services.nats._subjects import check_publish, check_subscribe, fits

if TYPE_CHECKING:
    from isolation_core.services.nats._double import NatsDouble
    from isolation_core.services.nats._jetstream import JetStream
    from isolation_core.services.nats._streams import Consumer, Entry

__all__ = ["Connection", "Metadata", "Msg", "SequencePair", "Subscription"]

MAX_PAYLOAD: Final = 1_048_576
_HEADER_KEY: Final = re.compile(r"[!-9;-~]+")


@frozen
class SequencePair:
    """The position of a message for its consumer, and in its stream."""

    consumer: int
    stream: int


@frozen
class Metadata:
    """The metadata of JetStream about a delivery."""

    sequence: SequencePair
    num_pending: int
    num_delivered: int
    timestamp: datetime
    stream: str
    consumer: str
    domain: str | None = None


class Msg(ClientObject):
    """A message, in the shape of ``nats.aio.msg.Msg``.

    Attributes:
        subject: the subject it was published on.
        reply: where an answer is waited for; of JetStream: where the acknowledgement goes.
        data: what was published.
        headers: None if there are none.
    """

    label: ClassVar[str] = "message"

    def __init__(
        self,
        connection: Connection,
        subject: str,
        reply: str,
        data: bytes,
        headers: Mapping[str, str] | None,
        sid: int = 0,
    ) -> None:
        super().__init__(connection.double)
        self._connection = connection
        self._ackd = False
        self._delivery: tuple[Consumer, Entry, int, int, int] | None = None
        self.subject = subject
        self.reply = reply
        self.data = data
        self.headers = dict(headers) if headers else None
        self.sid = sid
        super().end()  # what is not acknowledged is known to its consumer

    def __repr__(self) -> str:
        return f"<Msg {self.subject!r}: {self.data[:60]!r}>"

    @property
    def header(self) -> dict[str, str] | None:
        """The headers."""
        return self.headers

    @property
    def is_acked(self) -> bool:
        """Whether it was acknowledged for good."""
        return self._ackd

    @property
    def metadata(self) -> Metadata:
        """The metadata of JetStream; raises ``NotJSMessageError`` for other messages."""
        if self._delivery is None:
            raise nats_error("NotJSMessageError")
        consumer, entry, delivered, sequence, pending = self._delivery
        return Metadata(
            SequencePair(sequence, entry.seq), pending, delivered, datetime.fromtimestamp(entry.time, tz=UTC),
            consumer.stream.name, consumer.name,
        )  # fmt: skip

    @operation
    async def respond(self, data: bytes) -> None:
        """Answer it."""
        if not self.reply:
            raise nats_error("Error", "no reply subject available")
        self._connection._publish(self.reply, data, "", self.headers)

    @operation
    async def ack(self) -> None:
        """Acknowledge it."""
        self._settle("ack")

    @operation
    async def ack_sync(self, timeout: float = 1.0) -> Msg:
        """Acknowledge it, and know that it was."""
        self._settle("ack")
        return Msg(self._connection, self._connection.new_inbox(), "", b"", None)

    @operation
    async def nak(self, delay: float | None = None) -> None:
        """Have it delivered again, after *delay* seconds."""
        self._settle("nak", delay)

    @operation
    async def term(self) -> None:
        """Have it delivered no more."""
        self._settle("term")

    @operation
    async def in_progress(self) -> None:
        """Have more time for it."""
        if not self.reply:
            raise nats_error("NotJSMessageError")
        if self._delivery is not None:
            self._delivery[0].progress(self._delivery[1].seq)

    def connection_lost(self, error: BaseException) -> None:
        """Its connection is closed."""
        self._connection.connection_lost(error)

    def _settle(self, how: str, delay: float | None = None) -> None:
        if not self.reply:
            raise nats_error("NotJSMessageError")
        if self._ackd:
            raise nats_error("MsgAlreadyAckdError", self)
        self._connection._require_open()
        self._ackd = True
        if self._delivery is not None:
            self._delivery[0].settle(self._delivery[1].seq, how, delay)
        else:
            self._connection._publish(self.reply, {"ack": b"", "nak": b"-NAK", "term": b"+TERM"}[how], "", None)


Callback = Callable[[Msg], Awaitable[object]]


class Subscription(ClientObject):
    """A subscription, in the shape of ``nats.aio.subscription.Subscription``."""

    label: ClassVar[str] = "subscription"

    def __init__(
        self, connection: Connection, sid: int, subject: str, queue: str, cb: Callback | None, max_msgs: int
    ) -> None:
        super().__init__(connection.double)
        self._connection = connection
        self._sid = sid
        self._cb = cb
        self._max = max_msgs
        self._limits = (512 * 1024, 128 * 1024 * 1024)
        self._pending: deque[Msg] = deque()
        self._busy = 0
        self._internal = False
        self._interest = True
        self._closed = False
        self._scope: anyio.CancelScope | None = None
        self.subject = subject
        self.queue = queue
        self.delivered = 0

    @property
    def pending_msgs(self) -> int:
        """How many messages were not taken yet."""
        return len(self._pending)

    @property
    def pending_bytes(self) -> int:
        """Their size."""
        return sum(len(each.data) for each in self._pending)

    @property
    def messages(self) -> MessageIterator:
        """An iterator over the messages; only without a callback."""
        if self._cb is not None:
            raise nats_error("Error", "cannot iterate over messages with a non iteration subscription type")
        return MessageIterator(self)

    def _receive(self, message: Msg) -> None:
        self.delivered += 1
        messages, size = self._limits
        if 0 < messages <= len(self._pending) or 0 < size <= self.pending_bytes + len(message.data):
            slow = nats_error("SlowConsumerError", message.subject, message.reply, self._sid, self)
            self._connection._nats.background.start(partial(self._connection._failed, slow), "nats error callback")
        else:
            self._pending.append(message)
        if self._max and self.delivered >= self._max:
            self._drop_interest()
        if self._cb is not None and not self._busy:
            self._busy = 1
            self._scope = self._connection._nats.background.start(self._work, f"subscription to {self.subject}")
        self.context.clock.notify()

    async def _work(self) -> None:
        """Call the callback with one message after the other, as the client does."""
        assert self._cb is not None
        try:
            while self._pending:
                try:
                    await self._cb(self._pending.popleft())
                except Exception as error:
                    await self._connection._failed(error)
        finally:
            self._busy = 0
            self.context.clock.notify()

    def _drop_interest(self) -> None:
        self._interest = False
        self._connection._subscriptions.pop(self._sid, None)
        super().end()

    @operation
    async def next_msg(self, timeout: float | None = 1.0) -> Msg:
        """Take the next message, waiting for it.

        Raises:
            TimeoutError: none came within *timeout* seconds; ``nats.errors.TimeoutError``.
        """
        self._connection._require_open()
        if self._cb is not None:
            raise nats_error("Error", "nats: next_msg cannot be used in async subscriptions")
        return await self._next(timeout)

    async def _next(self, timeout: float | None) -> Msg:
        def look() -> Msg | None:
            if self._pending:
                return self._pending.popleft()
            if self._connection.is_closed:
                raise nats_error("ConnectionClosedError")
            return None

        try:
            return await self.context.clock.wait(look, timeout=timeout)
        except TimeoutError:
            raise nats_error("TimeoutError") from None

    @operation
    async def unsubscribe(self, limit: int = 0) -> None:
        """End it, at once or after *limit* messages in all."""
        self._check()
        self._max = limit
        if limit == 0 or self.delivered >= limit:
            self._closed = True
            self._drop_interest()
            self._stop()
        self.context.clock.notify()

    @operation
    async def drain(self) -> None:
        """End it when what has come is done with."""
        self._check()
        await self._drain()

    async def _drain(self) -> None:
        self._drop_interest()
        try:
            await self.context.clock.wait(lambda: True if not self._pending and not self._busy else None)
        finally:
            self._closed = True
            self.context.clock.notify()

    def connection_lost(self, error: BaseException) -> None:
        """Its connection is closed."""
        self._connection.connection_lost(error)

    def _check(self) -> None:
        self._connection._require_open(draining=True)
        if self._closed:
            raise nats_error("BadSubscriptionError")

    def _stop(self) -> None:
        if self._scope is not None and self._cb is not None:
            self._pending.clear()

    def problems(self) -> tuple[str, ...]:
        if self._internal or not self._interest:
            return ()
        left = f" with {len(self._pending)} messages that were not taken" if self._pending else ""
        return (f"the subscription to {self.subject!r} is open{left}",)

    def end(self) -> None:
        self._closed = True
        self._interest = False
        self._connection._subscriptions.pop(self._sid, None)
        super().end()


class MessageIterator:
    """See `Subscription.messages`."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Msg:
        subscription = self._subscription

        def look() -> tuple[Msg | None] | None:
            if subscription._pending:
                return (subscription._pending.popleft(),)
            return None if subscription._interest else (None,)

        (message,) = await subscription.context.clock.wait(look)
        if message is None:
            raise StopAsyncIteration
        return message


class Connection(ClientObject):
    """A connection, in the shape of ``nats.aio.client.Client``."""

    label: ClassVar[str] = "connection"

    def __init__(
        self,
        double: NatsDouble,
        number: int,
        *,
        internal: bool = False,
        no_echo: bool = False,
        inbox_prefix: str | bytes = b"_INBOX",
        drain_timeout: float = 30,
        **callbacks: Any,
    ) -> None:
        super().__init__(double)
        self._nats = double
        self._internal = internal
        self._callbacks = callbacks
        self._subscriptions: dict[int, Subscription] = {}
        self._sids = 0
        self._inboxes = 0
        self._prefix = inbox_prefix.decode() if isinstance(inbox_prefix, bytes) else inbox_prefix
        self._drain_timeout = drain_timeout
        self.no_echo = no_echo
        self.client_id = number
        self.is_closed = False
        self.is_draining = False
        self.last_error: Exception | None = None
        self.stats = {"in_msgs": 0, "out_msgs": 0, "in_bytes": 0, "out_bytes": 0, "reconnects": 0, "errors_received": 0}

    def __repr__(self) -> str:
        return f"<Connection {self.client_id} of {self.double.name!r}>"

    @property
    def is_connected(self) -> bool:
        """Whether it is open and not draining."""
        return not self.is_closed and not self.is_draining

    @property
    def max_payload(self) -> int:
        """How many bytes a message may have."""
        return MAX_PAYLOAD

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def _require_open(self, *, draining: bool = False) -> None:
        if self.is_closed:
            raise nats_error("ConnectionClosedError")
        if draining and self.is_draining:
            raise nats_error("ConnectionDrainingError")

    async def _failed(self, error: BaseException) -> None:
        assert isinstance(error, Exception)
        self.last_error = error
        if (callback := self._callbacks.get("error_cb")) is not None:
            await callback(error)
        else:
            self._nats.background.errors.append(error)

    @operation
    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Publish to the present subscribers."""
        self._publish(subject, payload, reply, headers)

    def _publish(self, subject: str, payload: bytes, reply: str, headers: Mapping[str, str] | None) -> int:
        check_publish(subject)
        if reply:
            check_publish(reply)
        self._require_open()
        if len(payload) > MAX_PAYLOAD:
            raise nats_error("MaxPayloadError")
        sent = None
        if headers is not None:
            sent = {}
            for name, value in headers.items():
                key = name.strip()
                if key and not _HEADER_KEY.fullmatch(key):
                    raise nats_error("BadHeaderError", key)
                if key:
                    sent[key] = value.strip()
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(payload)
        return self._nats.deliver(subject, bytes(payload), reply, sent, self)

    @operation
    async def subscribe(
        self,
        subject: str,
        queue: str = "",
        cb: Callback | None = None,
        future: object = None,
        max_msgs: int = 0,
        pending_msgs_limit: int = 512 * 1024,
        pending_bytes_limit: int = 128 * 1024 * 1024,
    ) -> Subscription:
        """Subscribe: with a coroutine function to call, or to be read from.

        Args:
            subject: ``*`` matches one token, ``>`` at the end one or more.
            queue: of those with the same one, only one gets a message.
            cb: called with one message after the other.
            future: refused: the client's own way of waiting for one message.
            max_msgs: end it after so many messages.
            pending_msgs_limit: how many messages may wait; further ones are dropped, with ``SlowConsumerError``.
            pending_bytes_limit: likewise for their size.
        """
        if future is not None:
            raise ConfigurationError(
                "subscribe(future=...) is not modelled; use next_msg(), or a callback that sets it", name="future"
            )
        subscription = self._subscribe(subject, queue, cb)
        subscription._max = max_msgs
        limits: Any = (pending_msgs_limit, pending_bytes_limit)
        subscription._limits = limits
        return subscription

    def _subscribe(self, subject: str, queue: str = "", cb: Callback | None = None) -> Subscription:
        check_subscribe(subject, queue)
        self._require_open(draining=True)
        if cb is not None and not inspect.iscoroutinefunction(getattr(cb, "func", cb)):
            raise nats_error("Error", "nats: must use coroutine for subscriptions")
        self._sids += 1
        subscription = Subscription(self, self._sids, subject, queue, cb, 0)
        self._subscriptions[self._sids] = subscription
        return subscription

    @operation
    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float = 0.5,
        old_style: bool = False,  # noqa: FBT001, FBT002
        headers: dict[str, Any] | None = None,
    ) -> Msg:
        """Publish and wait for the first answer.

        Raises:
            NoRespondersError: if *subject* has no subscribers.
            TimeoutError: no answer within *timeout* seconds; ``nats.errors.TimeoutError``.
        """
        check_publish(subject)
        self._require_open()
        inbox = self._subscribe(self.new_inbox())
        inbox._internal = True
        try:
            if not self._publish(subject, payload, inbox.subject, headers):
                raise nats_error("NoRespondersError")
            return await inbox._next(timeout)
        finally:
            inbox.end()

    def new_inbox(self) -> str:
        """Return a unique subject."""
        self._inboxes += 1
        return f"{self._prefix}.{self.client_id}.{self._inboxes}"

    @operation
    async def flush(self, timeout: float = 10) -> None:
        """Wait until the server has everything: it has."""
        self._require_open()

    @operation
    async def drain(self) -> None:
        """End the subscriptions when what has come is done with, then close."""
        if self.is_draining:
            return
        self._require_open()
        subscriptions = tuple(self._subscriptions.values())
        self.is_draining = True
        with anyio.move_on_after(self._drain_timeout):
            for each in subscriptions:
                if each._cb is not None:
                    await each._drain()
        await self._close()

    @operation
    async def close(self) -> None:
        """Close it; doing it again changes nothing."""
        await self._close()

    async def _close(self) -> None:
        if not self.is_closed:
            self._close_now()
            await self._tell_end()

    async def _tell_end(self) -> None:
        for name in ("disconnected_cb", "closed_cb"):
            if (callback := self._callbacks.get(name)) is not None:
                await callback()

    def _close_now(self) -> None:
        self.is_closed, self.is_draining = True, False
        for each in tuple(self._subscriptions.values()):
            each.end()
        super().end()
        self.context.clock.notify()

    @operation
    def jetstream(self, /, **options: Any) -> JetStream:
        """Return the JetStream of the server."""
        from isolation_core.services.nats._double import JETSTREAM_OPTIONS
        from isolation_core.services.nats._jetstream import JetStream

        JETSTREAM_OPTIONS.check(options)
        return JetStream(self)

    def connection_lost(self, error: BaseException) -> None:
        """It is closed, as nats-py's is when it cannot reconnect; the callbacks are called."""
        if self.is_closed:
            return
        self.last_error = error if isinstance(error, Exception) else None
        self._close_now()
        self._nats.background.start(self._tell_end, "nats callbacks")

    def problems(self) -> tuple[str, ...]:
        if self.is_closed or self._internal:
            return ()
        return (f"connection {self.client_id} was not closed",)

    def end(self) -> None:
        if not self.is_closed:
            self._close_now()
        super().end()


def body_of(value: object) -> bytes:
    """Return bytes for what a user publishes: text is encoded, anything else is JSON."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


def matching(subscriptions: list[Subscription], subject: str) -> list[Subscription]:
    """Return those that ask for *subject*."""
    return [each for each in subscriptions if each._interest and fits(each.subject, subject)]
