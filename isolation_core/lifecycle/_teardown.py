"""Pending cleanups, and the outcome of those that ran."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from isolation_core._shapes import definition_site
from isolation_core.errors import CleanupError, TeardownErrors

if TYPE_CHECKING:
    from isolation_core.graph import Node
    from isolation_core.lifecycle._owner import Owner

__all__ = ["GRACE", "Entry", "Outcome", "Run", "State", "both", "caused_by"]

State: TypeAlias = Literal["up", "tearing down", "down"]

GRACE = 1.0
"""Seconds each remaining cleanup may take after a second interrupt."""


class Entry:
    """A node that is up, or a cleanup that is pending.

    Attributes:
        name: its name in reports.
        node: the node, or None for a plain cleanup.
        timeout: its budget in seconds, or None for that of the lifecycle.
        finish: what undoes it: a callback, or a finisher of its kind, or None.
        context: the variables its set-up ran with and its teardown will run with.
        owner: the task that holds it, when it has one of its own.
        in_portal: whether that task lives in the portal of a synchronous lifecycle.
        scope: the cancel scope around it in the task that set it up.
        task: that task, where there is a scope.
        users: the names of its other users.
    """

    __slots__ = (
        "context", "finish", "in_portal", "name", "node", "owner", "scope", "since", "state", "task", "timeout",
        "users",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        finish: Callable[..., Any] | None,
        timeout: float | None = None,
        *,
        node: Node | None = None,
        context: Context | None = None,
        owner: Owner | None = None,
    ) -> None:
        self.name = name
        self.finish = finish
        self.timeout = timeout
        self.node = node
        self.context = context
        self.owner = owner
        self.in_portal = False
        self.scope: Any = None
        self.task: object = None
        self.users: list[str] | None = None
        self.state: State = "up"
        self.since = perf_counter()

    def describe(self, owner: str, users: tuple[str, ...]) -> str:
        """Return the note that an error of this cleanup carries; *users* come beside the recorded ones."""
        for_whom = f", set up for {owner}" if owner else ""
        if self.node is None:
            site = definition_site(self.finish) if self.finish is not None else "<unknown>"
            whose = f" of {owner}" if owner else ""
            return f"while running the cleanup {self.name!r}{whose}, defined at {site}"
        everybody = ", ".join(dict.fromkeys((*users, *(self.users or ()))))
        used = f", used by {everybody}" if everybody else ""
        return (
            f"while tearing down {self.name!r} ({self.node.scope} scope, defined at {self.node.defined_at}"
            f"{for_whom}{used})"
        )


class Run:
    """The teardown of one entry while it goes on.

    Attributes:
        budget: in seconds.
        errors: how many errors there were before it.
        interrupts: how many interrupts there were before it.
        began: when, by `perf_counter`.
        cut_short: whether it was cancelled when its budget had run out.
    """

    __slots__ = ("began", "budget", "cut_short", "errors", "interrupts")

    def __init__(self, budget: float, errors: int, interrupts: int) -> None:
        self.budget = budget
        self.errors = errors
        self.interrupts = interrupts
        self.cut_short = False
        self.began = perf_counter()


class Outcome:
    """Collects what the cleanups of one teardown raise, and settles it at the end.

    Attributes:
        errors: the leaves, in the order they happened.
        interrupts: every KeyboardInterrupt and SystemExit.
        cancelled: a cancellation that arrived during the teardown and has to be passed on.
        crashed: whether the background of a node cancelled the body.
        held_off: native cancellations that were kept from the cleanups.
        task: the task that tears down, if one does.
    """

    __slots__ = (
        "_describe", "body_error", "cancelled", "crashed", "errors", "held_off", "interrupts", "owner", "task",
    )  # fmt: skip

    def __init__(self, owner: str, body_error: BaseException | None, describe: Callable[[Entry], str]) -> None:
        self.owner = owner
        self.body_error = body_error
        self._describe = describe
        self.errors: list[Exception] = []
        self.interrupts: list[BaseException] = []
        self.cancelled: BaseException | None = None
        self.crashed = False
        self.held_off: list[BaseException] = []
        self.task: object = None

    def add(self, entry: Entry | None, error: BaseException) -> None:
        """Record *error* of *entry*, or of something between two cleanups when that is None."""
        if error is self.body_error:
            return
        note = self._describe(entry) if entry is not None else "between two cleanups"
        _annotate(error, note)
        rest: BaseException | None = error
        if isinstance(error, KeyboardInterrupt | SystemExit):
            self.interrupts.append(error)
            return
        if isinstance(error, BaseExceptionGroup) and not isinstance(error, Exception):
            # A task group wraps what came out of it, an interrupt too.
            interrupts, rest = error.split((KeyboardInterrupt, SystemExit))
            self.interrupts += _leaves(interrupts)
        if isinstance(rest, Exception):
            self.errors.append(rest)
        elif rest is not None:
            # An exception group of the Exception kind takes no other leaf; test
            # outcomes of pytest, generator exits and stray cancellations are such.
            name = entry.name if entry is not None else "teardown"
            wrapped = CleanupError(name, f"the cleanup of {name!r} ended with {type(rest).__name__}: {rest}")
            wrapped.__cause__ = rest
            wrapped.add_note(note)
            self.errors.append(wrapped)

    def begin(self, entry: Entry, default: float | None) -> Run:
        """Mark *entry* as being torn down, with *default* seconds unless it has a budget of its own."""
        own = entry.timeout if entry.timeout is not None else default
        budget = inf if own is None else own
        entry.state = "tearing down"
        return Run(min(budget, GRACE) if len(self.interrupts) > 1 else budget, len(self.errors), len(self.interrupts))

    def has_grown_since(self, run: Run) -> bool:
        """Return whether anything was recorded since the beginning of *run*."""
        return len(self.errors) > run.errors or len(self.interrupts) > run.interrupts

    def seen_by(self, entry: Entry) -> BaseException | None:
        """Return the error of the body, if *entry* wants it thrown in."""
        return self.body_error if entry.node is not None and entry.node.sees_errors else None

    def conclude(self) -> None:
        """Raise what has to be raised; return when the error of the body, if any, is all there is.

        Raises:
            asyncio.CancelledError: one that arrived during the teardown, if nothing failed but the body.
            KeyboardInterrupt, SystemExit: the first that was remembered, caused by everything else.
            TeardownErrors: if only cleanups failed.
            BaseExceptionGroup: the error of the body, a cancellation that arrived later,
                and the `TeardownErrors`, as far as there are any, in this order.
        """
        body = self.body_error
        group = TeardownErrors(self._headline(), self.errors) if self.errors else None
        interrupts = self.interrupts
        primary: list[BaseException] = []
        if isinstance(body, KeyboardInterrupt | SystemExit):
            interrupts = [body, *interrupts]
        # A generator that is closed has not failed.
        elif body is not None and not isinstance(body, GeneratorExit):
            primary.append(body)
        if self.cancelled is not None:
            primary.append(self.cancelled)
        if group is None and not self.interrupts and self.cancelled is None:
            return
        if interrupts:
            raise caused_by(interrupts[0], _combine([*primary, *interrupts[1:]], group))
        if group is None and self.cancelled is not None:
            raise caused_by(self.cancelled, body)
        together = _combine(primary, group)
        assert together is not None
        raise together from None

    def _headline(self) -> str:
        count = len(self.errors)
        return f"{count} cleanup{'s' if count != 1 else ''} failed{f' after {self.owner}' if self.owner else ''}"


def _annotate(error: BaseException, note: str) -> None:
    """Add *note* to every leaf of *error*."""
    if isinstance(error, BaseExceptionGroup):
        for leaf in error.exceptions:
            _annotate(leaf, note)
    elif note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def _leaves(error: BaseException | None) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for member in error.exceptions for leaf in _leaves(member)]
    return [error] if error is not None else []


def _combine(primary: list[BaseException], group: TeardownErrors | None) -> BaseException | None:
    parts = [*primary, *([group] if group is not None else [])]
    if len(parts) > 1:
        rest = "and cleanups failed after it" if group is not None else "and then it was interrupted"
        return BaseExceptionGroup(f"the body failed, {rest}", parts)
    return parts[0] if parts else None


def caused_by(error: BaseException, cause: BaseException | None) -> BaseException:
    """Return *error* with *cause* at the end of its chain of causes, so that no cause it has is lost."""
    if cause is not None and cause is not error:
        last = error
        while last.__cause__ is not None and last.__cause__ is not cause:
            last = last.__cause__
        if last is not cause:
            last.__cause__ = cause
    return error


def both(first: BaseException | None, second: BaseException) -> BaseException:
    """Return one error that holds both, the earlier first; a control-flow error wins alone."""
    if first is None:
        return second
    if not isinstance(first, Exception) or not isinstance(second, Exception):
        winner, other = (first, second) if not isinstance(first, Exception) else (second, first)
        winner.__context__ = winner.__context__ or other
        return winner
    leaves = [*(first.exceptions if isinstance(first, ExceptionGroup) else [first])]
    leaves += second.exceptions if isinstance(second, ExceptionGroup) else [second]
    if isinstance(first, ExceptionGroup):
        return first.derive(leaves)
    return ExceptionGroup(str(first), leaves)
