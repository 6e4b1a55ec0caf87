"""The definitions of the stack, as pytest fixtures."""

import pytest
import stack
from isolation_pytest import expose

globals().update(expose(stack))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
