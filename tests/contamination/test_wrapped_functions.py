"""Functions that a library has wrapped: the library's own notes are not the project's state, a cache given to it is."""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType

import pytest

from isolation_core import isolation_barrier

LIBRARY = """
import functools

def around(notes):
    def decorate(function):
        @functools.wraps(function)
        def wrapper():
            notes.append(1)
            return function()
        return wrapper
    return decorate

def without_wraps(notes):
    def setUp():
        notes.append(1)
    return setUp
"""


def make(library: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a module of the project whose functions *library* has wrapped."""
    namespace: dict[str, object] = {"__name__": library}
    # Its functions have to say that they are of the library.
    exec(LIBRARY, namespace)
    module = ModuleType("isolation_wrapped")
    state: list[int] = []

    def test_it() -> None:
        state.append(1)

    around, plain = namespace["around"], namespace["without_wraps"]
    assert isinstance(around, FunctionType)
    assert isinstance(plain, FunctionType)
    test_it.__module__ = module.__name__
    vars(module).update(test_it=around([])(test_it), setUp=plain([]))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.mark.parametrize("library", ["freezegun.api", "unittest.mock", "time_machine", "asyncio.tools"])
def test_notes_of_a_library_around_a_test_are_left_alone(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the wrapped function itself holds is watched all the same."""
    module = make(library, monkeypatch)
    with isolation_barrier(packages=[module.__name__]) as barrier:
        module.test_it()
    paths = [change.path for change in barrier.changes]
    assert len(paths) == 1
    assert "__wrapped__.__closure__" in paths[0]


def test_a_wrapper_without_wraps_is_left_alone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freezegun's setUp for a test class says nothing of what it wraps."""
    module = make("freezegun.api", monkeypatch)
    with isolation_barrier(packages=[module.__name__]) as barrier:
        module.setUp()
    assert barrier.changes == ()


def test_what_the_project_gave_to_a_library_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache passed to a decorator is the project's own, unless it is around a test."""
    module = make("isolation_cachetools", monkeypatch)
    with isolation_barrier(packages=[module.__name__]) as barrier:
        module.setUp()
    assert [change.path for change in barrier.changes] == ["isolation_wrapped.setUp.__closure__[0].cell_contents"]
