"""Questions to the log, and assertions about order whose failures can be read."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from isolation_core.errors import InteractionOrderError
from isolation_core.services._rendering import as_jsonl, as_mermaid, timeline
from isolation_core.services._selectors import Known, Selects, select

if TYPE_CHECKING:
    from isolation_core.services._interactions import Interaction
    from isolation_core.services._operations import Operable

__all__ = ["Queries", "known_of"]


def known_of(log: Queries) -> dict[str, dict[str, frozenset[str] | None]]:
    """Return the operations of the doubles of *log*, with their parameters, and what happened beside."""
    from isolation_core.services._operations import known_operations

    known: dict[str, dict[str, frozenset[str] | None]] = {}
    for name, classes in log.doubles.items():
        for each in classes:
            known.setdefault(name, {}).update(known_operations(each))
    for entry in log:
        # Events, and operations of client objects of doubles that users wrote, are known once they happened.
        for name in (entry.service, entry.double):
            known.setdefault(name, {}).setdefault(entry.operation, None)
    return known


class Queries(ABC):
    """The queries of an `InteractionLog`.

    A pattern is ``"service.operation"`` with ``*`` for any text, or a `Selector` made by `select`. One that
    is misspelled raises `UnknownOperationError` instead of finding nothing.
    """

    __slots__ = ()

    doubles: dict[str, dict[type[Operable], None]]

    @abstractmethod
    def __iter__(self) -> Iterator[Interaction]: ...

    def calls(
        self, pattern: Selects = "*", *, where: Callable[[Interaction], object] | None = None, **arguments: Any
    ) -> list[Interaction]:
        """Return the interactions that match, in order of their start.

        Args:
            pattern: which operations.
            where: a further condition.
            **arguments: the values that arguments must equal, by name, however they were passed.

        Raises:
            UnknownOperationError: if no double of this log has such an operation, but a similar one.
        """
        selector = select(pattern, where=where, **arguments)
        found = [entry for entry in self if selector(entry)]
        if not found:
            selector.check(self._known())
        return found

    def _known(self) -> Known:
        return known_of(self)

    # -- assertions ----------------------------------------------------------------

    def assert_in_order(self, *patterns: Selects) -> None:
        """Assert that there is one interaction for each pattern, each beginning after the one before it has ended.

        Others may lie between them.

        Raises:
            InteractionOrderError: showing where the order breaks and what happened instead.
        """
        lines = []
        ended = 0
        failed = False
        for number, pattern in enumerate(patterns, 1):
            found = self.calls(pattern)
            following = next((entry for entry in found if entry.start > ended), None)
            if failed:
                lines.append(f"  {number}. {pattern}")
            elif following is not None:
                lines.append(f"  {number}. {pattern}: {following}")
                # What has not ended precedes nothing.
                ended = following.end if following.end is not None else 1 << 62
            else:
                failed = True
                instead = f"only before that: {found[-1]}" if found else "never happened"
                lines.append(f"  {number}. {pattern}: {instead}   <-- here the order breaks")
        if failed:
            raise InteractionOrderError("not in this order:\n" + "\n".join(lines) + self._happened())

    def assert_happens_before(self, first: Selects, second: Selects) -> None:
        """Assert that every *first* has ended before any *second* begins, and that both happened.

        Raises:
            InteractionOrderError: naming the two that overlap or came the other way round.
        """
        earlier, later = self.calls(first), self.calls(second)
        for pattern, found in ((first, earlier), (second, later)):
            if not found:
                raise InteractionOrderError(f"{pattern} never happened{self._happened()}")
        for one in earlier:
            other = next((each for each in later if one.end is None or each.start < one.end), None)
            if other is not None:
                overlap = other.end is None or other.end > one.start
                how = "overlapped" if overlap else "came the other way round"
                raise InteractionOrderError(
                    f"{first} does not happen before {second}, these two {how}:\n  {one}\n  {other}{self._happened()}"
                )

    def assert_overlap(self, first: Selects, second: Selects) -> None:
        """Assert that some *first* and some *second* ran at the same time.

        Raises:
            InteractionOrderError: if each ended before the other began.
        """
        far = 1 << 62
        pairs = ((a, b) for a in self.calls(first) for b in self.calls(second) if a is not b)
        if not any(a.start < (b.end or far) and b.start < (a.end or far) for a, b in pairs):
            raise InteractionOrderError(f"{first} and {second} never ran at the same time{self._happened()}")

    def assert_never(self, pattern: Selects, **arguments: Any) -> None:
        """Assert that nothing matches.

        Raises:
            InteractionOrderError: listing what did.
        """
        found = self.calls(pattern, **arguments)
        if found:
            times = "once" if len(found) == 1 else f"{len(found)} times"
            shown = "".join(f"\n  {entry}" for entry in found[:20])
            raise InteractionOrderError(f"{select(pattern, **arguments)} should never happen, but did {times}:{shown}")

    def assert_sequence(self, patterns: Iterable[Selects], *, within: Selects = "*") -> None:
        """Assert that exactly these happened, in order of their start, and nothing else.

        Args:
            patterns: one for each interaction.
            within: look at these only, such as ``"kafka.*"``; events are left out unless named.

        Raises:
            InteractionOrderError: with a diff.
        """
        wanted = [select(pattern) for pattern in patterns]
        actual = [entry for entry in self.calls(within) if entry.state != "event" or any(one(entry) for one in wanted)]
        if len(wanted) == len(actual) and all(one(entry) for one, entry in zip(wanted, actual, strict=True)):
            return
        # A matching pair reads the same on both sides, so that the diff shows what differs.
        left = [str(one) for one in wanted]
        right = [next((str(one) for one in wanted if one(entry)), repr(entry)) for entry in actual]
        diff = "\n".join(f"  {line}" for line in difflib.ndiff(left, right) if line[0] != "?")
        raise InteractionOrderError(f"not this sequence (- expected, + happened):\n{diff}")

    def _happened(self) -> str:
        return f"\nwhat happened:\n{timeline(self)}"

    # -- export ----------------------------------------------------------------------

    def to_jsonl(self) -> str:
        """Return one JSON object a line, in order of start; values that are not JSON are bounded text."""
        return as_jsonl(self)

    def to_mermaid(self) -> str:
        """Return a mermaid sequence diagram of the calls of each double and their outcome."""
        return as_mermaid(self)

    def __str__(self) -> str:
        return timeline(self)
