"""``python -m benchmarks.client_contracts [--verbose]``: what isolated mocks promise of well-known client classes.

For every public name of each installed class the contract is compared with the
real thing: the signature with that of the method bound to an instance that was
made without running its constructor, the shape with what `inspect` says of the
bound method. Classes that are not installed are left out. Prints one line for
each class; differences are listed with ``--verbose``. A declaration that says
less than the contract knows (an annotation, a profile) is counted as *known
better*, not as a difference.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
import time
import warnings
from typing import Any, Final
from unittest.mock import create_autospec

from isolation_core.mocks import isolated_mock
from isolation_core.mocks._contract import contract_for

CLASSES: Final = """
redis.asyncio.Redis redis.asyncio.client.Pipeline redis.asyncio.client.PubSub redis.asyncio.lock.Lock
redis.Redis httpx.AsyncClient httpx.Client httpx.Response httpx.Request aiohttp.ClientSession
aiohttp.ClientResponse aiohttp.ClientWebSocketResponse aiohttp.web.Application aiohttp.web.Request
sqlalchemy.ext.asyncio.AsyncSession sqlalchemy.ext.asyncio.AsyncEngine sqlalchemy.ext.asyncio.AsyncConnection
sqlalchemy.orm.Session sqlalchemy.Engine sqlalchemy.engine.Result asyncpg.Pool asyncpg.Connection
asyncpg.transaction.Transaction asyncpg.prepared_stmt.PreparedStatement aiokafka.AIOKafkaProducer
aiokafka.AIOKafkaConsumer aiokafka.admin.AIOKafkaAdminClient grpc.Channel grpc.aio.Channel grpc.aio.Server
grpc.aio.UnaryUnaryMultiCallable grpc.aio.ServicerContext boto3.session.Session botocore.client.BaseClient
botocore.session.Session aio_pika.RobustConnection aio_pika.RobustChannel aio_pika.RobustQueue aio_pika.Message
nats.aio.client.Client nats.js.client.JetStreamContext nats.aio.subscription.Subscription
motor.motor_asyncio.AsyncIOMotorClient motor.motor_asyncio.AsyncIOMotorCollection pymongo.MongoClient
pymongo.AsyncMongoClient pymongo.collection.Collection psycopg.AsyncConnection psycopg.AsyncCursor
psycopg.Connection aiomysql.Pool aiomysql.Connection aiosqlite.Connection requests.Session requests.Response
websockets.asyncio.client.ClientConnection elasticsearch.AsyncElasticsearch temporalio.client.Client
temporalio.client.WorkflowHandle celery.Celery kombu.Connection slack_sdk.web.async_client.AsyncWebClient
paramiko.SSHClient minio.Minio influxdb_client.InfluxDBClient google.cloud.storage.Client
google.cloud.storage.Bucket azure.storage.blob.BlobServiceClient azure.storage.blob.aio.BlobClient
aiobotocore.session.AioSession confluent_kafka.Producer confluent_kafka.Consumer kafka.KafkaProducer
kafka.KafkaConsumer pika.BlockingConnection dramatiq.Broker arq.connections.ArqRedis taskiq.InMemoryBroker
tortoise.queryset.QuerySet peewee.Database databases.Database httpcore.AsyncConnectionPool urllib3.PoolManager
aiosmtplib.SMTP aioftp.Client asyncssh.SSHClientConnection docker.DockerClient kubernetes.client.CoreV1Api
openai.AsyncOpenAI anthropic.AsyncAnthropic twilio.rest.Client pymysql.connections.Connection neo4j.AsyncDriver
neo4j.AsyncSession qdrant_client.AsyncQdrantClient opensearchpy.AsyncOpenSearch smtplib.SMTP sqlite3.Connection
http.client.HTTPConnection asyncio.StreamReader asyncio.StreamWriter asyncio.Queue
concurrent.futures.ThreadPoolExecutor pathlib.Path logging.Logger
""".split()  # noqa: SIM905 - as a list it takes a screen


def find(path: str) -> Any:
    """Return the class at *path*, or None if it is not installed."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except Exception:  # whatever an import of a foreign package raises
        return None


def bound(cls: type[Any], name: str) -> Any:
    """Return the attribute as an instance has it, without running constructor or properties."""
    raw = inspect.getattr_static(cls, name)
    if isinstance(raw, property) or (hasattr(type(raw), "__set__") and not callable(raw)):
        return None
    try:
        return getattr(object.__new__(cls), name)
    except Exception:
        return getattr(cls, name) if isinstance(raw, staticmethod | classmethod) else None


def plain(signature: inspect.Signature) -> str:
    """Return the signature without annotations and defaults, which a check does not need."""
    parameters = [
        each.replace(annotation=each.empty, default=each.empty if each.default is each.empty else 0)
        for each in signature.parameters.values()
    ]
    return str(inspect.Signature(parameters))


def truth_of(method: Any) -> str:
    """Return the shape `inspect` gives a bound method."""
    if inspect.iscoroutinefunction(method):
        return "async"
    return "iterating" if inspect.isasyncgenfunction(method) else "sync"


def examine(cls: type[Any]) -> tuple[int, int, list[str]]:
    """Return how many public names were compared, how many are known better, and the differences."""
    contract = contract_for(cls)
    differences, compared, better = [], 0, 0
    for name in sorted(name for name in dir(cls) if name[:1] != "_"):
        if name not in contract.known:
            differences.append(f"{name}: unknown")
            continue
        member = contract.member(name)
        compared += 1
        method = bound(cls, name)
        if method is None or not callable(method) or inspect.isclass(method):
            continue
        try:
            signature = plain(inspect.signature(method))
        except Exception:
            signature = None
        ours = None if member.signature is None else plain(member.signature)
        if ours != signature and not member.is_value:
            differences.append(f"{name}: signature {ours}, really {signature}")
        truth = truth_of(method)
        if member.shape != truth:
            if truth == "sync":
                better += 1
            else:
                differences.append(f"{name}: {member.shape}, really {truth}")
    return compared, better, differences


def main() -> int:
    """Print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verbose", action="store_true", help="list the differences")
    verbose = parser.parse_args().verbose
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None  # finalizers of instances that were never constructed
    classes = names = wrong = known = 0
    for path in CLASSES:
        cls = find(path)
        if cls is None or not inspect.isclass(cls):
            continue
        compared, better, differences = examine(cls)
        classes, names, wrong, known = classes + 1, names + compared, wrong + len(differences), known + better
        print(f"{path:52} {compared:4} names, {better:3} known better, {len(differences):3} differ")
        if verbose:
            print("".join(f"    {each}\n" for each in differences), end="")
    print(f"{classes} classes, {names} public names: {known} known better, {wrong} differ")
    redis = find("redis.asyncio.Redis")
    if redis is not None:
        used = ("get", "set", "delete", "expire", "incr", "hset", "hgetall", "lpush", "publish", "zadd")
        for label, make in (("isolated_mock", isolated_mock), ("create_autospec", create_autospec)):
            start = time.process_time_ns()
            mock = make(redis)
            for name in used:
                getattr(mock, name)
            print(f"redis.asyncio.Redis, ten methods used, {label}: {(time.process_time_ns() - start) / 1e6:.3f} ms")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
