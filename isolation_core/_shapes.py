"""The one shape inside: whatever a set-up function looks like, it is started and it is finished.

`start` (or `start_async`) returns the value and a finisher, or None where there
is nothing to undo. A finisher takes the exception to throw in, or None to
resume normally, which is the rule: code after a bare ``yield`` runs without
``finally``, as users of other fixture systems expect. When it lets the
exception thrown in pass, that very object comes out again.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from typing import Any, Final, Literal, TypeAlias

from isolation_core.errors import SetupError

__all__ = [
    "ASYNC_KINDS",
    "AsyncFinisher",
    "Finisher",
    "Kind",
    "definition_site",
    "kind_of",
    "parameters_of",
    "start",
    "start_async",
]

Kind: TypeAlias = Literal["plain", "generator", "context manager", "async", "async generator", "async context manager"]
Finisher: TypeAlias = Callable[[BaseException | None], None]
AsyncFinisher: TypeAlias = Callable[[BaseException | None], Awaitable[None]]

ASYNC_KINDS: Final[frozenset[str]] = frozenset({"async", "async generator", "async context manager"})


# The functions contextlib's decorators return all run one code object each,
# which tells them from any other function with a ``__wrapped__``.
@contextlib.contextmanager
def _sample() -> Generator[None]:
    yield


@contextlib.asynccontextmanager
async def _async_sample() -> AsyncGenerator[None]:
    yield


_MANAGER_CODE = _sample.__code__
_ASYNC_MANAGER_CODE = _async_sample.__code__


def kind_of(factory: Callable[..., Any]) -> Kind:
    """Return how *factory* has to be started, without calling it.

    Args:
        factory: a function, a partial, a bound method, a callable object or a class.
            A class is a context-manager factory when its instances can be entered
            (asynchronously, where they can be both).

    Returns:
        The kind.
    """
    function = _innermost(factory)
    if isinstance(function, type):
        if hasattr(function, "__aenter__") and hasattr(function, "__aexit__"):
            return "async context manager"
        if hasattr(function, "__enter__") and hasattr(function, "__exit__"):
            return "context manager"
        return "plain"
    code = getattr(function, "__code__", None)
    if code is _MANAGER_CODE:
        return "context manager"
    if code is _ASYNC_MANAGER_CODE:
        return "async context manager"
    if inspect.isasyncgenfunction(function):
        return "async generator"
    if inspect.isgeneratorfunction(function):
        return "generator"
    return "async" if inspect.iscoroutinefunction(function) else "plain"


def parameters_of(factory: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the parameters *factory* cannot be called without, in order."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # builtins without a text signature
        return ()
    return tuple(
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    )


def definition_site(factory: Callable[..., Any]) -> str:
    """Return ``file:line`` of the definition of *factory*, or what is known instead."""
    function = inspect.unwrap(_innermost(factory))
    code = getattr(function, "__code__", None)
    if code is None and isinstance(function, type):
        # Searching the source for the class statement costs milliseconds; a method of its own is as good a hint.
        for name in ("__init__", "__enter__", "__aenter__", "__new__"):
            code = getattr(function.__dict__.get(name), "__code__", None)
            if code is not None:
                break
        else:
            module = sys.modules.get(function.__module__)
            return getattr(module, "__file__", None) or f"<{function.__module__}.{function.__qualname__}>"
    if code is None:
        return f"<{getattr(function, '__qualname__', type(function).__qualname__)}>"
    return f"{code.co_filename}:{code.co_firstlineno}"


def _innermost(factory: Any) -> Any:
    """Return the function or class behind partials, methods and callable objects."""
    while isinstance(factory, functools.partial):
        factory = factory.func
    if inspect.ismethod(factory):
        return factory.__func__
    if not isinstance(factory, type) and not hasattr(factory, "__code__"):
        # Not callable(): the method itself is wanted, as the type has it.
        call = getattr(type(factory), "__call__", None)  # noqa: B004
        if hasattr(call, "__code__"):
            return call
    return factory


def start(
    kind: Kind, factory: Callable[..., Any], arguments: Mapping[str, Any], name: str
) -> tuple[Any, Finisher | None]:
    """Set up a synchronous *factory*; see the module for what comes back.

    Raises:
        SetupError: if a generator ended without yielding a value.
    """
    if kind == "plain":
        return factory(**arguments), None
    if kind == "generator":
        generator = factory(**arguments)
        try:
            value = next(generator)
        except StopIteration:
            raise SetupError(name, f"{name!r} ended without a yield, so it has no value") from None
        return value, functools.partial(_finish_generator, generator)
    manager = factory(**arguments)
    # Looked up on the type, as the with statement does.
    value = type(manager).__enter__(manager)
    return value, functools.partial(_finish_manager, manager)


def _finish_generator(generator: Generator[Any, Any, Any], error: BaseException | None) -> None:
    try:
        if error is None:
            next(generator)
        else:
            generator.throw(error)
    except StopIteration:
        return
    generator.close()
    raise RuntimeError("the set-up function yielded a second time; everything after its one yield is teardown")


def _finish_manager(manager: Any, error: BaseException | None) -> None:
    # What __exit__ answers is ignored: no fixture may make a failed body pass.
    if error is None:
        type(manager).__exit__(manager, None, None, None)
    else:
        type(manager).__exit__(manager, type(error), error, error.__traceback__)


async def start_async(
    kind: Kind, factory: Callable[..., Any], arguments: Mapping[str, Any], name: str
) -> tuple[Any, AsyncFinisher | None]:
    """Set up an asynchronous *factory*; the twin of `start`.

    Cancellation reaches the factory and comes out again.

    Raises:
        SetupError: if an async generator ended without yielding a value.
    """
    if kind == "async":
        return await factory(**arguments), None
    if kind == "async generator":
        generator = factory(**arguments)
        try:
            value = await generator.__anext__()
        except StopAsyncIteration:
            raise SetupError(name, f"{name!r} ended without a yield, so it has no value") from None
        return value, functools.partial(_finish_async_generator, generator)
    manager = factory(**arguments)
    value = await type(manager).__aenter__(manager)
    return value, functools.partial(_finish_async_manager, manager)


async def _finish_async_generator(generator: AsyncGenerator[Any, Any], error: BaseException | None) -> None:
    try:
        if error is None:
            await generator.__anext__()
        else:
            await generator.athrow(error)
    except StopAsyncIteration:
        return
    await generator.aclose()
    raise RuntimeError("the set-up function yielded a second time; everything after its one yield is teardown")


async def _finish_async_manager(manager: Any, error: BaseException | None) -> None:
    if error is None:
        await type(manager).__aexit__(manager, None, None, None)
    else:
        await type(manager).__aexit__(manager, type(error), error, error.__traceback__)
