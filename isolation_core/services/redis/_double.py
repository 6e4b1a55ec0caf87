"""`RedisDouble`: fakeredis, or a real server with a key prefix, behind the mock API."""

from __future__ import annotations

import asyncio
import uuid
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

from isolation_core.errors import ConfigurationError
from isolation_core.services._clients import client_class as error_class
from isolation_core.services._context import MockContext
from isolation_core.services._double import ServiceDouble
from isolation_core.services._operations import operation
from isolation_core.services._types import ServiceType
from isolation_core.services.redis._clients import Connected, RedisClient, all_classes, client_of, require_asyncio
from isolation_core.services.redis._commands import delegating_operations
from isolation_core.services.redis._fake import connection_class, fake_server, lock_class, required
from isolation_core.services.redis._prefix import Prefix, prefixed_client_class

if TYPE_CHECKING:
    from isolation_core.services._interactions import Interaction
    from isolation_core.services._operations import Operable

__all__ = ["RedisDouble"]

_FAULTS = {
    "unavailable": ("ConnectionError", ConnectionError),
    "disconnected": ("ConnectionError", ConnectionError),
    "timeout": ("TimeoutError", TimeoutError),
    "rejected": ("ResponseError", ValueError),
}


class RedisDouble(Connected, ServiceDouble):
    """A Redis server of its own and a client of redis.asyncio, every command of which is a mock too.

    Like the real client it needs no `connect` before the first command. Keys
    expire by the clock of the context. It runs on asyncio only. What it hands out are objects of redis-py's own
    classes.

    Args:
        context: what it belongs to; None: that of the current barrier.
        name: what the log calls it.
        url: of a real server to use instead of fakeredis. Every key and channel gets a prefix of this double's own,
            and all of them are removed when it is closed. Time is real then.
        **options: for the client, as for ``redis.asyncio.Redis``: ``decode_responses``, ``db``, ...

    Raises:
        MissingRedisError: if redis or fakeredis is not installed.
    """

    service: ClassVar[str] = ServiceType.REDIS
    _per_loop: tuple[object, Any] | None = None

    def __new__(
        cls,
        context: MockContext | None = None,  # noqa: ARG004 - for __init__, as all of them
        *,
        name: str | None = None,  # noqa: ARG004
        url: str | None = None,  # noqa: ARG004
        **options: Any,  # noqa: ARG004
    ) -> Self:
        made: Self = object.__new__(_with_commands(cls))
        return made

    def __init__(
        self, context: MockContext | None = None, *, name: str | None = None, url: str | None = None, **options: Any
    ) -> None:
        super().__init__(context, name=name)
        self._options = options
        self._url = url
        self._passing: list[Any] = []
        self._server: Any = None if url is not None else fake_server(self.context.clock)
        self._prefixes = [_new_prefix()]
        self._opened: list[tuple[object, Any]] = []  # over a real server, with the loop of each

    def _double_of(self) -> Self:
        return self

    @property
    def _real(self) -> Any:
        """The client of redis.asyncio for the running loop: its connections cannot leave the loop they were made in."""
        require_asyncio()
        loop = asyncio._get_running_loop()
        if self._per_loop is None or (self._per_loop[0] is not loop and loop is not None):
            self._per_loop = (loop, self._make(self._options))
        return self._per_loop[1]

    @operation(shape="sync")
    def new_client(self, /, **options: Any) -> RedisClient:
        """Return a client of redis.asyncio on this server, with options of ``redis.asyncio.Redis``."""
        return client_of(self, {**self._options, **options})

    @operation(shape="sync")
    def from_url(self, /, url: str, **options: Any) -> RedisClient:
        """Return a client of this server: of the URL only the database and the options count."""
        from redis.asyncio.connection import parse_url

        parsed = {key: value for key, value in parse_url(url).items() if key in ("db", "decode_responses", "protocol")}
        return client_of(self, {**self._options, **parsed, **options})

    def _make(self, options: dict[str, Any]) -> Any:
        if self._url is not None:
            return self._make_real(self._url, options)
        from fakeredis.aioredis import FakeRedis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        # Retries of the real client sleep for real, and a fake connection does not recover by itself.
        known = {"retry": Retry(NoBackoff(), 0), "connection_class": connection_class(), **options}
        return FakeRedis(server=self._server, **known)

    def _make_real(self, url: str, options: dict[str, Any]) -> Any:
        client = prefixed_client_class().from_url(url, **options)
        client.prefix = self._prefixes[-1]
        self._opened.append((asyncio._get_running_loop(), client))
        return client

    @property
    def _lock_class(self) -> Any:
        return lock_class() if self._url is None else _plain_lock_class()

    @operation
    async def connect(self) -> Self:
        """Connect and see whether the server answers."""
        await self._real.ping()
        self.is_connected = True
        self.context.clock.notify()
        return self

    @operation
    async def disconnect(self) -> None:
        """Close every connection; like with the real client, the next command opens a new one."""
        await self._close_connections()
        self._disconnect_now()

    @operation
    async def health_check(self) -> dict[str, Any]:
        """Return how it is, with the number of keys."""
        if self._url is not None:
            await self._real.ping()
            found = [key async for key in self._real.scan_iter()]
            return {"service": str(self.service), "name": self.name, "status": "up", "keys": len(found)}
        keys = sum(len(database) for database in self._server.dbs.values())
        return {"service": str(self.service), "name": self.name, "status": "up", "keys": keys}

    @operation
    async def aclose(self) -> None:
        """Close the connections of this client; the next command opens new ones."""
        if self._per_loop is not None and self._per_loop[0] is asyncio.get_running_loop():
            await self._per_loop[1].aclose()

    @operation(shape="sync")
    def sync_client(self, /, **options: Any) -> Any:
        """Return a synchronous client (`redis.Redis`) of the same server; its commands are logged as `command`.

        Blocking commands of it wait in real time.

        Raises:
            ConfigurationError: over a real server, for nothing would keep it inside the prefix.
        """
        if self._url is not None:
            raise ConfigurationError(
                f"{self.name} is over a real server, where only asynchronous clients stay inside its prefix; "
                "make the double without url=",
                name="url",
                value=self._url,
            )
        return _sync_class()(self, {**self._options, **options})

    @operation(shape="sync")
    def command(self, *args: Any) -> Any:
        """Run a command of a synchronous client. Called by those."""
        client, options, arguments = self._passing.pop()
        return client._execute(*arguments, **options)

    @property
    def server(self) -> Any:
        """The `fakeredis.FakeServer` behind it, for code under test that makes clients of its own."""
        return self._server

    def fault_error(self, kind: str) -> BaseException:
        """Return the exception of redis-py for *kind*."""
        name, base = _FAULTS.get(kind, ("RedisError", Exception))
        return error_class("redis.exceptions", name, base)(f"{self.name}: {kind}, by the fault plan")

    def call_timeout(self, target: Operable, entry: Interaction) -> float | None:
        """Return the ``socket_timeout`` of the client; what commands take is for the server, which does not answer."""
        if entry.operation == "get_message":
            return super().call_timeout(target, entry)
        options: dict[str, Any] = getattr(target, "_options", self._options)
        return options.get("socket_timeout")

    def call_timed_out(self, target: Operable, entry: Interaction) -> Any:
        """Return None where a subscription was asked for a message; raise otherwise."""
        return None if entry.operation == "get_message" else super().call_timed_out(target, entry)

    def reset(self) -> None:
        """Empty the server, and end everything that waits."""
        super().reset()
        self._cut_off()
        if self._url is None:
            self._server = fake_server(self.context.clock)
        else:
            # What is under the old prefix is removed at the end, when it can be awaited.
            self._prefixes.append(_new_prefix())
        self._per_loop = None

    @property
    def needs_await(self) -> bool:
        """Whether something waits in the running loop, or there is something to remove from a real server."""
        loop = asyncio._get_running_loop()
        if self._url is not None:
            return len(self._prefixes) > 1 or self._per_loop is not None
        return loop is not None and bool(self._waiting())

    async def close(self) -> None:
        """End it, and wait for what still waited; remove what it left on a real server."""
        if self.needs_await and self._url is not None:
            await self._remove(self._url)
        tasks = self._waiting()
        self.close_now()
        if tasks:
            require_asyncio()
            await asyncio.wait(tasks)

    def close_now(self) -> None:
        """End it; blocked commands are cut off."""
        self._cut_off()
        super().close_now()

    async def _close_connections(self) -> None:
        if self._per_loop is not None and self._per_loop[0] is asyncio.get_running_loop():
            await self._per_loop[1].aclose()

    async def _remove(self, url: str) -> None:
        from redis.asyncio.client import Redis  # not the name that install() replaces

        loop = asyncio.get_running_loop()
        for opened_in, opened in self._opened:
            # Those of a loop that has ended went with it.
            if opened_in is loop:
                await opened.aclose()
        self._opened.clear()
        async with Redis.from_url(url) as client:
            for prefix in self._prefixes:
                keys = [key async for key in client.scan_iter(match=prefix.put("*"), count=1000)]
                if keys:
                    await client.unlink(*keys)
        self._prefixes = [_new_prefix()]
        self._per_loop = None

    def _waiting(self) -> list[Any]:
        if self._server is None:
            return []
        tasks = [getattr(socket, "waiting", None) for socket in self._server.sockets]
        return [task for task in tasks if task is not None and not task.done()]

    def _cut_off(self) -> None:
        for task in self._waiting():
            if not task.get_loop().is_closed():
                task.cancel()


def _redis() -> Any:
    from redis.asyncio.client import Redis  # not the name that install() replaces

    return Redis


@cache
def _with_commands(cls: type[Any]) -> type[Any]:
    """Return *cls* with the commands of the installed redis; what it has itself stays."""
    # Without redis this is where it says so, before a context gets to know of the double.
    required()
    all_classes()
    found = {name: each for name, each in delegating_operations(_redis()).items() if not hasattr(cls, name)}
    return type(cls.__name__, (cls,), {"__doc__": cls.__doc__, "__module__": cls.__module__, **found})


def _new_prefix() -> Prefix:
    return Prefix(f"isolation:{uuid.uuid4().hex}:")


@cache
def _plain_lock_class() -> Any:
    from redis.asyncio.lock import Lock

    # The real one keeps its scripts on the class, bound to the first client there ever was.
    scripts = {"lua_release": None, "lua_extend": None, "lua_reacquire": None}
    return type("Lock", (Lock,), scripts)


@cache
def _sync_class() -> Any:
    import fakeredis

    class SyncRedis(fakeredis.FakeRedis):
        """A synchronous client whose commands are operations of a double."""

        def __init__(self, double: RedisDouble, options: dict[str, Any]) -> None:
            self._double = double
            super().__init__(server=double.server, **options)

        def execute_command(self, *args: Any, **options: Any) -> Any:
            self._double._passing.append((self, options, args))
            return self._double.command(*args)

        def _execute(self, *args: Any, **options: Any) -> Any:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    return SyncRedis
