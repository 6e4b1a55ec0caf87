"""The logging tree: loggers, handlers, formatters and the switches of the module."""

from __future__ import annotations

import gc
import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import partial
from itertools import repeat
from typing import Any, Final

from isolation_core.contamination._cpython import identical
from isolation_core.contamination._difference import MISSING, Difference, is_same_value
from isolation_core.contamination._first_party import is_runners
from isolation_core.contamination.probes._keyed import ItemKey, ListSnapshot, ListsProbe, Order, same_items
from isolation_core.contamination.probes._probe import Guard

__all__ = ["LoggingProbe"]

_MODULE: Final = (
    "raiseExceptions", "lastResort", "_loggerClass", "_logRecordFactory", "root", "logThreads", "logMultiprocessing",
    "logProcesses", "logAsyncioTasks", "_defaultFormatter", "_levelToName", "_nameToLevel",
)  # fmt: skip
_PATHS: Final = {"_loggerClass": "logging.getLoggerClass()", "_logRecordFactory": "logging.getLogRecordFactory()"}
_MANAGER: Final = ("_disable", "loggerClass", "logRecordFactory", "loggerDict")
_PRISTINE: Final = {"level": 0, "propagate": True, "disabled": False}
_HANDLER: Final = ("level", "formatter", "stream", "target", "flushLevel")
_FORMATTER: Final = ("_fmt", "_style", "datefmt", "default_time_format", "default_msec_format")
_HANDLER_WATCH: Final = (*_HANDLER, "filters")
_LOGGER_WATCH: Final = (*_PRISTINE, "filters", "parent", "name")


class _Spot:
    """One attribute of one object of the tree: equal by the identity of the object.

    Attributes:
        path: where the object was found.
        pristine: the value of an untouched object.
        follows: whether the object comes and goes with an item of a list.
    """

    __slots__ = ("follows", "name", "owner", "path", "pristine")

    def __init__(self, owner: Any, name: str, path: str, pristine: Any = MISSING, *, follows: bool = False) -> None:
        self.owner = owner
        self.name = name
        self.path = path
        self.pristine = pristine
        self.follows = follows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Spot) and self.owner is other.owner and self.name == other.name

    def __hash__(self) -> int:
        return hash((id(self.owner), self.name))

    def __str__(self) -> str:
        return self.path

    def get(self) -> Any:
        return getattr(self.owner, self.name)

    def put(self, value: Any) -> None:
        value = self.pristine if value is MISSING else value
        if value is not MISSING:
            setattr(self.owner, self.name, value)
        elif self.name in _space(self.owner):
            delattr(self.owner, self.name)


class _Filters(ListSnapshot):
    """The filters of a handler, reported and restored as one."""

    __slots__ = ()


class _Tree:
    """The tree as entries, and the raw references that prove it is still like that."""

    __slots__ = ("entries", "flat", "print", "read", "restless", "watched")

    def __init__(self) -> None:
        self.entries: dict[Hashable, Any] = {}
        self.watched: list[Any] = []
        self.restless: list[Any] = []
        # Loggers whose list of handlers may be another object at any time.
        self.read: list[Any] = []
        self.flat: tuple[Any, ...] = ()
        self.print = b""


class LoggingProbe(ListsProbe):
    """Levels, handlers, filters, propagation and disabling of every logger, and what is behind them.

    One `gc.get_referents` call lists what every logger, handler list, filter
    list, handler and formatter refers to; identical references mean that
    nothing changed. Only otherwise is the tree read. A new logger is fine
    as long as it has no level, handler or filter.
    """

    kind = "logging"
    code = "LOG001"
    cost = 5.0

    def __init__(self) -> None:
        super().__init__()
        self._last: _Tree | None = None
        # Handlers that keep writing to themselves (a counter, a buffer): what
        # matters of them is read by name, or every look would be a close one.
        self._restless: dict[int, Any] = {}
        self._replaces_lists: bool | None = None

    def capture(self) -> Any:
        logging: Any = sys.modules.get("logging")
        if logging is None or "lastResort" not in logging.__dict__:
            return None
        last = self._last
        if last is not None:
            flat = _flat(logging, last)
            if identical(flat) == last.print:
                return last
        tree = self._look(logging)
        if last is not None and not any(True for _ in self.diff(last, tree)):
            self._find_restless(last, tree)
            if self._restless:
                tree = self._look(logging)
        self._last = tree
        return tree

    def guard(self) -> Guard | None:
        last, logging = self._last, sys.modules.get("logging")
        if logging is None:
            return Guard(dicts=(sys.modules,))
        if last is None:
            return None
        spaces = ((_space(handler), _HANDLER_WATCH) for handler in last.restless)
        return Guard(
            objects=(
                partial(iter, last.watched[0]),
                partial(gc.get_referents, *last.watched),
                partial(_read_loggers, last.read),
            ),
            attributes=((sys.modules, ("logging",)), (logging.__dict__, _MODULE), *spaces),
        )

    def _find_restless(self, last: _Tree, tree: _Tree) -> None:
        known = set(map(id, last.flat))
        for key in tree.entries:
            if not isinstance(key, _Spot) or not key.follows or key.name != "level":
                continue
            if any(id(value) not in known for value in _space(key.owner).values()):
                self._restless[id(key.owner)] = key.owner

    # -- reading -------------------------------------------------------------

    def _look(self, logging: Any) -> _Tree:
        if self._replaces_lists is None:
            self._replaces_lists = _replaces_lists(logging)
        tree = _Tree()
        entries = tree.entries
        space = logging.__dict__
        for name in _MODULE:
            entries[_Spot(logging, name, _PATHS.get(name, f"logging.{name}"))] = space.get(name, MISSING)
        root = logging.root
        manager = root.manager
        inner = _space(manager)
        for name in _MANAGER:
            path = f"logging.root.manager.{name.lstrip('_')}"
            entries[_Spot(manager, name, path)] = inner.get(name, MISSING)
        table = inner.get("loggerDict", {})
        tree.watched += (table, manager, inner)
        for name in ("_levelToName", "_nameToLevel"):
            if type(space.get(name)) is dict:
                entries.update((("level", name, key), value) for key, value in space[name].items())
                tree.watched.append(space[name])
        handlers: dict[int, tuple[Any, str]] = {}
        self._read_logger("logging.getLogger()", root, tree, handlers)
        for name, logger in table.items():
            entries["logger", name] = logger
            self._read_logger(f"logging.getLogger({name!r})", logger, tree, handlers)
        last_resort = space.get("lastResort")
        if last_resort is not None:
            handlers.setdefault(id(last_resort), (last_resort, "logging.lastResort"))
        for handler, path in handlers.values():
            # Nothing can be done to a handler that does nothing.
            if type(handler) is not logging.NullHandler and not is_runners(handler):
                self._read_handler(handler, path, tree)
        self._restless = {id(handler): handler for handler in tree.restless}
        tree.flat = _flat(logging, tree)
        tree.print = identical(tree.flat)
        return tree

    def _read_logger(self, path: str, logger: Any, tree: _Tree, handlers: dict[int, tuple[Any, str]]) -> None:
        space = _space(logger)
        if "handlers" not in space:  # a place holder
            return
        if self._replaces_lists and (space["handlers"] or logger is sys.modules["logging"].root):
            tree.read.append(logger)
        else:
            tree.watched += _stores(logger, space)
        for name, pristine in _PRISTINE.items():
            value = space.get(name, MISSING)
            if value is not pristine and not is_same_value(value, pristine):
                tree.entries[_Spot(logger, name, f"{path}.{name}", pristine)] = value
        for name in ("handlers", "filters"):
            self._read_list(_Spot(logger, name, f"{path}.{name}"), space.get(name), tree)
        held = space["handlers"]
        for index, handler in enumerate(held if isinstance(held, list) else ()):
            handlers.setdefault(id(handler), (handler, f"{path}.handlers[{index}]"))

    def _read_list(self, slot: _Spot, held: Any, tree: _Tree) -> None:
        if not isinstance(held, list):
            return
        entries = self.expand(slot, ListSnapshot(held, tuple(held)))
        if self._replaces_lists and slot.name == "handlers":
            # Which list it is says nothing; the first entry would.
            next(entries)
        if slot.name != "handlers" or not (tree.read and tree.read[-1] is slot.owner):
            tree.watched.append(held)
        tree.entries.update(entries)

    def _read_handler(self, handler: Any, path: str, tree: _Tree) -> None:
        space = _space(handler)
        names: tuple[str, ...] = _HANDLER
        if _reopens(handler):
            names = tuple(name for name in _HANDLER if name != "stream")
        for name in names:
            if name in space:
                tree.entries[_Spot(handler, name, f"{path}.{name}", follows=True)] = space[name]
        held = space.get("filters")
        if isinstance(held, list):
            tree.watched.append(held)
            tree.entries[_Spot(handler, "filters", f"{path}.filters", follows=True)] = _Filters(held, tuple(held))
        if id(handler) in self._restless:
            tree.restless.append(handler)
        else:
            tree.watched += _stores(handler, space)
        formatter = space.get("formatter")
        if formatter is not None:
            inner = _space(formatter)
            tree.watched += _stores(formatter, inner)
            for name in _FORMATTER:
                if name in inner:
                    spot = _Spot(formatter, name, f"{path}.formatter.{name}", follows=True)
                    tree.entries[spot] = inner[name]

    def expand(self, slot: Hashable, state: ListSnapshot) -> Iterator[tuple[Hashable, Any]]:
        for key, value in super().expand(slot, state):
            # A runner takes its own handlers off and puts them on again between the phases of a test:
            # where they stand among the others is its affair.
            own = isinstance(value, Order)
            yield key, Order(tuple(item for item in state.items if not is_runners(item))) if own else value

    # -- comparing -----------------------------------------------------------

    def same(self, before: Any, after: Any) -> bool:
        return before is None or after is None or super().same(before, after)

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if isinstance(snapshot, _Tree):
            return snapshot.entries
        return {} if snapshot is None else snapshot

    def diff(self, before: Any, after: Any) -> Iterable[Difference]:
        return super().diff(before, after) if before is not None and after is not None else ()

    def unchanged(self, key: Hashable, one: Any, other: Any) -> bool:
        if isinstance(one, _Filters) and isinstance(other, _Filters):
            return one.holder is other.holder and same_items(one.items, other.items)
        return super().unchanged(key, one, other)

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        if type(key) is tuple and key[0] == "logger":
            return one is MISSING or "handlers" not in _space(one)
        if isinstance(key, ItemKey):
            return is_runners(key.item)
        # What is inside a handler comes and goes with it; a list of a logger, with the logger.
        absent = one is MISSING or other is MISSING
        return (
            absent
            and isinstance(key, _Spot)
            and (key.follows or isinstance(one, ListSnapshot) or isinstance(other, ListSnapshot))
        )

    # -- restoring -----------------------------------------------------------

    def restore(self, key: Hashable, value: Any) -> None:
        logging: Any = sys.modules["logging"]
        if type(key) is tuple:
            table = logging.root.manager.loggerDict if key[0] == "logger" else getattr(logging, key[1])
            if value is MISSING:
                table.pop(key[-1], None)
            else:
                table[key[-1]] = value
        elif isinstance(value, _Filters) and isinstance(key, _Spot):
            key.put(value.holder)
            value.holder[:] = value.items
        elif isinstance(key, _Spot) and not isinstance(value, ListSnapshot):
            key.put(value)
        else:
            super().restore(key, value)

    def finish(self) -> None:
        super().finish()
        # Loggers remember whether they are enabled.
        sys.modules["logging"].root.manager._clear_cache()

    def read_list(self, slot: Any) -> Any:
        return slot.get()

    def bind_list(self, slot: Any, holder: list[Any]) -> None:
        slot.put(holder)

    def describe(self, key: Hashable) -> str:
        if type(key) is tuple:
            return f"logging.{'root.manager.loggerDict' if key[0] == 'logger' else key[1]}[{key[-1]!r}]"
        return super().describe(key)

    def render(self, key: Hashable, value: Any) -> str:
        # Defaults are not written down for a thousand loggers; they are known.
        pristine = value is MISSING and isinstance(key, _Spot) and key.pristine is not MISSING
        return super().render(key, key.pristine if pristine else value)  # type: ignore[attr-defined]


def _flat(logging: Any, tree: _Tree) -> tuple[Any, ...]:
    """Return everything whose identity matters, in one flat tuple."""
    restless: list[Any] = []
    for handler in tree.restless:
        restless += map(_space(handler).get, _HANDLER_WATCH, repeat(None))
    return (
        *map(logging.__dict__.get, _MODULE, repeat(None)),
        *tree.watched[0],
        *gc.get_referents(*tree.watched),
        *restless,
        *_read_loggers(tree.read),
    )


def _read_loggers(loggers: Iterable[Any]) -> list[Any]:
    """Return what *loggers* refer to, whichever list it is that holds their handlers."""
    found: list[Any] = []
    for logger in loggers:
        space = _space(logger)
        found += map(space.get, _LOGGER_WATCH, repeat(None))
        held = space.get("handlers")
        found += held if isinstance(held, list) else (held,)
    return found


def _replaces_lists(logging: Any) -> bool:
    """Return whether `Logger.removeHandler` replaces the list of handlers, as it does from 3.14.10 on (gh-79366).

    Then it is another list after each phase of each test in which a plugin
    adds a handler and removes it, and binding the old one again would only
    undo the interpreter's work.
    """
    # Not one of the tree, so not from getLogger().
    logger, handler = logging.Logger("isolation_core.sample"), logging.NullHandler()
    held = logger.handlers
    logger.addHandler(handler)
    logger.removeHandler(handler)
    return logger.handlers is not held


def _stores(owner: Any, space: dict[str, Any]) -> tuple[Any, ...]:
    """Return what the collector must be asked for to see the attributes of *owner*.

    Attributes live in the namespace dict or, from Python 3.13 on, inside the
    object until a real dict is needed.
    """
    seen = set(map(id, gc.get_referents(space)))
    return (space,) if all(id(value) in seen for value in space.values()) else (owner, space)


def _reopens(handler: Any) -> bool:
    # A file handler opens its stream when it first writes and closes it when
    # it rolls over: that is its own business.
    return issubclass(type(handler), sys.modules["logging"].FileHandler)


def _space(owner: Any) -> dict[str, Any]:
    """Return the instance namespace of *owner*, past any `__getattribute__` of its class."""
    try:
        space = object.__getattribute__(owner, "__dict__")
    except AttributeError:
        return {}
    return space if isinstance(space, dict) else {}
