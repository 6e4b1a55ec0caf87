"""Tasks an async test case leaves running, noticed while its loop still lives."""

from __future__ import annotations

import asyncio
import types
import unittest
from typing import Any

from isolation_core.barrier import Barrier
from isolation_core.findings import Leak

__all__ = ["watch_tasks"]

__unittest = True


def watch_tasks(test: unittest.TestCase, barrier: Barrier) -> None:
    """Add to *barrier* the tasks that are still running after the last cleanup of *test*.

    The test case cancels them itself when it closes its loop, and says nothing.
    """
    if isinstance(test, unittest.IsolatedAsyncioTestCase):
        # Cleanups run newest first: the first one to be added has the last word.
        test.addAsyncCleanup(_look, barrier)
        # Fixtures of `afixture` live in the loop of the test, and end with it.
        test.addAsyncCleanup(barrier.lend_loop())


async def _look(barrier: Barrier) -> None:
    own = asyncio.current_task()
    left = [task for task in asyncio.all_tasks() if task is not own and not task.done()]
    found = [_leak(task, barrier) for task in left]
    barrier.leaks += tuple(sorted(found, key=lambda leak: leak.path))


def _leak(task: asyncio.Task[Any], barrier: Barrier) -> Leak:
    coroutine = task.get_coro()
    name = getattr(coroutine, "__qualname__", None) or type(coroutine).__qualname__
    code = getattr(coroutine, "cr_code", None)
    frame = getattr(coroutine, "cr_frame", None)
    return Leak(
        "task",
        f"asyncio task {name}()",
        code="TSK001",
        owner=barrier.owner,
        scope=barrier.scope,
        created_at=f"{code.co_filename}:{code.co_firstlineno}" if isinstance(code, types.CodeType) else None,
        ended=True,
        reason=f"was waiting at line {frame.f_lineno}" if isinstance(frame, types.FrameType) else None,
    )
