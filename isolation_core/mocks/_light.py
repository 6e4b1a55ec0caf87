"""Light mocks: real `unittest.mock.AsyncMock` instances that share a class and keep small records.

Only what must differ from the standard library is here. Assertions, ``seal``,
naming and error messages are inherited; they read the same private names,
which are properties over one `State` object.
"""

from __future__ import annotations

import inspect
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Final
from unittest.mock import AsyncMock, MagicMock, NonCallableMock, PropertyMock

from isolation_core.errors import MockNotCopiableError
from isolation_core.mocks._calls import COROUTINE_MARK, call_async, call_dual, call_iterating, call_sync
from isolation_core.mocks._magics import SharedType, magic_of, set_type, variant
from isolation_core.mocks._records import TOPOLOGY, State, call_of, view
from isolation_core.mocks._plain import clear_delegate
from isolation_core.mocks._stdlib import (
    DEFAULT,
    DELETED,
    SpecState,
    all_magics,
    all_sync_magics,
    async_method_magics,
    check_and_set_parent,
    child_lock,
    default_magics,
    extract_mock,
    is_mock,
    set_magic_default,
    try_iter,
    unsupported_magics,
)
from isolation_core.mocks._typos import refuse_misspelled

if TYPE_CHECKING:
    from types import CodeType

__all__ = ["IsolatedMock", "LightMock", "OwnClassMock", "SyncIsolatedMock", "born", "cut_loose", "is_light"]


async def _signature_of_a_mock(*args: Any, **kwargs: Any) -> None:
    """Lend its code object to every asynchronous mock, for ``inspect.iscoroutinefunction``."""


class _FromContract:
    """Non-data descriptor: the instance's own value wins, then the contract's, then the default."""

    def __init__(self, name: str, default: Any) -> None:
        self.name = name
        self.default = default

    def __get__(self, mock: Any, owner: type[Any] | None = None) -> Any:
        if mock is None:
            return self.default
        contract = mock._i.contract
        return self.default if contract is None else getattr(contract, self.name)


class _Signature:
    def __get__(self, mock: Any, owner: type[Any] | None = None) -> Any:
        signature = None if mock is None else mock._i.signature
        if signature is None:
            raise AttributeError("__signature__")
        return signature() if callable(signature) else signature


def _in_state(name: str) -> Any:
    def get(self: Any) -> Any:
        return getattr(self._i, name)

    def put(self: Any, value: Any) -> None:
        setattr(self._i, name, value)

    return property(get, put)


def _in_tree(name: str) -> Any:
    """Name and parent: changing them makes every route that was made before stale."""

    def get(self: Any) -> Any:
        return getattr(self._i, name)

    def put(self: Any, value: Any) -> None:
        state = self._i
        setattr(state, name, value)
        if state.version or state.children:
            TOPOLOGY[0] += 1

    return property(get, put)


def _count(kind: str, log: str) -> Any:
    def get(self: Any) -> int:
        state = self._i
        if state.delegate is not None:
            return getattr(state.delegate, kind)  # type: ignore[no-any-return]
        length: int = len(getattr(state, log))
        return length if state.overrides is None else length + state.overrides.get(kind, 0)

    def put(self: Any, value: int) -> None:
        state = self._i
        if state.delegate is not None:
            setattr(state.delegate, kind, value)
        else:
            _override(state)[kind] = value - len(getattr(state, log))

    return property(get, put)


def _last(kind: str, log: str, empty: Any, of: Any) -> Any:
    """An attribute that tells of the latest record, unless it was assigned since."""

    def get(self: Any) -> Any:
        state = self._i
        if state.delegate is not None:
            return getattr(state.delegate, kind)
        records = getattr(state, log)
        if state.overrides is not None:
            length, value = state.overrides.get(kind, (-1, None))
            if length == len(records):
                return value
        return of(records[-1]) if records else empty

    def put(self: Any, value: Any) -> None:
        state = self._i
        if state.delegate is not None:
            setattr(state.delegate, kind, value)
        else:
            _override(state)[kind] = len(getattr(state, log)), value

    return property(get, put)


def _list(name: str, kind: str) -> Any:
    def get(self: Any) -> Any:
        state = self._i
        return view(state, kind) if state.delegate is None else getattr(state.delegate, name)

    def put(self: Any, value: Any) -> None:
        state = self._i
        if state.delegate is not None:
            setattr(state.delegate, name, value)
        else:
            view(state, kind)[:] = value

    return property(get, put)


def _override(state: State) -> dict[str, Any]:
    if state.overrides is None:
        state.overrides = {}
    return state.overrides


class LightMock(metaclass=SharedType):
    """What asynchronous and synchronous light mocks have in common."""

    _i: State
    _own: ClassVar[bool] = False
    _magics: ClassVar[frozenset[str]]
    _base: ClassVar[type[Any]]

    # Defaults; an instance that differs has its own entry, under the names the
    # standard library uses.
    _mock_methods: Any = _FromContract("names", None)
    _spec_class: Any = _FromContract("spec_class", None)
    _spec_set: Any = None
    _spec_signature: Any = _FromContract("call_signature", None)
    _spec_asyncs: Any = _FromContract("async_names", ())
    _mock_wraps: Any = None
    _mock_sealed = False
    _mock_unsafe = False
    __signature__: Any = _Signature()

    _mock_name = _in_tree("name")
    _mock_new_name = _in_tree("new_name")
    _mock_parent = _in_tree("parent")
    _mock_new_parent = _in_tree("new_parent")
    _mock_children = _in_state("children")
    _mock_return_value = _in_state("value")
    _mock_side_effect = _in_state("effect")

    called = _last("called", "calls", False, lambda _record: True)
    call_count = _count("call_count", "calls")
    call_args = _last("call_args", "calls", None, call_of)
    call_args_list = _list("call_args_list", "calls")
    mock_calls = _list("mock_calls", "tree")
    method_calls = _list("method_calls", "methods")

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(cls if "_magics" in cls.__dict__ else variant(cls, default_magics))

    def __init__(
        self, spec: Any = None, side_effect: Any = None, return_value: Any = DEFAULT, wraps: Any = None,
        name: str | None = None, spec_set: Any = None, parent: Any = None, _spec_state: Any = None, _new_name: str = "",
        _new_parent: Any = None, _spec_as_instance: bool = False, _eat_self: bool | None = None, unsafe: bool = False,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        state = State()
        object.__setattr__(self, "_i", state)
        state.name, state.new_name = name, _new_name
        state.parent, state.new_parent = parent, parent if _new_parent is None else _new_parent
        if wraps is not None:
            object.__setattr__(self, "_mock_wraps", wraps)
        if unsafe:
            object.__setattr__(self, "_mock_unsafe", True)
        if spec is not None or spec_set is not None:
            eat_self = parent is not None if _eat_self is None else _eat_self
            # As in the standard library, ``spec_set`` wins when both are given.
            self._add_spec(spec if spec_set is None else spec_set, spec_set is not None, _spec_as_instance, eat_self)
        if return_value is not DEFAULT:
            state.value = return_value
        if side_effect is not None:
            self.side_effect = side_effect
        if kwargs:
            self.configure_mock(**kwargs)  # type: ignore[attr-defined]

    # -- specification ---------------------------------------------------------

    def _add_spec(self, spec: Any, spec_set: bool, as_instance: bool = False, eat_self: bool = False) -> None:
        self._mock_add_spec(spec, True if spec_set else None, as_instance, eat_self)  # type: ignore[attr-defined]
        if self._mock_methods is not None:
            self._swap_magics(default_magics.intersection(self._mock_methods))

    def mock_add_spec(self, spec: Any, spec_set: bool = False) -> None:
        """Restrict the mock to the attributes of *spec*, as in `unittest.mock`."""
        self._add_spec(spec, spec_set)

    def _swap_magics(self, magics: frozenset[str]) -> None:
        """Give this one mock the class that supports exactly *magics*."""
        cls = type(self)
        if magics == cls._magics:
            return
        if not cls._own:
            set_type(self, variant(cls._base, magics))
            return
        namespace = {name: value for name, value in cls.__dict__.items() if name not in ("__dict__", "__weakref__")}
        set_type(self, SharedType(cls.__name__, (variant(cls._base, magics),), namespace | {"_magics": magics}))

    def define_property(self, name: str, value: Any = DEFAULT) -> Any:
        """Make *name* a property of this mock alone.

        Args:
            name: the attribute.
            value: a `PropertyMock`, any other descriptor, or the value to answer with.

        Returns:
            The descriptor; a new `PropertyMock` unless one was given.
        """
        if not hasattr(type(value), "__get__"):
            value = PropertyMock() if value is DEFAULT else PropertyMock(return_value=value)
        cls = type(self)
        if not cls._own:
            own = SharedType(cls.__name__, (cls,), {"__slots__": (), "_own": True, "_guarded": False})
            set_type(self, own)
            cls = own
        self.__dict__.pop(name, None)
        setattr(cls, name, value)
        return value

    # -- attributes ------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name == "_i":
            # Asked before ``__init__``: by a copier, or a debugger.
            raise AttributeError(name)
        state = self._i
        child = state.children.get(name)
        if child is None or child is DELETED:
            methods = self._mock_methods
            if methods is not None:
                known = methods if state.contract is None else state.contract.known
                if name not in known or name in all_magics:
                    answer = self._isolation_attribute(name)
                    if answer is not None:
                        return answer
                    if state.contract is not None:
                        raise state.contract.unknown(name)
                    raise AttributeError(f"Mock object has no attribute {name!r}")
            elif name[:2] == "__" and name[-2:] == "__":
                raise AttributeError(name)
            if child is DELETED:
                raise AttributeError(name)
            if methods is None or name not in methods:
                if not self._mock_unsafe:
                    refuse_misspelled(name)
                answer = self._isolation_attribute(name)
                if answer is not None:
                    return answer
            return self._make_child(name)
        if isinstance(child, SpecState):
            return NonCallableMock.__getattr__(self, name)  # type: ignore[arg-type]
        return child

    def _isolation_attribute(self, name: str) -> Any:
        """The four levels, on mocks a user made (not their children), unless the name is a stub or in the spec."""
        if self._i.root is not None and name in _levels_by_name:
            return partial(_levels_by_name[name], self)
        return None

    def _make_child(self, name: str) -> Any:
        with child_lock:
            state = self._i
            child = state.children.get(name)
            if child is None:
                wrapped = self._mock_wraps
                if wrapped is not None:
                    wrapped = getattr(wrapped, name)
                child = self._get_child_mock(
                    parent=self, name=name, wraps=wrapped, _new_name=name, _new_parent=self
                )
                state.children[name] = child
                # Found there from now on without asking us.
                self.__dict__[name] = child
            return child

    def _get_child_mock(self, /, **kw: Any) -> Any:
        new_name = kw.get("_new_name")
        if self._mock_sealed:
            attribute = f".{kw['name']}" if "name" in kw else "()"
            raise AttributeError(self._extract_mock_name() + attribute)  # type: ignore[attr-defined]
        state = self._i
        contract = state.contract
        member = None
        if new_name in async_method_magics:
            cls = self._async_class
        elif contract is not None and new_name in contract.known and new_name not in all_magics:
            member = contract.member(new_name)
            cls = getattr(self, member.kind)
        elif new_name in self._spec_asyncs:
            cls = self._async_class
        elif issubclass(type(self), AsyncMock):
            methods = self._mock_methods
            sync = new_name in all_sync_magics or (methods and new_name in methods)
            cls = self._sync_class if sync else self._async_class
        else:
            cls = self._sync_class
        child = born(cls, kw.get("parent"), kw.get("name"), new_name, kw.get("_new_parent"))
        child_state = child._i
        child_state.home, child_state.strict = state.home, state.strict
        if kw.get("wraps") is not None:
            object.__setattr__(child, "_mock_wraps", kw["wraps"])
        if member is not None:
            member.equip(child_state)
        return child

    def _magic(self, name: str) -> Any:
        """What `Magic` found nothing for on the class: this mock's own magic method."""
        state = self._i
        if state.functions is not None and name in state.functions:
            return partial(state.functions[name], self)
        child = state.children.get(name)
        if child is None or child is DELETED:
            child = self._get_child_mock(name=name, _new_name=name, _new_parent=self)
            state.children[name] = child
            set_magic_default(self, child, name)
        return child

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in all_magics:
            if name in self._i.children and self._i.children[name] is not value:
                self._drop_child(name)
            NonCallableMock.__setattr__(self, name, value)  # type: ignore[arg-type]
            return
        methods = self._mock_methods
        if name in unsupported_magics:
            raise AttributeError(f"Attempting to set unsupported magic method {name!r}.")
        if methods is not None and name not in methods:
            raise AttributeError(f"Mock object has no attribute {name!r}")
        state = self._i
        supported = name in type(self)._magics
        if self._mock_sealed and not supported:
            raise AttributeError(f"Cannot set {self._extract_mock_name()}.{name}")  # type: ignore[attr-defined]
        if is_mock(value):
            check_and_set_parent(self, value, None, name)
            state.children[name] = value
            if state.functions is not None:
                state.functions.pop(name, None)
        else:
            state.children.pop(name, None)
            if state.functions is None:
                state.functions = {}
            state.functions[name] = value
        if not supported:
            self._swap_magics(type(self)._magics | {name})
        if type(self).__dict__.get(name, None) not in (None, magic_of(name)):
            # Somebody wrote to the class of a mock that has its own.
            setattr(type(self), name, magic_of(name))

    def __delattr__(self, name: str) -> None:
        state = self._i
        if name in all_magics and name in type(self)._magics:
            state.children.pop(name, None)
            if state.functions is not None:
                state.functions.pop(name, None)
            self._swap_magics(type(self)._magics - {name})
            return
        child = state.children.get(name)
        if name in self.__dict__:
            object.__delattr__(self, name)
        elif child is DELETED:
            raise AttributeError(name)
        if child is not None:
            self._drop_child(name)
        state.children[name] = DELETED

    def _drop_child(self, name: str) -> None:
        """Let a child go: it reports to this mock no longer."""
        child = self._i.children.pop(name)
        self.__dict__.pop(name, None)
        cut_loose(child, self)

    def attach_mock(self, mock: Any, attribute: str) -> None:
        """Attach *mock* as an attribute of this one, as in `unittest.mock`.

        Its calls are recorded here too, but it stays its maker's: the levels of
        this mock leave it alone.
        """
        NonCallableMock.attach_mock(self, mock, attribute)  # type: ignore[arg-type]
        state = self._i
        if state.attached is None:
            state.attached = set()
        state.attached.add(attribute)

    def configure_mock(self, /, **kwargs: Any) -> None:
        """Set attributes, return values and side effects, as in `unittest.mock`."""
        for name in kwargs:
            first = name.partition(".")[0]
            if first in _levels_by_name and first not in self._i.children and self._mock_methods is None:
                # ``configure_mock(**{"clear.return_value": 1})`` makes it a stub.
                self._make_child(first)
        NonCallableMock.configure_mock(self, **kwargs)  # type: ignore[arg-type]

    # -- outcome ---------------------------------------------------------------

    @property
    def return_value(self) -> Any:
        """What a call (or its await) gives; a mock made on demand unless set."""
        state = self._i
        value = state.value if state.delegate is None else state.delegate.return_value
        if value is DEFAULT and self._mock_wraps is None:
            value = self._get_child_mock(_new_parent=self, _new_name="()")
            self.return_value = value
        return value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        state = self._i
        if state.delegate is not None:
            state.delegate.return_value = value
        else:
            state.value = value
            check_and_set_parent(self, value, None, "()")

    @property
    def side_effect(self) -> Any:
        """What a call runs, raises or takes its next result from."""
        state = self._i
        return state.effect if state.delegate is None else NonCallableMock.side_effect.__get__(self)

    @side_effect.setter
    def side_effect(self, value: Any) -> None:
        state = self._i
        effect = try_iter(value)
        if state.delegate is not None:
            state.delegate.side_effect = effect
            return
        state.source, state.effect = value, effect
        # An iterator cannot be asked for its beginning again: remember what it
        # gives, so that the levels can rewind it.
        state.consumed = [] if effect is value and hasattr(type(effect), "__next__") and not is_mock(effect) else None

    @property
    def _mock_delegate(self) -> Any:
        return self._i.delegate

    @_mock_delegate.setter
    def _mock_delegate(self, value: Any) -> None:
        state = self._i
        state.delegate = value
        state.version = 0

    def reset_mock(
        self, visited: list[int] | None = None, *, return_value: bool = False, side_effect: bool = False
    ) -> None:
        """Forget the calls of this mock and of all below it, as in `unittest.mock`.

        Unlike there, the flags reach mocks below a kept return value, magic
        methods get their defaults back (``__aexit__`` stays falsy), and
        functions made by ``create_autospec`` are no obstacle.
        """
        visited = [] if visited is None else visited
        seen = set(visited)
        stack: list[Any] = [self]
        while stack:
            mock = stack.pop()
            if id(mock) in seen:
                continue
            seen.add(id(mock))
            if not is_light(mock):
                _reset_plain(mock, visited, return_value, side_effect)
                continue
            state = mock._i
            state.forget()
            if state.delegate is not None:
                clear_delegate(state.delegate)
            if state.value is not DEFAULT and is_mock(state.value):
                stack.append(state.value)
            if return_value:
                state.value = DEFAULT
            if side_effect:
                state.effect = state.source = state.consumed = None
            for name, child in state.children.items():
                if child is DELETED or isinstance(child, SpecState):
                    continue
                stack.append(child)
                if name in all_magics and (return_value or side_effect):
                    _restore_magic(mock, child, name, return_value, side_effect, stack, seen)
        visited.extend(seen.difference(visited))

    # -- copies ----------------------------------------------------------------

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # A configuration that holds a mock is copied by the code under test;
        # assertions on the original must see the calls made through the copy.
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise MockNotCopiableError(self._extract_mock_name())  # type: ignore[attr-defined]


def _restore_magic(
    mock: Any, child: Any, name: str, return_value: bool, side_effect: bool, stack: list[Any], seen: set[int]
) -> None:
    """Reset the mock of a magic method now and give it back the answer it is born with."""
    if id(child) in seen or not is_mock(child):
        return
    child.reset_mock([*seen, id(mock)], return_value=return_value, side_effect=side_effect)
    seen.add(id(child))
    set_magic_default(mock, child, name)


def _reset_plain(mock: Any, visited: list[int], return_value: bool, side_effect: bool) -> None:
    if isinstance(mock, FunctionType):
        # The closure ``create_autospec`` puts on a function takes no arguments.
        mock.reset_mock()  # type: ignore[attr-defined]
        mock = extract_mock(mock)
    if is_mock(mock):
        mock.reset_mock(visited, return_value=return_value, side_effect=side_effect)


class IsolatedMock(LightMock, AsyncMock):  # type: ignore[misc]
    """A light `AsyncMock`. Make one with `isolated_mock`."""

    __slots__ = ("_i",)
    __code__: CodeType = _signature_of_a_mock.__code__
    __name__ = "AsyncMock"
    __defaults__ = ()
    __kwdefaults__: ClassVar[dict[str, Any]] = {}
    _is_coroutine = COROUTINE_MARK

    await_count = _count("await_count", "awaits")
    await_args = _last("await_args", "awaits", None, call_of)
    await_args_list = _list("await_args_list", "awaits")

    __call__ = call_async


class SyncIsolatedMock(LightMock, MagicMock):  # type: ignore[misc]
    """A light `MagicMock`: a synchronous member of a specified mock."""

    __slots__ = ("_i",)
    __call__ = call_sync


class _DualMock(IsolatedMock):
    """A method whose result can be awaited and entered, such as ``asyncpg.Pool.acquire``."""

    __slots__ = ()
    __code__ = (lambda *args, **kwargs: None).__code__
    _is_coroutine = None
    __call__ = call_dual


class _IteratingMock(SyncIsolatedMock):
    """An async generator method."""

    __slots__ = ()
    __call__ = call_iterating


class _OwnClass:
    """Mixin: one class per instance, open to assignment, as every mock of the standard library has."""

    __slots__ = ()

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Any:
        shared = cls if "_magics" in cls.__dict__ else variant(cls, default_magics)
        namespace = {"__slots__": (), "__doc__": cls.__doc__, "_own": True, "_guarded": False}
        return object.__new__(SharedType(cls.__name__, (shared,), namespace))

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        # ``create_autospec`` and users put their checker on the class.
        self._mock_check_sig(*args, **kwargs)  # type: ignore[attr-defined]
        return super().__call__(*args, **kwargs)  # type: ignore[misc]


class OwnClassMock(_OwnClass, IsolatedMock):
    """A light `AsyncMock` with a class of its own: ``type(m).name = PropertyMock()`` works."""

    __slots__ = ()


class SyncOwnClassMock(_OwnClass, SyncIsolatedMock):
    """The synchronous kind of `OwnClassMock`."""

    __slots__ = ()


class _OwnDualMock(_OwnClass, _DualMock):
    __slots__ = ()


class _OwnIteratingMock(_OwnClass, _IteratingMock):
    __slots__ = ()


for _cls, _family in (
    (LightMock, (IsolatedMock, SyncIsolatedMock, _DualMock, _IteratingMock)),
    (_OwnClass, (OwnClassMock, SyncOwnClassMock, _OwnDualMock, _OwnIteratingMock)),
):
    for _kind, _member in zip(("_async_class", "_sync_class", "_dual_class", "_iterating_class"), _family, strict=True):
        setattr(_cls, _kind, _member)


def born(cls: type[Any], parent: Any, name: str | None, new_name: str | None, new_parent: Any) -> Any:
    """Make a mock of the kind *cls* without the ceremony of its constructor."""
    mock = cls.__new__(cls)
    state = State()
    state.name, state.new_name = name, new_name
    state.parent, state.new_parent = parent, new_parent
    object.__setattr__(mock, "_i", state)
    return mock


def is_light(value: object) -> bool:
    """Tell whether *value* is one of our mocks, running none of its code."""
    return issubclass(type(value), LightMock)


def cut_loose(child: Any, parent: Any) -> None:
    """Cut the links of *child* to *parent*, if they are still those."""
    child = extract_mock(child)
    if not is_mock(child):
        return
    if is_light(child):
        if type(object.__getattribute__(child, "_i")) is not State:
            return  # discarded
    elif "_mock_new_parent" not in child.__dict__:
        return
    if child._mock_new_parent is parent:
        child._mock_parent = child._mock_new_parent = None


_levels_by_name: Final[dict[str, Any]] = {}


def install_levels(**levels: Any) -> None:
    """Make the functions of the levels available as attributes of the mocks users make."""
    _levels_by_name.update(levels)
