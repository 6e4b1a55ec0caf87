"""Rules across services, held against the log when an orchestration or a scenario ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from isolation_core.services._interactions import Interaction, InteractionLog

__all__ = ["ServiceRule", "commit_before_publish", "no_publish_on_rollback", "one_reply_per_request"]

ServiceRule = Callable[["InteractionLog"], Iterable[str] | None]
"""Looks at the log: returns or yields one sentence for each violation, or raises `AssertionError`."""

_PUBLISHES: Final = frozenset({"publish", "send", "send_and_wait", "send_event", "send_message", "basic_publish"})
_ENDS: Final = frozenset({"commit", "rollback"})


def _published(entry: Interaction) -> bool:
    return entry.operation in _PUBLISHES and entry.state != "event" and entry.service != "http"


def _transactions(log: InteractionLog) -> Iterator[tuple[Interaction, Interaction, list[Interaction]]]:
    """Yield beginning and end of each transaction, and what its task published meanwhile on other services.

    Doubles record ``begin``, ``commit`` and ``rollback`` with the number of the transaction.
    """
    running: dict[tuple[str, object], tuple[Interaction, list[Interaction]]] = {}
    for entry in log:
        if entry.state == "event" and entry.operation == "begin":
            running[entry.double, entry.kwargs.get("transaction")] = entry, []
        elif entry.state == "event" and entry.operation in _ENDS:
            begun = running.pop((entry.double, entry.kwargs.get("transaction")), None)
            if begun is not None:
                yield begun[0], entry, begun[1]
        elif _published(entry):
            for begin, published in running.values():
                if begin.task == entry.task and begin.double != entry.double:
                    published.append(entry)


def no_publish_on_rollback(log: InteractionLog) -> Iterator[str]:
    """Nothing is published inside a transaction that is rolled back later, because a message cannot be taken back."""
    for begin, end, published in _transactions(log):
        if end.operation == "rollback":
            for entry in published:
                if entry.state == "returned":
                    yield f"{entry} was published in the transaction of {begin}, rolled back by {end}"


def commit_before_publish(log: InteractionLog) -> Iterator[str]:
    """Messages of a transaction are published after it is committed, not before."""
    for begin, end, published in _transactions(log):
        for entry in published:
            if entry.state == "returned":
                yield f"{entry} was published before the transaction of {begin} ended with {end}"


def one_reply_per_request(log: InteractionLog) -> Iterator[str]:
    """Every request has ended, one way or another."""
    for entry in log:
        if entry.operation == "request" and entry.end is None:
            yield f"{entry} has no reply"
