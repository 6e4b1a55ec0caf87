"""Objects of a real client with log, faults and mock API: its own class, whose public methods are operations.

What a method of the client calls of itself is part of that one call, and neither logged nor faulted.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any

from isolation_core.services._double import ClientObject
from isolation_core.services._operations import Operation, operation

if TYPE_CHECKING:
    from isolation_core.mocks import Shape
    from isolation_core.services._double import ServiceDouble

__all__ = ["Recorded", "adopt", "combined", "is_quiet", "quiet", "recorded"]

_inside: ContextVar[bool] = ContextVar("isolation_core_inside_a_client", default=False)


@contextmanager
def quiet(*, on: bool = True) -> Iterator[None]:
    """Within this block calls of recorded objects are part of another call; *on* False: they are calls of the user."""
    token = _inside.set(on)
    try:
        yield
    finally:
        _inside.reset(token)


def is_quiet() -> bool:
    """Tell whether what is called now is part of another call."""
    return _inside.get()


class Recorded(ClientObject):
    """Base of the classes that are made of a client's class; mix it in before that."""

    def __setattr__(self, name: str, value: object) -> None:
        # The attributes of a client are its own business, and code may replace its methods.
        if isinstance(getattr(type(self), name, None), Operation):
            vars(self).setdefault("_replaced", {})[name] = value
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if name in self.__dict__.get("_replaced", ()):
            del self.__dict__["_replaced"][name]
        else:
            object.__delattr__(self, name)

    def _operation_mock(self, operation: Operation[Any, Any]) -> Any:
        replaced: dict[str, Any] = self.__dict__.get("_replaced", {})
        if operation.attribute in replaced:
            return replaced[operation.attribute]
        if _inside.get():
            return operation.function.__get__(self)
        return super()._operation_mock(operation)


def recorded(function: Callable[..., Any], *, name: str, shape: Shape | None = None) -> Operation[..., Any]:
    """Return an operation that is *function* of the client, an asynchronous one unless *shape* says otherwise."""
    if shape == "iterating":

        @wraps(function)
        async def iterate(self: Any, *args: Any, **kwargs: Any) -> Any:
            async for each in function(self, *args, **kwargs):
                yield each

        return operation(name=name, shape=shape)(iterate)
    if shape == "sync":

        @wraps(function)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            with quiet():
                return function(self, *args, **kwargs)

        return operation(name=name, shape=shape)(call)

    @wraps(function)
    async def awaited(self: Any, *args: Any, **kwargs: Any) -> Any:
        with quiet():
            result = function(self, *args, **kwargs)
            return await result if inspect.isawaitable(result) else result

    return operation(name=name)(awaited)


def combined(base: type[Recorded], plain: type[Any], namespace: dict[str, Any]) -> type[Recorded]:
    """Return a class of both *base* and *plain*, a class of a client, whatever their metaclasses are."""
    metas: tuple[Any, ...] = (type(base), type(plain))
    meta: Any = metas[0] if issubclass(*metas) else type("_Meta", metas, {})
    made: type[Recorded] = meta(
        base.__name__, (base, plain), {"__doc__": base.__doc__, "__module__": base.__module__, **namespace}
    )
    return made


def adopt(real: Any, cls: type[Recorded], double: ServiceDouble) -> Any:
    """Turn *real*, an object of a client, into one of *cls*, which derives from its class, that belongs to *double*."""
    real.__class__ = cls
    ClientObject.__init__(real, double)
    return real
