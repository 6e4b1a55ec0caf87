"""What only the PostgreSQL double has: mock API, stubs, faults, log, what is left open, a real server behind it."""

from __future__ import annotations

import datetime as dt
import socket
import subprocess
import sys
from decimal import Decimal
from typing import Any

import anyio
import pytest
from asyncpg import exceptions as pg  # type: ignore[import-untyped]

from isolation_core import isolation_barrier
from isolation_core.errors import ConfigurationError, ServiceNotConnectedError, UnsupportedSQLError
from isolation_core.services import MockContext, ServiceType, fail, lose_reply
from isolation_core.services.postgres import PostgresDouble, Record

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True

DSN = "postgresql://postgres@127.0.0.1:5432/test"


def server_answers() -> bool:
    """Tell whether there is a real server."""
    try:
        socket.create_connection(("127.0.0.1", 5432), timeout=1).close()
    except OSError:
        return False
    return True


needs_server = pytest.mark.skipif(not server_answers(), reason="no PostgreSQL on 127.0.0.1:5432")


# -- execute_query -------------------------------------------------------------------------


async def test_documented_example_runs_as_written() -> None:
    """What is inserted with %s can be selected, and the call can be asserted on."""
    async with isolation_barrier("example") as barrier:
        postgres = await barrier.services.service(ServiceType.POSTGRES).connect()
        result = await postgres.execute_query("INSERT INTO users (id) VALUES (%s)", (123,))
        assert (result, result.status, result.rowcount) == ([], "INSERT 0 1", 1)
        assert await postgres.fetch_all("SELECT id FROM users") == [(123,)]
        postgres.execute_query.assert_awaited_once_with("INSERT INTO users (id) VALUES (%s)", (123,))
        assert barrier.services.log.calls("postgres.table-created")[0].kwargs["table"] == "users"


async def test_strict_schema_knows_no_table() -> None:
    """With a strict schema, and everywhere but in execute_query, an unknown table is the server's error."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context, schema="strict").connect()
        with pytest.raises(pg.UndefinedTableError, match='relation "users" does not exist'):
            await postgres.execute_query("INSERT INTO users (id) VALUES (%s)", (1,))
        lenient = await PostgresDouble(context, name="second").connect()
        with pytest.raises(pg.UndefinedTableError):
            await lenient.execute("INSERT INTO users (id) VALUES ($1)", 1)
        with pytest.raises(pg.UndefinedTableError):
            await lenient.execute_query("SELECT * FROM users")


async def test_lenient_columns_are_typed_after_the_values() -> None:
    """The columns of a table made on the way have the types of the values."""
    now = dt.datetime(2024, 1, 2, tzinfo=dt.UTC)
    values = {
        "a": 1,
        "b": "x",
        "c": True,
        "d": 1.5,
        "e": Decimal("1.50"),
        "f": now,
        "g": dt.date(2024, 1, 2),
        "h": b"\0",
    }
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        marks = ", ".join(f"%({name})s" for name in values)
        await postgres.execute_query(f"INSERT INTO t ({', '.join(values)}) VALUES ({marks})", values)
        row = await postgres.fetch_one("SELECT * FROM t")
        assert row is not None and dict(row.items()) == values
        with pytest.raises(pg.UndefinedFunctionError):
            await postgres.fetch_all("SELECT * FROM t WHERE a = b")


async def test_placeholders() -> None:
    """%s, %(name)s and $1 are placeholders outside of strings; what does not fit is explained."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        assert await postgres.fetch_value("SELECT '100%% %s' || %s::text", ("!",)) is not None
        assert await postgres.fetch_value("SELECT 7 %% %s", (4,)) == 3
        assert await postgres.fetch_value("SELECT 7 % 4") == 3
        assert await postgres.fetch_value("SELECT $1::int - $2::int", (5, 2)) == 3
        assert await postgres.fetch_value("SELECT %(a)s::int * %(a)s::int", {"a": 3}) == 9
        with pytest.raises(ConfigurationError, match="has 2 placeholders and there are 1 params"):
            await postgres.execute_query("SELECT %s, %s", (1,))
        with pytest.raises(ConfigurationError, match=r"needs values for \['b'\]"):
            await postgres.execute_query("SELECT %(b)s", {"a": 1})
        with pytest.raises(ConfigurationError, match=r"write \('abc',\)"):
            await postgres.execute_query("SELECT %s", "abc")


async def test_transaction_over_several_calls() -> None:
    """Calls on the double itself share one connection, also from several tasks."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        await postgres.execute_query("CREATE TABLE t (id int)")
        await postgres.execute_query("BEGIN")
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(postgres.execute_query, "INSERT INTO t VALUES (%s)", (number,))
        assert postgres.problems() == ("a transaction of connection 1001 was neither committed nor rolled back",)
        await postgres.execute_query("ROLLBACK")
        assert await postgres.fetch_value("SELECT count(*) FROM t") == 0
        async with postgres.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES (1)")
        assert await postgres.fetchval("SELECT count(*) FROM t") == 1
        assert postgres.problems() == ()


async def test_not_connected() -> None:
    """Before connect nothing runs; after disconnect every connection is closed."""
    async with MockContext(virtual_time=True) as context:
        postgres = PostgresDouble(context)
        with pytest.raises(ServiceNotConnectedError):
            await postgres.execute_query("SELECT 1")
        await postgres.connect()
        connection = await postgres.open_connection()
        await postgres.disconnect()
        with pytest.raises(pg.InterfaceError, match="connection is closed"):
            await connection.fetch("SELECT 1")


# -- honesty -------------------------------------------------------------------------------

REFUSED = [
    "SELECT * FROM t FOR UPDATE SKIP LOCKED",
    "SELECT row_number() OVER (ORDER BY id) FROM t",
    "SELECT sum(id) FILTER (WHERE id > 1) FROM t",
    "SELECT DISTINCT ON (id) * FROM t",
    "SELECT * FROM t RIGHT JOIN t u ON true",
    "SELECT now() - interval '1 day'",
    "SELECT extract(year FROM now())",
    "SELECT date_trunc('day', now())",
    "SELECT to_char(now(), 'YYYY')",
    "SELECT md5('x')",
    "SELECT '{}'::jsonb @> '{}'::jsonb",
    "SELECT '{}'::jsonb = '{}'::jsonb",
    "SELECT 'a' ~ 'b'",
    "SELECT upper('é')",
    "SELECT generate_series(1, 3)",
    "SELECT * FROM generate_series(1, 3)",
    "SELECT 2 ^ 3",
    "SELECT ARRAY[1, 2]",
    "SELECT 'x' COLLATE \"C\"",
    "SELECT now() AT TIME ZONE 'UTC'",
    "SELECT (1, 2) = (1, 2)",
    "SELECT E'a\\n'",
    "SELECT 'NaN'::numeric",
    "SELECT '1 Jan 2024'::date",
    "WITH RECURSIVE w AS (SELECT 1) SELECT * FROM w",
    "ALTER TABLE t ADD COLUMN x int",
    "CREATE VIEW v AS SELECT 1",
    "CREATE TABLE x (v float4)",
    "CREATE TABLE x (v interval)",
    "EXPLAIN SELECT 1",
    "SET search_path TO x",
    "COPY t FROM stdin",
    "SELECT * FROM pg_tables",
    "SELECT t FROM t",
    "SELECT * FROM (SELECT 1 AS a, 2 AS b) x JOIN (SELECT 2 AS b) y USING (b)",
]


async def test_what_cannot_be_run_faithfully_is_refused() -> None:
    """SQL the engine is not sure of raises, says what to do, and leaves an open transaction usable."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        async with postgres.acquire() as connection, connection.transaction():
            await connection.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
            for sql in REFUSED:
                with pytest.raises(UnsupportedSQLError, match=r"makes up no answer.*postgres\.when.*dsn=") as caught:
                    await connection.fetch(sql)
                assert caught.value.sql and caught.value.construct, sql
            assert await connection.fetchval("SELECT count(*) FROM t") == 1


async def test_snapshots_are_refused_when_they_would_matter() -> None:
    """A repeatable read sees its snapshot as long as there is one; then it says that it cannot."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        await postgres.execute("CREATE TABLE t (id int)")
        async with postgres.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            assert await connection.fetchval("SELECT count(*) FROM t") == 0
            await postgres.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(UnsupportedSQLError, match="repeatable read"):
                await connection.fetchval("SELECT count(*) FROM t")


# -- stubs ---------------------------------------------------------------------------------


async def test_stubs_answer_instead_of_the_engine() -> None:
    """A stub answers any way the statement is written, for its arguments, the newest first."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        jobs = postgres.when("SELECT * FROM jobs WHERE data @> %s FOR UPDATE SKIP LOCKED").returns(
            [{"id": 1, "x": "a"}]
        )
        postgres.when("select * from jobs where data @> $1 for update skip locked", "special").returns([])
        sql = "select *\n  from JOBS -- the queue\n where data @> $1 for update skip locked;"
        async with postgres.acquire() as connection:
            assert await connection.fetch(sql, "any") == [(1, "a")]
            assert await connection.fetch(sql, "special") == []
            row = await connection.fetchrow(sql, "any")
            assert isinstance(row, Record) and row["x"] == "a"
        assert jobs.calls == 2
        postgres.when("DELETE FROM jobs").returns(status="DELETE 7")
        assert (await postgres.execute_query("DELETE FROM jobs")).rowcount == 7
        with pytest.raises(ConfigurationError, match="differ in their columns"):
            postgres.when("SELECT 1").returns([{"a": 1}, {"b": 2}])


async def test_stubbed_error_fails_the_transaction() -> None:
    """An error from a stub aborts the transaction like one of the server's; times() ends it."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        postgres.when("SELECT 1").raises(pg.QueryCanceledError("canceling statement")).times(1)
        async with postgres.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            with pytest.raises(pg.QueryCanceledError):
                await connection.fetch("SELECT 1")
            with pytest.raises(pg.InFailedSQLTransactionError):
                await connection.fetch("SELECT 2")
            await transaction.rollback()
            assert await connection.fetchval("SELECT 1") == 1


async def test_mock_api_wins() -> None:
    """A configured outcome wins over stub and engine, on pool and connection too."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        async with postgres.create_pool(max_size=1, min_size=0) as pool:
            pool.fetchval.return_value = 42
            assert await pool.fetchval("SELECT 1") == 42
            pool.fetchval.assert_awaited_once_with("SELECT 1")
            async with pool.acquire() as connection:
                connection.execute.side_effect = pg.DeadlockDetectedError("deadlock detected")
                with pytest.raises(pg.DeadlockDetectedError):
                    await connection.execute("SELECT 1")
        with pytest.raises(AttributeError, match="Did you mean 'fetchrow'"):
            postgres.fetchro  # noqa: B018


# -- waiting -------------------------------------------------------------------------------


async def test_pool_wait_is_virtual() -> None:
    """An acquire that times out after an hour takes no real time."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        async with postgres.create_pool(min_size=1, max_size=1) as pool, pool.acquire():
            with pytest.raises(TimeoutError):
                await pool.acquire(timeout=3600)
            assert context.clock.now() == 3600


async def test_deadlock() -> None:
    """Two transactions that wait for each other: one of them is told after the server's second, the other goes on."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        await postgres.execute("CREATE TABLE t (id int, v int); INSERT INTO t VALUES (1, 0), (2, 0)")
        outcomes: list[str] = []
        begun: list[int] = []

        async def work(first: int, second: int) -> None:
            try:
                async with postgres.transaction() as connection:
                    await connection.execute("UPDATE t SET v = v + 1 WHERE id = $1", first)
                    begun.append(first)
                    while len(begun) < 2:
                        await anyio.lowlevel.checkpoint()
                    await connection.execute("UPDATE t SET v = v + 1 WHERE id = $1", second)
                outcomes.append("committed")
            except pg.DeadlockDetectedError as error:
                outcomes.append(error.sqlstate)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work, 1, 2)
            tasks.start_soon(work, 2, 1)
        assert sorted(outcomes) == ["40P01", "committed"]
        assert await postgres.fetch("SELECT v FROM t") == [(1,), (1,)]
        assert context.clock.now() >= 1


async def test_statement_timeout_while_waiting() -> None:
    """A statement that waits for a lock longer than its timeout fails, and so has its transaction."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        await postgres.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
        async with postgres.acquire() as one, postgres.acquire() as two:
            await one.execute("BEGIN; UPDATE t SET id = 2")
            await two.execute("BEGIN")
            with pytest.raises(TimeoutError):
                await two.execute("UPDATE t SET id = 3", timeout=30)
            assert context.clock.now() == 30
            with pytest.raises(pg.InFailedSQLTransactionError):
                await two.fetch("SELECT 1")
            await two.execute("ROLLBACK")
            await one.execute("COMMIT")
        assert await postgres.fetchval("SELECT id FROM t") == 2


async def test_cancelled_block_is_rolled_back() -> None:
    """Cancellation in the middle of a transaction undoes it and gives the connection back."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        await postgres.execute("CREATE TABLE t (id int)")
        async with postgres.create_pool(min_size=0, max_size=1) as pool:
            with anyio.CancelScope() as scope:
                async with pool.acquire() as connection, connection.transaction():
                    await connection.execute("INSERT INTO t VALUES (1)")
                    scope.cancel()
                    await anyio.sleep(1)
            assert scope.cancelled_caught
            assert await pool.fetchval("SELECT count(*) FROM t") == 0
        assert postgres.problems() == ()


async def test_now_is_virtual() -> None:
    """now() is the beginning of the transaction on the virtual clock."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        async with postgres.acquire() as connection, connection.transaction():
            began = await connection.fetchval("SELECT now()")
            context.clock.advance(90)
            assert await connection.fetchval("SELECT now()") == began
            assert await connection.fetchval("SELECT clock_timestamp()") - began == dt.timedelta(seconds=90)


# -- faults, log, what is left ---------------------------------------------------------------


async def test_faults_raise_the_clients_errors() -> None:
    """A fault plan raises what asyncpg raises, on the calls it names."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        context.faults.add("postgres.execute", fail("disconnected"), nth=2)
        assert await postgres.execute("SELECT 1") == "SELECT 1"
        with pytest.raises(pg.ConnectionDoesNotExistError):
            await postgres.execute("SELECT 1")
        for kind, error in (
            ("timeout", TimeoutError),
            ("unavailable", OSError),
            ("rejected", pg.TooManyConnectionsError),
        ):
            assert isinstance(postgres.fault_error(kind), error)


async def test_a_lost_reply_has_happened() -> None:
    """A commit whose reply is lost is done all the same."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        await postgres.execute("CREATE TABLE t (id int)")
        context.faults.add("postgres.commit", lose_reply(), nth=1)
        async with postgres.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(Exception):  # noqa: B017, PT011 - which one is the plan's business
                await transaction.commit()
        assert await postgres.fetchval("SELECT count(*) FROM t") == 1


async def test_log_tells_how_transactions_ended() -> None:
    """Each end of a transaction is an event between the calls."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        async with postgres.transaction() as connection:
            await connection.execute("CREATE TABLE t (id int)")
        with pytest.raises(ZeroDivisionError):
            async with postgres.transaction():
                raise ZeroDivisionError
        ends = [entry.operation for entry in context.log if entry.state == "event"]
        assert ends == ["commit", "rollback"]


async def test_problems() -> None:
    """Connections, pools, transactions and listeners left open are told, and the barrier keeps them."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        assert postgres.problems() == ()
        connection = await postgres.open_connection()
        await connection.execute("BEGIN")
        pool = await postgres.create_pool(min_size=0, max_size=2)
        borrowed = await pool.acquire()
        await borrowed.add_listener("news", print)
        told = "\n".join(postgres.problems())
        for part in ("was not closed", "neither committed nor rolled back", "not released", "still listens to 'news'",
                     "a pool of 2 connections was not closed"):  # fmt: skip
            assert part in told
    assert context.problems["postgres"] == tuple(told.split("\n"))


async def test_release_with_a_listener_warns() -> None:
    """A listener left on a released connection is warned of, and gone."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        connection = await postgres.acquire()
        heard: list[Any] = []
        await connection.add_listener("news", lambda *args: heard.append(args))
        with pytest.warns(pg.InterfaceWarning, match="1 active notification listener"):
            await postgres.release(connection)
        await postgres.execute("NOTIFY news")
        assert heard == []


async def test_a_listener_that_fails_harms_nobody() -> None:
    """An error in a listener is logged; who notifies does not see it."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        async with postgres.acquire() as connection:
            await connection.add_listener("news", lambda *args: 1 / 0)
            assert await postgres.execute("NOTIFY news") == "NOTIFY"
            connection._listeners.clear()
        assert "ZeroDivisionError" in context.log.calls("postgres.listener-failed")[0].kwargs["error"]


async def test_too_many_connections() -> None:
    """A server has only so many connections."""
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context, max_connections=2).connect()
        first = await postgres.open_connection()
        await postgres.open_connection()
        with pytest.raises(pg.TooManyConnectionsError, match="too many clients already"):
            await postgres.open_connection()
        await first.close()
        await postgres.open_connection()


async def test_doubles_are_apart_and_reset_empties_one() -> None:
    """Tables of one double are in no other; reset leaves no table, no stub, no call."""
    async with MockContext(virtual_time=True) as context, MockContext(virtual_time=True) as other:
        postgres = await PostgresDouble(context).connect()
        await postgres.execute("CREATE TABLE t (id int)")
        postgres.when("SELECT 5").returns([(6,)])
        second = await PostgresDouble(other).connect()
        with pytest.raises(pg.UndefinedTableError):
            await second.fetch("SELECT * FROM t")
        postgres.reset()
        await postgres.connect()
        assert await postgres.fetchval("SELECT 5") == 5
        with pytest.raises(pg.UndefinedTableError):
            await postgres.fetch("SELECT * FROM t")
        assert postgres.execute.await_count == 0


def test_options_are_checked() -> None:
    """A word that is no option is refused where it is given."""
    with MockContext(virtual_time=True) as context:
        for options in ({"schema": "loose"}, {"isolation": "none"}):
            with pytest.raises(ConfigurationError, match="is neither"):
                PostgresDouble(context, **options)  # type: ignore[arg-type]
        postgres = PostgresDouble(context)
        for least, most in ((0, 0), (-1, 10), (5, 2)):
            with pytest.raises(ValueError, match="_size"):
                postgres.create_pool(min_size=least, max_size=most)


WITHOUT_A_CLIENT = """
import sys
sys.modules["asyncpg"] = None
import anyio
from isolation_core.errors import IsolationError
from isolation_core.services import MockContext, client_class
from isolation_core.services.postgres import PostgresDouble

async def main():
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context).connect()
        await postgres.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        for call in (postgres.execute("INSERT INTO t VALUES (1)"), postgres.fetch("SELECT $1::int", "x"),
                     postgres.fetch("SELECT $1::int")):
            try:
                await call
            except client_class("asyncpg.exceptions", "PostgresError") as error:
                assert (error.sqlstate, error.constraint_name) == ("23505", "t_pkey")
                print(type(error).__name__, isinstance(error, IsolationError))
            except client_class("asyncpg.exceptions", "InterfaceError") as error:
                print(type(error).__name__, error)

anyio.run(main)
"""


def test_works_without_a_client() -> None:
    """Where asyncpg is not installed, look-alikes of its errors are raised, each with its base."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_A_CLIENT], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "UniqueViolationError True",
        "DataError invalid input for query argument $1: 'x' ('str' object cannot be interpreted as an integer)",
        "InterfaceError the server expects 1 argument for this query, 0 were passed",
    ], done.stderr


# -- a real server behind it ------------------------------------------------------------------


@needs_server
@pytest.mark.parametrize("isolation", ["rollback", "template"])
async def test_real_server_is_left_as_it_was(isolation: Any, anyio_backend: str) -> None:
    """The same double over a real server: what was done there is gone at the end."""
    if anyio_backend != "asyncio":
        pytest.skip("asyncpg runs on asyncio only")
    import asyncpg

    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context, dsn=DSN, isolation=isolation).connect()
        await postgres.execute("CREATE TABLE isolation_real (id int PRIMARY KEY)")
        async with postgres.create_pool(min_size=0, max_size=2) as pool, pool.acquire() as connection:
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
            assert await connection.fetchval("SELECT count(*) FROM isolation_real") == 3
        database = await postgres.fetchval("SELECT current_database()::text")
        assert (database == "test") is (isolation == "rollback")
        assert await postgres.fetch_value("SELECT max(id) FROM isolation_real WHERE id < %s", (3,)) == 2
        postgres.fetch_value.assert_awaited_once()
        assert [entry.operation for entry in context.log if entry.state == "event"] == [
            "commit",
            "rollback",
            "rollback",
        ]
    connection = await asyncpg.connect(DSN)
    try:
        assert await connection.fetchval("SELECT to_regclass('isolation_real')") is None
        databases = {row[0] for row in await connection.fetch("SELECT datname FROM pg_database")}
        assert database == "test" or database not in databases
    finally:
        await connection.close()


@needs_server
async def test_rollback_isolation_has_one_transaction(anyio_backend: str) -> None:
    """With everything in one transaction, a second one at the same time is refused and the way out named."""
    if anyio_backend != "asyncio":
        pytest.skip("asyncpg runs on asyncio only")
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context, dsn=DSN).connect()
        async with postgres.acquire() as one, postgres.acquire() as two, one.transaction():
            for call in (two.execute("BEGIN"), two.fetch("SELECT 1")):
                with pytest.raises(pg.InterfaceError, match="isolation='template'"):
                    await call
