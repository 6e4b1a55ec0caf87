"""Deep cleanup of mocks made by `unittest.mock` itself, one node at a time.

What has to be undone, and why ``reset_mock`` does not undo it, is told where
it is done. Everything works on the instance's own dict, because asking a mock
for an attribute makes one.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import Any, Final, NamedTuple
from unittest.mock import MagicMock, NonCallableMagicMock, NonCallableMock, PropertyMock

from isolation_core.mocks._stdlib import (
    DEFAULT,
    CallList,
    MagicProxy,
    SpecState,
    all_magics,
    extract_mock,
    is_mock,
    set_magic_default,
)

__all__ = [
    "Snapshot", "children_of", "clear_delegate", "clear_history", "rewind", "rewind_effect", "sever", "snapshot",
    "strip",
]  # fmt: skip

_HISTORY: Final = frozenset(
    {
        "_mock_called", "_mock_call_args", "_mock_call_count", "_mock_call_args_list", "_mock_mock_calls",
        "method_calls", "_mock_await_count", "_mock_await_args", "_mock_await_args_list", "_mock_event",
        "_mock_calls_events",
    }
)  # fmt: skip

# What the constructor puts there and a mock cannot live without.
_MACHINERY: Final = _HISTORY | {
    "_mock_parent", "_mock_name", "_mock_new_name", "_mock_new_parent", "_mock_sealed", "_spec_class", "_spec_set",
    "_spec_signature", "_mock_methods", "_spec_asyncs", "_mock_children", "_mock_wraps", "_mock_delegate",
    "_mock_unsafe", "_is_coroutine", "__code__", "__name__", "__defaults__", "__kwdefaults__", "__annotations__",
    "_mock_return_value", "_mock_side_effect", "_mock_calls_events_lock", "_mock_wait_timeout",
}  # fmt: skip


class _OrphanProxy(MagicProxy):  # type: ignore[misc]
    """A magic method's placeholder that asks who it is looked up on, instead of holding its mock for ever."""

    def __get__(self, mock: Any, owner: type[Any] | None = None) -> Any:
        if mock is None:
            return self
        made = mock._get_child_mock(name=self.name, _new_name=self.name, _new_parent=mock)
        setattr(mock, self.name, made)
        set_magic_default(mock, made, self.name)
        return made


def children_of(mock: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and mock of everything that hangs on *mock*; ``"()"`` is its return value."""
    own = mock.__dict__
    delegate = own.get("_mock_delegate")
    for name, child in tuple(own.get("_mock_children", {}).items()):
        inner = extract_mock(child)
        if is_mock(inner):
            yield name, inner
    for value in (own.get("_mock_return_value"), getattr(delegate, "return_value", None)):
        inner = extract_mock(value)
        if is_mock(inner):
            yield "()", inner
    for name, value in tuple(type(mock).__dict__.items()):
        if isinstance(value, PropertyMock):
            yield name, value


def clear_history(mock: Any) -> None:
    """Forget all calls and awaits.

    The lists are replaced and the counters written to the dict: from 3.13.12 on
    a counter is derived from its list, and assigning it does nothing.
    """
    own = mock.__dict__
    for name in ("_mock_call_args_list", "_mock_mock_calls", "method_calls", "_mock_await_args_list"):
        if name in own:
            own[name] = CallList()
    for name in ("_mock_call_count", "_mock_await_count"):
        if name in own:
            own[name] = 0
    for name in ("_mock_call_args", "_mock_await_args"):
        if name in own:
            own[name] = None
    if "_mock_called" in own:
        own["_mock_called"] = False
    if "_mock_calls_events" in own:
        # One event for each set of arguments ever seen.
        own["_mock_calls_events"] = []
        own["_mock_event"].clear()
    if own.get("_mock_delegate") is not None:
        clear_delegate(own["_mock_delegate"])


def clear_delegate(delegate: Any) -> None:
    """Forget the calls kept by the function that ``create_autospec`` put in front of a mock."""
    delegate.called, delegate.call_count, delegate.call_args = False, 0, None
    for name in ("call_args_list", "mock_calls", "method_calls"):
        setattr(delegate, name, CallList())
    if hasattr(delegate, "await_count"):
        delegate.await_count, delegate.await_args, delegate.await_args_list = 0, None, CallList()


def rewind_effect(effect: Any) -> None:
    """Release frames and locals of callers that raising *effect* has left in it."""
    if isinstance(effect, BaseException):
        effect.__traceback__ = effect.__context__ = None


class Snapshot(NamedTuple):
    """The configuration of one plain mock."""

    own: dict[str, Any]
    children: dict[str, Any]
    magics: dict[str, Any]
    effect: Any


def _copy_iterator(effect: Any) -> Any:
    """Return a copy of a builtin iterator at the same position; anything else as it is."""
    if type(effect).__module__ != "builtins" or not hasattr(type(effect), "__next__"):
        return effect
    try:
        make, arguments, *rest = effect.__reduce__()
        copy = make(*arguments)
        if rest and rest[0] is not None:
            copy.__setstate__(rest[0])
    except Exception:
        return effect  # a generator: it cannot be copied, it goes on where it is
    return copy


def _own_magics(mock: Any) -> dict[str, Any]:
    """Attributes on the class that only this instance has."""
    return {
        name: value
        for name, value in type(mock).__dict__.items()
        if (name in all_magics or isinstance(value, PropertyMock)) and not isinstance(value, MagicProxy)
    }


def snapshot(mock: Any) -> Snapshot:
    """Remember the configuration of *mock*, without what hangs on it."""
    own = {name: value for name, value in mock.__dict__.items() if name not in _HISTORY}
    return Snapshot(
        own, dict(own.get("_mock_children", {})), _own_magics(mock), _copy_iterator(own.get("_mock_side_effect"))
    )


def rewind(mock: Any, saved: Snapshot) -> None:
    """Bring the configuration of *mock* back to *saved*, in place."""
    own = mock.__dict__
    history = {name: value for name, value in own.items() if name in _HISTORY}
    own.clear()
    own.update(saved.own)
    own.update(history)
    children = own.get("_mock_children")
    if children is not None:
        children.clear()
        children.update(saved.children)
    if "_mock_side_effect" in own:
        own["_mock_side_effect"] = _copy_iterator(saved.effect)
    rewind_effect(own.get("_mock_side_effect"))
    _put_magics(mock, saved.magics)


def _put_magics(mock: Any, magics: dict[str, Any]) -> None:
    cls = type(mock)
    for name in _own_magics(mock):
        if name not in magics:
            delattr(cls, name)
            if name in all_magics:
                type.__setattr__(cls, name, _orphan(name))
    for name, value in magics.items():
        if cls.__dict__.get(name) is not value:
            setattr(cls, name, value)


def _orphan(name: str) -> Any:
    proxy = _OrphanProxy.__new__(_OrphanProxy)
    proxy.name = name
    return proxy


def _free_proxies(mock: Any) -> None:
    """Cut the link from the class's placeholders to the mock: it alone keeps every MagicMock from dying."""
    for proxy in type(mock).__dict__.values():
        if type(proxy) is MagicProxy:
            proxy.__class__ = _OrphanProxy
            proxy.__dict__.pop("parent", None)


def _specified(mock: Any, name: str, child: Any) -> bool:
    """Return whether *child* is part of the specification of *mock*: ``create_autospec`` made it."""
    methods = mock.__dict__.get("_mock_methods")
    if methods is None or (name not in methods and name != "()"):
        return False
    if isinstance(child, SpecState):
        return True
    inner = extract_mock(child)
    if not is_mock(inner) or inner.__dict__.get("_mock_methods") is None:
        return False
    return (
        isinstance(child, FunctionType)
        or "_mock_check_sig" in vars(type(inner))
        or (name == "()" and inner.__dict__.get("_spec_class") is mock.__dict__.get("_spec_class"))
        or (isinstance(inner, NonCallableMagicMock) and not isinstance(inner, MagicMock))
    )


def strip(mock: Any) -> None:
    """Take the whole configuration of *mock* away, except its spec; it stays usable."""
    own = mock.__dict__
    rewind_effect(own.get("_mock_side_effect"))
    children = own.get("_mock_children", {})
    kept = {name: child for name, child in children.items() if _specified(mock, name, child)}
    for name in [name for name in own if name not in _MACHINERY and own[name] is not kept.get(name)]:
        del own[name]
    children.clear()
    children.update(kept)
    value = own.get("_mock_return_value")
    if not _specified(mock, "()", value):
        value = DEFAULT
    own.update(_mock_return_value=value, _mock_side_effect=None, _mock_wraps=None, _mock_sealed=False)
    delegate = own.get("_mock_delegate")
    if delegate is not None:
        delegate.return_value, delegate.side_effect = DEFAULT, None
    _put_magics(mock, {})
    _free_proxies(mock)


def sever(mock: Any) -> None:
    """Cut every link *mock* has, so that it dies with its last reference from outside."""
    own = mock.__dict__
    rewind_effect(own.get("_mock_side_effect"))
    cls = type(mock)
    if issubclass(cls, NonCallableMock) and "__module__" in cls.__dict__:
        _free_proxies(mock)
        for name in _own_magics(mock):
            delattr(cls, name)
    delegate = own.get("_mock_delegate")
    if isinstance(delegate, FunctionType):
        # The function survives in whoever was given it; it must not bring the
        # calls along.
        for name in ("return_value", "side_effect", "call_args", "await_args"):
            if name in delegate.__dict__:
                setattr(delegate, name, None)
        for name in ("call_args_list", "mock_calls", "method_calls", "await_args_list"):
            if name in delegate.__dict__:
                setattr(delegate, name, CallList())
    code = own.get("__code__")
    if isinstance(code, NonCallableMock):
        code.__dict__.clear()
    children = own.get("_mock_children")
    if children is not None:
        children.clear()
    own.clear()
