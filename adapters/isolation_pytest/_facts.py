"""Facts about one test that the undo policy asks for when something changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pytest

from isolation_core._opening import TestFacts
from isolation_core.contamination._first_party import is_library
from isolation_core.contamination.undo._taint import taint_of

__all__ = ["ItemFacts"]

# Fixtures of pytest that change nothing an answer of the code under test may depend on.
_HARMLESS: Final = frozenset(
    {
        "cache", "capfd", "capfdbinary", "caplog", "capsys", "capsysbinary", "doctest_namespace", "pytestconfig",
        "record_property", "record_testsuite_property", "record_xml_attribute", "recwarn", "request", "subtests",
    }
)  # fmt: skip


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
        for fixturedef in self._fixtures:
            if not _is_harmless(fixturedef):
                return f"the fixture {fixturedef.argname!r} was set up"
        return taint_of(getattr(self._item, "function", None) or vars(self._item).get("obj"))


def _is_harmless(fixturedef: pytest.FixtureDef[Any]) -> bool:
    name = fixturedef.argname
    module = getattr(fixturedef.func, "__module__", None) or ""
    if module.startswith("_pytest."):
        return name in _HARMLESS
    return name.startswith(("_", "anyio_backend", "event_loop")) and is_library(module)
