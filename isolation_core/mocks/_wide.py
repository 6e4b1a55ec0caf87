"""Mocks that outlive a test: what a narrower barrier did to them is undone and reported, like other state.

A mock is wide when it belongs to no barrier, or to one around the test: a
module's global, the value of a session fixture. At each boundary it is
compared, node by node and by identity, with how it was at the last one; a
savepoint is made only when something moved. Savepoints live on the mock, so
that a mock its owner dropped dies with them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from attrs import evolve

from isolation_core.contamination import MISSING, Probe, register_probe
from isolation_core.mocks._levels import Baseline, baseline_of, to_baseline, tree_of
from isolation_core.mocks._light import cut_loose, is_light
from isolation_core.mocks._ownership import place_text
from isolation_core.mocks._poison import is_discarded
from isolation_core.mocks._records import State
from isolation_core.mocks._registry import open_registries, unowned
from isolation_core.mocks._stdlib import DEFAULT, DELETED

__all__ = ["WideMocksProbe"]

# A mock with this many nodes or records is not compared at every boundary.
_LIMIT = 10_000


class _Node(NamedTuple):
    """How one node of the tree was."""

    node: Any
    baseline: Baseline
    calls: tuple[Any, ...]
    awaits: tuple[Any, ...]
    tree: tuple[Any, ...]


class _Savepoint:
    """Stands for one state of one mock; the state itself is kept by the mock."""

    __slots__ = ("__weakref__", "texts")

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts  # by name of a node


class _Root:
    """Key of one wide mock; of which node it tells makes no other key."""

    __slots__ = ("_hash", "mock", "node")

    def __init__(self, mock: Any, node: str = "") -> None:
        self.mock = ref(mock)
        self.node = node
        self._hash = id(mock)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Root) and self._hash == other._hash and self.mock() is other.mock()

    def __hash__(self) -> int:
        return self._hash


def _wide_mocks() -> Iterator[Any]:
    for reference in tuple(unowned):
        mock = reference()
        if mock is not None and not is_discarded(mock):
            yield mock
    for registry in open_registries():
        if registry.opened_in is None or registry.opened_in.scope != "function":
            yield from registry


def _pristine(child: Any) -> bool:
    """Return whether *child* is as it came into being when it was looked at: no call, no configuration."""
    if child is DELETED or not is_light(child) or is_discarded(child):
        return False
    state: State = child._isolation_state
    if state.tree or state.calls or state.effect is not None or state.functions is not None or state.attached:
        return False
    if not (state.value is DEFAULT or _pristine(state.value)) or state.backing is not None:
        return False
    own = child.__dict__
    known = ("_mock_wraps", "_spec_set", "_mock_unsafe")
    if any(state.children.get(name) is not value for name, value in own.items() if name not in known):
        return False
    return all(_pristine(each) for each in state.children.values())


def _unchanged(saved: _Node) -> bool:  # noqa: PLR0911 - the likeliest difference first
    node, base = saved.node, saved.baseline
    if is_discarded(node):
        return True  # by its own barrier, or by hand: there is nothing to go back to
    state: State = node._isolation_state
    for log, before in ((state.calls, saved.calls), (state.awaits, saved.awaits), (state.tree, saved.tree)):
        if len(log) != len(before) or (before and log[-1] is not before[-1]):
            return False
    if type(node) is not base.cls or state.overrides is not None:
        return False
    source = state.source
    if source is not base.source and not (type(source) is list and _same(source, base.source)):
        return False
    if state.value is not base.value and not (base.value is DEFAULT and _pristine(state.value)):
        return False
    if (state.functions or {}) != (base.functions or {}):
        return False
    children, own = state.children, node.__dict__
    if any(children.get(name) is not child for name, child in base.children.items()):
        return False
    if any(name not in base.children and not _pristine(child) for name, child in children.items()):
        return False
    if any(own.get(name, MISSING) is not value for name, value in base.own.items()):
        return False
    return all(name in base.own or children.get(name) is value for name, value in own.items())


def _same(one: Any, other: Any) -> bool:
    return type(other) is list and len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _save(mock: Any) -> tuple[_Savepoint, list[_Node]] | None:
    nodes = [node for node in tree_of(mock) if is_light(node)]
    if len(nodes) + sum(len(node._isolation_state.tree) for node in nodes) > _LIMIT:
        return None
    found, texts = [], {}
    for node in nodes:
        state: State = node._isolation_state
        if state.backing is not None:
            return None  # a service double: it has a state of its own, and a reset of its own
        found.append(_Node(node, baseline_of(node), tuple(state.calls), tuple(state.awaits), tuple(state.tree)))
        words = [f"side_effect={_short(state.source)}"] if state.source is not None else []
        if state.value is not DEFAULT and not is_light(state.value):
            words.append(f"return_value={_short(state.value)}")
        own = node.__dict__.items()
        words += [f"{key}={_short(value)}" for key, value in own if key not in state.children and key[:1] != "_"]
        if state.calls:
            words.append(f"{len(state.calls)} call{'s' if len(state.calls) > 1 else ''}")
        if words:
            texts[node._extract_mock_name()] = ", ".join(words)
    return _Savepoint(texts), found


def _short(value: object) -> str:
    """Name *value* without running code of the user's."""
    text = (
        repr(value) if type(value) in (int, float, bool, str, bytes, type(None)) else f"<{type(value).__name__} object>"
    )
    return text if len(text) <= 60 else text[:57] + "..."


class WideMocksProbe(Probe):
    """Isolated mocks that belong to no barrier or to one wider than a test."""

    kind = "mock"
    code = "MCK004"
    cost = 5.0

    def __init__(self) -> None:
        self._last: dict[Hashable, Any] = {}

    def capture(self) -> Any:
        found: dict[Hashable, Any] = {}
        for mock in _wide_mocks():
            key = _Root(mock)
            saves = mock._isolation_state.saves
            if saves is None:
                saves = mock._isolation_state.saves = WeakKeyDictionary()
            # The one of last time first; after a restore it is an older one.
            known = [self._last[key]] if key in self._last else []
            token = next((each for each in (*known, *saves) if all(map(_unchanged, saves.get(each, ())))), None)
            if token is None:
                saved = _save(mock)
                if saved is None:
                    continue
                token, nodes = saved
                saves[token] = nodes
            found[key] = token
        if found.keys() != self._last.keys() or any(found[key] is not self._last[key] for key in found):
            self._last = found
        return self._last

    def diff(self, before: Any, after: Any) -> Any:
        # What was made, or has died, since is nobody's change.
        for each in super().diff(before, after):
            mock = each.key.mock()  # type: ignore[attr-defined]
            if mock is None or is_discarded(mock) or each.before is MISSING or each.after is MISSING:
                continue
            old, new = each.before.texts, each.after.texts
            moved = [name for name in (*new, *old) if old.get(name) != new.get(name)]
            yield evolve(each, key=_Root(mock, moved[0] if moved else ""))

    def restore(self, key: Hashable, value: Any) -> None:
        mock = key.mock()  # type: ignore[attr-defined]
        if mock is None or is_discarded(mock) or value is MISSING:
            return
        for node, baseline, calls, awaits, tree in mock._isolation_state.saves[value]:
            if is_discarded(node):
                continue
            state: State = node._isolation_state
            if state.home is not None and state.home.pending:
                state.home.account_for(state)
            used = len(state.calls) != len(calls)
            for name, child in tuple(state.children.items()):
                if name not in baseline.children and child is not DELETED:
                    cut_loose(child, node)
            to_baseline(node, state, baseline, rewind=used)
            state.calls[:], state.awaits[:], state.tree[:] = calls, awaits, tree
            state.views = state.overrides = None

    def describe(self, key: Hashable) -> str:
        mock = key.mock()  # type: ignore[attr-defined]
        if mock is None or is_discarded(mock):
            return "an isolated mock"
        name = key.node or mock._extract_mock_name()  # type: ignore[attr-defined]
        return f"{name} (made at {place_text(mock._isolation_state.made_at)})"

    def render(self, key: Hashable, value: Any) -> str:
        node = key.node  # type: ignore[attr-defined]
        return repr(value) if value is MISSING else value.texts.get(node, "unused, not configured")


register_probe(WideMocksProbe())
