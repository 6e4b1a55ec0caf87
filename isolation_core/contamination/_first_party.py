"""Whose a thing is: the project's own ("first-party"), an installed package's, the runner's, or ours.

The one place that decides it, for modules by name and file, and for objects by
the module they come from. State of tools that run, measure or debug the tests
is not contamination and is never touched.
"""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
import types
from collections.abc import Iterable
from typing import Any, Final

from isolation_core._suggest import did_you_mean
from isolation_core.contamination._difference import MISSING

__all__ = [
    "EVERY",
    "Territory",
    "absent_packages",
    "flags_of",
    "home_of",
    "is_installed",
    "is_installed_class",
    "is_library",
    "is_library_code",
    "is_loop_hook",
    "is_of_runner",
    "is_runner_class",
    "is_runners",
    "is_stdlib",
    "leave_to_runner",
    "module_of",
]

EVERY: Final = "*"
"""In place of a package's name: the attributes of every module that is loaded."""

_OURS: Final = frozenset({"isolation_core", "isolation_pytest", "isolation_script", "isolation_unittest"})
_RUNNERS: Final = _OURS | {
    "_hypothesis_pytestplugin", "_pydev_bundle", "_pydevd_bundle", "_pydevd_frame_eval", "_pytest",
    "anyio_pytest_plugin", "bdb", "behave", "coverage", "debugpy", "execnet", "hypothesis", "ipdb", "pdb", "pluggy",
    "pudb", "pydevd", "pytest", "xdist",
}  # fmt: skip
_RUNNERS_MODULES: Final = ("anyio.pytest_plugin",)
_LOOPS: Final = frozenset({"asyncio", "trio", "uvloop", "winloop"})

_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_STDLIB: Final = tuple({os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib")})

_runner_modules: set[str] = set()


# -- modules, by name and file -----------------------------------------------


def _top(name: str) -> str:
    return name.partition(".")[0]


def is_of_runner(name: str) -> bool:
    """Return whether the module or package *name* runs, traces, debugs or measures tests."""
    top = _top(name)
    return top in _RUNNERS or top.startswith("pytest_") or name.startswith(_RUNNERS_MODULES)


def is_ours(name: str) -> bool:
    """Return whether the module *name* is part of this library, or was left to the runner."""
    return _top(name) in _OURS or name in _runner_modules


def is_stdlib(name: str) -> bool:
    """Return whether the module *name* is part of the standard library."""
    return _top(name) in sys.stdlib_module_names


def is_library(name: str) -> bool:
    """Return whether the loaded module *name* is installed, or part of the standard library."""
    return is_stdlib(name) or _is_installed_module(name)


def leave_to_runner(names: Iterable[str]) -> None:
    """Never watch the modules called *names*: the runner's plugins keep their own state in them."""
    _runner_modules.update(names)


def is_installed(path: str) -> bool:
    """Return whether the real *path* belongs to an installed package or the standard library."""
    return any(part in path for part in _INSTALLED) or path.startswith(_STDLIB)


def _file_of(module: Any) -> str | None:
    # Not getattr(): a lazy module's __getattr__ may import half a framework.
    if type(module) is types.ModuleType:
        namespace = module.__dict__
    else:
        try:
            namespace = types.ModuleType.__getattribute__(module, "__dict__")
        except TypeError:  # an object that poses as a module
            return None
    found = namespace.get("__file__")
    if found is None:
        paths = namespace.get("__path__")
        if type(paths) is list and paths:
            found = paths[0]
    return found if isinstance(found, str) else None


def _current_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # the folder was deleted
        return os.sep


class Territory:
    """Answers whether a module is watched deeply ("first-party").

    Args:
        packages: names of packages; they and everything below them are
            first-party. None means: every module whose file lies under *root*
            and not in an installation folder or the standard library, and every
            module of a top-level package whose sources lie there (as they do
            when a project with a ``src`` folder tests its installed copy).
            `EVERY` among them keeps this rule, and adds the attributes of
            all other modules.
        root: the folder, or several of them; the current one by default.
    """

    def __init__(
        self, packages: Iterable[str] | None = None, *, root: str | os.PathLike[str] | tuple[str, ...] | None = None
    ) -> None:
        self.packages = None if packages is None else tuple(packages)
        self.every = self.packages is not None and EVERY in self.packages
        named = tuple(name for name in self.packages or () if name != EVERY)
        # Nothing but the star: first-party is what it would be without it.
        self._named = None if self.packages is None or (self.every and not named) else named
        given = root if isinstance(root, tuple) else (_current_folder() if root is None else root,)
        self.roots = tuple(os.path.realpath(folder) for folder in given)
        self._below = tuple(os.path.join(folder, "") for folder in self.roots)
        self._verdicts: dict[str, bool] = {}
        self._here = self._packages_below_roots() if self._named is None else frozenset()

    def _packages_below_roots(self) -> frozenset[str]:
        found: set[str] = set()
        for folder in (each for root in self.roots for each in (root, os.path.join(root, "src"))):
            try:
                entries = os.scandir(folder)
            except OSError:
                continue
            with entries:
                found.update(entry.name for entry in entries if os.path.isfile(os.path.join(entry.path, "__init__.py")))
        return frozenset(found - sys.stdlib_module_names)

    def includes(self, name: str) -> bool:
        """Return whether the module called *name* is first-party."""
        verdict = self._verdicts.get(name)
        if verdict is None:
            module = sys.modules.get(name)
            verdict = self._judge(name, module)
            if module is not None:
                self._verdicts[name] = verdict
        return verdict

    def _judge(self, name: str, module: Any) -> bool:
        if is_ours(name):
            return False
        if self._named is not None:
            return self.is_asked_for(name)
        if module is None:
            return False
        path = _file_of(module)
        if path is None:
            return False
        if _top(name) in self._here:
            return True
        # realpath() asks the file system: thousands of installed modules must
        # not each cost that.
        if is_installed(path):
            return False
        path = os.path.realpath(path)
        return path.startswith(self._below) and not is_installed(path)

    def is_asked_for(self, name: str) -> bool:
        """Return whether *name* is in the given packages; yes if none were given."""
        return self._named is None or any(name == package or name.startswith(f"{package}.") for package in self._named)

    def is_runners(self, name: str) -> bool:
        """Return whether a module belongs to the runner, its plugins, or to this library."""
        return name in _runner_modules or is_of_runner(name)

    def is_users(self, name: str, module: Any) -> bool:
        """Return whether a module is user code: not installed, not part of the standard library."""
        if is_ours(name) or (is_stdlib(name) and name != "__main__"):
            return False
        if self.includes(name):
            return True
        path = _file_of(module)
        return path is not None and not is_installed(path) and not is_installed(os.path.realpath(path))


# -- objects, by the module they come from -----------------------------------


_DICT_OF: Final = type.__dict__["__dict__"]


_FLAGS_OF: Final = type.__dict__["__flags__"]


def flags_of(kind: type) -> int:
    """Return the flags of *kind*, without asking its metaclass, which may raise."""
    found: int = _FLAGS_OF.__get__(kind)
    return found


def module_of(kind: type) -> str:
    """Return the module *kind* says it comes from, without asking its metaclass."""
    found = _DICT_OF.__get__(kind).get("__module__")
    if isinstance(found, str):
        return found
    return "builtins" if not flags_of(kind) & (1 << 9) else ""


def is_runner_class(kind: type) -> bool:
    """Return whether instances of *kind* belong to the test runner, a debugger or to us."""
    return is_of_runner(module_of(kind))


def is_installed_class(kind: type) -> bool:
    """Return whether *kind* is defined by an installed package, and not by the standard library."""
    top = _top(module_of(kind))
    return not is_stdlib(top) and _is_installed_module(top)


def _is_installed_module(name: str) -> bool:
    module = sys.modules.get(name)
    path = None if module is None else _file_of(module)
    return path is not None and is_installed(path)


def home_of(value: Any) -> str:
    """Return the name of the module that *value* (a function, method or instance) comes from."""
    while True:
        kind = type(value)
        if kind is functools.partial:
            value = value.func
        elif kind is types.MethodType:
            owner = value.__self__
            if isinstance(owner, type):
                return module_of(owner)
            # The most derived class decides: a debugger subclasses bdb.
            return module_of(type(owner))
        elif kind is types.FunctionType:
            found = value.__globals__.get("__name__")
            return found if type(found) is str else ""
        elif kind is types.BuiltinFunctionType:
            found = value.__module__
            return found if type(found) is str else ""
        else:
            return module_of(value if issubclass(kind, type) else kind)


def is_runners(value: Any) -> bool:
    """Return whether *value* belongs to the test runner, a coverage tool, a debugger or to us."""
    if value is MISSING:
        return False
    if is_of_runner(home_of(value)):
        return True
    # A project's own subclass of a debugger is still a debugger.
    if type(value) is types.MethodType and not isinstance(value.__self__, type):
        return any(module_of(base) == "bdb" for base in type(value.__self__).__mro__)
    return False


def is_loop_hook(value: Any) -> bool:
    """Return whether *value* was installed by a running event loop, which removes it by itself."""
    return _top(home_of(value)) in _LOOPS


def is_library_code(value: Any) -> bool:
    """Return whether *value* is the work of an installed package or the standard library."""
    name = home_of(value)
    return name not in ("", "builtins", "__main__") and is_library(name)


# -- packages that are not there ---------------------------------------------


def absent_packages(packages: Iterable[str] | None) -> dict[str, str]:
    """Return those of *packages* that are not loaded and cannot be found either, each with a text about it.

    One that exists and was not needed in this run is none of them. Imports nothing.
    """
    named = (name for name in packages or () if name != EVERY)
    return {name: _text(name) for name in named if name not in sys.modules and not _exists(name)}


def _exists(name: str) -> bool:
    import importlib.util

    above = name.rpartition(".")[0]
    if above and above not in sys.modules:
        # Looking for it would import what is above it.
        return _exists(above)
    try:
        return importlib.util.find_spec(name) is not None
    except Exception:  # a finder of another package, on a name that does not exist
        return False


def _text(name: str) -> str:
    inner = "." in name
    loaded = sorted({each if inner else each.partition(".")[0] for each in tuple(sys.modules)})
    hint = did_you_mean(name, loaded, otherwise="name a package your tests import")
    return f"there is no package {name!r}, so nothing of it was watched; {hint}"
