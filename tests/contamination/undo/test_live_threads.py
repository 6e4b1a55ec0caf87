"""Live threads: what they work on is theirs, what they do for a test is the test's."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isolation_core import Barrier, isolation_barrier

SOURCE = '''
import http.server
import threading

BEATS = {"count": 0}
LOG = []
STATE = {"limit": 1}
total = 0


class Pool:
    def __init__(self):
        self.made, self.inner = [], {"free": []}

    def take(self):
        self.made.append(object())


POOL = Pool()


def beat(go, done):
    """A thread that names module variables."""
    global total
    while go.wait():
        go.clear()
        BEATS["count"] += 1
        total = total + 1
        done.set()


def fill(pool, go, done):
    """A thread that has an own object as argument."""
    while go.wait():
        go.clear()
        pool.take()
        pool.inner["free"].append(1)
        done.set()


class Worker(threading.Thread):
    """A thread whose own attributes lead to what it works on."""

    def __init__(self, go, done):
        super().__init__(daemon=True)
        self.log, self.go, self.finished = LOG, go, done

    def run(self):
        while self.go.wait():
            self.go.clear()
            self.log.append(1)
            self.finished.set()


def closure(go, done):
    rows = LOG

    def run():
        while go.wait():
            go.clear()
            rows.append(1)
            done.set()

    return run


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        STATE["limit"] += 1
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass
'''


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a module with state and functions for threads."""
    (tmp_path / "threaded_app.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import threaded_app  # type: ignore[import-not-found]

    yield threaded_app
    del sys.modules["threaded_app"]


class Signals:
    """What a test and a thread agree by."""

    def __init__(self) -> None:
        self.go, self.done = threading.Event(), threading.Event()

    def run_once(self) -> None:
        """Have the thread do its work once."""
        self.done.clear()
        self.go.set()
        assert self.done.wait(5)


def thread_for(app: Any, kind: str, signals: Any) -> Any:
    """Return a thread of one kind."""
    go, done = signals.go, signals.done
    if kind == "names":
        return threading.Thread(target=app.beat, args=(go, done), daemon=True)
    if kind == "argument":
        return threading.Thread(target=app.fill, args=(app.POOL, go, done), daemon=True)
    if kind == "closure":
        return threading.Thread(target=app.closure(go, done), daemon=True)
    return app.Worker(go, done)


def barrier() -> Barrier:
    """Return a barrier that watches the module."""
    return isolation_barrier(packages=["threaded_app"], mode="strict")


@pytest.mark.parametrize("kind", ["names", "argument", "closure", "subclass"])
def test_what_a_live_thread_works_on_is_left_to_it(app: Any, kind: str) -> None:
    """State behind names, arguments, closures and attributes of a thread stays, and no test is blamed."""
    signals = Signals()
    thread = thread_for(app, kind, signals)
    thread.start()

    def state() -> tuple[int, ...]:
        """Return how much each kind of thread has done."""
        return app.BEATS["count"], app.total, len(app.POOL.made), len(app.POOL.inner["free"]), len(app.LOG)

    before = state()
    with barrier() as first:
        signals.run_once()
    after = state()
    with barrier() as second:
        signals.run_once()
    assert before != after != state()
    assert first.clean
    assert second.changes == ()
    assert [change.decision for change in first.changes] == ["UND007"]


def test_what_a_server_changes_for_a_test_is_the_tests(app: Any) -> None:
    """A server in a thread that handles a request of the test between two waits leaves a finding of the test."""
    import http.client
    import http.server

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), app.Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    threads = threading.active_count()
    with isolation_barrier(packages=["threaded_app"]) as around:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
        connection.request("POST", "/")
        assert connection.getresponse().status == 204
        connection.close()
        # The thread of the request may live a moment longer than its answer; until then it works on the state.
        for _ in range(1000):
            if threading.active_count() <= threads:
                break
            time.sleep(0.01)
    server.shutdown()
    server.server_close()
    thread.join()
    assert app.STATE == {"limit": 1}
    assert [change.path for change in around.changes] == ["threaded_app.STATE['limit']"]
    assert not around.clean


def test_other_state_is_put_back_while_a_thread_lives(app: Any) -> None:
    """A thread protects what it works on and nothing else."""
    signals = Signals()
    thread_for(app, "names", signals).start()
    with isolation_barrier(packages=["threaded_app"]):
        signals.run_once()
        app.STATE["limit"] = 5
        app.LOG.append("test")
    assert app.STATE == {"limit": 1}
    assert app.LOG == []
