"""Features of the NATS double only: mock API, log, faults, reset, problems at the end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats import errors
from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig

from isolation_core.errors import ServiceNotConnectedError
from isolation_core.services import MockContext, ServiceType
from isolation_core.services.nats import NatsDouble
from isolation_core.services.nats._subjects import fits, overlap

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True


async def test_it_is_a_service() -> None:
    """Found by name; without a connection nothing works; text and data are encoded."""
    async with MockContext("test", virtual_time=True) as context:
        double = context.service(ServiceType.NATS)
        assert isinstance(double, NatsDouble)
        with pytest.raises(ServiceNotConnectedError):
            await double.publish("a", b"")
        await double.connect()
        subscription = await double.subscribe("orders.>")
        await double.publish("orders.new", {"id": 1})
        assert (await subscription.next_msg()).data == b'{"id": 1}'
        double.publish.assert_awaited_with("orders.new", {"id": 1})


async def test_waiting_is_virtual() -> None:
    """A timeout of an hour takes no time."""
    async with MockContext("test", virtual_time=True) as context:
        double = await NatsDouble(context).connect()
        subscription = await double.subscribe("a")
        with pytest.raises(errors.TimeoutError):
            await subscription.next_msg(timeout=3600)
        assert context.clock.now() == 3600


async def test_operations_are_mocks() -> None:
    """A configured effect wins; wrong signatures and unknown names raise; calls of client objects are logged."""
    async with MockContext("test", virtual_time=True) as context:
        double = NatsDouble(context)
        nc: Any = await double.open_connection("nats://somewhere")
        js = nc.jetstream()
        js.publish.side_effect = errors.TimeoutError
        with pytest.raises(errors.TimeoutError):
            await js.publish("a", b"")
        with pytest.raises(TypeError):
            await nc.publish()
        with pytest.raises(AttributeError, match="subscribe"):
            nc.subscrib  # noqa: B018
        double.open_connection.assert_awaited_once_with("nats://somewhere")
        assert [each.operation for each in context.log][:3] == ["open_connection", "jetstream", "publish"]
        await nc.close()


async def test_what_is_left_open_is_told() -> None:
    """Connections, subscriptions, unacknowledged messages, and what callbacks raised."""
    context = MockContext("test", virtual_time=True)
    async with context:
        nc = await NatsDouble(context).open_connection()

        async def fail(_message: Any) -> None:
            raise LookupError("no")

        await nc.subscribe("a", cb=fail)
        await nc.publish("a", b"")
        js = nc.jetstream()
        await js.add_stream(name="S", subjects=["s"])
        await js.publish("s", b"1")
        await (await js.pull_subscribe("s", durable="d")).fetch()
        await context.clock.sleep(1)
    assert set(context.problems["nats"]) == {
        "connection 1 was not closed",
        "the subscription to 'a' is open",
        "the pull subscription to 'S' is open",
        "1 message of 'S' delivered to 'd' and not acknowledged",
        "a callback raised LookupError('no')",
    }
    tidy = MockContext("tidy", virtual_time=True)
    async with tidy, await NatsDouble(tidy).open_connection() as nc:
        await nc.subscribe("a")
    assert not tidy.problems


async def test_faults_raise_what_the_client_does() -> None:
    """The classes of nats-py, for each kind."""
    async with MockContext("test", virtual_time=True) as context:
        double = NatsDouble(context)
        for kind, error in (
            ("unavailable", errors.NoServersError),
            ("timeout", errors.TimeoutError),
            ("disconnected", errors.ConnectionClosedError),
            ("rejected", errors.Error),
        ):
            assert isinstance(double.fault_error(kind), error)


async def test_reset_leaves_nothing() -> None:
    """No streams, no connections, no history; two doubles share nothing."""
    async with MockContext("test", virtual_time=True) as context:
        double, other = NatsDouble(context), NatsDouble(context, name="other")
        nc = await double.open_connection()
        await nc.jetstream().add_stream(name="S", subjects=["s"])
        assert not other.streams.by_name
        double.reset()
        assert not double.streams.by_name
        assert not double.open_connection.called
        assert nc.is_closed
        assert not double.problems()


async def test_days_of_redelivery_take_no_time() -> None:
    """The time for an acknowledgement and the age of messages pass on the virtual clock."""
    async with MockContext("test", virtual_time=True) as context:
        js = (await NatsDouble(context).open_connection()).jetstream()
        await js.add_stream(name="S", subjects=["s"], max_age=100_000.0)
        await js.publish("s", b"1")
        subscription = await js.pull_subscribe("s", durable="d")
        for delivery in (1, 2, 3):
            (message,) = await subscription.fetch(1, timeout=60)
            assert message.metadata.num_delivered == delivery
        assert context.clock.now() == 60
        await message.ack()
        await context.clock.sleep(100_000)
        assert (await js.stream_info("S")).state.messages == 0


_TOKENS = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4).map(".".join)
_PATTERNS = st.tuples(
    st.lists(st.sampled_from(["a", "b", "*"]), max_size=3), st.sampled_from([["a"], ["*"], [">"]])
).map(lambda parts: ".".join(parts[0] + parts[1]))  # fmt: skip


@given(_PATTERNS, _PATTERNS, _TOKENS)
def test_patterns_that_fit_the_same_subject_overlap(one: str, other: str, subject: str) -> None:
    """Whenever a subject fits both patterns they overlap, and overlapping is mutual."""
    if fits(one, subject) and fits(other, subject):
        assert overlap(one, other)
    assert overlap(one, other) == overlap(other, one)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("no_ack", True),
        ("first_seq", 7),
        ("retention", RetentionPolicy.INTEREST),
        ("num_replicas", 3),
        ("sealed", True),
    ],
)
async def test_settings_of_streams_that_are_not_there(name: str, value: Any) -> None:
    """A setting the double would ignore is an error with its name, by keyword and in a StreamConfig."""
    async with MockContext(virtual_time=True) as context, await NatsDouble(context).open_connection() as nc:
        js = nc.jetstream()
        for given in ({name: value}, {"config": StreamConfig(**{name: value})}):
            with pytest.raises(TypeError, match=f"{name}=.* is not supported by the NATS double: leave it out"):
                await js.add_stream(**{"name": "S", "subjects": ["s"], **given})
        await js.add_stream(StreamConfig(name="S", subjects=["s"], sealed=False, num_replicas=1))
        with pytest.raises(TypeError, match=name):
            await js.update_stream(name="S", subjects=["s"], **{name: value})


async def test_settings_of_consumers_that_are_not_there() -> None:
    """The same for consumers, subscriptions and buckets; the defaults of the client pass."""
    async with MockContext(virtual_time=True) as context, await NatsDouble(context).open_connection() as nc:
        js = nc.jetstream()
        await js.add_stream(name="S", subjects=["s"])
        for name, value in (("headers_only", True), ("filter_subjects", ["s"]), ("inactive_threshold", 3.0)):
            config: Any = ConsumerConfig(**{name: value})  # type: ignore[arg-type]
            for call in (
                lambda config=config: js.add_consumer("S", config),
                lambda name=name, value=value: js.add_consumer("S", **{name: value}),
                lambda config=config: js.subscribe("s", config=config),
                lambda name=name, value=value: js.subscribe("s", **{name: value}),
                lambda config=config: js.pull_subscribe("s", config=config),
            ):
                with pytest.raises(TypeError, match=f"{name}=.* is not supported"):
                    await call()  # type: ignore[no-untyped-call]  # a lambda with defaults
        with pytest.raises(TypeError, match="max_bytes=5 is not supported"):
            await js.create_key_value(bucket="b", max_bytes=5)
        await js.add_consumer("S", ConsumerConfig(durable_name="d", headers_only=False, max_waiting=512))
        pull = await js.pull_subscribe("s", durable="d", pending_msgs_limit=524288)
        push = await js.subscribe("s", ordered_consumer=False, flow_control=False)
        await pull.unsubscribe()
        await push.unsubscribe()
