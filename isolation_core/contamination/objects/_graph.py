"""The ledger: every mutable node reachable from first-party modules, with its children.

It is built once and updated by what changed. Whether anything did is a question
to pages of nodes (`_pages`); only a node that differs is read.
"""

from __future__ import annotations

import functools
import sys
import types
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Final, cast

from isolation_core.contamination._difference import Difference
from isolation_core.contamination._first_party import is_runner_class, module_of
from isolation_core.contamination.objects import _namespaces as names
from isolation_core.contamination.objects._batches import AnyPage, Page, ReadPage, StorePage, Sweep
from isolation_core.contamination.objects._by_type import LEAF_TYPES, Anatomy
from isolation_core.contamination.objects._containers import Facet, ImmutableFacet
from isolation_core.contamination.objects._functions import (
    BufferFacet,
    CellFacet,
    DispatchFacet,
    FunctionFacet,
    RandomFacet,
)
from isolation_core.contamination.objects._sync import GeneratorFacet, MemoryFileFacet

__all__ = ["Ledger", "Node"]

MAX_NODES: Final = 60_000
"""More nodes than this are not watched: the nearest to the modules come first, and the rest is said."""

_DISPATCHER: Final = cast("Any", functools.singledispatch(len)).__code__
"""The code every `functools.singledispatch` function shares."""


def _step(parent: Facet) -> int:
    """Return how much one step through *parent* makes a path harder to read."""
    # Through a bound method, a closure or a default is a detour.
    return 8 if isinstance(parent, (ImmutableFacet, CellFacet, FunctionFacet)) else 1


class Node:
    """One object the ledger watches.

    Attributes:
        value: the object.
        facets: its stores.
        parent: the facet it was first reached through, or None for a root.
        key: the slot of *parent* it sits in.
        label: text of a root; otherwise empty.
        users: how many slots of watched objects hold it.
        birth: the tracker's count of frames when the object was met; see `Ledger.birth`.
        cost: how far from a plain name its path is; a cheaper way replaces a dearer one.
        home: the module of tests to which alone it matters; None: all. See `Ledger.leaf_modules`.
    """

    __slots__ = ("birth", "cost", "facets", "foreign", "home", "key", "label", "parent", "users", "value")

    def __init__(self, value: Any, facets: list[Facet], parent: Facet | None, key: Hashable, label: str) -> None:
        self.value = value
        self.facets = facets
        self.parent = parent
        self.key = key
        self.label = label
        self.users = 1
        self.birth = 0
        self.foreign = False
        self.home: str | None = None
        self.cost = 0 if parent is None or label else parent.node.cost + _step(parent)

    def met(self, parent: Facet, key: Hashable) -> None:
        """Take note of another way to the object: keep the one a person would write.

        The cost of a node only falls, and nodes reached through it are dearer
        than it was, so no path can come to lead through itself.
        """
        cost = parent.node.cost + _step(parent)
        if cost < self.cost:
            self.parent, self.key, self.cost = parent, key, cost

    def path(self) -> str:
        """Return the shortest way to the object the ledger knows, as Python text."""
        steps: list[str] = []
        node: Node = self
        while not node.label and node.parent is not None and len(steps) < 64:
            steps.append(node.parent.accessor(node.key))
            node = node.parent.node
        return node.label + "".join(reversed(steps))

    def root(self) -> Node:
        """Return the root this node was first reached from."""
        node: Node = self
        while node.parent is not None:
            node = node.parent.node
        return node


class Ledger:
    """The table of watched objects.

    Args:
        is_first_party: tells whether a module name is watched deeply.
    """

    def __init__(self, is_first_party: Callable[[str], bool]) -> None:
        self._is_first_party = is_first_party
        self._anatomy = Anatomy(is_first_party)
        self._nodes: dict[int, Node] = {}
        self._roots: dict[Hashable, Node] = {}
        self._pages: list[AnyPage] = []
        self._page_of: dict[int, AnyPage] = {}
        # Facets whose state has no referents and must be read to be compared.
        self._opaque: list[Facet] = []
        self._abcs: list[Facet] = []
        self._abc_token: object = None
        self._unsettled: dict[int, tuple[Facet, Any]] = {}
        self._queue: deque[tuple[Node, bool]] = deque()
        self._dirty_pages: set[int] = set()
        self._filling: dict[tuple[str | None, type, object], AnyPage] = {}
        self._late: dict[int, Facet] = {}
        # All pages the tests of one module are concerned with at once, while none of them moves.
        self._sweep: tuple[str | None, Sweep] | None = None
        self.truncated = 0
        # Modules nobody imports: those of the tests. A function in one of them
        # is changed by the tests beside it, if at all, so it is looked at with
        # them, and with all others when a wider frame ends; so is what only such
        # functions lead to, as they do to their marks. A thousand test
        # functions are a thousand places in memory to visit for every test.
        self.leaf_modules: frozenset[str] = frozenset()
        # What nodes are marked with that are met now. A frame is not concerned
        # with objects that were met inside it (a mock that is in place for a
        # moment): it puts back the slot that leads to them.
        self.birth = 0

    def __len__(self) -> int:
        return len(self._nodes)

    # -- roots ---------------------------------------------------------------

    def add_module(self, name: str, module: types.ModuleType) -> None:
        """Watch a first-party module, as deep as it goes."""
        known = self._roots.get(name)
        if known is not None and isinstance(known.facets[0], names.ShallowModuleFacet):
            self.drop_root(name)
        self._add_root(name, module, [names.ModuleFacet(module)])

    def add_foreign_module(self, name: str, module: types.ModuleType) -> None:
        """Watch the attributes of a module the tests import, and of the classes it defines."""
        if self._add_root(name, module, [names.ShallowModuleFacet(module)]) is None and not self._nodes.get(id(module)):
            return
        top = name.partition(".")[0]
        for key, value in tuple(module.__dict__.items()):
            # Its own classes, also those a package gathers from its submodules.
            if issubclass(type(value), type) and module_of(value).partition(".")[0] == top:
                self.add_foreign_class(f"{name}.{key}", value)

    def add_distant_module(self, name: str, module: types.ModuleType) -> None:
        """Watch the attributes of a module nobody under test imports, and nothing below them."""
        self._add_root(name, module, [names.ShallowModuleFacet(module)])

    def add_foreign_class(self, label: str, cls: type) -> None:
        """Watch the namespace of a class the tests import."""
        # Static and immutable types cannot be assigned to: nothing to watch.
        if cls.__flags__ & (1 << 8) or not cls.__flags__ & (1 << 9) or is_runner_class(cls):
            return
        self._add_root(label, cls, [names.ShallowClassFacet(cls)])

    def add_value(self, key: Hashable, label: str, value: object) -> None:
        """Watch an object that no module leads to: a fixture's value, a parameter."""
        if key in self._roots or type(value) in LEAF_TYPES:
            return
        self._track(value, None, None, root=key, label=label)
        self._walk()
        self._write_pages()

    def drop_root(self, key: Hashable) -> Node | None:
        """Let go of a root and of everything only it leads to; return it if it was watched."""
        node = self._roots.pop(key, None)
        if node is not None:
            self._release(node)
            self._write_pages()
        return node

    def _add_root(self, label: str, value: Any, facets: list[Facet]) -> Node | None:
        if label in self._roots:
            return None
        known = self._nodes.get(id(value))
        if known is not None:
            known.users += 1
            self._roots[label] = known
            return None
        node = self._enter(value, facets, None, None, label)
        self._roots[label] = node
        self._walk()
        return node

    def forget_anatomy(self) -> None:
        """Look at types anew, after more modules have become first-party."""
        self._anatomy.forget()

    # -- walking -------------------------------------------------------------

    def _enter(self, value: Any, facets: list[Facet], parent: Facet | None, key: Hashable, label: str) -> Node:
        node = Node(value, facets, parent, key, label)
        node.birth = self.birth
        node.home = self._home_of(value, parent)
        self._nodes[id(value)] = node
        for facet in facets:
            facet.node = node
            if isinstance(facet, (BufferFacet, RandomFacet, GeneratorFacet, MemoryFileFacet)):
                self._opaque.append(facet)
            elif isinstance(facet, names.AbcFacet):
                self._abcs.append(facet)
            elif not isinstance(facet, ImmutableFacet):
                self._to_page(facet)
        self._queue.append((node, node.foreign))
        return node

    def _track(
        self, value: Any, parent: Facet | None, key: Hashable, *, root: Hashable = None, label: str = ""
    ) -> None:
        """Make *value* a node if it has state; count one more user if it is one."""
        kind = type(value)
        if kind in LEAF_TYPES:
            return
        node = self._nodes.get(id(value))
        if node is not None:
            node.users += 1
            if parent is not None:
                node.met(parent, key)
            if node.home is not None and (parent is None or parent.node.home != node.home):
                self._share(node)
            if root is not None:
                self._roots[root] = node
            return
        facets, foreign = self._dissect(value, kind, parent)
        if not facets:
            return
        if len(self._nodes) >= MAX_NODES:
            self.truncated += 1
            return
        node = self._enter(value, facets, parent, key, label or self._own_label(value, kind))
        node.foreign = foreign
        if root is not None:
            self._roots[root] = node

    def _dissect(self, value: Any, kind: type, parent: Facet | None) -> tuple[list[Facet], bool]:
        if kind is types.FunctionType:
            return self._dissect_function(value), False
        if issubclass(kind, type):
            return self._dissect_class(value), False
        dissect, foreign = self._anatomy.of(kind)
        if dissect is None:
            return [], foreign
        if foreign and (parent is None or parent.node.foreign):
            # A third-party object inside a third-party object, or one that a
            # fixture hands out, is the library's own affair.
            return [], foreign
        try:
            return dissect(value), foreign
        except Exception:  # an exotic object that cannot even be read is left alone
            return [], foreign

    def _dissect_function(self, function: Any) -> list[Facet]:
        own = self._is_first_party(function.__globals__.get("__name__") or "")
        if function.__code__ is _DISPATCHER:
            return [FunctionFacet(function), DispatchFacet(function)]
        if own or function.__closure__ is not None or function.__module__ is None:
            return [FunctionFacet(function)]
        return []

    def _dissect_class(self, cls: type) -> list[Facet]:
        if not self._is_first_party(module_of(cls)) or not cls.__flags__ & (1 << 9):
            return []
        found: list[Facet] = [names.ClassFacet(cls)]
        if "_abc_impl" in names.class_dict(cls):
            found.append(names.AbcFacet(cls))
        return found

    def _own_label(self, value: Any, kind: type) -> str:
        """Name a class by the place that defines it, wherever it was met first."""
        if not issubclass(kind, type):
            return ""
        module = module_of(value)
        qualname = type.__dict__["__qualname__"].__get__(value)
        found: Any = sys.modules.get(module)
        for part in qualname.split("."):
            space = names.class_dict(found) if issubclass(type(found), type) else getattr(found, "__dict__", {})
            found = space.get(part)
        return f"{module}.{qualname}" if found is value else ""

    def _walk(self) -> None:
        """Visit everything newly entered, nearest first."""
        queue = self._queue
        track = self._track
        while queue:
            node, _ = queue.popleft()
            for facet in node.facets:
                for key, child in facet.children(facet.saved):
                    if type(child) not in LEAF_TYPES:
                        track(child, facet, key)

    # -- pages ---------------------------------------------------------------
    #
    # A page learns new addresses only right after it was compared. Otherwise a
    # change of one of its facets would be believed unseen because another facet
    # was added, removed or restored: whatever such an update would swallow goes
    # to `_late`, and the next scan looks at it.

    def _to_page(self, facet: Facet) -> None:
        home = facet.node.home
        reader = type(facet).reader
        kind = StorePage if facet.stored else Page if reader is None else ReadPage
        page = self._filling.get((home, kind, reader))
        if page is None or len(page.facets) >= kind.size:
            page = self._filling[home, kind, reader] = kind(home)
            self._pages.append(page)
        page.facets.append(facet)
        self._page_of[id(facet)] = page
        self._dirty_pages.add(id(page))

    def _home_of(self, value: Any, parent: Facet | None) -> str | None:
        if not self.leaf_modules:
            return None
        if type(value) is types.FunctionType:
            name = value.__globals__.get("__name__")
            return name if name in self.leaf_modules else None
        return None if parent is None else parent.node.home

    def _share(self, node: Node) -> None:
        """Look at *node* with every test from now on: not only the functions of one module lead to it."""
        home = node.home
        stack = [node]
        while stack:
            current = stack.pop()
            if current.home != home or type(current.value) is types.FunctionType:
                continue
            current.home = None
            for facet in current.facets:
                page = self._page_of.get(id(facet))
                if page is not None:
                    page.remove(facet)
                    self._dirty_pages.add(id(page))
                    self._to_page(facet)
                for _, child in facet.children(facet.saved):
                    inner = self._nodes.get(id(child))
                    if inner is not None:
                        stack.append(inner)

    def _write_pages(self, believed: tuple[Facet, ...] = ()) -> None:
        """Bring the images of touched pages up to date; *believed* facets were just read."""
        if not self._dirty_pages:
            return
        self._sweep = None
        read = {id(facet) for facet in believed}
        for page in self._pages:
            if id(page) in self._dirty_pages:
                for facet in page.suspects():
                    if id(facet) not in read and id(facet) in self._page_of:
                        self._late[id(facet)] = facet
                if believed:
                    page.believe([facet for facet in believed if self._page_of.get(id(facet)) is page])
                else:
                    page.refresh()
        self._dirty_pages.clear()
        self._filling.clear()
        self._pages = [page for page in self._pages if page.facets]
        for kind in (Page, StorePage):
            shared = [page for page in self._pages if page.home is None and type(page) is kind]
            if len(shared) > 16 and sum(len(page.facets) for page in shared) < len(shared) * kind.size // 3:
                self._repack(kind, shared)

    def _repack(self, kind: type[Page | StorePage], pages: Sequence[AnyPage]) -> None:
        """Gather the facets of many small pages in few large ones."""
        facets: list[Facet] = []
        for page in pages:
            for facet in page.suspects():
                self._late[id(facet)] = facet
            facets += page.facets
        self._pages = [page for page in self._pages if page not in pages]
        for start in range(0, len(facets), kind.size):
            page = kind()
            page.facets = facets[start : start + kind.size]
            page.refresh()
            self._pages.append(page)
            self._page_of.update((id(facet), page) for facet in page.facets)

    def write(self) -> None:
        """Finish a series of `add_module` and `add_foreign_module` calls."""
        self._write_pages()

    # -- comparing -----------------------------------------------------------

    def scan(self, home: str | None = None) -> list[tuple[Facet, Difference]]:
        """Return what moved since the last scan, and believe the new state.

        Args:
            home: leave out the functions of other `leaf_modules` than this one;
                None: look at everything.

        New children are not walked yet: `settle` does that once it is clear
        what stays.
        """
        changed: list[tuple[Facet, Difference]] = []
        if self._late:
            late, self._late = self._late, {}
            changed.extend(self._look(late.values()))
        if self._sweep is None or self._sweep[0] != home or self._sweep[1].moved():
            here = [page for page in self._pages if home is None or page.home is None or page.home == home]
            calm = True
            for page in here:
                suspects = page.suspects()
                if suspects:
                    calm = False
                    # Read first, believe second: a facet is compared with what was
                    # saved before the page learns the new addresses.
                    changed.extend(self._look(suspects))
                    page.believe(suspects)
            # Where tests leave things behind, each look would make it in vain.
            self._sweep = (home, Sweep(here)) if calm else None
        if self._opaque:
            changed.extend(self._look(self._opaque))
        if self._abcs:
            from abc import get_cache_token

            token = get_cache_token()
            if token != self._abc_token:
                changed.extend(self._look(self._abcs))
                self._abc_token = token
        return changed

    def _look(self, facets: Iterable[Facet]) -> Iterator[tuple[Facet, Difference]]:
        for facet in tuple(facets):
            now = facet.read()
            found = tuple(facet.diff(facet.saved, now))
            if found or len(now) != len(facet.saved):
                self._unsettled.setdefault(id(facet), (facet, facet.saved))
            facet.saved = now
            for difference in found:
                yield facet, difference

    def reread(self, facets: Iterable[Facet]) -> None:
        """Believe the state of *facets* as it is now, after they were restored."""
        facets = tuple(facets)
        for facet in facets:
            self._unsettled.setdefault(id(facet), (facet, facet.saved))
            facet.saved = facet.read()
            page = self._page_of.get(id(facet))
            if page is not None:
                self._dirty_pages.add(id(page))
        self._write_pages(facets)

    def settle(self) -> None:
        """Watch what was added since the last time and let go of what was removed."""
        if not self._unsettled:
            return
        unsettled, self._unsettled = self._unsettled, {}
        gone: list[Any] = []
        for facet, before in unsettled.values():
            if id(facet.node.value) not in self._nodes:
                continue
            older = {(id(child)): child for _, child in facet.children(before)}
            newer = [(key, child) for key, child in facet.children(facet.saved)]
            fresh = {id(child) for _, child in newer}
            for key, child in newer:
                if id(child) not in older:
                    self._track(child, facet, key)
            gone.extend(child for ident, child in older.items() if ident not in fresh)
        self._walk()
        for child in gone:
            node = self._nodes.get(id(child))
            if node is not None:
                self._release(node)
        self._write_pages()

    def _release(self, node: Node) -> None:
        """Count one user less; forget the node, and what only it held, at zero."""
        stack = [node]
        while stack:
            current = stack.pop()
            current.users -= 1
            if current.users > 0 or self._nodes.get(id(current.value)) is not current:
                continue
            del self._nodes[id(current.value)]
            for facet in current.facets:
                for _, child in facet.children(facet.saved):
                    inner = self._nodes.get(id(child))
                    if inner is not None:
                        stack.append(inner)
                self._unpage(facet)
            # Node and facets know each other; without this the object would
            # wait for the garbage collector.
            current.facets = []

    def _unpage(self, facet: Facet) -> None:
        self._late.pop(id(facet), None)
        page = self._page_of.pop(id(facet), None)
        if page is not None:
            page.remove(facet)
            self._dirty_pages.add(id(page))
        elif facet in self._opaque:
            self._opaque.remove(facet)
        elif facet in self._abcs:
            self._abcs.remove(facet)
