"""HTTP double: matching, strictness in both directions, its own client, time, mock API, without httpx."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import ANY

import anyio.lowlevel
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolation_core.errors import ConfigurationError
from isolation_core.services import MockContext, delay, fail
from isolation_core.services.http import HttpDouble, RoutesNotCalledError, UnexpectedRequestError

pytestmark = pytest.mark.anyio
VIRTUAL_TIME = True


@pytest.fixture
async def http() -> AsyncIterator[HttpDouble]:
    """Give a double in a context of its own."""
    async with MockContext("a test", virtual_time=True) as context:
        yield HttpDouble(context, base_url="https://api.test")


@pytest.mark.parametrize(
    ("route", "asked", "options"),
    [
        ({"url": "https://api.test/a"}, "/a", {}),
        ({"url": "https://api.test:443/a?x=1"}, "/a?x=1&y=2", {}),
        ({"url": "/a/{name}/c"}, "/a/b/c", {}),
        ({"url": "/a/*"}, "/a/b/c", {}),
        ({"url": re.compile(r"https://.*/\d+")}, "/a/17", {}),
        ({"host": "api.test", "scheme": "https", "port": 443, "path": re.compile("/a.*")}, "/abc", {}),
        ({"params": {"x": 1, "y": ANY}}, "/a", {"params": {"x": "1", "y": "z", "more": "w"}}),
        ({"params": {"x": ["1", "2"]}}, "/a", {"params": {"x": ["1", "2"]}}),
        ({"headers": {"X-Key": re.compile("^k")}}, "/a", {"headers": {"x-key": "k1"}}),
        ({"json": {"a": ANY}}, "/a", {"json": {"a": 3}}),
        ({"content": "text"}, "/a", {"content": b"text"}),
        ({"data": {"a": "1"}}, "/a", {"data": {"a": "1", "b": "2"}}),
        ({"when": lambda request: len(request.content) == 2}, "/a", {"content": "ab"}),
    ],
)
async def test_matching(http: HttpDouble, route: dict[str, object], asked: str, options: dict[str, object]) -> None:
    """A route answers what fits every part of it, by value, pattern, or anything that compares equal."""
    known = http.route("POST", **route).respond(204)  # type: ignore[arg-type]
    assert (await http.post(asked, **options)).status_code == 204
    assert known.call_count == 1
    http.assert_all_called()


@pytest.mark.parametrize(
    ("route", "why"),
    [
        ({"method": "POST"}, "the method is GET, not POST"),
        ({"url": "http://api.test/a"}, "the scheme is 'https', not 'http'"),
        ({"host": "other.test"}, "the host is 'api.test', not 'other.test'"),
        ({"url": "/b"}, "the path is '/a'"),
        ({"params": {"x": "2"}}, "parameter 'x' is '1', not '2'"),
        ({"params": {"z": "2"}}, "parameter 'z' is missing, not '2'"),
        ({"headers": {"x-key": "k"}}, "header 'x-key' is None, not 'k'"),
        ({"json": {}}, "the content is not JSON"),
        ({"content": "x"}, "the content is b''"),
        ({"data": {"f": "1"}}, "form field 'f' is None"),
        ({"when": lambda _: False}, "is not true"),
        ({"url": re.compile("nothing")}, "the URL does not match 'nothing'"),
    ],
)
async def test_unexpected_request_says_why(http: HttpDouble, route: dict[str, object], why: str) -> None:
    """A request that no route answers is an error that says, for each route, what did not fit."""
    http.route(**route).optional()  # type: ignore[arg-type]
    with pytest.raises(UnexpectedRequestError, match=re.escape(why)) as caught:
        await http.get("/a?x=1")
    assert caught.value.method == "GET"
    assert any("unexpected request GET https://api.test/a" in problem for problem in http.problems())


async def test_responses_in_sequence(http: HttpDouble) -> None:
    """Responses are used up in turn, failures among them; then the route is used up, and says so."""
    route = http.route("GET", "/a").respond(500).fail(httpx.ConnectTimeout("slow")).respond(200, json=[1])
    assert (await http.get("/a")).status_code == 500
    assert "2 responses left" in http.problems()[0]
    with pytest.raises(httpx.ConnectTimeout, match="slow"):
        await http.get("/a")
    assert (await http.get("/a")).json() == [1]
    with pytest.raises(UnexpectedRequestError, match="answered 3 times and is used up"):
        await http.get("/a")
    assert [call.response and call.response.status_code for call in route.calls] == [500, None, 200]
    http.assert_all_called()


async def test_reusable_and_optional(http: HttpDouble) -> None:
    """A reusable route answers forever, an optional one may stay alone; others are missed at the end."""
    http.route("GET", "/a").respond(500).respond(200).reusable()
    http.route("GET", "/b").respond(200).optional()
    assert [(await http.get("/a")).status_code for _ in range(4)] == [500, 200, 200, 200]
    assert http.problems() == ()
    http.route("GET", "/c", name="the third")
    with pytest.raises(RoutesNotCalledError, match="'the third' was never called"):
        http.assert_all_called()


async def test_captured_names_reach_the_side_effect(http: HttpDouble) -> None:
    """The values of the names in a URL are passed to the side effect and recorded with the call."""

    async def answer(request: httpx.Request, user: str) -> dict[str, str]:
        await anyio.lowlevel.checkpoint()
        return {"user": user, "method": request.method}

    route = http.route(url="/users/{user}/posts/{post}")
    route.side_effect = answer
    assert (await http.put("/users/7/posts/9")).json() == {"user": "7", "method": "PUT"}
    assert route.calls[0].captured == {"user": "7", "post": "9"}


async def test_mock_style_configuration(http: HttpDouble) -> None:
    """A route takes return_value and side_effect as mocks do: response, status, exception, several in turn."""
    always = http.route("GET", "/always")
    always.return_value = httpx.Response(418, text="tea")
    assert [(await http.get("/always")).text for _ in range(2)] == ["tea", "tea"]
    turns = http.route("GET", "/turns")
    turns.side_effect = [httpx.Response(503), {"ok": True}, httpx.ReadError]
    assert (await http.get("/turns")).status_code == 503
    assert (await http.get("/turns")).json() == {"ok": True}
    with pytest.raises(httpx.ReadError):
        await http.get("/turns")
    http.route("GET", "/odd").side_effect = lambda _: object()
    with pytest.raises(ConfigurationError, match="give a response"):
        await http.get("/odd")


async def test_delays_are_virtual_and_meet_timeouts(http: HttpDouble) -> None:
    """A slow response takes virtual time; one slower than the client's patience is its timeout."""
    clock = http.context.clock
    http.route("GET", "/slow").respond(200, delay=4).reusable()
    assert (await http.get("/slow")).status_code == 200
    assert clock.now() == 4
    with pytest.raises(httpx.ReadTimeout):
        await http.get("/slow", timeout=1.5)
    assert clock.now() == 5.5


def test_delays_in_synchronous_clients() -> None:
    """A synchronous client advances the clock itself; an asynchronous side effect is refused with advice."""
    with MockContext("a test", virtual_time=True) as context:
        http = HttpDouble(context)
        http.route("GET", "/slow").respond(200, delay=4).reusable()
        with httpx.Client(transport=http.transport, base_url="http://x") as client:
            assert client.get("/slow").status_code == 200
            with pytest.raises(httpx.ReadTimeout):
                client.get("/slow", timeout=1)

            async def late(_: object) -> int:
                return 200

            http.route("GET", "/late").side_effect = late
            with pytest.raises(ConfigurationError, match="plain function"):
                client.get("/late")
        assert context.clock.now() == 5
        assert http.handle_sync.call_count == 3


async def test_mock_api(http: HttpDouble) -> None:
    """The methods of its client are mocks: calls can be asserted, and a configured outcome wins."""
    http.route("GET", "/a").respond(200)
    await http.get("/a", params={"x": 1})
    http.get.assert_awaited_once_with("/a", params={"x": 1})
    http.post.return_value = "posted"
    assert await http.post("/nowhere") == "posted"
    http.get.side_effect = httpx.PoolTimeout("full")
    with pytest.raises(httpx.PoolTimeout):
        await http.get("/a")
    with pytest.raises(AttributeError, match="patch"):
        http.pathc  # noqa: B018 - the look is the point
    unverified: Any = http
    with pytest.raises(TypeError):
        await unverified.get()


async def test_log_has_both_kinds_of_traffic(http: HttpDouble) -> None:
    """Its own client and others' clients are in the log, once for each request."""
    http.route(url="/a").respond(200).reusable()
    await http.get("/a")
    async with httpx.AsyncClient(transport=http.transport) as client:
        await client.post("https://api.test/a", json={})
    assert [entry.operation for entry in http.context.log] == ["get", "handle"]
    assert http.context.log[1].args == ("POST", "https://api.test/a")


async def test_unread_streams_are_problems(http: HttpDouble) -> None:
    """A response that was neither read nor closed is reported."""
    http.route("GET", "/s").respond(stream=[b"a", b"b"]).reusable()
    client = httpx.AsyncClient(transport=http.transport, base_url="https://api.test")
    response = await client.send(client.build_request("GET", "/s"), stream=True)
    assert http.problems() == ("the response to GET https://api.test/s was neither read to the end nor closed",)
    await response.aclose()
    assert http.problems() == ()
    await client.aclose()


async def test_one_body_only(http: HttpDouble) -> None:
    """Two bodies in one response are refused by name."""
    with pytest.raises(ConfigurationError, match="json and text"):
        http.route().optional().respond(json={}, text="x")


async def test_reset_and_fault_errors(http: HttpDouble) -> None:
    """A reset forgets routes and cookies; faults are httpx's own exceptions."""
    http.route("GET", "/a").respond(200, headers={"set-cookie": "a=b"})
    await http.get("/a")
    http.reset()
    assert http.routes == ()
    http.route("GET", "/a", headers={"cookie": None})
    await http.get("/a")
    expected = {
        "unavailable": httpx.ConnectError, "timeout": httpx.ReadTimeout, "disconnected": httpx.RemoteProtocolError,
        "rejected": httpx.HTTPStatusError,
    }  # fmt: skip
    for kind, error in expected.items():
        assert type(http.fault_error(kind)) is error


async def test_doubles_are_apart() -> None:
    """A route of one double does not answer another's requests."""
    async with MockContext("a", virtual_time=True) as one, MockContext("b", virtual_time=True) as two:
        first, second = HttpDouble(one), HttpDouble(two)
        first.route().respond(200).optional()
        with pytest.raises(UnexpectedRequestError, match="there are no routes"):
            await second.get("/")


@given(
    params=st.dictionaries(st.text(min_size=1), st.text(), max_size=4),
    segment=st.text(min_size=1).filter(lambda text: text not in (".", "..")),
)
def test_any_text_survives(params: dict[str, str], segment: str) -> None:
    """Whatever is asked for by parameters is matched by the same parameters."""

    async def main() -> None:
        async with MockContext("h", virtual_time=True) as context:
            http = HttpDouble(context)
            route = http.route("GET", params=params).respond(200, text=segment)
            assert (await http.get("/", params=params)).text == segment
            assert route.called

    anyio.run(main)


_WITHOUT = """
import sys; sys.modules["httpx"] = None
import anyio
from isolation_core.services import MockContext
from isolation_core.services.http import HttpDouble, MissingClientError
async def main():
    async with MockContext("t", virtual_time=True) as context:
        http = HttpDouble(context, base_url="http://x")
        http.route("POST", "/a/{n}", params={"q": 1}, json={"k": 1}).respond(201, json={"ok": True})
        response = await http.post("/a/1", params={"q": 1}, json={"k": 1})
        assert (response.status_code, response.json(), response.headers["Content-Type"]) == (
            201, {"ok": True}, "application/json")
        assert response.is_success and response.raise_for_status() is response
        http.route("GET", "/bad").respond(500)
        try:
            (await http.get("/bad")).raise_for_status()
        except Exception as error:
            assert type(error).__name__ == "HTTPStatusError" and error.response.status_code == 500
        else:
            raise AssertionError
        assert type(http.fault_error("timeout")).__name__ == "ReadTimeout"
        for what in (lambda: http.transport,):
            try:
                what()
            except MissingClientError as error:
                print(error)
anyio.run(main)
"""


def test_without_httpx() -> None:
    """Where httpx is not installed its own client works with look-alikes, and the transport says what is missing."""
    done = subprocess.run([sys.executable, "-c", _WITHOUT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "http.transport needs httpx: pip install httpx\n"


async def test_faults_reach_both_kinds_of_clients(http: HttpDouble) -> None:
    """A rule fails or delays a request of its own client, and one that came through the transport."""
    http.route(url="/a").respond(200).reusable()
    faults = http.context.faults
    faults.add("http.get", fail("timeout"), times=1)
    faults.add("http.handle", fail("unavailable"), where=lambda entry: entry.args[0] == "POST", times=1)
    faults.add("http.handle", delay(4), nth=2)
    with pytest.raises(httpx.ReadTimeout):
        await http.get("/a")
    async with httpx.AsyncClient(transport=http.transport, base_url="https://api.test") as client:
        with pytest.raises(httpx.ConnectError) as caught:
            await client.post("/a")
        assert caught.value.request.method == "POST"
        assert (await client.get("/a")).status_code == 200
    assert http.context.clock.now() == 4
    faults.assert_all_used()
