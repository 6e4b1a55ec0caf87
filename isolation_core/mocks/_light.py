"""Light mocks: real `unittest.mock.AsyncMock` instances that share a class and keep small records.

Only what must differ from the standard library is here. Assertions, ``seal``,
naming and error messages are inherited; they read the same private names,
which are properties over one `State` object.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final
from unittest.mock import AsyncMock, NonCallableMock

from isolation_core.errors import MockNotCopiableError
from isolation_core.mocks._attributes import (
    FromContract,
    FromState,
    OwnSignature,
    counted,
    define_property,
    in_state,
    in_tree,
    latest,
    listed,
)
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

__all__ = ["LightMock", "born", "cut_loose", "install_levels", "is_light", "levels_by_name"]


# For the type checkers the common part is a mock already; at run time it comes
# before one in the bases of each kind.
_Base: Any = NonCallableMock if TYPE_CHECKING else object


def _dict_of(mock: Any) -> dict[str, Any]:
    return mock.__dict__  # type: ignore[no-any-return]


class LightMock(_Base, metaclass=SharedType):  # type: ignore[misc]
    """What asynchronous and synchronous light mocks have in common."""

    _i: State
    _own: ClassVar[bool] = False
    _is_light: ClassVar[bool] = True
    _magics: ClassVar[frozenset[str]]
    _base: ClassVar[type[Any]]

    # The classes of children, by what a call gives; see `isolation_core.mocks._kinds`.
    _async_class: ClassVar[type[Any]]
    _sync_class: ClassVar[type[Any]]

    # Defaults; an instance that differs has its own entry, under the names the
    # standard library uses.
    _mock_methods: Any = FromContract("names", None)
    _spec_class: Any = FromContract("spec_class", None)
    _spec_set: Any = None
    _spec_signature: Any = FromState("signature")
    _spec_asyncs: Any = FromContract("async_names", ())
    _mock_wraps: Any = None
    _mock_sealed = False
    _mock_unsafe = False
    __signature__: Any = OwnSignature()

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
            self.configure_mock(**kwargs)

    # -- specification ---------------------------------------------------------

    def _add_spec(self, spec: Any, spec_set: bool, as_instance: bool = False, eat_self: bool = False) -> None:
        self._mock_add_spec(spec, True if spec_set else None, as_instance, eat_self)
        methods = self._mock_methods
        if methods is not None:
            for name in [name for name in self._i.children if name not in methods]:
                self._drop_child(name)
            self._swap_magics(default_magics.intersection(methods))

    def mock_add_spec(self, spec: Any, spec_set: bool = False) -> None:
        """Restrict the mock to the attributes of *spec*, as in `unittest.mock`."""
        self._add_spec(spec, spec_set)

    def fulfil(self, contract: Any) -> None:
        """Promise what *contract* says, from now on."""
        self._i.contract = contract
        contract.equip_root(self._i)
        self._swap_magics(contract.magics)

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
        cls: Any = type(self)
        if not cls._own:
            own = SharedType(cls.__name__, (cls,), {"__slots__": (), "_own": True, "_guarded": False})
            set_type(self, own)
            cls = own
        _dict_of(self).pop(name, None)
        return define_property(cls, name, value)

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
            return self._autospecced_child(name)
        return child

    def _autospecced_child(self, name: str) -> Any:
        # The standard library's error message looks into the dict for the name.
        own = _dict_of(self)
        own["_mock_name"] = self._i.name
        try:
            return super().__getattr__(name)
        finally:
            del own["_mock_name"]

    def _isolation_attribute(self, name: str) -> Any:
        """The four levels, on mocks a user made (not their children), unless the name is a stub or in the spec."""
        if self._i.root is not None and name in levels_by_name:
            return partial(levels_by_name[name], self)
        return None

    def _make_child(self, name: str) -> Any:
        with child_lock:
            state = self._i
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

    def _get_child_mock(self, /, **kw: Any) -> Any:
        new_name = kw.get("_new_name")
        if self._mock_sealed:
            attribute = f".{kw['name']}" if "name" in kw else "()"
            raise AttributeError(self._extract_mock_name() + attribute)
        state = self._i
        contract = state.contract
        member = None
        result = None
        if new_name in async_method_magics:
            cls = self._async_class
        elif contract is not None and new_name in contract.known and new_name not in all_magics:
            member = contract.member(new_name)
            cls = getattr(self, member.kind)
        elif new_name in self._spec_asyncs or (
            new_name == "()" and state.member is not None and (result := state.member.contract_of_result())
        ):
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
        if result is not None:
            child.fulfil(result)
            if state.member is not None and state.member.shape == "dual":
                # What a call gives is entered, not what that is: the idiom of mocks configures it there.
                child._swap_magics(result.magics | {"__aenter__", "__aexit__"})
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
            contract = state.contract
            if contract is not None and name in ("__aenter__", "__enter__") and contract.enters_itself:
                child._i.value = self
        return child

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in all_magics:
            if name in self._i.children and self._i.children[name] is not value:
                self._drop_child(name)
            super().__setattr__(name, value)
            return
        methods = self._mock_methods
        if name in unsupported_magics:
            raise AttributeError(f"Attempting to set unsupported magic method {name!r}.")
        if methods is not None and name not in methods:
            raise AttributeError(f"Mock object has no attribute {name!r}")
        state = self._i
        supported = name in type(self)._magics
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
        _dict_of(self).pop(name, None)
        cut_loose(child, self)

    def attach_mock(self, mock: Any, attribute: str) -> None:
        """Attach *mock* as an attribute of this one, as in `unittest.mock`.

        Its calls are recorded here too, but it stays its maker's: the levels of
        this mock leave it alone.
        """
        super().attach_mock(mock, attribute)
        state = self._i
        if state.attached is None:
            state.attached = set()
        state.attached.add(attribute)

    def configure_mock(self, /, **kwargs: Any) -> None:
        """Set attributes, return values and side effects, as in `unittest.mock`."""
        for name in kwargs:
            first = name.partition(".")[0]
            if first in levels_by_name and first not in self._i.children and self._mock_methods is None:
                # ``configure_mock(**{"clear.return_value": 1})`` makes it a stub.
                self._make_child(first)
        super().configure_mock(**kwargs)

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
    object.__setattr__(mock, "_i", state)
    return mock


def is_light(value: object) -> bool:
    """Tell whether *value* is one of our mocks, running none of its code."""
    return getattr(type(value), "_is_light", False)


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


levels_by_name: Final[dict[str, Any]] = {}


def install_levels(**levels: Any) -> None:
    """Make the functions of the levels available as attributes of the mocks users make."""
    levels_by_name.update(levels)
