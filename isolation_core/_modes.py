"""The four modes, where both the barrier and the settings find them."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Mode"]

Mode: TypeAlias = Literal["off", "report", "restore", "strict"]
"""``off``: do nothing; ``report``: look, change nothing; ``restore``: put back;
``strict``: put back, then raise `isolation_core.errors.ContaminationError`."""
