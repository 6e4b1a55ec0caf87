"""The fault matrix over managed fixtures: no cleanup is skipped, no error lost, in bounded time.

The whole of it is ``python -m benchmarks.fixture_faults``; here all single faults and a part of the pairs.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load_matrix() -> ModuleType:
    """Import the matrix without making its folder importable."""
    path = Path(__file__).resolve().parent.parent / "benchmarks" / "fixture_faults.py"
    spec = importlib.util.spec_from_file_location("fixture_faults_matrix", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


matrix = load_matrix()


@pytest.mark.parametrize("mode", matrix.MODES, ids=str)
def test_without_a_fault(mode: object) -> None:
    """The twelve fixtures go up and down, and the body is reached."""
    run = matrix.Run(mode, {}).run()
    assert run.faults_found() == []
    assert sum(what == "down" for _, what in run.log) == 12
    assert ("body", "reached") in run.log


def test_the_checks_can_fail() -> None:
    """A teardown that did not happen and an error that did not come out are noticed."""
    run = matrix.Run(matrix.MODES[0], {("db", "tear down"): "error"}).run()
    assert run.faults_found() == []
    run.log.remove(("cache", "down"))
    run.raised = None
    assert len(run.faults_found()) >= 2


@pytest.mark.parametrize("mode", matrix.MODES, ids=str)
@pytest.mark.parametrize("kind", matrix.KINDS)
def test_l7_one_fault_anywhere(mode: object, kind: str) -> None:
    """In every set-up and every teardown."""
    for each, faults in matrix.cases(1):
        if each == mode and kind in faults.values():
            run = matrix.Run(mode, faults).run()
            assert run.fired == faults
            assert run.faults_found() == [], faults


@pytest.mark.parametrize("part", range(5))
def test_l7_two_faults(part: int) -> None:
    """One in eighty of all pairs, the same ones each time."""
    for mode, faults in itertools.islice(matrix.cases(2), part * 80, None, 400):
        run = matrix.Run(mode, faults).run()
        assert run.faults_found() == [], (mode, faults)
