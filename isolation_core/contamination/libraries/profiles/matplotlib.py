"""matplotlib: rcParams, figures that pyplot keeps open, registries of colours, scales and projections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.libraries._parts import Key, Part
from isolation_core.contamination.libraries._profile import Profile, Unit, content, custom
from isolation_core.contamination.probes._probe import Guard


class Parameters(Part):
    """The parameters, read and written past their validation; the backend is chosen when it is needed first."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__(label)
        self._find = find

    def read(self) -> dict[Key, Any]:
        return {
            (name,): tuple(item) if type(item) is list else item
            for name, item in dict.items(self._find())
            if name not in ("backend", "backend_fallback")
        }

    def put(self, values: Mapping[Key, Any]) -> None:
        parameters = self._find()
        for (name,), item in values.items():
            if item is MISSING:
                dict.pop(parameters, name, None)
                continue
            there = dict.get(parameters, name)
            if type(item) is tuple and type(there) is list:
                there[:] = item
            else:
                dict.__setitem__(parameters, name, list(item) if type(item) is tuple else item)

    def guard(self) -> Guard | None:
        parameters = self._find()
        return Guard(dicts=(parameters,), lists=tuple(item for item in dict.values(parameters) if type(item) is list))


class Figures(Part):
    """The numbers of open figures. Those that were opened are closed; one that was closed stays closed."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__(label)
        self._find = find

    def read(self) -> dict[Key, Any]:
        return {(number,): id(manager) for number, manager in self._find().figs.items()}

    def put(self, values: Mapping[Key, Any]) -> None:
        for (number,), manager in values.items():
            if manager is MISSING:
                self._find().destroy(number)
            else:
                raise RuntimeError("a figure that was closed cannot be opened again")

    def guard(self) -> Guard | None:
        return Guard(values=(), objects=(lambda: list(self._find().figs.values()),))

    def text(self, key: Key) -> str:
        return f"matplotlib.pyplot.figure({key[0]!r})"


PROFILE = Profile(
    "matplotlib",
    [
        Unit("parameters", [custom("matplotlib:rcParams", Parameters)]),
        Unit("figures", [custom("matplotlib._pylab_helpers:Gcf", Figures)]),
        Unit("colour maps", [content("matplotlib:colormaps._cmaps")]),
        Unit("scales", [content("matplotlib.scale:_scale_mapping")]),
        Unit("styles", [content("matplotlib.style:library")]),
    ],
    versions=("3.6", "4"),
    hint="Use matplotlib.rc_context(), and plt.close(figure) after yield.",
)
