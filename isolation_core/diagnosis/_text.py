"""Candidates as text: the lines beneath a failure."""

from __future__ import annotations

from collections.abc import Sequence

from isolation_core.diagnosis._candidates import Candidate

__all__ = ["render_candidates"]


def render_candidates(candidates: Sequence[Candidate]) -> list[str]:
    """Return the lines to print beneath a failure, none without candidates."""
    if not candidates:
        return []
    lines = []
    first = candidates[0]
    if first.likely and first.fate == "put back":
        lines.append(f"This test may pass only after {first.owner}, which left {first.path}. It is put back now:")
    else:
        lines.append("State that this test can see was changed before it; one of these may be the reason:")
    for candidate in candidates:
        left = f"{candidate.path}: {candidate.before} -> {candidate.after}"
        lines.append(f"  {left}, {candidate.fate} (by {candidate.owner})")
    lines.append("To compare: run this test alone, and the whole run once more with --isolation=off")
    return lines
