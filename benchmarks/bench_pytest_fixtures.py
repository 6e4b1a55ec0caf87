"""``python -m benchmarks.bench_pytest_fixtures``: what a managed fixture costs beside one of pytest's own.

How the figures are taken. One pytest run in this process has a thousand tests
without a fixture, a thousand with an ordinary generator fixture and a thousand
with a managed one, taking turns. Of each kind counts the 10th percentile of the CPU
time from before a test to after it; the cost of a fixture is that less the figure
without any. Of several runs the one with the smallest sum counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

_SUITE: Final = """
import pytest
from isolation_pytest import managed_fixture

@pytest.fixture
def ordinary():
    yield {}

@managed_fixture
def managed():
    yield {}

@pytest.mark.parametrize("number", range(1000))
def test_without(number): pass

@pytest.mark.parametrize("number", range(1000))
def test_ordinary(ordinary, number): pass

@pytest.mark.parametrize("number", range(1000))
def test_managed(managed, number): pass
"""


class _Clock:
    def __init__(self) -> None:
        self.spent: dict[str, list[int]] = defaultdict(list)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Have the three kinds take turns."""
        third = len(items) // 3
        items[:] = [
            item for turn in zip(*(items[k * third : (k + 1) * third] for k in range(3)), strict=True) for item in turn
        ]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Read the CPU clock around each test."""
        began = time.process_time_ns()
        result = yield
        self.spent[item.name.partition("[")[0]].append(time.process_time_ns() - began)
        return result

    def percentile(self, name: str) -> float:
        """Return the 10th percentile of a kind of test, in microseconds."""
        values = sorted(self.spent[name])
        return values[len(values) // 10] / 1000


def measure(mode: str, runs: int) -> tuple[float, float, float]:
    """Return microseconds per test: without a fixture, with an ordinary one, with a managed one."""
    found = []
    for number in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, f"test_bench_{mode}_{number}.py").write_text(_SUITE)
            clock = _Clock()
            plugins = [f"-pno:{name}" for name in ("cacheprovider", "randomly", "asyncio", "anyio", "rerunfailures")]
            pytest.main(
                ["-qq", "--no-summary", f"--rootdir={folder}", f"--isolation={mode}", *plugins, folder], [clock]
            )
            found.append(tuple(clock.percentile(f"test_{kind}") for kind in ("without", "ordinary", "managed")))
    without, ordinary, managed = min(found, key=sum)
    return without, ordinary, managed


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="cost of a managed fixture beside an ordinary one")
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    rows = {mode: measure(mode, runs) for mode in ("off", "restore")}
    heads = ("without", "ordinary", "managed", "ordinary", "managed")
    print(f"\n{'us per test, p10 of CPU':<26}" + "".join(f"{head:>10}" for head in heads) + "  ratio")
    for mode, (without, ordinary, managed) in rows.items():
        first, second = ordinary - without, managed - without
        print(
            f"--isolation={mode:<14} {without:>9.1f} {ordinary:>9.1f} {managed:>9.1f} {first:>9.1f} {second:>9.1f}"
            f"  {second / first:.2f}"
        )


if __name__ == "__main__":
    main()
