"""Wide set-ups: whose a look in the middle of one is, and what no narrower frame may take back."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from isolation_core import Barrier, isolation_barrier
from isolation_core.contamination.undo._savepoint import Frame
from isolation_core.contamination.undo._set_ups import Promotions
from isolation_core.contamination.undo._undo_log import get_tracker


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """Return a module with state, and create another that is not imported yet."""
    (tmp_path / "wide_app.py").write_text("DB = {'NAME': 'real'}\nLOG = []\n")
    (tmp_path / "wide_late.py").write_text("LATE = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import wide_app  # type: ignore[import-not-found]

    yield wide_app
    for name in ("wide_app", "wide_late"):
        sys.modules.pop(name, None)


def barrier(owner: str) -> Barrier:
    """Return a barrier that watches the module."""
    return isolation_barrier(owner=owner, packages=["wide_app", "wide_late"])


def frame(of: Barrier) -> Frame:
    """Return the frame of a barrier that is open."""
    assert of._frame is not None
    return of._frame


def set_up(app: types.ModuleType) -> None:
    """Do what Django's set-up does: name the test database, and import something."""
    app.DB["NAME"] = "test"
    __import__("wide_late")
    app.DB["READY"] = True


def test_a_set_up_with_an_import_in_the_middle_belongs_to_its_frame(app: types.ModuleType) -> None:
    """Both halves of a late set-up stay when the narrow barrier ends, and go when the wide one does."""
    with barrier("wide") as wide:
        with barrier("narrow") as narrow:
            with get_tracker().promoting(frame(wide), holder="db"):
                set_up(app)
            assert app.DB == {"NAME": "test", "READY": True}
        assert narrow.clean
        assert app.DB == {"NAME": "test", "READY": True}
    assert app.DB == {"NAME": "real"}
    assert {change.owner for change in wide.changes} == {"wide"}


def test_a_set_up_that_fails_belongs_to_its_frame(app: types.ModuleType) -> None:
    """The changes of a set-up that raised stay until the teardown of its scope."""
    with barrier("wide") as wide:
        with barrier("narrow") as narrow, pytest.raises(ZeroDivisionError):  # noqa: PT012, SIM117 - both at once
            with get_tracker().promoting(frame(wide), holder="db"):
                set_up(app)
                raise ZeroDivisionError
        assert narrow.clean
        assert app.DB["NAME"] == "test"


def test_a_thread_that_imports_meanwhile_takes_nothing_away(app: types.ModuleType) -> None:
    """An import of another thread in the middle of a set-up leaves the set-up where it belongs."""
    with barrier("wide") as wide:
        with barrier("narrow") as narrow, get_tracker().promoting(frame(wide), holder="db"):
            app.DB["NAME"] = "test"
            thread = threading.Thread(target=__import__, args=("wide_late",))
            thread.start()
            thread.join()
        assert narrow.clean
        assert app.DB["NAME"] == "test"


def test_nested_set_ups_keep_what_is_theirs(app: types.ModuleType) -> None:
    """A set-up of a middle scope that asks for a wider one keeps its own part at the middle scope."""
    with barrier("wide") as wide:
        with barrier("middle") as middle:
            with barrier("narrow") as narrow, get_tracker().promoting(frame(middle)):
                app.LOG.append("middle")
                with get_tracker().promoting(frame(wide)):
                    app.DB["NAME"] = "test"
                app.LOG.append("middle again")
            assert narrow.clean
            assert app.LOG == ["middle", "middle again"]
        assert app.LOG == []
        assert app.DB["NAME"] == "test"
    assert app.DB["NAME"] == "real"


def test_a_barrier_in_report_mode_inside_of_a_set_up_takes_nothing_away(app: types.ModuleType) -> None:
    """Changes that a barrier inside a set-up only reports belong to the set-up."""
    with barrier("wide") as wide:
        with barrier("narrow") as narrow, get_tracker().promoting(frame(wide)):  # noqa: SIM117 - the set-up is outside
            with isolation_barrier(owner="inside", packages=["wide_app"], mode="report") as inside:
                app.DB["NAME"] = "test"
        assert [change.path for change in inside.changes] == ["wide_app.DB['NAME']"]
        assert narrow.clean
        assert app.DB["NAME"] == "test"


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the first of the two safeguards: snapshots inside a set-up go to the innermost barrier."""
    monkeypatch.setattr(Promotions, "depth", lambda *_: None)


@pytest.mark.usefixtures("blind")
def test_what_a_live_set_up_wrote_is_kept_whatever_the_log_says(app: types.ModuleType) -> None:
    """A narrow barrier that is wrongly given a wide set-up keeps it, says so as a note, and passes it on."""
    with barrier("wide") as wide:
        narrow = isolation_barrier(owner="narrow", packages=["wide_app"], mode="strict")
        with narrow, get_tracker().promoting(frame(wide), holder="db"):
            set_up(app)
        assert narrow.clean
        assert {(change.path, change.restored) for change in narrow.changes} == {
            ("wide_app.DB['NAME']", False),
            ("wide_app.DB['READY']", False),
        }
        assert all("a fixture of wide has set it up and is in use" in str(change.reason) for change in narrow.changes)
        assert app.DB == {"NAME": "test", "READY": True}
        with barrier("next") as following:
            assert app.DB["NAME"] == "test"
        assert following.changes == ()
    assert app.DB == {"NAME": "real"}


@pytest.mark.usefixtures("blind")
def test_what_was_torn_down_is_protected_no_longer(app: types.ModuleType) -> None:
    """After the teardown of its fixture a slot is undone like any other."""
    with barrier("wide") as wide:
        with barrier("narrow"), get_tracker().promoting(frame(wide), holder="db"):
            app.DB["NAME"] = "test"
        get_tracker().release("db")
        app.DB["NAME"] = "real"
        with barrier("next") as following:
            app.DB["NAME"] = "polluted"
        assert [change.restored for change in following.changes] == [True]
        assert app.DB["NAME"] == "real"


@pytest.mark.usefixtures("blind")
def test_pollution_on_top_of_a_protected_slot_is_healed(app: types.ModuleType) -> None:
    """A later barrier puts a protected slot back to what the set-up wrote, since that takes nothing of it away."""
    with barrier("wide") as wide:
        with barrier("narrow"), get_tracker().promoting(frame(wide), holder="db"):
            app.DB["NAME"] = "test"
        with barrier("next") as following:
            app.DB["NAME"] = "polluted"
        assert [change.restored for change in following.changes] == [True]
        assert app.DB["NAME"] == "test"


def test_what_an_import_puts_into_sys_modules_stays(app: types.ModuleType, tmp_path: Path) -> None:
    """Submodules without a spec, which a module registers while it is executed, belong to the import."""
    (tmp_path / "wide_lazy.py").write_text(
        "import sys, types\n"
        "errors = sys.modules['wide_lazy.errors'] = types.ModuleType('wide_lazy.errors')\n"
        "class Lazy: pass\n"
        "sys.modules['wide_lazy.compat'] = Lazy()\n"
    )
    try:
        with barrier("narrow") as narrow:
            lazy = __import__("wide_lazy")
            sys.modules["wide_fake"] = types.ModuleType("wide_fake")
        assert [change.path for change in narrow.changes] == ["sys.modules['wide_fake']"]
        assert sys.modules["wide_lazy.errors"] is lazy.errors
        assert "wide_lazy.compat" in sys.modules
        assert "wide_fake" not in sys.modules
    finally:
        for name in ("wide_lazy", "wide_lazy.errors", "wide_lazy.compat", "wide_fake"):
            sys.modules.pop(name, None)
