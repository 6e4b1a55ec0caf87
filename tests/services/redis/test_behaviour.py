"""Redis: one body for each promise, on the double, on the double over a real server, and on the real client."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("fakeredis")

import redis.asyncio
from redis.exceptions import LockError, LockNotOwnedError, ResponseError, WatchError

from isolation_core.errors import ConfigurationError
from isolation_core.services import MockContext
from isolation_core.services.redis import RedisDouble, RedisPrefixError

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True

URL = "redis://127.0.0.1:6379/0"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """redis.asyncio knows asyncio only."""
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> None:
    """Skip where no server answers."""
    try:
        socket.create_connection(("127.0.0.1", 6379), 0.5).close()
    except OSError:
        pytest.skip("no Redis server on 127.0.0.1:6379")


@pytest.fixture(params=["double", "prefixed", "real"])
async def r(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Give a client of one of the three."""
    if request.param != "double":
        request.getfixturevalue("server")
    if request.param == "real":
        async with redis.asyncio.Redis.from_url(URL) as client:
            yield client
            return
    async with MockContext("redis", virtual_time=True) as context:
        yield RedisDouble(context) if request.param == "double" else RedisDouble(context, url=URL)


@pytest.fixture
async def key(r: Any) -> AsyncIterator[str]:
    """Give a name of this test's own, and remove what begins with it."""
    name = f"t:{uuid.uuid4().hex}"
    yield name
    left = [each async for each in r.scan_iter(match=f"{name}*")]
    if left:
        await r.delete(*left)


async def cycles() -> None:
    """Let the other tasks go on. A real sleep would make the double's clock jump to the next timeout."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_strings(r: Any, key: str) -> None:
    """Strings are set, read, counted and appended to; conditions hold."""
    assert await r.set(key, "1") is True
    assert await r.get(key) == b"1"
    assert await r.set(key, "2", nx=True) is None
    assert await r.set(key, "2", xx=True, get=True) == b"1"
    assert await r.incrby(key, 40) == 42
    assert await r.append(key, "!") == 3
    assert await r.strlen(key) == 3
    assert await r.mset({f"{key}:a": 1, f"{key}:b": 2}) is True
    assert await r.mget(f"{key}:a", f"{key}:none", f"{key}:b") == [b"1", None, b"2"]
    assert await r.exists(key, f"{key}:a", f"{key}:none") == 2
    assert await r.delete(key, f"{key}:a") == 2
    assert await r.get(key) is None


async def test_expiry(r: Any, key: str) -> None:
    """A key tells how long it lives, and can be kept."""
    await r.set(key, "x", ex=100)
    assert 98 <= await r.ttl(key) <= 100
    assert 98_000 <= await r.pttl(key) <= 100_000
    assert await r.persist(key) == 1
    assert await r.ttl(key) == -1
    assert await r.expire(key, 50)
    await r.set(key, "y", keepttl=True)
    assert 48 <= await r.ttl(key) <= 50
    assert await r.ttl(f"{key}:none") == -2


async def test_wrong_type(r: Any, key: str) -> None:
    """A command for another type is the server's error, and leaves the connection usable."""
    await r.lpush(key, "a")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await r.get(key)
    await r.set(f"{key}:n", "x")
    with pytest.raises(ResponseError, match="not an integer"):
        await r.incr(f"{key}:n")
    assert await r.lrange(key, 0, -1) == [b"a"]


async def test_hashes_lists_sets_and_sorted_sets(r: Any, key: str) -> None:
    """The containers keep what they are given, in their order."""
    assert await r.hset(f"{key}:h", mapping={"a": 1, "b": 2}) == 2
    assert await r.hgetall(f"{key}:h") == {b"a": b"1", b"b": b"2"}
    assert await r.hincrby(f"{key}:h", "a", 5) == 6
    assert await r.rpush(f"{key}:l", "a", "b", "c") == 3
    assert await r.lpop(f"{key}:l") == b"a"
    assert await r.lmove(f"{key}:l", f"{key}:l2", "RIGHT", "LEFT") == b"c"
    assert await r.sadd(f"{key}:s", "x", "y") == 2
    assert await r.sadd(f"{key}:s2", "y", "z") == 2
    assert await r.sinter(f"{key}:s", f"{key}:s2") == {b"y"}
    assert await r.zadd(f"{key}:z", {"one": 1, "two": 2}) == 2
    assert await r.zrange(f"{key}:z", 0, -1, withscores=True) == [(b"one", 1.0), (b"two", 2.0)]
    assert await r.zadd(f"{key}:z2", {"two": 3}) == 1
    assert await r.zunionstore(f"{key}:z3", [f"{key}:z", f"{key}:z2"]) == 2
    assert await r.zscore(f"{key}:z3", "two") == 5.0


async def test_keys_and_scans(r: Any, key: str) -> None:
    """Keys are found by pattern, whole and page by page; they can be renamed and told by type."""
    for number in range(25):
        await r.set(f"{key}:{number}", number)
    assert len(await r.keys(f"{key}:*")) == 25
    found = [each async for each in r.scan_iter(match=f"{key}:1*", count=5)]
    assert sorted(found) == sorted(f"{key}:{number}".encode() for number in (1, *range(10, 20)))
    await r.rename(f"{key}:0", f"{key}:zero")
    assert await r.type(f"{key}:zero") == b"string"
    assert await r.unlink(f"{key}:zero") == 1


async def test_pipelines(r: Any, key: str) -> None:
    """Commands are queued and sent together; one that fails is raised, or given among the replies."""
    async with r.pipeline(transaction=True) as pipe:
        replies = await pipe.set(key, 1).incr(key).get(key).execute()
    assert replies == [True, 2, b"2"]
    pipe = r.pipeline(transaction=False)
    pipe.lpush(key, "x")
    pipe.get(key)
    replies = await pipe.execute(raise_on_error=False)
    assert isinstance(replies[0], ResponseError)
    assert replies[1] == b"2"
    pipe.lpush(key, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await pipe.execute()


async def test_watch(r: Any, key: str) -> None:
    """A transaction fails if what it watches changes; `transaction` tries again."""
    await r.set(key, 1)
    async with r.pipeline() as pipe:
        await pipe.watch(key)
        value = int(await pipe.get(key))
        await r.set(key, 10)
        pipe.multi()
        pipe.set(key, value + 1)
        with pytest.raises(WatchError):
            await pipe.execute()
    tries = 0

    async def double(pipe: Any) -> None:
        nonlocal tries
        tries += 1
        value = int(await pipe.get(key))
        if tries == 1:
            await r.set(key, 20)
        pipe.multi()
        pipe.set(key, value * 2)

    assert await r.transaction(double, key) == [True]
    assert (tries, await r.get(key)) == (2, b"40")


async def test_pubsub(r: Any, key: str) -> None:
    """Subscribers, by name and by pattern, get what is published while they listen."""
    async with r.pubsub() as listener:
        await listener.subscribe(f"{key}:a")
        await listener.psubscribe(f"{key}:*")
        for kind, count in (("subscribe", 1), ("psubscribe", 2)):
            message = await listener.get_message(timeout=1)
            assert (message["type"], message["data"]) == (kind, count)
        assert await r.publish(f"{key}:a", "hello") == 2
        assert await r.publish(f"{key}:b", "world") == 1
        got = [await listener.get_message(timeout=1) for _ in range(3)]
        told = [(each["type"], each["channel"], each["pattern"], each["data"]) for each in got]
        channel, pattern, other = f"{key}:a".encode(), f"{key}:*".encode(), f"{key}:b".encode()
        assert told == [
            ("message", channel, None, b"hello"), ("pmessage", channel, pattern, b"hello"),
            ("pmessage", other, pattern, b"world"),
        ]  # fmt: skip
        assert await listener.get_message(timeout=0.01) is None
        await listener.unsubscribe()
        await listener.punsubscribe()


async def test_listen_and_handlers(r: Any, key: str) -> None:
    """Listening gives messages as they come; a handler takes those of its channel."""
    handled: list[Any] = []
    async with r.pubsub(ignore_subscribe_messages=True) as listener:
        await listener.subscribe(f"{key}:plain", **{f"{key}:handled": lambda message: handled.append(message["data"])})

        async def publish() -> None:
            await asyncio.sleep(0.01)
            await r.publish(f"{key}:handled", "h")
            await r.publish(f"{key}:plain", "p")

        task = asyncio.create_task(publish())
        async for message in listener.listen():
            assert message["data"] == b"p"
            break
        await task
    assert handled == [b"h"]


async def test_blocking_pop(r: Any, key: str) -> None:
    """A blocking pop gives up after its timeout, and wakes when something comes."""
    assert await r.blpop([key], timeout=0.02) is None
    waiter = asyncio.create_task(r.blpop([f"{key}:other", key], timeout=5))
    await cycles()
    await r.rpush(key, "x")
    assert await waiter == (key.encode(), b"x")
    mover = asyncio.create_task(r.blmove(key, f"{key}:to", 5, "LEFT", "RIGHT"))
    await cycles()
    await r.rpush(key, "y")
    assert await mover == b"y"
    await r.zadd(f"{key}:z", {"m": 1})
    assert await r.bzpopmin(f"{key}:z", timeout=1) == (f"{key}:z".encode(), b"m", 1.0)


async def test_streams(r: Any, key: str) -> None:
    """Streams keep entries, groups deliver each to one consumer, and remember what is not acknowledged."""
    first = await r.xadd(key, {"n": 1})
    await r.xadd(key, {"n": 2})
    assert [fields for _, fields in await r.xrange(key)] == [{b"n": b"1"}, {b"n": b"2"}]
    ((name, entries),) = await r.xread({key: 0}, count=1)
    assert (name, entries) == (key.encode(), [(first, {b"n": b"1"})])
    await r.xgroup_create(key, "g", id="0")
    ((_, mine),) = await r.xreadgroup("g", "a", {key: ">"}, count=1)
    assert mine == [(first, {b"n": b"1"})]
    assert (await r.xpending(key, "g"))["pending"] == 1
    assert await r.xack(key, "g", first) == 1
    assert await r.xread({key: "$"}, block=20) in ([], {}, None)


async def test_locks(r: Any, key: str) -> None:
    """A lock is held by one; another waits or gives up; releasing what is not held is an error."""
    async with r.lock(key, timeout=10) as lock:
        assert await lock.owned()
        assert await lock.locked()
        other = r.lock(key, timeout=10, sleep=0.01)
        assert not await other.acquire(blocking=False)
        assert not await other.acquire(blocking_timeout=0.03)
        assert await lock.extend(10)
        assert 18 <= await r.ttl(key) <= 20
        assert await lock.reacquire()
        assert 8 <= await r.ttl(key) <= 10
    assert not await other.locked()
    with pytest.raises(LockError):
        await other.release()
    assert await other.acquire()
    await r.set(key, "stolen")
    with pytest.raises(LockNotOwnedError):
        await other.release()


async def test_concurrent_increments(r: Any, key: str) -> None:
    """Increments from many tasks are all counted."""
    await asyncio.gather(*(r.incr(key) for _ in range(50)))
    assert await r.get(key) == b"50"


async def test_cancelled_blocking_pop_takes_nothing(r: Any, key: str) -> None:
    """A blocking pop that was cancelled does not take what comes later."""
    # A connection is there before: with 3.11 the client itself can lose a cancellation that meets it connecting.
    assert await r.lrange(key, 0, -1) == []
    waiter = asyncio.create_task(r.blpop([key], timeout=0))
    await asyncio.sleep(0.02)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await asyncio.sleep(0.02)
    await r.rpush(key, "x")
    await asyncio.sleep(0.01)
    assert await r.lrange(key, 0, -1) == [b"x"]


async def test_a_real_server_is_left_as_it_was(server: None) -> None:
    """Over a real server doubles do not see each other's keys, and leave none behind, also after a reset."""
    async with redis.asyncio.Redis.from_url(URL) as plain:
        async with MockContext("one", virtual_time=True) as one, MockContext("two", virtual_time=True) as two:
            first: Any = RedisDouble(one, url=URL)
            second: Any = RedisDouble(two, url=URL)
            await first.set("k", "first")
            assert await second.get("k") is None
            first.get.return_value = b"configured"
            assert await first.get("k") == b"configured"
            assert (await first.health_check())["keys"] == 1
            first.reset()
            assert await first.keys() == []
            await first.eval("redis.call('SET', KEYS[1], ARGV[1])", 1, "script", "script")
            assert await first.get("script") == b"script"
            # Theirs alone: other tests may be using the same server now.
            patterns = [prefix.put("*") for double in (first, second) for prefix in double._prefixes]
            assert any([await plain.keys(pattern) for pattern in patterns])
            for command in (first.flushall, first.dbsize, first.randomkey):
                with pytest.raises(RedisPrefixError, match="keys of others"):
                    await command()
            with pytest.raises(ConfigurationError, match="url="):
                first.sync_client()
        assert not any([await plain.keys(pattern) for pattern in patterns])
