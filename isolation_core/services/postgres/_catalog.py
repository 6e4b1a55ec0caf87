"""Tables: columns, constraints, and where their rows are kept."""

from __future__ import annotations

from typing import Any, Literal

from attrs import define, field, frozen

from isolation_core.services.postgres._ast import Expr

__all__ = ["CheckRule", "ForeignRule", "Table", "TableColumn", "UniqueRule"]


@frozen
class TableColumn:
    """A column of a table."""

    name: str
    type: str
    modifiers: tuple[int, ...] = ()
    not_null: bool = False
    default: Expr | None = None
    identity: Literal["always", "by default", "serial"] | None = None


@frozen
class UniqueRule:
    """A unique constraint, primary key or unique index."""

    name: str
    columns: tuple[int, ...]
    primary: bool = False


@frozen
class CheckRule:
    """A check constraint."""

    name: str
    expr: Expr


@frozen
class ForeignRule:
    """A foreign key of the table it is listed in."""

    name: str
    columns: tuple[int, ...]
    target: Table
    targets: tuple[int, ...]
    on_delete: str


@define(eq=False)
class Table:
    """A table; visible to whom sees the transaction that made it and not the one that dropped it."""

    name: str
    columns: tuple[TableColumn, ...]
    physical: str
    created: int
    dropped: int = 0
    uniques: list[UniqueRule] = field(factory=list)
    checks: list[CheckRule] = field(factory=list)
    foreigns: list[ForeignRule] = field(factory=list)
    sequences: dict[int, int] = field(factory=dict)
    lenient: bool = False

    def position(self, name: str) -> int | None:
        """Return where the column *name* is."""
        for at, column in enumerate(self.columns):
            if column.name == name:
                return at
        return None

    def next_value(self, column: int) -> int:
        """Take the next number of a serial or identity column; it is not given back by a rollback."""
        self.sequences[column] = self.sequences.get(column, 0) + 1
        return self.sequences[column]

    def row_text(self, row: tuple[Any, ...]) -> str:
        """Return a row as the server shows it in details."""
        from isolation_core.services.postgres._literals import to_text

        parts = []
        for column, value in zip(self.columns, row, strict=True):
            if value is None:
                parts.append("null")
            elif column.type == "bool":
                parts.append("t" if value else "f")
            elif column.type == "float8":
                parts.append(f"{value:g}")
            else:
                parts.append(str(value) if column.type.endswith("[]") else to_text(value, column.type))
        return f"({', '.join(parts)})"
