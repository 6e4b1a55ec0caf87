"""`fault_matrix`: the same workload again and again, failing at its first call, its second, its third..."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from attrs import field, frozen

from isolation_core.errors import FaultMatrixError
from isolation_core.services._context import MockContext
from isolation_core.services._fault_actions import FaultAction, fail
from isolation_core.services._selectors import Selects

if TYPE_CHECKING:
    from isolation_core.findings import Leak

__all__ = ["FaultCase", "FaultMatrix", "fault_matrix"]


@frozen
class FaultCase:
    """One run.

    Attributes:
        number: which call the fault was at, from 1; 0 for the run without a fault.
        call: that call as text; empty for the run without.
        error: the exception of the workload, as text; None if it handled the fault.
        violation: the `AssertionError` of the check, None if it held.
        sequence: a mermaid diagram of the run, when the check failed.
    """

    number: int
    call: str
    error: str | None = field(kw_only=True)
    violation: AssertionError | None = field(kw_only=True)
    sequence: str = field(kw_only=True, default="", repr=False)

    def __str__(self) -> str:
        where = f"{self.number:>3}. {self.call}" if self.number else "  -. no fault"
        ending = f"   workload raised {self.error}" if self.error else ""
        verdict = "ok" if self.violation is None else f"VIOLATED: {str(self.violation).partition(chr(10))[0]}"
        return f"{where}   {verdict}{ending}"


@frozen
class FaultMatrix:
    """All runs.

    Attributes:
        cases: one for each call of the workload, and one without a fault.
    """

    cases: tuple[FaultCase, ...]

    @property
    def violations(self) -> tuple[FaultCase, ...]:
        """The runs after which the check failed."""
        return tuple(case for case in self.cases if case.violation is not None)

    def __str__(self) -> str:
        return "\n".join(map(str, self.cases))

    def assert_holds(self) -> None:
        """Assert that the check held after every run.

        Raises:
            FaultMatrixError: with the whole table, and the sequence of the first run that failed.
        """
        if self.violations:
            raise FaultMatrixError(str(self), len(self.violations), len(self.cases), self.violations[0].sequence)


async def fault_matrix(
    workload: Callable[[MockContext], Awaitable[object]],
    check: Callable[[MockContext], Awaitable[object] | object],
    *,
    on: Selects = "*",
    action: FaultAction | None = None,
    limit: int = 1000,
) -> FaultMatrix:
    """Run *workload* once for each of its calls, with a fault at that call, and *check* after each run.

    The workload may raise to signal that it did not succeed. The check asserts what must
    hold nevertheless; it runs without faults, on the same doubles.

    Args:
        workload: makes doubles in the context it is given (each run has a fresh one) and uses them.
        check: looks at what is left; sync or async; an `AssertionError` is a violation.
        on: at which calls; setting up is best left out by naming operations, such as ``"kafka.send*"``.
        action: what goes wrong; by default ``fail("unavailable")``.
        limit: stop after so many runs.

    Returns:
        The outcome of each run. Nothing is raised for a violation; see `FaultMatrix.assert_holds`.
    """
    fault = action or fail()
    cases: list[FaultCase] = []
    for number in range(1, limit + 1):
        # A workload that was made to fail leaves things open: that is not a finding.
        async with MockContext(f"fault matrix, call {number}", report=_overlook) as context:
            rule = context.faults.add(on, fault, nth=number, optional=True)
            error: str | None = None
            try:
                await workload(context)
            except Exception as raised:
                error = f"{type(raised).__name__}: {raised}"
                if not rule.fired:
                    raise
            context.faults.clear()
            hit = next((entry for entry in context.log if entry.fault is not None), None)
            sequence = context.log.to_mermaid()
            violation: AssertionError | None = None
            try:
                result = check(context)
                if inspect.isawaitable(result):
                    await result
            except AssertionError as failed:
                violation = failed
        call = "" if hit is None else f"{hit.name}{f' by {hit.client}' if hit.client else ''}"
        case = FaultCase(
            number if rule.fired else 0, call, error=error, violation=violation, sequence=sequence if violation else ""
        )
        cases.append(case)
        if not rule.fired:
            break
    return FaultMatrix(tuple(cases))


def _overlook(_leak: Leak) -> None:
    """Report nothing."""
