"""A module that was executed again: one finding instead of one for each of its names."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Final

from isolation_core.contamination.undo._entries import Entry
from isolation_core.findings import Change

__all__ = ["merge_reloads"]

_ENOUGH: Final = 0.5
"""The share of a module's own functions and classes that have to be new objects of the old names."""


def merge_reloads(entries: Iterable[Entry], owner: str, scope: str) -> tuple[list[Entry], list[Change]]:
    """Split *entries* into those reported one by one and one change for each reloaded module."""
    entries = list(entries)
    rebound: dict[int, list[Entry]] = {}
    for entry in entries:
        if _is_made_again(entry):
            rebound.setdefault(id(entry.slot.holder), []).append(entry)
    changes = []
    merged: set[int] = set()
    for group in rebound.values():
        slot = group[0].slot
        own = sum(_is_definition(value) for value in (slot.namespace() or {}).values())
        if len(group) < 2 or len(group) < own * _ENOUGH:
            continue
        of_module = [e for e in entries if e.slot.holder is slot.holder and not e.failed]
        merged.update(map(id, of_module))
        first = group[0].describe(owner=group[0].owner or owner, scope=scope)
        changes.append(
            Change(
                "module",
                slot.label(),
                before="<as imported>",
                after=f"<reloaded: {len(of_module)} names rebound>",
                code="MOD011",
                owner=first.owner,
                scope=scope,
                restored=all(entry.restored for entry in of_module),
            )
        )
    return [entry for entry in entries if id(entry) not in merged], changes


def _is_made_again(entry: Entry) -> bool:
    """Return whether a definition was replaced by another one of the same name."""
    if entry.slot.namespace() is None:
        return False
    before, after = entry.before, entry.after
    if not (_is_definition(before) and _is_definition(after)):
        return False
    return _origin(before) == _origin(after)


def _is_definition(value: object) -> bool:
    kind = type(value)
    return kind is types.FunctionType or issubclass(kind, type)


def _origin(value: object) -> tuple[object, object]:
    if type(value) is types.FunctionType:
        return value.__module__, value.__qualname__
    space = type.__dict__["__dict__"].__get__(value)
    return space.get("__module__"), type.__dict__["__qualname__"].__get__(value)
