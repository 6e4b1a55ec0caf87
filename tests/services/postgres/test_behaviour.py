"""One behaviour, two servers: every test here passes on the double and on a real PostgreSQL."""

from __future__ import annotations

import datetime as dt
import socket
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import anyio
import pytest
from asyncpg import exceptions as pg  # type: ignore[import-untyped]

from isolation_core.services import MockContext
from isolation_core.services.postgres import PostgresDouble

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True

DSN = "postgresql://postgres@127.0.0.1:5432/test"


def server_answers() -> bool:
    """Tell whether there is a server to compare with."""
    try:
        socket.create_connection(("127.0.0.1", 5432), timeout=1).close()
    except OSError:
        return False
    return True


needs_server = pytest.mark.skipif(not server_answers(), reason="no PostgreSQL on 127.0.0.1:5432")


@pytest.fixture(params=["double", pytest.param("real", marks=needs_server), pytest.param("over", marks=needs_server)])
async def pool(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Any]:
    """A pool of four: of the double, of asyncpg, and of the double over a real server."""
    if request.param != "double" and anyio_backend != "asyncio":
        pytest.skip("asyncpg runs on asyncio only")
    if request.param == "real":
        async for found in real_pool():
            yield found
        return
    dsn = None if request.param == "double" else DSN
    async with MockContext(virtual_time=True) as context:
        postgres = await PostgresDouble(context, dsn=dsn, isolation="template").connect()
        async with postgres.create_pool(min_size=1, max_size=4) as found:
            yield found


async def real_pool() -> AsyncIterator[Any]:
    """Yield a pool of asyncpg in a schema of its own."""
    import asyncpg

    schema = f"isolation_{uuid.uuid4().hex[:12]}"
    settings = {"search_path": schema, "timezone": "UTC"}
    async with asyncpg.create_pool(DSN, min_size=1, max_size=4, server_settings=settings) as found:
        await found.execute(f"CREATE SCHEMA {schema}")
        try:
            yield found
        finally:
            await found.execute(f"DROP SCHEMA {schema} CASCADE")


async def table(pool: Any) -> None:
    """Make the table most tests are about."""
    await pool.execute(
        "CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL UNIQUE, age int CHECK (age > 0), "
        "balance numeric(10, 2) NOT NULL DEFAULT 0, active boolean DEFAULT true)"
    )


async def raised(awaitable: Any) -> BaseException:
    """Return what *awaitable* raises."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - the caller looks at it
        await awaitable
    return caught.value


# -- rows and types -----------------------------------------------------------------------


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
    assert await pool.execute("BEGIN; SAVEPOINT a; ROLLBACK TO a; RELEASE a") == "RELEASE"


async def test_every_type_there_and_back(pool: Any) -> None:
    """A value of each type comes back as asyncpg gives it."""
    await pool.execute(
        "CREATE TABLE t (a smallint, b int, c bigint, d text, e varchar(5), f bool, g numeric, h numeric(6, 2), "
        "i timestamp, j timestamptz, k date, l uuid, m json, n jsonb, o bytea, p int[], q text[], r float8)"
    )
    moment = dt.datetime(2024, 2, 29, 12, 30, 15, 123456)  # noqa: DTZ001 - a timestamp without time zone
    aware = dt.datetime(2024, 2, 29, 12, 30, 15, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    key = uuid.UUID(int=7)
    values = (
        1, -(2**31), 2**62, "häy", "12345", True, Decimal("1.500"), Decimal("2.345"), moment, aware,
        dt.date(1, 1, 1), key, '{"b":1, "a":2}', '{"bb":1, "a":[1.50,null]}', b"\x00\xff", [1, None, 3], ["x", "y z"],
        0.1,
    )  # fmt: skip
    marks = ", ".join(f"${at}" for at in range(1, len(values) + 1))
    row = await pool.fetchrow(f"INSERT INTO t VALUES ({marks}) RETURNING *", *values)
    expected: list[Any] = list(values)
    expected[7], expected[9] = Decimal("2.35"), aware.astimezone(dt.UTC)
    expected[13] = '{"a": [1.50, null], "bb": 1}'
    assert list(row.values()) == expected
    assert all(isinstance(each, type(other)) for each, other in zip(row, expected, strict=True))
    assert str(row["g"]) == "1.500" and row["j"].tzinfo is dt.UTC
    assert list((await pool.fetchrow("SELECT * FROM t")).values()) == expected
    nothing = await pool.fetchrow(f"INSERT INTO t VALUES ({marks}) RETURNING *", *([None] * len(values)))
    assert set(nothing) == {None}


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


EXPRESSIONS: list[tuple[str, object]] = [
        ("7 / 2", 3), ("-7 / 2", -3), ("-7 % 3", -1), ("7 / 2.0", Decimal("3.5000000000000000")),
        ("1 / 3.0", Decimal("0.33333333333333333333")), ("10.50 * 2", Decimal("21.00")), ("1.0 = 1.00", True),
        ("0.1 + 0.2", Decimal("0.3")), ("0.1::float8 + 0.2::float8", 0.1 + 0.2), ("round(2.5)", Decimal(3)),
        ("round(2.345, 2)", Decimal("2.35")), ("2.5::int", 3), ("(-2.5)::int", -3), ("2.5::float8::int", 2),
        ("'a' || NULL", None), ("'a' || 1", "a1"), ("'a' LIKE 'A'", False), ("'a' ILIKE 'A'", True),
        ("'a%b' LIKE 'a\\%b'", True), ("'ab' NOT LIKE '_'", True), ("NULL = NULL", None), ("NULL IS NULL", True),
        ("1 IN (2, NULL)", None), ("1 NOT IN (2, 3)", True), ("1 IS DISTINCT FROM NULL", True),
        ("true AND NULL", None), ("false AND NULL", False), ("true OR NULL", True), ("NOT NULL::bool", None),
        ("coalesce(NULL, 2)", 2), ("nullif(1, 1)", None), ("greatest(1, 3, NULL)", 3),
        ("least(2, 1.5)", Decimal("1.5")),
        ("CASE WHEN 1 > 2 THEN 'a' ELSE 'b' END", "b"), ("CASE 1 WHEN 1 THEN 2 END", 2), ("length('häy')", 3),
        ("upper('abc')", "ABC"), ("'5'::int + 1", 6), ("5::text", "5"), ("true::text", "true"),
        ("date '2024-02-28' + 2", dt.date(2024, 3, 1)), ("date '2024-03-01' - date '2024-02-28'", 2),
        ("'B' < 'a'", True), ("'a' < 'B'", False), ("2 BETWEEN 1 AND 3", True), ("2147483648", 2**31),
        ("12345678901234567890", Decimal(12345678901234567890)), ("'{1,2}'::int[]", [1, 2]),
        ("3 = ANY ('{1,2}'::int[])", False), ("'{\"a\": {\"b\": \"c\"}}'::jsonb -> 'a' ->> 'b'", "c"),
        ("EXISTS (SELECT 1 WHERE false)", False), ("(SELECT 4)", 4), ("abs(-3)", 3), ("mod(7, -3)", 1),
        ("1 > 2 OR 3 > 2 AND true", True), ("- 2 + 5", 3), ("'1' = 1", True),
        ("cast('1.50' as numeric)", Decimal("1.50")),
        ("'2024-01-02 03:04:05'::timestamp::text", "2024-01-02 03:04:05"), ("left('abc', -1)", "ab"),
        ("1e3", Decimal(1000)), ("floor(-1.5)", Decimal(-2)),
]  # fmt: skip


async def test_expressions(pool: Any) -> None:
    """An expression has the server's value, of the same type."""
    for expression, value in EXPRESSIONS:
        found = await pool.fetchval(f"SELECT {expression}")
        assert (found, type(found), str(found)) == (value, type(value), str(value)), expression


NAMES = [
        ("1, 'a', true, NULL", ["?column?"] * 4), ("1::int8, count(*), coalesce(1, 2)", ["int8", "count", "coalesce"]),
        ("CASE WHEN true THEN 1 END, now() IS NULL, -1", ["case", "?column?", "?column?"]),
        ("EXISTS (SELECT 1), (SELECT 1 AS one), 'x'::text", ["exists", "one", "text"]),
        ("(1 + 1)::text, max(1) AS \"Big One\", lower('A')", ["text", "Big One", "lower"]),
]  # fmt: skip


async def test_names_of_columns(pool: Any) -> None:
    """Columns are called what the server calls them."""
    for items, names in NAMES:
        row = await pool.fetchrow(f"SELECT {items}")
        assert list(row.keys()) == names


async def test_queries(pool: Any) -> None:
    """Joins, groups, subqueries, set operations, order and limits."""
    await pool.execute(
        "CREATE TABLE a (id int PRIMARY KEY, x text); CREATE TABLE b (id int, a_id int REFERENCES a, n numeric);"
        "INSERT INTO a VALUES (1, 'one'), (2, 'two'), (3, NULL);"
        "INSERT INTO b VALUES (1, 1, 1.5), (2, 1, 2.50), (3, 2, NULL), (4, NULL, 4)"
    )

    async def rows(sql: str, *args: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await pool.fetch(sql, *args)]

    assert await rows("SELECT a.id, b.id FROM a LEFT JOIN b ON b.a_id = a.id ORDER BY 1, 2") == [
        (1, 1), (1, 2), (2, 3), (3, None),
    ]  # fmt: skip
    assert await rows("SELECT x, count(b.n), sum(n), avg(n) FROM a JOIN b ON a.id = a_id GROUP BY a.id ORDER BY x") == [
        ("one", 2, Decimal("4.00"), Decimal("2.0000000000000000")), ("two", 0, None, None),
    ]  # fmt: skip
    assert await rows("SELECT id FROM a ORDER BY x") == [(1,), (2,), (3,)]
    assert await rows("SELECT id FROM a ORDER BY x DESC NULLS LAST LIMIT $1 OFFSET $2", 2, 1) == [(1,), (3,)]
    assert await rows("SELECT id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.a_id = a.id)") == [(3,)]
    assert await rows("SELECT id FROM a WHERE id NOT IN (SELECT a_id FROM b)") == []
    assert await rows("SELECT x, (SELECT max(n) FROM b WHERE a_id = a.id) m FROM a WHERE id < 3 ORDER BY id") == [
        ("one", Decimal("2.50")), ("two", None),
    ]  # fmt: skip
    assert await rows("SELECT a_id FROM b GROUP BY a_id HAVING count(*) > 1") == [(1,)]
    assert await rows("WITH w AS (SELECT id FROM b WHERE n > 2) SELECT w.id FROM w ORDER BY w.id") == [(2,), (4,)]
    assert await rows("SELECT id FROM a UNION SELECT a_id FROM b ORDER BY id") == [(1,), (2,), (3,), (None,)]
    assert await rows("SELECT v.x FROM (VALUES (1.0), (2)) v (x) EXCEPT SELECT 1") == [(Decimal(2),)]
    assert await rows("SELECT DISTINCT a_id IS NULL AS none FROM b ORDER BY none") == [(False,), (True,)]
    assert await rows("SELECT sum(id), min(x), bool_or(x = 'two') FROM a") == [(6, "one", True)]
    assert await rows("SELECT count(*), max(id) FROM a WHERE false") == [(0, None)]
    assert await rows("SELECT id FROM a WHERE id = ANY ($1) ORDER BY id", [3, 1]) == [(1,), (3,)]
    assert await rows("SELECT * FROM a JOIN (SELECT a_id AS id, n FROM b) c USING (id) WHERE id = 2") == [
        (2, "two", None)
    ]
    assert await rows("SELECT a.*, b.n FROM a, b WHERE a.id = b.a_id AND b.id = 2") == [(1, "one", Decimal("2.50"))]


async def test_changes(pool: Any) -> None:
    """RETURNING, upserts, UPDATE FROM, DELETE USING, INSERT SELECT, defaults."""
    await table(pool)
    assert await pool.fetchval("INSERT INTO users (name) VALUES ($1) RETURNING id", "ann") == 1
    upsert = (
        "INSERT INTO users AS u (name, age) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE "
        "SET age = excluded.age + coalesce(u.age, 0) WHERE excluded.age < 90 RETURNING id, age"
    )
    assert tuple(await pool.fetchrow(upsert, "ann", 5)) == (1, 5)
    assert tuple(await pool.fetchrow(upsert, "ann", 7)) == (1, 12)
    assert await pool.fetchrow(upsert, "ann", 95) is None
    assert await pool.execute("INSERT INTO users (name) VALUES ('ann') ON CONFLICT DO NOTHING") == "INSERT 0 0"
    await pool.execute("INSERT INTO users (name, age) SELECT name || '2', age * 2 FROM users")
    assert tuple(await pool.fetchrow("UPDATE users SET balance = balance + 0.125 WHERE age = 24 RETURNING *"))[1:] == (
        "ann2", 24, Decimal("0.13"), True,
    )  # fmt: skip
    await pool.execute("CREATE TABLE extra (name text, plus int); INSERT INTO extra VALUES ('ann', 100)")
    assert await pool.execute("UPDATE users u SET age = age + plus FROM extra e WHERE e.name = u.name") == "UPDATE 1"
    assert await pool.fetchval("SELECT age FROM users WHERE name = 'ann'") == 112
    assert await pool.execute("DELETE FROM users USING extra WHERE users.name = extra.name") == "DELETE 1"
    assert await pool.fetch("DELETE FROM users RETURNING name") == [("ann2",)]


async def test_on_delete(pool: Any) -> None:
    """CASCADE deletes, SET NULL empties, and both go on to the next table."""
    await pool.execute(
        "CREATE TABLE a (id int PRIMARY KEY);"
        "CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE);"
        "CREATE TABLE c (id int, b int REFERENCES b (id) ON DELETE SET NULL);"
        "INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (10, 1), (20, 2);"
        "INSERT INTO c VALUES (100, 10), (200, 20)"
    )
    assert await pool.execute("DELETE FROM a WHERE id = 1") == "DELETE 1"
    assert [tuple(row) for row in await pool.fetch("SELECT * FROM b")] == [(20, 2)]
    assert [tuple(row) for row in await pool.fetch("SELECT * FROM c ORDER BY id")] == [(100, None), (200, 20)]


# -- errors -------------------------------------------------------------------------------

ERRORS: list[tuple[str, tuple[Any, ...], type[BaseException]]] = [
    ("INSERT INTO users (name) VALUES ('ann')", (), pg.UniqueViolationError),
    ("INSERT INTO users (age) VALUES (1)", (), pg.NotNullViolationError),
    ("INSERT INTO users (name, age) VALUES ('x', 0)", (), pg.CheckViolationError),
    ("UPDATE users SET age = -age", (), pg.CheckViolationError),
    ("INSERT INTO orders VALUES (1, 99)", (), pg.ForeignKeyViolationError),
    ("DELETE FROM users", (), pg.ForeignKeyViolationError),
    ("UPDATE users SET id = 77", (), pg.ForeignKeyViolationError),
    ("SELECT * FROM nope", (), pg.UndefinedTableError),
    ("SELECT nope FROM users", (), pg.UndefinedColumnError),
    ("SELECT users.nope FROM users", (), pg.UndefinedColumnError),
    ("SELECT nope.id FROM users", (), pg.UndefinedTableError),
    ("INSERT INTO users (nope) VALUES (1)", (), pg.UndefinedColumnError),
    ("UPDATE users SET nope = 1", (), pg.UndefinedColumnError),
    ("SELEC 1", (), pg.PostgresSyntaxError),
    ("SELECT FROM WHERE", (), pg.PostgresSyntaxError),
    ("SELECT * FROM users WHERE", (), pg.PostgresSyntaxError),
    ("SELECT 'abc", (), pg.PostgresSyntaxError),
    ("INSERT INTO users (name) VALUES ('a', 'b')", (), pg.PostgresSyntaxError),
    ("SELECT 1 / 0", (), pg.DivisionByZeroError),
    ("SELECT 2147483647 + 1", (), pg.NumericValueOutOfRangeError),
    ("SELECT 'abc'::int", (), pg.InvalidTextRepresentationError),
    ("SELECT 99999999999::int", (), pg.NumericValueOutOfRangeError),
    ("SELECT date '2024-02-30'", (), pg.DatetimeFieldOverflowError),
    ("SELECT name + 1 FROM users", (), pg.UndefinedFunctionError),
    ("SELECT * FROM users WHERE name = 1", (), pg.UndefinedFunctionError),
    ("SELECT sum(name) FROM users", (), pg.UndefinedFunctionError),
    ("UPDATE users SET age = name", (), pg.DatatypeMismatchError),
    ("INSERT INTO users (name, active) VALUES ('x', 1)", (), pg.DatatypeMismatchError),
    ("SELECT * FROM users WHERE 1", (), pg.DatatypeMismatchError),
    ("SELECT CASE WHEN true THEN 1 ELSE 'a'::text END", (), pg.DatatypeMismatchError),
    ("SELECT 1 UNION SELECT 'a'::text", (), pg.DatatypeMismatchError),
    ("SELECT 1 UNION SELECT 1, 2", (), pg.PostgresSyntaxError),
    ("SELECT name, count(*) FROM users", (), pg.GroupingError),
    ("SELECT id FROM users WHERE count(*) > 1", (), pg.GroupingError),
    ("SELECT id FROM users, orders o WHERE user_id = o.id", (), pg.AmbiguousColumnError),
    ("SELECT 1 FROM users, users", (), pg.DuplicateAliasError),
    ("SELECT (SELECT id FROM two)", (), pg.CardinalityViolationError),
    ("SELECT DISTINCT name FROM users ORDER BY age", (), pg.InvalidColumnReferenceError),
    ("SELECT 1 ORDER BY 3", (), pg.InvalidColumnReferenceError),
    ("INSERT INTO users (name) VALUES ('x') ON CONFLICT (age) DO NOTHING", (), pg.InvalidColumnReferenceError),
    ("INSERT INTO users (id, name) VALUES (8, 'x'), (8, 'y') ON CONFLICT (id) DO UPDATE SET age = 1", (),
     pg.CardinalityViolationError),
    ("CREATE TABLE users (id int)", (), pg.DuplicateTableError),
    ("CREATE TABLE t (id int, id int)", (), pg.DuplicateColumnError),
    ("CREATE TABLE t (id nonsense)", (), pg.UndefinedObjectError),
    ("DROP TABLE nope", (), pg.UndefinedTableError),
    ("DROP TABLE users", (), pg.DependentObjectsStillExistError),
    ("INSERT INTO short VALUES ('abcd')", (), pg.StringDataRightTruncationError),
    ("INSERT INTO always VALUES (1)", (), pg.GeneratedAlwaysError),
    ("SELECT 12345678.9::numeric(5, 2)", (), pg.NumericValueOutOfRangeError),
    ("SELECT true::date", (), pg.CannotCoerceError),
    ("SELECT $1 + $2", (1, 2), pg.AmbiguousFunctionError),
    ("SELECT $1 IS NULL", (1,), pg.IndeterminateDatatypeError),
    ("SELECT 1 LIMIT -1", (), pg.InvalidRowCountInLimitClauseError),
    ("SELECT 1 WHERE '{' = $1::json::text", ("{",), pg.InvalidTextRepresentationError),
    ("SELECT * FROM users WHERE id = $1", ("x",), pg.DataError),
    ("SELECT * FROM users WHERE id = $1", (2**31,), pg.DataError),
    ("SELECT * FROM users WHERE name = $1", (1,), pg.DataError),
    ("SELECT $1::uuid", ("x",), pg.DataError),
    ("SELECT $1::timestamptz", ("2024-01-01",), pg.DataError),
    ("SELECT $1::bool", (1,), pg.DataError),
    ("SELECT $1::numeric", ("abc",), pg.DataError),
    ("SELECT $1::int[]", (5,), pg.DataError),
    ("SELECT $1::jsonb", ({},), pg.DataError),
    ("SELECT $1::int", (), pg.UndefinedParameterError),
    ("SELECT 1", (1,), pg.InterfaceError),
    ("SAVEPOINT a", (), pg.NoActiveSQLTransactionError),
]  # fmt: skip


async def test_error_classes(pool: Any) -> None:
    """Each mistake raises the class, SQLSTATE and message of the server."""
    await table(pool)
    await pool.execute(
        "INSERT INTO users (name, age) VALUES ('ann', 3);"
        "CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users);"
        "INSERT INTO orders VALUES (5, 1); CREATE TABLE two (id int); INSERT INTO two VALUES (1), (2);"
        "CREATE TABLE short (v varchar(3)); CREATE TABLE always (id int GENERATED ALWAYS AS IDENTITY)"
    )
    for sql, args, expected in ERRORS:
        error = await raised(pool.execute(sql, *args))
        assert type(error) is expected, (sql, error)


FIELDS: list[tuple[str, dict[str, str]]] = [
        ("INSERT INTO users (name) VALUES ('ann')",
         {"constraint_name": "users_name_key", "table_name": "users", "detail": "Key (name)=(ann) already exists.",
          "sqlstate": "23505",
          "message": 'duplicate key value violates unique constraint "users_name_key"'}),
        ("INSERT INTO users (id, age) VALUES (9, 1)",
         {"column_name": "name", "table_name": "users", "detail": "Failing row contains (9, null, 1, 0.00, t).",
          "message": 'null value in column "name" of relation "users" violates not-null constraint'}),
        ("INSERT INTO users (id, name, age) VALUES (9, 'x', -1)",
         {"constraint_name": "users_age_check", "detail": "Failing row contains (9, x, -1, 0.00, t).",
          "message": 'new row for relation "users" violates check constraint "users_age_check"'}),
        ("INSERT INTO orders VALUES (2, 44)",
         {"constraint_name": "orders_user_id_fkey", "table_name": "orders",
          "detail": 'Key (user_id)=(44) is not present in table "users".'}),
        ("DELETE FROM users",
         {"constraint_name": "orders_user_id_fkey", "table_name": "orders",
          "detail": 'Key (id)=(1) is still referenced from table "orders".'}),
        ("SELECT * FROM nope", {"message": 'relation "nope" does not exist', "sqlstate": "42P01"}),
        ("SELECT nope FROM users", {"message": 'column "nope" does not exist', "sqlstate": "42703"}),
        ("SELECT 1 FROM users WHERE name > 5",
         {"message": "operator does not exist: text > integer",
          "hint": "No operator matches the given name and argument types. You might need to add explicit type casts."}),
        ("SELECT 'x'::int", {"message": 'invalid input syntax for type integer: "x"', "sqlstate": "22P02"}),
        ("SELECT count(", {"message": "syntax error at end of input", "sqlstate": "42601"}),
        ("SELECT ,", {"message": 'syntax error at or near ","'}),
]  # fmt: skip


async def test_error_fields(pool: Any) -> None:
    """An error says which constraint, table, column and key, in the server's words."""
    await table(pool)
    await pool.execute("INSERT INTO users (name) VALUES ('ann')")
    await pool.execute("CREATE TABLE orders (id int, user_id int REFERENCES users); INSERT INTO orders VALUES (1, 1)")
    for sql, fields in FIELDS:
        error = await raised(pool.execute(sql))
        assert {name: getattr(error, name) for name in fields} == fields


async def test_argument_messages(pool: Any) -> None:
    """An argument of a wrong type is refused in asyncpg's words."""
    no_integer = "'str' object cannot be interpreted as an integer"
    for sql, value, shown, why in (
        ("SELECT $1::int", "x", "'x'", no_integer),
        ("SELECT $1::text", 1, "1", "expected str, got int"),
        ("SELECT $1::int", 2**31, "2147483648", "value out of int32 range"),
        ("SELECT $1::int[]", ["a"], "['a']", f"invalid array element at index 0: {no_integer}"),
    ):
        said = f"invalid input for query argument $1: {shown} ({why})"
        assert str(await raised(pool.fetch(sql, value))) == said


# -- transactions -------------------------------------------------------------------------


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


# -- several connections ------------------------------------------------------------------


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


async def test_writers_of_different_rows_do_not_wait(pool: Any) -> None:
    """Two open transactions change two rows of one table."""
    await pool.execute("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0), (2, 0)")
    async with pool.acquire() as one, pool.acquire() as two, one.transaction(), two.transaction():
        await one.execute("UPDATE t SET v = 1 WHERE id = 1")
        await two.execute("UPDATE t SET v = 2 WHERE id = 2")
        await two.execute("INSERT INTO t VALUES (3, 3)")
    assert [tuple(row) for row in await pool.fetch("SELECT * FROM t ORDER BY id")] == [(1, 1), (2, 2), (3, 3)]


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


@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK"])
async def test_a_second_key_waits(pool: Any, ending: str) -> None:
    """Whether a key is taken is known when the transaction that put it there has ended."""
    await pool.execute("CREATE TABLE t (id int PRIMARY KEY)")
    found: list[object] = []
    async with pool.acquire() as one, pool.acquire() as two:
        await one.execute("BEGIN; INSERT INTO t VALUES (1)")

        async def second() -> None:
            try:
                found.append(await two.execute("INSERT INTO t VALUES (1)"))
            except pg.UniqueViolationError as error:
                found.append(type(error))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(second)
            await anyio.sleep(0.03)
            assert found == []
            await one.execute(ending)
    assert found == [pg.UniqueViolationError if ending == "COMMIT" else "INSERT 0 1"]


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


# -- cursors, statements, copies, notifications ----------------------------------------------


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


# -- pool -----------------------------------------------------------------------------------


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
