"""`NatsDouble`: a NATS server in memory, with connections in the shape of nats-py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from isolation_core.services._background import Background
from isolation_core.services._double import ServiceDouble
from isolation_core.services._operations import operation
from isolation_core.services._options import Options
from isolation_core.services._types import ServiceType
from isolation_core.services.nats._client import Callback, Connection, Msg, Subscription, body_of, matching
from isolation_core.services.nats._errors import nats_class, nats_error
from isolation_core.services.nats._streams import Streams

if TYPE_CHECKING:
    from isolation_core.services._context import MockContext
    from isolation_core.services.nats._jetstream import JetStream

__all__ = ["CONNECT_OPTIONS", "JETSTREAM_OPTIONS", "NatsDouble"]


# Where a server is, how to log in and how to come back to it says nothing in memory.
CONNECT_OPTIONS: Final = Options(
    "nats.connect",
    modelled="error_cb disconnected_cb closed_cb reconnected_cb no_echo inbox_prefix drain_timeout",
    harmless="discovered_server_cb name pedantic verbose allow_reconnect connect_timeout reconnect_time_wait "
    "max_reconnect_attempts ping_interval max_outstanding_pings dont_randomize flusher_queue_size tls tls_hostname "
    "tls_handshake_first user password token signature_cb user_jwt_cb user_credentials nkeys_seed nkeys_seed_str "
    "pending_size flush_timeout ws_connection_headers reconnect_to_server_handler lame_duck_mode_cb "
    "skip_subject_validation",
)
JETSTREAM_OPTIONS: Final = Options(
    "Client.jetstream", harmless="timeout publish_async_max_pending", refused={"prefix": "$JS.API", "domain": None}
)


class NatsDouble(ServiceDouble):
    """A NATS server in memory, with JetStream.

    `open_connection` replaces ``nats.connect``. For tests that need no connections of their own,
    the double itself publishes, subscribes and requests.

    Args:
        context: the context it belongs to; None: that of the current barrier.
        name: its name in the log.

    Attributes:
        streams: what JetStream keeps.
        background: the tasks of callbacks; its ``errors`` are what they raised where no *error_cb* was given.
    """

    service: ClassVar[str] = ServiceType.NATS
    _client_modules: ClassVar[tuple[str, ...]] = (
        "isolation_core.services.nats._jetstream",
        "isolation_core.services.nats._keyvalue",
    )

    def __init__(self, context: MockContext | None = None, *, name: str | None = None) -> None:
        super().__init__(context, name=name)
        self.streams = Streams(self.context.clock)
        self.background = Background()
        self._acknowledgement: tuple[str, int, bool] | BaseException | None = None
        self._connections = 0
        self._own: Connection | None = None
        self._turns: dict[tuple[str, str], int] = {}

    # -- connections -----------------------------------------------------------------

    @operation
    async def open_connection(self, /, servers: object = None, **options: Any) -> Connection:
        """Open a connection, as ``nats.connect`` does; it connects the double too.

        Raises:
            TypeError: for an option that nats-py does not have.
        """
        CONNECT_OPTIONS.check(options)
        self.is_connected = True
        self._connections += 1
        return Connection(self, self._connections, **options)

    def _connection(self) -> Connection:
        self._require_connected()
        own = self._own
        if own is None or own.is_closed:
            self._connections += 1
            own = self._own = Connection(self, self._connections, internal=True)
        return own

    def acknowledgement(self) -> tuple[str, int, bool] | BaseException | None:
        """Return what a stream has answered since it was last asked: its name, sequence, duplicate or not."""
        found, self._acknowledgement = self._acknowledgement, None
        return found

    def deliver(
        self, subject: str, data: bytes, reply: str, headers: Mapping[str, str] | None, sender: Connection | None = None
    ) -> int:
        """Give a message to everybody who asks for it, and to the stream that keeps it; returns to how many."""
        clients = [each for each in self._clients.values() if isinstance(each, Connection)]
        groups: dict[tuple[str, str], list[Subscription]] = {}
        chosen: list[Subscription] = []
        for client in clients:
            for each in matching(list(client._subscriptions.values()), subject):
                if client is sender and client.no_echo:
                    continue
                if each.queue:
                    groups.setdefault((each.queue, each.subject), []).append(each)
                else:
                    chosen.append(each)
        for key, members in groups.items():
            # The server picks one by chance; here they take turns, so that a test repeats.
            turn = self._turns[key] = self._turns.get(key, -1) + 1
            chosen.append(members[turn % len(members)])
        for each in chosen:
            connection = each._connection
            connection.stats["in_msgs"] += 1
            connection.stats["in_bytes"] += len(data)
            each._receive(Msg(connection, subject, reply, data, headers, each._sid))
        stream = self.streams.keeping(subject)
        if stream is not None:
            try:
                seq, duplicate = stream.store(subject, data, headers)
                self._acknowledgement = stream.name, seq, duplicate
            except nats_class("js.APIError") as error:
                self._acknowledgement = error
        return len(chosen) + (stream is not None)

    # -- without connections ---------------------------------------------------------

    @operation
    async def publish(
        self, subject: str, payload: object = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Publish: bytes; text is encoded, anything else is JSON."""
        self._connection()._publish(subject, body_of(payload), reply, headers)

    @operation
    async def subscribe(self, subject: str, queue: str = "", cb: Callback | None = None) -> Subscription:
        """Subscribe, as `Connection.subscribe`."""
        return self._connection()._subscribe(subject, queue, cb)

    @operation
    async def request(
        self,
        subject: str,
        payload: object = b"",
        timeout: float = 0.5,
        headers: dict[str, Any] | None = None,
    ) -> Msg:
        """Publish and wait for the first answer, as `Connection.request`."""
        connection = self._connection()
        answer: Msg = await Connection.request.function(connection, subject, body_of(payload), timeout, False, headers)  # noqa: FBT003
        return answer

    @operation
    def jetstream(self, /, **options: Any) -> JetStream:
        """Return the JetStream of the server."""
        from isolation_core.services.nats._jetstream import JetStream

        JETSTREAM_OPTIONS.check(options)
        return JetStream(self._connection())

    # -- for those who use it ------------------------------------------------------

    def reset(self) -> None:
        """Bring it back to how it was made: no streams, no connections."""
        super().reset()
        self.background.cancel()
        self.background = Background()
        for name in tuple(self.streams.by_name):
            self.streams.delete(name)
        self.streams = Streams(self.context.clock)
        self._connections = 0
        self._own = None
        self._turns.clear()

    def problems(self) -> tuple[str, ...]:
        """Return unacknowledged messages, open connections and subscriptions, and errors of callbacks."""
        found = list(super().problems())
        for stream in self.streams.by_name.values():
            for consumer in stream.consumers.values():
                if count := len(consumer.pending):
                    messages = "1 message" if count == 1 else f"{count} messages"
                    found.append(f"{messages} of {stream.name!r} delivered to {consumer.name!r} and not acknowledged")
        return (*found, *(f"a callback raised {error!r}" for error in self.background.errors))

    def fault_error(self, kind: str) -> BaseException:
        """Return what nats-py raises for *kind*."""
        names = {"timeout": "TimeoutError", "disconnected": "ConnectionClosedError", "unavailable": "NoServersError"}
        return (
            nats_error(names[kind]) if kind in names else nats_error("Error", f"{self.name}: {kind}, by the fault plan")
        )

    def connection_lost(self, error: BaseException) -> None:
        """Its own connection is closed; the next call has a new one."""
        if self._own is not None:
            self._own.connection_lost(error)

    def _disconnect_now(self) -> None:
        super()._disconnect_now()
        self.background.cancel()
        self._own = None
