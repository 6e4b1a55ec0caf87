"""Settings and fixtures that all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

# Faults of our own machinery are excused in other people's test runs, not in ours.
os.environ["ISOLATION_CORE_DEBUG"] = "1"

# No test is timed: a busy machine is not a failure.
settings.register_profile("isolation", deadline=None)
settings.load_profile("isolation")


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heard() -> Iterator[None]:
    """A run in the background of a shell starts with Ctrl-C ignored; some tests press it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str | tuple[str, dict[str, Any]]:
    """Run asynchronous tests on both event loops; with ``VIRTUAL_TIME = True`` in a module, trio's clock is a mock."""
    backend: str = request.param
    if backend == "trio" and getattr(request.module, "VIRTUAL_TIME", False):
        from trio.testing import MockClock

        return backend, {"clock": MockClock(autojump_threshold=0)}
    return backend
