"""The services that a scenario requires, compared with those it used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from isolation_core.services import InteractionLog

__all__ = ["Requirements", "find_requirements"]

_NO_USE: Final = frozenset({"connect", "disconnect", "health_check"})


@frozen
class Requirements:
    """Names of services, each group in alphabetical order.

    Attributes:
        required: named by the scenario.
        provided: that were up, what others depend on included.
        used: that were called for more than connecting, disconnecting or asking how they are.
        unused: required, but not used.
        undeclared: used without being required.
    """

    required: tuple[str, ...]
    provided: tuple[str, ...]
    used: tuple[str, ...]
    unused: tuple[str, ...]
    undeclared: tuple[str, ...]

    def __str__(self) -> str:
        groups = ("required", "provided", "used", "unused", "undeclared")
        return "\n".join(f"{group:<11}{', '.join(getattr(self, group)) or '-'}" for group in groups)


def find_requirements(required: Iterable[str], provided: Iterable[str], log: InteractionLog) -> Requirements:
    """Compare what is *required* and *provided* with what the *log* says was used."""
    wanted = set(required)
    used = {entry.double for entry in log if entry.operation not in _NO_USE and entry.state != "event"}
    groups = (wanted, set(provided), used, wanted - used, used - wanted)
    return Requirements(*(tuple(sorted(group)) for group in groups))
