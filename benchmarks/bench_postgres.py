"""``python -m benchmarks.bench_postgres [--count N] [--json FILE]``: what a database of its own costs each test.

How the figures are taken. Each "test" is a `MockContext` with a PostgreSQL double
that writes two rows and reads them, through one connection of asyncpg. What is
counted is the wall-clock time of the whole, because most of it is spent on the
server; medians. "plain" is what a fixture without this package does: connect,
BEGIN, the same statements, ROLLBACK, close. "virtual" is the recorder with one stub.
The start of the server is that of the first use in this process, if no other
process keeps it running.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from isolation_core.services import MockContext
from isolation_core.services._embedded import embedded_server

TABLES = """
CREATE TABLE users (id serial PRIMARY KEY, name text);
CREATE TABLE orders (id int, buyer int REFERENCES users);
"""
SEEDS = TABLES + "COPY users (name) FROM PROGRAM 'echo first'"
COUNT = "SELECT count(*) FROM users"


async def use(connection: Any, seeds: int = 0) -> None:
    """Write two rows and see that they are all there is."""
    await connection.execute("INSERT INTO users (name) VALUES ($1), ($2)", "a", "b")
    assert await connection.fetchval(COUNT) == 2 + seeds


async def double(*, touch: bool = True, seeds: int = 0, ddl: bool = False, **options: Any) -> None:
    """Run one test over a double."""
    async with MockContext("one") as context:
        postgres = await context.service("postgres", **options).connect()
        connection = await postgres.open_connection()
        if ddl:
            await connection.execute(TABLES)
        if options.get("backend") == "virtual":
            postgres.when(COUNT).returns([{"count": 2}])
        if touch:
            await use(connection, seeds)
        await connection.close()


async def plain(dsn: str) -> None:
    """Run one test as a fixture with a transaction does."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("BEGIN")
    await use(connection)
    await connection.execute("ROLLBACK")
    await connection.close()


async def median(count: int, test: Callable[[], Awaitable[None]]) -> float:
    """Return the median of milliseconds, after two runs to warm up."""
    found = []
    for number in range(count + 2):
        began = time.perf_counter()
        await test()
        if number >= 2:
            found.append((time.perf_counter() - began) * 1e3)
    return round(statistics.median(found), 2)


async def measure(count: int) -> dict[str, float]:
    """Take the figures."""
    began = time.perf_counter()
    embedded_server("postgres", "isolation_core.services.postgres._launch:prepare")
    figures = {"start of the server": round((time.perf_counter() - began) * 1e3, 1)}
    async with MockContext("plain") as context:
        postgres = await context.service("postgres", backend="real", prepare=TABLES).connect()
        dsn = postgres.dsn
        figures["plain transaction fixture"] = await median(count, lambda: plain(dsn))
    real: dict[str, Any] = {"backend": "real", "prepare": TABLES}
    figures["rollback"] = await median(count, lambda: double(isolation="rollback", **real))
    figures["untouched"] = await median(count, lambda: double(touch=False, **real))
    figures["truncate"] = await median(count, lambda: double(**real))
    figures["drop (tables made in the test)"] = await median(count, lambda: double(ddl=True, backend="real"))
    figures["clone"] = await median(max(count // 5, 3), lambda: double(seeds=1, backend="real", prepare=SEEDS))
    figures["virtual"] = await median(count, lambda: double(backend="virtual"))
    return figures


def main() -> None:
    """Measure, print, and write the figures if asked for."""
    parser = argparse.ArgumentParser(description="What a database of its own costs each test.")
    parser.add_argument("--count", type=int, default=100, help="tests of each kind")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures = {"python": sys.version.split()[0], **asyncio.run(measure(options.count))}
    for name, value in figures.items():
        print(f"{name:<36}{value:>10}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
