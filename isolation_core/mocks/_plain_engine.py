"""The fallback: real `AsyncMock` objects, verified like the light ones, cleaned deeply at the end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from functools import partial
from typing import Any
from unittest.mock import AsyncMock, MagicMock

from isolation_core.mocks._attributes import define_property
from isolation_core.mocks._calls import AwaitableContext
from isolation_core.mocks._light import levels_by_name
from isolation_core.mocks._reset import STANDARD, reset_tree
from isolation_core.mocks._stdlib import DEFAULT, all_magics, all_sync_magics, async_method_magics
from isolation_core.mocks._typos import refuse_misspelled

__all__ = ["PlainMock", "PlainSyncMock", "make_plain"]


class _Plain:
    """What both kinds add to the standard library's classes; shapes, checks and typo protection only."""

    def _get_child_mock(self, /, **kw: Any) -> Any:
        own = self.__dict__
        contract = own.get("_isolation_contract")
        name = kw.get("_new_name")
        if own["_mock_sealed"]:
            return super()._get_child_mock(**kw)  # type: ignore[misc]  # which raises
        if contract is not None and name in contract.known and name not in all_magics:
            member = contract.member(name)
            child = (PlainMock if member.shape in ("async", "dual") else PlainSyncMock)(**kw)
            member.equip(_Checked(child))
            return child
        methods = own.get("_mock_methods")
        asynchronous = name in async_method_magics or name in own["_spec_asyncs"]
        if not asynchronous and isinstance(self, AsyncMock):
            asynchronous = not (name in all_sync_magics or (methods and name in methods))
        return (PlainMock if asynchronous else PlainSyncMock)(**kw)

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        contract = own.get("_isolation_contract")
        stubs = (*own["_mock_children"], *(own.get("_mock_methods") or ())) if name in levels_by_name else (name,)
        if name not in stubs and own.get("_isolation_root"):
            return partial(levels_by_name[name], self)
        known = contract.known if contract is not None else own.get("_mock_methods") or ()
        if name not in known and not own.get("_mock_unsafe", False):
            refuse_misspelled(name)
            if contract is not None and name not in all_magics:
                raise contract.unknown(name)
        return super().__getattr__(name)  # type: ignore[misc]

    def define_property(self, name: str, value: Any = DEFAULT) -> Any:
        """Make *name* a property of this mock; see `isolation_core.mocks._light.LightMock.define_property`."""
        return define_property(type(self), name, value)

    def reset_mock(
        self, visited: list[int] | None = None, *, return_value: bool = False, side_effect: bool = False
    ) -> None:
        """Forget the calls of this mock and of all below it; see `isolation_core.mocks._light.LightMock.reset_mock`."""
        reset_tree(self, visited, return_value=return_value, side_effect=side_effect)

    def _mock_check_sig(self, /, *args: Any, **kwargs: Any) -> None:
        check = self.__dict__.get("_isolation_check")
        if check is not None:
            check(*args, **kwargs)


STANDARD.add(id(vars(_Plain)["reset_mock"]))


class _Checked:
    """Where `Member.equip` writes: the child's own dict."""

    __slots__ = ("_own",)
    _own: dict[str, Any]

    def __init__(self, child: Any) -> None:
        object.__setattr__(self, "_own", child.__dict__)

    def __setattr__(self, name: str, value: Any) -> None:
        self._own[f"_isolation_{name}"] = value


class PlainMock(_Plain, AsyncMock):
    """An `AsyncMock` of the standard library with verified members."""

    def _execute_mock_call(self, /, *args: Any, **kwargs: Any) -> Any:
        # Not a coroutine function itself: a call is noted where it is made, also if nobody awaits it.
        own = self.__dict__
        backing = own.get("_isolation_backing")
        outcome: Callable[[], Coroutine[Any, Any, Any]] = partial(super()._execute_mock_call, *args, **kwargs)
        if backing is not None:
            outcome = partial(backing.run, backing.called(args, kwargs), outcome)
        member = own.get("_isolation_member")
        return _DualResult(outcome) if member is not None and member.shape == "dual" else outcome()


class _DualResult(AwaitableContext):
    """What a call gives that may be awaited or entered; the coroutine is made only then."""

    __slots__ = ("_outcome",)

    def __init__(self, outcome: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._outcome = outcome
        self._entered = None

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._outcome().__await__()


class PlainSyncMock(_Plain, MagicMock):
    """A `MagicMock` of the standard library with verified members."""

    def _execute_mock_call(self, /, *args: Any, **kwargs: Any) -> Any:
        backing = self.__dict__.get("_isolation_backing")
        outcome = partial(super()._execute_mock_call, *args, **kwargs)
        if backing is None:
            return outcome()
        return backing.run_sync(backing.called(args, kwargs), outcome)


def make_plain(
    spec: Any, contract: Any, *, name: str | None, attributes: Sequence[str], configure: Mapping[str, Any]
) -> Any:
    """Make a mock of the plain engine."""
    options = dict(configure)
    if contract is None:
        if spec is not None:
            options["spec"] = [*spec, *attributes]
        # Stubs that have the name of a level are made before that name means the level.
        mock = PlainMock(name=name, **options)
        mock.__dict__["_isolation_root"] = True
        return mock
    early = {key: options.pop(key) for key in ("wraps", "unsafe") if key in options}
    mock = PlainMock(spec=contract.names, name=name, **early)
    own = mock.__dict__
    own["_isolation_contract"] = contract
    own["_isolation_root"] = True
    own["_spec_class"] = contract.spec_class
    contract.equip_root(_Checked(mock))
    if options:
        mock.configure_mock(**options)
    return mock
