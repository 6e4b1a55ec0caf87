"""The classes of light mocks: what a call gives, with a shared class or one of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import AsyncMock, MagicMock

from isolation_core.mocks._attributes import counted, latest, listed
from isolation_core.mocks._calls import COROUTINE_MARK, call_async, call_dual, call_iterating, call_sync
from isolation_core.mocks._light import LightMock
from isolation_core.mocks._magics import SharedType, variant
from isolation_core.mocks._records import call_of
from isolation_core.mocks._stdlib import default_magics

if TYPE_CHECKING:
    from types import CodeType

__all__ = ["IsolatedMock", "OwnClassMock", "SyncIsolatedMock", "SyncOwnClassMock"]


def _signature_of_a_function(*args: Any, **kwargs: Any) -> None:
    """The same for those whose call gives no coroutine."""


async def _signature_of_a_mock(*args: Any, **kwargs: Any) -> None:
    """Lend its code object to every asynchronous mock, for ``inspect.iscoroutinefunction``."""


class IsolatedMock(LightMock, AsyncMock):
    """A light `AsyncMock`. Make one with `isolated_mock`."""

    __slots__ = ("_i",)
    __code__: CodeType = _signature_of_a_mock.__code__
    __name__ = "AsyncMock"
    __defaults__ = ()
    __kwdefaults__: ClassVar[dict[str, Any]] = {}
    _is_coroutine = COROUTINE_MARK

    await_count = counted("await_count", "awaits")
    await_args = latest("await_args", "awaits", None, call_of)
    await_args_list = listed("await_args_list", "awaits")

    __call__: Any = call_async


class SyncIsolatedMock(LightMock, MagicMock):
    """A light `MagicMock`: a synchronous member of a specified mock."""

    __slots__ = ("_i",)
    __call__: Any = call_sync


class _DualMock(IsolatedMock):
    """A method whose result can be awaited and entered, such as ``asyncpg.Pool.acquire``."""

    __slots__ = ()
    __code__ = _signature_of_a_function.__code__
    _is_coroutine = None
    __call__: Any = call_dual


class _IteratingMock(SyncIsolatedMock):
    """An async generator method."""

    __slots__ = ()
    __call__: Any = call_iterating


class _OwnClass:
    """Mixin: one class per instance, open to assignment, as every mock of the standard library has."""

    __slots__ = ()

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Any:
        shared = cls if "_magics" in cls.__dict__ else variant(cls, default_magics)
        namespace = {"__slots__": (), "__doc__": cls.__doc__, "_own": True, "_guarded": False}
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


class _OwnDualMock(_OwnClass, _DualMock):
    __slots__ = ()


class _OwnIteratingMock(_OwnClass, _IteratingMock):
    __slots__ = ()


for _cls, _family in (
    (LightMock, (IsolatedMock, SyncIsolatedMock, _DualMock, _IteratingMock)),
    (_OwnClass, (OwnClassMock, SyncOwnClassMock, _OwnDualMock, _OwnIteratingMock)),
):
    for _kind, _member in zip(("_async_class", "_sync_class", "_dual_class", "_iterating_class"), _family, strict=True):
        setattr(_cls, _kind, _member)
