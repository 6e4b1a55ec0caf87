"""What every test file shares."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Faults of our own machinery are excused in other people's test runs, not in ours.
os.environ["ISOLATION_CORE_DEBUG"] = "1"

# No test is timed: a busy machine is not a failure.
settings.register_profile("isolation", deadline=None)
settings.load_profile("isolation")


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run asynchronous tests on both event loops."""
    backend: str = request.param
    return backend
