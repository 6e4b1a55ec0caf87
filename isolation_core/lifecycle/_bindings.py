"""Context variables that set-ups change: replayed for everybody after them, undone at the end.

Each node is set up in a copy of the context and torn down in the same copy, so
that the tokens it holds stay valid. Variables that it changed there are set
once more where the body runs, with our tokens.
"""

from __future__ import annotations

from contextvars import Context, ContextVar, Token
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from isolation_core.lifecycle._teardown import Entry

__all__ = ["Bindings", "changes", "replay"]

_ABSENT: Any = object()


@frozen(eq=False)
class _Binding:
    entry: Entry
    variable: ContextVar[Any]
    value: Any
    old: Any
    token: Token[Any]


def changes(context: Context) -> list[tuple[ContextVar[Any], Any]]:
    """Return the variables that are something else in *context* than here."""
    return [(variable, value) for variable, value in context.items() if variable.get(_ABSENT) is not value]


def replay(base: Context, context: Context) -> None:
    """Set here what differs in *context* from *base*."""
    for variable, value in context.items():
        if variable not in base or base[variable] is not value:
            variable.set(value)


class Bindings:
    """The replays of one lifecycle, newest last."""

    __slots__ = ("_bindings",)

    def __init__(self) -> None:
        self._bindings: list[_Binding] = []

    def add(self, entry: Entry, changed: list[tuple[ContextVar[Any], Any]]) -> list[tuple[ContextVar[Any], Entry]]:
        """Set variables that the set-up of *entry* has *changed*; return those that other code set differently."""
        contested = []
        for variable, value in changed:
            contested += [
                (variable, other.entry)
                for other in self._bindings
                if other.variable is variable and other.value is not value
            ]
            old = variable.get(_ABSENT)
            self._bindings.append(_Binding(entry, variable, value, old, variable.set(value)))
        return contested

    def values(self) -> list[tuple[ContextVar[Any], Any]]:
        """Return the variables that are set, with their values, oldest first."""
        return [(each.variable, each.value) for each in self._bindings]

    def undo(self, entry: Entry | None = None) -> None:
        """Undo the newest replays: those of *entry*, or all of them."""
        bindings = self._bindings
        while bindings and (entry is None or bindings[-1].entry is entry):
            binding = bindings.pop()
            try:
                binding.variable.reset(binding.token)
            except ValueError:
                # Set in another context than this one: a task of the body, or a
                # runner that opens and closes us in two tasks. That context ends
                # by itself; here the value may have been inherited.
                if binding.variable.get(_ABSENT) is binding.value and binding.old is not _ABSENT:
                    binding.variable.set(binding.old)
