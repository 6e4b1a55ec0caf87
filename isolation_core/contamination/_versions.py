"""Live views of the few bytes inside an object that tell whether it was written to.

Version tags: eight bytes inside a dict that move whenever the dict does.

CPython up to 3.13 keeps a private counter in every dict (PEP 509), unique in
the process and renewed by every insertion, replacement and deletion. Reading
it says "this dict is as it was" without looking at a single item, at some ten
nanoseconds a dict when many are read in one call. It is private, was removed
in 3.14 (python/cpython#124296) and never existed elsewhere, so a self-test
decides whether it is used; the ledger compares items where it is not.

Words: the pointers a function or a closure cell keeps inline. Its code, its
defaults and its attributes can only be replaced by replacing one of them. A
view never reaches beyond the object's own fixed part, so reading it is safe
whatever they mean; a self-test again decides whether they mean that.
"""

from __future__ import annotations

import ctypes
import sys
from types import FunctionType
from typing import Any, Final

__all__ = ["CELL_WORDS", "FUNCTION_WORDS", "HAS_TAGS", "HAS_WORDS", "Watch", "joined", "tag_of", "words_of"]

# Behind the object header (two words) comes the number of items, then the tag.
_TAG_OFFSET: Final = object.__basicsize__ + ctypes.sizeof(ctypes.c_ssize_t)
_Tag = ctypes.c_char * 8
_WORD: Final = ctypes.sizeof(ctypes.c_void_p)

FUNCTION_WORDS: Final = (4, 6)
"""Where they start and how many: code, defaults, keyword defaults, closure, doc, dict. Before
them come globals, builtins and two names."""


CELL_WORDS: Final = (0, 1)
"""The contents of a closure cell."""


def tag_of(namespace: dict[Any, Any]) -> memoryview:
    """Return a live view of the tag of *namespace*; keep the dict alive while using it."""
    return memoryview(_Tag.from_address(id(namespace) + _TAG_OFFSET)).cast("B")


def words_of(value: Any, span: tuple[int, int]) -> memoryview:
    """Return a live view of some words behind the header of *value*; keep it alive.

    Args:
        value: the object.
        span: the first word, and how many.
    """
    first, count = span
    address = id(value) + object.__basicsize__ + first * _WORD
    return memoryview((ctypes.c_char * (count * _WORD)).from_address(address)).cast("B")


def joined(views: list[memoryview]) -> bytes:
    """Return the bytes behind *views*, one after the other."""
    return b"".join(views)


class Watch:
    """Tells whether any of some dicts was written to since it was asked the last time.

    Args:
        namespaces: the dicts; they are kept alive.
    """

    __slots__ = ("_namespaces", "_seen", "_views")

    def __init__(self, *namespaces: dict[Any, Any]) -> None:
        self._namespaces = namespaces
        self._views = [tag_of(namespace) for namespace in namespaces] if HAS_TAGS else []
        self._seen = b""

    def moved(self) -> bool:
        """Tell whether to look: yes where nothing is known, and the first time."""
        now = b"".join(self._views)
        if now == self._seen and now:
            return False
        self._seen = now
        return True


def _self_test() -> bool:
    if sys.implementation.name != "cpython" or sys.version_info >= (3, 14) or dict.__basicsize__ < _TAG_OFFSET + 8:
        return False
    sample: dict[Any, Any] = {"a": 1}
    seen = {bytes(tag_of(sample))}
    steps = (
        lambda: sample.__setitem__("b", 2),
        lambda: sample.__setitem__("b", 3),
        lambda: sample.__setitem__("c", sample.pop("b")),
        lambda: sample.update(d=4),
        lambda: sample.__delitem__("d"),
        lambda: sample.setdefault("e", 5),
        sample.popitem,
        sample.clear,
        lambda: sample.__ior__({1: 1}),
    )
    for step in steps:
        step()
        seen.add(bytes(tag_of(sample)))
        _ = sample.get("a"), list(sample)
    moved = len(seen) == len(steps) + 1
    module = type(sys)("sample")
    before = bytes(tag_of(module.__dict__))
    exec("global x\nx = 1", module.__dict__)  # noqa: S102 - our own constant
    return moved and bytes(tag_of(module.__dict__)) != before


def _words_self_test() -> bool:
    if sys.implementation.name != "cpython":
        return False

    def sample(a: int = 1, *, b: int = 2) -> int:
        return cell + a + b

    cell = 1
    closure = sample.__closure__
    if not closure or FunctionType.__basicsize__ < object.__basicsize__ + sum(FUNCTION_WORDS) * _WORD:
        return False
    holder = closure[0]
    view, inside = words_of(sample, FUNCTION_WORDS), words_of(holder, CELL_WORDS)
    seen, contents = {bytes(view)}, {bytes(inside)}
    other = (lambda a, *, b: cell + a + b).__code__
    for name, value in (("__code__", other), ("__defaults__", (3,)), ("__kwdefaults__", {"b": 4}), ("x", 1)):
        setattr(sample, name, value)
        seen.add(bytes(view))
    holder.cell_contents = "other"
    contents.add(bytes(inside))
    return len(seen) == 5 and len(contents) == 2


HAS_WORDS: Final = _words_self_test()
"""Whether the words of functions and cells can be relied on in this interpreter."""

HAS_TAGS: Final = _self_test()
"""Whether version tags can be relied on in this interpreter."""
