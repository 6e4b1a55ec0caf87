"""``python -m benchmarks.bench_mocks [--quick] [--json FILE] [--no-suite]``: what isolated mocks cost.

How the figures are taken. All contenders of a line run in one process, turn by
turn (a b c a b c ...), with the collector off; the figure of each is the
smallest CPU time of its rounds, so ratios hold on a busy machine. Memory is
what `tracemalloc` counts for many equal objects, divided. "discarded" counts
what the collector finds after making, using and discarding mocks with the
collector off. The suite is 1,000 generated asynchronous tests with three mocks
each, run by pytest in processes of their own, turn by turn; CPU time and peak
memory are those of the whole process.

Redis and pytest-mock are measured when they are installed.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final
from unittest.mock import AsyncMock, create_autospec

from isolation_core.mocks import MockRegistry, clear, discard, isolated_mock, reset

Work = Callable[[int], object]

ROUNDS = 15


class Client:
    """Thirty methods, as a service client has them."""


async def _method(self: object, key: str, *, fresh: bool = False) -> bytes:
    raise NotImplementedError


for _n in range(30):
    setattr(Client, f"method_{_n}", _method)


def run(coroutine: Any) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError


def interleaved(contenders: dict[str, tuple[Work, int]], rounds: int) -> dict[str, float]:
    """Return the smallest microseconds of one operation of each contender; *int* is how many make a round."""
    best = dict.fromkeys(contenders, float("inf"))
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, (work, count) in contenders.items():
                start = time.process_time_ns()
                work(count)
                best[name] = min(best[name], (time.process_time_ns() - start) / count / 1000)
            gc.collect()
    finally:
        gc.enable()
    return best


def repeat(function: Callable[[], object]) -> Work:
    """Return work that calls *function* again and again."""

    def work(count: int) -> None:
        for _ in range(count):
            function()

    return work


def calls(mock: Any) -> Work:
    """Return work that calls and awaits *mock*, and forgets the calls at the end."""

    def work(count: int) -> None:
        for _ in range(count):
            run(mock("key", fresh=True))
        mock.reset_mock()

    return work


def at_depth(mock: Any, depth: int) -> Any:
    """Return a descendant that returns 1."""
    for _ in range(depth):
        mock = mock.child
    mock.return_value = 1
    return mock


def tree(mock: Any, children: int) -> Any:
    """Give *mock* children that were called once."""
    for n in range(children):
        child = getattr(mock, f"method_{n}")
        child.return_value = 1
    return mock


def resets(mock: Any, children: int, how: Callable[[Any], object]) -> Work:
    """Return work that calls every child once and resets; the calls are the same for all contenders."""
    tree(mock, children)
    return repeat(lambda: how(mock))


class Report:
    """Prints and collects the lines."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {"python": platform.python_version()}
        self.missed: list[str] = []

    def line(
        self, what: str, figures: dict[str, float], *, unit: str = "us", bars: dict[str, float] | None = None
    ) -> None:
        """Print one comparison; each bar is the least ratio of a contender to ours."""
        ours = figures["ours"]
        print(f"\n{what}")
        for name, figure in figures.items():
            ratio = figure / ours if ours else float("inf")
            bar = (bars or {}).get(name)
            verdict = "" if bar is None else f"   bar {bar:g}x {'ok' if ratio >= bar else 'MISSED'}"
            if bar is not None and ratio < bar:
                self.missed.append(f"{what}: {name} {ratio:.1f}x < {bar:g}x")
            print(f"    {name:34} {figure:12,.2f} {unit}" + ("" if name == "ours" else f"   {ratio:8,.1f}x{verdict}"))
        self.results[what] = figures

    def at_most(self, what: str, figure: float, bar: float, unit: str) -> None:
        """Print one figure with its upper bar."""
        ok = figure <= bar
        print(f"\n{what}\n    {figure:,.2f} {unit}   bar <= {bar:g} {'ok' if ok else 'MISSED'}")
        if not ok:
            self.missed.append(f"{what}: {figure:.2f} > {bar:g} {unit}")
        self.results[what] = figure


def _pytest_mock() -> Any:
    """Return pytest-mock's factory, or None when it is not installed."""
    if importlib.util.find_spec("pytest_mock") is None:
        return None
    factory: Any = importlib.import_module("pytest_mock").MockerFixture

    class Config:
        def getini(self, _name: str) -> str:
            return "false"

    return factory(Config())


def bench_creation(report: Report, rounds: int) -> None:
    """Making mocks, bare and specified."""
    contenders: dict[str, tuple[Work, int]] = {
        "ours": (repeat(isolated_mock), 500),
        "AsyncMock()": (repeat(AsyncMock), 100),
    }
    mocker = _pytest_mock()
    if mocker is not None:
        contenders["pytest-mock mocker.AsyncMock()"] = (repeat(mocker.AsyncMock), 100)
        contenders["pytest-mock mocker.async_stub()"] = (repeat(mocker.async_stub), 20)
    report.line("creation", interleaved(contenders, rounds), bars={"AsyncMock()": 10})
    with MockRegistry("bench") as registry:
        figures = interleaved({"ours": (repeat(registry.create), 500), "AsyncMock()": (repeat(AsyncMock), 100)}, rounds)
    report.line("creation in a barrier", figures, bars={"AsyncMock()": 10})
    figures = interleaved(
        {"ours": (repeat(lambda: isolated_mock(own_class=True)), 100), "AsyncMock()": (repeat(AsyncMock), 100)}, rounds
    )
    report.line("creation with own_class=True", figures)
    contenders = {
        "ours": (repeat(lambda: isolated_mock(Client)), 200),
        "AsyncMock(spec=...)": (repeat(lambda: AsyncMock(spec=Client)), 10),
        "create_autospec(instance=True)": (repeat(lambda: create_autospec(Client, instance=True)), 1),
    }
    report.line("creation from a class of thirty methods", interleaved(contenders, rounds))


def bench_calls(report: Report, rounds: int) -> None:
    """Calling and awaiting, at the root and below, unverified and verified."""
    for depth in (0, 2):
        ours, theirs = at_depth(isolated_mock(), depth), at_depth(AsyncMock(), depth)
        figures = interleaved({"ours": (calls(ours), 1000), "AsyncMock": (calls(theirs), 200)}, rounds)
        report.line(f"call + await, depth {depth}", figures, bars={"AsyncMock": 4})
    with MockRegistry("bench") as registry:
        ours, theirs = at_depth(registry.create(), 0), at_depth(AsyncMock(), 0)
        figures = interleaved({"ours": (calls(ours), 1000), "AsyncMock": (calls(theirs), 200)}, rounds)
    report.line("call + await in a barrier", figures, bars={"AsyncMock": 4})
    ours, spec, auto = isolated_mock(Client), AsyncMock(spec=Client), create_autospec(Client, instance=True)
    for mock in (ours, spec, auto):
        mock.method_1.return_value = 1
    contenders = {
        "ours": (calls(ours.method_1), 1000),
        "AsyncMock(spec=...), unchecked": (calls(spec.method_1), 200),
        "create_autospec, checked": (calls(auto.method_1), 200),
    }
    report.line("call + await with the signature checked", interleaved(contenders, rounds))


def bench_reset(report: Report, rounds: int) -> None:
    """Resetting trees."""
    contenders: dict[str, tuple[Work, int]] = {
        "ours": (resets(isolated_mock(), 100, lambda mock: mock.reset_mock()), 20),
        "AsyncMock.reset_mock()": (resets(AsyncMock(), 100, lambda mock: mock.reset_mock()), 3),
        "ours, clear()": (resets(isolated_mock(), 100, clear), 20),
    }
    stubs: dict[str, Any] = {f"method_{n}.return_value": 1 for n in range(100)}
    baselined = tree(isolated_mock(**stubs), 100)
    contenders["ours, reset() to a baseline"] = (repeat(lambda: reset(baselined)), 20)
    figures = interleaved(contenders, rounds)
    report.line("reset of 100 children", figures, bars={"AsyncMock.reset_mock()": 6})
    called: dict[str, Any] = {"ours": tree(isolated_mock(), 100), "AsyncMock": tree(AsyncMock(), 100)}

    def call_all(mock: Any) -> None:
        for n in range(100):
            run(getattr(mock, f"method_{n}")(n))
        mock.reset_mock()

    works = {name: (repeat(functools.partial(call_all, mock)), 3) for name, mock in called.items()}
    figures = interleaved(works, rounds)
    report.line("100 children: call each, then reset", figures)
    big = resets(isolated_mock(), 1000, lambda mock: mock.reset_mock())
    small = resets(isolated_mock(), 100, lambda mock: mock.reset_mock())
    figures = interleaved({"100": (small, 20), "1000": (big, 2)}, rounds)
    report.at_most("reset of 1,000 children over 100", figures["1000"] / figures["100"], 15, "x")


def traced(make: Callable[[], object], count: int) -> float:
    """Return the bytes one *make* keeps."""
    make()
    gc.collect()
    kept = []
    tracemalloc.start()
    for _ in range(count):
        kept.append(make())  # noqa: PERF401 - the list is part of neither side
    size = tracemalloc.get_traced_memory()[0] - sys.getsizeof(kept)
    tracemalloc.stop()
    return size / count


def bench_memory(report: Report) -> None:
    """Bytes for a mock and for a recorded call, objects left to the collector."""
    with MockRegistry("bench") as registry:
        sizes = {"ours": traced(isolated_mock, 500), "AsyncMock": traced(AsyncMock, 300)}
        report.line("bytes of a mock", sizes, unit="B")
        report.at_most("bytes of a mock in a barrier", traced(registry.create, 500), 1500, "B")
        for depth in (0, 4):
            figures = {}
            for name, root in (("ours", registry.create()), ("AsyncMock", AsyncMock())):
                mock = at_depth(root, depth)
                figures[name] = traced(lambda mock=mock: run(mock(key=1)), 1000)  # type: ignore[misc]
            report.line(f"bytes of a recorded call, depth {depth}", figures, unit="B")
            report.at_most(f"bytes of a recorded call, depth {depth}, bar", figures["ours"], 600, "B")
    gc.collect()
    gc.disable()
    stubs: dict[str, Any] = {"method_1.return_value": 1}
    with MockRegistry("bench") as registry:
        for _ in range(10_000):
            mock = registry.create(Client, **stubs)
            run(mock.method_1("k"))
            discard(mock)
        del mock
        report.at_most("objects the collector finds after 10,000 discarded mocks", gc.collect(), 0, "")
    gc.enable()


def bench_redis(report: Report, rounds: int) -> None:
    """A real, wide client: five methods used."""
    if importlib.util.find_spec("redis") is None:
        print("\nredis is not installed: not measured")
        return
    redis_class = importlib.import_module("redis.asyncio").Redis
    names = ("get", "set", "delete", "expire", "pipeline")

    def ours() -> object:
        mock = isolated_mock(redis_class)
        return [getattr(mock, name) for name in names]

    def theirs() -> object:
        mock = create_autospec(redis_class)
        return [getattr(mock, name) for name in names]

    def instance() -> object:
        mock = create_autospec(redis_class, instance=True)
        return [getattr(mock, name) for name in names]

    start = time.process_time_ns()
    ours()
    print(f"\nfirst isolated_mock(redis.asyncio.Redis) of the process: {(time.process_time_ns() - start) / 1e6:.2f} ms")
    contenders: dict[str, tuple[Work, int]] = {
        "ours": (repeat(ours), 100),
        "create_autospec": (repeat(theirs), 1),
        "create_autospec(instance=True)": (repeat(instance), 1),
        "AsyncMock(spec=...)": (repeat(lambda: AsyncMock(spec=redis_class)), 5),
    }
    figures = interleaved(contenders, min(rounds, 3))
    report.line("redis.asyncio.Redis, five methods touched", figures, bars={"create_autospec": 500})


_SUITE: Final = """
import pytest
from unittest.mock import AsyncMock, create_autospec
{imports}

class Repository:
    async def find(self, key: str) -> dict: ...
    async def save(self, key: str, value: dict) -> None: ...
    async def delete(self, key: str) -> None: ...
    def connected(self) -> bool: ...

class Bus:
    async def publish(self, topic: str, event: dict) -> None: ...
    async def subscribe(self, topic: str) -> None: ...

class Cache:
    async def get(self, key: str) -> dict | None: ...
    async def set(self, key: str, value: dict, ttl: int = 0) -> None: ...

@pytest.fixture
def anyio_backend():
    return "asyncio"

{fixture}

async def handle(repository, bus, cache, key):
    for n in range(5):
        value = await cache.get(key)
        if value is None:
            value = await repository.find(key)
            await cache.set(key, value, ttl=n)
        await repository.save(key, value)
        await bus.publish("changed", value)

@pytest.mark.anyio
@pytest.mark.parametrize("n", range({tests}))
async def test_handle(n, make):
    repository, bus, cache = make(Repository), make(Bus), make(Cache)
    repository.find.return_value = {{"n": n}}
    cache.get.return_value = None
    await handle(repository, bus, cache, str(n))
    assert repository.save.await_count == 5
    repository.find.assert_awaited_with(str(n))
    bus.publish.assert_awaited_with("changed", {{"n": n}})
    cache.set.assert_awaited_with(str(n), {{"n": n}}, ttl=4)
"""

# The peak of this very program: what getrusage tells begins with that of the
# process it was forked from.
_CONFTEST: Final = """
import re
from pathlib import Path

def pytest_unconfigure(config):
    status = Path("/proc/self/status").read_text()
    Path(__file__).with_name("peak").write_text(re.search(r"VmHWM:\\s+(\\d+)", status)[1])
"""

_FIXTURE: Final = """
@pytest.fixture
def make():
    return lambda spec: {expression}
"""

_OURS: Final = """
@pytest.fixture
def make(request):
    with MockRegistry(request.node.nodeid) as registry:
        yield lambda spec: registry.create({argument})
"""

_INERT: Final = """
class Answer:
    await_count = 5
    return_value = None
    def assert_awaited_with(self, *args, **kwargs): pass
    async def __call__(self, *args, **kwargs): return None

class Inert:
    def __getattr__(self, name): return Answer()
"""

# Name of the contender -> what its file imports, and its fixture.
_MAKERS: Final = {
    "AsyncMock()": ("", _FIXTURE.format(expression="AsyncMock()")),
    "AsyncMock(spec=...)": ("", _FIXTURE.format(expression="AsyncMock(spec=spec)")),
    "create_autospec": ("", _FIXTURE.format(expression="create_autospec(spec, instance=True)")),
    "ours": ("from isolation_core.mocks import MockRegistry", _OURS.format(argument="")),
    "ours, verified": ("from isolation_core.mocks import MockRegistry", _OURS.format(argument="spec")),
    "no mocks": ("", _INERT + _FIXTURE.format(expression="Inert()")),
}


def bench_suite(report: Report, *, tests: int, times: int) -> None:
    """A realistic suite, whole processes."""
    cpu: dict[str, list[float]] = {name: [] for name in _MAKERS}
    peak: dict[str, list[float]] = {name: [] for name in _MAKERS}
    with tempfile.TemporaryDirectory() as folder:
        for index, (imports, fixture) in enumerate(_MAKERS.values()):
            text = _SUITE.format(imports=imports, fixture=fixture, tests=tests)
            Path(folder, f"test_suite_{index}.py").write_text(text, encoding="utf-8")
        Path(folder, "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        Path(folder, "conftest.py").write_text(_CONFTEST, encoding="utf-8")
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        for _ in range(times):
            for index, name in enumerate(_MAKERS):
                command = [
                    sys.executable, "-m", "pytest", "-q", "-p", "anyio", "-p", "no:cacheprovider",
                    f"test_suite_{index}.py",
                ]  # fmt: skip
                process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
                assert process.stdout is not None
                output = process.stdout.read()
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    raise SystemExit(f"the suite with {name} failed:\n{output}")
                cpu[name].append(usage.ru_utime + usage.ru_stime)
                peak[name].append(int(Path(folder, "peak").read_text(encoding="utf-8")) / 1024)
    seconds = {name: min(values) for name, values in cpu.items()}
    report.line(f"{tests} tests with three mocks each, whole run", seconds, unit="s CPU")
    floor = seconds["no mocks"]
    print("    the mocks' own part, the same suite with inert objects taken off:")
    for name, value in seconds.items():
        if name != "no mocks":
            print(f"        {name:30} {1000 * (value - floor) / tests:8.3f} ms a test")
    report.line("the same, peak memory", {name: median(values) for name, values in peak.items()}, unit="MB")


def main() -> int:
    """Take all readings and print them beside their bars."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_mocks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: does it run at all")
    parser.add_argument("--no-suite", action="store_true", help="leave out the suite of whole processes")
    parser.add_argument("--json", type=Path, help="where the results go")
    options = parser.parse_args()
    rounds = 2 if options.quick else ROUNDS
    report = Report()
    print(f"Python {platform.python_version()}")
    bench_creation(report, rounds)
    bench_calls(report, rounds)
    bench_reset(report, rounds)
    bench_memory(report)
    bench_redis(report, rounds)
    if not options.no_suite:
        bench_suite(report, tests=50 if options.quick else 1000, times=1 if options.quick else 5)
    if options.json is not None:
        options.json.write_text(json.dumps(report.results, indent=1), encoding="utf-8")
    print("\n" + ("every bar is met" if not report.missed else "missed:\n  " + "\n  ".join(report.missed)))
    return int(bool(report.missed) and not options.quick)


if __name__ == "__main__":
    raise SystemExit(main())
