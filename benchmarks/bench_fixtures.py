"""``python -m benchmarks.bench_fixtures``: what managed fixtures cost, and what concurrency gains.

Everything runs in this process. Rows are repeated in rounds, and the smallest mean of a round counts, for on a
shared machine only the smallest repeats. "wall" rows are wall time and sleep; all others are CPU time.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from time import perf_counter, process_time
from typing import Any, Final

import anyio

from isolation_core.barrier import isolation_barrier
from isolation_core.fixtures import FixtureRegistry, managed_fixture, use_registry

_ROW: Final = "{:<66} {:>12}  {}"


def _best(action: Callable[[], object], *, rounds: int, times: int, clock: Callable[[], float] = process_time) -> float:
    best = float("inf")
    for _ in range(rounds):
        began = clock()
        for _ in range(times):
            action()
        best = min(best, (clock() - began) / times)
    return best


def _define_many(count: int) -> None:
    """Define *count* fixtures, each of which depends on up to three earlier ones."""
    dice = random.Random(7)
    for number in range(count):
        needs = {f"fixture_{dice.randrange(number)}" for _ in range(min(3, number))}

        def fixture(number: int = number) -> Iterator[int]:
            yield number

        managed_fixture(name=f"fixture_{number}", dependencies=sorted(needs), priority=dice.randrange(3))(fixture)


def graph_of_a_thousand(rounds: int) -> tuple[float, float]:
    """Return seconds to validate and order 1,000 managed fixtures, cold, and to set one of them up and tear it down."""
    with use_registry() as registry:
        _define_many(1000)
        cold = _best(lambda: registry.resolve().order, rounds=rounds, times=3)

        def all_of_them() -> None:
            with isolation_barrier(mode="off") as barrier:
                barrier.fixtures.get_all([f"fixture_{number}" for number in range(1000)])

        return cold, _best(all_of_them, rounds=rounds, times=1) / 1000


def one_barrier(rounds: int) -> dict[str, float]:
    """Return seconds of a barrier with a few fixtures, and of one without."""
    with use_registry():

        @managed_fixture
        def settings() -> dict[str, int]:
            return {}

        @managed_fixture
        def database(settings: dict[str, int]) -> Iterator[list[object]]:
            yield [settings]

        def without() -> None:
            with isolation_barrier(mode="off"):
                pass

        def with_two() -> None:
            with isolation_barrier(mode="off") as barrier:
                barrier.fixture("database")

        with isolation_barrier(mode="off") as barrier:
            barrier.fixture("database")
            again = _best(lambda: barrier.fixture("database"), rounds=rounds, times=500)
        return {
            "barrier without fixtures": _best(without, rounds=rounds, times=500),
            "barrier with two fixtures, set up and torn down": _best(with_two, rounds=rounds, times=200),
            "asking again for a fixture that is up": again,
        }


def chains(backend: str) -> tuple[float, float]:
    """Return wall seconds of two independent chains of set-ups, and of their critical path."""
    with use_registry(FixtureRegistry()):

        def define(name: str, seconds: float, *needs: str) -> None:
            @managed_fixture(name=name, dependencies=needs)
            async def fixture() -> AsyncIterator[None]:
                await anyio.sleep(seconds)
                yield

        define("a1", 0.1)
        define("a2", 0.3, "a1")
        define("b1", 0.3)
        define("b2", 0.1, "b1")
        found: dict[str, Any] = {}

        async def main() -> None:
            began = perf_counter()
            async with isolation_barrier(mode="off", fixtures=["a2", "b2"], max_concurrency=4) as barrier:
                found["wall"] = perf_counter() - began
                found["path"] = barrier.fixtures.critical_path()["seconds"]

        anyio.run(main, backend=backend)
        return found["wall"], found["path"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 3 if parser.parse_args().quick else 9
    time.sleep(0)
    cold, each = graph_of_a_thousand(rounds)
    print(
        _ROW.format(
            "validate and order 1,000 managed fixtures, nothing remembered", f"{cold * 1e3:.1f} ms", "bar: 30 ms"
        )
    )
    print(_ROW.format("one of these 1,000, up and down in one barrier", f"{each * 1e6:.0f} us", ""))
    for what, seconds in one_barrier(rounds).items():
        print(_ROW.format(what, f"{seconds * 1e6:.1f} us", ""))
    for backend in ("asyncio", "trio"):
        wall, path = min(chains(backend) for _ in range(3))
        over = f"{(wall / 0.4 - 1) * 100:+.1f} % of 0.400 s, bar: 10 %; measured path {path:.3f} s"
        print(_ROW.format(f"wall: chains 0.1 + 0.3 s and 0.3 + 0.1 s, {backend}", f"{wall:.3f} s", over))


if __name__ == "__main__":
    main()
