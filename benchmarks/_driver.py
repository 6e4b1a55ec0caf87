"""Runs inside other projects' environments: pytest N times in one process, each test's outcome written down.

``python _driver.py OBSERVATIONS.json TIMES SHUFFLE_SEED_OR_EMPTY between|during PYTEST_ARGUMENT...``

The observer's own hooks run *between* the tests, or only *during* each, as its body is about to be called.

Imports the standard library and pytest only; ``{run}`` in an argument becomes the number of the run.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest


class _Observer:
    """What both observers note, and the shuffling."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.outcomes: dict[str, str] = {}
        self.messages: dict[str, str] = {}
        self.starts: list[float] = []
        self.end = 0.0
        self.uncollected: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Shuffle files, classes in a file, and tests in a class, as the seed says."""
        if not self.seed:
            return
        # Levels stay together: tearing them apart would measure fixtures being set up again and again.
        dice = random.Random(self.seed)

        def shuffled(members: list[pytest.Item], depth: int) -> list[pytest.Item]:
            chains = [[node.nodeid for node in item.listchain()] for item in members]
            if all(len(chain) <= depth + 1 for chain in chains):
                dice.shuffle(members)
                return members
            groups = [
                [member for _, member in group]
                for _, group in itertools.groupby(
                    zip(chains, members, strict=True), key=lambda pair: pair[0][min(depth, len(pair[0]) - 1)]
                )
            ]
            dice.shuffle(groups)
            return [item for group in groups for item in shuffled(group, depth + 1)]

        items[:] = shuffled(list(items), 1)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what could not be collected."""
        if report.failed:
            self.uncollected.append(report.nodeid)


class Between(_Observer):
    """Notes outcome, message and CPU clock of every test where one ends and the next begins."""

    def pytest_runtest_logstart(self) -> None:
        """Read the CPU clock where a test begins."""
        self.starts.append(time.process_time())

    def pytest_runtest_logfinish(self) -> None:
        """Read it where a test ends: the last such reading closes the run."""
        self.end = time.process_time()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Fold the phases of a test into one word."""
        word = {"passed": "passed", "failed": "failed", "skipped": "skipped"}[report.outcome]
        if hasattr(report, "wasxfail"):
            word = "xfailed" if report.skipped else "xpassed"
        if report.when != "call" and report.failed:
            word = f"error in {report.when}"
        before = self.outcomes.get(report.nodeid, "passed")
        if word != "passed":
            self.outcomes[report.nodeid] = word if before in ("passed", word) else f"{before}, {word}"
        else:
            self.outcomes.setdefault(report.nodeid, before)
        if report.failed and report.nodeid not in self.messages:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.messages[report.nodeid] = str(crash.message if crash else report.longrepr)[:400]


class During(_Observer):
    """Notes outcome and CPU clock of every test without a hook that runs between two of them."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        """Read the CPU clock where a test's body is about to be called."""
        self.starts.append(time.process_time())

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Read it at the end, and what the terminal reporter has counted."""
        self.end = time.process_time()
        reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        for word, reports in reporter.stats.items():
            self.outcomes.update(
                (each.nodeid, word) for each in reports if word and isinstance(each, pytest.TestReport)
            )


def main() -> None:
    """Do what the module says."""
    target, times, seed, place, *arguments = sys.argv[1:]
    # As `python -m pytest` does: the current folder is importable, the folder of this file is not.
    sys.path[0] = os.getcwd()
    runs = []
    for number in range(int(times)):
        observer = {"between": Between, "during": During}[place](seed)
        wall, cpu = time.perf_counter(), time.process_time()
        code = pytest.main([argument.replace("{run}", str(number)) for argument in arguments], plugins=[observer])
        runs.append(
            {
                "exit": int(code),
                "outcomes": observer.outcomes,
                "messages": observer.messages,
                "uncollected": observer.uncollected,
                "starts": [*observer.starts, observer.end],
                "cpu": time.process_time() - cpu,
                "children": sum(os.times()[2:4]),
                "wall": time.perf_counter() - wall,
            }
        )
        Path(target).write_text(json.dumps(runs))


if __name__ == "__main__":
    main()
