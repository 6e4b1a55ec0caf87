"""The journal of events: counted always, kept while there is room, written on request.

Everything a barrier notices goes through `Journal.record`. Clean barriers only
move counters, so a hundred thousand of them cost no memory; findings are kept
up to a limit, with the count of what no longer fitted. A journal may also be
written to a file (`Journal.write_to`), one for each process, and read back by
`read_journal` and `merge_journals`.

Events and the fields that are counted; all other fields and events are free:

=================  ==========================================================
``open``           ``owner``, ``group``, ``scope``, ``mode``
``close``          the same, and ``checks`` (kinds really compared),
                   ``duration_us``, ``clean`` (nothing above a note was found),
                   ``restored`` (all that was found is undone)
``change``         the fields of `isolation_core.findings.Change`
``leak``           the fields of `isolation_core.findings.Leak`
``note``           ``text``
``dirty``          ``reason``
``probe-disabled`` ``kind``, ``error``
``truncated``      ``what``, ``limit``
``failure``        ``test``: it failed, so that what came before may be the reason
``victim``         ``kind`` and ``path`` of a finding, ``victim`` (who it broke)
``fixture``        ``what`` a managed fixture went through: see `Totals.fixtures`
=================  ==========================================================
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, Protocol, get_args

import attrs
from attrs import define, field

from isolation_core._journal_files import (
    SCHEMA,
    Event,
    JournalFile,
    JournalRecords,
    ProcessRecord,
    make_header,
    merge_journals,
    read_journal,
    write_journal,
)
from isolation_core.findings import Change, Leak, Severity

__all__ = [
    "SCHEMA",
    "Event",
    "EventSource",
    "Journal",
    "JournalRecords",
    "ProcessRecord",
    "Totals",
    "as_finding",
    "get_journal",
    "merge_journals",
    "read_journal",
    "set_journal",
    "totals_of",
    "use_journal",
    "write_journal",
]

MAX_FINDINGS: Final = 10_000
"""Changes and leaks above a note that one process keeps in memory: the first ones."""

MAX_OTHERS: Final = 2_000
"""Events of all other kinds that one process keeps in memory: the latest ones."""

_MAX_TEXTS = 100
_MAX_TEXT = 20_000
_MAX_DEPTH = 6
_PLAIN = frozenset({bool, type(None)})
_CHANGE_FIELDS = tuple(a.name for a in attrs.fields(Change))
_LEAK_FIELDS = tuple(a.name for a in attrs.fields(Leak))


class EventSource(Protocol):
    """The source of summaries and reports: a live `Journal` or `JournalRecords`."""

    @property
    def events(self) -> Sequence[Event]:
        """The available events, oldest first within a process."""
        ...


@define
class Totals:
    """Everything that is counted. The same events give the same totals, live or read.

    Attributes:
        barriers: barriers that were closed; `by_scope` splits them.
        checked: those of them at whose boundary something was really compared.
        checks: comparisons made: the sum of kinds watched over all of them.
        clean: checked barriers that left nothing above a note.
        escaped: checked barriers that left something that was not undone.
        changes_by_kind: changes above a note.
        leaks_by_kind: living things above a note.
        notes_by_kind: findings that are only a note.
        restored: findings above a note that were undone.
        unrecoverable: findings that could not be undone.
        remaining: findings above a note that were not undone, for whatever reason.
        disabled_probes: kind -> error, for probes that were switched off.
        dirty: reason -> how often it was given.
        notes: text -> how often it was noted.
        truncated: quantity that reached a limit -> the limit.
        known: findings above a note that the baseline has.
        dropped: findings that are counted here but are no longer available as events.
        fixtures: of managed fixtures how many were ``set_up``, ``failed`` to be, ``reused``, found ``contaminated``,
            ``reset`` (their value was put back) and ``rebuilt``.
    """

    barriers: int = 0
    checked: int = 0
    checks: int = 0
    clean: int = 0
    escaped: int = 0
    restored: int = 0
    unrecoverable: int = 0
    remaining: int = 0
    known: int = 0
    dropped: int = 0
    by_scope: dict[str, int] = field(factory=dict)
    changes_by_kind: dict[str, int] = field(factory=dict)
    leaks_by_kind: dict[str, int] = field(factory=dict)
    notes_by_kind: dict[str, int] = field(factory=dict)
    disabled_probes: dict[str, str] = field(factory=dict)
    dirty: dict[str, int] = field(factory=dict)
    notes: dict[str, int] = field(factory=dict)
    truncated: dict[str, str] = field(factory=dict)
    fixtures: dict[str, int] = field(factory=dict)

    @property
    def contaminated(self) -> int:
        """Checked barriers that left something above a note, undone or not."""
        return self.checked - self.clean

    @property
    def isolation_score(self) -> float:
        """Share of checked barriers from which nothing escaped: clean, or all of it undone.

        The denominator are the boundaries that were really compared (`checked`),
        not the barriers that were merely opened: a barrier in mode ``off`` proves
        nothing. 1.0 without any evidence.
        """
        return (self.checked - self.escaped) / self.checked if self.checked else 1.0

    @property
    def cleanliness(self) -> float:
        """Share of checked barriers that left nothing above a note, so that nothing had to be undone."""
        return self.clean / self.checked if self.checked else 1.0

    def copy(self) -> Totals:
        """Return totals that do not move when these do."""
        values: dict[str, Any] = {a.name: getattr(self, a.name) for a in attrs.fields(Totals)}
        values |= {name: dict(table) for name, table in values.items() if type(table) is dict}
        return Totals(**values)

    def merge(self, other: Mapping[str, Any]) -> None:
        """Add the counters of another process, given as a mapping of the same names."""
        for name, value in other.items():
            mine = getattr(self, name, None)
            if isinstance(mine, dict):
                for key, item in value.items():
                    mine[key] = mine.get(key, 0) + item if isinstance(item, int) else item
            elif isinstance(mine, int):
                setattr(self, name, mine + value)

    def add(self, ev: str, fields: Mapping[str, Any]) -> None:
        """Count one event."""
        if ev == "close":
            self._add_close(fields)
        elif ev == "change":
            self._add_finding(fields, self.changes_by_kind, undone=bool(fields.get("restored")))
        elif ev == "leak":
            self._add_finding(fields, self.leaks_by_kind, undone=bool(fields.get("ended")))
        elif ev == "note":
            _bump(self.notes, str(fields.get("text", "")))
        elif ev == "dirty":
            _bump(self.dirty, str(fields.get("reason", "")))
        elif ev == "probe-disabled" and len(self.disabled_probes) < _MAX_TEXTS:
            self.disabled_probes.setdefault(str(fields.get("kind")), str(fields.get("error", "")))
        elif ev == "truncated" and len(self.truncated) < _MAX_TEXTS:
            self.truncated.setdefault(str(fields.get("what", "ledger")), str(fields.get("limit", "")))
        elif ev == "fixture":
            _bump(self.fixtures, str(fields.get("what", "")))

    def add_clean(self, scope: str, checks: int) -> None:
        """Count one barrier that left nothing above a note."""
        self.barriers += 1
        by_scope = self.by_scope
        by_scope[scope] = by_scope.get(scope, 0) + 1
        if checks > 0:
            self.checked += 1
            self.checks += checks
            self.clean += 1

    def _add_close(self, fields: Mapping[str, Any]) -> None:
        checks = fields.get("checks", 0)
        self.add_clean(str(fields.get("scope", "barrier")), checks if type(checks) is int else 0)
        if not fields.get("clean") and type(checks) is int and checks > 0:
            self.clean -= 1
            self.escaped += not fields.get("restored")

    def _add_finding(self, fields: Mapping[str, Any], by_kind: dict[str, int], *, undone: bool) -> None:
        kind, severity = str(fields.get("kind")), fields.get("severity", "leak")
        if severity == "note":
            by_kind = self.notes_by_kind
        else:
            self.restored += undone
            self.remaining += not undone
            self.unrecoverable += severity == "unrecoverable"
            self.known += bool(fields.get("known"))
        by_kind[kind] = by_kind.get(kind, 0) + 1


class Journal:
    """The events of one process.

    Args:
        max_findings: how many changes and leaks are kept as events; the rest is counted.
        max_others: how many other events are kept; older ones make room.

    Recording is safe from any thread, from finalizers and after a fork, and
    never raises: where the file cannot be written, a note says so once.
    """

    def __init__(self, *, max_findings: int = MAX_FINDINGS, max_others: int = MAX_OTHERS) -> None:
        self._max_findings = max_findings
        self._findings: list[Event] = []
        self._others: deque[Event] = deque(maxlen=max_others)
        self._totals = Totals()
        self._seq = 0
        self._t0 = time.monotonic()
        self._file: JournalFile | None = None
        # Re-entrant: a finalizer may record while this thread is recording.
        self._lock = threading.RLock()
        _journals.add(self)

    @property
    def events(self) -> tuple[Event, ...]:
        """The available events, in the order in which they were recorded."""
        with self._lock:
            return tuple(sorted((*self._findings, *self._others), key=lambda event: event.seq))

    @property
    def totals(self) -> Totals:
        """A copy of the counters; it does not move any more."""
        with self._lock:
            return self._totals.copy()

    @property
    def writing(self) -> bool:
        """Whether events go to a file. If not, `record` of an ``open`` does nothing."""
        return self._file is not None

    @property
    def path(self) -> str | None:
        """The file this process writes, if any."""
        return None if self._file is None else str(self._file.path)

    @property
    def owned_descriptors(self) -> frozenset[int]:
        """File descriptors that belong to the journal and are not leaks."""
        return frozenset() if self._file is None or self._file.fd < 0 else frozenset({self._file.fd})

    def count_clean(self, scope: str = "barrier", checks: int = 1, **fields: Any) -> None:
        """Count a barrier that closed clean; the fast way to record its ``close``.

        Args:
            scope: the scope of the barrier.
            checks: how many kinds were really compared; 0 if it looked at nothing.
            **fields: the other fields of ``close``, used only when a file is written.
        """
        if self._file is not None:
            self.record("close", scope=scope, checks=checks, clean=True, restored=True, **fields)
            return
        with self._lock:
            self._totals.add_clean(scope, checks)

    def count_fixture(self, what: str) -> None:
        """Count something a managed fixture went through; see `Totals.fixtures`.

        The fast way to record a ``fixture``: it becomes an event only when a file is written.
        """
        if self._file is not None:
            self.record("fixture", what=what)
            return
        with self._lock:
            _bump(self._totals.fixtures, what)

    def record(self, ev: str, /, **fields: Any) -> None:
        """Record that *ev* happened.

        Args:
            ev: what happened; see the table in this module's description.
            **fields: the facts. Values that are not JSON are kept as bounded text,
                so that the journal keeps no object alive.
        """
        file = self._file
        if ev == "open" and file is None:
            return
        facts = {
            name if name not in ("seq", "t", "ev") else f"{name}_": v if type(v) in _PLAIN else plain(v)
            for name, v in fields.items()
        }
        with self._lock:
            self._seq += 1
            event = Event(self._seq, round(time.monotonic() - self._t0, 6), ev, facts)
            self._totals.add(ev, facts)
            self._keep(event)
            if file is not None:
                file.write(event.to_json())
                if file.failure is not None and self._file is file:
                    self._file = None
                    self.record("note", text=file.failure)

    def record_finding(self, finding: Change | Leak) -> None:
        """Record a `Change` as ``change``, a `Leak` as ``leak``."""
        is_change = isinstance(finding, Change)
        names = _CHANGE_FIELDS if is_change else _LEAK_FIELDS
        self.record("change" if is_change else "leak", **{name: getattr(finding, name) for name in names})

    @property
    def finding_count(self) -> int:
        """How many changes and leaks above a note were recorded so far."""
        return len(self._findings) + self._totals.dropped

    def export(self) -> dict[str, Any]:
        """Return counters and events as plain data, for another process to `absorb`."""
        with self._lock:
            events = [{"ev": event.ev, "fields": dict(event.fields)} for event in self.events]
            return {"totals": attrs.asdict(self._totals), "events": events}

    def absorb(self, data: Mapping[str, Any]) -> None:
        """Take over what another process handed out by `export`."""
        with self._lock:
            self._totals.merge(data["totals"])
            for item in data["events"]:
                self._seq += 1
                self._keep(Event(self._seq, round(time.monotonic() - self._t0, 6), item["ev"], item["fields"]))

    def findings_since(self, count: int) -> tuple[Event, ...]:
        """Return the findings above a note that came after `finding_count` was *count*.

        Costs what it returns, not what the journal holds.
        """
        with self._lock:
            return tuple(self._findings[count:])

    def write_to(self, target: str | os.PathLike[str], **facts: Any) -> None:
        """Write every later event to a file as well; never raises (see `writing`).

        Args:
            target: a directory, in which each process has a file of its own, or
                a path that ends in ``.jsonl``, which is replaced if it is a journal.
            **facts: facts for the header: ``run``, ``worker``, ``shard``, ``runner``,
                ``seed``, ``mode``, ``kinds``, ``root``, ``versions``.
        """
        self.close()
        header = make_header(**facts) | {"t0_mono": round(self._t0, 6)}
        file = JournalFile(target, {name: plain(value) for name, value in header.items()})
        if file.failure is None:
            self._file = file
        else:
            self.record("note", text=file.failure)

    def close(self) -> None:
        """Stop writing to a file; recording goes on in memory."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                file.close()

    def _keep(self, event: Event) -> None:
        if event.ev in ("open", "close"):
            return
        if event.ev not in ("change", "leak") or event.fields.get("severity") == "note":
            self._others.append(event)
        elif len(self._findings) < self._max_findings:
            self._findings.append(event)
        else:
            self._totals.dropped += 1


def totals_of(source: EventSource) -> Totals:
    """Return the totals of a live journal, or count the events of one that was read."""
    if isinstance(source, Journal):
        return source.totals
    totals = Totals()
    for event in source.events:
        totals.add(event.ev, event.fields)
    return totals


def as_finding(event: Event) -> Change | Leak | None:
    """Return the finding of a ``change`` or ``leak`` event, None for other events.

    Fields of later versions are ignored and missing ones are filled, so that
    journals outlive the version that wrote them.
    """
    if event.ev not in ("change", "leak"):
        return None
    is_change = event.ev == "change"
    facts: dict[str, Any] = dict.fromkeys(("kind", "path", "code", "owner"), "?")
    if is_change:
        facts |= {"before": "?", "after": "?"}
    for name in _CHANGE_FIELDS if is_change else _LEAK_FIELDS:
        value = event.fields.get(name)
        if value is not None:
            facts[name] = bool(value) if name in ("restored", "ended", "known") else str(value)
    if facts.get("severity") not in get_args(Severity):
        facts["severity"] = "leak"
    return Change(**facts) if is_change else Leak(**facts)


def get_journal() -> Journal:
    """Return the journal of this process, which every barrier records in by default."""
    return _current[0]


def set_journal(journal: Journal) -> None:
    """Make *journal* the one of this process from now on."""
    _current[0] = journal


@contextmanager
def use_journal(journal: Journal) -> Iterator[Journal]:
    """Make *journal* the one of this process for the length of a ``with`` block."""
    previous, _current[0] = _current[0], journal
    try:
        yield journal
    finally:
        _current[0] = previous


def plain(value: Any, depth: int = 0) -> Any:
    """Return *value* as JSON values of bounded size, keeping nothing else alive."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, str):
        text = str.__str__(value)
        return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}... ({len(text)} characters)"
    if kind is int and abs(value) < 2**63:
        return value
    if kind is float and math.isfinite(value):
        return value
    if depth < _MAX_DEPTH and kind in (list, tuple):
        return [plain(item, depth + 1) for item in _first(value)]
    if depth < _MAX_DEPTH and kind in (set, frozenset):
        return sorted((plain(item, depth + 1) for item in _first(value)), key=repr)
    if depth < _MAX_DEPTH and kind is dict:
        return {_text(key): plain(item, depth + 1) for key, item in _first(value.items())}
    return _text(value)


def _text(value: Any) -> str:
    """Text of one value that has no place in JSON; only well-known types run their own code."""
    kind = type(value)
    if isinstance(value, str):
        return str.__str__(value)[:_MAX_TEXT]
    if kind in (bool, type(None), float):
        return repr(value)
    if kind is int:
        bits = int.bit_length(value)
        return repr(value) if bits < 512 else f"<int of {bits} bits>"
    if kind in (bytes, bytearray):
        return repr(value[:200])
    if isinstance(value, Enum):
        return str(value.name)
    if isinstance(value, (PurePath, BaseException)):
        # A message may be anything, and its __str__ may fail.
        with suppress(Exception):
            name = f"{kind.__name__}: " if isinstance(value, BaseException) else ""
            return f"{name}{value}"[:_MAX_TEXT]
    return f"<{kind.__module__}.{kind.__qualname__}>"


def _first(items: Iterable[Any], limit: int = 1000) -> list[Any]:
    return [item for _, item in zip(range(limit), items, strict=False)]


def _bump(table: dict[str, int], text: str) -> None:
    if text in table or len(table) < _MAX_TEXTS:
        table[text] = table.get(text, 0) + 1


def _after_fork() -> None:
    # Another thread of the parent may have held the lock; here it never lets go.
    for journal in _journals:
        journal._lock = threading.RLock()


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()
_current = [Journal()]

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
