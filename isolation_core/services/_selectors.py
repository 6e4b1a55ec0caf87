"""Picking interactions: by name with wildcards, by arguments, by any condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from isolation_core._suggest import nearest
from isolation_core.errors import UnknownArgumentError, UnknownOperationError
from isolation_core.services._registry import known_services, operations_of

if TYPE_CHECKING:
    from isolation_core.services._interactions import Interaction

__all__ = ["Known", "Selector", "Selects", "select"]

_MISSING = object()

Known = Mapping[str, Mapping[str, frozenset[str] | None]]
"""For each service the names of its operations with those of their parameters; None: it takes any."""


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

    def check(self, known: Known, *, certain: bool = True) -> None:
        """Refuse a pattern that can never match because it is misspelled.

        Args:
            known: parameters by operation by service, of the doubles there are.
            certain: True: there will be no further doubles, so an unknown service is an error;
                False: only if a similar one is known.

        Raises:
            UnknownOperationError: for a service or operation that does not exist, with a did-you-mean.
            UnknownArgumentError: for an argument that none of the operations has, likewise.
        """
        service, _, operation = self.pattern.rpartition(".")
        if service and not any(fnmatchcase(name, service) for name in known):
            known = self._not_made(service, known, certain=certain)
        operations: dict[str, frozenset[str] | None] = {}
        for name, those in known.items():
            if not service or fnmatchcase(name, service):
                operations.update(those)
        if not operations:
            return
        meant = [each for each in operations if fnmatchcase(each, operation)]
        if not meant:
            close = nearest(operation.strip("*?"), operations)
            if close:
                raise UnknownOperationError(service or "any service", operation, close)
            return
        for argument in self.arguments:
            parameters = [operations[each] for each in meant]
            if not any(each is None or argument in each for each in parameters):
                names = sorted(frozenset[str]().union(*(each or () for each in parameters)))
                raise UnknownArgumentError(self.pattern, argument, nearest(argument, names), names)

    def _not_made(self, service: str, known: Known, *, certain: bool) -> Known:
        """Return the operations of services that match and have no double here."""
        registered = known_services()
        found = {name: operations_of(name) for name in registered if fnmatchcase(name, service)}
        if not found:
            close = nearest(service.strip("*?"), {*known, *registered})
            if close or (certain and known):
                raise UnknownOperationError(self.pattern, service, close)
        return found


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
