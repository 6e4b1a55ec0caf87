"""The commands of redis.asyncio as operations: every method of the real client under its name and signature."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import Any, Final

from isolation_core.services._operations import Operable, Operation, operation

__all__ = ["client_operations", "pipeline_operations"]

_ITERATING: Final = frozenset({"scan_iter", "sscan_iter", "hscan_iter", "zscan_iter"})
_HELPERS: Final = frozenset(
    {
        # What touches this process only, or hands out the interface of a module: passed on as it is.
        "get_connection_kwargs", "get_encoder", "get_retry", "set_retry", "set_response_callback",
        "load_external_module", "register_script", "json", "ft", "ts", "bf", "cf", "cms", "topk", "tdigest", "vset",
        "monitor",
    }
)  # fmt: skip
# Written out by the classes that have them.
_OWN: Final = frozenset(
    {"client", "pipeline", "pubsub", "lock", "transaction", "from_url", "from_pool", "close", "aclose", "reset",
     "initialize", "himport_registry", "keyspace_notifications"}
)  # fmt: skip
_PIPELINE_OWN: Final = frozenset({"execute", "watch", "unwatch", "multi", "discard"})


def _public(cls: type[Any]) -> dict[str, Callable[..., Any]]:
    found = {name: getattr(cls, name) for name in dir(cls) if name[:1] != "_" and name not in _OWN}
    return {name: function for name, function in found.items() if inspect.isfunction(function)}


def _asynchronous(name: str, real: Callable[..., Any]) -> Operation[..., Any]:
    @functools.wraps(real)
    async def command(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await getattr(self._real, name)(*args, **kwargs)

    # Some are aliases of others in the real class: the log has the name that was used.
    return operation(name=name)(command)


def _synchronous(name: str, real: Callable[..., Any]) -> Operation[..., Any]:
    @functools.wraps(real)
    def helper(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._real, name)(*args, **kwargs)

    return operation(name=name, shape="sync")(helper)


def _iterating(name: str, real: Callable[..., Any]) -> Operation[..., Any]:
    @functools.wraps(real)
    async def iterate(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async for each in getattr(self._real, name)(*args, **kwargs):
            yield each

    return operation(name=name, shape="iterating")(iterate)


def _queued(name: str, real: Callable[..., Any]) -> Operation[..., Any]:
    @functools.wraps(real)
    def queue(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._queue(getattr(self._real, name)(*args, **kwargs))

    return operation(name=name, shape="sync")(queue)


@cache
def client_operations() -> dict[str, Operation[..., Any]]:
    """Return an operation for each method of ``redis.asyncio.Redis`` that is none of a client object's own."""
    import redis.asyncio

    found: dict[str, Operation[..., Any]] = {}
    for name, real in _public(redis.asyncio.Redis).items():
        make = _iterating if name in _ITERATING else _synchronous if name in _HELPERS else _asynchronous
        found[name] = make(name, real)
    return found


@cache
def pipeline_operations() -> dict[str, Operation[..., Any]]:
    """Return an operation for each command that a pipeline queues."""
    from redis.asyncio.client import Pipeline

    names = _public(Pipeline).items()
    return {
        name: _queued(name, real)
        for name, real in names
        if name not in _HELPERS | _ITERATING | _PIPELINE_OWN and not hasattr(Operable, name)
    }
