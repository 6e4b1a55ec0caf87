"""INSERT, UPDATE and DELETE: a query finds what to write, then each row is checked and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from isolation_core.services.postgres import _ast as ast
from isolation_core.services.postgres._constraints import Checks, Constraints
from isolation_core.services.postgres._errors import pg_error
from isolation_core.services.postgres._scope import Relation, Scope, Typed
from isolation_core.services.postgres._select import QueryCompiler

if TYPE_CHECKING:
    from isolation_core.services.postgres._catalog import Table, TableColumn, UniqueRule
    from isolation_core.services.postgres._store import Store, Work

__all__ = ["DataChanger"]

Row = tuple[Any, ...]
Run = Callable[[dict[str, Any]], tuple[list[Row], int]]
"""Does it with these values; gives the rows of RETURNING and how many rows were touched."""


class DataChanger:
    """Compiles a statement that changes rows.

    Args:
        compiler: of the statement.
        store: where the rows are.
        work: the transaction.
    """

    def __init__(self, compiler: QueryCompiler, store: Store, work: Work) -> None:
        self.compiler = compiler
        self.store = store
        self.work = work
        self.constraints = Constraints(store, work, compiler.sql)
        self.columns: list[Typed] = []

    def compile(self, statement: ast.Insert | ast.Update | ast.Delete) -> Run:
        """Compile *statement*; `columns` is then what RETURNING gives."""
        if isinstance(statement, ast.Insert):
            return self._insert(statement)
        return self._change(statement)

    # -- shared ---------------------------------------------------------------------

    def _position(self, table: Table, name: str) -> int:
        at = table.position(name)
        if at is None:
            raise pg_error("UndefinedColumnError", f'column "{name}" of relation "{table.name}" does not exist')
        return at

    def _returning(self, items: tuple[ast.Item, ...], scope: Scope) -> list[Typed]:
        scope.aggregates_allowed = "RETURNING"
        found = self.compiler._expand(items, scope)
        self.columns = [self.compiler.binder.settle(each, "text") for each in found]
        return self.columns

    def _row_source(self, table: Table, relation: Relation, mark: str) -> str:
        """Return the text of a relation of one row, whose values are bound under *mark*."""
        listed = ", ".join(f":{mark}{at} AS c{at}" for at in range(len(table.columns))) or "0"
        return f"(SELECT {listed}) AS {relation.sql_name}"

    @staticmethod
    def _bound(mark: str, row: Sequence[Any]) -> dict[str, Any]:
        return {f"{mark}{at}": value for at, value in enumerate(row)}

    def _default(self, column: TableColumn) -> Typed | None:
        """Return the default of a column; None for a number of a sequence."""
        if column.identity is not None:
            return None
        if column.default is None:
            return self.compiler.binder.cast(Typed("NULL", "unknown"), column.type)
        typed = self.compiler.compile(column.default, Scope())
        return self.compiler.assigned(typed, column.type, column.modifiers, column.name)

    # -- INSERT ---------------------------------------------------------------------

    def _insert(self, statement: ast.Insert) -> Run:
        compiler, store = self.compiler, self.store
        table = compiler.table(statement.table)
        names = statement.columns
        for name in names:
            if names.count(name) > 1:
                raise pg_error("DuplicateColumnError", f'column "{name}" specified more than once')
        targets = [self._position(table, name) for name in names] or list(range(len(table.columns)))
        select, used = self._source(statement, table, targets)
        targets = targets[:used]
        defaults: dict[int, Typed] = {}
        for at, column in enumerate(table.columns):
            default = None if at in targets else self._default(column)
            if default is not None:
                defaults[at] = default
        default_sql = ", ".join(each.sql for each in defaults.values())
        relation = compiler.relation(table, statement.alias)
        scope = Scope()
        scope.add(relation)
        returning = self._returning(statement.returning, scope) if statement.returning else []
        returning_sql = self._picked(returning, self._row_source(table, relation, "n"))
        conflict = None if statement.conflict is None else self._conflict(statement.conflict, table, relation)
        check = self.constraints.checks_of(table, compiler)
        if conflict is not None:
            conflict.checks = check

        def run(values: dict[str, Any]) -> tuple[list[Row], int]:
            sources = store.run(select, values) if select else [()]
            given: list[Row] = []
            written = 0
            touched: list[Row] = []
            for source in sources:
                given_by_default = store.run(f"SELECT {default_sql}", values)[0] if defaults else ()
                row = _filled(
                    table, dict(zip(defaults, given_by_default, strict=True)), dict(zip(targets, source, strict=True))
                )
                self.constraints.before(table, row, check, values)
                final = self._write(table, row, conflict, values)
                if final is None:
                    continue
                written += 1
                touched.append(final)
                if returning_sql:
                    given += store.run(returning_sql, values | self._bound("n", final))
            for final in touched:
                self.constraints.parents(table, final)
            return given, written

        return run

    def _picked(self, columns: list[Typed], source: str) -> str:
        if not columns:
            return ""
        return f"SELECT {', '.join(each.sql for each in columns)} FROM {source}"

    def _write(self, table: Table, row: list[Any], conflict: _Conflict | None, values: dict[str, Any]) -> Row | None:
        """Insert *row*, or do what ON CONFLICT says; None if nothing was written."""
        rules = table.uniques if conflict is None else conflict.rules
        for rule in rules:
            other = self.constraints.duplicate(table, rule, row)
            if other is None:
                continue
            if conflict is None:
                self.constraints.violated(table, rule, row)
            elif conflict.sets is None:
                return None
            else:
                return conflict.update(self, other, row, values)
        for rule in table.uniques:
            if rule not in rules and self.constraints.duplicate(table, rule, row) is not None:
                self.constraints.violated(table, rule, row)
        self.store.insert(table, row, self.work)
        return tuple(row)

    def _source(self, statement: ast.Insert, table: Table, targets: list[int]) -> tuple[str, int]:
        """Return the text that gives the rows to insert, and how many columns they have."""
        source = statement.source
        if source is None:
            return "", 0
        body = source.body
        if isinstance(body, ast.Values) and not (source.order or source.limit or source.offset or source.ctes):
            return self._values(body, table, targets, named=bool(statement.columns))
        if isinstance(body, ast.Select):
            # Parameters and quoted strings of the outermost SELECT take the type of their column.
            found = self.compiler.query(_typed_items(source, table, targets), None)
        else:
            found = self.compiler.query(source, None)
        self._check_width(len(found.columns), targets, named=bool(statement.columns))
        picked = []
        for at, each in enumerate(found.columns):
            column = table.columns[targets[at]]
            self._refuse_always(column)
            typed = self.compiler.assigned(Typed(f"s.c{at}", each.type), column.type, column.modifiers, column.name)
            picked.append(typed.sql)
        return f"SELECT {', '.join(picked)} FROM ({found.sql}) AS s", len(picked)

    def _check_width(self, width: int, targets: list[int], *, named: bool) -> None:
        if width > len(targets):
            raise pg_error("PostgresSyntaxError", "INSERT has more expressions than target columns")
        if width < len(targets) and named:
            raise pg_error("PostgresSyntaxError", "INSERT has more target columns than expressions")

    def _refuse_always(self, column: TableColumn) -> None:
        if column.identity == "always":
            raise pg_error(
                "GeneratedAlwaysError",
                f'cannot insert a non-DEFAULT value into column "{column.name}"',
                detail=f'Column "{column.name}" is an identity column defined as GENERATED ALWAYS.',
                hint="Use OVERRIDING SYSTEM VALUE to override.",
            )

    def _values(self, body: ast.Values, table: Table, targets: list[int], *, named: bool) -> tuple[str, int]:
        texts = []
        scope = Scope(aggregates_allowed="VALUES")
        widths = {len(row) for row in body.rows}
        if len(widths) != 1:
            raise pg_error("PostgresSyntaxError", "VALUES lists must all be the same length")
        self._check_width(widths.pop(), targets, named=named)
        compiled = [[None if node is None else self.compiler.compile(node, scope) for node in row] for row in body.rows]
        for row in compiled:
            picked = []
            for typed, at in zip(row, targets, strict=False):
                column = table.columns[at]
                if typed is None:
                    default = self._default(column)
                    next_value = self.compiler.binder.constant(_NEXT, "text")
                    picked.append(next_value.sql if default is None else default.sql)
                    continue
                assigned = self.compiler.assigned(typed, column.type, column.modifiers, column.name)
                self._refuse_always(column)
                picked.append(assigned.sql)
            texts.append(f"SELECT {', '.join(picked)}")
        return " UNION ALL ".join(texts), len(body.rows[0])

    def _conflict(self, conflict: ast.Conflict, table: Table, relation: Relation) -> _Conflict:
        rules: list[UniqueRule]
        if conflict.constraint is not None:
            rules = [rule for rule in table.uniques if rule.name == conflict.constraint]
            if not rules:
                raise pg_error(
                    "UndefinedObjectError",
                    f'constraint "{conflict.constraint}" for table "{table.name}" does not exist',
                )
        elif conflict.columns:
            wanted = sorted({self._conflict_column(table, name) for name in conflict.columns})
            rules = [rule for rule in table.uniques if sorted(rule.columns) == wanted]
            if not rules:
                raise pg_error(
                    "InvalidColumnReferenceError",
                    "there is no unique or exclusion constraint matching the ON CONFLICT specification",
                )
        elif conflict.sets is not None:
            raise pg_error(
                "PostgresSyntaxError",
                "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                hint="For example, ON CONFLICT (column_name).",
            )
        else:
            rules = list(table.uniques)
        if conflict.sets is None:
            return _Conflict(table, rules)
        scope = Scope(aggregates_allowed="UPDATE")
        mine = self.compiler.relation(table, relation.alias)
        scope.add(mine)
        excluded = self.compiler.relation(table, "excluded")
        scope.add(excluded)
        sets = self._sets(conflict.sets, table, scope)
        picked = ", ".join(each.sql for _, each in sets)
        source = f"{self._row_source(table, mine, 'o')}, {self._row_source(table, excluded, 'n')}"
        condition = (
            f"SELECT 1 FROM {source} WHERE {self.compiler.condition(conflict.where, scope, 'WHERE')}"
            if conflict.where is not None
            else ""
        )
        return _Conflict(table, rules, [at for at, _ in sets], f"SELECT {picked} FROM {source}", condition)

    def _conflict_column(self, table: Table, name: str) -> int:
        at = table.position(name)
        if at is None:
            raise pg_error("UndefinedColumnError", f'column "{name}" does not exist')
        return at

    # -- UPDATE and DELETE -------------------------------------------------------------

    def _sets(
        self, sets: tuple[tuple[str, ast.Expr | None], ...], table: Table, scope: Scope
    ) -> list[tuple[int, Typed]]:
        # All expressions are looked at before any is put into its column, as the server does.
        compiled = [None if node is None else self.compiler.compile(node, scope) for _, node in sets]
        found: dict[int, Typed] = {}
        for (name, _), typed in zip(sets, compiled, strict=True):
            at = self._position(table, name)
            if at in found:
                raise pg_error("PostgresSyntaxError", f'multiple assignments to same column "{name}"')
            column = table.columns[at]
            if typed is None:
                default = self._default(column)
                if default is None:
                    self.compiler.unsupported("SET ... = DEFAULT of a serial or identity column")
                found[at] = default
                continue
            if column.identity == "always":
                raise pg_error(
                    "GeneratedAlwaysError",
                    f'column "{name}" can only be updated to DEFAULT',
                    detail=f'Column "{name}" is an identity column defined as GENERATED ALWAYS.',
                )
            found[at] = self.compiler.assigned(typed, column.type, column.modifiers, column.name)
        return list(found.items())

    def _change(self, statement: ast.Update | ast.Delete) -> Run:
        compiler, store, work = self.compiler, self.store, self.work
        table = compiler.table(statement.table)
        verb = "UPDATE" if isinstance(statement, ast.Update) else "DELETE"
        scope = Scope(aggregates_allowed=verb)
        relation = compiler.relation(table, statement.alias)
        scope.add(relation)
        texts = [compiler.source_of(relation)]
        texts += [compiler.from_item(each, scope, scope) for each in statement.sources]
        condition = ""
        if statement.where is not None:
            scope.aggregates_allowed = "WHERE"
            condition = f" WHERE {compiler.condition(statement.where, scope, 'WHERE')}"
        returning = self._returning(statement.returning, scope) if statement.returning else []
        scope.aggregates_allowed = verb
        sets = self._sets(statement.sets, table, scope) if isinstance(statement, ast.Update) else []
        if returning and statement.sources:
            compiler.unsupported(f"{verb} ... RETURNING of several tables")
        width = len(table.columns)
        mine = [f"{relation.sql_name}._id", *(f"{relation.sql_name}.c{at}" for at in range(width))]
        picked = ", ".join([*mine, *(each.sql for _, each in sets)])
        select = f"SELECT {picked} FROM {' CROSS JOIN '.join(texts)}{condition}"
        returning_sql = self._picked(returning, self._row_source(table, relation, "n"))
        check = self.constraints.checks_of(table, compiler)

        def run(values: dict[str, Any]) -> tuple[list[Row], int]:
            given: list[Row] = []
            found = store.run(select, values)
            if statement.sources and len({each[0] for each in found}) != len(found):
                compiler.unsupported(f"{verb} where a row is matched several times")
            changes: list[tuple[Row, Row | None]] = []
            for each in found:
                number, old, new_values = each[0], each[1 : 1 + width], each[1 + width :]
                store.claim(table, number, work)
                new: list[Any] | None = None
                if sets:
                    new = list(old)
                    for (at, _), value in zip(sets, new_values, strict=True):
                        new[at] = value
                    self.constraints.before(table, new, check, values)
                self.replace(table, number, old, new)
                changes.append((old, None if new is None else tuple(new)))
                if returning_sql:
                    given += store.run(returning_sql, values | self._bound("n", old if new is None else new))
            for old, final in changes:
                self.constraints.children(table, old, final)
                if final is not None:
                    self.constraints.parents(table, final, old)
            return given, len(found)

        return run

    def replace(self, table: Table, number: int, old: Row, new: list[Any] | None) -> None:
        """Delete a row and, if there is a *new* one, put that in its place."""
        self.store.delete(table, number, self.work)
        if new is None:
            return
        for rule in table.uniques:
            if any(old[at] != new[at] for at in rule.columns) and (
                self.constraints.duplicate(table, rule, new) is not None
            ):
                self.constraints.violated(table, rule, new)
        self.store.insert(table, new, self.work)


class _Conflict:
    """What ON CONFLICT says."""

    def __init__(
        self,
        table: Table,
        rules: list[UniqueRule],
        sets: list[int] | None = None,
        select: str = "",
        condition: str = "",
    ) -> None:
        self.table = table
        self.rules = rules
        self.sets = sets
        self.select = select
        self.condition = condition
        self.checks: Checks = []

    def update(self, changer: DataChanger, number: int, row: list[Any], values: dict[str, Any]) -> Row | None:
        """Update the row in the way; None if the condition does not hold."""
        assert self.sets is not None
        store, table = changer.store, self.table
        listed = ", ".join(f"c{at}" for at in range(len(table.columns)))
        found = store.run(f"SELECT _xmin, {listed} FROM {table.physical} WHERE _id = ?", (number,))
        maker, old = found[0][0], found[0][1:]
        if maker == changer.work.numbers[-1]:
            raise pg_error(
                "CardinalityViolationError",
                "ON CONFLICT DO UPDATE command cannot affect row a second time",
                hint="Ensure that no rows proposed for insertion within the same command have duplicate constrained "
                "values.",
            )
        store.claim(table, number, changer.work)
        bound = values | changer._bound("o", old) | changer._bound("n", row)
        if self.condition and not store.run(self.condition, bound):
            return None
        new = list(old)
        for at, value in zip(self.sets, store.run(self.select, bound)[0], strict=True):
            new[at] = value
        changer.constraints.before(table, new, self.checks, values)
        changer.replace(table, number, old, new)
        changer.constraints.children(table, old, tuple(new))
        return tuple(new)


_NEXT = "\0next"


def _filled(table: Table, defaults: dict[int, Any], values: dict[int, Any]) -> list[Any]:
    """Return a row of *values* and, where there is none, defaults and numbers of sequences."""
    row = [values.get(at, defaults.get(at)) for at in range(len(table.columns))]
    for at, column in enumerate(table.columns):
        if column.identity is not None and (at not in values or row[at] == _NEXT):
            row[at] = table.next_value(at)
    return row


def _typed_items(query: ast.Query, table: Table, targets: list[int]) -> ast.Query:
    """Return *query* with casts around bare parameters and strings in its list, to the type of their column."""
    body = query.body
    assert isinstance(body, ast.Select)
    if any(isinstance(each.expr, ast.Star) for each in body.items):
        return query
    items = []
    for at, item in enumerate(body.items):
        bare = isinstance(item.expr, ast.Param) or (
            isinstance(item.expr, ast.Literal_) and item.expr.kind in {"unknown", "null"}
        )
        if bare and at < len(targets):
            type_ = table.columns[targets[at]].type
            name = ast.TypeName(type_.removesuffix("[]"), (), type_.endswith("[]"))
            items.append(evolve(item, expr=ast.Cast(item.expr, name)))
        else:
            items.append(item)
    return evolve(query, body=evolve(body, items=tuple(items)))
