"""Services together: started in dependency order, ended in reverse, whatever fails."""

# A task group or cancel scope may swallow what is raised inside, for all that pyright knows.
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import anyio
import pytest

from isolation_core import complex_service_interaction_mock, cross_service_mock_orchestration, isolation_barrier
from isolation_core.errors import (
    ConfigurationError,
    GraphError,
    ServiceRuleError,
    TeardownErrors,
    UnknownServiceError,
)
from isolation_core.services import (
    InteractionLog,
    MockContext,
    ServiceDouble,
    commit_before_publish,
    delay,
    fail,
    no_publish_on_rollback,
    one_reply_per_request,
    operation,
    register_service,
    unregister_service,
)

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True


class Mine(StrEnum):
    BASE = "base"
    MIDDLE = "middle"
    TOP = "top"


class Base(ServiceDouble):
    service = "base"

    def __init__(self, context: MockContext | None = None, *, name: str | None = None, size: int = 1) -> None:
        super().__init__(context, name=name)
        self.size = size
        self.items: list[object] = []

    @operation
    async def put(self, item: object) -> None:
        self._require_connected()
        self.items.append(item)

    @operation
    async def publish(self, item: object) -> None:
        self.items.append(item)

    @operation
    async def request(self) -> None:
        await self.context.clock.wait(lambda: None)

    def problems(self) -> tuple[str, ...]:
        return (f"{len(self.items)} items unread",) if self.items else ()


class Middle(Base):
    service = "middle"

    async def close(self) -> None:
        """Flush to what it depends on, as real clients do."""
        await self.context["base"].put("flushed by middle")
        await super().close()


class Top(Base):
    service = "top"

    async def close(self) -> None:
        await super().close()
        raise OSError("top is stuck")


@pytest.fixture(autouse=True)
def services() -> Iterator[None]:
    """Register the services of this file."""
    register_service("base", Base)
    register_service("middle", Middle, depends_on=["base"], capabilities=["flush"])
    register_service("top", Top)
    yield
    for name in Mine:
        unregister_service(name)


async def test_a_mapping_by_enum_and_by_text() -> None:
    """The doubles are found by member and by text; an unknown key says what was meant."""
    async with MockContext() as context, cross_service_mock_orchestration([Mine.BASE, "top"], context) as mocks:
        assert mocks[Mine.BASE] is mocks["base"]
        assert mocks["base"].is_connected
        assert mocks.context is context
        with pytest.raises(UnknownServiceError, match="Did you mean 'base'"):
            mocks["bas"]
        unstick(mocks["top"])


def unstick(double: Base) -> None:
    """Let a `Top` close without an error."""
    double.__class__ = Base


async def test_dependency_order_up_and_down() -> None:
    """A service starts after what it needs, and is closed while that still works."""
    async with MockContext() as context:
        orchestration = cross_service_mock_orchestration(
            [Mine.TOP, Mine.MIDDLE, Mine.BASE], context, dependencies={Mine.TOP: [Mine.MIDDLE]}
        )
        async with orchestration as mocks:
            unstick(mocks["top"])
            base = mocks["base"]
        assert [entry.double for entry in context.log.calls("*.connect")] == ["base", "middle", "top"]
        assert base.items == ["flushed by middle"]
        assert not base.is_connected
        assert "middle" in orchestration.graph.explain("top")


async def test_what_a_registered_service_needs_comes_along() -> None:
    """`complex_service_interaction_mock` brings what its services were registered to depend on."""
    async with MockContext() as context, complex_service_interaction_mock(["middle"], context) as mocks:
        assert list(mocks) == ["base", "middle"]


async def test_the_context_of_the_barrier_is_the_default() -> None:
    """Without a context the doubles belong to the current barrier."""
    async with isolation_barrier(mode="off") as barrier:
        async with cross_service_mock_orchestration(["base"]) as mocks:
            assert barrier.services["base"] is mocks["base"]
        assert "base" not in barrier.services


async def test_one_context_may_be_orchestrated_again() -> None:
    """After its end the names are free: the next orchestration makes fresh doubles."""
    async with MockContext() as context:
        async with cross_service_mock_orchestration(["base"], context) as first:
            await first["base"].put(1)
        async with cross_service_mock_orchestration(["base"], context) as second:
            assert second["base"] is not first["base"]
            assert second["base"].items == []


async def test_doubles_of_others_are_used_and_left_alone() -> None:
    """A double the context has already is connected and used, and stays when the orchestration ends."""
    async with MockContext() as context:
        base = context.service("base")
        async with cross_service_mock_orchestration(["middle"], context) as mocks:
            assert mocks["base"] is base
        assert base.is_connected
        assert context["base"] is base


def test_synchronous_code() -> None:
    """`with` works without an event loop; the doubles are used from whatever loop comes later."""
    with MockContext() as context:
        with cross_service_mock_orchestration(["base"], context) as mocks:
            anyio.run(mocks["base"].put, 1)
            assert mocks["base"].items == [1]
        assert not mocks["base"].is_connected
        assert context.problems == {"base": ("1 items unread",)}


def test_synchronous_code_may_wait_on_the_virtual_clock() -> None:
    """Where connecting has to wait, `with` does so; the current event loop of the thread stays what it was."""
    with MockContext(virtual_time=True) as context:
        context.faults.add("base.connect", delay(1))
        with cross_service_mock_orchestration(["base"], context) as mocks:
            assert mocks["base"].is_connected
            assert context.clock.now() == 1


async def test_with_inside_of_an_event_loop_is_refused() -> None:
    """Inside of an event loop `with` says what to use instead."""
    async with MockContext() as context:
        with (
            pytest.raises(ConfigurationError, match="async with"),
            cross_service_mock_orchestration(["base"], context),
        ):
            raise AssertionError


async def test_options_of_doubles() -> None:
    """A mapping gives each double its options."""
    async with MockContext() as context, cross_service_mock_orchestration({"base": {"size": 5}}, context) as mocks:
        assert mocks["base"].size == 5


def test_unknown_services_are_explained() -> None:
    """Unknown names, in the services or in the dependencies, are refused with the nearest one."""
    with MockContext() as context:
        with pytest.raises(UnknownServiceError, match="Did you mean 'middle'"):
            cross_service_mock_orchestration(["midle"], context)
        with pytest.raises(UnknownServiceError, match="'tip', which 'dependencies=' depends on"):
            cross_service_mock_orchestration(["top"], context, {"tip": ["top"]})
        with pytest.raises(ConfigurationError, match=r"\['base'\]"):
            cross_service_mock_orchestration("base", context)


async def test_cycles_and_missing_dependencies_are_drawn() -> None:
    """Nothing starts when the dependencies cannot be ordered; all problems come at once."""
    async with MockContext() as context:
        with pytest.raises(GraphError, match="ISO001") as caught:
            async with cross_service_mock_orchestration(
                ["base", "middle", "top"], context, {"base": ["middle"], "top": ["nowhere"]}
            ):
                raise AssertionError
        assert {problem.code for problem in caught.value.problems} == {"ISO001", "ISO002"}
        assert len(context.log) == 0


async def test_a_failed_start_ends_what_was_started() -> None:
    """When a service cannot be connected, those before it are closed and the error says who was skipped."""
    async with MockContext() as context:
        context.faults.add("middle.connect", fail())
        with pytest.raises(ConnectionError) as caught:
            async with cross_service_mock_orchestration(["base", "middle", "top"], context, {"top": ["middle"]}):
                raise AssertionError
        assert any("skipped" in note and "'top'" in note for note in caught.value.__notes__)
        assert context.doubles == {}


async def test_failed_cleanups_stop_nothing() -> None:
    """A service that fails to close does not keep the others open; the body's error comes first."""
    async with MockContext() as context:
        orchestration = cross_service_mock_orchestration(["base", "middle", "top"], context)
        with pytest.raises(ExceptionGroup) as caught:
            async with orchestration:
                raise ValueError("body")
        mocks = orchestration.mocks
        assert isinstance(caught.value.exceptions[0], ValueError)
        assert isinstance(caught.value.exceptions[1], TeardownErrors)
        assert mocks["base"].items == ["flushed by middle"]
        assert not mocks["base"].is_connected


async def test_cancellation_ends_everything() -> None:
    """A cancelled body leaves no service up; cleanups that await still run."""
    async with MockContext() as context:
        with anyio.CancelScope() as scope:
            async with cross_service_mock_orchestration(["middle"], context) as mocks:
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert mocks["base"].items == ["flushed by middle"]
        assert not mocks["middle"].is_connected


async def transaction(mocks: dict[str, Base], *, ending: str, publish: str) -> None:
    """Return the log of a transaction that publishes inside it or afterwards."""
    mocks["base"].record("begin", transaction=1)
    if publish == "inside":
        await mocks["middle"].publish("m")
    mocks["base"].record(ending, transaction=1)
    if publish == "after":
        await mocks["middle"].publish("m")


@pytest.mark.parametrize(
    ("ending", "publish", "broken"),
    [
        ("commit", "after", []),
        ("commit", "inside", ["commit_before_publish"]),
        ("rollback", "inside", ["no_publish_on_rollback", "commit_before_publish"]),
        ("rollback", "after", []),
    ],
)
async def test_rules_about_transactions(ending: str, publish: str, broken: list[str]) -> None:
    """Rules see what was published inside of transactions, and how those ended."""
    violations: tuple[str, ...] = ()
    async with MockContext() as context:
        try:
            async with cross_service_mock_orchestration(
                ["base", "middle"], context, rules=[no_publish_on_rollback, commit_before_publish]
            ) as mocks:
                await transaction(mocks, ending=ending, publish=publish)
        except ServiceRuleError as error:
            violations = error.violations
    assert [violation.partition(":")[0] for violation in violations] == broken


async def test_rules_of_ones_own() -> None:
    """A rule may assert or yield; with an error on its way the verdict is a note of it."""

    def asserting(log: InteractionLog) -> None:
        log.assert_never("base.put")

    def yielding(log: InteractionLog) -> Iterator[str]:
        for entry in log.calls("base.put"):
            yield f"{entry} was put"

    async with MockContext() as context:
        with pytest.raises(ServiceRuleError) as caught:
            async with cross_service_mock_orchestration(["base"], context, rules=[asserting, yielding]) as mocks:
                await mocks["base"].put(1)
        assert len(caught.value.violations) == 2
        with pytest.raises(KeyError) as body:
            async with cross_service_mock_orchestration(["base"], context, rules=[yielding]):
                raise KeyError("mine")
        assert "yielding: #" in body.value.__notes__[-1]


async def test_requests_without_reply() -> None:
    """A request that never ended is reported."""
    async with MockContext() as context:
        base = Base(context)
        with anyio.move_on_after(0.01):
            await base.request()
        assert list(one_reply_per_request(context.log)) == []
        forgotten = base.request()
        assert len(list(one_reply_per_request(context.log))) == 1
        forgotten.close()


async def test_an_orchestration_is_entered_once() -> None:
    """A second block needs a second orchestration."""
    async with MockContext() as context:
        orchestration = cross_service_mock_orchestration(["base"], context)
        async with orchestration:
            pass
        with pytest.raises(ConfigurationError, match="entered before"):
            async with orchestration:
                raise AssertionError


async def test_services_may_start_at_once() -> None:
    """With concurrency, slow connections overlap; one that depends on another still waits for it."""
    async with MockContext(virtual_time=True) as context:
        context.faults.add("*.connect", delay(10))
        register_service("other", Base)
        try:
            async with cross_service_mock_orchestration(["base", "other", "middle"], context, max_concurrency=3):
                assert context.clock.now() == 20
        finally:
            unregister_service("other")
