"""The public API of the core under type checkers: read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, assert_type

from isolation_core import (
    Barrier,
    Change,
    DependencyGraph,
    FixtureScope,
    IntegrationScenario,
    Leak,
    Probe,
    get_contamination_summary,
    integration_scenario,
    isolated_mock,
    isolation_barrier,
    managed_fixture,
    register_probe,
    validate_suite_isolation,
    validate_suite_isolation_sync,
)
from isolation_core.config import Settings
from isolation_core.graph import Node

# -- the barrier: both kinds of with, plain values out of it


def a_barrier_by_with() -> None:
    with isolation_barrier("orders", mode="report", packages=["app"], ignore=("environ:TZ",)) as barrier:
        assert_type(barrier, Barrier)
        barrier.on_cleanup(lambda: None, name="close")
    assert_type(barrier.changes, tuple[Change, ...])
    assert_type(barrier.leaks, tuple[Leak, ...])
    assert_type(barrier.clean, bool)
    assert_type(barrier.owner, str)
    assert_type([change.restored for change in barrier.changes], list[bool])


async def a_barrier_by_async_with() -> None:
    async with isolation_barrier() as barrier:
        assert_type(barrier, Barrier)
        barrier.on_cleanup(a_cleanup)


async def a_cleanup() -> None: ...


def wrong_calls_of_a_barrier() -> None:
    isolation_barrier(mode="loud")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    isolation_barrier("orders", "report")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    isolation_barrier(ignore=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- managed fixtures: the decorator changes no type


@managed_fixture
def port() -> int:
    return 8000


@managed_fixture(scope="session", priority=2, on_contamination="recreate")
def pool(port: int) -> Iterator[list[int]]:
    yield [port]


@managed_fixture(scope=FixtureScope.MODULE, dependencies=["pool"])
async def client() -> AsyncIterator[str]:
    yield "client"


assert_type(port(), int)
assert_type(pool(1), Iterator[list[int]])
assert_type(client(), AsyncIterator[str])
port(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
managed_fixture(on_contamination="forget")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def injected(barrier: Barrier) -> None:
    def use(pool: list[int], times: int = 1) -> int:
        return sum(pool) * times

    assert_type(barrier.inject(use)(pool=[1]), int)


# -- mocks, scenarios, summaries


async def the_rest() -> None:
    assert_type(isolated_mock(name="mailer"), Any)
    assert_type(integration_scenario("orders", ["kafka"]), IntegrationScenario)
    assert_type(get_contamination_summary(), dict[str, Any])
    assert_type(await validate_suite_isolation(), dict[str, Any])
    assert_type(validate_suite_isolation_sync(), dict[str, Any])
    assert_type(DependencyGraph().order, tuple[Node, ...])


# -- a probe of one's own


class Level(Probe):
    kind = "level"
    code = "LVL001"

    def capture(self) -> int:
        return 1

    def restore(self, key: object, value: object) -> None: ...


register_probe(Level())
register_probe(Level)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# -- settings are frozen


def settings_stay(settings: Settings, check: Callable[[str], None]) -> None:
    check(settings.mode)
    settings.mode = "off"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
