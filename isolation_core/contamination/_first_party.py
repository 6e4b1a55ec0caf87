"""Which modules are first-party, and what they import."""

from __future__ import annotations

import os
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

__all__ = [
    "EVERY",
    "PROBED_MODULES",
    "Territory",
    "foreign_classes_in",
    "imports_of",
    "is_installed",
    "is_of_runner",
    "leave_to_runner",
]

_OURS: Final = ("isolation_core", "isolation_pytest", "isolation_script", "isolation_unittest")
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_STDLIB: Final = tuple({os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib")})
_TOP_MODULES: Final = sys.stdlib_module_names

EVERY: Final = "*"
"""In place of a package's name: the attributes of every module that is loaded."""

PROBED_MODULES: Final = frozenset(
    {"builtins", "gc", "locale", "logging", "mimetypes", "signal", "sys", "typing", "warnings"}
)
"""Watched slot by slot by probes of their own, or (typing) nothing but caches."""


_RUNNERS: Final = frozenset(
    {
        "_hypothesis_pytestplugin", "_pydev_bundle", "_pydevd_bundle", "_pydevd_frame_eval", "_pytest", "bdb",
        "coverage", "debugpy", "execnet", "hypothesis", "ipdb", "isolation_core", "isolation_pytest",
        "isolation_script", "isolation_unittest", "pdb", "pluggy", "pudb", "pydevd", "pytest", "xdist",
    }
)  # fmt: skip


def is_of_runner(package: str) -> bool:
    """Tell whether *package* runs, traces, debugs or measures tests: what it owns is not contamination."""
    return package in _RUNNERS or package.startswith("pytest_")


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


_runner_modules: set[str] = set()


def leave_to_runner(names: Iterable[str]) -> None:
    """Never watch the modules called *names*: the runner's plugins keep their own state in them."""
    _runner_modules.update(names)


class Territory:
    """Answers whether a module is watched deeply ("first-party").

    Args:
        packages: names of packages; they and everything below them are
            first-party. None means: every module whose file lies under *root*
            and not in an installation folder or the standard library, and every
            module of a top-level package whose sources lie there (as they do
            when a project with a ``src`` folder tests its installed copy).
            `EVERY` among them leaves that as it is, and adds the attributes of
            all other modules.
        root: the folder; the current one by default.
    """

    def __init__(self, packages: Iterable[str] | None = None, *, root: str | os.PathLike[str] | None = None) -> None:
        self.packages = None if packages is None else tuple(packages)
        self.every = self.packages is not None and EVERY in self.packages
        named = tuple(name for name in self.packages or () if name != EVERY)
        # Nothing but the star: first-party is what it would be without it.
        self._named = None if self.packages is None or (self.every and not named) else named
        self.root = os.path.realpath(root if root is not None else _current_folder())
        self._verdicts: dict[str, bool] = {}
        self._here = self._packages_below_root() if self._named is None else frozenset()

    def _packages_below_root(self) -> frozenset[str]:
        found: set[str] = set()
        for folder in (self.root, os.path.join(self.root, "src")):
            try:
                entries = os.scandir(folder)
            except OSError:
                continue
            with entries:
                found.update(entry.name for entry in entries if os.path.isfile(os.path.join(entry.path, "__init__.py")))
        return frozenset(found - _TOP_MODULES)

    def includes(self, name: str) -> bool:
        """Tell whether the module called *name* is first-party."""
        verdict = self._verdicts.get(name)
        if verdict is None:
            module = sys.modules.get(name)
            verdict = self._judge(name, module)
            if module is not None:
                self._verdicts[name] = verdict
        return verdict

    def _judge(self, name: str, module: Any) -> bool:
        top = name.partition(".")[0]
        if top in _OURS or name in _runner_modules:
            return False
        if self._named is not None:
            return self.is_asked_for(name)
        if module is None:
            return False
        path = _file_of(module)
        if path is None:
            return False
        if top in self._here:
            return True
        # realpath() asks the file system: thousands of installed modules must
        # not each cost that.
        if is_installed(path):
            return False
        path = os.path.realpath(path)
        return path.startswith(self.root + os.sep) and not is_installed(path)

    def is_asked_for(self, name: str) -> bool:
        """Tell whether *name* lies in the packages that were named; yes if none were."""
        return self._named is None or any(name == package or name.startswith(f"{package}.") for package in self._named)

    def is_runners(self, name: str) -> bool:
        """Tell whether a module belongs to the runner, its plugins, or to this library."""
        return name in _runner_modules or is_of_runner(name.partition(".")[0])

    def is_users(self, name: str, module: Any) -> bool:
        """Tell whether a module is somebody's own code: not installed, not the standard library."""
        top = name.partition(".")[0]
        if top in _OURS or name in _runner_modules or (top in _TOP_MODULES and top != "__main__"):
            return False
        if self.includes(name):
            return True
        path = _file_of(module)
        return path is not None and not is_installed(path) and not is_installed(os.path.realpath(path))


def is_installed(path: str) -> bool:
    """Tell whether the real *path* belongs to an installed package or the standard library."""
    return any(part in path for part in _INSTALLED) or path.startswith(_STDLIB)


def _current_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # the folder was deleted
        return os.sep


def imports_of(module: types.ModuleType) -> set[str]:
    """Return the names of loaded modules that *module* imports, at its top or inside its functions."""
    found = set()
    for value in tuple(module.__dict__.values()):
        kind = type(value)
        if kind is types.ModuleType:
            name = value.__dict__.get("__name__")
            if isinstance(name, str):
                found.add(name)
        elif kind is types.FunctionType:
            found.update(_loaded_names(value.__code__))
        elif issubclass(kind, type) and value.__dict__.get("__module__") == module.__name__:
            for member in tuple(type.__dict__["__dict__"].__get__(value).values()):
                if type(member) is types.FunctionType:
                    found.update(_loaded_names(member.__code__))
    return found


def _loaded_names(code: types.CodeType) -> Iterator[str]:
    """Yield the names in *code* that are loaded modules: an import statement keeps its name there."""
    modules = sys.modules
    for name in code.co_names:
        if name in modules:
            yield name
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from _loaded_names(constant)


def foreign_classes_in(module: types.ModuleType, is_users: Callable[[str, Any], bool]) -> Iterator[tuple[str, type]]:
    """Yield label and class of the installed or standard classes *module* imported by name."""
    for value in tuple(module.__dict__.values()):
        if issubclass(type(value), type):
            space = type.__dict__["__dict__"].__get__(value)
            home = space.get("__module__")
            if isinstance(home, str) and not is_users(home, sys.modules.get(home)):
                yield f"{home}.{type.__dict__['__qualname__'].__get__(value)}", value
