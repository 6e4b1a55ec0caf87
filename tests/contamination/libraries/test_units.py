"""Units of library state: put back whole or not at all, and switched off where the library differs."""

from __future__ import annotations

import sys
import sysconfig
import threading
import types
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isolation_core import isolation_barrier
from isolation_core.contamination.libraries._known import register_library_profile, unregister_library_profile
from isolation_core.contamination.libraries._profile import Profile, Unit, attributes, content, value
from isolation_core.errors import ConfigurationError


@pytest.fixture
def library() -> Iterator[Any]:
    """Return a library that is imported, and has no profile yet."""
    module = types.ModuleType("toylib")
    module.__file__ = str(Path(sysconfig.get_path("purelib")) / "toylib.py")
    module.options = {"a": 1, "nested": {"b": [1, 2]}}  # type: ignore[attr-defined]
    module.handlers = ["one", "two"]  # type: ignore[attr-defined]
    module.level = 3  # type: ignore[attr-defined]
    module.hooks = defaultdict(list)  # type: ignore[attr-defined]
    sys.modules["toylib"] = module
    yield module
    unregister_library_profile("toylib")
    del sys.modules["toylib"]


def test_attributes_and_what_is_in_them_are_put_back(library: Any) -> None:
    """A rebound attribute, an item of a nested container, and a list come back in the same objects."""
    register_library_profile(Profile("toylib", [Unit("all", [attributes("toylib:", "options", "handlers", depth=3)])]))
    options, handlers = library.options, library.handlers
    with isolation_barrier(packages=["nothing"]) as around:
        library.options = {}
        options["nested"]["b"].append(3)
        options["a"] = 5
        handlers.insert(0, "zero")
    assert library.options is options and library.handlers is handlers
    assert (options, handlers) == ({"a": 1, "nested": {"b": [1, 2]}}, ["one", "two"])
    assert {change.code for change in around.changes} == {"LIB001"}
    assert "toylib.options" in {change.path for change in around.changes}


def test_a_key_that_was_taken_out_comes_back(library: Any) -> None:
    """A removed option is there again, an added one is gone."""
    register_library_profile(Profile("toylib", [Unit("options", [content("toylib:options")])]))
    with isolation_barrier(packages=["nothing"]) as around:
        del library.options["a"]
        library.options["z"] = 1
    assert set(library.options) == {"a", "nested"}
    assert {change.path for change in around.changes} == {"toylib.options['a']", "toylib.options['z']"}


def test_a_fault_in_the_middle_leaves_all_of_it(library: Any) -> None:
    """If one part of a unit cannot be put back, the others keep the test's values, and the reason is reported."""

    def refuse(module: Any, _: Any) -> None:
        raise ValueError("cannot go back")

    register_library_profile(
        Profile(
            "toylib",
            [
                Unit(
                    "both",
                    [
                        content("toylib:options"),
                        value("toylib:", ".level", lambda module: module.level, refuse),
                        attributes("toylib:", "handlers"),
                    ],
                )
            ],
        )
    )
    with isolation_barrier(packages=["nothing"]) as around:
        library.options["a"] = 2
        library.level = 4
        library.handlers.append("three")
    assert (library.options["a"], library.level, library.handlers) == (2, 4, ["one", "two", "three"])
    assert {change.restored for change in around.changes} == {False}
    assert {change.severity for change in around.changes} == {"unrecoverable"}
    assert all("cannot go back" in (change.reason or "") for change in around.changes)
    with isolation_barrier(packages=["nothing"]) as later:
        pass
    assert later.changes == ()


def test_reading_a_defaultdict_is_no_change(library: Any) -> None:
    """The empty list that a `defaultdict` makes when it is asked is not reported."""
    register_library_profile(Profile("toylib", [Unit("hooks", [attributes("toylib:", "hooks", depth=2)])]))
    with isolation_barrier(packages=["nothing"], mode="strict") as around:
        assert library.hooks["x"] == []
    assert around.changes == ()
    with isolation_barrier(packages=["nothing"]) as around:
        library.hooks["x"].append(1)
    assert library.hooks["x"] == []
    assert [change.path for change in around.changes] == ["toylib.hooks['x']"]


def test_a_missing_attribute_switches_off_its_unit_alone(library: Any) -> None:
    """A library that lacks what one unit names is still watched by the others."""
    units = [Unit("gone", [content("toylib:missing")]), Unit("options", [content("toylib:options")])]
    register_library_profile(Profile("toylib", units))
    with isolation_barrier(packages=["nothing"]) as around:
        library.options["a"] = 7
    assert library.options["a"] == 1
    assert len(around.changes) == 1


def test_a_version_that_is_not_verified_switches_the_profile_off(library: Any) -> None:
    """A profile is used for the versions it names only."""
    profile = Profile("toylib", [Unit("options", [content("toylib:options")])], versions=("1", "2"))
    assert profile.fits("1.9.3rc1")
    assert not profile.fits("2.0")
    assert not profile.fits("0.9")
    register_library_profile(profile)
    with isolation_barrier(packages=["nothing"]) as around:
        library.options["a"] = 7
    # It has no version at all.
    assert library.options["a"] == 7
    assert around.changes == ()


def test_a_library_has_one_profile() -> None:
    """Registering another profile of a library is an error that says what to do."""
    profile = register_library_profile(Profile("toylib"))
    try:
        assert register_library_profile(profile) is profile
        with pytest.raises(ConfigurationError, match="unregister_library_profile"):
            register_library_profile(Profile("toylib"))
    finally:
        unregister_library_profile("toylib")


def test_nested_barriers_put_back_what_each_of_them_did(library: Any) -> None:
    """What the outer barrier did before stays until it ends."""
    register_library_profile(Profile("toylib", [Unit("options", [content("toylib:options")])]))
    with isolation_barrier(packages=["nothing"]) as outer:
        library.options["a"] = 2
        with isolation_barrier(packages=["nothing"]) as inner:
            library.options["a"] = 3
            library.options["b"] = 1
        assert library.options["a"] == 2 and "b" not in library.options
    assert library.options["a"] == 1
    assert len(inner.changes) == 2
    assert [change.path for change in outer.changes] == ["toylib.options['a']"]


def test_a_value_of_another_thread_is_not_a_change(library: Any) -> None:
    """State that each thread has of its own is compared in the thread it was met in."""
    library.local = threading.local()
    library.local.level = 1
    place = value(
        "toylib:local",
        ".level",
        lambda local: getattr(local, "level", None),
        lambda local, new: setattr(local, "level", new),
    )
    register_library_profile(Profile("toylib", [Unit("local", [place])]))
    changes: list[Any] = []

    def elsewhere() -> None:
        with isolation_barrier(packages=["nothing"]) as inner:
            pass
        changes.extend(inner.changes)

    with isolation_barrier(packages=["nothing"]) as around:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert changes == []
    assert around.changes == ()
    with isolation_barrier(packages=["nothing"]) as around:
        library.local.level = 2
    assert library.local.level == 1
    assert [change.path for change in around.changes] == ["toylib.local.level"]
