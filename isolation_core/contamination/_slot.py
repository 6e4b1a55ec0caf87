"""Slots: one place where state is, that can be described and written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

from isolation_core.findings import Severity

__all__ = ["Slot"]


class Slot(ABC):
    """One key of one holder of state: of an object of the graph, or of a probe.

    Two slots are equal if they are of the same holder and have equal keys.

    Args:
        holder: the object that can write the key.
        key: which of its keys.
    """

    __slots__ = ("holder", "key")

    def __init__(self, holder: Any, key: Hashable) -> None:
        self.holder: Any = holder
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slot) and self.holder is other.holder and self.key == other.key

    def __hash__(self) -> int:
        return hash((id(self.holder), self.key))

    # -- what it is ------------------------------------------------------------

    @property
    @abstractmethod
    def family(self) -> str:
        """The word for it in ``probes=``."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """The kind of its findings."""

    @property
    @abstractmethod
    def code(self) -> str:
        """The code of its findings."""

    @property
    @abstractmethod
    def severity(self) -> Severity:
        """The severity of a change unless the change has its own."""

    @property
    @abstractmethod
    def turn(self) -> int:
        """When it is written, among others of a rollback: lower ones first."""

    @property
    def is_silent(self) -> bool:
        """Whether it only accompanies others: the order of keys."""
        return False

    @property
    def is_first_party(self) -> bool:
        """Whether it belongs to an object of the user's own code."""
        return False

    @property
    def tells_imports(self) -> bool:
        """Whether a change means that a module was imported, which is not a finding."""
        return False

    @property
    def refusal(self) -> str | None:
        """Why it could not be written, where the holder knows."""
        return None

    # -- where it is -----------------------------------------------------------

    @property
    def created_in(self) -> int:
        """How many frames had been opened when its object was met; 0: it was always there."""
        return 0

    def root(self) -> object:
        """Return what its object was reached from, if it is one of an object."""
        return None

    def label(self) -> str:
        """Return the text of that root, or nothing."""
        return ""

    def module(self) -> str:
        """Return the name of the module or class its object was reached from, or nothing."""
        return ""

    def namespace(self) -> Mapping[str, Any] | None:
        """Return all names of the module it is a name of, if it is one."""
        return None

    @abstractmethod
    def path(self) -> str:
        """Return where it is, as text that can be pasted into Python."""

    # -- its values ------------------------------------------------------------

    @abstractmethod
    def write(self, value: Any) -> None:
        """Give it its *value* again."""

    @abstractmethod
    def agrees(self, one: Any, other: Any) -> bool:
        """Return whether two values are the same for restoring."""

    def last_read(self, otherwise: Any) -> Any:
        """Return the value it had when it was read last, *otherwise* where that is not kept."""
        return otherwise

    def rebased(self, value: Any, before: Any, after: Any) -> Any:
        """Return *value* as it would be had only the step from *before* to *after* been made to it."""
        return after

    @abstractmethod
    def render(self, value: Any) -> str:
        """Return bounded text of one of its values."""
