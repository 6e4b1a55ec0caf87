"""Raw memory: each read returns what the interpreter means by it, and only one file reads it."""

from __future__ import annotations

import ast
import gc
import itertools
import random
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import isolation_core
from isolation_core import isolation_barrier
from isolation_core.contamination import _cpython
from isolation_core.contamination._cpython import (
    CELL_WORDS,
    COUNTER_WORDS,
    FUNCTION_WORDS,
    HAS_ADDRESSES,
    HAS_COUNTERS,
    HAS_STORES,
    HAS_TAGS,
    HAS_TWISTER,
    HAS_WORDS,
    Watch,
    contents,
    identical,
    identical_lists,
    moved,
    store_of,
    tag_of,
    twister_of,
    twister_state,
    words_of,
)

ROOT = Path(isolation_core.__file__).parent / "contamination"
READERS = {"_cpython.py", "_libc.py"}


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


def test_only_two_files_read_raw_memory() -> None:
    """Every use of ctypes in this component is in the file for the interpreter or in the one for the C library."""
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if "ctypes" in names:
                found.add(path.name)
    assert found == READERS


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="only CPython shows its memory")
def test_what_can_be_relied_on_in_this_interpreter() -> None:
    """Addresses, words, counters and generators are readable in every supported CPython, version tags until 3.13."""
    assert HAS_ADDRESSES
    assert HAS_WORDS
    assert HAS_COUNTERS
    assert HAS_TWISTER
    assert (sys.version_info < (3, 14)) == HAS_TAGS
    assert getattr(sys, "_is_gil_enabled", lambda: True)() == HAS_STORES


@given(st.lists(st.integers()), st.randoms(use_true_random=False))
def test_images_are_equal_exactly_for_identical_objects(numbers: list[int], chance: random.Random) -> None:
    """Two tuples or lists have one image if they hold the same objects in the same order, whatever those equal."""
    items: list[Any] = [[number] for number in numbers]
    equal: list[Any] = [[number] for number in numbers]
    shuffled = chance.sample(items, len(items))
    same = all(one is other for one, other in zip(items, shuffled, strict=True))
    assert identical(tuple(items)) == identical(tuple(items)) == identical_lists(list(items))
    assert (identical(tuple(shuffled)) == identical(tuple(items))) == same
    assert (identical_lists(list(equal)) == identical_lists(list(items))) == (not items)


@given(st.lists(st.integers()))
def test_the_portable_image_is_the_same_bytes(numbers: list[int]) -> None:
    """An interpreter that hides its memory gets the images that CPython has."""
    items = [[number] for number in numbers]
    assert _cpython._addresses_portably(items) == identical(tuple(items))


@pytest.mark.skipif(not HAS_TAGS, reason="this interpreter has no version tags")
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers() | st.none())))
def test_a_tag_moves_with_every_write(steps: list[tuple[str, int | None]]) -> None:
    """Insertion, replacement and deletion each move the tag; reading does not."""
    space: dict[str, object] = {"a": 0}
    view = tag_of(space)
    for key, value in steps:
        before = bytes(view)
        assert space.get("a") is space.get("a")
        assert bytes(view) == before
        if value is not None:
            space[key] = [value]
        elif key in space:
            del space[key]
        else:
            continue
        assert bytes(view) != before


def test_a_watch_without_tags_always_says_look() -> None:
    """A watch reports every write; where nothing is known it never claims that a dict is as it was."""
    space: dict[str, int] = {}
    watch = Watch(space)
    assert watch.moved()
    assert watch.moved() is not HAS_TAGS
    space["x"] = 1
    assert watch.moved()


def test_words_move_with_what_they_show() -> None:
    """The words of a function, of a closure cell and of a counter move when those are changed."""

    def sample() -> object:
        return kept

    kept: object = 1
    cells: Any = sample.__closure__
    cell = cells[0]
    counter = itertools.count()
    views = [words_of(sample, FUNCTION_WORDS), words_of(cell, CELL_WORDS), words_of(counter, COUNTER_WORDS)]
    seen = [bytes(view) for view in views]
    assert [bytes(view) for view in views] == seen
    sample.__defaults__ = (1,)
    kept = 2
    next(counter)
    assert all(bytes(view) != before for view, before in zip(views, seen, strict=True))


@pytest.mark.skipif(not HAS_TWISTER, reason="this interpreter does not show the state of its generators")
@given(st.integers(0, 2**32), st.integers(0, 2000), st.booleans())
def test_the_words_of_a_generator_are_its_state(seed: int, draws: int, gauss: bool) -> None:
    """The state read from memory equals `getstate()` at every position of the sequence."""
    generator = random.Random(seed)
    for _ in range(draws):
        generator.random()
    if gauss:
        generator.gauss(0, 1)
    spare = generator.gauss_next  # type: ignore[attr-defined]
    assert twister_state(bytes(twister_of(generator)), spare) == generator.getstate()
