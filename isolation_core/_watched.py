"""The packages and kinds of state that a barrier watches."""

from __future__ import annotations

import os
from collections.abc import Iterable

from isolation_core._ambient import current_barrier
from isolation_core._suggest import did_you_mean
from isolation_core.contamination import Probe
from isolation_core.contamination._first_party import Territory
from isolation_core.errors import ConfigurationError

__all__ = ["check_kinds", "territory_of"]

_territories: dict[tuple[tuple[str, ...] | None, tuple[str, ...]], Territory] = {}


def territory_of(packages: Iterable[str] | Territory | None, roots: tuple[str, ...] = ()) -> Territory:
    """Return the territory of *packages*; with None: of everything under *roots*, or under the current folder.

    A territory is returned as it is.

    Raises:
        ConfigurationError: if *packages* is one text.
    """
    if isinstance(packages, Territory):
        return packages
    if isinstance(packages, str):
        raise ConfigurationError(
            f"packages={packages!r} is one text; give a list of package names, such as [{packages!r}]",
            name="packages",
            value=packages,
        )
    names = None if packages is None else tuple(packages)
    if names is None and not roots:
        # The current folder may move between barriers; the answer follows it
        # only when no barrier is open around this one.
        outer = current_barrier()
        if outer is not None:
            return outer._territory
    if not roots and names is None:
        try:
            roots = (os.getcwd(),)
        except OSError:
            roots = (os.sep,)
    found = _territories.get((names, roots))
    if found is None:
        if len(_territories) > 64:
            _territories.clear()
        found = _territories[names, roots] = Territory(names, root=roots or None)
    return found


def check_kinds(kinds: frozenset[str], probes: tuple[Probe, ...]) -> None:
    """Check that there is a probe of each of *kinds*.

    Raises:
        ConfigurationError: naming the first that there is not, and the nearest that there is.
    """
    known = {probe.kind for probe in probes} | {"heap"}
    for kind in sorted(kinds - known):
        hint = did_you_mean(kind, known, otherwise=f"known kinds: {', '.join(sorted(known))}")
        raise ConfigurationError(f"probes={kind!r} is not a kind of probe; {hint}", name="probes", value=kind)
