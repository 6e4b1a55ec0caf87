"""What summaries are told is alive now: barriers, and what belongs to them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from isolation_core._ambient import open_barriers
from isolation_core.reports import register_live_source

__all__ = ["register_live_sources"]


def register_live_sources() -> None:
    """Let summaries ask which barriers, fixtures and mocks there are."""
    register_live_source("barriers", _barriers_alive)
    register_live_source("fixtures", _fixtures_alive)
    register_live_source("mocks", _mocks_alive)


def _barriers_alive() -> Iterator[str]:
    for reference in tuple(open_barriers.values()):
        barrier = reference()
        if barrier is not None and barrier.is_open:
            yield f"{barrier.owner} ({barrier.scope})"


def _mocks_alive() -> Iterator[str]:
    # Who has not imported the mocks has none, and must not be made to import them.
    mocks = sys.modules.get("isolation_core.mocks")
    if mocks is None:
        return
    rest: int = mocks.live_mocks()
    for reference in tuple(open_barriers.values()):
        barrier = reference()
        if barrier is not None and barrier._mocks is not None:
            own = len(barrier._mocks)
            rest -= own
            yield from [f"a mock of {barrier.owner}"] * own
    yield from ["a mock of no open barrier"] * rest


def _fixtures_alive() -> Iterator[str]:
    fixtures = sys.modules.get("isolation_core.fixtures")
    if fixtures is not None:
        yield from fixtures.live_fixtures()
