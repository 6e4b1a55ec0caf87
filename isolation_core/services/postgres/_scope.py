"""Names: what a column reference may mean, and what is known of an expression."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field, frozen

from isolation_core.services.postgres._arithmetic import cast_value
from isolation_core.services.postgres._errors import pg_error
from isolation_core.services.postgres._literals import from_text
from isolation_core.services.postgres._types import INTS, TEXTS, element_of

if TYPE_CHECKING:
    from isolation_core.services.postgres._ast import Query
    from isolation_core.services.postgres._catalog import Table

__all__ = ["Binder", "Output", "Relation", "Scope", "Typed", "common_type", "implicit", "is_castable"]


@frozen
class Typed:
    """An expression ready for SQLite.

    Attributes:
        sql: its text.
        type: its PostgreSQL type; ``unknown`` for a quoted string, NULL or parameter not pinned down yet.
        name: what its column is called in a result.
        literal: the text of an unknown literal.
        param: the number of an unknown parameter.
        aggregate: whether an aggregate is in it.
        weak: whether a cast around it gives the column the name of the type instead.
    """

    sql: str
    type: str
    name: str | None = None
    literal: str | None = None
    param: int | None = None
    aggregate: bool = False
    weak: bool = False

    @property
    def key(self) -> str:
        """The text to compare, sort and group by."""
        # Always said: SQLite takes a collation named anywhere inside of an expression for that of the whole.
        if self.type == "numeric":
            return f"{self.sql} COLLATE pg_numeric"
        is_text = self.type in {*TEXTS, "uuid", "json", "jsonb"} or self.type.endswith("[]")
        return f"{self.sql} COLLATE BINARY" if is_text else self.sql


@frozen
class Output:
    """A column of a relation or a result."""

    name: str
    type: str
    sql: str
    hidden: bool = False  # merged away by USING: reached with the table's name only


@define(eq=False)
class Relation:
    """Something in FROM."""

    alias: str
    columns: list[Output]
    table: Table | None = None
    sql_name: str = ""


@define(eq=False)
class Scope:
    """What names mean at one place."""

    parent: Scope | None = None
    relations: list[Relation] = field(factory=list)
    ctes: dict[str, tuple[tuple[str, ...], Query, Scope | None]] = field(factory=dict)
    grouped: bool = False
    in_aggregate: bool = False
    aggregates_allowed: str | None = None  # why not
    keys: set[str] = field(factory=set)
    ungrouped: list[tuple[str, Relation]] = field(factory=list)

    def add(self, relation: Relation) -> None:
        """Add *relation*.

        Raises:
            DuplicateAliasError: if its name is taken.
        """
        if any(each.alias == relation.alias for each in self.relations):
            raise pg_error("DuplicateAliasError", f'table name "{relation.alias}" specified more than once')
        self.relations.append(relation)

    def find(self, name: str, table: str | None) -> tuple[Scope, Relation, Output]:
        """Return what the column *name* is.

        Raises:
            UndefinedColumnError: if there is none.
            UndefinedTableError: if there is no such table in FROM.
            AmbiguousColumnError: if there are several.
        """
        scope: Scope | None = self
        while scope is not None:
            relations = [each for each in scope.relations if table is None or each.alias == table]
            found = [
                (scope, relation, column)
                for relation in relations
                for column in relation.columns
                if column.name == name and not (table is None and column.hidden)
            ]
            if len(found) > 1:
                raise pg_error("AmbiguousColumnError", f'column reference "{name}" is ambiguous')
            if found:
                return found[0]
            if table is not None and relations:
                raise pg_error("UndefinedColumnError", f"column {table}.{name} does not exist")
            scope = scope.parent
        if table is not None:
            raise pg_error("UndefinedTableError", f'missing FROM-clause entry for table "{table}"')
        raise pg_error("UndefinedColumnError", f'column "{name}" does not exist')

    def cte(self, name: str) -> tuple[tuple[str, ...], Query, Scope | None] | None:
        """Return the WITH query called *name*."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.ctes:
                return scope.ctes[name]
            scope = scope.parent
        return None


# -- casts that exist ---------------------------------------------------------------

_RANK = {"int2": 0, "int4": 1, "int8": 2, "numeric": 3, "float8": 4}
_TIMES = {"date": 0, "timestamp": 1, "timestamptz": 2}
_EXPLICIT = {("int4", "bool"), ("bool", "int4")}
_ASSIGNMENT = {
    ("timestamptz", "timestamp"), ("timestamp", "date"), ("timestamptz", "date"), ("json", "jsonb"), ("jsonb", "json"),
}  # fmt: skip


def implicit(source: str, target: str) -> bool:
    """Return whether PostgreSQL casts *source* to *target* without being asked."""
    if source == target or (source in TEXTS and target in TEXTS):
        return True
    if source in _RANK and target in _RANK:
        return _RANK[source] < _RANK[target]
    return source in _TIMES and target in _TIMES and _TIMES[source] < _TIMES[target]


def is_castable(source: str, target: str, *, explicit: bool) -> bool:
    """Return whether there is a cast, for assignment or, if *explicit*, when written."""
    if implicit(source, target) or (source, target) in _ASSIGNMENT:
        return True
    if source in _RANK and target in _RANK:
        return True
    if element_of(source) or element_of(target):
        return False
    if target in TEXTS:
        return True
    return explicit and (source in TEXTS or (source, target) in _EXPLICIT)


def common_type(types: list[str]) -> str | None:
    """Return the type all can become implicitly, as for UNION and CASE; None if there is none."""
    known = [each for each in types if each != "unknown"]
    if not known:
        return "text"
    best = known[0]
    for each in known[1:]:
        if each != best:
            if implicit(best, each) and not implicit(each, best):
                best = each
            elif not implicit(each, best):
                return None
    return best


class Binder:
    """The values that go with the text: constants, and parameters with their types.

    Attributes:
        params: the type of each parameter, as far as it is known.
        constants: values by name.
    """

    def __init__(self) -> None:
        self.params: dict[int, str | None] = {}
        self.constants: dict[str, Any] = {}
        self._names: dict[tuple[str, str], str] = {}

    def constant(self, value: Any, type_: str, name: str | None = None) -> Typed:
        """Return a constant; the same value is the same text, so that GROUP BY can compare."""
        key = (type_, repr(value))
        bound = self._names.get(key)
        if bound is None:
            bound = self._names[key] = f"k{len(self._names)}"
            self.constants[bound] = value
        return Typed(f":{bound}", type_, name)

    def param(self, number: int) -> Typed:
        """Return the parameter *number*."""
        known = self.params.setdefault(number, None)
        if known is None:
            return Typed(f":p{number}", "unknown", param=number)
        return Typed(f":p{number}", known)

    def settle(self, typed: Typed, type_: str) -> Typed:
        """Give an unknown expression the type its context wants; others pass."""
        if typed.type != "unknown":
            return typed
        if typed.param is not None:
            known = self.params.get(typed.param)
            if known is not None and known != type_:
                raise pg_error(
                    "AmbiguousParameterError", f"inconsistent types deduced for parameter ${typed.param}",
                )  # fmt: skip
            self.params[typed.param] = type_
            return evolve(typed, type=type_, param=None)
        value = None if typed.literal is None else from_text(typed.literal, type_)
        return evolve(self.constant(value, type_), name=typed.name)

    def cast(self, typed: Typed, target: str, modifiers: tuple[int, ...] = (), *, explicit: bool = False) -> Typed:
        """Return *typed* as *target*; that the cast exists was checked."""
        if typed.type == "unknown":
            typed = self.settle(typed, "text" if target == "varchar" else target)
        plain = typed.type == target or (typed.type in TEXTS and target in TEXTS)
        if plain and not modifiers:
            return evolve(typed, type=target)
        if not modifiers and typed.type in INTS and target in INTS and INTS[typed.type] < INTS[target]:
            return evolve(typed, type=target)
        bound = self.constants
        if typed.sql[1:] in bound and not typed.aggregate:
            # What goes wrong with a constant goes wrong when the statement runs, after all errors of types.
            with contextlib.suppress(Exception):
                value = cast_value(bound[typed.sql[1:]], typed.type, target, modifiers, explicit=explicit)
                return evolve(self.constant(value, target), name=typed.name)
        arguments = f"{typed.sql}, '{typed.type}', '{target}', '{json.dumps(modifiers)}', {int(explicit)}"
        return evolve(typed, sql=f"pg_cast({arguments})", type=target)
