"""Modules that a test imports first: what they did stays, what they hold of the test's fakes does not.

A module is executed once. What it does elsewhere is kept, because no test would
do it again; here it is said, as a note, with the advice to import it earlier.

What it took by ``from datetime import datetime`` while a test had that frozen
or patched is another matter: the name would stay bound to the fake for the
rest of the run. When the source has its own value again, at the latest at the
end of a frame, such a name is bound to it as well. The import statements say
where a name came from; they are read only where something had been patched.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from importlib.util import resolve_name
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple
from weakref import ref

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination._first_party import home_of
from isolation_core.contamination.undo._entries import Entry
from isolation_core.findings import Change

__all__ = ["FirstImports", "describe", "describe_forgotten", "from_imports"]

_FAKERS: Final = frozenset({"freezegun", "mock", "pyfakefs", "time_machine", "unittest"})
_SHOWN: Final = 3


class _Taken(NamedTuple):
    """A name that a module took from another while that had something in its place."""

    module: ref[ModuleType]
    name: str
    source: str
    attribute: str
    fake: int


class FirstImports:
    """The modules imported inside of frames, as far as they took something that may be a fake."""

    def __init__(self) -> None:
        self._taken: list[_Taken] = []

    def add(
        self,
        modules: Iterable[ModuleType],
        patched: Iterable[Entry],
        test_modules: Collection[str],
        is_users: Callable[[str], bool],
    ) -> None:
        """Remember what *modules*, executed just now, took of what may be a fake.

        Args:
            modules: the new modules.
            patched: what had moved in the open frames before.
            test_modules: names of the modules that hold tests: what comes from there is a fake.
            is_users: returns whether a module is the user's own.
        """
        moved = set()
        for entry in patched:
            namespace = entry.slot.namespace()
            if namespace is not None:
                moved.add((namespace.get("__name__"), entry.slot.key))
        for module in modules:
            namespace = vars(module)
            # Of libraries, only what looks like a fake: their code is much to read.
            if not (moved and is_users(module.__name__)) and not any(
                _is_fake(value, test_modules) for value in tuple(namespace.values())
            ):
                continue
            for name, source, attribute in from_imports(module):
                value = namespace.get(name, MISSING)
                # Not a name that the module has given another value since.
                if (
                    value is not MISSING
                    and value is _value_at(source, attribute)
                    and ((source, attribute) in moved or _is_fake(value, test_modules))
                ):
                    self._taken.append(_Taken(ref(module), name, source, attribute, id(value)))

    def accept(self, entries: Iterable[Entry], depth: int) -> None:
        """Give those of *entries* to *depth* that bind a name to what its import statement stands for by now.

        The code that patched the source has put the name right as well, as freezegun does.
        """
        if not self._taken:
            return
        for entry in entries:
            namespace = entry.slot.namespace()
            if namespace is None:
                continue
            for taken in self._taken:
                module = taken.module()
                if (
                    module is not None
                    and namespace.get("__name__") == module.__name__
                    and entry.slot.key == taken.name
                    and id(entry.before) == taken.fake
                    and _value_at(taken.source, taken.attribute) is entry.after
                ):
                    entry.depth = depth

    def rebind(self) -> bool:
        """Bind the names that still are fakes to what their source has now; return whether there was one."""
        left = []
        count = 0
        for taken in self._taken:
            module = taken.module()
            if module is None or sys.modules.get(module.__name__) is not module:
                continue
            value = vars(module).get(taken.name, MISSING)
            now = _value_at(taken.source, taken.attribute)
            if id(value) != taken.fake or now is MISSING:
                continue
            if now is value:
                # Patched by a wider frame: it may be taken back later.
                left.append(taken)
                continue
            setattr(module, taken.name, now)
            count += 1
        self._taken = left
        return count > 0

    def clear(self) -> None:
        """Forget all of them."""
        self._taken.clear()


def describe(
    name: str, effects: Iterable[Entry], patched: Iterable[Entry], *, owner: str, scope: str, first_party: bool
) -> Change | None:
    """Return the note about the first import of module *name*, or None where there is nothing to say.

    Args:
        name: the module.
        effects: what moved elsewhere while it was executed.
        patched: what the test had changed before.
        owner: the test.
        scope: the width of its frame.
        first_party: whether the module is the user's own: only then does it matter what was changed before.
    """
    did = _paths(entry for entry in effects if entry.severity != "note")
    saw = _paths(patched) if first_party else ""
    if not did and not saw:
        return None
    facts = [f"changed {did}"] if did else []
    facts += [f"was executed while {saw} was changed"] if saw else []
    return Change(
        "import",
        f"import {name}",
        before="<not imported>",
        after=f"<first imported; it {' and '.join(facts)}>",
        code="IMP001",
        owner=owner,
        scope=scope,
        severity="note",
        reason="kept; import it in conftest.py",
    )


def describe_forgotten(name: str, *, owner: str, scope: str) -> Change:
    """Return the note about module *name*, which was imported first and taken out of ``sys.modules`` again."""
    return Change(
        "import",
        f"sys.modules[{name!r}]",
        before="<first imported>",
        after="<taken out again>",
        code="IMP001",
        owner=owner,
        scope=scope,
        severity="note",
        reason="its next import makes its classes a second time; import it in conftest.py",
    )


def _paths(entries: Iterable[Entry]) -> str:
    paths: dict[str, None] = {}
    for entry in entries:
        slot = entry.slot
        if not (slot.is_silent or slot.tells_imports or slot.agrees(entry.before, entry.after)):
            paths[slot.path()] = None
    shown = list(paths)[:_SHOWN]
    if len(paths) > _SHOWN:
        shown.append(f"{len(paths) - _SHOWN} more")
    return ", ".join(shown)


def _value_at(source: str, attribute: str) -> Any:
    module = sys.modules.get(source)
    return vars(module).get(attribute, MISSING) if type(module) is ModuleType else MISSING


def _is_fake(value: Any, test_modules: Collection[str]) -> bool:
    """Return whether *value* is made by a test, or by a library that puts one thing in the place of another."""
    kind = type(value)
    if kind is ModuleType:
        return False
    # Not by what an instance says of itself: a mock answers everything.
    home = home_of(value) if kind is FunctionType or issubclass(kind, type) else kind.__module__
    if not isinstance(home, str):
        return False
    return home in test_modules or home.partition(".")[0] in _FAKERS


def from_imports(module: ModuleType) -> Iterator[tuple[str, str, str]]:
    """Yield name, source and attribute of each ``from source import attribute as name`` at the top of *module*."""
    code = _code_of(module)
    if code is None:
        return
    package = vars(module).get("__package__") or ""
    source: str | None = None
    attribute: str | None = None
    level = fromlist = None
    constants: list[Any] = []
    for step in dis.get_instructions(code):
        match step.opname:
            case "LOAD_CONST" | "LOAD_SMALL_INT" | "LOAD_COMMON_CONSTANT":
                constants.append(step.argval)
            case "IMPORT_NAME":
                level, fromlist = (constants[-2], constants[-1]) if len(constants) > 1 else (0, None)
                source = None
                if fromlist:
                    try:
                        source = resolve_name("." * level + step.argval, package) if level else step.argval
                    except ImportError:
                        source = None
            case "IMPORT_FROM":
                attribute = step.argval
            case "STORE_NAME" | "STORE_GLOBAL":
                if source is not None and attribute is not None:
                    yield step.argval, source, attribute
                attribute = None
            case _:
                pass


def _code_of(module: ModuleType) -> CodeType | None:
    """Return the code of a pure Python module, as the import system has it."""
    spec = vars(module).get("__spec__")
    get_code = getattr(getattr(spec, "loader", None), "get_code", None)
    if get_code is None:
        return None
    try:
        code = get_code(module.__name__)
    except Exception:  # a loader of other code, a file that is gone
        return None
    return code if isinstance(code, CodeType) else None
