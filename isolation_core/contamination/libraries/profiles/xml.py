"""xml.etree: elements of own code, with all that is below them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.libraries._parts import WHOLE, Key, Part
from isolation_core.contamination.libraries._profile import Profile, Unit, custom

_LARGEST: Final = 1_000
"""A tree of more elements is not copied."""


class _Element:
    """One element, by identity, with the place it was met at."""

    __slots__ = ("element", "path")

    def __init__(self, element: Any, path: str) -> None:
        self.element = element
        self.path = path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Element) and other.element is self.element

    def __hash__(self) -> int:
        return id(self.element)


class Tree(Part):
    """Tag, text, attributes and children of an element and of each element below it."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__(label)
        self._find = find

    def read(self) -> dict[Key, Any]:
        found: dict[Key, Any] = {}
        pending = [_Element(self._find(), "")]
        for each in pending:
            element = each.element
            for name in ("tag", "text", "tail"):
                found[each, name] = getattr(element, name)
            for name, text in element.attrib.items():
                found[each, "attrib", name] = text
            children = tuple(element)
            found[each, WHOLE] = children
            pending += [_Element(child, f"{each.path}[{index}]") for index, child in enumerate(children)]
            if len(pending) > _LARGEST:
                return {}
        return found

    def put(self, values: Mapping[Key, Any]) -> None:
        for key, wanted in values.items():
            element = cast("_Element", key[0]).element
            if key[1] == "attrib":
                if wanted is MISSING:
                    element.attrib.pop(key[2], None)
                else:
                    element.attrib[key[2]] = wanted
            elif wanted is MISSING:
                continue  # of an element that goes out of the tree
            elif key[1] is WHOLE:
                element[:] = wanted
            else:
                setattr(element, str(key[1]), wanted)

    def text(self, key: Key) -> str:
        path = self.label + cast("_Element", key[0]).path
        if key[1] is WHOLE:
            return path
        return f"{path}.attrib[{key[2]!r}]" if key[1] == "attrib" else f"{path}.{key[1]}"


PROFILE = Profile("xml", objects=[Unit("Element", [custom("", Tree)])], hint="Work on copy.deepcopy(element).")
