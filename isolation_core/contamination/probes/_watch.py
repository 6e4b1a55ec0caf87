"""The probes in use, with what each of them found last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from isolation_core.contamination._difference import Difference
from isolation_core.contamination._slot import Slot
from isolation_core.contamination.probes._guards import CAN_GUARD, Guards
from isolation_core.contamination.probes._probe import Guard, Probe
from isolation_core.contamination.probes._quarantine import Quarantine
from isolation_core.contamination.probes._slot import ProbeSlot

__all__ = ["ProbeWatch"]


class ProbeWatch:
    """Says what moved in the state that probes watch.

    Args:
        probes: the probes.
        quarantine: the treatment of probes that raise.

    Attributes:
        given: the probes.
        shared: those of state that the whole process shares.
        local: those of state that each thread or task has of its own; only asked by name.
    """

    def __init__(self, probes: Iterable[Probe], quarantine: Quarantine) -> None:
        self._quarantine = quarantine
        self.given = tuple(probes)
        self.shared = [probe for probe in self.given if probe.process_wide]
        self.local = [probe for probe in self.given if not probe.process_wide]
        self._answers: list[Any] = [None] * len(self.shared)
        for index, probe in enumerate(self.shared):
            with quarantine(probe):
                self._answers[index] = probe.capture()
        self._runners_own = [(index, probe) for index, probe in enumerate(self.shared) if probe.moved_by_runners]
        self._guards = Guards()
        # The probes that no guard speaks for.
        self._unguarded: list[tuple[int, Probe]] = []

    def compare(self, report: Callable[[Slot, Difference], None]) -> None:
        """Capture what may have moved, give every difference to *report*, and accept what is there now."""
        answers = self._answers
        disabled = self._quarantine.disabled
        guards = self._guards
        calm = guards.nothing_moved()
        if not calm:
            # The readings hold for what the probes found last; which ones count is decided below.
            guards.invalidate()
        named: list[Guard] = []
        unnamed: list[tuple[int, Probe]] = []
        for index, probe in self._unguarded if calm else enumerate(self.shared):
            if disabled and id(probe) in disabled:
                continue
            # Not `_quarantine(probe)`: a context manager for each probe costs as much as the probes.
            try:
                last = answers[index]
                now = probe.capture()
                if now is not last:
                    if not probe.same(last, now):
                        for difference in probe.diff(last, now):
                            report(ProbeSlot(probe, difference.key), difference)
                    answers[index] = now
                if calm:
                    continue
                guard = probe.guard() if CAN_GUARD else None
                if guard is None:
                    unnamed.append((index, probe))
                else:
                    named.append(guard)
            except Exception as error:
                self._quarantine.disable(probe, error)
        if not calm:
            self._unguarded = unnamed
            guards.accept(named)

    def add(self, probes: tuple[Probe, ...]) -> None:
        """Use those of *probes* that were registered meanwhile, too."""
        if len(self.shared) + len(self.local) >= len(probes):
            return
        for probe in probes:
            if probe.process_wide and probe not in self.shared:
                with self._quarantine(probe):
                    answer = probe.capture()
                    if probe.moved_by_runners:
                        self._runners_own.append((len(self.shared), probe))
                    self.shared.append(probe)
                    self._answers.append(answer)
                    self._guards.invalidate()

    def accept_runners_own(self) -> None:
        """Accept what runners change between two tests as a matter of course."""
        for index, probe in self._runners_own:
            try:
                self._answers[index] = probe.capture()
            except Exception as error:
                self._quarantine.disable(probe, error)

    def accept(self, targets: Iterable[tuple[Slot, Any]]) -> dict[Slot, Any]:
        """Finish after some slots were written, and accept their present state.

        Args:
            targets: each slot with what was written there.

        Returns:
            The values found in slots that moved.
        """
        mine: dict[int, tuple[Probe, dict[Slot, Any]]] = {}
        for slot, target in targets:
            if isinstance(slot, ProbeSlot):
                mine.setdefault(id(slot.probe), (slot.probe, {}))[1][slot] = target
        for probe, _ in mine.values():
            with self._quarantine(probe):
                probe.finish()
        unguarded = {id(probe) for _, probe in self._unguarded}
        if any(id(probe) in mine and id(probe) not in unguarded for probe in self.shared):
            self._guards.invalidate()
        found: dict[Slot, Any] = {}
        for probe, written in mine.values():
            with self._quarantine(probe):
                now = probe.capture()
                if not probe.process_wide:
                    # No other thread or task writes there.
                    found.update(written)
                    continue
                index = self.shared.index(probe)
                last, self._answers[index] = self._answers[index], now
                found.update((ProbeSlot(probe, each.key), each.after) for each in probe.diff(last, now))
        return found
