"""``python -m benchmarks.bench_scenarios [--count N] [--json FILE]``: what scenarios cost, and that they stay apart.

How the figures are taken. A scenario has three services that depend on each
other, and each is used twice. What is counted is the CPU time of this process
for start and end of a scenario, without its use, one scenario after another,
with the collector on. "first" and "last" are the 10th percentiles of a
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
from pathlib import Path
from typing import Any

import anyio

from isolation_core.scenarios import integration_scenario
from isolation_core.services import MockContext, ServiceDouble, operation, register_service

WARM_UP = 100


class Shelf(ServiceDouble):
    """What is put can be taken."""

    def __init__(self, context: MockContext | None = None, *, name: str | None = None) -> None:
        super().__init__(context, name=name)
        self.items: list[object] = []

    @operation
    async def put(self, item: object) -> int:
        """Put *item* on top."""
        self.items.append(item)
        self.context.clock.notify()
        return len(self.items)


for _name, _needs in (("table", ()), ("queue", ("table",)), ("flow", ("table", "queue"))):
    register_service(_name, type(_name.title(), (Shelf,), {"service": _name}), _needs)


async def one(number: int, *, pause: float = 0) -> tuple[float, float]:
    """Run one scenario; return the seconds its start and end took, and those of its use."""
    began = time.process_time()
    scenario = integration_scenario(f"scenario {number}", ["table", "queue", "flow"])
    async with scenario as (_, mocks):
        started = time.process_time()
        for step in range(2):
            for name, double in mocks.items():
                await double.put((number, name, step))
            if pause:
                await scenario.context.clock.sleep(pause)
        content = {name: double.items for name, double in mocks.items()}
        used = time.process_time()
    ended = time.process_time()
    assert content == {name: [(number, name, 0), (number, name, 1)] for name in content}
    assert scenario.context.clock.now() == 2 * pause
    assert len(scenario.context.log.calls("*.put")) == 6
    return started - began + ended - used, used - started


async def in_a_row(count: int) -> dict[str, Any]:
    """Run *count* scenarios one after another."""
    costs = [(await one(number))[0] * 1e6 for number in range(count)]
    first, last = costs[WARM_UP : WARM_UP + 100], costs[-100:]
    return {
        "scenarios": count,
        "start and end, median (us)": round(statistics.median(costs[WARM_UP:])),
        "start and end, p90 (us)": round(statistics.quantiles(costs[WARM_UP:], n=10)[-1]),
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
