"""The lenient schema: a table first seen in an INSERT of ``execute_query`` is made, and the log says so."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from isolation_core.services.postgres._sql import split

__all__ = ["Insert", "insert_of"]

_TYPES: Final[tuple[tuple[type, str], ...]] = (
    (bool, "boolean"), (int, "bigint"), (float, "double precision"), (Decimal, "numeric"), (str, "text"),
    (bytes, "bytea"), (dt.datetime, "timestamptz"), (dt.date, "date"), (dt.time, "time"),
    (dt.timedelta, "interval"), (uuid.UUID, "uuid"),
)  # fmt: skip
_INSERT: Final = re.compile(
    r"insert\s+into\s+(?P<table>[\w.\"]+)\s*(?P<columns>\([^()]*\))\s*(?P<values>values\s*\(.*)",
    re.IGNORECASE | re.DOTALL,
)
_REST: Final = re.compile(r"\s(?:on\s+conflict|returning)\s.*", re.IGNORECASE | re.DOTALL)


class Insert:
    """An ``INSERT INTO t (columns) VALUES ...``.

    Attributes:
        table: as written.
    """

    def __init__(self, match: re.Match[str], args: Sequence[Any]) -> None:
        self.table = match["table"]
        self._columns = match["columns"]
        self._values = _REST.sub("", match["values"])
        self._args = args

    @property
    def definition(self) -> str:
        """The statement that makes a table with these columns, typed after the values."""
        values = re.sub(r"\$(\d+)", lambda number: f"NULL::{self._type(int(number[1]))}", self._values)
        return f"CREATE TABLE {self.table} AS SELECT * FROM ({values}) AS v {self._columns} WITH NO DATA"

    def _type(self, number: int) -> str:
        value = self._args[number - 1] if number <= len(self._args) else None
        if isinstance(value, dt.datetime) and value.tzinfo is None:
            return "timestamp"
        return next((name for type_, name in _TYPES if isinstance(value, type_)), "text")


def insert_of(sql: str, args: Sequence[Any]) -> Insert | None:
    """Return the insertion that *sql* is; None if it is something else.

    Args:
        sql: the statement, with ``$1``.
        args: its arguments.
    """
    statements = split(sql)
    match = _INSERT.fullmatch(statements[0]) if len(statements) == 1 else None
    return None if match is None else Insert(match, args)
