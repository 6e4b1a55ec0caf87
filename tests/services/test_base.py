"""Every service double has a behaviour, verified mocks, a log and an owner."""

# A task group or cancel scope may swallow what is raised inside, for all that pyright knows.
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

from typing import Any

import anyio
import pytest

from isolation_core import isolation_barrier
from isolation_core.errors import (
    ConfigurationError,
    LifecycleClosedError,
    MockDiscardedError,
    ServiceNotConnectedError,
    UnknownOperationError,
    UnknownServiceError,
)
from isolation_core.mocks import current_registry
from isolation_core.services import (
    ClientObject,
    MockContext,
    ServiceDouble,
    ServiceType,
    client_class,
    known_services,
    operation,
    register_service,
    unregister_service,
)

pytestmark = pytest.mark.anyio


class Lid(ClientObject):
    label = "lid"

    @operation
    async def lift(self) -> str:
        return "open"

    @operation(name="angle", snapshot="reference")
    def angle_of(self, degrees: object) -> object:
        return degrees

    def problems(self) -> tuple[str, ...]:
        return ("a lid is open",)


class Box(ServiceDouble):
    """A service as small as can be."""

    service = "box"

    def __init__(self, context: MockContext | None = None, *, name: str | None = None) -> None:
        super().__init__(context, name=name)
        self.items: list[Any] = []

    @operation
    async def put(self, item: Any, *, key: object = None) -> int:
        self._require_connected()
        self.items.append(item)
        self.context.clock.notify()
        return len(self.items)

    @operation
    async def take(self, timeout: float | None = None) -> Any:
        return await self.context.clock.wait(lambda: self.items.pop(0) if self.items else None, timeout=timeout)

    @operation(shape="dual")
    async def lid(self) -> Lid:
        return Lid(self)

    def reset(self) -> None:
        super().reset()
        self.items.clear()


class LoudBox(Box):
    async def put(self, item: Any, *, key: object = None) -> int:  # type: ignore[override]
        return 10 * await super().put(item, key=key)


async def test_behaviour_and_mock_api_are_one_object() -> None:
    """Items that were put can be taken, and the same methods have the assertions of AsyncMock."""
    async with MockContext() as context:
        box = await Box(context).connect()
        assert await box.put({"a": 1}, key="k") == 1
        box.put.assert_awaited_once_with({"a": 1}, key="k")
        box.put.assert_called_once()
        assert await box.take() == {"a": 1}
        assert box.mock.mock_calls[1:] == [pytest.importorskip("unittest.mock").call.put({"a": 1}, key="k"), ("take",)]


async def test_configured_outcome_wins() -> None:
    """A return value, then a side effect, win over the behaviour; reset brings the behaviour back."""
    async with MockContext() as context:
        box = await Box(context).connect()
        box.put.return_value = 77
        assert await box.put(1) == 77
        box.put.side_effect = ValueError("full")
        with pytest.raises(ValueError, match="full"):
            await box.put(1)
        assert box.items == []
        box.reset()
        await box.connect()
        assert await box.put(1) == 1
        box.put.assert_awaited_once_with(1)


async def test_unknown_names_raise() -> None:
    """Reading or setting a name a double does not have raises and says what was meant."""
    async with MockContext() as context:
        box = Box(context)
        with pytest.raises(UnknownOperationError, match=r"'putt'.*Did you mean 'put'"):
            box.putt  # noqa: B018
        with pytest.raises(UnknownOperationError, match="Did you mean 'items'"):
            box.itemz = []
        with pytest.raises(UnknownOperationError, match="side_effect"):
            box.put = None
        with pytest.raises(AttributeError, match="assert_awaited"):
            box.put.assert_awaitd()  # type: ignore[attr-defined]


async def test_wrong_signature_raises() -> None:
    """A call that the method would not take raises TypeError when it is made, and is not logged."""
    async with MockContext() as context:
        box = Box(context)
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'item'"):
            _ = box.put()  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="unexpected keyword argument 'kee'"):
            _ = box.put(1, kee=2)  # type: ignore[call-arg]
        assert len(context.log) == 0


async def test_errors_of_the_behaviour_pass_unchanged() -> None:
    """Exceptions of the behaviour reach the caller, and the log records the outcome."""
    async with MockContext() as context:
        box = Box(context)
        with pytest.raises(ServiceNotConnectedError, match=r"await box\.connect"):
            await box.put(1)
        assert context.log[0].state == "raised"
        assert context.log[0].error_type is ServiceNotConnectedError


async def test_overriding_an_operation() -> None:
    """An overriding method is an operation without saying so; its super() call is not logged a second time."""
    async with MockContext() as context:
        box = await LoudBox(context).connect()
        assert await box.put("x") == 10
        box.put.assert_awaited_once_with("x")
        assert [entry.operation for entry in context.log] == ["connect", "put"]


async def test_client_objects_end_with_their_double() -> None:
    """Client objects have their own operations, appear in the problems of their double, and end with it."""
    async with MockContext() as context:
        box = await Box(context).connect()
        async with box.lid() as lid:
            assert await lid.lift() == "open"
        other = await box.lid()
        arg: list[int] = []
        assert other.angle_of(arg) is arg
        lid.lift.assert_awaited_once_with()
        other.lift.assert_not_called()
        assert [(entry.client, entry.operation) for entry in context.log][-1] == ("lid", "angle")
        assert context.log[-1].args[0] is arg
        assert box.problems() == ("a lid is open", "a lid is open")
        await box.disconnect()
        assert box.problems() == ()


async def test_arguments_are_kept_as_they_were() -> None:
    """Changing a container after the call does not change the record of it."""
    async with MockContext() as context:
        box = await Box(context).connect()
        item = {"tags": ["a"]}
        await box.put(item, key=[1])
        item["tags"].append("b")
        assert context.log[-1].args == ({"tags": ["a"]},)
        assert context.log[-1].arguments == {"item": {"tags": ["a"]}, "key": [1]}


async def test_log_knows_overlap_and_how_calls_end() -> None:
    """A record has a number at its start and at its end, and says: called, pending, returned, raised, cancelled."""
    async with MockContext() as context:
        box = await Box(context).connect()
        forgotten = box.take()
        assert context.log[-1].state == "called"
        forgotten.close()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(box.take)
            await anyio.wait_all_tasks_blocked()
            taken = context.log[-1]
            assert taken.state == "pending"
            assert taken.end is None
            await box.put(1)
        put = context.log[-1]
        assert taken.state == put.state == "returned"
        assert taken.start < put.start
        assert put.end is not None
        assert taken.end is not None
        assert put.end < taken.end
        with anyio.CancelScope() as scope:
            scope.cancel()
            await box.take()
        assert str(context.log[-1].state) == "cancelled"


async def test_a_barrier_owns_its_doubles() -> None:
    """A double of a barrier is disconnected when it ends, and poisoned: late use names the owner."""
    register_service("box", Box)
    try:
        async with isolation_barrier(mode="off", owner="test of mine") as barrier:
            box = barrier.service("box")
            assert barrier.service("box") is box
            assert Box(name="second").context is barrier.services
            await box.connect()
            await box.put(1)
        assert not box.is_connected
        with pytest.raises(MockDiscardedError, match="after test of mine had ended"):
            await box.put(2)
        with pytest.raises(MockDiscardedError, match="test of mine"):
            box.take  # noqa: B018
        with pytest.raises(LifecycleClosedError, match="test of mine"):
            Box(barrier._services)
    finally:
        unregister_service("box")


def test_sync_barrier_closes_doubles() -> None:
    """Doubles made in a sync barrier, connected in an event loop that is gone, are closed all the same."""
    with isolation_barrier(mode="off", owner="sync") as barrier:
        box = Box()
        anyio.run(box.connect)
        anyio.run(box.put, 1)
        context = barrier.services
        anyio.run(box.lid)
    assert not box.is_connected
    assert context.problems == {"box": ("a lid is open",)}


async def test_cleanup_errors_stop_nothing() -> None:
    """A double that fails to close does not keep the others open; the error is raised at the end."""

    class Broken(Box):
        def close_now(self) -> None:
            raise OSError("stuck")

    context = MockContext("here")
    first, broken, last = Box(context, name="first"), Broken(context, name="broken"), Box(context, name="last")
    await first.connect()
    await last.connect()
    with pytest.raises(ExceptionGroup) as caught:
        await context.aclose()
    assert [str(error) for error in caught.value.exceptions] == ["stuck"]
    assert not first.is_connected
    assert not last.is_connected
    assert broken.context is context


def test_names_of_doubles_are_unique() -> None:
    """A second double of one service needs a name; options for an existing one are refused."""
    with MockContext() as context:
        Box(context)
        with pytest.raises(ConfigurationError, match="name="):
            Box(context)
        register_service("box", Box)
        try:
            with pytest.raises(ConfigurationError, match="exists already"):
                context.service("box", size=3)
            assert context.service("box", name="other").name == "other"
        finally:
            unregister_service("box")


def test_double_outside_of_any_barrier_says_what_to_do() -> None:
    """Without a context and outside of barriers, the error says how to get one."""
    with pytest.raises(ConfigurationError, match=r"isolation_barrier\(\)"):
        Box()


def test_context_leaves_no_registry_behind() -> None:
    """The registry of a context is current inside it only."""
    before = current_registry.get()
    with MockContext() as context:
        assert current_registry.get() is context.mocks
    assert current_registry.get() is before


def test_service_type_equals_its_string() -> None:
    """A member of ServiceType is its string, also as a key."""
    kafka: str = ServiceType.KAFKA
    by_name: dict[str, int] = {ServiceType.POSTGRES: 1}
    assert kafka == "kafka"
    assert by_name["postgres"] == 1
    assert set(map(str, ServiceType)) <= set(known_services())


def test_unknown_service_says_what_was_meant() -> None:
    """An unknown service is refused with the nearest name and how to register one's own."""
    with MockContext() as context, pytest.raises(UnknownServiceError, match=r"Did you mean 'kafka'.*register_service"):
        context.service("kafak")


def test_registering_needs_a_builder() -> None:
    """A builder that cannot be called is refused when it is registered."""
    with pytest.raises(ConfigurationError, match="builder of the service 'x'"):
        register_service("x", 3)  # type: ignore[arg-type]


def test_client_class_is_real_or_looks_alike() -> None:
    """The exception of an installed client is the real one; of another a look-alike with its bases, made once."""
    assert client_class("json", "JSONDecodeError", ValueError) is __import__("json").JSONDecodeError
    first = client_class("no_such_client.errors", "LowError", OSError)
    assert first is client_class("no_such_client.errors", "LowError", OSError)
    assert issubclass(first, OSError)
    derived = client_class("no_such_client.errors", "LowerError", "Base")
    assert derived.__name__ == "LowerError"
    assert issubclass(derived, client_class("no_such_client.errors", "Base"))
