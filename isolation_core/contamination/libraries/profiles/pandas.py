"""pandas: options, put back through `set_option`, and the content of frames and series of own code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.libraries._parts import Content as Items
from isolation_core.contamination.libraries._parts import Key, Part
from isolation_core.contamination.libraries._profile import Profile, Unit, custom, resolve
from isolation_core.contamination.probes._probe import Guard


class Options(Part):
    """Every option by its dotted name. What depends on one is brought along by `set_option`."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__("pandas.options")
        self._find = find

    def read(self) -> dict[Key, Any]:
        return {(name,): item for name, item in _leaves(self._find())}

    def put(self, values: Mapping[Key, Any]) -> None:
        for (name,), item in values.items():
            if item is MISSING:
                resolve("pandas._config.config:_registered_options").pop(name, None)
                *groups, last = str(name).split(".")
                table = self._find()
                for group in groups:
                    table = table[group]
                table.pop(last, None)
            else:
                resolve("pandas:set_option")(name, item)

    def guard(self) -> Guard | None:
        return Items("", self._find, 8).guard()

    def text(self, key: Key) -> str:
        return f"{self.label}.{key[0]}"


def _leaves(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in table.items():
        if type(item) is dict:
            yield from _leaves(item, f"{prefix}{name}.")
        else:
            yield prefix + name, item


class Content(Part):
    """The content of one frame or series."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__(label)
        self._find = find
        self._copies = _copies_on_write()

    def read(self) -> dict[Key, Any]:
        frame = self._find()
        # Without copy-on-write the copy has to be a real one, so large frames are left out.
        if not self._copies and int(frame.memory_usage(deep=False, index=False).sum()) > 65_536:
            return {}
        found: dict[Key, Any] = {("content",): frame.copy(deep=not self._copies)}
        found.update({("attrs", name): item for name, item in frame.attrs.items()})
        return found

    def agrees(self, one: Any, other: Any) -> bool:
        if not hasattr(one, "_mgr") or not hasattr(other, "_mgr"):
            return super().agrees(one, other)
        if type(one) is not type(other) or getattr(one, "name", None) != getattr(other, "name", None):
            return False
        return bool(one.equals(other)) and all(
            mine.identical(theirs) for mine, theirs in zip(one.axes, other.axes, strict=True)
        )

    def put(self, values: Mapping[Key, Any]) -> None:
        frame = self._find()
        for key, wanted in values.items():
            if key[0] == "attrs":
                if wanted is MISSING:
                    frame.attrs.pop(key[1], None)
                else:
                    frame.attrs[key[1]] = wanted
                continue
            frame._mgr = wanted.copy(deep=not self._copies)._mgr
            if "_name" in vars(frame):
                vars(frame)["_name"] = vars(wanted)["_name"]

    def text(self, key: Key) -> str:
        return self.label if key == ("content",) else f"{self.label}.attrs[{key[1]!r}]"


def _copies_on_write() -> bool:
    return int(str(resolve("pandas:__version__")).partition(".")[0]) >= 3


PROFILE = Profile(
    "pandas",
    [Unit("options", [custom("pandas._config.config:_global_config", Options)])],
    objects=[Unit("DataFrame", [custom("", Content)]), Unit("Series", [custom("", Content)])],
    versions=("2", "4"),
    hint="Use pandas.option_context(), and work on a copy of a shared frame.",
)
