"""Findings that are known and tolerated: a file of owner, code and path, one finding a line."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import attrs
from attrs import frozen

from isolation_core.errors import ConfigurationError
from isolation_core.findings import Change, Leak
from isolation_core.journal import EventSource, as_finding

__all__ = [
    "BASELINE_SCHEMA",
    "Baseline",
    "current_baseline",
    "load_baseline",
    "mark_known",
    "set_baseline",
    "write_baseline",
]

BASELINE_SCHEMA: Final = "isolation-baseline/1"
"""Value of the ``schema`` key."""

_F = TypeVar("_F", Change, Leak)


@frozen
class Baseline:
    """What is known.

    Attributes:
        path: the file it was read from, if any.
        known: owner, code and path of each finding.
    """

    path: Path | None = None
    known: frozenset[tuple[str, str, str]] = frozenset()


_current: Final = [Baseline()]


def load_baseline(path: Path | None, *, missing_ok: bool = False) -> Baseline:
    """Return the baseline in the file *path*, an empty one if there is none.

    Raises:
        ConfigurationError: if it is missing and must not be, or is something else.
    """
    if path is None:
        return Baseline()
    if missing_ok and not path.exists():
        return Baseline(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the baseline {path} cannot be read: {error}; pytest --isolation-baseline-update writes it",
            name="baseline",
            value=path,
        ) from error
    with suppress(ValueError, TypeError, KeyError):
        data = json.loads(text)
        if data["schema"] == BASELINE_SCHEMA:
            return Baseline(
                path, frozenset((str(owner), str(code), str(where)) for owner, code, where in data["findings"])
            )
    raise ConfigurationError(
        f"{path} is not a baseline: it must be a JSON object with 'schema': {BASELINE_SCHEMA!r} and 'findings', "
        "a list of [owner, code, path]; pytest --isolation-baseline-update writes one",
        name="baseline",
        value=path,
    )


def current_baseline() -> Baseline:
    """Return what is known in this process."""
    return _current[0]


def set_baseline(baseline: Baseline) -> None:
    """Have the findings of *baseline* be the known ones from now on."""
    _current[0] = baseline


def mark_known(findings: tuple[_F, ...]) -> tuple[_F, ...]:
    """Return *findings*, those that are in the baseline marked as known."""
    known = _current[0].known
    if not known:
        return findings
    return tuple(
        attrs.evolve(each, known=True) if (each.owner, each.code, each.path) in known else each for each in findings
    )


def write_baseline(path: Path, source: EventSource) -> int:
    """Write all findings above a note to the file *path*, sorted; findings that did not recur are dropped.

    Returns:
        How many they are.
    """
    found = (as_finding(event) for event in source.events)
    rows = sorted({(each.owner, each.code, each.path) for each in found if each and each.severity != "note"})
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{"schema": "{BASELINE_SCHEMA}", "findings": [\n{lines}\n]}}\n', encoding="utf-8")
    return len(rows)
