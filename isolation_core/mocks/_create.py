"""`isolated_mock`: the front door."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

from isolation_core._ambient import current_barrier
from isolation_core.errors import ConfigurationError
from isolation_core.mocks._engine import make
from isolation_core.mocks._levels import set_baseline
from isolation_core.mocks._light import is_light
from isolation_core.mocks._ownership import caller, current_registry
from isolation_core.mocks._poison import is_discarded
from isolation_core.mocks._registry import MockRegistry, open_registries, settle

__all__ = ["isolated_mock", "live_mocks"]


def _current() -> MockRegistry | None:
    """Return the innermost registry: that of the barrier around the caller, or one entered inside that barrier."""
    barrier, registry = current_barrier(), current_registry.get()
    if barrier is None or (registry is not None and registry.entered_in is barrier):
        return registry
    # Makes it if this is the first mock.
    return barrier.mocks


def isolated_mock(
    spec: Any = None,
    *,
    name: str | None = None,
    on_cleanup: Callable[[], object] | None = None,
    strict: bool | None = None,
    own_class: bool = False,
    attributes: Sequence[str] = (),
    **configure: Any,
) -> Any:
    """Make an `unittest.mock.AsyncMock` that belongs to the current barrier.

    It is discarded when the barrier ends: every later use raises
    `MockDiscardedError`. Outside of any barrier it belongs to nobody and works
    all the same.

    Args:
        spec: what it stands for. A class (the mock is an instance of it) or an
            object: names, signatures and sync or async shape are verified. A
            list of names: only those. The name of a builder: see
            `register_mock_builder`.
        name: its name in messages and reports.
        on_cleanup: called, and awaited if need be, when the barrier ends.
        strict: True raises on a call for which nothing is configured, and on use
            from a foreign barrier. None: foreign use is an error only if the
            barrier is strict.
        own_class: give the mock a class of its own, so that
            ``type(mock).name = PropertyMock()`` works. Costs more to make.
        attributes: names the real object only gets at run time.
        **configure: attributes, dotted names and ``return_value``,
            ``side_effect``, ``wraps``, ``spec_set``, ``unsafe`` as for `AsyncMock`;
            for a builder, its options.

    Returns:
        The mock; this configuration is its baseline for `reset`.

    Raises:
        UnknownMockBuilderError: if *spec* names no builder.
        ConfigurationError: for *on_cleanup* or a builder outside of any barrier.
    """
    registry = _current()
    if registry is not None:
        return registry.create(
            spec, name=name, on_cleanup=on_cleanup, strict=strict, own_class=own_class, attributes=attributes,
            **configure,
        )  # fmt: skip
    if on_cleanup is not None or type(spec) is str:
        what = "on_cleanup" if on_cleanup is not None else f"the builder {spec!r}"
        raise ConfigurationError(
            f"{what} needs a barrier to end: use isolated_mock inside isolation_barrier()", name=what
        )
    mock = make(spec, name=name, own_class=own_class, attributes=attributes, configure=configure)
    if is_light(mock):
        settle(mock, mock._i, None, strict)
        mock._i.made_at = caller()
    else:
        set_baseline(mock)
    _unowned.append(ref(mock))
    if len(_unowned) > _UNOWNED_LIMIT:
        _unowned[:] = [reference for reference in _unowned if reference() is not None]
    return mock


# Mocks made outside of any barrier: counted, otherwise left alone.
_unowned: list[ref[Any]] = []
_UNOWNED_LIMIT = 1024


def live_mocks() -> int:
    """Return how many isolated mocks are alive and not discarded, over all open barriers and outside of them."""
    free = sum(1 for reference in tuple(_unowned) if (mock := reference()) is not None and not is_discarded(mock))
    return free + sum(map(len, open_registries()))
