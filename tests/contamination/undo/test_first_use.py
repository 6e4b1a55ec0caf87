"""First use: what is made when it is first asked for goes back whole, or stays whole."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from isolation_core import Barrier, isolation_barrier

LIBRARY = """
ALL = []
_known = {}
_started = []


class Metric:
    def __init__(self, name):
        if name in _known:
            raise ValueError("duplicate " + name)
        self.count = 0
        _known[name] = self


def on_exit(function):
    _known[len(_known)] = function


POOL = object()
"""

SOURCE = '''
import logging
import threading

import first_use_library as library

_engine = None
_metric = None
_other = None
_worker = None
_started = False
_handlers = []
_clients = {}
_client = None
_pool = None
_local = threading.local()
debug = None
quiet = False


class Engine:
    kind = None
    _shared = None

    def __init__(self):
        self.values, self.me = {"x": [1]}, self
        self.echo = False
        self.log = logging.getLogger("first use")

    @property
    def cursor(self):
        if not hasattr(self, "_cursor"):
            self._cursor = Engine()
        return self._cursor

    @classmethod
    def shared(cls):
        if cls._shared is None:
            cls._shared = cls()
        return cls._shared


def engine():
    global _engine
    if _engine is None:
        _engine = Engine()
    return _engine


def metric():
    global _metric
    if _metric is None:
        _metric = library.Metric("hits")
    return _metric


def two():
    """Two places for the same thing, made by a function that the one that asks calls."""
    if not _other:
        _make()
    return _other


def _make():
    global _other
    _other = library.Metric("other")
    _handlers.append(_other)
    _clients["metric"] = _other


def worker():
    global _worker, _started
    try:
        if _worker.is_alive():
            return _worker
    except AttributeError:
        pass
    _worker = threading.Thread(target=threading.Event().wait, daemon=True)
    _worker.start()
    if not _started:
        _started = True
    return _worker


def client(name):
    if name not in _clients:
        _clients[name] = Engine()
    return _clients[name]


def closing():
    global _client
    _client = _client or Engine()
    library.on_exit(_client.__init__)
    return _client


def pool():
    global _pool
    if _pool is None:
        _pool = library.POOL
    return _pool


def of_thread():
    found = getattr(_local, "value", None)
    if found is None:
        found = _local.value = Engine()
    return found


def configure(value):
    global debug
    if debug is None:
        debug = value


ENGINE = Engine()
'''


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a module that makes things on first use, beside a library that is not watched."""
    (tmp_path / "first_use_library.py").write_text(LIBRARY)
    (tmp_path / "first_use_app.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import first_use_app  # type: ignore[import-not-found]

    yield first_use_app
    for name in ("first_use_app", "first_use_library"):
        del sys.modules[name]


def barrier(mode: Any = "strict") -> Barrier:
    """Return a barrier that watches the application and not the library."""
    return isolation_barrier(packages=["first_use_app"], mode=mode)


def decisions(around: Barrier) -> dict[str, tuple[str | None, bool]]:
    """Return rule and outcome of each change, by the last part of its path."""
    return {change.path.rpartition("app.")[2]: (change.decision, change.restored) for change in around.changes}


@pytest.mark.parametrize(
    ("use", "path"),
    [
        ("engine", "_engine"),
        ("Engine.shared", "Engine._shared"),
        ("ENGINE.cursor", "ENGINE._cursor"),
        ("client", "_clients['a']"),
        ("pool", "_pool"),
        ("of_thread", "_local.value"),
    ],
)
def test_what_can_be_unmade_is_put_back_silently(app: Any, use: str, path: str) -> None:
    """A lazily made object that nothing else holds goes back, and strict mode passes."""
    with barrier() as around:
        for part in use.split("."):
            app = getattr(app, part)
        if callable(app):
            app("a") if use == "client" else app()
    assert decisions(around) == {path: ("UND005", True)}
    assert around.clean


def test_what_a_library_holds_is_kept(app: Any) -> None:
    """A metric in a registry is not made a second time, and later barriers report nothing of it."""
    with barrier() as around:
        made = app.metric()
    assert decisions(around) == {"_metric": ("UND006", False)}
    with barrier() as later:
        assert app.metric() is made
    assert around.clean
    assert later.changes == ()


def test_everything_made_together_is_kept_together(app: Any) -> None:
    """Other places that lead to a kept object, a list and a table, stay with it."""
    with barrier() as around:
        app.two()
    assert decisions(around) == {
        "_other": ("UND006", False),
        "_handlers": ("UND006", False),
        "_clients['metric']": ("UND006", False),
    }
    with barrier():
        assert app._handlers == [app.two()] == list(app._clients.values())


def test_a_thread_that_runs_is_kept_with_its_flag(app: Any) -> None:
    """A worker is started once, and so is the flag beside it that says so."""
    with barrier() as around:
        made = app.worker()
    assert decisions(around) == {"_worker": ("UND006", False), "_started": ("UND006", False)}
    with barrier():
        assert app.worker() is made
        assert app._started


def test_a_callback_that_holds_the_object_keeps_it(app: Any) -> None:
    """A bound method handed to a library holds its object."""
    with barrier():
        made = app.closing()
    assert app._client is made


def test_a_failure_that_holds_the_object_does_not_keep_it(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames of the last error end with the test: what their variables hold did not escape."""
    with barrier():
        try:
            local = app.engine()
            raise ZeroDivisionError(local)  # noqa: TRY301 - its traceback is what is wanted
        except ZeroDivisionError as error:
            monkeypatch.setattr(sys, "last_exc", error, raising=False)
            monkeypatch.setattr(sys, "last_value", error, raising=False)
    assert app._engine is None


def test_a_variable_around_the_block_does_not_keep_it(app: Any) -> None:
    """A local variable of the function around the barrier is not a library that holds the object."""
    held = []
    with barrier():
        made = app.engine()
        held.append(made)
    assert app._engine is None
    assert held == [made]


def test_an_import_in_between_changes_nothing(app: Any, tmp_path: Path) -> None:
    """What was watched meanwhile, because a module was imported, is unmade or kept all the same."""
    (tmp_path / "first_use_late.py").write_text("")
    with barrier() as around:
        app.engine()
        app.metric()
        import first_use_late  # type: ignore[import-not-found]  # noqa: F401
    del sys.modules["first_use_late"]
    assert app._engine is None
    assert app._metric is not None
    assert around.clean
    with isolation_barrier(packages=["first_use_app"]) as later:
        app._metric.count = 5
        app.ENGINE.values["x"].append(2)
    assert app.ENGINE.values == {"x": [1]}
    assert not later.clean


def test_what_the_test_sets_itself_is_a_finding(app: Any) -> None:
    """A value that did not come from a function that asked first is put back and reported."""
    with barrier("restore") as around:
        app.debug = app.Engine()
        app.Engine.kind = "x"
        app.configure(3)
    assert (app.debug, app.Engine.kind) == (None, None)
    assert not around.clean
    assert {change.decision for change in around.changes} == {None}


def test_a_value_given_by_the_caller_is_a_finding(app: Any) -> None:
    """A setting that is taken from a parameter is set, not made on first use."""
    with barrier("restore") as around:
        app.configure(app.Engine())
    assert app.debug is None
    assert not around.clean


def test_what_holds_something_dead_or_a_mock_is_a_finding(app: Any) -> None:
    """A closed event loop or a mock inside the new object is worth a word; it goes back all the same."""
    loop = asyncio.new_event_loop()
    for part in (loop, Mock()):
        with barrier("restore") as around:
            vars(app.engine())["part"] = part
            loop.close()
        assert app._engine is None
        assert not around.clean


def test_a_thread_of_the_test_itself_does_not_hide_pollution(app: Any) -> None:
    """State that a test changes while some idle thread lives is put back and reported."""
    idle = threading.Event()
    thread = threading.Thread(target=idle.wait, daemon=True)
    thread.start()
    with barrier("restore") as around:
        app.ENGINE.values["x"].append(2)
    idle.set()
    thread.join()
    assert app.ENGINE.values == {"x": [1]}
    assert not around.clean


def test_children_of_a_shared_mock_are_put_back(app: Any) -> None:
    """The way a mock makes its children is that of a library: what a test sets on one goes back."""
    vars(app)["api"] = mock = Mock()
    with barrier("restore"):
        pass
    with barrier("restore") as around:
        app.api.post.side_effect = OSError
        app.api.reset_mock()
    assert app.api is mock
    app.api.post()
    assert not around.clean
