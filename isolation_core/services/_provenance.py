"""Owners of messages: values that doubles hand out and that are not client objects, such as the records of Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import ref

if TYPE_CHECKING:
    from isolation_core.services._double import ServiceDouble

__all__ = ["mark_message", "sender_of"]

T = TypeVar("T")


class _Mark(ref[Any]):
    """A weak reference to a message that knows the double it comes from."""

    __slots__ = ("double", "key")
    double: ServiceDouble
    key: int


# By identity: messages may be equal, and need not be hashable. An entry goes when its message does.
_marks: Final[dict[int, _Mark]] = {}


def _forget(mark: _Mark) -> None:
    # The number may have been given to another message meanwhile.
    if _marks.get(mark.key) is mark:
        del _marks[mark.key]


def mark_message(message: T, double: ServiceDouble) -> T:
    """Remember, as long as *message* lives, that it comes from *double*; return it."""
    mark = _Mark(message, _forget)
    mark.double = double
    mark.key = id(message)
    _marks[mark.key] = mark
    return message


def sender_of(value: object) -> ServiceDouble | None:
    """Return the double that *value* comes from as a message, if it does."""
    mark = _marks.get(id(value))
    return None if mark is None or mark() is not value else mark.double
