"""The lifecycle rules L1 to L14, held by managed fixtures, with and without an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from isolation_core import FixtureScope, isolation_barrier, managed_fixture
from isolation_core.errors import (
    ConfigurationError,
    FixtureUseError,
    GraphError,
    SetupError,
    SetupTimeout,
    TeardownErrors,
    TeardownTimeout,
)
from isolation_core.fixtures import FixtureRegistry, FixtureRequest, spec_of, use_registry

pytestmark = pytest.mark.anyio

colour: ContextVar[str] = ContextVar("colour", default="none")


@pytest.fixture(autouse=True)
def registry() -> Iterator[FixtureRegistry]:
    """Fixtures defined by one test are not there for the next."""
    with use_registry() as mine:
        yield mine


@pytest.fixture
def log() -> list[str]:
    """What happened, in order."""
    return []


def chain(log: list[str], *, names: str = "abc", wide: str = "function") -> list[Callable[..., Any]]:
    """Define asynchronous fixtures of these names, each standing on the one before."""
    made: list[Callable[..., Any]] = []
    for place, name in enumerate(names):

        async def fixture(name: str = name) -> AsyncIterator[str]:
            await checkpoint()
            log.append(f"{name} up")
            yield name
            await checkpoint()
            log.append(f"{name} down")

        made.append(managed_fixture(name=name, scope=wide, dependencies=list(names[:place][-1:]))(fixture))
    return made


# --- L1: one shape ------------------------------------------------------------


def test_l1_decorating_runs_nothing_and_leaves_the_function_callable(log: list[str]) -> None:
    """The decorator returns the very function, which has not been called and can be."""

    def settings() -> dict[str, str]:
        log.append("called")
        return {"region": "eu"}

    assert managed_fixture(settings) is settings
    assert managed_fixture(name="again")(lambda: 3)() == 3
    assert log == []
    assert settings() == {"region": "eu"}


async def test_l1_every_shape_is_set_up_and_finished(log: list[str]) -> None:
    """Plain, generator, async, async generator and factories of both kinds of context managers."""

    @managed_fixture
    def plain() -> str:
        return "plain"

    @managed_fixture
    def generator() -> Iterator[str]:
        yield "generator"
        log.append("generator down")

    @managed_fixture
    async def coroutine() -> str:
        await checkpoint()
        return "coroutine"

    @managed_fixture
    async def async_generator() -> AsyncIterator[str]:
        yield "async generator"
        await checkpoint()
        log.append("async generator down")

    @managed_fixture
    @contextlib.contextmanager
    def manager() -> Iterator[str]:
        yield "manager"
        log.append("manager down")

    @managed_fixture
    @contextlib.asynccontextmanager
    async def async_manager() -> AsyncIterator[str]:
        yield "async manager"
        log.append("async manager down")

    names = ["plain", "generator", "coroutine", "async_generator", "manager", "async_manager"]
    async with isolation_barrier() as barrier:
        values = [await barrier.afixture(name) for name in names]
    assert values == ["plain", "generator", "coroutine", "async generator", "manager", "async manager"]
    assert log == ["async manager down", "manager down", "async generator down", "generator down"]


def test_l1_a_class_of_context_managers_is_a_factory(log: list[str]) -> None:
    """A class whose instances can be entered is entered; its subclass is not decorated by that."""

    @managed_fixture
    class Session(contextlib.AbstractContextManager[str]):
        def __enter__(self) -> str:
            return "session"

        def __exit__(self, *_: object) -> None:
            log.append("closed")

    class Derived(Session):
        pass

    with isolation_barrier() as barrier:
        assert barrier.fixture(Session) == "session"
    assert log == ["closed"]
    assert spec_of(Derived) is None


@pytest.mark.parametrize(
    ("define", "expected"),
    [
        (lambda: managed_fixture(staticmethod(lambda: 1)), "staticmethod is no function yet"),
        (lambda: managed_fixture(lambda self: 1), "looks like a method"),
        (lambda: managed_fixture(scope="sesion")(lambda: 1), "did you mean 'session'"),
        (lambda: managed_fixture(timeout=0)(lambda: 1), "timeout=0 leaves no time"),
        (lambda: managed_fixture(on_contamination="heal")(lambda: 1), "is not one of 'restore'"),  # type: ignore[call-overload]
        (lambda: managed_fixture(dependencies="db")(lambda: 1), r"write \['db'\]"),
        (lambda: managed_fixture(dependencies=[len])(lambda: 1), "len is no managed fixture"),
        (lambda: managed_fixture(dependencies=["db"])(lambda cache: 1), "parameter 'cache', which is not among"),
        (lambda: managed_fixture(cleanup_callbacks=[lambda a, b: 1])(lambda: 1), "needs 2 arguments"),
        (lambda: managed_fixture(cleanup_callbacks=[3])(lambda: 1), "3 cannot be called"),  # type: ignore[list-item]
        (lambda: managed_fixture(params=[1, 2], ids=["one"])(lambda: 1), "1 ids for 2 params"),
        (lambda: managed_fixture(managed_fixture(lambda: 1)), "decorated twice"),
    ],
)
def test_l1_what_cannot_be_a_fixture_is_told_at_decoration(define: Callable[[], object], expected: str) -> None:
    """The error names the fixture, what is wrong, and what to write instead."""
    with pytest.raises(ConfigurationError, match=expected):
        define()


def test_l1_dependencies_by_parameter_by_name_and_by_object(log: list[str]) -> None:
    """A dependency with a parameter is passed, one without is only waited for."""

    @managed_fixture
    def settings() -> str:
        log.append("settings")
        return "settings"

    @managed_fixture
    def schema() -> None:
        log.append("schema")

    @managed_fixture(dependencies=[settings, "schema"])
    def database(settings: str = "default") -> str:
        log.append("database")
        return f"database({settings})"

    @managed_fixture
    def session(database: str, echo: bool = False) -> str:
        return f"session({database}, {echo})"

    with isolation_barrier() as barrier:
        assert barrier.fixture("session") == "session(database(settings), False)"
    assert log == ["settings", "schema", "database"]


# --- L2: validated as a whole ---------------------------------------------------


def test_l2_all_problems_at_once_and_nothing_set_up(log: list[str]) -> None:
    """A cycle, a missing name and a scope inversion are one error, and nothing has run."""

    @managed_fixture
    def settings() -> None:
        log.append("settings")

    @managed_fixture
    def cart(settings: object, price: object) -> None: ...

    @managed_fixture
    def price(cart: object, setings: object) -> None: ...

    @managed_fixture(scope="session")
    def shop(settings: object, cart: object) -> None: ...

    with isolation_barrier() as barrier, pytest.raises(GraphError) as caught:
        barrier.fixture("shop")
    assert {problem.code for problem in caught.value.problems} == {"ISO001", "ISO002", "ISO003"}
    text = str(caught.value)
    assert "┌─>" in text
    assert "did you mean 'settings'" in text
    assert "'shop' lives for a whole session and needs 'cart', which ends with each function" in text
    assert text.count(__file__) >= 4
    assert log == []


def test_l2_a_misspelt_request_is_answered_with_the_near_names() -> None:
    """The suggestion is a fixture that nothing else needs, with scope and place."""

    @managed_fixture(scope="module", isolation_group="shop")
    def database() -> None: ...

    with isolation_barrier() as barrier, pytest.raises(GraphError) as caught:
        barrier.fixture("databse")
    expected = r"did you mean 'database' \(group 'shop', module scope, defined at .*test_fixtures_rules.py:\d+\)"
    assert re.search(expected, str(caught.value))


def test_l2_a_narrower_dependency_of_another_scope_is_found_for_each_barrier() -> None:
    """Scopes changed for a barrier are validated as they are there."""

    @managed_fixture(scope="session")
    def settings() -> str:
        return "settings"

    @managed_fixture(scope="session")
    def database(settings: str) -> str:
        return f"on {settings}"

    with isolation_barrier() as barrier:
        assert barrier.fixture("database") == "on settings"
        barrier.fixtures.rescope("settings", "function")
        with pytest.raises(GraphError, match="ISO003"):
            barrier.fixture("database")


# --- L3: order --------------------------------------------------------------------


def test_l3_scope_then_priority_then_declaration_and_dependencies_always_win(log: list[str]) -> None:
    """The order of set-up is total, and the graph says why."""

    def define(name: str, **options: Any) -> None:
        managed_fixture(name=name, **options)(lambda: log.append(name))

    define("first")
    define("urgent", priority=5)
    define("wide", scope="module")
    define("needed")
    define("needy", priority=9, dependencies=["needed"])
    with isolation_barrier() as barrier:
        barrier.fixtures.get_all(["first", "urgent", "wide", "needed", "needy"])
        graph = barrier.fixtures.graph("needy", "urgent", "first")
    assert log == ["wide", "urgent", "first", "needed", "needy"]
    assert "before 'needy', because 'needy' needs 'needed'" in graph.explain("needed")
    assert "needy" in graph.to_mermaid()
    assert "needy" in graph.to_dot()
    assert '"needy"' in graph.to_json()


# --- L4, L5: concurrency and tasks ---------------------------------------------------


async def test_l4_a_fixture_starts_as_soon_as_what_it_needs_is_up(log: list[str]) -> None:
    """With concurrency, two chains do not wait for one another level by level."""
    gates = {name: anyio.Event() for name in ("slow", "quick", "second")}

    @managed_fixture
    async def slow() -> None:
        await gates["second"].wait()
        log.append("slow")

    @managed_fixture
    async def quick() -> None:
        log.append("quick")

    @managed_fixture
    async def second(quick: None) -> None:
        log.append("second")
        gates["second"].set()

    with anyio.fail_after(5):
        async with isolation_barrier(fixtures=["slow", "second"], max_concurrency=4):
            assert log == ["quick", "second", "slow"]


async def test_l4_a_fixture_that_is_not_concurrent_is_alone() -> None:
    """``concurrent=False`` keeps all others still."""
    running: set[str] = set()
    seen: list[set[str]] = []

    def define(name: str, *, concurrent: bool) -> None:
        @managed_fixture(name=name, concurrent=concurrent)
        async def fixture() -> None:
            running.add(name)
            await checkpoint()
            seen.append(set(running))
            running.discard(name)

    define("a", concurrent=True)
    define("alone", concurrent=False)
    define("b", concurrent=True)
    async with isolation_barrier(fixtures=["a", "alone", "b"], max_concurrency=4):
        pass
    assert {"alone"} in seen
    assert not any("alone" in each and len(each) > 1 for each in seen)


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_l5_set_up_and_teardown_run_in_one_task(concurrency: int) -> None:
    """A fixture may hold a task group and a cancel scope between its set-up and its teardown."""
    tasks: list[object] = []

    @managed_fixture
    async def server() -> AsyncIterator[anyio.abc.TaskGroup]:
        tasks.append(anyio.get_current_task())
        with anyio.CancelScope():
            async with anyio.create_task_group() as group:
                yield group
                group.cancel_scope.cancel()
        tasks.append(anyio.get_current_task())

    for options in ({"fixtures": ["server"]}, {}):
        async with isolation_barrier(max_concurrency=concurrency, **options) as barrier:  # type: ignore[arg-type]
            group = await barrier.afixture("server")
            group.start_soon(anyio.sleep_forever)
    assert tasks[0] == tasks[1]
    assert tasks[2] == tasks[3]


def test_l5_an_async_fixture_of_a_sync_barrier_keeps_its_task() -> None:
    """In the portal, too; and fixtures of nested barriers share one event loop."""
    loops: list[object] = []

    @managed_fixture(scope="session")
    async def server() -> AsyncIterator[str]:
        async with anyio.create_task_group() as group:
            loops.append(asyncio.get_running_loop())
            yield "server"
            group.cancel_scope.cancel()

    @managed_fixture
    async def client(server: str) -> str:
        loops.append(asyncio.get_running_loop())
        return f"client of {server}"

    with isolation_barrier(), isolation_barrier() as inner:
        assert inner.fixture("client") == "client of server"
    assert loops[0] is loops[1]


async def test_l5_what_would_need_another_loop_is_refused() -> None:
    """Asking synchronously for an asynchronous fixture, or in a barrier without a loop, says what to write."""

    @managed_fixture
    async def server() -> str:
        return "server"

    async with isolation_barrier() as barrier:
        with pytest.raises(FixtureUseError, match=r"await barrier\.afixture\('server'\)"):
            barrier.fixture("server")
        assert await barrier.afixture("server") == "server"
        assert barrier.fixture("server") == "server"
    with isolation_barrier() as barrier:
        with pytest.raises(FixtureUseError, match="open that barrier with `async with`"):
            await barrier.afixture("server")


# --- L6, L7, L8, L9: teardown ---------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_l6_a_fixture_goes_down_after_all_that_stands_on_it(log: list[str], concurrency: int) -> None:
    """Teardown is the reverse of set-up."""
    chain(log)
    async with isolation_barrier(fixtures=["c"], max_concurrency=concurrency):
        pass
    assert log == ["a up", "b up", "c up", "c down", "b down", "a down"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError()])
def test_l7_every_cleanup_runs_whatever_one_of_them_raises(log: list[str], error: BaseException) -> None:
    """Fixture teardowns, cleanups of requests and callbacks all run after the one that fails."""

    @managed_fixture(cleanup_callbacks=[lambda: log.append("callback")])
    def lower(request: FixtureRequest) -> Iterator[str]:
        request.add_cleanup(lambda: log.append("added"))
        yield "lower"
        log.append("lower down")

    @managed_fixture
    def upper(lower: str) -> Iterator[str]:
        yield "upper"
        raise error

    barrier = isolation_barrier()
    with pytest.raises(BaseException) as caught, barrier:  # noqa: PT011
        barrier.fixture("upper")
    assert log == ["lower down", "added", "callback"]
    if isinstance(error, KeyboardInterrupt | SystemExit):
        assert caught.value is error
    else:
        assert isinstance(caught.value, TeardownErrors)


async def test_l7_every_cleanup_runs_when_the_body_is_cancelled(log: list[str]) -> None:
    """Cleanups may await although everything around them is cancelled."""
    chain(log)
    with anyio.CancelScope() as scope:
        async with isolation_barrier() as barrier:
            await barrier.afixture("c")
            scope.cancel()
            await anyio.sleep_forever()
    assert log[3:] == ["c down", "b down", "a down"]


def test_l7_cleanups_of_a_set_up_that_failed_run_at_once(log: list[str]) -> None:
    """What was registered before the failure is not kept until the barrier ends."""

    @managed_fixture(cleanup_callbacks=[lambda: log.append("never")])
    def broken(request: FixtureRequest) -> None:
        request.add_cleanup(lambda: log.append("undone"))
        raise OSError("no such host")

    with isolation_barrier() as barrier:
        with pytest.raises(OSError, match="no such host"):
            barrier.fixture("broken")
        assert log == ["undone"]
        with pytest.raises(SetupError, match="failed before"):
            barrier.fixture("broken")
    assert log == ["undone"]


def test_l8_cleanup_errors_are_one_group_with_notes() -> None:
    """Each leaf names fixture, scope, place and users; the error of the body comes first."""

    @managed_fixture(scope="module")
    def database() -> Iterator[str]:
        yield "database"
        raise OSError("still connected")

    @managed_fixture
    def session(database: str) -> Iterator[str]:
        yield "session"
        raise ValueError("uncommitted")

    with pytest.raises(ExceptionGroup) as caught, isolation_barrier(owner="test_shop") as barrier:
        barrier.fixture("session")
        raise AssertionError("the body")
    body, cleanups = caught.value.exceptions
    assert str(body) == "the body"
    assert isinstance(cleanups, TeardownErrors)
    assert [type(each) for each in cleanups.exceptions] == [ValueError, OSError]
    note = cleanups.exceptions[1].__notes__[0]
    expected = r"while tearing down 'database' \(module scope, defined at .*:\d+, set up for test_shop, used by "
    assert re.match(expected, note)


async def test_l9_a_cleanup_that_hangs_is_cut_short_and_the_next_one_runs(log: list[str]) -> None:
    """The budget is the fixture's own, and the one that hung is reported as never having ended."""
    chain(log, names="a")

    @managed_fixture(timeout=0.02, dependencies=["a"])
    async def stuck() -> AsyncIterator[None]:
        yield
        await anyio.sleep_forever()

    barrier = isolation_barrier()
    with pytest.raises(TeardownErrors) as caught:
        async with barrier:
            await barrier.afixture("stuck")
    assert [type(each) for each in caught.value.exceptions] == [TeardownTimeout]
    assert log == ["a up", "a down"]
    assert [(leak.kind, leak.code, leak.owner) for leak in barrier.leaks] == [("fixture", "FIX002", "fixture 'stuck'")]


async def test_l9_a_set_up_that_hangs_has_a_budget_too() -> None:
    """``setup_timeout`` cancels it."""

    @managed_fixture(setup_timeout=0.02)
    async def stuck() -> None:
        await anyio.sleep_forever()

    async with isolation_barrier() as barrier:
        with pytest.raises(SetupTimeout, match="'stuck'"):
            await barrier.afixture("stuck")


# --- L10: context variables --------------------------------------------------------


async def test_l10_context_variables_flow_on_and_are_undone() -> None:
    """What a set-up sets is seen by its dependents and the body, and its own token stays valid."""

    @managed_fixture
    async def painted() -> AsyncIterator[None]:
        token = colour.set("red")
        yield
        colour.reset(token)

    @managed_fixture
    def seen(painted: None) -> str:
        return colour.get()

    async with isolation_barrier() as barrier:
        assert await barrier.afixture("seen") == "red"
        assert colour.get() == "red"
    assert colour.get() == "none"


# --- L11: scopes and instances --------------------------------------------------------


def test_l11_scopes_are_ordered() -> None:
    """From narrow to wide, with room below the function."""
    scopes = [
        FixtureScope.FUNCTION,
        FixtureScope.CLASS,
        FixtureScope.MODULE,
        FixtureScope.PACKAGE,
        FixtureScope.SESSION,
    ]
    assert sorted(set(scopes)) == scopes
    assert FixtureScope.SUBTEST < FixtureScope.EXAMPLE < FixtureScope.FUNCTION
    assert FixtureScope.SESSION >= FixtureScope.SESSION > FixtureScope.CLASS
    assert FixtureScope.CLASS <= FixtureScope.MODULE


def test_l11_a_wide_fixture_lives_in_the_outer_barrier_and_a_narrow_one_in_each() -> None:
    """One value for all inner barriers, or one for each."""
    managed_fixture(name="wide", scope="session")(lambda: object())
    managed_fixture(name="narrow")(lambda wide: object())
    with isolation_barrier():
        with isolation_barrier() as one:
            first, narrow = one.fixture("wide"), one.fixture("narrow")
            assert one.fixture("narrow") is narrow
        with isolation_barrier() as two:
            assert two.fixture("wide") is first
            assert two.fixture("narrow") is not narrow


def test_l11_a_dynamic_scope_is_asked_for_each_barrier() -> None:
    """The callable gets the name and the barrier that asks."""
    asked: list[tuple[str, str]] = []

    def scope(name: str, barrier: Any) -> str:
        asked.append((name, barrier.owner))
        return "session" if barrier.group == "shared" else "function"

    managed_fixture(name="thing", scope=scope)(lambda: object())
    with isolation_barrier():
        with isolation_barrier("shared", owner="one") as one, isolation_barrier("shared", owner="two") as two:
            assert one.fixture("thing") is two.fixture("thing")
        with isolation_barrier(owner="three") as three, isolation_barrier(owner="four") as four:
            assert three.fixture("thing") is not four.fixture("thing")
    assert ("thing", "three") in asked


def test_l11_one_spec_is_up_at_several_scopes(log: list[str]) -> None:
    """Asked for with another scope it is another value, and each ends with its own scope."""

    @managed_fixture
    def folder(request: FixtureRequest) -> Iterator[str]:
        yield str(request.scope)
        log.append(f"{request.scope} folder down")

    with isolation_barrier():
        with isolation_barrier() as inner:
            assert inner.fixture("folder") == "function"
            assert inner.fixture("folder", scope=FixtureScope.SESSION) == "session"
        assert log == ["function folder down"]
    assert log == ["function folder down", "session folder down"]


def test_l11_each_parameter_is_an_instance_and_so_is_what_stands_on_it(log: list[str]) -> None:
    """Parameters are compared by identity first, so that arrays and their like are welcome."""

    class Array:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value is ambiguous")

    arrays = [Array(), Array()]

    @managed_fixture(params=["sqlite", *arrays], ids=["lite", "one", "two"], scope="session")
    def database(request: FixtureRequest) -> object:
        log.append("up")
        return request.param

    managed_fixture(name="session")(lambda database: [database])
    with isolation_barrier() as barrier:
        assert barrier.fixture("database", param=arrays[0]) is arrays[0]
        assert barrier.fixture("database", param=arrays[1]) is arrays[1]
        assert barrier.fixture("database", param=arrays[0]) is arrays[0]
        session = barrier.fixture("session", params={"database": "sqlite"})
        assert session == ["sqlite"]
        assert barrier.fixture("session", params={"database": str(b"sqlite", "ascii")}) is session
        names = [each["name"] for each in barrier.fixtures.active()]
        assert names == ["database[one]", "database[two]", "database[lite]", "session"]
        with pytest.raises(FixtureUseError, match="does not say which one: give param="):
            barrier.fixture("session")
        with pytest.raises(FixtureUseError, match="a parameter for 'databse' is of no use"):
            barrier.fixture("session", params={"databse": 1})
    assert log == ["up", "up", "up"]


def test_l11_an_override_rebuilds_exactly_the_dependents(log: list[str]) -> None:
    """What does not stand on it stays; afterwards the old values are found again."""

    def define(name: str, *needs: str) -> None:
        @managed_fixture(name=name, dependencies=needs, scope="session")
        def fixture(request: FixtureRequest) -> Iterator[object]:
            log.append(f"{name} up")
            yield object()
            log.append(f"{name} down")

    define("settings")
    define("db", "settings")
    define("repo", "db")
    define("mailer", "settings")
    with isolation_barrier(), isolation_barrier() as barrier:
        before = barrier.fixtures.get_all(["repo", "mailer", "settings"])
        log.clear()
        with barrier.override("db", "a fake"):
            assert barrier.fixture("db") == "a fake"
            during = barrier.fixtures.get_all(["repo", "mailer", "settings"])
            assert during[0] is not before[0]
            assert during[1:] == before[1:]
            with barrier.override("db", "another"):
                assert barrier.fixture("db") == "another"
            assert barrier.fixture("db") == "a fake"
        assert log == ["repo up", "repo down"]
        assert barrier.fixtures.get_all(["repo", "mailer", "settings"]) == before


async def test_l11_an_override_by_a_managed_fixture_is_set_up_and_torn_down(log: list[str]) -> None:
    """The replacement has its own dependencies and its own cleanup."""
    chain(log, names="ab", wide="session")

    @managed_fixture(name="fake", dependencies=["settings"])
    async def fake_a(settings: str) -> AsyncIterator[str]:
        log.append("fake up")
        yield f"fake with {settings}"
        log.append("fake down")

    managed_fixture(name="settings")(lambda: "settings")
    async with isolation_barrier() as barrier:
        await barrier.afixture("b")
        log.clear()
        async with barrier.override("a", fake_a):
            assert await barrier.afixture("a") == "fake with settings"
            await barrier.afixture("b")
        assert log == ["fake up", "b up", "b down", "fake down"]
        with pytest.raises(GraphError, match="did you mean 'settings'"):
            barrier.override("setings", 1)


# --- L12: contaminated values -----------------------------------------------------------


def test_l12_a_changed_value_of_a_wide_fixture_is_restored_and_attributed() -> None:
    """In the same object, after the narrower barrier that did it, under its name."""
    managed_fixture(name="settings", scope="session")(lambda: {"region": "eu", "flags": ["a"]})
    with isolation_barrier(owner="session") as session:
        value = session.fixture("settings")
        with isolation_barrier(owner="test_polluter") as test:
            test.fixture("settings")["region"] = "us"
            value["flags"].append("b")
        assert value == {"region": "eu", "flags": ["a"]}
        assert session.fixture("settings") is value
    assert {(change.owner, change.restored) for change in test.changes} == {("test_polluter", True)}
    assert {change.path[:35] for change in test.changes} == {
        "barrier.fixture('settings')['region",
        "barrier.fixture('settings')['flags'",
    }
    assert session.clean


def test_l12_recreate_builds_it_anew_with_its_dependents(log: list[str]) -> None:
    """At the next use, and only when it was changed; what does not stand on it stays."""

    @managed_fixture(scope="session", on_contamination="recreate")
    def db() -> Iterator[dict[str, int]]:
        log.append("db up")
        yield {}
        log.append("db down")

    @managed_fixture(scope="session")
    def repo(db: dict[str, int]) -> Iterator[object]:
        log.append("repo up")
        yield object()
        log.append("repo down")

    managed_fixture(name="other", scope="session")(lambda: log.append("other up"))
    with isolation_barrier():
        with isolation_barrier() as clean:
            clean.fixtures.get_all(["repo", "other"])
        with isolation_barrier() as polluter:
            first = polluter.fixture("db")
            first["x"] = 1
        with isolation_barrier() as victim:
            assert victim.fixture("db") == {}
            assert victim.fixture("db") is not first
            victim.fixtures.get_all(["repo", "other"])
        assert log == ["db up", "repo up", "other up", "repo down", "db down", "db up", "repo up"]


def test_l12_report_leaves_the_value_as_it_is() -> None:
    """It is told once, under the name of who did it, and not by the barriers around."""
    managed_fixture(name="cache", scope="session", on_contamination="report")(lambda: {})
    with isolation_barrier(owner="session") as session:
        with isolation_barrier(owner="middle") as middle:
            with isolation_barrier(owner="test") as test:
                test.fixture("cache")["hit"] = 1
            assert session.fixture("cache") == {"hit": 1}
    assert [(change.path, change.restored) for change in test.changes] == [("barrier.fixture('cache')['hit']", False)]
    assert middle.changes == session.changes == ()


async def test_l12_mark_dirty_by_hand(log: list[str]) -> None:
    """Dependents go down first; asynchronous ones too."""
    chain(log, wide="session")
    async with isolation_barrier(), isolation_barrier() as barrier:
        await barrier.afixture("c")
        log.clear()
        barrier.fixtures.mark_dirty("b", "its connection is broken")
        await barrier.afixture("c")
        assert log == ["c down", "b down", "b up", "c up"]
        with pytest.raises(FixtureUseError, match=r"up are: \['a', 'b', 'c'\]"):
            barrier.fixtures.mark_dirty("d", "no")


# --- L13: isolation groups ------------------------------------------------------------


def test_l13_a_group_gets_fresh_instances_and_nesting_shadows(log: list[str]) -> None:
    """Also wide members are fresh inside each barrier of their group, with what stands on them."""

    @managed_fixture(scope="session", isolation_group="shop")
    def db() -> Iterator[object]:
        yield object()
        log.append("db down")

    managed_fixture(name="repo", scope="session")(lambda db: [db])
    managed_fixture(name="settings", scope="session")(lambda: object())
    with isolation_barrier() as outermost:
        settings = outermost.fixture("settings")
        with isolation_barrier("shop") as outer:
            db, repo = outer.fixture("db"), outer.fixture("repo")
            with isolation_barrier() as inner:
                assert inner.fixture("db") is db
                assert inner.fixture("repo") is repo
            with isolation_barrier("shop") as shadowing:
                assert shadowing.fixture("db") is not db
                assert shadowing.fixture("repo") is not repo
                assert shadowing.fixture("settings") is settings
            assert log == ["db down"]
            assert outer.fixture("db") is db
        assert log == ["db down", "db down"]
        assert outermost.fixture("repo") is not repo


# --- L14: dropped while open --------------------------------------------------------------


def test_l14_a_barrier_dropped_while_open_names_what_is_alive() -> None:
    """A ResourceWarning with the names of the fixtures that were never torn down."""

    @managed_fixture
    def db() -> Iterator[str]:
        yield "db"

    def forget() -> None:
        barrier = isolation_barrier(mode="off")
        barrier.__enter__()
        barrier.fixture("db")
        barrier._reset_context()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        forget()
        gc.collect()
    assert any("never cleaned up: 'db'" in str(each.message) for each in caught)
