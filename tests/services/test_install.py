"""`install`: the double is where code under test makes its own client, also under names it has imported."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import aio_pika
import aiokafka  # type: ignore[import-untyped]
import asyncpg  # type: ignore[import-untyped]
import httpx
import nats
import pytest
import redis
import redis.asyncio

from isolation_core import isolation_barrier
from isolation_core.errors import ConfigurationError
from isolation_core.services import MockContext, ServiceDouble, operation

APP = """
import aio_pika, aiokafka, asyncpg, httpx, nats, redis.asyncio
from aio_pika import connect_robust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from asyncpg import connect
from nats import connect as nats_connect
from redis.asyncio import Redis, from_url
import redis as sync_redis

FACTORIES = {"nats": nats_connect, "list": [nats_connect]}
early = httpx.AsyncClient(base_url="https://shop")

def with_default(connect=nats_connect, *, other=nats_connect):
    return connect, other

def maker():
    kept = nats_connect
    return lambda: kept

closure = maker()

class Repository:
    connect = staticmethod(nats_connect)

    def __init__(self):
        self.open = nats_connect

repository = Repository()
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of the user that has imported its clients by name, before anything is installed."""
    (tmp_path / "app_under_test.py").write_text(textwrap.dedent(APP))
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__("app_under_test")
    yield module
    del sys.modules["app_under_test"]


def held(app: Any) -> list[Any]:
    """Return every place of the module where ``nats.connect`` is."""
    return [
        app.nats_connect, app.nats.connect, app.FACTORIES["nats"], *app.with_default(), app.closure(),
        app.Repository.connect, app.repository.open,
    ]  # fmt: skip


def test_names_that_were_imported_are_replaced_and_put_back(app: Any) -> None:
    """Globals, containers, defaults, closures, class and instance attributes; the end of the context undoes it."""
    original = nats.connect
    with MockContext() as context:
        made = context.service("nats").install()
        assert all(each is not original for each in held(app))
        assert len({id(each) for each in held(app)}) == 1
        assert "nats.connect" in made.places
        assert "app_under_test.nats_connect" in made.places
        assert nats.connect.__name__ == "connect"
    assert all(each is original for each in held(app))


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_code_that_makes_its_own_clients_uses_the_doubles(app: Any, anyio_backend: str) -> None:
    """NATS, RabbitMQ, Kafka, Redis and httpx, by whatever name the code has them."""
    async with MockContext() as context:
        for name in ("nats", "rabbitmq", "kafka", "redis", "http"):
            context.service(name).install()
        nc = await app.nats_connect("nats://prod:4222")
        await nc.publish("a", b"1")
        await nc.close()
        context["nats"].open_connection.assert_awaited_once_with("nats://prod:4222")

        connection = await app.connect_robust("amqp://prod/")
        await (await connection.channel()).declare_queue("q")
        await connection.close()
        context.log.assert_in_order("rabbitmq.open_connection", "rabbitmq.declare_queue")

        producer = app.AIOKafkaProducer(bootstrap_servers="prod:9092")
        assert isinstance(producer, app.AIOKafkaProducer)
        await producer.start()
        await producer.send_and_wait("t", b"v")
        consumer = aiokafka.AIOKafkaConsumer("t", bootstrap_servers="prod:9092", auto_offset_reset="earliest")
        await consumer.start()
        assert (await consumer.getone()).value == b"v"
        await consumer.stop()
        await producer.stop()

        client = app.Redis(host="prod", port=6379, decode_responses=True)
        assert isinstance(client, app.Redis)
        await client.set("k", "v")
        assert await app.from_url("redis://prod/0").get("k") == b"v"
        assert await app.Redis.from_url("redis://prod/0", decode_responses=True).get("k") == "v"
        pool = redis.asyncio.ConnectionPool.from_url("redis://prod/0")
        assert await app.redis.asyncio.Redis(connection_pool=pool).get("k") == b"v"
        assert app.sync_redis.Redis("prod").get("k") == b"v"
        assert app.sync_redis.from_url("redis://prod").get("k") == b"v"
        with pytest.raises(TypeError):
            app.Redis(hots="prod")

        context["http"].route("GET", "/x").respond(204).reusable()
        assert (await app.early.get("/x")).status_code == 204
        async with httpx.AsyncClient() as client:
            assert (await client.get("https://shop/x")).status_code == 204
    assert app.Redis is redis.asyncio.Redis
    assert "handle_request" in vars(httpx.HTTPTransport)
    await app.early.aclose()


def test_synchronous_requests_are_answered() -> None:
    """Functions and synchronous clients of httpx reach the double as well."""
    with MockContext() as context:
        http = context.service("http")
        http.install()
        http.route("GET", "/x").respond(204)
        assert httpx.get("https://shop/x").status_code == 204


def test_a_barrier_finds_nothing_left(app: Any) -> None:
    """Installed doubles are removed before the barrier compares; in mode strict nothing is reported."""
    before = (asyncpg.connect, aio_pika.connect, redis.Redis)
    with isolation_barrier(mode="strict", packages=["app_under_test"]) as barrier:
        for name in ("rabbitmq", "redis"):
            barrier.service(name).install()
    assert barrier.changes == ()
    assert (asyncpg.connect, aio_pika.connect, redis.Redis) == before


def test_an_installation_ends_by_itself_earlier() -> None:
    """Used as a context manager it is put back at the end of the block; undoing twice changes nothing."""
    original = nats.connect
    with MockContext() as context:
        with context.service("nats").install() as made:
            assert nats.connect is not original
        assert nats.connect is original
        made.undo()
        assert nats.connect is original


def test_what_somebody_replaced_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch that was made on top of an installation is not overwritten by its end."""
    original = nats.connect
    try:
        with MockContext() as context:
            context.service("nats").install()
            mine = nats.connect = object()  # type: ignore[assignment]
        assert nats.connect is mine
    finally:
        nats.connect = original


def test_a_double_of_the_user_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """A double of your own is installed where it says; without a place or client that is an error."""
    library = ModuleType("their_library")
    library.pay = len  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_library", library)

    class Bank(ServiceDouble):
        service = "bank"

        @operation
        def pay(self, amount: int) -> str:
            return f"paid {amount}"

        def client_places(self) -> Any:
            return {"their_library:pay": lambda double, _: double.pay}

    with MockContext() as context:
        Bank(context).install()
        pay: Any = library.pay
        assert pay(3) == "paid 3"
        context["bank"].pay.assert_called_once_with(3)
    assert library.pay is len

    class Nowhere(ServiceDouble):
        service = "nowhere"

    with MockContext() as context, pytest.raises(ConfigurationError, match="cannot be installed"):
        Nowhere(context).install()


def test_the_marker_installs(pytester: pytest.Pytester) -> None:
    """`@pytest.mark.services(..., install=True)` does it for one test."""
    pytester.makepyfile(
        """
        import nats, pytest, asyncio
        from nats import connect

        original = connect

        @pytest.mark.services("nats", install=True)
        def test_it(mock_context):
            async def main():
                nc = await connect("nats://prod")
                await nc.close()
            asyncio.run(main())
            mock_context["nats"].open_connection.assert_awaited_once_with("nats://prod")

        def test_after():
            assert connect is original is nats.connect

        @pytest.mark.services("nats", instal=True)
        def test_misspelt():
            pass
        """
    )
    result = pytester.runpytest_subprocess(
        "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestDeprecationWarning"
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*no argument instal*"])
