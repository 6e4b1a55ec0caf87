"""The lenient schema: a table first seen in an INSERT of ``execute_query`` is made, and the log says so."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from isolation_core.services.postgres import _ast as ast
from isolation_core.services.postgres._parser import parse

if TYPE_CHECKING:
    from isolation_core.services.postgres._link import EngineLink

__all__ = ["table_for"]

_TYPES: Final[tuple[tuple[type, str], ...]] = (
    (bool, "boolean"), (int, "bigint"), (float, "double precision"), (Decimal, "numeric"), (str, "text"),
    (bytes, "bytea"), (dt.datetime, "timestamptz"), (dt.date, "date"), (uuid.UUID, "uuid"),
)  # fmt: skip
_LITERALS: Final = {"int": "bigint", "numeric": "numeric", "bool": "boolean", "unknown": "text"}


def _type_of(node: ast.Expr | None, args: Sequence[Any]) -> str:
    match node:
        case ast.Param(number) if number <= len(args):
            value = args[number - 1]
            if isinstance(value, dt.datetime) and value.tzinfo is None:
                return "timestamp"
            return next((name for type_, name in _TYPES if isinstance(value, type_)), "text")
        case ast.Literal_(kind):
            return _LITERALS.get(kind, "text")
        case ast.Unary("-", operand):
            return _type_of(operand, args)
        case ast.Cast(_, target) if not target.array:
            return target.name
        case ast.Call("now"):
            return "timestamptz"
        case _:
            return "text"


def table_for(link: EngineLink, sql: str, args: Sequence[Any]) -> tuple[str, str] | None:
    """Return name and ``CREATE TABLE`` of the table an INSERT needs; None if it needs none.

    Args:
        link: whose tables are looked at.
        sql: the statement, with ``$1``.
        args: its arguments, whose types the columns get.
    """
    statements = link.engine.statements(sql)
    if len(statements) != 1 or (link.session.work is not None and link.session.work.failed):
        return None
    statement = parse(*statements[0])
    if not (
        isinstance(statement, ast.Insert)
        and statement.columns
        and statement.source is not None
        and isinstance(statement.source.body, ast.Values)
    ):
        return None
    store = link.session.store
    if any(table.name == statement.table for table in store.tables):
        return None
    row = statement.source.body.rows[0]
    columns = [f"{_quote(name)} {_type_of(node, args)}" for name, node in zip(statement.columns, row, strict=False)]
    return statement.table, f"CREATE TABLE {_quote(statement.table)} ({', '.join(columns)})"


def _quote(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
