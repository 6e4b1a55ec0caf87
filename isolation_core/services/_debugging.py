"""The calls and states of all doubles so far, for debugging a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isolation_core._ambient import current_barrier

if TYPE_CHECKING:
    from isolation_core.services._context import MockContext

__all__ = ["debug_cross_service_interactions"]


def debug_cross_service_interactions(mock_context: MockContext | None = None) -> dict[str, Any]:
    """Return everything known of the doubles of a context, as plain data and text. It changes nothing.

    Args:
        mock_context: the context; None: that of the current barrier.

    Returns:
        ``owner``, ``seed``, ``now`` (seconds on the virtual clock), ``services`` (for each: connected, problems,
        number of calls by operation), ``interactions`` (number, dropped, not ended, failed), ``faults`` (each rule,
        calls seen and hit), ``foreign_uses``, ``timeline`` and ``sequence_diagram`` (text). An empty ``services``
        outside of any barrier.
    """
    if mock_context is None:
        barrier = current_barrier()
        mock_context = None if barrier is None else barrier._services
    if mock_context is None:
        return {"owner": None, "services": {}, "interactions": {"total": 0}, "timeline": "  nothing"}
    log = mock_context.log
    services: dict[str, Any] = {}
    for name, double in mock_context.doubles.items():
        calls: dict[str, int] = {}
        for entry in log:
            if entry.double == name:
                calls[entry.operation] = calls.get(entry.operation, 0) + 1
        services[name] = {"connected": double.is_connected, "problems": list(double.problems()), "calls": calls}
    return {
        "owner": mock_context.owner,
        "seed": mock_context.seed,
        "now": mock_context.clock.now(),
        "services": services,
        "interactions": {
            "total": len(log),
            "dropped": log.dropped,
            "not_ended": [repr(entry) for entry in log if entry.end is None],
            "failed": [repr(entry) for entry in log if entry.error is not None],
        },
        "faults": [{"rule": str(rule), "seen": rule.seen, "fired": rule.fired} for rule in mock_context.faults.rules],
        "foreign_uses": list(mock_context.foreign_uses),
        "timeline": str(log),
        "sequence_diagram": log.to_mermaid(),
    }
