"""Routes: which requests they answer, with what, and how often they were asked."""

from __future__ import annotations

import inspect
import json as json_module
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from attrs import field, frozen

from isolation_core.errors import ConfigurationError
from isolation_core.services.http._wire import Canned, query_of

__all__ = ["Call", "Route"]

_ABSENT: Final = object()
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@frozen
class Call:
    """One request that a route answered.

    Attributes:
        request: what came.
        response: what it got; None if that was an exception.
        captured: the values of the ``{names}`` in the URL of the route.
    """

    request: Any
    response: Any = None
    captured: Mapping[str, str] = field(factory=dict)


class Route:
    """Answers the requests it matches. Made by `HttpDouble.route`.

    Responses are used up one after the other; `reusable` lets the last one
    answer forever. Answers that are left at the end are a problem, unless
    `optional`.

    Attributes:
        name: its name in messages.
        calls: the requests it answered, in order.
    """

    def __init__(
        self,
        method: str | None,
        url: str | re.Pattern[str] | None,
        *,
        name: str | None,
        scheme: str | None,
        host: Any,
        port: int | None,
        path: str | re.Pattern[str] | None,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, Any] | None,
        json: Any,
        content: bytes | str | None,
        data: Mapping[str, Any] | None,
        when: Callable[[Any], object] | None,
    ) -> None:
        self._method = None if method is None else method.upper()
        self._params = dict(params or {})
        self._headers = dict(headers or {})
        self._json, self._data, self._when = json, data, when
        self._content = content.encode() if isinstance(content, str) else content
        self._scheme, self._host, self._port = scheme, host, port
        self._url: re.Pattern[str] | None = None
        self._path: re.Pattern[str] | None = None
        self._locate(url, path)
        shown = url.pattern if isinstance(url, re.Pattern) else url
        where = shown or (path.pattern if isinstance(path, re.Pattern) else path) or host or "anything"
        self.name = name or f"{self._method or 'ANY'} {where}"
        self.calls: list[Call] = []
        self._queue: deque[Any] = deque()
        self._always: Any = _ABSENT
        self._reusable = self._optional = False
        self._side_effect: Any = None

    def __repr__(self) -> str:
        return f"<Route {self.name!r}, called {self.call_count} times>"

    def _locate(self, url: str | re.Pattern[str] | None, path: str | re.Pattern[str] | None) -> None:
        if isinstance(url, re.Pattern):
            self._url = url
        elif url is not None:
            parts = urlsplit(url)
            if parts.scheme:
                self._scheme, self._host = parts.scheme, parts.hostname
                self._port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
            for key, value in parse_qsl(parts.query, keep_blank_values=True):
                self._params.setdefault(key, value)
            path = path if path is not None else parts.path or "/"
        if path is not None:
            self._path = path if isinstance(path, re.Pattern) else _compiled(path)

    # -- what it answers -------------------------------------------------------------

    def respond(
        self,
        status: int = 200,
        *,
        json: Any = None,
        text: str | None = None,
        html: str | None = None,
        content: bytes | str | None = None,
        stream: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
    ) -> Route:
        """Add a response, for one request; several are given one after the other.

        Args:
            status: the status code.
            json: a body; as are *text*, *html*, *content* and *stream* (parts). Give one of them.
            text: likewise.
            html: likewise.
            content: likewise.
            stream: likewise.
            headers: further headers.
            delay: virtual seconds until it comes; one longer than the client's read timeout raises that.

        Returns:
            The route.
        """
        bodies = {"json": json, "text": text, "html": html, "content": content, "stream": stream}
        given = [name for name, value in bodies.items() if value is not None]
        if len(given) > 1:
            raise ConfigurationError(
                f"respond() got {' and '.join(given)}; a response has one body", name=given[1], value=bodies[given[1]]
            )
        canned = Canned.make(
            status, json=json, text=text, html=html, content=content, stream=stream, headers=headers, delay=delay
        )
        self._queue.append(canned)
        return self

    def fail(self, error: BaseException | type[BaseException]) -> Route:
        """Let one request fail with *error*, in turn with the responses."""
        self._queue.append(error)
        return self

    def reusable(self) -> Route:
        """Let the last response answer any number of requests."""
        self._reusable = True
        return self

    def optional(self) -> Route:
        """It is fine if it is never asked, or not as often as it has responses."""
        self._optional = True
        return self

    @property
    def return_value(self) -> Any:
        """The response that answers every request; an httpx response."""
        return None if self._always is _ABSENT else self._always

    @return_value.setter
    def return_value(self, response: Any) -> None:
        self._always = response

    @property
    def side_effect(self) -> Any:
        """Called with the request (and what ``{names}`` captured) to answer; or an exception; or several in turn."""
        return self._side_effect

    @side_effect.setter
    def side_effect(self, effect: Any) -> None:
        self._side_effect = effect
        if isinstance(effect, Iterable) and not isinstance(effect, type):
            self._side_effect = None
            self._queue.extend(effect)

    # -- what came -------------------------------------------------------------------

    @property
    def called(self) -> bool:
        """Whether it was asked."""
        return bool(self.calls)

    @property
    def call_count(self) -> int:
        """How often it was asked."""
        return len(self.calls)

    def problems(self) -> list[str]:
        """Return what was not used as said."""
        if self._optional:
            return []
        if not self.calls:
            return [f"route {self.name!r} was never called"]
        left = len(self._queue)
        if left and not self._reusable:
            return [f"route {self.name!r} has {left} response{'s' if left > 1 else ''} left that no request used"]
        return []

    # -- for the double ----------------------------------------------------------------

    @property
    def exhausted(self) -> bool:
        """Whether it has nothing to answer with any more."""
        if self._queue or self._side_effect is not None or self._always is not _ABSENT:
            return False
        return bool(self.calls)

    def take(self) -> Any:
        """Return what answers the next request: a `Canned`, a response, an exception, or something to call."""
        if self._queue:
            return self._queue[0] if self._reusable and len(self._queue) == 1 else self._queue.popleft()
        if self._side_effect is not None:
            return self._side_effect
        return Canned.make(200) if self._always is _ABSENT else self._always

    def mismatch(self, request: Any) -> str | dict[str, str]:
        """Return why *request* is not for this route, or what it captured."""
        url = str(request.url)
        parts = urlsplit(url)
        if self._method is not None and request.method != self._method:
            return f"the method is {request.method}, not {self._method}"
        captured: dict[str, str] = {}
        if self._url is not None:
            found = self._url.fullmatch(url)
            if found is None:
                return f"the URL does not match {self._url.pattern!r}"
            captured.update(found.groupdict())
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
        for what, wanted, actual in (
            ("scheme", self._scheme, parts.scheme), ("host", self._host, parts.hostname), ("port", self._port, port),
        ):  # fmt: skip
            if wanted is not None and not _fits(wanted, actual):
                return f"the {what} is {actual!r}, not {_told(wanted)}"
        if self._path is not None:
            found = self._path.fullmatch(parts.path or "/")
            if found is None:
                return f"the path is {parts.path!r}"
            captured.update(found.groupdict())
        return self._query_mismatch(request, url) or self._body_mismatch(request) or captured

    def _query_mismatch(self, request: Any, url: str) -> str | None:
        actual: dict[str, list[str]] = {}
        for key, value in query_of(url):
            actual.setdefault(key, []).append(value)
        for key, wanted in self._params.items():
            if not _has(actual.get(key, []), wanted):
                return f"parameter {key!r} is {_several(actual.get(key, []))}, not {_told(wanted)}"
        for key, wanted in self._headers.items():
            if not _fits(wanted, request.headers.get(key)):
                return f"header {key!r} is {request.headers.get(key)!r}, not {_told(wanted)}"
        return None

    def _body_mismatch(self, request: Any) -> str | None:
        if self._content is None and self._json is None and self._data is None and self._when is None:
            return None
        body = request.read()
        if self._content is not None and body != self._content:
            return f"the content is {body[:60]!r}"
        if self._json is not None:
            try:
                sent = json_module.loads(body)
            except ValueError:
                return f"the content is not JSON: {body[:60]!r}"
            if not self._json == sent:  # noqa: SIM201 - the matcher is asked, not the data
                return f"the JSON is {sent!r}, not {self._json!r}"
        if self._data is not None:
            form = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
            wrong = [key for key, wanted in self._data.items() if not _fits(wanted, form.get(key))]
            if wrong:
                return f"form field {wrong[0]!r} is {form.get(wrong[0])!r}, not {_told(self._data[wrong[0]])}"
        if self._when is not None and not self._when(request):
            return f"{getattr(self._when, '__name__', 'when')}(request) is not true"
        return None


def _compiled(path: str) -> re.Pattern[str]:
    """Return a pattern for a path in which ``{name}`` matches one segment and ``*`` any text."""
    pieces = re.split(r"(\{\w+\}|\*)", path)
    text = "".join(
        f"(?P<{piece[1:-1]}>[^/]+)" if piece[:1] == "{" else ".*" if piece == "*" else re.escape(piece)
        for piece in pieces
    )
    return re.compile(text)


def _fits(wanted: Any, actual: str | int | None) -> bool:
    if isinstance(wanted, re.Pattern):
        return isinstance(actual, str) and wanted.search(actual) is not None
    if isinstance(wanted, (int, float)) and not isinstance(wanted, bool) and isinstance(actual, str):
        return str(wanted) == actual
    return bool(wanted == actual)


def _has(actual: list[str], wanted: Any) -> bool:
    if isinstance(wanted, (list, tuple)):
        return [str(each) for each in wanted] == actual
    return any(_fits(wanted, each) for each in actual)


def _told(wanted: Any) -> str:
    return f"like {wanted.pattern!r}" if isinstance(wanted, re.Pattern) else repr(wanted)


def _several(values: list[str]) -> str:
    return "missing" if not values else repr(values[0]) if len(values) == 1 else repr(values)


def arguments_for(function: Callable[..., Any], request: Any, captured: Mapping[str, str]) -> Any:
    """Call *function* with the request, and with what was captured if it takes that."""
    if not captured:
        return function(request)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return function(request)
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters)
    names = {each.name for each in parameters}
    return function(request, **{name: value for name, value in captured.items() if takes_all or name in names})
