"""`isolated`: a function whose every call is a barrier."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from isolation_core.config import Mode, current_settings

if TYPE_CHECKING:
    from isolation_core.barrier import Barrier
    from isolation_core.runner import RunnerSession

__all__ = ["isolated"]

P = ParamSpec("P")
R = TypeVar("R")


@overload
def isolated(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def isolated(
    group: str = "default",
    *,
    mode: Mode | None = None,
    packages: Iterable[str] | None = None,
    probes: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
    owner: str | None = None,
    timeout: float | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def isolated(
    group: str | Callable[P, R] = "default",
    *,
    mode: Mode | None = None,
    packages: Iterable[str] | None = None,
    probes: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
    owner: str | None = None,
    timeout: float | None = None,
) -> Any:
    """Put a barrier around every call of a function, sync or async.

    Usable bare (``@isolated``) and with arguments (``@isolated(mode="strict")``).
    Arguments that are not given come from the settings. The result or exception
    of the function is passed on; an async function is cleaned up in the task that
    awaits it, also when that task is cancelled.

    Args:
        group: the isolation group.
        mode: ``"off"``, ``"report"``, ``"restore"`` or ``"strict"``.
        packages: whose module state is watched deeply.
        probes: kinds to watch.
        ignore: ``kind:path-glob`` patterns of changes to leave alone.
        owner: who is responsible; the function's name by default.
        timeout: seconds each cleanup may take.

    Returns:
        The function with a barrier around it, or a decorator.

    Raises:
        TypeError: for a generator function, which runs after the call has returned.
        ContaminationError: from a call, in mode ``strict``, if it left something behind.
    """
    if callable(group):
        return isolated()(group)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def barrier() -> Barrier | None:
            chosen = current_settings()
            if (mode or chosen.mode) == "off":
                return None
            return _session().make(
                "barrier",
                owner or _name_of(function),
                group=group,
                mode=mode,
                packages=packages,
                probes=probes,
                ignore=ignore,
                timeout=timeout,
            )

        return _wrap(function, barrier)

    return decorate


@functools.cache
def _session() -> RunnerSession:
    """Return the session of the decorated functions of this process."""
    from isolation_core.runner import RunnerSession

    return RunnerSession(runner="isolated", shared=True)


def _wrap(function: Callable[..., Any], barrier: Callable[[], Barrier | None]) -> Callable[..., Any]:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"isolated() cannot go around the generator function {_name_of(function)}: its body runs after the call; "
            "use `with isolation_barrier():` inside it, or isolate the function that consumes it"
        )
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def isolated_coroutine(*args: Any, **kwargs: Any) -> Any:
            around = barrier()
            if around is None:
                return await function(*args, **kwargs)
            async with around:
                return await function(*args, **kwargs)

        return isolated_coroutine

    @functools.wraps(function)
    def isolated_function(*args: Any, **kwargs: Any) -> Any:
        around = barrier()
        if around is None:
            return function(*args, **kwargs)
        with around:
            return function(*args, **kwargs)

    return isolated_function


def _name_of(function: Callable[..., Any]) -> str:
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    if module == "__main__":
        # Every script is called __main__; its file tells them apart.
        file = getattr(sys.modules["__main__"], "__file__", None)
        module = os.path.basename(file) if file else None
    return f"{module}::{name}" if module else name
