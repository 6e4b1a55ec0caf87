"""What a Redis double hands out: clients, pipelines, subscriptions and locks of redis.asyncio, with the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

from isolation_core._drive import is_trio
from isolation_core.services._operations import operation
from isolation_core.services._recorded import Recorded, adopt, combined, quiet
from isolation_core.services.redis._commands import recorded_operations
from isolation_core.services.redis._errors import RedisLoopError

if TYPE_CHECKING:
    from isolation_core.services.redis._double import RedisDouble

__all__ = [
    "Connected",
    "RedisClient",
    "RedisLock",
    "RedisPipeline",
    "RedisPubSub",
    "all_classes",
    "client_of",
    "require_asyncio",
]


def require_asyncio() -> None:
    """Raise under trio.

    Raises:
        RedisLoopError: saying what to do.
    """
    if asyncio._get_running_loop() is None and is_trio():
        raise RedisLoopError


class Connected:
    """What the double and its further clients share: they hand out pipelines, subscriptions, locks and clients."""

    _options: dict[str, Any]

    @property
    def _real(self) -> Any:
        raise NotImplementedError

    def _double_of(self) -> RedisDouble:
        raise NotImplementedError

    @operation(shape="sync")
    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> RedisPipeline:  # noqa: FBT001, FBT002
        """Return a pipeline; with *transaction*, its commands are one."""
        made: RedisPipeline = _as(_plainly(self._real, "pipeline", transaction, shard_hint), self._double_of())
        return made

    @operation(shape="sync")
    def pubsub(self, /, **options: Any) -> RedisPubSub:
        """Return a subscription, to nothing yet."""
        made: RedisPubSub = _as(_plainly(self._real, "pubsub", **options), self._double_of())
        return made

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
        """Return a lock."""
        double = self._double_of()
        real = (lock_class or double._lock_class)(
            self._real, name, timeout=timeout, sleep=sleep, blocking=blocking, blocking_timeout=blocking_timeout,
            thread_local=thread_local, raise_on_release_error=raise_on_release_error,
        )  # fmt: skip
        made: RedisLock = _as(real, double)
        return made

    @operation
    async def transaction(
        self, func: Callable[[Any], Any], *watches: Any, shard_hint: str | None = None,
        value_from_callable: bool = False, watch_delay: float | None = None,
    ) -> Any:  # fmt: skip
        """Run *func* with a pipeline that watches keys, again if one changed meanwhile."""
        from redis.asyncio.client import Redis  # not the name that install() replaces

        # The commands of *func* are the user's, and logged.
        with quiet(on=False):
            return await Redis.transaction(
                self, func, *watches, shard_hint=shard_hint,  # type: ignore[arg-type]
                value_from_callable=value_from_callable, watch_delay=watch_delay,
            )  # fmt: skip

    @operation(shape="sync")
    def client(self) -> RedisClient:
        """Return a further client of the same server, with the same options."""
        return client_of(self._double_of(), self._options)


def _plainly(real: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """Call a method of the client itself, not the operation of that name."""
    method = getattr(type(real)._plain if isinstance(real, RedisClient) else type(real), name)
    return method(real, *args, **kwargs)


class RedisClient(Connected, Recorded):
    """A client of redis.asyncio on the same server. Made by `RedisDouble.new_client`."""

    label: ClassVar[str] = "client"
    _plain: ClassVar[Any]
    _double: RedisDouble

    @property
    def _real(self) -> Any:
        return self

    def _double_of(self) -> RedisDouble:
        return self._double

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @operation
    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 - the real one's
        """Close its connections; the next command opens new ones."""
        with quiet():
            await self._plain.aclose(self, close_connection_pool)

    async def close(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 - likewise
        """Close it; the older name of `aclose`."""
        await self.aclose(close_connection_pool)


class RedisPipeline(Recorded):
    """Commands that are sent together; each gives the pipeline back, except after `watch`, where it runs at once."""

    label: ClassVar[str] = "pipeline"
    command_stack: list[Any]

    async def __aenter__(self) -> Self:
        require_asyncio()
        return self

    async def __aexit__(self, *_: object) -> None:
        with quiet():
            await self.reset()
        self.end()

    def __bool__(self) -> bool:
        return True

    def problems(self) -> tuple[str, ...]:
        """Tell what was queued and never executed."""
        queued = [" ".join(map(str, entry[0][:2])) for entry in self.__dict__.get("command_stack", ())]
        if not queued:
            return ()
        return (f"a pipeline holds {len(queued)} commands that were never executed: {', '.join(queued[:5])}",)


class RedisPubSub(Recorded):
    """A subscription to channels and patterns."""

    label: ClassVar[str] = "pubsub"
    channels: dict[Any, Any]
    patterns: dict[Any, Any]
    subscribed: bool
    _plain: ClassVar[Any]

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @operation
    async def aclose(self) -> None:
        """End it."""
        with quiet():
            await self._plain.aclose(self)
        self.end()

    def problems(self) -> tuple[str, ...]:
        """Tell whether it is still open."""
        if not self.subscribed:
            return ()
        names = [str(name) for name in (*self.channels, *self.patterns)]
        return (f"a subscription to {', '.join(names)} was never closed",)


class RedisLock(Recorded):
    """A lock held by a key."""

    label: ClassVar[str] = "lock"
    name: Any
    local: Any

    def problems(self) -> tuple[str, ...]:
        """Tell whether it is still held."""
        held = getattr(self.__dict__.get("local"), "token", None)
        return () if held is None else (f"the lock {self.name!r} was never released",)


@cache
def _recorded_class(plain: Any) -> type[Recorded]:
    """Return the class of objects of the client's class *plain* that belong to a double."""
    from redis.asyncio.client import (
        Pipeline,
        PubSub,
        Redis,  # not the name that install() replaces
    )

    base: type[Recorded] = (
        RedisPipeline if issubclass(plain, Pipeline)
        else RedisClient if issubclass(plain, Redis)
        else RedisPubSub if issubclass(plain, PubSub)
        else RedisLock
    )  # fmt: skip
    operations = recorded_operations(plain, queues=base is RedisPipeline)
    own = {name: each for name, each in operations.items() if not hasattr(base, name)}
    return combined(base, plain, {"_plain": plain, **own})


@cache
def all_classes() -> tuple[type[Recorded], ...]:
    """Return the classes of what doubles hand out, so that rules can name their operations before there is any."""
    from redis.asyncio.client import (
        Pipeline,
        PubSub,
        Redis,  # not the name that install() replaces
    )
    from redis.asyncio.lock import Lock

    return tuple(map(_recorded_class, (Redis, Pipeline, PubSub, Lock)))


def _as(real: Any, double: RedisDouble) -> Any:
    cls: Any = type(real)
    return adopt(real, _recorded_class(cls), double)


def client_of(double: RedisDouble, options: dict[str, Any]) -> RedisClient:
    """Return a client of redis.asyncio on the server of *double*."""
    require_asyncio()
    made: RedisClient = _as(double._make(options), double)
    made._options = options
    return made
