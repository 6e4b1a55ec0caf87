"""Facts of a test runner about the moment at which a barrier opens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import frozen

__all__ = ["NO_TEST", "PLAIN", "Opening", "TestFacts"]


class TestFacts:
    """Facts about a test that its runner knows, asked for at its end, and only if something changed."""

    __test__ = False

    def mortal(self) -> Iterable[object]:
        """Return the objects that the runner holds for the test, and releases after it."""
        return ()

    def taint(self) -> str | None:
        """Return a phrase for what may have falsified the content of caches during the test, or None."""
        return "it is unknown what was patched"


NO_TEST: Final = TestFacts()
"""A barrier that is not around a test, or around one of which nothing is known."""


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
