"""A journal as one JSON object."""

from __future__ import annotations

import json
from typing import Any, Final

import attrs

from isolation_core.journal import EventSource, JournalRecords, totals_of
from isolation_core.reports._grouping import Group, group_findings, unfinished_barriers
from isolation_core.reports._hints import explain

__all__ = ["REPORT_SCHEMA", "render_json", "report_data"]

REPORT_SCHEMA: Final = "isolation-report/1"
"""Value of the ``schema`` key; a later minor version may add keys."""


def report_data(source: EventSource) -> dict[str, Any]:
    """Return what a report says, as JSON values.

    Args:
        source: a live journal or one that was read.

    Returns:
        ``schema``, ``isolation_score`` and ``cleanliness`` (0 to 1), ``totals``
        (the fields of `isolation_core.journal.Totals`), ``findings`` (worst
        first, notes included), ``warnings``, ``unfinished``, ``processes`` (the
        headers of the journals that were read).
    """
    totals = totals_of(source)
    records = source if isinstance(source, JournalRecords) else JournalRecords()
    return {
        "schema": REPORT_SCHEMA,
        "isolation_score": totals.isolation_score,
        "cleanliness": totals.cleanliness,
        "totals": attrs.asdict(totals),
        "findings": [_finding(group) for group in group_findings(source)],
        "warnings": list(records.warnings),
        "unfinished": list(unfinished_barriers(records)),
        "processes": [dict(process.header) for process in records.processes],
    }


def render_json(source: EventSource, *, indent: int | None = 2) -> str:
    """Return `report_data` as text; the same journal gives the same text."""
    return json.dumps(report_data(source), indent=indent)


def _finding(group: Group) -> dict[str, Any]:
    entry = explain(group.finding.code)
    return {
        "type": type(group.finding).__name__.lower(),
        **attrs.asdict(group.finding),
        "title": entry.title if entry else None,
        "fix": entry.fix if entry else None,
        "undone": group.undone,
        "severity": group.severity,
        "count": group.count,
        "owners": list(group.owners),
        "scopes": list(group.scopes),
        "victims": list(group.victims),
    }
