"""HTTP: one body for each promise, with httpx's client over the double and over a real server."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from isolation_core.services import MockContext
from isolation_core.services.http import HttpDouble

pytestmark = pytest.mark.anyio


class _Handler(BaseHTTPRequestHandler):
    """The real side: a handful of resources."""

    protocol_version = "HTTP/1.1"

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, status: int, data: Any, **headers: str) -> None:
        self._send(status, json.dumps(data, separators=(",", ":")).encode(), content_type="application/json", **headers)

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if parts.path.startswith("/users/"):
            self._json(200, {"id": parts.path.rpartition("/")[2], "verbose": parse_qs(parts.query).get("verbose")})
        elif parts.path == "/echo":
            self._json(201, {"got": json.loads(body)}, x_method=self.command)
        elif parts.path == "/form":
            self._send(200, body, content_type="text/plain; charset=utf-8")
        elif parts.path == "/old":
            self._send(302, location="/users/moved")
        elif parts.path == "/login":
            self._send(204, set_cookie="sid=abc; Path=/")
        elif parts.path == "/me":
            self._send(200, (self.headers.get("cookie") or "nobody").encode())
        elif parts.path == "/private":
            self._send(200 if self.headers.get("authorization") == "Bearer t" else 401)
        elif parts.path == "/chunks":
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for chunk in (b"one", b"two", b"three"):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")
        elif parts.path == "/drop":
            self.close_connection = True
            self.connection.close()
        else:
            self._json(404, {"detail": "not found"})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


for _method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
    setattr(_Handler, f"do_{_method}", _Handler._answer)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run the real side in a thread."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def same_routes(double: HttpDouble) -> None:
    """Give the double what the handler does."""

    def user(request: httpx.Request, name: str) -> dict[str, Any]:
        return {"id": name, "verbose": request.url.params.get_list("verbose") or None}

    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(201, json={"got": json.loads(request.content)}, headers={"x-method": request.method})

    double.route(url="/users/{name}").optional().side_effect = user
    double.route(url="/echo").optional().side_effect = echo
    double.route("POST", "/form").optional().side_effect = lambda request: httpx.Response(
        200, text=request.content.decode()
    )
    double.route("GET", "/old").respond(302, headers={"location": "/users/moved"}).reusable().optional()
    double.route("GET", "/login").respond(204, headers={"set-cookie": "sid=abc; Path=/"}).reusable().optional()
    double.route("GET", "/me").optional().side_effect = lambda request: httpx.Response(
        200, content=request.headers.get("cookie", "nobody").encode()
    )
    double.route("GET", "/private", headers={"authorization": "Bearer t"}).respond(200).reusable().optional()
    double.route("GET", "/private").respond(401).reusable().optional()
    double.route("GET", "/chunks").respond(stream=[b"one", b"two", b"three"]).reusable().optional()
    double.route("GET", "/drop").fail(httpx.RemoteProtocolError).reusable().optional()
    double.route().respond(404, json={"detail": "not found"}).reusable().optional()


@pytest.fixture(params=["double", "real"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """Give an asynchronous client of either side."""
    if request.param == "real":
        async with httpx.AsyncClient(base_url=request.getfixturevalue("server"), trust_env=False) as real:
            yield real
        return
    async with MockContext("http") as context:
        double = HttpDouble(context)
        same_routes(double)
        async with httpx.AsyncClient(base_url="http://testserver", transport=double.transport) as faked:
            yield faked
    assert not context.problems


@pytest.fixture(params=["double", "real"])
def sync_client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """Give a synchronous client of either side."""
    if request.param == "real":
        with httpx.Client(base_url=request.getfixturevalue("server"), trust_env=False) as real:
            yield real
        return
    with MockContext("http") as context:
        double = HttpDouble(context)
        same_routes(double)
        with httpx.Client(base_url="http://testserver", transport=double.transport) as faked:
            yield faked
    assert not context.problems


async def test_get_with_parameters(client: httpx.AsyncClient) -> None:
    """Path and parameters arrive, JSON comes back, with the headers that describe it."""
    response = await client.get("/users/ada", params={"verbose": ["1", "2"]})
    assert (response.status_code, response.reason_phrase, response.is_success) == (200, "OK", True)
    assert response.json() == {"id": "ada", "verbose": ["1", "2"]}
    assert response.headers["Content-Type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)
    assert response.url.path == "/users/ada"
    assert response.request.method == "GET"
    assert response.is_closed


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_methods_with_json(client: httpx.AsyncClient, method: str) -> None:
    """Every method carries a JSON body there and back."""
    response = await client.request(method, "/echo", json={"a": [1, None, "ü"]})
    assert response.status_code == 201
    assert response.json() == {"got": {"a": [1, None, "ü"]}}
    assert response.headers["x-method"] == method


async def test_forms(client: httpx.AsyncClient) -> None:
    """A form is encoded by the client."""
    response = await client.post("/form", data={"name": "A B", "n": "1"})
    assert response.text == "name=A+B&n=1"
    assert response.encoding == "utf-8"


async def test_errors(client: httpx.AsyncClient) -> None:
    """A 404 is a response; asking for its status raises the client's error, which has both sides."""
    response = await client.get("/nowhere")
    assert response.json() == {"detail": "not found"}
    with pytest.raises(httpx.HTTPStatusError, match="404 Not Found") as caught:
        response.raise_for_status()
    assert caught.value.response is response
    assert caught.value.request.url.path == "/nowhere"


async def test_redirects(client: httpx.AsyncClient) -> None:
    """Redirects are followed when asked, with the history of it."""
    first = await client.get("/old")
    assert (first.status_code, first.has_redirect_location) == (302, True)
    last = await client.get("/old", follow_redirects=True)
    assert last.json()["id"] == "moved"
    assert [each.status_code for each in last.history] == [302]


async def test_cookies(client: httpx.AsyncClient) -> None:
    """A cookie that was set is sent from then on."""
    assert (await client.get("/me")).text == "nobody"
    assert (await client.get("/login")).content == b""
    assert client.cookies["sid"] == "abc"
    assert (await client.get("/me")).text == "sid=abc"


async def test_headers_decide(client: httpx.AsyncClient) -> None:
    """Authentication is in the headers."""
    assert (await client.get("/private")).status_code == 401
    assert (await client.get("/private", headers={"Authorization": "Bearer t"})).status_code == 200


async def test_streams(client: httpx.AsyncClient) -> None:
    """A streamed body is unread at first, comes in parts, and is closed by the block."""
    async with client.stream("GET", "/chunks") as response:
        with pytest.raises(httpx.ResponseNotRead):
            _ = response.content
        assert "content-length" not in response.headers
        parts = [part async for part in response.aiter_bytes()]
        assert b"".join(parts) == b"onetwothree"
    assert response.is_closed
    async with client.stream("GET", "/chunks") as response:
        assert await response.aread() == b"onetwothree"
    assert response.text == "onetwothree"


async def test_head_has_no_body(client: httpx.AsyncClient) -> None:
    """HEAD gives headers only."""
    response = await client.head("/users/ada")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")


async def test_dropped_connections(client: httpx.AsyncClient) -> None:
    """A connection that breaks is the client's exception, with the request."""
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)) as caught:
        await client.get("/drop")
    assert caught.value.request.url.path == "/drop"


def test_synchronous_client(sync_client: httpx.Client) -> None:
    """The synchronous client works the same way: JSON, redirects, streams, errors."""
    assert sync_client.get("/users/ada").json()["id"] == "ada"
    assert sync_client.post("/echo", json=[1]).json() == {"got": [1]}
    assert sync_client.get("/old", follow_redirects=True).json()["id"] == "moved"
    with sync_client.stream("GET", "/chunks") as response:
        assert b"".join(response.iter_bytes()) == b"onetwothree"
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        sync_client.get("/drop")
