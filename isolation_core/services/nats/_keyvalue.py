"""Key-value buckets over streams, in the shape of nats-py's ``KeyValue``: the basics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from attrs import frozen

from isolation_core.services._double import ClientObject
from isolation_core.services._operations import operation
from isolation_core.services.nats._errors import nats_class, nats_error
from isolation_core.services.nats._jetstream import refuse_settings
from isolation_core.services.nats._streams import STREAM_DEFAULTS, Entry, Stream

if TYPE_CHECKING:
    from isolation_core.services.nats._jetstream import JetStream

__all__ = ["KeyValue", "KeyValueEntry"]

_BUCKET: Final = re.compile(r"[A-Za-z0-9_-]+")
_KEY: Final = re.compile(r"[-/_=.a-zA-Z0-9]+")
_OPERATION: Final = "KV-Operation"


@frozen
class KeyValueEntry:
    """What is kept under a key; *operation* is ``"DEL"`` or ``"PURGE"`` where it is gone."""

    bucket: str
    key: str
    value: bytes | None
    revision: int
    operation: str | None = None


class KeyValue(ClientObject):
    """A bucket."""

    label: ClassVar[str] = "key_value"

    def __init__(self, jetstream: JetStream, stream: Stream, bucket: str) -> None:
        super().__init__(jetstream.double)
        self._jetstream = jetstream
        self._stream = stream
        self._bucket = bucket

    @classmethod
    def make(cls, jetstream: JetStream, config: object, params: Mapping[str, Any]) -> Self:
        """Make a bucket."""
        refuse_settings({**getattr(config, "__dict__", {}), **params}, ("bucket", "description", "history", "ttl"))
        given = {name: params.get(name, getattr(config, name, None)) for name in ("bucket", "history", "ttl")}
        bucket = str(given["bucket"])
        if not _BUCKET.fullmatch(bucket):
            raise nats_error("js.InvalidBucketNameError")
        changes = {
            "name": f"KV_{bucket}", "subjects": [f"$KV.{bucket}.>"], "max_msgs_per_subject": given["history"] or 1,
            "max_age": float(given["ttl"] or 0), "discard": "new", "deny_delete": True, "allow_rollup_hdrs": True,
        }  # fmt: skip
        return cls(jetstream, jetstream._streams.add(STREAM_DEFAULTS | changes), bucket)

    @classmethod
    def find(cls, jetstream: JetStream, bucket: str) -> Self:
        """Return a bucket that was made."""
        if not _BUCKET.fullmatch(bucket):
            raise nats_error("js.InvalidBucketNameError")
        try:
            return cls(jetstream, jetstream._streams.get(f"KV_{bucket}"), bucket)
        except nats_class("js.NotFoundError"):
            raise nats_error("js.BucketNotFoundError") from None

    def _subject(self, key: str) -> str:
        if not _KEY.fullmatch(key) or key.startswith(".") or key.endswith("."):
            raise nats_error("js.InvalidKeyError", key)
        return f"$KV.{self._bucket}.{key}"

    def _entry(self, entry: Entry) -> KeyValueEntry:
        what = (entry.headers or {}).get(_OPERATION)
        key = entry.subject.split(".", 2)[2]
        return KeyValueEntry(self._bucket, key, entry.data if what is None else None, entry.seq, what)

    @operation
    async def get(self, key: str, revision: int | None = None) -> KeyValueEntry:
        """Return what is kept under *key*.

        Raises:
            KeyNotFoundError: nothing, or it was deleted.
        """
        subject = self._subject(key)
        found = self._stream.last_of(subject) if revision is None else self._stream.entries.get(revision)
        if found is None or found.subject != subject or self._entry(found).operation is not None:
            raise nats_error("js.KeyNotFoundError")
        return self._entry(found)

    @operation
    async def put(self, key: str, value: bytes) -> int:
        """Keep *value* under *key*; returns the revision."""
        return self._stream.store(self._subject(key), bytes(value), None)[0]

    @operation
    async def create(self, key: str, value: bytes) -> int:
        """Keep *value* under *key* if there is nothing."""
        newest = self._stream.last_of(self._subject(key))
        last = newest.seq if newest is not None and self._entry(newest).operation is not None else 0
        return self._store(key, bytes(value), last)

    @operation
    async def update(self, key: str, value: bytes, last: int | None = None) -> int:
        """Keep *value* under *key* if *last* is its revision now."""
        return self._store(key, bytes(value), last or 0)

    def _store(self, key: str, value: bytes, last: int) -> int:
        expected = {"Nats-Expected-Last-Subject-Sequence": str(last)}
        try:
            return self._stream.store(self._subject(key), value, expected)[0]
        except nats_class("js.BadRequestError") as error:
            raise nats_error("js.KeyWrongLastSequenceError", getattr(error, "description", str(error))) from None

    @operation
    async def delete(self, key: str) -> bool:
        """Mark *key* as deleted; its history stays."""
        self._stream.store(self._subject(key), b"", {_OPERATION: "DEL"})
        return True

    @operation
    async def purge(self, key: str) -> bool:
        """Delete *key* with its history."""
        subject = self._subject(key)
        for seq in [each.seq for each in self._stream.entries.values() if each.subject == subject]:
            del self._stream.entries[seq]
        self._stream.store(subject, b"", {_OPERATION: "PURGE"})
        return True

    @operation
    async def keys(self) -> list[str]:
        """Return the keys under which something is kept."""
        newest = {each.subject: self._entry(each) for each in self._stream.entries.values()}
        found = [each.key for each in newest.values() if each.operation is None]
        if not found:
            raise nats_error("js.NoKeysError")
        return found

    @operation
    async def history(self, key: str) -> list[KeyValueEntry]:
        """Return what was kept under *key*, oldest first."""
        subject = self._subject(key)
        found = [self._entry(each) for each in self._stream.entries.values() if each.subject == subject]
        if not found:
            raise nats_error("js.NoKeysError")
        return found
