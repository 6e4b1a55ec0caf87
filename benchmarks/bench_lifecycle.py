"""``python -m benchmarks.bench_lifecycle``: what the dependency graph and the lifecycle cost.

How the figures are taken. Everything runs in this process; each row is repeated
in rounds and the smallest mean of a round counts, for on a shared machine only
the smallest repeats. Times are CPU. "beside" is the same work done by the exit stack of the
standard library in the same run. Asynchronous rows exclude starting the loop.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from time import process_time
from typing import Final

import anyio

from isolation_core.graph import DependencyGraph, Node
from isolation_core.lifecycle import Lifecycle

_ROW: Final = "{:<58} {:>10} {:>10} {:>10}  {}"


def _nothing() -> None:
    pass


def _plain() -> Iterator[None]:
    yield


async def _awaiting() -> AsyncIterator[None]:
    yield


def _five(factory: Callable[..., object]) -> DependencyGraph:
    graph = DependencyGraph(
        [
            Node(f"n{number}", factory, dependencies=[f"n{number - 1}"] if number else [], arguments=[])
            for number in range(5)
        ]
    )
    return graph.validate()


def _thousand() -> list[Node]:
    chance = random.Random(1)
    return [
        Node(
            f"n{number}",
            _nothing,
            dependencies=sorted({f"n{chance.randrange(number)}" for _ in range(3)}) if number else [],
            priority=chance.randrange(3),
        )
        for number in range(1000)
    ]


def _time(work: Callable[[], object], *, number: int, rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        began = process_time()
        for _ in range(number):
            work()
        best = min(best, process_time() - began)
    return best / number * 1e6


async def _atime(work: Callable[[], Awaitable[object]], *, number: int, rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        began = process_time()
        for _ in range(number):
            await work()
        best = min(best, process_time() - began)
    return best / number * 1e6


def _up_and_down(graph: DependencyGraph) -> None:
    life = Lifecycle(graph)
    life.set_up()
    life.tear_down()


async def _aup_and_down(graph: DependencyGraph, concurrency: int) -> None:
    life = Lifecycle(graph, max_concurrency=concurrency)
    await life.aset_up()
    await life.atear_down()


def _empty() -> None:
    Lifecycle().tear_down()


def _five_cleanups() -> None:
    life = Lifecycle()
    for _ in range(5):
        life.add_cleanup(_nothing)
    life.tear_down()


def _exit_stack(manager: Callable[[], object]) -> None:
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(manager())  # type: ignore[arg-type]


async def _async_exit_stack(manager: Callable[[], object]) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(manager())  # type: ignore[arg-type]


def _five_callbacks() -> None:
    with ExitStack() as stack:
        for _ in range(5):
            stack.callback(_nothing)


def _async_rows(backend: str, *, number: int, rounds: int) -> list[tuple[str, float, float | None, float | None]]:
    graph = _five(_awaiting)
    manager = asynccontextmanager(_awaiting)

    async def measure() -> list[tuple[str, float, float | None, float | None]]:
        time = partial(_atime, number=number, rounds=rounds)
        beside = await time(partial(_async_exit_stack, manager))
        plain = _five(_plain)
        one_by_one = await time(partial(_aup_and_down, graph, 1))
        in_tasks = await time(partial(_aup_and_down, graph, 5))
        return [
            (f"{backend}: five asynchronous nodes", one_by_one, beside, 100.0),
            (f"{backend}: the same, each in a task of its own", in_tasks, beside, None),
            (f"{backend}: five plain nodes", await time(partial(_aup_and_down, plain, 1)), None, 100.0),
        ]

    return anyio.run(measure, backend=backend)


def main() -> int:
    """Take all readings and print them beside their bars; a bar that is missed is said and counted."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_lifecycle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one short round: does it run at all")
    options = parser.parse_args()
    number, rounds = (50, 1) if options.quick else (500, 40)
    time = partial(_time, number=number, rounds=rounds)
    nodes = _thousand()
    order = _time(lambda: DependencyGraph(nodes).order, number=1, rounds=1 if options.quick else 20)
    beside = time(partial(_exit_stack, contextmanager(_plain)))
    rows: list[tuple[str, float, float | None, float | None]] = [
        ("graph of 1,000 nodes: validate and order", order, None, 30_000.0),
        ("making a lifecycle", time(Lifecycle), None, 3.0),
        ("making and tearing down an empty lifecycle", time(_empty), None, 5.0),
        ("five plain cleanups", time(_five_cleanups), time(_five_callbacks), None),
        ("five plain nodes, set up and torn down", time(partial(_up_and_down, _five(_plain))), beside, 100.0),
        *_async_rows("asyncio", number=number // 5, rounds=rounds),
        *_async_rows("trio", number=number // 5, rounds=rounds),
    ]
    missed = 0
    print(_ROW.format("microseconds", "here", "beside", "bar", ""))
    for name, figure, other, bar in rows:
        verdict = "" if bar is None else "ok" if figure <= bar else "MISSED"
        missed += verdict == "MISSED"
        print(_ROW.format(name, f"{figure:.2f}", f"{other:.2f}" if other else "", f"{bar:.0f}" if bar else "", verdict))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
