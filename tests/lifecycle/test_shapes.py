"""The shape of any set-up function is determined without calling it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

from isolation_core._shapes import definition_site, kind_of, parameters_of, start, start_async


def plain() -> None:
    """Return nothing."""


def generator() -> Iterator[None]:
    """Yield once."""
    yield


async def coroutine() -> None:
    """Return nothing, asynchronously."""


async def async_generator() -> AsyncIterator[None]:
    """Yield once, asynchronously."""
    yield


class Manager:
    """A class whose instances can be entered."""

    def __enter__(self) -> str:
        return "entered"

    def __exit__(self, *error: object) -> bool:
        return True


class AsyncManager(Manager):
    """A class whose instances can be entered both ways, such as a client with a blocking leftover."""

    async def __aenter__(self) -> str:
        return "entered"

    async def __aexit__(self, *error: object) -> bool:
        return True


class Callback:
    """A callable object, and methods."""

    def __call__(self) -> Iterator[None]:
        yield

    async def method(self) -> None: ...


@pytest.mark.parametrize(
    ("factory", "kind"),
    [
        (plain, "plain"),
        (generator, "generator"),
        (coroutine, "async"),
        (async_generator, "async generator"),
        (contextlib.contextmanager(generator), "context manager"),
        (contextlib.asynccontextmanager(async_generator), "async context manager"),
        (functools.partial(contextlib.contextmanager(generator)), "context manager"),
        (functools.partial(functools.partial(coroutine)), "async"),
        (Manager, "context manager"),
        (AsyncManager, "async context manager"),
        (Callback, "plain"),
        (Callback(), "generator"),
        (Callback().method, "async"),
        (lambda: 1, "plain"),
        (dict, "plain"),
        (len, "plain"),
    ],
)
def test_kind(factory: Callable[..., Any], kind: str) -> None:
    """Functions, partials, methods, callable objects and classes are recognised."""
    assert kind_of(factory) == kind


def test_parameters() -> None:
    """Only what a call cannot do without counts as a dependency."""

    def factory(a: int, b: int = 1, *more: int, c: int, d: int = 2, **others: int) -> None: ...

    assert parameters_of(factory) == ("a", "c")
    assert parameters_of(functools.partial(factory, c=3)) == ("a",)
    assert parameters_of(dict) == ()


def test_definition_site() -> None:
    """The place is that of the user's function, through decorators, partials and classes."""
    here = f"{__file__}:{generator.__code__.co_firstlineno}"
    assert definition_site(generator) == here
    assert definition_site(contextlib.contextmanager(generator)) == here
    assert definition_site(functools.partial(generator)) == here
    assert definition_site(Manager) == f"{__file__}:{Manager.__enter__.__code__.co_firstlineno}"
    assert definition_site(len) == "<len>"
    assert definition_site(dict) == "<builtins.dict>"
    assert definition_site(KeyError) == "<builtins.KeyError>"
    assert definition_site(ModuleOnly) == __file__


class ModuleOnly:
    """A class without a method of its own."""


def test_classes_are_entered_and_left() -> None:
    """The value of a context manager class is the result of entering it; it cannot suppress errors of the body."""
    value, finish = start("context manager", Manager, {}, "manager")
    assert value == "entered"
    assert finish is not None
    finish(ValueError("body"))

    async def main() -> None:
        value, finish = await start_async("async context manager", AsyncManager, {}, "manager")
        assert value == "entered"
        assert finish is not None
        await finish(ValueError("body"))
        value, finish = await start_async("async context manager", AsyncManager, {}, "manager")
        assert finish is not None
        await finish(None)

    anyio.run(main)


def test_a_second_yield_closes_the_async_generator() -> None:
    """An async generator that yields twice is closed before that is reported."""
    closed = []

    async def twice() -> AsyncIterator[None]:
        try:
            yield
            yield
        finally:
            closed.append(True)

    async def main() -> None:
        _, finish = await start_async("async generator", twice, {}, "twice")
        assert finish is not None
        with pytest.raises(RuntimeError, match="yielded a second time"):
            await finish(None)

    anyio.run(main)
    assert closed == [True]
