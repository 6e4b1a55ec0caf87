"""Databases that doubles work in: leased one at a time, and clean again before the next one gets them."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import inspect
import itertools
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

from attrs import define, evolve, field, frozen

from isolation_core.services.postgres._admin import admin

__all__ = ["Address", "Cleaning", "Database", "Family", "Prepare", "Server"]

Prepare = str | Path | Callable[[str], object]
"""What makes the tables that every test starts with: SQL, a file of SQL, or a function of the DSN."""

Cleaning = Literal["untouched", "truncate", "drop", "clone", "rollback"]

_PREFIX: Final = "isolation_"
_KEPT: Final = 4  # clean databases that wait for the next double
_WAIT: Final = 5.0  # seconds for the processes of connections to end

# What has been written to since the database was clean, by the server's own counters. They count what was
# rolled back as well, and are complete once the other sessions have ended. Any definition, whatever its kind,
# is a row of a system catalogue; those that all databases share are no matter of this one, but for its settings.
_TOUCHED: Final = """
SELECT concat(sum(n_tup_ins + n_tup_upd + n_tup_del) FILTER (WHERE schemaname = 'pg_catalog'),
         (SELECT array_agg(setconfig ORDER BY setrole) FROM pg_db_role_setting JOIN pg_database d
             ON d.oid = setdatabase WHERE datname = current_database())),
       coalesce(array_agg(relid::regclass::text || '=' || (n_tup_ins + n_tup_upd + n_tup_del))
         FILTER (WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
                   AND n_tup_ins + n_tup_upd + n_tup_del > 0), '{}')
  FROM pg_stat_all_tables JOIN pg_class c ON c.oid = relid WHERE NOT relisshared
"""
_SEQUENCES: Final = """
SELECT format('%I.%I', schemaname, sequencename), coalesce(last_value, start_value), last_value IS NOT NULL
  FROM pg_sequences
"""
# Foreign keys: the table that refers, and the one referred to.
_REFERENCES: Final = """
SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint
 WHERE contype = 'f' AND conrelid <> confrelid
"""
_END: Final = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()
"""
_SCHEMAS: Final = """
SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
"""
# What dropping every schema leaves: definitions of the database itself.
_LEFT: Final = "SELECT " + " + ".join(
    f"(SELECT count(*) FROM {catalogue} WHERE oid >= 16384)"
    for catalogue in (
        "pg_class", "pg_proc", "pg_type", "pg_namespace", "pg_extension", "pg_largeobject_metadata", "pg_cast",
        "pg_language", "pg_event_trigger", "pg_publication", "pg_foreign_data_wrapper", "pg_default_acl", "pg_operator",
    )
) + " + (SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = current_database())"  # fmt: skip  # noqa: E501 - names from right here


@frozen(kw_only=True)
class Address:
    """Where a database is.

    Attributes:
        dsn: as a URL that asyncpg, psycopg, libpq and SQLAlchemy understand.
    """

    dsn: str
    host: str | None = None
    port: int | None = None
    user: str | None = None

    @classmethod
    def embedded(cls, facts: Mapping[str, Any]) -> Address:
        """Return the address of an embedded server."""
        host, port, user = facts["host"], facts["port"], facts["user"]
        return cls(dsn=_url(host, port, user, "postgres"), host=host, port=port, user=user)

    def database(self, name: str) -> Address:
        """Return the address of another database of the same server."""
        if self.host is not None:
            return evolve(self, dsn=_url(self.host, self.port, self.user, name))
        head, mark, options = self.dsn.partition("?")
        scheme, _, rest = head.partition("://")
        return evolve(self, dsn=f"{scheme}://{rest.partition('/')[0]}/{name}{mark}{options}")


def _url(host: str, port: int | None, user: str | None, database: str) -> str:
    if os.path.isabs(host):
        return f"postgresql://{user}@/{database}?host={quote(host, safe='/')}&port={port}"
    return f"postgresql://{user}@{host}:{port}/{database}"


@define(eq=False)
class Database:
    """One database; an asynchronous method runs in the thread for administration.

    Attributes:
        family: databases that begin with the same content.
        name: its name.
        address: where it is.
        how: how it was cleaned last.
        tables: the tables that were emptied then.
    """

    family: Family
    name: str
    address: Address
    how: Cleaning = "untouched"
    tables: tuple[str, ...] = ()
    _connection: Any = field(default=None, repr=False)
    _catalogue: str = ""
    _counts: dict[str, int] = field(factory=dict, repr=False)
    _sequences: dict[str, tuple[int, bool]] = field(factory=dict, repr=False)

    async def open(self) -> None:
        """Connect and take down what clean means."""
        self._connection = await self.family.server.connect(self.address)
        # With an empty search path names are written in full.
        await self._connection.execute("SET stats_fetch_consistency = none; SET search_path = ''")
        self._sequences = {name: (value, called) for name, value, called in await self._connection.fetch(_SEQUENCES)}
        await self._settle()

    async def _settle(self) -> None:
        # Counters of this session reach the others at the end of a statement that says so.
        await self._connection.execute("SELECT pg_stat_force_next_flush()")
        self._catalogue, self._counts = await self._touched()

    async def _touched(self) -> tuple[str, dict[str, int]]:
        catalogue, tables = await self._connection.fetchrow(_TOUCHED)
        counts = {}
        for each in tables:
            name, _, count = each.rpartition("=")
            counts[name] = int(count)
        return catalogue, counts

    async def clean(self) -> None:
        """End every session and bring the content back to how it was."""
        self.how, self.tables = await self._clean()

    async def _clean(self) -> tuple[Cleaning, tuple[str, ...]]:
        if self._connection is None or self._connection.is_closed():
            return await self._rebuild()
        await self.family.server.end_sessions(self.name, self._connection)
        catalogue, counts = await self._touched()
        written = tuple(sorted(name for name, count in counts.items() if count != self._counts.get(name, 0)))
        sequences = [
            (name, value, called)
            for name, value, called in await self._connection.fetch(_SEQUENCES)
            if self._sequences.get(name) != (value, called)
        ]
        if self.family.always_clone:
            return await self._rebuild()
        if catalogue != self._catalogue:
            return await self._drop()
        if not written and not sequences:
            return "untouched", ()
        # Tables that refer to others are emptied with these.
        emptied = set(written)
        while more := {one for one, other in self.family.references if other in emptied} - emptied:
            emptied |= more
        if self.family.seeded & emptied:
            return await self._rebuild()
        await self._truncate(sorted(emptied), sequences)
        return "truncate", written

    async def _truncate(self, tables: list[str], sequences: list[tuple[str, int, bool]]) -> None:
        statements = [f"TRUNCATE {', '.join(tables)}"] if tables else []
        for name, _, _ in sequences:
            value, called = self._sequences[name]
            statements.append(f"SELECT setval('{_text(name)}', {value}, {str(called).lower()})")
        await self._connection.execute("; ".join(statements))
        await self._settle()

    async def leave(self) -> None:
        """End every session; what they did has been rolled back."""
        await self.family.server.end_sessions(self.name, self._connection)
        await self._settle()
        self.how, self.tables = "rollback", ()

    async def _drop(self) -> tuple[Cleaning, tuple[str, ...]]:
        """Drop every schema: for a database that was empty, the same as a new one, at a fraction of the cost."""
        if not self.family.is_empty:
            return await self._rebuild()
        schemas = [name for (name,) in await self._connection.fetch(_SCHEMAS)]
        try:
            await self._connection.execute(
                "SET client_min_messages = warning; "
                + "".join(f"DROP SCHEMA {name} CASCADE; " for name in schemas)
                + "CREATE SCHEMA public AUTHORIZATION pg_database_owner; GRANT USAGE ON SCHEMA public TO public; "
                "COMMENT ON SCHEMA public IS 'standard public schema'"
            )
            # The new schema itself is one.
            left = await self._connection.fetchval(_LEFT) - 1
        except self.family.server._driver.module.PostgresError:
            left = 1
        if left:
            return await self._rebuild()
        await self._settle()
        return "drop", ()

    async def _rebuild(self) -> tuple[Cleaning, tuple[str, ...]]:
        await self.close()
        await self.family.server.drop(self.name)
        await self.family.create(self.name)
        await self.open()
        return "clone", ()

    async def close(self) -> None:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _text(value: str) -> str:
    return value.replace("'", "''")


class Family:
    """Databases that begin with the same content: empty, what *prepare* makes, or a copy of another one.

    Attributes:
        server: where they are.
        prepare: what makes the content.
        always_clone: whether they are made anew each time.
        is_empty: whether there is nothing in them at first.
        seeded: tables that have rows at first.
        references: which tables refer to which.
    """

    def __init__(self, server: Server, prepare: Prepare | None, *, always_clone: bool) -> None:
        self.server = server
        self.prepare = prepare
        self.always_clone = always_clone
        self.is_empty = prepare is None and server.original is None
        self.seeded: frozenset[str] = frozenset()
        self.references: tuple[tuple[str, str], ...] = ()
        self._template: str | None = None if server.original is None else server.original
        self._ready = server.original is not None and prepare is None
        self._checked = False
        self._free: list[Database] = []
        self._lock = asyncio.Lock()

    async def lease(self) -> Database:
        """Return a clean database that nobody else has."""
        async with self._lock:
            if self._free:
                return self._free.pop()
            await self._make_template()
        name = self.server.new_name()
        await self.create(name)
        database = Database(self, name, self.server.address.database(name))
        await database.open()
        if not self._checked and not self.is_empty:
            self._checked = True
            self.seeded = await self._seeded(database)
            self.references = tuple(map(tuple, await database._connection.fetch(_REFERENCES)))
        return database

    async def give_back(self, database: Database, *, rolled_back: bool) -> Cleaning:
        """Clean *database*, unless everything in it was rolled back, and keep it; say how it was cleaned."""
        if len(self._free) < _KEPT:
            await (database.leave() if rolled_back else database.clean())
            self._free.append(database)
        else:
            database.how = "clone"
            await database.close()
            await self.server.drop(database.name)
        return database.how

    async def create(self, name: str) -> None:
        """Make a database with the content of the family."""
        template = f' TEMPLATE "{self._template}"' if self._template else ""
        await self.server.execute(f'CREATE DATABASE "{name}"{template}')

    async def _make_template(self) -> None:
        if self.prepare is None or self._ready:
            return
        name = self.server.new_name()
        await self.create(name)
        address = self.server.address.database(name)
        await _prepare(self.server, address, self.prepare)
        await self.server.end_sessions(name)
        self._template, self._ready = name, True

    async def _seeded(self, database: Database) -> frozenset[str]:
        names = await database._connection.fetch("SELECT relid::regclass::text FROM pg_stat_user_tables")
        return frozenset(
            [name for (name,) in names if await database._connection.fetchval(f"SELECT EXISTS (SELECT FROM {name})")]
        )


async def _prepare(server: Server, address: Address, prepare: Prepare) -> None:
    if callable(prepare):
        # In a thread: it may run a loop of its own, as migrations of asynchronous engines do.
        outcome = await asyncio.to_thread(prepare, address.dsn)
        if inspect.isawaitable(outcome):
            await _awaited(outcome)
        return
    sql = prepare.read_text(encoding="utf-8") if isinstance(prepare, Path) else prepare
    connection = await server.connect(address)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def _awaited(outcome: Awaitable[object]) -> None:
    await outcome


class Server:
    """A server as one process uses it; its coroutines run in the thread for administration.

    Args:
        address: of the database that is connected to for administration.
        original: the user's database, which the others are copies of; None: they begin empty.
    """

    def __init__(self, address: Address, original: str | None = None) -> None:
        self._driver: Any = importlib.import_module("isolation_core.services.postgres._driver")
        self.address = address
        self.original = original
        self.version = ""
        self._connection: Any = None
        self._families: dict[tuple[object, bool], Family] = {}
        self._numbers = itertools.count(1)
        self._made: list[str] = []
        self._owner = _owner()
        self._lock = asyncio.Lock()
        admin().at_exit(self.close)

    async def connect(self, address: Address) -> Any:
        """Return a connection that is used for administration only."""
        return await self._driver.connect(address.dsn, statement_cache_size=20)

    async def open(self) -> None:
        """Connect, and remove what processes that were killed have left."""
        async with self._lock:
            if self._connection is not None and not self._connection.is_closed():
                return
            address = self.address if self.original is None else self.address.database("postgres")
            self._connection = await self.connect(address)
            self.version = self._connection.get_settings().server_version
            await self._sweep()

    async def execute(self, sql: str) -> None:
        """Run a statement, one at a time."""
        await self.open()
        async with self._lock:
            await self._connection.execute(sql)

    async def end_sessions(self, name: str, connection: Any = None) -> None:
        """End every session in the database *name*, but *connection*, and wait until they have ended."""
        await self.open()
        by = self._connection if connection is None else connection
        deadline = asyncio.get_running_loop().time() + _WAIT
        # The server's own waiting would look every tenth of a second only.
        while await by.fetchval(_END, name) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - on the server
            await asyncio.sleep(0.001)

    async def drop(self, name: str) -> None:
        """Drop a database of ours, whoever is connected."""
        await self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def new_name(self) -> str:
        """Return a name that tells the process it belongs to."""
        name = f"{_PREFIX}{self._owner}_{next(self._numbers)}"
        self._made.append(name)
        return name

    def family(self, prepare: Prepare | None, *, always_clone: bool) -> Family:
        """Return the databases with this content."""
        # The counters of older servers are not complete when a session ends.
        always_clone = always_clone or int(self.version.partition(".")[0]) < 15
        key = prepare, always_clone
        found = self._families.get(key)
        if found is None:
            found = self._families[key] = Family(self, prepare, always_clone=always_clone)
        return found

    async def _sweep(self) -> None:
        """Drop databases of processes of this machine that have ended without doing so."""
        names = await self._connection.fetch(
            "SELECT datname FROM pg_database WHERE starts_with(datname, $1)", f"{_PREFIX}{_host()}_"
        )
        for (name,) in names:
            pid = name.split("_")[2]
            if pid.isdigit() and not _is_process(int(pid)):
                await self._connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def close(self) -> None:
        """Drop every database that was made, and disconnect."""
        for family in self._families.values():
            for database in family._free:
                await database.close()
        for name in self._made:
            await self.drop(name)
        if self._connection is not None:
            await self._connection.close()


def _host() -> str:
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


def _owner() -> str:
    return f"{_host()}_{os.getpid()}_{os.urandom(3).hex()}"


def _is_process(pid: int) -> bool:
    if os.name == "nt":  # where signal 0 is not a question
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
