"""`install`: a double in the place where code under test makes its own client, until the context ends."""

from __future__ import annotations

import importlib
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import wraps
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, Self

from isolation_core.errors import ConfigurationError

if TYPE_CHECKING:
    from isolation_core.services._double import ServiceDouble

__all__ = ["Installation", "Place", "install", "known_places"]

Place = Callable[[Any, Any], Any]
"""Called with the double and what is at a place; returns what is to be there."""

_LIBRARIES: Final = tuple(
    {sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {"site-packages", "dist-packages", "<frozen"}
)
_OURS: Final = ("isolation_core", "isolation_pytest", "isolation_unittest", "isolation_script")


class Installation:
    """The replacements of `ServiceDouble.install`; a context manager that undoes them at its end.

    Attributes:
        double: the double.
        places: the replaced names, such as ``"asyncpg.connect"`` and ``"app.db.connect"``.
    """

    def __init__(self, double: ServiceDouble) -> None:
        self.double = double
        self.places: list[str] = []
        self._undo: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Installation of {self.double.name!r} at {', '.join(self.places) or 'no place'}>"

    def undo(self) -> None:
        """Put everything back that is still as it was installed; doing it again changes nothing."""
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.undo()

    def _set(self, place: str, holder: Any, name: str, old: Any, new: Any) -> None:
        mine = name in vars(holder)
        setattr(holder, name, new)

        def undo() -> None:
            if vars(holder).get(name) is new:
                if mine:
                    setattr(holder, name, old)
                else:
                    delattr(holder, name)

        self._undo.append(undo)
        self.places.append(place)

    def _set_item(self, place: str, holder: Any, key: Any, old: Any, new: Any) -> None:
        holder[key] = new

        def undo() -> None:
            with suppress(LookupError):
                if holder[key] is new:
                    holder[key] = old

        self._undo.append(undo)
        self.places.append(place)


def install(double: ServiceDouble, places: Mapping[str, Place]) -> Installation:
    """Put *double* at *places*, and wherever else the code under test holds what was there.

    Args:
        double: the double.
        places: ``"module:attribute"``, or ``"module:class.attribute"``, and what makes the replacement.

    Raises:
        ConfigurationError: if none of the clients is installed.
    """
    made = Installation(double)
    replaced: dict[int, tuple[Any, Any, str]] = {}
    new_of: dict[int, Any] = {}
    try:
        for place, make in places.items():
            module_name, _, path = place.partition(":")
            try:
                holder: Any = importlib.import_module(module_name)
            except ImportError:
                continue
            *owners, name = path.split(".")
            for owner in owners:
                holder = getattr(holder, owner, None)
            old = getattr(holder, name, None)
            if old is None:
                continue
            # One function under several names has one replacement.
            new = new_of.get(id(old))
            if new is None:
                new = new_of[id(old)] = make(double, old)
            made._set(f"{module_name}.{path}", holder, name, old, new)
            # What Python itself has is everywhere, not only in code that imported it from a client.
            if not owners and getattr(old, "__module__", None) != "builtins":
                replaced[id(old)] = old, new, module_name.partition(".")[0]
        _replace_held(made, replaced)
    except BaseException:
        made.undo()
        raise
    if not made.places:
        clients = ", ".join(sorted({place.partition(":")[0].partition(".")[0] for place in places}))
        raise ConfigurationError(
            f"{double.name!r} cannot be installed: none of its clients is ({clients or 'no place is known'})",
            name="install",
        )
    return made


def _replace_held(made: Installation, replaced: Mapping[int, tuple[Any, Any, str]]) -> None:
    """Replace what modules have imported by name, and what the modules of the user keep elsewhere."""
    clients = {client for _, _, client in replaced.values()}
    for module in tuple(sys.modules.values()):
        # By type, not isinstance(): what stands there may have code behind its `__class__`.
        if not issubclass(type(module), ModuleType):
            continue
        name = vars(module).get("__name__")
        if type(name) is not str:
            continue
        if name.partition(".")[0] in clients or name.partition(".")[0] in _OURS:
            continue
        own = _is_users(module)
        for attribute, value in tuple(vars(module).items()):
            if (found := replaced.get(id(value))) is not None:
                made._set(f"{name}.{attribute}", module, attribute, found[0], found[1])
            elif own:
                _look_into(made, f"{name}.{attribute}", value, name, replaced)


def _is_users(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and not any(each in file for each in _LIBRARIES)


def _look_into(
    made: Installation, path: str, value: Any, module: str, replaced: Mapping[int, tuple[Any, Any, str]]
) -> None:
    kind = type(value)
    if kind is dict or kind is list:
        for key, item in tuple(value.items() if kind is dict else enumerate(value)):
            if (found := replaced.get(id(item))) is not None:
                made._set_item(f"{path}[{key!r}]", value, key, *found[:2])
    elif kind is FunctionType:
        if value.__module__ == module:
            _look_into_function(made, path, value, replaced)
    elif issubclass(kind, type) or getattr(kind, "__module__", None) == module:
        try:
            names = dict(object.__getattribute__(value, "__dict__"))
        except Exception:  # without a dictionary, or with code in its place
            return
        if issubclass(kind, type) and names.get("__module__") != module:
            return
        for name, item in names.items():
            plain = item.__func__ if type(item) in (staticmethod, classmethod) else item
            if (found := replaced.get(id(plain))) is not None:
                new = type(item)(found[1]) if plain is not item else found[1]
                made._set(f"{path}.{name}", value, name, item, new)
            elif type(plain) is FunctionType:
                _look_into_function(made, f"{path}.{name}", plain, replaced)


def _look_into_function(
    made: Installation, path: str, function: FunctionType, replaced: Mapping[int, tuple[Any, Any, str]]
) -> None:
    defaults = function.__defaults__ or ()
    if any(id(each) in replaced for each in defaults):
        new = tuple(replaced[id(each)][1] if id(each) in replaced else each for each in defaults)
        made._set(f"{path}.__defaults__", _Slot(function, "__defaults__"), "value", defaults, new)
    for name, item in (function.__kwdefaults__ or {}).items():
        if (found := replaced.get(id(item))) is not None:
            made._set_item(f"{path}({name}=)", function.__kwdefaults__, name, *found[:2])
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # an empty one
            if (found := replaced.get(id(cell.cell_contents))) is not None:
                made._set(f"{path}.<closure>", _Slot(cell, "cell_contents"), "value", *found[:2])


class _Slot:
    """An attribute in C, as one with a dictionary."""

    _holder: Any
    _name: str

    def __init__(self, holder: Any, name: str) -> None:
        self.__dict__["_holder"], self.__dict__["_name"] = holder, name
        self.__dict__["value"] = getattr(holder, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value
        setattr(self._holder, self._name, value)


# -- the clients of the built-in services ------------------------------------------------


def known_places(service: str) -> Mapping[str, Place]:
    """Return where the clients of a built-in service are made; nothing for other services."""
    return _PLACES.get(service, {})


def _opens(double: Any, old: Any) -> Any:
    @wraps(old)
    def connect(*args: Any, **kwargs: Any) -> Any:
        return double.open_connection(*args, **kwargs)

    return connect


def _opens_pool(double: Any, old: Any) -> Any:
    @wraps(old)
    def create_pool(*args: Any, **kwargs: Any) -> Any:
        return double.create_pool(*args, **kwargs)

    return create_pool


class _Standing(type):
    """Metaclass of a class that replaces a client's: instances of the client's and of the double's are its own."""

    _makes: type[Any] | tuple[type[Any], ...]

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls._makes)


def _standing_for(old: type[Any], makes: tuple[type[Any], ...], **namespace: Any) -> Any:
    """Return a subclass of *old* for which instances of *makes* count as instances."""
    meta = type("_Standing", (_Standing, type(old)), {})
    return meta(old.__name__, (old,), {"__module__": old.__module__, "_makes": (old, *makes), **namespace})


def _kafka(kind: str) -> Place:
    def place(double: Any, old: Any) -> Any:
        from isolation_core.services.kafka import KafkaConsumer, KafkaProducer

        double.is_connected = True

        def new(_cls: type[Any], *args: Any, **kwargs: Any) -> Any:
            return getattr(double, f"{kind}_class")(*args, **kwargs)

        return _standing_for(old, (KafkaProducer if kind == "producer" else KafkaConsumer,), __new__=new)

    return place


# Where a server is, how to log in and how to keep a connection says nothing in memory.
_REDIS_EFFECTIVE: Final = ("db", "decode_responses", "encoding", "encoding_errors", "protocol", "socket_timeout")


def _redis_options(old: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    given = inspect.signature(old.__init__).bind(None, *args, **kwargs).arguments
    pool = given.get("connection_pool")
    found = {} if pool is None else dict(pool.connection_kwargs)
    found.update(given)
    return {name: found[name] for name in _REDIS_EFFECTIVE if name in found}


def _redis(make: str) -> Place:
    def place(double: Any, old: Any) -> Any:
        def new(cls: type[Any], *args: Any, **kwargs: Any) -> Any:
            if cls is not standing:
                return object.__new__(cls)
            return getattr(double, make)(**_redis_options(old, args, kwargs))

        def from_pool(cls: type[Any], /, connection_pool: Any) -> Any:
            return cls(connection_pool=connection_pool)

        def from_url(cls: type[Any], /, url: str, **kwargs: Any) -> Any:
            return cls(connection_pool=old.from_url(url, **kwargs).connection_pool)

        import redis

        from isolation_core.services.redis._clients import RedisClient

        makes: tuple[type[Any], ...] = (RedisClient,) if make == "new_client" else (redis.Redis,)
        standing = _standing_for(
            old, makes, __new__=new, from_pool=classmethod(from_pool), from_url=classmethod(from_url)
        )
        return standing

    return place


def _redis_from_url(make: str) -> Place:
    def place(double: Any, old: Any) -> Any:
        @wraps(old)
        def from_url(url: str, **kwargs: Any) -> Any:
            pool = old(url, **kwargs).connection_pool
            found = {name: pool.connection_kwargs[name] for name in _REDIS_EFFECTIVE if name in pool.connection_kwargs}
            return getattr(double, make)(**found)

        return from_url

    return place


def _httpx_async(double: Any, old: Any) -> Any:
    @wraps(old)
    async def handle_async_request(_transport: object, request: Any) -> Any:
        return await double.transport.handle_async_request(request)

    return handle_async_request


def _httpx(double: Any, old: Any) -> Any:
    @wraps(old)
    def handle_request(_transport: object, request: Any) -> Any:
        return double.transport.handle_request(request)

    return handle_request


def _each(names: str, place: Place) -> Iterator[tuple[str, Place]]:
    for name in names.split():
        yield name, place


_PLACES: Final[Mapping[str, Mapping[str, Place]]] = {
    "postgres": dict(
        [
            *_each("asyncpg:connect asyncpg.connection:connect", _opens),
            *_each("asyncpg:create_pool asyncpg.pool:create_pool", _opens_pool),
        ]
    ),
    "redis": dict(
        [
            *_each("redis.asyncio:from_url redis.asyncio.utils:from_url", _redis_from_url("new_client")),
            *_each("redis:from_url redis.utils:from_url", _redis_from_url("sync_client")),
            *_each("redis.asyncio:Redis redis.asyncio:StrictRedis", _redis("new_client")),
            *_each("redis:Redis redis:StrictRedis", _redis("sync_client")),
        ]
    ),
    "kafka": {"aiokafka:AIOKafkaProducer": _kafka("producer"), "aiokafka:AIOKafkaConsumer": _kafka("consumer")},
    "rabbitmq": dict(
        _each(
            "aio_pika:connect aio_pika:connect_robust aio_pika.connection:connect "
            "aio_pika.robust_connection:connect_robust",
            _opens,
        )
    ),
    "nats": {"nats:connect": _opens},
    "http": {
        "httpx:AsyncHTTPTransport.handle_async_request": _httpx_async,
        "httpx:HTTPTransport.handle_request": _httpx,
    },
}
