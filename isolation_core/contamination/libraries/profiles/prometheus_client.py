"""prometheus_client: metrics of registries, and the values of metrics."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.libraries._parts import Key, Part
from isolation_core.contamination.libraries._profile import Profile, Unit, attributes, custom


class Values(Part):
    """The value of one metric, or of all the metrics it has made for labels."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__(label)
        self._find = find

    def read(self) -> dict[Key, Any]:
        found: dict[Key, Any] = {}
        for path, metric in _metrics(self._find()):
            if path:
                found[path] = _Child(path)
            for name, cell in _cells(metric):
                found[(*path, name)] = cell.get() if hasattr(cell, "get") and hasattr(cell, "set") else _plain(cell)
        return found

    def agrees(self, one: Any, other: Any) -> bool:
        return super().agrees(one, other) or (type(one) is type(other) is _Child)

    def put(self, values: Mapping[Key, Any]) -> None:
        root = self._find()
        by_path = dict(_metrics(root))
        gone = {key for key, item in values.items() if item is MISSING and key in by_path}
        for key in gone:
            parent = by_path[key[:-1]]
            child = by_path.pop(key)
            held = sys.getrefcount(child) > 3
            if held:
                # Other code counts with it: it goes on, from nothing.
                for _, cell in _cells(child):
                    if hasattr(cell, "set"):
                        cell.set(0.0)
            else:
                parent._metrics.pop(key[-1], None)
        for key, item in values.items():
            metric = by_path.get(key[:-1])
            if metric is None or item is MISSING or type(item) is _Child:
                continue
            cell = dict(_cells(metric)).get(str(key[-1]))
            if cell is not None and hasattr(cell, "set"):
                cell.set(item)
            else:
                vars(metric)[str(key[-1])] = dict(item) if type(item) is tuple else item

    def text(self, key: Key) -> str:
        labels = "".join(f".labels{each!r}" for each in key if type(each) is tuple)
        return self.label + labels


class _Child:
    """Stands for a metric with labels, which is known by its labels."""

    def __init__(self, path: Key) -> None:
        self.path = path

    def __repr__(self) -> str:
        return "<metric>"


def _metrics(metric: Any, path: Key = ()) -> Iterator[tuple[Key, Any]]:
    yield path, metric
    for labels, child in tuple(vars(metric).get("_metrics", {}).items()):
        yield from _metrics(child, (*path, labels))


def _cells(metric: Any) -> Iterator[tuple[str, Any]]:
    for name in ("_value", "_sum", "_count"):
        cell = vars(metric).get(name, MISSING)
        if cell is not MISSING:
            yield name, cell
    for index, bucket in enumerate(vars(metric).get("_buckets", ())):
        yield f"_buckets{index}", bucket


def _plain(cell: Any) -> Any:
    return tuple(cell.items()) if type(cell) is dict else cell


_METRICS = ("Counter", "Gauge", "Histogram", "Summary", "Info", "Enum")

PROFILE = Profile(
    "prometheus_client",
    [Unit("target", [attributes("prometheus_client.registry:REGISTRY", "_target_info")])],
    objects=[Unit(name, [custom("", Values)]) for name in _METRICS],
    leaves=frozenset({"CollectorRegistry"}),
    versions=("0.15", "1"),
    hint="Make metrics in a CollectorRegistry of the test's own.",
)
