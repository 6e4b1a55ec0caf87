"""Facets whose slots are names: modules, classes, instances, thread locals, caches, weak containers."""

from __future__ import annotations

import functools
import gc
import sys
import threading
import types
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Final

from isolation_core.contamination._difference import MISSING, Difference
from isolation_core.contamination._first_party import is_installed_class, module_of
from isolation_core.contamination.objects._containers import ORDER, DictState
from isolation_core.findings import Severity

__all__ = [
    "AttributesState",
    "ClassState",
    "LocalState",
    "ModuleState",
    "ShallowClassState",
    "ShallowModuleState",
    "class_dict",
    "dir_of_type",
    "instance_dict",
    "is_lazy_attribute",
]

_CLASS_PROXY: Final = type.__dict__["__dict__"]
_TYPE_MRO: Final = type.__dict__["__mro__"]


def class_dict(cls: type) -> dict[str, Any]:
    """Return the real namespace of *cls* (for reading only), whatever its metaclass says."""
    found: dict[str, Any] = gc.get_referents(_CLASS_PROXY.__get__(cls))[0]
    return found


def instance_dict(value: object) -> dict[str, Any]:
    """Return the attributes of *value* (for reading only), past any ``__getattribute__``; empty if it has none."""
    for base in _TYPE_MRO.__get__(type(value)):
        found = _CLASS_PROXY.__get__(base).get("__dict__")
        if type(found) is types.GetSetDescriptorType:
            space = found.__get__(value)
            return space if type(space) is dict else {}
    return {}


class _NamesState(DictState):
    """Base of the states whose keys are attribute names."""

    __slots__ = ()

    def accessor(self, key: Hashable) -> str:
        return "" if key is ORDER else f".{key}"


class _NamespaceState(_NamesState):
    """Base of the states of modules and classes, whose namespace is one dict for life."""

    __slots__ = ("_namespace",)

    def __init__(self, holder: Any, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        super().__init__(holder)

    @property
    def targets(self) -> tuple[Any, ...]:
        return (self._namespace,)

    @property
    def keyed(self) -> dict[Any, Any] | None:
        return self._namespace

    def read(self) -> dict[Any, Any]:
        return dict.copy(self._namespace)

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        hidden = self.hidden
        return ((key, value) for key, value in snapshot.items() if key not in hidden)

    def last_read(self, key: Hashable, otherwise: Any) -> Any:
        # Not every difference of a namespace is reported: that a function took the place of None is first use.
        return otherwise if key is ORDER else self.saved.get(key, MISSING)


class ModuleState(_NamespaceState):
    """The globals of a first-party module."""

    __slots__ = ()
    kind = "module"
    code = "MOD001"
    # Written by the import system and by runners, never by tests on purpose;
    # __warningregistry__ belongs to the warnings probe's family and is a note.
    hidden = frozenset(
        {"__builtins__", "__cached__", "__file__", "__loader__", "__path__", "__spec__", "@py_builtins", "@pytest_ar"}
    )

    def __init__(self, holder: types.ModuleType) -> None:
        super().__init__(holder, types.ModuleType.__getattribute__(holder, "__dict__"))

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        # What the interpreter writes into its registry of warnings it has shown is not a change.
        return (child for child in super().children(snapshot) if child[0] != "__warningregistry__")

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        for difference in super().diff(before, after):
            # Order: other threads look names up here, so no name is ever taken
            # away even for a moment; and nothing reads the order of globals.
            if difference.key is ORDER or _is_import(self._namespace, difference):
                continue
            if difference.key == "__warningregistry__":
                yield Difference(difference.key, before=difference.before, after=difference.after, severity="note")
            else:
                yield difference

    def write(self, key: Hashable, value: Any) -> None:
        namespace = self._namespace
        if value is MISSING:
            namespace.pop(str(key), None)
        else:
            namespace[str(key)] = value


def _is_import(namespace: dict[str, Any], difference: Difference) -> bool:
    """Return whether a difference is a submodule that appeared on its package."""
    after = difference.after
    if difference.before is not MISSING or type(after) is not types.ModuleType:
        return False
    return sys.modules.get(f"{namespace.get('__name__')}.{difference.key}") is after


# Attributes a probe of its own looks after.
_PROBED: Final = frozenset(
    {
        "decimal.DefaultContext", "gettext._current_domain", "os.environ", "os.environb",
        "ssl._create_default_https_context", "tempfile.tempdir", "threading.excepthook",
        "time.altzone", "time.daylight", "time.timezone", "time.tzname",
    }
)  # fmt: skip


class ShallowModuleState(ModuleState):
    """The attributes of a module the tests import but do not own, by identity.

    Its private data is its own bookkeeping (lazy singletons, counters): a note,
    and left alone. Code that was replaced, and anything public, is put back.
    """

    __slots__ = ()
    kind = "foreign-module"
    code = "MOD006"

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        return ()

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        lazy_module = "__getattr__" in self._namespace
        for difference in super().diff(before, after):
            key, older = difference.key, difference.before
            if key is ORDER or not isinstance(key, str) or f"{self._namespace.get('__name__')}.{key}" in _PROBED:
                continue
            if older is MISSING:
                ours = not lazy_module and not key.startswith("_")
            else:
                ours = callable_type(older) or not (key.startswith("_") or older is None)
            if ours:
                yield difference


def callable_type(value: object) -> bool:
    """Return whether *value* is code: a function, a class, a method; asked of its type only."""
    kind = type(value)
    return issubclass(kind, type) or "__call__" in dir_of_type(kind)


def dir_of_type(kind: type) -> Iterator[str]:
    """Yield the names in the namespaces of *kind* and its bases."""
    for base in _TYPE_MRO.__get__(kind):
        yield from _CLASS_PROXY.__get__(base)


# Written lazily by the interpreter and the standard library, or by unittest
# while it runs a class: harmless either way, and not the tests' doing.
_CLASS_CACHES: Final = frozenset(
    {
        "_classSetupFailed",
        "_class_cleanups",
        "tearDown_exceptions",
        "__abstractmethods__",
        "__annotations_cache__",
        "__dict__",
        "__non_callable_proto_members__",
        "__parameters__",
        "__protocol_attrs__",
        "__slotnames__",
        "__weakref__",
        "_abc_impl",
    }
)


class ClassState(_NamespaceState):
    """The namespace of a class, written through `type` itself: no metaclass is asked."""

    __slots__ = ()
    kind = "class"
    code = "CLS001"
    hidden = _CLASS_CACHES

    def __init__(self, holder: type) -> None:
        super().__init__(holder, class_dict(holder))

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        for difference in super().diff(before, after):
            if difference.key is ORDER:
                continue
            if difference.before is MISSING and _is_foreign_descriptor(difference.after):
                # A framework instruments the class on first use (mapped
                # attributes, back references). Its own registry remembers that
                # it did: taking the attribute away would break it.
                continue
            if difference.before is MISSING and self._inherits(difference):
                # Taken off and put on again, one class further down: no effect.
                yield Difference(difference.key, before=MISSING, after=difference.after, severity="note")
                continue
            yield difference

    def _inherits(self, difference: Difference) -> bool:
        """Return whether the bases give the same object for the name."""
        for base in _TYPE_MRO.__get__(self.holder)[1:]:
            namespace = _CLASS_PROXY.__get__(base)
            if difference.key in namespace:
                return namespace[difference.key] is difference.after
        return False

    def write(self, key: Hashable, value: Any) -> None:
        if value is MISSING:
            if key in self._namespace:
                type.__delattr__(self.holder, str(key))
        else:
            type.__setattr__(self.holder, str(key), value)


class ShallowClassState(ClassState):
    """The namespace of a class the tests import but do not own, by identity."""

    __slots__ = ()
    kind = "foreign-class"
    code = "CLS002"

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        return ()

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        for difference in super().diff(before, after):
            # Where a class says it is from is the library's own affair: it renames
            # what it publishes elsewhere, when it is first requested there. From 3.13
            # on the interpreter then forgets the line, which was one of the other file.
            if difference.severity == "note" or difference.key in {"__module__", "__firstlineno__"}:
                continue
            key, older = str(difference.key), difference.before
            private = key.startswith("_") and not (key.startswith("__") and key.endswith("__"))
            if not private if older is MISSING else callable_type(older) or not (private or older is None):
                yield difference


def _is_foreign_descriptor(value: object) -> bool:
    kind = type(value)
    # A double is a test's doing, also one of the backport.
    return module_of(kind).partition(".")[0] != "mock" and is_installed_class(kind) and "__get__" in dir_of_type(kind)


def is_lazy_attribute(kind: type, name: str) -> bool:
    """Return whether *name* is a caching descriptor on *kind*: a value in the instance is its cache."""
    for base in _TYPE_MRO.__get__(kind):
        namespace = _CLASS_PROXY.__get__(base)
        if name in namespace:
            found = type(namespace[name])
            if found is functools.cached_property:
                return True
            names = set(dir_of_type(found))
            return "__get__" in names and "__set__" not in names and found is not types.FunctionType
    return False


class AttributesState(_NamesState):
    """The ``__dict__`` of an instance.

    Args:
        holder: the instance.
        getset: the ``__dict__`` descriptor its type really has.
        foreign: whether the class is third-party: then private attributes and
            caches are the library's own bookkeeping, left alone.
    """

    __slots__ = ("_foreign", "_getset", "_namespace")
    kind = "object"
    code = "MOD003"
    may_move = True
    # From 3.13 on, attributes may be stored beside the dict that shows them,
    # and such a store does not move the dict's version tag.
    taggable = sys.version_info < (3, 13)

    def __init__(self, holder: Any, getset: Any, *, foreign: bool = False) -> None:
        self._getset = getset
        self._foreign = foreign
        self._namespace: dict[Any, Any] = getset.__get__(holder)
        super().__init__(holder)

    @property
    def is_foreign(self) -> bool:
        """Whether the class is third-party."""
        return self._foreign

    @property
    def targets(self) -> tuple[Any, ...]:
        # The instance itself shows a replaced __dict__ or __class__.
        return (self.holder, self._namespace)

    @property
    def keyed(self) -> dict[Any, Any] | None:
        return self._namespace

    def read(self) -> dict[Any, Any]:
        return dict.copy(self._getset.__get__(self.holder))

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        if self._foreign:
            return ((key, value) for key, value in snapshot.items() if not str(key).startswith("_"))
        return snapshot.items()  # type: ignore[no-any-return]

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        kind = type(self.holder)
        for difference in super().diff(before, after):
            key = difference.key
            added = difference.before is MISSING
            lazy = added and isinstance(key, str) and is_lazy_attribute(kind, key)
            if self._foreign and (lazy or str(key).startswith("_")):
                continue
            severity: Severity | None = "note" if lazy else None
            yield Difference(key, before=difference.before, after=difference.after, severity=severity)

    def write(self, key: Hashable, value: Any) -> None:
        if self._getset.__get__(self.holder) is not self._namespace:
            self._getset.__set__(self.holder, self._namespace)
        namespace = self._namespace
        if key is ORDER:
            for name in value:
                if name in namespace:
                    namespace[name] = namespace.pop(name)
        elif value is MISSING:
            namespace.pop(key, None)
        else:
            namespace[key] = value


class LocalState(_NamesState):
    """The attributes of a ``threading.local`` in the current thread."""

    __slots__ = ()
    kind = "thread-local"
    code = "MOD007"
    may_move = True

    @property
    def targets(self) -> tuple[Any, ...]:
        return (self._namespace(),)

    @property
    def keyed(self) -> dict[Any, Any] | None:
        return self._namespace()

    def _namespace(self) -> dict[Any, Any]:
        found: dict[Any, Any] = threading.local.__getattribute__(self.holder, "__dict__")
        return found

    def read(self) -> dict[Any, Any]:
        return dict.copy(self._namespace())

    def write(self, key: Hashable, value: Any) -> None:
        if key is ORDER:
            return
        if value is MISSING:
            self._namespace().pop(key, None)
        else:
            self._namespace()[key] = value
