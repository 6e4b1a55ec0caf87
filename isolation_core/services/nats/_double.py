"""`NatsDouble`: a NATS server in memory, with connections in the shape of nats-py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from attrs import evolve

from isolation_core._backends import BackendKind, choose_backend
from isolation_core._drive import is_trio
from isolation_core.services._background import Background
from isolation_core.services._double import ServiceDouble
from isolation_core.services._operations import operation
from isolation_core.services._options import Options
from isolation_core.services._recorded import quiet
from isolation_core.services._types import ServiceType
from isolation_core.services.nats._client import Callback, Connection, Msg, Subscription, body_of, matching
from isolation_core.services.nats._errors import nats_class, nats_error
from isolation_core.services.nats._streams import Streams

if TYPE_CHECKING:
    from isolation_core.services._context import MockContext
    from isolation_core.services.nats._real import RealServer

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
        backend: ``virtual``, in memory, or ``real``, an embedded server; by default the real one where
            ``isolation-core[nats]`` is installed, except in virtual time and on trio.
        url: the address of your server.

    Attributes:
        streams: what JetStream keeps.
        background: the tasks of callbacks; its ``errors`` are what they raised where no *error_cb* was given.
    """

    service: ClassVar[str] = ServiceType.NATS
    _client_modules: ClassVar[tuple[str, ...]] = (
        "isolation_core.services.nats._jetstream",
        "isolation_core.services.nats._keyvalue",
    )

    def __init__(
        self,
        context: MockContext | None = None,
        *,
        name: str | None = None,
        backend: BackendKind | None = None,
        url: str | None = None,
    ) -> None:
        super().__init__(context, name=name)
        self._backend = choose_backend("nats", backend=backend, url=url)
        self._real_server: RealServer | None = None
        self.streams = Streams(self.context.clock)
        self.background = Background()
        self._acknowledgement: tuple[str, int, bool] | BaseException | None = None
        self._connections = 0
        self._own: Connection | None = None
        self._turns: dict[tuple[str, str], int] = {}

    # -- connections -----------------------------------------------------------------

    @operation
    async def open_connection(self, /, servers: object = None, **options: Any) -> Any:
        """Open a connection, as ``nats.connect`` does; it connects the double too.

        Raises:
            TypeError: for an option that nats-py does not have.
        """
        CONNECT_OPTIONS.check(options)
        if (server := self._real()) is not None:
            self._connected()
            return await server.connect(options)
        self._connected()
        self._connections += 1
        return Connection(self, self._connections, **options)

    def _real(self) -> RealServer | None:
        """Return the real server behind it, if that is its backend."""
        if self._backend.kind != "real":
            return None
        if self._real_server is None:
            why = "virtual time" if self.context.clock.is_virtual else "trio" if is_trio() else ""
            if why and not self._backend.pinned:
                self._backend = evolve(self._backend, kind="virtual", origin=why)
                return None
            from isolation_core.services.nats._real import RealServer

            self._real_server = RealServer(self, self._backend.url)
        return self._real_server

    @operation
    async def connect(self) -> Self:
        """Connect; with a real server, start it if it does not run yet."""
        if (server := self._real()) is not None:
            await server.own()
        self._connected()
        return self

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
        if (server := self._real()) is not None:
            self._require_connected()
            with quiet():
                await (await server.own()).publish(subject, body_of(payload), reply, headers)
            return
        self._connection()._publish(subject, body_of(payload), reply, headers)

    @operation
    async def subscribe(self, subject: str, queue: str = "", cb: Callback | None = None) -> Any:
        """Subscribe, as `Connection.subscribe`."""
        if (server := self._real()) is not None:
            self._require_connected()
            own = await server.own()
            return await type(own).subscribe.function(own, subject, queue, cb)
        return self._connection()._subscribe(subject, queue, cb)

    @operation
    async def request(
        self,
        subject: str,
        payload: object = b"",
        timeout: float = 0.5,
        headers: dict[str, Any] | None = None,
    ) -> Any:
        """Publish and wait for the first answer, as `Connection.request`."""
        if (server := self._real()) is not None:
            self._require_connected()
            with quiet():
                return await (await server.own()).request(subject, body_of(payload), timeout, headers=headers)
        connection = self._connection()
        answer: Msg = await Connection.request.function(connection, subject, body_of(payload), timeout, False, headers)  # noqa: FBT003
        return answer

    @operation
    def jetstream(self, /, **options: Any) -> Any:
        """Return the JetStream of the server."""
        from isolation_core.services.nats._jetstream import JetStream

        if (server := self._real()) is not None:
            self._require_connected()
            return server.here().jetstream(**options)
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
        if self._real_server is not None:
            self._real_server.stale = True

    @property
    def needs_await(self) -> bool:
        """Whether there is a real server to leave."""
        return self._real_server is not None

    async def close(self) -> None:
        """End it; what it left on a real server is removed."""
        server, self._real_server = self._real_server, None
        if server is not None and not self._closed:
            await server.leave()
        self.close_now()

    def close_now(self) -> None:
        """End it; the next user of the account of a real server removes what is left."""
        if self._real_server is not None:
            self._real_server.give_up()
        super().close_now()

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
        own = self._own if self._real_server is None else self._real_server.found()
        if own is not None:
            own.connection_lost(error)

    def _disconnect_now(self) -> None:
        super()._disconnect_now()
        self.background.cancel()
        self._own = None
