"""Locks, events, queues, generators, counters and files in memory: detected, named, and restored if that is safe."""

from __future__ import annotations

import asyncio
import io
import itertools
import queue
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from isolation_core import Barrier, isolation_barrier
from isolation_core.contamination._cpython import HAS_COUNTERS

MODULE = "primitive_app"


@pytest.fixture
def app() -> Iterator[Any]:
    """A module of the project with one primitive of each kind at its top."""
    module: Any = types.ModuleType(MODULE)
    module.ready = threading.Event()
    module.slots = threading.BoundedSemaphore(3)
    module.lock = threading.Lock()
    module.owned = threading.RLock()
    module.jobs = queue.Queue()
    module.started = asyncio.Event()
    module.turn = asyncio.Lock()
    module.limit = asyncio.Semaphore(2)
    module.inbox = asyncio.Queue()
    module.ranked = asyncio.PriorityQueue()
    module.steps = (number for number in range(3))
    module.numbers = itertools.count(1)
    module.text = io.StringIO("a\r\nb", newline="\r\n")
    module.data = io.BytesIO(b"abc")
    module.settings = types.SimpleNamespace(level=1, names=["a"])
    sys.modules[MODULE] = module
    yield module
    del sys.modules[MODULE]


def _around(action: Callable[[], object]) -> Barrier:
    with isolation_barrier(packages=[MODULE], owner="the test") as barrier:
        action()
    return barrier


_SIMPLE: dict[str, tuple[Callable[[Any], object], str, Callable[[Any], bool]]] = {
    "event": (lambda app: app.ready.set(), "ready._flag", lambda app: not app.ready.is_set()),
    "semaphore": (lambda app: app.slots.acquire(), "slots._value", lambda app: app.slots._value == 3),
    "lock": (lambda app: app.lock.acquire(), "lock.locked()", lambda app: not app.lock.locked()),
    "reentrant lock": (
        lambda app: (app.owned.acquire(), app.owned.acquire()),
        "owned._is_owned()",
        lambda app: not app.owned._is_owned(),
    ),
    "queue": (lambda app: app.jobs.put("job"), "jobs.queue", lambda app: app.jobs.empty()),
    "asyncio event": (lambda app: app.started.set(), "started._value", lambda app: not app.started.is_set()),
    "asyncio lock": (lambda app: asyncio.run(app.turn.acquire()), "turn._locked", lambda app: not app.turn.locked()),
    "asyncio semaphore": (
        lambda app: asyncio.run(app.limit.acquire()),
        "limit._value",
        lambda app: app.limit._value == 2,
    ),
    "asyncio queue": (lambda app: app.inbox.put_nowait(1), "inbox._queue", lambda app: app.inbox.empty()),
    "asyncio priority queue": (
        lambda app: app.ranked.put_nowait(1),
        "ranked._queue",
        lambda app: app.ranked.empty() and app.ranked._unfinished_tasks == 0 and app.ranked._finished.is_set(),
    ),
    "text in memory": (
        lambda app: app.text.write("zz\n"),
        "text.getvalue()",
        lambda app: app.text.getvalue() == "a\r\r\nb" and app.text.tell() == 0,
    ),
    "position in memory": (lambda app: app.data.read(2), "data.getvalue()", lambda app: app.data.tell() == 0),
    "bytes in memory": (
        lambda app: app.data.truncate(1),
        "data.getvalue()",
        lambda app: app.data.getvalue() == b"abc",
    ),
    "namespace": (lambda app: setattr(app.settings, "level", 2), "settings.level", lambda app: app.settings.level == 1),
    "deep in a namespace": (
        lambda app: app.settings.names.append("b"),
        "settings.names",
        lambda app: app.settings.names == ["a"],
    ),
}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else this process has running does not hold our locks."""
    monkeypatch.setattr(threading, "active_count", lambda: 1)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", list(_SIMPLE))
def test_a_primitive_left_in_another_state_is_named_and_put_back(app: Any, name: str) -> None:
    """The object stays the same one, and is as the test found it."""
    act, path, pristine = _SIMPLE[name]
    identities = {key: id(value) for key, value in vars(app).items()}
    assert pristine(app)
    barrier = _around(lambda: act(app))
    assert f"{MODULE}.{path}" in [change.path for change in barrier.changes]
    assert all(change.restored for change in barrier.changes)
    assert pristine(app)
    assert identities == {key: id(value) for key, value in vars(app).items()}
    assert _around(lambda: None).changes == ()


def test_primitives_that_are_used_and_given_back_are_no_finding(app: Any) -> None:
    """Locks that were released, queues that were emptied and events that were cleared leave nothing to say."""

    def use() -> None:
        with app.lock, app.owned, app.slots:
            app.ready.set()
        app.ready.clear()
        app.jobs.put(1)
        app.jobs.get()
        app.jobs.task_done()

        async def more() -> None:
            async with app.turn, app.limit:
                app.inbox.put_nowait(1)
                await app.inbox.get()
                app.inbox.task_done()

        asyncio.run(more())

    assert _around(use).changes == ()


def test_a_lock_forgets_the_loop_it_waited_in(app: Any) -> None:
    """A lock two tasks met at in one test works in the next test's loop."""

    async def meet() -> None:
        async def hold() -> None:
            async with app.turn:
                await asyncio.sleep(0)

        await asyncio.gather(hold(), hold())

    barrier = _around(lambda: asyncio.run(meet()))
    assert [(change.path, change.severity) for change in barrier.changes] == [(f"{MODULE}.turn._loop", "note")]
    assert barrier.clean
    asyncio.run(meet())


def test_nobody_who_waits_is_disturbed(app: Any) -> None:
    """An event with a waiting thread is reported and not restored."""
    app.ready.set()
    waiting = threading.Event()
    threads: list[threading.Thread] = []

    def wait() -> None:
        waiting.set()
        app.ready.wait()

    def clear() -> None:
        app.ready.clear()
        threads.append(threading.Thread(target=wait))
        threads[0].start()
        waiting.wait()
        while not app.ready._cond._waiters:
            pass

    barrier = _around(clear)
    try:
        (change,) = barrier.changes
        assert (change.severity, change.restored) == ("note", False)
        assert "waiting" in (change.reason or "")
        assert not app.ready.is_set()
    finally:
        app.ready.set()
        threads[0].join()


def test_a_lock_another_thread_may_hold_is_not_taken_from_it(app: Any) -> None:
    """The holder of a plain lock is unknown: with other threads alive, a held lock is a note and stays held."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        barrier = _around(app.lock.acquire)
        assert [(change.path, change.severity) for change in barrier.changes] == [(f"{MODULE}.lock.locked()", "note")]
        assert app.lock.locked()
    finally:
        stop.set()
        thread.join()


def test_a_lock_another_thread_gives_back_at_once_is_no_finding(app: Any) -> None:
    """A thread that is inside its critical section as the test ends is doing its work."""
    inside = threading.Event()

    def work() -> None:
        with app.lock:
            inside.set()
            time.sleep(0.002)

    thread = threading.Thread(target=work)

    def begin() -> None:
        thread.start()
        inside.wait()

    barrier = _around(begin)
    thread.join()
    assert barrier.changes == ()


def test_what_cannot_be_wound_back_is_told_as_a_note(app: Any) -> None:
    """A generator and a counter moved on: said, harmless, and not undone."""
    barrier = _around(lambda: (next(app.steps), next(app.numbers)))
    told = {change.path: (change.severity, change.restored) for change in barrier.changes}
    expected = {f"{MODULE}.steps": ("note", False)}
    if HAS_COUNTERS:
        expected[f"{MODULE}.numbers"] = ("note", False)
    assert told == expected
    assert barrier.clean
    assert next(app.numbers) == 2
    barrier = _around(lambda: list(app.steps))
    assert [change.after for change in barrier.changes] == ["<at its end>"]


def test_a_counter_of_any_type_is_watched(app: Any) -> None:
    """An `itertools.count` of numbers beyond machine integers, which works differently inside, is detected as well."""
    app.large = itertools.count(2**70)
    barrier = _around(lambda: next(app.large))
    assert [change.path for change in barrier.changes] == ([f"{MODULE}.large"] if HAS_COUNTERS else [])


def test_a_closed_file_in_memory_cannot_come_back(app: Any) -> None:
    """A closed file in memory is reported as unrecoverable."""
    barrier = _around(app.data.close)
    (change,) = barrier.changes
    assert (change.severity, change.after) == ("unrecoverable", "<closed>")


def test_a_large_file_in_memory_is_not_copied(app: Any) -> None:
    """A file that was small is restored whatever was written; for a file that was large, the change is only a note."""
    barrier = _around(lambda: app.data.write(b"x" * (2 << 20)))
    assert [change.restored for change in barrier.changes] == [True]
    assert app.data.getvalue() == b"abc"
    app.data.write(b"x" * (2 << 20))
    barrier = _around(lambda: app.data.write(b"y"))
    (change,) = barrier.changes
    assert (change.before, change.severity) == ("<too large to keep a copy>", "note")


@pytest.mark.parametrize("name", ["__name__", "__qualname__", "__doc__"])
def test_names_and_documentation_of_a_function_are_its_own(app: Any, name: str) -> None:
    """A function that was dressed up as another one gets its name and its text back."""

    def work() -> None:
        """Work."""

    function = types.FunctionType(work.__code__, vars(app))
    function.__doc__ = "Work."
    app.function = function
    before = getattr(function, name)
    barrier = _around(lambda: setattr(function, name, "other"))
    assert [change.path for change in barrier.changes] == [f"{MODULE}.function.{name}"]
    assert getattr(function, name) == before


def test_hundreds_of_locks_are_told_apart(app: Any, alone: None) -> None:
    """Of many locks the ones left held are named, also after some have gone and others have come."""
    app.locks = [threading.Lock() for _ in range(1200)]
    app.reentrant = [threading.RLock() for _ in range(30)]
    with isolation_barrier(packages=[MODULE]):
        for held in ((3, 700), (1199,), (0, 512)):
            barrier = _around(lambda held=held: [app.locks[index].acquire() for index in held])  # type: ignore[misc]
            assert [change.path for change in barrier.changes] == [
                f"{MODULE}.locks[{index}].locked()" for index in held
            ]
            del app.locks[600:610]
            app.locks.extend(threading.Lock() for _ in range(10))
            with isolation_barrier(packages=[MODULE]) as quiet:
                pass
            assert quiet.changes == ()
