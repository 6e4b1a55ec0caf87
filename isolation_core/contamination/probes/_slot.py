"""Slots of probes."""

from __future__ import annotations

from typing import Any

from isolation_core.contamination._slot import Slot
from isolation_core.contamination.probes._probe import Probe
from isolation_core.findings import Severity

__all__ = ["ProbeSlot"]


class ProbeSlot(Slot):
    """One key of one probe."""

    __slots__ = ()
    holder: Probe

    @property
    def probe(self) -> Probe:
        """The probe it is a key of."""
        return self.holder

    @property
    def family(self) -> str:
        return self.holder.kind

    @property
    def kind(self) -> str:
        return self.holder.kind

    @property
    def code(self) -> str:
        return self.holder.code

    @property
    def severity(self) -> Severity:
        return self.holder.severity

    @property
    def turn(self) -> int:
        return 0 if self.holder.restores_targets else 1

    @property
    def tells_imports(self) -> bool:
        return self.holder.tells_imports

    def path(self) -> str:
        return self.holder.describe(self.key)

    def write(self, value: Any) -> None:
        self.holder.restore(self.key, value)

    def agrees(self, one: Any, other: Any) -> bool:
        return self.holder.agrees(self.key, one, other)

    def render(self, value: Any) -> str:
        return self.holder.render(self.key, value)
