"""Pages: many stores compared in one call.

"Has anything changed?" is asked twice a test and must cost microseconds, so it
is asked of the interpreter, not of Python code. Dicts (modules, classes,
containers) show their version tags where there are any, lists and sets the
memory their items lie in. For the rest one `gc.get_referents` call lists what a
whole batch refers to, and the list is compared with the saved one as raw memory,
pointer by pointer. No `__eq__` can run and nothing depends on what the objects
are. Only a batch that differs is looked at, and only a node that differs is read.

Two facts about CPython shape the rest. `gc.get_referents` visits the *values*
of a dict whose keys are all strings but not the keys, so the keys of a batch
are compared as well. And an address is only an identity while its object
lives, so what was compared is held: by the batch, or by the states' snapshots.
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
from isolation_core.contamination.objects._containers import ObjectState

__all__ = ["AnyBatch", "Batch", "ReadBatch", "StoreBatch", "Sweep"]

_Span = TypeVar("_Span", bound=tuple[ObjectState, Any, int])

_LARGE: Final = 1 << 16  # bytes


class Batch:
    """Up to `size` states that are compared in one call.

    Args:
        test_module: name of the module to which the states matter; None: to all.
    """

    __slots__ = (
        "_known",
        "compared",
        "dicts",
        "image",
        "key_image",
        "referents",
        "seen",
        "spans",
        "states",
        "targets",
        "test_module",
        "views",
    )  # fmt: skip
    size: ClassVar[int] = 128

    def __init__(self, test_module: str | None = None) -> None:
        self.test_module = test_module
        self.states: list[ObjectState] = []
        self._known: dict[int, tuple[list[memoryview], int, tuple[Any, ...], dict[Any, Any] | None]] = {}
        self.refresh()

    def refresh(self, moved: Iterable[ObjectState] = ()) -> None:
        """Believe what is there now; the stores of *moved* states may be other objects."""
        known, self._known = self._known, {}
        for state in moved:
            known.pop(id(state), None)
        targets: list[Any] = []
        self.dicts: list[dict[Any, Any]] = []
        self.views: list[memoryview] = []
        # ObjectState, and where its views begin and end in the joined bytes.
        self.spans: list[tuple[ObjectState, int, int]] = []
        # Facets that are compared by what they refer to, or by keys.
        self.compared: list[ObjectState] = []
        end = 0
        for state in self.states:
            anatomy = known.get(id(state))
            if anatomy is None:
                views = state.views()
                anatomy = (views, sum(map(len, views)), *state.rest())
            self._known[id(state)] = anatomy
            views, size, rest, keyed = anatomy
            if size:
                self.spans.append((state, end, end + size))
                end += size
                self.views += views
            targets += rest
            if keyed is not None:
                self.dicts.append(keyed)
            # A functools cache is known by its keys alone: what it holds must be able to die.
            if rest or keyed is not None:
                self.compared.append(state)
        self.targets = tuple(targets)
        self._accept()

    def accept(self, moved: Iterable[ObjectState]) -> None:
        """Believe what is there now, when *moved* states were all that changed."""
        if any(state.may_move for state in moved):
            self.refresh(moved)
        else:
            self._accept()

    def _accept(self) -> None:
        self.seen = joined(self.views)
        self.referents = gc.get_referents(*self.targets)
        self.image = identical_lists(self.referents)
        self.key_image = identical(self._keys())

    def remove(self, state: ObjectState) -> None:
        """Compare *state* no more, from the next `refresh` on."""
        self.states.remove(state)
        self._known.pop(id(state), None)

    def _keys(self) -> tuple[Any, ...]:
        return tuple(chain.from_iterable(map(dict.__iter__, self.dicts)))

    def suspects(self) -> list[ObjectState]:
        """Return the states that may have changed: none, as a rule."""
        now = joined(self.views)
        # A view tells that its store was written to; whether it differs is for
        # the reading to say.
        found = _halved(self.spans, lambda spans: now[(at := slice(spans[0][1], spans[-1][2]))] != self.seen[at])
        if self.compared and (
            identical_lists(gc.get_referents(*self.targets)) != self.image
            or (self.dicts and identical(self._keys()) != self.key_image)
        ):
            found += [state for state in self.compared if state not in found]
        return found


class StoreBatch:
    """Up to `size` lists and sets, whose items are compared where they lie.

    Not by what they refer to: that would touch every item of every list.
    """

    __slots__ = ("_known", "_shown", "blocks", "seen", "states", "test_module", "words")
    size: ClassVar[int] = 64

    def __init__(self, test_module: str | None = None) -> None:
        self.test_module = test_module
        self.states: list[ObjectState] = []
        self._known: dict[int, Store] = {}
        self.refresh()

    def refresh(self, moved: Iterable[ObjectState] = ()) -> None:
        """Believe what is there now."""
        known, self._known = self._known, {}
        for state in self.states:
            store = known.get(id(state))
            self._known[id(state)] = store_of(state.holder) if store is None or store.moved() else store
        stores = self._known.values()
        self.words = [store.words for store in stores]
        self.blocks = [block for store in stores for block in store.blocks]
        words = b"".join([store.seen for store in stores])
        self.seen = (words, contents(self.words, self.blocks, words))
        self._shown: list[tuple[ObjectState, Store]] = list(zip(self.states, stores, strict=True))

    accept = refresh

    def remove(self, state: ObjectState) -> None:
        """Compare *state* no more, from the next `refresh` on."""
        self.states.remove(state)
        self._known.pop(id(state), None)

    def suspects(self) -> list[ObjectState]:
        """Return the states that may have changed: none, as a rule."""
        if not moved(self.words, self.blocks, self.seen):
            return []
        words, inside = self.seen
        ends = [0, *accumulate(len(store.seen) for _, store in self._shown)]
        inner_ends = [0, *accumulate(sum(map(len, store.blocks)) for _, store in self._shown)]
        numbered = [(state, store, number) for number, (state, store) in enumerate(self._shown)]

        def have_moved(part: Sequence[tuple[ObjectState, Store, int]]) -> bool:
            first, last = part[0][2], part[-1][2] + 1
            return moved(
                [store.words for _, store, _ in part],
                [block for _, store, _ in part for block in store.blocks],
                (words[ends[first] : ends[last]], inside[inner_ends[first] : inner_ends[last]]),
            )

        return _halved(numbered, have_moved)


class ReadBatch:
    """Up to `size` states of one kind with one flag each, which is read of all in one call."""

    __slots__ = ("_holders", "_read", "_seen", "_shown", "states", "test_module")
    size: ClassVar[int] = 512

    def __init__(self, test_module: str | None = None) -> None:
        self.test_module = test_module
        self.states: list[ObjectState] = []
        self.refresh()

    def refresh(self, moved: Iterable[ObjectState] = ()) -> None:
        """Believe what is there now."""
        self._shown = list(self.states)
        self._holders = [state.holder for state in self.states]
        # All of one kind. From the class: an instance would bind it.
        self._read: Callable[[Any], bool] = next((type(state).reader for state in self.states), None) or bool
        self._seen = list(map(self._read, self._holders))

    accept = refresh

    def remove(self, state: ObjectState) -> None:
        """Compare *state* no more, from the next `refresh` on."""
        self.states.remove(state)

    def suspects(self) -> list[ObjectState]:
        """Return the states that may have changed: none, as a rule."""
        now = list(map(self._read, self._holders))
        if now == self._seen:
            return []
        return [state for state, flag, seen in zip(self._shown, now, self._seen, strict=True) if flag != seen]


AnyBatch = Batch | StoreBatch | ReadBatch


class Sweep:
    """All of some batches at once, in two calls: whether there is anything to ask a single batch about."""

    __slots__ = ("_apart", "_blocks", "_seen", "_store_seen", "_views", "_words")

    def __init__(self, batches: Iterable[AnyBatch]) -> None:
        batches = tuple(batches)
        plain = [batch for batch in batches if isinstance(batch, Batch)]
        # What is large is not to be kept twice.
        stores = [batch for batch in batches if isinstance(batch, StoreBatch) and len(batch.seen[1]) < _LARGE]
        self._apart: list[AnyBatch] = [batch for batch in plain if batch.compared]
        self._apart += [batch for batch in batches if not isinstance(batch, Batch) and batch not in stores]
        self._views = list(chain.from_iterable(batch.views for batch in plain))
        self._seen = b"".join([batch.seen for batch in plain])
        self._words = list(chain.from_iterable(batch.words for batch in stores))
        self._blocks = list(chain.from_iterable(batch.blocks for batch in stores))
        self._store_seen = (
            b"".join([batch.seen[0] for batch in stores]),
            b"".join([batch.seen[1] for batch in stores]),
        )

    def moved(self) -> bool:
        """Return whether any batch has suspects."""
        return (
            joined(self._views) != self._seen
            or moved(self._words, self._blocks, self._store_seen)
            or any(batch.suspects() for batch in self._apart)
        )


def _halved(spans: Sequence[_Span], differ: Callable[[Sequence[_Span]], bool]) -> list[ObjectState]:
    """Return the states, each first in its span, that *differ* finds, halving what it says yes to."""
    if not spans or not differ(spans):
        return []
    if len(spans) == 1:
        return [spans[0][0]]
    middle = len(spans) // 2
    return _halved(spans[:middle], differ) + _halved(spans[middle:], differ)
