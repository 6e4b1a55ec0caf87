"""Suggestions: the one place that finds the name that was meant, for "did you mean ...?"."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest", "nearest_few"]


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the one of *known* that is most like *name*, None if none is at all.

    Args:
        name: the name that was written.
        known: the names there are.
        cutoff: how alike two names must be, from 0 (anything) to 1 (the same).
    """
    found = nearest_few(name, known, limit=1, cutoff=cutoff)
    return found[0] if found else None


def nearest_few(name: str, known: Iterable[str], *, limit: int = 3, cutoff: float = 0.6) -> list[str]:
    """Return at most *limit* of *known*, the one most like *name* first; see `nearest`."""
    # Imported late: only a mistake needs it.
    from difflib import get_close_matches

    return get_close_matches(name, list(known), limit, cutoff)


def did_you_mean(name: str, known: Iterable[str], *, before: str = "", otherwise: str = "", cutoff: float = 0.6) -> str:
    """Return *before* and ``did you mean 'x'?``, with the nearest of *known*; *otherwise* if none is near."""
    found = nearest(name, known, cutoff=cutoff)
    return otherwise if found is None else f"{before}did you mean {found!r}?"
