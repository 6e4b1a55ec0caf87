"""Behaviour behind a mock: the effect of a call without configuration, and hooks around every call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

__all__ = ["Backing", "back"]


class Backing(Protocol):
    """The behaviour behind the calls of one mock; a service double's operation is one."""

    def called(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Any:
        """Record a call whose signature fits; the result, not None, is passed to `run` or `run_sync`."""
        ...

    async def run(self, entry: Any, outcome: Callable[[], Awaitable[Any]], /) -> Any:
        """Run the awaited call noted as *entry*: *outcome* gives what is configured, or else `behave`."""
        ...

    def run_sync(self, entry: Any, outcome: Callable[[], Any], /) -> Any:
        """The same for a synchronous mock."""
        ...

    def behave(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the behaviour of the mock; of an asynchronous mock the result is awaited."""
        ...


def back(mock: Any, backing: Backing) -> None:
    """Put *backing* behind *mock*; a configured ``side_effect`` or ``return_value`` still wins over its behaviour.

    Args:
        mock: an isolated mock, or a member of one. It stays backed on every level but ``discard``.
        backing: the behaviour.
    """
    mock._isolation_state.backing = backing
