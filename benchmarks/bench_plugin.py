"""``python -m benchmarks.bench_plugin [--quick] [--rounds N] [--json FILE] [SUITE ...]``: what a test costs.

How the figures are taken. Suites are generated; plugins are loaded one at a
time and by name, caches are warm, and the configurations take turns in each
round. Per test: the CPU time of the process from one test's body to the next
one's; of these the 10th percentile (p10) of a run, and of the runs the
smallest. "hooked" is "restore" while a hook of another plugin runs between
each two tests: then there is one more comparison, so that no test is blamed for it.
Compare p10 with p10 only: medians, shown beside it, are higher on a shared
machine. pytest-forked works in children, so for it stands the CPU time
of the run with its children, less that of a plain run of the same tests, by
the number of tests.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from attrs import field, frozen

from benchmarks import _suites
from benchmarks._environments import CACHE, Environment, Observed, make_environment

_PYTHON: Final = "3.11"
# pytest-forked reports every test as crashed on pytest 9.2.
_PEERS: Final = [
    "pytest==9.1.1",
    "pytest-forked==1.7.5",
    "pytest-hygiene==0.1.0",
    "pytest-asyncio==1.5.0",
    "anyio==4.16.0",
]
_HEAVY: Final = ["pandas", "sqlalchemy", "django", "fastapi", "httpx", "aiohttp", "scipy", "sympy", "greenlet"]

_CONFIGURATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "plain": (),
    "off": ("-p", "isolation_pytest.plugin", "--isolation=off"),
    "restore": ("-p", "isolation_pytest.plugin", "--isolation=restore"),
    "hooked": ("-p", "isolation_pytest.plugin", "--isolation=restore"),
    "every": ("-p", "isolation_pytest.plugin", "--isolation=restore", "--isolation-packages=*"),
    "hygiene": ("-p", "pytest_hygiene.plugin", "--hygiene"),
    "forked": ("-p", "pytest_forked", "--forked"),
}
_ROW: Final = "{:<10} {:<10} {:>6} {:>8} {:>9} {:>9} {:>9} {:>8}  {}"


@frozen
class Suite:
    """A generated suite and how it is run.

    Attributes:
        write: writes it into a folder, with so many tests.
        tests: how many.
        bar: what the default mode may add per test, milliseconds; None if no bar is set.
        aim: what it is hoped to add.
        arguments: of pytest.
        heavy: needs the environment with the large libraries.
        every_bar: what looking at the attributes of every loaded module may add; None: that is not measured.
        forked_tests: how many of the tests pytest-forked runs, in whole files of 50; 0: none.
    """

    write: Callable[[Path, int], Path]
    tests: int = field(default=1000, kw_only=True)
    bar: float | None = field(default=None, kw_only=True)
    aim: float | None = field(default=None, kw_only=True)
    arguments: tuple[str, ...] = field(default=(), kw_only=True)
    heavy: bool = field(default=False, kw_only=True)
    every_bar: float | None = field(default=None, kw_only=True)
    forked_tests: int = field(default=0, kw_only=True)

    def bar_of(self, configuration: str) -> float | None:
        """Return what *configuration* may add per test, milliseconds."""
        return {"restore": self.bar, "hooked": self.bar, "every": self.every_bar}.get(configuration)


_SUITES: Final[Mapping[str, Suite]] = {
    "trivial": Suite(
        lambda folder, tests: _suites.write_sync(folder, tests=tests, modules=20), bar=0.30, aim=0.10, forked_tests=200
    ),
    "modules": Suite(lambda folder, tests: _suites.write_sync(folder, tests=tests, modules=100), bar=0.60, aim=0.30),
    "asyncio": Suite(
        lambda folder, tests: _suites.write_async(folder, tests=tests, runner="asyncio"),
        bar=0.35,
        aim=0.12,
        arguments=("-p", "asyncio"),
        forked_tests=100,
    ),
    "anyio": Suite(
        lambda folder, tests: _suites.write_async(folder, tests=tests, runner="anyio"),
        bar=0.35,
        aim=0.12,
        arguments=("-p", "anyio"),
    ),
    "heavy": Suite(
        lambda folder, tests: _suites.write_heavy(folder, tests=tests),
        bar=0.35,
        aim=0.10,
        every_bar=1.0,
        heavy=True,
        forked_tests=50,
    ),
    "leaking": Suite(lambda folder, tests: _suites.write_leaking(folder, tests=tests), bar=0.5),
}


@frozen
class Figure:
    """What one configuration costs on one suite, per test, in milliseconds of CPU.

    Attributes:
        p10: 10th percentile between two starts, smallest of the rounds; None where children do the work.
        median: likewise the median.
        run: CPU of the whole run with its children, by tests.
        tests: how many ran.
        failed: how many of them did not pass.
    """

    suite: str
    configuration: str
    p10: float | None = field(kw_only=True)
    median: float | None = field(kw_only=True)
    run: float = field(kw_only=True)
    tests: int = field(kw_only=True)
    failed: int = field(kw_only=True)
    remark: str = field(default="", kw_only=True)


def bench_environment(*, heavy: bool) -> Environment:
    """Return the environment that is measured in, with this checkout and the peers installed."""
    environment = make_environment(
        "bench-heavy" if heavy else "bench", [*_PEERS, *(_HEAVY if heavy else [])], python=_PYTHON
    )
    environment.install_checkout()
    return environment


def _run(
    environment: Environment,
    folder: Path,
    arguments: tuple[str, ...],
    files: int | None,
    *,
    hooks_between: bool = False,
) -> Observed:
    chosen = sorted(path.name for path in folder.glob("test_*.py"))[:files]
    common = ("-q", "-p", "no:cacheprovider", f"--rootdir={folder}", "-c", f"{folder}/pytest.ini", "--tb=line")
    return environment.pytest([*common, *arguments, *chosen], cwd=folder, hooks_between=hooks_between)


def _figure(suite: str, configuration: str, runs: list[Observed]) -> Figure:
    records = [run.runs[0] for run in runs if run.runs and run.outcomes]
    if not records:
        return Figure(
            suite,
            configuration,
            p10=None,
            median=None,
            run=0.0,
            tests=0,
            failed=0,
            remark="\n".join(runs[0].output.splitlines()[-6:]),
        )
    spans = [
        sorted(1000 * (after - before) for before, after in zip(record["starts"], record["starts"][1:], strict=False))
        for record in records
    ]
    tests = len(records[0]["outcomes"])
    return Figure(
        suite,
        configuration,
        p10=None if configuration == "forked" else min(span[len(span) // 10] for span in spans),
        median=None if configuration == "forked" else min(statistics.median(span) for span in spans),
        run=min(1000 * (record["cpu"] + record["children"]) / tests for record in records),
        tests=tests,
        failed=sum(outcome != "passed" for outcome in records[0]["outcomes"].values()),
    )


def measure(name: str, *, rounds: int, tests: int | None) -> list[Figure]:
    """Run suite *name* in every configuration, *rounds* times in turns, and return a figure for each."""
    suite = _SUITES[name]
    environment = bench_environment(heavy=suite.heavy)
    folder = suite.write(CACHE / "bench" / name, tests or suite.tests)
    forked_files = min(suite.forked_tests, tests or suite.forked_tests) // 50 or (1 if suite.forked_tests else 0)
    arguments = {each: (*suite.arguments, *extra) for each, extra in _CONFIGURATIONS.items()}
    if suite.every_bar is None:
        del arguments["every"]
    files: dict[str, int | None] = dict.fromkeys(arguments)
    if forked_files:
        # A fork a test is too dear for all of them; a plain run of the same few is what it is compared with.
        arguments["plain, few"] = suite.arguments
        files |= {"forked": forked_files, "plain, few": forked_files}
    else:
        del arguments["forked"], files["forked"]
    _run(environment, folder, suite.arguments, None)  # compiles everything once
    seen: dict[str, list[Observed]] = {each: [] for each in arguments}
    for _ in range(rounds):
        for each, extra in arguments.items():
            seen[each].append(_run(environment, folder, extra, files[each], hooks_between=each == "hooked"))
    return [_figure(name, each, runs) for each, runs in seen.items()]


def _show(figures: list[Figure]) -> None:
    by_name = {figure.configuration: figure for figure in figures}
    plain, off, restore = by_name["plain"], by_name["off"], by_name["restore"]
    suite = _SUITES[plain.suite]
    for figure in figures:
        if figure.remark:
            print(_ROW.format(figure.suite, figure.configuration, "-", "-", "-", "-", "-", "-", "did not run"))
            print(figure.remark.splitlines()[-1])
            continue
        bar = suite.bar_of(figure.configuration)
        base = off if figure.configuration in ("restore", "hooked", "every") and off.p10 else plain
        added = ratio = None
        if figure.configuration == "forked":
            added = figure.run - by_name["plain, few"].run
            base_run = by_name["plain, few"].run
            ratio = figure.run / base_run
        elif figure.p10 is not None and base.p10 and figure is not plain and figure.configuration != "plain, few":
            added, ratio = figure.p10 - base.p10, figure.p10 / base.p10
        note = f"{figure.failed} did not pass" if figure.failed else ""
        if added is not None and bar is not None:
            aim = f" (aim {suite.aim:.2f})" if suite.aim and figure is restore else ""
            note = f"{'within' if added <= bar else 'OVER'} {bar:.2f}{aim}"
            if figure.failed:
                note += f", {figure.failed} did not pass"
        print(
            _ROW.format(
                figure.suite,
                figure.configuration,
                figure.tests,
                *(f"{value:.3f}" if value is not None else "-" for value in (figure.p10, figure.median, figure.run)),
                f"{added:+.3f}" if added is not None else "-",
                f"{ratio:.2f}x" if ratio is not None else "-",
                note,
            )
        )
    forked = by_name.get("forked")
    if forked and forked.run and restore.p10 and off.p10:
        fork_cost = forked.run - by_name["plain, few"].run
        ours = restore.p10 - off.p10
        times = f"{fork_cost / ours:.0f} times" if ours > 0 else "beyond measure"
        print(f"{plain.suite}: a fork a test adds {fork_cost:.2f} ms, isolation {ours:.3f} ms: {times} cheaper")


def healing(*, json_record: list[dict[str, object]]) -> None:
    """Print which of the ten victims of the polluted suite pass in each configuration."""
    environment = bench_environment(heavy=False)
    folder = _suites.write_polluted(CACHE / "bench" / "polluted")
    _run(environment, folder, (), None)
    print("\npolluted suite: 200 tests, ten polluters and their ten victims")
    for name, arguments in _CONFIGURATIONS.items():
        if name == "hooked":
            continue
        seen = _run(environment, folder, arguments, None)
        broken = [test for test, outcome in seen.outcomes.items() if outcome != "passed"]
        victims = [test.rpartition("test_victim_")[2] for test in broken if "test_victim_" in test]
        others = [test for test in broken if "test_victim_" not in test]
        if not seen.outcomes:
            print(f"{name:<10} did not run")
            continue
        cpu = seen.runs[0]["cpu"] + seen.runs[0]["children"]
        print(
            f"{name:<10} {10 - len(victims):>2} of 10 victims pass, run {cpu:.2f} s CPU"
            + (f"; still failing: {', '.join(victims)}" if victims else "")
            + (f"; {len(others)} other tests fail" if others else "")
        )
        json_record.append({"polluted": name, "failing": victims, "others": others, "cpu_s": cpu})


def main() -> int:
    """Measure the chosen suites and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_plugin",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suites", nargs="*", help=f"of {', '.join(_SUITES)}, polluted; all if none")
    parser.add_argument("--quick", action="store_true", help="few tests, one round, no heavy suite: does it run at all")
    parser.add_argument("--rounds", type=int, default=3, help="how often each configuration runs (default: 3)")
    parser.add_argument("--json", type=Path, default=CACHE / "bench_plugin.json", help="where the results go")
    options = parser.parse_args()
    known = [*_SUITES, "polluted"]
    if unknown := sorted(set(options.suites) - set(known)):
        parser.error(f"no such suite: {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = options.suites or [name for name in known if not (options.quick and name == "heavy")]

    print((__doc__ or "").partition("\n\n")[2])
    header = ("suite", "with", "tests", "p10 ms", "median ms", "run ms", "added ms", "ratio", "")
    print(_ROW.format(*header))
    record: list[dict[str, object]] = []
    for name in chosen:
        if name == "polluted":
            continue
        figures = measure(name, rounds=1 if options.quick else options.rounds, tests=100 if options.quick else None)
        _show(figures)
        sys.stdout.flush()
        record += [
            {
                "suite": figure.suite,
                "configuration": figure.configuration,
                "p10_ms": figure.p10,
                "median_ms": figure.median,
                "run_ms": figure.run,
                "tests": figure.tests,
                "failed": figure.failed,
            }
            for figure in figures
        ]
    print("added: p10 over plain, for restore over off; for forked, run CPU over a plain run of the same tests")
    if "polluted" in chosen:
        healing(json_record=record)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
