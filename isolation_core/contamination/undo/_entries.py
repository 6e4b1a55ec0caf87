"""Entries of the undo log: where something moved, from what to what, and whose doing it was."""

from __future__ import annotations

from typing import Any

from isolation_core.contamination._contrast import told_apart
from isolation_core.contamination._difference import Difference
from isolation_core.contamination._slot import Slot
from isolation_core.contamination.undo._decision import Decision
from isolation_core.findings import Change, Severity

__all__ = ["Entry"]


class Entry:
    """One step of one slot in the log.

    Attributes:
        slot: where.
        before: the value the step started from.
        after: the value it led to.
        depth: depth of the frame it was promoted to, or None.
        owner: the polluter, if another owner undoes it.
        target: the value to restore; differs from *before* if a wider owner wrote in between.
        decision: the decision of the undo policy; None: it is undone and reported.
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
        """Whether the value is kept."""
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
            before, after = told_apart(self.before, self.after, before)
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
