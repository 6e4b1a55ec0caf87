"""Hostile objects and limits: one class costs only itself, and a limit is recorded."""

from __future__ import annotations

import pytest


def test_a_metaclass_that_raises_costs_only_its_class(pytester: pytest.Pytester) -> None:
    """State beside a class whose metaclass raises on every attribute is put back and reported."""
    pytester.makepyfile(
        hostile="""
            class Meta(type):
                def __getattribute__(cls, name):
                    raise RuntimeError(name)

            C = Meta("C", (), {})
            ROWS = {}
        """,
        test_it="""
            import hostile

            def test_a():
                hostile.ROWS["b"] = 1

            def test_b():
                assert not hostile.ROWS
        """,
    )
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-p", "no:randomly")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*hostile.ROWS*"])


def test_a_limit_that_was_reached_is_reported(pytester: pytest.Pytester) -> None:
    """More objects than are watched: the summary says so."""
    pytester.makepyfile(
        large="ROWS = [[i] for i in range(70_000)]",
        test_it="""
            import large

            def test_a():
                large.ROWS[-1].append(1)
        """,
    )
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-p", "no:randomly")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*not watched to the end*60*000*"])
