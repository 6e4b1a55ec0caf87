"""As a script: ``python script.py``."""

from __future__ import annotations

import anyio
import stack  # noqa: F401 - the definitions

from isolation_core import isolation_barrier


async def main() -> None:
    # Both chains are set up at entry, each fixture as soon as what it needs is up.
    async with isolation_barrier(fixtures=["client", "broker"], max_concurrency=4) as barrier:
        client = await barrier.afixture("client")
        print("orders:", client.order("tea"))
        print("slowest chain:", " -> ".join(barrier.fixtures.critical_path()["path"]))


anyio.run(main)
