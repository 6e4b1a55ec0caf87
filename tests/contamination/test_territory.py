"""Whose modules are looked at, and how closely."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from isolation_core import isolation_barrier
from isolation_core.contamination._first_party import Territory, absent_packages

SHELVES = {"tools": ["hammer"]}


@pytest.fixture
def distant() -> Iterator[types.ModuleType]:
    """A module that no code under test imports."""
    module = types.ModuleType("distant_library")
    module.__spec__ = None
    exec("limit = 3\ndef work(): return 1\nclass Tool:\n    size = 1\nitems = []", module.__dict__)
    module.__file__ = f"{sys.prefix}/lib/site-packages/distant_library.py"
    sys.modules["distant_library"] = module
    yield module
    del sys.modules["distant_library"]


def test_a_star_watches_the_attributes_of_every_module(distant: types.ModuleType) -> None:
    """With "*" a rebound attribute of a module that no test imports is named and put back."""
    work = distant.work
    with isolation_barrier(packages=["*"]) as barrier:
        distant.work = lambda: 2  # type: ignore[attr-defined]
        distant.limit = 4  # type: ignore[attr-defined]
        delattr(distant, "Tool")
    assert {change.path for change in barrier.changes} == {f"distant_library.{n}" for n in ("work", "limit", "Tool")}
    assert distant.work is work
    assert distant.limit == 3
    assert hasattr(distant, "Tool")


def test_without_a_star_distant_modules_are_nobodys_business(distant: types.ModuleType) -> None:
    """Modules that no code under test imports are not watched by default."""
    with isolation_barrier(packages=()) as barrier:
        distant.limit = 4  # type: ignore[attr-defined]
    assert barrier.changes == ()


def test_a_star_looks_no_deeper(distant: types.ModuleType) -> None:
    """Containers and classes of distant modules are as private as those of any installed package."""
    with isolation_barrier(packages=["*"]) as barrier:
        distant.items.append(1)
        distant.Tool.size = 2
    assert barrier.changes == ()


def test_a_quiet_barrier_over_every_module_reports_nothing() -> None:
    """All modules of this process, looked at twice, and nothing to say."""
    with isolation_barrier(packages=["*"]) as barrier:
        pass
    assert barrier.changes == ()


def test_a_star_alone_leaves_what_is_first_party_as_it_is() -> None:
    """The star adds; with names beside it the names say what is watched deeply."""
    assert Territory(["*"]).includes(__name__) == Territory(None).includes(__name__)
    assert Territory(["*", "shop"]).includes("shop.cart")
    assert not Territory(["*", "shop"]).includes(__name__)


@pytest.mark.parametrize("packages", [["*"], ["*", __name__], None, [__name__]])
def test_a_star_takes_nothing_away(packages: list[str] | None) -> None:
    """State deep inside a first-party module is put back with the star as without it."""
    with isolation_barrier(packages=packages) as barrier:
        SHELVES["tools"].append("saw")
    assert [change.path for change in barrier.changes] == [f"{__name__}.SHELVES['tools']"]
    assert SHELVES == {"tools": ["hammer"]}


def test_a_star_is_no_absent_package() -> None:
    """Only names can be misspelt."""
    assert absent_packages(["*"]) == {}


def test_modules_of_the_runner_are_never_watched() -> None:
    """Plugins keep their own state in their modules."""
    assert all(Territory(["*"]).is_runners(name) for name in ("_pytest.config", "pytest_cov.plugin", "coverage"))
    assert not Territory(["*"]).is_runners("json")


def test_a_library_may_rename_the_home_of_its_classes() -> None:
    """Packages that publish a class under another module's name do so lazily: that is not a finding."""
    published = type("Published", (), {"__module__": "published_library", "__firstlineno__": 7, "limit": 1})
    library = types.ModuleType("published_library")
    library.__file__ = f"{sys.prefix}/lib/site-packages/published_library.py"
    library.Published = published  # type: ignore[attr-defined]
    user = types.ModuleType("published_user")
    user.__dict__.update(Published=published, __file__="/elsewhere/published_user.py")
    sys.modules |= {"published_library": library, "published_user": user}
    try:
        with isolation_barrier(packages=["published_user"]) as barrier:
            published.__module__ = "published"
            published.limit = 2  # type: ignore[attr-defined]
        assert [change.path for change in barrier.changes] == ["published_library.Published.limit"]
        assert published.__module__ == "published"
    finally:
        del sys.modules["published_library"], sys.modules["published_user"]


@pytest.mark.parametrize("origin", ["debugpy.adapter", "_pytest.config", "coverage", "anyio.pytest_plugin"])
def test_objects_of_runners_and_debuggers_are_never_touched(origin: str) -> None:
    """A debugger's object that first-party code holds keeps what a test has the debugger do to it."""
    tool: Any = type("Tool", (), {"__module__": origin})()
    module = types.ModuleType("app_with_a_debugger")
    module.tool = tool  # type: ignore[attr-defined]
    sys.modules["app_with_a_debugger"] = module
    try:
        with isolation_barrier(packages=["app_with_a_debugger"]) as barrier:
            tool.breakpoints = [12]
        assert barrier.changes == ()
        assert tool.breakpoints == [12]
    finally:
        del sys.modules["app_with_a_debugger"]
