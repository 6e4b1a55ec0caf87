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
    """Tell whether the running event loop is trio's; some loop must be running."""
    # Trio as a guest of asyncio runs outside of every asyncio task.
    try:
        return asyncio.current_task() is None
    except RuntimeError:
        return True


def current_task() -> object:
    """Return the task that runs now."""
    if is_trio():
        import trio

        return trio.lowlevel.current_task()
    return asyncio.current_task()


def spawn(function: Callable[[], Coroutine[Any, Any, None]], context: Context, name: str) -> object:
    """Start a task that belongs to nobody's task group, and return it; *function* must not raise.

    A task group opened in the middle of a body would have to be closed before
    any cancel scope the body opened earlier; a task of the loop itself has no
    such ties. Whoever starts one waits for its end.
    """
    if is_trio():
        import trio

        return trio.lowlevel.spawn_system_task(function, name=name, context=context)
    return asyncio.get_running_loop().create_task(function(), name=name, context=context)


def cancelled_here() -> bool:
    """Tell whether the next await of this task is going to be cancelled by a cancel scope."""
    return anyio.current_effective_deadline() == -inf


def leave(scope: anyio.CancelScope, error: BaseException | None) -> BaseException | None:
    """Exit *scope* with *error*, and return what is left of it."""
    try:
        if scope.__exit__(type(error) if error is not None else None, error, getattr(error, "__traceback__", None)):
            return None
    except BaseException as changed:  # a group that the scope took its own cancellation out of
        return changed
    return error


@types.coroutine
def run_in(context: Context, coroutine: Any) -> Generator[Any, Any, Any]:
    """Run *coroutine* in this task, but with the variables of *context*.

    What it sets stays in *context*, and tokens it got there can be used in a
    later run in the same context.
    """
    step: Callable[..., Any] = coroutine.send
    argument: Any = None
    while True:
        try:
            item = context.run(step, argument)
        except StopIteration as stop:
            return stop.value
        try:
            argument = yield item
        except GeneratorExit:
            context.run(coroutine.close)
            raise
        except BaseException as error:
            step, argument = coroutine.throw, error
        else:
            step = coroutine.send


async def run_to_the_end(
    context: Context | None, awaitable: Awaitable[T], interruptions: list[BaseException]
) -> T:
    """Await *awaitable* to its end, whatever `asyncio.Task.cancel` says in between.

    Cancel scopes keep their power over it: a deadline still ends it. What was
    held off is appended to *interruptions*, its request withdrawn; passing it on
    (`request_again`) is up to the caller. Trio has no cancellation but that of scopes, and a shielded one is enough.

    Args:
        context: the variables to run with, or None for those of the caller.
        awaitable: anything that can be awaited.
        interruptions: where native cancellations are kept.
    """
    coroutine = awaitable if hasattr(awaitable, "throw") else _awaiting(awaitable)
    if not is_trio():
        coroutine = _hold_off_cancellation(context, coroutine, interruptions)
    elif context is not None:
        coroutine = run_in(context, coroutine)
    return await coroutine


async def _awaiting(awaitable: Awaitable[T]) -> T:
    return await awaitable


@types.coroutine
def _hold_off_cancellation(
    context: Context | None, coroutine: Any, interruptions: list[BaseException]
) -> Generator[Any, Any, Any]:
    # What `Task.cancel` does to a waiting task is to cancel the future it waits
    # for. So the task is given a stand-in to wait for: a native cancellation
    # breaks the stand-in only, and a new one takes its place.
    loop = asyncio.get_running_loop()
    step: Callable[..., Any] = coroutine.send
    argument: Any = None
    while True:
        try:
            item = step(argument) if context is None else context.run(step, argument)
        except StopIteration as stop:
            return stop.value
        step, argument = coroutine.send, None
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
            coroutine.close()
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
    """Make *count* requests again, so that whoever made them can take them back, and take the exception away."""
    task = None if is_trio() else asyncio.current_task()
    if task is None or not count:
        return
    for _ in range(count):
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


def is_native(error: BaseException | None) -> bool:
    """Tell whether *error* is a cancellation that no cancel scope has made."""
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
