# A mock of a class has more than the class.
# mypy: disable-error-code="attr-defined"
"""Builders: named recipes with dependencies, whose result is the baseline."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isolation_core.errors import GraphError, UnknownMockBuilderError
from isolation_core.mocks import (
    MockRegistry,
    MockRequest,
    _builders,
    is_discarded,
    isolated_mock,
    mock_builder,
    mock_builders,
    register_mock_builder,
    reset,
)


@pytest.fixture(autouse=True)
def own_builders() -> Iterator[None]:
    """Give every test its own table of builders."""
    before = dict(_builders._builders)
    yield
    _builders._builders.clear()
    _builders._builders.update(before)


class Http:
    async def get(self, url: str) -> dict[str, Any]:
        raise ConnectionError(url)


class Users:
    async def find(self, user_id: int) -> dict[str, Any]:
        raise LookupError(user_id)


def build_http(request: MockRequest) -> Any:
    """Make a client that answers from a table of routes."""
    routes = dict(request.options.get("routes", {}))
    client = request.mock(Http)
    client.get.side_effect = lambda url: routes[url]
    request.registry.add_cleanup(routes.clear)
    return client


def build_users(request: MockRequest) -> Any:
    """Make a repository on top of the client."""
    http = request.dependencies["http"]
    users = request.mock(Users)

    async def find(user_id: int) -> Any:
        return await http.get(f"/users/{user_id}")

    users.find.side_effect = find
    return users


@pytest.mark.anyio
async def test_a_builder_is_asked_by_name_and_its_result_is_the_baseline() -> None:
    """Options reach the builder, the mock is verified, and ``reset`` goes back to what it configured."""
    register_mock_builder("http", build_http)
    async with MockRegistry("test") as registry:
        client = isolated_mock("http", name="api", routes={"/a": {"n": 1}})
        assert await client.get("/a") == {"n": 1}
        client.get.side_effect = KeyError
        reset(client)
        assert await client.get("/a") == {"n": 1}
        client.get.assert_awaited_once_with("/a")
        assert repr(client).startswith("<IsolatedMock name='api'")
        assert isinstance(client, Http)
        assert len(registry) == 1
    assert is_discarded(client)


@pytest.mark.anyio
async def test_dependencies_are_built_first_and_shared() -> None:
    """A builder finds the mocks it depends on; asking for them gives the same ones, in one registry only."""
    register_mock_builder("http", build_http)
    register_mock_builder("users", build_users, depends_on=["http"])
    async with MockRegistry("test"):
        http = isolated_mock("http", routes={"/users/1": {"id": 1}})
        users = isolated_mock("users")
        assert await users.find(1) == {"id": 1}
        http.get.assert_awaited_once_with("/users/1")
    async with MockRegistry("other") as registry:
        users = isolated_mock("users")
        with pytest.raises(KeyError):
            await users.find(1)
        assert len(registry) == 2
        assert registry.built("http") is not None


def test_the_decorator_and_later_registrations() -> None:
    """``@mock_builder`` registers, and the last registration wins."""

    @mock_builder("thing")
    def first(request: MockRequest) -> Any:
        return request.mock(return_value=1)

    @mock_builder("thing", depends_on=["other"])
    def second(request: MockRequest) -> Any:
        return request.mock(other=request.dependencies["other"].value)

    mock_builder("other")(lambda request: request.mock(value=5))
    assert {"thing", "other"} <= set(mock_builders())
    with MockRegistry("test"):
        assert isolated_mock("thing").other == 5


def test_unknown_names_and_circles_are_explained() -> None:
    """An unknown builder lists the known ones; missing dependencies and circles are all named at once."""
    register_mock_builder("a", build_http, depends_on=["b"])
    register_mock_builder("b", build_http, depends_on=["a", "missing"])
    with MockRegistry("test") as registry:
        with pytest.raises(UnknownMockBuilderError, match="'nope'") as caught:
            isolated_mock("nope")
        assert {"a", "b"} <= set(caught.value.known)
        with pytest.raises(GraphError) as graph:
            isolated_mock("a")
        assert {problem.code for problem in graph.value.problems} == {"ISO001", "ISO002"}
        register_mock_builder("fine", build_http)
        assert len(registry) == 0
        isolated_mock("fine")


def test_installed_packages_offer_builders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry point group is read once, on demand; builders registered in code win."""
    (tmp_path / "offering_builders.py").write_text(
        "def make(request):\n    return request.mock(base=request.dependencies['base'])\n"
        "make.depends_on = ['base']\n"
        "def other(request):\n    return request.mock(taken=True)\n"
    )
    info = tmp_path / "offering_builders-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offering-builders\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[isolation_core.mock_builders]\noffered = offering_builders:make\nmine = offering_builders:other\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(_builders, "_loaded", [])
    register_mock_builder("base", lambda request: request.mock())
    register_mock_builder("mine", lambda request: request.mock(taken=False))
    with MockRegistry("test") as registry:
        mock = isolated_mock("offered")
        assert mock.base is registry.built("base")
        assert isolated_mock("mine").taken is False
    monkeypatch.delitem(sys.modules, "offering_builders")
