"""The transport that carries the requests of httpx's clients to a double."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

__all__ = ["transport_class"]


@cache
def transport_class(module: ModuleType) -> Callable[..., Any]:
    """Return the class of transports; it can only be made where httpx is there to derive from."""
    base: type[httpx.MockTransport] = module.MockTransport

    class DoubleTransport(base):  # type: ignore[misc, valid-type]
        """An `httpx.MockTransport` with a handler for either kind of client."""

        def __init__(
            self,
            handler: Callable[[httpx.Request], Coroutine[None, None, httpx.Response]],
            handler_now: Callable[[httpx.Request], httpx.Response],
        ) -> None:
            super().__init__(handler)
            self._handler = handler
            self._handler_now = handler_now

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return self._handler_now(request)

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return await self._handler(request)

    return DoubleTransport
