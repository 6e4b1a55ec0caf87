# Members that only show their declaration need no body; a mock of a class has more than the class.
# mypy: disable-error-code="empty-body,attr-defined,arg-type,no-untyped-def,call-arg,misc,type-arg,valid-type"
"""The result of a call of a specified member is read from the object, whatever kind it is."""

# The mistakes here are made on purpose: a specified mock has to refuse at run time what the checker refuses.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportInvalidTypeForm=false
# pyright: reportInconsistentOverload=false, reportFunctionMemberAccess=false

from __future__ import annotations

import abc
import asyncio
import concurrent.futures
import contextlib
import enum
import functools
import inspect
import operator
import sys
import types
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, Generic, NewType, Protocol, TypeVar, overload
from unittest.mock import AsyncMock, MagicMock

import pytest

from isolation_core.errors import SpecificationError
from isolation_core.mocks import isolated_mock
from isolation_core.mocks._contract import contract_for

if TYPE_CHECKING:
    from collections.abc import Awaitable as OnlyForCheckers

    from nowhere import Missing  # type: ignore[import-not-found]

T = TypeVar("T")


class Task:
    """A domain class that is called like one of asyncio's."""


class Future:
    """The same."""


def tags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate with `functools.wraps`."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Retry:
    """A decorator object that binds like a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)


class AsyncRetry(Retry):
    """A decorator object whose call is a coroutine function, around a plain function."""

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


class Handing:
    """A descriptor that is not callable itself and hands out a callable."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self.function if instance is None else functools.partial(self.function, instance)


class Lazy:
    """A property of the user's own making."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else self.func(instance)


class Response:
    status: int

    def json(self) -> dict[str, Any]: ...
    async def read(self) -> bytes: ...


class Request:
    """Can be awaited, and used with ``async with``."""

    def __await__(self) -> typing.Generator[Any, Any, Response]: ...
    async def __aenter__(self) -> Response: ...
    async def __aexit__(self, *exc: object) -> None: ...


class Job(Awaitable[Response]):
    """Can only be awaited."""

    def __await__(self) -> typing.Generator[Any, Any, Response]: ...


class Everything:
    def domain_task(self) -> Task: ...
    def domain_future(self) -> Future: ...
    def thread_future(self) -> concurrent.futures.Future[int]: ...
    def quoted_awaitable(self) -> "Awaitable[int]": ...  # noqa: UP037
    def module_awaitable(self) -> typing.Awaitable[int]: ...
    def checkers_awaitable(self) -> OnlyForCheckers[int]: ...
    def missing_awaitable(self) -> Awaitable[Missing]: ...
    def missing(self) -> Missing: ...
    def coroutine(self) -> Coroutine[Any, Any, int]: ...
    def asyncio_task(self) -> asyncio.Task[int]: ...
    def asyncio_future(self) -> asyncio.Future[int]: ...
    def optional_awaitable(self) -> Awaitable[int] | None: ...
    def union(self) -> Awaitable[int] | int: ...
    def annotated(self) -> Annotated[Awaitable[int], "slow"]: ...
    def iterator(self) -> AsyncIterator[int]: ...
    def request(self) -> Request: ...
    def job(self) -> Job: ...
    def manager(self) -> contextlib.AbstractAsyncContextManager[Response]: ...

    async def stream(self) -> AsyncIterator[int]:
        yield 1

    async def later_stream(self) -> AsyncIterator[int]: ...

    @tags
    async def tagged(self, a: int) -> int: ...

    @tags
    @contextlib.asynccontextmanager
    async def tagged_session(self) -> AsyncIterator[Response]:
        yield Response()

    @Retry
    async def retried(self, a: int) -> int: ...

    @Retry
    def retried_sync(self, a: int) -> int: ...

    @AsyncRetry
    def made_async(self, a: int) -> int: ...

    @Handing
    async def handed(self, a: int) -> int: ...

    @functools.cache  # noqa: B019
    def cached(self, a: int) -> int: ...

    @functools.lru_cache  # noqa: B019
    async def cached_coroutine(self, a: int) -> int: ...

    @classmethod
    async def class_method(cls, a: int) -> int: ...

    @staticmethod
    async def static_method(a: int) -> int: ...

    @classmethod
    @tags
    async def tagged_class_method(cls, a: int) -> int: ...

    @functools.singledispatchmethod
    async def dispatched(self, a: int) -> int: ...

    partial = functools.partialmethod(retried_sync, 1)
    async_partial = functools.partialmethod(tagged, 1)
    bound_elsewhere = staticmethod(functools.partial(asyncio.sleep, 1))
    builtin = operator.add

    @property
    def prop(self) -> Response: ...

    @functools.cached_property
    def cached_prop(self) -> Response: ...

    @Lazy
    def lazy(self) -> Response: ...

    @overload
    def overloaded(self, a: int) -> Awaitable[int]: ...
    @overload
    def overloaded(self, a: str) -> Awaitable[str]: ...
    def overloaded(self, a): ...


_ASYNC = {
    "quoted_awaitable", "module_awaitable", "checkers_awaitable", "missing_awaitable", "coroutine", "asyncio_task",
    "asyncio_future", "optional_awaitable", "annotated", "job", "later_stream", "tagged", "retried", "made_async",
    "handed", "cached_coroutine", "class_method", "static_method", "tagged_class_method", "dispatched",
    "async_partial", "bound_elsewhere", "overloaded",
}  # fmt: skip
_DUAL = {"request", "manager", "tagged_session"}
_ITERATING = {"iterator", "stream"}


@pytest.mark.parametrize("name", [name for name in vars(Everything) if name[:2] != "__"])
def test_the_shape_of_every_kind_of_member(name: str) -> None:
    """Each kind of declaration gives its shape; everything else is synchronous."""
    expected = "async" if name in _ASYNC else "dual" if name in _DUAL else "iterating" if name in _ITERATING else "sync"
    assert contract_for(Everything).member(name).shape == expected


@pytest.mark.parametrize(
    "name",
    ["tagged", "retried", "retried_sync", "made_async", "handed", "cached", "class_method", "static_method",
     "tagged_class_method", "dispatched"],
)  # fmt: skip
def test_the_instance_is_no_argument_however_the_member_binds(name: str) -> None:
    """One argument fits, none and two do not, whichever descriptor fills in the instance."""
    member = getattr(isolated_mock(Everything), name)
    result = member(1)
    if inspect.iscoroutine(result):
        result.close()
    for wrong in ((), (1, 2)):
        with pytest.raises(TypeError):
            member(*wrong)


def test_c_functions_and_types() -> None:
    """Methods written in C are synchronous and checked where they have a signature."""
    mock = isolated_mock(dict)
    with pytest.raises(TypeError):
        mock.setdefault()
    assert isinstance(mock.get("a"), MagicMock)
    assert isinstance(isolated_mock(len), MagicMock)
    with pytest.raises(TypeError):
        isolated_mock(len)()
    assert not inspect.iscoroutine(isolated_mock(bytes).join([]))


@pytest.mark.parametrize("spec", [list[int], typing.List[int], list])  # noqa: UP006
def test_generic_aliases_are_their_class(spec: Any) -> None:
    """``list[int]`` and ``List[int]`` are lists."""
    mock = isolated_mock(spec)
    assert isinstance(mock, list)
    with pytest.raises(AttributeError):
        _ = mock.appendd


class Repo(Generic[T]):
    async def get(self, key: str) -> T: ...
    def page(self) -> Page[T]: ...


class Page(Generic[T]):
    def first(self) -> T: ...


class Users(Repo[Response]):
    pass


class ReaderProtocol(Protocol):
    name: str

    async def read(self, size: int) -> Response: ...


class Abstract(abc.ABC):
    @abc.abstractmethod
    async def run(self, a: int) -> Response: ...

    @property
    @abc.abstractmethod
    def response(self) -> Response: ...


class Color(enum.Enum):
    RED = 1

    async def paint(self, wall: str) -> Response: ...


def run(coroutine: Any) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError


def test_type_variables_follow_arguments_and_bases() -> None:
    """``Repo[Response].get`` gives a Response, also through a subclass and through another generic class."""
    for spec in (Repo[Response], Users):
        mock: Any = isolated_mock(spec)
        assert isinstance(run(mock.get("k")), Response)
        assert isinstance(mock.page().first(), Response)
        with pytest.raises(TypeError):
            mock.get()
    assert run(isolated_mock(Repo)["get"]("k") if False else isolated_mock(Repo).get("k")) is not None


@pytest.mark.parametrize("spec", [ReaderProtocol, Abstract])
def test_protocols_and_abstract_classes(spec: type) -> None:
    """Their methods and properties are verified as those of any class."""
    mock = isolated_mock(spec)
    method = mock.read if spec is ReaderProtocol else mock.run
    assert isinstance(run(method(1)), Response)
    with pytest.raises(TypeError):
        method()
    if spec is Abstract:
        assert inspect.iscoroutinefunction(mock.response.read)


def test_enums() -> None:
    """Members, names, values and methods of an enumeration are there."""
    mock = isolated_mock(Color)
    assert isinstance(mock, Color)
    assert isinstance(mock.RED, Color)
    assert inspect.iscoroutinefunction(mock.RED.paint)
    assert mock.name is not None
    assert isinstance(run(mock.paint("w")), Response)


UserId = NewType("UserId", Response)


@pytest.mark.parametrize(
    ("spec", "name"), [(Annotated[Response, "x"], "json"), (UserId, "json"), (type[Response], "json")]
)
def test_other_ways_to_name_a_class(spec: Any, name: str) -> None:
    """``Annotated``, ``NewType`` and ``type[...]`` are seen through."""
    assert hasattr(isolated_mock(spec), name)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement is new in 3.12")
def test_type_aliases() -> None:
    """``type X = Response`` is a Response."""
    namespace: dict[str, Any] = {"Response": Response}
    exec("type Alias = Response", namespace)
    assert isinstance(isolated_mock(namespace["Alias"]), Response)


@pytest.mark.parametrize("spec", [int | str, typing.Union[int, str], Response | None])  # noqa: UP007
def test_a_union_is_refused_with_the_way_out(spec: Any) -> None:
    """One mock cannot be two things; the message says what to write instead."""
    with pytest.raises(SpecificationError, match=r"one type only.*isolated_mock\((int|Response)\)"):
        isolated_mock(spec)


@pytest.mark.parametrize("spec", [Any, T, typing.Literal["a"], typing.ClassVar[Any], AsyncMock()])
def test_what_says_nothing_is_refused(spec: Any) -> None:
    """A type without a contract, and a mock, are refused as specification; the message does not contradict itself."""
    with pytest.raises(SpecificationError) as caught:
        isolated_mock(spec)
    assert not str(caught.value).startswith("expected a mock")


def test_callable_types_are_functions() -> None:
    """``Callable[[int], Awaitable[Response]]`` is an asynchronous function of one argument."""
    mock = isolated_mock(Callable[[int], Awaitable[Response]])
    assert isinstance(run(mock(1)), Response)
    with pytest.raises(TypeError):
        mock()


# -- the root ----------------------------------------------------------------------------


async def async_function(a: int) -> Response:
    """A coroutine function."""
    raise NotImplementedError


def sync_function(a: int) -> Response:
    """A function."""
    raise NotImplementedError


async def generator(a: int) -> AsyncIterator[int]:
    """An async generator function."""
    yield a


class SyncHandler:
    def __call__(self, a: int) -> Response: ...


class AsyncHandler:
    async def __call__(self, a: int) -> Response: ...


cached_function = functools.cache(sync_function)
retried_function = Retry(async_function)


@pytest.mark.parametrize(
    ("spec", "asynchronous"),
    [
        (sync_function, False), (async_function, True), (SyncHandler, False), (AsyncHandler, True),
        (SyncHandler(), False), (AsyncHandler(), True), (functools.partial(async_function), True),
        (functools.partial(sync_function), False), (cached_function, False), (retried_function, True),
        (tags(async_function), True), (AsyncHandler().__call__, True), (Everything().retried, True), (ord, False),
    ],
)  # fmt: skip
def test_the_root_has_the_shape_of_what_it_stands_for(spec: Any, asynchronous: bool) -> None:
    """A synchronous function or callable gives its result at once, an asynchronous one a coroutine."""
    mock = isolated_mock(spec, return_value=5)
    assert inspect.iscoroutinefunction(mock) is asynchronous
    result = mock(1)
    assert (run(result) if asynchronous else result) == 5
    with pytest.raises(TypeError):
        mock()


def test_a_synchronous_function_is_a_magic_mock() -> None:
    """Nothing of an asynchronous mock is left: assertions on awaits do not exist."""
    mock = isolated_mock(sync_function)
    assert isinstance(mock, MagicMock)
    assert not isinstance(mock, AsyncMock)
    with pytest.raises(AttributeError):
        mock.assert_awaited_once()
    assert isinstance(mock(1), Response)


@pytest.mark.anyio
async def test_an_async_generator_function_is_iterated() -> None:
    """``async for`` over the call of a mock of an async generator function."""
    mock = isolated_mock(generator, return_value=[1, 2])
    assert [n async for n in mock(1)] == [1, 2]


def test_a_class_in_the_place_of_its_constructor_gives_instances() -> None:
    """A call of the mock of a class is checked against the constructor and gives a verified instance."""

    class Client:
        def __init__(self, url: str) -> None: ...
        async def fetch(self, key: str) -> Response: ...

    for mock in (isolated_mock(Client), isolated_mock(type[Client])):
        client = mock("http://x")
        assert isinstance(client, Client)
        assert not inspect.iscoroutinefunction(mock)
        assert inspect.iscoroutinefunction(client.fetch)
        with pytest.raises(TypeError):
            mock()
        with pytest.raises(TypeError):
            _ = client.fetch()
        with pytest.raises(TypeError, match="not callable"):
            client()  # type: ignore[operator]
        mock.assert_called_once_with("http://x")
    service = types.SimpleNamespace(Client=Client)
    with pytest.raises(TypeError):
        isolated_mock(service).Client()
    assert isinstance(isolated_mock(service).Client("u"), Client)


# -- objects that lie or raise -------------------------------------------------------------


class Hostile:
    """Raises whenever it is asked something."""

    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError(name)


class Answering:
    """Has every attribute, each one itself."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *args: Any) -> Any: ...


class BadDescriptor:
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        raise ZeroDivisionError

    def __call__(self) -> None: ...


class BadProperty:
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        raise ZeroDivisionError


class BadSignature:
    __signature__ = "none"

    def __call__(self) -> None: ...


class BadMeta(type):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        raise ZeroDivisionError

    def __dir__(cls) -> Any:
        raise ZeroDivisionError

    def __getattr__(cls, name: str) -> Any:
        raise ZeroDivisionError


class WithHostileMembers:
    hostile = Hostile()
    answering = Answering()
    descriptor = BadDescriptor()
    bad_property = BadProperty()
    signature = BadSignature()

    def loop(self) -> None: ...

    def raising_annotation(self) -> 1 / 0: ...

    async def fine(self) -> int: ...


WithHostileMembers.loop.__wrapped__ = WithHostileMembers.loop


@pytest.mark.parametrize("name", [name for name in vars(WithHostileMembers) if name[:2] != "__"])
def test_members_that_raise_or_lie_do_no_harm(name: str) -> None:
    """A member that cannot be examined is a mock all the same."""
    mock = isolated_mock(WithHostileMembers)
    member = getattr(mock, name)
    assert member.mock_calls == []
    assert inspect.iscoroutinefunction(member) is (name == "fine")


def test_a_hostile_metaclass_does_no_harm() -> None:
    """A class that cannot be hashed, compared or listed is a specification like any other."""

    class Client(metaclass=BadMeta):
        async def fetch(self, key: str) -> Response: ...
        def again(self) -> Client: ...

    mock = isolated_mock(Client)
    assert isinstance(run(mock.fetch("k")), Response)
    with pytest.raises(TypeError):
        mock.fetch()
    assert mock.again().fetch is not None


def test_a_hostile_instance_does_no_harm() -> None:
    """An object whose attributes all raise is specified by its class."""
    assert isinstance(isolated_mock(Hostile()), Hostile)


def test_nothing_of_the_specification_runs() -> None:
    """Properties are not read, functions not called, modules not imported."""

    class Client:
        @property
        def prop(self) -> int:
            raise AssertionError("read")

        @functools.cached_property
        def cached(self) -> int:
            raise AssertionError("read")

    mock = isolated_mock(Client)
    assert isinstance(mock.prop, int)
    assert isinstance(mock.cached, int)


# -- deep --------------------------------------------------------------------------------


class Reply:
    LIMIT = 5

    def __init__(self, status: int) -> None:
        self.status = status
        self.headers: dict[str, str] = {}

    async def json(self) -> dict[str, Any]: ...


class Dynamic:
    def __getattr__(self, name: str) -> Any: ...


class Connection:
    reply: Reply
    replies: list[Reply]
    on_reply: Callable[[Reply], Awaitable[Reply]]
    maker: type[Reply]
    factory = Reply
    anything: Any
    either: int | str

    @property
    def last(self) -> Reply | None: ...

    async def send(self, data: bytes) -> Reply: ...
    async def close(self) -> None: ...
    def dynamic(self) -> Dynamic: ...
    def begin(self) -> Request: ...
    async def __aenter__(self) -> typing.Self: ...
    async def __aexit__(self, *exc: object) -> None: ...
    def __getitem__(self, key: str) -> Reply: ...


@pytest.mark.anyio
async def test_attributes_and_results_are_what_their_annotations_say() -> None:
    """Properties, annotations, class attributes, results, items and what is entered are verified."""
    mock = isolated_mock(Connection)
    for reply in (mock.reply, mock.last, await mock.send(b""), await mock.on_reply(1), mock.maker(1), mock.factory(1),
                  mock["k"]):  # fmt: skip
        assert isinstance(reply, Reply)
        assert inspect.iscoroutinefunction(reply.json)
        with pytest.raises(AttributeError):
            _ = reply.jsn
        assert reply.status.called is False  # set by the constructor only
    assert await mock.close() is None
    assert isinstance(mock.replies, list)
    async with mock as entered:
        assert entered is mock
    for wrong in (mock.on_reply, mock.maker, mock.reply, mock.replies.append):
        with pytest.raises(TypeError):
            wrong()
    for free in (mock.anything, mock.either, mock.dynamic().whatever):
        assert free.a.b.c is not None


@pytest.mark.anyio
async def test_an_awaitable_result_keeps_its_other_attributes() -> None:
    """An object that can be awaited or entered is still an object of its class."""

    class Query:
        def filter(self, **conditions: object) -> Query: ...
        def count(self) -> Awaitable[int]: ...
        def __await__(self) -> typing.Generator[Any, Any, list[Reply]]: ...
        def __aiter__(self) -> AsyncIterator[Reply]: ...

    class Model:
        def all(self) -> Query: ...

    Query.filter.__annotations__["return"] = Query
    Model.all.__annotations__["return"] = Query
    model = isolated_mock(Model)
    model.all().filter.return_value = [1, 2]
    assert await model.all().filter(a=1) == [1, 2]
    assert [each async for each in model.all().filter(a=2)] == [1, 2]
    assert inspect.iscoroutinefunction(model.all().count)
    with pytest.raises(AttributeError):
        _ = model.all().fliter


@pytest.mark.anyio
async def test_deep_can_be_switched_off() -> None:
    """``deep=False`` leaves attributes and results as `AsyncMock` has them; a return value of one's own always wins."""
    mock = isolated_mock(Connection, deep=False)
    assert (await mock.send(b"")).whatever is not None
    assert mock.reply.whatever is not None
    assert await mock.close() is not None
    with pytest.raises(TypeError):
        mock.send()
    own = isolated_mock(Connection)
    own.send.return_value = 5
    assert await own.send(b"") == 5


@pytest.mark.parametrize(
    "make",
    [lambda: isolated_mock(Reply, spec_set=True), lambda: isolated_mock(spec_set=Reply),
     lambda: isolated_mock(Reply, spec_set=Reply), lambda: isolated_mock(spec_set=["status", "json"]),
     lambda: isolated_mock(["status", "json"], spec_set=True), lambda: isolated_mock(spec_set=Reply(1))],
)  # fmt: skip
def test_spec_set_in_all_forms(make: Callable[[], Any]) -> None:
    """Names of the specification can be set, others raise, also below."""
    mock = make()
    mock.status = 3
    with pytest.raises(AttributeError):
        mock.state = 3


def test_spec_set_reaches_what_is_below_and_mock_add_spec() -> None:
    """Results and attributes of a ``spec_set`` mock refuse new names, too; ``mock_add_spec`` verifies."""
    mock = isolated_mock(Connection, spec_set=True)
    with pytest.raises(AttributeError):
        mock.reply.state = 1
    later = isolated_mock()
    later.mock_add_spec(Connection, spec_set=True)
    with pytest.raises(AttributeError):
        later.state = 1
    with pytest.raises(TypeError):
        later.send()
    assert isolated_mock(Connection, spec_set=False).reply is not None
