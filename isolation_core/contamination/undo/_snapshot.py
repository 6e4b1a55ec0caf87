"""The snapshot of the process: the object graph, the probes, and which modules there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from isolation_core.contamination._difference import Difference
from isolation_core.contamination._first_party import Territory
from isolation_core.contamination._slot import Slot
from isolation_core.contamination.objects._modules import WatchedModules
from isolation_core.contamination.probes._probe import Probe
from isolation_core.contamination.probes._quarantine import Quarantine
from isolation_core.contamination.probes._watch import ProbeWatch

__all__ = ["View"]


class View:
    """The last snapshot of the process, and what to compare it with.

    Args:
        territory: the modules that are watched deeply.
        probes: further state that is watched.
        quarantine: the treatment of probes that raise.
        heap: whether module state is watched.

    Attributes:
        modules: which modules there are.
        graph: the objects they lead to.
        probes: the probes, with what they found last.
        kept: labels of values whose changes are reported and not undone.
    """

    def __init__(self, territory: Territory, probes: tuple[Probe, ...], quarantine: Quarantine, *, heap: bool) -> None:
        self.heap = heap
        self.probes = ProbeWatch(probes, quarantine)
        self.modules = WatchedModules(territory)
        self.graph = self.modules.graph
        self.kept: set[str] = set()

    @property
    def territory(self) -> Territory:
        """The territory of the outermost frame."""
        return self.modules.territory

    def fits(self, territory: Territory, probes: tuple[Probe, ...], *, heap: bool) -> bool:
        """Return whether it is a snapshot of exactly this."""
        mine = self.territory
        return (
            self.heap == heap
            and mine.packages == territory.packages
            and mine.roots == territory.roots
            and self.probes.given == probes
        )

    def widen(self, territory: Territory, probes: tuple[Probe, ...]) -> None:
        """Watch what a frame inside of the outermost one watches as well."""
        self.modules.widen(territory)
        self.probes.add(probes)

    def find_modules(self, *, entering: bool) -> None:
        """Watch modules that are new; see `WatchedModules.find`."""
        if self.heap:
            self.modules.find(entering=entering)

    def compare(self, test_module: str | None, report: Callable[[Slot, Difference], None]) -> None:
        """Give every difference to *report*, and accept what is there now.

        Args:
            test_module: see `ObjectGraph.moved`.
            report: takes the slot and the difference.
        """
        for slot, difference in self.graph.moved(test_module):
            if not slot.agrees(difference.before, difference.after):
                report(slot, difference)
        self.probes.compare(report)

    def accept(self, targets: Sequence[tuple[Slot, Any]]) -> dict[Slot, Any]:
        """Accept what was written to some slots; return the values found in those that moved."""
        found = self.probes.accept(targets)
        found.update(self.graph.accept(targets))
        return found
