"""What the session says at its end, also when its tests ran in worker processes."""

from __future__ import annotations

from typing import Any, Final

import pytest

from isolation_core._baseline import write_baseline
from isolation_core.config import Settings
from isolation_core.contamination._first_party import absent_packages
from isolation_core.errors import ContaminationError
from isolation_core.journal import Journal
from isolation_core.reports import Style, render_summary

__all__ = ["Findings"]

_MARKUP: Final[dict[str, dict[str, bool]]] = {
    "owner": {"bold": True},
    "code": {"cyan": True},
    "path": {"bold": True},
    "good": {"green": True},
    "bad": {"red": True},
    "hint": {},
    "dim": {"light": True},
}
_KEY: Final = "isolation_events"
_ABSENT: Final = "isolation_absent"
_ERROR: Final = f"{ContaminationError.__module__}.{ContaminationError.__qualname__}: "


class Findings:
    """The findings of one session, in whichever process they were made.

    Args:
        config: the session's configuration.
        journal: the journal of this process.
        settings: what was asked for.
    """

    def __init__(self, config: pytest.Config, journal: Journal, settings: Settings) -> None:
        self._config = config
        self._journal = journal
        self._settings = settings
        self._absent: dict[str, str] | None = None
        self._told = 0
        self._silent_workers: list[str] = []
        worker = getattr(config, "workerinput", None)
        self._worker_id: str | None = None if worker is None else str(worker.get("workerid"))
        if settings.journal_dir is not None:
            journal.write_to(
                settings.journal_dir,
                runner="pytest",
                mode=settings.mode,
                worker=self._worker_id or "main",
                root=str(config.rootpath),
            )

    def note_failure(self, report: pytest.TestReport) -> None:
        """Mark in the journal that a test failed: what came before may be the reason, even if harmless by itself."""
        self._journal.record("failure", test=report.nodeid)

    def attach(self, report: pytest.TestReport) -> None:
        """Add what a test left behind to its teardown report, for JUnit and other readers."""
        if report.when != "teardown":
            return
        crash = getattr(report.longrepr, "reprcrash", None)
        if crash is not None:
            # The short summary begins with this, and has little room for it.
            crash.message = crash.message.removeprefix(_ERROR)
        told, self._told = self._told, self._journal.finding_count
        if told == self._told:
            return
        lines = [
            f"{event.fields['code']} {event.fields['path']}"
            for event in self._journal.findings_since(told)
            if event.fields.get("owner") == report.nodeid
        ]
        if lines:
            report.user_properties.append(("isolation.leaks", "; ".join(lines[:20])))

    def hand_over(self) -> None:
        """In a worker: leave the events for the controller to take."""
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_KEY] = self._journal.export()
            output[_ABSENT] = absent_packages(self._settings.packages)

    def take_over(self, node: Any, error: object) -> None:
        """In the controller: take a worker's events; a crashed worker left none."""
        output = getattr(node, "workeroutput", None) or {}
        if _KEY in output:
            self._journal.absorb(output[_KEY])
            # What one worker did not need another one may have loaded.
            absent = output[_ABSENT]
            self._absent = absent if self._absent is None else {k: v for k, v in self._absent.items() if k in absent}
        else:
            name = getattr(getattr(node, "gateway", None), "id", "a worker")
            self._silent_workers.append(str(name))

    def write(self, reporter: Any, *, complete: bool) -> None:
        """Write the summary section to the terminal, if there is anything to say, and the baseline, if asked."""
        if self._worker_id is not None:
            return
        absent = absent_packages(self._settings.packages) if self._absent is None else self._absent
        for text in absent.values():
            self._journal.record("note", text=text)
        for name in self._silent_workers:
            self._journal.record("note", text=f"{name} ended without handing over its findings: they are missing here")
        verbose = self._config.get_verbosity() > 0
        lines = render_summary(
            self._journal,
            limit=None if verbose else 10,
            include_notes=verbose,
            width=None if verbose else 79,
            style=_style(self._config.get_terminal_writer()),
        )
        baseline = self._settings.baseline
        if complete and baseline is not None and self._config.getoption("--isolation-baseline-update"):
            count = write_baseline(baseline, self._journal)
            lines.append(f"{count} known findings are now in {baseline}")
        if not lines:
            return
        reporter.section("isolation")
        for line in lines:
            reporter.line(line)


def _style(writer: Any) -> Style | None:
    """Return what puts pieces of the summary in colour, None where the terminal has none."""
    return (lambda text, kind: str(writer.markup(text, **_MARKUP[kind]))) if writer.hasmarkup else None
