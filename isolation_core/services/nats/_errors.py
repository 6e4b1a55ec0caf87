"""The exceptions of nats-py: the real classes where that is installed."""

from __future__ import annotations

from typing import Any, Final

from isolation_core.services._clients import client_class

__all__ = ["api_error", "nats_class", "nats_error"]

_BASES: Final[dict[str, str | type[BaseException]]] = {
    "Error": Exception, "TimeoutError": "Error", "NoRespondersError": "Error", "ConnectionClosedError": "Error",
    "ConnectionDrainingError": "Error", "BadSubscriptionError": "Error", "BadSubjectError": "Error",
    "BadHeaderError": "Error", "MaxPayloadError": "Error", "NotJSMessageError": "Error", "MsgAlreadyAckdError": "Error",
    "NoServersError": "Error", "SlowConsumerError": "Error", "StaleConnectionError": "Error",
}  # fmt: skip
_JETSTREAM: Final[dict[str, str]] = {
    "Error": "", "APIError": "Error", "ServiceUnavailableError": "APIError", "ServerError": "APIError",
    "NotFoundError": "APIError", "BadRequestError": "APIError", "NoStreamResponseError": "Error",
    "KeyValueError": "APIError", "KeyNotFoundError": "KeyValueError", "KeyWrongLastSequenceError": "KeyValueError",
    "NoKeysError": "KeyValueError", "BucketNotFoundError": "NotFoundError", "InvalidKeyError": "Error",
    "InvalidBucketNameError": "Error",
}  # fmt: skip


def nats_class(name: str) -> type[BaseException]:
    """Return the class *name* of ``nats.errors``, or of ``nats.js.errors`` where it begins with ``js.``."""
    if name.startswith("js."):
        name = name[3:]
        base = _JETSTREAM[name]
        return client_class("nats.js.errors", name, nats_class(f"js.{base}") if base else nats_class("Error"))
    known = _BASES[name]
    return client_class("nats.errors", name, nats_class(known) if isinstance(known, str) else known)


def nats_error(name: str, *args: object, **facts: Any) -> BaseException:
    """Build the exception *name*."""
    cls = nats_class(name)
    try:
        return cls(*args, **facts)
    except TypeError:  # a look-alike
        return cls(*args, *facts.values())


def api_error(code: int, err_code: int, description: str) -> BaseException:
    """Build what the client raises for an error of the JetStream API."""
    name = {404: "NotFoundError", 400: "BadRequestError", 503: "ServiceUnavailableError", 500: "ServerError"}[code]
    return nats_error(f"js.{name}", code=code, err_code=err_code, description=description)
