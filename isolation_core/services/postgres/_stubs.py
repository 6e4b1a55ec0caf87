"""Statement stubs: answers given by the test, instead of a server, or where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from isolation_core.errors import ConfigurationError
from isolation_core.services.postgres._record import Answer, records
from isolation_core.services.postgres._sql import normalise, tag_of, to_numbered

__all__ = ["StatementStub"]


class StatementStub:
    """What a statement answers; made by `PostgresDouble.when`.

    Attributes:
        sql: the statement, as given.
        calls: how often it answered.
    """

    def __init__(self, sql: str, args: tuple[Any, ...] | None) -> None:
        self.sql = sql
        self.calls = 0
        self._text = normalise(to_numbered(sql, []))
        self._args = args
        self._result: Answer | None = None
        self._error: BaseException | type[BaseException] | None = None
        self._times: int | None = None

    def __repr__(self) -> str:
        shown = "" if self._args is None else f" with {self._args!r}"
        return f"<StatementStub {self._text!r}{shown}, used {self.calls} times>"

    def returns(self, rows: Sequence[Mapping[str, Any] | Sequence[Any]] = (), *, status: str | None = None) -> Self:
        """Answer with *rows*.

        Args:
            rows: dictionaries by column; sequences get the columns ``column1``, ``column2``...
            status: the command tag; by default the first word of the statement and the number of rows.

        Raises:
            ConfigurationError: if the rows do not have the same columns.
        """
        names: list[str] = []
        values = []
        for row in rows:
            mapping = row if isinstance(row, Mapping) else {f"column{at}": value for at, value in enumerate(row, 1)}
            names = names or list(mapping)
            if list(mapping) != names:
                raise ConfigurationError(
                    f"the rows of the stub of {self.sql!r} differ in their columns: {names} and {list(mapping)}",
                    name="rows",
                    value=rows,
                )
            values.append(tuple(mapping.values()))
        tag = tag_of(self.sql, len(values)) if status is None else status
        self._result = Answer(records(names, values), tag)
        return self

    def raises(self, error: BaseException | type[BaseException]) -> Self:
        """Raise *error* instead of answering; an open transaction has failed then."""
        self._error = error
        return self

    def times(self, count: int) -> Self:
        """Answer so often only, then be gone."""
        self._times = count
        return self

    def matches(self, text: str, args: Sequence[Any]) -> bool:
        """Return whether it answers the normalised *text*."""
        if self._times is not None and self.calls >= self._times:
            return False
        if self._result is None and self._error is None:
            return False
        return text == self._text and (self._args is None or tuple(args) == self._args)

    def answer(self) -> Answer:
        """Answer once."""
        self.calls += 1
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return Answer(list(self._result.records), self._result.tag)
