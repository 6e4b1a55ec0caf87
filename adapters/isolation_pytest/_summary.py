"""The summary at the end of a session, also if its tests ran in worker processes."""

from __future__ import annotations

from typing import Any, Final

import pytest

from isolation_core.diagnosis import Candidate, FailureFacts, find_candidates, modules_reached, render_candidates
from isolation_core.errors import ContaminationError
from isolation_core.reports import Style
from isolation_core.runner import RunnerSession

__all__ = ["Findings", "is_verdict"]

_MARKUP: Final[dict[str, dict[str, bool]]] = {
    "owner": {"bold": True},
    "code": {"cyan": True},
    "path": {"bold": True},
    "good": {"green": True},
    "bad": {"red": True},
    "hint": {},
    "dim": {"light": True},
}
_KEY: Final = "isolation_found"
_NARROWEST: Final = 79
"""Columns that an entry may take also where the terminal has fewer."""

_ERROR: Final = f"{ContaminationError.__module__}.{ContaminationError.__qualname__}: "


class Findings:
    """The findings of one session, in whichever process they were made.

    Args:
        config: the session's configuration.
        session: of this process.
    """

    def __init__(self, config: pytest.Config, session: RunnerSession) -> None:
        self._config = config
        self._session = session
        self._told = 0
        self._reached: dict[str, frozenset[str]] = {}
        self._noted: set[tuple[str, str | None]] = set()

    def note_failure(self, report: pytest.TestReport, item: pytest.Item, excinfo: Any) -> None:
        """Note in the journal that a test failed, and print beneath the failure which findings may be the reason."""
        self._noted.add((report.nodeid, report.when))
        if is_verdict(excinfo.value):
            return
        candidates: tuple[Candidate, ...] = ()
        if self._session.journal.finding_count:
            candidates = find_candidates(self._session.journal, self._facts(report, item, excinfo))
            if lines := render_candidates(candidates):
                report.sections.append(("isolation", "\n".join(lines)))
        found = [candidate.as_fields() for candidate in candidates]
        self._session.journal.record("failure", test=report.nodeid, candidates=found)

    def note_other_failure(self, report: pytest.TestReport) -> None:
        """Note a failure that another plugin reports, unless it was noted when it happened."""
        if (report.nodeid, report.when) not in self._noted:
            self._session.journal.record("failure", test=report.nodeid)

    def _facts(self, report: pytest.TestReport, item: pytest.Item, excinfo: Any) -> FailureFacts:
        name = getattr(getattr(item, "module", None), "__name__", None)
        if name is not None and name not in self._reached:
            self._reached[name] = modules_reached(name)
        frames = (entry.frame.f_globals.get("__name__") for entry in excinfo.traceback)
        return FailureFacts(
            report.nodeid,
            text=report.longreprtext,
            traceback=frozenset(each for each in frames if isinstance(each, str) and each != name),
            imported=self._reached.get(name, frozenset()) if name is not None else frozenset(),
        )

    def attach(self, report: pytest.TestReport) -> None:
        """Add what a test left behind to its teardown report, for JUnit and other readers."""
        if report.when != "teardown":
            return
        crash = getattr(report.longrepr, "reprcrash", None)
        if crash is not None:
            # The short summary begins with this, and has little room for it.
            crash.message = crash.message.removeprefix(_ERROR)
        told, self._told = self._told, self._session.journal.finding_count
        if told == self._told:
            return
        lines = [
            f"{event.fields['code']} {event.fields['path']}"
            for event in self._session.journal.findings_since(told)
            if event.fields.get("owner") == report.nodeid
        ]
        if lines:
            report.user_properties.append(("isolation.leaks", "; ".join(lines[:20])))

    def hand_over(self) -> None:
        """In a worker: leave the events for the controller to take."""
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_KEY] = self._session.export()

    def take_over(self, node: Any, error: object) -> None:
        """In the controller: take a worker's events; a crashed worker left none."""
        output = getattr(node, "workeroutput", None) or {}
        if _KEY in output:
            self._session.absorb(output[_KEY])
        else:
            name = getattr(getattr(node, "gateway", None), "id", "a worker")
            self._session.note(f"{name} ended without handing over its findings: they are missing here")

    def write(self, reporter: Any, *, complete: bool) -> None:
        """Write the summary section to the terminal, if there is anything to say, and the baseline, if asked."""
        if hasattr(self._config, "workeroutput"):
            return
        verbose = self._config.get_verbosity() > 0
        writer = self._config.get_terminal_writer()
        lines = self._session.summary(
            limit=None if verbose else 10,
            include_notes=verbose,
            width=None if verbose else max(_NARROWEST, writer.fullwidth - 1),
            style=_style(writer),
        )
        if complete and self._config.getoption("--isolation-baseline-update"):
            lines.append(
                f"{self._session.write_baseline()} known findings are now in {self._session.settings.baseline}"
            )
        if not lines:
            return
        reporter.section("isolation")
        for line in lines:
            reporter.line(line)


def is_verdict(error: BaseException) -> bool:
    """Return whether *error* says only what barriers found: the test itself did not fail."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_verdict, error.exceptions))
    return isinstance(error, ContaminationError)


def _style(writer: Any) -> Style | None:
    """Return what puts pieces of the summary in colour, None where the terminal has none."""
    return (lambda text, kind: str(writer.markup(text, **_MARKUP[kind]))) if writer.hasmarkup else None
