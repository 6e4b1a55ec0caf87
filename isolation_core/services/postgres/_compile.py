"""Expressions to SQLite text, with PostgreSQL's types, operators and errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, NoReturn

from attrs import evolve

from isolation_core.errors import UnsupportedSQLError
from isolation_core.services.postgres import _ast as ast
from isolation_core.services.postgres._errors import pg_error
from isolation_core.services.postgres._functions import AGGREGATES, SCALARS, Overloads, aggregate_result
from isolation_core.services.postgres._scope import Binder, Scope, Typed, common_type, implicit, is_castable
from isolation_core.services.postgres._types import INTS, NUMBERS, TEXTS, display, element_of, resolve_type

if TYPE_CHECKING:
    from isolation_core.services.postgres._ast import Expr, Query

__all__ = ["ExpressionCompiler"]

_HINT: Final = "No operator matches the given name and argument types. You might need to add explicit type casts."
_FUNCTION_HINT: Final = (
    "No function matches the given name and argument types. You might need to add explicit type casts."
)
_EQUAL_ONLY: Final = frozenset({"jsonb"})
_AMBIGUOUS_HINT: Final = "Could not choose a best candidate operator. You might need to add explicit type casts."


class ExpressionCompiler(ABC):
    """Compiles expressions.

    Args:
        sql: the statement, for messages.
    """

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.binder = Binder()

    @abstractmethod
    def subquery(self, query: Query, scope: Scope) -> tuple[str, list[Typed]]:
        """Return the text of a query inside an expression, and its columns."""

    def unsupported(self, construct: str) -> NoReturn:
        """Raise that the engine does not know *construct*."""
        raise UnsupportedSQLError(self.sql, construct)

    # -- entry -----------------------------------------------------------------------

    def compile(self, node: Expr, scope: Scope) -> Typed:
        """Compile *node*; what GROUP BY names may be used as it stands there."""
        mark = len(scope.ungrouped)
        typed = self._compile(node, scope)
        if scope.keys and typed.sql in scope.keys:
            del scope.ungrouped[mark:]
        return typed

    def value(self, node: Expr, scope: Scope, type_: str = "text") -> Typed:
        """Compile *node*; if nothing says its type it is *type_*."""
        return self.binder.settle(self.compile(node, scope), type_)

    def condition(self, node: Expr, scope: Scope, where: str) -> str:
        """Compile a boolean.

        Raises:
            DatatypeMismatchError: if it is none.
        """
        typed = self.value(node, scope, "bool")
        if typed.type != "bool":
            raise pg_error(
                "DatatypeMismatchError", f"argument of {where} must be type boolean, not type {display(typed.type)}"
            )
        return typed.sql

    def assigned(self, typed: Typed, type_: str, modifiers: tuple[int, ...], column: str) -> Typed:
        """Return *typed* as it is put into a column.

        Raises:
            DatatypeMismatchError: if there is no such cast.
        """
        source = typed.type
        if source not in {"unknown", type_} and not is_castable(source, type_, explicit=False):
            raise pg_error(
                "DatatypeMismatchError",
                f'column "{column}" is of type {display(type_)} but expression is of type {display(source)}',
                hint="You will need to rewrite or cast the expression.",
            )
        return self.binder.cast(typed, type_, modifiers)

    def _compile(self, node: Expr, scope: Scope) -> Typed:
        match node:
            case ast.Literal_():
                return self._literal(node)
            case ast.Param():
                return self.binder.param(node.number)
            case ast.Column():
                return self._column(node, scope)
            case ast.Cast():
                return self._cast(node, scope)
            case ast.Unary():
                return self._unary(node, scope)
            case ast.Binary():
                return self._binary(node, scope)
            case ast.Call():
                return self._call(node, scope)
            case ast.Case():
                return self._case(node, scope)
            case ast.Star():
                raise pg_error("PostgresSyntaxError", 'syntax error at or near "*"')
            case _:
                return self._predicate(node, scope)

    def _predicate(self, node: Expr, scope: Scope) -> Typed:
        match node:
            case ast.IsTest():
                return self._is(node, scope)
            case ast.InList():
                left = self.compile(node.operand, scope)
                found = [self._compare("=", left, self.compile(item, scope)) for item in node.items]
                return self._logic(" OR ", found, negated=node.negated)
            case ast.Between():
                operand = self.compile(node.operand, scope)
                low = self._compare(">=", operand, self.compile(node.low, scope))
                high = self._compare("<=", operand, self.compile(node.high, scope))
                return self._logic(" AND ", [low, high], negated=node.negated)
            case ast.Like():
                operand, pattern = self.compile(node.operand, scope), self.compile(node.pattern, scope)
                operand, pattern = self._text(operand, "~~"), self._text(pattern, "~~")
                call = f"pg_like({operand.sql}, {pattern.sql}, {int(node.insensitive)})"
                found_ = Typed(f"(NOT {call})" if node.negated else call, "bool")
                return evolve(found_, aggregate=operand.aggregate or pattern.aggregate)
            case ast.Quantified():
                return self._quantified(node, scope)
            case ast.InSelect():
                return self._in_select(node, scope)
            case ast.Exists():
                text, _ = self.subquery(node.query, scope)
                return Typed(f"EXISTS {text}", "bool", "exists")
            case ast.Scalar():
                text, columns = self.subquery(node.query, scope)
                if len(columns) != 1:
                    raise pg_error("PostgresSyntaxError", "subquery must return only one column")
                # SQLite takes the first row where there are several; PostgreSQL does not.
                count = f"(SELECT count(*) FROM {text})"
                return Typed(f"pg_single({count}, {text})", columns[0].type, columns[0].name)
            case _:
                self.unsupported(type(node).__name__)

    # -- leaves ------------------------------------------------------------------------

    def _literal(self, node: ast.Literal_) -> Typed:
        if node.kind == "unknown":
            return Typed("NULL", "unknown", literal=node.text)
        if node.kind == "null":
            return Typed("NULL", "unknown")
        if node.kind == "bool":
            return self.binder.constant(int(node.text == "true"), "bool")
        if node.kind == "int":
            number = int(node.text)
            if -(1 << 31) <= number < 1 << 31:
                return self.binder.constant(number, "int4")
            if -(1 << 63) <= number < 1 << 63:
                return self.binder.constant(number, "int8")
        from isolation_core.services.postgres._literals import from_text

        return self.binder.constant(from_text(node.text, "numeric"), "numeric")

    def _column(self, node: ast.Column, scope: Scope) -> Typed:
        try:
            owner, relation, column = scope.find(node.name, node.table)
        except Exception:
            whole: Scope | None = scope
            while whole is not None and node.table is None:
                if any(each.alias == node.name for each in whole.relations):
                    self.unsupported("a whole row as a value")
                whole = whole.parent
            raise
        if owner.grouped and not owner.in_aggregate and column.sql not in owner.keys:
            owner.ungrouped.append((column.name, relation))
        return Typed(column.sql, column.type, node.name)

    # -- operators ---------------------------------------------------------------------

    def _no_operator(self, operator: str, left: str | None, right: str) -> NoReturn:
        shown = f"{display(left)} {operator} {display(right)}" if left else f"{operator} {display(right)}"
        raise pg_error("UndefinedFunctionError", f"operator does not exist: {shown}", hint=_HINT)

    def _text(self, typed: Typed, operator: str) -> Typed:
        typed = self.binder.settle(typed, "text")
        if typed.type not in TEXTS:
            self._no_operator(operator, typed.type, "unknown")
        return typed

    def _logic(self, word: str, parts: list[Typed], *, negated: bool = False) -> Typed:
        text = f"({word.join(part.sql for part in parts)})"
        found = f"(NOT {text})" if negated else text
        return Typed(found, "bool", aggregate=any(part.aggregate for part in parts))

    def _pair(self, operator: str, left: Typed, right: Typed) -> tuple[Typed, Typed, str]:
        """Return both sides as one type."""
        if left.type == "unknown" and right.type == "unknown":
            type_ = "text"
        elif left.type == "unknown" or right.type == "unknown":
            type_ = right.type if left.type == "unknown" else left.type
            type_ = "text" if type_ == "varchar" else type_
        else:
            found = common_type([left.type, right.type])
            if found is None:
                self._no_operator(operator, left.type, right.type)
            type_ = found
        return self.binder.cast(left, type_), self.binder.cast(right, type_), type_

    def _compare(self, operator: str, left: Typed, right: Typed) -> Typed:
        types = (left.type, right.type)
        left, right, type_ = self._pair(operator, left, right)
        element = element_of(type_)
        if type_ == "json":
            self._no_operator(operator, *types)
        if (element or type_ in _EQUAL_ONLY) and (operator not in {"=", "<>"} or element in {"numeric", "float8"}):
            self.unsupported(f"{operator} of {display(type_)}")
        if type_ == "jsonb":
            # 1.0 equals 1 there, and the text does not.
            self.unsupported("comparisons of jsonb")
        found = Typed(f"({left.key} {operator} {right.key})", "bool")
        return evolve(found, aggregate=left.aggregate or right.aggregate)

    def _unary(self, node: ast.Unary, scope: Scope) -> Typed:
        if node.operator == "not":
            operand = self.value(node.operand, scope, "bool")
            if operand.type != "bool":
                raise pg_error(
                    "DatatypeMismatchError",
                    f"argument of NOT must be type boolean, not type {display(operand.type)}",
                )
            return Typed(f"(NOT {operand.sql})", "bool", aggregate=operand.aggregate)
        operand = self.compile(node.operand, scope)
        if operand.type == "unknown":
            raise pg_error(
                "AmbiguousFunctionError", f"operator is not unique: {node.operator} unknown", hint=_AMBIGUOUS_HINT
            )
        if operand.type not in NUMBERS:
            self._no_operator(node.operator, None, operand.type)
        if node.operator == "+":
            return evolve(operand, name=None)
        return self._arithmetic("-", self.binder.constant(_zero(operand.type), operand.type), operand)

    def _binary(self, node: ast.Binary, scope: Scope) -> Typed:
        if node.operator in {"and", "or"}:
            sides = []
            for each in (node.left, node.right):
                side = self.value(each, scope, "bool")
                if side.type != "bool":
                    raise pg_error(
                        "DatatypeMismatchError",
                        f"argument of {node.operator.upper()} must be type boolean, not type {display(side.type)}",
                    )
                sides.append(side)
            return self._logic(f" {node.operator.upper()} ", sides)
        left, right = self.compile(node.left, scope), self.compile(node.right, scope)
        if node.operator in {"=", "<>", "<", ">", "<=", ">="}:
            return self._compare(node.operator, left, right)
        if node.operator == "||":
            return self._concatenate(left, right)
        if node.operator in {"->", "->>"}:
            return self._json_step(node.operator, left, right)
        return self._arithmetic(node.operator, left, right)

    def _json_step(self, operator: str, left: Typed, right: Typed) -> Typed:
        if left.type not in {"json", "jsonb"}:
            if left.type == "unknown":
                self.unsupported(f"{operator} of something whose type is not known")
            self._no_operator(operator, left.type, right.type)
        right = self.binder.settle(right, "text")
        if right.type == "varchar":
            right = evolve(right, type="text")
        if right.type in {"int2", "int8"} or right.type not in {"text", "int4"}:
            self._no_operator(operator, left.type, right.type)
        if left.type == "json":
            self.unsupported(f"{operator} of json; use jsonb")
        call = f"pg_json_step({left.sql}, {right.sql}, {int(operator == '->>')})"
        return Typed(call, "text" if operator == "->>" else left.type, aggregate=left.aggregate or right.aggregate)

    def _concatenate(self, left: Typed, right: Typed) -> Typed:
        types = {left.type, right.type}
        if any(element_of(each) or each in {"jsonb", "json", "bytea", "float8"} for each in types):
            self.unsupported(f"{display(left.type)} || {display(right.type)}")
        if not types & {"text", "varchar", "unknown"}:
            self._no_operator("||", left.type, right.type)
        left, right = (self.binder.cast(each, "text", explicit=True) for each in (left, right))
        return Typed(f"({left.sql} || {right.sql})", "text", aggregate=left.aggregate or right.aggregate)

    def _arithmetic(self, operator: str, left: Typed, right: Typed) -> Typed:
        types = {left.type, right.type}
        if types == {"unknown"}:
            raise pg_error(
                "AmbiguousFunctionError",
                f"operator is not unique: unknown {operator} unknown",
                hint=_AMBIGUOUS_HINT,
            )
        odd = "unknown" in types and not types & set(NUMBERS)
        if types & {"timestamp", "timestamptz", "jsonb"} or odd:
            self.unsupported(f"{display(left.type)} {operator} {display(right.type)}")
        if "date" in types:
            return self._dates(operator, left, right)
        for each in (left, right):
            if each.type not in {*NUMBERS, "unknown"}:
                self._no_operator(operator, left.type, right.type)
        if operator == "%" and "float8" in types:
            self._no_operator(operator, left.type, right.type)
        left, right, type_ = self._pair(operator, left, right)
        found = Typed(f"pg_arithmetic('{operator}', '{type_}', {left.sql}, {right.sql})", type_)
        return evolve(found, aggregate=left.aggregate or right.aggregate)

    def _dates(self, operator: str, left: Typed, right: Typed) -> Typed:
        whole = {"int2", "int4"}
        known = {
            ("date", "-", "date"): "int4", **{("date", sign, each): "date" for sign in "+-" for each in whole},
            **{(each, "+", "date"): "date" for each in whole},
        }  # fmt: skip
        type_ = known.get((left.type, operator, right.type))
        if type_ is None:
            self._no_operator(operator, left.type, right.type)
        found = Typed(f"pg_arithmetic('{operator}', 'date', {left.sql}, {right.sql})", type_)
        return evolve(found, aggregate=left.aggregate or right.aggregate)

    # -- the others ----------------------------------------------------------------------

    def _cast(self, node: ast.Cast, scope: Scope) -> Typed:
        type_, modifiers = resolve_type(node.type, self.sql)
        operand = self.compile(node.operand, scope)
        source = operand.type
        if source not in {"unknown", type_} and not is_castable(source, type_, explicit=True):
            if element_of(source) or element_of(type_):
                self.unsupported(f"the cast from {display(source)} to {display(type_)}")
            raise pg_error("CannotCoerceError", f"cannot cast type {display(source)} to {display(type_)}")
        weak = operand.weak or operand.name is None
        name = type_.removesuffix("[]") if weak else operand.name
        return evolve(self.binder.cast(operand, type_, modifiers, explicit=True), name=name, weak=weak)

    def _is(self, node: ast.IsTest, scope: Scope) -> Typed:
        word = "IS NOT" if node.negated else "IS"
        operand = self.compile(node.operand, scope)
        if node.what == "distinct":
            assert node.other is not None
            left, right, type_ = self._pair("=", operand, self.compile(node.other, scope))
            if type_ in {"json", "jsonb"} or element_of(type_):
                self.unsupported(f"IS DISTINCT FROM of {display(type_)}")
            word = "IS" if node.negated else "IS NOT"
            found = Typed(f"({left.key} {word} {right.key})", "bool")
            return evolve(found, aggregate=left.aggregate or right.aggregate)
        if node.what == "null":
            if operand.param is not None:
                raise pg_error_indeterminate(operand.param)
            return (
                Typed(f"({operand.sql} {word} NULL)", "bool", aggregate=operand.aggregate)
                if (operand.literal is None)
                else self.binder.constant(int(node.negated), "bool")
            )
        operand = self.binder.settle(operand, "bool")
        if operand.type != "bool":
            raise pg_error(
                "DatatypeMismatchError",
                f"argument of IS {'NOT ' if node.negated else ''}{node.what.upper()} must be type boolean, "
                f"not type {display(operand.type)}",
            )
        wanted = {"true": "1", "false": "0", "unknown": "NULL"}[node.what]
        return Typed(f"({operand.sql} {word} {wanted})", "bool", aggregate=operand.aggregate)

    def _quantified(self, node: ast.Quantified, scope: Scope) -> Typed:
        left = self.compile(node.left, scope)
        array = self.compile(node.array, scope)
        if array.type == "unknown":
            base = "text" if left.type in {"unknown", "varchar"} else left.type
            array = self.binder.settle(array, f"{base}[]")
        element = element_of(array.type)
        if element is None:
            raise pg_error("WrongObjectTypeError", "op ANY/ALL (array) requires array on right side")
        left = self.binder.settle(left, element)
        found = common_type([left.type, element])
        if found is None:
            self._no_operator(node.operator, left.type, element)
        if left.type != element and not (left.type in (*INTS, *TEXTS) and element in (*INTS, *TEXTS)):
            self.unsupported(f"{display(left.type)} {node.operator} ANY ({display(array.type)})")
        call = f"pg_any('{node.operator}', '{element}', {left.sql}, {array.sql}, {int(node.every)})"
        return Typed(call, "bool", aggregate=left.aggregate or array.aggregate)

    def _in_select(self, node: ast.InSelect, scope: Scope) -> Typed:
        left = self.compile(node.operand, scope)
        text, columns = self.subquery(node.query, scope)
        if len(columns) != 1:
            raise pg_error("PostgresSyntaxError", "subquery has too many columns")
        left = self.binder.settle(left, columns[0].type)
        if left.type != columns[0].type and not (
            left.type in (*INTS, *TEXTS) and common_type([left.type, columns[0].type])
        ):
            if common_type([left.type, columns[0].type]) is None:
                self._no_operator("=", left.type, columns[0].type)
            self.unsupported(f"{display(left.type)} IN (SELECT {display(columns[0].type)})")
        if left.type in {"json", "jsonb"} or element_of(left.type):
            self.unsupported(f"IN of {display(left.type)}")
        word = "NOT IN" if node.negated else "IN"
        return Typed(f"({left.key} {word} {text})", "bool", aggregate=left.aggregate)

    def _case(self, node: ast.Case, scope: Scope) -> Typed:
        operand = None if node.operand is None else self.compile(node.operand, scope)
        conditions, results = [], []
        for condition, result in node.whens:
            if operand is None:
                conditions.append(Typed(self.condition(condition, scope, "CASE/WHEN"), "bool"))
            else:
                conditions.append(self._compare("=", operand, self.compile(condition, scope)))
            results.append(self.compile(result, scope))
        default = Typed("NULL", "unknown") if node.default is None else self.compile(node.default, scope)
        results.append(default)
        results = self.unify(results, "CASE")
        pairs = zip(conditions, results[:-1], strict=True)
        text = " ".join(f"WHEN {condition.sql} THEN {result.sql}" for condition, result in pairs)
        weak = default.weak or default.name is None
        name = "case" if weak else default.name
        found = Typed(f"(CASE {text} ELSE {results[-1].sql} END)", results[-1].type, name, weak=weak)
        return evolve(found, aggregate=any(each.aggregate for each in (*conditions, *results)))

    def unify(self, values: list[Typed], what: str) -> list[Typed]:
        """Return *values* as their common type.

        Raises:
            DatatypeMismatchError: if they have none.
        """
        type_ = common_type([value.type for value in values])
        if type_ is None:
            known = list(dict.fromkeys(value.type for value in values if value.type != "unknown"))
            raise pg_error(
                "DatatypeMismatchError", f"{what} types {display(known[0])} and {display(known[1])} cannot be matched"
            )
        return [self.binder.cast(value, type_) for value in values]

    # -- calls -----------------------------------------------------------------------------

    def _call(self, node: ast.Call, scope: Scope) -> Typed:
        if node.name in AGGREGATES:
            return self._aggregate(node, scope)
        if node.star or node.distinct:
            self.unsupported(f"{node.name}({'*' if node.star else 'DISTINCT ...'})")
        arguments = [self.compile(each, scope) for each in node.arguments]
        if node.name in {"coalesce", "greatest", "least"}:
            arguments = self.unify(arguments, node.name.upper())
            if element_of(arguments[0].type) or (node.name != "coalesce" and arguments[0].type in {"json", "jsonb"}):
                self.unsupported(f"{node.name} of {display(arguments[0].type)}")
            text = ", ".join(each.sql for each in arguments)
            if len(arguments) == 1:
                text += ", NULL"
            call = (
                f"coalesce({text})"
                if node.name == "coalesce"
                else (f"pg_extreme('{node.name}', '{arguments[0].type}', {text})")
            )
            found = Typed(call, arguments[0].type, node.name)
        elif node.name == "nullif" and len(arguments) == 2:
            same = self._compare("=", *arguments)
            first = self.binder.settle(arguments[0], "text" if arguments[1].type == "unknown" else arguments[1].type)
            found = Typed(f"(CASE WHEN {same.sql} THEN NULL ELSE {first.sql} END)", first.type, "nullif")
        else:
            found = self._scalar(node, arguments)
        return evolve(found, aggregate=any(each.aggregate for each in arguments))

    def _scalar(self, node: ast.Call, arguments: list[Typed]) -> Typed:
        function = SCALARS.get(node.name)
        if function is None:
            self.unsupported(f"the function {node.name}")
        types = [each.type for each in arguments]
        found = self._overload(node.name, function, types)
        if found is not None:
            wanted, result = found
            cast = [self.binder.cast(each, target) for each, target in zip(arguments, wanted, strict=True)]
            text = "".join(f", {each.sql}" for each in cast)
            return Typed(f"pg_call('{node.name}', '{'/'.join(wanted)}'{text})", result, node.name)
        if any(each in {"json", "jsonb", "bytea"} or element_of(each) for each in types):
            self.unsupported(f"{node.name}({', '.join(map(display, types))})")
        if any(len(wanted) == len(types) for wanted, _ in function) and not set(types) <= {*NUMBERS, *TEXTS, "bool"}:
            self.unsupported(f"{node.name}({', '.join(map(display, types))})")
        self._no_function(node.name, types)

    def _overload(self, name: str, function: Overloads, types: list[str]) -> tuple[tuple[str, ...], str] | None:
        """Return which of several functions of one name is called."""
        types = ["text" if each == "varchar" else each for each in types]
        fitting = [
            (wanted, result)
            for wanted, result in function
            if len(wanted) == len(types)
            and all(
                source == "unknown" or implicit(source, target) for source, target in zip(types, wanted, strict=True)
            )
        ]
        if len(fitting) < 2:
            return fitting[0] if fitting else None
        for wanted, result in fitting:
            if list(wanted) == types:
                return wanted, result
        # Of several that would do, the one of the preferred type of numbers.
        for wanted, result in fitting:
            if set(wanted) == {"float8"}:
                return wanted, result
        known = set(types) - {"unknown"}
        for wanted, result in fitting:
            if len(known) == 1 and set(wanted) == known:
                return wanted, result
        self.unsupported(f"{name}({', '.join(map(display, types))})")

    def _no_function(self, name: str, types: list[str]) -> NoReturn:
        shown = ", ".join(map(display, types))
        raise pg_error("UndefinedFunctionError", f"function {name}({shown}) does not exist", hint=_FUNCTION_HINT)

    def _aggregate(self, node: ast.Call, scope: Scope) -> Typed:
        if scope.aggregates_allowed is not None:
            raise pg_error("GroupingError", f"aggregate functions are not allowed in {scope.aggregates_allowed}")
        if scope.in_aggregate:
            raise pg_error("GroupingError", "aggregate function calls cannot be nested")
        scope.in_aggregate = True
        try:
            arguments = [self.compile(each, scope) for each in node.arguments]
        finally:
            scope.in_aggregate = False
        scope.grouped = True
        if node.star:
            if node.name != "count":
                self.unsupported(f"{node.name}(*)")
            return Typed("count(*)", "int8", "count", aggregate=True)
        distinct = "DISTINCT " if node.distinct else ""
        if node.name == "count" and len(arguments) == 1:
            operand = self.binder.settle(arguments[0], "text")
            if node.distinct and operand.type in {"json", "jsonb"}:
                self.unsupported("count(DISTINCT json)")
            return Typed(
                f"count({distinct}{operand.key if distinct else operand.sql})", "int8", "count", aggregate=True
            )
        if any(each.type == "unknown" for each in arguments):
            arguments = self._known(node.name, arguments)
        result = aggregate_result(node.name, [each.type for each in arguments])
        if result is None:
            if any(each.type in {"uuid", "json", "jsonb", "bytea"} or element_of(each.type) for each in arguments):
                self.unsupported(f"{node.name} of {display(arguments[0].type)}")
            self._no_function(node.name, [each.type for each in arguments])
        if node.distinct and (len(arguments) > 1 or node.name in {"array_agg", "string_agg"}):
            self.unsupported(f"{node.name}(DISTINCT ...)")
        passed = arguments[0].key if distinct else ", ".join(each.sql for each in arguments)
        type_ = arguments[0].type
        type_ = "text" if type_ == "varchar" else type_
        return Typed(f"pg_{node.name}_{type_}({distinct}{passed})", result, node.name, aggregate=True)

    def _known(self, name: str, arguments: list[Typed]) -> list[Typed]:
        """Give the arguments of an aggregate a type where they have none."""
        if name in {"sum", "avg"}:
            raise pg_error(
                "AmbiguousFunctionError",
                f"function {name}(unknown) is not unique",
                hint="Could not choose a best candidate function. You might need to add explicit type casts.",
            )
        if name == "array_agg" or arguments[0].type == "unknown" != arguments[-1].type:
            self.unsupported(f"{name} of something whose type is not known")
        type_ = "bool" if name in {"bool_and", "bool_or", "every"} else "text"
        return [self.binder.settle(each, type_) for each in arguments]


def pg_error_indeterminate(number: int) -> BaseException:
    """Return that nothing says the type of a parameter."""
    return pg_error("IndeterminateDatatypeError", f"could not determine data type of parameter ${number}")


def _zero(type_: str) -> Any:
    return {"numeric": "0", "float8": 0.0}.get(type_, 0)
