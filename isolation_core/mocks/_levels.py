"""The four levels, functions for any mock and methods of a registry.

===========  ==================  =======================================  =========================
level        history             configuration                            afterwards
===========  ==================  =======================================  =========================
`clear`      gone                kept, iterators rewound                  usable
`reset`      gone                back to the baseline                     usable
`restore`    gone                gone, except the spec                    usable, an empty double
`discard`    gone                gone, every link cut                     every use raises
===========  ==================  =======================================  =========================

The baseline is the configuration at the end of the builder, or of
`isolated_mock`. A mock attached with ``attach_mock`` belongs to whoever made
it: the levels of its new parent leave it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple

from isolation_core.errors import NotAMockError
from isolation_core.mocks import _plain
from isolation_core.mocks._light import cut_loose, drop_child, is_light
from isolation_core.mocks._magics import set_type, variant
from isolation_core.mocks._ownership import caller
from isolation_core.mocks._poison import Tomb, is_discarded, poison
from isolation_core.mocks._records import TOPOLOGY, State
from isolation_core.mocks._stdlib import DEFAULT, default_magics, extract_mock, is_mock, try_iter

__all__ = [
    "Baseline",
    "Level",
    "baseline_of",
    "clear",
    "deep_cleanup",
    "discard",
    "discard_into",
    "reset",
    "restore",
    "set_baseline",
    "to_baseline",
    "tree_of",
]

Level = Literal["clear", "reset", "restore", "discard"]

# An instance's entries that are its spec, not its configuration.
_SPEC: Final = frozenset(
    {"_mock_methods", "_spec_class", "_spec_set", "_spec_signature", "_spec_asyncs", "_mock_unsafe"}
)


class Baseline(NamedTuple):
    """The configuration of one light mock."""

    cls: type[Any]
    own_class: dict[str, Any] | None
    own: dict[str, Any]
    children: dict[str, Any]
    functions: dict[str, Any] | None
    value: Any
    source: Any
    attached: set[str] | None
    links: tuple[Any, Any, Any, Any]


class _Replay:
    """A one-shot iterator that can be run again from the start: it keeps what it has given away."""

    def __init__(self, taken: list[Any], rest: Iterator[Any]) -> None:
        self._taken = taken
        self._rest = rest
        self._position = 0

    def __iter__(self) -> _Replay:
        return self

    def __next__(self) -> Any:
        if self._position == len(self._taken):
            self._taken.append(next(self._rest))
        self._position += 1
        return self._taken[self._position - 1]

    def rewind(self) -> None:
        self._position = 0


def _mock_in(target: Any) -> Any:
    mock = extract_mock(target)
    if not is_mock(mock):
        raise NotAMockError(type(target).__qualname__)
    return mock


def _owned(mock: Any) -> Iterator[Any]:
    """Yield the mocks that hang on *mock* and are its own."""
    if is_light(mock):
        state: State = mock._isolation_state
        for name, child in state.children.items():
            if state.attached is not None and name in state.attached:
                continue
            # The marker of a deleted name and the like are no mocks.
            inner = child if is_light(child) else extract_mock(child)
            if is_mock(inner):
                yield inner
        if state.value is not DEFAULT:
            value = extract_mock(state.value)
            if is_mock(value) and not is_discarded(value) and value._mock_new_parent is mock:
                yield value
        return
    for _name, child in _plain.children_of(mock):
        yield child


def tree_of(mock: Any) -> list[Any]:
    """Return *mock* and everything below it that is its own, parents first."""
    found = [mock]
    seen = {id(mock)}
    for node in found:
        for child in _owned(node):
            if id(child) not in seen and not is_discarded(child):
                seen.add(id(child))
                found.append(child)
    return found


# -- clear -----------------------------------------------------------------------


def clear(mock: Any) -> None:
    """Forget the calls and awaits of *mock* and of all below it; keep the configuration.

    A ``side_effect`` that gives one result after another starts over, and an
    exception to raise lets go of the frames of earlier raises. A mock that hangs
    on another also disappears from the calls recorded there.

    Args:
        mock: any mock, or a function made by ``create_autospec``.

    Raises:
        NotAMockError: if it is something else.
    """
    mock = _mock_in(mock)
    _forget_above(mock)
    for node in tree_of(mock):
        if is_light(node):
            _forget(node)
            if node._isolation_state.effect is not None:
                _rewind(node._isolation_state)
        else:
            _plain.clear_history(node)
            _plain.rewind_effect(node.__dict__.get("_mock_side_effect"))


def _forget(node: Any) -> None:
    state: State = node._isolation_state
    if state.home is not None and state.home.pending:
        state.home.account_for(state)
    if state.tree or state.calls or state.awaits or state.overrides is not None:
        state.forget()
    if state.delegate is not None:
        _plain.clear_delegate(state.delegate)


def _forget_above(mock: Any) -> None:
    """Take the calls of *mock* out of the records of the mocks it hangs on."""
    if not is_light(mock):
        return
    mine = id(mock._isolation_state.tree)
    parent = mock._mock_new_parent
    while parent is not None:
        if is_light(parent):
            state: State = parent._isolation_state
            state.tree[:] = [record for record in state.tree if type(record) is not tuple or mine not in record[2]]
            state.views = None
        parent = parent._mock_new_parent


def _rewind(state: State) -> None:
    effect, source = state.effect, state.source
    if effect is None:
        return
    _plain.rewind_effect(effect)
    if isinstance(effect, _Replay):
        effect.rewind()
    elif state.consumed is not None:
        state.effect, state.consumed = _Replay(state.consumed, effect), None
    elif effect is not source:
        for item in source if type(source) in (list, tuple) else ():
            _plain.rewind_effect(item)
        state.effect = try_iter(source)


# -- reset -----------------------------------------------------------------------


def set_baseline(mock: Any) -> None:
    """Make the present configuration of *mock* and of all below it the one `reset` goes back to.

    Args:
        mock: any mock. `isolated_mock` and the builders do this at their end.

    Raises:
        NotAMockError: if it is something else.
    """
    for node in tree_of(_mock_in(mock)):
        if is_light(node):
            node._isolation_state.baseline = baseline_of(node)
        else:
            node.__dict__["_isolation_baseline"] = None
            node.__dict__["_isolation_baseline"] = _plain.snapshot(node)


def baseline_of(node: Any) -> Baseline:
    """Return the present configuration of one light mock."""
    state: State = node._isolation_state
    cls, source = type(node), state.source
    return Baseline(
        cls,
        dict(cls.__dict__) if cls._isolation_own else None,
        dict(node.__dict__),
        dict(state.children),
        None if state.functions is None else dict(state.functions),
        state.value,
        # A list the test appends to must not change the baseline.
        list(source) if type(source) is list else source,
        None if state.attached is None else set(state.attached),
        (state.name, state.new_name, state.parent, state.new_parent),
    )


def reset(mock: Any) -> None:
    """Forget the calls of *mock* and bring its configuration back to the baseline.

    Children made since are let go, those deleted or replaced are back, magic
    methods answer by default again (``__aexit__`` is falsy), and so on for all
    below it.

    Args:
        mock: any mock, or a function made by ``create_autospec``.

    Raises:
        NotAMockError: if it is something else.
    """
    mock = _mock_in(mock)
    _forget_above(mock)
    seen: set[int] = set()
    stack = [mock]
    while stack:
        node = stack.pop()
        key = id(node)
        if key in seen or is_discarded(node):
            continue
        seen.add(key)
        if is_light(node):
            state: State = node._isolation_state
            _forget(node)
            to_baseline(node, state, state.baseline)
            if not state.children and (state.value is DEFAULT or not is_mock(extract_mock(state.value))):
                continue
        else:
            _plain_to_baseline(node)
        stack.extend(_owned(node))


def _plain_to_baseline(node: Any) -> None:
    _plain.clear_history(node)
    saved = node.__dict__.get("_isolation_baseline")
    if saved is None:
        _empty_plain(node)
        return
    kept = {id(extract_mock(child)) for child in saved.children.values()}
    for _name, child in _plain.children_of(node):
        if id(child) not in kept and child is not saved.own.get("_mock_return_value"):
            cut_loose(child, node)
    _plain.rewind(node, saved)
    node.__dict__["_isolation_baseline"] = saved


def _empty_plain(node: Any) -> None:
    _plain.clear_history(node)
    before = [child for _, child in _plain.children_of(node)]
    _plain.strip(node)
    kept = {id(child) for _, child in _plain.children_of(node)}
    for child in before:
        if id(child) not in kept:
            cut_loose(child, node)


def to_baseline(node: Any, state: State, saved: Baseline | None, *, rewind: bool = True) -> None:
    """Bring the configuration of one light mock back to *saved*; None: to nothing."""
    if saved is None:
        _empty(node, keep_attached=True)
        return
    # Most nodes are leaves that nobody changed: what is as it was costs a look.
    if state.children or saved.children:
        _children_to_baseline(node, state, saved)
    own = node.__dict__
    if own or saved.own:
        own.clear()
        own.update(saved.own)
        if state.attached is not None:
            own.update((name, state.children[name]) for name in state.attached if name in state.children)
    if state.functions is not None or saved.functions is not None:
        state.functions = None if saved.functions is None else dict(saved.functions)
    if state.value is not saved.value:
        cut_loose(state.value, node)
        state.value = saved.value
    if state.source is not saved.source or type(saved.source) is list:
        state.source = saved.source
        state.effect = try_iter(saved.source)
        state.consumed = None
    if state.effect is not None and rewind:
        _rewind(state)
    if type(node) is not saved.cls:
        set_type(node, saved.cls)
    if saved.own_class is not None:
        _class_to_baseline(saved.cls, saved.own_class)
    name, new_name, parent, new_parent = saved.links
    if state.new_parent is not new_parent or state.parent is not parent or state.new_name != new_name:
        state.parent, state.new_name, state.new_parent = parent, new_name, new_parent
        TOPOLOGY[0] += 1
    state.name = name


def _children_to_baseline(node: Any, state: State, saved: Baseline) -> None:
    attached = {name: state.children[name] for name in state.attached or () if name in state.children}
    for name, child in tuple(state.children.items()):
        if saved.children.get(name) is not child and name not in attached:
            cut_loose(child, node)
    state.children.clear()
    state.children.update(saved.children)
    state.children.update(attached)
    for name, child in saved.children.items():
        # Replaced or deleted by the test, it was cut loose; it is ours again.
        if is_light(child) and name not in attached and child._isolation_state.baseline is not None:
            child_state: State = child._isolation_state
            if child_state.new_parent is not node:
                links = child_state.baseline.links
                child_state.name, child_state.new_name, child_state.parent, child_state.new_parent = links
                TOPOLOGY[0] += 1


def _class_to_baseline(cls: type[Any], saved: dict[str, Any]) -> None:
    for name in [name for name in cls.__dict__ if name not in saved]:
        delattr(cls, name)
    for name, value in saved.items():
        if cls.__dict__.get(name) is not value:
            setattr(cls, name, value)


# -- restore ---------------------------------------------------------------------


def restore(mock: Any) -> None:
    """Forget the calls of *mock* and its whole configuration except the specification; that of autospec, too.

    Its children are released; attached mocks, wrapped objects and the baseline too.

    Args:
        mock: any mock, or a function made by ``create_autospec``.

    Raises:
        NotAMockError: if it is something else.
    """
    mock = _mock_in(mock)
    _forget_above(mock)
    for node in tree_of(mock):
        # Former children, too: whoever still holds one must not pin the rest.
        if is_light(node):
            _forget(node)
            _empty(node, keep_attached=False)
        else:
            _empty_plain(node)


def _empty(node: Any, *, keep_attached: bool) -> None:
    state: State = node._isolation_state
    attached = {name: state.children[name] for name in state.attached or () if name in state.children}
    kept = attached if keep_attached else {}
    for name, child in state.children.items():
        if name not in kept:
            cut_loose(child, node)
    cut_loose(state.value, node)
    _plain.rewind_effect(state.effect)
    state.children.clear()
    state.children.update(kept)
    if not kept:
        state.attached = None
    own = node.__dict__
    if own:
        spec = {name: own[name] for name in _SPEC & own.keys()}
        own.clear()
        own.update(spec)
        own.update(kept)
    state.value, state.effect, state.source, state.consumed = DEFAULT, None, None, None
    state.functions = state.baseline = None
    if state.root is not None:
        state.name, state.new_name, state.parent, state.new_parent = state.root or None, "", None, None
        state.version = 0
    cls = type(node)
    magics = default_magics
    if node._mock_methods is not None:
        magics = default_magics.intersection(node._mock_methods)
    if cls._isolation_own:
        for name in [
            n
            for n in cls.__dict__
            if n[:2] != "__" and n not in ("_isolation_own", "_isolation_guarded", "_isolation_magics")
        ]:
            delattr(cls, name)
    elif cls._isolation_magics != magics:
        set_type(node, variant(cls._isolation_base, magics))


# -- discard ---------------------------------------------------------------------


def discard(mock: Any) -> None:
    """Forget everything, cut every link, and make every later use raise `MockDiscardedError`.

    A light mock then dies with its last reference from outside; of a plain one
    only its class waits for the collector. Discarding twice does nothing.

    Args:
        mock: any mock, or a function made by ``create_autospec``.

    Raises:
        NotAMockError: if it is something else.
    """
    mock = _mock_in(mock)
    if is_discarded(mock):
        return
    home = mock._isolation_state.home if is_light(mock) else None
    if home is not None:
        discard_into(mock, home.tomb_for)
        return
    made_at = caller()
    discard_into(mock, lambda _node, name, place: Tomb(None, name, place or made_at, None, tuple))


def discard_into(mock: Any, tomb_for: Callable[[Any, str, Any], Tomb]) -> None:
    """Discard *mock* and all below it, each with the tomb *tomb_for* gives it."""
    parent = mock._mock_new_parent
    place = mock._isolation_state.made_at if is_light(mock) else None
    # Named on the way down: asking each for its name walks all the way up.
    found = [(mock, mock._extract_mock_name())]
    seen = {id(mock)}
    for node, name in found:
        for child in _owned(node):
            if id(child) not in seen and not is_discarded(child):
                seen.add(id(child))
                own = child._isolation_state.new_name if is_light(child) else child.__dict__.get("_mock_new_name")
                found.append((child, f"{name}()" if own == "()" else f"{name}.{own}"))
    if parent is not None:
        _leave_parent(mock, parent)
    for node, name in reversed(found):
        tomb = tomb_for(node, name, place)
        if is_light(node):
            _forget(node)
            _bury(node, tomb)
        else:
            _plain.sever(node)
        poison(node, tomb)


def _leave_parent(mock: Any, parent: Any) -> None:
    children = parent._mock_children
    for name in [name for name, child in children.items() if extract_mock(child) is mock]:
        if is_light(parent):
            drop_child(parent, name)
        else:
            del children[name]
            parent.__dict__.pop(name, None)
    if is_light(parent) and parent._isolation_state.value is mock:
        parent._isolation_state.value = DEFAULT


def _bury(node: Any, tomb: Tomb) -> None:
    """Empty the state in place: coroutines under way, and records elsewhere, may still hold it."""
    state: State = node._isolation_state
    if state.attached is not None:
        for name in state.attached:
            cut_loose(state.children.get(name), node)
    if state.value is not DEFAULT:
        cut_loose(state.value, node)
        state.value = DEFAULT
    if state.effect is not None:
        _plain.rewind_effect(state.effect)
        for item in state.source if type(state.source) in (list, tuple) else ():
            _plain.rewind_effect(item)
        state.effect = state.source = state.consumed = None
    state.children.clear()
    state.backing = None
    state.functions = state.baseline = state.check = state.contract = None
    state.delegate = state.member = state.promised = None
    state.parent = state.new_parent = None
    state.sinks = state.foreign = ()
    state.tomb = tomb
    node.__dict__.clear()


# -- anything --------------------------------------------------------------------


def deep_cleanup(target: Any, *, level: Level = "restore") -> None:
    """Clean anything `unittest.mock` makes, deeper than ``reset_mock`` goes.

    Args:
        target: a mock of any class, an autospecced function, or a patcher
            (which is stopped if it is active).
        level: how far to go; see the four levels. Reset without a baseline
            (see `set_baseline`) ends where restore does.

    Raises:
        NotAMockError: if *target* is something else.
    """
    stop = getattr(type(target), "stop", None)
    if stop is not None and hasattr(type(target), "start") and not is_mock(target):
        stop(target)
        return
    if is_discarded(target):
        return
    _by_name[level](target)


_by_name: Final[dict[str, Callable[[Any], None]]] = {
    "clear": clear, "reset": reset, "restore": restore, "discard": discard,
}  # fmt: skip
