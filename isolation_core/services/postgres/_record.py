"""`Record`: a row, with the behaviour of ``asyncpg.Record``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

from attrs import field, frozen

__all__ = ["Answer", "QueryResult", "Record", "records"]


class Record:
    """A row: values by position, by slice, and by the name of the column; attributes there are none.

    Equal to a tuple of the same values. ``asyncpg.Record`` itself cannot be made from Python.
    """

    __slots__ = ("_index", "_names", "_values")

    def __init__(self, names: Sequence[str], values: Sequence[Any], index: dict[str, int] | None = None) -> None:
        self._names = tuple(names)
        self._values = tuple(values)
        # Of several columns of one name the last one counts, as in asyncpg.
        self._index = {name: at for at, name in enumerate(names)} if index is None else index

    @overload
    def __getitem__(self, key: int | str) -> Any: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Any, ...]: ...
    def __getitem__(self, key: int | str | slice) -> Any:
        if isinstance(key, (int, slice)):
            try:
                return self._values[key]
            except IndexError:
                raise IndexError("record index out of range") from None
        try:
            return self._values[self._index[key]]
        except (KeyError, TypeError):
            raise KeyError(key) from None

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of the column *key*, or *default*."""
        return self._values[self._index[key]] if key in self._index else default

    def keys(self) -> Iterator[str]:
        """Return the names of the columns."""
        return iter(self._names)

    def values(self) -> Iterator[Any]:
        """Return the values."""
        return iter(self._values)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Return names with values."""
        return iter(zip(self._names, self._values, strict=True))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._index

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Record):
            return self._values == other._values
        return self._values == other if isinstance(other, tuple) else NotImplemented

    def __lt__(self, other: object) -> bool:
        values = other._values if isinstance(other, Record) else other
        return self._values < values if isinstance(values, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values)

    def __repr__(self) -> str:
        shown = " ".join(f"{name}={value!r}" for name, value in self.items())
        return f"<Record {shown}>" if shown else "<Record>"


def records(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Record]:
    """Return *rows* as records that share the names of the columns."""
    index = {name: at for at, name in enumerate(names)}
    return [Record(names, row, index) for row in rows]


@frozen
class Answer:
    """What a statement gave.

    Attributes:
        records: the rows.
        tag: the command tag, such as ``INSERT 0 1``.
    """

    records: list[Any] = field(factory=list)
    tag: str = ""


class QueryResult(list[Any]):
    """The rows that ``execute_query`` gave; empty for a statement that gives none.

    Attributes:
        status: the command tag, such as ``INSERT 0 1``.
        rowcount: how many rows were given or changed; -1 if that makes no sense.
    """

    def __init__(self, rows: Sequence[Any], status: str) -> None:
        super().__init__(rows)
        self.status = status
        last = status.rpartition(" ")[2]
        self.rowcount = int(last) if last.isdigit() else -1
