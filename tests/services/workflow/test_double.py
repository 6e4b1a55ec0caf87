"""Workflow coordinator: semantics of workflows and activities, replay, mock API, faults, end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from isolation_core.errors import ConfigurationError, IsolationError, ServiceNotConnectedError
from isolation_core.services import MockContext, fail
from isolation_core.services.workflow import (
    ActivityError,
    ActivityTimeoutError,
    ApplicationError,
    ChildWorkflowError,
    CoordinatorTimeoutError,
    ForeignAwaitError,
    HandlerError,
    History,
    NonDeterminismError,
    NotRegisteredError,
    ReadOnlyContextError,
    RetryPolicy,
    UpdateFailedError,
    UpdateRejectedError,
    WorkflowAlreadyStartedError,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowCoordinatorDouble,
    WorkflowFailedError,
    WorkflowNotFoundError,
    WorkflowStatus,
    WorkflowTerminatedError,
    WorkflowTimedOutError,
    activity_info,
    heartbeat,
)

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True


@pytest.fixture
def context() -> MockContext:
    """Give a context of its own; the test closes it in its loop if tasks may still run."""
    return MockContext("a test", virtual_time=True)


@pytest.fixture
async def coordinator(context: MockContext) -> AsyncIterator[WorkflowCoordinatorDouble]:
    """Give a connected coordinator, ended in the loop of the test."""
    async with context:
        yield await WorkflowCoordinatorDouble(context).connect()


async def test_result_and_virtual_time(coordinator: WorkflowCoordinatorDouble, context: MockContext) -> None:
    """A workflow sleeps a month of virtual time, calls an activity, and gives a result."""

    async def remind(ctx: WorkflowContext, who: str) -> str:
        await ctx.sleep(30 * 86_400)
        greeting: str = await ctx.activity("greet", who)
        return greeting

    async def greet(who: str) -> str:
        await anyio.lowlevel.checkpoint()
        return f"hello {who}"

    coordinator.register_workflow(remind)
    coordinator.register_activity(greet)
    began = time.monotonic()
    handle = await coordinator.start_workflow("remind", "Ada")
    assert await handle.result() == "hello Ada"
    assert context.clock.now() == 30 * 86_400
    assert time.monotonic() - began < 5
    description = await handle.describe()
    assert description.status is WorkflowStatus.COMPLETED
    assert description.closed_at == description.started_at + 30 * 86_400
    assert handle.history.types == (
        "WorkflowExecutionStarted", "TimerStarted", "TimerFired", "ActivityTaskScheduled", "ActivityTaskStarted",
        "ActivityTaskCompleted", "WorkflowExecutionCompleted",
    )  # fmt: skip


async def test_synchronous_activity(coordinator: WorkflowCoordinatorDouble) -> None:
    """An activity may be a plain function, and a workflow may be started by its function."""

    @coordinator.register_activity
    def double(number: int) -> int:
        return 2 * number

    @coordinator.register_workflow(name="work")
    async def work(ctx: WorkflowContext) -> Any:
        return await ctx.activity(double, 21)

    assert await (await coordinator.start_workflow(work)).result() == 42


async def test_retries_with_backoff(coordinator: WorkflowCoordinatorDouble, context: MockContext) -> None:
    """A failing activity is tried again after 1, 2, 4 seconds, up to the limit; then the workflow gets the cause."""
    at: list[float] = []

    @coordinator.register_activity
    async def charge() -> None:
        at.append(context.clock.now())
        raise ValueError(f"attempt {activity_info().attempt}")

    @coordinator.register_workflow
    async def pay(ctx: WorkflowContext) -> None:
        await ctx.activity("charge", retry=RetryPolicy(maximum_attempts=4))

    with pytest.raises(WorkflowFailedError, match="pay") as caught:
        await (await coordinator.start_workflow("pay")).result()
    assert at == [0, 1, 3, 7]
    error = caught.value.__cause__
    assert isinstance(error, ActivityError)
    assert (error.activity, error.attempt, error.retry_state) == ("charge", 4, "maximum_attempts")
    assert str(error.__cause__) == "attempt 4"


@pytest.mark.parametrize("how", ["flag", "type", "class"])
async def test_non_retryable(coordinator: WorkflowCoordinatorDouble, how: str) -> None:
    """An error that is marked, or named by the policy, is not retried."""

    @coordinator.register_activity
    async def charge() -> None:
        if how == "class":
            raise KeyError("card")
        raise ApplicationError("declined", type="Declined", non_retryable=how == "flag")

    @coordinator.register_workflow
    async def pay(ctx: WorkflowContext) -> tuple[int, str]:
        try:
            await ctx.activity(charge, retry=RetryPolicy(non_retryable_error_types=("Declined", "LookupError")))
        except ActivityError as error:
            return error.attempt, error.retry_state
        raise AssertionError

    assert await (await coordinator.start_workflow("pay")).result() == (1, "non_retryable")


async def test_runaway_activity_ends(coordinator: WorkflowCoordinatorDouble) -> None:
    """An activity that fails forever, without any limit, does not hang the test: the error says what to set."""

    @coordinator.register_activity
    async def never() -> None:
        raise OSError("down")

    @coordinator.register_workflow
    async def hopeful(ctx: WorkflowContext) -> None:
        await ctx.activity(never)

    with pytest.raises(WorkflowFailedError, match=r"runaway.*maximum_attempts"):
        await (await coordinator.start_workflow("hopeful")).result()


@pytest.mark.parametrize(
    ("options", "kind", "at"),
    [
        ({"start_to_close_timeout": 5.0, "retry": RetryPolicy(maximum_attempts=2)}, "start_to_close", 11.0),
        ({"schedule_to_close_timeout": 7.0}, "schedule_to_close", 7.0),
        ({"heartbeat_timeout": 2.0, "retry": RetryPolicy(maximum_attempts=1)}, "heartbeat", 2.0),
    ],
)
async def test_activity_timeouts(
    coordinator: WorkflowCoordinatorDouble, context: MockContext, options: dict[str, Any], kind: str, at: float
) -> None:
    """A timeout cancels the activity, and the error names the limit: per attempt, in total, or between heartbeats."""
    cancelled: list[int] = []

    @coordinator.register_activity
    async def hang() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            cancelled.append(1)
            raise

    @coordinator.register_workflow
    async def patient(ctx: WorkflowContext) -> None:
        await ctx.activity(hang, **options)

    with pytest.raises(WorkflowFailedError) as caught:
        await (await coordinator.start_workflow("patient")).result()
    error = caught.value.__cause__
    assert isinstance(error, ActivityError)
    assert isinstance(error.__cause__, ActivityTimeoutError)
    assert error.__cause__.kind == kind
    assert context.clock.now() == at
    await anyio.wait_all_tasks_blocked()
    assert cancelled


async def test_heartbeat_keeps_alive_and_carries_details(
    coordinator: WorkflowCoordinatorDouble, context: MockContext
) -> None:
    """Heartbeats push the limit out, and what they carried is there for the next attempt."""
    seen: list[tuple[Any, ...]] = []

    @coordinator.register_activity
    async def copy(parts: int) -> int:
        info = activity_info()
        seen.append(info.heartbeat_details)
        first = info.heartbeat_details[0] if info.heartbeat_details else 0
        for part in range(first, parts):
            heartbeat(part)
            await context.clock.sleep(4)
            if part == 2 and info.attempt == 1:
                raise OSError("link lost")
        return parts

    @coordinator.register_workflow
    async def backup(ctx: WorkflowContext) -> Any:
        return await ctx.activity(copy, 5, heartbeat_timeout=5)

    assert await (await coordinator.start_workflow("backup")).result() == 5
    assert seen == [(), (2,)]


async def test_schedule_to_start_with_limited_slots(context: MockContext) -> None:
    """Where slots are limited, activities queue; one that waits too long fails, the others run one by one."""
    async with context:
        coordinator: WorkflowCoordinatorDouble = await WorkflowCoordinatorDouble(
            context, max_concurrent_activities=1
        ).connect()
        most = running = 0

        @coordinator.register_activity
        async def work() -> None:
            nonlocal most, running
            running += 1
            most = max(most, running)
            await context.clock.sleep(10)
            running -= 1

        @coordinator.register_workflow
        async def crowd(ctx: WorkflowContext) -> str:
            two = ctx.activity(work), ctx.activity(work)
            late = ctx.activity(work, schedule_to_start_timeout=5)
            try:
                await late
            except ActivityError as error:
                await ctx.gather(*two)
                return str(error.__cause__)
            raise AssertionError

        assert "schedule_to_start" in await (await coordinator.start_workflow("crowd")).result()
        assert most == 1


async def test_signals_are_buffered_in_order(coordinator: WorkflowCoordinatorDouble) -> None:
    """Signals sent before anybody receives them are kept in order; handlers, sync and async, get them too."""

    @coordinator.register_workflow
    async def collect(ctx: WorkflowContext) -> list[Any]:
        got: list[Any] = []
        await ctx.sleep(10)
        got.extend([await ctx.receive("item"), await ctx.receive("item")])
        ctx.on_signal("item", got.append)

        async def slow(value: str) -> None:
            await ctx.sleep(1)
            got.append(value)

        ctx.on_signal("slow", slow)
        await ctx.wait_condition(lambda: len(got) == 4)
        return got

    handle = await coordinator.start_workflow("collect", start_signal="item", start_signal_args=(1,))
    for value in (2, 3):
        await handle.signal("item", value)
    await handle.signal("slow", "last")
    assert await handle.result() == [1, 2, 3, "last"]


async def test_receive_times_out(coordinator: WorkflowCoordinatorDouble, context: MockContext) -> None:
    """Waiting for a signal or a condition can be limited; a signal in time stops the timer."""

    @coordinator.register_workflow
    async def approve(ctx: WorkflowContext) -> str:
        try:
            return str(await ctx.receive("approved", timeout=3600))
        except TimeoutError:
            return "timeout"

    late = await coordinator.start_workflow("approve")
    assert await late.result() == "timeout"
    assert context.clock.now() == 3600
    prompt = await coordinator.start_workflow("approve")
    await prompt.signal("approved", "yes")
    assert await prompt.result() == "yes"
    assert prompt.history.types[-2:] == ("TimerCanceled", "WorkflowExecutionCompleted")


async def test_query_looks_and_may_not_touch(coordinator: WorkflowCoordinatorDouble) -> None:
    """Queries see the state, running or ended, leave no trace, and may give no command."""

    @coordinator.register_workflow
    async def count(ctx: WorkflowContext) -> None:
        state = {"n": 0}
        ctx.on_query("n", lambda plus=0: state["n"] + plus)
        ctx.on_query("act", lambda: ctx.sleep(1))
        for _ in range(2):
            await ctx.receive("up")
            state["n"] += 1

    handle = await coordinator.start_workflow("count")
    await handle.signal("up")
    before = len(handle.history)
    assert await handle.query("n", 10) == 11
    with pytest.raises(ReadOnlyContextError, match="only look"):
        await handle.query("act")
    with pytest.raises(HandlerError, match="there are: n, act"):
        await handle.query("m")
    assert len(handle.history) == before
    await handle.signal("up")
    await handle.result()
    assert await handle.query("n") == 2


async def test_updates(coordinator: WorkflowCoordinatorDouble) -> None:
    """An update runs a handler and gives its result; a validator refuses without a trace; failures come back."""

    @coordinator.register_activity
    async def price(item: str) -> int:
        return len(item)

    @coordinator.register_workflow
    async def cart(ctx: WorkflowContext) -> dict[str, int]:
        items: dict[str, int] = {}

        def check(item: str) -> None:
            if not item:
                raise ValueError("empty")

        async def add(item: str) -> int:
            items[item] = await ctx.activity(price, item)
            if item == "bomb":
                raise RuntimeError("no bombs")
            return sum(items.values())

        ctx.on_update("add", add, validator=check)
        await ctx.receive("checkout")
        return items

    handle = await coordinator.start_workflow("cart")
    assert await handle.update("add", "pear") == 4
    before = len(handle.history)
    with pytest.raises(UpdateRejectedError, match="empty"):
        await handle.update("add", "")
    with pytest.raises(HandlerError, match="there are: add"):
        await handle.update("remove", "pear")
    assert len(handle.history) == before
    with pytest.raises(UpdateFailedError, match="no bombs"):
        await handle.update("add", "bomb")
    await handle.signal("checkout")
    assert await handle.result() == {"pear": 4, "bomb": 4}
    coordinator.replay_all()


async def test_update_of_a_workflow_that_ends(coordinator: WorkflowCoordinatorDouble) -> None:
    """An update whose workflow ends first fails instead of waiting forever."""

    @coordinator.register_workflow
    async def brief(ctx: WorkflowContext) -> None:
        async def forever() -> None:
            await ctx.receive("never")

        ctx.on_update("wait", forever)
        await ctx.sleep(1)

    handle = await coordinator.start_workflow("brief")
    with pytest.raises(UpdateFailedError, match="ended"):
        await handle.update("wait")


async def test_cancel_runs_compensation(coordinator: WorkflowCoordinatorDouble) -> None:
    """Cancelling raises where the workflow waits, ends the activity, and lets it compensate with another one."""
    refunded: list[str] = []

    @coordinator.register_activity
    async def ship() -> None:
        await anyio.sleep_forever()

    @coordinator.register_activity
    async def refund(order: str) -> None:
        refunded.append(order)

    @coordinator.register_workflow
    async def order(ctx: WorkflowContext, number: str) -> None:
        try:
            await ctx.activity(ship)
        except WorkflowCancelledError:
            await ctx.activity(refund, number)
            raise

    handle = await coordinator.start_workflow("order", "A1")
    await anyio.wait_all_tasks_blocked()
    await handle.cancel()
    await handle.cancel()
    with pytest.raises(WorkflowCancelledError, match="was cancelled"):
        await handle.result()
    assert refunded == ["A1"]
    assert (await handle.describe()).status is WorkflowStatus.CANCELED
    assert handle.history.types.count("WorkflowExecutionCancelRequested") == 1
    coordinator.replay_all()


async def test_cancel_reaches_gathered_and_children(coordinator: WorkflowCoordinatorDouble) -> None:
    """Cancellation reaches what is gathered, timers and children; a workflow that catches it may still succeed."""
    told: list[str] = []

    @coordinator.register_workflow
    async def child(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep(1000)
        except WorkflowCancelledError:
            told.append("child")
            raise

    @coordinator.register_workflow
    async def parent(ctx: WorkflowContext) -> str:
        async def strand() -> None:
            try:
                await ctx.sleep(1000)
            finally:
                told.append("strand")

        try:
            await ctx.gather(strand(), ctx.child("child", id="c"))
        except WorkflowCancelledError:
            return "stopped"
        return "done"

    handle = await coordinator.start_workflow("parent")
    await handle.cancel()
    assert await handle.result() == "stopped"
    assert sorted(told) == ["child", "strand"]
    assert (await coordinator.describe_workflow("c")).status is WorkflowStatus.CANCELED
    coordinator.replay_all()


async def test_terminate_runs_no_code(coordinator: WorkflowCoordinatorDouble) -> None:
    """Terminating ends a workflow at once: no handler compensates, children end too, waiting callers get an error."""
    compensated: list[int] = []

    @coordinator.register_workflow
    async def child(ctx: WorkflowContext) -> None:
        await ctx.receive("never")

    @coordinator.register_workflow
    async def parent(ctx: WorkflowContext) -> None:
        try:
            await ctx.child("child", id="c")
        except Exception:
            compensated.append(1)

    handle = await coordinator.start_workflow("parent")
    await handle.terminate("enough")
    with pytest.raises(WorkflowTerminatedError, match="enough"):
        await handle.result()
    assert not compensated
    with pytest.raises(WorkflowTerminatedError, match="its parent"):
        await coordinator.get_result("c")
    with pytest.raises(WorkflowNotFoundError, match="ended already"):
        await handle.signal("x")


async def test_children(coordinator: WorkflowCoordinatorDouble) -> None:
    """Children give results and failures to their parent, can be signalled, and outlive it when abandoned."""

    @coordinator.register_workflow
    async def child(ctx: WorkflowContext, what: str) -> str:
        if what == "fail":
            raise ValueError("broken")
        return f"{what} {await ctx.receive('go')}"

    @coordinator.register_workflow
    async def parent(ctx: WorkflowContext) -> list[str]:
        first = await ctx.start_child("child", "first")
        await first.signal("go", 1)
        got = [await first]
        try:
            await ctx.child("child", "fail")
        except ChildWorkflowError as error:
            got.append(type(error.__cause__.__cause__).__name__ if error.__cause__ else "?")
        try:
            await ctx.signal_external("nobody", "go")
        except WorkflowNotFoundError:
            got.append("nobody")
        await ctx.start_child("child", "last", id="orphan", parent_close_policy="abandon")
        return got

    handle = await coordinator.start_workflow("parent")
    assert await handle.result() == ["first 1", "ValueError", "nobody"]
    orphan = coordinator.get_workflow_handle("orphan")
    assert (await orphan.describe()).parent_id == handle.workflow_id
    await orphan.signal("go", 2)
    assert await orphan.result() == "last 2"
    coordinator.replay_all()


async def test_id_policies(coordinator: WorkflowCoordinatorDouble) -> None:
    """An id is reused, or refused, by the policies for running and for ended workflows."""

    @coordinator.register_workflow
    async def wait(ctx: WorkflowContext) -> Any:
        outcome = await ctx.receive("end")
        if outcome == "fail":
            raise ValueError(outcome)
        return outcome

    first = await coordinator.start_workflow("wait", id="w")
    with pytest.raises(WorkflowAlreadyStartedError, match="is running"):
        await coordinator.start_workflow("wait", id="w")
    same = await coordinator.start_workflow("wait", id="w", id_conflict_policy="use_existing")
    assert same.run_id == first.run_id
    other = await coordinator.start_workflow("wait", id="w", id_conflict_policy="terminate_existing")
    assert other.run_id != first.run_id
    assert (await first.describe()).status is WorkflowStatus.TERMINATED
    await other.signal("end", "fail")
    again = await coordinator.start_workflow("wait", id="w", id_reuse_policy="allow_duplicate_failed_only")
    await again.signal("end", "fine")
    for policy in ("allow_duplicate_failed_only", "reject_duplicate"):
        with pytest.raises(WorkflowAlreadyStartedError, match=policy):
            await coordinator.start_workflow("wait", id="w", id_reuse_policy=policy)


async def test_continue_as_new(coordinator: WorkflowCoordinatorDouble) -> None:
    """A workflow goes on in a new run with a short history; its result is that of the last run."""

    @coordinator.register_workflow
    async def loop(ctx: WorkflowContext, left: int, total: int) -> int:
        await ctx.sleep(1)
        if left:
            ctx.continue_as_new(left - 1, total + left)
        return total

    handle = await coordinator.start_workflow("loop", 3, 0)
    assert await handle.result() == 6
    runs = await coordinator.list_workflows(workflow="loop")
    assert [run.status for run in runs] == [WorkflowStatus.CONTINUED_AS_NEW] * 3 + [WorkflowStatus.COMPLETED]
    coordinator.replay_all()


async def test_workflow_retry_and_timeout(coordinator: WorkflowCoordinatorDouble, context: MockContext) -> None:
    """A workflow with a retry policy runs again after a pause; one with a run timeout ends there."""
    attempts: list[float] = []

    @coordinator.register_workflow
    async def flaky(ctx: WorkflowContext) -> str:
        attempts.append(ctx.now() - context.clock.start)
        if len(attempts) < 3:
            raise OSError("again")
        return "ok"

    handle = await coordinator.start_workflow("flaky", retry=RetryPolicy(initial_interval=10))
    assert await handle.result() == "ok"
    assert attempts == [0, 10, 30]

    @coordinator.register_workflow
    async def slow(ctx: WorkflowContext) -> None:
        await ctx.sleep(1000)

    with pytest.raises(WorkflowTimedOutError):
        await (await coordinator.start_workflow("slow", run_timeout=5)).result()
    assert context.clock.now() == 35


async def test_foreign_await_is_refused(coordinator: WorkflowCoordinatorDouble) -> None:
    """Workflow code that awaits the event loop fails with advice, at the line in question."""

    @coordinator.register_workflow
    async def cheat(ctx: WorkflowContext) -> None:
        await asyncio.sleep(0)

    with pytest.raises(WorkflowFailedError, match="Use the context") as caught:
        await (await coordinator.start_workflow("cheat")).result()
    assert isinstance(caught.value.__cause__, ForeignAwaitError)


async def test_payloads_are_copies(coordinator: WorkflowCoordinatorDouble) -> None:
    """Later changes by a workflow or a caller do not affect values that were sent."""

    @coordinator.register_activity
    async def spoil(data: dict[str, int]) -> dict[str, int]:
        data["spoilt"] = 1
        return data

    @coordinator.register_workflow
    async def keep(ctx: WorkflowContext, data: dict[str, int]) -> Any:
        await ctx.activity(spoil, data)
        before = dict(data)
        data["mine"] = 1
        return before

    given_data = {"a": 1}
    handle = await coordinator.start_workflow("keep", given_data)
    given_data["late"] = 1
    assert await handle.result() == {"a": 1}
    assert handle.history[0].attributes["arguments"] == ({"a": 1},)
    coordinator.replay_all()


async def test_replay_names_the_diverging_event(coordinator: WorkflowCoordinatorDouble) -> None:
    """Changed code is refused by the event at which it parts; unchanged code, read back from JSON too, is not."""

    @coordinator.register_activity
    async def charge(amount: int) -> int:
        if amount < 0:
            raise ApplicationError("negative", non_retryable=True)
        return amount

    async def pay(ctx: WorkflowContext, amount: int) -> str:
        await ctx.activity(charge, amount)
        token = ctx.side_effect(lambda: str(time.monotonic_ns()))
        await ctx.sleep(ctx.random.randint(1, 9))
        with contextlib.suppress(ActivityError):
            await ctx.activity(charge, -1)
        return f"{token} {ctx.uuid4()}"

    async def pay_later(ctx: WorkflowContext, amount: int) -> None:
        await ctx.activity(charge, amount)
        await ctx.sleep(5)

    async def pay_less(ctx: WorkflowContext, amount: int) -> None:
        await ctx.activity(charge, amount)

    async def pay_never(ctx: WorkflowContext, amount: int) -> None:
        await ctx.receive("never")

    coordinator.register_workflow(pay)
    handle = await coordinator.start_workflow("pay", 5)
    await handle.result()
    history = History.from_json(handle.history.to_json())
    for kept in (handle.history, history):
        coordinator.replay(kept)
        for changed, event, actual in (
            (pay_later, 5, "TimerStarted"), (pay_less, 5, "WorkflowExecutionCompleted"), (pay_never, 2, "nothing"),
        ):  # fmt: skip
            with pytest.raises(NonDeterminismError, match=actual) as caught:
                coordinator.replay(kept, changed)
            assert caught.value.event_id == event
            assert kept[event - 1].type.value in str(caught.value)


async def test_random_code_is_found(coordinator: WorkflowCoordinatorDouble) -> None:
    """Code that depends on something outside of its history is found by replaying it."""
    counter = iter(range(1, 100))

    @coordinator.register_workflow
    async def dice(ctx: WorkflowContext) -> None:
        await ctx.sleep(next(counter))

    await (await coordinator.start_workflow("dice")).result()
    with pytest.raises(NonDeterminismError, match="event 2"):
        coordinator.replay_all()


async def test_names_are_verified(coordinator: WorkflowCoordinatorDouble) -> None:
    """Unknown workflows, activities, ids and methods are named, each with the nearest known one."""

    @coordinator.register_workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.activity("chrage")

    @coordinator.register_activity
    async def charge() -> None: ...

    with pytest.raises(NotRegisteredError, match="did you mean 'order'"):
        await coordinator.start_workflow("oder")
    handle = await coordinator.start_workflow("order", id="o-1")
    with pytest.raises(WorkflowFailedError, match="did you mean 'charge'"):
        await handle.result()
    with pytest.raises(WorkflowNotFoundError, match="did you mean 'o-1'"):
        await coordinator.describe_workflow("o-2")
    with pytest.raises(AttributeError, match="start_workflow"):
        coordinator.start_workflw  # noqa: B018 - the look is the point
    with pytest.raises(ConfigurationError, match="already"):
        coordinator.register_activity(lambda: None, name="charge")
    with pytest.raises(ConfigurationError, match="at least 1"):
        WorkflowCoordinatorDouble(coordinator.context, name="x", max_concurrent_activities=0)


async def test_mock_api(coordinator: WorkflowCoordinatorDouble) -> None:
    """Operations and activities are mocks: calls can be asserted, and a configured outcome wins."""

    @coordinator.register_activity
    async def charge(amount: int) -> str:
        return f"charged {amount}"

    @coordinator.register_workflow
    async def pay(ctx: WorkflowContext, amount: int) -> Any:
        return await ctx.activity(charge, amount, retry=RetryPolicy(maximum_attempts=2))

    mock = coordinator.activity("charge")
    assert await (await coordinator.start_workflow("pay", 1)).result() == "charged 1"
    mock.assert_awaited_once_with(1)
    mock.return_value = "free"
    assert await (await coordinator.start_workflow("pay", 2)).result() == "free"
    mock.side_effect = OSError("down")
    with pytest.raises(WorkflowFailedError):
        await (await coordinator.start_workflow("pay", 3)).result()
    assert mock.await_count == 4
    coordinator.start_workflow.assert_any_await("pay", 2)
    assert coordinator.execute_activity.await_count == 4
    coordinator.start_workflow.return_value = "handle"
    configured: object = await coordinator.start_workflow("pay", 4)
    assert configured == "handle"
    with pytest.raises(NotRegisteredError, match="did you mean 'charge'"):
        coordinator.activity("charg")


async def test_everything_is_logged(coordinator: WorkflowCoordinatorDouble, context: MockContext) -> None:
    """Operations and every attempt of an activity are in the log, with their outcome."""

    @coordinator.register_activity
    async def flaky() -> None:
        if activity_info().attempt == 1:
            raise OSError("once")

    @coordinator.register_workflow
    async def run(ctx: WorkflowContext) -> None:
        await ctx.activity(flaky)

    await (await coordinator.start_workflow("run")).result()
    told = [(entry.operation, entry.state) for entry in context.log if entry.operation != "connect"]
    assert sorted(told) == [
        ("execute_activity", "raised"), ("execute_activity", "returned"), ("get_result", "returned"),
        ("start_workflow", "returned"),
    ]  # fmt: skip


async def test_problems(context: MockContext) -> None:
    """Workflows that still run and signals that were never received are reported at the end."""
    async with context:
        coordinator: WorkflowCoordinatorDouble = await WorkflowCoordinatorDouble(context).connect()

        @coordinator.register_activity
        async def hang() -> None:
            await anyio.sleep_forever()

        @coordinator.register_workflow
        async def wait(ctx: WorkflowContext) -> None:
            await ctx.activity(hang)

        handle = await coordinator.start_workflow("wait", id="w")
        await handle.signal("typo", 1)
        await anyio.wait_all_tasks_blocked()
    running, signal = context.problems["workflow_coordinator"]
    assert "'w'" in running
    assert "waiting for activity hang" in running
    assert "signal 'typo' was never received" in signal


async def test_closing_ends_activities_and_keeps_their_errors(context: MockContext) -> None:
    """At the end activities are cancelled and awaited; exceptions they raise then are raised, not lost."""
    ended: list[str] = []
    coordinator: WorkflowCoordinatorDouble = await WorkflowCoordinatorDouble(context).connect()

    @coordinator.register_activity
    async def tidy(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(name)
            if name == "bad":
                raise OSError("cleanup failed")

    @coordinator.register_workflow
    async def both(ctx: WorkflowContext) -> None:
        await ctx.gather(ctx.activity(tidy, "good"), ctx.activity(tidy, "bad"))

    await coordinator.start_workflow("both")
    await anyio.wait_all_tasks_blocked()
    with pytest.raises(ExceptionGroup) as caught:
        await context.aclose()
    assert sorted(ended) == ["bad", "good"]
    assert caught.group_contains(OSError, match="cleanup failed")


async def test_requires_connection_and_reset(coordinator: WorkflowCoordinatorDouble) -> None:
    """Without a connection operations raise; a reset forgets workflows and registrations."""

    @coordinator.register_workflow
    async def wait(ctx: WorkflowContext) -> None:
        await ctx.receive("never")

    await coordinator.start_workflow("wait", id="w")
    await coordinator.disconnect()
    with pytest.raises(ServiceNotConnectedError):
        await coordinator.start_workflow("wait")
    coordinator.reset()
    await coordinator.connect()
    assert await coordinator.list_workflows() == []
    with pytest.raises(NotRegisteredError):
        await coordinator.start_workflow("wait")
    assert coordinator.problems() == ()


async def test_workflow_errors_are_ours(coordinator: WorkflowCoordinatorDouble) -> None:
    """Every kind of fault raises an error of this package that also derives from the matching builtin."""
    for kind, builtin in (("unavailable", ConnectionError), ("timeout", TimeoutError), ("rejected", ConnectionError)):
        error = coordinator.fault_error(kind)
        assert isinstance(error, IsolationError)
        assert isinstance(error, builtin)


def test_advancing_in_plain_code(context: MockContext) -> None:
    """A clock advanced outside of any loop fires timers; activities begin with the next operation."""
    coordinator = WorkflowCoordinatorDouble(context)

    @coordinator.register_activity
    async def ping() -> str:
        return "pong"

    @coordinator.register_workflow
    async def later(ctx: WorkflowContext) -> Any:
        await ctx.sleep(60)
        return await ctx.activity(ping)

    async def start() -> None:
        await coordinator.connect()
        await coordinator.start_workflow("later", id="l")

    async def finish() -> Any:
        return await coordinator.get_result("l")

    anyio.run(start)
    context.clock.advance(60)
    assert coordinator.history("l").types[-1] == "ActivityTaskScheduled"
    assert anyio.run(finish) == "pong"
    context.close()


_STEPS = st.lists(
    st.sampled_from(["sleep", "activity", "receive", "child", "gather", "side_effect", "condition"]), max_size=6
)


@given(plan=_STEPS, signals=st.integers(0, 6), backend=st.sampled_from(["asyncio", "trio"]), cancel=st.booleans())
@settings(max_examples=60)
def test_every_history_replays(plan: list[str], signals: int, backend: str, cancel: bool) -> None:
    """Whatever a deterministic workflow does, and whenever signals and cancellation come, its history replays."""

    async def main() -> None:
        async with MockContext("h", virtual_time=True) as context:
            coordinator: WorkflowCoordinatorDouble = await WorkflowCoordinatorDouble(context).connect()
            coordinator.register_workflow(anything)
            coordinator.register_workflow(child)
            coordinator.register_activity(act)
            handle = await coordinator.start_workflow("anything", plan)
            for number in range(signals):
                if (await handle.describe()).status is not WorkflowStatus.RUNNING:
                    break
                await handle.signal("s", number)
                await context.clock.sleep(0.4)
            if (await handle.describe()).status is WorkflowStatus.RUNNING and cancel:
                await handle.cancel()
                with pytest.raises(WorkflowCancelledError):
                    await handle.result()
            coordinator.replay_all()

    anyio.run(main, backend=backend, backend_options={"clock": MockClock()} if backend == "trio" else {})


async def anything(ctx: WorkflowContext, plan: list[str]) -> list[Any]:
    """Do what the plan says."""
    got: list[Any] = []
    heard: list[int] = []
    ctx.on_signal("s", heard.append)
    for step in plan:
        if step == "sleep":
            await ctx.sleep(ctx.random.random())
        elif step == "activity":
            got.append(await ctx.activity(act, len(got)))
        elif step == "receive":
            got.append(await ctx.receive("never", timeout=1) if len(heard) > 2 else heard[:])
        elif step == "child":
            got.append(await ctx.child("child", len(got)))
        elif step == "gather":
            got.append(await ctx.gather(ctx.sleep(0.3), ctx.activity(act, 1), ctx.child("child", 2)))
        elif step == "side_effect":
            got.append(ctx.side_effect(object) is not None)
        else:
            await ctx.wait_condition(lambda: bool(heard), timeout=2) if heard else None
    return got


async def child(ctx: WorkflowContext, number: int) -> int:
    """Wait a little, give the next number."""
    await ctx.sleep(0.2)
    return number + 1


async def act(number: int) -> int:
    """Give up the processor once."""
    await anyio.lowlevel.checkpoint()
    return number


async def test_concurrent_activities_begin_in_order(coordinator: WorkflowCoordinatorDouble) -> None:
    """Activities scheduled together begin in that order, on every event loop, so that histories repeat."""
    began: list[int] = []

    @coordinator.register_activity
    async def note(number: int) -> None:
        began.append(number)
        await anyio.lowlevel.checkpoint()

    @coordinator.register_workflow
    async def many(ctx: WorkflowContext) -> None:
        await ctx.gather(*(ctx.activity(note, number) for number in range(20)))

    await (await coordinator.start_workflow("many")).result()
    assert began == list(range(20))


async def test_faults(coordinator: WorkflowCoordinatorDouble, context: MockContext) -> None:
    """A rule fails single attempts of one activity, which is retried, and requests of callers."""

    @coordinator.register_activity
    async def charge(amount: int) -> str:
        return f"charged {amount}"

    @coordinator.register_workflow
    async def pay(ctx: WorkflowContext, amount: int) -> Any:
        return await ctx.activity(charge, amount)

    context.faults.add("workflow_coordinator.execute_activity", fail("unavailable"), activity="charge", nth=(1, 2))
    context.faults.add("workflow_coordinator.start_workflow", fail("timeout"), times=1)
    with pytest.raises(CoordinatorTimeoutError):
        await coordinator.start_workflow("pay", 5)
    assert await (await coordinator.start_workflow("pay", 5)).result() == "charged 5"
    assert context.clock.now() == 3
    context.faults.assert_all_used()
