"""What every test file shares."""

from __future__ import annotations

import pytest
from hypothesis import settings

# No test is timed: a busy machine is not a failure.
settings.register_profile("isolation", deadline=None)
settings.load_profile("isolation")


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run asynchronous tests on both event loops."""
    backend: str = request.param
    return backend
