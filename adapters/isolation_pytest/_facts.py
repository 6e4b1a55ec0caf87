"""Facts about one test that the undo policy asks for when something changed."""

from __future__ import annotations

import inspect
import unittest
from collections.abc import Iterable
from typing import Any, Final

import pytest

from isolation_core.runner import TestFacts, is_library, taint_of

__all__ = ["ItemFacts"]

# Fixtures of libraries that change nothing an answer of the code under test may depend on.
_HARMLESS: Final = ("_", "anyio_backend", "event_loop", "benchmark", "subtests")
_SET_UPS: Final = ("_xunit_setup_method", "_xunit_setup_function")


class ItemFacts(TestFacts):
    """The facts about one pytest item.

    Args:
        item: the item.
        fixtures: its fixtures of function scope, in the order of their set-up; the list grows meanwhile.
    """

    __slots__ = ("_fixtures", "_item")

    def __init__(self, item: pytest.Item, fixtures: list[pytest.FixtureDef[Any]]) -> None:
        self._item = item
        self._fixtures = fixtures

    def mortal(self) -> Iterable[object]:
        space = vars(self._item)
        yield from (space[name] for name in ("funcargs", "_instance", "_obj") if space.get(name) is not None)
        # The log records of its phases, with their arguments.
        yield getattr(self._item.stash, "_storage", None)

    def taint(self) -> str | None:
        function = getattr(self._item, "function", None) or vars(self._item).get("obj")
        arguments = _arguments_of(function)
        for fixturedef in self._fixtures:
            if _is_tainting(fixturedef, arguments):
                return f"the fixture {fixturedef.argname!r} was set up"
        cls = getattr(self._item, "cls", None)
        if isinstance(cls, type) and issubclass(cls, unittest.TestCase) and cls.setUp is not unittest.TestCase.setUp:
            return "setUp ran"
        return taint_of(function)


def _arguments_of(function: Any) -> tuple[str, ...]:
    code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
    return () if code is None else code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _is_tainting(fixturedef: pytest.FixtureDef[Any], arguments: tuple[str, ...]) -> bool:
    """Return whether a fixture may change what an answer depends on: one of the user, or one that the test asks for."""
    name = fixturedef.argname
    module = getattr(fixturedef.func, "__module__", None) or ""
    if module.startswith("_pytest."):
        # Those that change something are words of `taint_of`, where the test asks for them.
        return name.startswith(_SET_UPS)
    if is_library(module):
        return name in arguments and not name.startswith(_HARMLESS)
    return True
