"""The kinds of a module's variables by its source: those that count, those made on first use, and memos.

A value alone does not distinguish a counter from a tally, or a lazily made object
from one that a test put there; the code that writes it does. A module is parsed once,
when one of its variables has moved for the first time.
"""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Iterable, Iterator
from typing import Final

from attrs import field, frozen

__all__ = ["NOTHING", "ModuleSyntax", "Spelling", "syntax_of"]

Spelling = tuple[str, ...]
"""How code writes a variable: ``("name", "x")``, ``("attribute", "x")``, or ``("item", *spelling)`` of a container."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

# Handing a number to one of these is not using it as a name or key.
_SAY: Final = frozenset({"critical", "debug", "error", "exception", "info", "log", "print", "warn", "warning", "write"})
_ABSENT_ERRORS: Final = frozenset({"AttributeError", "Exception", "KeyError", "LookupError", "NameError"})


@frozen
class ModuleSyntax:
    """The uses of a module's variables by its functions.

    Attributes:
        counters: variables counted upward by a function that hands the number out.
        lazies: variables that a function assigns after checking whether they exist.
        assigned: the last name of everything the module assigns to or deletes, anywhere, and the names it
            gives to ``setattr``.
    """

    counters: frozenset[Spelling] = field(default=frozenset())
    lazies: frozenset[Spelling] = field(default=frozenset())
    assigned: frozenset[str] = field(default=frozenset())


NOTHING: Final = ModuleSyntax()
_known: dict[str, tuple[object, ModuleSyntax]] = {}


def syntax_of(module_name: str) -> ModuleSyntax:
    """Return what the source of the loaded module *module_name* says; nothing where there is none."""
    module = sys.modules.get(module_name)
    path = getattr(module, "__dict__", {}).get("__file__")
    if not isinstance(path, str) or not path.endswith(".py"):
        return NOTHING
    known = _known.get(path)
    if known is not None and known[0] is module:
        return known[1]
    try:
        found = _read("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        found = NOTHING
    # The module is held by sys.modules; by us only through its identity, until it is another one.
    _known[path] = (module, found)
    return found


def _read(source: str) -> ModuleSyntax:
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    stores: dict[str, set[Spelling]] = {}
    counters: set[Spelling] = set()
    for function in functions:
        stores.setdefault(function.name, set()).update(_stored_in(function))
        counters |= _counted_in(function)
    lazies: set[Spelling] = set()
    for function in functions:
        asked = _asked_in(function)
        if asked:
            # Also what a function writes that is called by the one that asks.
            called = {name for node in ast.walk(function) if isinstance(node, ast.Call) and (name := _called(node))}
            written = stores[function.name].union(*(stores[name] for name in called & stores.keys()))
            lazies |= asked & written
        lazies |= set(_asked_by_writing(function))
    assigned = {spelling[-1] for node in ast.walk(tree) for target in _targets(node) if (spelling := _spell(target))}
    assigned |= {each[-1] for node in ast.walk(tree) if isinstance(node, ast.Call) for each in _stored_by_call(node)}
    return ModuleSyntax(frozenset(counters), frozenset(lazies), frozenset(assigned))


def _spell(node: ast.AST) -> Spelling | None:
    if isinstance(node, ast.Name):
        return ("name", node.id)
    if isinstance(node, ast.Attribute):
        return ("attribute", node.attr)
    if isinstance(node, ast.Subscript):
        inner = _spell(node.value)
        return None if inner is None else ("item", *inner)
    return None


def _called(call: ast.Call) -> str:
    function = call.func
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _targets(node: ast.AST) -> Iterable[ast.expr]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from target.elts if isinstance(target, ast.Tuple | ast.List) else (target,)
    elif isinstance(node, ast.AugAssign | ast.NamedExpr) or (isinstance(node, ast.AnnAssign) and node.value):
        yield node.target
    elif isinstance(node, ast.Delete):
        yield from node.targets
    elif isinstance(node, ast.With | ast.AsyncWith):
        yield from (item.optional_vars for item in node.items if item.optional_vars is not None)


def _outer_names(function: ast.AST) -> set[str]:
    """Return the names of variables outside of *function* that it may rebind."""
    return {name for node in ast.walk(function) if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}


def _is_outer(spelling: Spelling, outer: set[str]) -> bool:
    return spelling[0] != "name" or spelling[1] in outer


def _stored_in(function: ast.AST) -> set[Spelling]:
    """Return the variables outside of *function* that it writes."""
    outer = _outer_names(function)
    parameters = _parameters(function)
    found = set()
    for node in ast.walk(function):
        value = getattr(node, "value", None)
        if isinstance(value, ast.Name) and value.id in parameters:
            continue  # what the caller gives is set, not made on first use
        for target in _targets(node):
            spelling = _spell(target)
            if spelling is not None and _is_outer(spelling, outer):
                found.add(spelling)
        if isinstance(node, ast.Call):
            found |= set(_stored_by_call(node))
    return found


def _parameters(function: ast.AST) -> set[str]:
    arguments = getattr(function, "args", None)
    if not isinstance(arguments, ast.arguments):
        return set()
    return {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}


def _stored_by_call(call: ast.Call) -> Iterator[Spelling]:
    name = _called(call)
    if name in ("setattr", "delattr", "__setattr__"):
        for argument in call.args:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield ("attribute", argument.value)
    elif name == "setdefault" and isinstance(call.func, ast.Attribute):
        inner = _spell(call.func.value)
        if inner is not None:
            yield ("item", *inner)


def _asked_by_writing(function: ast.AST) -> Iterator[Spelling]:
    """Yield what ``x.setdefault(...)`` and ``x = x or ...`` write: they ask by themselves."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _called(node) == "setdefault":
            yield from _stored_by_call(node)


def _asked_in(function: ast.AST) -> set[Spelling]:
    """Return the variables of which *function* asks whether they are there, or set."""
    found: set[Spelling] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.If | ast.IfExp | ast.While | ast.Assert):
            found |= set(_asked(node.test))
        elif isinstance(node, ast.BoolOp):
            for value in node.values:
                found |= set(_asked(value))
        elif isinstance(node, ast.Compare):
            found |= set(_asked(node))
        elif isinstance(node, ast.Match):
            found |= set(_asked(node.subject))
        elif isinstance(node, ast.Call):
            found |= set(_asked_by_call(node))
        elif isinstance(node, ast.Try) and any(_catches_absence(handler) for handler in node.handlers):
            for inner in (each for statement in node.body for each in ast.walk(statement)):
                spelling = _spell(inner)
                if spelling is not None and isinstance(getattr(inner, "ctx", None), ast.Load):
                    found.add(spelling)
    return found


def _asked(test: ast.expr) -> Iterator[Spelling]:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yield from _asked(test.operand)
    elif isinstance(test, ast.BoolOp):
        for value in test.values:
            yield from _asked(value)
    elif isinstance(test, ast.NamedExpr):
        yield from _asked(test.value)
    elif isinstance(test, ast.Call):
        yield from _asked_by_call(test)
    elif isinstance(test, ast.Compare):
        yield from _compared(test)
    else:
        spelling = _spell(test)
        if spelling is not None:
            yield spelling


def _compared(test: ast.Compare) -> Iterator[Spelling]:
    operator, other = test.ops[0], test.comparators[0]
    if isinstance(operator, ast.In | ast.NotIn):
        inner = _spell(other)
        if inner is not None:
            yield ("item", *inner)
        return
    empty = (isinstance(other, ast.Constant) and not other.value) or (
        isinstance(other, ast.List | ast.Dict | ast.Tuple) and not any(ast.iter_child_nodes(other))
    )
    if isinstance(operator, ast.Is | ast.IsNot) or empty:
        left = test.left.value if isinstance(test.left, ast.NamedExpr) else test.left
        if isinstance(left, ast.Call):
            yield from _asked_by_call(left)
        spelling = _spell(left)
        if spelling is not None:
            yield spelling


def _asked_by_call(call: ast.Call) -> Iterator[Spelling]:
    name = _called(call)
    if name in ("hasattr", "getattr") and len(call.args) > 1:
        attribute = call.args[1]
        if isinstance(attribute, ast.Constant) and isinstance(attribute.value, str):
            yield ("attribute", attribute.value)
    elif name in ("get", "setdefault") and isinstance(call.func, ast.Attribute):
        inner = _spell(call.func.value)
        if inner is not None:
            yield ("item", *inner)


def _catches_absence(handler: ast.ExceptHandler) -> bool:
    kind = handler.type
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(each is None or getattr(each, "id", getattr(each, "attr", "")) in _ABSENT_ERRORS for each in kinds)


# -- counters ----------------------------------------------------------------


def _counted_in(function: ast.AST) -> set[Spelling]:
    """Return the variables that *function* counts upward, and whose new value it hands out."""
    outer = _outer_names(function)
    counted: dict[Spelling, tuple[ast.AST, set[str]]] = {}
    for node in ast.walk(function):
        targets = list(_targets(node))
        for target in targets:
            spelling = _spell(target)
            if spelling is None or not _is_outer(spelling, outer) or not _adds(node, spelling):
                continue
            locals_ = {each.id for each in targets if isinstance(each, ast.Name) and each.id not in outer}
            counted[spelling] = (node, locals_)
    return {spelling for spelling, (node, names) in counted.items() if _is_handed_out(function, spelling, node, names)}


def _adds(node: ast.AST, spelling: Spelling) -> bool:
    if isinstance(node, ast.AugAssign):
        return isinstance(node.op, ast.Add)
    value = getattr(node, "value", None)
    if not isinstance(value, ast.BinOp) or not isinstance(value.op, ast.Add):
        return False
    for side in (value.left, value.right):
        if _spell(side) == spelling:
            return True
        if isinstance(side, ast.Call) and spelling in set(_asked_by_call(side)):
            return True
    return False


def _is_handed_out(function: ast.AST, spelling: Spelling, increment: ast.AST, names: set[str]) -> bool:
    aliases = set(names)
    for node in ast.walk(function):
        value = getattr(node, "value", None)
        assigns = node is not increment and isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr)
        if assigns and value is not None and _mentions(value, spelling, set()):
            aliases |= {target.id for target in _targets(node) if isinstance(target, ast.Name)}
    return any(_mentions(part, spelling, aliases) for part in _outgoing(function, increment))


def _outgoing(function: ast.AST, increment: ast.AST) -> Iterator[ast.AST]:
    """Yield the expressions whose value leaves *function* as a result, a key, an argument or a part of an object."""
    for node in ast.walk(function):
        if isinstance(node, ast.Return | ast.Yield) and node.value is not None:
            yield node.value
        elif isinstance(node, ast.Call):
            if _called(node) not in _SAY and _called(node) not in ("get", "getattr", "setdefault"):
                yield from node.args
                yield from (keyword.value for keyword in node.keywords)
        elif isinstance(node, ast.Subscript):
            yield node.slice
        elif isinstance(node, ast.Dict):
            yield from (key for key in node.keys if key is not None)
        elif node is not increment and isinstance(node, ast.Assign) and not _assigns_names(node):
            yield node.value


def _assigns_names(node: ast.Assign) -> bool:
    return all(isinstance(target, ast.Name) for target in _targets(node))


def _mentions(expression: ast.AST, spelling: Spelling, aliases: set[str]) -> bool:
    return any(
        isinstance(getattr(node, "ctx", None), ast.Load)
        and (_spell(node) == spelling or (isinstance(node, ast.Name) and node.id in aliases))
        for node in ast.walk(expression)
    )
