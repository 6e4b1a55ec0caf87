"""A measured function, a thousand times, each behind a barrier: ``python performance_loop.py [ITERATIONS]``.

The function keeps what it has computed; without barriers all iterations but the first would measure a cache.
The time of the barriers is shown apart from that of the function, and is not part of it.
"""

from __future__ import annotations

import sys
from statistics import median
from time import perf_counter_ns

import kiosk

from isolation_core.runner import RunnerSession


def main(iterations: int = 1000) -> None:
    inside, around = [], []
    fresh = 0
    with RunnerSession(runner="performance loop", root=sys.path[0]) as session:
        for _ in range(iterations):
            opened = perf_counter_ns()
            with session.barrier("function", "total"):
                fresh += not kiosk.TOTALS
                began = perf_counter_ns()
                kiosk.total(1000)
                ended = perf_counter_ns()
            inside.append(ended - began)
            around.append(perf_counter_ns() - opened - inside[-1])
        totals = session.journal.totals
        print(f"{iterations} iterations, {totals.barriers} barriers, {fresh} began without a cached result")
        print(f"measured function: {median(inside) / 1000:.1f} us in the median")
        print(f"its barrier:       {median(around) / 1000:.1f} us in the median")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
