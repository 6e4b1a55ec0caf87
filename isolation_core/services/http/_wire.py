"""Requests and responses: httpx's own where it is installed, else look-alikes with the same names."""

from __future__ import annotations

import json as json_module
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from types import ModuleType
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from attrs import field, frozen

from isolation_core.services._clients import client_class

__all__ = ["Canned", "PlainRequest", "PlainResponse", "build_request", "httpx_or_none", "query_of", "status_error"]

LIMIT: Final = 400


@cache
def httpx_or_none() -> ModuleType | None:
    """Return httpx, or None where it is not installed."""
    try:
        import httpx
    except ImportError:
        return None
    return httpx


class PlainHeaders(dict[str, str]):
    """Headers whose names are not case sensitive."""

    def __init__(self, items: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        pairs = dict(items).items()
        super().__init__((name.lower(), str(value)) for name, value in pairs)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """Return a header, whatever the case of its name."""
        return super().get(name.lower(), default)


@frozen
class PlainRequest:
    """A request, where httpx is not installed.

    Attributes:
        method: upper case.
        url: as text.
        headers: names are not case sensitive.
        content: the body.
    """

    method: str
    url: str
    headers: PlainHeaders = field(factory=PlainHeaders, converter=PlainHeaders)
    content: bytes = b""

    def read(self) -> bytes:
        """Return the body."""
        return self.content


def status_error(message: str, request: Any, response: Any) -> BaseException:
    """Return httpx's `HTTPStatusError`, or its look-alike."""
    httpx = httpx_or_none()
    if httpx is not None:
        error: BaseException = httpx.HTTPStatusError(message, request=request, response=response)
        return error
    error = client_class("httpx", "HTTPStatusError")(message)
    error.request, error.response = request, response  # type: ignore[attr-defined]
    return error


@frozen
class PlainResponse:
    """A response in the shape of httpx's, where that is not installed.

    Attributes:
        status_code: the status.
        content: the body.
        headers: names are not case sensitive.
        request: what it answers.
    """

    status_code: int
    content: bytes = b""
    headers: PlainHeaders = field(factory=PlainHeaders, converter=PlainHeaders)
    request: PlainRequest | None = None

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode()

    @property
    def url(self) -> str:
        """The URL that was asked for."""
        return self.request.url if self.request is not None else ""

    @property
    def reason_phrase(self) -> str:
        """The words for the status."""
        return HTTPStatus(self.status_code).phrase

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status_code < 300

    @property
    def is_error(self) -> bool:
        """Whether the status is 4xx or 5xx."""
        return self.status_code >= LIMIT

    def json(self) -> Any:
        """Return the body read as JSON."""
        return json_module.loads(self.content)

    def raise_for_status(self) -> PlainResponse:
        """Raise unless the status is below 400."""
        if self.is_error:
            raise status_error(f"{self.status_code} {self.reason_phrase} for {self.url}", self.request, self)
        return self


class TrackedStream:
    """The body of a response on its way; it knows whether it was read to the end or closed."""

    def __init__(self, chunks: tuple[bytes, ...]) -> None:
        self.chunks = chunks
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk

    def close(self) -> None:
        """Record that the body is not going to be read further."""
        self.closed = True

    async def aclose(self) -> None:
        """Record that the body is not going to be read further."""
        self.closed = True


@cache
def _stream_class(httpx: ModuleType) -> type[TrackedStream]:
    bases = (TrackedStream, httpx.SyncByteStream, httpx.AsyncByteStream)
    return type("TrackedStream", bases, {"__doc__": TrackedStream.__doc__})


@frozen
class Canned:
    """A response as it was configured; each request gets one made from it.

    Attributes:
        status: the status code.
        headers: pairs, in order.
        chunks: the body, in the parts it arrives in.
        delay: virtual seconds until it comes.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: tuple[bytes, ...]
    delay: float = 0.0

    def build(self, request: Any) -> tuple[Any, TrackedStream | None]:
        """Return a response to *request*, and its body if that has to be read still."""
        httpx = httpx_or_none()
        if httpx is None:
            return PlainResponse(self.status, b"".join(self.chunks), PlainHeaders(self.headers), request), None
        stream = _stream_class(httpx)(self.chunks)
        return httpx.Response(self.status, headers=list(self.headers), stream=stream, request=request), stream

    @classmethod
    def of(cls, response: Any, *, delay: float = 0.0) -> Canned:
        """Return what a finished response was made of."""
        headers = response.headers
        pairs = headers.multi_items() if hasattr(headers, "multi_items") else headers.items()
        return cls(response.status_code, tuple(pairs), (response.content,), delay)

    @classmethod
    def make(
        cls,
        status: int,
        *,
        json: Any = None,
        text: str | None = None,
        html: str | None = None,
        content: bytes | str | None = None,
        stream: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
    ) -> Canned:
        """Return a response made of one kind of body."""
        given = PlainHeaders(headers or {})
        pairs = [(name, str(value)) for name, value in (headers or {}).items()]
        if stream is not None:
            chunks = tuple(stream)
            if "content-length" not in given:
                pairs.append(("transfer-encoding", "chunked"))
            return cls(status, tuple(pairs), chunks, delay)
        kind: str | None = None
        body = b""
        if html is not None:
            body, kind = html.encode(), "text/html; charset=utf-8"
        elif text is not None:
            body, kind = text.encode(), "text/plain; charset=utf-8"
        elif content is not None:
            body = content.encode() if isinstance(content, str) else bytes(content)
        elif json is not None:
            body = json_module.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
            kind = "application/json"
        if "content-length" not in given and (body or status not in (204, 304)):
            pairs.append(("content-length", str(len(body))))
        if kind is not None and "content-type" not in given:
            pairs.append(("content-type", kind))
        return cls(status, tuple(pairs), (body,) if body else (), delay)


def query_of(url: str) -> list[tuple[str, str]]:
    """Return the parameters in a URL, in order."""
    return parse_qsl(urlsplit(url).query, keep_blank_values=True)


def build_request(
    method: str, url: str, *, params: Any, headers: Any, json: Any, content: Any, data: Any
) -> PlainRequest:
    """Return a request as httpx would make it, where that is not installed."""
    if params:
        pairs = params.items() if isinstance(params, Mapping) else params
        url = f"{url}{'&' if '?' in url else '?'}{urlencode(list(pairs), doseq=True)}"
    found = PlainHeaders(headers or {})
    body = content.encode() if isinstance(content, str) else content or b""
    if json is not None:
        body = json_module.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        found.setdefault("content-type", "application/json")
    elif data is not None:
        body = urlencode(data, doseq=True).encode()
        found.setdefault("content-type", "application/x-www-form-urlencoded")
    return PlainRequest(method.upper(), url, found, body)
