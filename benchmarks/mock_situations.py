# The classes are specifications, read and never called, and each situation is one line of a table.
# ruff: noqa: ARG005, D101, D102, D103, E501, FBT001, FBT003, PYI034
# mypy: disable-error-code="empty-body"
"""``python -m benchmarks.mock_situations [--verbose]``: specified mocks in a hundred situations.

Each situation is a small thing that tests do with a double of a real class or
function, and what the real thing would do there. Three doubles are tried:
``isolated_mock(spec)``, ``AsyncMock(spec=spec)`` and ``create_autospec(spec)``
(of a class: an instance). *Worse* is a situation in which one of the standard
library's behaves like the real thing and ours does not; there must be none.
"""

from __future__ import annotations

import abc
import argparse
import asyncio
import contextlib
import dataclasses
import enum
import functools
import inspect
import platform
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final, Generic, Protocol, TypeVar, overload
from unittest.mock import AsyncMock, create_autospec

from attrs import frozen

from isolation_core.mocks import isolated_mock

T = TypeVar("T")


class Task:
    """A class of the domain."""


@dataclasses.dataclass
class Reply:
    status: int = 200
    tags: list[str] = dataclasses.field(default_factory=list)

    def text(self, encoding: str = "utf-8") -> str: ...
    async def json(self) -> dict[str, int]: ...


def passes(function: Any) -> Any:
    """Decorate with ``wraps``."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Retry:
    """A decorator object."""

    def __init__(self, function: Any) -> None:
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)


class Client:
    url: str
    reply: Reply
    LIMIT = 5
    default = Reply()
    maker = Reply

    def __init__(self, url: str) -> None:
        self.url = url
        self.later = 1

    async def fetch(self, key: str, *, fresh: bool = False) -> Reply: ...
    def size(self, deep: bool) -> int: ...
    def task(self) -> Task: ...
    def soon(self) -> Awaitable[Reply]: ...
    def future(self) -> asyncio.Future[int]: ...
    async def close(self) -> None: ...
    async def clear(self) -> int: ...
    def reset(self) -> int: ...

    async def stream(self, n: int) -> AsyncIterator[int]:
        yield n

    @contextlib.asynccontextmanager
    async def session(self, name: str) -> AsyncIterator[Reply]:
        yield Reply()

    @contextlib.contextmanager
    def local(self) -> Iterator[Reply]:
        yield Reply()

    @classmethod
    async def connect(cls, url: str) -> Client: ...
    @staticmethod
    def parse(text: str) -> Reply: ...
    @passes
    async def passed(self, a: int) -> Reply: ...
    @Retry
    async def retried(self, a: int) -> Reply: ...
    @functools.cache  # noqa: B019
    def cached(self, a: int) -> int: ...
    @property
    def last(self) -> Reply:
        raise RuntimeError("read")

    @overload
    def either(self, a: int) -> Awaitable[int]: ...
    @overload
    def either(self, a: str) -> Awaitable[str]: ...
    def either(self, a: Any) -> Any: ...

    half = functools.partialmethod(size, True)

    async def __aenter__(self) -> Client: ...
    async def __aexit__(self, *exc: object) -> None: ...
    def __len__(self) -> int: ...


class Repo(Generic[T]):
    async def get(self, key: str) -> T: ...


class Port(Protocol):
    async def read(self, size: int) -> Reply: ...


class Base(abc.ABC):
    @abc.abstractmethod
    async def run(self, a: int) -> Reply: ...


class Color(enum.Enum):
    RED = 1

    async def paint(self, wall: str) -> Reply: ...


class Handler:
    def __call__(self, event: str) -> int: ...


class AsyncHandler:
    async def __call__(self, event: str) -> int: ...


async def coroutine_function(a: int) -> Reply: ...
def function(a: int) -> Reply: ...


def run(value: Any) -> Any:
    """Await *value* as the code under test would."""

    async def main() -> Any:
        return await value

    return asyncio.run(main())


def is_async(value: Any) -> bool:
    """Tell whether calling *value* gives an awaitable."""
    result = value
    if inspect.iscoroutine(result):
        result.close()
        return True
    return inspect.isawaitable(result)


async def _entered(manager: Any) -> Any:
    async with manager as value:
        return value


async def _items(value: Any) -> list[Any]:
    return [item async for item in value]


async def _swallows(mock: Any) -> bool:
    for _ in range(2):
        with contextlib.suppress(KeyError):
            async with mock:
                raise KeyError
            return True
        mock.reset_mock(return_value=True)
    return False


def configured(mock: Any, path: str, value: Any) -> Any:
    """Set a dotted attribute of *mock* and return the mock."""
    mock.configure_mock(**{path: value})
    return mock


@frozen
class Situation:
    """Something a test does, and what the real thing does then: a value, or the exception it raises."""

    name: str
    spec: Any
    does: Callable[[Any], Any]
    right: Any


def _raises(error: type[BaseException], spec: Any, **does: Callable[[Any], Any]) -> list[Situation]:
    return [Situation(name, spec, what, error) for name, what in does.items()]


def _gives(right: Any, spec: Any, **does: Callable[[Any], Any]) -> list[Situation]:
    return [Situation(name, spec, what, right) for name, what in does.items()]


SITUATIONS: Final = [
    # Names.
    *_raises(AttributeError, Client, unknown_name=lambda m: m.fetsch, unknown_on_method=lambda m: m.fetch.timeout,
             unknown_on_attribute=lambda m: m.reply.stauts, unknown_on_property=lambda m: m.last.jsn,
             unknown_on_class_attribute=lambda m: m.default.stauts, unknown_on_result=lambda m: run(m.fetch("k")).jsn,
             unknown_on_int=lambda m: m.LIMIT.foo, misspelled_assertion=lambda m: m.fetch.assert_awaited_onc(),
             bare_assertion=lambda m: m.fetch.called_once(), bare_await_assertion=lambda m: m.fetch.awaited_once()),
    *_gives(True, Client, annotated_name=lambda m: hasattr(m, "url"), class_attribute=lambda m: hasattr(m, "LIMIT"),
            set_in_constructor=lambda m: hasattr(m, "later"), method=lambda m: hasattr(m, "fetch"),
            instance_of=lambda m: isinstance(m, Client), result_instance=lambda m: isinstance(run(m.fetch("k")), Reply),
            attribute_instance=lambda m: isinstance(m.reply, Reply), property_instance=lambda m: isinstance(m.last, Reply),
            class_attribute_instance=lambda m: isinstance(m.default, Reply),
            clear_is_the_users=lambda m: is_async(m.clear()), reset_is_the_users=lambda m: not is_async(m.reset()),
            in_dir=lambda m: "fetch" in dir(m), annotated_in_dir=lambda m: "url" in dir(m)),
    *_gives(True, Reply, field=lambda m: hasattr(m, "status"), factory_field=lambda m: hasattr(m, "tags"),
            list_field=lambda m: isinstance(m.tags, list)),
    # Signatures.
    *_raises(TypeError, Client, too_few=lambda m: m.fetch(), too_many=lambda m: m.fetch("a", "b"),
             unknown_keyword=lambda m: m.fetch("a", old=1), sync_too_many=lambda m: m.size(1, 2),
             sync_too_few=lambda m: m.size(), class_method=lambda m: m.connect(), static_method=lambda m: m.parse("a", "b"),
             decorated=lambda m: m.passed(), decorator_object=lambda m: m.retried(), cached_method=lambda m: m.cached(),
             partial_method=lambda m: m.half(1, 2), generator_method=lambda m: m.stream(),
             session_method=lambda m: m.session(), overloaded=lambda m: m.either(), result_method=lambda m: run(m.fetch("k")).text(1, 2),
             attribute_method=lambda m: m.reply.text(1, 2), nested_class=lambda m: m.maker(1, 2, 3),
             property_method=lambda m: m.last.text(1, 2)),
    *_gives(True, Client, right_arguments=lambda m: is_async(m.fetch("a", fresh=True)),
            keyword_spelling=lambda m: (m.size(deep=True), m.size.assert_called_once_with(True)) is not None,
            async_keyword_spelling=lambda m: (run(m.fetch(key="k")), m.fetch.assert_awaited_once_with("k")) is not None,
            call_in_parent=lambda m: (m.size(True), m.assert_has_calls([_call().size(True)])) is not None),
    *_raises(AssertionError, Client, wrong_assertion=lambda m: (run(m.fetch("a")), m.fetch.assert_awaited_once_with("b")),
             not_awaited=lambda m: (m.fetch("a").close(), m.fetch.assert_awaited())[1]),
    # Sync or async.
    *_gives(True, Client, async_def=lambda m: is_async(m.fetch("k")), awaitable_annotation=lambda m: is_async(m.soon()),
            future_annotation=lambda m: is_async(m.future()), async_class_method=lambda m: is_async(m.connect("u")),
            async_decorated=lambda m: is_async(m.passed(1)), async_decorator_object=lambda m: is_async(m.retried(1)),
            async_overloads=lambda m: is_async(m.either(1)), iscoroutinefunction=lambda m: inspect.iscoroutinefunction(m.fetch)),
    *_gives(False, Client, sync_def=lambda m: is_async(m.size(True)), domain_task=lambda m: is_async(m.task()),
            sync_static_method=lambda m: is_async(m.parse("t")), sync_cached=lambda m: is_async(m.cached(1)),
            sync_partial=lambda m: is_async(m.half()), nested_constructor=lambda m: is_async(m.maker()),
            sync_not_coroutine=lambda m: inspect.iscoroutinefunction(m.size), swallows=lambda m: asyncio.run(_swallows(m)),
            generator_not_coroutine=lambda m: is_async(m.stream(1))),
    # Results, iteration, context managers.
    *_gives("v", Client, return_value=lambda m: run(configured(m, "fetch.return_value", "v").fetch("k")),
            sync_return_value=lambda m: configured(m, "size.return_value", "v").size(True),
            side_effect_list=lambda m: run(configured(m, "fetch.side_effect", ["v"]).fetch("k")),
            side_effect_function=lambda m: run(configured(m, "fetch.side_effect", lambda key: "v").fetch("k")),
            attribute_set=lambda m: configured(m, "url", "v").url,
            entered=lambda m: asyncio.run(_entered(configured(m, "session.return_value", "v").session("n"))),
            entered_old_way=lambda m: asyncio.run(_entered(configured(m, "session.return_value.__aenter__.return_value", "v").session("n"))),
            result_configured=lambda m: (configured(m, "fetch.return_value.text.return_value", "v"), run(m.fetch("k")).text())[1]),
    *_gives([1, 2], Client, iterated=lambda m: asyncio.run(_items(configured(m, "stream.return_value", [1, 2]).stream(3)))),
    *_gives(None, Client, none_result=lambda m: run(m.close())),
    *_gives(0, Client, length=len),
    *_raises(TypeError, Client, not_iterable=list, not_a_number=int, no_item=lambda m: m["a"]),
    *_raises(KeyError, Client, side_effect_error=lambda m: run(configured(m, "fetch.side_effect", KeyError).fetch("k"))),
    *_gives(True, Client, reused_list=lambda m: (configured(m, "fetch.side_effect", ["v"]), m.reset_mock(), run(m.fetch("k")))[2] == "v",
            typed_list=lambda m: isinstance(m.reply.tags, list)),
    # Other specifications.
    *_gives(True, coroutine_function, function_async=lambda m: is_async(m(1)), function_marked=inspect.iscoroutinefunction),
    *_gives(False, function, function_sync=lambda m: is_async(m(1))),
    *_gives(True, function, function_result=lambda m: isinstance(m(1), Reply)),
    *_raises(TypeError, function, function_arguments=lambda m: m()),
    *_raises(TypeError, coroutine_function, coroutine_arguments=lambda m: m()),
    *_gives(False, Handler, callable_sync=lambda m: is_async(m("e"))),
    *_raises(TypeError, Handler, callable_arguments=lambda m: m()),
    *_gives(True, AsyncHandler, callable_async=lambda m: is_async(m("e"))),
    *_raises(TypeError, AsyncHandler, async_callable_arguments=lambda m: m()),
    *_gives(True, Repo[Reply], alias_async=lambda m: is_async(m.get("k")), alias_result=lambda m: isinstance(run(m.get("k")), Reply)),
    *_raises(TypeError, Repo[Reply], alias_arguments=lambda m: m.get()),
    *_gives(True, Port, protocol_async=lambda m: is_async(m.read(1))),
    *_raises(TypeError, Port, protocol_arguments=lambda m: m.read()),
    *_gives(True, Base, abstract_async=lambda m: is_async(m.run(1))),
    *_raises(TypeError, Base, abstract_arguments=lambda m: m.run()),
    *_gives(True, Color, enum_member=lambda m: isinstance(m.RED, Color), enum_value=lambda m: hasattr(m, "value"),
            enum_async=lambda m: is_async(m.paint("w"))),
    *_gives(True, list[int], list_alias=lambda m: isinstance(m, list)),
    *_raises(AttributeError, list[int], list_name=lambda m: m.appendd),
    *_raises(TypeError, dict, c_method=lambda m: m.setdefault()),
    *_gives(False, functools.partial(function, 1), partial_sync=lambda m: is_async(m())),
    *_gives(True, functools.partial(coroutine_function, 1), partial_async=lambda m: is_async(m())),
    *_gives(False, functools.cache(function), cache_sync=lambda m: is_async(m(1))),
    *_gives(True, Client("u"), instance_attribute=lambda m: hasattr(m, "later"), instance_async=lambda m: is_async(m.fetch("k"))),
    *_raises(TypeError, Client("u"), instance_not_callable=lambda m: m()),
]  # fmt: skip


def _call() -> Any:
    from unittest.mock import call

    return call


def _autospec(spec: Any) -> Any:
    return create_autospec(spec, instance=True) if inspect.isclass(spec) else create_autospec(spec)


DOUBLES: Final[dict[str, Callable[[Any], Any]]] = {
    "isolated_mock": isolated_mock,
    "AsyncMock(spec=)": lambda spec: AsyncMock(spec=spec),
    "create_autospec": _autospec,
}


def is_right(situation: Situation, make: Callable[[Any], Any]) -> bool:
    """Tell whether a double behaves like the real thing."""
    try:
        got = situation.does(make(situation.spec))
    except BaseException as error:
        return inspect.isclass(situation.right) and isinstance(error, situation.right)
    return not inspect.isclass(situation.right) and bool(got == situation.right) and type(got) is type(situation.right)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verbose", action="store_true", help="list all situations")
    verbose = parser.parse_args().verbose
    warnings.simplefilter("ignore")
    right = dict.fromkeys(DOUBLES, 0)
    counts = {"same": 0, "better": 0, "both wrong": 0, "worse": 0}
    for situation in SITUATIONS:
        found = {name: is_right(situation, make) for name, make in DOUBLES.items()}
        for name, ok in found.items():
            right[name] += ok
        ours, *theirs = found.values()
        verdict = (
            ("same" if all(theirs) else "better") if ours else ("worse" if any(theirs) else "both wrong")
        )  # fmt: skip
        counts[verdict] += 1
        if verbose or verdict in ("worse", "both wrong"):
            print(f"    {situation.name:28} {verdict:10} {found}")
    print(f"Python {platform.python_version()}, {len(SITUATIONS)} situations: like the real thing {right}; {counts}")
    return int(counts["worse"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
