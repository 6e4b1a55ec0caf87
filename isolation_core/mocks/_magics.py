"""Magic methods on shared classes: one descriptor per name, the instance's own mock behind it on first use.

Python looks magic methods up on the type. The standard library therefore gives
every mock a class of its own with some sixty proxies; here all mocks of one
kind and one set of magic methods share a class, and the descriptor finds the
instance's part.
"""

from __future__ import annotations

from typing import Any, Final

from isolation_core.errors import SharedMockClassError
from isolation_core.mocks._stdlib import all_magics

__all__ = ["Magic", "SharedType", "magic_of", "set_type", "variant"]

# ``__class__`` of a mock is a property that lies about the spec; this is the real one.
_real_class: Final[Any] = object.__dict__["__class__"]


def set_type(mock: Any, cls: type[Any]) -> None:
    """Make *mock* an instance of *cls*, which must have the same layout."""
    _real_class.__set__(mock, cls)


class Magic:
    """Non-data descriptor of one magic method."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, mock: Any, owner: type[Any] | None = None) -> Any:
        return self if mock is None else mock._isolation_magic(self.name)


_descriptors: Final = {name: Magic(name) for name in all_magics}


def magic_of(name: str) -> Magic:
    """Return the one descriptor of the magic method *name*."""
    return _descriptors[name]


class SharedType(type):
    """Metaclass of light mocks: a class many mocks share takes no attributes."""

    def __setattr__(cls, name: str, value: object) -> None:
        if cls.__dict__.get("_isolation_guarded", False):
            raise SharedMockClassError(cls.__name__, name)
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        if cls.__dict__.get("_isolation_guarded", False):
            raise SharedMockClassError(cls.__name__, name)
        super().__delattr__(name)


_variants: dict[tuple[type[Any], frozenset[str]], type[Any]] = {}


def variant(base: type[Any], magics: frozenset[str]) -> type[Any]:
    """Return the shared subclass of *base* that supports exactly *magics*."""
    key = base, magics
    known = _variants.get(key)
    if known is None:
        namespace: dict[str, Any] = {
            "__doc__": base.__doc__,
            "__module__": base.__module__,
            "__slots__": (),
            "_isolation_base": base,
            "_isolation_guarded": True,
            "_isolation_magics": magics,
        }
        namespace |= {name: _descriptors[name] for name in magics}
        # A class that defines only one of the two would lose the other.
        if "__eq__" in magics and "__hash__" not in magics:
            namespace["__hash__"] = object.__hash__
        known = _variants.setdefault(key, SharedType(base.__name__, (base,), namespace))
    return known
