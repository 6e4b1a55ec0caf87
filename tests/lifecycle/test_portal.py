"""Asynchronous nodes and cleanups of a synchronous lifecycle."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio
import anyio.lowlevel
import pytest

from isolation_core.errors import TeardownErrors, TeardownTimeout
from isolation_core.graph import DependencyGraph, Node
from isolation_core.lifecycle import Lifecycle


@contextmanager
def barrier(*nodes: Node, backend: str = "asyncio", timeout: float = 60) -> Iterator[Lifecycle]:
    """Follow the protocol around a synchronous lifecycle."""
    life = Lifecycle(DependencyGraph(nodes), backend=backend, timeout=timeout)
    life.set_up()
    try:
        yield life
    except BaseException as error:
        life.tear_down(error)
        raise
    life.tear_down()


def interrupt() -> None:
    """Press Ctrl-C: the main thread waits for the portal when this is called in it."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_one_portal_for_everything_asynchronous(backend: str) -> None:
    """The asynchronous nodes and cleanups of a plain body share one event loop, which ends with it."""
    threads: list[threading.Thread] = []

    async def note() -> None:
        await anyio.lowlevel.checkpoint()
        threads.append(threading.current_thread())

    async def node() -> AsyncIterator[None]:
        await note()
        yield
        await note()

    async def value(node: object) -> None:
        await note()

    with barrier(Node.of(node), Node.of(value), backend=backend) as life:
        life.add_cleanup(note)
    assert len(threads) == 4
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()
    assert not threads[0].is_alive()


def test_it_is_started_for_a_cleanup_alone() -> None:
    """Without any graph an asynchronous cleanup of a plain body is awaited."""
    done = []

    async def close() -> None:
        await anyio.lowlevel.checkpoint()
        done.append(True)

    with barrier() as life:
        life.add_cleanup(close)
    assert done == [True]


def test_no_thread_without_need() -> None:
    """A graph with asynchronous nodes starts no thread when only plain ones are asked for."""

    async def node() -> AsyncIterator[None]:
        yield

    def plain() -> int:
        return 1

    before = threading.active_count()
    life = Lifecycle(DependencyGraph([Node.of(node), Node.of(plain)]))
    life.set_up(["plain"])
    assert threading.active_count() == before
    life.tear_down()


def test_it_ends_after_a_failed_set_up() -> None:
    """When a set-up fails, the event loop that was started for it ends too."""

    async def broken() -> None:
        raise ValueError("broken")

    before = threading.active_count()
    with pytest.raises(ValueError, match="broken"):
        Lifecycle(DependencyGraph([Node.of(broken)])).set_up()
    assert threading.active_count() == before


def test_it_works_under_a_running_loop() -> None:
    """A plain barrier inside a coroutine works, too."""
    log: list[str] = []

    async def node() -> AsyncIterator[None]:
        log.append("up")
        yield
        log.append("down")

    async def main() -> None:
        with barrier(Node.of(node)):
            pass

    asyncio.run(main())
    assert log == ["up", "down"]


def test_a_lifecycle_that_goes_asynchronous_later() -> None:
    """Nodes of a portal can be torn down from a coroutine."""
    log: list[str] = []

    async def node() -> AsyncIterator[None]:
        yield
        log.append("down")

    life = Lifecycle(DependencyGraph([Node.of(node)]))
    life.set_up()
    asyncio.run(life.atear_down())
    assert log == ["down"]


def test_a_task_group_lives_in_the_portal() -> None:
    """A server in the background of a node answers a plain body."""
    answered = threading.Event()

    async def server() -> AsyncIterator[threading.Event]:
        async def serve() -> None:
            answered.set()
            await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            yield answered
            tasks.cancel_scope.cancel()

    with barrier(Node.of(server)):
        assert answered.wait(30)


def test_a_crash_in_the_background_is_reported() -> None:
    """A plain body cannot be cancelled; the crash is reported when it ends."""
    crashed = threading.Event()

    async def crashing() -> AsyncIterator[None]:
        async def crash() -> None:
            crashed.set()
            raise RuntimeError("in the background")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(crash)
            yield

    with pytest.raises(TeardownErrors) as caught, barrier(Node.of(crashing)):
        assert crashed.wait(30)
    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, ExceptionGroup)
    assert str(leaf.exceptions[0]) == "in the background"


class TestInterrupts:
    def test_in_a_set_up(self) -> None:
        """Ctrl-C cancels the set-up that the main thread waits for, and tears down what is up."""
        log: list[str] = []

        async def first() -> AsyncIterator[None]:
            yield
            log.append("first down")

        async def second(first: object) -> AsyncIterator[None]:
            try:
                interrupt()
                await anyio.sleep_forever()
                yield
            finally:
                log.append("second cancelled")

        with pytest.raises(KeyboardInterrupt), barrier(Node.of(first), Node.of(second)):
            pass
        assert log == ["second cancelled", "first down"]

    def test_in_a_teardown(self) -> None:
        """Ctrl-C during teardowns is raised when all of them have finished."""
        log: list[str] = []

        async def node() -> AsyncIterator[None]:
            yield
            interrupt()
            await anyio.sleep(0.05)
            log.append("node down")

        async def close() -> None:
            interrupt()
            await anyio.sleep(0.05)
            log.append("closed")

        with pytest.raises(KeyboardInterrupt) as caught, barrier(Node.of(node)) as life:
            life.add_cleanup(close)
        assert log == ["closed", "node down"]
        assert isinstance(caught.value.__cause__, KeyboardInterrupt)

    @pytest.mark.parametrize("where", ["node", "cleanup"])
    def test_twice(self, where: str) -> None:
        """A second Ctrl-C leaves what hangs a grace second."""

        async def hang() -> None:
            interrupt()
            await anyio.sleep(0.1)
            interrupt()
            await anyio.sleep_forever()

        async def node() -> AsyncIterator[None]:
            yield
            if where == "node":
                await hang()

        life = Lifecycle(DependencyGraph([Node.of(node)]), timeout=600)
        life.set_up()
        if where == "cleanup":
            life.add_cleanup(hang)
        with pytest.raises(KeyboardInterrupt) as caught:
            life.tear_down()
        cause = caught.value.__cause__
        assert isinstance(cause, BaseExceptionGroup)
        assert isinstance(cause.exceptions[0], KeyboardInterrupt)
        group = cause.exceptions[1]
        assert isinstance(group, TeardownErrors)
        assert isinstance(group.exceptions[0], TeardownTimeout)
