"""Fixtures that return the event loop of each loop scope of pytest-asyncio, which has no other public access to it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest_asyncio

__all__ = ["LOOP_FIXTURE"]

LOOP_FIXTURE: Final = "_isolation_loop_of_{}"


def _loop_of(scope: Any) -> Any:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    return pytest_asyncio.fixture(scope=scope, loop_scope=scope, name=LOOP_FIXTURE.format(scope))(loop)


_function = _loop_of("function")
_class = _loop_of("class")
_module = _loop_of("module")
_package = _loop_of("package")
_session = _loop_of("session")
