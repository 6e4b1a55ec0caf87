"""Which event loop an asynchronous managed fixture lives on: that of the test that asks for it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from isolation_core.errors import CleanupError, SetupError
from isolation_core.graph import SCOPE_RANKS
from isolation_pytest._loops import AnyioLoop, AsyncioLoop, PluginLoop, SharedLoop, SharedPortal

if TYPE_CHECKING:
    from isolation_core.loops import Owner
    from isolation_pytest._instances import Instance

__all__ = ["LoopChooser"]

_ANYIO: Final = "anyio_backend"
_LOOP: Final = "_isolation_loop_of_"


def _is_coroutine_test(item: pytest.Item) -> bool:
    body = getattr(item, "obj", None)
    inner = getattr(getattr(body, "hypothesis", None), "inner_test", body)
    return inspect.iscoroutinefunction(inner)


class LoopChooser:
    """Chooses loops, keeps them as long as they are needed, and notices when a value lives on the wrong one."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._loops: list[SharedLoop] = []
        self._prepared = False
        # The fixtures of the plugins that loops come from: when they go, what lives on the loop goes first.
        self._sources: dict[str, pytest.FixtureDef[Any]] = {}
        self._crashes: list[Owner] = []
        self._body: anyio.CancelScope | None = None

    def prepare(self) -> None:
        """Get ready for asynchronous fixtures; called as soon as there is one."""
        if not self._prepared:
            self._prepared = True
            if self._config.pluginmanager.has_plugin("asyncio"):
                from isolation_pytest import _asyncio_loops

                self._config.pluginmanager.register(_asyncio_loops, "isolation-asyncio-loops")

    def concerns(self, name: str) -> bool:
        """Return whether the fixture called *name* provides an event loop."""
        return name == _ANYIO or name.startswith(_LOOP)

    def came_up(self, fixturedef: pytest.FixtureDef[Any], value: object) -> None:
        """Take note of a fixture that a loop comes from."""
        self._sources[fixturedef.argname] = fixturedef

    def is_coroutine_test(self, item: pytest.Item) -> bool:
        """Return whether the body of *item* is a coroutine function, which those of Hypothesis are not."""
        return inspect.iscoroutinefunction(getattr(item, "obj", None))

    # -- choosing ---------------------------------------------------------------

    def wanted_by(self, item: pytest.Item, scope: str) -> tuple[str, ...] | None:
        """Return what kind of loop *item* runs on, as far as fixtures of *scope* are concerned; None: on none."""
        names = getattr(item, "fixturenames", ())
        marker = item.get_closest_marker("asyncio")
        if marker is not None and self._config.pluginmanager.has_plugin("asyncio") and _is_coroutine_test(item):
            loop_scope = marker.kwargs.get("loop_scope") or marker.kwargs.get("scope") or self._default_loop_scope()
            return ("asyncio", max(loop_scope, scope, key=SCOPE_RANKS.__getitem__))
        if _ANYIO in names:
            callspec = getattr(item, "callspec", None)
            backend = callspec.params.get(_ANYIO) if callspec is not None else None
            return ("anyio", repr(backend)) if backend is not None else ("anyio",)
        return None

    def _default_loop_scope(self) -> str:
        try:
            return self._config.getini("asyncio_default_test_loop_scope") or "function"
        except (KeyError, ValueError):
            return "function"

    def choose(
        self, instance: Instance, item: pytest.Item, arguments: Mapping[str, Any], live: Iterable[Instance]
    ) -> None:
        """Give the run of *instance* its event loop, leased.

        Raises:
            SetupError: if that loop is running at the moment, so that nothing can be set up on it from outside.
        """
        request = instance.request
        kind = self.wanted_by(item, request.scope)
        if kind is None:
            loop = self._without_plugin(arguments, live)
        elif kind[0] == "asyncio":
            loop = self._of_asyncio(kind, request, instance)
        else:
            loop = self._of_anyio(item, request, instance)
        if loop.is_running:
            name = instance.run.name
            raise SetupError(
                name,
                f"the asynchronous fixture {name!r} is asked for inside of a coroutine, whose event loop it would live "
                "on; ask for it as a parameter of the test, or with @pytest.mark.usefixtures",
            )
        instance.loop = loop
        instance.run.live_on(loop.lease())

    def _without_plugin(self, arguments: Mapping[str, Any], live: Iterable[Instance]) -> SharedLoop:
        """Return a loop for a synchronous test: that of its dependencies, an existing one, or a new one."""
        values = {id(value) for value in arguments.values()}
        for each in live:
            if each.loop is not None and id(each.run.value) in values:
                return each.loop
        for loop in self._loops:
            if isinstance(loop, AnyioLoop | SharedPortal):
                return loop
        portal = SharedPortal("asyncio", self._loops.remove)
        self._loops.append(portal)
        return portal

    def _of_asyncio(self, kind: tuple[str, ...], request: pytest.FixtureRequest, instance: Instance) -> SharedLoop:
        name = _LOOP + kind[1]
        found = request.getfixturevalue(name)
        self._sources[name].addfinalizer(partial(instance.fixturedef.finish, request=request))  # type: ignore[arg-type]
        for loop in self._loops:
            if isinstance(loop, AsyncioLoop) and loop.loop is found:
                return loop
        return self._add(AsyncioLoop(found, kind, self._loops.remove, self._on_crash))

    def _of_anyio(self, item: pytest.Item, request: pytest.FixtureRequest, instance: Instance) -> SharedLoop:
        callspec = getattr(item, "callspec", None)
        backend = None if callspec is None else callspec.params.get(_ANYIO)
        if backend is None or request.scope in ("function", "class"):
            backend = request.getfixturevalue(_ANYIO)
            self._sources[_ANYIO].addfinalizer(partial(instance.fixturedef.finish, request=request))  # type: ignore[arg-type]
        # Otherwise it may be of a narrower scope than the fixture, and the parameter is known all the same.
        kind = ("anyio", repr(backend))
        for loop in self._loops:
            if loop.key == kind:
                return loop
        return self._add(AnyioLoop(backend, kind, self._loops.remove, self._on_crash))

    def _add(self, loop: PluginLoop) -> PluginLoop:
        self._loops.append(loop)
        return loop

    def is_wrong_for(self, instance: Instance, item: pytest.Item) -> bool:
        """Return whether *instance* has to be rebuilt, because *item* runs on another loop."""
        loop = instance.loop
        if loop is None:
            return False
        wanted = self.wanted_by(item, instance.run.scope.value)
        if wanted is None or wanted == loop.key or wanted == loop.key[: len(wanted)]:
            return False
        if wanted[0] == "anyio" and loop.key[0] == "anyio":
            # anyio's plugin has one runner at a time, and ours would be taken for that of the test.
            return True
        return instance.run.name in getattr(item, "fixturenames", ())

    # -- the body of an asynchronous test -----------------------------------------

    def _on_crash(self, owner: Owner) -> None:
        self._crashes.append(owner)
        if self._body is not None:
            self._body.cancel()

    @contextmanager
    def around_body(self, item: pytest.Item, live: Iterable[Instance]) -> Generator[None]:
        """Have the body of an asynchronous test see the variables its fixtures have set, and end when one crashes."""
        body = item.obj  # type: ignore[attr-defined]
        bindings = [each for instance in live for each in instance.run.bindings()]

        @functools.wraps(body)
        async def watched(**arguments: Any) -> None:
            # A plugin may run all tests in the context of the first.
            tokens = [(variable, variable.set(value)) for variable, value in bindings]
            try:
                await guarded(arguments)
            finally:
                for variable, token in reversed(tokens):
                    variable.reset(token)

        async def guarded(arguments: Mapping[str, Any]) -> None:
            with anyio.CancelScope() as scope:
                self._body = scope
                if self._crashes:
                    scope.cancel()
                try:
                    await body(**arguments)
                finally:
                    self._body = None
            if scope.cancelled_caught:
                names = " and ".join(repr(owner.node.name) for owner in self._crashes)
                raise CleanupError(
                    names,
                    f"the test was cancelled, because {names} failed in the background; "
                    "the error is reported at its teardown",
                )

        item.obj = watched  # type: ignore[attr-defined]
        try:
            yield
        finally:
            item.obj = body  # type: ignore[attr-defined]
            self._crashes.clear()
