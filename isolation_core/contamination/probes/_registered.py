"""Which probes a barrier uses."""

from __future__ import annotations

from isolation_core.contamination.probes._probe import Probe
from isolation_core.errors import ConfigurationError

__all__ = ["default_probes", "register_probe", "registered_probes", "unregister_probe"]

_registered: dict[str, Probe] = {}
_default: tuple[Probe, ...] | None = None
_builtin: tuple[Probe, ...] | None = None


def register_probe(probe: Probe) -> Probe:
    """Make every barrier opened from now on watch what *probe* watches.

    Args:
        probe: an instance of a `Probe` subclass; its ``kind`` must be new.

    Returns:
        The probe itself, so that the call can be used in an assignment.

    Raises:
        ConfigurationError: if the kind is taken by another probe.
    """
    current = _registered.get(probe.kind)
    if current is not None and current is not probe:
        raise ConfigurationError(
            f"a probe of kind {probe.kind!r} is registered already ({type(current).__qualname__}); "
            f"give {type(probe).__qualname__} another `kind`, or call unregister_probe({probe.kind!r}) first",
            name=probe.kind,
            value=probe,
        )
    _registered[probe.kind] = probe
    _forget_default()
    return probe


def unregister_probe(kind: str) -> None:
    """Forget the probe of *kind*; barriers that are open keep using it."""
    _registered.pop(kind, None)
    _forget_default()


def _forget_default() -> None:
    global _default  # noqa: PLW0603 - the one cache of this module
    _default = None


def registered_probes() -> tuple[Probe, ...]:
    """Return the probes users registered, in order of registration."""
    return tuple(_registered.values())


def default_probes() -> tuple[Probe, ...]:
    """Return the built-in probes and the registered ones, cheapest first; the same ones every time."""
    global _default, _builtin  # noqa: PLW0603 - the one cache of this module
    if _builtin is None:
        from isolation_core.contamination.probes._builtin import builtin_probes

        _builtin = builtin_probes()
    if _default is None:
        _default = tuple(sorted((*_builtin, *_registered.values()), key=lambda probe: probe.cost))
    return _default
