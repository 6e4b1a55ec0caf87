"""What a specification promises: names, signatures, and what a call gives.

Made once for each class and kept as long as the class lives; members are
looked at when they are first used. Nothing of the specification is executed:
properties are not read, annotations not evaluated.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, MethodType, ModuleType, WrapperDescriptorType
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

from isolation_core.errors import NotAMockError, UnknownMockAttributeError
from isolation_core.mocks._calls import is_async_callable
from isolation_core.mocks._profiles import Shape, profile_for
from isolation_core.mocks._signature import checker, signature_of
from isolation_core.mocks._stdlib import default_magics, is_mock

__all__ = ["Contract", "Member", "contract_for"]

_CLASSES: Final = {
    "async": "_async_class", "sync": "_sync_class", "dual": "_dual_class", "iterating": "_iterating_class",
}  # fmt: skip

_AWAITABLE: Final = re.compile(
    r"^(typing\.|t\.|collections\.abc\.|abc\.|asyncio\.|typing_extensions\.)?(Awaitable|Coroutine|Future|Task)\b"
)
_ITERATING: Final = re.compile(
    r"^(typing\.|t\.|collections\.abc\.|abc\.|typing_extensions\.)?(AsyncIterator|AsyncGenerator|AsyncIterable)\b"
)


_FUNCTIONS: Final = (FunctionType, MethodType, BuiltinFunctionType, functools.partial)


class Member:
    """One name of a contract."""

    __slots__ = ("_check", "_made", "_name", "_signature", "kind", "returns", "shape")

    def __init__(
        self, name: str, shape: Shape, signature: inspect.Signature | None, returns: ref[type[Any]] | None = None
    ) -> None:
        self._name = name
        self.shape = shape
        self.kind = _CLASSES[shape]
        self._signature = signature
        self.returns = returns
        self._made = False
        self._check: Callable[..., object] | None = None

    def equip(self, state: Any) -> None:
        """Give a child's state the checker and the signature of this member."""
        if not self._made:
            self._check = None if self._signature is None else checker(self._name, self._signature)
            self._made = True
        state.check = self._check
        state.signature = self._signature
        state.member = self

    def contract_of_result(self) -> Contract | None:
        """Return what the result of a call promises, if that is known."""
        cls = None if self.returns is None else self.returns()
        return None if cls is None else contract_for(cls)


class Contract:
    """What one specification promises.

    Attributes:
        names: every public and special name, as ``dir`` gives them, and the fields.
        known: the same, for look-ups.
        magics: the special methods a mock of it supports.
        label: what messages call it.
    """

    def __init__(
        self,
        cls: type[Any],
        target: Any,
        names: Iterable[str],
        *,
        label: str,
        callable_: bool,
    ) -> None:
        self.known = frozenset(names)
        self.names = sorted(self.known)
        self.magics = default_magics & self.known
        self.label = label
        self._class = ref(cls)
        # An instance or a module is held; a class is not, or it would never die.
        self._target = target
        self._members: dict[str, Member] = {}
        self._profiles = profile_for(cls)
        self._call_member: Member | None = None
        self.callable = callable_

    @property
    def spec_class(self) -> type[Any] | None:
        """The class ``isinstance`` sees."""
        return self._class()

    @property
    def async_names(self) -> list[str]:
        """The names whose call gives a coroutine, as far as members were looked at."""
        return [name for name, member in self._members.items() if member.shape == "async"]

    def unknown(self, name: str) -> UnknownMockAttributeError:
        """Return the error for a name that is not in the contract."""
        close = difflib.get_close_matches(name, self.names, 1)
        return UnknownMockAttributeError(self.label, name, close[0] if close else None)

    def member(self, name: str) -> Member:
        """Return what is promised of *name*, which must be in the contract."""
        member = self._members.get(name)
        if member is None:
            member = self._members[name] = self._look_at(name)
        return member

    def equip_root(self, state: Any) -> None:
        """Give the mock itself the checker of its own call."""
        if self._call_member is None:
            function, skip = self._callee()
            signature = None if function is None else signature_of(function, skip_first=skip)
            self._call_member = Member(self.label, "async", signature)
        self._call_member.equip(state)
        if not self.callable:
            state.check = functools.partial(_not_callable, self.label)

    def _callee(self) -> tuple[Any, bool]:
        if isinstance(self._target, _FUNCTIONS):
            return self._target, False
        cls = self._class()
        for base in () if cls is None else cls.__mro__:
            call = base.__dict__.get("__call__")
            if call is not None:
                return (call, True) if isinstance(call, FunctionType) else (None, False)
        return None, False

    def _look_at(self, name: str) -> Member:
        raw, bound = self._find(name)
        function, skip = _unbind(raw, bound)
        shape = self._shape(name, raw, function)
        if inspect.isclass(function):
            return Member(name, "sync", signature_of(function, skip_first=False), ref(function))
        returns = self._result(name)
        if function is None or not callable(function):
            return Member(name, shape, None, returns)
        return Member(name, shape, signature_of(function, skip_first=skip), returns)

    @property
    def enters_itself(self) -> bool:
        """Whether ``(async) with`` gives the object itself."""
        return any(profile.enters_itself for profile in self._profiles)

    def _result(self, name: str) -> ref[type[Any]] | None:
        for profile in self._profiles:
            path = profile.returns.get(name)
            if path is not None:
                return _imported_class(path)
        return None

    def _find(self, name: str) -> tuple[Any, bool]:
        """Return the raw attribute and whether it was found on the object itself (already bound)."""
        target = self._target
        if target is not None:
            own = getattr(target, "__dict__", {})
            if name in own:
                return own[name], True
        cls = self._class()
        for base in () if cls is None else cls.__mro__:
            if name in base.__dict__:
                return base.__dict__[name], False
        return None, True

    def _shape(self, name: str, raw: Any, function: Any) -> Shape:
        for profile in self._profiles:
            known = profile.shape(name)
            if known is not None:
                return known
        declared = _declared_shape(function)
        if declared is not None:
            return declared
        if isinstance(raw, FunctionType | MethodDescriptorType | functools.partialmethod) and name[:1] != "_":
            for profile in self._profiles:
                if profile.otherwise is not None:
                    return profile.otherwise
        return "sync"


def _not_callable(label: str, /, *_args: object, **_kwargs: object) -> None:
    raise TypeError(f"{label!r} object is not callable; the mock stands for an instance of it")


def _imported_class(path: str) -> ref[type[Any]] | None:
    """Return the class at *path* if its module is imported: whoever has the client has its results."""
    module, _, rest = path.rpartition(".")
    while module and module not in sys.modules:
        module, _, more = module.rpartition(".")
        rest = f"{more}.{rest}"
    found: Any = sys.modules.get(module)
    for name in rest.split("."):
        found = getattr(found, name, None)
    return ref(found) if inspect.isclass(found) else None


def _unbind(raw: Any, bound: bool) -> tuple[Any, bool]:
    """Return the function in *raw* and whether its first parameter is filled in by the lookup."""
    if isinstance(raw, staticmethod):
        return raw.__func__, False
    if isinstance(raw, classmethod):
        return raw.__func__, True
    if isinstance(raw, functools.partialmethod):
        function: Any = raw.func
        return functools.partial(function, None, *raw.args, **raw.keywords), False
    if isinstance(raw, FunctionType | MethodDescriptorType | WrapperDescriptorType):
        return raw, not bound
    if isinstance(raw, MethodType | BuiltinFunctionType | functools.partial) or inspect.isclass(raw):
        return raw, False
    if isinstance(raw, property | functools.cached_property) or inspect.isdatadescriptor(raw):
        return None, False
    return (raw, False) if callable(raw) else (None, False)


def _declared_shape(function: Any) -> Shape | None:
    """Return what the declaration of *function* says, or None."""
    if function is None or inspect.isclass(function):
        return None
    if _is_context_manager(function):
        return "dual"
    try:
        inner = inspect.unwrap(function)
    except ValueError:
        inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    for candidate in (function, inner):
        if inspect.isasyncgenfunction(candidate):
            return "iterating"
        if is_async_callable(candidate) and not (is_mock(candidate)):
            return "async"
    if not isinstance(function, FunctionType | MethodType | functools.partial):
        call = inspect.getattr_static(type(function), "__call__", None)
        if inspect.iscoroutinefunction(call):
            return "async"
    return _annotated_shape(inner)


def _annotated_shape(function: Any) -> Shape | None:
    annotation = getattr(function, "__annotations__", {}).get("return")
    if annotation is None:
        return None
    text = annotation if isinstance(annotation, str) else _annotation_text(annotation)
    text = text.strip("'\"")
    if _AWAITABLE.match(text):
        return "async"
    if _ITERATING.match(text):
        return "iterating"
    return None


def _is_context_manager(function: Any) -> bool:
    """Tell whether ``@asynccontextmanager`` made *function*."""
    wrapped = getattr(function, "__wrapped__", None)
    ours = getattr(function, "__globals__", None) is contextlib.__dict__
    return ours and inspect.isasyncgenfunction(wrapped)


def _annotation_text(annotation: Any) -> str:
    origin = getattr(annotation, "__origin__", annotation)
    return getattr(origin, "__qualname__", None) or str(annotation)


_kept: WeakKeyDictionary[type[Any], Contract] = WeakKeyDictionary()
_lock = threading.RLock()


def _fields(cls: type[Any]) -> Iterator[str]:
    """Yield the names instances get from their declaration: annotations, dataclass and attrs fields, models."""
    for base in cls.__mro__:
        # Read as text or value, never evaluated.
        yield from inspect.get_annotations(base) if "__annotations__" in base.__dict__ else ()
        for holder in ("__dataclass_fields__", "model_fields", "__fields__", "__struct_fields__"):
            found = base.__dict__.get(holder)
            if isinstance(found, dict | tuple | list):
                yield from (name for name in found if isinstance(name, str))
        yield from (a.name for a in base.__dict__.get("__attrs_attrs__", ()))


def _names_of(cls: type[Any]) -> set[str]:
    names = set(dir(cls))
    names.update(name for name in _fields(cls) if name.isidentifier())
    return names


def contract_for(spec: Any, attributes: Iterable[str] = ()) -> Contract:
    """Return what *spec* promises: a class (its instances), an instance, a function, or a module.

    Args:
        spec: the specification.
        attributes: names instances get at run time only.

    Raises:
        NotAMockError: if *spec* is itself a mock.
    """
    if is_mock(spec):
        raise NotAMockError(f"a mock as specification ({spec!r})")
    extra = frozenset(attributes)
    if inspect.isclass(spec):
        with _lock:
            contract = _kept.get(spec)
            if contract is None or contract._profiles != profile_for(spec):
                contract = _kept[spec] = _of_class(spec, frozenset())
        return _of_class(spec, extra) if extra else contract
    names = set(dir(spec)) | extra
    if isinstance(spec, _FUNCTIONS):
        label = str(getattr(spec, "__name__", type(spec).__name__))
        return Contract(type(spec), spec, names, label=label, callable_=True)
    if isinstance(spec, ModuleType):
        return Contract(ModuleType, spec, names, label=spec.__name__, callable_=False)
    cls = type(spec)
    return Contract(cls, spec, names | _names_of(cls), label=cls.__name__, callable_=callable(spec))


def _of_class(cls: type[Any], extra: frozenset[str]) -> Contract:
    # ``hasattr(cls, "__call__")`` is true of every class: it is how instances are made.
    instances_callable = any("__call__" in base.__dict__ for base in cls.__mro__)
    return Contract(cls, None, _names_of(cls) | extra, label=cls.__name__, callable_=instances_callable)
