"""What other tools were measured to get wrong, each as something that managed fixtures get right.

The numbers are those of the experiments on pytest, its asyncio plugins, unittest, exit stacks and
dependency injectors; what needs pytest is tested with the pytest adapter.
"""

from __future__ import annotations

import contextvars
import os
import sys
import time
import types
import unittest
from collections.abc import AsyncIterator, Iterator
from time import perf_counter
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from isolation_core import FixtureManager, isolation_barrier, managed_fixture
from isolation_core.errors import GraphError, SetupError, TeardownErrors, TeardownTimeout
from isolation_core.fixtures import FixtureRegistry, FixtureRequest, current_registry, use_registry

pytestmark = pytest.mark.anyio

number: contextvars.ContextVar[int] = contextvars.ContextVar("number")


@pytest.fixture(autouse=True)
def registry() -> Iterator[FixtureRegistry]:
    """Fixtures defined by one test are not there for the next."""
    with use_registry() as mine:
        yield mine


def leaves(error: BaseException) -> list[BaseException]:
    """Return what is in nested groups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


def test_e01_an_interrupt_in_one_teardown_drops_no_other() -> None:
    """KeyboardInterrupt in a function fixture: its siblings and the wide ones go down, then it is raised."""
    down: list[str] = []

    def define(name: str, scope: str, error: BaseException | None = None) -> None:
        def fixture() -> Iterator[None]:
            yield
            down.append(name)
            if error is not None:
                raise error

        managed_fixture(name=name, scope=scope)(fixture)

    define("m", "module")
    define("a", "function")
    define("b", "function", KeyboardInterrupt())
    manager = FixtureManager()
    with pytest.raises(KeyboardInterrupt), manager.scope("module"), manager.scope("function"):
        for name in ("m", "a", "b"):
            manager.get(name)
    assert down == ["b", "a", "m"]


def test_e02_a_cycle_and_a_misspelt_name_are_drawn_before_anything_runs() -> None:
    """One loop, drawn; one near name, not twenty-five."""
    managed_fixture(name="a")(lambda b: None)
    managed_fixture(name="b")(lambda c: None)
    managed_fixture(name="c")(lambda a, databse: None)
    managed_fixture(name="database")(lambda: None)
    for number_ in range(25):
        managed_fixture(name=f"other_{number_}")(lambda: None)
    with isolation_barrier() as barrier, pytest.raises(GraphError) as caught:
        barrier.fixture("a")
    cycle, missing = caught.value.problems
    assert cycle.nodes == ("a", "b", "c")
    assert "did you mean 'database'" in missing.message
    assert "other_" not in str(caught.value)


async def test_e03_a_wide_fixture_holds_a_task_group_across_tests() -> None:
    """Set-up, requests and teardown may be in different tasks of the runner; the fixture's own is one."""

    @managed_fixture(scope="session")
    async def group() -> AsyncIterator[anyio.abc.TaskGroup]:
        async with anyio.create_task_group() as tasks:
            yield tasks
            tasks.cancel_scope.cancel()

    seen: list[object] = []

    async with isolation_barrier(owner="session"):

        async def one_test() -> None:
            async with isolation_barrier() as test:
                tasks = await test.afixture("group")
                tasks.start_soon(anyio.sleep_forever)
                seen.append(tasks)

        for _ in range(2):
            async with anyio.create_task_group() as runner:
                runner.start_soon(one_test)
    assert seen[0] is seen[1]


def test_e04_a_context_variable_of_a_fixture_ends_with_its_barrier() -> None:
    """It reaches the test, and not the next one."""

    @managed_fixture
    def numbered() -> Iterator[None]:
        token = number.set(3)
        yield
        number.reset(token)

    for _ in range(2):
        assert number.get(None) is None
        with isolation_barrier() as barrier:
            barrier.fixture("numbered")
            assert number.get() == 3
    assert number.get(None) is None


@pytest.mark.parametrize("where", ["module", "class", "test"])
def test_e05_unittest_keeps_every_error_of_every_cleanup(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Two cleanups of a module fail, of which unittest's own module cleanups would keep the first."""

    def define(name: str, *needs: str) -> None:
        def fixture() -> Iterator[str]:
            yield name
            raise OSError(f"{name} broke")

        managed_fixture(name=name, scope="session", dependencies=needs)(fixture)

    define("first")
    define("second", "first")

    class Case(unittest.TestCase):
        def setUp(self) -> None:
            if where == "test":
                self.enterContext(isolation_barrier()).fixture("second")

        @classmethod
        def setUpClass(cls) -> None:
            if where == "class":
                cls.enterClassContext(isolation_barrier()).fixture("second")

        def test_it(self) -> None: ...

    def set_up() -> None:
        if where == "module":
            unittest.enterModuleContext(isolation_barrier()).fixture("second")

    module: Any = types.ModuleType("a_module_of_tests")
    module.setUpModule = set_up
    monkeypatch.setitem(sys.modules, "a_module_of_tests", module)
    Case.__module__ = "a_module_of_tests"
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    ((_, text),) = result.errors
    assert "first broke" in text
    assert "second broke" in text
    assert result.testsRun == 1


@pytest.mark.parametrize("fails", [False, True])
def test_e06_in_an_asynchronous_test_case_a_fixture_has_one_task_and_learns_of_the_error(fails: bool) -> None:
    """Each phase of the TestCase is a task of its own; the fixture holds a task group across them."""
    seen: list[object] = []
    tasks: list[int] = []

    @managed_fixture(sees_errors=True)
    async def group() -> AsyncIterator[anyio.abc.TaskGroup]:
        before = anyio.get_current_task().id
        async with anyio.create_task_group() as inner:
            try:
                yield inner
            except LookupError:
                seen.append(LookupError)
                raise
            finally:
                inner.cancel_scope.cancel()
                seen.append(anyio.get_current_task().id == before)

    class Case(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self) -> None:
            tasks.append(anyio.get_current_task().id)
            self.barrier = await self.enterAsyncContext(isolation_barrier())
            (await self.barrier.afixture("group")).start_soon(anyio.sleep_forever)

        async def test_it(self) -> None:
            tasks.append(anyio.get_current_task().id)
            async with isolation_barrier() as barrier:
                (await barrier.afixture("group")).start_soon(anyio.sleep_forever)
                if fails:
                    raise LookupError("the body")

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    assert len(result.errors) == fails, result.errors
    assert len(set(tasks)) == 2
    assert seen == ([LookupError] if fails else []) + [True, True]


@pytest.mark.parametrize("body_fails", [False, True])
async def test_e07_all_errors_of_all_cleanups_survive(body_fails: bool) -> None:
    """Five cleanups that fail are five leaves of one group, beside the error of the body."""
    for place in range(5):

        async def fixture(place: int = place) -> AsyncIterator[None]:
            yield
            await checkpoint()
            raise OSError(place)

        managed_fixture(name=f"fixture_{place}")(fixture)
    with pytest.raises(ExceptionGroup) as caught:
        async with isolation_barrier() as barrier:
            for place in range(5):
                await barrier.afixture(f"fixture_{place}")
            if body_fails:
                raise ValueError("body")
    found = leaves(caught.value)
    assert [str(each) for each in found] == [*(["body"] if body_fails else []), "4", "3", "2", "1", "0"]
    assert isinstance(caught.value.exceptions[-1] if body_fails else caught.value, TeardownErrors)


async def test_e08_all_async_cleanups_finish_under_cancellation() -> None:
    """Five of five, where an exit stack finishes none."""
    finished: list[int] = []
    for place in range(5):

        async def fixture(place: int = place) -> AsyncIterator[None]:
            yield
            await checkpoint()
            finished.append(place)

        managed_fixture(name=f"fixture_{place}")(fixture)
    with anyio.CancelScope() as scope:
        async with isolation_barrier() as barrier:
            for place in range(5):
                await barrier.afixture(f"fixture_{place}")
            scope.cancel()
            await checkpoint()
    assert finished == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("broken", [("second",), ("first", "second")])
def test_e09_one_error_and_two_have_one_shape_and_stop_no_cleanup(broken: tuple[str, ...]) -> None:
    """Always a group, one leaf for each that failed; the others have run."""
    down: list[str] = []

    def define(name: str) -> None:
        def fixture() -> Iterator[None]:
            yield
            down.append(name)
            if name in broken:
                raise OSError(name)

        managed_fixture(name=name)(fixture)

    with pytest.raises(TeardownErrors) as caught, isolation_barrier() as barrier:
        for name in ("last", "first", "second"):
            define(name)
            barrier.fixture(name)
    assert [str(each) for each in caught.value.exceptions] == [*reversed(broken)]
    assert all("while tearing down" in each.__notes__[0] for each in caught.value.exceptions)
    assert down == ["second", "first", "last"]


def test_e10_every_circle_is_told_and_what_is_missing_never_becomes_a_fixture() -> None:
    """Where graphlib names one circle and makes a node of an unknown name."""
    for name, needs in {"a": "b", "b": "a", "c": "d", "d": "c", "e": "nowhere"}.items():
        managed_fixture(name=name, dependencies=[needs])(lambda: None)
    with pytest.raises(GraphError) as caught:
        current_registry().resolve("a", "c", "e")
    assert sorted(problem.nodes for problem in caught.value.problems)[:2] == [("a", "b"), ("c", "d")]
    assert len(caught.value.problems) == 3
    managed_fixture(name="nowhere")(lambda: None)
    graph = current_registry().resolve("e")
    assert [node.name for node in graph.order] == ["nowhere", "e"]
    assert "a" not in graph


async def test_e11_no_fixture_waits_for_a_level() -> None:
    """The end of a chain comes up while the slow start of the other one still waits for it."""
    end = anyio.Event()

    @managed_fixture
    async def slow_start() -> None:
        await end.wait()

    @managed_fixture
    async def quick_start() -> None: ...

    @managed_fixture
    async def quick_end(quick_start: None) -> None:
        end.set()

    with anyio.fail_after(5):
        async with isolation_barrier(fixtures=["slow_start", "quick_end"], max_concurrency=2):
            pass


async def test_e12_variables_set_in_tasks_of_their_own_reach_dependents_and_body() -> None:
    """Concurrent set-ups run in copies of the context; what they set is replayed, and their tokens stay valid."""

    @managed_fixture
    async def numbered() -> AsyncIterator[None]:
        token = number.set(12)
        yield
        number.reset(token)

    @managed_fixture
    async def reader(numbered: None) -> int:
        return number.get()

    async with isolation_barrier(fixtures=["reader"], max_concurrency=4) as barrier:
        assert await barrier.afixture("reader") == number.get() == 12
    assert number.get(None) is None


async def test_e13_a_hang_beside_failures_and_a_task_group() -> None:
    """In one barrier: the hang hits its budget, both failures are there, the task group closes."""
    closed: list[str] = []

    @managed_fixture
    async def grouped() -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            yield
            group.cancel_scope.cancel()
        closed.append("grouped")

    def define(name: str, error: Exception | None, *needs: str) -> None:
        async def fixture() -> AsyncIterator[None]:
            yield
            if error is None:
                await anyio.sleep_forever()
            else:
                raise error

        managed_fixture(name=name, timeout=0.02, dependencies=["grouped", *needs])(fixture)

    define("first", OSError("first"))
    define("hangs", None, "first")
    define("second", OSError("second"), "hangs")
    with pytest.raises(TeardownErrors) as caught:
        async with isolation_barrier() as barrier:
            await barrier.afixture("second")
    assert [type(each) for each in caught.value.exceptions] == [OSError, TeardownTimeout, OSError]
    assert closed == ["grouped"]


def test_e14_a_sync_barrier_starts_no_event_loop() -> None:
    """Synchronous fixtures need none, so no thread is started."""
    import threading

    managed_fixture(name="plain")(lambda: threading.active_count())
    before = threading.active_count()
    with isolation_barrier() as barrier:
        assert barrier.fixture("plain") == before
        assert barrier._living()._portal is None


def test_e15_an_undo_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that raises is reported, and the environment variable beside it is put back."""
    monkeypatch.delenv("SHOP", raising=False)

    @managed_fixture
    def patched(request: FixtureRequest) -> None:
        os.environ["SHOP"] = "open"
        request.add_cleanup(lambda: os.environ.pop("SHOP"))
        request.add_cleanup(list[int]().pop)

    with pytest.raises(TeardownErrors) as caught, isolation_barrier() as barrier:
        barrier.fixture("patched")
    assert [type(each) for each in caught.value.exceptions] == [IndexError]
    assert "SHOP" not in os.environ


def test_e16_wide_fixtures_are_before_the_barrier_of_their_first_test_and_narrow_ones_in_it() -> None:
    """What the wide one sets stays for the next test; what the narrow one leaves is undone, by name."""

    @managed_fixture(scope="module")
    def wide() -> Iterator[None]:
        os.environ["WIDE"] = "kept"
        yield
        del os.environ["WIDE"]

    @managed_fixture
    def narrow(wide: None) -> None:
        os.environ["NARROW"] = os.environ["WIDE"]

    manager = FixtureManager()
    with manager.scope("module") as module:
        for owner in ("first", "second"):
            assert "NARROW" not in os.environ
            with manager.scope("function", owner) as test:
                manager.get("narrow")
                assert os.environ["NARROW"] == "kept"
            assert [(change.path, change.owner) for change in test.barrier.changes] == [("os.environ['NARROW']", owner)]
        assert os.environ["WIDE"] == "kept"
    assert module.barrier.clean
    assert "WIDE" not in os.environ


def test_e17_the_work_of_a_wide_fixture_that_comes_late_is_kept() -> None:
    """Asked for inside a test, it survives that test; the leak of the test beside it is undone."""

    @managed_fixture(scope="session")
    def late() -> Iterator[None]:
        os.environ["LATE"] = "kept"
        yield
        del os.environ["LATE"]

    manager = FixtureManager()
    with manager.scope("session") as session:
        with manager.scope("function", "test") as test:
            manager.get("late")
            os.environ["LEAKED"] = "undone"
        assert os.environ["LATE"] == "kept"
        assert "LEAKED" not in os.environ
    assert [change.path for change in test.barrier.changes] == ["os.environ['LEAKED']"]
    assert session.barrier.clean
    assert "LATE" not in os.environ


def test_e18_bodies_in_copied_contexts_leave_the_tokens_of_fixtures_valid() -> None:
    """A test that runs in a copy sees the variables of its fixtures, its own end with it, and each token resets."""

    @managed_fixture(scope="module")
    def wide() -> Iterator[None]:
        token = number.set(18)
        yield
        number.reset(token)

    @managed_fixture
    def narrow(wide: None) -> Iterator[None]:
        token = number.set(number.get() + 1)
        yield
        number.reset(token)

    def body() -> None:
        assert number.get() == 19
        number.set(0)

    manager = FixtureManager()
    with manager.scope("module"):
        for _ in range(2):
            with manager.scope("function"):
                manager.get("narrow")
                contextvars.copy_context().run(body)
                assert number.get() == 19
            assert number.get() == 18
    assert number.get(None) is None


def test_e19_fixtures_per_example() -> None:
    """Scopes below the function: fresh for each example, and wider ones shared by them."""
    managed_fixture(name="shared")(lambda: [])
    managed_fixture(name="fresh", scope="example")(lambda shared: shared.append(1) or [])
    manager = FixtureManager(mode="off")
    values = []
    with manager.scope("function"):
        for _ in range(3):
            with manager.scope("example"):
                values.append(manager.get("fresh"))
        assert manager.get("shared") == [1, 1, 1]
    assert len({id(value) for value in values}) == 3


def test_a_set_up_that_failed_is_raised_anew_each_time() -> None:
    """As a short exception caused by the first one, whose traceback does not grow."""

    @managed_fixture(scope="session")
    def broken() -> None:
        raise OSError("no")

    def depth(error: BaseException | None) -> int:
        count, traceback = 0, error.__traceback__ if error else None
        while traceback:
            count, traceback = count + 1, traceback.tb_next
        return count

    with isolation_barrier() as barrier:
        with pytest.raises(OSError, match="no") as first:
            barrier.fixture("broken")
        before = depth(first.value)
        for _ in range(5):
            with pytest.raises(SetupError) as again:
                barrier.fixture("broken")
            assert again.value.__cause__ is first.value
        assert depth(first.value) == before


async def test_a_blocking_cleanup_is_reported_when_it_took_too_long() -> None:
    """It cannot be interrupted, and is let finish."""

    @managed_fixture(timeout=0.005)
    def blocking() -> Iterator[None]:
        yield
        time.sleep(0.01)

    began = perf_counter()
    with pytest.raises(TeardownErrors) as caught:
        async with isolation_barrier() as barrier:
            await barrier.afixture("blocking")
    late: Any = caught.value.exceptions[0]
    assert isinstance(late, TeardownTimeout)
    assert not late.interrupted
    assert perf_counter() > began
