"""Managed fixtures: injection, scopes of a runner's own, leaks, counts, and what can be seen of them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from isolation_core import (
    FixtureManager,
    debug_fixture_state,
    get_contamination_summary,
    isolation_barrier,
    managed_fixture,
)
from isolation_core.errors import ConfigurationError, GraphError, TeardownErrors
from isolation_core.fixtures import FixtureRegistry, FixtureRequest, FixtureRun, FixtureScope, spec_of, use_registry
from isolation_core.journal import Journal, use_journal

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def registry() -> Iterator[FixtureRegistry]:
    """Fixtures defined by one test are not there for the next."""
    with use_registry() as mine:
        yield mine


@pytest.fixture(autouse=True)
def journal() -> Iterator[Journal]:
    """A journal of its own for each test."""
    with use_journal(Journal()) as mine:
        yield mine


@pytest.fixture
def log() -> list[str]:
    """What happened, in order."""
    return []


# --- requests and injection ---------------------------------------------------


def test_a_request_tells_who_asks_and_for_what() -> None:
    """Name, scope, parameter, barrier and owner of the request that triggers the set-up."""
    seen: list[FixtureRequest] = []

    @managed_fixture(scope="session", params=["eu", "us"])
    def region(request: FixtureRequest) -> Any:
        seen.append(request)
        return request.param

    with isolation_barrier(), isolation_barrier(owner="test_a") as barrier:
        assert barrier.fixture("region", param="us") == "us"
    request = seen[0]
    assert (request.name, request.scope, request.param) == ("region", FixtureScope.SESSION, "us")
    assert (request.barrier, request.owner) == (barrier, "test_a")


async def test_inject_fills_in_what_a_call_does_not_give() -> None:
    """Sync and async functions; defaults and given arguments stay."""
    managed_fixture(name="db")(lambda: "db")

    @managed_fixture
    async def client(db: str) -> str:
        await checkpoint()
        return f"client of {db}"

    async def body(client: str, db: str, *, retries: int = 3) -> tuple[str, str, int]:
        return client, db, retries

    async with isolation_barrier() as barrier:
        assert await barrier.inject(body)() == ("client of db", "db", 3)  # type: ignore[call-arg]
        assert await barrier.inject(body)(db="mine", retries=1) == ("client of db", "mine", 1)  # type: ignore[call-arg]
        assert barrier.inject(lambda number, db: (number, db))(1) == (1, "db")  # type: ignore[call-arg]
        with pytest.raises(GraphError, match="did you mean 'client'"):
            barrier.inject(lambda clint: clint)()  # type: ignore[call-arg]


def test_fixtures_at_entry_are_torn_down_when_one_of_them_fails(log: list[str]) -> None:
    """The body is not run; what came up goes down; the barrier is closed."""

    @managed_fixture
    def good() -> Iterator[None]:
        yield
        log.append("good down")

    @managed_fixture
    def bad(good: None) -> None:
        raise OSError("no")

    barrier = isolation_barrier(fixtures=["bad"])
    with pytest.raises(OSError, match="no"), barrier:
        log.append("body")
    assert log == ["good down"]
    assert not barrier.is_open


async def test_a_crash_in_the_background_of_a_fixture_stops_the_body() -> None:
    """Fixtures set up at entry: the body is cancelled, and the crash comes out under its fixture's name."""

    async def crash() -> None:
        await checkpoint()
        raise OSError("connection lost")

    @managed_fixture(scope="session")
    async def server() -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(crash)
            yield

    with pytest.raises(TeardownErrors) as caught, anyio.fail_after(5):
        async with isolation_barrier(fixtures=["server"]):
            await anyio.sleep_forever()
    leaf: BaseException = caught.value
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    assert str(leaf) == "connection lost"
    assert "'server'" in leaf.__notes__[0]


async def test_two_tasks_that_ask_at_the_same_time_share_one_set_up(log: list[str]) -> None:
    """A fixture is set up once, whoever asks first."""

    @managed_fixture
    async def slow() -> AsyncIterator[object]:
        log.append("up")
        await anyio.sleep(0.01)
        yield object()

    values: list[object] = []
    async with isolation_barrier() as barrier:

        async def ask() -> None:
            values.append(await barrier.afixture("slow"))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)
    assert log == ["up"]
    assert len(set(map(id, values))) == 1


def test_threads_that_ask_at_the_same_time_share_one_set_up(log: list[str]) -> None:
    """The same for threads of a synchronous barrier."""
    gate = threading.Barrier(4)

    @managed_fixture
    def slow() -> object:
        log.append("up")
        return object()

    values: list[object] = []
    with isolation_barrier() as barrier:

        def ask() -> None:
            gate.wait()
            values.append(barrier.fixture("slow"))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert log == ["up"]
    assert len(set(map(id, values))) == 1


async def test_cancelling_a_request_leaves_the_rest_up_and_can_be_repeated(log: list[str]) -> None:
    """Whoever asked gave up waiting; the fixture itself has not failed."""

    @managed_fixture
    async def base() -> AsyncIterator[None]:
        yield
        log.append("base down")

    @managed_fixture
    async def slow(base: None, request: FixtureRequest) -> AsyncIterator[str]:
        request.add_cleanup(lambda: log.append("cleanup"))
        if not log:
            log.append("first")
            await anyio.sleep_forever()
        yield "slow"

    async with isolation_barrier() as barrier:
        with anyio.move_on_after(0.01):
            await barrier.afixture("slow")
        assert log == ["first", "cleanup"]
        assert await barrier.afixture("slow") == "slow"
    assert log == ["first", "cleanup", "cleanup", "base down"]


def test_a_name_defined_in_two_modules_is_open_unless_one_is_near(registry: FixtureRegistry) -> None:
    """The module of who asks comes first; otherwise both are named."""
    scope: dict[str, Any] = {"__name__": "elsewhere"}
    exec(
        "from isolation_core import managed_fixture\n@managed_fixture\ndef db():\n    return 'elsewhere'\n"
        "@managed_fixture\ndef repo(db):\n    return db\n",
        scope,
    )
    managed_fixture(name="db")(here := lambda: "here")
    with isolation_barrier() as barrier:
        assert barrier.fixture("repo") == "elsewhere"
        assert barrier.fixture(here) == "here"
        with pytest.raises(GraphError, match="'db' is defined 2 times"):
            barrier.fixture("db")


# --- scopes of one's own -----------------------------------------------------------


def define_scoped(log: list[str]) -> None:
    """Define a fixture for each scope, each standing on the wider one."""
    wider: list[str] = []
    for scope in ("session", "module", "function"):

        def fixture(scope: str = scope) -> Iterator[str]:
            log.append(f"{scope} up")
            yield scope
            log.append(f"{scope} down")

        managed_fixture(name=f"{scope}_thing", scope=scope, dependencies=wider[-1:])(fixture)
        wider.append(f"{scope}_thing")


def test_a_manager_opens_and_closes_scopes(log: list[str]) -> None:
    """Each fixture lives exactly as long as its scope."""
    define_scoped(log)
    manager = FixtureManager()
    with manager.scope("session"):
        for module in ("one", "two"):
            with manager.scope("module", module):
                for test in ("a", "b"):
                    with manager.scope("function", f"{module}.{test}"):
                        manager.inject(lambda function_thing: log.append("test"))()
    once = ["function up", "test", "function down"]
    module_run = ["module up", *once, *once, "module down"]
    assert log == ["session up", *module_run, *module_run, "session down"]


async def test_a_manager_of_asynchronous_scopes(log: list[str]) -> None:
    """The same with ``async with``."""

    @managed_fixture(scope="session")
    async def server() -> AsyncIterator[str]:
        async with anyio.create_task_group() as group:
            yield "server"
            group.cancel_scope.cancel()
        log.append("server down")

    @managed_fixture
    async def client(server: str) -> AsyncIterator[str]:
        yield f"client of {server}"
        log.append("client down")

    manager = FixtureManager()
    async with manager.scope("session"):
        for name in ("a", "b"):
            async with manager.scope("function", name):
                assert await manager.aget("client") == "client of server"
    assert log == ["client down", "client down", "server down"]


def test_a_manager_refuses_scopes_in_the_wrong_order() -> None:
    """A wide scope inside a narrow one, and a scope that is closed before those inside it."""
    manager = FixtureManager(mode="off")
    with pytest.raises(RuntimeError, match=r"open one with `with manager\.scope"):
        manager.get("anything")
    with manager.scope("class"), pytest.raises(ConfigurationError, match="cannot be opened inside class"):
        manager.scope("module").__enter__()
    outer, inner = manager.scope("session"), manager.scope("function")
    with outer:
        with inner, pytest.raises(RuntimeError, match="the scope session is closed before function"):
            outer.__exit__(None, None, None)


def test_what_a_wide_fixture_does_to_the_process_is_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session fixture set up for a test may set the environment; the test is not blamed, and it stays set."""
    import os

    monkeypatch.delenv("SHOP_URL", raising=False)

    @managed_fixture(scope="session")
    def url() -> Iterator[str]:
        os.environ["SHOP_URL"] = "http://shop"
        yield os.environ["SHOP_URL"]
        del os.environ["SHOP_URL"]

    manager = FixtureManager()
    with manager.scope("session") as session:
        with manager.scope("function", "test") as test:
            assert manager.get("url") == "http://shop"
        assert os.environ["SHOP_URL"] == "http://shop"
    assert test.barrier.changes == session.barrier.changes == ()


# --- leaks -----------------------------------------------------------------------------


def test_an_open_file_is_reported_under_the_name_of_its_fixture(tmp_path: Path) -> None:
    """Opened in the set-up, alive after the teardown; one that is closed is not."""
    kept = []

    @managed_fixture
    def leaky() -> Iterator[None]:
        kept.append((tmp_path / "leaky").open("w"))
        yield

    @managed_fixture
    def tidy() -> Iterator[None]:
        with (tmp_path / "tidy").open("w"):
            yield

    with isolation_barrier() as barrier:
        barrier.fixtures.get_all(["leaky", "tidy"])
    kept[0].close()
    assert [(leak.kind, leak.code, leak.owner) for leak in barrier.leaks] == [("file", "FDS001", "fixture 'leaky'")]
    assert str(tmp_path / "leaky") in barrier.leaks[0].path
    assert (barrier.leaks[0].created_at or "").startswith(__file__)


def test_a_thread_that_goes_on_is_reported_and_one_that_was_joined_is_not() -> None:
    """The same for threads, and a cleanup of the request counts as part of the teardown."""
    stop = threading.Event()

    def start(request: FixtureRequest, *, join: bool) -> None:
        mine = threading.Event()
        thread = threading.Thread(target=(mine if join else stop).wait, name="joined" if join else "left")
        thread.start()
        if join:
            request.add_cleanup(thread.join)
            request.add_cleanup(mine.set)

    managed_fixture(name="leaky")(lambda request: start(request, join=False))
    managed_fixture(name="tidy")(lambda request: start(request, join=True))
    with isolation_barrier() as barrier:
        barrier.fixtures.get_all(["leaky", "tidy"])
    stop.set()
    assert [(leak.kind, leak.path, leak.owner) for leak in barrier.leaks] == [("thread", "left", "fixture 'leaky'")]


def test_sockets_and_tasks_are_reported() -> None:
    """A stream nobody closed, and a task nobody awaited."""
    kept: list[Any] = []

    @managed_fixture
    async def leaky() -> AsyncIterator[None]:
        import socket

        kept.append(socket.socket())
        kept.append(asyncio.create_task(asyncio.sleep(30), name="poller"))
        yield

    async def main() -> list[str]:
        async with isolation_barrier() as barrier:
            await barrier.afixture("leaky")
        kept[1].cancel()
        return sorted(leak.kind for leak in barrier.leaks if leak.owner == "fixture 'leaky'")

    assert asyncio.run(main()) == ["socket", "task"]
    kept[0].close()


def test_a_fixture_that_is_up_after_its_scope_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A teardown that ended before it was done."""
    from isolation_core.lifecycle import Lifecycle

    @managed_fixture
    def db() -> Iterator[str]:
        yield "db"

    def broken(self: Lifecycle, error: BaseException | None = None) -> None:
        raise RuntimeError("out of memory")

    barrier = isolation_barrier()
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="out of memory"), barrier:
        barrier.fixture("db")
        patch.setattr(Lifecycle, "tear_down", broken)
    assert [(leak.code, leak.owner) for leak in barrier.leaks] == [("FIX001", "fixture 'db'")]
    barrier._living().tear_down()


def test_a_failing_teardown_of_a_rebuilt_fixture_is_told_at_the_end_of_its_scope() -> None:
    """Whoever asks next gets the new value; the error comes out where the fixture lives."""
    built: list[int] = []

    @managed_fixture(scope="session")
    def db() -> Iterator[int]:
        built.append(len(built))
        yield built[-1]
        if built[-1] == 0:
            raise OSError("did not close")

    with pytest.raises(TeardownErrors) as caught, isolation_barrier(), isolation_barrier() as inner:
        assert inner.fixture("db") == 0
        inner.fixtures.mark_dirty("db", "broken")
        assert inner.fixture("db") == 1
    leaf: BaseException = caught.value
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    assert str(leaf) == "did not close"
    assert "while tearing down 'db'" in leaf.__notes__[0]


def test_values_are_let_go_when_they_are_down() -> None:
    """By reference count, also where a cleanup has held them."""
    import gc
    from weakref import ref

    class Value:
        pass

    managed_fixture(name="value", cleanup_callbacks=[lambda value: None])(Value)
    gc.disable()
    try:
        with isolation_barrier(mode="off") as barrier:
            alive = ref(barrier.fixture("value"))
        assert alive() is None
    finally:
        gc.enable()


def test_the_event_loop_of_a_portal_is_no_leak() -> None:
    """What the machinery opens is not the fixture's."""

    @managed_fixture
    async def client() -> AsyncIterator[str]:
        yield "client"

    with isolation_barrier() as barrier:
        barrier.fixture("client")
    assert barrier.leaks == ()


def test_an_event_loop_that_comes_up_in_a_set_up_is_no_leak() -> None:
    """A loop belongs to whoever runs it; a file the same set-up opens is still told."""
    loops: list[asyncio.AbstractEventLoop] = []
    files: list[object] = []

    @managed_fixture
    def loop_only() -> None:
        loops.append(asyncio.new_event_loop())

    @managed_fixture
    def loop_and_file() -> None:
        files.append(Path(__file__).open())  # noqa: SIM115 - left open on purpose
        loops.append(asyncio.new_event_loop())

    try:
        with isolation_barrier() as barrier:
            barrier.fixture("loop_only")
        assert barrier.leaks == ()
        with isolation_barrier() as barrier:
            barrier.fixture("loop_and_file")
        assert [Path(__file__).name in leak.path for leak in barrier.leaks] == [True]
    finally:
        for each in (*loops, *files):
            each.close()  # type: ignore[attr-defined]


# --- what can be seen ----------------------------------------------------------------------


def test_counts_of_reuse_reset_and_rebuild() -> None:
    """They are in the summary."""
    managed_fixture(name="kept", scope="session")(lambda: {})
    managed_fixture(name="renewed", scope="session", on_contamination="recreate")(lambda: {})
    with isolation_barrier():
        for _ in range(2):
            with isolation_barrier() as inner:
                inner.fixture("kept")["x"] = 1
                inner.fixture("renewed")["x"] = 1
    assert get_contamination_summary()["fixtures"] == {
        "set_up": 3, "reused": 1, "contaminated": 4, "reset": 2, "rebuilt": 1,
    }  # fmt: skip


def test_a_journal_that_is_written_counts_the_same(tmp_path: Path, journal: Journal) -> None:
    """What is read back adds up to what was counted live, and tells of set-up and teardown."""
    from isolation_core.journal import read_journal, totals_of

    journal.write_to(tmp_path / "run.jsonl")

    @managed_fixture
    def db() -> dict[str, int]:
        return {}

    with isolation_barrier() as barrier:
        barrier.fixture(db)
        barrier.fixture(db)
    journal.close()
    records = read_journal(tmp_path / "run.jsonl")
    assert totals_of(records).fixtures == journal.totals.fixtures == {"set_up": 1, "reused": 1}
    assert {"node-set-up", "node-torn-down"} <= {event.ev for event in records.events}


def test_debug_fixture_state_shows_what_is_up() -> None:
    """As plain data, and as text."""

    @managed_fixture(scope="session")
    def db() -> Iterator[str]:
        yield "db"

    @managed_fixture
    def repo(db: str, request: FixtureRequest) -> str:
        request.add_cleanup(lambda: None, name="flush")
        return "repo"

    with isolation_barrier(owner="session"), isolation_barrier(owner="test_a") as barrier:
        barrier.fixture("repo")
        state = debug_fixture_state()
        below, above = state["fixtures"]
        assert (below["name"], below["scope"], below["state"], below["owner"]) == ("db", "session", "up", "session")
        assert below["users"] == ["test_a"]
        assert above["dependencies"] == ["db"]
        assert above["pending_cleanups"] == ["repo: flush"]
        assert below["pending_cleanups"] == ["the teardown of 'db'"]
        assert below["age"] >= above["age"] >= 0
        assert state["critical_path"]["path"] == ["db", "repo"]
        assert "stands on: db" in state["text"]
        assert "used by: test_a" in state["text"]
        json.dumps(state)
        barrier.fixtures.mark_dirty("db", "stale")
        assert "up, dirty: stale" in debug_fixture_state()["text"]
    assert debug_fixture_state()["fixtures"] == []
    assert [each["name"] for each in barrier.fixtures.timings()] == ["repo"]


async def test_a_single_fixture_can_be_driven_by_a_runner(log: list[str]) -> None:
    """`FixtureRun`: given arguments, the promises of a barrier."""

    @managed_fixture(scope="module", cleanup_callbacks=[lambda value: log.append(f"callback({value})")])
    async def client(db: str, request: FixtureRequest) -> AsyncIterator[str]:
        request.add_cleanup(lambda: log.append("cleanup"))
        yield f"client of {db}"
        raise OSError("no")

    spec = spec_of(client)
    assert spec is not None
    run = FixtureRun(spec, {"db": "db"}, owner="tests/test_a.py::test_a")
    assert await run.aset_up() == "client of db"
    run.used_by("tests/test_a.py::test_b")
    assert debug_fixture_state()["fixtures"][0]["users"] == ["tests/test_a.py::test_b"]
    with pytest.raises(TeardownErrors) as caught:
        await run.atear_down()
    assert "used by tests/test_a.py::test_b" in caught.value.exceptions[0].__notes__[0]
    assert log == ["cleanup", "callback(client of db)"]


def test_a_barrier_without_fixtures_does_not_import_them() -> None:
    """What is not used costs nothing."""
    import subprocess
    import sys

    code = (
        "import sys\nfrom isolation_core import isolation_barrier, get_contamination_summary, debug_fixture_state\n"
        "with isolation_barrier(): pass\nget_contamination_summary(), debug_fixture_state()\n"
        "assert 'isolation_core.fixtures' not in sys.modules and 'asyncio' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
