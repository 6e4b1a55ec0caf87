"""One value that moved, and what counts as the same value."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

from attrs import field, frozen

from isolation_core.contamination._rendering import register_placeholder
from isolation_core.findings import Severity

__all__ = ["MISSING", "Difference", "is_same_value"]


class _Missing:
    """The value of a key that is not there."""

    def __repr__(self) -> str:
        return "<absent>"


MISSING: Final = _Missing()
register_placeholder(_Missing)

_ATOMS = frozenset({int, float, complex, str, bytes, bool, type(None)})


def is_same_value(before: object, after: object) -> bool:
    """Return whether two values are the same for restoring, never calling user code.

    Identity decides; only exact builtin atoms of one type are also compared by
    value, because rebinding ``5000`` to another ``5000`` is not pollution.
    """
    if before is after:
        return True
    kind = type(before)
    if kind is not type(after) or kind not in _ATOMS:
        return False
    # A NaN differs from itself and -0.0 equals 0.0: their text tells the truth.
    return repr(before) == repr(after) if kind in (float, complex) else before == after


@frozen
class Difference:
    """One key whose value moved between two snapshots, of a probe or of an object.

    Attributes:
        key: names the place within the probe or the object.
        before: the older value, or `MISSING`.
        after: the newer value, or `MISSING`.
        severity: overrides what the probe or object says for this one slot.
    """

    key: Hashable
    before: Any = field(kw_only=True)
    after: Any = field(kw_only=True)
    severity: Severity | None = field(default=None, kw_only=True)
