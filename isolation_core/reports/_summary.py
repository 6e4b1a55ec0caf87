"""The totals of a journal: a summary, a score, and advice."""

from __future__ import annotations

import sys
from typing import Any, Final

import attrs

from isolation_core._alive import ask_live_sources
from isolation_core.findings import Change, Leak
from isolation_core.journal import EventSource, Totals, as_finding, get_journal, totals_of
from isolation_core.reports._grouping import group_findings
from isolation_core.reports._hints import explain
from isolation_core.reports._text import render_change

__all__ = [
    "debug_fixture_state",
    "get_contamination_summary",
    "validate_suite_isolation",
    "validate_suite_isolation_sync",
]

_MAX_ISSUES: Final = 100


def get_contamination_summary(journal: EventSource | None = None) -> dict[str, Any]:
    """Return what barriers found so far, as plain data.

    Args:
        journal: the journal to sum up; None: that of this process.

    Returns:
        A dictionary with these keys.

        - ``total_barriers``, ``barriers_by_scope``: how many barriers were closed.
        - ``checked_barriers``, ``checks``: the barriers at whose boundary something was compared, and how often.
        - ``contaminated_barriers``: those that left something behind; ``escaped_barriers``: those of them
            from which something was not taken back.
        - ``changes_by_kind``, ``leaks_by_kind``, ``notes_by_kind``: how many of each kind.
        - ``polluters``: owner -> its changes; ``leakers``: owner -> its living things. Each is a dictionary
            of the fields of `Change` or `Leak`; notes are left out.
        - ``restored``, ``remaining``, ``unrecoverable``: how many findings were put back or ended, were not
            put back, or cannot be put back.
        - ``notes``, ``disabled_probes``, ``dirty_reasons``, ``truncated``: reasons to trust the rest less.
        - ``dropped_findings``: findings that are counted and no longer listed under their owners.
        - ``fixtures``: how many managed fixtures were ``set_up``, ``failed`` in set-up, were ``reused``, found
            ``contaminated``, ``reset`` (their value was put back) or ``rebuilt``.
    """
    source = get_journal() if journal is None else journal
    totals = totals_of(source)
    polluters: dict[str, list[dict[str, Any]]] = {}
    leakers: dict[str, list[dict[str, Any]]] = {}
    for event in source.events:
        finding = as_finding(event)
        if finding is not None and finding.severity != "note":
            table = polluters if isinstance(finding, Change) else leakers
            table.setdefault(finding.owner, []).append(attrs.asdict(finding))
    return {
        "total_barriers": totals.barriers,
        "barriers_by_scope": totals.by_scope,
        "checked_barriers": totals.checked,
        "checks": totals.checks,
        "contaminated_barriers": totals.contaminated,
        "escaped_barriers": totals.escaped,
        "changes_by_kind": totals.changes_by_kind,
        "leaks_by_kind": totals.leaks_by_kind,
        "notes_by_kind": totals.notes_by_kind,
        "polluters": polluters,
        "leakers": leakers,
        "restored": totals.restored,
        "remaining": totals.remaining,
        "unrecoverable": totals.unrecoverable,
        "notes": totals.notes,
        "disabled_probes": totals.disabled_probes,
        "dirty_reasons": totals.dirty,
        "truncated": totals.truncated,
        "dropped_findings": totals.dropped,
        "fixtures": totals.fixtures,
    }


async def validate_suite_isolation(journal: EventSource | None = None) -> dict[str, Any]:
    """Return how well isolation held so far; see `validate_suite_isolation_sync`.

    It never waits, so there is nothing to cancel.
    """
    return validate_suite_isolation_sync(journal)


def validate_suite_isolation_sync(journal: EventSource | None = None) -> dict[str, Any]:
    """Return how well isolation held so far.

    The score is ``1 - escaped / checked``: of the barriers at whose boundary
    something was really compared, the share from which nothing escaped, because
    nothing was left behind or all of it was put back. Barriers in mode ``off``
    count on neither side.

    Args:
        journal: what to judge; the journal of this process if None.

    Returns:
        A dictionary with ``isolation_score`` and ``cleanliness`` (share of
        checked barriers that left nothing at all above a note), both 0 to 1
        and 1.0 without evidence; ``checked_barriers`` (the evidence);
        ``active_barriers``, ``live_mocks``, ``live_fixtures`` (how many are alive
        now), ``alive`` (their names, by kind) and ``issues``: texts that say who
        did what and what to do next, the most damaging first.
    """
    source = get_journal() if journal is None else journal
    totals = totals_of(source)
    alive, problems = ask_live_sources()
    issues = [*_finding_issues(source), *_trust_issues(totals), *problems]
    if len(issues) > _MAX_ISSUES:
        issues[_MAX_ISSUES:] = [f"and {len(issues) - _MAX_ISSUES} more issues"]
    return {
        "isolation_score": totals.isolation_score,
        "cleanliness": totals.cleanliness,
        "checked_barriers": totals.checked,
        "active_barriers": len(alive.get("barriers", ())),
        "live_mocks": len(alive.get("mocks", ())),
        "live_fixtures": len(alive.get("fixtures", ())),
        "alive": alive,
        "issues": issues,
    }


def debug_fixture_state(journal: EventSource | None = None) -> dict[str, Any]:
    """Return what is alive now and what happened last, for a bug report or a debugger.

    Args:
        journal: whose last events to show; the journal of this process if None.

    Returns:
        A dictionary with ``alive`` (names by kind: barriers, fixtures, mocks, ...), ``fixtures`` (each managed
        fixture that is up: name, scope, state, age in seconds, owner, users, dependencies, pending cleanups),
        ``critical_path`` (the slowest chain of their set-ups), ``recent`` (the last twenty events as text)
        and ``text``, all of it to be printed.
    """
    source = get_journal() if journal is None else journal
    alive, problems = ask_live_sources()
    recent = [f"{event.t:.3f} s {event.to_json()}" for event in source.events[-20:]]
    lines = []
    for kind, names in alive.items():
        if kind == "fixtures":
            continue  # told in full below
        lines += [f"{kind} alive: {len(names)}", *(f"  {name}" for name in names)]
    # Who has not imported the fixtures has none, and must not be made to import them.
    module = sys.modules.get("isolation_core.fixtures")
    fixtures: dict[str, Any] = {"fixtures": [], "critical_path": {"path": [], "seconds": 0.0}}
    if module is not None:
        fixtures = module.describe_fixtures()
        lines.append(fixtures.pop("text"))
    lines += [*problems, f"last events: {len(recent)}", *(f"  {text}" for text in recent)]
    return {"alive": alive, **fixtures, "recent": recent, "text": "\n".join(lines)}


def _finding_issues(source: EventSource) -> list[str]:
    issues = []
    for group in group_findings(source, include_known=False):
        if group.severity == "note":
            continue
        owner, *others = group.owners
        who = f"{owner} and {len(others)} more" if others else owner
        issues.append(f"{who} left {render_change(group.finding)}. {_next_step(group.finding)}")
    return issues


def _next_step(finding: Change | Leak) -> str:
    entry = explain(finding.code)
    return f"{entry.fix} (isolation explain {finding.code})" if entry else f"See: isolation explain {finding.code}"


def _trust_issues(totals: Totals) -> list[str]:
    issues = [f"The process is dirty: {reason}. Run what comes after it in a fresh process." for reason in totals.dirty]
    issues += [
        f"{kind} was not watched, its probe failed with {error}. Leave it out with probes=, or report the failure."
        for kind, error in totals.disabled_probes.items()
    ]
    issues += [
        f"{what} was not watched to the end (limit {limit}). Narrow packages= to what you test."
        for what, limit in totals.truncated.items()
    ]
    if totals.barriers and not totals.checked:
        issues.append(
            "No barrier compared anything, so the score says nothing. Use mode='report' or mode='restore', not 'off'."
        )
    return issues
