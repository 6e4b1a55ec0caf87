"""Packages that were to be watched and that nobody ever loaded: most often a name with a slip in it."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Iterable

from isolation_core.contamination._first_party import EVERY

__all__ = ["absent_packages"]


def absent_packages(packages: Iterable[str] | None) -> dict[str, str]:
    """Return those of *packages* that are not loaded and cannot be found either, each with a text about it.

    One that exists and was not needed in this run is none of them. Imports nothing.
    """
    named = (name for name in packages or () if name != EVERY)
    return {name: _text(name) for name in named if name not in sys.modules and not _exists(name)}


def _exists(name: str) -> bool:
    above = name.rpartition(".")[0]
    if above and above not in sys.modules:
        # Looking for it would import what is above it.
        return _exists(above)
    try:
        return importlib.util.find_spec(name) is not None
    except Exception:  # a finder of somebody else's, on a name that is not there
        return False


def _text(name: str) -> str:
    inner = "." in name
    loaded = sorted({each if inner else each.partition(".")[0] for each in tuple(sys.modules)})
    near = difflib.get_close_matches(name, loaded, 1)
    hint = f"did you mean {near[0]!r}?" if near else "name a package your tests import"
    return f"there is no package {name!r}, so nothing of it was watched; {hint}"
