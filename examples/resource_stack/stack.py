"""The stack: settings -> database -> session -> service -> client, and a broker that stands alone.

Defined once; beside this file are four ways to run it, and none of them changes a line here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from anyio.lowlevel import checkpoint

from isolation_core import FixtureScope, managed_fixture


@managed_fixture(scope=FixtureScope.SESSION)
def settings() -> dict[str, Any]:
    """Where everything is; a test that changes it does not change it for the next."""
    print("settings up")
    return {"url": "memory://orders", "retries": 3}


@managed_fixture(scope=FixtureScope.SESSION, timeout=5.0)
async def database(settings: dict[str, Any]) -> AsyncIterator[dict[str, list[str]]]:
    """The tables, by name; connected asynchronously, once."""
    await checkpoint()
    print("database up")
    yield {"orders": []}
    await checkpoint()
    print("database down")


@managed_fixture
async def session(database: dict[str, list[str]]) -> AsyncIterator[list[str]]:
    """Rows of a transaction that is rolled back."""
    rows = database["orders"]
    print("session up")
    yield rows
    rows.clear()
    print("session down")


class Service:
    """Takes orders."""

    def __init__(self, rows: list[str]) -> None:
        self.rows = rows

    def order(self, what: str) -> int:
        self.rows.append(what)
        return len(self.rows)


@managed_fixture
def service(session: list[str]) -> Service:
    """The service under test."""
    return Service(session)


@managed_fixture
@contextmanager
def client(service: Service) -> Iterator[Service]:
    """Who talks to the service."""
    print("client up")
    yield service
    print("client down")


@managed_fixture(scope=FixtureScope.SESSION, priority=-1)
def broker() -> Iterator[list[str]]:
    """Messages; it depends on nothing."""
    print("broker up")
    yield []
    print("broker down")
