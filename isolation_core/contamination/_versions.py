"""Version tags: eight bytes inside a dict that move whenever the dict does.

CPython up to 3.13 keeps a private counter in every dict (PEP 509), unique in
the process and renewed by every insertion, replacement and deletion. Reading
it says "this dict is as it was" without looking at a single item, at some ten
nanoseconds a dict when many are read in one call. It is private, was removed
in 3.14 (python/cpython#124296) and never existed elsewhere, so a self-test
decides whether it is used; the ledger compares items where it is not.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Final

__all__ = ["HAS_TAGS", "tag_of", "tags"]

# Behind the object header (two words) comes the number of items, then the tag.
_TAG_OFFSET: Final = object.__basicsize__ + ctypes.sizeof(ctypes.c_ssize_t)
_Tag = ctypes.c_char * 8


def tag_of(namespace: dict[Any, Any]) -> memoryview:
    """Return a live view of the tag of *namespace*; keep the dict alive while using it."""
    return memoryview(_Tag.from_address(id(namespace) + _TAG_OFFSET)).cast("B")


def tags(views: list[memoryview]) -> bytes:
    """Return the tags behind *views*, joined."""
    return b"".join(views)


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
        lambda: sample.popitem(),
        lambda: sample.clear(),
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


HAS_TAGS: Final = _self_test()
"""Whether version tags can be relied on in this interpreter."""
