"""Two values side by side: texts that show where they differ, however long they are."""

from __future__ import annotations

from collections.abc import Sequence

from isolation_core.contamination._difference import is_same_value
from isolation_core.contamination._rendering import bounded_repr

__all__ = ["told_apart"]


def told_apart(before: object, after: object, text: str) -> tuple[str, str]:
    """Return texts that show where two values differ whose bounded text is the same *text*.

    Long text and sequences are cut around the first difference. Text that looks like a credential is not cut.
    """
    kind = type(before)
    if kind is type(after) and not text.startswith("<"):
        if isinstance(before, (str, bytes)) and isinstance(after, (str, bytes)):
            if before == after:
                return text, f"{text} (another, equal object)"
            at = _first_difference(before, after)
            return _window(before, at), _window(after, at)
        if kind in (list, tuple) and isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
            at = _first_difference(before, after)
            one, other = _item_at(before, at), _item_at(after, at)
            if one != other:
                return one, other
    return text, f"{text} (another object)"


def _first_difference(before: Sequence[object], after: Sequence[object]) -> int:
    # By identity, except for exact atoms: a comparison of two objects may be user code.
    pairs = enumerate(zip(before, after, strict=False))
    return next((at for at, (one, other) in pairs if not is_same_value(one, other)), min(len(before), len(after)))


def _window(value: str | bytes, at: int) -> str:
    start = max(0, at - 12)
    return f"{'...' if start else ''}{value[start : at + 28]!r}... ({len(value)} long, at {at})"


def _item_at(value: Sequence[object], at: int) -> str:
    item = bounded_repr(value[at], 60) if at < len(value) else "<absent>"
    return f"{item} at [{at}] of {len(value)}"
