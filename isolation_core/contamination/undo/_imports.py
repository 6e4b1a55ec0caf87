"""Imports are not contamination: changes that a new module makes while it is executed are baseline.

A decorator registers a handler in ``app.registry`` when ``app.plugins.mail`` is
first imported, in the middle of some test. Undoing that at the end of the test
would lose the registration for good, because the module stays imported. So the
execution of a new module is bracketed: changes before it belong to the
test, changes during it belong to the process.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any, Final, TypeVar

__all__ = ["ImportWatch"]


_F = TypeVar("_F", bound=Callable[..., Any])
_FILE: Final = "<frozen importlib._bootstrap_external>"


def _as_import_system(function: _F) -> _F:
    """Have the frames of *function* taken for the import system's own.

    ``warnings.warn(..., stacklevel=2)`` at the top of a module names the line that imports it: it does not
    count the frames of the import system, which it tells by their file name. Nor do tracebacks show them.
    """

    def renamed(code: CodeType) -> CodeType:
        inner = tuple(renamed(each) if isinstance(each, CodeType) else each for each in code.co_consts)
        return code.replace(co_filename=_FILE, co_consts=inner)

    function.__code__ = renamed(function.__code__)
    return function


class ImportWatch:
    """A finder that finds nothing itself and brackets the modules others find.

    Args:
        before: called before the outermost new module of a chain is executed.
        after: called with its name when it has been executed, also if that failed.
        is_new: returns whether a module of that name is new to the process.
    """

    def __init__(
        self, before: Callable[[], object], after: Callable[[str], object], is_new: Callable[[str], bool]
    ) -> None:
        self._before = before
        self._after = after
        self._is_new = is_new
        self._local = threading.local()

    def install(self) -> None:
        """Put the finder in front of the others."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def uninstall(self) -> None:
        """Step aside."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    @_as_import_system
    def find_spec(  # pragma: no cover - measured by file name
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Let the other finders find *fullname*, and bracket its execution."""
        depth: int = getattr(self._local, "depth", 0)
        if target is not None or depth or not self._is_new(fullname):
            # A reload is the test's own doing; inside a bracket all is bracketed.
            return None
        spec: ModuleSpec | None = None
        for finder in tuple(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            if find is not None:
                spec = find(fullname, path, target)
                if spec is not None:
                    break
        if spec is not None and spec.loader is not None:
            # Before the import system enters the module anywhere.
            self._before()
            self._bracket(spec.loader)
        return spec

    @_as_import_system
    def _bracket(self, loader: Any) -> None:  # pragma: no cover - measured by file name
        """Shadow ``exec_module`` on this one loader, for one execution.

        The loader stays the same object of the same type: assertion rewriting,
        ``__loader__`` and resource readers see no difference. A loader without
        instance attributes (built-in modules, whose execution runs no Python
        code) is left alone.
        """
        execute = getattr(loader, "exec_module", None)
        if execute is None or isinstance(loader, type):
            return

        def exec_module(module: ModuleType) -> None:
            vars(loader).pop("exec_module", None)
            local = self._local
            outermost = not getattr(local, "depth", 0)
            local.depth = getattr(local, "depth", 0) + 1
            try:
                execute(module)
            finally:
                local.depth -= 1
                if outermost:
                    self._after(module.__name__)

        try:
            loader.exec_module = exec_module
        except (AttributeError, TypeError):
            return
