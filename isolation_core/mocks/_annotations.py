"""Annotations of a specification as objects, whatever form they were written in.

A string is evaluated where it was written: in the class, its module, and what
the module imports only for type checkers. Names that exist nowhere at run time
stand for an unknown type, so ``Awaitable[Missing]`` is still an awaitable.
Nothing is imported, and nothing raises.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import inspect
import sys
import types
import typing
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import typing_extensions
from typing_extensions import TypeIs

__all__ = [
    "UNKNOWN",
    "Scope",
    "annotations_of",
    "has_special",
    "is_a",
    "is_class",
    "origin_of",
    "own_dict",
    "parameters_of",
]


def is_class(subject: object) -> TypeIs[type[Any]]:
    """Return whether *subject* is a class, whatever its ``__class__`` says."""
    return issubclass(type(subject), type)


def is_a(subject: object, kinds: Any) -> bool:
    """Like ``isinstance``, but what ``__class__`` says does not count, and is not asked."""
    return issubclass(type(subject), kinds)


def has_special(subject: object, name: str) -> bool:
    """Return whether the class of *subject* has the method *name*."""
    return any(name in own_dict(base) for base in type(subject).__mro__)


def origin_of(annotation: Any) -> Any:
    """Return the class behind a generic alias, None for what is none."""
    try:
        return typing.get_origin(annotation)
    except Exception:
        return None  # an object that raises when it is asked for its class


def own_dict(subject: Any) -> Mapping[str, Any]:
    """Return the own namespace of a class or the instance dict of an object, running none of its code."""
    if is_class(subject):
        found: Any = type.__getattribute__(subject, "__dict__")
        return found  # type: ignore[no-any-return]
    try:
        found = object.__getattribute__(subject, "__dict__")
    except AttributeError:
        return {}
    return found if type(found) is dict else {}


class _Unknown:
    """A type nobody can look up at run time; parts and unions of it are unknown as well."""

    def __getitem__(self, _parameters: object) -> _Unknown:
        return self

    def __or__(self, _other: object) -> _Unknown:
        return self

    __ror__ = __or__

    def __getattr__(self, name: str) -> _Unknown:
        if name[:2] == "__":
            raise AttributeError(name)
        return self


UNKNOWN: Final[Any] = _Unknown()

_WRAPPERS: Final = tuple(
    getattr(module, name)
    for module in (typing, typing_extensions)
    for name in ("Annotated", "ClassVar", "Final", "Required", "NotRequired", "ReadOnly")
    if hasattr(module, name)
)
_SELF: Final = (typing.Self, typing_extensions.Self)


def annotations_of(subject: Any) -> Mapping[str, Any]:
    """Return the own annotations of a class or function, strings unevaluated; empty if it cannot be asked."""
    try:
        if sys.version_info >= (3, 14):
            import annotationlib  # type: ignore[import-not-found,unused-ignore]

            found: Any = annotationlib.get_annotations(subject, format=annotationlib.Format.FORWARDREF)
        elif is_class(subject):
            found = own_dict(subject).get("__annotations__")
        else:
            found = getattr(subject, "__annotations__", None)
    except Exception:
        return {}
    return found if isinstance(found, Mapping) else {}


def parameters_of(cls: type[Any], arguments: tuple[Any, ...]) -> dict[int, dict[Any, Any]]:
    """Return, by the id of *cls* and each base, what stands for its type variables when *cls* has *arguments*."""
    found: dict[int, dict[Any, Any]] = {}
    pending: list[tuple[Any, tuple[Any, ...], dict[Any, Any]]] = [(cls, arguments, {})]
    while pending:
        cls, arguments, outer = pending.pop()
        if not is_class(cls) or id(cls) in found:
            continue
        arguments = tuple(outer.get(each, each) if is_a(each, TypeVar) else each for each in arguments)
        named = zip(own_dict(cls).get("__parameters__", ()), arguments, strict=False)
        own = {each: actual for each, actual in named if each is not actual}
        found[id(cls)] = own
        bases = own_dict(cls).get("__orig_bases__", ())
        pending.extend((base, (), own) for base in cls.__bases__)
        # These last, so that they are taken first.
        pending.extend((origin_of(base) or base, typing.get_args(base), own) for base in bases)
    return found


class Scope:
    """Where an annotation was written: resolves names, type variables and ``Self``.

    Args:
        module: the globals.
        owner: the class, if it was written in one.
        actual: the class that is specified, which ``Self`` stands for.
        parameters: what stands for type variables.
    """

    __slots__ = ("_actual", "_module", "_owner", "_parameters")

    def __init__(
        self,
        module: Mapping[str, Any],
        owner: type[Any] | None = None,
        actual: type[Any] | None = None,
        parameters: Mapping[Any, Any] | None = None,
    ) -> None:
        self._module, self._owner, self._actual, self._parameters = module, owner, actual, parameters or {}

    def resolve(self, annotation: Any) -> Any:
        """Return what *annotation* means: a class, an alias with parameters, None, or `UNKNOWN`.

        ``Annotated``, ``Final``, ``NewType``, aliases of types, bound type variables and ``X | None`` are
        replaced by what is in them.
        """
        for _ in range(20):
            found = self._step(annotation)
            if found is annotation:
                return found
            annotation = found
        return UNKNOWN

    def _step(self, annotation: Any) -> Any:  # noqa: PLR0911 - one for each kind
        if is_a(annotation, str):
            return self._evaluate(annotation)
        if is_a(annotation, typing.ForwardRef):
            return self._evaluate(annotation.__forward_arg__)
        if any(annotation is each for each in _SELF):
            return self._actual or UNKNOWN
        if is_a(annotation, TypeVar):
            return self._parameters.get(annotation) or annotation.__bound__ or UNKNOWN
        if is_a(annotation, typing.NewType):
            return annotation.__supertype__
        if type(annotation).__name__ == "TypeAliasType":
            return annotation.__value__
        origin = origin_of(annotation)
        if any(origin is each for each in _WRAPPERS):
            return typing.get_args(annotation)[0]
        if origin is typing.Union or origin is types.UnionType:
            rest = [each for each in typing.get_args(annotation) if each is not types.NoneType]
            return rest[0] if len(rest) == 1 else UNKNOWN
        if type(origin).__name__ == "TypeAliasType":
            value: Any = origin.__value__
            return value[typing.get_args(annotation)] if getattr(value, "__parameters__", ()) else value
        if is_class(annotation) and typing_extensions.is_typeddict(annotation):
            return dict
        return types.NoneType if annotation is None else annotation

    def _evaluate(self, text: str) -> Any:
        try:
            # What the user wrote as an annotation; `typing.get_type_hints` does the same.
            return eval(text, {"__builtins__": builtins}, _Names(self))  # noqa: S307
        except Exception:
            return UNKNOWN

    def name(self, name: str) -> Any:
        """Return what *name* means here."""
        for cls in (self._owner, self._actual):
            if cls is not None:
                if cls.__name__ == name:
                    return cls
                inner = own_dict(cls).get(name)
                if is_class(inner):
                    return inner
        for namespace in (self._module, vars(builtins)):
            if name in namespace:
                return namespace[name]
        for variable in self._parameters:
            if getattr(variable, "__name__", None) == name:
                return variable
        return _imported_for_checkers(sys.modules.get(self._module.get("__name__", "")), name)


class _Names(dict[str, Any]):
    """The names an annotation may use, looked up when they are."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __missing__(self, name: str) -> Any:
        return self._scope.name(name)


_isolation_guarded: Final[WeakKeyDictionary[types.ModuleType, Mapping[str, tuple[str, str | None]]]] = (
    WeakKeyDictionary()
)


def _imported_for_checkers(module: types.ModuleType | None, name: str) -> Any:
    """Return what *name* is imported as under ``if TYPE_CHECKING:``, if that module happens to be imported."""
    if module is None:
        return UNKNOWN
    names = _isolation_guarded.get(module)
    if names is None:
        names = _isolation_guarded[module] = _guarded_imports(module)
    source, attribute = names.get(name, ("", None))
    found = sys.modules.get(source)
    if found is None:
        return UNKNOWN
    return found if attribute is None else getattr(found, attribute, UNKNOWN)


def _guarded_imports(module: types.ModuleType) -> dict[str, tuple[str, str | None]]:
    try:
        tree = _parsed(inspect.getsource(module))
    except Exception:
        return {}
    found: dict[str, tuple[str, str | None]] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.If) or "TYPE_CHECKING" not in ast.dump(node.test):
            continue
        for each in node.body:
            if isinstance(each, ast.Import):
                found |= {a.asname or a.name.partition(".")[0]: (a.name if a.asname else a.name.partition(".")[0], None)
                          for a in each.names}  # fmt: skip
            elif isinstance(each, ast.ImportFrom):
                source = "." * each.level + (each.module or "")
                package = getattr(module, "__package__", None) or ""
                try:
                    source = importlib.util.resolve_name(source, package)
                except ImportError:
                    continue
                found |= {alias.asname or alias.name: (source, alias.name) for alias in each.names}
    return found


@lru_cache(maxsize=8)
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)
