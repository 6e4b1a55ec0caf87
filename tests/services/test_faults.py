"""Faults on purpose: rules say which calls, when, and what goes wrong."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest

from isolation_core.errors import ConfigurationError, FaultMatrixError, UnknownOperationError, UnusedFaultError
from isolation_core.services import (
    FaultAction,
    MockContext,
    ServiceDouble,
    answer,
    cancel,
    delay,
    disconnect,
    duplicate,
    fail,
    fault_matrix,
    hang,
    lose_reply,
    operation,
)

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True


class RejectedError(Exception):
    """The exception of the shelf's real client."""


class Shelf(ServiceDouble):
    service = "shelf"

    def __init__(self, context: MockContext | None = None, *, name: str | None = None) -> None:
        super().__init__(context, name=name)
        self.items: list[Any] = []

    @operation
    async def put(self, item: Any) -> int:
        self.items.append(item)
        return len(self.items)

    @operation
    def count(self) -> int:
        return len(self.items)

    def fault_error(self, kind: str) -> BaseException:
        return RejectedError(kind) if kind == "rejected" else super().fault_error(kind)


async def outcomes(context: MockContext, number: int) -> list[bool]:
    """Whether each of *number* puts went well."""
    shelf, went = context["shelf"], []
    for item in range(number):
        try:
            await shelf.put(item)
        except ConnectionError:
            went.append(False)
        else:
            went.append(True)
    return went


@pytest.fixture
def context() -> MockContext:
    """A context with one shelf."""
    made = MockContext("a test", seed=7, virtual_time=True)
    Shelf(made)
    return made


async def test_a_failure_raises_the_clients_exception(context: MockContext) -> None:
    """A fault raises the double's own exception with a note of the rule; the call has no effect and is logged."""
    context.faults.add("shelf.put", fail("rejected"))
    with pytest.raises(RejectedError, match="rejected") as caught:
        await context["shelf"].put(1)
    assert "fault plan of a test: fail('rejected') on shelf.put" in caught.value.__notes__[0]
    assert context["shelf"].items == []
    assert context.log[-1].fault == "fail('rejected')"
    assert context.log[-1].state == "raised"


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"nth": 2}, [True, False, True, True]),
        ({"nth": (1, 4)}, [False, True, True, False]),
        ({"every": 2}, [True, False, True, False]),
        ({"times": 1}, [False, True, True, True]),
        ({"item": 3}, [True, True, True, False]),
        ({"where": lambda entry: entry.args[0] > 1}, [True, True, False, False]),
        ({"probability": 0.0}, [True, True, True, True]),
        ({"probability": 1.0}, [False, False, False, False]),
        ({"window": (10.0, 20.0)}, [True, True, True, True]),
        ({"window": (0.0, 20.0)}, [False, False, False, False]),
        ({"after": "shelf.count"}, [True, True, True, True]),
        ({"active": lambda: False}, [True, True, True, True]),
    ],
)
async def test_conditions(context: MockContext, conditions: dict[str, Any], expected: list[bool]) -> None:
    """A rule applies to the calls its conditions say, and to no others."""
    context.faults.add("shelf.put", fail(), optional=True, **conditions)
    assert await outcomes(context, 4) == expected


async def test_after_an_event(context: MockContext) -> None:
    """A rule that waits for something applies from then on."""
    context.faults.add("shelf.put", fail(), after="shelf.count")
    assert await outcomes(context, 2) == [True, True]
    context["shelf"].count()
    assert await outcomes(context, 2) == [False, False]


async def test_dice_follow_the_seed() -> None:
    """The same seed gives the same faults, another one others; the seed is noted on the error."""

    async def run(seed: int) -> list[bool]:
        context = MockContext("dice", seed=seed, virtual_time=True)
        Shelf(context)
        context.faults.add("shelf.put", fail(), probability=0.5)
        return await outcomes(context, 64)

    first = await run(1)
    assert first == await run(1)
    assert first != await run(2)
    assert 10 < Counter(first)[False] < 54
    context = MockContext(seed=99, virtual_time=True)
    Shelf(context)
    context.faults.add("shelf.put", fail(), probability=1)
    with pytest.raises(ConnectionError) as caught:
        await context["shelf"].put(1)
    assert "seed 99" in caught.value.__notes__[0]


async def test_delay_is_virtual(context: MockContext) -> None:
    """Latency passes on the virtual clock."""
    context.faults.add("shelf.put", delay(3600))
    assert await context["shelf"].put(1) == 1
    assert context.clock.now() == 3600


async def test_hang_until_cancelled(context: MockContext) -> None:
    """A call that hangs ends by cancellation only."""
    context.faults.add("shelf.put", hang())
    with anyio.move_on_after(0.01) as scope:
        await context["shelf"].put(1)
    assert scope.cancelled_caught
    assert context.log[-1].state == "cancelled"


async def test_disconnect_until_restored(context: MockContext) -> None:
    """After a disconnect every call raises, until the service is restored."""
    shelf = await context["shelf"].connect()
    context.faults.add("shelf.put", disconnect(), nth=1)
    assert await outcomes(context, 3) == [False, False, False]
    assert not shelf.is_connected
    with pytest.raises(ConnectionError):
        await shelf.connect()
    context.faults.restore("shelf")
    assert await outcomes(context, 1) == [True]


async def test_disconnect_for_a_while(context: MockContext) -> None:
    """An outage may end by itself on the virtual clock."""
    context.faults.add("shelf.put", disconnect(30), nth=1)
    assert await outcomes(context, 2) == [False, False]
    await context.clock.sleep(30)
    assert await outcomes(context, 1) == [True]


async def test_lost_reply_took_effect(context: MockContext) -> None:
    """The caller sees an error, the effect is there."""
    context.faults.add("shelf.put", lose_reply())
    with pytest.raises(TimeoutError):
        await context["shelf"].put("x")
    assert context["shelf"].items == ["x"]


async def test_duplicate_and_answer(context: MockContext) -> None:
    """A duplicate takes effect twice; an answer may be falsified."""
    context.faults.add("shelf.put", duplicate(), nth=1)
    assert await context["shelf"].put("x") == 2
    context.faults.add("shelf.count", answer(lambda count: count - 1))
    assert context["shelf"].count() == 1


async def test_cancel(context: MockContext) -> None:
    """The caller can be cancelled before the effect or after it."""
    with anyio.CancelScope() as scope:
        context.faults.add("shelf.put", cancel(scope), nth=1)
        await context["shelf"].put(1)
    assert scope.cancelled_caught
    assert context["shelf"].items == []
    with anyio.CancelScope() as scope:
        context.faults.add("shelf.put", cancel(scope, after=True))
        await context["shelf"].put(2)
    assert scope.cancelled_caught
    assert context["shelf"].items == [2]


async def test_rules_compose(context: MockContext) -> None:
    """Several rules on one call apply around each other, the first outermost."""
    context.faults.add("shelf.put", delay(5))
    context.faults.add("shelf.put", fail())
    with pytest.raises(ConnectionError):
        await context["shelf"].put(1)
    assert context.clock.now() == 5
    assert context.log[-1].fault == "delay(5); fail('unavailable')"


async def test_exceptions_given_by_hand(context: MockContext) -> None:
    """A class, an instance (again and again, with one note) and a function make the exception."""
    error = KeyError("same")
    for cause, times in ((ValueError, 1), (error, 2), (lambda: OSError(5, "x"), 1)):
        rule = context.faults.add("shelf.put", fail(cause))
        for _ in range(times):
            with pytest.raises((ValueError, KeyError, OSError)) as caught:
                await context["shelf"].put(1)
            assert len(caught.value.__notes__) == 1
        context.faults.remove(rule)


async def test_faults_win_over_configured_outcomes(context: MockContext) -> None:
    """A rule applies to a call with a configured return value as well."""
    context["shelf"].put.return_value = 5
    assert await context["shelf"].put(1) == 5
    context.faults.add("shelf.put", fail())
    with pytest.raises(ConnectionError):
        await context["shelf"].put(1)


def test_waiting_in_a_synchronous_operation_is_refused(context: MockContext) -> None:
    """An action that has to wait says that it cannot in a synchronous operation; failing works."""
    rule = context.faults.add("shelf.count", hang())
    with pytest.raises(ConfigurationError, match="synchronous"):
        context["shelf"].count()
    context.faults.remove(rule)
    context.faults.add("shelf.count", fail("timeout"))
    with pytest.raises(TimeoutError):
        context["shelf"].count()


@pytest.mark.parametrize(
    "conditions",
    [{"nth": 0}, {"every": 0}, {"probability": 2.0}, {"times": 0}, {"window": (5.0, 5.0)}],
    ids=str,
)
def test_conditions_that_never_hold_are_refused(context: MockContext, conditions: dict[str, Any]) -> None:
    """A condition that can never hold is an error where it is written."""
    with pytest.raises(ConfigurationError, match="never hold"):
        context.faults.add("shelf.put", fail(), **conditions)


def test_misspelled_rules_are_refused(context: MockContext) -> None:
    """A misspelled operation or kind is an error where it is written."""
    with pytest.raises(UnknownOperationError, match="Did you mean 'put'"):
        context.faults.add("shelf.putt", fail())
    with pytest.raises(ConfigurationError, match="'unavailable'"):
        fail("unavailabel")  # type: ignore[arg-type]


async def test_unused_rules_are_told(context: MockContext) -> None:
    """A rule that never fired is an assertion error on request, and a problem of the context at its end."""
    context.faults.add("shelf.put", fail(), nth=3)
    context.faults.add("shelf.count", fail(), optional=True)
    await outcomes(context, 1)
    with pytest.raises(UnusedFaultError, match=r"fail\('unavailable'\) on shelf.put \(call 3\): 1 calls matched"):
        context.faults.assert_all_used()
    await context.aclose()
    assert context.problems["faults"] == ("fail('unavailable') on shelf.put (call 3) never fired; 1 calls matched",)


def outbox(*, mark_first: bool) -> Any:
    """An outbox publisher: correct, or with the bug that marks a message as sent before it is."""

    async def workload(context: MockContext) -> None:
        table, queue = Shelf(context, name="table"), Shelf(context, name="queue")
        for message in ("a", "b"):
            steps = [lambda m=message: table.put(m), lambda m=message: queue.put(m)]
            for step in steps if mark_first else reversed(steps):
                await step()

    return workload


def nothing_lost(context: MockContext) -> None:
    """Whatever is marked as sent was sent."""
    assert set(context["table"].items) <= set(context["queue"].items), "a message is lost"


async def test_fault_matrix_finds_a_lost_message() -> None:
    """A failure at each call in turn shows the order of steps that loses a message, and passes the other."""
    good = await fault_matrix(outbox(mark_first=False), nothing_lost)
    assert [case.number for case in good.cases] == [1, 2, 3, 4, 0]
    good.assert_holds()
    bad = await fault_matrix(outbox(mark_first=True), nothing_lost)
    assert [case.number for case in bad.violations] == [2, 4]
    with pytest.raises(FaultMatrixError, match=r"failed after 2 of 5 runs(.|\n)*VIOLATED: a message is lost") as caught:
        bad.assert_holds()
    assert caught.value.sequence.startswith("sequenceDiagram")


async def test_fault_matrix_with_lost_replies() -> None:
    """With lost replies the matrix finds what is not idempotent, and only at the operations named."""

    async def workload(context: MockContext) -> None:
        shelf = Shelf(context)
        for _attempt in range(2):
            try:
                await shelf.put("payment")
            except TimeoutError:
                continue
            break

    async def once(context: MockContext) -> None:
        assert context["shelf"].items == ["payment"]

    matrix = await fault_matrix(workload, once, on="shelf.put", action=lose_reply())
    # Without the fault there is a single call: the second run is the one without.
    assert [(case.number, case.violation is not None) for case in matrix.cases] == [(1, True), (0, False)]


async def test_fault_matrix_passes_errors_of_the_workload_itself() -> None:
    """An error that no fault caused is the workload's own and is raised."""

    async def workload(context: MockContext) -> None:
        raise RuntimeError("broken by itself")

    with pytest.raises(RuntimeError, match="by itself"):
        await fault_matrix(workload, lambda _context: None)


def test_an_action_of_ones_own_must_say_what_it_does() -> None:
    """A derived action without `run` is refused when it is made, by name, not when a call meets it."""

    class Lazy(FaultAction):
        """An action whose author forgot something."""

    with pytest.raises(TypeError, match=r"Lazy.*run"):
        Lazy()  # type: ignore[abstract]
