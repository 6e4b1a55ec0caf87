"""Integration scenarios: required and used services, and separation from one another."""

# A task group or cancel scope may swallow what is raised inside, for all that pyright knows.
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

import gc
from collections.abc import Iterator

import anyio
import pytest

from isolation_core import IntegrationScenario, integration_scenario, isolation_barrier
from isolation_core.errors import (
    ConfigurationError,
    ForeignMockUseError,
    GraphError,
    MockDiscardedError,
    ScenarioRequirementError,
    ServiceRuleError,
    UnknownScenarioError,
    UnknownServiceError,
)
from isolation_core.scenarios import known_scenarios, register_scenario, unregister_scenario
from isolation_core.services import (
    ClientObject,
    MockContext,
    ServiceDouble,
    operation,
    register_service,
    unregister_service,
)

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True


class Line(ClientObject):
    label = "line"

    @operation
    async def say(self, word: object) -> None:
        self.double.items.append(word)


class Store(ServiceDouble):
    service = "store"

    def __init__(self, context: MockContext | None = None, *, name: str | None = None) -> None:
        super().__init__(context, name=name)
        self.items: list[object] = []

    @operation
    async def put(self, item: object) -> None:
        self._require_connected()
        self.items.append(item)
        self.context.clock.notify()

    @operation
    async def line(self) -> Line:
        return Line(self)


class Bus(Store):
    service = "bus"


@pytest.fixture(autouse=True)
def services() -> Iterator[None]:
    """Register the services of this file."""
    register_service("store", Store)
    register_service("bus", Bus, depends_on=["store"])
    yield
    unregister_service("store")
    unregister_service("bus")


async def test_a_scenario_gives_itself_and_its_doubles() -> None:
    """It unpacks into scenario and mapping, and has the doubles as items too."""
    async with integration_scenario("orders", ["store"]) as (scenario, mocks):
        assert isinstance(scenario, IntegrationScenario)
        assert scenario["store"] is mocks["store"]
        assert mocks["store"].is_connected
        assert scenario.state == "open"
    assert str(scenario.state) == "closed"
    assert not scenario.mocks["store"].is_connected


async def test_requirements_are_tracked() -> None:
    """Requirements list required, provided, used, unused and undeclared services; connecting does not count as use."""
    async with integration_scenario("orders", ["bus"]) as (scenario, mocks):
        assert scenario.requirements.unused == ("bus",)
        await mocks["store"].put(1)
        await mocks["bus"].health_check()
    needs = scenario.requirements
    assert needs.required == ("bus",)
    assert needs.provided == ("bus", "store")
    assert needs.used == needs.undeclared == ("store",)
    assert needs.unused == ("bus",)
    assert "undeclared store" in " ".join(str(needs).split())
    assert scenario.debug()["requirements"]["unused"] == ("bus",)


async def test_strict_requirements() -> None:
    """A strict scenario fails for what it did not use, and for what it used without requiring it."""
    with pytest.raises(ScenarioRequirementError, match=r"requires bus but never used it.*used store without") as caught:
        async with integration_scenario("orders", ["bus"], strict=True) as (_, mocks):
            await mocks["store"].put(1)
    assert (caught.value.unused, caught.value.undeclared) == (("bus",), ("store",))
    with pytest.raises(KeyError, match="body"):
        async with integration_scenario("orders", ["bus"], strict=True):
            raise KeyError("body")


async def test_late_use_names_the_scenario() -> None:
    """A double or connection used after the end raises, and both scenarios record it."""
    async with integration_scenario("first", ["store"]) as (first, mocks):
        line = await mocks["store"].line()
        await line.say(1)
    async with integration_scenario("second", ["store"]):
        with pytest.raises(MockDiscardedError, match="after scenario 'first' had ended, during scenario 'second'"):
            await mocks["store"].put(2)
        with pytest.raises(MockDiscardedError, match="scenario 'first'"):
            await line.say(2)
    uses = first.context.foreign_uses
    assert {(use["owner"], use["user"], use["discarded"]) for use in uses} == {
        ("scenario 'first'", "scenario 'second'", True)
    }


@pytest.mark.parametrize("strict", [True, False])
async def test_use_from_another_scenario(strict: bool) -> None:
    """A double or connection used inside another scenario is reported with both names, and raises if one is strict."""
    async with anyio.create_task_group() as tasks:
        ready, done = anyio.Event(), anyio.Event()
        made: list[IntegrationScenario] = []

        async def first() -> None:
            async with integration_scenario("first", ["store"]) as (scenario, _):
                made.append(scenario)
                ready.set()
                await done.wait()

        tasks.start_soon(first)
        await ready.wait()
        theirs = made[0]["store"]
        line = await theirs.line()
        async with integration_scenario("second", ["store"], strict=strict) as (second, mocks):
            await mocks["store"].put("own")
            if strict:
                with pytest.raises(ForeignMockUseError, match="of scenario 'first' was used by scenario 'second'"):
                    await mocks["store"].put(line)
                with pytest.raises(ForeignMockUseError, match="of scenario 'first' was used by scenario 'second'"):
                    await theirs.put("foreign")
            else:
                await mocks["store"].put(line)
                await theirs.put("foreign")
        done.set()
    expected = [("scenario 'first'", "scenario 'second'", path) for path in ("store.line", "store.put")]
    for scenario in (second, made[0]):
        assert [(use["owner"], use["user"], use["path"]) for use in scenario.context.foreign_uses] == expected


async def test_what_belongs_to_the_barrier_may_be_used_in_a_scenario() -> None:
    """Use of the barrier's own mocks and doubles inside a scenario is not contamination."""
    async with isolation_barrier(mode="strict", probes=[], owner="outer") as barrier:
        async with integration_scenario("inner", ["store"]) as (scenario, _):
            assert scenario.context.owner == "scenario 'inner' of outer"
            double = await barrier.service("bus").connect()
            await double.put(1)
            await barrier.mock().anything()
        assert scenario.context.foreign_uses == []
        assert barrier.services.foreign_uses == []


async def one_of_many(number: int, results: dict[int, tuple[list[object], list[object], float]]) -> None:
    """Fill a store and a bus with things only this scenario knows, over some virtual time."""
    async with integration_scenario(f"scenario {number}", ["bus"], virtual_time=True) as (scenario, mocks):
        for step in range(3):
            await scenario.context.clock.sleep(number % 7)
            await mocks["store"].put((number, step))
            await mocks["bus"].put((number, step, "bus"))
        assert len(scenario.context.log.calls("store.put")) == 3
        results[number] = (mocks["store"].items, mocks["bus"].items, scenario.context.clock.now())


async def test_a_hundred_scenarios_at_once_stay_apart() -> None:
    """Concurrent scenarios in one loop have content, time and log of their own."""
    results: dict[int, tuple[list[object], list[object], float]] = {}
    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(one_of_many, number, results)
    assert results == {
        number: (
            [(number, step) for step in range(3)],
            [(number, step, "bus") for step in range(3)],
            3.0 * (number % 7),
        )
        for number in range(100)
    }


async def test_scenarios_one_after_another_leave_nothing() -> None:
    """Scenarios leave no objects behind, and none sees what another wrote."""
    results: dict[int, tuple[list[object], list[object], float]] = {}
    for number in range(300):
        await one_of_many(number, results)
        assert results.pop(number)[0] == [(number, step) for step in range(3)]
    gc.collect()
    scenarios = [each for each in gc.get_objects() if type(each) is IntegrationScenario]
    alive = [each for each in scenarios if each.name.startswith("scenario")]
    # The frame of the last one may still be around.
    assert len(alive) <= 1


async def test_awaiting_starts_it_for_the_rest_of_the_barrier() -> None:
    """An awaited scenario ends with the barrier; outside of barriers nothing would end it, so that is refused."""
    async with isolation_barrier(mode="off"):
        scenario = await integration_scenario("orders", ["store"])
        await scenario["store"].put(1)
        assert scenario.state == "open"
    assert str(scenario.state) == "closed"
    with pytest.raises(ConfigurationError, match="nothing would end"):
        await integration_scenario("orders", ["store"])


def test_scenarios_in_synchronous_code() -> None:
    """`with` works as `async with` does."""
    with integration_scenario("orders", ["bus"]) as (scenario, mocks):
        anyio.run(mocks["bus"].put, 1)
        assert scenario.requirements.used == ("bus",)
    with pytest.raises(MockDiscardedError):
        anyio.run(mocks["bus"].put, 2)


async def test_errors_at_start_leave_nothing_open() -> None:
    """A cycle raises before anything starts; the scenario is closed then, and cannot be entered again."""
    scenario = integration_scenario("orders", ["bus", "store"], {"store": ["bus"]})
    with pytest.raises(GraphError, match="ISO001"):
        await scenario.__aenter__()
    assert scenario.state == "closed"
    assert not scenario.context.is_open
    with pytest.raises(ConfigurationError, match="is closed"):
        await scenario.__aenter__()


async def test_cancellation_ends_a_scenario() -> None:
    """A cancelled scenario is closed like any other."""
    with anyio.CancelScope() as scope:
        async with integration_scenario("orders", ["store"]) as (scenario, mocks):
            scope.cancel()
            await anyio.sleep(1)
    assert scope.cancelled_caught
    assert scenario.state == "closed"
    with pytest.raises(MockDiscardedError):
        await mocks["store"].put(1)


async def test_rules_of_a_scenario() -> None:
    """Rules are held against the log at the end."""
    with pytest.raises(ServiceRuleError, match="scenario 'orders' broke 1 rule"):
        async with integration_scenario("orders", ["store"], rules=[lambda log: log.assert_never("store.put")]) as (
            _,
            mocks,
        ):
            await mocks["store"].put(1)


async def test_ready_made_scenarios_of_ones_own() -> None:
    """A registered scenario is found by name; arguments of the call win; unknown names are explained."""
    register_scenario("shop", ["bus"], seed=5)
    try:
        assert "shop" in known_scenarios()
        async with integration_scenario("shop") as (scenario, _):
            assert scenario.context.seed == 5
        assert integration_scenario("shop", seed=6).context.seed == 6
        with pytest.raises(UnknownScenarioError, match="Did you mean 'shop'"):
            integration_scenario("shup")
    finally:
        unregister_scenario("shop")
    with pytest.raises(GraphError):
        register_scenario("broken", ["bus", "store"], {"store": ["bus"]})
    with pytest.raises(UnknownServiceError, match="Did you mean 'store'"):
        register_scenario("broken", ["stores"])
    assert "broken" not in known_scenarios()


def test_built_in_scenarios_are_ordered() -> None:
    """The built-in scenarios have the services and an order that can be explained."""
    assert set(known_scenarios()) >= {"full_service", "kafka_postgres"}
    scenario = integration_scenario("full_service").validate()
    assert len(scenario.services) == 7
    assert scenario._orchestration.graph.order[-1].name == "workflow_coordinator"
    assert "postgres" in integration_scenario("kafka_postgres").explain()


def test_a_scenario_needs_a_name() -> None:
    """A scenario without a name is refused."""
    with pytest.raises(ConfigurationError, match="needs a name"):
        IntegrationScenario("", ["store"])
