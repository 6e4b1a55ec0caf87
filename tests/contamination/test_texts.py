"""Texts of findings: the same in each run, and clear about what differs."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from isolation_core import isolation_barrier


@pytest.fixture
def app() -> Iterator[Any]:
    """A first-party module with a dict and an object."""
    module: Any = types.ModuleType("texts_app")
    exec("class Box: pass\nBOX = Box()\nCONFIG = {}\nITEMS = [1]", module.__dict__)
    sys.modules["texts_app"] = module
    yield module
    del sys.modules["texts_app"]


def test_another_object_of_the_same_text_is_told_apart(app: Any) -> None:
    """Where both values have one text, the finding says that they are two objects."""
    with isolation_barrier(packages=["texts_app"]) as barrier:
        app.BOX = app.Box()
        app.ITEMS = [2]
    assert {(change.path, change.before, change.after) for change in barrier.changes} == {
        ("texts_app.BOX", "<texts_app.Box object>", "<texts_app.Box object> (another object)"),
        ("texts_app.ITEMS", "[1]", "[2]"),
    }


def test_a_patched_dict_is_named(app: Any) -> None:
    """A patch of a dict that a module holds is named by the module; of another one, by the keys it was given."""
    with isolation_barrier(packages=["texts_app"]) as barrier:
        mock.patch.dict(app.CONFIG, {"a": 1}).start()
        mock.patch.dict({}, {"b": 1}).start()
    assert {leak.path for leak in barrier.leaks} == {
        "unittest.mock.patch(dict 'texts_app.CONFIG')",
        "unittest.mock.patch(dict with ['b'])",
    }
