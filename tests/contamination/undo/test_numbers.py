"""Numbers that count up and random generators: which keep their new value, and which are restored."""

from __future__ import annotations

import random
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolation_core import Barrier, isolation_barrier
from isolation_core.contamination.undo._counters import is_advanced

SOURCE = """
import itertools
import random

_last = 0
_ids = itertools.count(1)
_rows = {}
_dice = random.Random(5)
calls = 0
limit = 3


def next_name():
    global _last
    _last += 1
    return f"user{_last}"


def next_in(table):
    _rows[table] = number = _rows.get(table, 0) + 1
    return number


def make_counter():
    total = 0

    def count():
        nonlocal total
        total += 1
        return total

    return count


count = make_counter()


def call():
    global calls
    calls += 1
    print("call", calls)


class Order:
    _made = 0

    def __init__(self):
        Order._made += 1
        self.number = Order._made


class Sequence:
    def __init__(self):
        self.at = 0

    def next(self):
        self.at = self.at + 1
        return {self.at: None}


SEQUENCE = Sequence()
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """Return a module with counters of all kinds."""
    (tmp_path / "counting_app.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import counting_app  # type: ignore[import-not-found]

    yield counting_app
    del sys.modules["counting_app"]


def barrier() -> Barrier:
    """Return a barrier that watches the module."""
    return isolation_barrier(packages=["counting_app"], mode="strict")


def test_a_number_that_is_handed_out_is_kept_silently(app: types.ModuleType) -> None:
    """Counters keep their value in every form they are written in, and strict mode passes."""
    with barrier() as around:
        app.next_name()
        app.next_in("a")
        app.count()
        app.Order()
        app.SEQUENCE.next()
        next(app._ids)
    assert (app.next_name(), app.next_in("a"), app.count(), app.Order().number) == ("user2", 2, 2, 2)
    assert app.SEQUENCE.next() == {2: None}
    assert next(app._ids) == 2
    assert around.clean
    assert {(change.decision, change.restored) for change in around.changes} == {("UND002", False)}


def test_a_kept_number_is_reported_once_and_no_wider_barrier_undoes_it(app: types.ModuleType) -> None:
    """A kept value is the baseline from then on, for the barriers around as well."""
    with barrier() as outer:
        with barrier() as inner:
            app.next_name()
        with barrier() as later:
            pass
    assert [change.path for change in inner.changes] == ["counting_app._last"]
    assert later.changes == outer.changes == ()
    assert app._last == 1


def test_a_wider_barrier_keeps_what_it_did_before(app: types.ModuleType) -> None:
    """A counter that a wider barrier moved first keeps the value of the narrower one."""
    with barrier() as outer:
        app.next_name()
        with barrier():
            app.next_name()
        app.next_name()
    assert app._last == 3
    assert outer.clean


def test_a_tally_that_nobody_hands_out_is_put_back(app: types.ModuleType) -> None:
    """A number that is only printed, and one that is never counted, are state like any other."""
    with isolation_barrier(packages=["counting_app"]) as around:
        app.call()
        vars(app)["limit"] = 4
        app.Order._made = 10
        app.Order._made -= 11
    assert (app.calls, app.limit, app.Order._made) == (0, 3, 0)
    assert not around.clean


def test_a_generator_that_was_used_goes_on(app: types.ModuleType) -> None:
    """Numbers that were drawn are not drawn again, from the module's generator and the global one."""
    with barrier() as around:
        drawn = app._dice.random(), random.random()
    assert (app._dice.random(), random.random()) != drawn
    assert around.clean


def test_a_generator_that_was_seeded_is_put_back(app: types.ModuleType) -> None:
    """A seed does not outlive the test that set it."""
    state, own = random.getstate(), app._dice.getstate()
    with isolation_barrier(packages=["counting_app"]):
        random.seed(7)
        random.random()
        app._dice.seed(7)
    assert (random.getstate(), app._dice.getstate()) == (state, own)


@given(seed=st.integers(0, 2**32), before=st.integers(0, 1300), draws=st.integers(1, 5000))
def test_drawing_is_told_from_seeding(seed: int, before: int, draws: int) -> None:
    """A state that was reached by drawing is recognised from every position; one that was seeded is not."""
    one = random.Random(seed)
    one.getrandbits(32 * before) if before else None
    state = one.getstate()
    one.getrandbits(32 * draws)
    assert is_advanced(state, one.getstate())
    assert not is_advanced(one.getstate(), state)
    one.seed(seed + 1)
    assert not is_advanced(state, one.getstate())
