"""Facts of a test runner about the moment at which a barrier opens."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from isolation_core._test_facts import NO_TEST, TestFacts

__all__ = ["PLAIN", "Opening"]


@frozen
class Opening:
    """Facts that save a barrier work, or name the owner of changes just before it.

    Attributes:
        test_module: name of the module whose test the barrier is for: state that only other test
            modules lead to is not compared.
        hooks_depth: see `Frame.hooks_depth` in `contamination.undo`.
        untouched: whether only code of the runner itself has run since the last comparison, which
            then serves as the first one of this barrier.
        subject: the test class or module whose set-up happens inside, if there is one.
        test: the facts about the test inside, if it is known.
    """

    test_module: str | None = None
    hooks_depth: int | None = None
    untouched: bool = False
    subject: object = None
    test: TestFacts = NO_TEST


PLAIN: Final = Opening()
"""A barrier about which nothing more is known, such as one of a ``with`` block."""
