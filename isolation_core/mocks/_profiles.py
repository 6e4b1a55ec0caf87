"""Shapes that cannot be read off a declaration, for well-known clients and for your own.

Of the 367 awaitable methods of ``redis.asyncio.Redis`` eighteen are declared
``async def``; ``asyncpg``'s ``pool.acquire()`` can be awaited and entered. A
profile says so by name. Classes are found by module and qualified name along
the method resolution order, so nothing is imported to look them up.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Final, Literal
from weakref import WeakKeyDictionary

from attrs import field, frozen

__all__ = ["Shape", "ShapeProfile", "profile_for", "register_shape_profile"]

Shape = Literal["async", "sync", "dual", "iterating"]
"""What a call gives: a coroutine; a value; something to await or enter; an async iterator."""


def _names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(names)


def _path_of(target: type[object] | str) -> str:
    return target if isinstance(target, str) else f"{target.__module__}.{target.__qualname__}"


def _paths(returns: Mapping[str, type[object] | str]) -> dict[str, str]:
    return {name: _path_of(target) for name, target in returns.items()}


@frozen
class ShapeProfile:
    """How the members of a class behave when called.

    Attributes:
        asynchronous: names of members whose result must be awaited.
        synchronous: names of members that return a plain value.
        dual: names of members whose result can be awaited and used with ``async with``.
        iterating: names of members whose result is used with ``async for``.
        otherwise: the shape of public methods named nowhere; None leaves it to the declaration.
        returns: members whose result is by default a mock of a class, given as ``module.qualname``.
        enters_itself: whether ``(async) with`` gives the object itself.
    """

    asynchronous: frozenset[str] = field(default=frozenset(), converter=_names)
    synchronous: frozenset[str] = field(default=frozenset(), converter=_names, kw_only=True)
    dual: frozenset[str] = field(default=frozenset(), converter=_names, kw_only=True)
    iterating: frozenset[str] = field(default=frozenset(), converter=_names, kw_only=True)
    otherwise: Shape | None = field(default=None, kw_only=True)
    returns: Mapping[str, str] = field(factory=dict, converter=_paths, kw_only=True)
    enters_itself: bool = field(default=False, kw_only=True)

    def shape(self, name: str) -> Shape | None:
        """Return the shape of the member *name*, or None if the profile says nothing about it."""
        if name in self.asynchronous:
            return "async"
        if name in self.synchronous:
            return "sync"
        if name in self.dual:
            return "dual"
        if name in self.iterating:
            return "iterating"
        return None


_by_class: Final[WeakKeyDictionary[type[object], ShapeProfile]] = WeakKeyDictionary()
_by_path: Final[dict[str, ShapeProfile]] = {}
_lock = threading.Lock()


def register_shape_profile(
    target: type[object] | str,
    *,
    asynchronous: Iterable[str] = (),
    synchronous: Iterable[str] = (),
    dual: Iterable[str] = (),
    iterating: Iterable[str] = (),
    otherwise: Shape | None = None,
    returns: Mapping[str, type[object] | str] | None = None,
    enters_itself: bool = False,
) -> ShapeProfile:
    """Say how the members of a class behave when called; subclasses inherit it.

    A later registration for the same class replaces the earlier one, for
    specifications used from then on.

    Args:
        target: the class, or its ``module.qualname`` so that it need not be imported. The profile of
            a class is kept as long as the class.
        asynchronous: members whose result must be awaited.
        synchronous: members that return a plain value.
        dual: members whose result can be awaited and entered with ``async with``.
        iterating: members whose result is iterated with ``async for``.
        otherwise: the shape of public methods named nowhere; by default the declaration decides.
        returns: members whose result is by default a mock of this class.
        enters_itself: True if ``(async) with`` gives the object itself.

    Returns:
        The profile.
    """
    profile = ShapeProfile(
        asynchronous, synchronous=synchronous, dual=dual, iterating=iterating, otherwise=otherwise,
        returns=returns or {}, enters_itself=enters_itself,
    )  # fmt: skip
    with _lock:
        if isinstance(target, str):
            _by_path[target] = profile
        else:
            _by_class[target] = profile
    return profile


def profile_for(cls: type[object]) -> tuple[ShapeProfile, ...]:
    """Return the profiles of *cls* and its bases, most derived first."""
    return tuple(profile for base in cls.__mro__ if (profile := _profile_of(base)) is not None)


def _profile_of(cls: type[object]) -> ShapeProfile | None:
    try:
        return _by_class.get(cls) or _by_path.get(f"{cls.__module__}.{cls.__qualname__}")
    except Exception:
        return None  # of a metaclass that makes it unhashable, or hides its name


_HTTP: Final = ("get", "post", "put", "patch", "delete", "head", "options", "request")

for _name in ("redis.asyncio.client.Redis", "redis.asyncio.cluster.RedisCluster"):
    register_shape_profile(
        _name,
        otherwise="async",
        synchronous=(
            # What hands out a helper object or touches only this process.
            "pipeline", "pubsub", "lock", "monitor", "client", "register_script", "from_url", "from_pool",
            "get_encoder", "get_connection_kwargs", "get_retry", "set_retry", "set_response_callback",
            "load_external_module", "json", "ft", "ts", "bf", "cf", "cms", "topk", "tdigest", "vset", "hotkeys",
            "auto_close_connection_pool", "compile_pipeline", "get_nodes", "get_primaries", "get_replicas",
            "get_random_node", "get_default_node", "set_default_node", "get_node", "get_node_from_key", "keyslot",
            "get_redis_connection", "replace_default_node", "single_connection_client", "parse_response_callbacks",
        ),
        iterating=("scan_iter", "sscan_iter", "hscan_iter", "zscan_iter"),
        returns={
            "client": _name, "pipeline": "redis.asyncio.client.Pipeline", "pubsub": "redis.asyncio.client.PubSub",
            "monitor": "redis.asyncio.client.Monitor", "lock": "redis.asyncio.lock.Lock",
        },
        enters_itself=True,
    )  # fmt: skip
register_shape_profile(
    "redis.asyncio.client.Pipeline",
    # Commands are queued and give the pipeline back; executing it is awaited.
    otherwise="sync",
    asynchronous=("execute", "reset", "watch", "unwatch", "discard", "immediate_execute_command", "aclose"),
    enters_itself=True,
)
register_shape_profile(
    "redis.asyncio.client.PubSub",
    asynchronous=("subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe", "ping"),
    iterating=("listen",),
    enters_itself=True,
)
register_shape_profile(
    "redis.asyncio.lock.Lock",
    asynchronous=("acquire", "release", "extend", "reacquire", "locked", "owned", "do_acquire", "do_release"),
)
register_shape_profile(
    "asyncpg.pool.Pool",
    dual=("acquire",),
    asynchronous=("release",),
    returns={"acquire": "asyncpg.connection.Connection"},
    enters_itself=True,
)
register_shape_profile(
    "asyncpg.connection.Connection",
    synchronous=("transaction", "is_closed", "is_in_transaction", "get_server_pid", "get_server_version",
                 "get_settings", "terminate"),
    dual=("cursor",),
    returns={
        "transaction": "asyncpg.transaction.Transaction", "prepare": "asyncpg.prepared_stmt.PreparedStatement",
        "cursor": "asyncpg.cursor.Cursor",
    },
)  # fmt: skip
register_shape_profile("asyncpg.prepared_stmt.PreparedStatement", dual=("cursor",))
register_shape_profile(
    "aiohttp.client.ClientSession",
    dual=(*_HTTP, "ws_connect"),
    returns=dict.fromkeys(_HTTP, "aiohttp.client_reqrep.ClientResponse")
    | {"ws_connect": "aiohttp.client_ws.ClientWebSocketResponse"},
    enters_itself=True,
)
register_shape_profile(
    "aiohttp.client_reqrep.ClientResponse", asynchronous=("release",), synchronous=("close",), enters_itself=True
)
register_shape_profile(
    "httpx.AsyncClient",
    returns=dict.fromkeys((*_HTTP, "send", "stream"), "httpx.Response"),
    enters_itself=True,
)
register_shape_profile("sqlalchemy.ext.asyncio.engine.AsyncConnection", dual=("stream", "stream_scalars"))
register_shape_profile(
    "aiosqlite.core.Connection",
    dual=("cursor", "execute", "execute_fetchall", "execute_insert", "executemany", "executescript"),
)
register_shape_profile(
    "nats.aio.client.Client",
    synchronous=("jetstream", "jsm", "new_inbox"),
    returns={
        "jetstream": "nats.js.client.JetStreamContext", "jsm": "nats.js.manager.JetStreamManager",
        "subscribe": "nats.aio.subscription.Subscription", "request": "nats.aio.msg.Msg",
    },
)  # fmt: skip
