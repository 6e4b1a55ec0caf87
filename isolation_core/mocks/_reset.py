"""``reset_mock`` without its traps, for trees of light and plain mocks alike."""

from __future__ import annotations

from typing import Any, Final
from unittest.mock import AsyncMock, MagicMock, NonCallableMock

from isolation_core.mocks._plain import clear_delegate, clear_history
from isolation_core.mocks._records import State
from isolation_core.mocks._stdlib import DEFAULT, all_magics, extract_mock, is_mock, set_magic_default

__all__ = ["STANDARD", "reset_tree"]

STANDARD: Final = {
    id(vars(base)["reset_mock"])
    for cls in (NonCallableMock, MagicMock, AsyncMock)
    for base in cls.__mro__
    if "reset_mock" in vars(base)
}
"""The ``reset_mock`` functions that do nothing this module does not do."""


def reset_tree(root: Any, visited: list[int] | None, *, return_value: bool, side_effect: bool) -> None:
    """Forget the calls of *root* and all below it; with the flags, what they are configured to do as well.

    Args:
        root: a light or plain mock.
        visited: ids of mocks to leave alone, extended by those that were reset.
        return_value: drop configured return values, except of magic methods.
        side_effect: drop configured side effects, except of magic methods.
    """
    visited = [] if visited is None else visited
    seen = set(visited)
    deep = return_value or side_effect
    stack = [root]
    while stack:
        found = stack.pop()
        light = getattr(type(found), "_isolation_light", False)
        mock = found if light else extract_mock(found)
        key = id(mock)
        if key in seen or not (light or is_mock(mock)):
            continue
        if not light and mock is not root and id(type(mock).reset_mock) not in STANDARD:
            # A subclass of the user's that does it in its own way.
            mock.reset_mock(visited, return_value=return_value, side_effect=side_effect)
            seen.update(visited)
            continue
        seen.add(key)
        visited.append(key)
        if light:
            state: State = mock._isolation_state
            children, value = state.children, state.value
            if state.tree or state.calls or state.awaits or state.overrides is not None:
                state.forget()
            if deep or state.delegate is not None:
                _reset_light(state, return_value=return_value, side_effect=side_effect)
        else:
            children, value = mock._mock_children, mock._mock_return_value
            _reset_plain(mock, return_value=return_value, side_effect=side_effect)
        # What is no mock, such as the marker of a deleted name, is sorted out above.
        if children:
            stack.extend(children.values())
        if value is not DEFAULT:
            stack.append(value)
        if deep:
            _reset_magics(mock, children, visited, seen, return_value=return_value, side_effect=side_effect)


def _reset_magics(
    mock: Any, children: dict[str, Any], visited: list[int], seen: set[int], *, return_value: bool, side_effect: bool
) -> None:
    """Give the magic methods in use the answers they are born with: without them ``async with`` swallows exceptions."""
    for name in all_magics & children.keys():
        child = children[name]
        if is_mock(child) and id(child) not in seen:
            reset_tree(child, visited, return_value=return_value, side_effect=side_effect)
            seen.update(visited)
            set_magic_default(mock, child, name)


def _reset_plain(mock: Any, *, return_value: bool, side_effect: bool) -> None:
    clear_history(mock)
    if return_value:
        mock.__dict__["_mock_return_value"] = DEFAULT
    if side_effect:
        mock.__dict__["_mock_side_effect"] = None


def _reset_light(state: State, *, return_value: bool, side_effect: bool) -> None:
    if state.delegate is not None:
        clear_delegate(state.delegate)
    if return_value:
        state.value = DEFAULT
    if side_effect:
        state.effect = state.source = state.consumed = None
