"""asyncpg's own pool, connection, transaction and statement classes, with log, faults and the mock API of a double.

Every public method is asyncpg's function, made an operation: what it takes and gives is
asyncpg's. What such a function calls inside is part of that one call.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ClassVar

import asyncpg  # type: ignore[import-untyped]
from asyncpg import pool as _pool
from asyncpg import prepared_stmt as _prepared_stmt
from asyncpg import transaction as _transaction

from isolation_core.services._double import ClientObject
from isolation_core.services._operations import Operation, operation
from isolation_core.services.postgres import _driver
from isolation_core.services.postgres._record import Answer

if TYPE_CHECKING:
    from isolation_core.mocks import Shape
    from isolation_core.services.postgres._double import PostgresDouble
    from isolation_core.services.postgres._real import RealServer
    from isolation_core.services.postgres._stubs import StatementStub

__all__ = ["RealConnection", "RealPool", "RealProxy", "RealStatement", "RealTransaction", "quietly"]

# They have no types: everything goes.
_Connection: Any = asyncpg.Connection
_Pool: Any = asyncpg.Pool
_Proxy: Any = _pool.PoolConnectionProxy
_Transaction: Any = _transaction.Transaction
_Statement: Any = _prepared_stmt.PreparedStatement

_inside: ContextVar[bool] = ContextVar("isolation_core_postgres_inside", default=False)


def _is_async(function: Callable[..., Any]) -> bool:
    # asyncpg hides some behind a check.
    return inspect.iscoroutinefunction(inspect.unwrap(function))


def quietly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return *function* so that what it calls of these classes is neither logged nor subject to faults."""
    if _is_async(function):

        @wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            token = _inside.set(True)
            try:
                return await function(*args, **kwargs)
            finally:
                _inside.reset(token)

        return awaited

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        token = _inside.set(True)
        try:
            return function(*args, **kwargs)
        finally:
            _inside.reset(token)

    return called


def _aloud(function: Callable[..., Awaitable[Any]] | None) -> Callable[..., Awaitable[Any]] | None:
    """Return a callback of the user's so that what it calls is logged again."""
    if function is None:
        return None

    async def call(*args: Any) -> Any:
        token = _inside.set(False)
        try:
            return await function(*args)
        finally:
            _inside.reset(token)

    return call


def _loudly(function: Callable[..., Any], *args: Any) -> None:
    token = _inside.set(False)
    try:
        function(*args)
    finally:
        _inside.reset(token)


class _Client(ClientObject):
    """What the classes have in common."""

    _double: PostgresDouble

    def _operation_mock(self, operation: Operation[Any, Any]) -> Any:
        if _inside.get():
            return operation.function.__get__(self)
        return super()._operation_mock(operation)


class _Meta(type(_Client), type(_Connection)):  # type: ignore[misc]  # both are metaclasses
    """Of a class that is an operable thing of a double and a connection of asyncpg."""

    def __instancecheck__(cls, instance: object) -> bool:
        return type.__instancecheck__(cls, instance)


class _ProxyMeta(type(_Client), type(_Proxy)):  # type: ignore[misc]  # likewise
    pass


def _public(cls: type[Any]) -> dict[str, Callable[..., Any]]:
    return {
        name: function
        for base in reversed(cls.__mro__)
        for name, function in vars(base).items()
        if not name.startswith("_") and inspect.isfunction(function)
    }


# What tells something and does nothing: asyncpg asks it all the time, and nobody stubs or faults it.
_TELLS = frozenset(
    {
        "is_closed", "is_closing", "get_settings", "get_server_pid", "get_server_version", "get_reset_query",
        "get_size", "get_init_size", "get_min_size", "get_max_size", "get_idle_size",
    }
)  # fmt: skip
_SYNC = frozenset(name for name, function in _public(_Connection).items() if not _is_async(function))


def _operations(cls: type[Any], *, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the public methods of *cls* as operations."""
    return {
        name: _operation(function) for name, function in _public(cls).items() if name not in but and name not in _TELLS
    }


def _operation(function: Callable[..., Any]) -> Operation[..., Any]:
    # What is no coroutine function stays one, whatever it is annotated to return.
    shape: Shape | None = None if _is_async(function) else "sync"
    made: Operation[..., Any] = operation(shape=shape)(quietly(function))
    return made


def _like(original: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return *function* with name, text and signature of asyncpg's *original*."""
    function.__name__, function.__doc__ = original.__name__, original.__doc__
    function.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]  # functions may have one
    return function


def _in_transaction(connection: Any) -> bool:
    protocol = connection._protocol
    return protocol is not None and bool(protocol.is_in_transaction())


class _RealConnection(_Client, _Connection, metaclass=_Meta):  # type: ignore[misc]  # asyncpg has no types
    label = "connection"
    opening: ClassVar[ContextVar[PostgresDouble]] = ContextVar("isolation_core_postgres_opening")

    def __init__(self, *args: Any) -> None:
        _Connection.__init__(self, *args)
        _Client.__init__(self, self.opening.get())
        self._pooled = self._own = False
        self._number: int | None = None

    @property
    def _server(self) -> RealServer:
        server = self._double._real
        assert server is not None
        return server

    def connection_lost(self, error: BaseException) -> None:
        """It is closed for good, with its transaction; a pool opens another one."""
        if not self.is_closed():
            quietly(self._server.cut)(self)  # with one shared connection, only this use of it

    def __repr__(self) -> str:
        state = "closed" if self.is_closed() else f"pid {self._protocol.get_server_pid()}"
        return f"<Connection of {self.double.name!r}, {state}>"

    def problems(self) -> tuple[str, ...]:
        """Return what is left open; pooled ones are told of by their proxies."""
        if self.is_closed() or self._pooled:
            return ()
        return self._left_open("was not closed")

    def _left_open(self, how: str) -> tuple[str, ...]:
        pid = self._protocol.get_server_pid()
        found = []
        if self._server.is_in_block(self):
            found.append(f"a transaction of connection {pid} was neither committed nor rolled back")
        found += [f"connection {pid} still listens to {channel!r}" for channel, each in self._listeners.items() if each]
        return (*found, *(() if self._own else (f"connection {pid} {how}",)))

    # -- what every statement passes ---------------------------------------------------

    async def _execute(
        self, query: str, args: Any, limit: int, timeout: float | None, *, return_status: bool = False, **options: Any
    ) -> Any:
        stub = self._double._stub_for(query, args)
        if stub is not None:
            answer = await self._answer(stub)
            rows = answer.records[:limit] if limit else answer.records
            return (rows, answer.tag.encode(), True) if return_status else rows

        async def send() -> Any:
            return await _Connection._execute(self, query, args, limit, timeout, return_status=return_status, **options)

        return await self._server.send(self, query, send)

    async def _executemany(self, query: str, args: Any, timeout: float | None, *rest: Any, **options: Any) -> Any:
        stub = self._double._stub_for(query, None)
        if stub is not None:
            return [row for _ in args for row in (await self._answer(stub)).records]

        async def send() -> Any:
            return await _Connection._executemany(self, query, args, timeout, *rest, **options)

        return await self._server.send(self, query, send)

    async def _script(self, query: str, timeout: float | None) -> str:
        stub = self._double._stub_for(query, ())
        if stub is not None:
            return (await self._answer(stub)).tag

        async def send() -> Any:
            return await _Connection.execute(self, query, timeout=timeout)

        return str(await self._server.send(self, query, send))

    async def _answer(self, stub: StatementStub) -> Answer:
        self._check_open()
        await asyncio.sleep(0)
        try:
            return stub.answer()
        except Exception:
            if _in_transaction(self):
                # A server would have refused the statement, and the transaction would have failed.
                await self._fail_transaction()
            raise

    async def _fail_transaction(self) -> None:
        with suppress(asyncpg.PostgresSyntaxError):
            await self._protocol.query("an error of a stub", None)

    def _told(self, was: bool, tag: object) -> None:  # noqa: FBT001 - before and after
        """Tell the log of a transaction that has begun or ended."""
        now = self._server.is_in_block(self)
        if now and not was:
            self._number = self._server.next_number()
            self.double.record("begin", transaction=self._number, connection=self._protocol.get_server_pid())
        elif was and not now and self._number is not None:
            how = "commit" if tag in {"COMMIT", b"COMMIT"} else "rollback"
            pid = None if self._protocol is None else self._protocol.get_server_pid()
            self.double.record(how, transaction=self._number, connection=pid)

    async def _answered(self, query: str, args: Any, *, script: bool = False) -> Answer:
        """Run a statement for the double itself."""
        if script:
            return Answer([], await self._script(query, None))
        rows, tag, _ = await self._execute(query, args, 0, None, return_status=True)
        return Answer(rows, tag.decode())

    # -- objects -------------------------------------------------------------------------

    async def _prepare(self, query: str, **options: Any) -> Any:
        statement = await _Connection._prepare(self, query, **options)
        return RealStatement(self, query, statement._state)

    async def _copy_in(self, copy_stmt: str, source: Any, timeout: float | None) -> Any:
        async def send() -> Any:
            return await _Connection._copy_in(self, copy_stmt, source, timeout)

        return await self._server.send(self, copy_stmt, send)

    async def _copy_out(self, copy_stmt: str, output: Any, timeout: float | None) -> Any:
        async def send() -> Any:
            return await _Connection._copy_out(self, copy_stmt, output, timeout)

        return await self._server.send(self, copy_stmt, send)

    # -- callbacks of the user's: what they call is logged ---------------------------------

    def _process_notification(self, *args: Any) -> None:
        _loudly(_Connection._process_notification, self, *args)

    def _process_log_message(self, *args: Any) -> None:
        _loudly(_Connection._process_log_message, self, *args)

    def _call_termination_listeners(self) -> None:
        _loudly(_Connection._call_termination_listeners, self)

    # -- end -----------------------------------------------------------------------------

    def __del__(self) -> None:
        quietly(_Connection.__del__)(self)

    def _cleanup(self) -> None:
        _Connection._cleanup(self)
        self._ended = True
        self._double._clients.pop(id(self), None)

    def end(self) -> None:
        """Its double is disconnected or closed."""
        if not self.is_closed():
            self._server.cut(self)
        super().end()


async def _execute(self: Any, query: str, *args: Any, timeout: float | None = None) -> str:
    self._check_open()
    if not args:
        return str(await self._script(query, timeout))
    _, status, _ = await self._execute(query, args, 0, timeout, return_status=True)
    return str(status.decode())


def _make_transaction(self: Any, *, isolation: Any = None, readonly: bool = False, deferrable: bool = False) -> Any:
    self._check_open()
    return RealTransaction(self, isolation, readonly, deferrable)


async def _copy_records(self: Any, table_name: str, **options: Any) -> Any:
    async def send() -> Any:
        return await _Connection.copy_records_to_table(self, table_name, **options)

    return await self._server.send(self, "COPY", send)


async def _reset(self: Any, *, timeout: float | None = None) -> None:
    if not await self._server.reset(self):
        await _Connection.reset(self, timeout=timeout)


async def _close(self: Any, *, timeout: float | None = None) -> None:
    if not await self._server.let_go(self):
        await _Connection.close(self, timeout=timeout)


def _terminate(self: Any) -> None:
    self._server.cut(self)


def _is_in_transaction(self: Any) -> bool:
    self._check_open()
    return bool(self._server.is_in_block(self))


_OWN: dict[str, Callable[..., Any]] = {
                "execute": _execute, "transaction": _make_transaction, "reset": _reset, "close": _close,
                "copy_records_to_table": _copy_records, "terminate": _terminate,
                "is_in_transaction": _is_in_transaction,
}  # fmt: skip
RealConnection: Any = _Meta(
    "RealConnection",
    (_RealConnection,),
    {
        "__module__": __name__,
        "__doc__": "A connection of asyncpg that belongs to a double.",
        **_operations(_Connection),
        **{name: _operation(_like(getattr(_Connection, name), function)) for name, function in _OWN.items()},
    },
)


class _RealProxy(_Client, _Proxy, metaclass=_ProxyMeta):  # type: ignore[misc]  # untyped
    label = "connection"

    def __init__(self, double: PostgresDouble, holder: Any, connection: Any) -> None:
        _Proxy.__init__(self, holder, connection)
        _Client.__init__(self, double)

    def __getattr__(self, name: str) -> Any:
        # What a connection class of the user's adds, and what asyncpg keeps there.
        if self.__dict__.get("_sealed") and (name[:1] == "_" or hasattr(type(self._con), name)):
            return getattr(self._con, name)
        return _Client.__getattr__(self, name)

    def __repr__(self) -> str:
        return str(_Proxy.__repr__(self))

    def connection_lost(self, error: BaseException) -> None:
        """The connection is closed; the pool opens another one."""
        if self._con is not None:
            self._con.connection_lost(error)

    def problems(self) -> tuple[str, ...]:
        """Return what is left open."""
        if self._con is None or self._con.is_closed():
            return ()
        found: tuple[str, ...] = self._con._left_open("was not released to its pool")
        return found

    def _detach(self) -> Any:
        self._double._clients.pop(id(self), None)
        return _Proxy._detach(self)

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._con is not None:
            await _release(self._holder._pool, self)


def _through(name: str) -> Callable[..., Any]:
    """Return asyncpg's method of a proxy, which calls that of its connection."""
    original = vars(_Proxy)[name]
    plain = getattr(_Connection, name)

    def bound(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._con is None:
            return original(self, *args, **kwargs)  # which says so
        return getattr(self._con, name)(*args, **kwargs)

    if name in _SYNC:

        @wraps(plain)
        def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            return bound(self, *args, **kwargs)

        return called

    @wraps(plain)
    async def awaited(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await bound(self, *args, **kwargs)

    return awaited


RealProxy: Any = _ProxyMeta(
    "RealProxy",
    (_RealProxy,),
    {
        "__module__": __name__,
        "__doc__": "A connection that was acquired from a pool.",
        **{
            name: _operation(_through(name))
            for name in _public(_Connection)
            if name in vars(_Proxy) and name not in _TELLS
        },
    },
)


class _RealPool(_Client, _Pool):  # type: ignore[misc]  # untyped
    label = "pool"
    _closed: bool

    def __init__(self, double: PostgresDouble, *args: Any, **options: Any) -> None:
        for hook in ("init", "reset"):
            options[hook] = _aloud(options.get(hook))
        self._user_setup = _aloud(options.get("setup"))
        if self._user_setup is not None:
            options["setup"] = self._set_up
        _Pool.__init__(self, *args, **options)
        _Client.__init__(self, double)

    def __repr__(self) -> str:
        used = sum(not holder.is_idle() for holder in self._holders)
        return f"<Pool of {self.double.name!r}, {used} of {self._maxsize} in use>"

    def problems(self) -> tuple[str, ...]:
        """Return what is left open; connections tell for themselves."""
        if self._initialized and not self._closed and not self._double._is_own(self):
            return (f"a pool of {self._maxsize} connections was not closed",)
        return ()

    async def _initialize(self) -> None:
        # The tasks that connect are part of this call.
        await quietly(_Pool._initialize)(self)

    async def _get_new_connection(self) -> Any:
        connection = await _Pool._get_new_connection(self)
        connection._pooled = True
        return connection

    async def _acquire(self, timeout: float | None = None) -> Any:
        return self._own_proxy(await _Pool._acquire(self, timeout))

    async def _set_up(self, proxy: Any) -> None:
        assert self._user_setup is not None
        await self._user_setup(self._own_proxy(proxy))

    def _own_proxy(self, proxy: Any) -> Any:
        """Put a proxy of ours in the place of asyncpg's, unless that has been done."""
        holder = proxy._holder
        if not isinstance(holder._proxy, RealProxy):
            proxy._con._set_proxy(None)
            holder._proxy = RealProxy(self._double, holder, proxy._con)
        return holder._proxy

    def end(self) -> None:
        """Its double is closed."""
        if self._initialized and not self._closed:
            self._closed = True
            if self._maintenance_task is not None and not self._loop.is_closed():
                self._maintenance_task.cancel()
        super().end()

    async def __aexit__(self, *exc: object) -> None:
        await quietly(_Pool.close)(self)
        self._double._clients.pop(id(self), None)

    def __await__(self) -> Any:
        return quietly(_start)(self).__await__()

    async def __aenter__(self) -> Any:
        return await self


async def _start(pool: Any) -> Any:
    return await pool._async__init__()


async def _acquire(self: Any, *, timeout: float | None = None) -> Any:
    return await self._acquire(timeout)


async def _release(self: Any, connection: Any, *, timeout: float | None = None) -> Any:
    if not isinstance(connection, RealProxy) or connection._holder._pool is not self:
        raise asyncpg.InterfaceError(
            f"Pool.release() received invalid connection: {connection!r} is not a member of this pool"
        )
    if connection._con is None:
        return None
    self._check_init()
    connection._con._on_release()
    holder = connection._holder
    if timeout is None:
        timeout = holder._timeout
    return await asyncio.shield(quietly(_pool.PoolConnectionHolder.release)(holder, timeout))


async def _close_pool(self: Any) -> None:
    await _Pool.close(self)
    self._double._clients.pop(id(self), None)


class _Acquired:
    """What ``pool.acquire()`` gives to asyncpg's own methods."""

    def __init__(self, pool: Any, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._connection: Any = None

    async def __aenter__(self) -> Any:
        self._connection = await self._pool._acquire(self._timeout)
        return self._connection

    async def __aexit__(self, *_exc: object) -> None:
        await _release(self._pool, self._connection)

    def __await__(self) -> Any:
        return self._pool._acquire(self._timeout).__await__()


class RealPool(_RealPool):
    """A pool of asyncpg that belongs to a double."""

    locals().update(_operations(_Pool, but=("acquire", "release", "close")))
    acquire = operation(shape="dual")(quietly(_like(_Pool.acquire, _acquire)))
    release = operation(quietly(_like(_Pool.release, _release)))
    close = operation(quietly(_like(_Pool.close, _close_pool)))

    def _operation_mock(self, operation: Operation[Any, Any]) -> Any:
        if operation.attribute == "acquire" and _inside.get():
            return lambda *, timeout=None: _Acquired(self, timeout)
        return super()._operation_mock(operation)


class _Part(_Client):
    """Something of a connection; reached through that, not to be ended by itself."""

    def __init__(self, connection: Any) -> None:
        _Client.__init__(self, connection._double)
        self._double._clients.pop(id(self), None)

    def connection_lost(self, error: BaseException) -> None:
        """The connection it belongs to is closed."""
        self._connection.connection_lost(error)


class RealTransaction(_Part, _Transaction):  # type: ignore[misc]  # untyped
    """A transaction of asyncpg that belongs to a double."""

    label = "transaction"

    def __init__(self, connection: Any, isolation: str | None, readonly: bool, deferrable: bool) -> None:  # noqa: FBT001
        _Part.__init__(self, connection)
        _Transaction.__init__(self, connection, isolation, readonly, deferrable)
        connection._server.check_transaction(isolation, readonly=readonly)

    locals().update(_operations(_Transaction))

    async def __aenter__(self) -> Any:
        return await quietly(_Transaction.__aenter__)(self)

    async def __aexit__(self, *exc: object) -> None:
        await quietly(_Transaction.__aexit__)(self, *exc)


class RealStatement(_Part, _Statement):  # type: ignore[misc]  # untyped
    """A prepared statement of asyncpg that belongs to a double."""

    label = "statement"

    def __init__(self, connection: Any, query: str, state: Any) -> None:
        _Part.__init__(self, connection)
        _Statement.__init__(self, connection, query, state)

    async def _PreparedStatement__do_execute(self, executor: Any) -> Any:  # noqa: N802 - asyncpg's private name
        async def send() -> Any:
            return await _Statement._PreparedStatement__do_execute(self, executor)

        return await self._connection._server.send(self._connection, self._query, send)

    locals().update(_operations(_Statement))


_mixed: dict[type[Any], Any] = {}


def connection_class(cls: type[Any] | None) -> Any:
    """Return the class of connections that are of the user's class *cls* as well."""
    if cls is None or cls is _Connection or issubclass(cls, _RealConnection):
        return cls if cls is not None and cls is not _Connection else RealConnection
    if cls not in _mixed:
        _mixed[cls] = _Meta(cls.__name__, (cls, RealConnection), {"__module__": cls.__module__})
    return _mixed[cls]


def connect_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of *options*, given where the code under test would connect, that do not say where.

    Raises:
        TypeError: for one that ``asyncpg.connect`` does not know.
    """
    known = inspect.signature(_driver.connect).parameters
    for name in options:
        if name not in known:
            raise TypeError(f"connect() got an unexpected keyword argument {name!r}")
    elsewhere = {
        "dsn", "host", "port", "user", "password", "passfile", "service", "servicefile", "database", "loop", "ssl",
        "direct_tls", "target_session_attrs", "krbsrvname", "gsslib",
    }  # fmt: skip
    return {name: value for name, value in options.items() if name not in elsewhere}


def make_pool(double: PostgresDouble, server: RealServer, options: Mapping[str, Any]) -> Any:
    """Return a pool with the options of ``asyncpg.create_pool`` and ``asyncpg.connect``.

    Raises:
        TypeError: for one that they do not know.
    """
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(_driver.create_pool).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    pool_options = {name: options.get(name, default) for name, default in defaults.items()}
    rest = connect_options({name: value for name, value in options.items() if name not in defaults})
    connect: Any = server.connect
    if pool_options.get("connect") is not None:
        connect = partial(connect, by=pool_options["connect"])
    pool_options.update(connect=connect, loop=None)
    return RealPool(double, **pool_options, **rest)


# asyncpg's messages name the class.
for _cls, _original in (
    (RealConnection, _Connection),
    (RealProxy, _Proxy),
    (RealPool, _Pool),
    (RealTransaction, _Transaction),
    (RealStatement, _Statement),
):
    _cls.__name__ = _original.__name__
