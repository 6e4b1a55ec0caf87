# Dotted names come as a dict, which no type checker can match with parameters; members that only
# show their declaration need no body; and a mock of a class has more than the class.
# mypy: disable-error-code="arg-type,attr-defined,call-arg,empty-body"
"""An isolated mock is an `AsyncMock` in all that a test can see."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
from typing import Any
from unittest.mock import DEFAULT, AsyncMock, MagicMock, Mock, PropertyMock, call, create_autospec, seal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolation_core.errors import MisspelledAssertionError, MockNotCopiableError, SharedMockClassError
from isolation_core.mocks import MockRegistry, clear, define_property, isolated_mock


def run(coroutine: Any) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine waits for something")


def test_it_is_an_async_mock_for_everybody_who_asks() -> None:
    """``isinstance``, ``iscoroutinefunction`` and ``signature`` answer as for `AsyncMock`."""
    mock = isolated_mock()
    assert isinstance(mock, AsyncMock)
    assert inspect.iscoroutinefunction(mock)
    assert inspect.iscoroutinefunction(mock.child)
    assert str(inspect.signature(mock)) == "(*args, **kwargs)"
    coroutine = mock()
    assert inspect.iscoroutine(coroutine)
    run(coroutine)


@pytest.mark.anyio
async def test_every_kind_of_side_effect() -> None:
    """Exceptions, classes, functions, coroutine functions, iterables and mocks, as in the standard library."""

    async def coroutine_function(a: int) -> int:
        return a + 1

    assert await isolated_mock(side_effect=lambda a: a * 2)(4) == 8
    assert await isolated_mock(side_effect=coroutine_function)(4) == 5
    assert await isolated_mock(side_effect=AsyncMock(return_value=3))() == 3
    assert await isolated_mock(side_effect=lambda: DEFAULT, return_value=9)() == 9
    with pytest.raises(KeyError):
        await isolated_mock(side_effect=KeyError)()
    with pytest.raises(KeyError, match="k"):
        await isolated_mock(side_effect=KeyError("k"))()
    mock = isolated_mock(side_effect=[1, KeyError("x"), 3], return_value=4)
    assert await mock() == 1
    with pytest.raises(KeyError):
        await mock()
    assert await mock() == 3
    with pytest.raises(StopAsyncIteration):
        await mock()


@pytest.mark.anyio
async def test_wraps_calls_the_real_thing_unless_told_otherwise() -> None:
    """``wraps`` is used for the mock and its children, sync or async; a return value wins."""

    class Real:
        async def a(self, n: int) -> int:
            return n + 1

        def b(self, n: int) -> int:
            return n + 2

    mock = isolated_mock(wraps=Real())
    assert await mock.a(1) == 2
    assert await mock.b(1) == 3
    mock.a.return_value = 0
    assert await mock.a(1) == 0
    spec = isolated_mock(Real, wraps=Real())
    assert spec.b(1) == 3
    assert await spec.a(1) == 2


@pytest.mark.anyio
async def test_context_managers_and_iterators() -> None:
    """``async with``, ``with``, ``async for``, ``for`` and their configuration."""
    mock = isolated_mock()
    mock.__aenter__.return_value = "a"
    mock.__enter__.return_value = "s"
    async with mock as a:
        pass
    with mock as s:
        pass
    assert (a, s) == ("a", "s")
    mock.__aexit__.assert_awaited_once_with(None, None, None)
    mock.__aiter__.return_value = [1, 2]
    mock.__iter__.return_value = [3]
    assert [n async for n in mock] == [1, 2]
    assert list(mock) == [3]
    assert call.__aenter__() in mock.mock_calls


def test_magic_methods_answer_as_ever() -> None:
    """Defaults, configuration by mock or function, deletion, and per-instance effect on a shared class."""
    one, two = isolated_mock(), isolated_mock()
    assert (len(one), int(one), bool(one), 3 in one, str(one)[:2]) == (0, 1, True, False, "<I")
    one.__len__.return_value = 5
    one.__getitem__ = lambda _self, key: key * 2
    one.__contains__ = MagicMock(return_value=True)
    assert (len(one), one[4], 3 in one) == (5, 8, True)
    assert (len(two), type(one) is type(two)) == (0, True)
    del one.__len__
    with pytest.raises(TypeError):
        len(one)
    assert not hasattr(one, "__len__")
    assert len(two) == 0
    one.__reversed__ = lambda _self: [1]
    assert reversed(one) == [1]
    assert list(reversed(two)) == []
    assert one + 1 is one.__add__.return_value
    with pytest.raises(AttributeError):
        one.__getattr__ = lambda _self: 1


def test_hash_and_equality_are_identity_until_configured() -> None:
    """Mocks are dict keys by identity; ``__eq__`` can be configured without breaking a registry."""
    with MockRegistry("x") as registry:
        one, two = registry.create(), registry.create()
        assert one == one  # noqa: PLR0124
        assert one != two
        assert len({one, two}) == 2
        one.__eq__.return_value = True
        assert one == two
        assert len(registry) == 2


def test_the_shared_class_refuses_assignment() -> None:
    """A write to the class would reach every test; the message names the way for one mock."""
    mock = isolated_mock()
    with pytest.raises(SharedMockClassError, match="define_property") as caught:
        type(mock).prop = PropertyMock()
    assert isinstance(caught.value, TypeError)
    with pytest.raises(SharedMockClassError):
        type(mock).__len__ = lambda _self: 3
    with pytest.raises(SharedMockClassError):
        del type(mock).__len__


def test_define_property_concerns_one_mock() -> None:
    """A property by value, by PropertyMock, or by descriptor; other mocks see nothing of it."""
    one, two = isolated_mock(), isolated_mock()
    prop = define_property(one, "url", "http://a")
    assert one.url == "http://a"
    prop.assert_called_once_with()
    one.url = "b"
    prop.assert_called_with("b")
    define_property(one, "n", property(lambda _self: 7))
    raising = define_property(one, "bad", PropertyMock(side_effect=KeyError))
    assert one.n == 7
    with pytest.raises(KeyError):
        _ = one.bad
    raising.assert_called_once_with()
    assert isinstance(two.url, AsyncMock)
    assert isinstance(define_property(one, "empty"), PropertyMock)


def test_own_class_gives_the_documented_idiom() -> None:
    """``type(m).p = PropertyMock()`` works with ``own_class=True``, for the mock and its children."""
    mock, other = isolated_mock(own_class=True), isolated_mock(own_class=True)
    type(mock).p = PropertyMock(return_value=3)
    type(mock.child).p = PropertyMock(return_value=4)
    assert (mock.p, mock.child.p) == (3, 4)
    assert isinstance(other.p, AsyncMock)
    type(mock).__len__ = lambda _self: 8
    assert len(mock) == 8
    mock.__len__ = lambda _self: 9
    assert len(mock) == 9


def test_seal_configure_attach_and_dir() -> None:
    """The rest of the configuration interface."""
    stubs: dict[str, Any] = {"a.b.return_value": 1, "c": 2}
    mock = isolated_mock(name="m", **stubs)
    assert (run(mock.a.b()), mock.c) == (1, 2)
    assert {"a", "c", "assert_awaited"} <= set(dir(mock))
    assert repr(mock.a.b).startswith("<IsolatedMock name='m.a.b' id=")
    seal(mock)
    with pytest.raises(AttributeError, match=r"m\.d"):
        _ = mock.d
    assert run(mock.a.b()) == 1


@pytest.mark.parametrize(
    "name",
    ["clear", "reset", "restore", "discard", "fulfil", "define_property", "set_baseline", "mock", "kind", "spec"],
)
def test_every_name_is_the_users(name: str) -> None:
    """A stub under any name sticks, even one set after creation: the mock has no public attributes of its own."""
    mock = isolated_mock()
    run(mock.get())
    getattr(mock, name).return_value = 5
    assert run(getattr(mock, name)()) == 5
    assert mock.get.await_count == 1
    clear(mock)
    assert getattr(mock, name).await_count == mock.get.await_count == 0


def test_a_specification_may_use_our_words() -> None:
    """Methods of a class that are called like our functions keep their shape and signature."""

    class Order:
        async def fulfil(self, where: str) -> bool: ...
        def clear(self) -> int: ...

        _own: int
        _magics: int

    mock = isolated_mock(Order)
    mock.fulfil.return_value = True
    assert run(mock.fulfil("x")) is True
    assert not inspect.iscoroutinefunction(mock.clear)
    with pytest.raises(TypeError):
        mock.fulfil()
    assert isinstance(mock._own, int)


def test_views_write_through() -> None:
    """Changing ``mock_calls`` and its kin in place changes what the mock remembers."""
    mock = isolated_mock()
    for n in range(3):
        run(mock(n))
        run(mock.a(n))
    assert mock.call_args_list is mock.call_args_list
    mock.call_args_list.clear()
    assert mock.call_count == 0
    del mock.mock_calls[1:]
    assert mock.mock_calls == [call(0)]
    assert len(mock.method_calls) == 3
    mock.method_calls.pop()
    assert mock.method_calls == [call.a(0), call.a(1)]
    mock.mock_calls = []
    assert mock.mock_calls == []
    mock.await_args_list.append(call(9))
    assert mock.await_args == call(9)


def test_copies_are_the_mock_itself_and_pickling_is_refused() -> None:
    """A configuration that holds a mock can be copied, and calls through the copy are seen."""
    mock = isolated_mock(name="m")
    assert copy.copy(mock) is mock
    assert copy.deepcopy({"client": mock})["client"] is mock
    with pytest.raises(MockNotCopiableError, match="'m'"):
        pickle.dumps(mock)


@pytest.mark.parametrize(
    "name",
    [
        "assert_called_one", "asert_called", "assret_awaited", "assert_await_once", "called_once", "called_once_with",
        "not_called", "has_calls", "any_call", "awaited_once", "any_await", "has_awaits", "await_once", "not_awaited",
        "awaited_with", "awaited_once_with", "await_once_with", "has_awaited", "awaited", "asset_called_once_with",
        "asserts_awaited_once", "was_called_once",
    ],
)  # fmt: skip
def test_misspelled_assertions_raise(name: str) -> None:
    """Every family of misspelling raises on every version, the await family included."""
    mock = isolated_mock()
    with pytest.raises(MisspelledAssertionError, match="not a valid assertion") as caught:
        getattr(mock, name)
    assert caught.value.meant in dir(AsyncMock)
    with pytest.raises(AttributeError):
        getattr(mock.child, name)


@pytest.mark.parametrize(
    "name",
    ["call", "callback", "call_later", "call_api", "await_reply", "recall", "assign", "has_one", "calls", "once"],
)
def test_names_people_really_use_are_no_misspellings(name: str) -> None:
    """Protection against typos leaves ordinary attributes alone."""
    assert isinstance(getattr(isolated_mock(), name), AsyncMock)


def test_a_spec_or_unsafe_allows_such_names() -> None:
    """A real attribute that looks like an assertion is allowed by spec or ``unsafe=True``."""

    class Meter:
        async def called_once(self) -> None: ...

    assert isinstance(isolated_mock(Meter).called_once, AsyncMock)
    assert isinstance(isolated_mock(unsafe=True).awaited_once, AsyncMock)


def test_stdlib_helpers_take_a_light_mock() -> None:
    """`create_autospec`d functions, plain children and plain parents mix with light mocks."""

    def function(a: int) -> int:
        return a

    mock = isolated_mock()
    mock.attach_mock(create_autospec(function, return_value=4), "function")
    assert mock.function(1) == 4
    assert mock.mock_calls == [call.function(1)]
    plain = Mock()
    plain.client = mock
    run(mock.get(1))
    assert plain.mock_calls == [call.client.get(1)]
    assert plain.method_calls == [call.client.get(1)]


_names = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3)


@given(st.lists(st.tuples(_names, st.integers(0, 3), st.booleans()), max_size=20))
def test_records_equal_those_of_async_mock(script: list[tuple[list[str], int, bool]]) -> None:
    """Any sequence of calls leaves the same ``mock_calls``, ``method_calls`` and counts at every node."""
    ours, theirs = isolated_mock(), AsyncMock()

    def node(root: Any, path: list[str]) -> Any:
        for name in path:
            root = getattr(root, name)
        return root

    for path, argument, awaited in script:
        for root in (ours, theirs):
            coroutine = node(root, path)(argument, key=argument)
            if awaited:
                run(coroutine)
            else:
                coroutine.close()
    for path in [[], *(path for path, _, _ in script)]:
        one, other = node(ours, path), node(theirs, path)
        for attribute in (
            "mock_calls", "method_calls", "call_args_list", "await_args_list", "call_count", "await_count", "called",
            "call_args", "await_args",
        ):  # fmt: skip
            assert getattr(one, attribute) == getattr(other, attribute), (path, attribute)


@given(st.lists(st.sampled_from(["call", "await", "child", "attach", "detach", "reset", "clear_list"]), max_size=15))
def test_reset_mock_and_reparenting_keep_pace_with_async_mock(script: list[str]) -> None:
    """Attaching, detaching and resetting in any order gives the records `AsyncMock` gives."""
    states = []
    for kind in (isolated_mock, AsyncMock):
        root, other = kind(), kind()
        for step in script:
            if step == "call":
                root("x").close()
            elif step == "await":
                run(root.a.b("y"))
            elif step == "child":
                run(other.c("z"))
            elif step == "attach":
                root.attach_mock(other, "other")
            elif step == "detach":
                other._mock_parent = other._mock_new_parent = None
            elif step == "reset":
                root.reset_mock()
            else:
                root.mock_calls.clear()
        states.append([getattr(root, name) for name in ("mock_calls", "method_calls", "call_count")])
        states[-1] += [other.mock_calls, root.a.mock_calls]
    assert states[0] == states[1]


@pytest.mark.anyio
async def test_works_on_both_event_loops() -> None:
    """Nothing in a mock depends on which loop awaits it."""
    mock = isolated_mock(side_effect=[1, 2])
    assert [await mock(), await mock()] == [1, 2]


def test_asyncio_run_takes_the_coroutine() -> None:
    """The coroutine is a real one."""
    assert asyncio.run(isolated_mock(return_value=2)()) == 2
