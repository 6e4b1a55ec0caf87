"""Registries of the standard library: a dict, a list, or a getter away."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from attrs import field, frozen

from isolation_core.contamination._cpython import HAS_TAGS, Watch, identical
from isolation_core.contamination._difference import MISSING, Difference, is_same_value
from isolation_core.contamination._first_party import home_of, is_library_code
from isolation_core.contamination.probes._keyed import ListSnapshot, ListsProbe, attempt, identity_of, loaded
from isolation_core.contamination.probes._probe import Guard
from isolation_core.findings import Severity

__all__ = ["RegistriesProbe"]


@frozen
class _Table:
    """A dict or list that is an attribute of a module."""

    module: str
    name: str
    benign: Callable[[Any], bool] | None = field(default=None, kw_only=True)

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"


@frozen
class _Setting:
    """A value with a getter and a setter, which both take the module."""

    module: str
    path: str
    get: Callable[[Any], Any]
    put: Callable[[Any, Any], object]
    is_number: bool = field(default=False, kw_only=True)
    benign: Callable[[Any, Any], bool] | None = field(default=None, kw_only=True)
    severity: Severity | None = field(default=None, kw_only=True)


def _attribute(module: str, name: str, *, severity: Severity | None = None) -> _Setting:
    return _Setting(
        module,
        f"{module}.{name}",
        lambda m: m.__dict__.get(name, MISSING),
        lambda m, value: setattr(m, name, value),
        severity=severity,
    )


def _start_method(context: Any) -> Any:
    # `get_start_method` would fix the method; this is not a change.
    chosen = context._default_context._actual_context
    return None if chosen is context._default_context._default_context else chosen


def _is_cached_tempdir(before: Any, after: Any) -> bool:
    tempfile: Any = sys.modules["tempfile"]
    return before is None and after in attempt(tempfile._candidate_tempdir_list, default=())


_TABLES: Final = (
    _Table("copyreg", "dispatch_table"),
    _Table("copyreg", "_extension_registry"),
    _Table("copyreg", "_inverted_registry"),
    _Table("copy", "_copy_dispatch"),
    _Table("copy", "_deepcopy_dispatch"),
    _Table("shutil", "_ARCHIVE_FORMATS"),
    _Table("shutil", "_UNPACK_FORMATS"),
    _Table("xml.etree.ElementTree", "_namespace_map"),
    _Table("xml.sax", "default_parser_list"),
    _Table("email.charset", "CHARSETS"),
    _Table("email.charset", "ALIASES"),
    _Table("email.charset", "CODEC_MAP"),
    _Table("sqlite3", "adapters"),
    _Table("sqlite3", "converters"),
    _Table("gettext", "_localedirs"),
    _Table("sysconfig", "_INSTALL_SCHEMES"),
    _Table("doctest", "OPTIONFLAGS_BY_NAME"),
    _Table("mimetypes", "knownfiles"),
    _Table(
        "webbrowser", "_browsers", benign=lambda entry: any(part and home_of(part) == "webbrowser" for part in entry)
    ),
    *(
        _Table("urllib.parse", name)
        for name in ("uses_relative", "uses_netloc", "uses_params", "uses_query", "uses_fragment", "non_hierarchical")
    ),
)

_SETTINGS: Final = (
    _Setting(
        "socket",
        "socket.getdefaulttimeout()",
        lambda m: m.getdefaulttimeout(),
        lambda m, v: m.setdefaulttimeout(v),
        is_number=True,
    ),
    _Setting(
        "csv",
        "csv.field_size_limit()",
        lambda m: m.field_size_limit(),
        lambda m, v: m.field_size_limit(v),
        is_number=True,
    ),
    _Setting(
        "calendar",
        "calendar.firstweekday()",
        lambda m: m.firstweekday(),
        lambda m, v: m.setfirstweekday(v),
        is_number=True,
    ),
    _Setting(
        "multiprocessing.context",
        "multiprocessing.get_start_method(allow_none=True)",
        _start_method,
        lambda m, v: setattr(m._default_context, "_actual_context", v),
    ),
    _Setting(
        "tempfile",
        "tempfile.tempdir",
        lambda m: m.__dict__.get("tempdir", MISSING),
        lambda m, v: setattr(m, "tempdir", v),
        benign=_is_cached_tempdir,
    ),
    _Setting(
        "zoneinfo._tzpath",
        "zoneinfo.TZPATH",
        lambda m: m.__dict__.get("TZPATH", MISSING),
        lambda m, v: m.reset_tzpath(to=v),
    ),
    _attribute("gettext", "_current_domain"),
    _attribute("ssl", "_create_default_https_context"),
    # Installed by hand or made by the first urlopen(): that is unknown.
    _attribute("urllib.request", "_opener", severity="note"),
)
_BY_PATH: Final = {setting.path: setting for setting in _SETTINGS}
_TABLE_BY_PATH: Final = {table.path: table for table in _TABLES}
_MODULES: Final = tuple(
    dict.fromkeys([*(part.module for part in _TABLES), *(part.module for part in _SETTINGS), "reprlib"])
)


class _Entry:
    """Key of one entry of one table; *name* None means the table itself."""

    __slots__ = ("name", "table")

    def __init__(self, table: str, name: Any) -> None:
        self.table = table
        self.name = name

    def __eq__(self, other: object) -> bool:
        # Names may be classes, whose metaclass may define equality.
        return isinstance(other, _Entry) and self.table == other.table and is_same_value(self.name, other.name)

    def __hash__(self) -> int:
        return hash((self.table, identity_of(self.name)))


class _Plan:
    """The tables and attributes to compare, given which modules are imported."""

    __slots__ = ("csv", "getters", "limits", "modules", "numbers", "objects", "stamp", "tables")

    def __init__(self, stamp: object) -> None:
        self.stamp = stamp
        self.modules = {name: module for name in _MODULES if (module := loaded(name)) is not None}
        self.tables = tuple(table for table in _TABLES if table.module in self.modules)
        self.getters = tuple((self.modules[table.module].__dict__.get, table.name) for table in self.tables)
        # A module may be loaded and not executed yet: then the plan is made anew next time.
        ready = []
        for setting in _SETTINGS:
            module = self.modules.get(setting.module)
            if module is None:
                continue
            if attempt(partial(setting.get, module)) is MISSING:
                self.stamp = None
            else:
                ready.append((setting, module))
        self.numbers = tuple((setting, module) for setting, module in ready if setting.is_number)
        self.objects = tuple((setting, module) for setting, module in ready if not setting.is_number)
        csv: Any = self.modules.get("csv")
        self.csv: Any = csv if csv is not None and "get_dialect" in csv.__dict__ else None
        reprlib = self.modules.get("reprlib")
        instance = reprlib.__dict__.get("aRepr") if reprlib is not None else None
        self.limits: dict[str, Any] = vars(instance) if instance is not None else {}
        if self.csv is not csv or (instance is None) is not (reprlib is None):
            self.stamp = None

    def dialects_of(self, names: tuple[str, ...]) -> Iterable[Any]:
        """Return the csv dialects of *names*."""
        return map(self.csv.get_dialect, names) if names else ()

    def parts(self) -> tuple[Any, ...]:
        """Return what makes two plans the same."""
        return (self.modules, self.objects, self.numbers, self.csv, id(self.limits) if self.limits else None)


class _Registries:
    __slots__ = (
        "containers", "dialects", "holders", "image", "limits", "lists", "numbers", "objects", "plan", "print", "refs",
        "tables", "watch",
    )  # fmt: skip

    def __init__(self, plan: _Plan, numbers: tuple[Any, ...], seen: tuple[Any, ...], dialects: tuple[str, ...]) -> None:
        self.plan = plan
        self.numbers = numbers
        self.holders = seen[: len(plan.getters)]
        self.objects = seen[len(plan.getters) : len(plan.getters) + len(plan.objects)]
        self.containers = tuple(holder for holder in self.holders if type(holder) in (dict, list))
        self.lists = tuple(holder for holder in self.containers if type(holder) is list)
        self.refs = (
            *gc.get_referents(*self.lists), *self.objects, *plan.limits.values(), *plan.dialects_of(dialects)
        )  # fmt: skip
        self.print = identical(self.refs)
        # Where dicts have version tags, they speak for every table, and for
        # every name in the modules that hold the tables. The limits of reprlib
        # are the attributes of an instance: no tag is to be trusted there.
        namespaces = (module.__dict__ for module in plan.modules.values())
        dicts = (holder for holder in self.containers if type(holder) is dict)
        self.watch = Watch(*namespaces, *dicts)
        self.watch.moved()
        self.image = b"" if HAS_TAGS else _image(self.holders)
        self.tables = tuple(
            dict(holder) if type(holder) is dict else tuple(holder) if type(holder) is list else None
            for holder in self.holders
        )
        self.limits = dict(plan.limits)
        self.dialects = {name: plan.csv.get_dialect(name) for name in dialects}

    def moved(self) -> bool:
        """Return whether a table, or its content, may have been replaced."""
        if HAS_TAGS:
            return self.watch.moved()
        return _image(tuple([get(name) for get, name in self.plan.getters])) != self.image


def _image(holders: tuple[Any, ...]) -> bytes:
    """Return bytes that are equal while all tables are the same and their dicts hold the same; `tables` keeps those."""
    tables = (each for holder in holders if type(holder) is dict for each in (*holder, *holder.values()))
    return identical((*holders, *tables))


class RegistriesProbe(ListsProbe):
    """Known tables and settings of standard-library modules that are imported already.

    Nothing is imported for the look, and a module that appears brings its own
    state along: that is not a difference.
    """

    kind = "registry"
    code = "REG001"
    cost = 4.0

    def __init__(self) -> None:
        super().__init__()
        self._last: _Registries | None = None

    def capture(self) -> Any:
        last = self._last
        # Whatever is imported is appended: the number of modules and the name
        # of the youngest tell at once whether the plan still stands.
        stamp = (len(sys.modules), next(reversed(sys.modules)))
        plan = last.plan if last is not None and last.plan.stamp == stamp else self._plan(last, stamp)
        numbers = tuple([setting.get(module) for setting, module in plan.numbers])
        dialects = tuple(plan.csv.list_dialects()) if plan.csv is not None else ()
        if last is not None and plan is last.plan and numbers == last.numbers and not last.moved():
            lists = gc.get_referents(*last.lists) if last.lists else ()
            if (
                identical((*lists, *self._objects(plan), *plan.limits.values(), *plan.dialects_of(dialects)))
                == last.print
            ):
                return last
        seen = (
            *[get(name) for get, name in plan.getters],
            *self._objects(plan),
            *plan.limits.values(),
            *plan.dialects_of(dialects),
        )
        self._last = last = _Registries(plan, numbers, seen, dialects)
        return last

    def guard(self) -> Guard | None:
        last = self._last
        if last is None or last.plan.stamp is None:
            return None
        plan = last.plan
        numbers = [partial(setting.get, module) for setting, module in plan.numbers]
        if plan.csv is not None:
            numbers.append(plan.csv.list_dialects)
        objects: list[Callable[[], Iterable[Any]]] = [plan.limits.values]
        objects += [partial(map, setting.get, (module,)) for setting, module in plan.objects]
        if plan.csv is not None and last.dialects:
            objects.append(partial(map, plan.csv.get_dialect, tuple(last.dialects)))
        return Guard(tuple(numbers), tuple(objects), dicts=(sys.modules, *last.watch.namespaces), lists=last.lists)

    @staticmethod
    def _objects(plan: _Plan) -> tuple[Any, ...]:
        return tuple([setting.get(module) for setting, module in plan.objects])

    @staticmethod
    def _plan(last: _Registries | None, stamp: object) -> _Plan:
        plan = _Plan(stamp)
        if last is not None and plan.parts() == last.plan.parts():
            last.plan.stamp = plan.stamp
            return last.plan
        return plan

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if not isinstance(snapshot, _Registries):
            return snapshot  # type: ignore[no-any-return]
        found: dict[Hashable, Any] = {}
        plan = snapshot.plan
        for (setting, _), value in zip(plan.numbers, snapshot.numbers, strict=True):
            found[setting.path] = value
        for (setting, _), value in zip(plan.objects, snapshot.objects, strict=True):
            found[setting.path] = value
        for table, holder, held in zip(plan.tables, snapshot.holders, snapshot.tables, strict=True):
            if isinstance(held, dict):
                found[_Entry(table.path, None)] = holder
                found.update((_Entry(table.path, name), value) for name, value in held.items())
            elif held is not None:
                found.update(self.expand(table.path, ListSnapshot(holder, held)))
        found.update((_Entry("csv", name), value) for name, value in snapshot.dialects.items())
        found.update((_Entry("reprlib.aRepr", name), value) for name, value in snapshot.limits.items())
        return found

    def diff(self, before: Any, after: Any) -> Iterable[Difference]:
        found = super().diff(before, after)
        if isinstance(before, _Registries) and isinstance(after, _Registries) and before.plan is not after.plan:
            appeared = _appeared(before, after)
            found = [difference for difference in found if _module_of(difference.key) not in appeared]
        return found

    def unchanged(self, key: Hashable, one: Any, other: Any) -> bool:
        if type(one) is tuple and type(other) is tuple and not isinstance(key, _Entry):
            return one == other
        return super().unchanged(key, one, other)

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        if isinstance(key, _Entry):
            if key.name is None:
                return one is MISSING or other is MISSING
            benign = _TABLE_BY_PATH[key.table].benign if key.table in _TABLE_BY_PATH else None
            return benign is not None and one is MISSING and bool(attempt(partial(benign, other), default=False))
        if type(key) is str and key in _BY_PATH:
            tolerated = _BY_PATH[key].benign
            return tolerated is not None and tolerated(one, other)
        return isinstance(one, ListSnapshot) is not isinstance(other, ListSnapshot)

    def severity_of(self, key: Hashable, before: Any, after: Any) -> Severity | None:
        if isinstance(key, _Entry) and key.name is not None:
            # A library that registers late what it would register on import.
            return "note" if before is MISSING and callable(after) and is_library_code(after) else None
        return _BY_PATH[key].severity if type(key) is str and key in _BY_PATH else None

    def restore(self, key: Hashable, value: Any) -> None:
        if isinstance(key, _Entry):
            _restore_entry(key, value)
        elif type(key) is str and key in _BY_PATH:
            setting = _BY_PATH[key]
            setting.put(sys.modules[setting.module], value)
        else:
            super().restore(key, value)

    def read_list(self, slot: Any) -> Any:
        module, _, name = slot.rpartition(".")
        return getattr(sys.modules[module], name)

    def bind_list(self, slot: Any, holder: list[Any]) -> None:
        module, _, name = slot.rpartition(".")
        setattr(sys.modules[module], name, holder)

    def describe(self, key: Hashable) -> str:
        if not isinstance(key, _Entry):
            return super().describe(key)
        if key.table == "csv":
            return f"csv.get_dialect({key.name!r})"
        if key.table == "reprlib.aRepr":
            return f"reprlib.aRepr.{key.name}"
        if key.name is None:
            return key.table
        shown = key.name.__qualname__ if isinstance(key.name, type) else repr(key.name)
        return f"{key.table}[{shown}]"


def _restore_entry(key: _Entry, value: Any) -> None:
    if key.table == "csv":
        csv: Any = sys.modules["csv"]
        if value is MISSING:
            if key.name in csv.list_dialects():
                csv.unregister_dialect(key.name)
        else:
            csv.register_dialect(key.name, value)
        return
    if key.table == "reprlib.aRepr":
        target = sys.modules["reprlib"].aRepr
        if value is MISSING:
            delattr(target, key.name)
        else:
            setattr(target, key.name, value)
        return
    module_name, _, attribute = key.table.rpartition(".")
    module = sys.modules[module_name]
    if key.name is None:
        setattr(module, attribute, value)
        return
    table = getattr(module, attribute)
    if value is MISSING:
        table.pop(key.name, None)
        order = getattr(module, "_tryorder", None) if module_name == "webbrowser" else None
        if type(order) is list and key.name in order:
            order.remove(key.name)
    else:
        table[key.name] = value


def _appeared(before: _Registries, after: _Registries) -> frozenset[str]:
    older, newer = before.plan.modules, after.plan.modules
    return frozenset(name for name in _MODULES if older.get(name) is not newer.get(name))


def _module_of(key: Hashable) -> str:
    if isinstance(key, _Entry):
        return key.table if key.table == "csv" else key.table.rpartition(".")[0]
    if type(key) is str and key in _BY_PATH:
        return _BY_PATH[key].module
    return str(getattr(key, "slot", key)).rpartition(".")[0]
