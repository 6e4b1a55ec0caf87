"""Decimal contexts and the module-level random number generator."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Hashable, Iterable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, Final

from isolation_core._secrets import fingerprint
from isolation_core.contamination._cpython import HAS_TWISTER, traps_are_known, traps_of, twister_of, twister_state
from isolation_core.contamination._difference import MISSING, Difference, is_same_value
from isolation_core.contamination._rendering import bounded_repr
from isolation_core.contamination.probes._keyed import KeyedProbe, loaded
from isolation_core.contamination.probes._probe import Guard

__all__ = ["DecimalProbe", "DecimalTemplatesProbe", "RandomProbe"]

_FIELDS: Final = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
_READ: Final = attrgetter(*_FIELDS)
_CONTEXT: Final = "decimal.getcontext()"


class _Context:
    """One decimal context and what was in it; flags are results, not settings."""

    __slots__ = ("_copy", "context", "fields", "traps")

    def __init__(self, context: Any) -> None:
        self.context = context
        self.fields = _READ(context)
        # Of a private copy: a view of the traps of the context itself would
        # change with it, and a view of a dead context is none.
        self._copy = context.copy()
        self.traps = self._copy.traps

    def holds(self, context: Any) -> bool:
        """Return whether this is still true of *context*."""
        return context is self.context and _READ(context) == self.fields and context.traps == self.traps

    def expand(self, path: str) -> dict[str, Any]:
        """Return the settings as keys and values."""
        found: dict[str, Any] = {f"{path}.{name}": value for name, value in zip(_FIELDS, self.fields, strict=True)}
        found[f"{path}.traps"] = tuple(sorted(signal.__name__ for signal, trapped in self.traps.items() if trapped))
        return found


def _put(context: Any, name: str, value: Any) -> None:
    if name == "traps":
        for signal in context.traps:
            context.traps[signal] = signal.__name__ in value
    else:
        setattr(context, name, value)


class _DecimalBase(KeyedProbe):
    def unchanged(self, key: Hashable, one: Any, other: Any) -> bool:
        if type(one) is tuple and type(other) is tuple:
            return one == other
        return is_same_value(one, other)

    def describe(self, key: Hashable) -> str:
        return str(key)


class DecimalProbe(_DecimalBase):
    """The decimal context of the current thread or task."""

    kind = "decimal"
    code = "NUM001"
    cost = 0.6
    process_wide = False

    def __init__(self) -> None:
        self._last: tuple[_Context, int] | None = None

    def capture(self) -> Any:
        decimal: Any = sys.modules.get("decimal")
        if decimal is None or "getcontext" not in decimal.__dict__:
            return None
        context = decimal.getcontext()
        thread = threading.get_ident()
        last = self._last
        if last is None or last[1] != thread or not last[0].holds(context):
            self._last = last = (_Context(context), thread)
        return last

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if type(snapshot) is not tuple:
            return snapshot  # type: ignore[no-any-return]
        return {_CONTEXT: snapshot[0].context, **snapshot[0].expand(_CONTEXT)}

    def diff(self, before: Any, after: Any) -> Iterable[Difference]:
        if after is None:
            return
        if before is None:
            # Imported meanwhile: a thread starts with a copy of the default.
            fresh = sys.modules["decimal"].Context()
            before, after = _Context(fresh).expand(_CONTEXT), after[0].expand(_CONTEXT)
        elif type(before) is tuple and before[1] != after[1]:
            return
        yield from super().diff(before, after)

    def restore(self, key: Hashable, value: Any) -> None:
        decimal: Any = sys.modules["decimal"]
        if key == _CONTEXT:
            # Fields of this one may be on their way in any order.
            _copy_settings(decimal.getcontext(), value)
            decimal.setcontext(value)
        else:
            _put(decimal.getcontext(), str(key).rpartition(".")[2], value)


def _copy_settings(source: Any, target: Any) -> None:
    for name in _FIELDS:
        setattr(target, name, getattr(source, name))
    for signal in target.traps:
        target.traps[signal] = source.traps[signal]


class DecimalTemplatesProbe(_DecimalBase):
    """``decimal.DefaultContext`` and the other contexts new ones are made from."""

    kind = "decimal-templates"
    code = "NUM002"
    cost = 1.0
    _NAMES: Final = ("DefaultContext", "BasicContext", "ExtendedContext")

    def __init__(self) -> None:
        self._last: dict[str, _Context] | None = None

    def capture(self) -> Any:
        decimal: Any = loaded("decimal")
        if decimal is None:
            return None
        last = self._last
        space = decimal.__dict__
        if last is None or not all(state.holds(space.get(name)) for name, state in last.items()):
            self._last = last = {
                name: _Context(space[name]) for name in self._NAMES if hasattr(space.get(name), "prec")
            }
        return last

    def guard(self) -> Guard | None:
        decimal = loaded("decimal")
        if decimal is None:
            return Guard(dicts=(sys.modules,))
        contexts = [state.context for state in (self._last or {}).values()]
        if not traps_are_known() or not all(type(context) is vars(decimal)["Context"] for context in contexts):
            return None
        return Guard(
            tuple(partial(_READ, context) for context in contexts),
            dicts=(vars(decimal),),
            memory=tuple(map(traps_of, contexts)),
        )

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        found: dict[Hashable, Any] = {}
        for name, state in snapshot.items():
            if isinstance(state, _Context):
                found[f"decimal.{name}"] = state.context
                found.update(state.expand(f"decimal.{name}"))
            else:
                found[name] = state
        return found

    def diff(self, before: Any, after: Any) -> Iterable[Difference]:
        return super().diff(before, after) if before is not None and after is not None else ()

    def restore(self, key: Hashable, value: Any) -> None:
        path, _, name = str(key).rpartition(".")
        decimal: Any = sys.modules["decimal"]
        if path == "decimal":
            setattr(decimal, name, value)
        else:
            _put(getattr(decimal, path.rpartition(".")[2]), name, value)


class _State:
    """The state of a generator: its raw words, and the spare normal variate."""

    __slots__ = ("generator", "raw", "spare")

    def __init__(self, generator: Any, raw: Any, spare: Any) -> None:
        self.generator = generator
        self.raw = raw
        self.spare = spare


class RandomProbe(KeyedProbe):
    """The generator behind the functions of `random`.

    Drawing numbers is not a fault, so a difference is a note; it is put back all
    the same, for the next test draws what it would draw alone. A plugin that
    seeds the generator before every test is left to do so.
    """

    kind = "random"
    code = "RNG001"
    severity = "note"
    cost = 0.5
    _PATH: Final = "random.getstate()"

    def __init__(self) -> None:
        self._last: _State | None = None
        self._fast = HAS_TWISTER

    def capture(self) -> Any:
        module: Any = sys.modules.get("random")
        if module is None or "pytest_randomly" in sys.modules:
            return None
        generator = module.__dict__.get("_inst")
        if type(generator) is not random.Random:
            return None
        raw: Any = bytes(twister_of(generator)) if self._fast else generator.getstate()
        spare = vars(generator).get("gauss_next")
        last = self._last
        if last is None or last.raw != raw or last.spare is not spare or last.generator is not generator:
            self._last = last = _State(generator, raw, spare)
        return last

    def guard(self) -> Guard | None:
        last = self._last
        if last is None or not self._fast:
            return None
        generator = last.generator
        # What rebinds or replaces the generator shows in the module's namespace.
        spare = (vars(generator), ("gauss_next",))
        return Guard(attributes=(spare,), dicts=(random.__dict__, sys.modules), memory=(twister_of(generator),))

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        return {self._PATH: snapshot} if isinstance(snapshot, _State) else snapshot

    def diff(self, before: Any, after: Any) -> Iterable[Difference]:
        return super().diff(before, after) if before is not None and after is not None else ()

    def unchanged(self, key: Hashable, one: Any, other: Any) -> bool:
        return (
            isinstance(one, _State)
            and isinstance(other, _State)
            and one.raw == other.raw
            and is_same_value(one.spare, other.spare)
        )

    def restore(self, key: Hashable, value: Any) -> None:
        state = twister_state(value.raw, value.spare) if self._fast else value.raw
        value.generator.setstate(state)

    def state_of(self, value: Any) -> tuple[Any, ...] | None:
        """Return what ``getstate()`` gave for a value of this probe, or None if it is not one."""
        if not isinstance(value, _State):
            return None
        state: tuple[Any, ...] = twister_state(value.raw, value.spare) if self._fast else value.raw
        return state

    def describe(self, key: Hashable) -> str:
        return self._PATH

    def render(self, key: Hashable, value: Any) -> str:
        if value is MISSING:
            return repr(MISSING)
        raw = value.raw if type(value.raw) is bytes else bounded_repr(value.raw).encode()
        return f"<state #{fingerprint(raw.hex())}>"
