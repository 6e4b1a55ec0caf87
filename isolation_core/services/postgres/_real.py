"""The real backend of one double: a database of its own on a server, or one connection that is rolled back."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Literal

from isolation_core.errors import ConfigurationError
from isolation_core.journal import get_journal
from isolation_core.services._embedded import embedded_server
from isolation_core.services.postgres._admin import admin
from isolation_core.services.postgres._databases import Address, Cleaning, Database, Prepare, Server
from isolation_core.services.postgres._errors import interface_error
from isolation_core.services.postgres._sql import split

if TYPE_CHECKING:
    from isolation_core._backends import BackendChoice
    from isolation_core.services.postgres._double import PostgresDouble

__all__ = ["Isolation", "RealServer"]

Isolation = Literal["auto", "rollback", "truncate", "clone"]

_LAUNCH: Final = "isolation_core.services.postgres._launch:prepare"
_COPY_LIMIT: Final = 256 * 2**20  # bytes of a database of the user's that are copied without being asked
_OTHERWISE: Final = "give the double isolation='clone' (a copy of the database), or use the embedded server"

_servers: Final[dict[tuple[int, str | None], Server]] = {}


def _server(url: str | None) -> Server:
    """Return the server at *url*, or the embedded one; one object for each process."""
    key = os.getpid(), url
    found = _servers.get(key)
    if url is None:
        address = Address.embedded(embedded_server("postgres", _LAUNCH).address)
        if found is None or found.address != address:
            found = _servers[key] = Server(address)
    elif found is None:
        name = url.partition("?")[0].partition("://")[2].partition("/")[2]
        found = _servers[key] = Server(Address(dsn=url), name or None)
    return found


class RealServer:
    """What a double needs of a server.

    Args:
        double: whose it is.
        choice: where the server is.
        isolation: what keeps the work of the double apart: ``clone``, ``truncate``, ``rollback``; ``auto``: a
            database of its own, cleaned in the cheapest way that suffices.
        prepare: what the database contains at first.

    Attributes:
        how: how the work was undone last; None before that.
        why: why it is one connection that is rolled back; empty unless it is.
    """

    def __init__(
        self, double: PostgresDouble, choice: BackendChoice, isolation: Isolation, prepare: Prepare | None
    ) -> None:
        # At once, before anything is installed in place of asyncpg's functions.
        importlib.import_module("isolation_core.services.postgres._driver")
        self._double = double
        self._choice = choice
        self._isolation = isolation
        self._prepare = prepare
        self._database: Database | None = None
        self._shared: _Shared | None = None
        self._server: Server | None = None
        self._transactions = count(1)
        self.how: Cleaning | None = None
        self.why = ""

    # -- the database ------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether there is something to clean."""
        return self._database is not None or self._shared is not None

    @property
    def version(self) -> str:
        """The version of the server; empty before it was reached."""
        return "" if self._server is None else self._server.version

    @property
    def dsn(self) -> str:
        """The address of the database, for any client."""
        if not self.is_open:
            self.open()
        if self._database is None or self._shared is not None:
            raise ConfigurationError(
                f"with isolation='rollback' ({self.why}) everything happens on one connection, which other clients "
                f"cannot use: {_OTHERWISE}",
                name="isolation",
                value="rollback",
            )
        return self._database.address.dsn

    def open(self) -> None:
        """Take a clean database. Blocks."""
        if not self.is_open:
            self._server = _server(self._choice.url)
            self._opened(admin().run(self._open(self._server)))

    async def aopen(self) -> None:
        """Take a clean database."""
        if not self.is_open:
            # In a thread, which a virtual clock waits for.
            await asyncio.to_thread(self.open)

    def _opened(self, database: Database | None) -> None:
        self._database = database
        get_journal().record(
            "service-server", service="postgres", name=self._double.name, version=self.version,
            database="" if database is None else database.name, shared=self.why,
        )  # fmt: skip
        if self.why:
            assert self._server is not None
            self._shared = _Shared(self, (database or self._server).address.dsn)

    async def _open(self, server: Server) -> Database | None:
        """Return a database, or None for one connection that is rolled back. Runs in the thread for administration."""
        if self._isolation == "rollback":
            self.why = "as asked"
            if server.original is not None and self._prepare is None:
                return None
        await server.open()
        if server.original is not None and self._isolation == "auto":
            self.why = await _reason_to_share(server)
            if self.why:
                return None
        return await server.family(self._prepare, always_clone=self._isolation == "clone").lease()

    def close(self) -> None:
        """Undo everything: end every session, and clean. Blocks."""
        database, self._database = self._database, None
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.close()
            self.how = "rollback"
        if database is not None:
            self.how = admin().run(database.family.give_back(database, rolled_back=shared is not None))
        if database is not None or shared is not None:
            tables = database.tables if database is not None else ()
            self._double.record("isolated", how=self.how, tables=tables)

    # -- connections -------------------------------------------------------------------

    async def connect(self, *args: Any, by: Callable[..., Awaitable[Any]] | None = None, **options: Any) -> Any:
        """Return a connection, of asyncpg's class; with the arguments of ``asyncpg.connect``.

        Args:
            *args: where a pool would connect to; of no consequence.
            by: the function of the user's that connects, called with the DSN.
            **options: those of ``asyncpg.connect``.
        """
        from isolation_core.services.postgres import _driver
        from isolation_core.services.postgres._client import RealConnection, connection_class

        double = self._double
        double._require_reachable()
        await self.aopen()
        options["connection_class"] = connection_class(options.get("connection_class"))
        token = RealConnection.opening.set(double)
        try:
            if self._shared is not None:
                return await self._shared.connect(options)
            return await (by or _driver.connect)(self.dsn, **options)
        finally:
            RealConnection.opening.reset(token)

    def next_number(self) -> int:
        """Return the number of a new transaction."""
        return next(self._transactions)

    def is_in_block(self, connection: Any) -> bool:
        """Tell whether the code under test has a transaction open on *connection*."""
        if self._shared is not None:
            return self._shared.is_in_block(connection)
        protocol = connection._protocol
        return protocol is not None and bool(protocol.is_in_transaction())

    async def send(self, connection: Any, query: str, run: Callable[[], Awaitable[Any]]) -> Any:
        """Run a statement of *connection*."""
        was = self.is_in_block(connection)
        tag: object = None
        try:
            shared = self._shared
            result = await (run() if shared is None else shared.send(connection, query, run))
            tag = result if isinstance(result, str) else query.split(None, 1)[0].upper() if query.strip() else ""
        finally:
            connection._told(was, tag)
        return result

    def check_transaction(self, isolation: str | None, *, readonly: bool) -> None:
        """Refuse what one shared connection cannot do."""
        if self._shared is not None and (isolation not in {None, "read_committed"} or readonly):
            raise interface_error(
                "isolation levels and read-only transactions need connections of their own, and with "
                f"isolation='rollback' ({self.why}) all share one: {_OTHERWISE}"
            )

    async def reset(self, connection: Any) -> bool:
        """Make a shared connection as new; False if it is not shared."""
        return self._shared is not None and await self._shared.reset(connection)

    async def let_go(self, connection: Any) -> bool:
        """Close a shared connection for the code under test only; False if it is not shared."""
        if self._shared is None or not await self._shared.reset(connection):
            return False
        self._shared.detach(connection)
        return True

    def cut(self, connection: Any) -> None:
        """End *connection* without waiting, also when its event loop is closed."""
        from isolation_core.services.postgres import _driver

        if self._shared is not None and self._shared.has(connection):
            self._shared.abandon(connection)
            return
        transport = connection._transport
        try:
            _driver.module.Connection.terminate(connection)
        except RuntimeError:  # its event loop is closed
            connection._aborted, connection._protocol = True, None
            with suppress(RuntimeError):
                connection._cleanup()
        if connection._loop.is_closed() and getattr(transport, "_sock", None) is not None:
            # Nobody runs what the transport has asked its loop to do.
            transport._sock.close()
            transport._sock = None


async def _reason_to_share(server: Server) -> str:
    """Say why a database of the user's is not copied; empty if it can be."""
    assert server._connection is not None
    may_create, users, size, version = await server._connection.fetchrow(
        "SELECT (SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user),"
        " (SELECT count(*) FROM pg_stat_activity WHERE datname = d.datname), pg_database_size(d.oid),"
        " current_setting('server_version_num')::int FROM pg_database d WHERE datname = $1",
        server.original,
    ) or (False, 0, 0, 0)
    if not may_create:
        return f"the user of {server.original!r} may not create databases"
    if users:
        return f"{server.original!r} has other connections and cannot be copied"
    if size > _COPY_LIMIT:
        return f"{server.original!r} is too large to be copied without being asked"
    return "" if version >= 150000 else "the server is older than PostgreSQL 15"


_CONTROL: Final = re.compile(
    r"\s*(?:(?P<begin>begin|start\s+transaction)\b(?P<mode>.*)|(?P<commit>commit|end)\b.*|(?P<release>release)\s+"
    r"(?:savepoint\s+)?(?P<released>\S+)|(?P<back>rollback|abort)(?:\s+(?:work|transaction))?"
    r"(?:\s+to\s+(?:savepoint\s+)?(?P<to>\S+))?|savepoint\s+(?P<savepoint>\S+))\s*;?\s*",
    re.IGNORECASE | re.DOTALL,
)


class _Outer:
    """The transaction around everything, as asyncpg's transactions see it: inside of it they are savepoints."""

    _isolation = "read_committed"
    _managed = True


class _Shared:
    """One connection with a transaction around everything; all connections of the double are this one.

    A transaction of the code under test is a savepoint, and two cannot be open at once.
    """

    def __init__(self, server: RealServer, dsn: str) -> None:
        self._server = server
        self._dsn = dsn
        self._lead: Any = None
        self._connections: set[Any] = set()
        self._owner: Any = None  # the connection that has a transaction open
        self._block = ""  # the savepoint that is its beginning
        self._by_name = False  # whether it was begun as a savepoint
        self._broken = False
        self._lock: asyncio.Lock | None = None
        self._numbers = count(1)

    async def connect(self, options: dict[str, Any]) -> Any:
        from isolation_core.services.postgres import _driver

        if self._lead is None or self._lead.is_closed():
            lead = await _driver.connect(self._dsn, **{**options, "connection_class": _driver.module.Connection})
            await lead.execute("BEGIN")
            self._lead, self._lock = lead, asyncio.Lock()
            self._owner = None
        lead = self._lead
        connection = options["connection_class"](
            lead._protocol, lead._transport, lead._loop, lead._addr, lead._config, lead._params
        )
        connection._top_xact = _Outer()
        self._connections.add(connection)
        return connection

    def has(self, connection: Any) -> bool:
        return connection in self._connections

    def is_in_block(self, connection: Any) -> bool:
        return self._owner is connection

    async def _say(self, sql: str) -> None:
        await self._lead._protocol.query(sql, None)

    async def send(self, connection: Any, query: str, run: Callable[[], Awaitable[Any]]) -> Any:
        assert self._lock is not None
        async with self._lock:
            if self._broken:
                await self._undo()
            if self._owner is not None and self._owner is not connection:
                raise interface_error(
                    f"a transaction of another connection is open, and with isolation='rollback' ({self._server.why}) "
                    f"all share one: {_OTHERWISE}"
                )
            statements = split(query)
            if len(statements) == 1 and (control := _CONTROL.fullmatch(statements[0])):
                return await self._control(connection, control, run)
            if any(_CONTROL.fullmatch(each) for each in statements):
                raise interface_error(
                    "a script that begins or ends transactions needs a connection of its own, and with "
                    f"isolation='rollback' ({self._server.why}) all share one: {_OTHERWISE}"
                )
            if self._owner is not None:
                return await run()
            # A statement by itself: its failure must not abort the transaction around everything.
            await self._say("SAVEPOINT isolation_statement")
            try:
                result = await run()
            except BaseException:
                await self._say("ROLLBACK TO isolation_statement; RELEASE isolation_statement")
                raise
            await self._say("RELEASE isolation_statement")
            return result

    async def _control(self, connection: Any, control: re.Match[str], run: Callable[[], Awaitable[Any]]) -> Any:
        if control["begin"]:
            self._server.check_transaction(
                "other" if re.search("serializable|repeatable", control["mode"], re.IGNORECASE) else None,
                readonly="only" in control["mode"].lower(),
            )
            if self._owner is None:
                await self._begin(connection, f"isolation_block_{next(self._numbers)}", by_name=False)
            return "BEGIN"
        if control["savepoint"] and self._owner is None:
            await self._begin(connection, control["savepoint"], by_name=True)
            return "SAVEPOINT"
        if control["savepoint"] and not self._by_name and control["savepoint"].startswith("__asyncpg_"):
            raise interface_error("cannot use Connection.transaction() in a manually started transaction")
        if control["commit"] or (control["release"] and self._by_name and control["released"] == self._block):
            return await self._commit() if self._owner is not None else "COMMIT"
        if control["back"] and (not control["to"] or (self._by_name and control["to"] == self._block)):
            if self._owner is not None:
                await self._undo()
            return "ROLLBACK"
        return await run()

    async def _begin(self, connection: Any, name: str, *, by_name: bool) -> None:
        await self._say(f"SAVEPOINT {name}")
        self._owner, self._block, self._by_name = connection, name, by_name

    async def _commit(self) -> str:
        try:
            await self._say(f"RELEASE {self._block}")
        except Exception as error:
            # The transaction had failed: a server answers COMMIT with a rollback.
            if getattr(error, "sqlstate", None) != "25P02":
                raise
            await self._undo()
            return "ROLLBACK"
        self._owner = None
        return "COMMIT"

    async def _undo(self) -> None:
        self._owner, self._broken = None, False
        await self._say(f"ROLLBACK TO {self._block}; RELEASE {self._block}")

    async def reset(self, connection: Any) -> bool:
        if connection not in self._connections:
            return False
        connection._listeners.clear()
        connection._log_listeners.clear()
        connection._top_xact = _Outer()
        if self._owner is connection:
            assert self._lock is not None
            async with self._lock:
                await self._undo()
            connection._told(True, None)  # noqa: FBT003 - it was in a transaction
        return True

    def detach(self, connection: Any) -> None:
        """End *connection*, which is one of several names of the real one."""
        self._connections.discard(connection)
        connection._aborted, connection._protocol = True, None
        connection._cleanup()

    def abandon(self, connection: Any) -> None:
        """The same without waiting: what it had open is undone before the next statement."""
        if self._owner is connection:
            self._broken = True
        self.detach(connection)

    def close(self) -> None:
        for connection in tuple(self._connections):
            self.detach(connection)
        lead, self._lead = self._lead, None
        if lead is not None and not lead.is_closed():
            self._server.cut(lead)  # the server rolls back
