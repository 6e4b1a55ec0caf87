"""Findings put together: one state, however many polluted it, worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import evolve, field, frozen

from isolation_core.findings import Change, Leak, Severity
from isolation_core.journal import Event, EventSource, JournalRecords, as_finding

__all__ = [
    "Group",
    "explained_failures",
    "fold_keys",
    "group_findings",
    "join_patches",
    "suspects_in",
    "unfinished_barriers",
]

_MAX_KEYS: Final = 3
"""As many keys of one container are listed each on a line of its own."""

_SEVERITIES: Final = ("note", "leak", "unrecoverable")

_FIRST_PARTY: Final = frozenset(
    {"cache", "class", "closure", "container", "function", "module", "object", "thread-local"}
)  # fmt: skip
_FOREIGN: Final = frozenset({"foreign-class", "foreign-module"})
_PATCH: Final = "unittest.mock.patch("


@frozen
class Group:
    """One piece of state, or one living thing, with everybody who left it behind.

    Attributes:
        finding: the worst of the findings, which the others resemble.
        undone: whether every single one was put back or ended.
        count: how many findings it represents.
        owners: the polluters, each once, in the order of their findings.
        scopes: the scope of each of the owners.
        victims: the tests it broke, as far as known.
    """

    finding: Change | Leak
    undone: bool = field(kw_only=True)
    count: int = field(kw_only=True)
    owners: tuple[str, ...] = field(kw_only=True)
    scopes: tuple[str, ...] = field(kw_only=True)
    victims: tuple[str, ...] = field(kw_only=True)
    more_keys: int = field(default=0, kw_only=True)

    @property
    def severity(self) -> Severity:
        """Of the worst finding."""
        return self.finding.severity

    @property
    def rank(self) -> int:
        """Its rank by damage: 0 unrecoverable, 1 not restored, 2 restored, 3 a note."""
        if self.severity == "note":
            return 3
        if self.severity == "unrecoverable":
            return 0
        return 2 if self.undone else 1


def group_findings(source: EventSource, *, include_known: bool = True) -> tuple[Group, ...]:
    """Return the findings of a journal as groups, the most damaging first.

    Findings that broke tests come before others, first-party state before that of
    the process and of libraries, and findings of many owners before those of one;
    the rest of the order is by owner, code and path, so that it is stable.
    """
    return _groups_of(event for event in source.events if include_known or not event.fields.get("known"))


def _groups_of(events: Iterable[Event]) -> tuple[Group, ...]:
    findings: dict[tuple[str, str, str], list[Change | Leak]] = {}
    victims: dict[tuple[str, str], dict[str, None]] = {}
    for event in events:
        if event.ev == "victim":
            _note_victim(event, victims)
        elif (finding := as_finding(event)) is not None:
            findings.setdefault((type(finding).__name__, finding.kind, finding.path), []).append(finding)
    groups = [_group(members, victims.get((kind, path), ())) for (_, kind, path), members in findings.items()]
    return tuple(sorted(groups, key=_order))


def join_patches(groups: Iterable[Group]) -> list[Group]:
    """Return *groups* with a patch that was left on and the attribute it replaced as one: the attribute, by a patch."""
    kept = list(groups)
    patches = [group for group in kept if group.finding.kind == "patch" and group.finding.path.startswith(_PATCH)]
    for patch in patches:
        target = patch.finding.path.removeprefix(_PATCH).removesuffix(")").strip("'")
        hit = [group for group in kept if group.owners == patch.owners and _is_patched(group.finding, target)]
        if not target or not hit:
            continue
        kept.remove(patch)
        for group in hit:
            finding = evolve(group.finding, code=patch.finding.code)
            kept[kept.index(group)] = evolve(group, finding=finding, undone=group.undone and patch.undone)
    return kept


def _is_patched(finding: Change | Leak, target: str) -> bool:
    if not isinstance(finding, Change) or finding.severity == "note":
        return False
    if target.startswith("dict '"):
        return finding.path.startswith(f"{target[6:]}[")
    return finding.path == target or finding.path.endswith(f".{target}")


def suspects_in(source: EventSource) -> tuple[Group, ...]:
    """Return the findings that are only a note and came before a test failed.

    A cache that was filled is not an error, but it may be the reason why a later test fails.
    """
    events = source.events
    last = max((index for index, event in enumerate(events) if event.ev == "failure"), default=0)
    return _groups_of(event for event in events[:last] if event.fields.get("severity") == "note")


def explained_failures(source: EventSource) -> tuple[tuple[str, str, str], ...]:
    """Return the failed tests that may rely on what was put back: each with the path and who had left it."""
    found: dict[str, tuple[str, str, str]] = {}
    for event in source.events:
        candidates = event.fields.get("candidates") if event.ev == "failure" else None
        best = candidates[0] if isinstance(candidates, list) and candidates else None
        if isinstance(best, dict) and best.get("likely") and best.get("fate") == "put back":
            test = str(event.fields.get("test"))
            found.setdefault(test, (test, str(best.get("path")), str(best.get("owner"))))
    return tuple(found.values())


def fold_keys(groups: Sequence[Group]) -> list[Group]:
    """Return *groups* with many keys of one container as one, with the first of them and the number of the others."""
    kept: list[Group] = []
    first: dict[tuple[object, ...], int] = {}
    counts = Counter(_container(group) for group in groups)
    for group in groups:
        container = _container(group)
        if container is None or counts[container] <= _MAX_KEYS:
            kept.append(group)
        elif container in first:
            index = first[container]
            kept[index] = evolve(kept[index], more_keys=kept[index].more_keys + 1)
        else:
            first[container] = len(kept)
            kept.append(group)
    return kept


def _container(group: Group) -> tuple[object, ...] | None:
    """Return what groups of keys that can be told together have in common, None for a group of another kind."""
    holder, bracket, _ = group.finding.path.rpartition("[")
    if not bracket or not group.finding.path.endswith("]") or group.victims:
        return None
    return holder, group.finding.code, group.rank, group.owners, group.scopes


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
    finding = group.finding
    kind = 0 if finding.kind in _FIRST_PARTY else 2 if finding.kind in _FOREIGN else 1
    return group.rank, -len(group.victims), kind, -len(group.owners), group.owners, finding.code, finding.path
