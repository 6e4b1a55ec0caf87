"""Virtual time of an event loop: the loop's own clock jumps to its next timer when nothing else can happen.

Asyncio: the loop's ``time`` and its selector are replaced. Whenever the loop
would block until its next timer, it first listens for what happens outside of
it: jobs in threads, child processes, requests to other processes that have no
answer yet. While there is any, time passes as usual; without any it jumps to
that timer, and never past it. Everything that runs on the loop moves together,
``asyncio.sleep`` and ``asyncio.timeout`` as well as the doubles.

Trio has its own virtual time, `trio.testing.MockClock`, which jumps under the
same conditions.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary, WeakSet

from isolation_core.errors import ConfigurationError

__all__ = ["LoopTime", "loop_time", "running_place"]

_SILENCE: Final = 0.005
"""Seconds of real time in which nothing arrives, after which an open connection to another process is idle."""
_PATIENCE: Final = 5.0
"""Seconds of real time after which a socket that is read without a transport is taken for one that only listens."""
_SLICE: Final = 0.02
"""The longest real wait between two checks whether jobs outside of the loop are done."""

_REPLACED: Final = (
    "run_in_executor", "add_reader", "sock_recv", "_make_socket_transport", "_make_subprocess_transport",
)  # fmt: skip


class LoopTime(Protocol):
    """The virtual time of one event loop."""

    def read(self) -> float:
        """Return the time of the loop."""
        ...

    def enter(self) -> None:
        """Begin, or take part in, virtual time."""

    def leave(self) -> None:
        """End it, once all that have entered have left."""

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass at once."""

    def hold(self) -> contextlib.AbstractContextManager[None]:
        """Let time pass as usual while something outside of the loop is awaited."""
        ...


_trio_times: Final[WeakKeyDictionary[Any, _TrioTime]] = WeakKeyDictionary()
_MARK: Final = "_isolation_core_time"
"""The attribute of a loop of asyncio that holds its virtual time, so that the two end together."""


def running_place() -> tuple[object, float]:
    """Return what gives the time here, to compare by identity, and that time in seconds.

    The event loop that runs in this thread where its clock is not the monotonic one; otherwise None.
    """
    loop = asyncio._get_running_loop()
    trio = sys.modules.get("trio")
    if trio is not None and (loop is None or asyncio.current_task(loop) is None):
        with contextlib.suppress(RuntimeError):  # not in trio
            token = trio.lowlevel.current_trio_token()
            now: float = trio.current_time()
            return token, now
    known: _AsyncioTime | None = getattr(loop, _MARK, None)
    return (None, time.monotonic()) if known is None else (known, known.read())


def loop_time() -> LoopTime | None:
    """Return the virtual time of the running event loop, not entered yet; None outside of a loop.

    Raises:
        ConfigurationError: if the loop cannot have any, with what to do instead.
    """
    loop = asyncio._get_running_loop()
    trio = sys.modules.get("trio")
    if trio is not None and (loop is None or asyncio.current_task(loop) is None):
        try:
            token = trio.lowlevel.current_trio_token()
        except RuntimeError:
            pass
        else:
            found = _trio_times.get(token)
            if found is None:
                found = _trio_times[token] = _TrioTime(trio)
            return found
    if loop is None:
        return None
    known: _AsyncioTime | None = getattr(loop, _MARK, None)
    if known is None:
        if not isinstance(loop, asyncio.BaseEventLoop) or not hasattr(loop, "_selector"):
            raise ConfigurationError(
                f"virtual time replaces the clock of the event loop, and {type(loop).__module__}.{type(loop).__name__} "
                "does not allow that; run this test on asyncio's own event loop (such as "
                "asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)), or in real time",
                name="virtual_time",
                value=type(loop).__name__,
            )
        known = _AsyncioTime(loop)
        setattr(loop, _MARK, known)
    return known


class _Wire:
    """A connection of this process to somewhere, and whether what was sent last is answered."""

    __slots__ = ("__weakref__", "_transport", "fd", "mine", "peer", "served", "waiting")

    def __init__(self, transport: Any, *, served: bool) -> None:
        found = transport.get_extra_info("socket")
        self.fd: int = found.fileno()
        self.mine = transport.get_extra_info("sockname")
        self.peer = transport.get_extra_info("peername")
        self.served = served
        self.waiting = False
        self._transport = transport

    @property
    def open(self) -> bool:
        return not self._transport.is_closing()


class _AsyncioTime:
    """Virtual time of one loop of asyncio."""

    def __init__(self, loop: Any) -> None:
        self._users = 0
        self._holds = 0
        self._jobs = 0
        self._now = 0.0  # while it has users
        self._ahead = 0.0  # of the monotonic clock, while it has none
        self._wires: dict[int, _Wire] = {}
        self._asked: dict[int, float] = {}  # sockets used without a transport, and when an answer was awaited
        self._children: WeakSet[Any] = WeakSet()
        self._threads: WeakSet[threading.Thread] = WeakSet()
        self._loop = loop
        self._real_time = loop.time

    def read(self) -> float:
        """Return the time of the loop."""
        return self._now if self._users else self._real_time() + self._ahead

    def enter(self) -> None:
        self._users += 1
        if self._users > 1:
            return
        loop = self._loop
        self._now = self._real_time() + self._ahead
        self._threads = WeakSet(threading.enumerate())
        loop.time = self.read
        loop._selector = _Selector(loop._selector, self)
        loop.run_in_executor = partial(self._run_in_executor, loop.run_in_executor)
        loop.add_reader = partial(self._add_reader, loop.add_reader)
        loop.sock_recv = partial(self._sock_recv, loop.sock_recv)
        loop._make_socket_transport = partial(self._make_socket_transport, loop._make_socket_transport)
        if hasattr(loop, "_make_subprocess_transport"):
            loop._make_subprocess_transport = partial(self._make_child, loop._make_subprocess_transport)

    def leave(self) -> None:
        self._users -= 1
        if self._users:
            return
        # What was timed meanwhile is due on this scale: the loop goes on from here, in real time.
        self._ahead = self._now - self._real_time()
        loop = self._loop
        if isinstance(loop._selector, _Selector):
            loop._selector = loop._selector.inner
        for name in _REPLACED:
            vars(loop).pop(name, None)

    def advance(self, seconds: float) -> None:
        self._now += seconds

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1

    # -- what the loop does ------------------------------------------------------------

    def select(self, inner: Any, timeout: float | None) -> list[Any]:
        """Wait for events as the loop asks for it; jump where nothing outside can come before its next timer."""
        events: list[Any] = inner.select(0)
        if not events and timeout != 0 and (timeout is None or timeout > 0):
            began = time.monotonic()
            if timeout is None:
                events = inner.select(None)
            elif self._outside():
                events = inner.select(min(timeout, _SLICE))
                self._now += min(time.monotonic() - began, timeout)
            else:
                if self._others_may_speak(inner):
                    events = inner.select(min(timeout, _SILENCE))
                if not events:
                    self._now += timeout
        for key, _ in events if self._wires or self._asked else ():
            fd: int = getattr(key, "fd", -1)
            if (wire := self._wires.get(fd)) is not None:
                wire.waiting = False
            self._asked.pop(fd, None)
        return events

    def _outside(self) -> bool:
        """Return whether something outside of the loop works for it."""
        if self._holds or self._jobs or any(child._returncode is None for child in self._children):
            return True
        return self._unanswered() or self._awaited() or _threads_at_work(self._threads)

    def _awaited(self) -> bool:
        listening: Any = getattr(self._loop._selector, "get_map", dict)() or {}
        self._asked = {fd: since for fd, since in self._asked.items() if fd in listening}
        return any(time.monotonic() - since < _PATIENCE for since in self._asked.values())

    def _unanswered(self) -> bool:
        for fd, wire in tuple(self._wires.items()):
            if not wire.open:
                del self._wires[fd]
        served = {str(wire.mine) for wire in self._wires.values() if wire.served}
        # Who serves in this very loop answers by the loop's own time.
        return any(wire.waiting and not wire.served and str(wire.peer) not in served for wire in self._wires.values())

    def _others_may_speak(self, inner: Any) -> bool:
        listening: Any = getattr(inner, "get_map", dict)() or {}
        # One is the loop's own, by which threads wake it.
        return len(listening) > 1 or threading.active_count() > len(self._threads)

    # -- what is observed --------------------------------------------------------------

    def _run_in_executor(self, real: Callable[..., Any], *args: Any) -> Any:
        future = real(*args)
        self._jobs += 1

        def done(_: object) -> None:
            self._jobs -= 1

        # The job itself, not the future of the loop: a wait that was cancelled ends before its job does.
        future.add_done_callback(done)
        return future

    def _add_reader(self, real: Callable[..., Any], fd: Any, *args: Any) -> Any:
        # Of clients written in C, such as libpq: they listen while they wait for an answer.
        self._asked[fd if isinstance(fd, int) else fd.fileno()] = time.monotonic()
        return real(fd, *args)

    async def _sock_recv(self, real: Callable[..., Any], sock: socket.socket, count: int) -> Any:
        self._asked[sock.fileno()] = time.monotonic()
        return await real(sock, count)

    def _make_socket_transport(self, real: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        transport = real(*args, **kwargs)
        with contextlib.suppress(AttributeError, OSError):
            wire = _Wire(transport, served=kwargs.get("server") is not None)
            self._wires[wire.fd] = wire
            for name in ("write", "writelines"):
                setattr(transport, name, partial(_sent, wire, getattr(transport, name)))
        return transport

    async def _make_child(self, real: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        transport = await real(*args, **kwargs)
        if hasattr(transport, "_returncode"):
            self._children.add(transport)
        return transport


def _sent(wire: _Wire, real: Callable[[Any], None], data: Any) -> None:
    wire.waiting = True
    real(data)


class _Selector:
    """The selector of a loop in virtual time."""

    def __init__(self, inner: Any, owner: _AsyncioTime) -> None:
        self.inner = inner
        self._owner = owner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def select(self, timeout: float | None = None) -> list[Any]:
        return self._owner.select(self.inner, timeout)


def _threads_at_work(before: WeakSet[threading.Thread]) -> bool:
    """Return whether a worker of a pool has a job, or a thread that was started since is still running."""
    if threading.active_count() == 1:
        return False
    frames = sys._current_frames()
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if frame is None or thread is threading.current_thread():
            continue
        pool = _pool_of(thread, frame)
        if pool is not None:
            if pool:
                return True
        elif thread not in before and not thread.daemon:
            return True
    return False


def _pool_of(thread: threading.Thread, frame: FrameType) -> bool | None:
    """Return whether *thread* is a worker of a pool that has a job; None: it is not a worker."""
    idle = getattr(thread, "idle_workers", None)
    if idle is not None and type(thread).__name__ == "WorkerThread":  # of anyio
        return thread not in idle
    pools = sys.modules.get("concurrent.futures.thread")
    if thread in getattr(pools, "_threads_queues", ()):
        # Without a job it waits in a function of C, called by this one.
        return frame.f_code is not getattr(getattr(pools, "_worker", None), "__code__", None)
    return None


class _TrioTime:
    """Virtual time of a run of trio: that of its `MockClock`."""

    def __init__(self, trio: Any) -> None:
        clock = trio.lowlevel.current_clock()
        if not hasattr(clock, "autojump_threshold"):
            raise ConfigurationError(
                "virtual time on trio is that of its MockClock, and this run has the real one; run it with "
                "trio.run(..., clock=trio.testing.MockClock()), under pytest with the anyio_backend "
                "('trio', {'clock': MockClock()}), or in real time",
                name="virtual_time",
                value=type(clock).__name__,
            )
        self._clock = clock
        self._users = 0
        self._holds = 0
        self._limiter = trio.to_thread.current_default_thread_limiter()
        self._seconds_left: Callable[[], float] = lambda: float(
            trio.lowlevel.current_statistics().seconds_to_next_deadline
        )
        self._threshold = 0.0
        self._threads: WeakSet[threading.Thread] = WeakSet()

    def read(self) -> float:
        return float(self._clock.current_time())

    def enter(self) -> None:
        self._users += 1
        if self._users > 1:
            return
        self._threads = WeakSet(threading.enumerate())
        self._threshold = self._clock.autojump_threshold
        self._jump = self._clock._autojump
        self._clock._autojump = self._autojump
        self._clock.autojump_threshold = min(self._threshold, _SILENCE)

    def leave(self) -> None:
        self._users -= 1
        if not self._users:
            del self._clock._autojump
            self._clock.autojump_threshold = self._threshold

    def _autojump(self) -> None:
        if not (self._holds or self._limiter.borrowed_tokens):
            self._jump()
            return
        began = time.monotonic()
        time.sleep(0.001)
        self._clock.jump(max(0.0, min(time.monotonic() - began, self._seconds_left())))

    def advance(self, seconds: float) -> None:
        self._clock.jump(seconds)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
