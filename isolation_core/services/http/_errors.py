"""Errors of requests and routes."""

from __future__ import annotations

from collections.abc import Sequence

from isolation_core.errors import IsolationError

__all__ = ["MissingClientError", "RoutesNotCalledError", "UnexpectedRequestError"]


class UnexpectedRequestError(IsolationError, AssertionError):
    """A request came that no route answers.

    Attributes:
        method: its method.
        url: its URL.
        reasons: for each route, why it did not answer.
    """

    def __init__(self, double: str, method: str, url: str, reasons: Sequence[str]) -> None:
        self.method = method
        self.url = url
        self.reasons = tuple(reasons)
        listed = "\n".join(f"  {reason}" for reason in self.reasons) or "  there are no routes"
        super().__init__(
            f"no route of {double!r} answers {method} {url}:\n{listed}\n"
            f"Add one with {double}.route({method!r}, {url!r}).respond(...), or make one that was used up reusable()."
        )


class RoutesNotCalledError(IsolationError, AssertionError):
    """Routes, or responses of routes, were never asked for.

    Attributes:
        missing: unused routes and unread responses, one sentence each.
    """

    def __init__(self, missing: Sequence[str]) -> None:
        self.missing = tuple(missing)
        listed = "\n".join(f"  {each}" for each in self.missing)
        super().__init__(f"some routes were not used as said:\n{listed}\nMake them optional() if that is fine.")


class MissingClientError(IsolationError, ImportError):
    """Something needs httpx, which is not installed.

    Attributes:
        feature: what needs it.
    """

    def __init__(self, feature: str) -> None:
        self.feature = feature
        super().__init__(f"{feature} needs httpx: pip install httpx")
