"""Expressions, by precedence as PostgreSQL has it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Literal, cast

from isolation_core.services.postgres import _ast as ast
from isolation_core.services.postgres._token_cursor import RESERVED, TokenCursor

if TYPE_CHECKING:
    from isolation_core.services.postgres._ast import Expr

__all__ = ["ExpressionParser"]

_COMPARISONS: Final = frozenset({"=", "<>", "!=", "<", ">", "<=", ">="})
_OPERATORS: Final = _COMPARISONS | {"+", "-", "*", "/", "%", "||", "->", "->>", "::"}
_NILADIC: Final = frozenset({"current_date", "current_timestamp", "localtimestamp"})
_TWO_WORDS: Final = {("double", "precision"): "float8", ("character", "varying"): "varchar"}


class ExpressionParser(TokenCursor, ABC):
    """The half of the parser that reads expressions."""

    @abstractmethod
    def query(self) -> ast.Query:
        """Read a SELECT or VALUES."""

    def expression(self) -> Expr:
        """Read an expression."""
        left = self._and()
        while self.word("or"):
            left = ast.Binary("or", left, self._and())
        return left

    def _and(self) -> Expr:
        left = self._not()
        while self.word("and"):
            left = ast.Binary("and", left, self._not())
        return left

    def _not(self) -> Expr:
        if self.word("not"):
            return ast.Unary("not", self._not())
        return self._is()

    def _is(self) -> Expr:
        left = self._comparison()
        while True:
            if self.word("isnull"):
                left = ast.IsTest(left, "null", negated=False)
            elif self.word("notnull"):
                left = ast.IsTest(left, "null", negated=True)
            elif self.word("is"):
                left = self._is_what(left)
                if left.what == "distinct" and self.token.text in {"is", "isnull", "notnull"}:
                    self.fail()  # these do not associate
            else:
                break
            self._refuse_operator("IS")
        return left

    def _is_what(self, left: Expr) -> ast.IsTest:
        negated = self.word("not")
        if self.word("distinct"):
            self.need_word("from")
            return ast.IsTest(left, "distinct", negated, self._comparison())
        what = self.one_of("null", "true", "false", "unknown")
        if what is None:
            self.fail()
        return ast.IsTest(left, cast("Literal['null', 'true', 'false', 'unknown']", what), negated)

    def _refuse_operator(self, after: str) -> None:
        """Refuse an operator that would take what stands before it as its left side."""
        token = self.token
        if (token.kind == "op" and token.text in _OPERATORS) or (
            token.kind == "word" and token.text in {"like", "ilike", "between", "in", "not", "similar"}
        ):
            self.unsupported(f"{token.text} after {after} without parentheses")

    def _comparison(self) -> Expr:
        left = self._ranges()
        if self.token.kind == "op" and self.token.text in _COMPARISONS:
            operator = self.take().text
            operator = "<>" if operator == "!=" else operator
            if (word := self.one_of("any", "some", "all")) is not None:
                found = self._quantified(operator, left, every=word == "all")
                self._refuse_operator(word.upper())
                return found
            right = self._ranges()
            if self.token.kind == "op" and self.token.text in _COMPARISONS:
                self.fail()  # comparisons do not associate
            return ast.Binary(operator, left, right)
        return left

    def _quantified(self, operator: str, left: Expr, *, every: bool) -> Expr:
        self.need_op("(")
        if self.is_word("select") or self.is_word("values") or self.is_word("with"):
            query = self.query()
            self.need_op(")")
            if operator == "=" and not every:
                return ast.InSelect(left, query, negated=False)
            if operator == "<>" and every:
                return ast.InSelect(left, query, negated=True)
            self.unsupported(f"{operator} {'ALL' if every else 'ANY'} of a subquery")
        array = self.expression()
        self.need_op(")")
        return ast.Quantified(operator, left, array, every)

    def _ranges(self) -> Expr:
        """BETWEEN, IN, LIKE."""
        left = self._other()
        found = self._range(left)
        if found is not left and not (self.token.kind == "op" and self.token.text in _COMPARISONS):
            self._refuse_operator("IN, LIKE or BETWEEN")
        return found

    def _range(self, left: Expr) -> Expr:
        negated = self.is_word("not") and self.peek().text in {"between", "in", "like", "ilike", "similar"}
        if negated:
            self.take()
        if self.word("between"):
            if self.word("symmetric"):
                self.unsupported("BETWEEN SYMMETRIC")
            self.word("asymmetric")
            low = self._other()
            self.need_word("and")
            return ast.Between(left, low, self._other(), negated)
        if self.word("in"):
            self.need_op("(")
            if self.is_word("select") or self.is_word("values") or self.is_word("with"):
                query = self.query()
                self.need_op(")")
                return ast.InSelect(left, query, negated)
            items = self.expressions()
            self.need_op(")")
            return ast.InList(left, items, negated)
        if (word := self.one_of("like", "ilike")) is not None:
            pattern = self._other()
            if self.is_word("escape"):
                self.unsupported("LIKE ... ESCAPE")
            return ast.Like(left, pattern, word == "ilike", negated)
        if self.is_word("similar"):
            self.unsupported("SIMILAR TO")
        return left

    def _other(self) -> Expr:
        left = self._additive()
        while self.token.kind == "op" and self.token.text in {"||", "->", "->>"}:
            left = ast.Binary(self.take().text, left, self._additive())
        return left

    def _additive(self) -> Expr:
        left = self._multiplicative()
        while self.token.kind == "op" and self.token.text in {"+", "-"}:
            left = ast.Binary(self.take().text, left, self._multiplicative())
        return left

    def _multiplicative(self) -> Expr:
        left = self._power()
        while self.token.kind == "op" and self.token.text in {"*", "/", "%"}:
            left = ast.Binary(self.take().text, left, self._power())
        return left

    def _power(self) -> Expr:
        left = self._unary()
        if self.is_op("^"):
            self.unsupported("the operator ^")
        return left

    def _unary(self) -> Expr:
        if self.op("-"):
            operand = self._unary()
            if isinstance(operand, ast.Literal_) and operand.kind in {"int", "numeric"}:
                text = operand.text.removeprefix("-") if operand.text.startswith("-") else f"-{operand.text}"
                return ast.Literal_(operand.kind, text)
            return ast.Unary("-", operand)
        if self.op("+"):
            return ast.Unary("+", self._unary())
        return self._postfix()

    def _postfix(self) -> Expr:
        left = self._primary()
        while True:
            if self.op("::"):
                left = ast.Cast(left, self.type_name())
            elif self.is_op("["):
                self.unsupported("array subscripts")
            elif self.is_word("collate"):
                self.unsupported("COLLATE")
            elif self.is_word("at") and self.peek().text == "time":
                self.unsupported("AT TIME ZONE")
            else:
                return left

    def expressions(self) -> tuple[Expr, ...]:
        """Read expressions with commas between."""
        found = [self.expression()]
        while self.op(","):
            found.append(self.expression())
        return tuple(found)

    def _primary(self) -> Expr:
        token = self.token
        if token.kind == "number":
            self.take()
            kind: Literal["int", "numeric"] = "int" if token.text.isdigit() else "numeric"
            return ast.Literal_(kind, token.text)
        if token.kind == "string":
            self.take()
            return ast.Literal_("unknown", token.text)
        if token.kind == "param":
            self.take()
            if token.text == "0":
                self.at -= 1
                self.fail()
            return ast.Param(int(token.text))
        if token.kind == "op" and token.text == "(":
            return self._parenthesised()
        if token.kind == "word":
            return self._worded(token.text)
        if token.kind == "name":
            return self._named()
        return self.fail()

    def _parenthesised(self) -> Expr:
        self.need_op("(")
        if self.is_word("select") or self.is_word("values") or self.is_word("with"):
            query = self.query()
            self.need_op(")")
            return ast.Scalar(query)
        inner = self.expression()
        if self.is_op(","):
            self.unsupported("row values")
        self.need_op(")")
        return inner

    def _worded(self, word: str) -> Expr:
        if word in {"true", "false", "null"}:
            self.take()
            return ast.Literal_("null" if word == "null" else "bool", word)
        if word == "case":
            return self._case()
        if word == "cast":
            self.take()
            self.need_op("(")
            operand = self.expression()
            self.need_word("as")
            target = self.type_name()
            self.need_op(")")
            return ast.Cast(operand, target)
        if word == "exists" and self.peek().text == "(":
            self.take()
            self.need_op("(")
            query = self.query()
            self.need_op(")")
            return ast.Exists(query)
        if word in _NILADIC:
            self.take()
            if self.is_op("("):
                self.unsupported(f"{word} with a precision")
            return ast.Call(word, (), keyword=True)
        if word in {"array", "row", "interval", "extract", "overlay", "position", "substring", "trim", "grouping"} and (
            self.peek().text in {"(", "["} or self.peek().kind == "string"
        ):
            self.unsupported(f"{word.upper()} expressions")
        if word == "not":
            self.unsupported("NOT inside of an operand")
        if word in RESERVED and not (word in {"left", "right"} and self.peek().text == "("):
            self.fail()
        return self._named()

    def _case(self) -> Expr:
        self.take()
        operand = None if self.is_word("when") else self.expression()
        whens: list[tuple[Expr, Expr]] = []
        while self.word("when"):
            condition = self.expression()
            self.need_word("then")
            whens.append((condition, self.expression()))
        if not whens:
            self.fail()
        default = self.expression() if self.word("else") else None
        self.need_word("end")
        return ast.Case(operand, tuple(whens), default)

    def _named(self) -> Expr:
        """A column, a function call, or ``type 'text'``."""
        token = self.token
        start = self.at
        name = self.take().text
        if self.is_op("("):
            return self._call(name)
        if token.kind == "word" and self._typed_literal(start):
            target = self.type_name()
            return ast.Cast(ast.Literal_("unknown", self.take().text), target)
        if self.op("."):
            if self.op("*"):
                return ast.Star(name)
            column = self.label()
            if self.is_op("("):
                if name != "pg_catalog":
                    self.unsupported(f"the function {name}.{column}")
                return self._call(column)
            if self.is_op("."):
                self.unsupported("names of three parts")
            return ast.Column(column, name)
        return ast.Column(name)

    def _typed_literal(self, start: int) -> bool:
        """Return whether a type name and a string begin at *start*; go there if so."""
        words = (self.tokens[start].text, self.token.text)
        ahead = 1 if words in _TWO_WORDS else 0
        if self.peek(ahead).kind != "string":
            return False
        self.at = start
        return True

    def _call(self, name: str) -> Expr:
        self.need_op("(")
        if self.op("*"):
            self.need_op(")")
            call = ast.Call(name, (), star=True)
        elif self.op(")"):
            call = ast.Call(name, ())
        else:
            distinct = self.word("distinct")
            if self.is_word("all") or self.is_word("variadic"):
                self.unsupported(f"{self.token.text.upper()} in a call")
            arguments = self.expressions()
            if self.is_word("order"):
                self.unsupported("ORDER BY in an aggregate")
            if self.is_op("=") or self.is_op(":"):
                self.unsupported("named arguments")
            self.need_op(")")
            call = ast.Call(name, arguments, distinct)
        for word, what in (("over", "window functions"), ("filter", "FILTER"), ("within", "WITHIN GROUP")):
            if self.is_word(word) and self.peek().text in {"(", "group"}:
                self.unsupported(what)
        return call

    def type_name(self) -> ast.TypeName:
        """Read the name of a type."""
        name = self.label()
        if name == "pg_catalog" and self.op("."):
            name = self.label()
        if self.is_op("."):
            self.unsupported("types of a schema")
        if (two := _TWO_WORDS.get((name, self.token.text))) is not None:
            self.take()
            name = two
        modifiers: list[int] = []
        if self.op("("):
            while True:
                if self.token.kind != "number" or not self.token.text.isdigit():
                    self.fail()
                modifiers.append(int(self.take().text))
                if not self.op(","):
                    break
            self.need_op(")")
        if name in {"timestamp", "time"}:
            if self.word("with"):
                self.need_word("time", "zone")
                name += "tz"
            elif self.word("without"):
                self.need_word("time", "zone")
        array = False
        while self.op("["):
            if array:
                self.unsupported("arrays of several dimensions")
            array = True
            if self.token.kind == "number":
                self.take()
            self.need_op("]")
        return ast.TypeName(name, tuple(modifiers), array)
