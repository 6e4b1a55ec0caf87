"""Asynchronous nodes and cleanups of a synchronous lifecycle: one event loop in one other thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio.from_thread import start_blocking_portal

from isolation_core._owner import Owner
from isolation_core._teardown import GRACE

if TYPE_CHECKING:
    from isolation_core.graph import Node

__all__ = ["Portal"]

T = TypeVar("T")


class Portal:
    """An event loop that is started for the first thing that needs one and stopped with its lifecycle.

    Args:
        backend: ``"asyncio"`` or ``"trio"``.
    """

    def __init__(self, backend: str) -> None:
        self._manager = start_blocking_portal(backend)
        self._portal = self._manager.__enter__()

    def close(self) -> None:
        """Stop the event loop and wait for its thread."""
        self._manager.__exit__(None, None, None)

    def set_up(self, node: Node, arguments: Mapping[str, Any], context: Context) -> Owner:
        """Set *node* up in a task of its own and return its owner, whatever the outcome.

        Raises:
            KeyboardInterrupt: or whatever else a signal handler raised here; the set-up
                has been cancelled then, and torn down if that came too late.
        """
        owners: list[Owner] = []

        async def begin() -> Owner:
            owner = Owner(node, arguments, context)
            owners.append(owner)
            owner.spawn()
            await owner.settled.wait()
            return owner

        async def give_up() -> None:
            for owner in owners:
                owner.cancel_set_up()
                await owner.settled.wait()
                owner.release(GRACE)
                await owner.over.wait()

        future = self._portal.start_task_soon(begin)
        try:
            return future.result()
        except BaseException:
            self._wait(self._portal.start_task_soon(give_up), _ignore)
            raise

    def tear_down(
        self, owner: Owner, budget: float, seen: BaseException | None, interrupted: Callable[[BaseException], bool]
    ) -> None:
        """Tear down what *owner* holds; how it went is on the owner then.

        Args:
            owner: an owner that is up.
            budget: in seconds.
            seen: an exception to throw into the node, or None.
            interrupted: told of every interrupt of the wait; answers whether to hurry from now on.
        """

        async def finish() -> None:
            owner.release(budget, seen)
            await owner.over.wait()

        async def hurry() -> None:
            owner.hurry(GRACE)

        def on_interrupt(error: BaseException) -> None:
            if interrupted(error):
                self._portal.start_task_soon(hurry)

        self._wait(self._portal.start_task_soon(finish), on_interrupt)

    def run(
        self, awaitable: Awaitable[object], budget: float, interrupted: Callable[[BaseException], bool]
    ) -> tuple[BaseException | None, bool]:
        """Await *awaitable* over there.

        Returns:
            What it raised, and whether its budget ran out.
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

        def on_interrupt(error: BaseException) -> None:
            if interrupted(error):
                self._portal.start_task_soon(hurry)

        return self._wait(self._portal.start_task_soon(attempt), on_interrupt)

    @staticmethod
    def _wait(future: Future[T], on_interrupt: Callable[[BaseException], None]) -> T:
        """Return the result of *future*, however often this thread is interrupted meanwhile."""
        while True:
            try:
                return future.result()
            except BaseException as error:
                if future.done():
                    # Either the coroutine raised it, or it came in the very
                    # moment of success; the first cannot be, they catch all.
                    if future.cancelled() or future.exception() is not None:
                        raise
                    on_interrupt(error)
                    return future.result()
                on_interrupt(error)


def _ignore(error: BaseException) -> None:
    pass
