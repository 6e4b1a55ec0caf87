"""Looking without touching: the memory of lists and sets, and the readings that stand for whole probes."""

from __future__ import annotations

import builtins
import decimal
import gc
import os
import random
import signal
import sys
import threading
import types
import unittest.mock
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolation_core import isolation_barrier
from isolation_core.contamination import default_probes
from isolation_core.contamination._cpython import HAS_STORES, contents, moved, store_of
from isolation_core.contamination.probes._guards import CAN_GLANCE, Glances
from isolation_core.contamination.probes._probe import Glance

needs_stores = pytest.mark.skipif(not HAS_STORES, reason="this interpreter does not show where lists keep their items")


def _seen(store: Any) -> tuple[list[memoryview], list[memoryview], tuple[bytes, bytes]]:
    words, blocks = [store.words], list(store.blocks)
    return words, blocks, (store.seen, contents(words, blocks, store.seen))


_STEPS: dict[str, Callable[[list[Any]], object]] = {
    "append": lambda items: items.append(object()),
    "replace": lambda items: items.__setitem__(0, object()),
    "swap": lambda items: items.__setitem__(slice(0, 2), items[1::-1]),
    "delete": lambda items: items.pop(),
    "clear": lambda items: items.clear(),
    "grow": lambda items: items.extend(range(5000)),
}


@needs_stores
@pytest.mark.parametrize("step", list(_STEPS))
def test_every_step_of_a_list_shows_in_its_memory(step: str) -> None:
    """A list that was added to, taken from, reordered or laid elsewhere reads differently."""
    items: list[Any] = [object() for _ in range(9)]
    known = _seen(store_of(items))
    assert not moved(*known)
    _STEPS[step](items)
    assert moved(*known)


@needs_stores
@given(st.lists(st.integers()), st.lists(st.integers(), min_size=1))
def test_a_set_reads_the_same_exactly_while_nobody_writes(before: list[int], added: list[int]) -> None:
    """Elements that come or go move the reading; asking for them does not."""
    elements = set(before)
    known = _seen(store_of(elements))
    assert all(each in elements for each in before)
    assert not moved(*known)
    then = set(elements)
    elements.symmetric_difference_update(added)
    assert moved(*known) == (then != elements)


@needs_stores
def test_memory_that_was_let_go_of_is_not_read() -> None:
    """Once a list lies elsewhere, what is given instead of its items are the words that say so."""
    items: list[Any] = list(range(3000))
    words, blocks, (seen, _) = _seen(store_of(items))
    items.clear()
    gc.collect()
    assert contents(words, blocks, seen) == bytes(words[0])


@needs_stores
def test_lists_may_be_resized_by_threads_while_barriers_look() -> None:
    """Looking at memory is safe when threads make lists grow and shrink all the time."""
    module = types.ModuleType("glances_app")
    module.lists = [[object() for _ in range(20)] for _ in range(50)]  # type: ignore[attr-defined]
    sys.modules["glances_app"] = module
    stop = threading.Event()

    def resize() -> None:
        while not stop.is_set():
            for each in module.lists:
                each.extend(range(3000))
                del each[20:]

    threads = [threading.Thread(target=resize) for _ in range(3)]
    try:
        with isolation_barrier(mode="report", packages=["glances_app"]):
            for thread in threads:
                thread.start()
            for _ in range(40):
                with isolation_barrier(mode="report", packages=["glances_app"]):
                    pass
            stop.set()
            for thread in threads:
                thread.join()
    finally:
        stop.set()
        del sys.modules["glances_app"]
    assert [len(each) for each in module.lists] == [20] * 50


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
    """What one barrier undid and the next does again is news again: readings of undone state are not believed."""
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


@pytest.mark.skipif(not CAN_GLANCE, reason="this interpreter shows too little")
def test_most_probes_are_not_asked_while_nothing_moves() -> None:
    """In a quiet process two thirds of the built-in probes are spoken for by their readings."""
    probes = [probe for probe in default_probes() if probe.process_wide]
    for probe in probes:
        probe.capture()
    assert sum(probe.glance() is not None for probe in probes) >= len(probes) * 2 // 3


@pytest.mark.skipif(not CAN_GLANCE, reason="this interpreter shows too little")
def test_a_reading_that_raises_has_the_probes_asked() -> None:
    """A call that fails says nothing about the state: the probe itself must look."""

    def fails() -> object:
        raise OSError("gone")

    glances = Glances()
    glances.believe([Glance((partial(int, "?"),))])
    assert not glances.nothing_moved()
    glances.believe([Glance((fails,))])
    assert not glances.nothing_moved()
    glances.believe([Glance((os.getpid,))])
    assert glances.nothing_moved()


@pytest.mark.skipif(not CAN_GLANCE, reason="this interpreter shows too little")
def test_objects_are_compared_by_identity_only() -> None:
    """An object whose equality lies or raises is never asked."""

    class Liar:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("asked")

        __hash__ = None  # type: ignore[assignment]

    held: list[Any] = [Liar()]
    glances = Glances()
    glances.believe([Glance(objects=(lambda: tuple(held),))])
    assert glances.nothing_moved()
    held[0] = Liar()
    assert not glances.nothing_moved()
