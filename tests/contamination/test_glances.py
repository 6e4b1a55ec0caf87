"""Guards: cheap readings that replace whole probes as long as none of them changes."""

from __future__ import annotations

import builtins
import decimal
import gc
import os
import random
import signal
import sys
import types
import unittest.mock
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from isolation_core import isolation_barrier
from isolation_core.contamination import default_probes
from isolation_core.contamination.probes._guards import CAN_GUARD, Guards
from isolation_core.contamination.probes._probe import Guard

_POLLUTIONS: dict[str, Callable[[], object]] = {
    "cwd": lambda: os.chdir("/"),
    "umask": lambda: os.umask(0o001),
    "interpreter": lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 1),
    "gc": lambda: gc.set_threshold(701),
    "path": lambda: sys.path.append("/nowhere/at/all"),
    "signal": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    "random": lambda: random.seed(7),
    "decimal-templates": lambda: setattr(decimal.DefaultContext, "prec", 11),
    "hook": lambda: setattr(sys, "displayhook", print),
    "modules": lambda: sys.modules.update(glances_fake=types.ModuleType("glances_fake")),
    "builtins": lambda: setattr(builtins, "glances_name", 1),
}


@pytest.mark.parametrize("kind", list(_POLLUTIONS))
def test_the_same_pollution_twice_is_found_twice(kind: str) -> None:
    """A change that was undone and is made again is found again: readings of undone state are discarded."""
    with isolation_barrier(packages=()):
        for _ in range(3):
            with isolation_barrier(packages=()) as inner:
                _POLLUTIONS[kind]()
            assert [change.kind for change in inner.changes] == [kind]
            with isolation_barrier(packages=()) as inner:
                pass
            assert inner.changes == ()


def test_a_patch_started_twice_is_found_twice() -> None:
    """Started patches are seen by the list they are in, each time."""
    with isolation_barrier(packages=()):
        for _ in range(2):
            with isolation_barrier(packages=()) as inner:
                unittest.mock.patch("os.getcwd", print).start()
            assert [leak.kind for leak in inner.leaks] == ["patch"]


@pytest.mark.skipif(not CAN_GUARD, reason="this interpreter shows too little")
def test_most_probes_are_not_asked_while_nothing_moves() -> None:
    """In a quiet process two thirds of the built-in probes are spoken for by their readings."""
    probes = [probe for probe in default_probes() if probe.process_wide]
    for probe in probes:
        probe.capture()
    assert sum(probe.guard() is not None for probe in probes) >= len(probes) * 2 // 3


@pytest.mark.skipif(not CAN_GUARD, reason="this interpreter shows too little")
def test_a_reading_that_raises_has_the_probes_asked() -> None:
    """A call that fails says nothing about the state: the probe itself must look."""

    def fails() -> object:
        raise OSError("gone")

    guards = Guards()
    guards.accept([Guard((partial(int, "?"),))])
    assert not guards.nothing_moved()
    guards.accept([Guard((fails,))])
    assert not guards.nothing_moved()
    guards.accept([Guard((os.getpid,))])
    assert guards.nothing_moved()


@pytest.mark.skipif(not CAN_GUARD, reason="this interpreter shows too little")
def test_objects_are_compared_by_identity_only() -> None:
    """An object whose equality lies or raises is never asked."""

    class Liar:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("asked")

        __hash__ = None  # type: ignore[assignment]

    held: list[Any] = [Liar()]
    guards = Guards()
    guards.accept([Guard(objects=(lambda: tuple(held),))])
    assert guards.nothing_moved()
    held[0] = Liar()
    assert not guards.nothing_moved()
