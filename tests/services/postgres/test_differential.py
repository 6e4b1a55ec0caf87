"""Random statements on the embedded engine and on a real PostgreSQL: the same rows, or the same error."""

from __future__ import annotations

import asyncio
import socket
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from isolation_core.errors import UnsupportedSQLError
from isolation_core.services import MockContext
from isolation_core.services.postgres import PostgresDouble

DSN = "postgresql://postgres@127.0.0.1:5432/test"


def server_answers() -> bool:
    """Tell whether there is a server to compare with."""
    try:
        socket.create_connection(("127.0.0.1", 5432), timeout=1).close()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not server_answers(), reason="no PostgreSQL on 127.0.0.1:5432")
VIRTUAL_TIME = True

COLUMNS = ("t.id", "t.n", "t.s", "t.d", "t.b")
LITERALS = (
    "0", "1", "2", "-1", "3", "NULL", "2147483647", "1.5", "0.50", "-2.5", "3000000000", "'a'", "'B'", "''", "'1'",
    "'x y'", "true", "false", "'true'", "1e2", "7::bigint", "2.5::float8", "'2'::text", "1::smallint",
)  # fmt: skip
BINARY = ("+", "-", "*", "/", "%", "||", "=", "<>", "<", ">", "<=", ">=", "AND", "OR", "LIKE", "IS DISTINCT FROM")
FUNCTIONS = ("abs({})", "length({})", "lower({})", "coalesce({}, 1)", "nullif({}, 'a')", "round({})", "({})::int",
             "({})::text", "({})::numeric", "({})::bool", "NOT {}", "- {}", "({}) IS NULL", "({}) IN (1, 2, NULL)",
             "({}) BETWEEN 0 AND 2", "CASE WHEN {} THEN 1 ELSE 2 END", "greatest({}, 0)", "({}) IS TRUE",
             "({}) = ANY ('{{1,2}}')", "({})::numeric(4, 1)", "({})::bigint", "upper({})")  # fmt: skip

leaves = st.sampled_from(COLUMNS) | st.sampled_from(LITERALS)
wild = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda left, op, right: f"({left} {op} {right})", inner, st.sampled_from(BINARY), inner),
        st.builds(lambda form, each: form.format(each), st.sampled_from(FUNCTIONS), inner),
    ),
    max_leaves=4,
)


def _binary(operators: list[str], inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda left, op, right: f"({left} {op} {right})", inner, st.sampled_from(operators), inner)


def _form(forms: list[str], inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda form, each: form.format(each), st.sampled_from(forms), inner)


texts = st.recursive(
    st.sampled_from(["t.s", "'a'", "'B'", "''", "'none'", "NULL::text", "t.b::text", "t.n::text", "t.d::text"]),
    lambda inner: _binary(["||"], inner) | _form(["upper({})", "coalesce({}, 'c')", "left({}, 1)", "btrim({})"], inner),
    max_leaves=3,
)
numbers = st.recursive(
    st.sampled_from(["t.id", "t.n", "t.d", "1", "2", "-3", "0", "0.25", "NULL::int", "10", "1e3", "3::bigint"])
    | _form(["length({})", "strpos({}, 'a')"], texts),
    lambda inner: (
        _binary(["+", "-", "*", "/", "%"], inner)
        | _form(["abs({})", "({})::int", "({})::numeric(8, 1)", "coalesce({}, 4)", "nullif({}, 2)", "- {}"], inner)
    ),
    max_leaves=4,
)
truths = st.recursive(
    _binary(["=", "<>", "<", ">", "<=", ">=", "IS DISTINCT FROM"], numbers)
    | _binary(["=", "<", "LIKE", "ILIKE", "NOT LIKE"], texts)
    | _form(["({}) IS NULL", "({}) IN (1, 2.0, NULL)", "({}) BETWEEN 0 AND 2", "({}) NOT IN (1, 3)"], numbers)
    | st.sampled_from(
        ["t.b", "true", "NULL::bool", "t.id = ANY ('{1,3}')", "EXISTS (SELECT 1 FROM u WHERE u.t = t.id)"]
    ),
    lambda inner: _binary(["AND", "OR", "="], inner) | _form(["(NOT {})", "({}) IS NOT TRUE"], inner),
    max_leaves=3,
)
choices = st.builds(lambda when, a, b: f"CASE WHEN {when} THEN {a} ELSE {b} END", truths, numbers, numbers)
expressions = st.one_of(truths, numbers, texts, choices, truths, wild)
aggregates = (
    st.builds(
        lambda name, each: f"{name}({each})",
        st.sampled_from(["count", "sum", "avg", "min", "max", "bool_or", "count(DISTINCT"]),
        expressions,
    )
    .map(lambda text: f"{text})" if "(DISTINCT(" in text else text)
    .map(lambda text: text.replace("DISTINCT(", "DISTINCT ("))
)
ENDINGS = (
    "",
    " RETURNING *",
    " ON CONFLICT DO NOTHING",
    " ON CONFLICT (id) DO UPDATE SET n = excluded.n RETURNING id, n",
    " ON CONFLICT (s) DO NOTHING",
)
values = st.sampled_from([*LITERALS, "DEFAULT"])


def _insert(row: list[str], ending: str) -> str:
    return f"INSERT INTO t (id, n, s, d, b) VALUES ({', '.join(row)}){ending}"


statements = st.one_of(
    st.builds(
        _insert,
        st.tuples(
            st.sampled_from(["1", "2", "3", "4", "NULL", "'5'", "'x'"]), values, values, values, values
        ).map(list),
        st.sampled_from(ENDINGS),
    ),
    st.builds("INSERT INTO u VALUES ({}, {})".format, st.sampled_from("123"), st.sampled_from(["1", "2", "9", "NULL"])),
    st.builds(lambda a, b: f"SELECT t.id, {a} AS x FROM t WHERE {b}", expressions, expressions),
    st.builds(lambda a: f"SELECT {a} FROM t", expressions),
    st.builds(lambda a, b: f"SELECT {a}, {b} FROM t GROUP BY {a}", expressions, aggregates),
    st.builds(lambda a: f"SELECT {a} FROM t", aggregates),
    st.builds(lambda a: f"SELECT t.id, u.k FROM t LEFT JOIN u ON u.t = t.id AND {a}", expressions),
    st.builds(lambda a: f"SELECT DISTINCT {a} AS x FROM t", expressions),
    st.builds(lambda a, b: f"SELECT {a} AS x FROM t UNION SELECT {b} FROM t", expressions, expressions),
    st.builds(
        lambda column, a, b: f"UPDATE t SET {column} = {a} WHERE {b} RETURNING *",
        st.sampled_from(["id", "n", "s", "d", "b"]), expressions, expressions,
    ),
    st.builds(lambda a: f"DELETE FROM t WHERE {a}", expressions),
    st.builds(lambda a: f"SELECT k FROM u WHERE t IN (SELECT t.id FROM t WHERE {a})", expressions),
    st.sampled_from(["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT a", "ROLLBACK TO a", "RELEASE a", "TRUNCATE u",
                     "DELETE FROM u", "SELECT count(*) FROM t", "DELETE FROM t"]),
)  # fmt: skip

EVALUATED = {"DivisionByZeroError", "NumericValueOutOfRangeError", "InvalidTextRepresentationError"}

SCHEMA = (
    """CREATE TABLE t (id int PRIMARY KEY, n numeric(6, 2) CHECK (n < 1000), s text UNIQUE DEFAULT 'none', d bigint,
                       b boolean NOT NULL DEFAULT false)""",
    "CREATE TABLE u (k int, t int REFERENCES t {action})",
    "INSERT INTO t VALUES (1, 1.5, 'a', 7, true), (2, NULL, 'B', NULL, false)",
    "INSERT INTO u VALUES (1, 1)",
)


def _comparable(row: Any, *, merged: bool) -> tuple[tuple[str, str], ...]:
    # Of 1.0 and 1.00, which are equal, either may stand for both.
    return tuple(
        (type(value).__name__, str(value.normalize() if merged and isinstance(value, Decimal) else value))
        for value in row
    )


async def _outcome(connection: Any, sql: str) -> object:
    """Return rows in any order, or the name of the error."""
    try:
        rows = await connection.fetch(sql)
    except UnsupportedSQLError:
        return UnsupportedSQLError
    except Exception as error:
        return type(error).__name__
    merged = any(word in sql for word in ("UNION", "DISTINCT", "GROUP BY", "min(", "max("))
    names = tuple(rows[0].keys()) if rows else ()
    return tuple(sorted(_comparable(row, merged=merged) for row in rows)), names


async def _compare(sqls: list[str], action: str) -> None:
    import asyncpg  # type: ignore[import-untyped]

    schema = f"isolation_{uuid.uuid4().hex[:12]}"
    real = await asyncpg.connect(DSN, server_settings={"search_path": schema, "timezone": "UTC"})
    try:
        await real.execute(f"CREATE SCHEMA {schema}")
        async with MockContext(virtual_time=True) as context:
            postgres = await PostgresDouble(context).connect()
            double = await postgres.open_connection()
            for sql in SCHEMA:
                for connection in (real, double):
                    await connection.execute(sql.format(action=action))
            for sql in sqls:
                found = await _outcome(double, sql)
                if found is UnsupportedSQLError:
                    # An honest answer; it has done nothing, and the server is not asked either.
                    event("unsupported")
                    continue
                event("error" if isinstance(found, str) else "rows")
                expected = await _outcome(real, sql)
                errors = {each for each in (found, expected) if isinstance(each, str)}
                if len(errors) == 1 and errors <= EVALUATED and found != expected:
                    # Which parts of an expression are evaluated, and when, is up to the server's planner.
                    event("not evaluated")
                    return
                assert found == expected, (sql, sqls)
            assert double.is_in_transaction() == real.is_in_transaction()
            await double.close()
    finally:
        if real.is_in_transaction():
            await real.execute("ROLLBACK")
        await real.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        await real.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.lists(statements, min_size=4, max_size=14),
    st.sampled_from(["", "ON DELETE CASCADE", "ON DELETE SET NULL", "ON DELETE RESTRICT"]),
)
def test_same_as_the_server(sqls: list[str], action: str) -> None:
    """Whatever the engine answers, rows and their types or the class of an error, the server answers too."""
    asyncio.run(_compare(sqls, action))
