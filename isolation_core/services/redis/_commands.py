"""The methods of redis.asyncio as operations, under their names and with their signatures."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from isolation_core.services._operations import Operation, operation
from isolation_core.services._recorded import recorded

if TYPE_CHECKING:
    from isolation_core.mocks import Shape

__all__ = ["delegating_operations", "recorded_operations"]

_ITERATING: Final = frozenset({"scan_iter", "sscan_iter", "hscan_iter", "zscan_iter", "listen"})
_HELPERS: Final = frozenset(
    {
        # What touches this process only, or hands out the interface of a module: passed on as it is.
        "get_connection_kwargs", "get_encoder", "get_retry", "set_retry", "set_response_callback",
        "load_external_module", "register_script", "json", "ft", "ts", "bf", "cf", "cms", "topk", "tdigest", "vset",
        "monitor",
    }
)  # fmt: skip
# Written out by the classes that have them, or no commands.
_OWN: Final = frozenset(
    {"client", "pipeline", "pubsub", "lock", "transaction", "from_url", "from_pool", "close", "initialize",
     "himport_registry", "keyspace_notifications", "parse_response", "handle_message",
     "reset_connections", "on_connect", "connect", "immediate_execute_command", "pipeline_execute_command",
     "annotate_exception", "raise_first_error", "load_scripts", "disconnect_and_raise", "clean_health_check_responses",
     "try_read", "check_health"}
)  # fmt: skip
_SYNCHRONOUS: Final = frozenset({"multi"})


def _public(cls: type[Any]) -> dict[str, Callable[..., Any]]:
    found = {name: getattr(cls, name) for name in dir(cls) if name[:1] != "_" and name not in _OWN}
    return {name: function for name, function in found.items() if inspect.isfunction(function)}


@cache
def delegating_operations(cls: type[Any]) -> dict[str, Operation[..., Any]]:
    """Return an operation for each command of *cls*, a client, that calls it on what ``_real`` gives."""

    def asynchronous(name: str, real: Callable[..., Any]) -> Operation[..., Any]:
        @functools.wraps(real)
        async def command(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await getattr(self._real, name)(*args, **kwargs)

        return operation(name=name)(command)

    def synchronous(name: str, real: Callable[..., Any]) -> Operation[..., Any]:
        @functools.wraps(real)
        def helper(self: Any, *args: Any, **kwargs: Any) -> Any:
            return getattr(self._real, name)(*args, **kwargs)

        return operation(name=name, shape="sync")(helper)

    def iterating(name: str, real: Callable[..., Any]) -> Operation[..., Any]:
        @functools.wraps(real)
        async def iterate(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async for each in getattr(self._real, name)(*args, **kwargs):
                yield each

        return operation(name=name, shape="iterating")(iterate)

    # Some are aliases of others in the real class: the log has the name that was used.
    return {
        name: (iterating if name in _ITERATING else synchronous if name in _HELPERS else asynchronous)(name, real)
        for name, real in _public(cls).items()
    }


@cache
def recorded_operations(cls: type[Any], *, queues: bool = False) -> dict[str, Operation[..., Any]]:
    """Return the public methods of *cls*, a class of redis.asyncio, as operations of objects of that class.

    Args:
        cls: the class.
        queues: whether commands are queued, as in a pipeline: what they give may be awaited, or not.
    """
    found: dict[str, Operation[..., Any]] = {}
    for name, real in _public(cls).items():
        plain = name in _SYNCHRONOUS or (queues and not inspect.iscoroutinefunction(real))
        if name in _HELPERS or (queues and name in _ITERATING):
            continue
        shape: Shape | None = "iterating" if name in _ITERATING else "sync" if plain else None
        found[name] = recorded(real, name=name, shape=shape)
    return found
