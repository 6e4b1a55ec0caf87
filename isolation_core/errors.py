"""Every exception of isolation-core: one base, each concrete one also a fitting builtin.

Messages say what happened, where, and what to do next; the facts they are made
of stay on the instance as fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from isolation_core.findings import Change, Leak

__all__ = [
    "CleanupError",
    "ConfigurationError",
    "ContaminationError",
    "GraphError",
    "GraphProblem",
    "IsolationError",
    "JournalError",
    "LifecycleClosedError",
    "SetupError",
    "SetupTimeout",
    "TeardownErrors",
    "TeardownTimeout",
]


class IsolationError(Exception):
    """Base of everything isolation-core raises on purpose."""


class ConfigurationError(IsolationError, ValueError):
    """A mode, option or configuration key is not one we know.

    Attributes:
        name: the offending key or option.
        value: what was given.
    """

    def __init__(self, message: str, *, name: str, value: object = None) -> None:
        super().__init__(message)
        self.name = name
        self.value = value


class ContaminationError(IsolationError, AssertionError):
    """Raised by a barrier in mode ``strict`` when something leaked out of it.

    Attributes:
        owner: who is responsible: a test id, or the barrier's group.
        changes: the `Change` objects above severity ``note``.
        leaks: the `Leak` objects above severity ``note``.
    """

    def __init__(self, owner: str, changes: Sequence[Change], leaks: Sequence[Leak]) -> None:
        self.owner = owner
        self.changes = tuple(changes)
        self.leaks = tuple(leaks)
        lines = [f"  {finding}" for finding in (*self.changes, *self.leaks)]
        super().__init__(
            f"{owner} left {len(lines)} thing(s) behind:\n" + "\n".join(lines) + "\n"
            "Undo them in the code under test, put the undo in barrier.on_cleanup(), "
            "or allow them with ignore=('kind:path-glob',)."
        )


class JournalError(IsolationError, ValueError):
    """A journal cannot be read: it is missing, something else, or of another version.

    Attributes:
        path: the file or directory in question.
    """

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


@frozen
class GraphProblem:
    """One thing that is wrong with a dependency graph.

    Attributes:
        code: stable code, ``"ISO001"`` a cycle, ``"ISO002"`` a missing name, ``"ISO003"`` a scope
            inversion, ``"ISO004"`` a name defined twice.
        message: what is wrong, drawn over several lines where that helps, with ``file:line`` of each node.
        nodes: the names involved, in the order of the drawing.
    """

    code: str
    message: str
    nodes: tuple[str, ...] = field(kw_only=True)

    def __str__(self) -> str:
        return f"{self.code} {self.message}"


class GraphError(IsolationError, ValueError):
    """A dependency graph cannot be set up; nothing has been started.

    Attributes:
        problems: every `GraphProblem` found, not only the first.
    """

    def __init__(self, problems: Sequence[GraphProblem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        headline = f"{count} problem{'s' if count != 1 else ''} in the dependency graph, nothing was set up:"
        super().__init__("\n\n".join([headline, *map(str, self.problems)]))


class LifecycleClosedError(IsolationError, RuntimeError):
    """Something was to be set up or registered after the teardown of its owner.

    Attributes:
        owner: whose lifecycle it was.
    """

    def __init__(self, owner: str, action: str) -> None:
        self.owner = owner
        super().__init__(
            f"cannot {action}: {owner or 'this lifecycle'} has been torn down already; do it before the barrier ends"
        )


class SetupError(IsolationError, RuntimeError):
    """A node could not be set up for a reason that is not an exception of its own.

    Attributes:
        node: name of the node.
    """

    def __init__(self, node: str, message: str) -> None:
        self.node = node
        super().__init__(message)


class SetupTimeout(IsolationError, TimeoutError):
    """The set-up of a node took longer than its ``setup_timeout`` and was cancelled.

    Attributes:
        node: name of the node.
        timeout: the budget, in seconds.
    """

    def __init__(self, node: str, timeout: float) -> None:
        self.node = node
        self.timeout = timeout
        super().__init__(
            f"the set-up of {node!r} did not finish within {timeout:g} s and was cancelled; "
            "find out what it waits for, or raise its setup_timeout"
        )


class CleanupError(IsolationError, RuntimeError):
    """A cleanup ended in a way that is not an `Exception`, or could not be run where it belongs.

    The original, if there is one, is the ``__cause__``.

    Attributes:
        node: name of the node or cleanup.
    """

    def __init__(self, node: str, message: str) -> None:
        self.node = node
        super().__init__(message)


class TeardownTimeout(IsolationError, TimeoutError):
    """A cleanup took longer than its budget; the cleanups after it ran all the same.

    Attributes:
        node: name of the node or cleanup.
        timeout: the budget, in seconds.
        interrupted: whether it was cancelled; blocking code cannot be, it was let finish.
    """

    def __init__(self, node: str, timeout: float, *, interrupted: bool) -> None:
        self.node = node
        self.timeout = timeout
        self.interrupted = interrupted
        fate = "was cancelled" if interrupted else "blocked until it ended by itself"
        super().__init__(
            f"the cleanup of {node!r} did not finish within {timeout:g} s and {fate}; "
            "find out what it waits for, or raise its timeout"
        )


class TeardownErrors(IsolationError, ExceptionGroup[Exception]):
    """Every error of one teardown, in the order they happened; a group also when it is only one.

    Each leaf has a note naming the node, its scope, where it was defined and who used it.
    """

    def derive(self, excs: Sequence[Exception], /) -> TeardownErrors:  # type: ignore[override]
        """Return a group of the same type, so that `split` and ``except*`` keep it."""
        return TeardownErrors(self.message, excs)
