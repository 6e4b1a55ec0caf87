"""Waiting until nothing in the event loop can go on by itself, without sleeping."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from weakref import WeakKeyDictionary

import anyio

__all__ = ["others_blocked"]

# Tasks that are themselves only waiting for the rest to block: two clocks in
# one loop must not take each other for busy.
_watching: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, set[Any]]] = WeakKeyDictionary()

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
    mine = asyncio.current_task()
    watching = _watching.get(loop)
    if watching is None:
        watching = _watching[loop] = set()
    watching.add(mine)
    try:
        quiet = 0
        while quiet < _QUIET_ROUNDS:
            await asyncio.sleep(0)
            quiet = quiet + 1 if _all_blocked(loop, watching) else 0
    finally:
        watching.discard(mine)


def _all_blocked(loop: asyncio.AbstractEventLoop, watching: set[Any]) -> bool:
    for task in asyncio.all_tasks(loop):
        if task in watching:
            continue
        waits_for = getattr(task, "_fut_waiter", None)
        if waits_for is None or waits_for.done():
            return False
    return True
