"""Facets: one mutable side of one object, readable and writable slot by slot.

An object has as many states as it has independent stores: a ``dict`` subclass
with attributes has its items and its ``__dict__``; a class has its namespace.
A state reads its store into a plain snapshot, compares two snapshots by
identity, and restores single slots *in the same object*. It never runs user
code to read: every access goes through the builtin type's own methods or
descriptors, so a ``__getattr__`` that lies or an ``__eq__`` that raises is
never reached.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from operator import is_
from typing import Any, ClassVar, Final

from isolation_core.contamination._cpython import HAS_STORES, HAS_TAGS, tag_of
from isolation_core.contamination._difference import MISSING, Difference, is_same_value

__all__ = [
    "ORDER",
    "WHOLE",
    "DefaultFactoryState",
    "DequeState",
    "DictState",
    "ImmutableState",
    "ListState",
    "ObjectState",
    "OrderedDictState",
    "SetState",
    "key_text",
    "same_items",
]


class _Order:
    """The key under which a mapping's order of keys is logged."""

    def __repr__(self) -> str:
        return "<order of keys>"


ORDER: Final = _Order()
WHOLE: Final = "<items>"
"""The key of a store that is logged and put back in one piece."""


def same_items(before: tuple[Any, ...] | list[Any], after: tuple[Any, ...] | list[Any]) -> bool:
    """Return whether two sequences hold the identical objects in the same order."""
    return len(before) == len(after) and all(map(is_, before, after))


class ObjectState:
    """One store of one object.

    Attributes:
        holder: the object that owns the store.
        saved: the snapshot the graph accepts in.
        path: where the object is, as text that can be pasted into Python.
        kind: word used in reports.
        keyed: the dict whose *keys* must be compared as well: `gc.get_referents`
            does not visit the keys of a dict whose keys are all strings.
    """

    __slots__ = ("holder", "node", "saved")
    kind: ClassVar[str] = "container"
    code: ClassVar[str] = "MOD002"
    hidden: ClassVar[frozenset[Hashable]] = frozenset()
    # Whether the store may come to be another object, so that views of it are void.
    may_move: ClassVar[bool] = False
    # Whether every change of `keyed` moves its version tag; see `_versions`.
    taggable: ClassVar[bool] = True
    # Whether the holder is a list or a set, whose items can be compared where they lie; see `_versions.Store`.
    stored: ClassVar[bool] = False
    # What reads the holder's one flag, where that is all there is to compare.
    reader: ClassVar[Callable[[Any], bool] | None] = None

    def __init__(self, holder: Any) -> None:
        self.holder = holder
        self.node: Any = None
        self.saved: Any = self.read()

    @property
    def targets(self) -> tuple[Any, ...]:
        """The objects whose referents, compared by identity, decide "nothing changed"."""
        return (self.holder,)

    def views(self) -> list[memoryview]:
        """Live views that move whenever the store does, as far as there are any.

        State that they cover need not be compared otherwise: see `rest`.
        """
        keyed = self.keyed
        return [tag_of(keyed)] if HAS_TAGS and keyed is not None and self.taggable else []

    def rest(self) -> tuple[tuple[Any, ...], dict[Any, Any] | None]:
        """The targets and the keys that `views` do not cover."""
        keyed = self.keyed
        if HAS_TAGS and keyed is not None and self.taggable:
            return tuple(target for target in self.targets if target is not keyed), None
        return self.targets, keyed

    @property
    def keyed(self) -> dict[Any, Any] | None:
        """The dict whose keys are part of the state, if any."""
        return None

    def read(self) -> Any:
        """Return a snapshot of the store."""
        raise TypeError(f"{type(self).__name__} has no store")  # pragma: no cover

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        """Yield key and value of everything in *snapshot* that may have state of its own."""
        return enumerate(snapshot)

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        """Yield what moved between two snapshots."""
        if not same_items(before, after):
            yield Difference(WHOLE, before=before, after=after)

    def write(self, key: Hashable, value: Any) -> None:
        """Put *value* back under *key*, in place."""

    def finish(self) -> None:
        """Called once after a batch of `write`, for stores that are put back in one piece."""

    def last_read(self, key: Hashable, otherwise: Any) -> Any:
        """Return the value that *key* had when the store was read last, or *otherwise* if `diff` has every value."""
        return otherwise

    def accessor(self, key: Hashable) -> str:
        """Return the text that leads from the object to the slot *key*."""
        return "" if key is WHOLE else f"[{key!r}]"

    def shown(self, value: Any) -> Any:
        """Return *value* in the shape a reader expects to see."""
        return value

    def agrees(self, one: Any, other: Any) -> bool:
        """Return whether two values of a slot are the same for restoring."""
        if is_same_value(one, other):
            return True
        if type(one) is not tuple or type(other) is not tuple or len(one) != len(other):
            return False
        return all(map(is_same_value, one, other))

    def text(self, key: Hashable, value: Any, *, secret: bool) -> str:
        """Return bounded text of a *value* of *key*; if *secret*, what leads here has the name of a credential."""
        from isolation_core.contamination._rendering import bounded_repr

        return bounded_repr(self.shown(value), secret=secret)

    def rebased(self, value: Any, before: Any, after: Any) -> Any:
        """Return *value* as it would be had only the step from *before* to *after* been made to it."""
        if type(value) is not tuple or type(before) is not tuple or type(after) is not tuple:
            return after
        kept = {id(item) for item in after}
        known = {id(item) for item in before}
        survivors = [item for item in value if id(item) in kept or id(item) not in known]
        return (*survivors, *(item for item in after if id(item) not in known))


class ImmutableState(ObjectState):
    """An object that cannot change but leads to objects that can: tuples, partials, properties."""

    __slots__ = ("_members",)

    def __init__(self, holder: Any, members: Iterable[tuple[str, Any]]) -> None:
        self._members = tuple(members)
        super().__init__(holder)

    @property
    def targets(self) -> tuple[Any, ...]:
        return ()

    def read(self) -> tuple[tuple[str, Any], ...]:
        return self._members

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        members: Iterable[tuple[str, Any]] = snapshot
        return iter(members)

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        return iter(())

    def accessor(self, key: Hashable) -> str:
        return str(key)


class ListState(ObjectState):
    """The items of a ``list`` or of a subclass."""

    __slots__ = ()
    stored = HAS_STORES

    def read(self) -> tuple[Any, ...]:
        return tuple(list.copy(self.holder))

    def write(self, key: Hashable, value: Any) -> None:
        list.__setitem__(self.holder, slice(None), value)

    def shown(self, value: Any) -> Any:
        return list(value) if type(value) is tuple else value


class DequeState(ObjectState):
    """The items of a ``deque``."""

    __slots__ = ()

    def read(self) -> tuple[Any, ...]:
        return tuple(deque.__iter__(self.holder))

    def write(self, key: Hashable, value: Any) -> None:
        deque.clear(self.holder)
        deque.extend(self.holder, value)

    def shown(self, value: Any) -> Any:
        return deque(value) if type(value) is tuple else value


class SetState(ObjectState):
    """The elements of a ``set``; they have no path of their own."""

    __slots__ = ()
    stored = HAS_STORES

    def read(self) -> tuple[Any, ...]:
        return tuple(set.__iter__(self.holder))

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        # Iteration order moves when a set is rebuilt with the same elements.
        if len(before) != len(after) or {*map(id, before)} != {*map(id, after)}:
            yield Difference(WHOLE, before=before, after=after)

    def write(self, key: Hashable, value: Any) -> None:
        # Compare by identity, then touch only what moved: hashing an element
        # runs its __hash__, and elements that stayed should not be asked.
        now = {id(item): item for item in set.__iter__(self.holder)}
        then = {id(item): item for item in value}
        for ident, item in now.items():
            if ident not in then:
                set.discard(self.holder, item)
        for ident, item in then.items():
            if ident not in now:
                set.add(self.holder, item)

    def accessor(self, key: Hashable) -> str:
        return "" if key is WHOLE else f".<element {key}>"

    def agrees(self, one: Any, other: Any) -> bool:
        return {*map(id, one)} == {*map(id, other)}

    def shown(self, value: Any) -> Any:
        return list(value) if type(value) is tuple else value


class DictState(ObjectState):
    """The items of a ``dict``, a ``defaultdict``, a ``Counter`` or any other subclass."""

    __slots__ = ()
    _delete: ClassVar[Callable[..., Any]] = staticmethod(dict.__delitem__)
    _set: ClassVar[Callable[..., Any]] = staticmethod(dict.__setitem__)

    @property
    def keyed(self) -> dict[Any, Any] | None:
        found: dict[Any, Any] = self.holder
        return found

    def read(self) -> dict[Any, Any]:
        return dict.copy(self.holder)

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        return snapshot.items()  # type: ignore[no-any-return]

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        # Keys are looked up by their own hash and equality here; both ran when
        # the key was inserted, and equal keys compare identical first.
        hidden = self.hidden
        gone = False
        for key, value in before.items():
            now = after.get(key, MISSING)
            if now is not value and key not in hidden:
                gone = gone or now is MISSING
                yield Difference(key, before=value, after=now)
        for key, value in after.items():
            if key not in before and key not in hidden:
                yield Difference(key, before=MISSING, after=value)
        if gone or not _keeps_order(before, after):
            yield Difference(ORDER, before=tuple(before), after=tuple(after))

    def write(self, key: Hashable, value: Any) -> None:
        if key is ORDER:
            self._reorder(value)
        elif value is MISSING:
            if dict.__contains__(self.holder, key):
                self._delete(self.holder, key)
        else:
            self._set(self.holder, key, value)

    def _reorder(self, keys: tuple[Any, ...]) -> None:
        """Bring the keys into the order of *keys*; unknown ones go to the end."""
        holder = self.holder
        now = tuple(dict.__iter__(holder))
        wanted = [key for key in keys if dict.__contains__(holder, key)]
        known = set(wanted)
        wanted += [key for key in now if key not in known]
        start = next((i for i, (a, b) in enumerate(zip(now, wanted, strict=False)) if a is not b and a != b), len(now))
        for key in wanted[start:]:
            value = dict.pop(holder, key)
            dict.__setitem__(holder, key, value)

    def accessor(self, key: Hashable) -> str:
        return "" if key is ORDER else f"[{key_text(key)}]"


def _keeps_order(before: dict[Any, Any], after: dict[Any, Any]) -> bool:
    """Return whether the surviving keys of *before* come first and in order in *after*."""
    survivors = iter(after)
    return all(key is now or key == now for key, now in zip(before, survivors, strict=False))


def key_text(key: Hashable) -> str:
    """Return the text of *key* between brackets."""
    from isolation_core.contamination._rendering import bounded_repr

    return bounded_repr(key)


class OrderedDictState(DictState):
    """The items of an ``OrderedDict``, whose order lives outside the dict."""

    __slots__ = ()
    taggable = False
    _delete = staticmethod(OrderedDict.__delitem__)
    _set = staticmethod(OrderedDict.__setitem__)

    def read(self) -> dict[Any, Any]:
        return {key: dict.__getitem__(self.holder, key) for key in OrderedDict.__iter__(self.holder)}

    def _reorder(self, keys: tuple[Any, ...]) -> None:
        known = [key for key in keys if dict.__contains__(self.holder, key)]
        extra = [key for key in OrderedDict.__iter__(self.holder) if key not in set(known)]
        for key in (*known, *extra):
            OrderedDict.move_to_end(self.holder, key)


_DEFAULT_FACTORY: Final = defaultdict.__dict__["default_factory"]


class DefaultFactoryState(ObjectState):
    """The ``default_factory`` of a ``defaultdict``."""

    __slots__ = ()

    def read(self) -> tuple[Any, ...]:
        return (_DEFAULT_FACTORY.__get__(self.holder),)

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        return ()

    def write(self, key: Hashable, value: Any) -> None:
        _DEFAULT_FACTORY.__set__(self.holder, value[0])

    def shown(self, value: Any) -> Any:
        return value[0]

    def accessor(self, key: Hashable) -> str:
        return ".default_factory"
