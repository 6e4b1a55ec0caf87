"""nats-py's own classes over a real server, with log, faults and the mock API of a double."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Final

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext

from isolation_core.errors import ServiceNotConnectedError, ServiceStartError
from isolation_core.services._embedded import embedded_server
from isolation_core.services._operations import operation
from isolation_core.services._provenance import mark_message
from isolation_core.services._recorded import Recorded, adopt, combined, is_quiet, quiet, recorded
from isolation_core.services.nats._launch import ACCOUNTS

if TYPE_CHECKING:
    from isolation_core.services.nats._double import NatsDouble

__all__ = ["Account", "RealServer"]

_PREPARE: Final = "isolation_core.services.nats._launch:prepare"


def _loudly(callback: Any) -> Any:
    """Return a callback of the user's so that its calls are logged, whichever code runs it."""
    if not inspect.iscoroutinefunction(getattr(callback, "func", callback)):
        return callback

    @wraps(callback)
    async def call(*args: Any) -> Any:
        with quiet(on=False):
            return await callback(*args)

    return call


class _Connection(Recorded):
    label: ClassVar[str] = "connection"

    @property
    def _client(self) -> Any:
        return self

    def _build_message(self, *args: Any) -> Any:
        message: Any = Client._build_message(self._client, *args)
        return None if message is None else mark_message(message, self.double)

    @operation
    async def subscribe(
        self, subject: str, queue: str = "", cb: Callable[[Any], Any] | None = None, future: Any = None,
        max_msgs: int = 0, pending_msgs_limit: int = 512 * 1024, pending_bytes_limit: int = 128 * 1024 * 1024,
    ) -> Any:  # fmt: skip
        """Subscribe, as nats-py does."""
        own = is_quiet()  # of the client itself, for its requests
        with quiet():
            made = await Client.subscribe(
                self._client, subject, queue, _loudly(cb), future, max_msgs, pending_msgs_limit, pending_bytes_limit
            )
        plain: Any = type(made)
        return made if own else adopt(made, _class_for(plain), self.double)

    @operation(shape="sync")
    def jetstream(self, /, **opts: Any) -> Any:
        """Return the JetStream of the server."""
        made = JetStreamContext(self._client, **opts)
        double: Any = self.double
        double._real_server.dirty()
        return adopt(made, _class_for(JetStreamContext), self.double)

    _internal: bool = False

    def problems(self) -> tuple[str, ...]:
        if self._client.is_closed or self._internal:
            return ()
        return (f"connection {self._client.client_id} was not closed",)

    def connection_lost(self, error: BaseException) -> None:
        """It is closed, as when it cannot reconnect; the callbacks are called."""
        client = self._client
        if client.is_closed:
            return
        client._err = error
        self.end()
        for callback in (client._disconnected_cb, client._closed_cb):
            if callback is not None:
                double: Any = self.double
                double.background.start(callback, "nats callbacks")

    def end(self) -> None:
        """It is cut off."""
        client = self._client
        if not client.is_closed:
            client._status = Client.CLOSED
            tasks = (client._reading_task, client._ping_interval_task, client._flusher_task)
            for task in (*tasks, *(each._wait_for_msgs_task for each in client._subs.values())):
                if task is not None and not task.get_loop().is_closed():
                    task.cancel()
            client._subs.clear()
            if client._transport is not None:
                try:
                    client._transport.close()
                except RuntimeError:  # its event loop is closed, and would never close the socket
                    _close_socket(client._transport)
        super().end()

    async def _leave(self) -> None:
        with quiet():
            await Client.close(self._client)
        super().end()


def _close_socket(transport: Any) -> None:
    with contextlib.suppress(AttributeError, OSError):
        of_loop = transport._io_writer.transport
        of_loop._sock.close()
        of_loop._sock = None


class _Subscription(Recorded):
    label: ClassVar[str] = "subscription"
    subject: str
    _closed: bool
    _conn: Any

    def problems(self) -> tuple[str, ...]:
        return () if self._closed or self._conn.is_closed else (f"the subscription to {self.subject!r} is open",)


class _JetStream(Recorded):
    label: ClassVar[str] = "jetstream"

    @operation
    async def subscribe(self, /, subject: str, queue: str | None = None, cb: Any = None, **options: Any) -> Any:
        """Subscribe, as nats-py does."""
        with quiet():
            js: Any = self
            return await JetStreamContext.subscribe(js, subject, queue, _loudly(cb), **options)

    @operation
    async def pull_subscribe(self, /, subject: str, durable: str | None = None, **options: Any) -> Any:
        """Make a consumer to fetch messages from, as nats-py does."""
        with quiet():
            js: Any = self
            made = await JetStreamContext.pull_subscribe(js, subject, durable, **options)
        plain: Any = type(made)
        return adopt(made, _class_for(plain), self.double)


class _Pull(Recorded):
    label: ClassVar[str] = "subscription"


_BASES: Final[dict[type[Any], type[Recorded]]] = {
    Client: _Connection,
    Subscription: _Subscription,
    JetStreamContext: _JetStream,
    JetStreamContext.PullSubscription: _Pull,
}
_NOT_OPERATIONS: Final = frozenset({"connect", "subscribe_bind", "pull_subscribe_bind"})


@cache
def _class_for(plain: Any) -> type[Recorded]:
    """Return the class of objects of nats-py's class *plain* that belong to a double."""
    base = next(base for each, base in _BASES.items() if issubclass(plain, each))
    operations = {
        name: recorded(function, name=name)
        for name in dir(plain)
        if name[:1] != "_" and name not in _NOT_OPERATIONS and not hasattr(base, name)
        and inspect.iscoroutinefunction(function := getattr(plain, name))
    }  # fmt: skip
    return combined(base, plain, operations)


class Account:
    """An account of the embedded server that no other double has; given back clean.

    Attributes:
        options: how to log in.
    """

    def __init__(self, folder: Path) -> None:
        self._file: BinaryIO | None = None
        self.options: dict[str, str] = {}
        for number in range(ACCOUNTS):
            file = (folder / f"account-{number}").open("a+b")
            if _lock(file):
                self._file = file
                self.options = {"user": f"t{number}", "password": "t"}
                return
            file.close()
        raise ServiceStartError("nats", f"all {ACCOUNTS} accounts of the embedded server are in use")

    @property
    def is_dirty(self) -> bool:
        """Whether there may be streams in it, of this double or of a process that was killed."""
        return self._file is not None and os.fstat(self._file.fileno()).st_size > 0

    def dirty(self) -> None:
        """Note that there may be streams in it."""
        if self._file is not None and not self.is_dirty:
            self._file.write(b"streams")
            self._file.flush()

    def clean(self) -> None:
        """Note that there are none."""
        if self._file is not None:
            self._file.truncate(0)

    def give_back(self) -> None:
        """Let others have it."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _lock(file: BinaryIO) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class RealServer:
    """The server behind a double: the embedded one with an account of its own, or one of the user's.

    Args:
        double: the double.
        url: of the user's server; None: the embedded one.
    """

    def __init__(self, double: NatsDouble, url: str | None) -> None:
        self._double = double
        self.url = url
        self.account: Account | None = None
        self.stale = False
        self._address = ""
        self._own: dict[Any, Any] = {}

    async def start(self) -> None:
        """Start it, or join it, and have an account."""
        if self.url is not None:
            self._address = self.url
            return
        if self.account is None:
            with self._double.context.clock.hold():
                server = await asyncio.to_thread(embedded_server, "nats", _PREPARE)
            self._address = str(server.address["url"])
            self.account = Account(server.folder)
            self.stale = True
        if self.stale:
            self.stale = False
            if self.account.is_dirty:
                await self._remove_streams()

    def dirty(self) -> None:
        """Note that JetStream is used."""
        if self.account is not None:
            self.account.dirty()

    async def _plain(self) -> Any:
        client: Any = Client()
        await client.connect(self._address, **(self.account.options if self.account else {}))
        return client

    async def connect(self, options: dict[str, Any]) -> Any:
        """Return a new connection of the user's."""
        await self.start()
        client = adopt(Client(), _class_for(Client), self._double)
        login = self.account.options if self.account else {}
        given = {name: _loudly(value) if name.endswith("_cb") else value for name, value in options.items()}
        for name in ("user", "password", "token", "user_credentials", "nkeys_seed", "nkeys_seed_str", "tls"):
            if self.account is not None:
                given.pop(name, None)  # of the server that the code would have connected to
        try:
            await client.connect(self._address, **{**given, **login})
        except BaseException:
            client.end()
            raise
        return client

    async def own(self) -> Any:
        """Return the connection of the double itself in the running loop."""
        loop = asyncio.get_running_loop()
        for each in [each for each in self._own if each.is_closed()]:
            del self._own[each]
        found = self._own.get(loop)
        if found is None or found.is_closed:
            found = self._own[loop] = await self.connect({})
            found._internal = True
        return found

    def found(self) -> Any:
        """Return the connection of the double itself in the running loop, None if there is none."""
        found = self._own.get(asyncio._get_running_loop())
        return None if found is None or found.is_closed else found

    def here(self) -> Any:
        """Return the connection of the double itself in the running loop.

        Raises:
            ServiceNotConnectedError: if there is none.
        """
        found = self.found()
        if found is None:
            raise ServiceNotConnectedError(self._double.name)
        return found

    async def _remove_streams(self) -> None:
        client = await self._plain()
        try:
            js = client.jetstream()
            for info in await js.streams_info():
                await js.delete_stream(info.config.name)
        finally:
            await client.close()
        if self.account is not None:
            self.account.clean()

    async def leave(self) -> None:
        """Close what is open, and give the account back without streams."""
        loop = asyncio.get_running_loop()
        for client in [each for each in self._double._clients.values() if isinstance(each, _Connection)]:
            task = client._client._reading_task
            if task is not None and task.get_loop() is loop:
                await client._leave()
            else:
                client.end()
        if self.account is not None:
            if self.account.is_dirty:
                await self._remove_streams()
            self.give_up()

    def give_up(self) -> None:
        """Give the account back as it is; who has it next removes what is in it."""
        self._own.clear()
        if self.account is not None:
            self.account.give_back()
            self.account = None
