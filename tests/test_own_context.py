"""A context of its own for a test: entered and left between calls, and left for a while for what others share."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar, Token, copy_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolation_core import _own_context
from isolation_core._own_context import OwnContext, can_switch, innermost_own_context

BARE: ContextVar[int] = ContextVar("BARE")
DEFAULT: ContextVar[int] = ContextVar("DEFAULT", default=0)
ABSENT = -1


def get(variable: ContextVar[int]) -> int:
    """Return the value of *variable*, or `ABSENT`."""
    return variable.get(ABSENT)


def test_it_works_here() -> None:
    """Every interpreter that the project supports can do it."""
    assert can_switch()


def test_what_is_set_inside_is_gone_afterwards() -> None:
    """A variable without a default is unset again, even if its token was not kept."""
    own = OwnContext()
    assert own.enter()
    BARE.set(1)
    DEFAULT.set(1)
    assert own.leave()
    assert get(BARE) == ABSENT
    assert DEFAULT.get() == 0


def test_a_token_fits_in_every_call_between() -> None:
    """Set-up, body and teardown are calls of their own and share one context."""
    own = OwnContext()
    own.enter()
    try:
        token = BARE.set(1)
        assert asyncio.run(_read()) == 1
        BARE.reset(token)
        assert get(BARE) == ABSENT
    finally:
        own.leave()


async def _read() -> int:
    return get(BARE)


def test_own_contexts_nest() -> None:
    """One that was left open inside another is left with it."""
    outer, inner = OwnContext(), OwnContext()
    before = innermost_own_context()
    outer.enter()
    BARE.set(1)
    inner.enter()
    BARE.set(2)
    assert innermost_own_context() is inner
    inner.leave()
    assert get(BARE) == 1
    inner.enter()
    outer.leave()
    assert innermost_own_context() is before
    assert get(BARE) == ABSENT


def test_what_happens_outside_outlives_it() -> None:
    """A set-up that others share sees the test's variables, keeps what it sets, and can reset it later."""
    own = OwnContext()
    own.enter()
    DEFAULT.set(7)
    with own.outside():
        assert DEFAULT.get() == 7
        token = BARE.set(1)
    assert get(BARE) == 1
    assert DEFAULT.get() == 7
    own.leave()
    assert get(BARE) == 1
    assert DEFAULT.get() == 0
    BARE.reset(token)
    assert get(BARE) == ABSENT


def test_a_teardown_outside_is_seen_inside() -> None:
    """What is unset outside goes back to its default inside as well."""
    token = DEFAULT.set(1)
    own = OwnContext()
    own.enter()
    with own.outside():
        DEFAULT.reset(token)
    assert DEFAULT.get() == 0
    own.leave()
    assert DEFAULT.get() == 0


def test_an_error_outside_comes_through() -> None:
    """The test is back in its own context, and knows what was set until the error."""
    own = OwnContext()
    own.enter()
    try:
        with pytest.raises(ValueError, match="no"):
            _fail_outside(own)
        assert innermost_own_context() is own
        assert DEFAULT.get() == 1
        DEFAULT.set(2)
    finally:
        own.leave()
    assert DEFAULT.get() == 1
    DEFAULT.set(0)


def _fail_outside(own: OwnContext) -> None:
    with own.outside():
        DEFAULT.set(1)
        raise ValueError("no")


def test_it_is_not_left_from_inside_of_another_context() -> None:
    """The context of other code, such as that of a task, stays the current one: the block runs where it is."""
    own = OwnContext()
    own.enter()
    inner = copy_context()

    def set_outside() -> None:
        with own.outside():
            BARE.set(1)
        assert get(BARE) == 1

    try:
        inner.run(set_outside)
        assert get(BARE) == ABSENT
        assert not inner.run(own.leave)
        assert own.is_entered
    finally:
        assert own.leave()


def test_one_that_could_not_be_left_is_left_before_the_next_test() -> None:
    """What was set in it does not reach the next one."""
    own = OwnContext()
    own.enter()
    BARE.set(1)
    assert not copy_context().run(own.leave)
    assert own.enter()
    assert get(BARE) == ABSENT
    assert own.leave()
    assert not own.leave()


def test_another_thread_has_no_part_in_it() -> None:
    """A thread has contexts of its own, so a block that one runs outside stays where it is."""
    own = OwnContext()
    own.enter()
    seen: list[int] = []

    def target() -> None:
        assert innermost_own_context() is None
        with own.outside():
            BARE.set(1)
            seen.append(get(BARE))

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert seen == [1]
    assert get(BARE) == ABSENT
    own.leave()


def test_where_it_is_not_possible_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ctypes there is no context of its own, and everything runs where it is."""
    monkeypatch.setattr(_own_context, "_switch", None)
    own = OwnContext()
    assert not can_switch()
    assert not own.enter()
    with own.outside():
        token = BARE.set(1)
    assert not own.leave()
    BARE.reset(token)


@pytest.mark.parametrize("fault", ["nothing", "error"])
def test_the_trial_finds_an_interpreter_that_cannot(fault: str) -> None:
    """A switch that does nothing, or raises, is not used."""

    def switch(_context: object) -> None:
        if fault == "error":
            raise RuntimeError

    assert not _own_context._works((switch, switch))
    assert get(_own_context._PROBE) == ABSENT


@given(st.lists(st.tuples(st.sampled_from(["set", "reset", "outside", "reset outside"]), st.integers(0, 2))))
def test_inside_and_outside_are_kept_apart(steps: list[tuple[str, int]]) -> None:
    """Whatever is set and reset where, the context around has afterwards what was done outside, and no more."""
    variables = [ContextVar[int](f"variable {number}", default=0) for number in range(3)]
    inside: list[tuple[ContextVar[int], Token[int]]] = []
    outside: list[tuple[ContextVar[int], Token[int]]] = []
    expected: dict[ContextVar[int], int] = {}
    history: list[dict[ContextVar[int], int]] = []
    own = OwnContext()
    own.enter()
    try:
        for count, (step, number) in enumerate(steps, 1):
            variable = variables[number]
            if step == "set":
                inside.append((variable, variable.set(count)))
            elif step == "reset" and inside:
                held, token = inside.pop()
                held.reset(token)
            elif step == "outside":
                with own.outside():
                    history.append(dict(expected))
                    outside.append((variable, variable.set(count)))
                    expected[variable] = count
                assert variable.get() == count
            elif step == "reset outside" and outside and not inside:
                held, token = outside.pop()
                expected = history.pop()
                with own.outside():
                    held.reset(token)
    finally:
        own.leave()
    for variable in variables:
        if variable in expected:
            assert variable.get() == expected[variable]
