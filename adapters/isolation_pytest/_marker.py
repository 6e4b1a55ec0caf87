"""The marker ``isolation``: read for each test, and checked before the first test runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pytest
from attrs import frozen

from isolation_core import isolation_barrier
from isolation_core.errors import ConfigurationError

__all__ = ["MarkerOptions", "find_mistakes", "read_marker"]

_KNOWN: Final = ("mode", "group", "ignore")


@frozen
class MarkerOptions:
    """The marker's settings for one test.

    Attributes:
        mode: the mode, None for that of the session.
        group: the isolation group, None for the default one.
        ignore: patterns beside those of the session.
    """

    mode: Any = None
    group: str | None = None
    ignore: tuple[str, ...] = ()


def read_marker(item: pytest.Item) -> MarkerOptions:
    """Return what the marker nearest to *item* says; mistakes in it are left out.

    A test with a mistake in its marker fails on it, so that nothing depends on what is returned then.
    """
    marker = item.get_closest_marker("isolation")
    if marker is None or _mistake(marker) is not None:
        return MarkerOptions()
    return _options(marker)


def find_mistakes(items: Iterable[pytest.Item]) -> Mapping[pytest.Item, str]:
    """Return what is wrong with the marker of each of *items*, for those where something is."""
    checked: dict[int, str | None] = {}
    mistakes = {}
    for item in items:
        marker = item.get_closest_marker("isolation")
        if marker is None:
            continue
        if id(marker) not in checked:
            checked[id(marker)] = _mistake(marker)
        if (text := checked[id(marker)]) is not None:
            mistakes[item] = text
    return mistakes


def _options(marker: pytest.Mark) -> MarkerOptions:
    ignore = marker.kwargs.get("ignore", ())
    return MarkerOptions(
        marker.kwargs.get("mode"),
        marker.kwargs.get("group"),
        (ignore,) if isinstance(ignore, str) else tuple(ignore),
    )


def _mistake(marker: pytest.Mark) -> str | None:
    unknown = sorted(set(marker.kwargs) - set(_KNOWN))
    if marker.args or unknown:
        wrong = f"positional arguments {marker.args!r}" if marker.args else f"unknown argument {unknown[0]!r}"
        return f"@pytest.mark.isolation got {wrong}; it takes mode=, group= and ignore= by keyword"
    try:
        options = _options(marker)
        isolation_barrier(options.group or "default", mode=options.mode or "restore", ignore=options.ignore)
    except (ConfigurationError, TypeError) as error:
        return f"@pytest.mark.isolation: {error}"
    return None
