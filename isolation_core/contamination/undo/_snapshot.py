"""What a tracker looks at: the ledger, the probes, and which modules there are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

from isolation_core.contamination._difference import Difference
from isolation_core.contamination._first_party import Territory
from isolation_core.contamination.objects._modules import WatchedModules
from isolation_core.contamination.probes._guards import CAN_GLANCE, Glances
from isolation_core.contamination.probes._probe import Glance, Probe
from isolation_core.journal import get_journal

__all__ = ["ProbeGuard", "View"]


class ProbeGuard:
    """Disables a probe that raises, for the run, and says so once: it must never break a test.

    Attributes:
        disabled: the probes that raised, by address; another one of the same kind has its own chance.
    """

    def __init__(self) -> None:
        self.disabled: dict[int, Probe] = {}

    @contextlib.contextmanager
    def __call__(self, probe: Probe) -> Iterator[None]:
        """Stand around one use of *probe*."""
        try:
            yield
        except Exception as error:
            self.disable(probe, error)

    def disable(self, probe: Probe, error: Exception) -> None:
        """Use *probe* no more, because of *error*."""
        if id(probe) not in self.disabled:
            self.disabled[id(probe)] = probe
            get_journal().record("probe-disabled", kind=probe.kind, error=f"{type(error).__name__}: {error}")


class View:
    """What one tracker looks at: the ledger, the probes and their last snapshots."""

    def __init__(self, territory: Territory, probes: Iterable[Probe], guard: ProbeGuard, *, heap: bool) -> None:
        self.heap = heap
        self._guard = guard
        self.given = tuple(probes)
        self.probes = [probe for probe in probes if probe.process_wide]
        self.local_probes = [probe for probe in probes if not probe.process_wide]
        self.snapshots: list[Any] = [None] * len(self.probes)
        for index, probe in enumerate(self.probes):
            with guard(probe):
                self.snapshots[index] = probe.capture()
        self._runners_own = [(index, probe) for index, probe in enumerate(self.probes) if probe.moved_by_runners]
        self.glances = Glances()
        # The probes that glances do not speak for.
        self._restless: list[tuple[int, Probe]] = []
        self.modules = WatchedModules(territory)
        self.ledger = self.modules.graph
        # Labels of values whose changes are told, and not undone.
        self.kept: set[str] = set()

    def ask(self, report: Callable[[Probe, Difference], None]) -> None:
        """Capture what may have moved, give every difference to *report*, and believe what is there now."""
        snapshots = self.snapshots
        disabled = self._guard.disabled
        glances = self.glances
        calm = glances.nothing_moved()
        if not calm:
            # Until it is said anew what to read: the readings hold for what the probes found last.
            glances.doubt()
        named: list[Glance] = []
        unnamed: list[tuple[int, Probe]] = []
        for index, probe in self._restless if calm else enumerate(self.probes):
            if disabled and id(probe) in disabled:
                continue
            # Not `_guard(probe)`: a context manager for each probe costs as much as the probes.
            try:
                last = snapshots[index]
                now = probe.capture()
                if now is not last:
                    if not probe.same(last, now):
                        for difference in probe.diff(last, now):
                            report(probe, difference)
                    snapshots[index] = now
                if calm:
                    continue
                glance = probe.glance() if CAN_GLANCE else None
                if glance is None:
                    unnamed.append((index, probe))
                else:
                    named.append(glance)
            except Exception as error:
                self._guard.disable(probe, error)
        if not calm:
            self._restless = unnamed
            glances.believe(named)

    def doubt(self, probes: Container[int]) -> None:
        """Have all probes be asked the next time, if glances speak for one of *probes*, given by address."""
        restless = {id(probe) for _, probe in self._restless}
        if any(id(probe) in probes and id(probe) not in restless for probe in self.probes):
            self.glances.doubt()

    @property
    def territory(self) -> Territory:
        """The territory of the outermost frame."""
        return self.modules.territory

    def watch_more(self, probes: tuple[Probe, ...]) -> None:
        """Use probes that were registered after the outermost frame was opened."""
        if len(self.probes) + len(self.local_probes) >= len(probes):
            return
        for probe in probes:
            if probe.process_wide and probe not in self.probes:
                with self._guard(probe):
                    snapshot = probe.capture()
                    if probe.moved_by_runners:
                        self._runners_own.append((len(self.probes), probe))
                    self.probes.append(probe)
                    self.snapshots.append(snapshot)
                    self.glances.doubt()

    def look_at_runners_own(self) -> None:
        """Believe what runners change between two tests as a matter of course."""
        for index, probe in self._runners_own:
            try:
                self.snapshots[index] = probe.capture()
            except Exception as error:
                self._guard.disable(probe, error)

    def find_modules(self, *, entering: bool) -> None:
        """Watch modules that are new; see `WatchedModules.find`."""
        if self.heap:
            self.modules.find(entering=entering)
