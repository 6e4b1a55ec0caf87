"""Running coroutines step by step: in a context of their own, out of reach of `asyncio.Task.cancel`.

Both drivers run in the task that awaits them, which is the whole point: a task
group or a cancel scope that a fixture opened in its set-up can only be closed
by the same task.
"""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from math import inf
from typing import Any, TypeVar

import anyio

__all__ = [
    "cancelled_here",
    "current_task",
    "is_native",
    "is_trio",
    "leave",
    "request_again",
    "run_in",
    "run_to_the_end",
    "spawn",
    "withdraw",
]

T = TypeVar("T")


def is_trio() -> bool:
    """Return whether the running event loop is trio's; an event loop must be running."""
    # Not get_running_loop(), which raises: under trio that would be for every
    # step. Trio as a guest of asyncio runs outside of every asyncio task.
    loop = asyncio._get_running_loop()
    return loop is None or asyncio.current_task(loop) is None


def current_task() -> object:
    """Return the task that runs now."""
    if is_trio():
        import trio

        return trio.lowlevel.current_task()
    return asyncio.current_task()


def spawn(function: Callable[[], Coroutine[Any, Any, None]], context: Context, name: str) -> object:
    """Start a task outside of every task group, and return it; *function* must not raise.

    A task group opened in the middle of a body would have to be closed before
    any cancel scope the body opened earlier; a task of the loop itself has no
    such ties. The caller waits for its end.
    """
    if is_trio():
        import trio

        return trio.lowlevel.spawn_system_task(function, name=name, context=context)
    return asyncio.get_running_loop().create_task(function(), name=name, context=context)


def cancelled_here() -> bool:
    """Return whether a cancel scope is going to cancel the next await of this task."""
    return anyio.current_effective_deadline() == -inf


def leave(scope: anyio.CancelScope, error: BaseException | None) -> BaseException | None:
    """Exit *scope* with *error*, and return what is left of it."""
    try:
        if scope.__exit__(type(error) if error is not None else None, error, getattr(error, "__traceback__", None)):
            return None
    except BaseException as changed:  # a group that the scope took its own cancellation out of
        return changed
    return error


def _do_nothing() -> None:
    pass


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


@types.coroutine
def run_in(
    context: Context | None, coroutine: Any, before_waiting: Callable[[], None] = _do_nothing
) -> Generator[Any, Any, Any]:
    """Run *coroutine* in this task, but with the variables of *context*, unless that is None.

    Variables that it sets stay in *context*, and their tokens can be used in a
    later run in the same context. *before_waiting* is called when it is about
    to wait for the first time.
    """
    call = _call if context is None else context.run
    step: Callable[..., Any] = coroutine.send
    argument: Any = None
    while True:
        try:
            item = call(step, argument)
        except StopIteration as stop:
            return stop.value
        before_waiting()
        before_waiting = _do_nothing
        try:
            argument = yield item
        except GeneratorExit:
            call(coroutine.close)
            raise
        except BaseException as error:
            step, argument = coroutine.throw, error
        else:
            step = coroutine.send


async def run_to_the_end(
    context: Context | None,
    awaitable: Awaitable[T],
    interruptions: list[BaseException],
    before_waiting: Callable[[], None] = _do_nothing,
) -> T:
    """Await *awaitable* to its end, whatever `asyncio.Task.cancel` says in between.

    Cancel scopes still apply to it: a deadline ends it. A cancellation that was
    held off is appended to *interruptions*, its request withdrawn; passing it on
    (`request_again`) is up to the caller. Trio has no cancellation but that of
    scopes, and a shielded one is enough.

    Args:
        context: the variables to run with, or None for those of the caller.
        awaitable: anything that can be awaited.
        interruptions: where native cancellations are kept.
        before_waiting: called when it is about to wait for the first time, if it ever is.
    """
    coroutine: Any = awaitable if hasattr(awaitable, "throw") else _awaiting(awaitable)
    result: T
    if not is_trio():
        result = await _hold_off_cancellation(context, coroutine, interruptions, before_waiting)
    else:
        result = await run_in(context, coroutine, before_waiting)
    return result


async def _awaiting(awaitable: Awaitable[T]) -> T:
    return await awaitable


@types.coroutine
def _hold_off_cancellation(
    context: Context | None, coroutine: Any, interruptions: list[BaseException], before_waiting: Callable[[], None]
) -> Generator[Any, Any, Any]:
    # What `Task.cancel` does to a waiting task is to cancel the future it waits
    # for. So the task is given a stand-in to wait for: a native cancellation
    # breaks the stand-in only, and a new one takes its place.
    loop = asyncio.get_running_loop()
    call = _call if context is None else context.run
    step: Callable[..., Any] = coroutine.send
    argument: Any = None
    while True:
        try:
            item = call(step, argument)
        except StopIteration as stop:
            return stop.value
        step, argument = coroutine.send, None
        before_waiting()
        before_waiting = _do_nothing
        try:
            if not getattr(item, "_asyncio_future_blocking", False):
                yield item  # the bare yield of sleep(0)
                continue
            item._asyncio_future_blocking = False
            while not item.done():
                stand_in = loop.create_future()
                wake = _waker(stand_in)
                item.add_done_callback(wake)
                try:
                    yield from stand_in
                except asyncio.CancelledError as error:
                    if is_native(error):
                        _hold(error, interruptions)
                    elif not item.cancel(*error.args[:1]):
                        step, argument = coroutine.throw, error
                        break
                finally:
                    item.remove_done_callback(wake)
        except asyncio.CancelledError as error:
            if is_native(error):
                _hold(error, interruptions)
            else:
                step, argument = coroutine.throw, error
        except GeneratorExit:
            call(coroutine.close)
            raise
        except BaseException as error:
            step, argument = coroutine.throw, error


def _waker(future: asyncio.Future[None]) -> Callable[[object], None]:
    def wake(_: object) -> None:
        if not future.done():
            future.set_result(None)

    return wake


def _hold(error: BaseException, interruptions: list[BaseException]) -> None:
    interruptions.append(error)
    # While the request counts, no cancel scope of anyio takes its own
    # cancellation back, and a fixture that ends its task group by cancelling
    # it would seem to fail.
    withdraw(1)


def withdraw(limit: int | None = None) -> int:
    """Take back requests of `asyncio.Task.cancel` that this task has not answered; return how many."""
    task = None if is_trio() else asyncio.current_task()
    count = 0
    while task is not None and task.cancelling() and (limit is None or count < limit):
        task.uncancel()
        count += 1
    return count


async def request_again(count: int) -> None:
    """Make *count* requests again, so that their authors can withdraw them, and remove the exception."""
    task = None if is_trio() else asyncio.current_task()
    if task is None or not count:
        return
    for _ in range(count):
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


def is_native(error: BaseException | None) -> bool:
    """Return whether *error* is a cancellation that no cancel scope has made."""
    # The message is how anyio itself tells its cancellations from native ones;
    # it is looked for along the chain because others catch and raise anew.
    if not isinstance(error, asyncio.CancelledError):
        return False
    each: BaseException | None = error
    while isinstance(each, asyncio.CancelledError):
        text = each.args[0] if each.args else None
        if isinstance(text, str) and text.startswith(("Cancelled via cancel scope ", "Cancelled by cancel scope ")):
            return False
        each = each.__context__
    return True
