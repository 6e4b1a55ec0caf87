"""Asynchronous nodes and cleanups of a synchronous lifecycle: one event loop in one other thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio.from_thread import start_blocking_portal

from isolation_core.lifecycle._owner import Owner
from isolation_core.lifecycle._teardown import GRACE

if TYPE_CHECKING:
    from isolation_core.graph import Node

__all__ = ["Portal", "RemoteLoop"]

T = TypeVar("T")


class RemoteLoop(ABC):
    """An event loop that synchronous code has asynchronous nodes and cleanups run on."""

    @abstractmethod
    def close(self) -> None:
        """Release the event loop: nothing is going to run on it any more."""

    @abstractmethod
    def call(self, function: Callable[[], Awaitable[T]], on_interrupt: Callable[[BaseException], object]) -> T:
        """Return the result of *function*, called once over there, however often this thread is interrupted."""

    def make_owner(self, node: Node, arguments: Mapping[str, Any], context: Context) -> Owner:
        """Return what sets *node* up in a task of its own and tears it down there."""
        return Owner(node, arguments, context)

    def set_up(self, node: Node, arguments: Mapping[str, Any], context: Context) -> Owner:
        """Set *node* up in a task of its own and return its owner, whatever the outcome.

        Raises:
            KeyboardInterrupt: or whatever else a signal handler raised here; the set-up
                has been cancelled then, and torn down if that came too late.
        """
        owners: list[Owner] = []
        interrupts: list[BaseException] = []

        async def begin() -> Owner:
            owner = self.make_owner(node, arguments, context)
            owners.append(owner)
            owner.spawn()
            if interrupts:
                owner.cancel_set_up()
            await owner.settled.wait()
            return owner

        async def give_up() -> None:
            for owner in owners:
                owner.cancel_set_up()

        async def undo() -> None:
            for owner in owners:
                owner.release(GRACE)
                await owner.over.wait()

        def on_interrupt(error: BaseException) -> None:
            interrupts.append(error)
            self.call(give_up, interrupts.append)

        owner = self.call(begin, on_interrupt)
        if interrupts:
            self.call(undo, interrupts.append)
            raise interrupts[0]
        return owner

    def tear_down(
        self, owner: Owner, budget: float, seen: BaseException | None, interrupted: Callable[[BaseException], bool]
    ) -> None:
        """Tear down what *owner* holds; how it went is on the owner then.

        Args:
            owner: an owner that is up.
            budget: in seconds.
            seen: an exception to throw into the node, or None.
            interrupted: called for every interrupt of the wait; returns whether to hurry from now on.
        """

        async def finish() -> None:
            owner.release(budget, seen)
            await owner.over.wait()

        async def hurry() -> None:
            owner.hurry(GRACE)

        self.call(finish, self._hurrying(hurry, interrupted))

    def run(
        self, awaitable: Awaitable[object], budget: float, interrupted: Callable[[BaseException], bool]
    ) -> tuple[BaseException | None, bool]:
        """Await *awaitable* over there.

        Returns:
            Its exception, and whether its budget ran out.
        """
        scopes: list[anyio.CancelScope] = []

        async def attempt() -> tuple[BaseException | None, bool]:
            error: BaseException | None = None
            with anyio.CancelScope(deadline=anyio.current_time() + budget) as scope:
                scopes.append(scope)
                try:
                    await awaitable
                except anyio.get_cancelled_exc_class() as cancelled:
                    if scope.cancel_called:
                        raise
                    error = cancelled
                except BaseException as raised:
                    error = raised
            return error, scope.cancel_called

        async def hurry() -> None:
            for scope in scopes:
                scope.deadline = min(scope.deadline, anyio.current_time() + GRACE)

        return self.call(attempt, self._hurrying(hurry, interrupted))

    def _hurrying(
        self, hurry: Callable[[], Awaitable[None]], interrupted: Callable[[BaseException], bool]
    ) -> Callable[[BaseException], object]:
        def on_interrupt(error: BaseException) -> None:
            if interrupted(error):
                self.call(hurry, interrupted)

        return on_interrupt


class Portal(RemoteLoop):
    """An event loop in a thread of its own, started for the first thing that needs one.

    Args:
        backend: ``"asyncio"`` or ``"trio"``.
    """

    def __init__(self, backend: str) -> None:
        self._manager = start_blocking_portal(backend)
        self._portal = self._manager.__enter__()

    def close(self) -> None:
        """Stop the event loop and wait for its thread."""
        # Asked to stop in a way that an interrupt cannot break, since what
        # comes after waits for the thread without asking again.
        self.call(self._portal.stop, _ignore)
        self._manager.__exit__(None, None, None)

    def call(self, function: Callable[[], Awaitable[T]], on_interrupt: Callable[[BaseException], object]) -> T:
        """Return the result of *function*, called once over there, however often this thread is interrupted."""
        result: Future[T] = Future()
        begun = False

        async def once() -> None:
            nonlocal begun
            if begun:
                return
            begun = True
            try:
                result.set_result(await function())
            except BaseException as error:
                result.set_exception(error)
                if not isinstance(error, Exception):
                    raise

        submitted = False
        while True:
            try:
                if not submitted:
                    # An interrupt in here leaves open whether it was done, so it
                    # is done again; that is why it does nothing the second time.
                    self._portal.start_task_soon(once)
                    submitted = True
                return result.result()
            except BaseException as error:
                if result.done() and result.exception() is error:
                    raise
                if not submitted and isinstance(error, RuntimeError):  # the portal is not running
                    raise
                on_interrupt(error)


def _ignore(error: BaseException) -> None:
    pass
