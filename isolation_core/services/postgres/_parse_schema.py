"""CREATE TABLE, CREATE INDEX, DROP TABLE, TRUNCATE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from isolation_core.services.postgres import _ast as ast
from isolation_core.services.postgres._parse_expressions import ExpressionParser

if TYPE_CHECKING:
    from isolation_core.services.postgres._ast import Statement

__all__ = ["SchemaParser"]

_Constraint = ast.ForeignKey | ast.Unique | ast.Check


class SchemaParser(ExpressionParser):
    """The part of the parser that reads definitions."""

    def schema_statement(self) -> Statement:
        """Read one."""
        verb = self.take().text
        if verb == "truncate":
            self.word("table")
            names = self._tables()
            restart = self.word("restart", "identity")
            self.word("continue", "identity")
            cascade = self.word("cascade")
            self.word("restrict")
            return ast.Truncate(names, restart, cascade)
        if verb == "drop":
            if not self.word("table"):
                self.unsupported(f"DROP {self.token.text.upper()}")
            if_exists = self.word("if", "exists")
            names = self._tables()
            cascade = self.word("cascade")
            self.word("restrict")
            return ast.DropTable(names, if_exists, cascade)
        if self.word("table"):
            return self._create_table()
        unique = self.word("unique")
        if self.word("index"):
            return self._create_index(unique=unique)
        self.unsupported(f"CREATE {self.token.text.upper()}")

    def _tables(self) -> tuple[str, ...]:
        found = [self.table_name()]
        while self.op(","):
            found.append(self.table_name())
        return tuple(found)

    def _create_index(self, *, unique: bool) -> Statement:
        if self.is_word("concurrently"):
            self.unsupported("CREATE INDEX CONCURRENTLY")
        if_not_exists = self.word("if", "not", "exists")
        name = None if self.is_word("on") else self.identifier()
        self.need_word("on")
        table = self.table_name()
        if self.is_word("using"):
            self.unsupported("CREATE INDEX ... USING")
        self.need_op("(")
        columns = []
        while True:
            if self.is_op("(") or self.peek().text == "(":
                self.unsupported("an index over an expression")
            columns.append(self.identifier())
            self.one_of("asc", "desc")
            if not self.op(","):
                break
        self.need_op(")")
        if self.token.kind != "end":
            self.unsupported(f"CREATE INDEX ... {self.token.text.upper()}")
        return ast.CreateIndex(name, table, tuple(columns), unique, if_not_exists)

    def _create_table(self) -> Statement:
        if_not_exists = self.word("if", "not", "exists")
        name = self.table_name()
        if not self.is_op("("):
            self.unsupported("CREATE TABLE AS and its like")
        self.need_op("(")
        columns: list[ast.ColumnDef] = []
        constraints: list[_Constraint] = []
        if not self.is_op(")"):
            while True:
                if self.token.text in {"constraint", "primary", "unique", "check", "foreign", "exclude", "like"}:
                    constraints.append(self._table_constraint())
                else:
                    columns.append(self._column(constraints))
                if not self.op(","):
                    break
        self.need_op(")")
        if self.token.kind != "end":
            self.unsupported(f"CREATE TABLE ... {self.token.text.upper()}")
        return ast.CreateTable(name, tuple(columns), tuple(constraints), if_not_exists)

    def _table_constraint(self) -> _Constraint:
        name = self.identifier() if self.word("constraint") else None
        if self.word("primary", "key"):
            return self._not_deferrable(ast.Unique(self.names(), primary=True, name=name))
        if self.word("unique"):
            if self.is_word("nulls"):
                self.unsupported("NULLS NOT DISTINCT")
            return self._not_deferrable(ast.Unique(self.names(), name=name))
        if self.word("check"):
            return ast.Check(self._condition(), name)
        if self.word("foreign", "key"):
            return self._references(self.names(), name)
        self.unsupported(f"the constraint {self.token.text.upper()}")

    def _condition(self) -> ast.Expr:
        self.need_op("(")
        found = self.expression()
        self.need_op(")")
        return found

    def _not_deferrable(self, constraint: ast.Unique) -> ast.Unique:
        self.word("not", "deferrable")
        if self.is_word("deferrable") or self.is_word("initially"):
            self.unsupported("deferrable constraints")
        return constraint

    def _references(self, columns: tuple[str, ...], name: str | None) -> ast.ForeignKey:
        self.need_word("references")
        key = ast.ForeignKey(columns, self.table_name(), self.names() if self.is_op("(") else (), name=name)
        while True:
            if self.is_word("match") or self.is_word("deferrable") or self.is_word("initially"):
                self.unsupported("MATCH and deferrable constraints")
            if not self.word("on"):
                return key
            event = self.one_of("delete", "update")
            if event is None:
                self.fail()
            if self.word("no", "action"):
                action = "no action"
            elif self.word("set", "null"):
                action = "set null"
            else:
                action = self.one_of("cascade", "restrict") or self.unsupported(
                    f"ON {event.upper()} {self.token.text.upper()}"
                )
            if event == "delete":
                key = evolve(key, on_delete=action)
            elif action not in {"no action", "restrict"}:
                self.unsupported(f"ON UPDATE {action.upper()}")

    def _column(self, constraints: list[_Constraint]) -> ast.ColumnDef:
        column = ast.ColumnDef(self.identifier(), self.type_name())
        while True:
            name = self.identifier() if self.word("constraint") else None
            if self.word("not", "null"):
                column = evolve(column, not_null=True)
            elif self.word("null"):
                pass
            elif self.word("default"):
                column = evolve(column, default=self._default())
            elif self.word("primary", "key"):
                constraints.append(self._not_deferrable(ast.Unique((column.name,), primary=True, name=name)))
            elif self.word("unique"):
                constraints.append(self._not_deferrable(ast.Unique((column.name,), name=name)))
            elif self.word("check"):
                constraints.append(ast.Check(self._condition(), name, column.name))
            elif self.is_word("references"):
                constraints.append(self._references((column.name,), name))
            elif self.word("generated"):
                always = self.word("always")
                if not always:
                    self.need_word("by", "default")
                self.need_word("as")
                if not self.word("identity"):
                    self.unsupported("generated columns")
                if self.is_op("("):
                    self.unsupported("options of an identity")
                column = evolve(column, identity="always" if always else "by default", not_null=True)
            elif self.is_op(",") or self.is_op(")"):
                return column
            else:
                self.unsupported(f"the column option {self.token.text.upper()}")

    def _default(self) -> ast.Expr:
        # NOT NULL may follow, so no operator below comparison is taken.
        return self._other()
