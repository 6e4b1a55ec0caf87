"""The graph: every mutable node reachable from first-party modules, with its children.

It is built once and updated by what changed. Whether anything did is a question
to batches of nodes (`_batches`); only a node that differs is read.
"""

from __future__ import annotations

import functools
import os
import sys
import types
import warnings
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Final, cast

from isolation_core.contamination._cpython import HAS_TAGS
from isolation_core.contamination._difference import Difference
from isolation_core.contamination._first_party import flags_of, is_runner_class, module_of
from isolation_core.contamination._slot import Slot
from isolation_core.contamination.libraries._state import LibraryState
from isolation_core.contamination.libraries._watch import LibraryWatch
from isolation_core.contamination.objects import _namespaces as names
from isolation_core.contamination.objects._batches import AnyBatch, Batch, ReadBatch, StoreBatch, Sweep
from isolation_core.contamination.objects._by_type import LEAF_TYPES, Anatomy
from isolation_core.contamination.objects._caches import AbcState
from isolation_core.contamination.objects._containers import ImmutableState, ObjectState
from isolation_core.contamination.objects._functions import CellState, DispatchState, FunctionState
from isolation_core.contamination.objects._opaque import BufferState, GeneratorState, MemoryFileState, RandomState
from isolation_core.contamination.objects._slot import ObjectSlot, slot_of
from isolation_core.journal import get_journal

__all__ = ["Node", "ObjectGraph"]

MAX_NODES: Final = 60_000
"""More nodes than this are not watched: the nearest to the modules come first, and the rest is said."""

_DISPATCHER: Final = cast("Any", functools.singledispatch(len)).__code__
"""The code every `functools.singledispatch` function shares."""


def _step(parent: ObjectState) -> int:
    """Return how much one step through *parent* makes a path harder to read."""
    # Through a bound method, a closure or a default is a detour.
    return 8 if isinstance(parent, (ImmutableState, CellState, FunctionState)) else 1


_OF_PROBES: Final = (
    *(sys.modules, sys.path, sys.argv, sys.meta_path, sys.path_hooks, sys.path_importer_cache),
    *(warnings.filters, os.environ, vars(os.environ).get("_data")),
)
_PROBED: Final = frozenset(map(id, _OF_PROBES))
"""Objects of the interpreter that probes watch, by address; a name in own code for one is reported there, once."""

_THROUGH_TESTS: Final = 2
"""What the path of a thing costs more through a module of tests, which has it from elsewhere."""


class Node:
    """One object the graph watches.

    Attributes:
        value: the object.
        states: its stores.
        parent: the state it was first reached through, or None for a root.
        key: the slot of *parent* it sits in.
        label: text of a root; otherwise empty.
        users: how many slots of watched objects hold it.
        created_in: the tracker's count of frames when the object was met; see `ObjectGraph.created_in`.
        cost: how far from a plain name its path is; a cheaper way replaces a dearer one.
        test_module: the module of tests to which alone it matters; None: all. See `ObjectGraph.test_modules`.
        threaded: whether a thread was seen to work on it.
    """

    __slots__ = (
        "cost",
        "created_in",
        "foreign",
        "key",
        "label",
        "parent",
        "states",
        "test_module",
        "threaded",
        "users",
        "value",
    )

    def __init__(
        self, value: Any, states: list[ObjectState], parent: ObjectState | None, key: Hashable, label: str
    ) -> None:
        self.value = value
        self.states = states
        self.parent = parent
        self.key = key
        self.label = label
        self.users = 1
        self.created_in = 0
        self.foreign = False
        self.threaded = False
        self.test_module: str | None = None
        self.cost = 0 if parent is None or label else parent.node.cost + _step(parent)

    def met(self, parent: ObjectState, key: Hashable) -> None:
        """Take note of another way to the object: keep the one a person would write.

        The cost of a node only falls, and nodes reached through it are dearer
        than it was, so no path can come to lead through itself.
        """
        cost = parent.node.cost + _step(parent)
        if cost < self.cost:
            self.parent, self.key, self.cost = parent, key, cost

    def path(self) -> str:
        """Return the shortest way to the object the graph knows, as Python text."""
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


class ObjectGraph:
    """The table of watched objects.

    Args:
        is_first_party: returns whether a module name is watched deeply.
    """

    def __init__(self, is_first_party: Callable[[str], bool]) -> None:
        self._is_first_party = is_first_party
        self._anatomy = Anatomy(is_first_party)
        self._nodes: dict[int, Node] = {}
        self._roots: dict[Hashable, Node] = {}
        self._batches: list[AnyBatch] = []
        self._batch_of: dict[int, AnyBatch] = {}
        # Facets whose state has no referents and must be read to be compared.
        self._opaque: list[ObjectState] = []
        self._abcs: list[ObjectState] = []
        self._libraries = LibraryWatch()
        self._abc_token: object = None
        self._unsettled: dict[int, tuple[ObjectState, Any]] = {}
        self._queue: deque[tuple[Node, bool]] = deque()
        self._dirty_batches: set[int] = set()
        self._filling: dict[tuple[str | None, type, object], AnyBatch] = {}
        self._late: dict[int, ObjectState] = {}
        # All batches the tests of one module are concerned with at once, while none of them moves.
        self._sweep: tuple[str | None, Sweep] | None = None
        self.truncated = 0
        # How often the namespace of a module or class was written to, and held the same afterwards.
        self.touches = 0
        # Modules that no other module imports: those of the tests. A function in one of them
        # is changed by the tests beside it, if at all, so it is looked at with
        # them, and with all others when a wider frame ends; so is what only such
        # functions lead to, as they do to their marks. A thousand test
        # functions are a thousand places in memory to visit for every test.
        self.test_modules: frozenset[str] = frozenset()
        # What nodes are marked with that are met now. A frame is not concerned
        # with objects that were met inside it (a mock that is in place for a
        # moment): it puts back the slot that leads to them.
        self.created_in = 0

    def __len__(self) -> int:
        return len(self._nodes)

    # -- roots ---------------------------------------------------------------

    def add_module(self, name: str, module: types.ModuleType) -> None:
        """Watch a first-party module, as deep as it goes."""
        known = self._roots.get(name)
        if known is not None and isinstance(known.states[0], names.ShallowModuleState):
            self.drop_root(name)
        self._add_root(name, module, [names.ModuleState(module)])

    def add_foreign_module(self, name: str, module: types.ModuleType) -> None:
        """Watch the attributes of a module the tests import, and of the classes it defines."""
        if self._add_root(name, module, [names.ShallowModuleState(module)]) is None and not self._nodes.get(id(module)):
            return
        top = name.partition(".")[0]
        for key, value in tuple(module.__dict__.items()):
            # Its own classes, also those a package gathers from its submodules.
            if issubclass(type(value), type) and module_of(value).partition(".")[0] == top:
                self.add_foreign_class(f"{name}.{key}", value)

    def add_distant_module(self, name: str, module: types.ModuleType) -> None:
        """Watch the attributes of a module that no code under test imports, and nothing below them."""
        self._add_root(name, module, [names.ShallowModuleState(module)])

    def add_foreign_class(self, label: str, cls: type) -> None:
        """Watch the namespace of a class the tests import."""
        # Static and immutable types cannot be assigned to: nothing to watch.
        if flags_of(cls) & (1 << 8) or not flags_of(cls) & (1 << 9) or is_runner_class(cls):
            return
        self._add_root(label, cls, [names.ShallowClassState(cls)])

    def add_library(self, key: str, state: LibraryState | None) -> None:
        """Watch a unit of state that all of a library shares; None: watch it no longer."""
        self.drop_root(key)
        if state is None:
            return
        self._roots[key] = node = self._enter(state.holder, [state], None, None, "")
        node.foreign = True
        self._walk()

    def add_value(self, key: Hashable, label: str, value: object) -> None:
        """Watch an object that no module leads to: a fixture's value, a parameter."""
        if key in self._roots or type(value) in LEAF_TYPES:
            return
        self._track(value, None, None, root=key, label=label)
        self._walk()
        self._write_batches()

    def drop_root(self, key: Hashable) -> Node | None:
        """Release a root and everything that only it leads to; return it if it was watched."""
        node = self._roots.pop(key, None)
        if node is not None:
            self._release(node)
            self._write_batches()
        return node

    def _add_root(self, label: str, value: Any, states: list[ObjectState]) -> Node | None:
        if label in self._roots:
            return None
        known = self._nodes.get(id(value))
        if known is not None:
            known.users += 1
            self._roots[label] = known
            return None
        node = self._enter(value, states, None, None, label)
        if label in self.test_modules:
            # Some are not imported but run by the runner, and stand in `sys.modules` where they began.
            node.cost = _THROUGH_TESTS
        self._roots[label] = node
        self._walk()
        return node

    def forget_anatomy(self) -> None:
        """Look at types anew, after more modules have become first-party."""
        self._anatomy.forget()

    # -- walking -------------------------------------------------------------

    def _enter(
        self, value: Any, states: list[ObjectState], parent: ObjectState | None, key: Hashable, label: str
    ) -> Node:
        node = Node(value, states, parent, key, label)
        node.created_in = self.created_in
        node.test_module = self._test_module_of(value, parent)
        self._nodes[id(value)] = node
        for state in states:
            state.node = node
            if isinstance(state, (BufferState, RandomState, GeneratorState, MemoryFileState)):
                self._opaque.append(state)
            elif isinstance(state, AbcState):
                self._abcs.append(state)
            elif isinstance(state, LibraryState):
                self._libraries.add(state)
            elif not isinstance(state, ImmutableState):
                self._to_batch(state)
        self._queue.append((node, node.foreign))
        return node

    def _track(
        self, value: Any, parent: ObjectState | None, key: Hashable, *, root: Hashable = None, label: str = ""
    ) -> None:
        """Make *value* a node if it has state; count one more user if it is one."""
        kind = type(value)
        if kind in LEAF_TYPES or id(value) in _PROBED:
            return
        node = self._nodes.get(id(value))
        if node is not None:
            node.users += 1
            if parent is not None:
                node.met(parent, key)
            if node.test_module is not None and (parent is None or parent.node.test_module != node.test_module):
                self._share(node)
            if root is not None:
                self._roots[root] = node
            return
        states, foreign = self._dissect(value, kind, parent)
        if not states:
            return
        if len(self._nodes) >= MAX_NODES:
            if not self.truncated:
                get_journal().record("truncated", what="the objects of your modules", limit=MAX_NODES)
            self.truncated += 1
            return
        node = self._enter(value, states, parent, key, label or self._own_label(value, kind))
        # What it leads to is the library's own affair, apart from what has a profile, and own code.
        node.foreign = foreign or isinstance(states[0], LibraryState)
        if root is not None:
            self._roots[root] = node

    def _dissect(self, value: Any, kind: type, parent: ObjectState | None) -> tuple[list[ObjectState], bool]:
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

    def _dissect_function(self, function: Any) -> list[ObjectState]:
        own = self._is_first_party(function.__globals__.get("__name__") or "")
        if function.__code__ is _DISPATCHER:
            return [FunctionState(function), DispatchState(function)]
        if own or function.__closure__ is not None or function.__module__ is None:
            return [FunctionState(function)]
        return []

    def _dissect_class(self, cls: type) -> list[ObjectState]:
        if not self._is_first_party(module_of(cls)) or not flags_of(cls) & (1 << 9):
            return []
        found: list[ObjectState] = [names.ClassState(cls)]
        if "_abc_impl" in names.class_dict(cls):
            found.append(AbcState(cls))
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
            for state in node.states:
                for key, child in state.children(state.saved):
                    if type(child) not in LEAF_TYPES:
                        track(child, state, key)

    # -- batches ---------------------------------------------------------------
    #
    # A batch learns new addresses only right after it was compared. Otherwise a
    # change of one of its states would be accepted unseen because another state
    # was added, removed or restored: whatever such an update would swallow goes
    # to `_late`, and the next scan looks at it.

    def _to_batch(self, state: ObjectState) -> None:
        test_module = state.node.test_module
        reader = type(state).reader
        kind = StoreBatch if state.stored else Batch if reader is None else ReadBatch
        batch = self._filling.get((test_module, kind, reader))
        if batch is None or len(batch.states) >= kind.size:
            batch = self._filling[test_module, kind, reader] = kind(test_module)
            self._batches.append(batch)
        batch.states.append(state)
        self._batch_of[id(state)] = batch
        self._dirty_batches.add(id(batch))

    def _test_module_of(self, value: Any, parent: ObjectState | None) -> str | None:
        if not self.test_modules:
            return None
        if type(value) is types.FunctionType:
            name = value.__globals__.get("__name__")
            return name if name in self.test_modules else None
        return None if parent is None else parent.node.test_module

    def _share(self, node: Node) -> None:
        """Look at *node* with every test from now on: not only the functions of one module lead to it."""
        test_module = node.test_module
        stack = [node]
        while stack:
            current = stack.pop()
            if current.test_module != test_module or type(current.value) is types.FunctionType:
                continue
            current.test_module = None
            for state in current.states:
                batch = self._batch_of.get(id(state))
                if batch is not None:
                    batch.remove(state)
                    self._dirty_batches.add(id(batch))
                    self._to_batch(state)
                for _, child in state.children(state.saved):
                    inner = self._nodes.get(id(child))
                    if inner is not None:
                        stack.append(inner)

    def _write_batches(self, accepted: tuple[ObjectState, ...] = ()) -> None:
        """Bring the images of touched batches up to date; *accepted* states were just read."""
        if not self._dirty_batches:
            return
        self._sweep = None
        read = {id(state) for state in accepted}
        for batch in self._batches:
            if id(batch) in self._dirty_batches:
                for state in batch.suspects():
                    if id(state) not in read and id(state) in self._batch_of:
                        self._late[id(state)] = state
                if accepted:
                    batch.accept([state for state in accepted if self._batch_of.get(id(state)) is batch])
                else:
                    batch.refresh()
        self._dirty_batches.clear()
        self._filling.clear()
        self._batches = [batch for batch in self._batches if batch.states]
        for kind in (Batch, StoreBatch):
            shared = [batch for batch in self._batches if batch.test_module is None and type(batch) is kind]
            if len(shared) > 16 and sum(len(batch.states) for batch in shared) < len(shared) * kind.size // 3:
                self._repack(kind, shared)

    def _repack(self, kind: type[Batch | StoreBatch], batches: Sequence[AnyBatch]) -> None:
        """Gather the states of many small batches in few large ones."""
        states: list[ObjectState] = []
        for batch in batches:
            for state in batch.suspects():
                self._late[id(state)] = state
            states += batch.states
        self._batches = [batch for batch in self._batches if batch not in batches]
        for start in range(0, len(states), kind.size):
            batch = kind()
            batch.states = states[start : start + kind.size]
            batch.refresh()
            self._batches.append(batch)
            self._batch_of.update((id(state), batch) for state in batch.states)

    def write(self) -> None:
        """Finish a series of `add_module` and `add_foreign_module` calls."""
        self._write_batches()

    # -- comparing -----------------------------------------------------------

    def moved(self, test_module: str | None = None) -> list[tuple[ObjectSlot, Difference]]:
        """Return what moved since it was asked last, and accept the new state.

        Args:
            test_module: leave out the functions of other `test_modules` than this one;
                None: look at everything.

        New children are not walked yet: `settle` does that once it is clear
        what stays.
        """
        changed: list[tuple[ObjectSlot, Difference]] = []
        if self._late:
            late, self._late = self._late, {}
            changed.extend(self._look(late.values()))
        if self._sweep is None or self._sweep[0] != test_module or self._sweep[1].moved():
            here = [
                batch
                for batch in self._batches
                if test_module is None or batch.test_module is None or batch.test_module == test_module
            ]
            calm = True
            for batch in here:
                suspects = batch.suspects()
                if suspects:
                    calm = False
                    # Read first, accept second: a state is compared with what was
                    # saved before the batch learns the new addresses.
                    changed.extend(self._look(suspects))
                    batch.accept(suspects)
            # Where tests leave things behind, each look would make it in vain.
            self._sweep = (test_module, Sweep(here)) if calm else None
        if self._opaque:
            changed.extend(self._look(self._opaque))
        if self._libraries:
            units = self._libraries.suspects()
            changed.extend(self._look(units))
            self._libraries.accept(units)
        if self._abcs:
            from abc import get_cache_token

            token = get_cache_token()
            if token != self._abc_token:
                changed.extend(self._look(self._abcs))
                self._abc_token = token
        return changed

    def _look(self, states: Iterable[ObjectState]) -> Iterator[tuple[ObjectSlot, Difference]]:
        for state in tuple(states):
            now = state.read()
            found = tuple(state.diff(state.saved, now))
            if found or len(now) != len(state.saved):
                self._unsettled.setdefault(id(state), (state, state.saved))
            elif HAS_TAGS and isinstance(state, names.ModuleState | names.ClassState):
                # Not where only names moved that are left out of the comparison, such as pytest's own.
                self.touches += all(now.get(key, names) is value for key, value in state.saved.items())
            state.saved = now
            owned = self._libraries.owned
            for difference in found:
                if owned and (id(state.holder), difference.key) in owned and not isinstance(state, LibraryState):
                    continue  # a unit of a library speaks for it
                yield slot_of(state, difference.key), difference

    def accept(self, targets: Iterable[tuple[Slot, Any]]) -> dict[Slot, Any]:
        """Accept the objects of some slots as they are now, after values were put back there.

        Returns:
            The values found in slots that moved.
        """
        states = tuple({id(slot.holder): slot.holder for slot, _ in targets if isinstance(slot, ObjectSlot)}.values())
        before = [state.saved for state in states]
        for state in states:
            state.finish()
        for state in states:
            self._unsettled.setdefault(id(state), (state, state.saved))
            state.saved = state.read()
            batch = self._batch_of.get(id(state))
            if batch is not None:
                self._dirty_batches.add(id(batch))
        self._libraries.invalidate()
        self._write_batches(states)
        return {
            slot_of(state, each.key): each.after
            for state, older in zip(states, before, strict=True)
            for each in state.diff(older, state.saved)
        }

    def settle(self) -> None:
        """Watch objects that were added since the last call, and release removed ones."""
        if not self._unsettled:
            return
        unsettled, self._unsettled = self._unsettled, {}
        gone: list[Any] = []
        for state, before in unsettled.values():
            if id(state.node.value) not in self._nodes:
                continue
            older = {(id(child)): child for _, child in state.children(before)}
            newer = [(key, child) for key, child in state.children(state.saved)]
            fresh = {id(child) for _, child in newer}
            for key, child in newer:
                if id(child) not in older:
                    self._track(child, state, key)
            gone.extend(child for ident, child in older.items() if ident not in fresh)
        self._walk()
        for child in gone:
            node = self._nodes.get(id(child))
            if node is not None:
                self._release(node)
        self._write_batches()

    def _release(self, node: Node) -> None:
        """Count one user less; forget the node, and what only it held, at zero."""
        stack = [node]
        while stack:
            current = stack.pop()
            current.users -= 1
            if current.users > 0 or self._nodes.get(id(current.value)) is not current:
                continue
            del self._nodes[id(current.value)]
            for state in current.states:
                for _, child in state.children(state.saved):
                    inner = self._nodes.get(id(child))
                    if inner is not None:
                        stack.append(inner)
                self._unbatch(state)
            # Node and states know each other; without this the object would
            # wait for the garbage collector.
            current.states = []

    # -- for the undo policy -------------------------------------------------

    def is_older(self, value: object, created_in: int) -> bool:
        """Return whether *value* is watched since before *created_in*."""
        node = self._nodes.get(id(value))
        return node is not None and node.created_in < created_in

    def mark_threaded(self, values: Iterable[int]) -> None:
        """Remember that a thread works on the objects at the addresses *values*."""
        for ident in values:
            node = self._nodes.get(ident)
            if node is not None:
                node.threaded = True

    def let_go(self, values: Iterable[int], states: Iterable[ObjectState], created_in: int) -> None:
        """Hold nothing of the objects at the addresses *values* that were met since *created_in*.

        Args:
            values: the addresses.
            states: the states that lead to them; `settle` watches again what is still there then.
            created_in: see `ObjectGraph.created_in`.
        """
        found = (self._nodes.get(ident) for ident in values)
        gone = [node for node in found if node is not None and node.created_in >= created_in]
        if not gone:
            return
        idents = {id(node.value) for node in gone}
        for node in gone:
            del self._nodes[id(node.value)]
        for node in gone:
            for state in node.states:
                for _, child in state.children(state.saved):
                    inner = self._nodes.get(id(child))
                    if inner is not None:
                        self._release(inner)
                self._unbatch(state)
                self._unsettled.pop(id(state), None)
            node.states = []
        for state in states:
            if any(id(child) in idents for _, child in state.children(state.saved)):
                _, before = self._unsettled.get(id(state), (state, state.saved))
                self._unsettled[id(state)] = (state, _without(before, idents))
        self._write_batches()

    def records_of(self, states: Iterable[ObjectState]) -> list[Any]:
        """Return our own objects that hold what is in *states*."""
        found: dict[int, Any] = {}
        for state in states:
            found[id(state.saved)] = state.saved
            if id(state) in self._unsettled:
                before = self._unsettled[id(state)][1]
                found[id(before)] = before
            batch = self._batch_of.get(id(state))
            if isinstance(batch, Batch):
                found[id(batch.referents)] = batch.referents
        return list(found.values())

    def _unbatch(self, state: ObjectState) -> None:
        self._late.pop(id(state), None)
        batch = self._batch_of.pop(id(state), None)
        if batch is not None:
            batch.remove(state)
            self._dirty_batches.add(id(batch))
        elif isinstance(state, LibraryState):
            self._libraries.remove(state)
        elif state in self._opaque:
            self._opaque.remove(state)
        elif state in self._abcs:
            self._abcs.remove(state)


def _without(snapshot: Any, idents: set[int]) -> Any:
    """Return *snapshot* without the objects at the addresses *idents*."""
    if isinstance(snapshot, dict):
        return {key: value for key, value in snapshot.items() if id(value) not in idents}
    if isinstance(snapshot, tuple):
        return tuple(value for value in snapshot if id(value) not in idents)
    return snapshot
