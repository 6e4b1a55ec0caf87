"""The classes of light mocks, by the kind of a call's result, shared or one for each mock."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, MagicMock

from isolation_core.mocks._attributes import counted, latest, listed
from isolation_core.mocks._calls import COROUTINE_MARK, call_async, call_dual, call_iterating, call_sync
from isolation_core.mocks._light import NO_KINDS, LightMock
from isolation_core.mocks._magics import SharedType, variant
from isolation_core.mocks._records import call_of
from isolation_core.mocks._stdlib import default_magics

__all__ = ["KINDS", "OWN_KINDS", "IsolatedMock", "OwnClassMock", "SyncIsolatedMock", "SyncOwnClassMock"]


def _signature_of_a_function(*args: Any, **kwargs: Any) -> None:
    """The same for those whose call gives no coroutine."""


async def _signature_of_a_mock(*args: Any, **kwargs: Any) -> None:
    """Lend its code object to every asynchronous mock, for ``inspect.iscoroutinefunction``."""


class IsolatedMock(LightMock, AsyncMock):
    """A light `AsyncMock`. Make one with `isolated_mock`."""

    __slots__ = ("_isolation_state",)
    __code__ = _signature_of_a_mock.__code__
    __name__ = "AsyncMock"
    __defaults__ = ()
    __kwdefaults__ = NO_KINDS
    _is_coroutine = COROUTINE_MARK
    _isolation_gives = "async"

    await_count = counted("await_count", "awaits")
    await_args = latest("await_args", "awaits", None, call_of)
    await_args_list = listed("await_args_list", "awaits")

    __call__ = call_async


class SyncIsolatedMock(LightMock, MagicMock):
    """A light `MagicMock`: a synchronous function, method or attribute."""

    __slots__ = ("_isolation_state",)
    __call__ = call_sync


class _SyncCalled(IsolatedMock):
    """A mock of a class, an object or a module whose call, if there is one, gives no coroutine."""

    __slots__ = ()
    __code__ = _signature_of_a_function.__code__
    _is_coroutine = None
    _isolation_gives = "sync"
    __call__ = call_sync


class _Dual(_SyncCalled):
    """A method whose result can be awaited and entered, such as ``asyncpg.Pool.acquire``."""

    __slots__ = ()
    _isolation_gives = "async"
    __call__ = call_dual


class _Iterating(SyncIsolatedMock):
    """An async generator method."""

    __slots__ = ()
    __call__ = call_iterating


class _OwnClass:
    """Mixin: one class per instance, open to assignment, as every mock of the standard library has."""

    __slots__ = ()
    _isolation_kinds = NO_KINDS

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Any:
        shared = cls if "_isolation_magics" in cls.__dict__ else variant(cls, default_magics)
        namespace = {"__slots__": (), "__doc__": cls.__doc__, "_isolation_own": True, "_isolation_guarded": False}
        own: Any = SharedType(cls.__name__, (shared,), namespace)
        return object.__new__(own)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        # ``create_autospec`` and users put their checker on the class.
        self._mock_check_sig(*args, **kwargs)  # type: ignore[attr-defined]
        return super().__call__(*args, **kwargs)  # type: ignore[misc]


class OwnClassMock(_OwnClass, IsolatedMock):
    """A light `AsyncMock` with a class of its own: ``type(m).name = PropertyMock()`` works."""

    __slots__ = ()


class SyncOwnClassMock(_OwnClass, SyncIsolatedMock):
    """The synchronous kind of `OwnClassMock`."""

    __slots__ = ()


class _OwnSyncCalled(_OwnClass, _SyncCalled):
    __slots__ = ()


class _OwnDual(_OwnClass, _Dual):
    __slots__ = ()


class _OwnIterating(_OwnClass, _Iterating):
    __slots__ = ()


KINDS = {
    "async": IsolatedMock, "sync": SyncIsolatedMock, "dual": _Dual, "iterating": _Iterating, "root": _SyncCalled,
}  # fmt: skip
"""Shape of a call -> class; ``root``: a mock a user made that is no function."""
OWN_KINDS = {
    "async": OwnClassMock, "sync": SyncOwnClassMock, "dual": _OwnDual, "iterating": _OwnIterating,
    "root": _OwnSyncCalled,
}  # fmt: skip
for _kind in ("root", "dual", "iterating"):
    for _family in (KINDS, OWN_KINDS):
        # What ``repr`` shows: the words users know.
        _family[_kind].__name__ = ("Sync" if _kind == "iterating" else "") + "IsolatedMock"
LightMock._isolation_kinds = KINDS
_OwnClass._isolation_kinds = OWN_KINDS
