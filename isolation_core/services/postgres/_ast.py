"""The statements the embedded engine knows, as values."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

__all__ = [
    "Between",
    "Binary",
    "Call",
    "Case",
    "Cast",
    "Check",
    "Column",
    "ColumnDef",
    "Conflict",
    "CreateIndex",
    "CreateTable",
    "Delete",
    "Derived",
    "DropTable",
    "Exists",
    "Expr",
    "ForeignKey",
    "FromItem",
    "InList",
    "InSelect",
    "Insert",
    "IsTest",
    "Item",
    "Join",
    "Like",
    "Listen",
    "Literal_",
    "Notify",
    "Order",
    "Param",
    "Quantified",
    "Query",
    "Scalar",
    "Select",
    "SetOperation",
    "Show",
    "Star",
    "Statement",
    "TableRef",
    "Transaction",
    "Truncate",
    "TypeName",
    "Unary",
    "Unique",
    "Unlisten",
    "Update",
    "Values",
]  # fmt: skip


@frozen
class Expr:
    """An expression."""


@frozen
class Literal_(Expr):  # noqa: N801 - Literal is typing's
    """A constant; ``kind`` is ``unknown`` for a quoted string, whose type its context decides."""

    kind: Literal["int", "numeric", "unknown", "bool", "null"]
    text: str


@frozen
class Param(Expr):
    number: int


@frozen
class Column(Expr):
    name: str
    table: str | None = None


@frozen
class Star(Expr):
    table: str | None = None


@frozen
class TypeName:
    name: str
    modifiers: tuple[int, ...] = ()
    array: bool = False


@frozen
class Cast(Expr):
    operand: Expr
    type: TypeName


@frozen
class Unary(Expr):
    operator: str
    operand: Expr


@frozen
class Binary(Expr):
    operator: str
    left: Expr
    right: Expr


@frozen
class Like(Expr):
    operand: Expr
    pattern: Expr
    insensitive: bool
    negated: bool


@frozen
class Between(Expr):
    operand: Expr
    low: Expr
    high: Expr
    negated: bool


@frozen
class InList(Expr):
    operand: Expr
    items: tuple[Expr, ...]
    negated: bool


@frozen
class InSelect(Expr):
    operand: Expr
    query: Query
    negated: bool


@frozen
class Quantified(Expr):
    """``x = ANY (array)``, ``x <> ALL (array)``."""

    operator: str
    left: Expr
    array: Expr
    every: bool


@frozen
class IsTest(Expr):
    operand: Expr
    what: Literal["null", "true", "false", "unknown", "distinct"]
    negated: bool
    other: Expr | None = None


@frozen
class Case(Expr):
    operand: Expr | None
    whens: tuple[tuple[Expr, Expr], ...]
    default: Expr | None


@frozen
class Exists(Expr):
    query: Query


@frozen
class Scalar(Expr):
    query: Query


@frozen
class Call(Expr):
    name: str
    arguments: tuple[Expr, ...]
    distinct: bool = False
    star: bool = False
    keyword: bool = False  # written without parentheses: current_date


@frozen
class Item:
    expr: Expr
    alias: str | None


@frozen
class Order:
    expr: Expr
    descending: bool = False
    nulls_first: bool | None = None


@frozen
class FromItem:
    """Something in FROM."""


@frozen
class TableRef(FromItem):
    name: str
    alias: str | None = None


@frozen
class Derived(FromItem):
    query: Query
    alias: str
    columns: tuple[str, ...] = ()


@frozen
class Join(FromItem):
    left: FromItem
    right: FromItem
    kind: Literal["inner", "left", "cross"]
    on: Expr | None = None
    using: tuple[str, ...] = ()


@frozen
class Statement:
    """A statement."""


@frozen
class Values:
    rows: tuple[tuple[Expr | None, ...], ...]  # None: DEFAULT


@frozen
class Select:
    items: tuple[Item, ...]
    sources: tuple[FromItem, ...] = ()
    where: Expr | None = None
    group: tuple[Expr, ...] = ()
    having: Expr | None = None
    distinct: bool = False


@frozen
class SetOperation:
    operator: str
    every: bool
    left: Body
    right: Body


Body = Select | Values | SetOperation


@frozen
class Query(Statement):
    """A whole SELECT or VALUES with what stands around it."""

    body: Body
    order: tuple[Order, ...] = ()
    limit: Expr | None = None
    offset: Expr | None = None
    ctes: tuple[tuple[str, tuple[str, ...], Query], ...] = ()
    locks: str | None = None  # "update", "update nowait"


@frozen
class ForeignKey:
    columns: tuple[str, ...]
    table: str
    targets: tuple[str, ...] = ()
    on_delete: str = "no action"
    name: str | None = None


@frozen
class Unique:
    columns: tuple[str, ...]
    primary: bool = False
    name: str | None = None


@frozen
class Check:
    expr: Expr
    name: str | None = None
    column: str | None = None


@frozen
class ColumnDef:
    name: str
    type: TypeName
    not_null: bool = False
    default: Expr | None = None
    identity: Literal["always", "by default"] | None = None


@frozen
class CreateTable(Statement):
    name: str
    columns: tuple[ColumnDef, ...]
    constraints: tuple[ForeignKey | Unique | Check, ...] = ()
    if_not_exists: bool = False


@frozen
class CreateIndex(Statement):
    name: str | None
    table: str
    columns: tuple[str, ...]
    unique: bool = False
    if_not_exists: bool = False


@frozen
class DropTable(Statement):
    names: tuple[str, ...]
    if_exists: bool = False
    cascade: bool = False


@frozen
class Truncate(Statement):
    names: tuple[str, ...]
    restart: bool = False
    cascade: bool = False


@frozen
class Conflict:
    columns: tuple[str, ...] = ()
    constraint: str | None = None
    sets: tuple[tuple[str, Expr | None], ...] | None = None  # None: DO NOTHING
    where: Expr | None = None


@frozen
class Insert(Statement):
    table: str
    columns: tuple[str, ...]
    source: Query | None  # None: DEFAULT VALUES
    alias: str | None = None
    conflict: Conflict | None = None
    returning: tuple[Item, ...] = ()


@frozen
class Update(Statement):
    table: str
    alias: str | None
    sets: tuple[tuple[str, Expr | None], ...]
    sources: tuple[FromItem, ...] = ()
    where: Expr | None = None
    returning: tuple[Item, ...] = ()


@frozen
class Delete(Statement):
    table: str
    alias: str | None
    sources: tuple[FromItem, ...] = ()
    where: Expr | None = None
    returning: tuple[Item, ...] = ()


@frozen
class Transaction(Statement):
    """BEGIN, COMMIT, ROLLBACK, SAVEPOINT, RELEASE, ROLLBACK TO."""

    action: Literal["begin", "commit", "rollback", "savepoint", "release", "rollback to"]
    name: str | None = None
    isolation: str | None = None
    readonly: bool = field(default=False, kw_only=True)
    start: bool = field(default=False, kw_only=True)  # START TRANSACTION, whose tag differs


@frozen
class Listen(Statement):
    channel: str


@frozen
class Unlisten(Statement):
    channel: str | None


@frozen
class Notify(Statement):
    channel: str
    payload: str = ""


@frozen
class Show(Statement):
    name: str
