"""``python -m benchmarks.bench_barrier [--quick] [--json FILE]``: what a barrier costs outside of any test runner.

How the figures are taken. Each reading has a process of its own and is taken
several times; the smallest counts, for on a shared machine only the smallest
repeats. Times are CPU. "clean" and "many": barriers with all probes around
nothing, over 20 first-party modules; "first": the first barrier of a process,
in a small one and in one with large libraries imported, all modules of
isolation_core being imported already; "off": CPU of a whole pytest run of one
test with the plugin switched off, less one without the plugin.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from benchmarks import _suites
from benchmarks._environments import CACHE, Environment, run
from benchmarks.bench_plugin import bench_environment

_WORKER: Final = Path(__file__).with_name("_barrier_worker.py")
_ROW: Final = "{:<34} {:>10} {:>10} {:>8}  {}"


def _read(environment: Environment, reading: str, folder: Path, *, count: int, times: int) -> list[dict[str, float]]:
    command: list[str | Path] = [environment.python, _WORKER, reading, str(count)]
    return [json.loads(run(command, cwd=folder).splitlines()[-1]) for _ in range(times)]


def _least(readings: list[dict[str, float]], key: str) -> float:
    return min(reading[key] for reading in readings)


def _off_cost(environment: Environment, folder: Path, *, times: int) -> float:
    common = ("-q", "-p", "no:cacheprovider", f"--rootdir={folder}", "-c", f"{folder}/pytest.ini", "test_00.py")
    off = ("-p", "isolation_pytest.plugin", "--isolation=off")
    costs: dict[tuple[str, ...], list[float]] = {(): [], off: []}
    for _ in range(times):
        for extra, seen in costs.items():
            seen.append(1000 * environment.pytest([*common, *extra], cwd=folder).runs[0]["cpu"])
    return min(costs[off]) - min(costs[()])


def main() -> int:
    """Take all readings and print them beside their bars."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_barrier",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer barriers, no heavy process: does it run at all")
    parser.add_argument("--json", type=Path, default=CACHE / "bench_barrier.json", help="where the results go")
    options = parser.parse_args()
    times = 1 if options.quick else 5

    light = bench_environment(heavy=False)
    small = _suites.write_sync(CACHE / "bench" / "barrier", tests=1, modules=20)
    print((__doc__ or "").partition("\n\n")[2])
    print(_ROW.format("reading", "figure", "bar", "aim", "more"))

    record: dict[str, object] = {}

    def show(name: str, figure: float, unit: str, more: str = "", *, bar: float, aim: float) -> None:
        record[name] = {"figure": figure, "unit": unit, "bar": bar, "aim": aim, "more": more}
        over = "" if figure <= bar else "  OVER"
        print(_ROW.format(name, f"{figure:.2f} {unit}", f"{bar:g} {unit}", f"{aim:g}", more + over), flush=True)

    readings = _read(light, "clean", small, count=200 if options.quick else 3000, times=times)
    median = f"median {_least(readings, 'median_us'):.0f} us"
    show("sync barrier, nothing changed", _least(readings, "p10_us"), "us", median, bar=300, aim=100)

    count = 5_000 if options.quick else 100_000
    readings = _read(light, "many", small, count=count, times=1 if options.quick else 2)
    median = f"{_least(readings, 'first_us'):.0f} us then, {_least(readings, 'last_us'):.0f} us at the end"
    show(f"{count:,} barriers, last over first", _least(readings, "ratio"), "x", f"medians: {median}", bar=1.1, aim=1.0)
    show(
        f"{count:,} barriers, memory growth",
        max(r["rss_growth_mb"] for r in readings),
        "MB",
        "the largest",
        bar=2,
        aim=0,
    )

    for heavy in (False,) if options.quick else (False, True):
        label, environment, folder = "light", light, small
        if heavy:
            label, environment = "heavy", bench_environment(heavy=True)
            folder = _suites.write_heavy(CACHE / "bench" / "barrier-heavy", tests=1)
        readings = _read(environment, "first", folder, count=1, times=times)
        more = f"{_least(readings, 'modules'):.0f} modules, wall {_least(readings, 'enter_wall_ms'):.1f} ms"
        show(f"first snapshot, {label}", _least(readings, "enter_cpu_ms"), "ms", more, bar=40 if heavy else 5, aim=5)
        show(f"first snapshot, {label}, memory", _least(readings, "rss_mb"), "MB", bar=15 if heavy else 3, aim=1)

    readings = _read(light, "imports", small, count=1, times=times)
    more = f"{_least(readings, 'modules'):.0f} modules"
    show("importing the pytest plugin", _least(readings, "import_ms"), "ms", more, bar=10, aim=5)
    show(
        "a run with --isolation=off",
        _off_cost(light, small, times=3 * times),
        "ms",
        "against one without",
        bar=10,
        aim=5,
    )

    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
