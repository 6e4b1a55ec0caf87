"""Facts about one test case that the undo policy asks for when something changed."""

from __future__ import annotations

import unittest
from collections.abc import Iterable

from isolation_core.runner import TestFacts, taint_of

__all__ = ["CaseFacts"]

# unittest leaves frames of modules with this name out of tracebacks.
__unittest = True


class CaseFacts(TestFacts):
    """The facts about one test case.

    Args:
        test: the test case.
    """

    __slots__ = ("_test",)

    def __init__(self, test: unittest.TestCase) -> None:
        self._test = test

    def mortal(self) -> Iterable[object]:
        return (self._test,)

    def taint(self) -> str | None:
        kind = type(self._test)
        plain = unittest.IsolatedAsyncioTestCase
        if kind.setUp is not unittest.TestCase.setUp:
            return "setUp ran"
        if issubclass(kind, plain) and kind.asyncSetUp is not plain.asyncSetUp:
            return "asyncSetUp ran"
        return taint_of(getattr(kind, self._test.id().rpartition(".")[2], None))
