"""Candidates: findings that came before a failure and that the failed code could see.

A test that fails in isolation and passes without it relies on what another test
left behind. The findings recorded before the failure name that state. Those are
candidates whose state the failed code can reach: named in the failure itself,
in a module of the traceback, or in a module that the test imports. It is a
suspicion, not a proof; the text says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from attrs import field, frozen

from isolation_core.findings import Change, Leak
from isolation_core.journal import Event, EventSource, as_finding

__all__ = ["Candidate", "FailureFacts", "find_candidates", "rank"]

_NAMED, _IN_TRACEBACK, _IMPORTED, _OF_THE_PROCESS = 3, 2, 1, 0
_LAST_NAME: Final = re.compile(r"(\w+)\W*$")
_OWN_CODE: Final = frozenset({"cache", "class", "closure", "container", "function", "module", "object", "thread-local"})
_TOO_COMMON: Final = frozenset({"", "name", "value", "data", "items", "key", "id", "self", "order"})


@frozen
class FailureFacts:
    """The known facts of a failed test.

    Attributes:
        test: its identifier, as findings name owners.
        text: the message of the failure and the source lines it shows.
        traceback: names of the modules in the traceback.
        imported: names of the modules that the test's module leads to, itself included.
    """

    test: str
    text: str = field(default="", kw_only=True)
    traceback: frozenset[str] = field(default=frozenset(), kw_only=True)
    imported: frozenset[str] = field(default=frozenset(), kw_only=True)


@frozen
class Candidate:
    """One finding that may be the reason of a failure.

    Attributes:
        path: where the state is.
        owner: the polluter.
        before: text of the value that is there again, or was there before.
        after: text of the value that the owner had left.
        fate: ``"put back"``, ``"kept"`` or ``"left"``.
        likely: whether the failure itself speaks of it, or its module is in the traceback.
    """

    path: str
    owner: str = field(kw_only=True)
    before: str = field(kw_only=True)
    after: str = field(kw_only=True)
    fate: str = field(kw_only=True)
    likely: bool = field(kw_only=True)

    def as_fields(self) -> dict[str, Any]:
        """Return it as a value of a journal event."""
        names = ("path", "owner", "before", "after", "fate", "likely")
        return {name: getattr(self, name) for name in names}


def find_candidates(source: EventSource, facts: FailureFacts, *, limit: int = 5) -> tuple[Candidate, ...]:
    """Return the findings recorded so far that may be the reason of a failure, the best one first.

    Args:
        source: the journal at the moment of the failure.
        facts: the known facts of the failure.
        limit: how many are returned at the most.
    """
    ranked: list[tuple[int, int, Candidate]] = []
    for age, change in enumerate(_changes(reversed(source.events), facts.test)):
        weight = _weight(change, facts)
        if weight is not None:
            ranked.append((-weight, age, _candidate(change, weight)))
    ranked.sort(key=lambda row: row[:2])
    # State of the process can be seen by all code: worth a word only where nothing better is known.
    better = any(-row[0] > _OF_THE_PROCESS for row in ranked)
    return tuple(row[2] for row in ranked if not better or -row[0] > _OF_THE_PROCESS)[:limit]


def rank(findings: Iterable[Change | Leak], facts: FailureFacts) -> list[Change | Leak]:
    """Return all of *findings*, those first that the failure may have seen, the newest of equals first."""
    newest_first = list(findings)[::-1]
    return sorted(newest_first, key=lambda each: -(w if (w := _weight(each, facts)) is not None else -1))


def _changes(events: Iterable[Event], test: str) -> Iterator[Change]:
    """Yield the changes that others made, each path once."""
    seen = set()
    for event in events:
        finding = as_finding(event)
        if isinstance(finding, Change) and finding.owner != test and finding.path not in seen:
            seen.add(finding.path)
            yield finding


def _weight(change: Change | Leak, facts: FailureFacts) -> int | None:
    name = _LAST_NAME.search(change.path)
    word = name[1] if name else ""
    reached = _within(change.path, facts.imported | facts.traceback)
    own = change.kind in _OWN_CODE
    if (reached or not own) and word not in _TOO_COMMON and re.search(rf"\b{re.escape(word)}\b", facts.text):
        return _NAMED
    if _within(change.path, facts.traceback):
        return _IN_TRACEBACK
    if reached:
        return _IMPORTED
    return None if own or change.severity == "note" else _OF_THE_PROCESS


def _within(path: str, modules: Iterable[str]) -> bool:
    return any(path == name or path.startswith((f"{name}.", f"{name}[")) for name in modules)


def _candidate(change: Change, weight: int) -> Candidate:
    fate = "put back" if change.restored else "kept" if change.reason else "left"
    return Candidate(
        change.path,
        owner=change.owner,
        before=change.before,
        after=change.after,
        fate=fate,
        likely=weight >= _IN_TRACEBACK,
    )
