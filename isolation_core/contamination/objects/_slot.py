"""Slots of the object graph."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from types import ModuleType
from typing import Any

from isolation_core._secrets import is_secret_name
from isolation_core.contamination._slot import Slot
from isolation_core.contamination.libraries._state import LibraryState
from isolation_core.contamination.objects._containers import ORDER, ObjectState
from isolation_core.contamination.objects._namespaces import ModuleState
from isolation_core.findings import Severity

__all__ = ["LibrarySlot", "ObjectSlot", "slot_of"]


class ObjectSlot(Slot):
    """One key of one state of one object."""

    __slots__ = ()
    holder: ObjectState

    @property
    def state(self) -> ObjectState:
        """The state it is a key of."""
        return self.holder

    @property
    def family(self) -> str:
        return "heap"

    @property
    def kind(self) -> str:
        return self.holder.kind

    @property
    def code(self) -> str:
        return self.holder.code

    @property
    def severity(self) -> Severity:
        return "leak"

    @property
    def turn(self) -> int:
        # An order of keys comes after the keys.
        return 3 if self.key is ORDER else 2

    @property
    def is_silent(self) -> bool:
        return self.key is ORDER

    @property
    def is_first_party(self) -> bool:
        return not self.holder.kind.startswith("foreign")

    @property
    def created_in(self) -> int:
        found: int = self.holder.node.created_in
        return found

    def root(self) -> object:
        return self.holder.node.root()

    def label(self) -> str:
        label: str = self.holder.node.root().label
        return label

    def module(self) -> str:
        node = self.holder.node
        while not node.label and node.parent is not None:
            node = node.parent.node
        kind = type(node.value)
        return node.label if kind is ModuleType or issubclass(kind, type) else ""

    def last_read(self, otherwise: Any) -> Any:
        return self.holder.last_read(self.key, otherwise)

    def namespace(self) -> Mapping[str, Any] | None:
        return self.holder.saved if isinstance(self.holder, ModuleState) else None

    def path(self) -> str:
        return str(self.holder.node.path()) + self.holder.accessor(self.key)

    def write(self, value: Any) -> None:
        self.holder.write(self.key, value)

    def agrees(self, one: Any, other: Any) -> bool:
        return self.holder.agrees(one, other)

    def rebased(self, value: Any, before: Any, after: Any) -> Any:
        return self.holder.rebased(value, before, after)

    def render(self, value: Any) -> str:
        # The names on the way to the value, less that of the module: everything in `auth.py` is not a credential.
        secret = is_secret_name(self.path().removeprefix(self.module()))
        return self.holder.text(self.key, value, secret=secret)


class LibrarySlot(ObjectSlot):
    """One key of one unit of a library."""

    __slots__ = ()
    holder: LibraryState  # pyright: ignore[reportIncompatibleVariableOverride]  # set once, by the constructor

    @property
    def code(self) -> str:
        return self.holder.profile.code

    @property
    def refusal(self) -> str | None:
        return self.holder.refusal

    def agrees(self, one: Any, other: Any) -> bool:
        return self.holder.agrees_at(self.key, one, other)


def slot_of(state: ObjectState, key: Hashable) -> ObjectSlot:
    """Return the slot of one key of *state*."""
    return (LibrarySlot if isinstance(state, LibraryState) else ObjectSlot)(state, key)
