"""What a profile says: which state a library has, what of it goes together, and what is left alone."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from attrs import field, frozen

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.libraries._parts import Attributes, Content, Key, Part, Value

__all__ = ["Changes", "Place", "Profile", "Unit", "attributes", "content", "custom", "resolve", "value"]

Changes = Mapping[tuple[int, Key], tuple[Any, Any]]
"""What a barrier has to put back: (number of the part, key) -> (value before, value now)."""

Builder = Callable[[str, Callable[[], Any]], Part]
"""Makes a part from the text that leads to its holder and a function that returns the holder."""


@frozen
class Place:
    """Where one store is, and how it is captured. See `attributes`, `content`, `value` and `custom`.

    Attributes:
        path: ``"module:attribute.attribute"`` of a global store, ``".attribute.attribute"`` from an object;
            nothing: the object itself.
        build: makes the part.
    """

    path: str
    build: Builder

    @property
    def module(self) -> str:
        """The module a global store is in; empty for a store of an object."""
        return self.path.partition(":")[0] if ":" in self.path else ""

    def bind(self, root: Any = MISSING, label: str = "") -> Part:
        """Return the part for one object, or for the process."""
        path = self.path
        if root is MISSING:
            module, _, names = path.partition(":")
            return self.build(".".join(filter(None, (module, names))), lambda: resolve(path))
        if not path:
            return self.build(label, lambda: root)
        return self.build(label + path, lambda: _follow(root, path[1:]))


def resolve(path: str) -> Any:
    """Return what ``"module:attribute.attribute"`` leads to; nothing is imported.

    Raises:
        LookupError: if the module is not imported.
        AttributeError: if an attribute is missing.
    """
    module, _, names = path.partition(":")
    found = sys.modules.get(module)
    if found is None:
        raise LookupError(f"{module} is not imported")
    return _follow(found, names)


def _follow(found: Any, names: str) -> Any:
    for name in filter(None, names.split(".")):
        found = getattr(found, name)
    return found


def attributes(path: str = "", *names: str, skip: Iterable[str] = (), depth: int = 1, copies: bool = False) -> Place:
    """Declare attributes of a module, class or instance, and the content of containers among them.

    Args:
        path: where the holder is; see `Place`.
        names: which attributes; none: all.
        skip: which not: those set lazily, caches, counters.
        depth: how many levels of containers below them are followed.
        copies: whether the library replaces containers by changed copies, so that their identity says nothing.
    """
    without = frozenset(skip)
    return Place(path, lambda label, find: Attributes(label, find, names, without, depth, copies=copies))


def content(path: str = "", *, depth: int = 0) -> Place:
    """Declare the content of a dict, list, set or deque.

    Args:
        path: where it is; see `Place`.
        depth: how many levels of containers inside of it are followed.
    """
    return Place(path, lambda label, find: Content(label, find, depth))


def value(
    path: str,
    name: str,
    read: Callable[[Any], Any],
    write: Callable[[Any, Any], object],
    same: Callable[[Any, Any], bool] | None = None,
    *,
    fresh: bool = False,
) -> Place:
    """Declare one value that is read and set by calls.

    Args:
        path: where the object that both are called with is.
        name: text for reports, behind that of *path*.
        read: takes the object, returns the value.
        write: takes the object and a value, sets it.
        same: compares two values, where identity is not what counts.
        fresh: whether each read makes a new object.
    """
    return Place(
        path,
        lambda label, find: Value(
            label + name, lambda: read(find()), lambda new: write(find(), new), same, fresh=fresh
        ),
    )


def custom(path: str, build: Builder) -> Place:
    """Declare a store with a part of its own kind."""
    return Place(path, build)


def _places(places: Iterable[Place]) -> tuple[Place, ...]:
    return tuple(places)


@frozen
class Unit:
    """State that is put back whole or not at all.

    Attributes:
        name: class of the objects it is about, such as ``"Flask"``; a name of its own for global state.
        places: the stores.
        then: called after something was put back, with the object (None for global state) and what it was:
            drops what the library had derived from it.
        keep: returns what must stay, with the reason; called before anything is put back.
        silent: returns whether a change is put back without a word, because healthy tests make it.
    """

    name: str
    places: tuple[Place, ...] = field(converter=_places)
    then: Callable[[Any, Changes], object] | None = field(default=None, kw_only=True)
    keep: Callable[[Any, Changes], Mapping[tuple[int, Key], str]] | None = field(default=None, kw_only=True)
    silent: Callable[[Key], bool] | None = field(default=None, kw_only=True)


def _units(units: Iterable[Unit]) -> tuple[Unit, ...]:
    return tuple(units)


@frozen
class Profile:
    """What isolation-core knows about one library.

    Attributes:
        library: its import name.
        units: global state.
        objects: state of instances of its classes, wherever own code or a fixture holds one.
        leaves: names of its classes whose instances are left alone: caches, and what changes by itself.
        versions: first version it is verified with, and the first it is not.
        hint: how to avoid the pollution, in a sentence.
        code: the stable code of its findings.
    """

    library: str
    units: tuple[Unit, ...] = field(default=(), converter=_units)
    objects: tuple[Unit, ...] = field(default=(), converter=_units, kw_only=True)
    leaves: frozenset[str] = field(default=frozenset(), kw_only=True)
    versions: tuple[str, str] | None = field(default=None, kw_only=True)
    distribution: str | None = field(default=None, kw_only=True)
    hint: str = field(default="", kw_only=True)
    code: str = field(default="LIB001", kw_only=True)

    def fits(self, version: str) -> bool:
        """Return whether *version* is in the range it is verified for."""
        if self.versions is None:
            return True
        first, beyond = map(_release, self.versions)
        return first <= _release(version) < beyond


_NUMBER: Final = re.compile(r"\d+")


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers a version begins with."""
    numbers = []
    for part in version.split("."):
        found = _NUMBER.match(part)
        if found is None:
            break
        numbers.append(int(found.group()))
    return tuple(numbers)
