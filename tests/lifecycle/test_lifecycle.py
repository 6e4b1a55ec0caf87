"""The lifecycle: the numbered rules, for plain code, asyncio and trio."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from isolation_core._drive import current_task
from isolation_core.errors import (
    CleanupError,
    ConfigurationError,
    GraphError,
    LifecycleClosedError,
    SetupError,
    SetupTimeout,
    TeardownErrors,
    TeardownTimeout,
)
from isolation_core.graph import DependencyGraph, Node
from isolation_core.lifecycle import Lifecycle

# --- helpers -----------------------------------------------------------------


class Barrier:
    """The protocol around a lifecycle, as a barrier follows it."""

    def __init__(self, life: Lifecycle, names: list[str] | None = None) -> None:
        self.life = life
        self.names = names

    def __enter__(self) -> Lifecycle:
        self.life.set_up(self.names)
        return self.life

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.life.tear_down(error)

    async def __aenter__(self) -> Lifecycle:
        await self.life.aset_up(self.names)
        return self.life

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self.life.atear_down(error)


Play = Callable[..., Lifecycle]


@pytest.fixture(params=["sync", "asyncio", "trio", "asyncio-4", "trio-4"])
def play(request: pytest.FixtureRequest) -> Play:
    """Return a function that runs nodes, and a body, in one of the five ways there are."""
    backend, _, concurrency = request.param.partition("-")

    def run(*nodes: Node, body: Callable[[Lifecycle], object] | None = None, **options: Any) -> Lifecycle:
        life = Lifecycle(DependencyGraph(nodes), owner="the test", max_concurrency=int(concurrency or 1), **options)
        if backend == "sync":
            with Barrier(life):
                if body is not None:
                    body(life)
            return life

        async def main() -> None:
            async with Barrier(life):
                if body is not None:
                    body(life)

        anyio.run(main, backend=backend)
        return life

    return run


def make(name: str, *needs: str, log: list[str], shape: str = "generator", **fields: Any) -> Node:
    """Return a node that writes down when it comes up and goes down."""

    def blocking(**_: object) -> Iterator[str]:
        log.append(f"+{name}")
        yield name
        log.append(f"-{name}")

    async def awaiting(**_: object) -> AsyncIterator[str]:
        await anyio.lowlevel.checkpoint()
        log.append(f"+{name}")
        yield name
        await anyio.lowlevel.checkpoint()
        log.append(f"-{name}")

    async def value(**_: object) -> str:
        await anyio.lowlevel.checkpoint()
        log.append(f"+{name}")
        return name

    def plain(**_: object) -> str:
        log.append(f"+{name}")
        return name

    shapes: dict[str, Callable[..., Any]] = {
        "generator": blocking,
        "context manager": contextmanager(blocking),
        "async generator": awaiting,
        "async context manager": asynccontextmanager(awaiting),
        "async": value,
        "plain": plain,
    }
    return Node(name, shapes[shape], dependencies=needs, **fields)


def fail(error: BaseException) -> Callable[[], None]:
    """Return a cleanup that raises *error*."""

    def failing() -> None:
        raise error

    return failing


def notes_of(error: BaseException) -> str:
    """Return the notes of *error* as one text."""
    return "\n".join(getattr(error, "__notes__", ()))


def leaves(error: BaseException | None) -> Iterator[BaseException]:
    """Yield what is inside of groups."""
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from leaves(member)
    elif error is not None:
        yield error


# --- before the first set-up ------------------------------------------


class TestBeforeSetUp:
    def test_nothing_starts_in_a_broken_graph(self, play: Play) -> None:
        """The whole graph is validated before the first set-up, also where only a part of it is wrong."""
        log: list[str] = []
        with pytest.raises(GraphError) as caught:
            play(make("a", log=log), make("b", "missing", log=log), make("c", "c", log=log))
        assert [problem.code for problem in caught.value.problems] == ["ISO001", "ISO002"]
        assert log == []

    def test_cleanups_run_when_the_graph_is_broken(self) -> None:
        """Cleanups registered before the set-up run even if the set-up never starts."""
        log: list[str] = []
        life = Lifecycle(DependencyGraph([make("a", "a", log=log)]))
        life.add_cleanup(lambda: log.append("cleaned"))
        with pytest.raises(GraphError):
            life.set_up()
        assert log == ["cleaned"]

    def test_set_up_in_the_order_of_the_graph(self) -> None:
        """Without concurrency, nodes are set up in the order of `DependencyGraph.order`."""
        log: list[str] = []
        nodes = [
            make("late", log=log),
            make("urgent", "needed", log=log, priority=9),
            make("needed", log=log),
            make("wide", log=log, scope="session"),
        ]
        with Barrier(Lifecycle(DependencyGraph(nodes))):
            assert log == ["+wide", "+late", "+needed", "+urgent"]

    def test_unknown_name(self) -> None:
        """Asking for a node that is not there suggests one that is."""
        life = Lifecycle(DependencyGraph([make("db", log=[])]))
        with pytest.raises(GraphError, match="did you mean 'db'"):
            life.set_up(["bd"], late=True)
        life.tear_down()

    def test_max_concurrency_is_checked(self) -> None:
        """Less than one node at a time is an error."""
        with pytest.raises(ConfigurationError, match="max_concurrency is 0"):
            Lifecycle(max_concurrency=0)


# --- every shape ----------------------------------------------------------


class TestShapes:
    @pytest.mark.parametrize(
        "shape", ["plain", "generator", "context manager", "async", "async generator", "async context manager"]
    )
    def test_every_shape_has_a_value_and_is_torn_down(self, play: Play, shape: str) -> None:
        """Whatever the shape of the factory, its value reaches the body and its teardown runs."""
        log: list[str] = []
        seen = []
        node = make("a", log=log, shape=shape)
        assert node.kind == shape
        play(node, body=lambda life: seen.append(life.values["a"]))
        assert seen == ["a"]
        assert log == (["+a", "-a"] if shape not in {"plain", "async"} else ["+a"])

    def test_values_are_passed_by_parameter(self, play: Play) -> None:
        """A node gets the values of what it needs under the names of its parameters."""

        def base() -> int:
            return 20

        async def more(base: int) -> int:
            return base + 1

        def total(number: int, base: int) -> int:
            return number + base

        seen = []
        node = Node("total", total, dependencies=["more", "base"], arguments=[("number", "more"), ("base", "base")])
        play(Node.of(base), Node.of(more), node, body=lambda life: seen.append(life.values["total"]))
        assert seen == [41]

    def test_a_second_yield_is_an_error(self, play: Play) -> None:
        """A factory that yields twice is reported, and is closed."""
        closed = []

        def twice() -> Iterator[None]:
            try:
                yield
                yield
            finally:
                closed.append(True)

        with pytest.raises(TeardownErrors) as caught:
            play(Node.of(twice))
        assert "yielded a second time" in str(caught.value.exceptions[0])
        assert closed == [True]

    def test_no_yield_is_an_error(self, play: Play) -> None:
        """A generator that ends without a value is a set-up error naming it."""

        async def empty() -> AsyncIterator[None]:
            for _ in ():
                yield

        with pytest.raises(SetupError, match="'empty' ended without a yield") as caught:
            play(Node.of(empty))
        assert caught.value.node == "empty"

    def test_sees_errors(self, play: Play) -> None:
        """The error of the body is thrown into a node with `sees_errors`; re-raising it is not an error of the node."""
        seen: list[BaseException] = []

        def watcher() -> Iterator[None]:
            try:
                yield
            except ValueError as error:
                seen.append(error)
                raise

        async def awatcher() -> AsyncIterator[None]:
            try:
                yield
            except ValueError as error:
                seen.append(error)

        error = ValueError("body")
        nodes = Node.of(watcher, sees_errors=True), Node.of(awatcher, sees_errors=True)
        with pytest.raises(ValueError, match="body") as caught:
            play(*nodes, body=lambda _: fail(error)())
        assert caught.value is error
        assert seen == [error, error]

    def test_errors_are_not_thrown_in_otherwise(self, play: Play) -> None:
        """Code after a bare yield runs although the body has failed."""
        log: list[str] = []
        with pytest.raises(ValueError, match="body"):
            play(
                make("a", log=log),
                make("b", log=log, shape="async generator"),
                body=lambda _: fail(ValueError("body"))(),
            )
        assert log[2:] in (["-b", "-a"], ["-a", "-b"])


# --- concurrency ----------------------------------------------------------


def chains(*, crosswise: bool, log: list[str]) -> DependencyGraph:
    """Return two chains, each of which waits in the middle of its work for what comes last in the other."""
    reached = {"a": anyio.Event(), "b": anyio.Event()}

    def link(name: str, *needs: str, waits_for: str | None = None, tells: str | None = None) -> Node:
        async def work(**_: object) -> AsyncIterator[None]:
            if tells and not crosswise:
                reached[tells].set()
            if waits_for and not crosswise:
                await reached[waits_for].wait()
            log.append(f"+{name}")
            yield
            if tells and crosswise:
                reached[tells].set()
            if waits_for and crosswise:
                await reached[waits_for].wait()
            log.append(f"-{name}")

        return Node(name, work, dependencies=needs, arguments=())

    if crosswise:
        # At teardown a1 is reached while b2, which is on the level above it, still waits.
        return DependencyGraph([link("a1", tells="a"), link("a2", "a1"), link("b1"), link("b2", "b1", waits_for="a")])
    return DependencyGraph([link("a1"), link("a2", "a1", tells="a"), link("b1", waits_for="a"), link("b2", "b1")])


@pytest.mark.anyio
class TestConcurrency:
    async def test_set_up_as_soon_as_ready(self) -> None:
        """A node starts when what it needs is up, while others of the level below still work."""
        log: list[str] = []
        with anyio.fail_after(30):
            async with Barrier(Lifecycle(chains(crosswise=False, log=log), max_concurrency=4)):
                assert log.index("+a2") < log.index("+b1")

    async def test_teardown_as_soon_as_free(self) -> None:
        """A node goes down when its dependents are down, while others of the level above still work."""
        log: list[str] = []
        with anyio.fail_after(30):
            async with Barrier(Lifecycle(chains(crosswise=True, log=log), max_concurrency=4)):
                pass
        assert sorted(log[4:]) == ["-a1", "-a2", "-b1", "-b2"]

    @pytest.mark.parametrize("limit", [1, 2, 3])
    async def test_no_more_than_allowed(self, limit: int) -> None:
        """Never more nodes than max_concurrency are at work, in set-up and in teardown, but as many."""
        now, most = 0, 0

        async def work() -> None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            now -= 1

        async def busy() -> AsyncIterator[None]:
            await work()
            yield
            await work()

        graph = DependencyGraph([Node(f"n{number}", busy) for number in range(7)])
        async with Barrier(Lifecycle(graph, max_concurrency=limit)):
            assert most == limit
            most = 0
        assert most == limit

    async def test_pinned_nodes_work_alone(self) -> None:
        """While a node with concurrent=False works, no other one does."""
        working: set[str] = set()

        def node(name: str, *, concurrent: bool) -> Node:
            async def work() -> None:
                working.add(name)
                for _ in range(3):
                    assert concurrent or working == {name}
                    assert not working & {"pinned", "pinned too"} or len(working) == 1
                    await anyio.lowlevel.checkpoint()
                working.remove(name)

            async def busy() -> AsyncIterator[None]:
                await work()
                yield
                await work()

            return Node(name, busy, concurrent=concurrent)

        names = ["a", "pinned", "b", "c", "pinned too", "d"]
        graph = DependencyGraph([node(name, concurrent="pinned" not in name) for name in names])
        async with Barrier(Lifecycle(graph, max_concurrency=4)):
            pass

    async def test_failure_cancels_what_is_in_flight(self) -> None:
        """The first failure cancels running set-ups, starts nothing new and tears down what is up."""
        log: list[str] = []
        events: list[tuple[str, str]] = []

        async def slow() -> AsyncIterator[None]:
            try:
                await anyio.sleep_forever()
                yield
            finally:
                log.append("slow cancelled")

        async def broken(first: object) -> None:
            raise ValueError("broken")

        graph = DependencyGraph(
            [
                make("first", log=log, shape="async generator"),
                Node.of(slow),
                Node.of(broken),
                make("dependent", "broken", log=log),
                make("bystander", "slow", log=log),
            ]
        )

        def on_event(event: str, **fields: Any) -> None:
            if event == "node_skipped":
                events.append((fields["node"], fields["reason"]))

        life = Lifecycle(graph, max_concurrency=2, on_event=on_event)
        with pytest.raises(ValueError, match="broken") as caught:
            await life.aset_up()
        assert log == ["+first", "slow cancelled", "-first"]
        assert "skipped, because they need it: 'dependent'" in notes_of(caught.value)
        reasons = life.skipped()
        assert dict(events) == reasons
        assert reasons["dependent"] == "it needs 'broken', whose set-up failed: ValueError"
        assert reasons["bystander"] == "nothing new was started after the set-up of 'broken' failed"
        assert reasons["slow"] == "its set-up was cancelled, because another one failed"

    async def test_failures_at_the_same_time_are_all_kept(self) -> None:
        """When a set-up that is being cancelled fails too, both errors are raised."""

        async def stubborn() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                raise KeyError("stubborn")

        async def broken() -> None:
            await anyio.lowlevel.checkpoint()
            raise ValueError("broken")

        graph = DependencyGraph([Node.of(stubborn), Node.of(broken)])
        with pytest.raises(ExceptionGroup, match="2 set-ups failed") as caught:
            await Lifecycle(graph, max_concurrency=2).aset_up()
        assert {type(error) for error in caught.value.exceptions} == {KeyError, ValueError}

    async def test_an_interrupt_among_failures(self) -> None:
        """An interrupt of a set-up comes out as itself, the other failures as its cause."""

        async def stubborn() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                raise KeyError("stubborn")

        async def interrupted() -> None:
            await anyio.lowlevel.checkpoint()
            raise KeyboardInterrupt

        graph = DependencyGraph([Node.of(stubborn), Node.of(interrupted)])
        with pytest.raises(KeyboardInterrupt) as caught:
            await Lifecycle(graph, max_concurrency=2).aset_up()
        assert isinstance(caught.value.__cause__, ExceptionGroup)
        assert isinstance(caught.value.__cause__.exceptions[0], KeyError)

    async def test_set_up_that_wins_the_race_is_torn_down(self) -> None:
        """A set-up that succeeds although it was being cancelled is torn down with everything else."""
        log: list[str] = []

        async def stubborn() -> AsyncIterator[None]:
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                pass
            yield
            await anyio.lowlevel.checkpoint()
            log.append("torn down")

        async def broken() -> None:
            raise ValueError("broken")

        with pytest.raises(ValueError, match="broken"):
            await Lifecycle(DependencyGraph([Node.of(stubborn), Node.of(broken)]), max_concurrency=2).aset_up()
        assert log == ["torn down"]


# --- tasks ----------------------------------------------------------------


class TestTasks:
    def test_sync_never_touches_an_event_loop(self) -> None:
        """A synchronous lifecycle does not even import asyncio or anyio."""
        script = textwrap.dedent(
            """
            import sys
            from isolation_core.graph import DependencyGraph, Node
            from isolation_core.lifecycle import Lifecycle
            def a():
                yield 1
            life = Lifecycle(DependencyGraph([Node.of(a)]))
            life.set_up()
            life.add_cleanup(lambda: None)
            life.tear_down()
            print(sorted({"asyncio", "anyio", "trio", "concurrent.futures"} & set(sys.modules)))
            """
        )
        command = [sys.executable, "-c", script]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"

    def test_set_up_and_teardown_in_one_task(self, play: Play) -> None:
        """In every mode a node is torn down by the task that set it up."""
        tasks: list[object] = []

        async def node() -> AsyncIterator[None]:
            tasks.append(current_task())
            await anyio.lowlevel.checkpoint()
            yield
            tasks.append(current_task())

        play(Node.of(node))
        assert tasks[0] is tasks[1]

    @pytest.mark.anyio
    async def test_sequential_spawns_nothing(self) -> None:
        """Without concurrency the task of the barrier does everything."""
        tasks: list[object] = []

        async def node() -> AsyncIterator[None]:
            tasks.append(current_task())
            yield
            tasks.append(current_task())

        async with Barrier(Lifecycle(DependencyGraph([Node.of(node)]))):
            pass
        assert tasks == [current_task()] * 2

    def test_a_node_may_hold_a_task_group(self, play: Play) -> None:
        """A task group opened in a set-up is closed in the teardown, with others above and below it."""
        log: list[str] = []

        async def group(below: object) -> AsyncIterator[None]:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                log.append("+group")
                yield
                await anyio.lowlevel.checkpoint()
                log.append("-group")
                tasks.cancel_scope.cancel()

        async def scope(group: object) -> AsyncIterator[None]:
            with anyio.CancelScope():
                log.append("+scope")
                yield
                await anyio.lowlevel.checkpoint()
                log.append("-scope")

        play(
            make("below", log=log, shape="async generator"),
            Node.of(group, timeout=60),
            Node.of(scope),
            make("above", "scope", log=log, shape="async generator"),
        )
        assert log == ["+below", "+group", "+scope", "+above", "-above", "-scope", "-group", "-below"]

    @pytest.mark.anyio
    async def test_late_node_inside_a_scope_of_the_body(self) -> None:
        """The body may ask for a node inside a cancel scope that ends before the node does."""
        log: list[str] = []
        graph = DependencyGraph([make("late", log=log, shape="async context manager")])
        async with Barrier(Lifecycle(graph), names=[]) as life:
            with anyio.CancelScope():
                async with anyio.create_task_group():
                    await life.aset_up(["late"], late=True)
                    assert life.values["late"] == "late"
            assert log == ["+late"]
        assert log == ["+late", "-late"]

    @pytest.mark.anyio
    async def test_late_node_from_several_tasks(self) -> None:
        """Tasks that ask for one node at the same time get one node."""
        log: list[str] = []
        graph = DependencyGraph([make("late", log=log, shape="async generator")])
        async with Barrier(Lifecycle(graph), names=[]) as life, anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(lambda: life.aset_up(["late"], late=True))
        assert log == ["+late", "-late"]

    @pytest.mark.anyio
    async def test_late_set_up_that_is_cancelled(self) -> None:
        """Cancelling a late set-up ends it and leaves the rest up; it may be asked for again."""
        log: list[str] = []

        ready = anyio.Event()

        async def slow(first: object) -> AsyncIterator[str]:
            try:
                await ready.wait()
                yield "slow"
            finally:
                log.append("slow ended")

        first = make("first", log=log, shape="async generator")
        graph = DependencyGraph([first, Node.of(slow), Node("user", print, dependencies=["slow"])])
        async with Barrier(Lifecycle(graph), names=[]) as life:
            with anyio.move_on_after(0.01):
                await life.aset_up(["user"], late=True)
            assert log == ["+first", "slow ended"]
            assert "first" in life.values
            assert list(life.skipped()) == ["user"]
            ready.set()
            await life.aset_up(["slow"], late=True)
            assert life.values["slow"] == "slow"
        assert log[2:] == ["slow ended", "-first"]

    @pytest.mark.anyio
    async def test_late_set_up_of_every_shape(self) -> None:
        """Whatever its shape, a late node is up for the body and down after it; failing, it leaves the rest up."""
        log: list[str] = []

        async def broken(value: object) -> AsyncIterator[None]:
            raise ValueError("broken")
            yield

        shapes = {"plain": "generator", "value": "async", "held": "async generator"}
        nodes = [make(name, log=log, shape=shape) for name, shape in shapes.items()]
        graph = DependencyGraph([*nodes, Node.of(broken)])
        async with Barrier(Lifecycle(graph), names=[]) as life:
            await life.aset_up(shapes, late=True)
            with pytest.raises(ValueError, match="broken"):
                await life.aset_up(["broken"], late=True)
            with pytest.raises(SetupError, match="failed before"):
                await life.aset_up(["broken"], late=True)
            assert life.values == {"plain": "plain", "value": "value", "held": "held"}
        assert log == ["+plain", "+value", "+held", "-held", "-plain"]

    @pytest.mark.anyio
    async def test_waiting_for_a_late_node_that_fails(self) -> None:
        """Of two tasks that ask for a node that fails, one gets the error and the other one that names it."""

        async def broken() -> None:
            await anyio.lowlevel.checkpoint()
            raise ValueError("broken")

        raised: list[type[BaseException]] = []
        async with Barrier(Lifecycle(DependencyGraph([Node.of(broken)])), names=[]) as life:

            async def ask() -> None:
                with pytest.raises((ValueError, SetupError)) as caught:
                    await life.aset_up(["broken"], late=True)
                raised.append(caught.type)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                tasks.start_soon(ask)
        assert raised == [ValueError, SetupError]

    def test_late_set_up_in_plain_code(self) -> None:
        """A late set-up in a synchronous body goes down before what was up already; a failure leaves the rest up."""
        log: list[str] = []

        def broken() -> None:
            raise ValueError("broken")

        graph = DependencyGraph([make("early", log=log), make("late", log=log), Node.of(broken)])
        with Barrier(Lifecycle(graph), names=["early"]) as life:
            life.add_cleanup(lambda: log.append("cleanup"))
            life.set_up(["late"], late=True)
            with pytest.raises(ValueError, match="broken"):
                life.set_up(["broken"], late=True)
        assert log == ["+early", "+late", "-late", "cleanup", "-early"]

    def test_a_failure_is_remembered(self) -> None:
        """Asking again for a node that failed raises a new short error caused by the first one."""
        calls = []

        def broken() -> None:
            calls.append(1)
            raise ValueError("broken")

        graph = DependencyGraph([Node.of(broken), make("user", "broken", log=[])])
        with Barrier(Lifecycle(graph), names=[]) as life:
            with pytest.raises(ValueError, match="broken") as first:
                life.set_up(["broken"], late=True)
            with pytest.raises(SetupError, match="'broken' failed before: ValueError: broken") as second:
                life.set_up(["user"], late=True)
            assert second.value.__cause__ is first.value
        assert calls == [1]

    @pytest.mark.anyio
    async def test_own_task_keeps_the_background_from_outside_cancellation(self) -> None:
        """With own_task the server of a node still answers its teardown after the body was cancelled."""
        log: list[str] = []

        async def server() -> AsyncIterator[None]:
            async def serve() -> None:
                await asked.wait()
                answered.set()

            asked, answered = anyio.Event(), anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(serve)
                yield
                asked.set()
                await answered.wait()
                log.append("said goodbye")

        with anyio.move_on_after(0.01):
            async with Barrier(Lifecycle(DependencyGraph([Node.of(server, own_task=True)]))):
                await anyio.sleep_forever()
        assert log == ["said goodbye"]

    def test_torn_down_in_another_task(self) -> None:
        """A runner that opens and closes in two tasks of one asyncio loop still gets every cleanup."""
        log: list[str] = []
        life = Lifecycle(DependencyGraph([make("a", log=log, shape="async generator"), make("b", log=log)]))
        with asyncio.Runner() as runner:
            runner.run(life.aset_up())
            runner.run(life.atear_down())
        assert log == ["+a", "+b", "-b", "-a"]

    def test_set_up_in_a_loop_and_torn_down_without(self) -> None:
        """Tearing down without the event loop that is needed is an error that says so, and skips only that."""
        log: list[str] = []
        life = Lifecycle(DependencyGraph([make("plain", log=log), make("a", log=log, shape="async generator")]))
        asyncio.run(life.aset_up())
        with pytest.raises(TeardownErrors) as caught:
            life.tear_down()
        assert "leave the barrier with `async with`" in str(caught.value.exceptions[0])
        assert log == ["+plain", "+a", "-plain"]


# --- order of teardown ----------------------------------------------------


class TestTeardownOrder:
    def test_dependents_first(self, play: Play) -> None:
        """A node goes down after all its dependents, in every mode."""
        log: list[str] = []
        play(
            make("root", log=log, shape="async generator"),
            make("left", "root", log=log),
            make("right", "root", log=log, shape="async context manager"),
            make("top", "left", "right", log=log, shape="async generator"),
        )
        down = log[4:]
        assert down[0] == "-top"
        assert down[-1] == "-root"

    def test_else_reverse_order_of_completion(self) -> None:
        """Of nodes that are free, the one that came up last goes down first."""
        log: list[str] = []
        with Barrier(Lifecycle(DependencyGraph([make(name, log=log) for name in "abc"]))):
            pass
        assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]

    @pytest.mark.anyio
    async def test_completion_counts_not_the_start(self) -> None:
        """With concurrency it is the end of the set-up that decides."""
        log: list[str] = []
        ready = anyio.Event()

        async def slow() -> AsyncIterator[None]:
            await ready.wait()
            log.append("+slow")
            yield
            log.append("-slow")

        async def quick() -> AsyncIterator[None]:
            log.append("+quick")
            ready.set()
            yield
            log.append("-quick")

        life = Lifecycle(DependencyGraph([Node.of(slow), Node.of(quick)]), max_concurrency=2)
        async with Barrier(life):
            life.max_concurrency = 1
        assert log == ["+quick", "+slow", "-slow", "-quick"]


# --- cleanups -----------------------------------------------------------------


class TestCleanups:
    def test_newest_first_between_nodes(self, play: Play) -> None:
        """A cleanup runs after what came up later, and before everything that was up already."""
        log: list[str] = []

        def body(life: Lifecycle) -> None:
            life.add_cleanup(lambda: log.append("first"))
            life.add_cleanup(lambda: log.append("second"))

        play(make("a", log=log, shape="async generator"), make("b", log=log), body=body)
        assert log[2:4] == ["second", "first"]
        assert sorted(log[4:]) == ["-a", "-b"]

    @pytest.mark.anyio
    async def test_a_late_node_goes_down_before_older_cleanups(self) -> None:
        """With concurrency, too, a cleanup waits for what came up after it and holds back what came before."""
        log: list[str] = []
        graph = DependencyGraph([make(name, log=log, shape="async generator") for name in ("early", "late")])
        async with Barrier(Lifecycle(graph, max_concurrency=4), names=["early"]) as life:
            life.add_cleanup(lambda: log.append("cleanup"))
            await life.aset_up(["late"], late=True)
        assert log == ["+early", "+late", "-late", "cleanup", "-early"]

    def test_any_callable_will_do(self, play: Play) -> None:
        """Plain callables, coroutine functions, and callables that return something to await are cleanups."""
        log: list[str] = []

        async def close(name: str = "function") -> None:
            await anyio.lowlevel.checkpoint()
            log.append(name)

        class Closer:
            def __call__(self) -> None:
                log.append("object")

        def body(life: Lifecycle) -> None:
            life.add_cleanup(close)
            life.add_cleanup(lambda: close("lambda"))
            life.add_cleanup(Closer())

            @life.add_cleanup
            def decorated() -> None:
                log.append("decorated")

        play(body=body)
        assert log == ["decorated", "object", "lambda", "function"]

    def test_a_cleanup_may_register_another(self, play: Play) -> None:
        """A cleanup that is registered by a cleanup runs next."""
        log: list[str] = []

        def body(life: Lifecycle) -> None:
            life.add_cleanup(lambda: log.append("oldest"))
            life.add_cleanup(lambda: life.add_cleanup(lambda: log.append("registered late")))

        play(body=body)
        assert log == ["registered late", "oldest"]

    def test_after_the_end(self, play: Play) -> None:
        """Nothing can be set up or registered after the teardown, and a second teardown does nothing."""
        life = play()
        assert not life.is_open
        with pytest.raises(LifecycleClosedError, match="cannot register a cleanup: the test has been torn down"):
            life.add_cleanup(lambda: None)
        with pytest.raises(LifecycleClosedError, match="cannot set anything up"):
            life.set_up()
        life.tear_down()

    def test_not_while_it_ends(self) -> None:
        """A cleanup cannot set nodes up."""
        life = Lifecycle(DependencyGraph([make("a", log=[])]))
        life.add_cleanup(life.set_up)
        with pytest.raises(TeardownErrors) as caught:
            life.tear_down()
        assert isinstance(caught.value.exceptions[0], LifecycleClosedError)


# --- every cleanup runs ---------------------------------------------------


class TestEveryCleanupRuns:
    def test_after_errors(self, play: Play) -> None:
        """Cleanups that fail do not keep others from running."""
        log: list[str] = []

        def body(life: Lifecycle) -> None:
            for number in range(5):
                life.add_cleanup(lambda number=number: log.append(str(number)))
                life.add_cleanup(fail(ValueError(number)))

        with pytest.raises(TeardownErrors) as caught:
            play(make("a", log=log), body=body)
        assert log == ["+a", "4", "3", "2", "1", "0", "-a"]
        assert [error.args for error in caught.value.exceptions] == [(4,), (3,), (2,), (1,), (0,)]

    @pytest.mark.anyio
    async def test_after_the_body_was_cancelled(self) -> None:
        """Cancelled by a scope, all asynchronous cleanups finish: an exit stack finishes none of them."""
        done = []

        async def close() -> None:
            await anyio.sleep(0.001)
            done.append(1)

        with anyio.CancelScope() as scope:
            async with Barrier(Lifecycle()) as life:
                for _ in range(5):
                    life.add_cleanup(close)
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert len(done) == 5

    @pytest.mark.parametrize("requests", [1, 3])
    def test_after_native_cancellation(self, requests: int) -> None:
        """Cancelled through its asyncio task, however often and also in the middle, all cleanups finish."""
        done = []

        async def close() -> None:
            await asyncio.sleep(0.01)
            done.append(1)

        async def body(started: asyncio.Event) -> None:
            async with Barrier(Lifecycle()) as life:
                for _ in range(3):
                    life.add_cleanup(close)
                started.set()
                await asyncio.sleep(60)

        async def main() -> None:
            started = asyncio.Event()
            task = asyncio.create_task(body(started))
            await started.wait()
            for _ in range(requests):
                task.cancel()
                await asyncio.sleep(0.005)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()
            assert task.cancelling() == requests

        asyncio.run(main())
        assert len(done) == 3

    def test_asyncio_timeout_in_the_teardown(self) -> None:
        """A timeout of asyncio that strikes in the teardown waits for it, and is still one."""
        done = []

        async def close() -> None:
            await asyncio.sleep(0.03)
            done.append(1)

        async def main() -> None:
            life = Lifecycle()
            life.add_cleanup(close)
            life.add_cleanup(close)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await life.atear_down()
            await asyncio.sleep(0)
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0

        asyncio.run(main())
        assert len(done) == 2

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_after_an_interrupt(self, play: Play, kind: type[BaseException]) -> None:
        """An interrupt in a cleanup is remembered and raised last, with everything else as its cause."""
        log: list[str] = []
        interrupt = kind("now")

        def body(life: Lifecycle) -> None:
            life.add_cleanup(fail(ValueError("later")))
            life.add_cleanup(fail(interrupt), name="stopped")

        with pytest.raises(kind) as caught:
            play(make("a", log=log, shape="async generator"), make("b", log=log), body=body)
        assert caught.value is interrupt
        assert isinstance(interrupt.__cause__, TeardownErrors)
        assert "'stopped'" in notes_of(interrupt)
        assert sorted(log[2:]) == ["-a", "-b"]

    def test_interrupt_in_the_body(self, play: Play) -> None:
        """An interrupt in the body comes out as itself, cleanup errors as its cause; its own cause is kept."""
        interrupt = KeyboardInterrupt()
        interrupt.__cause__ = reason = ValueError("the reason")

        def body(life: Lifecycle) -> None:
            life.add_cleanup(fail(KeyError("cleanup")))
            raise interrupt

        with pytest.raises(KeyboardInterrupt) as caught:
            play(body=body)
        assert caught.value is interrupt
        assert caught.value.__cause__ is reason
        assert isinstance(reason.__cause__, TeardownErrors)

    def test_a_second_interrupt_shortens_the_rest(self) -> None:
        """After two interrupts each remaining cleanup has a grace second at most."""
        life = Lifecycle(timeout=60)
        began = time.monotonic()

        async def hang() -> None:
            await anyio.sleep(30)

        for cleanup in (hang, fail(KeyboardInterrupt(2)), fail(KeyboardInterrupt(1))):
            life.add_cleanup(cleanup)
        with pytest.raises(KeyboardInterrupt) as caught:
            life.tear_down()
        assert caught.value.args == (1,)
        assert time.monotonic() - began < 20
        cause = caught.value.__cause__
        assert isinstance(cause, BaseExceptionGroup)
        second, group = cause.exceptions
        assert second.args == (2,)
        assert isinstance(group, TeardownErrors)
        assert isinstance(group.exceptions[0], TeardownTimeout)
        assert group.exceptions[0].timeout == 1.0

    def test_test_outcomes_are_leaves(self, play: Play) -> None:
        """An error that is neither an `Exception` nor an interrupt, such as pytest's `Failed`, is wrapped and kept."""
        with pytest.raises(TeardownErrors) as caught:
            play(body=lambda life: life.add_cleanup(lambda: pytest.fail("not empty")))
        (leaf,) = caught.value.exceptions
        assert isinstance(leaf, CleanupError)
        assert isinstance(leaf.__cause__, pytest.fail.Exception)
        assert "not empty" in str(leaf)

    def test_closing_a_generator_that_holds_a_barrier(self) -> None:
        """A generator that is closed runs its cleanups, and closing it reports only their errors."""

        def holder() -> Iterator[None]:
            with Barrier(Lifecycle()) as life:
                life.add_cleanup(fail(ValueError("cleanup")))
                yield

        generator = holder()
        next(generator)
        with pytest.raises(TeardownErrors):
            generator.close()  # type: ignore[attr-defined]


# --- errors ---------------------------------------------------------------


class TestErrors:
    def test_one_error_is_a_group_too(self, play: Play) -> None:
        """Cleanup errors come as one TeardownErrors, however many there are."""
        with pytest.raises(TeardownErrors, match="1 cleanup failed after the test") as caught:
            play(body=lambda life: life.add_cleanup(fail(ValueError("one"))))
        assert len(caught.value.exceptions) == 1

    def test_each_leaf_says_whose_it_is(self, play: Play) -> None:
        """A leaf names its node, scope, place of definition, for whom it was set up and who used it."""

        def db() -> Iterator[None]:
            yield
            raise ValueError("db")

        async def cache(db: object) -> AsyncIterator[None]:
            async with anyio.create_task_group():
                yield
                raise ValueError("in a group")

        def closing() -> None:
            raise ValueError("closing")

        def body(life: Lifecycle) -> None:
            life.record_use("db", "test_one")
            life.add_cleanup(closing, name="pool")

        with pytest.raises(TeardownErrors) as caught:
            play(Node.of(db, scope="module"), Node.of(cache), body=body)
        pool, grouped, plain = caught.value.exceptions
        line = closing.__code__.co_firstlineno
        assert notes_of(pool) == f"while running the cleanup 'pool' of the test, defined at {__file__}:{line}"
        assert isinstance(grouped, ExceptionGroup)
        assert "while tearing down 'cache'" in notes_of(grouped.exceptions[0])
        line = db.__code__.co_firstlineno
        assert notes_of(plain) == (
            f"while tearing down 'db' (module scope, defined at {__file__}:{line}, "
            "set up for the test, used by cache, test_one)"
        )

    def test_body_first_and_neither_hides_the_other(self, play: Play) -> None:
        """The error of the body and those of cleanups are in one group, the body first; except* finds either."""
        error = ValueError("body")

        def body(life: Lifecycle) -> None:
            life.add_cleanup(fail(KeyError("cleanup")))
            raise error

        with pytest.raises(ExceptionGroup) as caught:
            play(body=body)
        first, second = caught.value.exceptions
        assert first is error
        assert isinstance(second, TeardownErrors)
        found = []
        try:
            raise caught.value
        except* ValueError:
            found.append("body")
        except* KeyError:
            found.append("cleanup")
        assert found == ["body", "cleanup"]

    def test_an_error_of_the_body_alone_is_left_alone(self, play: Play) -> None:
        """When no cleanup fails, the error of the body comes out unchanged."""
        error = ValueError("body")
        with pytest.raises(ValueError, match="body") as caught:
            play(make("a", log=[]), body=lambda _: fail(error)())
        assert caught.value is error

    def test_splitting_keeps_the_type(self) -> None:
        """Parts of the group are of the same type."""
        group = TeardownErrors("two", [ValueError(1), KeyError(2)])
        match, rest = group.split(ValueError)
        assert isinstance(match, TeardownErrors)
        assert isinstance(rest, TeardownErrors)

    def test_set_up_error_and_cleanup_errors(self, play: Play) -> None:
        """A failed set-up is the body error of its teardown, with a note naming the node and whom it leaves out."""

        def first() -> Iterator[None]:
            yield
            raise KeyError("cleanup")

        def second(first: object) -> None:
            raise ValueError("set-up")

        def third(second: object) -> None: ...

        with pytest.raises(ExceptionGroup) as caught:
            play(Node.of(first), Node.of(second), Node.of(third))
        error, group = caught.value.exceptions
        assert isinstance(error, ValueError)
        assert "while setting up 'second' (function scope, defined at" in notes_of(error)
        assert "for the test; skipped, because they need it: 'third'" in notes_of(error)
        assert isinstance(group, TeardownErrors)

    def test_same_error_twice_is_one(self, play: Play) -> None:
        """A cleanup that raises the error of the body again adds nothing."""
        error = ValueError("body")

        def body(life: Lifecycle) -> None:
            life.add_cleanup(fail(error))
            raise error

        with pytest.raises(ValueError, match="body") as caught:
            play(body=body)
        assert caught.value is error


# --- budgets --------------------------------------------------------------


class TestBudgets:
    def test_expiry_is_a_leaf_and_the_next_one_runs(self, play: Play) -> None:
        """A cleanup that hangs is cancelled when its budget is over, reported, and the others run."""
        log: list[str] = []

        async def hanging() -> AsyncIterator[None]:
            yield
            await anyio.sleep_forever()

        async def hang() -> None:
            await anyio.sleep_forever()

        with pytest.raises(TeardownErrors) as caught:
            play(
                make("a", log=log, shape="async generator"),
                Node.of(hanging, timeout=0.01),
                body=lambda life: life.add_cleanup(hang, name="closing", timeout=0.01),
            )
        found = [error for error in caught.value.exceptions if isinstance(error, TeardownTimeout)]
        assert [(error.node, error.timeout, error.interrupted) for error in found] == [
            ("closing", 0.01, True),
            ("hanging", 0.01, True),
        ]
        assert "while tearing down 'hanging'" in notes_of(caught.value.exceptions[1])
        assert log == ["+a", "-a"]

    def test_the_budget_of_the_lifecycle(self) -> None:
        """Without a budget of its own a cleanup has that of the lifecycle."""
        life = Lifecycle(timeout=0.01)
        life.add_cleanup(anyio.sleep_forever)
        with pytest.raises(TeardownErrors) as caught:
            life.tear_down()
        assert isinstance(caught.value.exceptions[0], TeardownTimeout)

    def test_blocking_cleanups_are_reported(self, play: Play) -> None:
        """A blocking cleanup cannot be cut short; that it took too long is said all the same."""
        with pytest.raises(TeardownErrors) as caught:
            play(body=lambda life: life.add_cleanup(lambda: time.sleep(0.02), timeout=0.001))
        (leaf,) = caught.value.exceptions
        assert isinstance(leaf, TeardownTimeout)
        assert not leaf.interrupted
        assert "blocked until it ended by itself" in str(leaf)

    def test_no_limit(self, play: Play) -> None:
        """A lifecycle without a timeout waits."""
        done = []

        async def close() -> None:
            await anyio.sleep(0.01)
            done.append(True)

        play(make("a", log=[], shape="async generator"), timeout=None, body=lambda life: life.add_cleanup(close))
        assert done == [True]

    def test_error_after_the_deadline_is_kept(self, play: Play) -> None:
        """A cleanup that fails while it is being cut short is reported with both."""

        async def close() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                raise ValueError("in a hurry")

        with pytest.raises(TeardownErrors) as caught:
            play(body=lambda life: life.add_cleanup(close, timeout=0.01))
        assert {type(error) for error in caught.value.exceptions} == {ValueError, TeardownTimeout}

    def test_set_up_budget(self, play: Play) -> None:
        """A set-up with a budget is cancelled when that is over, and what is up goes down."""
        log: list[str] = []

        async def slow(a: object) -> AsyncIterator[None]:
            await anyio.sleep_forever()
            yield

        with pytest.raises(SetupTimeout, match=r"the set-up of 'slow' did not finish within 0\.01 s") as caught:
            play(make("a", log=log), Node.of(slow, setup_timeout=0.01))
        assert (caught.value.node, caught.value.timeout) == ("slow", 0.01)
        assert log == ["+a", "-a"]

    @pytest.mark.anyio
    async def test_set_up_budget_is_over_with_the_set_up(self) -> None:
        """The budget of the set-up does not run on in the body."""

        async def quick() -> AsyncIterator[None]:
            yield
            await anyio.sleep(0.01)

        async with Barrier(Lifecycle(DependencyGraph([Node.of(quick, setup_timeout=0.05)]))):
            await anyio.sleep(0.1)


# --- context variables ---------------------------------------------------

colour: ContextVar[str] = ContextVar("colour")
shade: ContextVar[str] = ContextVar("shade", default="none")


class TestContext:
    def test_flows_to_dependents_and_body_and_is_undone(self, play: Play) -> None:
        """Context variables of a set-up are visible to dependents and the body, and are undone or unset afterwards."""
        seen: list[str] = []

        def setter() -> Iterator[None]:
            colour.set("red")
            yield
            seen.append(f"teardown {colour.get()}")

        async def asetter() -> AsyncIterator[None]:
            shade.set("dark")
            yield

        async def dependent(setter: object, asetter: object) -> None:
            seen.append(f"dependent {colour.get()} {shade.get()}")

        def body(_: Lifecycle) -> None:
            seen.append(f"body {colour.get()} {shade.get()}")

        def check() -> None:
            assert colour.get(None) is None
            assert shade.get() == "none"

        def wrapped(life: Lifecycle) -> None:
            body(life)

        play(Node.of(setter), Node.of(asetter), Node.of(dependent), body=wrapped)
        check()
        assert seen == ["dependent red dark", "body red dark", "teardown red"]

    @pytest.mark.anyio
    @pytest.mark.parametrize("concurrency", [1, 4])
    async def test_undone_in_the_task_of_the_barrier(self, concurrency: int) -> None:
        """After the teardown the task sees what it saw before."""

        async def setter() -> AsyncIterator[None]:
            colour.set("red")
            shade.set("dark")
            yield

        shade.set("own")
        async with Barrier(Lifecycle(DependencyGraph([Node.of(setter)]), max_concurrency=concurrency)):
            assert (colour.get(), shade.get()) == ("red", "dark")
        assert colour.get(None) is None
        assert shade.get() == "own"

    def test_tokens_of_the_node_stay_valid(self, play: Play) -> None:
        """A node may reset its own token at teardown, wherever the body ran."""

        def setter() -> Iterator[None]:
            token = colour.set("red")
            yield
            colour.reset(token)

        async def asetter() -> AsyncIterator[None]:
            token = shade.set("dark")
            await anyio.lowlevel.checkpoint()
            yield
            await anyio.lowlevel.checkpoint()
            shade.reset(token)

        play(Node.of(setter), Node.of(asetter), body=lambda _: shade.set("changed by the body"))

    def test_conflicts_are_reported(self, play: Play) -> None:
        """Two independent nodes that set one variable differently are reported; the later in the order wins."""
        events: list[dict[str, Any]] = []
        seen: list[str] = []

        async def first() -> None:
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            shade.set("first")

        async def second() -> None:
            shade.set("second")

        async def after(second: object) -> None:
            seen.append(shade.get())
            shade.set("after")

        play(
            Node.of(first),
            Node.of(second),
            Node.of(after),
            body=lambda _: seen.append(shade.get()),
            on_event=lambda event, **fields: events.append(fields) if event == "context_conflict" else None,
        )
        assert seen == ["second", "after"]
        assert {(each["node"], each["other"], each["variable"]) for each in events} == {
            ("second", "first", "shade"),
            ("after", "first", "shade"),
        }

    @pytest.mark.anyio
    async def test_late_node_of_another_task(self) -> None:
        """A variable set for a task of the body does not disturb the teardown in the barrier's task."""

        async def setter() -> AsyncIterator[None]:
            colour.set("red")
            yield

        seen = []
        async with Barrier(Lifecycle(DependencyGraph([Node.of(setter)])), names=[]) as life:

            async def user() -> None:
                await life.aset_up(["setter"], late=True)
                seen.append(colour.get())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(user)
            assert colour.get(None) is None
        assert seen == ["red"]


# --- crashes in the background ------------------------------------------------


async def crashing() -> AsyncIterator[str]:
    """A node whose background fails as soon as the body waits."""

    async def crash() -> None:
        await anyio.lowlevel.checkpoint()
        raise RuntimeError("in the background")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crash)
        yield "crashing"


@pytest.mark.anyio
class TestCrashes:
    @pytest.mark.parametrize("concurrency", [1, 4])
    @pytest.mark.parametrize("own_task", [False, True])
    async def test_a_crash_ends_the_body_and_is_reported(self, concurrency: int, own_task: bool) -> None:
        """A task in the background of a node that fails cancels the body and is reported under that node."""
        log: list[str] = []
        graph = DependencyGraph(
            [
                make("below", log=log, shape="async generator"),
                Node.of(crashing, dependencies=["below"], arguments=(), own_task=own_task),
                make("above", "crashing", log=log, shape="async generator"),
            ]
        )
        with anyio.fail_after(30), pytest.raises(TeardownErrors) as caught:
            async with Barrier(Lifecycle(graph, max_concurrency=concurrency)):
                await anyio.sleep_forever()
        (leaf,) = caught.value.exceptions
        assert isinstance(leaf, ExceptionGroup)
        assert str(leaf.exceptions[0]) == "in the background"
        assert "while tearing down 'crashing'" in notes_of(leaf.exceptions[0])
        assert log == ["+below", "+above", "-above", "-below"]
        await anyio.lowlevel.checkpoint()

    async def test_a_crash_of_a_late_node(self) -> None:
        """A node set up late ends the body just so."""

        async def test() -> None:
            async with Barrier(Lifecycle(DependencyGraph([Node.of(crashing)])), names=[]) as life:
                await life.aset_up(["crashing"], late=True)
                await anyio.sleep_forever()

        with anyio.fail_after(30), pytest.raises(TeardownErrors):
            await test()
        await anyio.lowlevel.checkpoint()

    async def test_a_crash_during_another_set_up(self) -> None:
        """A crash while a later node is being set up ends that set-up."""

        async def later(crashing: object) -> None:
            await anyio.sleep_forever()

        with anyio.fail_after(30), pytest.raises(TeardownErrors) as caught:
            await Lifecycle(DependencyGraph([Node.of(crashing), Node.of(later)])).aset_up()
        (leaf,) = leaves(caught.value)
        assert "while tearing down 'crashing'" in notes_of(leaf)

    async def test_a_crash_that_the_body_did_not_notice(self) -> None:
        """A crash is reported although the body ended before it could be cancelled."""
        with pytest.raises(TeardownErrors):
            async with Barrier(Lifecycle(DependencyGraph([Node.of(crashing)]))):
                pass

    async def test_a_crash_and_an_error_of_the_body(self) -> None:
        """An error that the body raises when it is cancelled is kept beside the crash."""

        async def test() -> None:
            async with Barrier(Lifecycle(DependencyGraph([Node.of(crashing)]))):
                try:
                    await anyio.sleep_forever()
                finally:
                    raise ValueError("body")

        with pytest.raises(ExceptionGroup) as caught:
            await test()
        assert [type(error) for error in caught.value.exceptions] == [ValueError, TeardownErrors]

    @pytest.mark.parametrize("concurrency", [1, 4])
    async def test_a_node_that_cancels_the_body_without_a_word(self, concurrency: int) -> None:
        """A scope of a node that ends early stops the body; as nothing was raised, that is said for it."""

        async def impatient() -> AsyncIterator[None]:
            with anyio.move_on_after(0.01):
                yield

        life = Lifecycle(DependencyGraph([Node.of(impatient)]), max_concurrency=concurrency)
        with anyio.fail_after(30), pytest.raises(TeardownErrors) as caught:
            async with Barrier(life):
                await anyio.sleep_forever()
        assert "'impatient' holds open was cancelled before its teardown" in str(caught.value.exceptions[0])

    async def test_cancelled_from_outside_is_no_crash(self) -> None:
        """A timeout around the barrier is not blamed on a node whose background it ended too."""

        async def background() -> AsyncIterator[None]:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                yield
                tasks.cancel_scope.cancel()

        with anyio.move_on_after(0.01) as scope:
            async with Barrier(Lifecycle(DependencyGraph([Node.of(background)]))):
                await anyio.sleep_forever()
        assert scope.cancelled_caught


# --- dropped while open -----------------------------------------------------


def drop(kept: list[Lifecycle]) -> None:
    """Drop all references in *kept*, and make sure that the objects are freed."""
    kept.clear()
    gc.collect()


class TestDropped:
    def test_dropped_while_open(self) -> None:
        """A lifecycle that is collected while open warns with the names of what is alive."""
        log: list[str] = []
        kept = [Lifecycle(DependencyGraph([make("db", log=log)]), owner="the test")]
        kept[0].set_up()
        kept[0].add_cleanup(lambda: None, name="pool")
        with pytest.warns(ResourceWarning, match=r"of the test was dropped while still open; .* 'db', 'pool'"):
            drop(kept)

    def test_no_warning_otherwise(self) -> None:
        """One that never held anything, or was torn down, goes silently."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            life = Lifecycle()
            del life
            life = Lifecycle()
            life.add_cleanup(lambda: None)
            life.tear_down()
            del life
            gc.collect()

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_an_event_loop_ends_all_the_same(self, backend: str) -> None:
        """Nodes in separate tasks that are never torn down end with the loop and do not hang it."""
        log: list[str] = []

        async def main() -> None:
            life = Lifecycle(DependencyGraph([make("a", log=log, shape="async generator")]), max_concurrency=2)
            await life.aset_up()
            kept.append(life)

        kept: list[Lifecycle] = []
        anyio.run(main, backend=backend)
        assert log == ["+a", "-a"]
        with pytest.warns(ResourceWarning, match="'a'"):
            drop(kept)


# --- what can be seen ---------------------------------------------------------


class TestInsight:
    def test_active_nodes(self, play: Play) -> None:
        """Active nodes are described as plain data."""
        seen: list[Any] = []

        def body(life: Lifecycle) -> None:
            life.add_cleanup(lambda: None, name="pool", timeout=3)
            life.record_use("a", "test_one")
            life.record_use("a", "test_one")
            seen.extend([life.active(), repr(life)])

        nodes = make("a", log=[], scope="module", group="storage"), make("b", "a", log=[], shape="async generator")
        life = play(*nodes, body=body, timeout=7)
        active, text = seen
        assert [each["name"] for each in active] == ["a", "b"]
        assert active[0].pop("age") >= 0
        assert active[0] == {
            "name": "a",
            "kind": "generator",
            "scope": "module",
            "group": "storage",
            "state": "up",
            "owner": "the test",
            "users": ["b", "test_one"],
            "dependencies": [],
            "timeout": 7,
            "defined_at": nodes[0].defined_at,
        }
        assert text == "<Lifecycle of the test, open, 3 to clean up>"
        assert life.active() == []
        assert life.values == {}

    def test_events(self, play: Play) -> None:
        """Events of set-ups, teardowns and cleanups have their durations in seconds."""
        events: list[tuple[str, dict[str, Any]]] = []

        def broken() -> Iterator[None]:
            yield
            raise ValueError("broken")

        with pytest.raises(TeardownErrors):
            play(
                make("a", log=[], shape="async generator"),
                Node.of(broken),
                body=lambda life: (
                    life.add_cleanup(lambda: None, name="pool"),
                    life.add_cleanup(lambda: time.sleep(0.002), name="slow", timeout=0.001),
                ),
                on_event=lambda event, **fields: events.append((event, fields)),
            )
        assert all(fields.pop("seconds") >= 0 for _, fields in events)
        up, down = events[:2], events[2:]
        assert {event for event, _ in up} == {"node_set_up"}
        assert {fields["node"] for _, fields in up} == {"a", "broken"}
        assert down[0] == ("cleanup_timeout", {"cleanup": "slow", "timeout": 0.001})
        assert down[1] == ("cleanup_done", {"cleanup": "pool"})
        assert ("node_teardown_failed", {"node": "broken", "scope": "function", "error": "ValueError: broken"}) in down
        assert ("node_torn_down", {"node": "a", "scope": "function"}) in down

    def test_events_of_a_failed_set_up(self, play: Play) -> None:
        """A failed set-up is an event, and so is each node skipped because of it."""
        events: list[tuple[str, dict[str, Any]]] = []

        async def broken() -> None:
            raise ValueError("broken")

        with pytest.raises(ValueError, match="broken"):
            play(
                Node.of(broken),
                make("user", "broken", log=[]),
                on_event=lambda event, **fields: events.append((event, fields)),
            )
        assert events[0][0] == "node_skipped"
        assert events[0][1]["node"] == "user"
        assert events[1][0] == "node_setup_failed"
        assert events[1][1]["error"] == "ValueError: broken"

    def test_provided_and_injected(self, play: Play) -> None:
        """Values from outside are passed, are not torn down, and every factory can be given more."""
        seen: list[object] = []

        def user(tmp_path: str, request: str) -> None:
            seen.extend([tmp_path, request])

        graph = DependencyGraph([Node.of(user, dependencies=["tmp_path"])], external=["tmp_path"])
        life = Lifecycle(graph, inject=lambda node: {"request": f"for {node.name}"})
        life.set_up(provided={"tmp_path": "/somewhere"})
        life.tear_down()
        assert seen == ["/somewhere", "for user"]

    def test_what_nobody_provided(self) -> None:
        """A value from outside that did not come is a set-up error naming both sides."""
        life = Lifecycle(DependencyGraph([Node("user", print, dependencies=["tmp_path"])], external=["tmp_path"]))
        with pytest.raises(SetupError, match="'user' takes 'tmp_path', which was not set up"):
            life.set_up()

    def test_an_interrupt_between_two_cleanups(self, play: Play) -> None:
        """An error outside of every cleanup, here in the listener, does not end the teardown."""
        log: list[str] = []
        strikes = [KeyboardInterrupt("in between"), ValueError("in the listener")]

        def on_event(event: str, **_: object) -> None:
            if event in {"node_torn_down", "cleanup_done"} and strikes:
                raise strikes.pop()

        def body(life: Lifecycle) -> None:
            life.add_cleanup(lambda: log.append("cleanup"))

        with pytest.raises(KeyboardInterrupt) as caught:
            play(
                *(make(name, log=log, shape="async generator") for name in "abc"),
                body=body,
                on_event=on_event,
            )
        assert sorted(log[3:]) == ["-a", "-b", "-c", "cleanup"]
        assert isinstance(caught.value.__cause__, TeardownErrors)

    def test_one_graph_for_many(self) -> None:
        """A graph is shared by lifecycles that know nothing of each other."""
        log: list[str] = []
        graph = DependencyGraph([make("a", log=log)])
        with Barrier(Lifecycle(graph)) as one, Barrier(Lifecycle(graph)) as two:
            assert one.values is not two.values
        assert log == ["+a", "+a", "-a", "-a"]


# --- any graph ----------------------------------------------------------------

KINDS = ["generator", "context manager", "async generator", "async context manager"]


@st.composite
def plans(draw: st.DrawFn) -> list[tuple[str, list[str], str, str | None]]:
    """Nodes with what they need, their shape and where they fail."""
    count = draw(st.integers(1, 8))
    plan: list[tuple[str, list[str], str, str | None]] = []
    for number in range(count):
        earlier = [name for name, *_ in plan]
        needs = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
        fails = draw(st.sampled_from([None, None, None, "set-up", "teardown"]))
        plan.append((f"n{number}", needs, draw(st.sampled_from(KINDS)), fails))
    return plan


@given(plans(), st.sampled_from([None, "asyncio", "trio"]), st.integers(1, 4))
def test_no_cleanup_is_skipped_in_any_graph(
    plan: list[tuple[str, list[str], str, str | None]], backend: str | None, concurrency: int
) -> None:
    """For any graph, shapes, failures and mode: a node that was set up is torn down once, after its dependents."""
    log: list[str] = []
    errors: list[str] = []

    def node(name: str, needs: list[str], kind: str, fails: str | None) -> Node:
        def blocking(**_: object) -> Iterator[None]:
            if fails == "set-up":
                errors.append(name)
                raise ValueError(name)
            log.append(f"+{name}")
            yield
            log.append(f"-{name}")
            if fails == "teardown":
                errors.append(name)
                raise ValueError(name)

        async def awaiting(**values: object) -> AsyncIterator[None]:
            await anyio.lowlevel.checkpoint()
            steps = blocking(**values)
            yield next(steps)
            await anyio.lowlevel.checkpoint()
            for _ in steps:
                pass

        factory: Callable[..., Any] = blocking if "async" not in kind else awaiting
        if kind == "context manager":
            factory = contextmanager(blocking)
        elif kind == "async context manager":
            factory = asynccontextmanager(awaiting)
        return Node(name, factory, dependencies=needs)

    life = Lifecycle(DependencyGraph([node(*each) for each in plan]), max_concurrency=concurrency)

    async def main() -> None:
        async with Barrier(life):
            pass

    raised: BaseException | None = None
    try:
        if backend is None:
            with Barrier(life):
                pass
        else:
            anyio.run(main, backend=backend)
    except Exception as error:
        raised = error
    up = [entry[1:] for entry in log if entry[0] == "+"]
    down = [entry[1:] for entry in log if entry[0] == "-"]
    assert sorted(up) == sorted(down)
    for name, needs, _, _ in plan:
        for needed in needs:
            if name in down:
                assert down.index(name) < down.index(needed)
                assert up.index(needed) < up.index(name)
    assert sorted(errors) == sorted(str(leaf) for leaf in leaves(raised))


def test_trio_is_really_there() -> None:
    """The other event loop is part of every run of these tests."""
    assert trio.run(trio.lowlevel.checkpoint) is None
