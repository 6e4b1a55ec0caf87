"""Raw memory: the one place that reads the insides of CPython's objects, each way behind a self-test.

"Did anything change?" is asked twice a test and must cost microseconds, so it
is answered by reading the interpreter's memory, not by Python code. All functions
here only read, never beyond an object's own memory, and their results are valid
while the caller keeps the object alive. The layout of each object is private to
CPython, so a self-test on sample objects checks, when this module is
imported, that this interpreter has it; where the test fails, callers
compare in Python.

- *Addresses*: the items that a tuple or a list refers to, as bytes.
- *Version tags*: CPython up to 3.13 keeps a private counter in every dict (PEP
  509), unique in the process and renewed by every insertion, replacement and
  deletion. Reading it says "this dict is as it was" without reading an item.
  Removed in 3.14 (python/cpython#124296).
- *Words*: the pointers a function or a closure cell keeps inline. Its code, its
  defaults and its attributes can only be replaced by replacing one of them.
- *Stores*: a list and a set keep their items in a block of their own, and where
  it is and how long in their words. A view of the block may be read only in the
  same breath in which the words were seen to be what they were when it was made.
- *The Mersenne Twister* of a `random.Random`, and *the traps* of a decimal context.
"""

from __future__ import annotations

import ctypes
import functools
import random
import struct
import sys
from collections.abc import Callable, Iterable
from itertools import count, dropwhile
from operator import ne
from types import FunctionType
from typing import Any, Final

from attrs import frozen

__all__ = [
    "CELL_WORDS",
    "COUNTER_WORDS",
    "FUNCTION_WORDS",
    "HAS_ADDRESSES",
    "HAS_COUNTERS",
    "HAS_STORES",
    "HAS_TAGS",
    "HAS_TWISTER",
    "HAS_WORDS",
    "Store",
    "Watch",
    "contents",
    "identical",
    "identical_lists",
    "joined",
    "moved",
    "store_of",
    "tag_of",
    "traps_are_known",
    "traps_of",
    "twister_of",
    "twister_state",
    "words_of",
]

_WORD: Final = ctypes.sizeof(ctypes.c_void_p)
_IS_CPYTHON: Final = sys.implementation.name == "cpython"

joined: Final = b"".join
"""Returns the bytes behind a list of views, one after the other."""


# -- addresses ---------------------------------------------------------------

_TUPLE_ITEMS: Final = tuple.__basicsize__


def _addresses(items: tuple[Any, ...]) -> bytes:
    """Return the addresses of *items* as the bytes the tuple stores them in.

    A tuple keeps its pointers inline, right behind its fixed part, so this
    never reads outside the object, whatever the build.
    """
    return ctypes.string_at(id(items) + _TUPLE_ITEMS, len(items) * _WORD)


# A list ends with the pointer to its items and the number of places allocated.
_LIST_POINTER: Final = list.__basicsize__ - 2 * _WORD


def _list_addresses(items: list[Any]) -> bytes:
    """Return the addresses of *items*, a list that no other code can see or change."""
    start = ctypes.c_void_p.from_address(id(items) + _LIST_POINTER).value
    return ctypes.string_at(start, len(items) * _WORD) if start else b""


def _addresses_portably(items: Iterable[Any]) -> bytes:
    return b"".join(id(item).to_bytes(8, sys.byteorder) for item in items)


def _addresses_self_test() -> bool:
    probe: tuple[Any, ...] = (object(), object(), [], "text")
    return (
        _IS_CPYTHON
        and tuple.__itemsize__ == _WORD == 8
        and _addresses(probe) == _addresses_portably(probe)
        and _list_addresses(list(probe)) == _addresses(probe)
    )


HAS_ADDRESSES: Final = _addresses_self_test()
"""Whether the memory of tuples and lists can be relied on in this interpreter."""

identical: Final[Callable[[tuple[Any, ...]], bytes]] = _addresses if HAS_ADDRESSES else _addresses_portably
"""Returns bytes that are equal exactly if two tuples hold the identical objects."""

identical_lists: Final[Callable[[list[Any]], bytes]] = (
    _list_addresses if _addresses_self_test() else _addresses_portably
)
"""The same for lists, which must be the caller's own."""


# -- version tags of dicts ---------------------------------------------------

# Behind the object header (two words) comes the number of items, then the tag.
_TAG_OFFSET: Final = object.__basicsize__ + ctypes.sizeof(ctypes.c_ssize_t)
_Tag = ctypes.c_char * 8


def tag_of(namespace: dict[Any, Any]) -> memoryview:
    """Return a live view of the tag of *namespace*; keep the dict alive while using it."""
    return memoryview(_Tag.from_address(id(namespace) + _TAG_OFFSET)).cast("B")


def _tags_self_test() -> bool:
    if not _IS_CPYTHON or sys.version_info >= (3, 14) or dict.__basicsize__ < _TAG_OFFSET + 8:
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


HAS_TAGS: Final = _tags_self_test()
"""Whether version tags can be relied on in this interpreter."""


class Watch:
    """Detects whether any of some dicts was written to since the last call.

    Args:
        namespaces: the dicts; they are kept alive.
    """

    __slots__ = ("_seen", "_views", "namespaces")

    def __init__(self, *namespaces: dict[Any, Any]) -> None:
        self.namespaces = namespaces
        self._views = [tag_of(namespace) for namespace in namespaces] if HAS_TAGS else []
        self._seen = b""

    def moved(self) -> bool:
        """Return whether to look: yes where nothing is known, and the first time."""
        now = b"".join(self._views)
        if now == self._seen and now:
            return False
        self._seen = now
        return True


# -- words of functions, cells and counters ----------------------------------

FUNCTION_WORDS: Final = (2, 8)
"""Where they start and how many: name, qualified name, code, defaults, keyword defaults, closure,
doc, dict. Before them come globals and builtins."""


COUNTER_WORDS: Final = (0, 2)
"""The next number of an `itertools.count`, and the one of any type that takes over from it."""

CELL_WORDS: Final = (0, 1)
"""The contents of a closure cell."""


def words_of(value: Any, span: tuple[int, int]) -> memoryview:
    """Return a live view of some words behind the header of *value*; keep it alive.

    Args:
        value: the object.
        span: the first word, and how many.
    """
    first, count = span
    address = id(value) + object.__basicsize__ + first * _WORD
    return memoryview((ctypes.c_char * (count * _WORD)).from_address(address)).cast("B")


def _words_self_test() -> bool:
    if not _IS_CPYTHON:
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
    for name, value in (
        ("__name__", "other"), ("__qualname__", "the other"), ("__doc__", "text"), ("__code__", other),
        ("__defaults__", (3,)), ("__kwdefaults__", {"b": 4}), ("x", 1),
    ):  # fmt: skip
        setattr(sample, name, value)
        seen.add(bytes(view))
    holder.cell_contents = "other"
    contents.add(bytes(inside))
    return len(seen) == 8 and len(contents) == 2


def _counters_self_test() -> bool:
    if not _IS_CPYTHON or count.__basicsize__ < object.__basicsize__ + 2 * _WORD:
        return False
    sample, large = count(7), count(2.5)
    before = struct.unpack("nP", words_of(sample, COUNTER_WORDS))
    next(sample)
    after = struct.unpack("nP", words_of(sample, COUNTER_WORDS))
    seen = bytes(words_of(large, COUNTER_WORDS))
    next(large)
    return before == (7, 0) and after == (8, 0) and bytes(words_of(large, COUNTER_WORDS)) != seen


HAS_WORDS: Final = _words_self_test()
"""Whether the words of functions and cells can be relied on in this interpreter."""

HAS_COUNTERS: Final = _counters_self_test()
"""Whether the words of `itertools.count` objects can be relied on in this interpreter."""


# -- stores of lists and sets ------------------------------------------------

_LIST_WORDS: Final = (0, 2)
"""The number of items, and where they are."""

_SET_WORDS: Final = (0, 4)
"""Places ever used, elements, the number of places less one, and where they are."""

_SET_PLACE: Final = 2 * _WORD  # an element and its hash


@frozen
class Store:
    """Where a list or a set keeps its items.

    Attributes:
        words: live view of the words that say where and how many; always safe to read.
        seen: their values when `blocks` was made.
        blocks: live views of the items, which dangle as soon as the words have moved: see `moved`.
    """

    words: memoryview
    seen: bytes
    blocks: tuple[memoryview, ...]

    def moved(self) -> bool:
        """Return whether the items were added to, taken from or laid elsewhere."""
        return self.words != self.seen


def store_of(holder: list[Any] | set[Any]) -> Store:
    """Return where *holder* keeps its items; keep it alive while using that."""
    if isinstance(holder, list):
        words = words_of(holder, _LIST_WORDS)
        seen = bytes(words)
        count, address = struct.unpack("nP", seen)
        size = count * _WORD
    else:
        words = words_of(holder, _SET_WORDS)
        seen = bytes(words)
        _, _, mask, address = struct.unpack("nnnP", seen)
        size = (mask + 1) * _SET_PLACE
    block = (ctypes.c_char * size).from_address(address) if address and size else None
    return Store(words, seen, () if block is None else (memoryview(block).cast("B"),))


def moved(words: list[memoryview], blocks: list[memoryview], seen: tuple[bytes, bytes]) -> bool:
    """Return whether the *words* of some stores, or else their *blocks*, differ from what was *seen*.

    A block is only touched if all words read as they did when its view was
    made: then it was not freed. Both happen in one call into C that runs
    no Python code, allocates nothing the collector knows and never releases the
    interpreter's lock, so no thread can resize anything in between.
    """
    return any(map(ne, map(joined, (words, blocks)), seen))


def contents(words: list[memoryview], blocks: list[memoryview], seen: bytes) -> bytes:
    """Return what is in the *blocks*; if the *words* are not what was *seen* any more, return those instead."""
    # As above: the second join only takes place if the first gave what is expected.
    return next(dropwhile(seen.__eq__, map(joined, (words, blocks))), b"")


def _stores_self_test() -> bool:
    if not _IS_CPYTHON or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    if list.__basicsize__ < object.__basicsize__ + 3 * _WORD or set.__basicsize__ < object.__basicsize__ + 6 * _WORD:
        return False
    sample: list[Any] = [object() for _ in range(40)]
    for length in (0, 1, 3, 40):
        items, elements = sample[:length], set(sample[:length])
        # Only if the numbers are right is the word behind them believed to be an address.
        if struct.unpack("nP", words_of(items, _LIST_WORDS))[0] != length or not _counts(elements, length):
            return False
        here, there = store_of(items), store_of(elements)
        table = b"".join(there.blocks)
        places = {table[at : at + _WORD] for at in range(0, len(table), _SET_PLACE)}
        addresses = [id(item).to_bytes(_WORD, sys.byteorder) for item in items]
        if b"".join(here.blocks) != b"".join(addresses) or not places.issuperset(addresses):
            return False
        seen = (here.seen, b"".join(addresses))
        still = not moved([here.words], list(here.blocks), seen)
        items.append(None)
        if not still or not moved([here.words], list(here.blocks), seen):
            return False
    return True


def _counts(elements: set[Any], length: int) -> bool:
    fill, used, mask, address = struct.unpack("nnnP", words_of(elements, _SET_WORDS))
    return fill == used == length <= mask and not (mask + 1) & mask and bool(address)


HAS_STORES: Final = _stores_self_test()
"""Whether the stores of lists and sets can be relied on in this interpreter."""


# -- random generators -------------------------------------------------------

_TWISTER: Final = object.__basicsize__
_TWISTER_WORDS: Final = 625
_TWISTER_SIZE: Final = _TWISTER_WORDS * 4


def twister_of(generator: random.Random) -> memoryview:
    """Return a live view of index and words of the Mersenne Twister inside *generator*; keep it alive.

    0.4 us where `getstate` takes 10: it makes 625 Python integers.
    """
    return memoryview((ctypes.c_char * _TWISTER_SIZE).from_address(id(generator) + _TWISTER)).cast("B")


def twister_state(raw: bytes, spare: Any) -> tuple[Any, ...]:
    """Return what `random.setstate` takes for the *raw* words and the *spare* normal variate."""
    index, *words = struct.unpack(f"{_TWISTER_WORDS}I", raw)
    return (3, (*words, index), spare)


def _twister_self_test() -> bool:
    """Return whether this build has the expected layout of a generator: read it, and compare with `getstate`."""
    if not _IS_CPYTHON or random.Random.__base__ is None:
        return False
    if not _TWISTER + _TWISTER_SIZE <= random.Random.__base__.__basicsize__ <= _TWISTER + _TWISTER_SIZE + 8:
        return False
    one = random.Random(20011)  # noqa: S311 - to look at, not to draw secrets from
    # Fresh, in the middle, at the last word and after the words were renewed.
    for draws in (1, 150, 161, 1):
        if twister_state(bytes(twister_of(one)), None) != one.getstate():
            return False
        for _ in range(draws):
            one.random()
    return twister_state(bytes(twister_of(one)), None) == one.getstate()


HAS_TWISTER: Final = _twister_self_test()
"""Whether the words of a `random.Random` can be relied on in this interpreter."""


# -- decimal contexts --------------------------------------------------------

_TRAPS: Final = object.__basicsize__ + 3 * ctypes.sizeof(ctypes.c_ssize_t)


def traps_of(context: Any) -> memoryview:
    """Return a live view of the traps of *context*: one number behind the precision and the exponents."""
    return memoryview(ctypes.c_uint32.from_address(id(context) + _TRAPS)).cast("B")


@functools.cache
def traps_are_known() -> bool:
    """Return whether this build has the expected layout of a context, by setting every trap in a sample."""
    decimal: Any = sys.modules.get("_decimal")
    if decimal is None or not _IS_CPYTHON:
        return False
    if decimal.Context.__basicsize__ < _TRAPS + ctypes.sizeof(ctypes.c_uint32):
        return False
    context = decimal.Context(traps=[])
    view = traps_of(context)
    seen = {bytes(view)}
    for signal in context.traps:
        context.traps[signal] = True
        seen.add(bytes(view))
    context.flags[decimal.Inexact] = True
    return len(seen) == len(context.traps) + 1 and bytes(view) in seen
