"""Two values with the same bounded text: the texts of a finding show where they differ."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolation_core.contamination._contrast import told_apart
from isolation_core.contamination._rendering import bounded_repr

LONG = "x" * 500


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (LONG + "a", LONG + "b", ("a'", "b'")),
        (LONG, LONG + "b", ("500 long", "b'")),
        (list(range(100)), [*range(99), "new"], ("99 at [99] of 100", "'new' at [99] of 100")),
        (tuple(range(100)), tuple(range(101)), ("<absent> at [100] of 100", "100 at [100] of 101")),
        (LONG.encode() + b"a", LONG.encode() + b"b", ("a'", "b'")),
    ],
)
def test_the_first_difference_is_shown(before: object, after: object, shown: tuple[str, str]) -> None:
    """Long text and long sequences are cut around the place where they differ."""
    texts = told_apart(before, after, bounded_repr(before))
    assert [part in text for part, text in zip(shown, texts, strict=True)] == [True, True]
    assert texts[0] != texts[1]


def test_an_equal_value_is_said_to_be_equal() -> None:
    """Where only the object is another one, the text says so."""
    assert told_apart("abc", "ab" + "c", "'abc'") == ("'abc'", "'abc' (another, equal object)")


def test_objects_are_not_compared() -> None:
    """No `__eq__` of the user runs to compare two values."""

    class Hostile:
        def __eq__(self, other: object) -> bool:
            raise AssertionError

        __hash__ = None  # type: ignore[assignment]

    one, other = [Hostile()], [Hostile()]
    assert told_apart(one, other, bounded_repr(one))[1].endswith("(another object)")


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_two_different_texts_never_look_the_same(before: str, after: str) -> None:
    """Whatever the values, the two texts of a finding differ."""
    texts: Any = (bounded_repr(before), bounded_repr(after))
    if texts[0] == texts[1]:
        texts = told_apart(before, after, texts[0])
    assert texts[0] != texts[1] or before == after
    assert len(texts[1]) < 400
