"""Operations that are awaited or entered, as far as type checkers are concerned."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from isolation_core.services._operations import Operation, operation

__all__ = ["Dual", "dual"]

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Dual(Protocol[T_co]):
    """What a call gives: await it, or use ``async with``."""

    def __await__(self) -> Generator[Any, Any, T_co]: ...
    async def __aenter__(self) -> T_co: ...
    async def __aexit__(self, *exc: object) -> None: ...


def dual(function: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Operation[P, Dual[T]]:
    """Make a method an operation that is awaited or entered."""
    return cast("Operation[P, Dual[T]]", operation(shape="dual")(function))
