"""The private names of ``unittest.mock`` that isolated mocks depend on, read here and nowhere else.

All of them exist on every supported Python version; importing this module on
one that has dropped a name fails with the name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from unittest import mock

__all__ = [
    "DEFAULT",
    "DELETED",
    "Call",
    "CallList",
    "MagicProxy",
    "SpecState",
    "all_magics",
    "all_sync_magics",
    "async_method_magics",
    "check_and_set_parent",
    "child_lock",
    "default_magics",
    "extract_mock",
    "is_callable",
    "is_exception",
    "is_mock",
    "set_magic_default",
    "try_iter",
    "unsupported_magics",
]

_private: Final[Mapping[str, Any]] = vars(mock)

try:
    Call: Final[Any] = _private["_Call"]
    CallList: Any = _private["_CallList"]
    DELETED: Final[Any] = _private["_deleted"]
    MagicProxy: Any = _private["MagicProxy"]
    SpecState: Final[type[Any]] = _private["_SpecState"]
    all_magics: Final[frozenset[str]] = frozenset(_private["_all_magics"])
    all_sync_magics: Final[frozenset[str]] = frozenset(_private["_all_sync_magics"])
    async_method_magics: Final[frozenset[str]] = frozenset(_private["_async_method_magics"])
    unsupported_magics: Final[frozenset[str]] = frozenset(_private["_unsupported_magics"])
    # ``__sizeof__`` stays the real one: heap walkers call it, and a mock that
    # answers by creating a mock grows while it is being measured.
    default_magics: Final[frozenset[str]] = (frozenset(_private["_magics"]) | async_method_magics) - {"__sizeof__"}
    check_and_set_parent: Final[Callable[[Any, Any, str | None, str | None], bool]] = _private["_check_and_set_parent"]
    set_magic_default: Final[Callable[[Any, Any, str], None]] = _private["_set_return_value"]
    extract_mock: Final[Callable[[Any], Any]] = _private["_extract_mock"]
    is_callable: Final[Callable[[Any], bool]] = _private["_callable"]
    is_exception: Final[Callable[[Any], bool]] = _private["_is_exception"]
    is_mock: Final[Callable[[Any], bool]] = _private["_is_instance_mock"]
    try_iter: Final[Callable[[Any], Any]] = _private["_try_iter"]
    # One lock for all mocks, the standard library's own: a child must not be
    # made twice when two threads touch the same attribute first.
    child_lock: Final[Any] = vars(mock.NonCallableMock)["_lock"]
except KeyError as _missing:  # pragma: no cover
    raise ImportError(
        f"isolated mocks do not know this version of unittest.mock: it has no {_missing}. "
        "Install a newer isolation-core, or use AsyncMock until there is one."
    ) from None

DEFAULT: Final[Any] = mock.DEFAULT
