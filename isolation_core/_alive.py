"""Live objects for summaries and debug output: which barriers, fixtures and mocks exist right now."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from isolation_core._ambient import open_barriers

__all__ = ["LiveSource", "ask_live_sources", "register_live_source"]

LiveSource = Callable[[], Iterable[str]]
"""Returns one text for each thing of its kind that is alive right now."""


def register_live_source(name: str, source: LiveSource) -> None:
    """Let summaries ask *source* what is alive now.

    Args:
        name: ``"barriers"``, ``"mocks"``, ``"fixtures"`` or a name of your own;
            a later source of the same name takes its place.
        source: called without arguments for each request.
    """
    _live_sources[name] = source


def ask_live_sources() -> tuple[dict[str, list[str]], list[str]]:
    """Return the texts of every source by its name, and one text for each source that failed."""
    alive: dict[str, list[str]] = {}
    problems: list[str] = []
    for name, source in sorted(_live_sources.items()):
        try:
            alive[name] = [str(text) for text in source()]
        except Exception as error:  # a part that cannot answer must not take the summary with it
            problems.append(f"it is not known which {name} are alive: {type(error).__name__}: {error}")
    return alive, problems


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


_live_sources: Final[dict[str, LiveSource]] = {
    "barriers": _barriers_alive,
    "fixtures": _fixtures_alive,
    "mocks": _mocks_alive,
}
