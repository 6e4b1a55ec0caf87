"""One node in a task of its own: set up, held and torn down there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context
from math import inf
from typing import TYPE_CHECKING, Any

import anyio

from isolation_core._drive import cancelled_here, spawn
from isolation_core._shapes import start_async
from isolation_core.errors import CleanupError, SetupTimeout

if TYPE_CHECKING:
    from isolation_core.graph import Node

__all__ = ["Owner"]


def _ignore(owner: Owner) -> None:
    pass


class Owner:
    """Owns one node from the start of its set-up to the end of its teardown.

    It does not refer to the lifecycle, so that an unreferenced lifecycle can be
    collected while its owners wait.

    Attributes:
        value: the value of the node, once `up`.
        up: whether the set-up succeeded.
        cancelled: whether the set-up ended because it was cancelled.
        crashed: whether something in the background of the node cancelled it from within.
        timed_out: whether the teardown was cut short.
        failure: the exception of the set-up.
        error: the exception of the teardown.
        settled: set when the set-up is over, whatever its end.
        over: set when nothing runs any more.
    """

    def __init__(
        self,
        node: Node,
        arguments: Mapping[str, Any],
        context: Context,
        *,
        notify: Callable[[Owner], None] = _ignore,
        on_crash: Callable[[Owner], None] = _ignore,
    ) -> None:
        self.node = node
        self.context = context
        self._arguments = arguments
        self._notify = notify
        self._on_crash = on_crash
        self.value: Any = None
        self.up = self.cancelled = self.crashed = self.timed_out = False
        self.failure: BaseException | None = None
        self.error: BaseException | None = None
        self.settled = anyio.Event()
        self.over = anyio.Event()
        self._released = anyio.Event()
        # Entered before the set-up begins, and changed for the teardown: a
        # scope with the deadline of the teardown, opened when that begins,
        # would lie inside the task group a fixture may hold and could not be
        # left before it.
        self._scope = anyio.CancelScope()
        # A scope that was cancelled stays so: what cancels the set-up is a
        # second one around the first, whose shield keeps that from a set-up
        # that succeeded in the same moment.
        self._setup_scope = anyio.CancelScope()
        self._seen: BaseException | None = None
        self._abandoned = False
        # The event loop holds its tasks weakly.
        self._task: object = None

    def spawn(self) -> None:
        """Start the set-up."""
        self._task = spawn(self._run, self.context, f"isolation: {self.node.name}")

    def cancel_set_up(self) -> None:
        """Give the set-up up, if it is not over."""
        if not self.settled.is_set():
            self._abandoned = True
            self._setup_scope.cancel()

    def listen(self, notify: Callable[[Owner], None]) -> None:
        """Call *notify* from now on when the owner gets on; at once, if it is over already."""
        self._notify = notify
        if self.over.is_set():
            notify(self)

    def release(self, budget: float, seen: BaseException | None = None) -> None:
        """Start the teardown, shielded, for at most *budget* seconds; *seen* is thrown into the node."""
        self._seen = seen
        self._scope.shield = True
        self._scope.deadline = anyio.current_time() + budget
        self._released.set()

    def hurry(self, budget: float) -> None:
        """Give a teardown that has begun at most *budget* seconds from now."""
        self._scope.deadline = min(self._scope.deadline, anyio.current_time() + budget)

    async def _run(self) -> None:
        try:
            with self._setup_scope, self._scope:
                if self.node.setup_timeout is not None:
                    self._setup_scope.deadline = anyio.current_time() + self.node.setup_timeout
                await self._live()
        except BaseException as error:
            if self.up:
                self.error = error
            else:
                self.failure = error
        finally:
            if self.up:
                self.timed_out = self._scope.cancel_called
                if self.crashed and self.error is None:
                    self.error = silent_crash(self.node)
            elif self._setup_scope.cancel_called:
                self._account_for_cancelled_set_up()
            self.settled.set()
            self.over.set()
            self._notify(self)

    def _account_for_cancelled_set_up(self) -> None:
        if self._abandoned:
            self.cancelled = self.failure is None
        elif self.node.setup_timeout is not None:
            late = SetupTimeout(self.node.name, self.node.setup_timeout)
            late.__cause__ = self.failure
            self.failure = late

    async def _live(self) -> None:
        node = self.node
        self.value, finish = await start_async(node.kind, node.factory, self._arguments, node.name)
        self._setup_scope.deadline = inf
        self.up = True
        self._arguments = {}
        if finish is None:
            return
        if self._setup_scope.cancel_called:
            self._scope.shield = True
        self.settled.set()
        self._notify(self)
        await self._hold()
        # Resumed normally even after a crash: the code after its yield runs,
        # and its task group raises what happened when it is left.
        await finish(self._seen)

    async def _hold(self) -> None:
        """Wait for the release, and notice a cancellation that comes from the node's own background."""
        try:
            await self._released.wait()
        except anyio.get_cancelled_exc_class():
            self._scope.shield = True
            if not cancelled_here():
                # The event loop itself is shutting down, and the lifecycle was
                # left open: this owner is not going to be released.
                return
            self.crashed = True
            if not self._released.is_set():
                self._on_crash(self)
                # Its dependents go down first, like at any other time.
                with anyio.CancelScope(shield=True):
                    await self._released.wait()
        else:
            self.crashed = cancelled_here()


def silent_crash(node: Node) -> CleanupError:
    """Return the error of a node that cancelled the body without raising anything itself."""
    return CleanupError(
        node.name,
        f"a cancel scope or task group that {node.name!r} holds open was cancelled before its teardown, "
        "and the body with it; let the fixture raise what happened, or keep the scope from ending early",
    )
