"""Misspelled assertions: ``m.awaited_once()`` must not pass because a mock has every attribute."""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import Final
from unittest.mock import AsyncMock

from isolation_core.errors import MisspelledAssertionError

__all__ = ["refuse_misspelled"]

_assertions: Final = tuple(name for name in dir(AsyncMock) if name.startswith("assert_"))
_prefixes: Final = ("assert", "assret", "asert", "aseert", "assrt")


def _variations() -> frozenset[str]:
    """Every assertion without its prefix, in the spellings people use."""
    bare = {name.removeprefix("assert_") for name in _assertions}
    # ``has_awaits`` -> ``has_awaited``; ``awaited_once`` -> ``await_once``; ``any_call`` -> ``any_called``.
    for old, new in (
        ("called", "call"), ("awaited", "await"), ("call", "called"), ("await", "awaited"),
        ("calls", "call"), ("awaits", "await"), ("calls", "called"), ("awaits", "awaited"),
    ):  # fmt: skip
        bare |= {"_".join(new if word == old else word for word in name.split("_")) for name in tuple(bare)}
    bare |= {f"{verb}_{name}" for verb in ("is", "was") for name in tuple(bare) if name.startswith(("call", "await"))}
    # Plain verbs and nouns are attributes people mock.
    return frozenset(bare - {"call", "await", "called", "calls", "awaits"})


_bare: Final = _variations()


@lru_cache(maxsize=4096)
def _meant(name: str) -> str | None:
    """Return the assertion *name* looks like, or None."""
    if name.startswith(_prefixes) or name in _bare or name == "awaited":
        close = difflib.get_close_matches(f"assert_{name}" if name in _bare else name, _assertions, 1, 0.0)
        return close[0]
    if "call" in name or "await" in name:
        close = difflib.get_close_matches(name, _assertions, 1, 0.88)
        return close[0] if close else None
    return None


def refuse_misspelled(name: str) -> None:
    """Raise when *name* is no attribute anybody mocks but an assertion written wrongly.

    Raises:
        MisspelledAssertionError: naming the assertion that was probably meant.
    """
    meant = _meant(name)
    if meant is not None:
        raise MisspelledAssertionError(name, meant)
