"""The server's side of JetStream: streams, and consumers with their redeliveries."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from attrs import define, field

from isolation_core.services._clock import Clock, TimerHandle
from isolation_core.services.nats._errors import api_error
from isolation_core.services.nats._subjects import fits, overlap

__all__ = ["Consumer", "Entry", "Stream", "Streams"]

STREAM_DEFAULTS: Final[dict[str, Any]] = {
    "name": None, "description": None, "subjects": None, "retention": "limits", "max_consumers": -1, "max_msgs": -1,
    "max_bytes": -1, "discard": "old", "max_age": 0.0, "max_msgs_per_subject": -1, "max_msg_size": -1,
    "storage": "file", "num_replicas": 1, "duplicate_window": 120.0, "deny_delete": False, "deny_purge": False,
    "allow_rollup_hdrs": False, "metadata": None,
}  # fmt: skip
CONSUMER_DEFAULTS: Final[dict[str, Any]] = {
    "name": None, "durable_name": None, "description": None, "deliver_policy": "all", "opt_start_seq": None,
    "opt_start_time": None, "ack_policy": "explicit", "ack_wait": 30.0, "max_deliver": -1, "backoff": None,
    "filter_subject": None, "max_ack_pending": 1000, "deliver_group": None,
    "metadata": None,
}  # fmt: skip


@define
class Entry:
    """A message in a stream."""

    seq: int
    subject: str
    data: bytes
    headers: dict[str, str] | None
    time: float


@define(eq=False)
class Pending:
    """A message that was delivered and not acknowledged."""

    entry: Entry
    delivered: int
    timer: TimerHandle | None = None


@define(eq=False)
class Consumer:
    """A consumer: where it stands in its stream, and what it waits to be acknowledged.

    Attributes:
        deliver: for a push consumer, takes a message: entry, deliveries, its number, how many are to come.
        bound: whether a subscription reads it.
    """

    stream: Stream
    name: str
    config: dict[str, Any]
    next_seq: int
    clock: Clock
    durable: bool
    upto: int | None = None
    only: set[int] | None = None
    deliver: Callable[[Entry, int, int, int], None] | None = None
    bound: bool = False
    sequence: int = 0
    pending: dict[int, Pending] = field(factory=dict)
    again: deque[int] = field(factory=deque)
    counts: dict[int, int] = field(factory=dict)

    def _wants(self, entry: Entry) -> bool:
        wanted = self.config["filter_subject"]
        return (self.only is None or entry.seq in self.only or entry.seq > (self.upto or 0)) and (
            not wanted or fits(wanted, entry.subject)
        )

    @property
    def num_pending(self) -> int:
        """How many messages are still to come."""
        stream = self.stream
        whole = self.only is None and self.config["filter_subject"] in {None, *stream.config["subjects"]}
        if (
            whole
            and len(stream.config["subjects"]) == 1
            and len(stream.entries) == stream.last_seq - stream.first_seq + 1
        ):
            return max(0, stream.last_seq - max(self.next_seq, stream.first_seq) + 1)
        return sum(1 for _ in self._to_come())

    def _to_come(self) -> Iterator[Entry]:
        entries = self.stream.entries
        for seq in range(max(self.next_seq, self.stream.first_seq), self.stream.last_seq + 1):
            entry = entries.get(seq)
            if entry is not None and self._wants(entry):
                yield entry

    def take(self) -> tuple[Entry, int, int, int] | None:
        """Take the next message, redeliveries first: entry, deliveries, its number, how many are to come."""
        acked = self.config["ack_policy"] != "none"
        entry = None
        while self.again and entry is None:
            seq = self.again.popleft()
            entry = self.stream.entries.get(seq)
            if entry is None or seq not in self.pending:
                self.pending.pop(seq, None)
                entry = None
        if entry is None:
            limit = self.config["max_ack_pending"]
            if acked and 0 < limit <= len(self.pending):
                return None
            entry = next(self._to_come(), None)
            if entry is None:
                return None
            self.next_seq = entry.seq + 1
        self.sequence += 1
        count = self.counts[entry.seq] = self.counts.get(entry.seq, 0) + 1
        if acked:
            pending = self.pending[entry.seq] = Pending(entry, count)
            self._wait(pending, self._ack_wait(count))
        return entry, count, self.sequence, self.num_pending

    def _ack_wait(self, count: int) -> float:
        backoff = self.config["backoff"]
        return float(backoff[min(count, len(backoff)) - 1]) if backoff else float(self.config["ack_wait"])

    def _wait(self, pending: Pending, seconds: float) -> None:
        if pending.timer is not None:
            pending.timer.cancel()
        seq = pending.entry.seq
        pending.timer = self.clock.call_at(self.clock.now() + seconds, lambda: self._redeliver(seq))

    def _redeliver(self, seq: int) -> None:
        pending = self.pending.get(seq)
        if pending is None:
            return
        if 0 < self.config["max_deliver"] <= pending.delivered:
            del self.pending[seq]  # it was tried often enough
        elif seq not in self.again:
            self.again.append(seq)
        self.pump()

    def settle(self, seq: int, how: str, delay: float | None = None) -> None:
        """Acknowledge, refuse or end the delivery of a message."""
        pending = self.pending.get(seq)
        if pending is None:
            return
        if how == "nak":
            self._wait(pending, delay or 0)
            if not delay:
                assert pending.timer is not None
                pending.timer.cancel()
                self._redeliver(seq)
            return
        done = [each for each in self.pending if each <= seq] if self.config["ack_policy"] == "all" else [seq]
        for each in done:
            timer = self.pending.pop(each).timer
            if timer is not None:
                timer.cancel()
            if self.stream.config["retention"] == "workqueue":
                self.stream.entries.pop(each, None)
        self.pump()

    def progress(self, seq: int) -> None:
        """Begin anew to count the time for an acknowledgement."""
        if (pending := self.pending.get(seq)) is not None:
            self._wait(pending, self._ack_wait(pending.delivered))

    def pump(self) -> None:
        """Push available messages to the bound subscriber."""
        while self.deliver is not None and (taken := self.take()) is not None:
            self.deliver(*taken)
        self.clock.notify()

    def stop(self) -> None:
        """Wait for nothing any more."""
        self.deliver = None
        for each in self.pending.values():
            if each.timer is not None:
                each.timer.cancel()
        self.pending.clear()


@define(eq=False)
class Stream:
    """A stream: what was published on its subjects, within its limits."""

    config: dict[str, Any]
    clock: Clock
    created: float
    entries: dict[int, Entry] = field(factory=dict)
    last_seq: int = 0
    ids: dict[str, tuple[float, int]] = field(factory=dict)
    last_id: str = ""
    consumers: dict[str, Consumer] = field(factory=dict)

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.config["name"])

    @property
    def first_seq(self) -> int:
        """The sequence of its oldest message, or of the next one if it is empty."""
        return next(iter(self.entries), self.last_seq + 1)

    @property
    def size(self) -> int:
        """How many bytes are in it."""
        return sum(self._stored(each.subject, each.data, each.headers) for each in self.entries.values())

    def _stored(self, subject: str, data: bytes, headers: Mapping[str, str] | None) -> int:
        """Return how many bytes the server counts for a message: what it writes, not what it was given."""
        lines = sum(len(name.encode()) + len(value.encode()) + 4 for name, value in headers.items()) if headers else 0
        size = len(subject.encode()) + len(data) + (lines + 12 if lines else 0)
        if self.config["storage"] == "memory":
            return size + 16
        # A record of the file store: length, sequence, time, length of the subject and of headers, a checksum.
        return size + 22 + 8 + (4 if lines else 0)

    def last_of(self, subject: str) -> Entry | None:
        """Return the newest message of *subject*."""
        return next((each for each in reversed(self.entries.values()) if fits(subject, each.subject)), None)

    def store(self, subject: str, data: bytes, headers: Mapping[str, str] | None) -> tuple[int, bool]:
        """Add a message; returns its sequence, and whether it is one that was there before."""
        config, now = self.config, self.clock.now()
        given = {name.lower(): value for name, value in (headers or {}).items()}
        if (expected := given.get("nats-expected-stream")) is not None and expected != self.name:
            raise api_error(400, 10060, "expected stream does not match")
        identity = given.get("nats-msg-id")
        if identity is not None and (known := self.ids.get(identity)) and now - known[0] < config["duplicate_window"]:
            return known[1], True
        if (expected := given.get("nats-expected-last-sequence")) is not None and int(expected) != self.last_seq:
            raise api_error(400, 10071, f"wrong last sequence: {self.last_seq}")
        if (expected := given.get("nats-expected-last-subject-sequence")) is not None:
            newest = self.last_of(subject)
            current = newest.seq if newest is not None else 0
            if int(expected) != current:
                raise api_error(400, 10071, f"wrong last sequence: {current}")
        if (expected := given.get("nats-expected-last-msg-id")) is not None and expected != self.last_id:
            raise api_error(400, 10070, f"wrong last msg ID: {self.last_id}")
        rollup = self._rollup(given)
        if 0 <= config["max_msg_size"] < len(data):
            raise api_error(400, 10054, "message size exceeds maximum allowed")
        if config["discard"] == "new" and 0 < config["max_msgs"] <= len(self.entries):
            raise api_error(503, 10077, "maximum messages exceeded")
        if config["discard"] == "new" and 0 < config["max_bytes"] < self.size + self._stored(subject, data, headers):
            raise api_error(503, 10077, "maximum bytes exceeded")
        self.last_seq += 1
        entry = Entry(self.last_seq, subject, data, dict(headers) if headers else None, self.clock.time())
        for each in self._replaced(rollup, subject):
            del self.entries[each]
        self.entries[entry.seq] = entry
        if identity is not None:
            self.ids[identity] = now, entry.seq
        self.last_id = identity or ""
        self.enforce()
        if config["max_age"]:
            self.clock.call_at(now + config["max_age"], self.enforce)
        for consumer in tuple(self.consumers.values()):
            consumer.pump()
        self.clock.notify()
        return entry.seq, False

    def _rollup(self, headers: Mapping[str, str]) -> str | None:
        found = headers.get("nats-rollup")
        if found and not self.config["allow_rollup_hdrs"]:
            raise api_error(500, 10111, "rollup not permitted")
        return found

    def _replaced(self, rollup: str | None, subject: str) -> list[int]:
        if not rollup:
            return []
        return [each.seq for each in self.entries.values() if rollup == "all" or each.subject == subject]

    def enforce(self) -> None:
        """Drop the oldest as far as limits ask for it."""
        config, entries = self.config, self.entries
        if (limit := config["max_msgs_per_subject"]) > 0:
            groups: dict[str, list[int]] = {}
            for each in entries.values():
                groups.setdefault(each.subject, []).append(each.seq)
            for seqs in groups.values():
                for seq in seqs[:-limit]:
                    del entries[seq]
        while entries and (
            0 < config["max_msgs"] < len(entries)
            or 0 < config["max_bytes"] < self.size
            or (config["max_age"] and next(iter(entries.values())).time + config["max_age"] <= self.clock.time() + 1e-6)
        ):
            del entries[next(iter(entries))]


class Streams:
    """All streams of a server."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.by_name: dict[str, Stream] = {}
        self._names = 0

    def get(self, name: str) -> Stream:
        """Return a stream, or raise that there is none."""
        found = self.by_name.get(name)
        if found is None:
            raise api_error(404, 10059, "stream not found")
        return found

    def of_subject(self, subject: str) -> Stream | None:
        """Return the stream that keeps *subject*."""
        for stream in self.by_name.values():
            if any(fits(each, subject) or overlap(each, subject) for each in stream.config["subjects"]):
                return stream
        return None

    def keeping(self, subject: str) -> Stream | None:
        """Return the stream that stores what is published on *subject*."""
        return next(
            (each for each in self.by_name.values() if any(fits(p, subject) for p in each.config["subjects"])), None
        )

    def add(self, config: dict[str, Any]) -> Stream:
        """Make a stream; the same once more is the same."""
        known = self.by_name.get(config["name"])
        if known is not None:
            if known.config != config:
                raise api_error(400, 10058, "stream name already in use with a different configuration")
            return known
        self._check_overlap(config)
        stream = self.by_name[config["name"]] = Stream(config, self.clock, self.clock.time())
        return stream

    def update(self, config: dict[str, Any]) -> Stream:
        """Change a stream."""
        stream = self.get(config["name"])
        self._check_overlap(config)
        stream.config = config
        stream.enforce()
        return stream

    def _check_overlap(self, config: dict[str, Any]) -> None:
        for each in self.by_name.values():
            if each.name != config["name"] and any(
                overlap(a, b) for a in each.config["subjects"] for b in config["subjects"]
            ):
                raise api_error(400, 10065, "subjects overlap with an existing stream")

    def delete(self, name: str) -> None:
        """Delete a stream with its consumers."""
        stream = self.get(name)
        for each in stream.consumers.values():
            each.stop()
        del self.by_name[name]

    def consumer(self, stream: str, name: str) -> Consumer:
        """Return a consumer, or raise that there is none."""
        found = self.get(stream).consumers.get(name)
        if found is None:
            raise api_error(404, 10014, "consumer not found")
        return found

    def add_consumer(self, name: str, config: dict[str, Any]) -> Consumer:
        """Make a consumer, or find the one of that name."""
        stream = self.get(name)
        wanted = config["filter_subject"]
        if wanted and not any(overlap(wanted, each) for each in stream.config["subjects"]):
            text = "consumer filter subject is not a valid subset of the interest subjects"
            raise api_error(400, 10093, text)
        self._names += 1
        own = config["durable_name"] or config["name"] or f"C{self._names:08d}"
        known = stream.consumers.get(own)
        if known is not None:
            known.config = config
            return known
        if 0 < stream.config["max_consumers"] <= len(stream.consumers):
            raise api_error(400, 10026, "maximum consumers limit reached")
        policy, first, only = str(getattr(config["deliver_policy"], "value", config["deliver_policy"])), 1, None
        if policy == "new":
            first = stream.last_seq + 1
        elif policy == "last":
            newest = stream.last_of(wanted or ">")
            first = newest.seq if newest is not None else stream.last_seq + 1
        elif policy == "last_per_subject":
            newest_of = {each.subject: each.seq for each in stream.entries.values()}
            only = set(newest_of.values())
        elif policy == "by_start_sequence":
            first = int(config["opt_start_seq"] or 1)
        elif policy == "by_start_time":
            start = config["opt_start_time"]
            moment = start.timestamp() if isinstance(start, datetime) else float(start or 0)
            first = next((each.seq for each in stream.entries.values() if each.time >= moment), stream.last_seq + 1)
        consumer = Consumer(stream, own, config, first, self.clock, bool(config["durable_name"]), stream.last_seq, only)
        stream.consumers[own] = consumer
        return consumer
