"""The contract of a specification: names, signatures, results of calls, and types of the other attributes.

Made once for each class and kept as long as the class lives; members are
looked at when they are first used, and what is below them when that is used.
"""

from __future__ import annotations

import collections.abc
import contextlib
import copy
import difflib
import dis
import functools
import inspect
import sys
import threading
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any, Final
from weakref import ref

from isolation_core.errors import SpecificationError, UnknownMockAttributeError
from isolation_core.mocks._annotations import (
    UNKNOWN,
    Scope,
    annotations_of,
    has_special,
    is_a,
    is_class,
    origin_of,
    own_dict,
    parameters_of,
)
from isolation_core.mocks._callees import Awaited, Callee, after, declared, dissect, is_dummy, overloads_of, scope_of
from isolation_core.mocks._profiles import Shape, profile_for
from isolation_core.mocks._signature import checker, signature_of
from isolation_core.mocks._stdlib import DEFAULT, all_magics, default_magics, is_mock

__all__ = ["NOTHING", "Contract", "Member", "contract_for"]

NOTHING: Final[Any] = types.NoneType
"""The result of what is annotated ``-> None``."""

_MISSING: Final[Any] = inspect.Parameter.empty


class Member:
    """One name of a contract, or the call of what the contract describes.

    Attributes:
        shape: the kind of a call's result.
        is_value: whether it is an attribute and no method.
        signature: the parameters of a call; None if unknown.
    """

    __slots__ = ("_check", "given", "is_value", "name", "shape", "signature", "variants")

    def __init__(
        self,
        name: str,
        shape: Shape = "sync",
        signature: inspect.Signature | None = None,
        *,
        is_value: bool = False,
        check: Callable[..., object] | None = None,
        variants: tuple[inspect.Signature, ...] = (),
    ) -> None:
        self.name = name
        self.shape: Shape = shape
        self.signature = signature
        self.is_value = is_value
        self.variants = variants
        self._check: Any = check or UNKNOWN
        self.given: Any = UNKNOWN  # what a call gives, once that is known to be nothing special

    def equip(self, state: Any, contract: Contract) -> None:
        """Give a mock's state the checker and the signature of this member of *contract*."""
        if self._check is UNKNOWN:
            self._check = None if self.signature is None else checker(self.name, self.signature)
            if self.variants:
                checks = [checker(self.name, each) for each in self.variants]
                self._check = None if None in checks else functools.partial(_any_of, checks)
        state.check = self._check
        state.signature = self.signature
        state.member, state.promised = self, contract


def _any_of(checks: list[Any], /, *args: Any, **kwargs: Any) -> None:
    """Accept what one of several ``@overload`` signatures accepts."""
    for check in checks[:-1]:
        with contextlib.suppress(TypeError):
            check(*args, **kwargs)
            return
    checks[-1](*args, **kwargs)


def _not_callable(label: str, /, *_args: object, **_kwargs: object) -> None:
    raise TypeError(f"{label!r} object is not callable")


class Contract:
    """The contract of one specification.

    Attributes:
        names: every public and special name, and the fields; sorted.
        known: the same, for look-ups.
        magics: the special methods a mock of it supports.
        label: its name in messages.
        constructs: whether a call makes an instance, because the specification is a class.
        restricts_magics: whether a mock of it has no other special methods.
    """

    __slots__ = (
        "__weakref__", "_arguments", "_assigned", "_call", "_class", "_factory", "_members", "_profiles", "_target",
        "constructs", "known", "label", "magics", "names", "restricts_magics",
    )  # fmt: skip

    def __init__(self, cls: type[Any], target: Any, names: Iterable[str], label: str) -> None:
        self.known = frozenset(names)
        self.names = sorted(self.known)
        self.magics = default_magics & self.known
        self.label = label
        self.restricts_magics = True
        self._class: Any = ref(cls)
        # An object or a module is held; a class is not, or it would never die.
        self._target = target
        self._arguments: tuple[Any, ...] = ()
        self._assigned: frozenset[str] | None = None
        self._members: dict[str, Member] = {}
        self._profiles = profile_for(cls)
        self._call: Member | None = None
        self.constructs = False
        self._factory: Contract | None = None

    @property
    def spec_class(self) -> type[Any] | None:
        """The class ``isinstance`` sees; None if there is none to see."""
        if not self.restricts_magics or (is_a(self._target, _FUNCTIONS) and not is_a(self._target, FunctionType)):
            return None  # `inspect` would look into what says it is a partial or a method
        return self._class()  # type: ignore[no-any-return]

    @property
    def async_names(self) -> list[str]:
        """The names whose call gives a coroutine, as far as members were looked at."""
        return [name for name, member in self._members.items() if member.shape == "async"]

    @property
    def is_class(self) -> bool:
        """Whether it was made from a class."""
        return self._target is None and self.restricts_magics

    @property
    def is_function(self) -> bool:
        """Whether it describes a function or another object that is only there to be called."""
        return self._target is not None and (is_a(self._target, _FUNCTIONS) or not self.restricts_magics)

    def unknown(self, name: str) -> UnknownMockAttributeError:
        """Return the error for a name that is not in the contract."""
        close = difflib.get_close_matches(name, self.names, 1)
        return UnknownMockAttributeError(self.label, name, close[0] if close else None)

    def learns(self, name: str, *, deep: bool) -> bool:
        """Return whether instances have *name* after all: their methods set it, or answer it when they are asked.

        Args:
            name: the name that was unknown when the contract was made.
            deep: whether it is asked of a result or attribute, of which the user chose nothing.
        """
        cls = self._class()
        if cls is None or not self.restricts_magics or type(self._target) is ModuleType:
            return False
        if self._assigned is None:
            self._assigned = frozenset(_assigned_in(cls))
        if name not in self._assigned and not (
            deep and name[:1] != "_" and self._find("__getattr__")[0] is not _MISSING
        ):
            return False
        self.known |= {name}
        self.names = sorted(self.known)
        return True

    # -- variants of a contract --------------------------------------------------

    def factory(self) -> Contract:
        """Return the contract of the class itself: a call checks the constructor and gives an instance."""
        if self._factory is None:
            self._factory = self._variant()
            self._factory.constructs = True
        return self._factory

    def with_arguments(self, arguments: tuple[Any, ...]) -> Contract:
        """Return the contract of ``Class[arguments]``."""
        found = self._variant()
        found._arguments = arguments
        return found

    def _variant(self) -> Contract:
        found = copy.copy(self)
        found._members, found._call, found._factory = {}, None, None
        return found

    @property
    def instances_callable(self) -> bool:
        """Whether what it describes can be called."""
        return self._find("__call__")[0] is not _MISSING

    # -- members -----------------------------------------------------------------

    def member(self, name: str) -> Member:
        """Return what is promised of *name*, which must be in the contract."""
        member = self._members.get(name)
        if member is None:
            member = self._members[name] = self._look_at(name)
        return member

    @property
    def call(self) -> Member:
        """The contract of a call of the mock itself."""
        if self._call is None:
            self._call = self._look_at_call()
        return self._call

    def _look_at_call(self) -> Member:
        cls = self._class()
        if self.constructs:
            return Member(self.label, "sync", signature_of(cls, skip_first=False))
        if self._target is not None:
            if is_a(self._target, ModuleType) or not callable(self._target):
                return Member(self.label, check=functools.partial(_not_callable, self.label))
            return self._method(self.label, self._target, Callee(self._target))
        if not self.instances_callable:
            return Member(self.label, check=functools.partial(_not_callable, self.label))
        found = self._look_at("__call__")
        return Member(self.label, found.shape, found.signature, variants=found.variants)

    def _look_at(self, name: str) -> Member:
        raw, base = self._find(name)
        callee = Callee() if raw is _MISSING else dissect(raw, base)
        if callee.function is None:
            shape = self._profiled(name)
            return Member(name, shape or "sync", is_value=shape is None)
        if is_class(callee.function):
            return Member(name, is_value=True)
        return self._method(name, raw, callee, base)

    def _method(self, name: str, raw: Any, callee: Callee, base: type[Any] | None = None) -> Member:
        function = callee.function
        shape, annotation = declared(function)
        overloads = overloads_of(function, base, name)
        scope = self._scope(function, base)
        if shape is None:
            shape = after(annotation, scope, None)[0]
        if shape is None and overloads:
            found: set[Shape | None] = {after(declared(each)[1], scope, declared(each)[0])[0] for each in overloads}
            shape = found.pop() if len(found) == 1 else None
        known = self._profiled(name)
        if known is None and shape is None and name[:1] != "_" and is_a(raw, _METHODS):
            known = next((each.otherwise for each in self._profiles if each.otherwise is not None), None)
        variants: tuple[inspect.Signature, ...] = ()
        if overloads and is_dummy(function):
            found_signatures = [signature_of(each, skip_first=callee.skip) for each in overloads]
            variants = tuple(each for each in found_signatures if each is not None)
        chosen: Any = known or shape or "sync"  # a Shape; one checker loses its type, the other knows it
        return Member(
            name, chosen, None if variants else signature_of(function, skip_first=callee.skip),
            variants=variants,
        )  # fmt: skip

    def _profiled(self, name: str) -> Shape | None:
        return next((shape for each in self._profiles if (shape := each.shape(name))), None)

    def _find(self, name: str) -> tuple[Any, type[Any] | None]:
        """Return the raw attribute, and the class it was found in; None: on the object itself."""
        target = self._target
        if target is not None:
            own = own_dict(target)
            if name in own:
                return own[name], None
            if isinstance(target, ModuleType):
                try:
                    return getattr(target, name, _MISSING), None  # a module that makes its names when asked
                except Exception:
                    return _MISSING, None
        cls = self._class()
        for base in () if cls is None else cls.__mro__:
            own = own_dict(base)
            if name in own:
                return own[name], base
        return _MISSING, None

    def _scope(self, function: Any, base: type[Any] | None) -> Scope:
        cls = self._class()
        parameters: Mapping[Any, Any] = {}
        if base is not None and own_dict(base).get("__parameters__"):
            parameters = parameters_of(cls, self._arguments).get(id(base), {})
        return scope_of(function, base, cls, parameters)

    # -- what is below -----------------------------------------------------------

    def content(self, name: str) -> Contract | None:
        """Return what the attributes of the member *name* are; None if anything goes."""
        member = self.member(name)
        raw, base = self._find(name)
        if member.is_value:
            callee = Callee() if raw is _MISSING else dissect(raw, base)
            if is_class(callee.function):
                return contract_for(callee.function).factory()
            found = self._value(name, raw, callee)
            return None if found is NOTHING else found
        if raw is _MISSING:
            return None
        if is_a(raw, staticmethod | classmethod):
            raw = raw.__func__
        if is_a(raw, FunctionType) and not raw.__dict__:
            return _function_contract()
        return _loose(raw)

    def _value(self, name: str, raw: Any, callee: Callee) -> Any:
        if callee.getter is not None:
            annotation = declared(callee.getter)[1]
            return self._meaning(annotation, self._scope(callee.getter, self._find(name)[1]))
        cls = self._class()
        for base in () if cls is None else cls.__mro__:
            annotation = annotations_of(base).get(name, _MISSING)
            if annotation is not _MISSING:
                return self._meaning(annotation, self._scope(base, base))
        if raw is _MISSING or raw is None or is_mock(raw) or has_special(raw, "__set__"):
            return None
        if type(raw).__module__ == "builtins" and type(raw) is not ModuleType:
            return contract_for(type(raw))
        try:
            return contract_for(raw)
        except SpecificationError:
            return None  # a union or a type variable as attribute of a class

    def _meaning(self, annotation: Any, scope: Scope) -> Any:
        return None if annotation is _MISSING else contract_of_type(scope.resolve(annotation), scope)

    def result(self, member: Member, *, deep: bool = True) -> Contract | None:
        """Return what a call of *member* gives, once awaited or entered; None: anything; `NOTHING`: None itself.

        Args:
            member: the member, or `call`.
            deep: whether to follow annotations, too.
        """
        if member.given is not UNKNOWN:
            return member.given if deep else None
        found = self._result(member, deep=deep)
        if deep and (found is None or found is NOTHING):
            member.given = found
        return found

    def _result(self, member: Member, *, deep: bool) -> Contract | None:
        if member is self._call and self.constructs:
            cls = self._class()
            return None if cls is None else _with(contract_for(cls), self._arguments)
        name = "__call__" if member is self._call else member.name
        for profile in self._profiles:
            path = profile.returns.get(name)
            if path is not None:
                found = _imported_class(path)
                return None if found is None else contract_for(found)
        if member is self._call and self._target is not None:
            raw, base = self._target, None
        else:
            raw, base = self._find(name)
        if raw is _MISSING:
            return None
        function = (Callee(raw) if base is None else dissect(raw, base)).function
        if not deep and not is_class(function):
            return None
        return self._result_of(function, base, name)

    def face(self, member: Member) -> Contract | None:
        """Return what the object is that a call of *member* gives to be awaited or entered."""
        raw, base = self._find(member.name)
        function = None if raw is _MISSING else dissect(raw, base).function
        if function is None or is_class(function):
            return None
        scope = self._scope(function, base)
        given = after(declared(function)[1], scope, declared(function)[0])[1]
        found = contract_of_type(given.meaning, scope) if isinstance(given, Awaited) else None
        return None if found is NOTHING else found

    def _result_of(self, function: Any, base: type[Any] | None, name: str) -> Contract | None:
        if function is None:
            return None
        scope = self._scope(function, base)
        if is_class(function):
            return contract_for(function)
        known, annotation = declared(function)
        given = after(annotation, scope, known)[1]
        if given is UNKNOWN:
            variants = overloads_of(function, base, name)
            meanings = {after(declared(each)[1], scope, declared(each)[0])[1] for each in variants}
            given = meanings.pop() if len(meanings) == 1 else UNKNOWN
        if (
            name in ("__enter__", "__aenter__")
            and given is UNKNOWN
            and base in (contextlib.AbstractContextManager, contextlib.AbstractAsyncContextManager)
            and self._arguments
        ):
            given = self._arguments[0]
        if isinstance(given, Awaited):
            inner = contract_of_type(given.meaning, scope)
            return None if inner is None or inner is NOTHING else inner.awaited()
        result: Contract | None = contract_of_type(given, scope)
        return result

    def awaited(self) -> Contract | None:
        """Return what awaiting or entering an object of this awaitable class gives."""
        for name in ("__aenter__", "__await__"):
            if name in self.known:
                raw, base = self._find(name)
                function = dissect(raw, base).function
                scope = self._scope(function, base)
                known, annotation = declared(function)
                meaning = after(annotation, scope, known)[1]
                if name == "__await__":
                    arguments = typing.get_args(meaning)
                    meaning = scope.resolve(arguments[-1]) if len(arguments) == 3 else UNKNOWN
                found: Contract | None = contract_of_type(meaning, scope)
                if found is not None and found is not NOTHING:
                    return found
        return None

    def fact(self, name: str) -> Any:
        """Return what a special attribute such as ``__dataclass_fields__`` is; DEFAULT for what is no plain value."""
        if self.is_function:
            return getattr(self._target, name, DEFAULT)
        raw, base = self._find(name)
        if raw is _MISSING or callable(raw) or (base is not None and hasattr(type(raw), "__get__")):
            return DEFAULT
        return raw

    def enters(self, magic: str, *, deep: bool) -> bool:
        """Whether ``(async) with`` gives the object itself."""
        if any(profile.enters_itself for profile in self._profiles):
            return True
        if not deep:
            return False
        cls = self._class()
        found = self.result(self.member(magic)) if magic in self.known else None
        entered = None if found is None or found is NOTHING else found.spec_class
        return cls is not None and entered is not None and issubclass(cls, entered)


class _CallableContract(Contract):
    """The contract of ``Callable[[...], ...]``."""

    __slots__ = ("_gives",)

    def __init__(self, parameters: Any, given: Any, scope: Scope) -> None:
        super().__init__(FunctionType, None, _FUNCTION_NAMES, "the callable")
        self.restricts_magics = False
        shape, self._gives = after(given, scope, None)
        signature = None
        if isinstance(parameters, list | tuple):
            kind = inspect.Parameter.POSITIONAL_ONLY
            signature = inspect.Signature([inspect.Parameter(f"argument_{n}", kind) for n, _ in enumerate(parameters)])
        self._call = Member("callable", shape or "sync", signature)
        self._gives = contract_of_type(self._gives, scope)

    @property
    def is_class(self) -> bool:
        """Whether it was made from a class."""
        return self._target is None and self.restricts_magics

    @property
    def is_function(self) -> bool:
        return True

    def result(self, member: Member, *, deep: bool = True) -> Contract | None:
        return self._gives if member is self._call and deep else None


_FUNCTIONS: Final = (
    FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial, types.MethodWrapperType,
    types.MethodDescriptorType, type(functools.cache(len)),
)  # fmt: skip
_METHODS: Final = (FunctionType, types.MethodDescriptorType, functools.partialmethod)
_FUNCTION_NAMES: Final = frozenset(name for name in dir(FunctionType) if name not in all_magics and name[:2] != "__")


@functools.cache
def _function_contract() -> Contract:
    """The attributes of every function, all of which a mock of it has."""
    found = Contract(FunctionType, None, _FUNCTION_NAMES, "a function")
    found.restricts_magics = False
    return found


def _loose(subject: Any) -> Contract:
    """Return what the attributes of a function-like object are: ``cache_clear``, a decorator's extras."""
    try:
        names = {name for name in dir(subject) if name[:2] != "__"}
    except Exception:
        names = set()
    found = Contract(type(subject), subject, names, str(getattr(subject, "__name__", type(subject).__name__)))
    found.restricts_magics = False
    return found


def contract_of_type(meaning: Any, scope: Scope) -> Any:
    """Return what an object of the resolved type *meaning* promises; None: anything; `NOTHING`: it is None."""
    if meaning is UNKNOWN or isinstance(meaning, str):
        return None
    if meaning is types.NoneType:
        return NOTHING
    origin = origin_of(meaning)
    arguments = typing.get_args(meaning)
    if origin is type:
        inner = scope.resolve(arguments[0])
        return contract_for(inner).factory() if is_class(inner) else None
    if origin is collections.abc.Callable:
        return _CallableContract(arguments[0], arguments[1], scope) if len(arguments) == 2 else None
    cls = origin or meaning
    if not is_class(cls) or any(cls is each for each in _ANYTHING):
        return None
    return _with(contract_for(cls), tuple(scope.resolve(each) for each in arguments))


_ANYTHING: Final = (object, type, Any, FunctionType, collections.abc.Callable)


def _with(contract: Contract, arguments: tuple[Any, ...]) -> Contract:
    return contract.with_arguments(arguments) if arguments else contract


def _imported_class(path: str) -> type[Any] | None:
    """Return the class at *path* if its module is imported, as it is wherever the client is used."""
    module, _, rest = path.rpartition(".")
    while module and module not in sys.modules:
        module, _, more = module.rpartition(".")
        rest = f"{more}.{rest}"
    found: Any = sys.modules.get(module)
    for name in rest.split("."):
        found = getattr(found, name, None)
    return found if is_class(found) else None


# By id: a metaclass may make its classes unhashable.
_kept: Final[dict[int, Contract]] = {}
_lock = threading.RLock()


def _fields(cls: type[Any]) -> Iterator[str]:
    """Yield the names instances get from their declaration: annotations, dataclass and attrs fields, models."""
    for base in cls.__mro__:
        own = own_dict(base)
        yield from own
        yield from annotations_of(base)
        for holder in ("__dataclass_fields__", "model_fields", "__fields__", "__struct_fields__"):
            found = own.get(holder)
            if isinstance(found, dict | tuple | list):
                yield from (name for name in found if isinstance(name, str))
        yield from (each.name for each in own.get("__attrs_attrs__", ()))


def _assigned_in(cls: type[Any]) -> Iterator[str]:
    """Yield the attributes that methods of *cls* set, as ``self.status = ...`` in its constructor does."""
    for base in cls.__mro__:
        for function in tuple(own_dict(base).values()):
            if is_a(function, FunctionType):
                instructions = dis.get_instructions(inspect.unwrap(function))
                yield from (each.argval for each in instructions if each.opname == "STORE_ATTR")


def _names_of(cls: type[Any]) -> set[str]:
    names = {name for name in _fields(cls) if isinstance(name, str) and name.isidentifier()}
    with contextlib.suppress(Exception):  # a metaclass may answer ``dir`` as it likes
        names.update(dir(cls))
    for base in cls.__mro__:
        for name, field in own_dict(base).get("__dataclass_fields__", {}).items():
            if getattr(getattr(field, "_field_type", None), "name", "") == "_FIELD_INITVAR":
                names.discard(name)  # an argument of the constructor, not an attribute
    return names


def contract_for(spec: Any, attributes: Iterable[str] = ()) -> Contract:
    """Return what *spec* promises: a class (its instances), an object, a function, or a module.

    Args:
        spec: the specification.
        attributes: names instances get at run time only.

    Raises:
        SpecificationError: if *spec* is a mock, a union, or says nothing.
    """
    if is_mock(spec):
        raise SpecificationError(f"{spec!r} is a mock itself and verifies nothing", "Specify by what it stands for.")
    extra = frozenset(attributes)
    if is_class(spec) and spec is not Any:
        with _lock:
            contract = _kept.get(id(spec))
            if contract is None or contract._class() is not spec or contract._profiles != profile_for(spec):
                contract = _kept[id(spec)] = Contract(spec, None, _names_of(spec), spec.__name__)
                contract._class = ref(spec, functools.partial(_forget, id(spec)))
        return Contract(spec, None, contract.known | extra, spec.__name__) if extra else contract
    scope = Scope({})
    meaning = scope.resolve(spec)
    if meaning is not spec or origin_of(spec) is not None:
        return _of_type_form(spec, meaning, scope, extra)
    if spec is Any or type(spec).__module__ in ("typing", "typing_extensions"):
        return _of_type_form(spec, UNKNOWN, scope, extra)
    names = set(extra)
    with contextlib.suppress(Exception):
        names.update(dir(spec))
    if is_a(spec, _FUNCTIONS):
        return Contract(type(spec), spec, names, str(getattr(spec, "__name__", type(spec).__name__)))
    if is_a(spec, ModuleType):
        return Contract(ModuleType, spec, names, spec.__name__)
    cls = type(spec)
    return Contract(cls, spec, names | set(own_dict(spec)) | _names_of(cls), cls.__name__)


def _forget(key: int, dead: Any) -> None:
    contract = _kept.get(key)
    if contract is not None and contract._class is dead:
        del _kept[key]


def _of_type_form(spec: Any, meaning: Any, scope: Scope, extra: frozenset[str]) -> Contract:
    """Return the contract of ``Repo[int]``, ``Annotated[...]``, ``type[C]``, ``Callable[..., T]``."""
    if origin_of(spec) in (typing.Union, types.UnionType):
        first = next((each for each in typing.get_args(spec) if is_class(each) and each is not type(None)), None)
        raise SpecificationError(
            f"{spec} is a union: a mock can stand for one type only",
            f"Choose one of them, for example isolated_mock({first.__name__ if first else '...'}), "
            "or make one mock for each case.",
        )
    found = contract_of_type(meaning, scope)
    if found is None or found is NOTHING:
        raise SpecificationError(
            f"{spec!r} says nothing about names or calls", "Give a class, an object, a function, or leave it out."
        )
    if extra:
        cls = found.spec_class
        return Contract(cls, None, found.known | extra, found.label).with_arguments(found._arguments)
    return found  # type: ignore[no-any-return]
