"""``python -m benchmarks.fixture_faults``: every fault, and every pair of faults, in a graph of twelve fixtures.

An exception, a cancellation of the body, a KeyboardInterrupt and a hang are injected into every set-up and
every teardown of twelve managed fixtures of five shapes, alone and in all combinations of two, in
synchronous code (asynchronous fixtures in a portal) and under both event loops, one after another and
concurrently. After each run it is checked that

- every node that was set up was torn down once, after its dependents, and every cleanup it registered ran;
- every injected error came out, and every hang was cut short and reported;
- the run was over in bounded time.

``--part K/N`` runs one case in N, beginning with the K-th.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Literal

import anyio
from anyio.lowlevel import checkpoint
from attrs import field, frozen, mutable

from isolation_core.barrier import isolation_barrier
from isolation_core.errors import SetupError, SetupTimeout, TeardownErrors, TeardownTimeout
from isolation_core.fixtures import FixtureRequest, managed_fixture, use_registry

__all__ = ["KINDS", "MODES", "POSITIONS", "Faults", "Mode", "Run", "cases", "main"]

BUDGET: Final = 0.01
"""Seconds for a set-up or a teardown that hangs on purpose."""

LIMIT: Final = 5.0
"""Seconds one run may take on a busy machine; it takes milliseconds."""

GRAPH: Final[dict[str, tuple[str, ...]]] = {
    "config": (),
    "log": (),
    "clock": (),
    "db": ("config", "log"),
    "cache": ("config",),
    "queue": ("config", "clock"),
    "repo": ("db", "cache"),
    "search": ("db", "log"),
    "mailer": ("queue",),
    "service": ("repo", "search"),
    "worker": ("queue", "service"),
    "api": ("service", "mailer", "worker"),
}
SHAPES: Final = ("generator", "async generator", "task group", "context manager", "async context manager")
SHAPE_OF: Final = dict(zip(GRAPH, itertools.cycle(SHAPES), strict=False))
BLOCKING: Final = frozenset({"generator", "context manager"})

Phase = Literal["set up", "tear down"]
Kind = Literal["error", "interrupt", "hang", "cancel"]
Position = tuple[str, Phase]
Faults = dict[Position, Kind]
KINDS: Final[tuple[Kind, ...]] = ("error", "interrupt", "hang", "cancel")
PHASES: Final[tuple[Phase, ...]] = ("set up", "tear down")
POSITIONS: Final[list[Position]] = [(name, phase) for name in GRAPH for phase in PHASES]


@frozen
class Mode:
    """How the barrier is run: without an event loop, or under one, with so many set-ups at a time."""

    backend: str | None
    concurrency: int = 1

    def __str__(self) -> str:
        return f"{self.backend or 'sync'}-{self.concurrency}"


MODES: Final = (Mode(None), Mode("asyncio"), Mode("trio"), Mode("asyncio", 4), Mode("trio", 4))


class InjectedError(Exception):
    """An error put in on purpose."""


@mutable
class Run:
    """One barrier with the twelve fixtures at its entry: what was to go wrong, and what came of it."""

    mode: Mode
    faults: Faults
    log: list[tuple[str, str]] = field(factory=list)
    fired: Faults = field(factory=dict)
    injected: list[BaseException] = field(factory=list)
    raised: BaseException | None = None
    seconds: float = 0.0
    cancel: Callable[[], None] = field(default=lambda: None)

    def step(self, name: str, phase: Phase) -> bool:
        """Do what is to happen there; return whether to hang."""
        self.log.append((name, phase))
        kind = self.faults.get((name, phase))
        if kind is None:
            return False
        self.fired[name, phase] = kind
        if kind == "cancel":
            self.cancel()
        elif kind != "hang":
            error = InjectedError(name, phase) if kind == "error" else KeyboardInterrupt(name, phase)
            self.injected.append(error)
            raise error
        return kind == "hang"

    def _block(self, name: str, phase: Phase) -> None:
        if self.step(name, phase):
            time.sleep(BUDGET * 1.5)

    async def _take(self, name: str, phase: Phase) -> None:
        if self.step(name, phase):
            await anyio.sleep_forever()
        await checkpoint()

    def _register(self, name: str, request: FixtureRequest) -> None:
        self.log.append((name, "registered"))
        request.add_cleanup(lambda: self.log.append((name, "cleaned")))

    def define(self) -> None:
        """Define the twelve fixtures in the current registry."""
        for name in GRAPH:
            self._define(name)

    def _define(self, name: str) -> None:
        def blocking(request: FixtureRequest) -> Iterator[str]:
            self._register(name, request)
            self._block(name, "set up")
            self.log.append((name, "up"))
            yield name
            try:
                self._block(name, "tear down")
            finally:
                self.log.append((name, "down"))

        async def awaiting(request: FixtureRequest) -> AsyncIterator[str]:
            self._register(name, request)
            await self._take(name, "set up")
            self.log.append((name, "up"))
            yield name
            try:
                await self._take(name, "tear down")
            finally:
                self.log.append((name, "down"))

        async def grouped(request: FixtureRequest) -> AsyncIterator[str]:
            self._register(name, request)
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                await self._take(name, "set up")
                self.log.append((name, "up"))
                yield name
                try:
                    await self._take(name, "tear down")
                finally:
                    self.log.append((name, "down"))
                    group.cancel_scope.cancel()

        functions: dict[str, Callable[..., Any]] = {
            "generator": blocking,
            "context manager": contextmanager(blocking),
            "async generator": awaiting,
            "async context manager": asynccontextmanager(awaiting),
            "task group": grouped,
        }
        managed_fixture(
            name=name,
            dependencies=GRAPH[name],
            # Tight only where something hangs: a busy machine is not a fault.
            timeout=BUDGET if self.faults.get((name, "tear down")) == "hang" else 60.0,
            setup_timeout=BUDGET if self.faults.get((name, "set up")) == "hang" else 60.0,
        )(functions[SHAPE_OF[name]])

    def run(self) -> Run:
        """Open the barrier, do nothing, and leave it."""
        began = time.perf_counter()
        with use_registry():
            self.define()
            try:
                if self.mode.backend is None:
                    with isolation_barrier(mode="off", owner="the run", fixtures=list(GRAPH), timeout=60.0):
                        self.log.append(("body", "reached"))
                else:
                    anyio.run(self._main, backend=self.mode.backend)
            except BaseException as error:
                self.raised = error
        self.seconds = time.perf_counter() - began
        return self

    async def _main(self) -> None:
        with anyio.CancelScope() as scope:
            self.cancel = scope.cancel
            async with isolation_barrier(
                mode="off",
                owner="the run",
                fixtures=list(GRAPH),
                timeout=60.0,
                max_concurrency=self.mode.concurrency,
            ):
                self.log.append(("body", "reached"))
                await checkpoint()

    # -- what holds, whatever was injected ---------------------------------------

    def faults_found(self) -> list[str]:
        """Return what is wrong with the outcome; nothing, one hopes."""
        return [*self._skipped(), *self._lost(), *([f"took {self.seconds:.1f} s"] if self.seconds > LIMIT else [])]

    def _skipped(self) -> Iterator[str]:
        names = {what: [name for name, each in self.log if each == what] for _, what in self.log}
        up, torn, down = (sorted(names.get(what, [])) for what in ("up", "tear down", "down"))
        if not up == torn == down:
            yield f"teardowns skipped or repeated: up {up}, torn down {torn}, down {down}"
        if sorted(names.get("registered", [])) != sorted(names.get("cleaned", [])):
            yield f"cleanups skipped or repeated: {names.get('registered')} {names.get('cleaned')}"
        for name, needs in GRAPH.items():
            for need in needs:
                order = [step for step in self.log if step in ((name, "down"), (need, "tear down"))]
                if order == [(need, "tear down"), (name, "down")]:
                    yield f"{need} went down before {name}"

    def _lost(self) -> Iterator[str]:
        found = list(everything_in(self.raised))
        for error in self.injected:
            if not any(error is each for each in found):
                yield f"lost {error!r}; raised was {self.raised!r}"
        hangs = [position for position, kind in self.fired.items() if kind == "hang"]
        for name, phase in hangs:
            ended_by_others = len(self.fired) > 1 and (phase == "set up" or "cancel" in self.fired.values())
            if ended_by_others or (phase == "set up" and SHAPE_OF[name] in BLOCKING):
                continue
            expected = TeardownTimeout if phase == "tear down" else SetupTimeout
            if not any(isinstance(each, expected) and each.node == name for each in found):
                yield f"the hang in {phase} of {name} went unreported; raised was {self.raised!r}"
        if not self.fired and self.raised is not None:
            yield f"raised {self.raised!r} for nothing"
        for each in found:
            if isinstance(each, TeardownErrors) and not all(_is_noted(leaf) for leaf in each.exceptions):
                yield f"a leaf of {each!r} does not say whose it is"


def _is_noted(leaf: BaseException) -> bool:
    if isinstance(leaf, BaseExceptionGroup):
        return all(_is_noted(each) for each in leaf.exceptions)
    return any("the run" in note for note in getattr(leaf, "__notes__", ()))


def everything_in(error: BaseException | None) -> Iterator[BaseException]:
    """Yield *error*, the members of groups, and causes."""
    if error is None:
        return
    yield error
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from everything_in(member)
    if not isinstance(error, SetupError):
        yield from everything_in(error.__cause__)


def cases(count: int) -> Iterator[tuple[Mode, Faults]]:
    """Yield every mode with every combination of *count* faults that there can be in it."""
    for mode in MODES:
        # Without an event loop there is nothing to cancel.
        kinds: list[Kind] = [kind for kind in KINDS if kind != "cancel" or mode.backend is not None]
        for positions in itertools.combinations(POSITIONS, count):
            for chosen in itertools.product(kinds, repeat=count):
                faults: Faults = dict(zip(positions, chosen, strict=True))
                yield mode, faults


def main() -> int:
    """Run the matrix, or a part of it, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default="1/1", metavar="K/N", help="every N-th case, beginning with the K-th")
    first, step = map(int, parser.parse_args().part.split("/"))
    failures = 0
    slowest = 0.0
    counts: Counter[str] = Counter()
    for number, (mode, faults) in enumerate(itertools.chain(cases(1), cases(2))):
        if number % step != first - 1:
            continue
        run = Run(mode, faults).run()
        counts[f"{len(faults)} fault{'s' * (len(faults) > 1)}, {mode}"] += 1
        slowest = max(slowest, run.seconds)
        for text in run.faults_found():
            failures += 1
            print(f"{mode} {faults}: {text}")
    for what, count in counts.items():
        print(f"{what:<24} {count:>6} runs")
    print(f"{sum(counts.values())} runs, {failures} failures, the slowest took {slowest:.2f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
