"""Queries to SQLite text."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from isolation_core.services.postgres import _ast as ast
from isolation_core.services.postgres._compile import ExpressionCompiler
from isolation_core.services.postgres._errors import pg_error
from isolation_core.services.postgres._scope import Output, Relation, Scope, Typed, common_type
from isolation_core.services.postgres._types import display

if TYPE_CHECKING:
    from isolation_core.services.postgres._ast import Expr, Query
    from isolation_core.services.postgres._catalog import Table

__all__ = ["QueryCompiler", "Selected"]

Finish = Callable[[list[str]], str]
"""Gives the text of a query whose columns must have these types."""


@define
class Selected:
    """A compiled query.

    Attributes:
        sql: its text; the columns are called ``c0``, ``c1``...
        columns: what they are.
        locked: the table whose rows FOR UPDATE locks; its row number is one column more at the end.
    """

    sql: str
    columns: list[Typed]
    locked: Table | None = None
    nowait: bool = False


@define
class _Parts:
    """A SELECT before it is put together."""

    items: list[Typed]
    source: str
    scope: Scope
    tail: str = ""
    distinct: bool = False
    order: list[str] = field(factory=list)


class QueryCompiler(ExpressionCompiler):
    """Compiles queries.

    Args:
        sql: the statement.
        table_of: gives the table of a name, or None.
        rows_of: gives the text that selects the visible rows of a table.
    """

    def __init__(self, sql: str, table_of: Callable[[str], Table | None], rows_of: Callable[[Table], str]) -> None:
        super().__init__(sql)
        self._table_of = table_of
        self._rows_of = rows_of
        self._numbers = count(1)

    def table(self, name: str) -> Table:
        """Return the table *name*.

        Raises:
            UndefinedTableError: if there is none.
        """
        table = self._table_of(name)
        if table is None:
            if name.startswith("pg_") or name == "information_schema":
                self.unsupported(f"the system catalog {name}")
            raise pg_error("UndefinedTableError", f'relation "{name}" does not exist')
        return table

    def relation(self, table: Table, alias: str | None) -> Relation:
        """Return *table* as something in FROM."""
        name = f"r{next(self._numbers)}"
        columns = [Output(each.name, each.type, f"{name}.c{at}") for at, each in enumerate(table.columns)]
        return Relation(alias or table.name, columns, table, name)

    def source_of(self, relation: Relation) -> str:
        """Return the text of a table in FROM."""
        assert relation.table is not None
        return f"({self._rows_of(relation.table)}) AS {relation.sql_name}"

    def subquery(self, query: Query, scope: Scope) -> tuple[str, list[Typed]]:
        """Compile a query inside an expression."""
        found = self.query(query, scope)
        return f"({found.sql})", found.columns

    # -- whole queries -------------------------------------------------------------------

    def query(self, query: Query, parent: Scope | None, *, top: bool = False) -> Selected:
        """Compile *query*, whose names may also be those of *parent*."""
        scope = Scope(parent)
        for name, names, inner in query.ctes:
            if name in scope.ctes:
                raise pg_error("DuplicateAliasError", f'WITH query name "{name}" specified more than once')
            # A WITH query sees those before it.
            seen = Scope(parent, ctes=dict(scope.ctes))
            scope.ctes[name] = (names, inner, seen)
        locked, nowait = None, False
        if isinstance(query.body, ast.Select):
            parts = self._select(query.body, scope)
            parts.items = columns = [self.binder.settle(each, "text") for each in parts.items]
            order = [self._order_key(each, parts, query.body) for each in query.order]
            self._check_groups(parts.scope)
            if query.locks:
                locked, nowait = self._lock(query, parts, top=top), query.locks == "update nowait"
            text = self._assemble(parts, with_id=locked is not None)
        else:
            if query.locks:
                self.unsupported("FOR UPDATE here")
            found, finish = self._body(query.body, scope)
            columns = [self.binder.settle(each, "text") for each in found]
            text = finish([each.type for each in columns])
            name = f"r{next(self._numbers)}"
            outputs = [Typed(f"{name}.c{at}", each.type, each.name) for at, each in enumerate(columns)]
            order = [self._output_order(each, outputs) for each in query.order]
            picked = ", ".join(f"{name}.c{at} AS c{at}" for at in range(len(columns)))
            text = f"SELECT {picked} FROM ({text}) AS {name}"
        if order:
            text += f" ORDER BY {', '.join(order)}"
        text += self._limits(query, scope)
        return Selected(text, columns, locked, nowait)

    def _lock(self, query: Query, parts: _Parts, *, top: bool) -> Table:
        relations = parts.scope.relations
        if not top or len(relations) != 1 or relations[0].table is None or parts.scope.grouped or parts.distinct:
            self.unsupported("FOR UPDATE of anything but plain rows of one table")
        if query.limit or query.offset:
            self.unsupported("FOR UPDATE with LIMIT")
        parts.items = [*parts.items]
        return relations[0].table

    def _assemble(self, parts: _Parts, *, with_id: bool = False) -> str:
        picked = [f"{each.key if parts.distinct else each.sql} AS c{at}" for at, each in enumerate(parts.items)]
        if with_id:
            picked.append(f"{parts.scope.relations[0].sql_name}._id AS _id")
        distinct = "DISTINCT " if parts.distinct else ""
        source = f" FROM {parts.source}" if parts.source else ""
        return f"SELECT {distinct}{', '.join(picked)}{source}{parts.tail}"

    def _limits(self, query: Query, scope: Scope) -> str:
        text = ""
        for node, what in ((query.limit, "LIMIT"), (query.offset, "OFFSET")):
            if node is None:
                if what == "LIMIT" and query.offset is not None:
                    text += " LIMIT -1"
                continue
            typed = self.value(node, Scope(), "int8")
            if typed.type not in {"int2", "int4", "int8"}:
                raise pg_error(
                    "DatatypeMismatchError",
                    f"argument of {what} must be type bigint, not type {display(typed.type)}",
                )
            text += f" {what} pg_limit('{what}', {typed.sql})"
        return text

    def _body(self, body: ast.Body, scope: Scope) -> tuple[list[Typed], Finish]:
        """Compile one side; its text is made when it is known what types its columns must have."""
        match body:
            case ast.Select():
                parts = self._select(body, Scope(scope))
                self._check_groups(parts.scope)

                def finish(types: list[str]) -> str:
                    cast = [self.binder.cast(each, type_) for each, type_ in zip(parts.items, types, strict=True)]
                    if parts.distinct and any(
                        type_ != each.type for each, type_ in zip(parts.items, types, strict=True)
                    ):
                        self.unsupported("DISTINCT of values whose type a set operation changes")
                    return self._assemble(evolve(parts, items=cast))

                return parts.items, finish
            case ast.Values():
                return self._values(body, scope)
            case _:
                return self._set_operation(body, scope)

    def _values(self, body: ast.Values, scope: Scope) -> tuple[list[Typed], Finish]:
        rows = []
        inner = Scope(scope, aggregates_allowed="VALUES")
        for row in body.rows:
            if None in row:
                raise pg_error("PostgresSyntaxError", "DEFAULT is not allowed in this context")
            rows.append([self.compile(each, inner) for each in row if each is not None])
        if len({len(row) for row in rows}) != 1:
            raise pg_error("PostgresSyntaxError", "VALUES lists must all be the same length")
        columns = [self.unify([row[at] for row in rows], "VALUES") for at in range(len(rows[0]))]

        def finish(types: list[str]) -> str:
            cast = [
                [self.binder.cast(each, type_) for each in column] for column, type_ in zip(columns, types, strict=True)
            ]
            return " UNION ALL ".join(
                "SELECT " + ", ".join(f"{column[at].sql} AS c{number}" for number, column in enumerate(cast))
                for at in range(len(rows))
            )

        return [evolve(column[0], name=f"column{number}") for number, column in enumerate(columns, 1)], finish

    def _set_operation(self, body: ast.SetOperation, scope: Scope) -> tuple[list[Typed], Finish]:
        if body.every and body.operator != "union":
            self.unsupported(f"{body.operator.upper()} ALL")
        (left, finish_left), (right, finish_right) = (self._body(each, scope) for each in (body.left, body.right))
        what = body.operator.upper()
        if len(left) != len(right):
            raise pg_error("PostgresSyntaxError", f"each {what} query must have the same number of columns")
        columns = []
        for pair in zip(left, right, strict=True):
            type_ = common_type([each.type for each in pair])
            if type_ is None:
                raise pg_error(
                    "DatatypeMismatchError",
                    f"{what} types {display(pair[0].type)} and {display(pair[1].type)} cannot be matched",
                )
            if (type_ in {"json", "jsonb"} or type_.endswith("[]")) and not body.every:
                self.unsupported(f"{what} of {display(type_)}")
            columns.append(Typed("", type_, pair[0].name))
            for each in pair:
                # A quoted string that is none of that type is an error of the statement, not of a row.
                self.binder.settle(each, type_)
        types = [each.type for each in columns]

        def finish(wanted: list[str]) -> str:
            texts = []
            for text in (finish_left(types), finish_right(types)):
                name = f"r{next(self._numbers)}"
                picked = [f"{Typed(f'{name}.c{at}', each).key} AS c{at}" for at, each in enumerate(types)]
                texts.append(f"SELECT {', '.join(picked)} FROM ({text}) AS {name}")
            whole = f" {what}{' ALL' if body.every else ''} ".join(texts)
            if wanted == types:
                return whole
            name = f"r{next(self._numbers)}"
            outer = [
                f"{self.binder.cast(Typed(f'{name}.c{at}', each), target).sql} AS c{at}"
                for at, (each, target) in enumerate(zip(types, wanted, strict=True))
            ]
            return f"SELECT {', '.join(outer)} FROM ({whole}) AS {name}"

        return columns, finish

    # -- SELECT ---------------------------------------------------------------------------

    def _select(self, body: ast.Select, scope: Scope) -> _Parts:
        # In the order in which the server looks, so that of several errors the same one is told.
        source = self._from(body.sources, scope)
        items = self._expand(body.items, scope)
        aggregated, scope.grouped = scope.grouped, False
        tail = ""
        if body.where is not None:
            scope.aggregates_allowed = "WHERE"
            tail += f" WHERE {self.condition(body.where, scope, 'WHERE')}"
            scope.aggregates_allowed = None
        if body.having is not None:
            self.condition(body.having, scope, "HAVING")
        keys = self._group_keys(body, scope)
        scope.ungrouped.clear()
        scope.grouped = aggregated or bool(keys) or body.having is not None
        if scope.grouped:
            # Now that it is known what is grouped, columns are judged.
            scope.keys = {key.sql for key in keys}
            items = self._expand(body.items, scope)
        if keys:
            tail += f" GROUP BY {', '.join(key.key for key in keys)}"
        if body.having is not None:
            if not keys:
                # SQLite wants a GROUP BY before HAVING; one of a constant is one group, but none without rows.
                self.unsupported("HAVING without GROUP BY")
            tail += f" HAVING {self.condition(body.having, scope, 'HAVING')}"
        if body.distinct and any(each.type in {"json", "jsonb"} for each in items):
            self.unsupported("DISTINCT of json")
        return _Parts(items, source, scope, tail, body.distinct)

    def _group_keys(self, body: ast.Select, scope: Scope) -> list[Typed]:
        scope.aggregates_allowed = "GROUP BY"
        keys = [self._group_key(each, body, scope) for each in body.group]
        scope.aggregates_allowed = None
        for key in keys:
            if "SELECT" in key.sql:
                self.unsupported("GROUP BY of a subquery")
            if key.type == "json":
                raise pg_error("UndefinedFunctionError", "could not identify an equality operator for type json")
            if key.type == "jsonb" or key.type.endswith("[]"):
                self.unsupported(f"GROUP BY of {display(key.type)}")
        return keys

    def _check_groups(self, scope: Scope) -> None:
        """Raise for a column that is neither grouped nor in an aggregate."""
        for name, relation in scope.ungrouped:
            if relation.table is not None:
                primary = next((rule for rule in relation.table.uniques if rule.primary), None)
                # All columns of a row follow from its primary key.
                if primary and {relation.columns[at].sql for at in primary.columns} <= scope.keys:
                    continue
            raise pg_error(
                "GroupingError",
                f'column "{relation.alias}.{name}" must appear in the GROUP BY clause or be used in an aggregate '
                "function",
            )

    def _group_key(self, node: Expr, body: ast.Select, scope: Scope) -> Typed:
        if isinstance(node, ast.Literal_) and node.kind == "int" and abs(int(node.text)) < 1 << 31:
            place = int(node.text)
            if not 1 <= place <= len(body.items):
                raise pg_error("InvalidColumnReferenceError", f"GROUP BY position {place} is not in select list")
            if any(isinstance(each.expr, ast.Star) for each in body.items):
                self.unsupported("GROUP BY a position beside *")
            return self.value(body.items[place - 1].expr, scope)
        if isinstance(node, (ast.Literal_, ast.Param)):
            raise pg_error("PostgresSyntaxError", "non-integer constant in GROUP BY")
        if isinstance(node, ast.Column) and node.table is None:
            known = [each for relation in scope.relations for each in relation.columns if each.name == node.name]
            aliased = [each.expr for each in body.items if each.alias == node.name]
            if not known and aliased:
                return self.value(aliased[0], scope)
        return self.value(node, scope)

    def _expand(self, items: tuple[ast.Item, ...], scope: Scope) -> list[Typed]:
        found: list[Typed] = []
        for item in items:
            if not isinstance(item.expr, ast.Star):
                typed = self.compile(item.expr, scope)
                found.append(evolve(typed, name=item.alias or typed.name or "?column?"))
                continue
            wanted = item.expr.table
            relations = [each for each in scope.relations if wanted in {None, each.alias}]
            if not relations:
                if wanted is None:
                    raise pg_error("PostgresSyntaxError", "SELECT * with no tables specified is not valid")
                raise pg_error("UndefinedTableError", f'missing FROM-clause entry for table "{wanted}"')
            if wanted is None:
                self._check_merged(relations)
            for relation in relations:
                for column in relation.columns:
                    if not (column.hidden and wanted is None):
                        found.append(self.compile(ast.Column(column.name, relation.alias), scope))  # noqa: PERF401
        return found

    def _check_merged(self, relations: list[Relation]) -> None:
        """Refuse ``*`` where the server would put the columns of USING in front and they are not there already."""
        merged = list(dict.fromkeys(each.name for relation in relations for each in relation.columns if each.hidden))
        if merged and [each.name for each in relations[0].columns[: len(merged)]] != merged:
            self.unsupported("* of a JOIN USING whose columns are not the first ones")

    # -- ORDER BY ----------------------------------------------------------------------------

    def _order_key(self, order: ast.Order, parts: _Parts, body: ast.Select) -> str:
        node, items = order.expr, parts.items
        typed = self._output(node, items)
        if typed is None:
            if isinstance(node, ast.Literal_):
                raise pg_error("PostgresSyntaxError", "non-integer constant in ORDER BY")
            was = parts.scope.grouped
            typed = self.value(node, parts.scope)
            if parts.scope.grouped and not was:
                self.unsupported("an aggregate in ORDER BY only")
            if parts.distinct and typed.sql not in {each.sql for each in items}:
                raise pg_error(
                    "InvalidColumnReferenceError",
                    "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                )
        return self._sorted(typed, order)

    def _output(self, node: Expr, items: list[Typed]) -> Typed | None:
        """Return the column of the result that an ORDER BY names, if it does."""
        if isinstance(node, ast.Literal_) and node.kind == "int" and abs(int(node.text)) < 1 << 31:
            place = int(node.text)
            if not 1 <= place <= len(items):
                raise pg_error("InvalidColumnReferenceError", f"ORDER BY position {place} is not in select list")
            return items[place - 1]
        if isinstance(node, ast.Column) and node.table is None:
            named = {each.sql: each for each in items if each.name == node.name}
            if len(named) > 1:
                raise pg_error("AmbiguousColumnError", f'ORDER BY "{node.name}" is ambiguous')
            return next(iter(named.values()), None)
        return None

    def _output_order(self, order: ast.Order, outputs: list[Typed]) -> str:
        typed = self._output(order.expr, outputs)
        if typed is None:
            if isinstance(order.expr, ast.Column) and order.expr.table is None:
                raise pg_error("UndefinedColumnError", f'column "{order.expr.name}" does not exist')
            raise pg_error(
                "FeatureNotSupportedError",
                "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
                detail="Only result column names can be used, not expressions or functions.",
            )
        return self._sorted(typed, order)

    def _sorted(self, typed: Typed, order: ast.Order) -> str:
        if typed.type == "json":
            raise pg_error("UndefinedFunctionError", "could not identify an ordering operator for type json")
        if typed.type == "jsonb" or typed.type.endswith("[]"):
            self.unsupported(f"ORDER BY of {display(typed.type)}")
        first = order.descending if order.nulls_first is None else order.nulls_first
        return f"{typed.key} {'DESC' if order.descending else 'ASC'} NULLS {'FIRST' if first else 'LAST'}"

    # -- FROM ----------------------------------------------------------------------------------

    def _from(self, sources: tuple[ast.FromItem, ...], scope: Scope) -> str:
        return " CROSS JOIN ".join(self.from_item(each, scope, scope) for each in sources)

    def from_item(self, item: ast.FromItem, scope: Scope, side: Scope) -> str:
        """Compile something in FROM; its relations go into *scope* and, if that is another one, *side*."""
        match item:
            case ast.TableRef():
                found = scope.cte(item.name)
                if found is not None:
                    columns, query, seen = found
                    text, relation = self._derived(query, item.alias or item.name, columns, seen)
                else:
                    relation = self.relation(self.table(item.name), item.alias)
                    text = self.source_of(relation)
            case ast.Derived():
                # What stands beside it in FROM is not visible in it, but what is around the query is.
                outside = Scope(scope.parent, ctes=scope.ctes)
                text, relation = self._derived(item.query, item.alias, item.columns, outside)
            case ast.Join():
                return self._join(item, scope, side)
            case _:
                self.unsupported(type(item).__name__)
        scope.add(relation)
        if side is not scope:
            side.relations.append(relation)
        return text

    def _derived(self, query: Query, alias: str, names: tuple[str, ...], outside: Scope | None) -> tuple[str, Relation]:
        inner = self.query(query, outside)
        if len(names) > len(inner.columns):
            raise pg_error(
                "InvalidColumnReferenceError",
                f'table "{alias}" has {len(inner.columns)} columns available but {len(names)} columns specified',
            )
        name = f"r{next(self._numbers)}"
        columns = [
            Output(names[at] if at < len(names) else each.name or "?column?", each.type, f"{name}.c{at}")
            for at, each in enumerate(inner.columns)
        ]
        return f"({inner.sql}) AS {name}", Relation(alias, columns, None, name)

    def _join(self, join: ast.Join, scope: Scope, side: Scope) -> str:
        here = Scope(scope.parent, ctes=scope.ctes, aggregates_allowed="JOIN conditions")
        left = self.from_item(join.left, scope, here)
        split = len(here.relations)
        right = self.from_item(join.right, scope, here)
        if side is not scope:
            side.relations.extend(here.relations)
        if isinstance(join.right, ast.Join):
            right = f"({right})"
        if join.kind == "cross":
            return f"{left} CROSS JOIN {right}"
        if join.using:
            condition = self._using(join, here, split)
        else:
            assert join.on is not None
            condition = self.condition(join.on, here, "JOIN/ON")
        word = "LEFT JOIN" if join.kind == "left" else "JOIN"
        return f"{left} {word} {right} ON {condition}"

    def _using(self, join: ast.Join, here: Scope, split: int) -> str:
        sides = (Scope(relations=here.relations[:split]), Scope(relations=here.relations[split:]))
        conditions = []
        for name in join.using:
            pair = []
            for scope, where in zip(sides, ("left", "right"), strict=True):
                try:
                    _, _, column = scope.find(name, None)
                except BaseException as error:
                    if "does not exist" not in str(error):
                        raise
                    raise pg_error(
                        "UndefinedColumnError",
                        f'column "{name}" specified in USING clause does not exist in {where} table',
                    ) from None
                pair.append(Typed(column.sql, column.type))
            conditions.append(self._compare("=", *pair).sql)
            for relation in sides[1].relations:
                relation.columns = [
                    evolve(each, hidden=True) if each.name == name else each for each in relation.columns
                ]
        return " AND ".join(conditions)
