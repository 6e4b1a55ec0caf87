"""Shared parts of the built-in probes: keyed comparison, ordered lists, module attributes."""

from __future__ import annotations

import contextlib
import sys
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from itertools import repeat
from operator import is_
from types import ModuleType
from typing import Any, Final

from isolation_core._secrets import is_secret_option
from isolation_core.contamination._difference import MISSING, Difference, is_same_value
from isolation_core.contamination._rendering import bounded_repr
from isolation_core.contamination.probes._probe import Guard, Probe
from isolation_core.findings import Severity

__all__ = [
    "ItemKey",
    "KeyedProbe",
    "ListSnapshot",
    "ListsProbe",
    "Order",
    "OrderKey",
    "Placed",
    "SlotsProbe",
    "attempt",
    "find_item",
    "identity_of",
    "insert_item",
    "loaded",
    "remove_item",
    "reorder",
    "same_item",
    "same_items",
]

_ATOMS: Final = frozenset({int, str, bytes, bool, type(None)})


def same_items(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    """Return whether two tuples hold the identical objects, running no user code."""
    return len(before) == len(after) and all(map(is_, before, after))


class KeyedProbe(Probe):
    """A probe that expands its snapshots to keys only once something moved.

    `capture` may return anything that is cheap to compare; `entries` turns it
    into a mapping. `diff` yields every step, so that a step and the step back
    cancel each other whatever happened between; tolerated changes are left out
    when the sum of the steps is judged, by `agrees`.
    """

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        """Return *snapshot* (or the mapping it already is) as keys and values."""
        mapping: Mapping[Hashable, Any] = snapshot
        return mapping

    def unchanged(self, key: Hashable, one: Any, other: Any) -> bool:
        """Return whether *one* and *other* are the same value."""
        return is_same_value(one, other)

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        """Return whether the step from *one* to *other* is harmless and may stay."""
        return False

    def agrees(self, key: Hashable, one: Any, other: Any) -> bool:
        return self.unchanged(key, one, other) or self.tolerates(key, one, other)

    def severity_of(self, key: Hashable, before: Any, after: Any) -> Severity | None:
        """Return what this one difference amounts to, None for the probe's own severity."""
        return None

    def diff(self, before: Any, after: Any) -> Iterable[Difference]:
        older, newer = self.entries(before), self.entries(after)
        for key, was in older.items():
            now = newer.get(key, MISSING)
            if was is not now and not self._passes(key, was, now):
                yield Difference(key, before=was, after=now, severity=self.severity_of(key, was, now))
        for key, now in newer.items():
            if key not in older and now is not MISSING and not self._passes(key, MISSING, now):
                yield Difference(key, before=MISSING, after=now, severity=self.severity_of(key, MISSING, now))

    def _passes(self, key: Hashable, was: Any, now: Any) -> bool:
        # State of one task is compared only once, without steps between.
        return self.unchanged(key, was, now) if self.process_wide else self.agrees(key, was, now)


class SlotsProbe(KeyedProbe):
    """Attributes of one module, read from its namespace at C speed."""

    def __init__(self, module: ModuleType, names: tuple[str, ...]) -> None:
        self._module = module
        self._names = names
        self._paths = tuple(f"{module.__name__}.{name}" for name in names)
        self._get = module.__dict__.get
        self._last: tuple[Any, ...] = ()
        self._guard = Guard(attributes=((module.__dict__, names),))

    def capture(self) -> Any:
        now = tuple(map(self._get, self._names, repeat(MISSING)))
        if not same_items(self._last, now):
            self._last = now
        return self._last

    def guard(self) -> Guard:
        return self._guard

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        return dict(zip(self._paths, snapshot, strict=True)) if type(snapshot) is tuple else snapshot

    def restore(self, key: Hashable, value: Any) -> None:
        name = str(key).rpartition(".")[2]
        if value is not MISSING:
            setattr(self._module, name, value)
        elif name in self._module.__dict__:
            delattr(self._module, name)

    def describe(self, key: Hashable) -> str:
        return str(key)


class ItemKey:
    """One item of one ordered list: equal by identity, builtin atoms and tuples by what they hold."""

    __slots__ = ("index", "item", "ordinal", "slot")

    def __init__(self, slot: Hashable, item: Any, ordinal: int, index: int) -> None:
        self.slot = slot
        self.item = item
        self.ordinal = ordinal
        self.index = index

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ItemKey)
            and self.slot == other.slot
            and self.ordinal == other.ordinal
            and same_item(self.item, other.item)
        )

    def __hash__(self) -> int:
        return hash((self.slot, self.ordinal, identity_of(self.item)))


class OrderKey:
    """The relative order of the items of one list."""

    __slots__ = ("slot",)

    def __init__(self, slot: Hashable) -> None:
        self.slot = slot

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OrderKey) and self.slot == other.slot

    def __hash__(self) -> int:
        return hash((OrderKey, self.slot))


class Placed:
    """An item of a list, with what stood in front of it."""

    __slots__ = ("front", "item")

    def __init__(self, item: Any, front: tuple[Any, ...]) -> None:
        self.item = item
        self.front = front


class Order:
    """The items of a list, in order."""

    __slots__ = ("items",)

    def __init__(self, items: tuple[Any, ...]) -> None:
        self.items = items

    def agrees(self, other: Order) -> bool:
        """Return whether the items both have come in the same order in both."""
        mine, theirs = list(_labels(self.items)), list(_labels(other.items))
        common = set(mine) & set(theirs)
        return [label for label in mine if label in common] == [label for label in theirs if label in common]


class ListSnapshot:
    """A list object and what it held."""

    __slots__ = ("holder", "items")

    def __init__(self, holder: Any, items: tuple[Any, ...]) -> None:
        self.holder = holder
        self.items = items


class ListsProbe(KeyedProbe):
    """Ordered lists in named slots: each rebinding, item and reordering is a difference of its own.

    Values are put back in `finish`, when all of a batch are known: the list
    object first, then the items, then their order.
    """

    def __init__(self) -> None:
        self._pending: dict[Hashable, list[tuple[Hashable, Any]]] = {}

    @abstractmethod
    def read_list(self, slot: Any) -> Any:
        """Return the object in *slot* now."""

    @abstractmethod
    def bind_list(self, slot: Any, holder: list[Any]) -> None:
        """Put *holder* into *slot*."""

    def expand(self, slot: Hashable, state: ListSnapshot) -> Iterator[tuple[Hashable, Any]]:
        """Yield the entries of one list."""
        yield slot, state
        for index, (item, (_, ordinal)) in enumerate(zip(state.items, _labels(state.items), strict=True)):
            yield ItemKey(slot, item, ordinal, index), Placed(item, state.items[:index])
        yield OrderKey(slot), Order(state.items)

    def unchanged(self, key: Hashable, one: Any, other: Any) -> bool:
        if isinstance(one, ListSnapshot) and isinstance(other, ListSnapshot):
            return one.holder is other.holder
        if isinstance(one, Order) and isinstance(other, Order):
            return one.agrees(other)
        if isinstance(key, OrderKey):
            return True
        if isinstance(one, Placed) and isinstance(other, Placed):
            return True
        return is_same_value(one, other)

    def restore(self, key: Hashable, value: Any) -> None:
        slot = key.slot if isinstance(key, (ItemKey, OrderKey)) else key
        self._pending.setdefault(slot, []).append((key, value))

    def finish(self) -> None:
        pending, self._pending = self._pending, {}
        for slot, wishes in pending.items():
            # A list that refuses is found by the verification that follows.
            with contextlib.suppress(Exception):
                self._put_back(slot, wishes)

    def _put_back(self, slot: Hashable, wishes: list[tuple[Hashable, Any]]) -> None:
        for _, value in wishes:
            if isinstance(value, ListSnapshot):
                self.bind_list(slot, value.holder)
                value.holder[:] = value.items
        holder = self.read_list(slot)
        if type(holder) is not list and not isinstance(holder, list):
            holder = list(holder)
            self.bind_list(slot, holder)
        surplus = [key for key, value in wishes if isinstance(key, ItemKey) and value is MISSING]
        # The last first: taking one out renumbers those like it behind it.
        for key in sorted(surplus, key=lambda key: -key.ordinal):
            remove_item(holder, key.item, key.ordinal)
        back = [(key, value) for key, value in wishes if isinstance(value, Placed) and isinstance(key, ItemKey)]
        for key, value in sorted(back, key=lambda wish: len(wish[1].front)):
            if find_item(holder, value.item, key.ordinal) is None:
                insert_item(holder, value)
        if back:
            # Among equal items a neighbour may have been the wrong one; what
            # stood in front of the last of them says how it was.
            last = max((value for _, value in back), key=lambda placed: len(placed.front))
            reorder(holder, (*last.front, last.item))
        for _, value in wishes:
            if isinstance(value, Order):
                reorder(holder, value.items)

    def describe(self, key: Hashable) -> str:
        if isinstance(key, ItemKey):
            return f"{key.slot}[{key.index}]"
        return f"{key.slot} (order)" if isinstance(key, OrderKey) else str(key)

    def render(self, key: Hashable, value: Any) -> str:
        if isinstance(value, Placed):
            # ["--password", "x"]: the value is an argument of its own.
            last = value.front[-1] if value.front else None
            return bounded_repr(value.item, secret=type(last) is str and is_secret_option(last))
        if isinstance(value, ListSnapshot):
            return bounded_repr(list(value.items))
        return bounded_repr(list(value.items)) if isinstance(value, Order) else bounded_repr(value)


def find_item(holder: list[Any], item: Any, ordinal: int = 0) -> int | None:
    """Return the index of the *ordinal*-th occurrence of *item* (by identity, atoms by value)."""
    for index, candidate in enumerate(holder):
        if same_item(candidate, item):
            if not ordinal:
                return index
            ordinal -= 1
    return None


def remove_item(holder: list[Any], item: Any, ordinal: int) -> None:
    """Take the *ordinal*-th occurrence of *item* out of *holder*, if it is there."""
    index = find_item(holder, item, ordinal)
    if index is not None:
        del holder[index]


def insert_item(holder: list[Any], placed: Placed) -> None:
    """Put an item back behind the nearest of its former predecessors that is still there."""
    for neighbour in reversed(placed.front):
        index = find_item(holder, neighbour)
        if index is not None:
            holder.insert(index + 1, placed.item)
            return
    holder.insert(0, placed.item)


def reorder(holder: list[Any], items: tuple[Any, ...]) -> None:
    """Give the items of *holder* that are among *items* the order they have there."""
    rank = {label: position for position, label in enumerate(_labels(items))}
    known = [(index, rank[label], holder[index]) for index, label in enumerate(_labels(holder)) if label in rank]
    ordered = sorted(known, key=lambda place: place[1])
    for (index, _, _), (_, _, item) in zip(known, ordered, strict=True):
        holder[index] = item


def _labels(items: Iterable[Any]) -> Iterator[tuple[Hashable, int]]:
    """Yield identity and ordinal of each item: equal items are distinguished by counting."""
    seen: dict[Hashable, int] = {}
    for item in items:
        identity = identity_of(item)
        seen[identity] = ordinal = seen.get(identity, -1) + 1
        yield identity, ordinal


def identity_of(item: Any) -> Hashable:
    """Return a key that is equal for two items exactly if `same_item` holds for them."""
    kind = type(item)
    if kind is tuple:
        return (kind, tuple(map(identity_of, item)))
    return (kind, item) if kind in _ATOMS else id(item)


def same_item(one: Any, other: Any) -> bool:
    """Return whether two items are the same: identity, equal builtin atoms, or tuples of such."""
    if is_same_value(one, other):
        return True
    if type(one) is not tuple or type(other) is not tuple or len(one) != len(other):
        return False
    return all(map(same_item, one, other))


def loaded(name: str) -> ModuleType | None:
    """Return the module called *name* if it is imported already; never imports it."""
    found = sys.modules.get(name)
    return found if type(found) is ModuleType else None


def attempt(call: Callable[[], Any], *, default: Any = MISSING) -> Any:
    """Return ``call()``, or *default* if it raises."""
    try:
        return call()
    except Exception:
        return default
