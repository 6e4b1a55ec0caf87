"""The meaning of a finding's code, and advice."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isolation_core.codes import FindingCode

__all__ = ["explain"]


def explain(code: str) -> FindingCode | None:
    """Return what is known about *code*, None for a code that is not described.

    Args:
        code: the stable code of a finding, such as ``"ENV001"``; letter case does not matter.
    """
    # Imported late: the table is long, and a run without findings needs none of it.
    from isolation_core.codes import CODES

    return CODES.get(code.upper())
