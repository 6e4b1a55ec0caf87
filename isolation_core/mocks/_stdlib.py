"""The private names of ``unittest.mock`` the light engine leans on, checked once at import.

Everything private is read here and nowhere else, so that one look tells what a
new Python version may break. When a name is missing, or the self-test in
`isolation_core.mocks._engine` fails, the plain engine takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from unittest import mock

__all__ = [
    "DEFAULT",
    "DELETED",
    "MISSING_NAMES",
    "Call",
    "CallList",
    "MagicProxy",
    "SpecState",
    "all_magics",
    "all_sync_magics",
    "allowed_names",
    "async_method_magics",
    "check_and_set_parent",
    "child_lock",
    "default_magics",
    "extract_mock",
    "is_callable",
    "is_exception",
    "is_mock",
    "magic_return_values",
    "set_magic_default",
    "try_iter",
    "unsupported_magics",
]

_missing: list[str] = []


def _private(name: str, substitute: Any) -> Any:
    try:
        return getattr(mock, name)
    except AttributeError:
        _missing.append(name)
        return substitute


def _no(*_args: object) -> Any:
    return None


DEFAULT: Final[Any] = mock.DEFAULT
DELETED: Final[Any] = _private("_deleted", object())

Call: Final[Any] = _private("_Call", tuple)
CallList: Any = _private("_CallList", list)
MagicProxy: Any = _private("MagicProxy", type("MagicProxy", (), {}))
SpecState: Final[type[Any]] = _private("_SpecState", type("SpecState", (), {}))

all_magics: Final[frozenset[str]] = frozenset(_private("_all_magics", ()))
all_sync_magics: Final[frozenset[str]] = frozenset(_private("_all_sync_magics", ()))
async_method_magics: Final[frozenset[str]] = frozenset(_private("_async_method_magics", ()))
unsupported_magics: Final[frozenset[str]] = frozenset(_private("_unsupported_magics", ()))
allowed_names: Final[frozenset[str]] = frozenset(_private("_allowed_names", ()))

default_magics: Final[frozenset[str]] = (
    # ``__sizeof__`` stays the real one: heap walkers call it, and a mock that
    # answers by creating a mock grows while it is being measured.
    frozenset(_private("_magics", ())) | async_method_magics
) - {"__sizeof__"}
"""The magic methods an unspecified mock supports without being told."""

check_and_set_parent: Final[Callable[[Any, Any, str | None, str | None], bool]] = _private("_check_and_set_parent", _no)
set_magic_default: Final[Callable[[Any, Any, str], None]] = _private("_set_return_value", _no)
magic_return_values: Final[Mapping[str, Any]] = _private("_return_values", {})
extract_mock: Final[Callable[[Any], Any]] = _private("_extract_mock", _no)
is_callable: Final[Callable[[Any], bool]] = _private("_callable", callable)
is_exception: Final[Callable[[Any], bool]] = _private("_is_exception", _no)
is_mock: Final[Callable[[Any], bool]] = _private("_is_instance_mock", _no)
try_iter: Final[Callable[[Any], Any]] = _private("_try_iter", _no)

# One lock for all mocks, the standard library's own: a child must not be made
# twice when two threads touch the same attribute first.
child_lock: Final[Any] = getattr(mock.NonCallableMock, "_lock", None)
if child_lock is None:
    _missing.append("NonCallableMock._lock")

_missing.extend(
    f"NonCallableMock.{method}"
    for method in ("_mock_add_spec", "_extract_mock_name", "_call_matcher", "_format_mock_call_signature")
    if not hasattr(mock.NonCallableMock, method)
)

MISSING_NAMES: Final[tuple[str, ...]] = tuple(_missing)
"""Private names this interpreter's ``unittest.mock`` does not have; empty on every supported version."""
