"""Journals as files: one JSON object a line, one file a process, read back and merged.

A line is written with one unbuffered append, so a process that dies loses at
most the line it was writing; a reader skips a torn line and says so. Sections
are identified by their header, events by their sequence number, and merging is
a union: any order, any grouping, any number of times gives the same result.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from isolation_core.errors import JournalError

__all__ = [
    "SCHEMA",
    "Event",
    "JournalFile",
    "JournalRecords",
    "ProcessRecord",
    "make_header",
    "merge_journals",
    "read_journal",
    "write_journal",
]

SCHEMA: Final = "isolation-journal/1"
"""Name and major version of the format; a minor version may follow after a dot."""

_SCHEMA_PATTERN = re.compile(r"isolation-journal/(\d+)(\.\d+)?\Z")
_EVENT_KEYS = frozenset({"seq", "t", "ev"})
_NOTES_NAME = "notes.jsonl"


@frozen
class Event:
    """One thing that happened.

    Attributes:
        seq: its number within the process that recorded it, counted from 1.
        t: seconds since the journal began (monotonic clock).
        ev: what it is: ``"open"``, ``"close"``, ``"change"``, ``"leak"``, ``"note"``, ...
        fields: the facts, JSON values only.
    """

    seq: int
    t: float
    ev: str
    fields: Mapping[str, Any] = field(factory=dict)

    def to_json(self) -> str:
        """Return the event as one line of JSON without the line end."""
        return _encode({"seq": self.seq, "t": self.t, "ev": self.ev, **self.fields})


@frozen
class ProcessRecord:
    """The record of one process: its header and its events, ordered by `Event.seq`."""

    header: Mapping[str, Any]
    events: tuple[Event, ...] = ()

    @property
    def key(self) -> tuple[str, str, int]:
        """``(report, worker, pid)``: the identity of this record."""
        return _key(self.header)


@frozen
class JournalRecords:
    """One or many journals, read.

    Attributes:
        processes: one record for each process, in a stable order.
        notes: lines that had to be skipped while reading, and why.
    """

    processes: tuple[ProcessRecord, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def events(self) -> tuple[Event, ...]:
        """Every event, process by process."""
        return tuple(chain.from_iterable(process.events for process in self.processes))

    @property
    def warnings(self) -> tuple[str, ...]:
        """`notes`, and what makes the processes hard to compare with each other."""
        return (*self.notes, *_disagreements(self.processes))


def make_header(**facts: Any) -> dict[str, Any]:
    """Return the first line of a journal of this process.

    Args:
        **facts: any of ``run``, ``worker``, ``shard`` (``[index, total]``), ``runner``,
            ``seed``, ``mode``, ``kinds``, ``root`` (kept as a hash only), ``versions``.
    """
    root = facts.pop("root", None)
    header: dict[str, Any] = {
        "schema": SCHEMA,
        "run": os.environ.get("ISOLATION_CORE_RUN") or os.urandom(6).hex(),
        "report": os.urandom(6).hex(),
        "shard": None,
        "worker": "main",
        "pid": os.getpid(),
        "python": sys.version.split()[0],
        "platform": sys.platform,
        "runner": None,
        "seed": None,
        "mode": None,
        "kinds": [],
        "root_hash": None if root is None else hashlib.blake2b(os.fsencode(root), digest_size=6).hexdigest(),
        "t0_wall": round(time.time(), 6),
        "t0_mono": round(time.monotonic(), 6),
        "versions": {},
    }
    header.update({name: value for name, value in facts.items() if value is not None})
    return header


class JournalFile:
    """The file a process appends its events to. Writing never raises; see `failure`.

    Args:
        target: a directory, in which the file is ``WORKER-PID.jsonl``, or the path
            of the file itself, which must end in ``.jsonl``.
        header: as `make_header` returns it.

    Attributes:
        failure: why writing stopped, or None while all is well.
    """

    def __init__(self, target: str | os.PathLike[str], header: Mapping[str, Any]) -> None:
        # The working directory is state a test may change: paths are fixed now.
        self._target = Path(os.path.abspath(target))
        self._header = dict(header)
        self._fd = -1
        self._identity: tuple[int, int] | None = None
        self._pid = os.getpid()
        self.failure: str | None = None
        self.path = self._choose_path(forked=False)
        self._guarded(self._start, fresh=self._is_single_file())

    @property
    def fd(self) -> int:
        """The descriptor in use, -1 for none; it belongs to the journal and is not a leak."""
        return self._fd

    def write(self, line: str) -> None:
        """Append one line. After the first failure this does nothing."""
        if self.failure is None:
            self._guarded(self._append, line)

    def close(self) -> None:
        """Close the file; later writes do nothing."""
        if self._fd >= 0 and self._pid == os.getpid() and self._still_ours():
            os.close(self._fd)
        self._fd = -1
        self.failure = self.failure or "closed"

    def _is_single_file(self) -> bool:
        return self._target.suffix == ".jsonl" and not self._target.is_dir()

    def _choose_path(self, *, forked: bool) -> Path:
        if self._is_single_file():
            # One file, several processes: the main one has the name that was asked for.
            worker = self._header.get("worker")
            parts = [self._target.stem, *([] if worker == "main" else [_safe(str(worker))]), *([self._pid] * forked)]
            return self._target.with_stem("-".join(map(str, parts)))
        return self._target / _file_name(self._header | {"pid": self._pid})

    def _guarded(self, action: Any, *args: Any, **options: Any) -> None:
        try:
            action(*args, **options)
        except (OSError, ValueError) as error:
            self.failure = f"the journal {self.path} cannot be written, nothing more goes there: {error}"

    def _start(self, *, fresh: bool) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if fresh and self.path.exists() and not _is_journal(self.path):
            raise ValueError("the file exists and is not a journal; name another one, or remove it")
        self._open(os.O_TRUNC if fresh else 0)
        self._send(_encode(self._header))

    def _open(self, extra: int = 0) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | extra, 0o644)
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)

    def _append(self, line: str) -> None:
        if self._pid != os.getpid():
            self._become_child()
        elif not self._still_ours():
            # The descriptor was closed elsewhere, and its number may by now be
            # another file: that one must get neither our lines nor a close.
            self._open()
        self._send(line)

    def _send(self, line: str) -> None:
        data = line.encode() + b"\n"
        if os.write(self._fd, data) != len(data):
            raise OSError("no space for a whole line")

    def _still_ours(self) -> bool:
        try:
            status = os.fstat(self._fd)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def _become_child(self) -> None:
        """After a fork: leave the parent's file alone and begin one of our own."""
        if self._still_ours():
            os.close(self._fd)
        parent, self._pid = self._pid, os.getpid()
        self._header |= {"pid": self._pid, "parent": parent, "report": os.urandom(6).hex()}
        self.path = self._choose_path(forked=True)
        self._start(fresh=False)


def read_journal(path: str | os.PathLike[str]) -> JournalRecords:
    """Read one journal file, or every ``*.jsonl`` under a directory.

    Lines that are torn or no JSON objects are skipped, each with a note.

    Raises:
        JournalError: if *path* holds no journal, or one of another major version.
    """
    place = Path(path)
    files = sorted(place.rglob("*.jsonl")) if place.is_dir() else [place]
    if not files:
        raise JournalError(f"no journal in {place}: it holds no *.jsonl file", path=place)
    return _union([_read_file(file) for file in files])


def merge_journals(sources: Iterable[str | os.PathLike[str] | JournalRecords]) -> JournalRecords:
    """Join journals of several processes, shards or runs.

    An event is identified by ``(report, worker, pid, seq)``: a duplicate counts
    once, and the same tests run in two shards or twice stay separate.

    Args:
        sources: files, directories, and results of earlier merges.

    Raises:
        JournalError: as `read_journal` does.
    """
    return _union([s if isinstance(s, JournalRecords) else read_journal(s) for s in sources])


def write_journal(records: JournalRecords, directory: str | os.PathLike[str]) -> Path:
    """Write *records* as a directory that `read_journal` reads back as the same records.

    Returns:
        The directory, which is made if it is missing.

    Raises:
        OSError: if that is not possible.
    """
    place = Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for process in records.processes:
        name = _file_name(process.header)
        if name in taken:
            name = f"{Path(name).stem}-{_safe(process.key[0])}-{len(taken)}.jsonl"
        taken.add(name)
        lines = [_encode(process.header), *(event.to_json() for event in process.events)]
        (place / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    if records.notes:
        (place / _NOTES_NAME).write_text(_encode({"schema": SCHEMA, "notes": records.notes}) + "\n", encoding="utf-8")
    return place


def _read_file(path: Path) -> JournalRecords:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JournalError(f"the journal {path} cannot be read: {error}", path=path) from error
    notes: list[str] = []
    sections: list[tuple[dict[str, Any], list[Event]]] = []
    for number, entry in _parsed_lines(path, data, notes):
        if "schema" in entry:
            _check_schema(path, entry["schema"])
            if isinstance(entry.get("notes"), list):
                notes += map(str, entry["notes"])
            else:
                sections.append((entry, []))
        elif not sections:
            notes.append(f"{path.name}:{number}: an event before any header, skipped")
        else:
            sections[-1][1].append(_event(entry))
    if not data.strip():
        notes.append(f"{path.name}: empty, skipped")
    return JournalRecords(tuple(ProcessRecord(header, tuple(events)) for header, events in sections), tuple(notes))


def _parsed_lines(path: Path, data: bytes, notes: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            torn = number == len(lines)
            word = "the last line is torn (the process died while writing it)" if torn else "not JSON"
            notes.append(f"{path.name}:{number}: {word}, skipped")
            continue
        if isinstance(entry, dict) and ("schema" in entry or _is_event(entry)):
            yield number, entry
        else:
            notes.append(f"{path.name}:{number}: neither a header nor an event, skipped")


def _is_event(entry: Mapping[str, Any]) -> bool:
    seq, t, ev = entry.get("seq"), entry.get("t"), entry.get("ev")
    return type(seq) is int and type(t) in (int, float) and type(ev) is str


def _event(entry: Mapping[str, Any]) -> Event:
    fields = {name: value for name, value in entry.items() if name not in _EVENT_KEYS}
    return Event(entry["seq"], float(entry["t"]), entry["ev"], fields)


def _check_schema(path: Path, schema: object) -> None:
    match = _SCHEMA_PATTERN.match(schema) if isinstance(schema, str) else None
    if match is None:
        raise JournalError(f"{path} is not a journal: its header says schema {schema!r}, not {SCHEMA!r}", path=path)
    if match[1] != SCHEMA.rpartition("/")[2]:
        raise JournalError(
            f"{path} is written as {schema}, this version reads {SCHEMA}; "
            "read it with the release of isolation-core that wrote it",
            path=path,
        )


def _is_journal(path: Path) -> bool:
    with path.open("rb") as stream:
        first = stream.readline(65536)
    return not first.strip() or b'"isolation-journal/' in first


def _union(parts: Sequence[JournalRecords]) -> JournalRecords:
    headers: dict[tuple[str, str, int], Mapping[str, Any]] = {}
    events: dict[tuple[str, str, int], dict[int, Event]] = {}
    notes = set(chain.from_iterable(part.notes for part in parts))
    for process in chain.from_iterable(part.processes for part in parts):
        key = process.key
        # Where two sources contradict each other, the choice must not depend
        # on which of them came first.
        headers[key] = min(headers.get(key, process.header), process.header, key=_encode)
        known = events.setdefault(key, {})
        for event in process.events:
            other = known.setdefault(event.seq, event)
            if other != event:
                known[event.seq] = min(other, event, key=Event.to_json)
                notes.add(f"{'/'.join(map(str, key))}: event {event.seq} is recorded in two ways, one was taken")
    records = [ProcessRecord(headers[key], tuple(known[seq] for seq in sorted(known))) for key, known in events.items()]
    return JournalRecords(tuple(sorted(records, key=_order)), tuple(sorted(notes)))


def _order(record: ProcessRecord) -> tuple[str, str, list[Any], tuple[str, str, int]]:
    # gw10 belongs after gw9; split() puts digits at odd places, so like meets like.
    natural: list[Any] = [int(p) if i % 2 else p for i, p in enumerate(re.split(r"(\d{1,18})", record.key[1]))]
    return str(record.header.get("run")), _encode(record.header.get("shard")), natural, record.key


def _disagreements(processes: Sequence[ProcessRecord]) -> Iterator[str]:
    for name in ("mode", "kinds"):
        values = sorted({_encode(process.header.get(name)) for process in processes})
        if len(values) > 1:
            yield f"the processes were run with different {name}, their scores do not compare: {' / '.join(values)}"


def _key(header: Mapping[str, Any]) -> tuple[str, str, int]:
    pid = header.get("pid")
    return str(header.get("report")), str(header.get("worker")), pid if type(pid) is int else 0


def _file_name(header: Mapping[str, Any]) -> str:
    shard = header.get("shard")
    prefix = "-".join(map(str, shard)) + "-" if isinstance(shard, (list, tuple)) else ""
    return f"{_safe(prefix)}{_safe(str(header.get('worker')))}-{_key(header)[2]}.jsonl"


def _safe(text: str) -> str:
    return re.sub(r"[^\w.-]", "_", text, flags=re.ASCII)[:80]


def _encode(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
