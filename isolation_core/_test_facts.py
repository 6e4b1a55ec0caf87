"""Facts about a test that only its runner knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["NO_TEST", "TestFacts"]


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
