"""Candidates: which earlier finding may be the reason of a failure."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import pytest

from isolation_core.diagnosis import FailureFacts, find_candidates, modules_reached, render_candidates
from isolation_core.findings import Change
from isolation_core.journal import Journal


def journal(*changes: tuple[str, str, str]) -> Journal:
    """Return a journal with a change for each kind, path and owner."""
    found = Journal()
    for kind, path, owner in changes:
        found.record_finding(
            Change(kind, path, before="<absent>", after="'x'", code="MOD002", owner=owner, restored=True)
        )
    return found


def test_state_that_the_failure_names_comes_first() -> None:
    """A key in the message of the failure wins over state of a module that is only imported."""
    source = journal(
        ("container", "app.CONFIG['url']", "test_a"),
        ("module", "app.DEBUG", "test_b"),
    )
    facts = FailureFacts("test_v", text="KeyError: 'url'", imported=frozenset({"app"}))
    found = find_candidates(source, facts)
    assert [(each.path, each.likely) for each in found] == [("app.CONFIG['url']", True), ("app.DEBUG", False)]
    assert "may pass only after test_a, which left app.CONFIG['url']" in render_candidates(found)[0]


def test_state_that_the_test_cannot_see_is_no_candidate() -> None:
    """A module that neither the traceback nor the imports of the test lead to is left out."""
    source = journal(("module", "other.X", "test_a"), ("module", "application.X", "test_a"))
    assert find_candidates(source, FailureFacts("test_v", imported=frozenset({"app"}))) == ()


def test_what_the_test_itself_left_is_no_candidate() -> None:
    """A test is not explained by itself."""
    source = journal(("module", "app.X", "test_v"))
    assert find_candidates(source, FailureFacts("test_v", imported=frozenset({"app"}))) == ()


def test_state_of_the_process_is_named_where_nothing_better_is_known() -> None:
    """A variable of the environment is a candidate alone, and not beside state that the test imports."""
    environ = ("environ", "os.environ['REGION']", "test_a")
    facts = FailureFacts("test_v", imported=frozenset({"app"}))
    assert [each.path for each in find_candidates(journal(environ), facts)] == ["os.environ['REGION']"]
    both = find_candidates(journal(environ, ("module", "app.X", "test_b")), facts)
    assert [each.path for each in both] == ["app.X"]
    named = FailureFacts("test_v", text="no REGION given", imported=frozenset({"app"}))
    assert next(iter(find_candidates(journal(environ), named))).likely


def test_the_newest_of_equals_comes_first_and_each_path_once() -> None:
    """Of findings of the same path the last one counts, and later ones come before earlier ones."""
    source = journal(("module", "app.A", "test_1"), ("module", "app.B", "test_2"), ("module", "app.A", "test_3"))
    found = find_candidates(source, FailureFacts("test_v", traceback=frozenset({"app"})))
    assert [(each.path, each.owner) for each in found] == [("app.A", "test_3"), ("app.B", "test_2")]


def test_reach_follows_own_code_and_stops_at_installed_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own modules are followed, installed ones are named."""
    (tmp_path / "reach_front.py").write_text("import reach_back\n")
    (tmp_path / "reach_back.py").write_text("from collections import Counter\nimport json\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("reach_front")
    reached = modules_reached("reach_front")
    for name in ("reach_front", "reach_back"):
        monkeypatch.delitem(sys.modules, name)
    assert {"reach_front", "reach_back", "collections", "json"} <= reached
    assert "json.decoder" not in reached


def test_reach_runs_no_code_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lazy modules and objects with code behind their attributes are only looked at from outside."""

    class Lazy(types.ModuleType):
        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    class Proxy:
        def __getattribute__(self, name: str) -> object:
            raise AssertionError(name)

    module = types.ModuleType("reach_app")
    module.proxy = Proxy()  # type: ignore[attr-defined]
    module.lazy = Lazy("lazy")  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "reach_app", module)
    assert "reach_app" in modules_reached("reach_app")
