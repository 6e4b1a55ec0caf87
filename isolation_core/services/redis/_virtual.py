"""fakeredis on the virtual clock: expiry, blocking commands, timeouts of reads, locks.

fakeredis has no clock to hand over, so three of its pieces are replaced by
subclasses: the database (what time it is), the socket (how long a blocking
command waits) and the connection (how long a read waits).
"""

from __future__ import annotations

import asyncio
import copy
import importlib
import math
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
    database = _database_class()

    def new_database() -> Any:
        created = database(server.lock)
        created.clock = clock
        return created

    server.dbs = defaultdict(new_database)
    server.clock = clock
    return server


@cache
def _database_class() -> Any:
    base: Any = type(required().FakeServer().dbs[0])

    class VirtualDatabase(base):  # type: ignore[misc]
        """A database whose time is that of the virtual clock, whatever fakeredis sets."""

        clock: Clock | None = None

        @property
        def time(self) -> float:
            return 0.0 if self.clock is None else self.clock.time()

        @time.setter
        def time(self, _: float) -> None:
            """Before each command fakeredis sets the real time."""

    return VirtualDatabase


@cache
def _socket_class() -> Any:  # noqa: C901 - one class, of short methods
    no_response = member("fakeredis._helpers", "NoResponse")
    base = member("fakeredis.aioredis", "AsyncFakeSocket")

    class VirtualSocket(base):  # type: ignore[misc, valid-type]
        """A socket whose blocking commands wait on the virtual clock."""

        clock: Clock
        waiting: asyncio.Task[None] | None = None

        def put_response(self, msg: Any) -> None:
            super().put_response(msg)
            self.clock.notify()

        def _blocking(
            self, timeout: float | None, func: Callable[[bool], Any], shape: Callable[[Any], Any] | None = None
        ) -> Any:
            value = func(True)  # noqa: FBT003 - fakeredis's own protocol: the first attempt
            if value is not None or self._in_transaction:
                return value if shape is None else shape(value)
            self._blocked = True
            self.pause()
            self._db.add_change_callback(self._woken)
            self.waiting = asyncio.get_running_loop().create_task(self._wait(timeout, func, shape))
            return no_response()

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

        def _woken(self) -> None:
            # A method, for fakeredis keeps callbacks in a set: those of two sockets must differ.
            self.clock.notify()

        async def _wait(
            self, timeout: float | None, func: Callable[[bool], Any], shape: Callable[[Any], Any] | None
        ) -> None:
            database = self._db
            result: Any = None

            def attempt() -> tuple[Any] | None:
                if self.responses is None:
                    return (None,)
                with self._server.lock:
                    if self._unblock_reason is not None:
                        self._take_unblock_reason()
                        return (None,)
                    value = func(False)  # noqa: FBT003 - likewise: not the first
                return None if value is None else (value,)

            try:
                (result,) = await self.clock.wait(attempt, timeout=timeout or None)
            except TimeoutError:
                result = None
            except Exception as error:  # the error reply of CLIENT UNBLOCK ... ERROR
                self._answer(database, error)
                return
            except asyncio.CancelledError:
                database.remove_change_callback(self._woken)
                return
            self._answer(database, result if shape is None else shape(result))

        def _answer(self, database: Any, result: Any) -> None:
            database.remove_change_callback(self._woken)
            self._blocked, self._unblock_reason, self.waiting = False, None, None
            if self.responses is not None:
                self.put_response(self._decode_result(result))
                self.resume()

    return VirtualSocket


@cache
def connection_class() -> Any:
    """Return the class of connections to a `fake_server`."""
    base = member("fakeredis.aioredis", "FakeAsyncRedisConnection")
    reader, writer = member("fakeredis.aioredis", "FakeReader"), member("fakeredis.aioredis", "FakeWriter")

    class VirtualConnection(base):  # type: ignore[misc, valid-type]
        """A connection that waits for replies on the virtual clock."""

        async def _connect(self) -> None:
            await super()._connect()
            # The socket was made a moment ago and has no state yet but its class.
            self._sock.__class__ = _socket_class()
            self._sock.clock = self._server.clock
            self._reader, self._writer = reader(self._sock), writer(self._sock)

        async def disconnect(self, nowait: bool = False, **options: Any) -> None:  # noqa: FBT001, FBT002
            sock = self._sock
            await super().disconnect(nowait=nowait, **options)
            if sock is not None and sock.responses is not None:
                task = sock.waiting
                sock.close()
                if task is not None:
                    task.cancel()

        async def can_read(self, timeout: float | None = 0) -> bool:
            if timeout is None or timeout == 0 or math.isinf(timeout):
                readable: bool = await super().can_read(None if timeout else timeout)
                return readable
            sock = self._sock
            if sock is None:
                return False
            try:
                await self._server.clock.wait(
                    lambda: True if sock.responses is None or not sock.responses.empty() else None, timeout=timeout
                )
            except TimeoutError:
                return False
            return True

    return VirtualConnection


@cache
def lock_class() -> Any:
    """Return the class of locks: waits on the virtual clock, and needs no Lua on the server."""
    from redis.exceptions import LockNotOwnedError, WatchError

    base = member("redis.asyncio.lock", "Lock")

    class VirtualLock(base):  # type: ignore[misc, valid-type]
        """A lock of redis.asyncio whose scripts are transactions, for fakeredis runs Lua with an extra only."""

        clock: Clock

        def register_scripts(self) -> None:
            """There are none."""

        async def acquire(
            self,
            blocking: bool | None = None,  # noqa: FBT001 - the signature of the real one
            blocking_timeout: float | None = None,
            token: str | bytes | None = None,
        ) -> bool:
            """Acquire it; the time that is waited is virtual."""
            wait = self.blocking if blocking is None else blocking
            limit = self.blocking_timeout if blocking_timeout is None else blocking_timeout
            end = math.inf if limit is None else self.clock.now() + limit
            while True:
                if await super().acquire(blocking=False, token=token):
                    return True
                if not wait or self.clock.now() + self.sleep > end:
                    return False
                await self.clock.sleep(self.sleep)

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

    return VirtualLock
