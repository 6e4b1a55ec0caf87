"""Event loops for asynchronous fixtures: the one of the test's own plugin, or a portal where there is none."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import ExitStack
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio

from isolation_core.loops import Owner, Portal, RemoteLoop, is_trio

if TYPE_CHECKING:
    from isolation_core.graph import Node

__all__ = ["AnyioLoop", "AsyncioLoop", "PluginLoop", "SharedLoop", "SharedPortal"]

T = TypeVar("T")


class SharedLoop(RemoteLoop):
    """A loop that several fixtures use: it is released when the last of them is torn down.

    Attributes:
        key: the kind of the loop; tests with another kind need their own instances.
        leases: how many fixtures hold it.
    """

    key: tuple[str, ...]
    leases: int = 0

    def lease(self) -> RemoteLoop:
        """Return the loop itself, which then waits for one more `close`."""
        self.leases += 1
        return self

    def close(self) -> None:
        """Give one lease back."""
        self.leases -= 1
        if not self.leases:
            self.let_go()

    @abstractmethod
    def let_go(self) -> None:
        """Release the loop after its last user."""

    @property
    def is_running(self) -> bool:
        """Whether code is running on it at the moment, in this very thread."""
        return False


class SharedPortal(SharedLoop, Portal):
    """A loop in a thread of its own: for synchronous tests, which have none."""

    def __init__(self, backend: str, forget: Callable[[SharedLoop], object]) -> None:
        super().__init__(backend)
        self.key = ("portal", backend)
        self._forget = forget

    def let_go(self) -> None:
        """Stop the loop and its thread."""
        self._forget(self)
        Portal.close(self)


class PluginLoop(SharedLoop):
    """The loop of an asynchronous plugin of pytest. It is idle unless a test or a fixture runs on it.

    Args:
        key: see `SharedLoop`.
        forget: called when it is released.
        on_crash: called when a fixture fails in its background.
    """

    def __init__(
        self, key: tuple[str, ...], forget: Callable[[SharedLoop], object], on_crash: Callable[[Owner], None]
    ) -> None:
        self.key = key
        self._forget = forget
        self._on_crash = on_crash
        self._post: Callable[[Callable[[], object]], object] | None = None
        self._busy = False
        # What a plugin raised after our own function had come to its end.
        self._strays: list[Exception] = []

    def let_go(self) -> None:
        """Forget it; it is its plugin that closes it."""
        self._forget(self)

    def close(self) -> None:
        """Give one lease back."""
        super().close()
        if self._strays:
            strays, self._strays = self._strays, []
            raise strays[0] if len(strays) == 1 else ExceptionGroup("errors in callbacks of the event loop", strays)

    @abstractmethod
    def _run(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the loop until *function* is over."""

    def make_owner(self, node: Node, arguments: Mapping[str, Any], context: Context) -> Owner:
        return Owner(node, arguments, context, on_crash=self._on_crash)

    def call(self, function: Callable[[], Awaitable[T]], on_interrupt: Callable[[BaseException], object]) -> T:
        if self._busy:
            # An interrupt wants something said to the function that is on its
            # way. A runner does one thing after another, so this goes past it.
            assert self._post is not None
            self._post(lambda: _step(function()))
            return cast("T", None)
        outcome: list[T] = []
        failure: list[BaseException] = []
        over: anyio.Event | None = None

        async def once() -> None:
            nonlocal over
            if over is not None:
                await over.wait()
                return
            over = anyio.Event()
            self._post = _poster()
            try:
                outcome.append(await function())
            except BaseException as error:
                failure.append(error)
                if not isinstance(error, Exception):
                    raise
            finally:
                over.set()

        self._busy = True
        try:
            while not outcome and not failure:
                try:
                    self._run(once)
                except (KeyboardInterrupt, SystemExit) as error:
                    if failure and failure[0] is error:
                        break
                    on_interrupt(error)
                except Exception as error:
                    if not outcome and not failure:
                        raise
                    self._strays.append(error)
        finally:
            self._busy = False
            self._post = None
        if failure:
            raise failure[0]
        return outcome[0]


class AsyncioLoop(PluginLoop):
    """The loop of pytest-asyncio."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        key: tuple[str, ...],
        forget: Callable[[SharedLoop], object],
        on_crash: Callable[[Owner], None],
    ) -> None:
        super().__init__(key, forget, on_crash)
        self.loop = loop

    @property
    def is_running(self) -> bool:
        """Whether code is running on it at the moment."""
        return self.loop.is_running()

    def _run(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.loop.run_until_complete(function())


class AnyioLoop(PluginLoop):
    """The runner of anyio's plugin, kept from being closed while a fixture needs it."""

    def __init__(
        self,
        backend: object,
        key: tuple[str, ...],
        forget: Callable[[SharedLoop], object],
        on_crash: Callable[[Owner], None],
    ) -> None:
        from anyio.pytest_plugin import extract_backend_and_options, get_runner

        super().__init__(key, forget, on_crash)
        self._stack = ExitStack()
        self._runner = self._stack.enter_context(get_runner(*extract_backend_and_options(backend)))

    @property
    def is_running(self) -> bool:
        """Whether code is running on it at the moment."""
        return self._runner.is_running()

    def let_go(self) -> None:
        """Give the runner back."""
        super().let_go()
        self._stack.close()

    def _run(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._runner.run_fixture(function, {})


def _poster() -> Callable[[Callable[[], object]], object]:
    """Return a function that schedules a call on the loop that runs now, also while the loop is idle."""
    if is_trio():
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon
    return asyncio.get_running_loop().call_soon


def _step(awaitable: Awaitable[object]) -> None:
    """Run *awaitable*, which has nothing to wait for."""
    try:
        awaitable.__await__().send(None)
    except StopIteration:
        return
