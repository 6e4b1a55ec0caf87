"""The calls of a light mock: one small record each, every public view built on demand.

A call makes one ``(args, kwargs, labels)`` tuple. The mock and all its
ancestors keep that same tuple, so depth costs eight bytes a level instead of a
copy. ``labels`` says under which name each ancestor knows the call; it is
worked out once per mock and shared by all its records, and it stays right for
old records when the mock is attached elsewhere later.

Counts are lengths of lists, and appending to a list is atomic: nothing is lost
when threads call one mock together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from isolation_core.mocks._stdlib import DEFAULT, Call, CallList, child_lock

__all__ = ["TOPOLOGY", "CallView", "Labels", "Record", "State", "call_of", "refresh", "view"]

Labels = dict[int, tuple[str, str | None]]
"""Ancestor's tree, by id -> name in its ``mock_calls``, and in its ``method_calls`` if it goes there."""

Record = tuple[tuple[Any, ...], dict[str, Any], Labels]

TOPOLOGY: Final[list[int]] = [1]
"""Raised when a mock that may have been called changes its name or its parent: routes made before are stale."""


class State:
    """Everything one light mock knows; its only instance attribute beside what users set."""

    __slots__ = (
        "attached", "awaits", "backing", "baseline", "calls", "check", "children", "consumed", "contract", "delegate",
        "effect", "foreign", "functions", "holds", "home", "labels", "lost", "made_at", "member", "name", "new_name",
        "new_parent", "overrides", "parent", "promised", "root", "saves", "shallow", "signature", "sinks", "source",
        "strict", "tomb", "tree", "value", "version", "views",
    )  # fmt: skip

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.awaits: list[Any] = []
        self.tree: list[Any] = []
        self.children: dict[str, Any] = {}
        # The route: stale until the first call works it out.
        self.version = 0
        self.labels: Labels = {}
        self.sinks: tuple[list[Any], ...] = ()
        self.foreign: tuple[tuple[Any, str, str | None], ...] = ()
        # Place in the tree, under the names the standard library uses.
        self.name: str | None = None
        self.new_name: str | None = ""
        self.parent: Any = None
        self.new_parent: Any = None
        # Configuration. ``effect`` is what runs, ``source`` what it was made
        # from, ``consumed`` what a one-shot iterator has already given away.
        self.value: Any = DEFAULT
        self.effect: Any = None
        self.source: Any = None
        self.consumed: list[Any] | None = None
        self.delegate: Any = None
        self.functions: dict[str, Any] | None = None  # magic methods set as functions
        # Verification.
        self.contract: Any = None  # what attributes promise
        self.check: Any = None
        self.signature: Any = None
        self.member: Any = None  # what a call promises, as a member of ``promised``
        self.promised: Any = None
        self.shallow = False  # whether attributes and results are left unverified
        # Ownership.
        self.home: Any = None
        self.made_at: Any = None
        self.holds: Any = None  # mocks this one was built on, so that they live as long
        self.root: str | None = None  # the name it was made with, if a user made it
        self.tomb: Any = None
        self.strict = False
        self.baseline: Any = None
        self.saves: Any = None  # savepoints, while it outlives barriers; see `_wide`
        self.backing: Any = None  # behaviour of a service double; see `_backing`
        self.attached: set[str] | None = None
        # Coroutines that died without being awaited before a clean-up wiped
        # their calls, so that they can still be told at the end.
        self.lost = 0
        self.views: dict[str, CallView] | None = None
        self.overrides: dict[str, Any] | None = None

    def forget(self) -> None:
        """Drop the history in place: ancestors' routes keep pointing at these very lists."""
        self.calls.clear()
        self.awaits.clear()
        self.tree.clear()
        self.views = self.overrides = None


def call_of(record: Any) -> Any:
    """Return *record* as the two-tuple ``call`` object of ``call_args`` and ``call_args_list``."""
    return Call((record[0], record[1]), two=True) if type(record) is tuple else record


class _MethodMark:
    """A call of a plain mock below us that belongs in ``method_calls`` only."""

    __slots__ = ("call",)

    def __init__(self, call: Any) -> None:
        self.call = call


class CallView(CallList):  # type: ignore[misc]
    """A list of ``call`` objects; changing it changes what the mock remembers."""

    _state: State
    _kind: str
    _length: int  # of the log this view was made from

    def _write_back(self) -> None:
        state, kind = self._state, self._kind
        if kind == "calls":
            state.calls[:] = self
        elif kind == "awaits":
            state.awaits[:] = self
        else:
            other = view(state, "methods" if kind == "tree" else "tree")
            methods, tree = (other, self) if kind == "tree" else (self, other)
            state.tree[:] = [*map(_MethodMark, methods), *tree]
        self._length = len(state.calls if kind == "calls" else state.awaits if kind == "awaits" else state.tree)
        state.views = {kind: self}

    def append(self, value: Any, /) -> None:
        """Add *value*; this is also how a plain mock below a light one reports its calls."""
        list.append(self, value)
        state, kind = self._state, self._kind
        target = {"calls": state.calls, "awaits": state.awaits}.get(kind, state.tree)
        target.append(_MethodMark(value) if kind == "methods" else value)
        self._length += 1


def _writing(name: str) -> Any:
    change = getattr(list, name)

    def method(self: CallView, /, *args: Any, **kwargs: Any) -> Any:
        result = change(self, *args, **kwargs)
        self._write_back()
        return result

    method.__name__ = name
    return method


for _name in (
    "__delitem__", "__iadd__", "__imul__", "__setitem__", "clear", "extend", "insert", "pop", "remove", "reverse",
    "sort",
):  # fmt: skip
    setattr(CallView, _name, _writing(_name))


def _entries(state: State, kind: str, records: list[Any]) -> Iterable[Any]:
    if kind in ("calls", "awaits"):
        return map(call_of, records)
    column = 0 if kind == "tree" else 1
    here = id(state.tree)
    found = []
    for record in records:
        if type(record) is tuple:
            name = record[2][here][column]
            if name is not None:
                found.append(Call((name, record[0], record[1])))
        elif type(record) is _MethodMark:
            if kind == "methods":
                found.append(record.call)
        elif kind == "tree":
            found.append(record)
    return found


def view(state: State, kind: str) -> CallView:
    """Return the list of ``calls``, ``awaits``, ``tree`` (``mock_calls``) or ``methods``; it grows with what is new."""
    source = {"calls": state.calls, "awaits": state.awaits}.get(kind, state.tree)
    known = state.views.get(kind) if state.views is not None else None
    if known is None or known._length != len(source):
        with child_lock:
            views = state.views = {} if state.views is None else state.views
            known = views.get(kind)
            length = len(source)
            if known is None or known._length > length:
                known = views[kind] = CallView()
                known._state, known._kind, known._length = state, kind, 0
            list.extend(known, _entries(state, kind, source[known._length : length]))
            known._length = length
    return known


def refresh(state: State) -> bool:
    """Work out where the calls of a mock are reported; True when only the slow way of recording will do.

    The names are those ``unittest.mock`` would give: ``mock_calls`` of an
    ancestor spells the whole path, ``method_calls`` only goes as far up as
    every mock on the way is an attribute of the next.
    """
    labels: dict[int, tuple[Any, str | None]] = {id(state.tree): ("", None)}
    sinks = [state.tree]
    foreign: list[tuple[Any, Any, str | None]] = []
    is_method = state.parent is not None
    method_name: str | None = state.name
    call_name = state.new_name
    is_a_call = call_name == "()"
    parent = state.new_parent
    while parent is not None:
        label = (call_name, method_name if is_method else None)
        if is_method:
            is_method = parent._mock_parent is not None
            if is_method:
                method_name = f"{parent._mock_name}.{method_name}"
        above = getattr(type(parent), "_isolation_state", None) and parent._isolation_state
        if above:
            labels[id(above.tree)] = label
            sinks.append(above.tree)
        else:
            foreign.append((parent, *label))
        if parent._mock_new_name:
            dot = "" if is_a_call else "."
            is_a_call = parent._mock_new_name == "()"
            call_name = f"{parent._mock_new_name}{dot}{call_name}"
        parent = parent._mock_new_parent
    state.labels, state.sinks, state.foreign = labels, tuple(sinks), tuple(foreign)
    if foreign or state.delegate is not None:
        # A plain mock among the ancestors may be renamed without our noticing:
        # never trust this route a second time.
        state.version = 0
        return True
    state.version = TOPOLOGY[0]
    return False
