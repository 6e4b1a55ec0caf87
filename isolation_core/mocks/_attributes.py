"""The attributes of a mock, as descriptors over its `State`.

The standard library's methods read and write them under their usual names;
what is behind a name is a list's length, a view made on demand, or the
function that ``create_autospec`` put in front of the mock.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import PropertyMock

from isolation_core.mocks._records import TOPOLOGY, State, view
from isolation_core.mocks._stdlib import DEFAULT

__all__ = [
    "FromContract",
    "FromState",
    "OwnSignature",
    "counted",
    "in_state",
    "in_tree",
    "latest",
    "listed",
    "property_of",
]


class FromContract:
    """Non-data descriptor: the instance's own value wins, then the contract's, then the default."""

    def __init__(self, name: str, default: Any) -> None:
        self.name = name
        self.default = default

    def __get__(self, mock: Any, owner: type[Any] | None = None) -> Any:
        if mock is None:
            return self.default
        contract = mock._isolation_state.contract
        return self.default if contract is None else getattr(contract, self.name)


class FromState:
    """Non-data descriptor: the instance's own value wins, then the one in its state."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, mock: Any, owner: type[Any] | None = None) -> Any:
        return None if mock is None else getattr(mock._isolation_state, self.name)


class OwnSignature:
    """``__signature__``, for mocks that verify their calls; absent on the others, and on classes."""

    def __get__(self, mock: Any, owner: type[Any] | None = None) -> Any:
        signature = None if mock is None else mock._isolation_state.signature
        if signature is None:
            raise AttributeError("__signature__")
        return signature


def in_state(name: str) -> Any:
    """A property over the slot *name* of the state."""

    def get(self: Any) -> Any:
        return getattr(self._isolation_state, name)

    def put(self: Any, value: Any) -> None:
        setattr(self._isolation_state, name, value)

    return property(get, put)


def in_tree(name: str) -> Any:
    """A property for name or parent: changing them makes every route that was made before stale."""

    def get(self: Any) -> Any:
        return getattr(self._isolation_state, name)

    def put(self: Any, value: Any) -> None:
        state = self._isolation_state
        setattr(state, name, value)
        if state.version or state.children:
            TOPOLOGY[0] += 1

    return property(get, put)


def counted(kind: str, log: str) -> Any:
    """A counter that is the length of a log; assigning it shifts it, and later calls count on from there."""

    def get(self: Any) -> int:
        state = self._isolation_state
        if state.delegate is not None:
            return getattr(state.delegate, kind)  # type: ignore[no-any-return]
        length: int = len(getattr(state, log))
        return length if state.overrides is None else length + state.overrides.get(kind, 0)

    def put(self: Any, value: int) -> None:
        state = self._isolation_state
        if state.delegate is not None:
            setattr(state.delegate, kind, value)
        else:
            _override(state)[kind] = value - len(getattr(state, log))

    return property(get, put)


def latest(kind: str, log: str, empty: Any, of: Any) -> Any:
    """An attribute with the value of the latest record, unless it was assigned since."""

    def get(self: Any) -> Any:
        state = self._isolation_state
        if state.delegate is not None:
            return getattr(state.delegate, kind)
        records = getattr(state, log)
        if state.overrides is not None:
            length, value = state.overrides.get(kind, (-1, None))
            if length == len(records):
                return value
        return of(records[-1]) if records else empty

    def put(self: Any, value: Any) -> None:
        state = self._isolation_state
        if state.delegate is not None:
            setattr(state.delegate, kind, value)
        else:
            _override(state)[kind] = len(getattr(state, log)), value

    return property(get, put)


def listed(name: str, kind: str) -> Any:
    """A list of ``call`` objects, made when looked at."""

    def get(self: Any) -> Any:
        state = self._isolation_state
        return view(state, kind) if state.delegate is None else getattr(state.delegate, name)

    def put(self: Any, value: Any) -> None:
        state = self._isolation_state
        if state.delegate is not None:
            setattr(state.delegate, name, value)
        else:
            view(state, kind)[:] = value

    return property(get, put)


def _override(state: State) -> dict[str, Any]:
    if state.overrides is None:
        state.overrides = {}
    return state.overrides


def property_of(value: Any) -> Any:
    """Return *value* if it is a descriptor, else a `PropertyMock` that gives it."""
    if hasattr(type(value), "__get__"):
        return value
    return PropertyMock() if value is DEFAULT else PropertyMock(return_value=value)
