"""Probes that raised are used no more: a probe must never break a test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from isolation_core.contamination.probes._probe import Probe
from isolation_core.journal import get_journal

__all__ = ["Quarantine"]


class Quarantine:
    """Disables a probe that raises, for the rest of the run, and reports it once.

    Attributes:
        disabled: the probes that raised, by address; another one of the same kind has its own chance.
    """

    def __init__(self) -> None:
        self.disabled: dict[int, Probe] = {}

    @contextlib.contextmanager
    def __call__(self, probe: Probe) -> Iterator[None]:
        """Wrap one use of *probe*."""
        try:
            yield
        except Exception as error:
            self.disable(probe, error)

    def disable(self, probe: Probe, error: Exception) -> None:
        """Use *probe* no more, because of *error*."""
        if id(probe) not in self.disabled:
            self.disabled[id(probe)] = probe
            get_journal().record("probe-disabled", kind=probe.kind, error=f"{type(error).__name__}: {error}")
