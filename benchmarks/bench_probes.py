"""Cost of each built-in probe when nothing changed: microseconds per look.

Run: ``python benchmarks/bench_probes.py [--modules N] [--loggers N]``.

A look is `capture` and, unless it returned the previous snapshot, `same`. The
figure is the median over many looks less the median of an empty loop body,
taken in one process, one probe after the other. ``--modules`` and
``--loggers`` add that many entries to ``sys.modules`` and the logging tree,
to see what grows with the process.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import types
from importlib.machinery import ModuleSpec
from time import perf_counter_ns

from isolation_core.contamination.probes._builtin import builtin_probes

LOOKS = 4000


def median_look(probe: object) -> float:
    """Return the median cost of one look of *probe*, in microseconds."""
    capture, same = probe.capture, probe.same  # type: ignore[attr-defined]
    capture()
    last = capture()
    spent = []
    for _ in range(LOOKS):
        start = perf_counter_ns()
        now = capture()
        if now is not last and not same(last, now):
            raise AssertionError(f"{probe.kind} sees a change where there is none")  # type: ignore[attr-defined]
        last = now
        spent.append(perf_counter_ns() - start)
    return statistics.median(spent) / 1000


def empty_look() -> float:
    """Return the median cost of measuring nothing, in microseconds."""
    spent = []
    for _ in range(LOOKS):
        start = perf_counter_ns()
        spent.append(perf_counter_ns() - start)
    return statistics.median(spent) / 1000


def main() -> None:
    """Print a table, dearest first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", type=int, default=0)
    parser.add_argument("--loggers", type=int, default=0)
    options = parser.parse_args()
    for number in range(options.modules):
        module = types.ModuleType(f"bench_{number}")
        module.__spec__ = ModuleSpec(module.__name__, None)
        sys.modules[module.__name__] = module
    for number in range(options.loggers):
        logging.getLogger(f"bench.{number}").addHandler(logging.NullHandler())
    nothing = empty_look()
    rows = [(max(0.0, median_look(probe) - nothing), probe) for probe in builtin_probes()]
    print(
        f"Python {sys.version.split()[0]}, {len(sys.modules)} modules, {len(logging.root.manager.loggerDict)} loggers"
    )
    for cost, probe in sorted(rows, key=lambda row: -row[0]):
        print(f"  {cost:7.2f} us  {probe.code}  {probe.kind}")
    modules = sum(cost for cost, probe in rows if probe.kind == "modules")
    total = sum(cost for cost, _ in rows)
    print(f"  {total:7.2f} us  all {len(rows)}, of which sys.modules {modules:.2f}")


if __name__ == "__main__":
    main()
