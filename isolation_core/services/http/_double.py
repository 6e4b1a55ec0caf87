"""`HttpDouble`: an HTTP world of routes, a client of its own, and a transport for other people's."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urljoin

from isolation_core.errors import ConfigurationError
from isolation_core.services._clients import client_class
from isolation_core.services._context import MockContext
from isolation_core.services._double import ServiceDouble
from isolation_core.services._operations import operation
from isolation_core.services._types import ServiceType
from isolation_core.services.http._errors import MissingClientError, RoutesNotCalledError, UnexpectedRequestError
from isolation_core.services.http._routes import Call, Route, arguments_for
from isolation_core.services.http._transport import transport_class
from isolation_core.services.http._wire import Canned, TrackedStream, build_request, httpx_or_none, status_error

if TYPE_CHECKING:
    import httpx

    from isolation_core.services._interactions import Interaction
    from isolation_core.services._operations import Operable

__all__ = ["HttpDouble"]

_FAULTS = {"unavailable": "ConnectError", "timeout": "ReadTimeout", "disconnected": "RemoteProtocolError"}

_READ_TIMEOUT: Final = 5.0
"""The default of httpx, in seconds."""


class HttpDouble(ServiceDouble):
    """Answers HTTP requests by routes: those of its own client, and those that reach its `transport`.

    Strict in both directions: a request that no route answers is an error, and
    a route that was requested never, or not often enough, is a problem at the end.

    Args:
        context: the context it belongs to; None: that of the current barrier.
        name: its name in the log.
        base_url: the base of relative URLs of its own client.
    """

    service: ClassVar[str] = ServiceType.HTTP

    def __init__(
        self, context: MockContext | None = None, *, name: str | None = None, base_url: str = "http://testserver"
    ) -> None:
        super().__init__(context, name=name)
        self.base_url = base_url
        self._routes: list[Route] = []
        self._unexpected: list[UnexpectedRequestError] = []
        self._streams: list[tuple[str, TrackedStream]] = []
        self._client: Any = None

    # -- routes ------------------------------------------------------------------------

    def route(
        self,
        method: str | None = None,
        url: str | re.Pattern[str] | None = None,
        *,
        name: str | None = None,
        scheme: str | None = None,
        host: str | re.Pattern[str] | None = None,
        port: int | None = None,
        path: str | re.Pattern[str] | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes | str | None = None,
        data: Mapping[str, Any] | None = None,
        when: Callable[[Any], object] | None = None,
    ) -> Route:
        """Add a route; the first one that matches a request, and is not used up, answers it.

        Arguments that are not given match anything. Values may be any object that compares equal, such as
        `unittest.mock.ANY`, and, for host, parameters and headers, compiled patterns.

        Args:
            method: such as ``"GET"``.
            url: whole, or only a path; ``{name}`` matches one segment of the path, ``*`` any text;
                parameters in it are asked for too. Or a compiled pattern for the whole URL.
            name: its name in messages.
            scheme: ``"http"`` or ``"https"``.
            host: the host.
            port: the port.
            path: the path, by the rules of *url*.
            params: parameters that must be there, among others; a list asks for all values of one.
            headers: headers that must be there, among others.
            json: the body, as JSON.
            content: the body.
            data: fields of a form that must be there, among others.
            when: called with the request; returns whether it matches.

        Returns:
            The route; say with `Route.respond` what it answers. Without that, status 200 and nothing else, once.
        """
        route = Route(
            method, url, name=name, scheme=scheme, host=host, port=port, path=path, params=params, headers=headers,
            json=json, content=content, data=data, when=when,
        )  # fmt: skip
        self._routes.append(route)
        return route

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes, in the order they are tried."""
        return tuple(self._routes)

    @property
    def calls(self) -> list[Call]:
        """Every request that was answered, route by route."""
        return [call for route in self._routes for call in route.calls]

    def assert_all_called(self) -> None:
        """Raise unless every route, and every response, was used; those that are optional aside.

        Raises:
            RoutesNotCalledError: naming those that were not.
        """
        missing = [problem for route in self._routes for problem in route.problems()]
        if missing:
            raise RoutesNotCalledError(missing)

    # -- its own client ------------------------------------------------------------------

    @operation
    async def request(self, /, method: str, url: str, **options: Any) -> Any:
        """Send a request; *options* are those of ``httpx.AsyncClient.request``.

        Returns:
            An `httpx.Response`, or a look-alike where httpx is not installed.

        Raises:
            UnexpectedRequestError: if no route answers it.
        """
        return await self._send(method, url, options)

    @operation
    async def get(self, /, url: str, **options: Any) -> Any:
        """Send a GET request; see `request`."""
        return await self._send("GET", url, options)

    @operation
    async def post(self, /, url: str, **options: Any) -> Any:
        """Send a POST request; see `request`."""
        return await self._send("POST", url, options)

    @operation
    async def put(self, /, url: str, **options: Any) -> Any:
        """Send a PUT request; see `request`."""
        return await self._send("PUT", url, options)

    @operation
    async def patch(self, /, url: str, **options: Any) -> Any:
        """Send a PATCH request; see `request`."""
        return await self._send("PATCH", url, options)

    @operation
    async def delete(self, /, url: str, **options: Any) -> Any:
        """Send a DELETE request; see `request`."""
        return await self._send("DELETE", url, options)

    @operation
    async def head(self, /, url: str, **options: Any) -> Any:
        """Send a HEAD request; see `request`."""
        return await self._send("HEAD", url, options)

    @operation
    async def options(self, /, url: str, **options: Any) -> Any:
        """Send an OPTIONS request; see `request`."""
        return await self._send("OPTIONS", url, options)

    async def _send(self, method: str, url: str, options: Mapping[str, Any]) -> Any:
        httpx = httpx_or_none()
        if httpx is not None:
            if self._client is None:
                # Its own traffic is logged as what the caller called, not once more.
                handler = transport_class(httpx)(self._answer, self._answer_now)
                self._client = httpx.AsyncClient(transport=handler, base_url=self.base_url, trust_env=False)
            return await self._client.request(method, url, **options)
        known = {"params", "headers", "json", "content", "data"}
        if unknown := sorted(set(options) - known - {"timeout", "follow_redirects"}):
            raise MissingClientError(f"the option {unknown[0]!r} of a request")
        parts = {name: options.get(name) for name in known}
        return await self._answer(build_request(method, urljoin(self.base_url, url), **parts))

    # -- other people's clients ------------------------------------------------------------

    @cached_property
    def _own_transport(self) -> Any:
        httpx = httpx_or_none()
        if httpx is None:
            raise MissingClientError(f"{self.name}.transport")

        async def handle(request: Any) -> Any:
            return await self.handle(request.method, str(request.url), request=request)

        def handle_now(request: Any) -> Any:
            return self.handle_sync(request.method, str(request.url), request=request)

        return transport_class(httpx)(handle, handle_now)

    @property
    def transport(self) -> httpx.MockTransport:
        """The transport for an ``httpx.Client`` or ``httpx.AsyncClient``: ``httpx.AsyncClient(transport=...)``.

        Raises:
            MissingClientError: if httpx is not installed.
        """
        transport: httpx.MockTransport = self._own_transport
        return transport

    @operation(snapshot="reference")
    async def handle(self, method: str, url: str, *, request: Any) -> Any:
        """Answer a request that an asynchronous client sent through `transport`."""
        return await self._answer(request)

    @operation(snapshot="reference")
    def handle_sync(self, method: str, url: str, *, request: Any) -> Any:
        """Answer a request that a synchronous client sent through `transport`; delays advance the clock."""
        return self._answer_now(request)

    # -- answering -------------------------------------------------------------------------

    async def _answer(self, request: Any) -> Any:
        if hasattr(request, "aread"):
            await request.aread()
        route, captured = self._find(request)
        with _noting_failure(route, request, captured):
            answer = self._take(route, request, captured)
            if inspect.isawaitable(answer):
                answer = await answer
            canned = self._canned(route, answer)
            if canned.delay:
                seconds, too_short = self._patience(request, canned.delay)
                await self.context.clock.sleep(seconds)
                if too_short:
                    raise self._timeout(request)
        return self._respond(route, request, captured, canned)

    def _answer_now(self, request: Any) -> Any:
        request.read()
        route, captured = self._find(request)
        with _noting_failure(route, request, captured):
            answer = self._take(route, request, captured)
            if inspect.isawaitable(answer):
                if inspect.iscoroutine(answer):
                    answer.close()
                raise ConfigurationError(
                    f"the side effect of route {route.name!r} is asynchronous, but a synchronous client asks; "
                    "give it a plain function",
                    name="side_effect",
                )
            canned = self._canned(route, answer)
            if canned.delay:
                seconds, too_short = self._patience(request, canned.delay)
                self.context.clock.pause(seconds)
                if too_short:
                    raise self._timeout(request)
        return self._respond(route, request, captured, canned)

    def _find(self, request: Any) -> tuple[Route, dict[str, str]]:
        reasons: list[str] = []
        for route in self._routes:
            found = route.mismatch(request)
            if isinstance(found, str):
                reasons.append(f"{route.name}: {found}")
            elif route.exhausted:
                reasons.append(f"{route.name}: it matches, but was answered {route.call_count} times and is used up")
            else:
                return route, found
        error = UnexpectedRequestError(self.name, request.method, str(request.url), reasons)
        # Code under test may swallow it; it is reported again at the end.
        self._unexpected.append(error)
        raise error

    def _take(self, route: Route, request: Any, captured: dict[str, str]) -> Any:
        answer = route.take()
        if isinstance(answer, BaseException) or (isinstance(answer, type) and issubclass(answer, BaseException)):
            raise _error(answer)
        return arguments_for(answer, request, captured) if callable(answer) else answer

    def _canned(self, route: Route, answer: Any) -> Canned:
        if isinstance(answer, Canned):
            return answer
        if isinstance(answer, int):
            return Canned.make(answer)
        if hasattr(answer, "status_code") and hasattr(answer, "content"):
            return Canned.of(answer)
        if isinstance(answer, (dict, list)):
            return Canned.make(200, json=answer)
        raise ConfigurationError(
            f"route {route.name!r} answers with {answer!r}; give a response, a status, a dict or list for JSON, "
            "or an exception",
            name="side_effect",
            value=answer,
        )

    def _patience(self, request: Any, delay: float) -> tuple[float, bool]:
        """Return how long the client waits, and whether that is too short."""
        limit = (getattr(request, "extensions", None) or {}).get("timeout", {}).get("read")
        return (delay, False) if limit is None or delay <= limit else (limit, True)

    def _timeout(self, request: Any) -> BaseException:
        return client_class("httpx", "ReadTimeout", TimeoutError)(
            f"no response to {request.method} {request.url} in time"
        )

    def _respond(self, route: Route, request: Any, captured: dict[str, str], canned: Canned) -> Any:
        response, stream = canned.build(request)
        if stream is not None:
            self._streams.append((f"{request.method} {request.url}", stream))
        route.calls.append(Call(request, response, captured))
        return response

    # -- the rest of a double ------------------------------------------------------------------

    def fault_error(self, kind: str) -> BaseException:
        """Return httpx's exception for *kind*; for ``rejected`` an `HTTPStatusError` of status 503."""
        text = f"{self.name}: {kind}, by the fault plan"
        if kind == "rejected":
            httpx = httpx_or_none()
            if httpx is None:
                return status_error(text, None, None)
            request = httpx.Request("GET", self.base_url)
            return status_error(text, request, httpx.Response(503, request=request))
        base = TimeoutError if kind == "timeout" else ConnectionError
        return client_class("httpx", _FAULTS.get(kind, "TransportError"), base)(text)

    def call_timeout(self, target: Operable, entry: Interaction) -> float | None:
        """Return the read timeout of a request, which is that of its client unless it has one of its own."""
        request = entry.kwargs.get("request")
        if request is not None:
            found: float | None = (getattr(request, "extensions", None) or {}).get("timeout", {}).get("read")
            return found
        value = entry.kwargs.get("timeout", _READ_TIMEOUT)
        value = getattr(value, "read", value)
        return float(value) if isinstance(value, int | float) else None if value is None else _READ_TIMEOUT

    def problems(self) -> tuple[str, ...]:
        """Return routes that were not used as said, requests that no route answered, and bodies never closed."""
        found = [*super().problems(), *(problem for route in self._routes for problem in route.problems())]
        found.extend(f"unexpected request {error.method} {error.url}" for error in self._unexpected)
        found.extend(
            f"the response to {what} was neither read to the end nor closed"
            for what, stream in self._streams
            if not stream.closed
        )
        return tuple(found)

    def reset(self) -> None:
        """Forget routes, requests and cookies."""
        super().reset()
        self._routes.clear()
        self._unexpected.clear()
        self._streams.clear()
        self._client = None


@contextmanager
def _noting_failure(route: Route, request: Any, captured: dict[str, str]) -> Iterator[None]:
    """Count a request that ends in an exception among those the route answered."""
    try:
        yield
    except BaseException:
        route.calls.append(Call(request, None, captured))
        raise


def _error(error: BaseException | type[BaseException]) -> BaseException:
    if isinstance(error, BaseException):
        return error.with_traceback(None)
    return error("raised by a route") if issubclass(error, Exception) else error()
