"""Picking interactions: by name with wildcards, by arguments, by any condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from isolation_core._suggest import nearest
from isolation_core.errors import UnknownOperationError

if TYPE_CHECKING:
    from isolation_core.services._interactions import Interaction

__all__ = ["Selector", "Selects", "select"]

_MISSING = object()


@frozen
class Selector:
    """A pattern for interactions; make it with `select`.

    Attributes:
        pattern: ``"service.operation"``, where ``*`` matches any text; without a dot any service's operation.
            A second double of a service is found by its own name too.
        arguments: the values that arguments must equal, by name; any object with ``__eq__`` is a matcher.
        where: a further condition.
    """

    pattern: str
    arguments: Mapping[str, Any] = field(factory=dict)
    where: Callable[[Interaction], object] | None = None

    def __call__(self, entry: Interaction) -> bool:
        """Return whether *entry* matches."""
        service, dot, operation = self.pattern.rpartition(".")
        if not fnmatchcase(entry.operation, operation):
            return False
        if dot and not (fnmatchcase(entry.service, service) or fnmatchcase(entry.double, service)):
            return False
        if self.arguments:
            found = entry.arguments
            for name, wanted in self.arguments.items():
                value = found.get(name, _MISSING)
                # The matcher's own opinion comes first, as with `unittest.mock.ANY`.
                if value is _MISSING or not (wanted == value):  # noqa: SIM201 - its __eq__, not its __ne__
                    return False
        return self.where is None or bool(self.where(entry))

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        more = " where ..." if self.where is not None else ""
        return f"{self.pattern}({shown}){more}" if shown else f"{self.pattern}{more}"

    def check(self, known: Mapping[str, set[str]]) -> None:
        """Refuse a pattern that can never match because it is misspelled.

        Args:
            known: operations by service.

        Raises:
            UnknownOperationError: with a did-you-mean.
        """
        service, _, operation = self.pattern.rpartition(".")
        if set("*?[") & set(self.pattern) or not known:
            return
        if service and service not in known:
            close = nearest(service, known)
            if close:
                raise UnknownOperationError(self.pattern, service, close)
            return
        operations = known[service] if service else set().union(*known.values())
        if operation not in operations:
            close = nearest(operation, operations)
            if close:
                raise UnknownOperationError(service or "any service", operation, close)


Selects = str | Selector
"""A pattern as text, or with conditions as `select` makes it."""


def select(pattern: Selects, /, *, where: Callable[[Interaction], object] | None = None, **arguments: Any) -> Selector:
    """Return a selector: ``select("kafka.send_event", topic="orders")``.

    Args:
        pattern: see `Selector`.
        where: a further condition over the `Interaction`.
        **arguments: the values that arguments of the call must equal.
    """
    if isinstance(pattern, Selector):
        if not arguments and where is None:
            return pattern
        return Selector(pattern.pattern, {**pattern.arguments, **arguments}, where or pattern.where)
    return Selector(pattern, arguments, where)
