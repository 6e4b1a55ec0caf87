"""Light mocks: real `unittest.mock.AsyncMock` instances that share a class and keep small records.

Only what must differ from the standard library is here. Assertions, ``seal``,
naming and error messages are inherited; they read the same private names,
which are properties over one `State` object. What is ours on the class is
called ``_isolation_...``, so that every other name is the user's.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import AsyncMock, NonCallableMock

from isolation_core.errors import MockNotCopiableError
from isolation_core.mocks._attributes import (
    FromContract,
    FromState,
    OwnSignature,
    counted,
    in_state,
    in_tree,
    latest,
    listed,
    property_of,
)
from isolation_core.mocks._contract import NOTHING, contract_for
from isolation_core.mocks._magics import SharedType, magic_of, set_type, variant
from isolation_core.mocks._records import State, call_of
from isolation_core.mocks._reset import reset_tree
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

__all__ = ["LightMock", "born", "cut_loose", "define_property", "drop_child", "fulfil", "is_light"]

NO_KINDS: Final[dict[str, Any]] = {}
_ENTERING: Final = ("__aenter__", "__enter__")

# For the type checkers the common part is a mock already; at run time it comes
# before one in the bases of each kind.
_Base: Any = NonCallableMock if TYPE_CHECKING else object


def _dict_of(mock: Any) -> dict[str, Any]:
    return mock.__dict__  # type: ignore[no-any-return]


class LightMock(_Base, metaclass=SharedType):  # type: ignore[misc]
    """The common part of asynchronous and synchronous light mocks."""

    # No annotations here: ``typing.get_type_hints`` of a mock would find them.
    _isolation_own = False
    _isolation_light = True
    _isolation_gives = "sync"  # what a call gives where nothing is known
    _isolation_kinds = NO_KINDS  # shape -> class of a child; filled in by `isolation_core.mocks._kinds`

    # Defaults; an instance that differs has its own entry, under the names the
    # standard library uses.
    _mock_methods = FromContract("names", None)
    _spec_class = FromContract("spec_class", None)
    _spec_set = None
    _spec_signature = FromState("signature")
    _spec_asyncs = FromContract("async_names", ())
    _mock_wraps = None
    _mock_sealed = False
    _mock_unsafe = False
    __signature__ = OwnSignature()

    _mock_name = in_tree("name")
    _mock_new_name = in_tree("new_name")
    _mock_parent = in_tree("parent")
    _mock_new_parent = in_tree("new_parent")
    _mock_children = in_state("children")
    _mock_return_value = in_state("value")
    _mock_side_effect = in_state("effect")

    called = latest("called", "calls", False, lambda _record: True)
    call_count = counted("call_count", "calls")
    call_args = latest("call_args", "calls", None, call_of)
    call_args_list = listed("call_args_list", "calls")
    mock_calls = listed("mock_calls", "tree")
    method_calls = listed("method_calls", "methods")

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(cls if "_isolation_magics" in cls.__dict__ else variant(cls, default_magics))

    def __init__(
        self, spec: Any = None, side_effect: Any = None, return_value: Any = DEFAULT, wraps: Any = None,
        name: str | None = None, spec_set: Any = None, parent: Any = None, _spec_state: Any = None, _new_name: str = "",
        _new_parent: Any = None, _spec_as_instance: bool = False, _eat_self: bool | None = None, unsafe: bool = False,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        state = State()
        object.__setattr__(self, "_isolation_state", state)
        state.name, state.new_name = name, _new_name
        state.parent, state.new_parent = parent, parent if _new_parent is None else _new_parent
        if wraps is not None:
            object.__setattr__(self, "_mock_wraps", wraps)
        if unsafe:
            object.__setattr__(self, "_mock_unsafe", True)
        if spec is not None or spec_set is not None:
            eat_self = parent is not None if _eat_self is None else _eat_self
            # As in the standard library, ``spec_set`` wins when both are given.
            wanted = spec if spec_set is None else spec_set
            self._mock_add_spec(wanted, True if spec_set is not None else None, _spec_as_instance, eat_self)
            _keep_to_names(self)
        if return_value is not DEFAULT:
            state.value = return_value
        if side_effect is not None:
            self.side_effect = side_effect
        if kwargs:
            self.configure_mock(**kwargs)

    # -- specification ---------------------------------------------------------

    def mock_add_spec(self, spec: Any, spec_set: bool = False) -> None:
        """Restrict the mock to the attributes of *spec*, as in `unittest.mock`; a class or object is verified."""
        for name in ("_mock_methods", "_spec_class", "_spec_set", "_spec_asyncs", "_spec_signature"):
            _dict_of(self).pop(name, None)
        if spec is None or type(spec) in (list, tuple):
            self._isolation_state.contract = None
            self._mock_add_spec(spec, True if spec_set else None)
        else:
            fulfil(self, contract_for(spec), callable_too=False)
            if spec_set:
                object.__setattr__(self, "_spec_set", True)
        _keep_to_names(self)

    # -- attributes ------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name == "_isolation_state":
            # Asked before ``__init__``: by a copier, or a debugger.
            raise AttributeError(name)
        state = self._isolation_state
        child = state.children.get(name)
        if child is not None and child is not DELETED:
            return self.__autospecced(name) if isinstance(child, SpecState) else child
        methods, contract = self._mock_methods, state.contract
        known = methods if contract is None or "_mock_methods" in self.__dict__ else contract.known
        special = name[:2] == "__" and name[-2:] == "__"
        if special and name == "__annotations__" and isinstance(self, AsyncMock):
            return None  # as on every AsyncMock
        if special and (known is None or name not in known or name in all_magics):
            raise AttributeError(f"Mock object has no attribute {name!r}" if known is not None else name)
        if (known is None or name not in known) and not (
            contract is not None
            and "_mock_methods" not in self.__dict__
            and contract.learns(name, deep=state.root is None and state.new_parent is not None)
        ):
            if not self._mock_unsafe and not special:
                refuse_misspelled(name)
            if known is not None:
                raise (
                    AttributeError(f"Mock object has no attribute {name!r}")
                    if contract is None
                    else contract.unknown(name)
                )
        if child is DELETED:
            raise AttributeError(name)
        if special and contract is not None:
            fact = contract.fact(name)
            if fact is not DEFAULT:
                return fact
        with child_lock:
            child = state.children.get(name)
            if child is None:
                wrapped = self._mock_wraps
                if wrapped is not None:
                    wrapped = getattr(wrapped, name)
                child = self._get_child_mock(parent=self, name=name, wraps=wrapped, _new_name=name, _new_parent=self)
                state.children[name] = child
                # Found there from now on without asking us.
                _dict_of(self)[name] = child
            return child

    def __autospecced(self, name: str) -> Any:
        # The standard library's error message looks into the dict for the name.
        own = _dict_of(self)
        own["_mock_name"] = self._isolation_state.name
        try:
            return super().__getattr__(name)
        finally:
            del own["_mock_name"]

    def _get_child_mock(self, /, **kw: Any) -> Any:
        new_name = kw.get("_new_name")
        if self._mock_sealed:
            attribute = f".{kw['name']}" if "name" in kw else "()"
            raise AttributeError(self._extract_mock_name() + attribute)
        state, contract = self._isolation_state, self._isolation_state.contract
        shape, member, content = _promise(self, new_name)
        kinds = type(self)._isolation_kinds
        child = born(kinds[shape], kw.get("parent"), kw.get("name"), new_name, kw.get("_new_parent"))
        child_state = child._isolation_state
        child_state.home, child_state.strict, child_state.shallow = state.home, state.strict, state.shallow
        if kw.get("wraps") is not None:
            object.__setattr__(child, "_mock_wraps", kw["wraps"])
        if content is not None:
            fulfil(child, content)
            if new_name == "()" and state.member.shape == "dual" and content.restricts_magics:
                # What a call gives is entered, not what that is: the idiom of mocks configures it there.
                _swap_magics(child, content.magics | {"__aenter__", "__aexit__"})
        elif member is not None and not member.is_value:
            if new_name in all_magics:
                child_state.member, child_state.promised = member, contract
            else:
                member.equip(child_state, contract)
                child_state.contract = contract.content(new_name)
        if self._spec_set and (content is not None or member is not None):
            object.__setattr__(child, "_spec_set", True)
        return child

    def _isolation_magic(self, name: str) -> Any:
        """The magic method of this one mock, if `Magic` found none on the class."""
        state = self._isolation_state
        if state.functions is not None and name in state.functions:
            return partial(state.functions[name], self)
        child = state.children.get(name)
        if child is None or child is DELETED:
            child = self._get_child_mock(name=name, _new_name=name, _new_parent=self)
            state.children[name] = child
            set_magic_default(self, child, name)
            if name in _ENTERING and state.contract is not None and state.contract.enters(name, deep=not state.shallow):
                child._isolation_state.value = self
        return child

    def _isolation_face(self) -> Any:
        """The mock behind an object that is awaited or entered, for everything else it has; None: nothing."""
        state = self._isolation_state
        face = state.children.get("()")
        if face is None and state.member is not None and not state.shallow:
            contract = state.promised.face(state.member)
            if contract is not None:
                face = born(type(self)._isolation_kinds["sync"], None, None, "()", self)
                face._isolation_state.home, face._isolation_state.strict = state.home, state.strict
                fulfil(face, contract)
                state.children["()"] = face
        return face

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in all_magics:
            state = self._isolation_state
            if name in state.children and state.children[name] is not value:
                drop_child(self, name)
            if self._spec_set and state.contract is not None and name not in state.contract.known:
                state.contract.learns(name, deep=False)
            super().__setattr__(name, value)
            return
        methods = self._mock_methods
        if name in unsupported_magics:
            raise AttributeError(f"Attempting to set unsupported magic method {name!r}.")
        if methods is not None and name not in methods:
            raise AttributeError(f"Mock object has no attribute {name!r}")
        state = self._isolation_state
        supported = name in type(self)._isolation_magics
        if self._mock_sealed and not supported:
            raise AttributeError(f"Cannot set {self._extract_mock_name()}.{name}")
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
            _swap_magics(self, type(self)._isolation_magics | {name})
        if type(self).__dict__.get(name, None) not in (None, magic_of(name)):
            # The user wrote to the class of a mock that has its own.
            setattr(type(self), name, magic_of(name))

    def __delattr__(self, name: str) -> None:
        state = self._isolation_state
        if name in all_magics and name in type(self)._isolation_magics:
            state.children.pop(name, None)
            if state.functions is not None:
                state.functions.pop(name, None)
            _swap_magics(self, type(self)._isolation_magics - {name})
            return
        child = state.children.get(name)
        if name in self.__dict__:
            object.__delattr__(self, name)
        elif child is DELETED:
            raise AttributeError(name)
        if child is not None:
            drop_child(self, name)
        state.children[name] = DELETED

    def attach_mock(self, mock: Any, attribute: str) -> None:
        """Attach *mock* as an attribute of this one, as in `unittest.mock`.

        Its calls are recorded here too, but it stays its maker's: the levels of
        this mock leave it alone.
        """
        super().attach_mock(mock, attribute)
        state = self._isolation_state
        if state.attached is None:
            state.attached = set()
        state.attached.add(attribute)

    # -- outcome ---------------------------------------------------------------

    @property
    def return_value(self) -> Any:
        """The result of a call (or of its await); a mock made on demand unless set."""
        state = self._isolation_state
        value = state.value if state.delegate is None else state.delegate.return_value
        if value is DEFAULT and self._mock_wraps is None:
            if state.member is not None and _result_of(state) is NOTHING:
                return None
            value = self._get_child_mock(_new_parent=self, _new_name="()")
            self.return_value = value
        return value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        state = self._isolation_state
        if state.delegate is not None:
            state.delegate.return_value = value
        else:
            state.value = value
            check_and_set_parent(self, value, None, "()")

    @property
    def side_effect(self) -> Any:
        """The function that a call runs, the exception it raises, or the source of its results."""
        state = self._isolation_state
        return state.effect if state.delegate is None else NonCallableMock.side_effect.__get__(self)

    @side_effect.setter
    def side_effect(self, value: Any) -> None:
        state = self._isolation_state
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
        return self._isolation_state.delegate

    @_mock_delegate.setter
    def _mock_delegate(self, value: Any) -> None:
        state = self._isolation_state
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
        reset_tree(self, visited, return_value=return_value, side_effect=side_effect)

    # -- copies ----------------------------------------------------------------

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # A configuration that holds a mock is copied by the code under test;
        # assertions on the original must see the calls made through the copy.
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise MockNotCopiableError(self._extract_mock_name())


def born(cls: type[Any], parent: Any, name: str | None, new_name: str | None, new_parent: Any) -> Any:
    """Make a mock of the kind *cls* without the ceremony of its constructor."""
    mock: Any = cls.__new__(cls)  # type: ignore[call-overload]
    state = State()
    state.name, state.new_name = name, new_name
    state.parent, state.new_parent = parent, new_parent
    object.__setattr__(mock, "_isolation_state", state)
    return mock


def is_light(value: object) -> bool:
    """Return whether *value* is one of our mocks, running none of its code."""
    return getattr(type(value), "_isolation_light", False)


def cut_loose(child: Any, parent: Any) -> None:
    """Cut the links of *child* to *parent*, if they are still those."""
    child = extract_mock(child)
    if not is_mock(child):
        return
    if is_light(child):
        if type(object.__getattribute__(child, "_isolation_state")) is not State:
            return  # discarded
    elif "_mock_new_parent" not in child.__dict__:
        return
    if child._mock_new_parent is parent:
        child._mock_parent = child._mock_new_parent = None


def _promise(mock: Any, name: Any) -> tuple[str, Any, Any]:
    """Return the kind of a child, the member it is, and the contract of a value; ``"()"`` is the return value."""
    state = mock._isolation_state
    contract = state.contract
    if name == "()":
        content = _result_of(state)
        return type(mock)._isolation_gives if content is None else content.call.shape, None, content
    if contract is not None and name in contract.known:
        member = contract.member(name)
        if name in all_magics:
            return "async" if name in async_method_magics else "sync", member, None
        if not member.is_value:
            return member.shape, member, None
        content = contract.content(name)
        if content is not None and state.shallow and not content.constructs:
            content = None
        return "sync" if content is None else content.call.shape, member, content
    if name in async_method_magics or name in mock._spec_asyncs:
        return "async", None, None
    methods = mock._mock_methods
    plain = name in all_sync_magics or (methods and name in methods) or not issubclass(type(mock), AsyncMock)
    return "sync" if plain else "async", None, None


def _result_of(state: State) -> Any:
    """Return the contract of what a call gives; None: anything."""
    return None if state.member is None else state.promised.result(state.member, deep=not state.shallow)


def fulfil(mock: Any, contract: Any, *, callable_too: bool = True) -> None:
    """Make *mock* promise what *contract* says, from now on."""
    state = mock._isolation_state
    state.contract = contract
    if callable_too:
        contract.call.equip(state, contract)
    if contract.restricts_magics:
        _swap_magics(mock, contract.magics)


def _keep_to_names(mock: Any) -> None:
    """Drop the children and magic methods that a new specification does not have."""
    methods = mock._mock_methods
    if methods is not None:
        for name in [name for name in mock._isolation_state.children if name not in methods]:
            drop_child(mock, name)
        _swap_magics(mock, default_magics.intersection(methods))


def _swap_magics(mock: Any, magics: frozenset[str]) -> None:
    """Give this one mock the class that supports exactly *magics*."""
    cls = type(mock)
    if magics == cls._isolation_magics:
        return
    if not cls._isolation_own:
        set_type(mock, variant(cls._isolation_base, magics))
        return
    namespace = {name: value for name, value in cls.__dict__.items() if name not in ("__dict__", "__weakref__")}
    bases = (variant(cls._isolation_base, magics),)
    set_type(mock, SharedType(cls.__name__, bases, namespace | {"_isolation_magics": magics}))


def drop_child(mock: Any, name: str) -> None:
    """Let a child go: it reports to *mock* no longer."""
    child = mock._isolation_state.children.pop(name)
    _dict_of(mock).pop(name, None)
    cut_loose(child, mock)


def define_property(mock: Any, name: str, value: Any = DEFAULT) -> Any:
    """Make *name* a property of this mock alone.

    Args:
        mock: an isolated mock, or one of `unittest.mock`.
        name: the attribute.
        value: a `PropertyMock`, any other descriptor, or the value to answer with.

    Returns:
        The descriptor; a new `PropertyMock` unless one was given.
    """
    cls: Any = type(mock)
    if is_light(mock) and not cls._isolation_own:
        cls = SharedType(cls.__name__, (cls,), {"__slots__": (), "_isolation_own": True, "_isolation_guarded": False})
        set_type(mock, cls)
    mock.__dict__.pop(name, None)
    made = property_of(value)
    setattr(cls, name, made)
    return made
