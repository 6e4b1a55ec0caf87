"""First imports inside a barrier: invisible to the module, kept with their effects, and freed of fakes."""

from __future__ import annotations

import datetime as dt
import gc
import importlib
import itertools
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest

from isolation_core import isolation_barrier
from isolation_core.barrier import Barrier
from isolation_core.contamination.undo._first_imports import from_imports
from isolation_core.findings import Change

NUMBERS = itertools.count()
WriteModule = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Write a module that is not imported yet, and return its name."""
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def write_module(text: str) -> str:
        name = f"isolation_first_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        names.append(name)
        return name

    yield write_module
    for name in names:
        sys.modules.pop(name, None)


def around(*names: str) -> Barrier:
    """Return the barrier of a test whose modules are *names*."""
    return Barrier(packages=names, owner="test_one", scope="function")


def notes(barrier: Barrier) -> list[Change]:
    """Return what is said of imports."""
    return [change for change in barrier.changes if change.code == "IMP001"]


def test_a_warning_names_the_line_that_imports(write: WriteModule) -> None:
    """stacklevel=2 at the top of a module means the code that imports it, with a barrier as without."""
    name = write("import warnings\nwarnings.warn('old', DeprecationWarning, stacklevel=2)")
    with warnings.catch_warnings(record=True) as told, isolation_barrier(packages=[name]):
        warnings.simplefilter("always")
        importlib.import_module(name)
        del sys.modules[name]
    plain = write("import warnings\nwarnings.warn('old', DeprecationWarning, stacklevel=2)")
    with warnings.catch_warnings(record=True) as plainly:
        warnings.simplefilter("always")
        importlib.import_module(plain)
    assert [each.filename for each in told] == [each.filename for each in plainly]


def test_an_error_in_a_module_shows_none_of_our_frames(write: WriteModule) -> None:
    """The traceback of a failed import is as short as without us."""
    name = write("1 / 0")
    with isolation_barrier(packages=[name]), pytest.raises(ZeroDivisionError) as raised:
        __import__(name)
    files = [entry.path for entry in raised.traceback]
    assert not any("isolation_core" in str(path) or "frozen" in str(path) for path in files)


def test_effects_of_a_first_import_are_kept_and_said(write: WriteModule, monkeypatch: pytest.MonkeyPatch) -> None:
    """One note names the module and what it changed; it is nothing that a test could be blamed for."""
    monkeypatch.delenv("ISOLATION_FIRST", raising=False)
    name = write("import os\nos.environ['ISOLATION_FIRST'] = '1'")
    with around(name) as barrier:
        importlib.import_module(name)
    assert os.environ["ISOLATION_FIRST"] == "1"
    (note,) = notes(barrier)
    assert barrier.clean
    assert note.path == f"import {name}"
    assert "os.environ['ISOLATION_FIRST']" in note.after


def test_an_import_in_a_changed_world_is_said(write: WriteModule) -> None:
    """What it computed there is kept, and the note says what was changed at that moment."""
    name = write("import os\nSTATE = os.environ.get('ISOLATION_FIRST')")
    with around(name) as barrier, mock.patch.dict(os.environ, {"ISOLATION_FIRST": "fake"}):
        module = importlib.import_module(name)
    assert module.STATE == "fake"
    (note,) = notes(barrier)
    assert "os.environ['ISOLATION_FIRST']" in note.after
    assert note.reason == "kept; import it in conftest.py"


def test_an_import_without_effect_says_nothing(write: WriteModule) -> None:
    """Nor does one of a module that only others watch."""
    name = write("VALUE = 1")
    with around(name) as barrier:
        importlib.import_module(name)
    assert barrier.changes == ()


class _FrozenDate(dt.date):
    """What a test puts in the place of a class."""


_FrozenDate.__module__ = "freezegun.api"
TAKES = ["from datetime import date", "from datetime import date as date", "import datetime\nfrom datetime import date"]


@pytest.mark.parametrize("text", TAKES)
@pytest.mark.parametrize("who", ["test", "freezer", "barrier"])
def test_a_name_taken_from_a_frozen_module_is_freed(write: WriteModule, text: str, who: str) -> None:
    """The source is put back by any code, which may put the new module right as well."""
    name = write(text)
    real = dt.date
    try:
        with around(name) as barrier:
            dt.date = _FrozenDate  # type: ignore[misc]
            module = importlib.import_module(name)
            assert vars(module)["date"] is _FrozenDate
            if who != "barrier":
                dt.date = real  # type: ignore[misc]
            if who == "freezer":
                vars(module)["date"] = real
    finally:
        dt.date = real  # type: ignore[misc]
    if who == "barrier" and vars(module)["date"] is _FrozenDate:
        pytest.skip("the barrier did not watch datetime")
    assert vars(module)["date"] is real
    assert [change.path for change in barrier.changes if change.path.startswith(name)] == []


def test_a_name_taken_from_a_patched_module_of_ones_own_is_freed(write: WriteModule) -> None:
    """Also a plain value, which does not look like a fake."""
    source = write("LIMIT = 10\ndef pay(): return 'real'")
    importlib.import_module(source)
    user = write(f"from {source} import LIMIT, pay as paying")
    with around(source, user), mock.patch(f"{source}.LIMIT", 99), mock.patch(f"{source}.pay"):
        module = importlib.import_module(user)
        assert vars(module)["LIMIT"] == 99
    assert vars(module)["LIMIT"] == 10
    assert vars(module)["paying"]() == "real"


def test_a_name_that_the_module_gave_another_value_stays(write: WriteModule) -> None:
    """Only what is still the fake is put right."""
    source = write("LIMIT = 10")
    importlib.import_module(source)
    user = write(f"from {source} import LIMIT\nLIMIT = LIMIT + 1")
    with around(source, user), mock.patch(f"{source}.LIMIT", 99):
        module = importlib.import_module(user)
    assert vars(module)["LIMIT"] == 100


@pytest.mark.parametrize("how", ["pop", "patch"])
def test_a_module_that_was_taken_out_again_is_not_held(write: WriteModule, how: str) -> None:
    """The test may ask whether it died; what it did to a watched module meanwhile is still undone."""
    other = write("VALUE = 1")
    importlib.import_module(other)
    name = write("class Thing: pass")
    with around(name, other) as barrier:
        with mock.patch.dict(sys.modules) if how == "patch" else nullcontext():
            module = importlib.import_module(name)
        held = weakref.ref(module)
        vars(sys.modules[other])["VALUE"] = 2
        sys.modules.pop(name, None)
        del module
        gc.collect()
        assert held() is None
    assert vars(sys.modules[other])["VALUE"] == 1
    assert [change.path for change in barrier.changes] == [f"{other}.VALUE"]


def test_a_module_that_is_forgotten_and_still_held_is_said(write: WriteModule) -> None:
    """Its next import would make its classes a second time; it is not put in again, which may be on purpose."""
    name = write("class Thing: pass")
    with around(name) as barrier, mock.patch.dict(sys.modules):
        held = importlib.import_module(name)
    assert name not in sys.modules
    (note,) = notes(barrier)
    assert note.path == f"sys.modules[{name!r}]"
    del held


def test_import_statements_are_read_from_the_code(write: WriteModule) -> None:
    """Names, sources and attributes, also in a try or under another name; plain imports are none."""
    name = write(
        "import os, os.path as path\nfrom os import getcwd, sep as separator\ntry:\n    from json import dumps\n"
        "except ImportError:\n    dumps = None\nVALUE = (0, None)\nfrom collections.abc import Callable\n"
    )
    module: ModuleType = importlib.import_module(name)
    assert list(from_imports(module)) == [
        ("getcwd", "os", "getcwd"),
        ("separator", "os", "sep"),
        ("dumps", "json", "dumps"),
        ("Callable", "collections.abc", "Callable"),
    ]


def test_a_module_without_code_has_no_import_statements() -> None:
    """A built-in one, and one that was made by hand."""
    assert list(from_imports(sys)) == []
    assert list(from_imports(ModuleType("made_by_hand"))) == []
