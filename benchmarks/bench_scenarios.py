"""``python -m benchmarks.bench_scenarios [--count N] [--json FILE]``: what scenarios cost, and that they stay apart.

How the figures are taken. A scenario has the built-in PostgreSQL, Kafka and
workflow doubles, all in memory, which depend on each other; every one of them is
used, so that statements, a topic and a workflow are there to be cleaned up. What is
counted is the CPU time of this process for start and end of a scenario,
without its use, one scenario after another, with the collector on. "untouched"
are scenarios with unused doubles. "first" and "last" are the 10th percentiles of a
hundred scenarios after warm-up and of the last hundred, because of the noise of
a busy machine. Memory is what `tracemalloc`
counts, after a collection, at a quarter of the scenarios and at the end. At
once are a hundred scenarios as tasks of one event loop, each sleeping on its
own virtual clock between its calls. Every scenario checks that it reads what
it wrote, and nothing else.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio

from isolation_core.scenarios import IntegrationScenario, integration_scenario

WARM_UP = 100


SERVICES: dict[str, dict[str, Any]] = {"postgres": {"backend": "virtual"}, "kafka": {}, "workflow_coordinator": {}}
NEEDS = {"kafka": ["postgres"], "workflow_coordinator": ["postgres", "kafka"]}


async def one(number: int, *, pause: float = 0, touch: bool = True) -> tuple[float, float]:
    """Run one scenario; return the seconds its start and end took, and those of its use."""
    began = time.process_time()
    scenario = integration_scenario(f"scenario {number}", SERVICES, NEEDS)
    async with scenario as (_, mocks):
        started = time.process_time()
        if touch:
            await _use(number, scenario, mocks, pause)
        used = time.process_time()
    ended = time.process_time()
    return started - began + ended - used, used - started


async def _use(number: int, scenario: IntegrationScenario, mocks: Mapping[str, Any], pause: float) -> None:
    """Write and read what no other scenario does, and see that it is all there is."""
    postgres, kafka, flows = (mocks[name] for name in SERVICES)

    async def place(_context: Any, order: int) -> int:
        return order + 1

    flows.register_workflow(place)
    expected = [number * 10, number * 10 + 1]
    postgres.when("SELECT id FROM orders ORDER BY id").returns([{"id": order} for order in expected])
    await postgres.execute_query("CREATE TABLE orders (id int)")
    for step in range(2):
        order = number * 10 + step
        await postgres.execute_query("INSERT INTO orders (id) VALUES (%s)", (order,))
        await kafka.send_event("orders", {"id": order})
        if pause:
            await scenario.context.clock.sleep(pause)
    assert await (await flows.start_workflow("place", number)).result() == number + 1
    assert [row["id"] for row in await postgres.fetch("SELECT id FROM orders ORDER BY id")] == expected
    assert [record.value["id"] for record in kafka.messages("orders")] == expected
    assert scenario.context.clock.now() == 2 * pause
    assert len(scenario.context.log.calls("kafka.send_event")) == 2


async def in_a_row(count: int) -> dict[str, Any]:
    """Run *count* scenarios one after another."""
    costs = [(await one(number))[0] * 1e6 for number in range(count)]
    untouched = [(await one(number, touch=False))[0] * 1e6 for number in range(200)]
    first, last = costs[WARM_UP : WARM_UP + 100], costs[-100:]
    return {
        "scenarios": count,
        "start and end, p10 (us)": round(_low(costs[WARM_UP:])),
        "start and end, median (us)": round(statistics.median(costs[WARM_UP:])),
        "start and end, p90 (us)": round(statistics.quantiles(costs[WARM_UP:], n=10)[-1]),
        "untouched, median (us)": round(statistics.median(untouched[100:])),
        "last 100 over first 100": round(_low(last) / _low(first), 3),
    }


def _low(costs: list[float]) -> float:
    return statistics.quantiles(costs, n=10)[0]


async def memory(count: int) -> dict[str, Any]:
    """Run *count* scenarios and look at what they leave."""
    tracemalloc.start()
    try:
        for number in range(count // 4):
            await one(number)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(count // 4, count):
            await one(number)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return {"bytes left per scenario": round((after - before) / (count - count // 4), 1)}


async def at_once(count: int) -> dict[str, Any]:
    """Run *count* scenarios as tasks of this loop."""
    began = time.process_time()
    async with anyio.create_task_group() as tasks:
        for number in range(count):
            # The name of the closure is bound now.
            tasks.start_soon(_paused, number)
    return {f"{count} at once, each (us)": round((time.process_time() - began) / count * 1e6)}


async def _paused(number: int) -> None:
    await one(number, pause=1 + number % 5)


def main() -> None:
    """Measure, print, and write the figures if asked for."""
    parser = argparse.ArgumentParser(description="What scenarios cost, and that they stay apart.")
    parser.add_argument("--count", type=int, default=1000, help="scenarios one after another")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures: dict[str, Any] = {"python": sys.version.split()[0]}
    for backend in ("asyncio", "trio"):
        found: dict[str, Any] = {}
        found |= anyio.run(in_a_row, max(options.count, WARM_UP + 200), backend=backend)
        found |= anyio.run(at_once, 100, backend=backend)
        found |= anyio.run(memory, options.count, backend=backend)
        figures[backend] = found
        print(backend)
        for name, value in found.items():
            print(f"  {name:<32}{value:>10}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
