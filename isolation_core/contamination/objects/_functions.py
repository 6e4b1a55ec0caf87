"""Facets of values other than containers: slots, cells, functions, dispatchers, buffers and generators of chance."""

from __future__ import annotations

import gc
from collections.abc import Hashable, Iterable, Iterator
from types import CellType, FunctionType
from typing import Any, Final

from isolation_core._secrets import is_secret_name
from isolation_core.contamination._cpython import CELL_WORDS, FUNCTION_WORDS, HAS_TAGS, HAS_WORDS, words_of
from isolation_core.contamination._difference import MISSING, Difference
from isolation_core.contamination._first_party import is_library
from isolation_core.contamination.objects._containers import ORDER, DictState, ObjectState, key_text

__all__ = ["CellState", "DispatchState", "FunctionState", "SlotsState"]


class SlotsState(ObjectState):
    """The ``__slots__`` of an instance, through the member descriptors of its type."""

    __slots__ = ("_members",)
    kind = "object"
    code = "MOD003"

    def __init__(self, holder: Any, members: tuple[tuple[str, Any], ...]) -> None:
        self._members = members
        super().__init__(holder)

    def read(self) -> dict[str, Any]:
        found = {}
        for name, member in self._members:
            try:
                found[name] = member.__get__(self.holder)
            except AttributeError:
                continue
        return found

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        return snapshot.items()  # type: ignore[no-any-return]

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        for name, _ in self._members:
            older, newer = before.get(name, MISSING), after.get(name, MISSING)
            if older is not newer:
                yield Difference(name, before=older, after=newer)

    def write(self, key: Hashable, value: Any) -> None:
        member = dict(self._members)[str(key)]
        if value is not MISSING:
            member.__set__(self.holder, value)
        else:
            try:
                member.__delete__(self.holder)
            except AttributeError:
                return

    def accessor(self, key: Hashable) -> str:
        return f".{key}"


class CellState(ObjectState):
    """The contents of one closure cell."""

    __slots__ = ()
    kind = "closure"
    code = "MOD005"

    def views(self) -> list[memoryview]:
        return [words_of(self.holder, CELL_WORDS)] if HAS_WORDS else []

    def rest(self) -> tuple[tuple[Any, ...], dict[Any, Any] | None]:
        return (() if HAS_WORDS else self.targets), None

    def read(self) -> tuple[Any, ...]:
        try:
            return (CellType.cell_contents.__get__(self.holder),)
        except ValueError:  # an empty cell
            return ()

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        return ((".cell_contents", value) for value in snapshot)

    def write(self, key: Hashable, value: Any) -> None:
        if value:
            self.holder.cell_contents = value[0]
        else:
            del self.holder.cell_contents

    def accessor(self, key: Hashable) -> str:
        return ".cell_contents"

    def shown(self, value: Any) -> Any:
        return value[0] if value else MISSING


_FUNCTION_FIELDS: Final = ("__code__", "__defaults__", "__kwdefaults__", "__name__", "__qualname__", "__doc__")
_LEADS_NOWHERE: Final = frozenset({"__code__", "__name__", "__qualname__", "__doc__"})
_REPLACERS: Final = frozenset({"freezegun", "mock", "time_machine", "unittest"})
_DICT_OF_FUNCTION: Final = FunctionType.__dict__["__dict__"]


def _attributes_of(function: Any) -> dict[str, Any] | None:
    """Return the ``__dict__`` of a function if it has one, without making one.

    Reading the attribute creates the dict: ten thousand test functions would each
    get one, only because they were compared.
    """
    if HAS_WORDS and not any(words_of(function, FUNCTION_WORDS)[-8:]):
        return None
    found: dict[str, Any] = _DICT_OF_FUNCTION.__get__(function)
    return found


def _is_wrapped_for_a_while(function: Any) -> bool:
    """Return whether a library put *function* around another, to replace something while that one runs.

    So do ``freeze_time(...)`` and ``mock.patch(...)`` as decorators. Their closures and attributes are the
    library's own notes of what it replaced. It is the same with whatever a library puts around a test. Other
    wrappers, such as caches, may hold what the project gave them.
    """
    name = function.__globals__.get("__name__")
    if type(name) is not str:
        return False
    if name.partition(".")[0] in _REPLACERS:
        return True
    wrapped = (_attributes_of(function) or {}).get("__wrapped__")
    return type(wrapped) is FunctionType and wrapped.__code__.co_name.startswith("test") and is_library(name)


class FunctionState(ObjectState):
    """Code, defaults, keyword defaults, names, documentation and attributes of a Python function."""

    __slots__ = ()
    kind = "function"
    code = "MOD004"
    may_move = True

    @property
    def targets(self) -> tuple[Any, ...]:
        attributes = _attributes_of(self.holder)
        return (self.holder,) if attributes is None else (self.holder, attributes)

    @property
    def keyed(self) -> dict[Any, Any] | None:
        return _attributes_of(self.holder)

    def views(self) -> list[memoryview]:
        return [words_of(self.holder, FUNCTION_WORDS), *super().views()] if HAS_WORDS else super().views()

    def rest(self) -> tuple[tuple[Any, ...], dict[Any, Any] | None]:
        return ((), None) if HAS_WORDS and HAS_TAGS else super().rest()

    def read(self) -> dict[str, Any]:
        function = self.holder
        attributes = (_attributes_of(function) or {}).items()
        return {
            **{name: getattr(function, name) for name in _FUNCTION_FIELDS},
            **{name: value for name, value in attributes if not str(name).startswith("_hypothesis_internal")},
        }

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        if self.holder.__globals__.get("__name__") == "functools":
            # A dispatcher: its closure is its registry, which has a state of
            # its own, and caches.
            return
        if _is_wrapped_for_a_while(self.holder):
            if "__wrapped__" in snapshot:
                yield "__wrapped__", snapshot["__wrapped__"]
            return
        yield from ((key, value) for key, value in snapshot.items() if key not in _LEADS_NOWHERE)
        for index, cell in enumerate(self.holder.__closure__ or ()):
            yield f"__closure__[{index}]", cell

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        for key, value in before.items():
            now = after.get(key, MISSING)
            if now is not value:
                yield Difference(key, before=value, after=now)
        for key, value in after.items():
            if key not in before:
                yield Difference(key, before=MISSING, after=value)

    def write(self, key: Hashable, value: Any) -> None:
        if key in _FUNCTION_FIELDS:
            setattr(self.holder, str(key), value)
            return
        attributes = _DICT_OF_FUNCTION.__get__(self.holder)
        if value is MISSING:
            attributes.pop(str(key), None)
        else:
            attributes[str(key)] = value

    def accessor(self, key: Hashable) -> str:
        return f".{key}"

    def text(self, key: Hashable, value: Any, *, secret: bool) -> str:
        if key == "__defaults__" and type(value) is tuple:
            # The names of parameters stand in the code, away from their defaults.
            code = self.holder.__code__
            names = code.co_varnames[: code.co_argcount][-len(value) :] if value else ()
            secret = secret or any(map(is_secret_name, names))
        return super().text(key, value, secret=secret)


class DispatchState(DictState):
    """The implementations registered with a `functools.singledispatch` function."""

    __slots__ = ("_registry",)
    code = "MOD010"

    def __init__(self, holder: Any) -> None:
        self._registry: dict[Any, Any] = gc.get_referents(holder.registry)[0]
        super().__init__(holder)

    @property
    def targets(self) -> tuple[Any, ...]:
        return (self._registry,)

    @property
    def keyed(self) -> dict[Any, Any] | None:
        return self._registry

    def read(self) -> dict[Any, Any]:
        return dict.copy(self._registry)

    def write(self, key: Hashable, value: Any) -> None:
        if key is ORDER:
            return
        if value is MISSING:
            self._registry.pop(key, None)
        else:
            self._registry[key] = value
        # What was dispatched meanwhile is remembered under the argument's type.
        self.holder._clear_cache()

    def accessor(self, key: Hashable) -> str:
        return "" if key is ORDER else f".registry[{key_text(key)}]"
