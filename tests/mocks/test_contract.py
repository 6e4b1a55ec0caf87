# Dotted names come as a dict, which no type checker can match with parameters; members that only
# show their declaration need no body; and a mock of a class has more than the class.
# mypy: disable-error-code="arg-type,attr-defined,call-arg,empty-body"
"""Specified mocks promise what the real thing promises: names, signatures, sync or async shape."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import inspect
import sys
import types
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple, Self
from unittest.mock import ANY, AsyncMock, MagicMock, call

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolation_core.errors import SpecificationError, UnknownMockAttributeError
from isolation_core.mocks import isolated_mock, register_shape_profile
from isolation_core.mocks._contract import contract_for
from isolation_core.mocks._signature import checker


def run(coroutine: Any) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine waits for something")


class Base:
    inherited: int

    async def base_method(self, a: int) -> int:
        return a


def passes_through(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as people do, with `functools.wraps`."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Client(Base):
    """Has one member of every kind."""

    url: str
    LIMIT = 5

    def __init__(self, url: str) -> None:
        self.url = url

    async def fetch(self, key: str, /, *keys: str, fresh: bool = False, **options: object) -> bytes: ...
    def close(self, *, now: bool) -> None: ...

    @classmethod
    async def connect(cls, url: str) -> Client: ...

    @staticmethod
    def parse(text: str) -> dict[str, str]: ...

    @property
    def is_open(self) -> bool:
        raise RuntimeError("a property must not be read to make a mock")

    @functools.cached_property
    def expensive(self) -> int:
        raise RuntimeError("neither must this")

    async def stream(self, n: int) -> AsyncIterator[int]:
        yield n

    @asynccontextmanager
    async def session(self, name: str) -> AsyncIterator[str]:
        yield name

    @contextmanager
    def sync_session(self) -> Iterator[str]:
        yield ""

    def annotated(self) -> Awaitable[int]: ...
    def coroutine(self) -> Coroutine[Any, Any, int]: ...
    def future(self) -> asyncio.Future[int]: ...

    @passes_through
    async def decorated(self, a: int) -> int: ...

    partial = functools.partialmethod(fetch, "k")

    class Options:
        """A class as attribute of a class."""

        def __init__(self, depth: int) -> None: ...

        def level(self) -> int: ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...
    def __len__(self) -> int: ...


# -- names -----------------------------------------------------------------------------


def test_unknown_names_raise_with_a_suggestion() -> None:
    """A misspelled attribute raises AttributeError naming the nearest real one."""
    mock = isolated_mock(Client)
    with pytest.raises(UnknownMockAttributeError, match="Did you mean 'fetch'") as caught:
        _ = mock.fetsch
    assert (caught.value.spec, caught.value.suggestion) == ("Client", "fetch")
    with pytest.raises(AttributeError):
        mock.configure_mock(**{"fetsch.return_value": 1})


def test_annotations_fields_and_slots_are_names() -> None:
    """Instance attributes are known from annotations, dataclass, attrs and named tuple fields, and slots."""

    @dataclasses.dataclass
    class Data:
        x: int
        y: list[int] = dataclasses.field(default_factory=list)

    @attrs.define
    class Attrs:
        z: int
        w: int = attrs.field(factory=int)

    class Slots:
        __slots__ = ("s",)

    class Named(NamedTuple):
        n: int

    client = ["url", "inherited", "LIMIT"]
    for spec, names in ((Client, client), (Data, "xy"), (Attrs, "zw"), (Slots, "s"), (Named, "n")):
        mock = isolated_mock(spec)
        for name in names:
            assert isinstance(getattr(mock, name), MagicMock)
    assert not hasattr(isolated_mock(Data), "z")


def test_attributes_only_known_at_run_time_can_be_named() -> None:
    """``attributes=[...]`` adds names for this one mock."""
    assert isinstance(isolated_mock(Client, attributes=["pool"]).pool, MagicMock)
    assert not hasattr(isolated_mock(Client), "pool")
    assert isinstance(isolated_mock(["a"], attributes=["b"]).b, MagicMock)


def test_an_instance_brings_its_own_attributes() -> None:
    """With an object as specification, what is in its dict counts, callables included."""
    client: Any = Client("u")
    client.extra = lambda a: a
    client.late = client.fetch
    mock = isolated_mock(client)
    with pytest.raises(TypeError):
        mock.extra()
    assert inspect.iscoroutinefunction(mock.late)
    with pytest.raises(TypeError):
        mock.late()
    assert isinstance(mock, Client)


def test_a_module_or_a_list_of_names_can_be_the_specification() -> None:
    """Functions of a module are verified; a list restricts names only."""
    module = types.ModuleType("service")

    async def ping(a: int) -> int:
        return a

    setattr(module, "ping", ping)
    mock = isolated_mock(module)
    with pytest.raises(TypeError):
        mock.ping()
    with pytest.raises(AttributeError):
        _ = mock.pong
    assert not hasattr(isolated_mock(["a"]), "b")


def test_spec_set_refuses_new_attributes() -> None:
    """``spec_set`` is taken as `AsyncMock` takes it."""
    mock = isolated_mock(spec_set=Client)
    with pytest.raises(AttributeError):
        mock.extra = 1


def test_a_mock_is_no_specification() -> None:
    """Specifying a mock by a mock verifies nothing and raises."""
    with pytest.raises(SpecificationError):
        isolated_mock(isolated_mock())


def test_isinstance_and_missing_magic_methods() -> None:
    """The mock is an instance of its specification, and supports only the special methods that has."""
    mock = isolated_mock(Client)
    assert isinstance(mock, Client)
    assert isinstance(mock, AsyncMock)
    assert len(mock) == 0
    for broken in (iter, int, lambda m: m["a"]):
        with pytest.raises(TypeError):
            broken(mock)
    with pytest.raises(TypeError, match="not callable"):
        isolated_mock(Client("u"))()


# -- signatures ------------------------------------------------------------------------


def test_calls_are_checked_against_the_real_signature() -> None:
    """Too many, too few, unknown and positional-only arguments raise TypeError at the call, not at the await."""
    mock = isolated_mock(Client)
    for wrong in (
        mock.fetch, lambda: mock.fetch(key="k"), lambda: mock.close(True), mock.close, mock.connect,
        lambda: mock.parse("a", "b"), lambda: mock.base_method(1, 2), mock.decorated, mock.stream, mock.session,
        mock.Options,
    ):  # fmt: skip
        with pytest.raises(TypeError):
            wrong()
    run(mock.fetch("a", "b", fresh=True, more=1))
    run(mock.connect("u"))
    mock.close(now=True)
    mock.parse("x")
    assert str(inspect.signature(mock.close)) == "(*, now)"


def test_a_message_names_method_and_parameter() -> None:
    """The message is the interpreter's own for the real method."""
    with pytest.raises(TypeError, match=r"close\(\) missing 1 required keyword-only argument: 'now'"):
        isolated_mock(Client).close()


def test_assertions_match_positional_and_keyword_spelling() -> None:
    """As with autospec, ``f(1)`` and ``f(a=1)`` are the same call."""
    mock = isolated_mock(Client)
    run(mock.base_method(1))
    mock.base_method.assert_awaited_once_with(a=1)
    mock.base_method.assert_called_with(ANY)
    mock.assert_has_calls([call.base_method(a=1)])


def test_a_function_is_checked_when_called() -> None:
    """A mock of a function takes exactly its arguments, sync or async."""

    async def send(topic: str, *, key: str) -> int: ...

    mock = isolated_mock(send)
    assert inspect.iscoroutinefunction(mock)
    with pytest.raises(TypeError):
        mock("t")
    run(mock("t", key="k"))
    mock.assert_awaited_once_with("t", key="k")


def test_a_callable_object_is_checked_by_its_call() -> None:
    """Instances with ``__call__`` are checked against it."""

    class Handler:
        async def __call__(self, event: str) -> None: ...

    mock = isolated_mock(Handler)
    with pytest.raises(TypeError):
        mock()
    run(mock("e"))


_P = inspect.Parameter
_kinds = st.sampled_from(
    [_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD, _P.VAR_POSITIONAL, _P.KEYWORD_ONLY, _P.VAR_KEYWORD]
)


@st.composite
def _signatures(draw: st.DrawFn) -> inspect.Signature:
    kinds = sorted(draw(st.lists(_kinds, max_size=6)))
    parameters: list[_P] = []
    optional = False
    for index, kind in enumerate(kinds):
        if kind in (_P.VAR_POSITIONAL, _P.VAR_KEYWORD):
            if any(p.kind is kind for p in parameters):
                continue
            parameters.append(_P(f"p{index}", kind))
            continue
        default = draw(st.booleans()) or (optional and kind in (_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD))
        optional = optional or (default and kind is not _P.KEYWORD_ONLY)
        parameters.append(_P(f"p{index}", kind, default=1 if default else _P.empty))
    return inspect.Signature(parameters)


@given(_signatures(), st.integers(0, 4), st.sets(st.sampled_from([f"p{n}" for n in range(6)] + ["q"])))
def test_the_fast_check_agrees_with_bind(signature: inspect.Signature, positional: int, keywords: set[str]) -> None:
    """For any signature and any arguments, the compiled check accepts exactly what ``Signature.bind`` accepts."""
    only = {p.name for p in signature.parameters.values() if p.kind is _P.POSITIONAL_ONLY}
    # Some versions of ``bind`` take a required positional-only parameter by
    # keyword when there is ``**kwargs``; no function does.
    args, kwargs = (0,) * positional, dict.fromkeys(keywords - only, 0)
    check = checker("f", signature)

    def accepts(function: Callable[..., object]) -> bool:
        try:
            function(*args, **kwargs)
        except TypeError:
            return False
        return True

    assert accepts(signature.bind) == (check is None or accepts(check))


# -- shape -----------------------------------------------------------------------------


def test_shapes_follow_declarations() -> None:
    """Async functions, awaitable annotations, async generators and context managers are distinguished."""
    contract = contract_for(Client)
    shapes = {name: contract.member(name).shape for name in contract.names if name[:1] != "_"}
    assert {name for name, shape in shapes.items() if shape == "async"} == {
        "annotated", "base_method", "connect", "coroutine", "decorated", "fetch", "future", "partial",
    }  # fmt: skip
    assert {name for name, shape in shapes.items() if shape == "iterating"} == {"stream"}
    assert {name for name, shape in shapes.items() if shape == "dual"} == {"session"}


@pytest.mark.anyio
async def test_members_behave_by_their_shape() -> None:
    """Sync members return, async ones are awaited, generators are iterated, context managers entered."""
    mock = isolated_mock(Client)
    mock.parse.return_value = {"a": "b"}
    mock.fetch.return_value = b"x"
    mock.stream.return_value = [1, 2]
    mock.session.return_value = "conn"
    assert mock.parse("t") == {"a": "b"}
    assert await mock.fetch("k") == b"x"
    assert [n async for n in mock.stream(3)] == [1, 2]
    async with mock.session("s") as session:
        assert session == "conn"
    stubs: dict[str, Any] = {"__aiter__.return_value": [5]}
    mock.stream.return_value = isolated_mock(**stubs)
    assert [n async for n in mock.stream(3)] == [5]
    options = mock.Options(3)
    with pytest.raises(TypeError):
        options.level(1)
    assert isinstance(options, Client.Options)


def test_string_annotations_are_read_but_not_evaluated() -> None:
    """``from __future__ import annotations`` and quoted annotations give the shape, unresolvable names no trouble."""

    class Odd:
        def quoted(self) -> "Awaitable[Missing]": ...  # type: ignore[name-defined]  # noqa: F821, UP037
        def plain(self) -> Missing: ...  # type: ignore[name-defined]  # noqa: F821

    contract = contract_for(Odd)
    assert contract.member("quoted").shape == "async"
    assert contract.member("plain").shape == "sync"


def test_a_contract_is_made_once_and_dies_with_its_class() -> None:
    """The cache holds classes weakly, whatever their members refer to."""

    def make_class() -> type:
        class Local:
            def method(self, other: Local) -> Local:
                return super().method(other)  # type: ignore[misc,no-any-return]

        return Local

    cls = make_class()
    assert contract_for(cls) is contract_for(cls)
    mock = isolated_mock(cls)
    mock.method(1)
    del mock
    gone = weakref.ref(cls)
    del cls
    gc.collect()
    assert gone() is None


# -- profiles --------------------------------------------------------------------------


def fake_client(path: str, **namespace: object) -> type:
    """Make a class that calls itself *path*, as a real client would."""
    module, _, name = path.rpartition(".")
    return type(name, (), {"__module__": module, **namespace})


def plain_method(self: object, name: str) -> Any:
    """A method that is declared without ``async``."""


def test_redis_methods_are_awaitable_although_not_declared_so() -> None:
    """redis.asyncio declares most commands as plain functions; the profile knows better."""
    cls = fake_client("redis.asyncio.client.Redis", get=plain_method, pipeline=plain_method, lock=plain_method)
    mock = isolated_mock(cls)
    assert inspect.iscoroutinefunction(mock.get)
    assert not inspect.iscoroutinefunction(mock.pipeline)
    with pytest.raises(TypeError):
        mock.get()


@pytest.mark.anyio
async def test_an_acquired_connection_can_be_awaited_or_entered() -> None:
    """``asyncpg``'s ``pool.acquire()``: ``await`` and ``async with`` give the configured connection, both counted."""
    cls = fake_client("asyncpg.pool.Pool", acquire=lambda self, *, timeout=None: None)
    stubs: dict[str, Any] = {"acquire.return_value": "conn"}
    pool = isolated_mock(cls, **stubs)
    assert await pool.acquire() == "conn"
    async with pool.acquire(timeout=3) as conn:
        assert conn == "conn"
    assert pool.acquire.await_count == 2
    assert not inspect.iscoroutinefunction(pool.acquire)
    with pytest.raises(TypeError):
        pool.acquire(3)
    with pytest.raises(KeyError):
        async with pool.acquire():
            raise KeyError
    pool.acquire.side_effect = InterruptedError
    with pytest.raises(InterruptedError):
        await pool.acquire()


@pytest.mark.anyio
async def test_the_old_spelling_of_an_entered_result_still_works() -> None:
    """``m.acquire.return_value.__aenter__.return_value = conn`` and real context managers are respected."""
    cls = fake_client("asyncpg.pool.Pool", acquire=lambda self: None)
    pool = isolated_mock(cls)
    pool.acquire.return_value.__aenter__.return_value = "conn"
    async with pool.acquire() as conn:
        assert conn == "conn"
    pool.acquire.return_value.__aexit__.assert_awaited_once()

    @asynccontextmanager
    async def real() -> AsyncIterator[str]:
        yield "real"

    pool.acquire.return_value = real()
    async with pool.acquire() as conn:
        assert conn == "real"


@pytest.mark.anyio
async def test_the_old_spelling_works_on_the_real_client() -> None:
    """It does so too where the class of what is entered is known, which has no such methods itself."""
    asyncpg = pytest.importorskip("asyncpg")
    pool = isolated_mock(asyncpg.Pool)
    pool.acquire.return_value.__aenter__.return_value = "conn"
    async with pool.acquire() as conn:
        assert conn == "conn"
    pool.acquire.return_value.__aexit__.assert_awaited_once()


def test_sync_methods_of_nats_and_aiohttp() -> None:
    """``jetstream()`` is sync, ``session.get()`` is awaitable and a context manager, ``subscribe`` is async."""

    async def subscribe(self: object, subject: str) -> None: ...

    nats = isolated_mock(fake_client("nats.aio.client.Client", jetstream=plain_method, subscribe=subscribe))
    assert not inspect.iscoroutinefunction(nats.jetstream)
    assert inspect.iscoroutinefunction(nats.subscribe)
    session = isolated_mock(fake_client("aiohttp.client.ClientSession", get=plain_method))
    assert contract_for(fake_client("aiohttp.client.ClientSession", get=plain_method)).member("get").shape == "dual"
    assert hasattr(session.get("u"), "__aenter__")


@pytest.mark.anyio
async def test_users_register_profiles_for_their_clients() -> None:
    """A registered profile gives shapes, results and what entering gives, for the class and its subclasses."""

    class Reply:
        status: int

        def text(self) -> str: ...

    class Rpc:
        def ask(self, question: str) -> Any: ...
        def events(self) -> Any: ...
        def open(self) -> Any: ...
        def local(self) -> Any: ...

        async def __aenter__(self) -> Any: ...
        async def __aexit__(self, *exc: object) -> None: ...

    class Special(Rpc):
        def more(self) -> Any: ...

    assert contract_for(Rpc).member("ask").shape == "sync"
    Reply.__module__, Reply.__qualname__ = "reply_module", "Reply"
    sys.modules["reply_module"] = types.ModuleType("reply_module")
    setattr(sys.modules["reply_module"], "Reply", Reply)
    try:
        register_shape_profile(
            Rpc, otherwise="async", synchronous=["local"], dual=["open"], iterating=["events"],
            returns={"ask": Reply}, enters_itself=True,
        )  # fmt: skip
        shapes = {name: contract_for(Special).member(name).shape for name in ("ask", "events", "open", "local", "more")}
        assert shapes == {"ask": "async", "events": "iterating", "open": "dual", "local": "sync", "more": "async"}
        mock = isolated_mock(Special)
        async with mock as entered:
            assert entered is mock
        reply = await mock.ask("?")
        reply.text.return_value = "x"
        assert reply.text() == "x"
        assert isinstance(reply, Reply)
        assert not hasattr(reply, "tekst")
        with pytest.raises(TypeError):
            await mock.ask()
    finally:
        del sys.modules["reply_module"]
