"""Parts: one store of a library, read into a flat table and written back key by key.

A key is a tuple: the steps from the store to one value, such as ``("before_request_funcs", None, WHOLE)``
for the items of a list in a dict in an attribute. Reading runs no code of the values: attributes come from
the namespaces of their holders, items through the methods of the builtin containers, and values are compared
by identity.
"""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from operator import is_
from threading import get_ident
from types import ModuleType
from typing import Any, ClassVar, Final

from isolation_core.contamination._difference import MISSING, is_same_value
from isolation_core.contamination._rendering import bounded_repr
from isolation_core.contamination.probes._probe import Guard

__all__ = ["WHOLE", "Attributes", "Content", "Key", "Part", "Value", "namespace_of", "same_value"]

Key = tuple[Hashable, ...]
"""The steps from a store to one of its values."""


class _Whole:
    """The last step of the key of a list or set, which is read and written in one piece."""

    def __repr__(self) -> str:
        return "<items>"


WHOLE: Final = _Whole()

_LISTS: Final = (list, deque)
_CONTAINERS: Final = (dict, list, set, deque)


class Part(ABC):
    """One store of a library.

    Args:
        label: text that leads to it, pasteable into Python.

    Attributes:
        leads: whether its values are objects to look into, not copies.
    """

    leads: ClassVar[bool] = False

    def __init__(self, label: str) -> None:
        self.label = label

    @abstractmethod
    def read(self) -> dict[Key, Any]:
        """Return what is there now, by key."""

    @abstractmethod
    def put(self, values: Mapping[Key, Any]) -> None:
        """Give each key its value again; `MISSING` means: remove it.

        Raises:
            Exception: anything; the whole unit is then taken back to what it was before the call.
        """

    def earlier(self, older: dict[Key, Any], newer: dict[Key, Any]) -> dict[Key, Any]:
        """Return what *newer* is compared with: *older*, unless the store did not exist yet."""
        return older

    def guard(self) -> Guard | None:
        """Return readings that prove that `read` would return what it returned last, or None."""
        return None

    def text(self, key: Key) -> str:
        """Return where *key* is."""
        return self.label + _steps(key)

    def agrees(self, one: Any, other: Any) -> bool:
        """Return whether two values are the same for restoring; must not call user code."""
        return same_value(one, other)


def same_value(one: Any, other: Any) -> bool:
    """Return whether two values are the same: identity, equal atoms, tuples and sets of the same items."""
    if is_same_value(one, other):
        return True
    if type(one) is not type(other):
        return False
    if type(one) is frozenset:
        return {id(each) for each in one} == {id(each) for each in other}
    return type(one) is tuple and len(one) == len(other) and all(map(is_same_value, one, other))


def namespace_of(holder: Any) -> dict[str, Any] | None:
    """Return the dict that holds the attributes of a module, class or instance; None: it has none."""
    if issubclass(type(holder), type):
        found = gc.get_referents(type.__dict__["__dict__"].__get__(holder))[0]
        return found if type(found) is dict else None
    try:
        space = object.__getattribute__(holder, "__dict__")
    except AttributeError:
        return None
    return space if issubclass(type(space), dict) else None


def _steps(key: Key) -> str:
    return "".join(f"[{bounded_repr(step)}]" for step in key if step is not WHOLE)


def _flatten(prefix: Key, value: Any, depth: int, out: dict[Key, Any]) -> None:
    """Enter the content of a container into *out*, and that of the containers in it down to *depth*."""
    kind = type(value)
    inner: Iterable[tuple[Hashable, Any]] = ()
    if issubclass(kind, dict):
        inner = dict.items(value)
        for key, item in tuple(inner):
            out[(*prefix, key)] = item
    elif issubclass(kind, set):
        out[(*prefix, WHOLE)] = frozenset(value)
    elif issubclass(kind, _LISTS):
        items = tuple(value)
        out[(*prefix, WHOLE)] = items
        inner = enumerate(items)
    if depth > 0:
        for key, item in tuple(inner):
            if issubclass(type(item), _CONTAINERS):
                _flatten((*prefix, key), item, depth - 1, out)


def _write(container: Any, step: Hashable, value: Any) -> None:
    """Give one slot of a builtin container its value again."""
    kind = type(container)
    if step is not WHOLE:
        if issubclass(kind, dict):
            # An OrderedDict keeps its order beside the dict.
            base: type[dict[Any, Any]] = OrderedDict if issubclass(kind, OrderedDict) else dict
            if value is MISSING:
                base.pop(container, step, None)
            else:
                base.__setitem__(container, step, value)
        elif value is not MISSING:
            container[step] = value
    elif value is MISSING:
        return
    elif issubclass(kind, list):
        list.__setitem__(container, slice(None), value)
    else:
        container.clear()
        (container.update if issubclass(kind, set) else container.extend)(value)


class _Readings:
    """The readings of a guard, gathered from containers."""

    def __init__(self) -> None:
        self.dicts: list[dict[Any, Any]] = []
        self.lists: list[Any] = []
        self.objects: list[Callable[[], Iterable[Any]]] = []

    def add(self, value: Any, depth: int) -> None:
        kind = type(value)
        if issubclass(kind, dict):
            self.dicts.append(value)
            items: Iterable[Any] = dict.values(value)
        elif kind is list or kind is set:
            self.lists.append(value)
            items = value if kind is list else ()
        else:
            self.objects.append(partial(tuple, value))
            items = ()
        if depth > 0:
            for item in tuple(items):
                if issubclass(type(item), _CONTAINERS):
                    self.add(item, depth - 1)

    def guard(self, **more: Any) -> Guard:
        return Guard(objects=tuple(self.objects), dicts=tuple(self.dicts), lists=tuple(self.lists), **more)


class Attributes(Part):
    """Attributes of one module, class or instance, and the content of the containers among them.

    Args:
        label: text that leads to the holder.
        find: returns the holder now.
        names: which attributes; empty: all.
        skip: which not.
        depth: how many levels of containers are followed.
        copies: whether the library replaces containers by changed copies, so that their identity says nothing.
    """

    leads = True

    def __init__(
        self,
        label: str,
        find: Callable[[], Any],
        names: tuple[str, ...],
        skip: frozenset[str],
        depth: int,
        *,
        copies: bool = False,
    ) -> None:
        super().__init__(label)
        self._find = find
        self._names = names
        self._skip = skip
        self._depth = depth
        self._copies = copies

    def _slots(self, holder: Any) -> dict[str, Any]:
        space = namespace_of(holder)
        if not self._names:
            return {name: value for name, value in dict.items(space or {}) if name not in self._skip}
        if space is not None:
            return {name: space[name] for name in self._names if name in space}
        found = {}
        for name in self._names:
            value = _slot_value(holder, name)
            if value is not MISSING:
                found[name] = value
        return found

    def read(self) -> dict[Key, Any]:
        out: dict[Key, Any] = {}
        for name, value in self._slots(self._find()).items():
            followed = self._depth > 0 and issubclass(type(value), _CONTAINERS)
            if not (followed and self._copies):
                out[(name,)] = value
            if followed:
                _flatten((name,), value, self._depth - 1, out)
        return out

    def put(self, values: Mapping[Key, Any]) -> None:
        holder = self._find()
        # The containers first, then what is in them.
        for key in sorted(values, key=len):
            value = values[key]
            if len(key) == 1:
                _set_attribute(holder, str(key[0]), value)
                continue
            container = self._slots(holder).get(str(key[0]), MISSING)
            for step in key[1:-1]:
                if container is MISSING:
                    break
                container = dict.get(container, step, MISSING) if issubclass(type(container), dict) else container[step]
            if container is not MISSING:
                _write(container, key[-1], value)

    def guard(self) -> Guard | None:
        holder = self._find()
        space = namespace_of(holder)
        if space is None or type(space) is not dict:
            return None
        slots = self._slots(holder)
        readings = _Readings()
        if self._depth > 0:
            for value in slots.values():
                if issubclass(type(value), _CONTAINERS):
                    readings.add(value, self._depth - 1)
        readings.objects.append(lambda: (self._find(),))
        names = self._names or tuple(slots)
        values = () if self._names else (partial(len, space),)
        return readings.guard(attributes=((space, names),), values=values)

    def text(self, key: Key) -> str:
        return f"{self.label}.{key[0]}{_steps(key[1:])}"

    def owned(self) -> Iterable[tuple[int, str]]:
        """Yield the attributes of modules and classes that others watch as well."""
        holder = self._find()
        if isinstance(holder, (ModuleType, type)):
            yield from ((id(holder), name) for name in self._names)


def _slot_value(holder: Any, name: str) -> Any:
    try:
        return object.__getattribute__(holder, name)
    except AttributeError:
        return MISSING


def _set_attribute(holder: Any, name: str, value: Any) -> None:
    if issubclass(type(holder), type):
        if value is not MISSING:
            type.__setattr__(holder, name, value)
        elif name in type.__dict__["__dict__"].__get__(holder):
            type.__delattr__(holder, name)
        return
    space = namespace_of(holder)
    if space is None:
        if value is not MISSING:
            object.__setattr__(holder, name, value)
        elif _slot_value(holder, name) is not MISSING:
            object.__delattr__(holder, name)
    elif value is MISSING:
        space.pop(name, None)
    else:
        space[name] = value


class Content(Part):
    """The content of one dict, list, set or deque.

    Args:
        label: text that leads to it.
        find: returns it now.
        depth: how many levels of containers inside of it are followed.
    """

    leads = True

    def __init__(self, label: str, find: Callable[[], Any], depth: int) -> None:
        super().__init__(label)
        self._find = find
        self._depth = depth

    def read(self) -> dict[Key, Any]:
        out: dict[Key, Any] = {}
        _flatten((), self._find(), self._depth, out)
        return out

    def put(self, values: Mapping[Key, Any]) -> None:
        for key in sorted(values, key=len):
            container = self._find()
            for step in key[:-1]:
                if container is MISSING:
                    break
                container = dict.get(container, step, MISSING) if issubclass(type(container), dict) else container[step]
            if container is not MISSING:
                _write(container, key[-1], values[key])

    def guard(self) -> Guard | None:
        readings = _Readings()
        readings.add(self._find(), self._depth)
        readings.objects.append(lambda: (self._find(),))
        return readings.guard()


class Value(Part):
    """One value that is read and set by calls, in the thread it was met in.

    Args:
        label: text that names it.
        read: returns it; atoms and tuples of atoms are compared by value, everything else by identity.
        write: sets it.
        same: compares two values, where identity is not what counts.
        fresh: whether each read makes a new object.
    """

    def __init__(
        self,
        label: str,
        read: Callable[[], Any],
        write: Callable[[Any], object],
        same: Callable[[Any, Any], bool] | None = None,
        *,
        fresh: bool = False,
    ) -> None:
        super().__init__(label)
        self._fresh = fresh
        self._read = read
        self._write = write
        self._same = same
        # Many such values are of one thread: what others have is another value, not a changed one.
        self._thread = get_ident()
        self._last: dict[Key, Any] = {}

    def read(self) -> dict[Key, Any]:
        if get_ident() == self._thread:
            self._last = {(): self._read()}
        return self._last

    def put(self, values: Mapping[Key, Any]) -> None:
        for value in values.values():
            self._write(value)

    def guard(self) -> Guard | None:
        return None if self._fresh else Guard(objects=(lambda: (self._read(),),))

    def agrees(self, one: Any, other: Any) -> bool:
        return same_value(one, other) if self._same is None else one is other or self._same(one, other)


def same_tables(one: dict[Key, Any], other: dict[Key, Any]) -> bool:
    """Return whether two readings hold the identical objects under the same keys, in the same order."""
    return len(one) == len(other) and all(map(is_, one.values(), other.values())) and one.keys() == other.keys()
