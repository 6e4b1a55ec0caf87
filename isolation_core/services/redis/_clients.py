"""What a Redis double hands out: further clients, pipelines, subscriptions, locks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

from isolation_core._drive import is_trio
from isolation_core.services._double import ClientObject
from isolation_core.services._operations import operation
from isolation_core.services.redis._commands import client_operations, pipeline_operations
from isolation_core.services.redis._errors import RedisLoopError

if TYPE_CHECKING:
    from isolation_core.services.redis._double import RedisDouble

__all__ = ["Connected", "RedisClient", "RedisLock", "RedisPipeline", "RedisPubSub", "client_class", "require_asyncio"]


def require_asyncio() -> None:
    """Raise under trio.

    Raises:
        RedisLoopError: saying what to do.
    """
    if asyncio._get_running_loop() is None and is_trio():
        raise RedisLoopError


class Connected:
    """What the double and its further clients share: a real client per event loop, and what that hands out."""

    _options: dict[str, Any]
    _per_loop: tuple[object, Any] | None = None
    _connections: Callable[[dict[str, Any]], Any]

    @property
    def _real(self) -> Any:
        """The client of redis.asyncio for the running loop: its connections cannot leave the loop they were made in."""
        require_asyncio()
        loop = asyncio._get_running_loop()
        if self._per_loop is None or (self._per_loop[0] is not loop and loop is not None):
            self._per_loop = (loop, self._make(self._options))
        return self._per_loop[1]

    def _make(self, options: dict[str, Any]) -> Any:
        raise NotImplementedError

    @operation(shape="sync")
    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> RedisPipeline:  # noqa: FBT001, FBT002
        """Return a pipeline; with *transaction*, its commands are one."""
        return _pipeline_class()(self._double_of(), self._real.pipeline(transaction, shard_hint))

    @operation(shape="sync")
    def pubsub(self, /, **options: Any) -> RedisPubSub:
        """Return a subscription, to nothing yet."""
        return RedisPubSub(self._double_of(), self._real.pubsub(**options))

    @operation(shape="sync")
    def lock(
        self,
        name: str,
        timeout: float | None = None,
        sleep: float = 0.1,
        blocking: bool = True,  # noqa: FBT001, FBT002 - the real one's
        blocking_timeout: float | None = None,
        lock_class: type[Any] | None = None,
        thread_local: bool = True,  # noqa: FBT001, FBT002 - likewise
        raise_on_release_error: bool = True,  # noqa: FBT001, FBT002 - likewise
    ) -> RedisLock:
        """Return a lock; waiting for it takes virtual time."""
        double = self._double_of()
        cls = lock_class or double._lock_class
        real = cls(
            self._real, name, timeout=timeout, sleep=sleep, blocking=blocking, blocking_timeout=blocking_timeout,
            thread_local=thread_local, raise_on_release_error=raise_on_release_error,
        )  # fmt: skip
        real.clock = double.context.clock
        return RedisLock(double, real)

    @operation
    async def transaction(
        self, func: Callable[[Any], Any], *watches: Any, shard_hint: str | None = None,
        value_from_callable: bool = False, watch_delay: float | None = None,
    ) -> Any:  # fmt: skip
        """Run *func* with a pipeline that watches keys, again if one changed meanwhile."""
        from redis.exceptions import WatchError

        while True:
            async with _pipeline_class()(self._double_of(), self._real.pipeline(True, shard_hint)) as pipe:  # noqa: FBT003
                try:
                    if watches:
                        await pipe.watch(*watches)
                    value = func(pipe)
                    if isinstance(value, Awaitable):
                        value = await value
                    executed = await pipe.execute()
                except WatchError:
                    if watch_delay:
                        await self._double_of().context.clock.sleep(watch_delay)
                    continue
                return value if value_from_callable else executed

    @operation(shape="sync")
    def client(self) -> RedisClient:
        """Return a further client of the same server, with the same options."""
        return client_class()(self._double_of(), self._options)

    @operation(shape="sync")
    def new_client(self, /, **options: Any) -> RedisClient:
        """Return a further client of the same server, with options of ``redis.asyncio.Redis``."""
        return client_class()(self._double_of(), {**self._options, **options})

    @operation(shape="sync")
    def from_url(self, /, url: str, **options: Any) -> RedisClient:
        """Return a further client of the same server: of the URL only the database and the options count."""
        from redis.asyncio.connection import parse_url

        parsed = {key: value for key, value in parse_url(url).items() if key in ("db", "decode_responses", "protocol")}
        return client_class()(self._double_of(), {**self._options, **parsed, **options})

    def _double_of(self) -> RedisDouble:
        raise NotImplementedError


class RedisClient(Connected, ClientObject):
    """A further client of the same server. Made by `RedisDouble.new_client`."""

    label: ClassVar[str] = "client"

    def __init__(self, double: RedisDouble, options: dict[str, Any]) -> None:
        super().__init__(double)
        self._options = options

    def _double_of(self) -> RedisDouble:
        double: RedisDouble = self._double  # type: ignore[assignment]
        return double

    def _make(self, options: dict[str, Any]) -> Any:
        return self._double_of()._make(options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @operation
    async def aclose(self) -> None:
        """Close its connections; the next command opens new ones."""
        if self._per_loop is not None:
            await self._per_loop[1].aclose()


@cache
def client_class() -> type[RedisClient]:
    """Return `RedisClient` with the commands of the installed redis."""
    return type(
        "RedisClient", (RedisClient,), {"__doc__": RedisClient.__doc__, **_missing(RedisClient, client_operations())}
    )


def _missing(cls: type[Any], operations: dict[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in operations.items() if not hasattr(cls, name)}


@cache
def _pipeline_class() -> type[RedisPipeline]:
    operations = _missing(RedisPipeline, pipeline_operations())
    return type("RedisPipeline", (RedisPipeline,), {"__doc__": RedisPipeline.__doc__, **operations})


class RedisPipeline(ClientObject):
    """Commands that are sent together; each gives the pipeline back, except after `watch`, where it runs at once."""

    label: ClassVar[str] = "pipeline"

    def __init__(self, double: RedisDouble, real: Any) -> None:
        super().__init__(double)
        self._real = real

    def _queue(self, result: Any) -> Any:
        return self if result is self._real else result

    def __len__(self) -> int:
        return len(self._real)

    def __bool__(self) -> bool:
        return True

    async def __aenter__(self) -> Self:
        require_asyncio()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._real.reset()
        self.end()

    @operation
    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 - the real one's
        """Send what was queued; return the replies in order."""
        require_asyncio()
        replies: list[Any] = await self._real.execute(raise_on_error)
        return replies

    @operation
    async def watch(self, *names: Any) -> bool:
        """Let the transaction fail if one of these keys changes; commands run at once until `multi`."""
        require_asyncio()
        watched: bool = await self._real.watch(*names)
        return watched

    @operation
    async def unwatch(self) -> bool:
        """Forget what is watched."""
        unwatched: bool = await self._real.unwatch()
        return unwatched

    @operation
    async def discard(self) -> None:
        """Forget the transaction."""
        await self._real.discard()

    @operation(shape="sync")
    def multi(self) -> None:
        """Queue from here on."""
        self._real.multi()

    @operation
    async def reset(self) -> None:
        """Forget what was queued and watched."""
        await self._real.reset()

    def problems(self) -> tuple[str, ...]:
        """Tell what was queued and never executed."""
        queued = [" ".join(map(str, entry[0][:2])) for entry in self._real.command_stack]
        if not queued:
            return ()
        return (f"a pipeline holds {len(queued)} commands that were never executed: {', '.join(queued[:5])}",)


class RedisPubSub(ClientObject):
    """A subscription to channels and patterns."""

    label: ClassVar[str] = "pubsub"

    def __init__(self, double: RedisDouble, real: Any) -> None:
        super().__init__(double)
        self._real = real

    @property
    def channels(self) -> dict[Any, Any]:
        """The channels it listens to, with their handlers."""
        channels: dict[Any, Any] = self._real.channels
        return channels

    @property
    def patterns(self) -> dict[Any, Any]:
        """The patterns it listens to, with their handlers."""
        patterns: dict[Any, Any] = self._real.patterns
        return patterns

    @property
    def subscribed(self) -> bool:
        """Whether it listens to anything."""
        return bool(self._real.subscribed)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @operation
    async def subscribe(self, *args: Any, **kwargs: Any) -> Any:
        """Listen to channels; by keyword, each with a handler."""
        return await self._real.subscribe(*args, **kwargs)

    @operation
    async def psubscribe(self, *args: Any, **kwargs: Any) -> Any:
        """Listen to patterns."""
        return await self._real.psubscribe(*args, **kwargs)

    @operation
    async def unsubscribe(self, *args: Any) -> Any:
        """Stop listening to channels; without any, to all."""
        return await self._real.unsubscribe(*args)

    @operation
    async def punsubscribe(self, *args: Any) -> Any:
        """Stop listening to patterns; without any, to all."""
        return await self._real.punsubscribe(*args)

    @operation
    async def get_message(
        self,
        ignore_subscribe_messages: bool = False,  # noqa: FBT001, FBT002 - the real one's
        timeout: float | None = 0.0,
    ) -> Any:
        """Return the next message; None after *timeout* virtual seconds without one. None waits on."""
        return await self._real.get_message(ignore_subscribe_messages=ignore_subscribe_messages, timeout=timeout)

    @operation
    async def ping(self, message: Any = None) -> Any:
        """Ask for a pong among the messages."""
        return await self._real.ping(message)

    @operation(shape="iterating")
    async def listen(self) -> AsyncIterator[Any]:
        """Give the messages as they come, as long as it is subscribed to anything."""
        async for message in self._real.listen():
            yield message

    @operation
    async def aclose(self) -> None:
        """End it."""
        await self._real.aclose()
        self.end()

    async def close(self) -> None:
        """End it; the older name of `aclose`."""
        await self.aclose()

    def problems(self) -> tuple[str, ...]:
        """Tell whether it is still open."""
        if not self.subscribed:
            return ()
        names = [str(name) for name in (*self.channels, *self.patterns)]
        return (f"a subscription to {', '.join(names)} was never closed",)


class RedisLock(ClientObject):
    """A lock held by a key."""

    label: ClassVar[str] = "lock"

    def __init__(self, double: RedisDouble, real: Any) -> None:
        super().__init__(double)
        self._real = real
        self._held = False

    @property
    def name(self) -> Any:
        """The key."""
        return self._real.name

    @operation
    async def acquire(
        self,
        blocking: bool | None = None,  # noqa: FBT001 - the real one's
        blocking_timeout: float | None = None,
        token: str | bytes | None = None,
    ) -> bool:
        """Take it; return whether that was possible in time."""
        require_asyncio()
        self._held = bool(await self._real.acquire(blocking, blocking_timeout, token))
        return self._held

    @operation
    async def release(self) -> None:
        """Give it back; raises redis's `LockError` if it is not held."""
        await self._real.release()
        self._held = False

    @operation
    async def extend(self, additional_time: float, replace_ttl: bool = False) -> bool:  # noqa: FBT001, FBT002
        """Hold it longer."""
        return bool(await self._real.extend(additional_time, replace_ttl))

    @operation
    async def reacquire(self) -> bool:
        """Start its time anew."""
        return bool(await self._real.reacquire())

    @operation
    async def locked(self) -> bool:
        """Tell whether anybody holds it."""
        return bool(await self._real.locked())

    @operation
    async def owned(self) -> bool:
        """Tell whether this object holds it."""
        return bool(await self._real.owned())

    async def __aenter__(self) -> Self:
        if await self.acquire():
            return self
        from redis.exceptions import LockError

        raise LockError("Unable to acquire lock within the time specified")

    async def __aexit__(self, *_: object) -> None:
        from redis.exceptions import LockError

        try:
            await self.release()
        except LockError:
            self._held = False
            if self._real.raise_on_release_error:
                raise

    def problems(self) -> tuple[str, ...]:
        """Tell whether it is still held."""
        return (f"the lock {self.name!r} was never released",) if self._held else ()
