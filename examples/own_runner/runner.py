"""A test runner in forty lines: ``python runner.py MODULE ...`` runs test functions, each behind a barrier."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import partial

from isolation_core import Barrier
from isolation_core.runner import RunnerSession


def set_up_late(wide: Barrier, make: Callable[[], object]) -> None:
    """Call *make* for all tests: what it does lasts until *wide* closes, not until the test that asked for it ends."""
    with wide.promoting(holder=make):
        make()


def run_module(session: RunnerSession, name: str, shared: Callable[[Callable[[], object]], None]) -> int:
    """Run the tests of one module and return how many failed."""
    failed = 0
    tests = {name: value for name, value in vars(importlib.import_module(name)).items() if name.startswith("test_")}
    with session.barrier("module", name):
        for test_name, test in tests.items():
            try:
                with session.barrier("function", f"{name}.{test_name}", test_module=name):
                    test(shared)
            except Exception as error:
                failed += 1
                print(f"{test_name} failed: {error!r}")
            else:
                print(f"{test_name} passed")
    return failed


def main(*names: str) -> int:
    with RunnerSession(runner="forty lines", root=sys.path[0]) as session:
        with session.barrier("session", "the run") as wide:
            failed = sum(run_module(session, name, partial(set_up_late, wide)) for name in names)
        session.print_summary(sys.stdout)
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
