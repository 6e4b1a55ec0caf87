"""Waiting until nothing in the event loop can go on by itself, without sleeping."""

from __future__ import annotations

import asyncio
from typing import Final
from weakref import WeakKeyDictionary

import anyio

__all__ = ["others_blocked"]

# Of all that wait in one loop one looks, the others are told: a hundred clocks
# in one loop must neither take each other for busy nor all look at every task.
_told: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, list[asyncio.Future[bool]]]] = WeakKeyDictionary()

_QUIET_ROUNDS: Final = 2
"""A future may be set by a callback of the next round; after two rounds without anything to run it was not."""


async def others_blocked() -> None:
    """Return when every other task of the running loop is blocked; a checkpoint at least.

    A task that waits for a thread, a socket or the real clock counts as blocked.
    """
    loop = asyncio._get_running_loop()
    if loop is None:
        # Trio knows it exactly. The second time is for a test that waits for the
        # same: both are woken at once, and it shall go on before time does.
        await anyio.wait_all_tasks_blocked()
        await anyio.wait_all_tasks_blocked()
        return
    while (waiting := _told.get(loop)) is not None:
        future: asyncio.Future[bool] = loop.create_future()
        waiting.append(future)
        if await future:
            return
    waiting = _told[loop] = []
    quiet = 0
    try:
        while quiet < _QUIET_ROUNDS:
            await asyncio.sleep(0)
            quiet = quiet + 1 if _all_blocked(loop) else 0
    finally:
        del _told[loop]
        for future in waiting:
            if not future.done():
                # Whoever looked may have been cancelled: then another one has to.
                future.set_result(quiet >= _QUIET_ROUNDS)


def _all_blocked(loop: asyncio.AbstractEventLoop) -> bool:
    mine = asyncio.current_task()
    for task in asyncio.all_tasks(loop):
        waits_for = getattr(task, "_fut_waiter", None)
        if task is not mine and (waits_for is None or waits_for.done()):
            return False
    return True
