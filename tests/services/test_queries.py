"""The log: questions, assertions about order, and text that can be read."""

from __future__ import annotations

import json
from unittest.mock import ANY

import anyio
import pytest

from isolation_core.errors import InteractionOrderError, UnknownArgumentError, UnknownOperationError
from isolation_core.services import (
    InteractionLog,
    MockContext,
    ServiceDouble,
    debug_cross_service_interactions,
    fail,
    operation,
    select,
)

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True


class Queue(ServiceDouble):
    service = "queue"

    @operation
    async def send(self, topic: str, data: object = None, *, wait: float = 0) -> None:
        await self.context.clock.sleep(wait)

    @operation
    async def break_(self) -> None:
        raise OSError("<broken>; #1")


class Store(Queue):
    service = "store"


async def played() -> MockContext:
    """A context in which a store sends, a queue sends twice, one of them overlapping."""
    context = MockContext("a play", virtual_time=True)
    queue, store = Queue(context), Store(context)
    await store.send("users", {"id": 1})
    await queue.send("orders", 1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.send, "slow", 2)
        await anyio.wait_all_tasks_blocked()
    async with anyio.create_task_group() as tasks:

        async def slowly() -> None:
            await queue.send("late", wait=5)

        tasks.start_soon(slowly)
        await anyio.wait_all_tasks_blocked()
        await store.send("users", 2)
    return context


async def test_calls_are_found_by_name_and_arguments() -> None:
    """Patterns, wildcards, arguments however they were passed, matchers, and conditions."""
    log = (await played()).log
    assert len(log.calls("queue.send")) == 3
    assert len(log.calls("*.send")) == len(log.calls("send")) == len(log.calls()) == 5
    assert [entry.arguments["data"] for entry in log.calls("queue.*", topic="orders")] == [1]
    assert len(log.calls("queue.send", topic=ANY, data=2)) == 1
    assert len(log.calls("send", where=lambda entry: entry.service == "store")) == 2


async def test_a_misspelled_pattern_is_an_error() -> None:
    """A pattern that can never match says what was meant, so that assert_never cannot pass by accident."""
    log = (await played()).log
    with pytest.raises(UnknownOperationError, match="Did you mean 'send'"):
        log.assert_never("queue.sendd")
    with pytest.raises(UnknownOperationError, match="Did you mean 'queue'"):
        log.calls("queu.send")
    log.assert_never("queue.break_")
    for pattern, meant in (("queu.*", "queue"), ("queue.sned*", "send"), ("*.sendd", "send"), ("kafak.send*", "kafka")):
        with pytest.raises(UnknownOperationError, match=f"Did you mean '{meant}'"):
            log.assert_never(pattern)
        with pytest.raises(UnknownOperationError, match=f"Did you mean '{meant}'"):
            log.assert_in_order(pattern)
    with pytest.raises(UnknownOperationError):
        log.assert_never("nothing_like_it.*")
    log.assert_never("kafka.send_event")  # a service that this context never made


async def test_a_misspelled_argument_is_an_error() -> None:
    """An argument that none of the operations has says what was meant, in queries and in rules of faults."""
    context = await played()
    with pytest.raises(UnknownArgumentError, match="Did you mean 'topic'"):
        context.log.assert_never("queue.send", topc="orders")
    with pytest.raises(UnknownArgumentError, match="Did you mean 'topic'"):
        context.log.assert_in_order(select("*.send", topc="orders"))
    with pytest.raises(UnknownArgumentError, match="Did you mean 'topic'"):
        context.faults.add("queue.send", fail(), topc="orders")
    with pytest.raises(UnknownArgumentError, match="Did you mean 'topic'"):
        context.faults.add("queue.send", fail(), after=select("queue.send", topc="orders"))
    context.log.assert_never("queue.send", topic="nowhere")


async def test_order_across_services() -> None:
    """A subsequence in order passes; the failure shows where the order breaks and what happened."""
    log = (await played()).log
    log.assert_in_order("store.send", select("queue.send", topic="orders"), "queue.send")
    with pytest.raises(InteractionOrderError) as caught:
        log.assert_in_order(select("queue.send", topic="slow"), select("queue.send", topic="orders"))
    text = str(caught.value)
    assert "2. queue.send(topic='orders'): only before that: #3 queue.send('orders', 1)" in text
    assert "<-- here the order breaks" in text
    assert "what happened:\n  #1 store.send('users', {'id': 1})" in text
    with pytest.raises(InteractionOrderError, match="never happened"):
        log.assert_in_order("queue.break_")


async def test_overlap_is_not_order() -> None:
    """Two calls that overlap are neither before nor after each other."""
    log = (await played()).log
    late, second = select("queue.send", topic="late"), select("store.send", data=2)
    log.assert_overlap(late, second)
    with pytest.raises(InteractionOrderError, match="overlapped"):
        log.assert_happens_before(late, second)
    with pytest.raises(InteractionOrderError):
        log.assert_in_order(late, second)
    with pytest.raises(InteractionOrderError, match="came the other way round"):
        log.assert_happens_before("queue.send", select("store.send", data={"id": 1}))
    log.assert_happens_before(select("store.send", data={"id": 1}), "queue.send")
    with pytest.raises(InteractionOrderError, match="never ran at the same time"):
        log.assert_overlap(select("queue.send", topic="orders"), "store.send")
    with pytest.raises(InteractionOrderError, match="never happened"):
        log.assert_happens_before("queue.break_", "store.send")


async def test_never() -> None:
    """A failed negative assertion lists the calls that should not have happened."""
    log = (await played()).log
    log.assert_never("queue.send", topic="nowhere")
    with pytest.raises(InteractionOrderError, match=r"did once:\n  #3 queue.send\('orders', 1\)"):
        log.assert_never("queue.send", topic="orders")


async def test_sequence_with_a_diff() -> None:
    """The exact sequence passes; otherwise a diff shows what is missing and what is too much."""
    log = (await played()).log
    log.assert_sequence(["store.send", "store.send"], within="store.*")
    with pytest.raises(InteractionOrderError) as caught:
        log.assert_sequence(["store.send", "queue.break_", "store.send"], within="store.*")
    assert str(caught.value).splitlines()[1:] == ["    store.send", "  - queue.break_", "    store.send"]


async def test_jsonl_is_json_line_by_line() -> None:
    """Each line is an object with start, names, arguments and how it ended."""
    context = await played()
    with pytest.raises(OSError, match="broken"):
        await context["queue"].break_()
    facts = [json.loads(line) for line in context.log.to_jsonl().splitlines()]
    assert [fact["start"] for fact in facts] == sorted(fact["start"] for fact in facts)
    assert facts[0]["service"] == "store"
    assert facts[0]["args"] == ["users", {"id": 1}]
    assert (facts[-1]["state"], facts[-1]["error"]) == ("raised", "OSError: <broken>; #1")


async def test_mermaid_shows_calls_and_ends_in_order() -> None:
    """Arrows there and back in order of the sequence numbers, errors crossed, special characters written out."""
    context = await played()
    with pytest.raises(OSError, match="broken"):
        await context["queue"].break_()
    context["queue"].record("rollback", transaction=1)
    lines = context.log.to_mermaid().splitlines()
    assert lines[0] == "sequenceDiagram"
    assert sum("->>" in line and "-->>" not in line for line in lines) == 6
    assert sum("-->>" in line for line in lines) == 5
    assert sum("--x" in line for line in lines) == 1
    assert "OSError: #60;broken#62;#59; #35;1" in context.log.to_mermaid()
    assert "Note over" in lines[-1]
    late = next(i for i, line in enumerate(lines) if "'late'" in line)
    assert "send('users', 2)" in lines[late + 1]


async def test_the_log_is_bounded() -> None:
    """The oldest interactions are let go and counted."""
    log = InteractionLog(limit=3)
    for number in range(5):
        log.finish(log.begin("s", "s", f"o{number}", "", (), {}, 0.0), 0.0)
    assert [entry.operation for entry in log] == ["o2", "o3", "o4"]
    assert log.dropped == 2
    assert [entry.operation for entry in log[1:]] == ["o3", "o4"]
    log.clear()
    assert (len(log), log.dropped) == (0, 0)


async def test_debugging_a_context() -> None:
    """The debug dump lists connected doubles, calls and failures, draws them, and changes nothing."""
    context = await played()
    context["queue"].is_connected = True
    before = len(context.log)
    report = debug_cross_service_interactions(context)
    assert report["owner"] == "a play"
    assert report["services"]["queue"] == {"connected": True, "problems": [], "calls": {"send": 3}}
    assert report["interactions"]["total"] == before == len(context.log)
    assert "queue.send('orders', 1)" in report["timeline"]
    assert report["sequence_diagram"].startswith("sequenceDiagram")
    json.dumps(report)
    assert debug_cross_service_interactions()["services"] == {}
