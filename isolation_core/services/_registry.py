"""Which services there are: the built-in ones, users' own, and those of installed packages."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen

from isolation_core._suggest import nearest
from isolation_core.errors import ConfigurationError, UnknownServiceError
from isolation_core.services._types import ServiceType

if TYPE_CHECKING:
    from isolation_core.services._context import MockContext
    from isolation_core.services._double import ServiceDouble

__all__ = [
    "ServiceBuilder",
    "ServiceSpec",
    "known_services",
    "operations_of",
    "register_service",
    "service_spec",
    "unregister_service",
]

ServiceBuilder = Callable[..., "ServiceDouble"]
"""Called as ``builder(context, name=..., **options)``; a `ServiceDouble` class is one."""

ENTRY_POINTS: Final = "isolation_core.services"


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(str, (names,) if isinstance(names, str) else names))


def _words(words: Iterable[str]) -> frozenset[str]:
    return frozenset(words)


@frozen
class ServiceSpec:
    """How a service is made.

    Attributes:
        name: the name to request.
        builder: makes the double; for built-in ones text, ``"module:Class"``, imported when first used.
        depends_on: services that must be up before this one, wherever both are used.
        capabilities: words for what it can do, such as ``"publish"``; requirements may name them.
    """

    name: str
    builder: ServiceBuilder | str = field(repr=False)
    depends_on: tuple[str, ...] = field(default=(), converter=_names, kw_only=True)
    capabilities: frozenset[str] = field(default=frozenset(), converter=_words, kw_only=True)

    def load(self) -> ServiceBuilder:
        """Return the builder, imported if need be."""
        if not isinstance(self.builder, str):
            return self.builder
        module, _, attribute = self.builder.partition(":")
        builder: ServiceBuilder = getattr(importlib.import_module(module), attribute)
        return builder

    def build(self, context: MockContext, *, name: str | None = None, **options: Any) -> ServiceDouble:
        """Make the double; it belongs to *context*."""
        builder = self.load()
        double: ServiceDouble = builder(context, name=name or self.name, **options)
        return double


_BUILTIN: Final[Mapping[str, ServiceSpec]] = MappingProxyType(
    {
        str(service): ServiceSpec(str(service), f"isolation_core.services.{package}:{cls}", capabilities=capabilities)
        for service, package, cls, capabilities in (
            (ServiceType.KAFKA, "kafka", "KafkaDouble", ("publish", "consume", "transactions")),
            (ServiceType.POSTGRES, "postgres", "PostgresDouble", ("query", "transactions", "notify")),
            (ServiceType.REDIS, "redis", "RedisDouble", ("cache", "publish", "consume")),
            (ServiceType.RABBITMQ, "rabbitmq", "RabbitMQDouble", ("publish", "consume")),
            (ServiceType.NATS, "nats", "NatsDouble", ("publish", "consume", "request")),
            (ServiceType.HTTP, "http", "HttpDouble", ("request",)),
            (ServiceType.WORKFLOW_COORDINATOR, "workflow", "WorkflowCoordinatorDouble", ("workflows",)),
        )
    }
)
_registered: Final[dict[str, ServiceSpec]] = {}
_loaded: Final[list[str]] = []  # the entry point groups that were read
_lock = threading.RLock()


def register_service(
    name: str, builder: ServiceBuilder, depends_on: Iterable[str] = (), *, capabilities: Iterable[str] = ()
) -> ServiceSpec:
    """Make a service of your own available by *name*, wherever services are named.

    A later registration under the same name replaces the earlier one, or the built-in
    service of that name. A package can offer one through the entry point group
    ``isolation_core.services``.

    Args:
        name: the name to request.
        builder: a `ServiceDouble` class, or called as ``builder(context, name=..., **options)``
            to return one.
        depends_on: services that must be up before this one and until it is down.
        capabilities: words for what it can do.

    Returns:
        The specification.

    Raises:
        ConfigurationError: if *builder* cannot be called or *name* is empty.
    """
    if not callable(builder):
        raise ConfigurationError(
            f"the builder of the service {name!r} is {builder!r}; give a ServiceDouble class or a function "
            "builder(context, *, name, **options)",
            name="builder",
            value=builder,
        )
    if not name:
        raise ConfigurationError("a service needs a name, such as 'payments'", name="name", value=name)
    spec = ServiceSpec(str(name), builder, depends_on=depends_on, capabilities=capabilities)
    with _lock:
        _registered[spec.name] = spec
    return spec


def unregister_service(name: str) -> None:
    """Take a registration back; a built-in service of that name is then itself again. Unknown names are ignored."""
    with _lock:
        _registered.pop(str(name), None)


def known_services() -> tuple[str, ...]:
    """Return the names of all services, those of installed packages included, in alphabetical order."""
    _load_entry_points()
    with _lock:
        return tuple(sorted({*_BUILTIN, *_registered}))


def service_spec(name: str, *, wanted_by: str | None = None) -> ServiceSpec:
    """Return the specification of *name*.

    Args:
        name: a `ServiceType` or a name.
        wanted_by: the name of the dependent, for the message.

    Raises:
        UnknownServiceError: with a did-you-mean.
    """
    name = str(name)
    spec = _registered.get(name) or _BUILTIN.get(name)
    if spec is None:
        _load_entry_points()
        spec = _registered.get(name)
    if spec is None:
        known = known_services()
        raise UnknownServiceError(name, known, nearest(name.lower(), known), wanted_by=wanted_by)
    return spec


def operations_of(name: str) -> Mapping[str, frozenset[str] | None]:
    """Return the operations of a registered service with their parameters, as far as they can be known unmade."""
    from isolation_core.services._operations import Operable, known_operations

    try:
        builder = service_spec(name).load()
    except ImportError:
        return {}
    return known_operations(builder) if isinstance(builder, type) and issubclass(builder, Operable) else {}


def _load_entry_points() -> None:
    """Register the services of installed packages, once; services registered by code win."""
    with _lock:
        if ENTRY_POINTS in _loaded:
            return
        _loaded.append(ENTRY_POINTS)
        # Imported here: it costs more than all of this package.
        from importlib.metadata import entry_points

        for entry in entry_points(group=ENTRY_POINTS):
            if entry.name not in _registered:
                found = entry.load()
                if isinstance(found, ServiceSpec):
                    _registered[entry.name] = found
                else:
                    register_service(entry.name, found, getattr(found, "depends_on", ()))
