"""The fault matrix: whatever goes wrong, and wherever, no cleanup is skipped and no error is lost."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import anyio
import pytest
from anyio.lowlevel import checkpoint
from attrs import field, frozen, mutable
from hypothesis import given, settings
from hypothesis import strategies as st

from isolation_core.errors import SetupTimeout, TeardownErrors, TeardownTimeout
from isolation_core.graph import DependencyGraph, Node
from isolation_core.lifecycle import Lifecycle

BUDGET = 0.02
"""Seconds for a set-up or a cleanup that hangs on purpose."""

GRAPH: dict[str, tuple[str, ...]] = {
    "config": (),
    "log": (),
    "db": ("config",),
    "cache": ("config",),
    "repo": ("db", "cache"),
    "api": ("repo", "log"),
}
# A few of each shape, so that blocking and awaiting nodes depend on one another.
SHAPES = {
    "config": "generator",
    "log": "async generator",
    "db": "task group",
    "cache": "context manager",
    "repo": "async context manager",
    "api": "task group",
}

Phase = Literal["set up", "tear down", "body"]
FaultKind = Literal["error", "interrupt", "hang", "cancel", "native cancel"]
PHASES: tuple[Phase, ...] = ("set up", "tear down")
POSITIONS: list[tuple[str, Phase]] = [*((name, phase) for name in GRAPH for phase in PHASES), ("body", "body")]


@frozen
class Mode:
    """How a lifecycle is run."""

    backend: str | None
    concurrency: int = 1

    def __str__(self) -> str:
        return f"{self.backend or 'sync'}-{self.concurrency}"


MODES = [Mode(None), Mode("asyncio"), Mode("trio"), Mode("asyncio", 4), Mode("trio", 4)]


class Injected(Exception):
    """An error put in on purpose."""


@mutable
class World:
    """One run: the planned fault, the place that was reached, and the outcome."""

    mode: Mode
    faults: dict[tuple[str, Phase], FaultKind]
    log: list[tuple[str, str]] = field(factory=list)
    fired: dict[tuple[str, Phase], FaultKind] = field(factory=dict)
    injected: list[BaseException] = field(factory=list)
    cancel: Callable[[], None] = field(default=lambda: None)
    native_cancel: Callable[[], object] = field(default=lambda: None)

    def step(self, name: str, phase: Phase) -> bool:
        """Do what is to happen there; return whether to hang."""
        self.log.append((name, phase))
        kind = self.faults.get((name, phase))
        if kind is None:
            return False
        self.fired[name, phase] = kind
        if kind == "hang":
            return True
        if kind == "cancel":
            self.cancel()
        elif kind == "native cancel":
            self.native_cancel()
        else:
            error = Injected(name, phase) if kind == "error" else KeyboardInterrupt(name, phase)
            self.injected.append(error)
            raise error
        return False

    def block(self, name: str, phase: Phase) -> None:
        """Take the step of a blocking node."""
        if self.step(name, phase):
            time.sleep(BUDGET * 1.5)

    async def take(self, name: str, phase: Phase) -> None:
        """Take the step of an awaiting node."""
        if self.step(name, phase):
            await anyio.sleep_forever()
        await checkpoint()

    def graph(self) -> DependencyGraph:
        """Return the graph with the faults in it."""
        return DependencyGraph([self._node(name) for name in GRAPH])

    def _node(self, name: str) -> Node:
        def blocking(**_: object) -> Iterator[str]:
            self.block(name, "set up")
            self.log.append((name, "up"))
            yield name
            try:
                self.block(name, "tear down")
            finally:
                self.log.append((name, "down"))

        async def awaiting(**_: object) -> AsyncIterator[str]:
            await self.take(name, "set up")
            self.log.append((name, "up"))
            yield name
            try:
                await self.take(name, "tear down")
            finally:
                self.log.append((name, "down"))

        async def grouped(**_: object) -> AsyncIterator[str]:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                await self.take(name, "set up")
                self.log.append((name, "up"))
                yield name
                try:
                    await self.take(name, "tear down")
                finally:
                    self.log.append((name, "down"))
                    group.cancel_scope.cancel()

        factories: dict[str, Callable[..., Any]] = {
            "generator": blocking,
            "context manager": contextmanager(blocking),
            "async generator": awaiting,
            "async context manager": asynccontextmanager(awaiting),
            "task group": grouped,
        }
        return Node(
            name,
            factories[SHAPES[name]],
            dependencies=GRAPH[name],
            timeout=self._budget(name, "tear down"),
            setup_timeout=self._budget(name, "set up"),
        )

    def _budget(self, name: str, phase: Phase) -> float:
        # Tight only where something hangs: a busy machine is not a fault.
        return BUDGET if self.faults.get((name, phase)) == "hang" else 60.0

    def run(self) -> BaseException | None:
        """Run set-up, an empty body and teardown; return what came out."""
        life = Lifecycle(self.graph(), owner="the test", timeout=60.0, max_concurrency=self.mode.concurrency)
        try:
            if self.mode.backend is None:
                self._run_sync(life)
            else:
                anyio.run(self._run_async, life, backend=self.mode.backend)
        except BaseException as error:
            return error
        return None

    def _run_sync(self, life: Lifecycle) -> None:
        life.set_up()
        life.add_cleanup(lambda: self.log.append(("cleanup", "down")))
        self.log.append(("body", "up"))
        error: BaseException | None = None
        try:
            self.step("body", "body")
        except BaseException as raised:
            error = raised
        life.tear_down(error)
        if error is not None:
            raise error

    async def _run_async(self, life: Lifecycle) -> None:
        error: BaseException | None = None
        with anyio.CancelScope() as outer:
            self.cancel = outer.cancel
            if self.mode.backend == "asyncio":
                task = asyncio.current_task()
                assert task is not None
                self.native_cancel = task.cancel
            try:
                await self._with_barrier(life)
            except BaseException as raised:
                error = raised
                raise
        if error is not None and not outer.cancelled_caught:
            raise error

    async def _with_barrier(self, life: Lifecycle) -> None:
        await life.aset_up()
        life.add_cleanup(self._cleanup)
        self.log.append(("body", "up"))
        error: BaseException | None = None
        try:
            await self.take("body", "body")
        except BaseException as raised:
            error = raised
        await life.atear_down(error)
        if error is not None:
            raise error

    async def _cleanup(self) -> None:
        await checkpoint()
        self.log.append(("cleanup", "down"))

    def check(self, raised: BaseException | None) -> None:
        """Check what every run promises, whatever was injected."""
        up = [name for name, what in self.log if what == "up" and name != "body"]
        torn = [name for name, what in self.log if what == "tear down"]
        down = [name for name, what in self.log if what == "down"]
        where = f"{self.mode} {self.faults}\n{self.log}"
        assert sorted(torn) == sorted(up), f"cleanups skipped or repeated: {where}"
        assert sorted(name for name in down if name != "cleanup") == sorted(up), where
        if ("body", "up") in self.log:
            assert down[0] == "cleanup", f"the newest cleanup comes first: {where}"
        for name in torn:
            for user, needs in GRAPH.items():
                if name in needs and user in torn:
                    assert self.log.index((user, "down")) < self.log.index((name, "tear down")), where
        self._check_errors(raised, where)

    def _check_errors(self, raised: BaseException | None, where: str) -> None:
        found = list(everything_in(raised))
        for error in self.injected:
            assert any(error is each for each in found), f"lost {error!r}: {where}, raised {raised!r}"
        for (name, phase), kind in self.fired.items():
            if kind == "hang" and (phase == "tear down" or SHAPES[name] not in {"generator", "context manager"}):
                expected = TeardownTimeout if phase == "tear down" else SetupTimeout
                if len(self.fired) > 1 and phase == "set up":
                    continue  # another failure may have ended the wait
                if SHAPES[name] == "task group" and "cancel" in self.fired.values() and self.mode.concurrency == 1:
                    continue  # in one task, cancelling the body cancels the group, and what waits in it
                assert any(isinstance(each, expected) and each.node == name for each in found), (
                    f"the hang of {name} went unreported: {where}, raised {raised!r}"
                )
        if any(isinstance(error, KeyboardInterrupt) for error in self.injected):
            # A task group around its own set-up hands an interrupt on in a group.
            wrapped = any(self.fired.get((name, "set up")) == "interrupt" for name in ("db", "api"))
            assert wrapped or isinstance(raised, KeyboardInterrupt), f"{where}, raised {raised!r}"
        for each in found:
            if isinstance(each, TeardownErrors):
                for leaf in leaves_of(each):
                    assert any("the test" in note for note in leaf.__notes__), (where, leaf)


def everything_in(error: BaseException | None) -> Iterator[BaseException]:
    """Yield *error*, the members of groups, and causes."""
    if error is None:
        return
    yield error
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from everything_in(member)
    yield from everything_in(error.__cause__)


def leaves_of(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Yield the exceptions of *group* that are not groups themselves."""
    for member in group.exceptions:
        if isinstance(member, BaseExceptionGroup):
            yield from leaves_of(member)
        else:
            yield member


def possible(mode: Mode, position: tuple[str, Phase], kind: FaultKind) -> bool:
    """Return whether such a fault is possible at that place."""
    if kind == "hang" and position[0] == "body":
        return False  # no budget ends that
    if kind == "native cancel":
        return mode.backend == "asyncio"
    return kind != "cancel" or mode.backend is not None


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_without_a_fault(mode: Mode) -> None:
    """The graph of the matrix goes up and down in order when nothing is injected."""
    world = World(mode, {})
    raised = world.run()
    world.check(raised)
    assert raised is None
    assert {name for name, what in world.log if what == "down"} == {*GRAPH, "cleanup"}


@pytest.mark.parametrize("kind", ["error", "interrupt", "hang", "cancel", "native cancel"])
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_single_faults(mode: Mode, kind: FaultKind) -> None:
    """One fault at any position: everything that came up goes down, and the fault is reported."""
    for position in POSITIONS:
        if not possible(mode, position, kind):
            continue
        world = World(mode, {position: kind})
        raised = world.run()
        assert world.fired, position
        world.check(raised)
        if kind == "error" and position[1] == "tear down":
            assert isinstance(raised, TeardownErrors)
            assert list(leaves_of(raised)) == world.injected
        if kind == "error" and position[1] in {"set up", "body"}:
            assert not isinstance(raised, TeardownErrors)
            assert list(everything_in(raised))[-1] is world.injected[0]
        if kind == "cancel":
            assert raised is None, "the scope that was cancelled takes its cancellation"
        if kind == "native cancel":
            assert isinstance(raised, asyncio.CancelledError), (position, raised)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_pairs_of_errors(mode: Mode) -> None:
    """Two errors at any two positions: both are reported if both were reached."""
    for pair in itertools.combinations(POSITIONS, 2):
        world = World(mode, dict.fromkeys(pair, "error"))
        world.check(world.run())


@settings(max_examples=60)
@given(
    st.sampled_from(MODES),
    st.dictionaries(
        st.sampled_from(POSITIONS),
        st.sampled_from(["error", "interrupt", "hang", "cancel", "native cancel"]),
        min_size=2,
        max_size=4,
    ),
)
def test_mixed_faults(mode: Mode, faults: dict[tuple[str, Phase], FaultKind]) -> None:
    """Any faults together: still no cleanup is skipped and no error lost."""
    world = World(mode, {position: kind for position, kind in faults.items() if possible(mode, position, kind)})
    world.check(world.run())
