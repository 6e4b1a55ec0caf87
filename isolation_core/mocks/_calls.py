"""The call of a light mock: check, record, run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Generator, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Final
from unittest.mock import AsyncMock, MagicMock
from weakref import ref

from isolation_core.errors import UnconfiguredCallError
from isolation_core.mocks._ownership import current_registry, note_use
from isolation_core.mocks._records import TOPOLOGY, Record, State, refresh
from isolation_core.mocks._stdlib import DEFAULT, Call, is_callable, is_exception, is_mock

__all__ = [
    "COROUTINE_MARK", "AwaitableContext", "call_async", "call_dual", "call_iterating", "call_sync",
    "is_async_callable",
]  # fmt: skip

_current = current_registry.get

COROUTINE_MARK: Final[Any] = getattr(asyncio.coroutines, "_is_coroutine", object())
"""What ``asyncio.iscoroutinefunction`` looks for on objects that are no functions, while it exists."""


def is_async_callable(function: object) -> bool:
    """Return whether calling *function* gives a coroutine, whoever says so."""
    return inspect.iscoroutinefunction(function) or getattr(function, "_is_coroutine", None) is COROUTINE_MARK


def _record_foreign(state: State, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Report a call to the plain mocks among the ancestors, as they would do it themselves."""
    for ancestor, name, method_name in state.foreign:
        if method_name is not None:
            ancestor.method_calls.append(Call((method_name, args, kwargs)))
        ancestor.mock_calls.append(Call((name, args, kwargs)))


def _record(mock: Any, state: State, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Record | None:
    """Check and record a call; None when the function in front of the mock keeps the records."""
    if state.check is not None:
        state.check(*args, **kwargs)
    if state.home is not _current():
        note_use(mock, state)
    if state.version != TOPOLOGY[0] and refresh(state):
        if state.delegate is not None:
            return None
        _record_foreign(state, args, kwargs)
    record = (args, kwargs, state.labels)
    state.calls.append(record)
    for log in state.sinks:
        log.append(record)
    return record


def call_async(mock: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Body of ``__call__`` of an asynchronous mock: record now, run when awaited."""
    state: State = mock._isolation_state
    record = _record(mock, state, args, kwargs)
    if record is None:
        # Made by ``create_autospec``: the standard library's own code knows how.
        AsyncMock._increment_mock_call(mock, *args, **kwargs)
        return AsyncMock._execute_mock_call(mock, *args, **kwargs)
    backing = state.backing
    coroutine = _run(mock, state, record, None if backing is None else backing.called(args, kwargs))
    home = state.home
    if home is not None:
        home.pending[id(record)] = ref(coroutine)
    return coroutine


async def _run(mock: Any, state: State, record: Record, entry: Any = None) -> Any:
    if state.tomb is not None:
        state.tomb.refuse("await")
    home = state.home
    if home is not None:
        home.pending.pop(id(record), None)
    state.awaits.append(record)
    if entry is not None:
        return await state.backing.run(entry, partial(_outcome_async, mock, state, record))
    return await _outcome_async(mock, state, record)


async def _outcome_async(mock: Any, state: State, record: Record) -> Any:
    effect = state.effect
    if effect is not None:
        result = await _effect_async(state, effect, record)
        if result is not DEFAULT:
            return result
    value = state.value
    if value is not DEFAULT:
        return value
    if state.backing is not None:
        return await state.backing.behave(*record[0], **record[1])
    wrapped = mock._mock_wraps
    if wrapped is not None:
        result = wrapped(*record[0], **record[1])
        if is_async_callable(wrapped) or (state.contract is not None and inspect.isawaitable(result)):
            # A verified member is known to be awaitable however the real one is declared.
            return await result
        return result
    return _default(mock, state)


async def _effect_async(state: State, effect: Any, record: Record) -> Any:
    if is_exception(effect):
        raise _fresh(effect)
    if not is_callable(effect):
        try:
            return _next(state, effect)
        except StopIteration:
            # PEP 479: a coroutine cannot raise StopIteration.
            raise StopAsyncIteration from None
    if is_async_callable(effect):
        return await effect(*record[0], **record[1])
    return effect(*record[0], **record[1])


def call_sync(mock: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Body of ``__call__`` of a synchronous mock."""
    state: State = mock._isolation_state
    if _record(mock, state, args, kwargs) is None:
        MagicMock._increment_mock_call(mock, *args, **kwargs)
        return MagicMock._execute_mock_call(mock, *args, **kwargs)
    backing = state.backing
    if backing is not None:
        return backing.run_sync(backing.called(args, kwargs), partial(_outcome_sync, mock, state, args, kwargs))
    return _outcome_sync(mock, state, args, kwargs)


def _outcome_sync(mock: Any, state: State, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    effect = state.effect
    if effect is not None:
        if is_exception(effect):
            raise _fresh(effect)
        result = effect(*args, **kwargs) if is_callable(effect) else _next(state, effect)
        if result is not DEFAULT:
            return result
    value = state.value
    if value is not DEFAULT:
        return value
    if state.backing is not None:
        return state.backing.behave(*args, **kwargs)
    wrapped = mock._mock_wraps
    if wrapped is not None:
        return wrapped(*args, **kwargs)
    return _default(mock, state)


def _fresh(effect: Any) -> Any:
    """Return the exception to raise, without the frames of earlier raises.

    The very same instance, so that ``caught is error`` holds; but a traceback
    that is never cleared grows with each call and pins every caller's locals.
    """
    if not isinstance(effect, type):
        effect.__traceback__ = None
    return effect


def _next(state: State, effect: Any) -> Any:
    result = next(effect)
    if state.consumed is not None:
        state.consumed.append(result)
    if is_exception(result):
        raise _fresh(result)
    return result


def _default(mock: Any, state: State) -> Any:
    if state.strict:
        raise UnconfiguredCallError(mock._extract_mock_name(), configured_names(mock))
    return mock.return_value


def configured_names(mock: Any) -> tuple[str, ...]:
    """Return the dotted names below the root of *mock* that have a configured outcome, for messages."""
    root = mock
    while root._mock_new_parent is not None:
        root = root._mock_new_parent
    found: list[str] = []
    stack = [root]
    seen = set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node._mock_side_effect is not None or node._mock_return_value is not DEFAULT:
            found.append(node._extract_mock_name())
        stack.extend(child for child in node._mock_children.values() if is_mock(child))
    return tuple(sorted(found))


class AwaitableContext:
    """The result of ``pool.acquire()``: ``await`` it, or ``async with`` it, or ``async for`` over it, once."""

    __slots__ = ("_entered", "_entry", "_mock", "_record", "_state")

    def __init__(self, mock: Any, state: State, record: Record, entry: Any = None) -> None:
        self._mock, self._state, self._record, self._entry = mock, state, record, entry
        self._entered: Any = None

    def __getattr__(self, name: str) -> Any:
        # ``session.begin().commit``, ``query.filter(...).order_by``: what the real object has beside being awaitable.
        face = None if name[:2] == "__" else self._mock._isolation_face()
        if face is None:
            raise AttributeError(
                f"what {self._mock._extract_mock_name()}() gives can only be awaited or entered: {name!r}"
            )
        return getattr(face, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        return _run(self._mock, self._state, self._record, self._entry).__await__()

    async def __aenter__(self) -> Any:
        value = await self
        if _has_own_context(value):
            self._entered = value
            return await value.__aenter__()
        return value

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        entered, self._entered = self._entered, None
        return None if entered is None else await entered.__aexit__(kind, error, traceback)

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for item in _async_items(await self):
            yield item


def _has_own_context(value: Any) -> bool:
    # A light mock supports ``async with`` like everything else; only when
    # somebody touched its ``__aenter__`` was that meant.
    if is_mock(value):
        return "__aenter__" in value._mock_children
    return hasattr(type(value), "__aenter__")


async def _async_items(value: Any) -> AsyncIterator[Any]:
    if hasattr(type(value), "__aiter__"):
        async for item in value:
            yield item
    else:
        for item in value:
            yield item


def call_dual(mock: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Body of ``__call__`` of a method whose result is awaitable *and* an async context manager."""
    state: State = mock._isolation_state
    record = _record(mock, state, args, kwargs) or (args, kwargs, state.labels)
    backing = state.backing
    return AwaitableContext(mock, state, record, None if backing is None else backing.called(args, kwargs))


def call_iterating(mock: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Body of ``__call__`` of an async generator method: a configured list is iterated asynchronously."""
    value = call_sync(mock, *args, **kwargs)
    if isinstance(value, Iterable) and not is_mock(value) and not hasattr(type(value), "__aiter__"):
        return _async_items(value)
    return value
