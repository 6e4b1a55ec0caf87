"""Classes of the real clients where those are installed, look-alikes of the same name where not."""

from __future__ import annotations

import importlib
from functools import cache

from isolation_core.errors import IsolationError

__all__ = ["client_class"]


def client_class(module: str, name: str, base: type[BaseException] | str = Exception) -> type[BaseException]:
    """Return the exception class *name* of a client's *module*, or a look-alike if that client is not installed.

    Args:
        module: where the real class is, such as ``"asyncpg.exceptions"``.
        name: the class.
        base: the base class of a look-alike, together with `IsolationError`: a builtin, or another look-alike
            (or its name, in the same module) so that ``except`` clauses for the base class work.

    Returns:
        The real class, or always the same look-alike.
    """
    return _found(module, name, base)  # type: ignore[arg-type]  # a class is hashable


@cache
def _found(module: str, name: str, base: type[BaseException] | str) -> type[BaseException]:
    try:
        # A client is imported by the users of its double only.
        found: type[BaseException] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        parent = client_class(module, base) if isinstance(base, str) else base
        bases = (parent,) if issubclass(parent, IsolationError) else (IsolationError, parent)
        doc = f"Stands for ``{module}.{name}``, whose package is not installed."
        return type(name, bases, {"__module__": module, "__doc__": doc})
    assert issubclass(found, BaseException)
    return found
