"""Pages: many stores compared in one call.

"Has anything changed?" is asked twice a test and must cost microseconds, so it
is asked of the interpreter, not of Python code. Dicts (modules, classes,
containers) show their version tags where there are any, lists and sets the
memory their items lie in. For the rest one `gc.get_referents` call lists what a
whole page refers to, and the list is compared with the saved one as raw memory,
pointer by pointer. No `__eq__` can run and nothing depends on what the objects
are. Only a page that differs is looked at, and only a node that differs is read.

Two facts about CPython shape the rest. `gc.get_referents` visits the *values*
of a dict whose keys are all strings but not the keys, so the keys of a page
are compared as well. And an address is only an identity while its object
lives, so what was compared is held: by the page, or by the facets' snapshots.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, ClassVar, Final

from isolation_core.contamination._facets import Facet
from isolation_core.contamination._versions import Store, contents, joined, moved, store_of

__all__ = ["Page", "StorePage", "identical"]

_TUPLE_ITEMS: Final = tuple.__basicsize__
_POINTER: Final = ctypes.sizeof(ctypes.c_void_p)


def _addresses(items: tuple[Any, ...]) -> bytes:
    """Return the addresses of *items* as the bytes the tuple stores them in.

    A tuple keeps its pointers inline, right behind its fixed part, so this
    never reads outside the object, whatever the build.
    """
    return ctypes.string_at(id(items) + _TUPLE_ITEMS, len(items) * _POINTER)


# A list ends with the pointer to its items and the number of places allocated.
_LIST_POINTER: Final = list.__basicsize__ - 2 * _POINTER


def _list_addresses(items: list[Any]) -> bytes:
    """Return the addresses of *items*, a list nobody else can see or change."""
    start = ctypes.c_void_p.from_address(id(items) + _LIST_POINTER).value
    return ctypes.string_at(start, len(items) * _POINTER) if start else b""


def _addresses_portably(items: Iterable[Any]) -> bytes:
    return b"".join(id(item).to_bytes(8, sys.byteorder) for item in items)


def _self_test() -> bool:
    probe: tuple[Any, ...] = (object(), object(), [], "text")
    return (
        sys.implementation.name == "cpython"
        and tuple.__itemsize__ == _POINTER == 8
        and _addresses(probe) == _addresses_portably(probe)
        and _list_addresses(list(probe)) == _addresses(probe)
    )


identical: Final[Callable[[tuple[Any, ...]], bytes]] = _addresses if _self_test() else _addresses_portably
"""Returns bytes that are equal exactly if two tuples hold the identical objects."""

identical_lists: Final[Callable[[list[Any]], bytes]] = _list_addresses if _self_test() else _addresses_portably
"""The same for lists, which must be the caller's own."""


class Page:
    """Up to `size` facets that are compared in one call.

    Args:
        home: name of the module to which the facets matter; None: to all.
    """

    __slots__ = (
        "_known", "compared", "dicts", "facets", "home", "image", "key_image", "referents", "seen", "spans", "targets",
        "views",
    )  # fmt: skip
    size: ClassVar[int] = 128

    def __init__(self, home: str | None = None) -> None:
        self.home = home
        self.facets: list[Facet] = []
        self._known: dict[int, tuple[list[memoryview], int, tuple[Any, ...], dict[Any, Any] | None]] = {}
        self.refresh()

    def refresh(self, moved: Iterable[Facet] = ()) -> None:
        """Believe what is there now; the stores of *moved* facets may be other objects."""
        known, self._known = self._known, {}
        for facet in moved:
            known.pop(id(facet), None)
        targets: list[Any] = []
        self.dicts: list[dict[Any, Any]] = []
        self.views: list[memoryview] = []
        # Facet, and where its views begin and end in the joined bytes.
        self.spans: list[tuple[Facet, int, int]] = []
        # Facets that are compared by what they refer to.
        self.compared: list[Facet] = []
        end = 0
        for facet in self.facets:
            anatomy = known.get(id(facet))
            if anatomy is None:
                views = facet.views()
                anatomy = (views, sum(map(len, views)), *facet.rest())
            self._known[id(facet)] = anatomy
            views, size, rest, keyed = anatomy
            if size:
                self.spans.append((facet, end, end + size))
                end += size
                self.views += views
            if rest:
                targets += rest
                self.compared.append(facet)
            if keyed is not None:
                self.dicts.append(keyed)
        self.targets = tuple(targets)
        self._believe()

    def believe(self, moved: Iterable[Facet]) -> None:
        """Believe what is there now, when *moved* facets were all that changed."""
        if any(facet.may_move for facet in moved):
            self.refresh(moved)
        else:
            self._believe()

    def _believe(self) -> None:
        self.seen = joined(self.views)
        self.referents = gc.get_referents(*self.targets)
        self.image = identical_lists(self.referents)
        self.key_image = identical(self._keys())

    def remove(self, facet: Facet) -> None:
        """Compare *facet* no more, from the next `refresh` on."""
        self.facets.remove(facet)
        self._known.pop(id(facet), None)

    def _keys(self) -> tuple[Any, ...]:
        return tuple(chain.from_iterable(map(dict.__iter__, self.dicts)))

    def suspects(self) -> list[Facet]:
        """Return the facets that may have changed: none, as a rule."""
        found: list[Facet] = []
        now = joined(self.views)
        if now != self.seen:
            # A view tells that its store was written to; whether it differs is
            # for the reading to say.
            found += [facet for facet, start, end in self.spans if now[start:end] != self.seen[start:end]]
        if self.targets and (
            identical_lists(gc.get_referents(*self.targets)) != self.image
            or (self.dicts and identical(self._keys()) != self.key_image)
        ):
            found += [facet for facet in self.compared if facet not in found]
        return found


class StorePage:
    """Up to `size` lists and sets, whose items are compared where they lie.

    Not by what they refer to: that would touch every item of every list.
    """

    __slots__ = ("_blocks", "_known", "_seen", "_words", "facets", "home")
    size: ClassVar[int] = 64

    def __init__(self, home: str | None = None) -> None:
        self.home = home
        self.facets: list[Facet] = []
        self._known: dict[int, Store] = {}
        self.refresh()

    def refresh(self, moved: Iterable[Facet] = ()) -> None:
        """Believe what is there now."""
        known, self._known = self._known, {}
        for facet in self.facets:
            store = known.get(id(facet))
            self._known[id(facet)] = store_of(facet.holder) if store is None or store.moved() else store
        stores = self._known.values()
        self._words = [store.words for store in stores]
        self._blocks = [block for store in stores for block in store.blocks]
        words = b"".join([store.seen for store in stores])
        self._seen = (words, contents(self._words, self._blocks, words))

    believe = refresh

    def remove(self, facet: Facet) -> None:
        """Compare *facet* no more, from the next `refresh` on."""
        self.facets.remove(facet)
        self._known.pop(id(facet), None)

    def suspects(self) -> list[Facet]:
        """Return the facets that may have changed: none, as a rule."""
        return list(self.facets) if moved(self._words, self._blocks, self._seen) else []
