"""Which bindings of an exchange a message fits: the four types of exchanges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

__all__ = ["Binding", "fits", "headers_fit", "topic_fits"]


@frozen
class Binding:
    """That messages of one exchange go to a queue, or to another exchange.

    Attributes:
        to_queue: whether the destination is a queue.
        destination: its name.
        key: the binding key.
        arguments: of the binding; a headers exchange asks for them.
    """

    to_queue: bool
    destination: str
    key: str
    arguments: Mapping[str, Any] = field(factory=dict)


def fits(kind: str, binding: Binding, routing_key: str, headers: Mapping[str, Any]) -> bool:
    """Return whether a message goes along *binding* of an exchange of type *kind*."""
    if kind == "direct":
        return binding.key == routing_key
    if kind == "topic":
        return topic_fits(binding.key, routing_key)
    if kind == "headers":
        return headers_fit(binding.arguments, headers)
    return True


def topic_fits(pattern: str, key: str) -> bool:
    """Match words: ``*`` is one, ``#`` any number of them."""
    if "*" not in pattern and "#" not in pattern:
        return pattern == key
    words = key.split(".") if key else []
    # The positions in the pattern that can be reached with the words so far.
    parts = pattern.split(".") if pattern else []
    reached = _through(parts, {0})
    for word in words:
        following = set()
        for place in reached:
            if place < len(parts):
                part = parts[place]
                if part == "#":
                    following.add(place)
                elif part in {"*", word}:
                    following.add(place + 1)
        reached = _through(parts, following)
    return len(parts) in reached


def _through(parts: list[str], places: set[int]) -> set[int]:
    """Add the states reached if ``#`` matches nothing."""
    found = set(places)
    for place in sorted(places):
        while place < len(parts) and parts[place] == "#":
            place += 1  # noqa: PLW2901 - walks on from where it was
            found.add(place)
    return found


def headers_fit(wanted: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
    """Match headers by the ``x-match`` of the binding: ``all`` (default), ``any``, and both ``-with-x``."""
    mode = str(wanted.get("x-match", "all"))
    with_x = mode.endswith("-with-x")
    found = [
        name in headers and (value is None or headers[name] == value)
        for name, value in wanted.items()
        if name != "x-match" and (with_x or not name.startswith("x-"))
    ]
    return any(found) if mode.startswith("any") else all(found)
