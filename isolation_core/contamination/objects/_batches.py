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

import gc
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, chain
from typing import Any, ClassVar, Final, TypeVar

from isolation_core.contamination._cpython import (
    Store,
    contents,
    identical,
    identical_lists,
    joined,
    moved,
    store_of,
)
from isolation_core.contamination.objects._containers import Facet

__all__ = ["AnyPage", "Page", "ReadPage", "StorePage", "Sweep"]

_Span = TypeVar("_Span", bound=tuple[Facet, Any, int])

_LARGE: Final = 1 << 16  # bytes


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
        # Facets that are compared by what they refer to, or by keys.
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
            targets += rest
            if keyed is not None:
                self.dicts.append(keyed)
            # A functools cache is known by its keys alone: what it holds must be able to die.
            if rest or keyed is not None:
                self.compared.append(facet)
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
        now = joined(self.views)
        # A view tells that its store was written to; whether it differs is for
        # the reading to say.
        found = _halved(self.spans, lambda spans: now[(at := slice(spans[0][1], spans[-1][2]))] != self.seen[at])
        if self.compared and (
            identical_lists(gc.get_referents(*self.targets)) != self.image
            or (self.dicts and identical(self._keys()) != self.key_image)
        ):
            found += [facet for facet in self.compared if facet not in found]
        return found


class StorePage:
    """Up to `size` lists and sets, whose items are compared where they lie.

    Not by what they refer to: that would touch every item of every list.
    """

    __slots__ = ("_known", "_shown", "blocks", "facets", "home", "seen", "words")
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
        self.words = [store.words for store in stores]
        self.blocks = [block for store in stores for block in store.blocks]
        words = b"".join([store.seen for store in stores])
        self.seen = (words, contents(self.words, self.blocks, words))
        self._shown: list[tuple[Facet, Store]] = list(zip(self.facets, stores, strict=True))

    believe = refresh

    def remove(self, facet: Facet) -> None:
        """Compare *facet* no more, from the next `refresh` on."""
        self.facets.remove(facet)
        self._known.pop(id(facet), None)

    def suspects(self) -> list[Facet]:
        """Return the facets that may have changed: none, as a rule."""
        if not moved(self.words, self.blocks, self.seen):
            return []
        words, inside = self.seen
        ends = [0, *accumulate(len(store.seen) for _, store in self._shown)]
        inner_ends = [0, *accumulate(sum(map(len, store.blocks)) for _, store in self._shown)]
        numbered = [(facet, store, number) for number, (facet, store) in enumerate(self._shown)]

        def have_moved(part: Sequence[tuple[Facet, Store, int]]) -> bool:
            first, last = part[0][2], part[-1][2] + 1
            return moved(
                [store.words for _, store, _ in part],
                [block for _, store, _ in part for block in store.blocks],
                (words[ends[first] : ends[last]], inside[inner_ends[first] : inner_ends[last]]),
            )

        return _halved(numbered, have_moved)


class ReadPage:
    """Up to `size` facets of one kind with one flag each, which is read of all in one call."""

    __slots__ = ("_holders", "_read", "_seen", "_shown", "facets", "home")
    size: ClassVar[int] = 512

    def __init__(self, home: str | None = None) -> None:
        self.home = home
        self.facets: list[Facet] = []
        self.refresh()

    def refresh(self, moved: Iterable[Facet] = ()) -> None:
        """Believe what is there now."""
        self._shown = list(self.facets)
        self._holders = [facet.holder for facet in self.facets]
        # All of one kind. From the class: an instance would bind it.
        self._read: Callable[[Any], bool] = next((type(facet).reader for facet in self.facets), None) or bool
        self._seen = list(map(self._read, self._holders))

    believe = refresh

    def remove(self, facet: Facet) -> None:
        """Compare *facet* no more, from the next `refresh` on."""
        self.facets.remove(facet)

    def suspects(self) -> list[Facet]:
        """Return the facets that may have changed: none, as a rule."""
        now = list(map(self._read, self._holders))
        if now == self._seen:
            return []
        return [facet for facet, flag, seen in zip(self._shown, now, self._seen, strict=True) if flag != seen]


AnyPage = Page | StorePage | ReadPage


class Sweep:
    """All of some pages at once, in two calls: whether there is anything to ask a single page about."""

    __slots__ = ("_apart", "_blocks", "_seen", "_store_seen", "_views", "_words")

    def __init__(self, pages: Iterable[AnyPage]) -> None:
        pages = tuple(pages)
        plain = [page for page in pages if isinstance(page, Page)]
        # What is large is not to be kept twice.
        stores = [page for page in pages if isinstance(page, StorePage) and len(page.seen[1]) < _LARGE]
        self._apart: list[AnyPage] = [page for page in plain if page.compared]
        self._apart += [page for page in pages if not isinstance(page, Page) and page not in stores]
        self._views = list(chain.from_iterable(page.views for page in plain))
        self._seen = b"".join([page.seen for page in plain])
        self._words = list(chain.from_iterable(page.words for page in stores))
        self._blocks = list(chain.from_iterable(page.blocks for page in stores))
        self._store_seen = (b"".join([page.seen[0] for page in stores]), b"".join([page.seen[1] for page in stores]))

    def moved(self) -> bool:
        """Tell whether any page has suspects."""
        return (
            joined(self._views) != self._seen
            or moved(self._words, self._blocks, self._store_seen)
            or any(page.suspects() for page in self._apart)
        )


def _halved(spans: Sequence[_Span], differ: Callable[[Sequence[_Span]], bool]) -> list[Facet]:
    """Return the facets, each first in its span, that *differ* finds, halving what it says yes to."""
    if not spans or not differ(spans):
        return []
    if len(spans) == 1:
        return [spans[0][0]]
    middle = len(spans) // 2
    return _halved(spans[:middle], differ) + _halved(spans[middle:], differ)
