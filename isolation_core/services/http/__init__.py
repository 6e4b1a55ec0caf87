"""The HTTP double: routes, a client of its own, and a transport for clients of httpx."""

from __future__ import annotations

from isolation_core.services.http._double import HttpDouble
from isolation_core.services.http._errors import MissingClientError, RoutesNotCalledError, UnexpectedRequestError
from isolation_core.services.http._routes import Call, Route

__all__ = ["Call", "HttpDouble", "MissingClientError", "Route", "RoutesNotCalledError", "UnexpectedRequestError"]
