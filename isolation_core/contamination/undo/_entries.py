"""Slots and log entries: where something moved, from what to what."""

from __future__ import annotations

from collections.abc import Hashable
from types import ModuleType
from typing import Any

from isolation_core._secrets import is_secret_name
from isolation_core.contamination._difference import Difference
from isolation_core.contamination.objects._containers import ORDER, Facet
from isolation_core.contamination.probes._probe import Probe
from isolation_core.contamination.undo._decision import Decision
from isolation_core.findings import Change, Severity

__all__ = ["Entry", "FacetSlot", "ProbeSlot", "Slot"]


class FacetSlot:
    """One slot of one watched object."""

    __slots__ = ("facet", "key")

    def __init__(self, facet: Facet, key: Hashable) -> None:
        self.facet = facet
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FacetSlot) and self.facet is other.facet and self.key == other.key

    def __hash__(self) -> int:
        return hash((id(self.facet), self.key))

    @property
    def turn(self) -> int:
        """When to write, among others: an order of keys comes after the keys."""
        return 3 if self.key is ORDER else 2

    @property
    def kind(self) -> str:
        return self.facet.kind

    @property
    def code(self) -> str:
        return self.facet.code

    @property
    def severity(self) -> Severity:
        return "leak"

    @property
    def is_silent(self) -> bool:
        """Whether the slot only accompanies others: the order of keys."""
        return self.key is ORDER

    @property
    def is_first_party(self) -> bool:
        return not self.facet.kind.startswith("foreign")

    def root(self) -> object:
        """Return the node the object was reached from."""
        return self.facet.node.root()

    def label(self) -> str:
        """Return the text of that node."""
        label: str = self.facet.node.root().label
        return label

    def module(self) -> str:
        """Return the name of the module or class the object was reached from, or nothing."""
        node = self.facet.node
        while not node.label and node.parent is not None:
            node = node.parent.node
        kind = type(node.value)
        return node.label if kind is ModuleType or issubclass(kind, type) else ""

    def path(self) -> str:
        return str(self.facet.node.path()) + self.facet.accessor(self.key)

    def write(self, value: Any) -> None:
        self.facet.write(self.key, value)

    def agrees(self, one: Any, other: Any) -> bool:
        return self.facet.agrees(one, other)

    def rebased(self, value: Any, before: Any, after: Any) -> Any:
        return self.facet.rebased(value, before, after)

    def render(self, value: Any) -> str:
        # The names on the way to the value, less that of the module: everything in `auth.py` is not a credential.
        secret = is_secret_name(self.path().removeprefix(self.module()))
        return self.facet.text(self.key, value, secret=secret)


class ProbeSlot:
    """One key of one probe."""

    __slots__ = ("key", "probe")

    def __init__(self, probe: Probe, key: Hashable) -> None:
        self.probe = probe
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProbeSlot) and self.probe is other.probe and self.key == other.key

    def __hash__(self) -> int:
        return hash((id(self.probe), self.key))

    @property
    def turn(self) -> int:
        return 0 if self.probe.kind == "patch" else 1

    @property
    def kind(self) -> str:
        return self.probe.kind

    @property
    def code(self) -> str:
        return self.probe.code

    @property
    def severity(self) -> Severity:
        return self.probe.severity

    @property
    def is_silent(self) -> bool:
        return False

    @property
    def is_first_party(self) -> bool:
        return False

    def root(self) -> object:
        return None

    def label(self) -> str:
        return ""

    def path(self) -> str:
        return self.probe.describe(self.key)

    def write(self, value: Any) -> None:
        self.probe.restore(self.key, value)

    def agrees(self, one: Any, other: Any) -> bool:
        return self.probe.agrees(self.key, one, other)

    def rebased(self, value: Any, before: Any, after: Any) -> Any:
        return after

    def render(self, value: Any) -> str:
        return self.probe.render(self.key, value)


Slot = FacetSlot | ProbeSlot


class Entry:
    """One step of one slot in the log.

    Attributes:
        slot: where.
        before: the value the step started from.
        after: the value it led to.
        depth: depth of the frame it was promoted to, or None.
        owner: who did it, when that is not whoever undoes it.
        target: the value to restore; differs from *before* when somebody wider wrote in between.
        decision: what the undo policy says about it; None: it is undone and reported.
    """

    __slots__ = ("after", "before", "decision", "depth", "failed", "owner", "restored", "severity", "slot", "target")

    def __init__(
        self,
        slot: Slot,
        *,
        before: Any,
        after: Any,
        severity: Severity | None,
        depth: int | None,
        owner: str | None = None,
    ) -> None:
        self.slot = slot
        self.before = before
        self.after = after
        self.severity: Severity | None = severity
        self.depth = depth
        self.owner = owner
        self.target = before
        self.restored = False
        self.failed: str | None = None
        self.decision: Decision | None = None

    @property
    def stays(self) -> bool:
        """Whether the value is left as it is."""
        return self.decision is not None and self.decision.fate != "undone"

    @classmethod
    def of(cls, slot: Slot, difference: Difference, depth: int | None = None) -> Entry:
        """Return the log entry of a *difference* at *slot*."""
        return cls(slot, before=difference.before, after=difference.after, severity=difference.severity, depth=depth)

    def fail(self, reason: str) -> None:
        """Remember why the value could not be put back."""
        self.failed = reason

    def describe(self, *, owner: str, scope: str) -> Change:
        """Return the finding: text only, holding none of the values."""
        severity: Severity = self.severity or self.slot.severity
        if self.failed and severity != "note":
            severity = "unrecoverable"
        decision = self.decision
        if decision is not None and not self.failed:
            severity = "leak" if decision.polluted else "note"
        path = self.slot.path()
        before, after = self.slot.render(self.before), self.slot.render(self.after)
        if before == after:
            after += " (another object)"
        return Change(
            self.slot.kind,
            path if not self.slot.is_silent else f"{path} (order of keys)",
            before=before,
            after=after,
            code=self.slot.code,
            owner=owner,
            scope=scope,
            restored=self.restored,
            severity=severity,
            reason=self.failed or (decision.reason if decision is not None else None),
            decision=None if decision is None else decision.code,
        )
