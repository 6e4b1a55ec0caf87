"""The log: one small record for each call of a double, numbered when it starts and when it ends.

Two numbers instead of one decide what plain call order cannot say of
asynchronous code: "a had ended before b began", "a and b overlapped".
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from isolation_core.services._queries import Queries
from isolation_core.services._snapshots import SNAPSHOTS, Snapshot

if TYPE_CHECKING:
    from isolation_core.services._operations import Operable

__all__ = ["Interaction", "InteractionLog", "State"]

State = Literal["called", "pending", "returned", "raised", "cancelled", "event"]
"""``called`` and not awaited yet; ``pending``: awaited and not done; how it ended; ``event``: told by the double."""

LIMIT: Final = 100_000


class Interaction:
    """One call of an operation, or one event of a double.

    Attributes:
        start: sequence number of its beginning, unique within the log.
        end: sequence number of its end; None while it is not over.
        service: such as ``"kafka"``.
        double: the name of the double, by default that of the service.
        operation: such as ``"send_event"``.
        client: label of the client object it was called on; empty for the double itself.
        args: positional arguments, by the snapshot policy of the operation.
        kwargs: keyword arguments, likewise.
        state: see `State`.
        at: when it started, in seconds on the virtual clock.
        until: when it ended.
        task: name of the task that called.
        error: its exception, as ``Type: text``; None otherwise.
        error_type: its class.
        fault: the fault that a plan injected; None otherwise.
    """

    __slots__ = (
        "args", "at", "client", "double", "end", "error", "error_type", "fault", "kwargs", "operation", "service",
        "signature", "start", "state", "task", "until",
    )  # fmt: skip

    def __init__(
        self,
        start: int,
        service: str,
        double: str,
        operation: str,
        client: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        at: float,
        task: str | None,
        signature: Callable[[], inspect.Signature] | None,
    ) -> None:
        self.start = start
        self.service = service
        self.double = double
        self.operation = operation
        self.client = client
        self.args = args
        self.kwargs = kwargs
        self.at = at
        self.task = task
        self.signature = signature
        self.state: State = "called"
        self.end: int | None = None
        self.until: float | None = None
        self.error: str | None = None
        self.error_type: type[BaseException] | None = None
        self.fault: str | None = None

    @property
    def name(self) -> str:
        """``service.operation``."""
        return f"{self.service}.{self.operation}"

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name, defaults included, however they were passed."""
        if self.signature is None:
            return dict(self.kwargs)
        bound = self.signature().bind_partial(*self.args, **self.kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def __repr__(self) -> str:
        shown = [repr(arg) for arg in self.args] + [f"{name}={value!r}" for name, value in self.kwargs.items()]
        text = ", ".join(word if len(word) <= 80 else f"{word[:77]}..." for word in shown)
        ending = (
            f" -> {self.error}" if self.error else "" if self.state in ("returned", "event") else f" ({self.state})"
        )
        return f"#{self.start} {self.name}({text}){ending}"


class InteractionLog(Queries):
    """Everything the doubles of one `MockContext` were asked, in order.

    Args:
        limit: how many interactions are kept; the oldest go first, and `dropped` counts them.

    Attributes:
        dropped: how many were let go.
    """

    __slots__ = ("_entries", "_sequence", "doubles", "dropped")

    def __init__(self, *, limit: int = LIMIT) -> None:
        self._entries: deque[Interaction] = deque(maxlen=limit)
        self._sequence = 0
        self.dropped = 0
        self.doubles: dict[str, dict[type[Operable], None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Interaction]:
        return iter(tuple(self._entries))

    @overload
    def __getitem__(self, index: int) -> Interaction: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Interaction, ...]: ...
    def __getitem__(self, index: int | slice) -> Interaction | tuple[Interaction, ...]:
        return tuple(self._entries)[index] if isinstance(index, slice) else self._entries[index]

    def __repr__(self) -> str:
        return f"<InteractionLog of {len(self)} interactions>"

    def clear(self) -> None:
        """Forget everything; the numbers go on."""
        self._entries.clear()
        self.dropped = 0

    # -- recording, by the doubles -------------------------------------------------

    def begin(
        self,
        service: str,
        double: str,
        operation: str,
        client: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        at: float,
        signature: Callable[[], inspect.Signature] | None = None,
    ) -> Interaction:
        """Record that a call has started."""
        self._sequence = start = self._sequence + 1
        entries = self._entries
        if len(entries) == entries.maxlen:
            self.dropped += 1
        entry = Interaction(start, service, double, operation, client, args, kwargs, at, task_name(), signature)
        entries.append(entry)
        return entry

    def finish(self, entry: Interaction, at: float, error: BaseException | None = None) -> None:
        """Record how *entry* ended; of an error only its class and text are kept."""
        self._sequence = entry.end = self._sequence + 1
        entry.until = at
        if error is None:
            entry.state = "returned"
            return
        entry.state = "cancelled" if is_cancellation(error) else "raised"
        entry.error_type = type(error)
        text = str(error)
        entry.error = f"{type(error).__name__}: {text}" if text else type(error).__name__


def snapshot_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], policy: Snapshot
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments as the log is to keep them."""
    if policy == "reference":
        return args, kwargs
    keep = SNAPSHOTS[policy]
    return tuple(map(keep, args)), {name: keep(value) for name, value in kwargs.items()} if kwargs else kwargs


def is_cancellation(error: BaseException) -> bool:
    """Return whether *error* is a cancellation of asyncio or trio."""
    if isinstance(error, asyncio.CancelledError):
        return True
    trio = sys.modules.get("trio")
    return trio is not None and isinstance(error, trio.Cancelled)


def task_name() -> str | None:
    """Return the name of the running task, or None outside of an event loop."""
    if asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
        return None if task is None else task.get_name()
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            name: str = trio.lowlevel.current_task().name
        except RuntimeError:
            return None
        return name
    return None
