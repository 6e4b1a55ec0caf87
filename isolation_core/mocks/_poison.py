"""Discarded mocks: every use raises an error that names the owner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn
from unittest.mock import AsyncMock, MagicMock, Mock, NonCallableMagicMock, NonCallableMock

from isolation_core.errors import MockDiscardedError
from isolation_core.mocks._kinds import IsolatedMock, SyncIsolatedMock
from isolation_core.mocks._magics import SharedType, set_type
from isolation_core.mocks._ownership import Place, caller, place_text
from isolation_core.mocks._stdlib import default_magics

__all__ = ["Tomb", "is_discarded", "poison"]


class Tomb:
    """The rest of a discarded mock: only names, so that it keeps nothing alive."""

    __slots__ = ("made_at", "name", "owner", "record", "running")

    def __init__(
        self,
        owner: str | None,
        name: str,
        made_at: Place | None,
        record: Callable[..., object] | None,
        running: Callable[[], Sequence[str]],
    ) -> None:
        self.owner = owner
        self.name = name
        self.made_at = made_at
        self.record = record
        self.running = running

    def refuse(self, operation: str) -> NoReturn:
        """Record user and owner in the journal, then raise."""
        during = tuple(user for user in self.running() if user != self.owner)
        made_at = place_text(self.made_at)
        if self.record is not None:
            self.record(
                "cross-scenario", what="mock", path=self.name, owner=self.owner, user=" or ".join(during) or None,
                operation=operation, made_at=made_at, used_at=place_text(caller()), discarded=True,
            )  # fmt: skip
        raise MockDiscardedError(self.name, owner=self.owner, made_at=made_at, operation=operation, during=during)


def _tomb(mock: object) -> Tomb:
    tomb: Tomb = object.__getattribute__(mock, "_isolation_state")
    return tomb


# The layout of every mock is that of this class; a mixin must have it too, or
# no mock could become an instance of what it is mixed into.
_Layout: Any = NonCallableMock.__base__


class _Discarded(_Layout):  # type: ignore[misc]
    """Mixin in front of a mock class: identity and text still work, nothing else does."""

    # What a mock of a spec answers ``isinstance`` with is gone with the spec.
    __class__: Any = property(type)

    def __getattribute__(self, name: str) -> Any:
        # Runners, debuggers and collectors look at ``__class__``, ``__dict__``
        # and their like of whatever they meet; that is no use of the mock.
        if name[:2] == "__" and name[-2:] == "__":
            return object.__getattribute__(self, name)
        return _tomb(self).refuse(f"access to {name!r}")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def __setattr__(self, name: str, value: object) -> None:
        _tomb(self).refuse(f"setting {name!r}")

    def __delattr__(self, name: str) -> None:
        _tomb(self).refuse(f"deleting {name!r}")

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        _tomb(self).refuse("call")

    def __repr__(self) -> str:
        tomb = _tomb(self)
        return f"<discarded mock {tomb.name!r}{f' of {tomb.owner}' if tomb.owner else ''}>"

    __str__ = __repr__
    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__

    def __dir__(self) -> list[str]:
        return []

    def __bool__(self) -> bool:
        # ``if self.client: await self.client.close()`` in a finalizer is told
        # the story by ``close``; the question itself harms nobody.
        return True


def _refusal(name: str) -> Any:
    def method(self: Any, /, *_args: Any, **_kwargs: Any) -> Any:
        _tomb(self).refuse(name)

    method.__name__ = name
    return method


for _name in default_magics - {"__bool__", "__eq__", "__hash__", "__ne__", "__str__"}:
    setattr(_Discarded, _name, _refusal(_name))

_bases: Final = (IsolatedMock, SyncIsolatedMock, AsyncMock, MagicMock, Mock, NonCallableMagicMock, NonCallableMock)
_classes: Final[dict[type[Any], type[Any]]] = {
    base: SharedType("DiscardedMock", (_Discarded, base), {"_isolation_guarded": True}) for base in _bases
}


def poison(mock: Any, tomb: Tomb) -> bool:
    """Turn *mock* into a `Tomb`'s guard in place; False when its layout does not allow that."""
    cls = type(mock)
    base = next(base for base in _bases if issubclass(cls, base))
    try:
        set_type(mock, _classes[base])
    except TypeError:
        return False  # a user's subclass with slots of its own
    object.__setattr__(mock, "_isolation_state", tomb)
    return True


def is_discarded(value: object) -> bool:
    """Return whether *value* is a mock that was discarded."""
    return issubclass(type(value), _Discarded)
