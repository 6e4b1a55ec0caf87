"""Whose an object is: the runner's, a tool's, a library's, or the project's own."""

from __future__ import annotations

import functools
import sys
import types
from typing import Any, Final

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination._first_party import is_installed, is_of_runner
from isolation_core.contamination.objects._by_type import module_of

__all__ = ["home_of", "is_library_code", "is_loop_hook", "is_runners"]

_LOOPS: Final = frozenset({"asyncio", "trio", "uvloop", "winloop"})


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
    """Tell whether *value* belongs to the test runner, a coverage tool, a debugger or to us."""
    if value is MISSING:
        return False
    top = home_of(value).partition(".")[0]
    if is_of_runner(top):
        return True
    # A project's own subclass of a debugger is still a debugger.
    if type(value) is types.MethodType and not isinstance(value.__self__, type):
        return any(module_of(base) == "bdb" for base in type(value.__self__).__mro__)
    return False


def is_loop_hook(value: Any) -> bool:
    """Tell whether *value* was installed by a running event loop, which removes it by itself."""
    return home_of(value).partition(".")[0] in _LOOPS


def is_library_code(value: Any) -> bool:
    """Tell whether *value* is the work of an installed package or the standard library."""
    name = home_of(value)
    if name in ("", "builtins", "__main__"):
        return False
    if name.partition(".")[0] in sys.stdlib_module_names:
        return True
    module = sys.modules.get(name)
    path = module.__dict__.get("__file__") if type(module) is types.ModuleType else None
    return isinstance(path, str) and is_installed(path)
