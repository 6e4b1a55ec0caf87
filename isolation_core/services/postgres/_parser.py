"""Statements: text to the values of `_ast`. Only what is named here is known; anything else raises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from isolation_core.services.postgres import _ast as ast
from isolation_core.services.postgres._parse_expressions import ExpressionParser
from isolation_core.services.postgres._parse_schema import SchemaParser
from isolation_core.services.postgres._tokens import Token, tokenize

if TYPE_CHECKING:
    from isolation_core.services.postgres._ast import Expr, Query, Statement

__all__ = ["parse", "split"]

_VERBS: Final = frozenset(
    [
        "abort",
        "alter",
        "analyze",
        "call",
        "checkpoint",
        "close",
        "cluster",
        "comment",
        "copy",
        "deallocate",
        "declare",
        "discard",
        "do",
        "execute",
        "explain",
        "fetch",
        "grant",
        "import",
        "load",
        "lock",
        "merge",
        "move",
        "prepare",
        "reassign",
        "refresh",
        "reindex",
        "reset",
        "revoke",
        "security",
        "set",
        "vacuum",
    ]
)
"""First words of statements PostgreSQL has and the engine has not."""

_LEVELS: Final = {
    ("read", "committed"): "read_committed",
    ("read", "uncommitted"): "read_uncommitted",
    ("repeatable", "read"): "repeatable_read",
    ("serializable",): "serializable",
}


def split(sql: str) -> list[tuple[str, list[Token]]]:
    """Split a script at its semicolons.

    Returns:
        Text and tokens of each statement; none for what is empty.
    """
    found: list[tuple[str, list[Token]]] = []
    current: list[Token] = []
    for token in tokenize(sql):
        if token.kind == "end" or (token.kind == "op" and token.text == ";"):
            if current:
                end = Token("end", "", token.start, token.start)
                found.append((sql, [*current, end]))
            current = []
        else:
            current.append(token)
    return found


def parse(sql: str, tokens: list[Token]) -> Statement:
    """Read one statement.

    Raises:
        PostgresSyntaxError: if it is none.
        UnsupportedSQLError: if it is none the engine knows.
    """
    parser = _Parser(sql, tokens)
    statement = parser.statement()
    if parser.token.kind != "end":
        parser.fail()
    return statement


class _Parser(SchemaParser, ExpressionParser):
    def statement(self) -> Statement:
        token = self.token
        if token.kind == "op" and token.text == "(":
            return self.query()
        if token.kind != "word":
            self.fail()
        match token.text:
            case "select" | "values" | "with":
                return self._query_or_dml()
            case "insert":
                return self._insert()
            case "update":
                return self._update()
            case "delete":
                return self._delete()
            case "create" | "drop" | "truncate":
                return self.schema_statement()
            case "begin" | "start" | "commit" | "end" | "rollback" | "savepoint" | "release":
                return self._transaction()
            case "listen" | "unlisten" | "notify" | "show":
                return self._session()
            case verb if verb in _VERBS:
                self.unsupported(verb.upper())
            case _:
                self.fail()

    def _query_or_dml(self) -> Statement:
        query = self.query()
        if self.token.text in {"insert", "update", "delete"} and query.ctes:
            self.unsupported("WITH before INSERT, UPDATE or DELETE")
        return query

    # -- queries -------------------------------------------------------------------

    def query(self) -> Query:
        ctes = self._ctes() if self.word("with") else ()
        if ctes and self.is_word("insert") | self.is_word("update") | self.is_word("delete"):
            self.unsupported("WITH before INSERT, UPDATE or DELETE")
        body = self._set_operation()
        order = self._order_by() if self.word("order", "by") else ()
        limit, offset = self._limits()
        locks = self._locks()
        return ast.Query(body, order, limit, offset, ctes, locks)

    def _ctes(self) -> tuple[tuple[str, tuple[str, ...], Query], ...]:
        if self.is_word("recursive"):
            self.unsupported("WITH RECURSIVE")
        found = []
        while True:
            name = self.identifier()
            columns = self.names() if self.is_op("(") else ()
            self.need_word("as")
            if self.is_word("not") or self.is_word("materialized"):
                self.word("not")
                self.need_word("materialized")
            self.need_op("(")
            if self.token.text in {"insert", "update", "delete"}:
                self.unsupported("a statement that changes data in WITH")
            found.append((name, columns, self.query()))
            self.need_op(")")
            if not self.op(","):
                return tuple(found)

    def _set_operation(self) -> ast.Body:
        left = self._intersection()
        while (operator := self.one_of("union", "except")) is not None:
            every = self.word("all")
            self.word("distinct")
            left = ast.SetOperation(operator, every, left, self._intersection())
        return left

    def _intersection(self) -> ast.Body:
        left = self._simple()
        while self.word("intersect"):
            every = self.word("all")
            left = ast.SetOperation("intersect", every, left, self._simple())
        return left

    def _simple(self) -> ast.Body:
        if self.op("("):
            inner = self.query()
            self.need_op(")")
            if inner.order or inner.limit or inner.offset or inner.ctes or inner.locks:
                self.unsupported("a parenthesised query with ORDER BY, LIMIT or WITH of its own")
            return inner.body
        if self.word("values"):
            return ast.Values(self._rows())
        self.need_word("select")
        return self._select()

    def _rows(self) -> tuple[tuple[Expr | None, ...], ...]:
        rows = []
        while True:
            self.need_op("(")
            row: list[Expr | None] = []
            while True:
                row.append(None if self.word("default") else self.expression())
                if not self.op(","):
                    break
            self.need_op(")")
            rows.append(tuple(row))
            if not self.op(","):
                return tuple(rows)

    def _select(self) -> ast.Select:
        distinct = self.word("distinct")
        if distinct and self.is_word("on"):
            self.unsupported("DISTINCT ON")
        self.word("all")
        empty = self.token.kind == "end" or self.is_word("from")
        items = () if empty else self._items()
        if self.is_word("into"):
            self.unsupported("SELECT INTO")
        sources = self._sources() if self.word("from") else ()
        where = self.expression() if self.word("where") else None
        group: tuple[Expr, ...] = ()
        if self.word("group", "by"):
            if self.token.text in {"rollup", "cube", "grouping"}:
                self.unsupported("grouping sets")
            group = self.expressions()
        having = self.expression() if self.word("having") else None
        if self.is_word("window"):
            self.unsupported("window functions")
        if empty:
            self.unsupported("a SELECT of no columns")
        return ast.Select(items, sources, where, group, having, distinct)

    def _items(self) -> tuple[ast.Item, ...]:
        found = []
        while True:
            if self.op("*"):
                found.append(ast.Item(ast.Star(), None))
            else:
                expr = self.expression()
                alias = None
                if self.word("as"):
                    alias = self.label()
                elif self.token.kind == "name" or (self.token.kind == "word" and self.token.text not in _AFTER_ITEM):
                    alias = self.identifier()
                found.append(ast.Item(expr, alias))
            if not self.op(","):
                return tuple(found)

    def _sources(self) -> tuple[ast.FromItem, ...]:
        found = [self._joined()]
        while self.op(","):
            found.append(self._joined())
        return tuple(found)

    def _joined(self) -> ast.FromItem:
        left = self._source()
        while True:
            if self.is_word("natural"):
                self.unsupported("NATURAL JOIN")
            if self.is_word("right") or self.is_word("full"):
                self.unsupported(f"{self.token.text.upper()} JOIN")
            if self.word("cross"):
                self.need_word("join")
                left = ast.Join(left, self._source(), "cross")
                continue
            if self.word("left"):
                self.word("outer")
                self.need_word("join")
                kind = "left"
            elif self.word("join") or self.word("inner", "join"):
                kind = "inner"
            else:
                return left
            right = self._source()
            if self.word("using"):
                left = ast.Join(left, right, "left" if kind == "left" else "inner", using=self.names())
                if self.is_word("as"):
                    self.unsupported("an alias of JOIN USING")
            else:
                self.need_word("on")
                left = ast.Join(left, right, "left" if kind == "left" else "inner", self.expression())

    def _source(self) -> ast.FromItem:
        if self.is_word("lateral"):
            self.unsupported("LATERAL")
        if self.op("("):
            if not (self.is_word("select") or self.is_word("values") or self.is_word("with")):
                inner = self._joined()
                self.need_op(")")
                return inner
            query = self.query()
            self.need_op(")")
            self.word("as")
            if self.token.kind not in {"word", "name"}:
                self.fail()
            name = self.identifier()
            return ast.Derived(query, name, self.names() if self.is_op("(") else ())
        self.word("only")
        name = self.table_name()
        if self.is_op("("):
            self.unsupported(f"the function {name} in FROM")
        alias = self._alias()
        if alias is not None and self.is_op("("):
            self.unsupported("column aliases of a table")
        if self.is_word("tablesample"):
            self.unsupported("TABLESAMPLE")
        return ast.TableRef(name, alias)

    def _alias(self) -> str | None:
        if self.word("as"):
            return self.identifier()
        if self.token.kind == "name" or (self.token.kind == "word" and self.token.text not in _AFTER_TABLE):
            return self.identifier()
        return None

    def _order_by(self) -> tuple[ast.Order, ...]:
        found = []
        while True:
            expr = self.expression()
            if self.is_word("using"):
                self.unsupported("ORDER BY ... USING")
            descending = self.one_of("asc", "desc") == "desc"
            first: bool | None = None
            if self.word("nulls"):
                place = self.one_of("first", "last")
                if place is None:
                    self.fail()
                first = place == "first"
            found.append(ast.Order(expr, descending, first))
            if not self.op(","):
                return tuple(found)

    def _limits(self) -> tuple[Expr | None, Expr | None]:
        limit = offset = None
        while True:
            if limit is None and self.word("limit"):
                limit = ast.Literal_("null", "null") if self.word("all") else self.expression()
            elif offset is None and self.word("offset"):
                offset = self.expression()
                _ = self.word("row") or self.word("rows")
            elif self.is_word("fetch"):
                self.unsupported("FETCH FIRST")
            else:
                return limit, offset

    def _locks(self) -> str | None:
        if not self.is_word("for"):
            return None
        self.take()
        if not self.word("update"):
            self.unsupported(f"FOR {self.token.text.upper()}")
        if self.is_word("of"):
            self.unsupported("FOR UPDATE OF")
        if self.is_word("skip"):
            self.unsupported("FOR UPDATE SKIP LOCKED")
        return "update nowait" if self.word("nowait") else "update"

    # -- changes -------------------------------------------------------------------

    def _returning(self) -> tuple[ast.Item, ...]:
        return self._items() if self.word("returning") else ()

    def _insert(self) -> Statement:
        self.need_word("insert", "into")
        table = self.table_name()
        alias = self.identifier() if self.word("as") else None
        columns: tuple[str, ...] = ()
        if self.is_op("(") and self.peek().text not in {"select", "values", "with"}:
            columns = self.names()
        if self.is_word("overriding"):
            self.unsupported("OVERRIDING")
        source = None if self.word("default", "values") else self.query()
        conflict = self._conflict() if self.word("on", "conflict") else None
        return ast.Insert(table, columns, source, alias, conflict, self._returning())

    def _conflict(self) -> ast.Conflict:
        columns: tuple[str, ...] = ()
        constraint = None
        if self.is_op("("):
            columns = self.names()
            if self.is_word("where"):
                self.unsupported("ON CONFLICT with a partial index")
        elif self.word("on", "constraint"):
            constraint = self.identifier()
        self.need_word("do")
        if self.word("nothing"):
            return ast.Conflict(columns, constraint)
        self.need_word("update", "set")
        sets = self._sets()
        where = self.expression() if self.word("where") else None
        return ast.Conflict(columns, constraint, sets, where)

    def _sets(self) -> tuple[tuple[str, Expr | None], ...]:
        found: list[tuple[str, Expr | None]] = []
        while True:
            if self.is_op("("):
                self.unsupported("SET (columns) = ...")
            name = self.identifier()
            self.need_op("=")
            found.append((name, None if self.word("default") else self.expression()))
            if not self.op(","):
                return tuple(found)

    def _update(self) -> Statement:
        self.need_word("update")
        self.word("only")
        table = self.table_name()
        alias = self.identifier() if self.word("as") else None
        if alias is None and not self.is_word("set"):
            alias = self.identifier()
        self.need_word("set")
        sets = self._sets()
        sources = self._sources() if self.word("from") else ()
        where = self.expression() if self.word("where") else None
        return ast.Update(table, alias, sets, sources, where, self._returning())

    def _delete(self) -> Statement:
        self.need_word("delete", "from")
        self.word("only")
        table = self.table_name()
        alias = self._alias()
        sources = self._sources() if self.word("using") else ()
        where = self.expression() if self.word("where") else None
        return ast.Delete(table, alias, sources, where, self._returning())

    # -- transactions and sessions ---------------------------------------------------

    def _transaction(self) -> Statement:
        verb = self.take().text
        if verb == "savepoint":
            return ast.Transaction("savepoint", self.identifier())
        if verb == "release":
            self.word("savepoint")
            return ast.Transaction("release", self.identifier())
        if verb == "start":
            self.need_word("transaction")
        elif not self.word("work"):
            self.word("transaction")
        if verb in {"begin", "start"}:
            return self._begin(start=verb == "start")
        if self.is_word("and") or self.is_word("prepared"):
            self.unsupported("AND CHAIN and prepared transactions")
        if verb == "rollback" and self.word("to"):
            self.word("savepoint")
            return ast.Transaction("rollback to", self.identifier())
        return ast.Transaction("rollback" if verb == "rollback" else "commit")

    def _begin(self, *, start: bool) -> Statement:
        isolation, readonly = None, False
        while self.token.kind == "word":
            if self.word("isolation", "level"):
                for words, level in _LEVELS.items():
                    if self.word(*words):
                        isolation = level
                        break
                else:
                    self.fail()
            elif self.word("read", "only"):
                readonly = True
            elif not (self.word("read", "write") or self.word("deferrable") or self.word("not", "deferrable")):
                self.fail()
            self.op(",")
        return ast.Transaction("begin", None, isolation, readonly=readonly, start=start)

    def _session(self) -> Statement:
        verb = self.take().text
        if verb == "listen":
            return ast.Listen(self.identifier())
        if verb == "unlisten":
            return ast.Unlisten(None if self.op("*") else self.identifier())
        if verb == "notify":
            channel = self.identifier()
            if not self.op(","):
                return ast.Notify(channel)
            if self.token.kind != "string":
                self.fail()
            return ast.Notify(channel, self.take().text)
        name = self.label()
        if name == "transaction" and self.word("isolation", "level"):
            name = "transaction_isolation"
        return ast.Show(name)


_CLAUSES: Final = (
    "where", "group", "having", "order", "limit", "offset", "fetch", "for", "union", "except", "intersect",
)  # fmt: skip
_AFTER_ITEM: Final = frozenset(
    [
        *_CLAUSES,
        "from",
        "into",
        "window",
        "on",
        "returning",
        "and",
        "or",
        "as",
        "is",
        "in",
        "between",
        "like",
        "ilike",
        "not",
        "asc",
        "desc",
        "then",
        "else",
        "end",
        "when",
    ]
)
_AFTER_TABLE: Final = frozenset(
    [
        *_CLAUSES,
        "join",
        "inner",
        "left",
        "right",
        "full",
        "cross",
        "natural",
        "on",
        "using",
        "set",
        "returning",
        "window",
        "values",
        "default",
        "tablesample",
        "as",
    ]
)
