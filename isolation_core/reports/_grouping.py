"""Findings put together: one state, however many polluted it, worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from attrs import field, frozen

from isolation_core.findings import Change, Leak, Severity
from isolation_core.journal import Event, EventSource, JournalRecords, as_finding

__all__ = ["Group", "group_findings", "unfinished_barriers"]

_SEVERITIES: Final = ("note", "leak", "unrecoverable")


@frozen
class Group:
    """One piece of state, or one living thing, with everybody who left it behind.

    Attributes:
        finding: the worst of the findings, which the others resemble.
        undone: whether every single one was put back or ended.
        count: how many findings it stands for.
        owners: who left it behind, each once, in the order they did.
        scopes: the scope of each of the owners.
        victims: whom it broke, as far as that is known.
    """

    finding: Change | Leak
    undone: bool = field(kw_only=True)
    count: int = field(kw_only=True)
    owners: tuple[str, ...] = field(kw_only=True)
    scopes: tuple[str, ...] = field(kw_only=True)
    victims: tuple[str, ...] = field(kw_only=True)

    @property
    def severity(self) -> Severity:
        """Of the worst finding."""
        return self.finding.severity

    @property
    def rank(self) -> int:
        """How much damage it does: 0 unrecoverable, 1 left as it is, 2 undone, 3 a note."""
        if self.severity == "note":
            return 3
        if self.severity == "unrecoverable":
            return 0
        return 2 if self.undone else 1


def group_findings(source: EventSource) -> tuple[Group, ...]:
    """Return the findings of a journal as groups, the most damaging first.

    What broke others comes before what did not, and what many did before what
    one did; the rest of the order is by owner, code and path, so that it is stable.
    """
    findings: dict[tuple[str, str, str], list[Change | Leak]] = {}
    victims: dict[tuple[str, str], dict[str, None]] = {}
    for event in source.events:
        if event.ev == "victim":
            _note_victim(event, victims)
        elif (finding := as_finding(event)) is not None:
            findings.setdefault((type(finding).__name__, finding.kind, finding.path), []).append(finding)
    groups = [_group(members, victims.get((kind, path), ())) for (_, kind, path), members in findings.items()]
    return tuple(sorted(groups, key=_order))


def unfinished_barriers(records: JournalRecords) -> tuple[str, ...]:
    """Name the barriers that were open when their process stopped writing, one text each."""
    found = []
    for process in records.processes:
        still_open: Counter[tuple[str, str]] = Counter()
        for event in process.events:
            if event.ev in ("open", "close"):
                key = (str(event.fields.get("owner")), str(event.fields.get("scope", "barrier")))
                still_open[key] += 1 if event.ev == "open" else -1
        worker, pid = process.key[1:]
        found += [f"{owner} ({scope}, {worker}, pid {pid})" for (owner, scope), n in still_open.items() if n > 0]
    return tuple(found)


def _note_victim(event: Event, victims: dict[tuple[str, str], dict[str, None]]) -> None:
    key = (str(event.fields.get("kind")), str(event.fields.get("path")))
    victims.setdefault(key, {})[str(event.fields.get("victim"))] = None


def _group(members: list[Change | Leak], victims: Iterable[str]) -> Group:
    scopes = {member.owner: member.scope for member in reversed(members)}
    owners = tuple(dict.fromkeys(member.owner for member in members))
    return Group(
        max(members, key=_damage),
        undone=all(_is_undone(member) for member in members if member.severity != "note"),
        count=len(members),
        owners=owners,
        scopes=tuple(scopes[owner] for owner in owners),
        victims=tuple(victims),
    )


def _damage(finding: Change | Leak) -> tuple[int, bool]:
    return _SEVERITIES.index(finding.severity), not _is_undone(finding)


def _is_undone(finding: Change | Leak) -> bool:
    return finding.restored if isinstance(finding, Change) else finding.ended


def _order(group: Group) -> tuple[object, ...]:
    # What one owner did stays together.
    finding = group.finding
    return group.rank, -len(group.victims), -len(group.owners), group.owners, finding.code, finding.path
