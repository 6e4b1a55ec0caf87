"""Redis double: isolation, mock API, virtual time, log, problems, loops, missing packages."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

pytest.importorskip("fakeredis")

import redis.exceptions
from hypothesis import given, settings
from hypothesis import strategies as st

from isolation_core.services import MockContext, delay, fail, lose_reply
from isolation_core.services.redis import RedisDouble, RedisLoopError

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """redis.asyncio knows asyncio only."""
    return "asyncio"


@pytest.fixture
async def r() -> AsyncIterator[Any]:
    """Give a double in a context of its own."""
    async with MockContext("a test", virtual_time=True) as context:
        yield RedisDouble(context)


async def cycles() -> None:
    """Let the other tasks go on for a while."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_doubles_with_the_same_url_are_apart() -> None:
    """Each double has a server of its own, also where both pretend to be the same address."""
    async with MockContext("a", virtual_time=True) as one, MockContext("b", virtual_time=True) as two:
        first, second = RedisDouble(one), RedisDouble(two)
        url = "redis://localhost:6379/0"
        mine, other = first.from_url(url), second.from_url(url)
        await mine.set("k", "mine")
        assert await other.get("k") is None
        assert await first.get("k") == b"mine"


async def test_clients_of_one_double_share_its_state(r: Any) -> None:
    """Further clients, synchronous ones too, see the same keys, each with its own options and database."""
    text = r.new_client(decode_responses=True)
    await r.set("k", "v")
    assert await text.get("k") == "v"
    assert await r.client().get("k") == b"v"
    assert await r.from_url("redis://anywhere:1/3").get("k") is None
    sync = r.sync_client(decode_responses=True)
    assert sync.get("k") == "v"
    sync.set("s", 1)
    assert await r.get("s") == b"1"
    r.command.assert_any_call("SET", "s", 1)
    text.get.assert_awaited_once_with("k")
    r.get.assert_any_await("s")


async def test_every_command_is_a_mock(r: Any) -> None:
    """Calls can be asserted, a configured outcome wins, names and signatures are the real client's."""
    await r.set("k", "v", ex=10)
    r.set.assert_awaited_once_with("k", "v", ex=10)
    r.get.return_value = b"configured"
    assert await r.get("k") == b"configured"
    r.incr.side_effect = redis.exceptions.BusyLoadingError("loading")
    with pytest.raises(redis.exceptions.BusyLoadingError):
        await r.incr("n")
    assert await r.execute_command("GET", "k") == b"v"
    with pytest.raises(AttributeError, match="hgetall"):
        r.hgetal  # noqa: B018 - the look is the point
    with pytest.raises(TypeError):
        await r.get()
    async with r.pipeline() as pipe:
        pipe.set("a", 1)
        pipe.set.assert_called_once_with("a", 1)
        await pipe.execute()
        pipe.execute.assert_awaited_once_with()


async def test_keys_expire_on_the_virtual_clock(r: Any) -> None:
    """A key lives exactly as long as it should, without waiting for it."""
    clock = r.context.clock
    await r.set("k", "v", ex=3600)
    clock.advance(3599.5)
    assert await r.get("k") == b"v"
    clock.advance(1)
    assert await r.get("k") is None
    await r.set("at", "v", exat=int(clock.time()) + 10)
    assert 8 <= await r.ttl("at") <= 10
    await clock.sleep(11)
    assert await r.exists("at") == 0


async def test_waiting_takes_no_real_time(r: Any) -> None:
    """Blocking commands, reads of subscriptions, and locks wait on the virtual clock."""
    clock = r.context.clock
    began = time.monotonic()
    assert await r.blpop(["q"], timeout=1000) is None
    assert clock.now() == 1000
    async with r.pubsub() as listener:
        await listener.subscribe("c")
        await listener.get_message(timeout=1)
        assert await listener.get_message(timeout=500) is None
    assert clock.now() == 1500
    holder, other = r.lock("l", timeout=100), r.lock("l", sleep=1)
    assert await holder.acquire()
    assert not await other.acquire(blocking_timeout=50)
    assert await other.acquire()
    assert 1600 <= clock.now() <= 1601
    with pytest.raises(redis.exceptions.LockNotOwnedError):
        await holder.release()
    await other.release()
    assert await r.xread({"s": "$"}, block=60_000) in ([], {})
    assert clock.now() >= 1660
    assert time.monotonic() - began < 10


async def test_two_wait_for_one_list(r: Any) -> None:
    """Of two that wait for the same list each gets one entry, and one's end does not deafen the other."""
    tasks = [asyncio.create_task(client.blpop(["q"], timeout=100)) for client in (r, r.client())]
    # Not until all are blocked: then the clock would jump to their timeouts.
    await cycles()
    await r.rpush("q", "1")
    await r.rpush("q", "2")
    assert sorted(each[1] for each in await asyncio.gather(*tasks)) == [b"1", b"2"]
    assert r.context.clock.now() == 0


async def test_log_has_every_command(r: Any) -> None:
    """Commands of the client, of pipelines, subscriptions and locks are in the log, with what came of them."""
    await r.set("k", 1)
    async with r.pipeline() as pipe:
        await pipe.incr("k").execute()
    with pytest.raises(redis.exceptions.ResponseError):
        await r.lpush("k", "x")
    async with r.lock("l"):
        pass
    told = [(entry.client, entry.operation, entry.state) for entry in r.context.log]
    assert told == [
        ("", "set", "returned"), ("", "pipeline", "returned"), ("pipeline", "incr", "returned"),
        ("pipeline", "execute", "returned"), ("", "lpush", "raised"), ("", "lock", "returned"),
        ("lock", "acquire", "returned"), ("lock", "release", "returned"),
    ]  # fmt: skip


async def test_problems() -> None:
    """Subscriptions, pipelines and locks that were left open are told; those that were closed are not."""
    async with MockContext("a test", virtual_time=True) as context:
        r: Any = RedisDouble(context)
        listener = r.pubsub()
        await listener.subscribe("news")
        r.pipeline().set("a", 1).incr("b")
        await r.lock("door").acquire()
        async with r.pubsub() as closed, r.pipeline() as done, r.lock("fine"):
            await closed.subscribe("x")
            await done.set("a", 1).execute()
    assert context.problems["redis"] == (
        "a subscription to b'news' was never closed",
        "a pipeline holds 2 commands that were never executed: SET a, INCRBY b",
        "the lock 'door' was never released",
    )


async def test_blocked_commands_end_with_the_double() -> None:
    """What still waits when the double is closed leaves no task behind."""
    before = asyncio.all_tasks()
    async with MockContext("a test", virtual_time=True) as context:
        r: Any = RedisDouble(context)
        task = asyncio.create_task(r.blpop(["q"], timeout=0))
        await anyio.wait_all_tasks_blocked()
        task.cancel()
        await asyncio.wait([task])
        stuck = asyncio.create_task(r.blpop(["q"], timeout=0))
        await anyio.wait_all_tasks_blocked()
    stuck.cancel()
    await asyncio.wait([stuck])
    await anyio.wait_all_tasks_blocked()
    assert asyncio.all_tasks() == before


async def test_connect_health_and_reset(r: Any) -> None:
    """It connects, tells how it is, and a reset empties it."""
    assert await r.connect() is r
    assert r.is_connected
    await r.set("k", 1)
    assert (await r.health_check())["keys"] == 1
    await r.disconnect()
    assert not r.is_connected
    assert await r.get("k") == b"1"
    r.reset()
    assert await r.get("k") is None
    expected = {
        "unavailable": redis.exceptions.ConnectionError, "timeout": redis.exceptions.TimeoutError,
        "disconnected": redis.exceptions.ConnectionError, "rejected": redis.exceptions.ResponseError,
    }  # fmt: skip
    for kind, error in expected.items():
        assert type(r.fault_error(kind)) is error


def test_trio_is_refused_with_advice() -> None:
    """Under trio every command says that redis.asyncio knows asyncio only; a synchronous client works."""

    async def main() -> None:
        async with MockContext("a test") as context:
            r: Any = RedisDouble(context)
            for attempt in (lambda: r.get("k"), r.connect):
                with pytest.raises(RedisLoopError, match="asyncio only"):
                    await attempt()
            assert r.sync_client().get("k") is None

    anyio.run(main, backend="trio")


def test_one_double_in_several_loops() -> None:
    """A double made in plain code serves one event loop after the other, with the same keys."""
    with MockContext("a test", virtual_time=True) as context:
        r: Any = RedisDouble(context)

        async def count() -> Any:
            await r.rpush("q", "x")
            await r.blpop(["q"], timeout=1)
            await r.blpop(["q"], timeout=1)
            return await r.incr("n")

        assert [anyio.run(count) for _ in range(3)] == [1, 2, 3]


_COMMANDS = st.lists(
    st.tuples(
        st.sampled_from(["set", "incr", "append", "delete", "expire", "get", "advance"]),
        st.sampled_from(["a", "b"]),
        st.integers(1, 9),
    ),
    max_size=20,
)


@given(commands=_COMMANDS)
@settings(max_examples=40)
def test_strings_follow_a_model(commands: list[tuple[str, str, int]]) -> None:
    """Any sequence of commands and passing time gives what a dictionary with deadlines gives."""

    async def main() -> None:
        async with MockContext("h", virtual_time=True) as context:
            r: Any = RedisDouble(context)
            values: dict[str, str] = {}
            ends: dict[str, float] = {}
            for command, key, number in commands:
                for each in [each for each, end in ends.items() if end < context.clock.now()]:
                    values.pop(each, None)
                    del ends[each]
                if command == "advance":
                    context.clock.advance(number + 0.5)
                elif command == "set":
                    await r.set(key, number)
                    values[key] = str(number)
                    ends.pop(key, None)
                elif command == "incr":
                    values[key] = str(int(values.get(key, "0")) + number)
                    assert await r.incrby(key, number) == int(values[key])
                elif command == "append":
                    values[key] = values.get(key, "") + str(number)
                    assert await r.append(key, number) == len(values[key])
                elif command == "delete":
                    ends.pop(key, None)
                    assert await r.delete(key) == (values.pop(key, None) is not None)
                elif command == "expire":
                    assert await r.expire(key, number) == (key in values)
                    if key in values:
                        ends[key] = context.clock.now() + number
                else:
                    got = await r.get(key)
                    assert (None if got is None else got.decode()) == values.get(key)

    anyio.run(main)


@pytest.mark.parametrize("package", ["redis", "fakeredis"])
def test_missing_packages_are_named(package: str) -> None:
    """Without redis or fakeredis the double says what to install, and leaves nothing half made."""
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from isolation_core.services import MockContext\n"
        "from isolation_core.services.redis import MissingRedisError\n"
        "context = MockContext('t', virtual_time=True)\n"
        "try: context.service('redis')\n"
        "except MissingRedisError as error: print(error)\n"
        "assert not context.doubles\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"the Redis double needs {package}: pip install 'isolation-core[redis]'\n", done.stderr


async def test_faults_reach_single_commands(r: Any) -> None:
    """A rule fails one command, in a pipeline, a lock or a synchronous client too, with redis's own exceptions."""
    faults = r.context.faults
    faults.add("redis.incr", fail("timeout"), nth=2)
    faults.add("redis.execute", lose_reply("disconnected"), times=1)
    faults.add("redis.acquire", fail("unavailable"), times=1)
    faults.add("redis.command", fail("rejected"), times=1)
    faults.add("redis.get", delay(30), times=1)
    assert await r.incr("n") == 1
    async with r.pipeline() as pipe:
        with pytest.raises(redis.exceptions.TimeoutError):
            pipe.incr("n")
        pipe.set("lost", 1)
        with pytest.raises(redis.exceptions.ConnectionError):
            await pipe.execute()
    with pytest.raises(redis.exceptions.ConnectionError):
        await r.lock("l").acquire()
    with pytest.raises(redis.exceptions.ResponseError):
        r.sync_client().get("n")
    # The reply was lost, not the command.
    assert await r.get("lost") == b"1"
    assert r.context.clock.now() == 30
    faults.assert_all_used()
