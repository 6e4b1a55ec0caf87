"""Members of a specification, read from the object itself: how they bind, and the results of their calls.

Follows the descriptor protocol as far as it can be followed without running
the specification: properties are not read; only a descriptor of the user's own
that is neither callable nor a property is asked, as ``getattr(cls, name)`` asks it.
"""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    WrapperDescriptorType,
)
from typing import Any, Final, NamedTuple

from isolation_core.mocks._annotations import (
    UNKNOWN,
    Scope,
    annotations_of,
    has_special,
    is_a,
    is_class,
    origin_of,
    own_dict,
)
from isolation_core.mocks._calls import is_async_callable
from isolation_core.mocks._profiles import Shape
from isolation_core.mocks._stdlib import is_mock

__all__ = ["Awaited", "Callee", "after", "declared", "dissect", "is_dummy", "overloads_of", "scope_of"]


class Callee(NamedTuple):
    """How one raw attribute behaves.

    Attributes:
        function: where shape and signature are read; None: it is a value.
        skip: whether the look-up fills in the first parameter.
        getter: the function of a property, whose annotation says what it gives.
    """

    function: Any = None
    skip: bool = False
    getter: Any = None


def _attribute(subject: Any, name: str) -> Any:
    try:
        return getattr(subject, name, None)
    except Exception:
        return None


_BINDING: Final = (FunctionType, MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType)


def dissect(raw: Any, cls: type[Any] | None) -> Callee:  # noqa: PLR0911 - one for each kind
    """Return how *raw* behaves on access through an instance.

    Args:
        raw: the stored attribute.
        cls: the class in whose namespace it is; None: it is in that of an object.
    """
    if is_a(raw, staticmethod):
        return Callee(raw.__func__)
    if is_a(raw, classmethod):
        inner = raw.__func__
        return Callee(getter=inner.fget) if is_a(inner, property) else Callee(inner, skip=True)
    if is_a(raw, functools.partialmethod):
        inner = getattr(raw.func, "__func__", raw.func)
        first = () if is_a(raw.func, staticmethod) else (None,)
        return Callee(functools.partial(inner, *first, *raw.args, **raw.keywords))
    if is_a(raw, functools.singledispatchmethod):
        return dissect(raw.func, cls)
    if is_class(raw):
        return Callee(raw)
    if is_mock(raw):
        return Callee()
    if cls is None:
        return Callee(raw) if callable(raw) else Callee()
    if is_a(raw, _BINDING):
        return Callee(raw, skip=True)
    if is_a(raw, MethodType | BuiltinFunctionType) or not has_special(raw, "__get__"):
        return Callee(raw) if callable(raw) else Callee()
    if callable(raw) and not has_special(raw, "__set__"):
        return Callee(raw, skip=True)
    getter = next((found for name in ("fget", "func", "__wrapped__") if (found := _attribute(raw, name))), None)
    if is_a(raw, property | functools.cached_property) or has_special(raw, "__set__") or has_special(raw, "__delete__"):
        return Callee(getter=getter)
    try:
        kind: Any = type(raw)
        bound = kind.__get__(raw, None, cls)
    except Exception:
        return Callee(getter=getter)
    if callable(bound) and bound is not raw:
        return Callee(bound, skip=is_a(bound, FunctionType))
    return Callee(getter=getter)


def _links(outermost: Any) -> Iterator[Any]:
    """Yield *outermost* and what it wraps."""
    seen: set[int] = set()
    function: Any = outermost
    while function is not None and id(function) not in seen and len(seen) < 64:
        seen.add(id(function))
        yield function
        if is_a(function, functools.partial | functools.partialmethod):
            function = getattr(function, "func")  # noqa: B009 - the checkers narrow it to a function
        elif is_a(function, MethodType | staticmethod | classmethod):
            function = getattr(function, "__func__")  # noqa: B009 - likewise
        elif is_class(function) or is_mock(function):
            return
        else:
            function = _attribute(function, "__wrapped__")
            if not callable(function):
                return


def scope_of(function: Any, owner: type[Any] | None, actual: type[Any] | None, parameters: Mapping[Any, Any]) -> Scope:
    """Return where the annotations of *function* were written."""
    for link in reversed(tuple(_links(function))):
        found = _attribute(link, "__globals__")
        if isinstance(found, dict):
            return Scope(found, owner, actual, parameters)
    module = sys.modules.get(str(_attribute(function, "__module__")))
    return Scope({} if module is None else vars(module), owner, actual, parameters)


def _by_wrapper(link: Any) -> tuple[Shape, Any] | None:
    """Return shape and annotation if ``@asynccontextmanager`` or ``@contextmanager`` made *link*."""
    if not is_a(link, FunctionType) or link.__globals__ is not contextlib.__dict__:
        return None
    wrapped = _attribute(link, "__wrapped__")
    gives = annotations_of(wrapped).get("return", UNKNOWN)
    if inspect.isasyncgenfunction(wrapped):
        return "dual", _Entered(gives)
    if inspect.isgeneratorfunction(wrapped):
        return "sync", _Entered(gives, contextlib.AbstractContextManager)
    return None


class _Entered(NamedTuple):
    """The annotation of a generator that became a context manager: it enters what the generator yields."""

    iterator: Any
    manager: Any = None


def declared(function: Any) -> tuple[Shape | None, Any]:
    """Return what a call of *function* gives, None if that depends on its annotation, and the annotation."""
    annotation: Any = inspect.Parameter.empty
    shape: Shape | None = None
    for link in _links(function):
        if is_class(link):
            return "sync", link
        wrapper = _by_wrapper(link)
        if wrapper is not None:
            return wrapper
        if shape is None:
            shape = _of_link(link)
        if annotation is inspect.Parameter.empty:
            annotation = annotations_of(link).get("return", annotation)
            if annotation is inspect.Parameter.empty and not is_a(link, FunctionType):
                call = inspect.getattr_static(type(link), "__call__", None)
                if isinstance(call, FunctionType) and _attribute(link, "__wrapped__") is None:
                    annotation = annotations_of(call).get("return", annotation)
    return shape, annotation


def _of_link(link: Any) -> Shape | None:
    try:
        if inspect.isasyncgenfunction(link):
            return "iterating"
        if is_async_callable(link) and not is_mock(link):
            return "async"
        if not is_a(link, FunctionType | MethodType | functools.partial):
            call = inspect.getattr_static(type(link), "__call__", None)
            if inspect.isasyncgenfunction(call):
                return "iterating"
            if inspect.iscoroutinefunction(call):
                return "async"
    except Exception:
        return None  # an object that raises when it is asked what it is
    return None


def overloads_of(function: Any, owner: type[Any] | None, name: str) -> list[Callable[..., Any]]:
    """Return the ``@overload`` variants of a member, even without an implementation."""
    module, path = _attribute(function, "__module__"), _attribute(function, "__qualname__")
    if owner is not None and is_dummy(function):
        module, path = owner.__module__, f"{owner.__qualname__}.{name}"
    named = types.SimpleNamespace(__module__=module, __qualname__=path)
    try:
        return list(typing.get_overloads(named))  # type: ignore[arg-type]
    except Exception:
        return []


def is_dummy(function: Any) -> bool:
    """Return whether *function* is the placeholder that ``@overload`` leaves without an implementation."""
    return is_a(function, FunctionType) and function.__globals__ is typing.__dict__


_AWAITABLE: Final = (collections.abc.Awaitable, collections.abc.Coroutine, types.CoroutineType)
_ITERATING: Final = (
    collections.abc.AsyncIterator, collections.abc.AsyncGenerator, collections.abc.AsyncIterable,
    types.AsyncGeneratorType,
)  # fmt: skip


def after(  # noqa: PLR0911 - one for each kind
    annotation: Any, scope: Scope, shape: Shape | None
) -> tuple[Shape | None, Any]:
    """Return what a function with this return annotation gives, and what that is once awaited or entered.

    Args:
        annotation: as written.
        scope: where.
        shape: the shape as far as it is known; the result of an ``async def`` follows its annotation.
    """
    if isinstance(annotation, _Entered):
        yields = _argument(scope.resolve(annotation.iterator), 0, scope)
        return shape, annotation.manager[yields] if annotation.manager and yields is not UNKNOWN else yields
    if annotation is inspect.Parameter.empty:
        return shape, UNKNOWN
    meaning = scope.resolve(annotation)
    if shape == "iterating":
        return shape, UNKNOWN
    cls = origin_of(meaning) or meaning
    if not is_class(cls):
        return shape, meaning
    if any(cls is each for each in _AWAITABLE):
        return shape or "async", _argument(meaning, -1, scope)
    if issubclass(cls, asyncio.Future):
        return shape or "async", _argument(meaning, 0, scope)
    if any(cls is each for each in _ITERATING):
        return (shape, meaning) if shape else ("iterating", UNKNOWN)
    if cls is contextlib.AbstractAsyncContextManager:
        return (shape, meaning) if shape else ("dual", _argument(meaning, 0, scope))
    names = {name for base in cls.__mro__ for name in own_dict(base)}
    if "__await__" in names and shape != "sync":
        return shape or ("dual" if names & {"__aenter__", "__aiter__"} else "async"), Awaited(meaning)
    return shape, meaning


class Awaited(NamedTuple):
    """The result of awaiting or entering an object of an awaitable class, from its own methods."""

    meaning: Any


def _argument(meaning: Any, index: int, scope: Scope) -> Any:
    arguments = typing.get_args(meaning)
    return scope.resolve(arguments[index]) if arguments else UNKNOWN
