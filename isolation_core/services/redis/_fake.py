"""The server of the double: fakeredis, with the time of its clock, and an end for commands that block."""

from __future__ import annotations

import asyncio
import copy
import importlib
import importlib.util
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

from isolation_core.services._clock import Clock
from isolation_core.services.redis._errors import MissingRedisError

__all__ = ["connection_class", "fake_server", "lock_class", "member", "required"]


def required() -> Any:
    """Return fakeredis.

    Raises:
        MissingRedisError: if that or redis is not installed.
    """
    for package in ("redis", "fakeredis"):
        try:
            found = importlib.import_module(package)
        except ImportError as error:
            raise MissingRedisError(package) from error
    return found


def member(module: str, name: str) -> Any:
    """Return what *module* calls *name*; Any, for what is derived from it bends its types."""
    return getattr(importlib.import_module(module), name)


def fake_server(clock: Clock) -> Any:
    """Return a new server of its own; keys expire by *clock*.

    Raises:
        MissingRedisError: if redis or fakeredis is not installed.
    """
    server = required().FakeServer()
    if clock.is_virtual:
        database = _database_class()

        def new_database() -> Any:
            created = database(server.lock)
            created.clock = clock
            return created

        server.dbs = defaultdict(new_database)
    return server


@cache
def _database_class() -> Any:
    base: Any = type(required().FakeServer().dbs[0])

    class VirtualDatabase(base):  # type: ignore[misc]
        """A database whose time is that of the clock, whatever fakeredis sets."""

        clock: Clock | None = None

        @property
        def time(self) -> float:
            return 0.0 if self.clock is None else self.clock.time()

        @time.setter
        def time(self, _: float) -> None:
            """Before each command fakeredis sets the real time."""

    return VirtualDatabase


@cache
def connection_class() -> Any:
    """Return the class of connections to a `fake_server`."""
    base = member("fakeredis.aioredis", "FakeAsyncRedisConnection")
    socket = member("fakeredis.aioredis", "AsyncFakeSocket")

    class Socket(socket):  # type: ignore[misc, valid-type]
        """A socket that knows the task of a command that blocks."""

        waiting: asyncio.Task[None] | None = None

        async def _async_blocking(self, *args: Any, **kwargs: Any) -> None:
            self.waiting = asyncio.current_task()
            try:
                await super()._async_blocking(*args, **kwargs)
            finally:
                self.waiting = None

        def _name_to_func(self, cmd_name: str) -> Any:
            function, signature = super()._name_to_func(cmd_name)
            if cmd_name == "blmove":
                # As declared there, it answers at once where the source does not exist, instead of waiting for it.
                signature = copy.copy(signature)
                source = type(signature.fixed[0])(list)
                signature.fixed = (source, *signature.fixed[1:])
            return function, signature

        def blmove(self, first: Any, second: Any, source_end: bytes, target_end: bytes, timeout: float) -> Any:
            """Wait with the lists as they are then: fakeredis looks at them as they were when the command came."""

            def attempt(first_pass: bool) -> Any:  # noqa: FBT001 - fakeredis's own protocol
                source, target = (first, second) if first_pass else map(self._fresh, (first, second))
                if not source.value:
                    return None
                target = source if first.key == second.key else target
                moved = self._lmove(source, target, source_end, target_end, first_pass)
                if not first_pass:
                    source.writeback()
                    target.writeback()
                return moved

            return self._blocking(timeout, attempt)

        def _fresh(self, item: Any) -> Any:
            return type(item)(item.key, self._db, item=self._db.get(item.key), default=[])

    class Connection(base):  # type: ignore[misc, valid-type]
        """A connection that ends the command that blocks with itself."""

        async def _connect(self) -> None:
            await super()._connect()
            # The socket was made a moment ago and has no state yet but its class.
            self._sock.__class__ = Socket

        async def disconnect(self, nowait: bool = False, **options: Any) -> None:  # noqa: FBT001, FBT002
            waiting = getattr(self._sock, "waiting", None)
            await super().disconnect(nowait=nowait, **options)
            if waiting is not None:
                waiting.cancel()

    return Connection


@cache
def lock_class() -> Any:
    """Return the class of locks of redis-py; without Lua for fakeredis one whose scripts are transactions."""
    from redis.exceptions import LockNotOwnedError, WatchError

    base = member("redis.asyncio.lock", "Lock")
    if importlib.util.find_spec("lupa") is not None:
        # The real one keeps its scripts on the class, bound to the first client there ever was.
        return type("Lock", (base,), {"lua_release": None, "lua_extend": None, "lua_reacquire": None})

    class LockWithoutLua(base):  # type: ignore[misc, valid-type]
        """A lock of redis.asyncio for a server that runs no Lua."""

        def register_scripts(self) -> None:
            """There are none."""

        async def do_release(self, expected_token: bytes) -> None:
            """Delete the key if the token is ours."""
            await self._if_ours(expected_token, lambda pipe: pipe.delete(self.name), "release")

        async def do_extend(self, additional_time: float, replace_ttl: bool) -> bool:  # noqa: FBT001 - the real one's
            """Put the end off if the token is ours."""
            left = 0 if replace_ttl else max(0, await self.redis.pttl(self.name))
            milliseconds = left + int(additional_time * 1000)
            await self._if_ours(self.local.token, lambda pipe: pipe.pexpire(self.name, milliseconds), "extend")
            return True

        async def do_reacquire(self) -> bool:
            """Start the time anew if the token is ours."""
            milliseconds = int(self.timeout * 1000)
            await self._if_ours(self.local.token, lambda pipe: pipe.pexpire(self.name, milliseconds), "reacquire")
            return True

        async def _if_ours(self, token: bytes, action: Callable[[Any], object], what: str) -> None:
            async with self.redis.pipeline(transaction=True) as pipe:
                await pipe.watch(self.name)
                held = await pipe.get(self.name)
                ours = held is not None and self.redis.get_encoder().encode(held) == token
                if ours:
                    pipe.multi()
                    action(pipe)
                    try:
                        await pipe.execute()
                    except WatchError:
                        ours = False
            if not ours:
                raise LockNotOwnedError(f"Cannot {what} a lock that's no longer owned")

    return LockWithoutLua
