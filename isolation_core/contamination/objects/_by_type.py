"""Which states an object has: the anatomy of types, worked out once per type."""

from __future__ import annotations

import array
import functools
import io
import itertools
import random
import threading
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from isolation_core.contamination._first_party import is_runner_class, is_stdlib, module_of
from isolation_core.contamination.libraries._known import leaves_alone, unit_for
from isolation_core.contamination.libraries._profile import Profile, Unit
from isolation_core.contamination.libraries._state import LibraryState
from isolation_core.contamination.objects import _containers as states
from isolation_core.contamination.objects import _functions as values
from isolation_core.contamination.objects import _namespaces as names
from isolation_core.contamination.objects import _sync as primitives
from isolation_core.contamination.objects._caches import CacheState, WeakState
from isolation_core.contamination.objects._opaque import (
    BufferState,
    CounterState,
    GeneratorState,
    MemoryFileState,
    RandomState,
)

__all__ = ["LEAF_TYPES", "Anatomy", "Dissect"]

Dissect = Callable[[Any], list[states.ObjectState]]
"""Makes the states of one object."""

LEAF_TYPES: Final[frozenset[type]] = frozenset(
    {
        int, float, complex, str, bytes, bool, type(None), type(Ellipsis), type(NotImplemented), range, slice, object,
        types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType,
        types.ClassMethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType, types.CodeType,
        types.FrameType, types.TracebackType, types.CoroutineType, types.AsyncGeneratorType,
        types.GenericAlias, types.UnionType, memoryview, weakref.ref, weakref.ProxyType,
    }
)  # fmt: skip
"""Exact types that have no state of their own and lead nowhere."""

# Classes of these modules, and their subclasses, are alive (the audit of living
# things speaks of them), hold handles, or are watched by a probe of their own:
# putting their fields back would lie to them.
_LIVE_MODULES: Final = frozenset(
    {
        "_io", "asyncio", "concurrent", "io", "logging", "multiprocessing", "selectors", "socket", "sqlite3", "ssl",
        "subprocess", "tempfile", "threading", "trio", "uvloop",
    }
)  # fmt: skip
_LIVE_TYPES: Final[tuple[type, ...]] = (types.ModuleType, weakref.finalize, BaseException)

# Standard-library classes whose instances are plain mutable data. Others cache
# inside themselves (paths, addresses, typing) or hold handles.
_DATA_MODULES: Final = frozenset(
    {
        "abc", "argparse", "collections", "configparser", "contextlib", "dataclasses", "enum", "functools", "json",
        "json.decoder", "json.encoder", "mock.mock", "optparse", "queue", "random", "shelve", "string", "types",
        "unittest.mock",
    }
)  # fmt: skip

_DICT_OF: Final = type.__dict__["__dict__"]
_MODULE_OF: Final[Any] = type.__dict__["__module__"]
_QUALNAME_OF: Final[Any] = type.__dict__["__qualname__"]
_MRO_OF: Final = type.__dict__["__mro__"]
_NAMESPACE: Final = types.SimpleNamespace.__dict__["__dict__"]
_LRU_CACHE: Final = type(functools.lru_cache(lambda: None))


class Anatomy:
    """Answers "which states has this object?" and remembers the answer per type.

    Args:
        is_first_party: returns whether a module name is watched deeply.
    """

    def __init__(self, is_first_party: Callable[[str], bool]) -> None:
        self._is_first_party = is_first_party
        # Keyed by address and verified through a weak reference: a metaclass
        # may define a __hash__ that raises, and a class made by a test must
        # not live on because we looked at one of its instances.
        self._known: dict[int, tuple[weakref.ref[type], Dissect | None, bool]] = {}

    def forget(self) -> None:
        """Drop what is known, after the set of first-party modules has changed."""
        self._known.clear()

    def of(self, kind: type) -> tuple[Dissect | None, bool]:
        """Return how to dissect instances of *kind*, and whether *kind* is third-party."""
        entry = self._known.get(id(kind))
        if entry is not None and entry[0]() is kind:
            return entry[1], entry[2]
        dissect, foreign = self._work_out(kind)
        self._known[id(kind)] = (weakref.ref(kind), dissect, foreign)
        return dissect, foreign

    def _ask_profiles(self, mro: Iterable[type]) -> tuple[Dissect | None, bool] | None:
        """Return what the profiles of libraries say of a class with these bases, if they say something."""
        # Classes written in C have their module in their name, and not in their namespace.
        bases = [
            (module_of(base) if base.__flags__ & (1 << 9) else _MODULE_OF.__get__(base), _QUALNAME_OF.__get__(base))
            for base in mro
        ]
        bases = [each for each in bases if not self._is_first_party(each[0])]
        found = unit_for(bases)
        if found is not None:
            return functools.partial(_library_state, *found), False
        return (None, False) if leaves_alone(bases) else None

    def _work_out(self, kind: type) -> tuple[Dissect | None, bool]:
        simple = _BUILTIN_DISSECTION.get(kind)
        if simple is not None:
            return simple, False
        mro = _MRO_OF.__get__(kind)
        module = module_of(kind)
        attributes = primitives.PRIMITIVES.get((module, type.__dict__["__name__"].__get__(kind)))
        if attributes is not None:
            return (lambda obj: [primitives.PrimitiveState(obj, _getset_of(mro), names=attributes)]), False
        if any(map(_is_live, mro)) or is_runner_class(kind):
            return None, False
        own = self._is_first_party(module)
        profiled = self._ask_profiles(mro)
        if profiled is not None:
            return profiled
        stdlib = is_stdlib(module) or module == "mock.mock" or not module
        if stdlib and not own and module not in _DATA_MODULES and not _is_container(mro):
            return None, False
        foreign = not (own or stdlib)
        makers = [maker for base, maker in _CONTAINER_FACETS if base in mro]
        if any(base in mro for base in WeakState.types):
            return (lambda obj: [WeakState(obj)]), foreign
        if random.Random in mro and random.SystemRandom not in mro:
            makers.append(RandomState)
        if makers and states.OrderedDictState in makers:
            makers.remove(states.DictState)
        getset = _getset_of(mro)
        if type(getset) is types.GetSetDescriptorType:
            makers.append(functools.partial(names.AttributesState, getset=getset, foreign=foreign))
        slots = tuple(_slots(mro))
        if slots and not foreign:
            makers.append(functools.partial(values.SlotsState, members=slots))
        if tuple in mro or frozenset in mro:
            makers.append(_members_of_tuple if tuple in mro else _members_of_frozenset)
        if not makers:
            return None, foreign
        return (lambda obj: [make(obj) for make in makers]), foreign


def _library_state(profile: Profile, unit: Unit, obj: Any) -> list[states.ObjectState]:
    return [LibraryState(profile, unit, obj)]


def _getset_of(mro: Iterable[type]) -> Any:
    """Return the descriptor that gives an instance its ``__dict__``, if there is one."""
    return next((space["__dict__"] for base in mro if "__dict__" in (space := _DICT_OF.__get__(base))), None)


def _is_live(base: type) -> bool:
    return base in _LIVE_TYPES or module_of(base).partition(".")[0] in _LIVE_MODULES


def _is_container(mro: Iterable[type]) -> bool:
    return any(base in mro for base in (*(b for b, _ in _CONTAINER_FACETS), *WeakState.types, tuple))


def _slots(mro: tuple[type, ...]) -> Iterable[tuple[str, Any]]:
    """Yield the writable slots that Python classes declared (C members describe internals)."""
    for base in mro:
        space = _DICT_OF.__get__(base)
        if "__slots__" not in space:
            continue
        for name, member in space.items():
            if type(member) is types.MemberDescriptorType:
                yield name, member


def _members_of_tuple(obj: Any) -> states.ObjectState:
    items = tuple.__iter__(obj)
    return states.ImmutableState(obj, ((f"[{i}]", item) for i, item in enumerate(items)))


def _members_of_frozenset(obj: Any) -> states.ObjectState:
    return states.ImmutableState(obj, (("", item) for item in frozenset.__iter__(obj)))


def _method(obj: Any) -> list[states.ObjectState]:
    return [states.ImmutableState(obj, ((".__self__", obj.__self__), (".__func__", obj.__func__)))]


def _partial(obj: Any) -> list[states.ObjectState]:
    parts = ((".func", obj.func), (".args", obj.args), (".keywords", obj.keywords))
    return [states.ImmutableState(obj, parts)]


def _property(obj: Any) -> list[states.ObjectState]:
    parts = ((".fget", obj.fget), (".fset", obj.fset), (".fdel", obj.fdel))
    return [states.ImmutableState(obj, (part for part in parts if part[1] is not None))]


def _wrapped_method(obj: Any) -> list[states.ObjectState]:
    return [states.ImmutableState(obj, ((".__func__", obj.__func__),))]


def _cached_property(obj: Any) -> list[states.ObjectState]:
    return [states.ImmutableState(obj, ((".func", obj.func),))]


def _proxy(obj: Any) -> list[states.ObjectState]:
    import gc

    # The one referent of a mapping proxy is the mapping it shows.
    return [states.ImmutableState(obj, (("", item) for item in gc.get_referents(obj)))]


def _cache(obj: Any) -> list[states.ObjectState]:
    wrapped = (part for part in ((".__wrapped__", obj.__dict__.get("__wrapped__")),) if part[1] is not None)
    return [CacheState(obj), states.ImmutableState(obj, wrapped)]


def _default_dict(obj: Any) -> list[states.ObjectState]:
    return [states.DictState(obj), states.DefaultFactoryState(obj)]


_CONTAINER_FACETS: Final[tuple[tuple[type, Callable[[Any], states.ObjectState]], ...]] = (
    (OrderedDict, states.OrderedDictState),
    (dict, states.DictState),
    (defaultdict, states.DefaultFactoryState),
    (list, states.ListState),
    (set, states.SetState),
    (deque, states.DequeState),
    (bytearray, BufferState),
    (array.array, BufferState),
    (threading.local, names.LocalState),
)

_BUILTIN_DISSECTION: Final[dict[type, Dissect]] = {
    dict: lambda obj: [states.DictState(obj)],
    list: lambda obj: [states.ListState(obj)],
    set: lambda obj: [states.SetState(obj)],
    tuple: lambda obj: [_members_of_tuple(obj)],
    frozenset: lambda obj: [_members_of_frozenset(obj)],
    deque: lambda obj: [states.DequeState(obj)],
    OrderedDict: lambda obj: [states.OrderedDictState(obj)],
    defaultdict: _default_dict,
    bytearray: lambda obj: [BufferState(obj)],
    array.array: lambda obj: [BufferState(obj)],
    types.FunctionType: lambda obj: [values.FunctionState(obj)],
    types.CellType: lambda obj: [values.CellState(obj)],
    types.MethodType: _method,
    types.MappingProxyType: _proxy,
    functools.partial: _partial,
    property: _property,
    staticmethod: _wrapped_method,
    classmethod: _wrapped_method,
    functools.cached_property: _cached_property,
    threading.local: lambda obj: [names.LocalState(obj)],
    type(threading.Lock()): lambda obj: [primitives.LockState(obj)],
    type(threading.RLock()): lambda obj: [primitives.OwnedLockState(obj)],
    types.GeneratorType: lambda obj: [GeneratorState(obj)],
    types.SimpleNamespace: lambda obj: [names.AttributesState(obj, _NAMESPACE)],
    itertools.count: lambda obj: [CounterState(obj)],
    io.StringIO: lambda obj: [MemoryFileState(obj)],
    io.BytesIO: lambda obj: [MemoryFileState(obj)],
    _LRU_CACHE: _cache,
}
