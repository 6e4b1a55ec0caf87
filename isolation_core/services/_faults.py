"""Faults on purpose: seeded rules that make calls of doubles fail, wait, or lose their reply."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isolation_core.services._interactions import Interaction
    from isolation_core.services._operations import Operable

__all__ = ["FaultPlan"]


class FaultPlan:
    """Rules about calls that are to go wrong.

    Args:
        seed: of the dice; the same seed gives the same faults.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed
        self._rules: list[Any] = []

    @property
    def active(self) -> bool:
        """Whether there is any rule."""
        return bool(self._rules)

    async def conduct(self, target: Operable, entry: Interaction, outcome: Callable[[], Awaitable[Any]]) -> Any:
        """Run a call under the rules."""
        return await outcome()

    def conduct_sync(self, target: Operable, entry: Interaction, outcome: Callable[[], Any]) -> Any:
        """Run a synchronous call under the rules."""
        return outcome()
