"""The probe protocol: one kind of process state, captured, compared, put back.

A probe is written as keyed state: a snapshot maps keys to values, a difference
names one key, and restoring sets one key. This lets nested barriers,
fixtures that arrive late and imports share one log of differences: the owner
of a difference undoes exactly its keys, whatever else moved in between.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, ClassVar

from attrs import field, frozen

from isolation_core._secrets import is_secret_name
from isolation_core.contamination._difference import MISSING, Difference, is_same_value
from isolation_core.contamination._rendering import bounded_repr
from isolation_core.findings import Severity

__all__ = ["Guard", "Probe"]


@frozen
class Guard:
    """Readings that prove, while they all stay the same, that a probe would find what it found before.

    Attributes:
        values: C functions that return builtin atoms, or tuples and lists of such; compared by value.
        objects: C functions that return iterables of anything; compared item by item, by identity.
        attributes: namespaces with names in them, whose values must be the same objects.
        dicts: dicts that must not have been written to. Not those of instances, whose attributes may live elsewhere.
        lists: lists and sets whose items must be the same.
        memory: views of memory that must not change.
    """

    values: tuple[Callable[[], Any], ...] = ()
    objects: tuple[Callable[[], Iterable[Any]], ...] = ()
    attributes: tuple[tuple[dict[str, Any], tuple[str, ...]], ...] = field(default=(), kw_only=True)
    dicts: tuple[dict[Any, Any], ...] = field(default=(), kw_only=True)
    lists: tuple[list[Any] | set[Any], ...] = field(default=(), kw_only=True)
    memory: tuple[memoryview, ...] = field(default=(), kw_only=True)


class Probe(ABC):
    """One kind of state a barrier watches. Subclass it, `register_probe` an instance.

    Only `capture` and `restore` have to be written; the other methods have
    defaults for snapshots that are mappings.

    Attributes:
        kind: stable word used in reports, ``ignore=`` and configuration.
        code: stable code of its findings.
        severity: the severity of a difference unless it has its own.
        cost: order of magnitude of one `capture`, in microseconds; cheap probes run first.
        process_wide: whether the state is shared by the whole process; state of
            one task (context variables) is compared even while barriers overlap.
        moved_by_runners: whether runners change it between two tests as a matter of course.
        tells_imports: whether it sees that modules were imported, which is not a fault.
        restores_targets: whether undoing it puts state of other kinds back as well, as stopping a patch
            does: it comes first.
        dies_with_context: whether the end of the context it was set in is its undoing.
    """

    kind: ClassVar[str]
    code: ClassVar[str] = "USR001"
    severity: ClassVar[Severity] = "leak"
    cost: ClassVar[float] = 1.0
    process_wide: ClassVar[bool] = True
    moved_by_runners: ClassVar[bool] = False
    tells_imports: ClassVar[bool] = False
    restores_targets: ClassVar[bool] = False
    dies_with_context: ClassVar[bool] = False

    @abstractmethod
    def capture(self) -> Any:
        """Return the state now, as a value that later changes cannot reach.

        It is called at every boundary of every test: microseconds count.
        Return the previous snapshot object itself when it is still true.
        """

    def guard(self) -> Guard | None:
        """Return readings that can replace the last call of `capture`, or None.

        While no reading of any probe has moved, `capture` is not called again.
        """
        return None

    def same(self, before: Any, after: Any) -> bool:
        """Return whether two snapshots are the same; must not call user code."""
        return before is after or not any(True for _ in self.diff(before, after))

    def diff(self, before: Any, after: Any) -> Iterable[Difference]:
        """Yield what moved from *before* to *after*, in a stable order."""
        older: Mapping[Hashable, Any] = before
        newer: Mapping[Hashable, Any] = after
        for key, value in older.items():
            now = newer.get(key, MISSING)
            if not is_same_value(value, now):
                yield Difference(key, before=value, after=now)
        for key, value in newer.items():
            if key not in older:
                yield Difference(key, before=MISSING, after=value)

    @abstractmethod
    def restore(self, key: Hashable, value: Any) -> None:
        """Give *key* its *value* again; `MISSING` means: remove it.

        Raises:
            Exception: anything; it is reported as ``unrecoverable`` and the
                next difference is undone all the same.
        """

    def agrees(self, key: Hashable, one: Any, other: Any) -> bool:
        """Return whether two values of *key* are the same for restoring; must not call user code."""
        if is_same_value(one, other):
            return True
        if type(one) is not type(other) or type(one) not in (tuple, list) or len(one) != len(other):
            return False
        return all(self.agrees(key, mine, yours) for mine, yours in zip(one, other, strict=True))

    def finish(self) -> None:
        """Called once after a batch of `restore`, for caches that must be invalidated."""

    def describe(self, key: Hashable) -> str:
        """Return the path of *key*, pasteable into Python where possible."""
        return f"{self.kind}[{key!r}]"

    def render(self, key: Hashable, value: Any) -> str:
        """Return bounded text of a *value* of *key*; secrets must not show."""
        return bounded_repr(value, secret=is_secret_name(self.describe(key)))
