"""The little that is known of SQL: tokens, statements, placeholders, tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolation_core.services.postgres._lenient import insert_of
from isolation_core.services.postgres._sql import gives_rows, normalise, split, tag_of, to_numbered, verb_of

PIECES = [
    "'a;b'",
    '"c;d"',
    "$$ e; $$",
    "$x$ f; $$ $x$",
    "-- g;\n",
    "/* h; /* i; */ */",
    "word",
    "E'\\';'",
    " ",
    "1.5",
    "%",
]


@given(st.lists(st.lists(st.sampled_from(PIECES), min_size=1), min_size=1))
def test_only_a_semicolon_outside_of_quotes_ends_a_statement(statements: list[list[str]]) -> None:
    """Strings, identifiers, dollar quotes and comments hide semicolons, however they are put together."""
    texts = [" ".join(pieces) for pieces in statements]
    kept = [text for text in texts if normalise(text)]
    assert [normalise(each) for each in split(";".join(texts))] == [normalise(text) for text in kept]


@given(st.text())
def test_any_text_has_tokens(sql: str) -> None:
    """Nothing is too broken to be recorded: what is unfinished goes to the end; normalising twice changes nothing."""
    split(sql)
    verb_of(sql)
    tag_of(sql)
    gives_rows(sql)
    to_numbered(sql, [])
    assert normalise(normalise(sql)) == normalise(sql)


@pytest.mark.parametrize(
    ("sql", "numbered", "names"),
    [
        ("a = %s AND b = %s", "a = $1 AND b = $2", [None, None]),
        ("%(x)s + %(y)s + %(x)s", "$1 + $2 + $1", ["x", "y"]),
        ("'%s' || \"%s\" || $$%s$$ -- %s", "'%s' || \"%s\" || $$%s$$ -- %s", []),
        ("7 %% %s", "7 % $1", [None]),
    ],
)
def test_placeholders_become_numbers(sql: str, numbered: str, names: list[str | None]) -> None:
    """Placeholders of other clients become those of the server, outside of strings and comments."""
    found: list[str | None] = []
    assert to_numbered(sql, found) == numbered
    assert found == names


def test_a_table_is_typed_after_the_first_insertion() -> None:
    """Columns get the types of arguments, and of literals those of the server."""
    insert = insert_of("INSERT INTO t (a, b) VALUES ($1, 2), ($1, 3) ON CONFLICT DO NOTHING RETURNING a", (1.5,))
    assert insert is not None
    assert insert.definition == (
        "CREATE TABLE t AS SELECT * FROM (VALUES (NULL::double precision, 2), (NULL::double precision, 3)) AS v (a, b) "
        "WITH NO DATA"
    )
    for other in (
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t (a) SELECT 1",
        "SELECT 1",
        "INSERT INTO t (a) VALUES (1); x",
    ):
        assert insert_of(other, ()) is None
