"""`isolated_mock`: the front door."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

from isolation_core._ambient import current_barrier
from isolation_core.errors import ConfigurationError
from isolation_core.mocks._make import make
from isolation_core.mocks._ownership import caller, current_registry
from isolation_core.mocks._poison import is_discarded
from isolation_core.mocks._registry import MockRegistry, open_registries, settle, unowned

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
    spec_set: Any = None,
    name: str | None = None,
    on_cleanup: Callable[[], object] | None = None,
    strict: bool | None = None,
    deep: bool = True,
    own_class: bool = False,
    attributes: Sequence[str] = (),
    **configure: Any,
) -> Any:
    """Make an `unittest.mock.AsyncMock` that belongs to the current barrier.

    It is discarded when the barrier ends: every later use raises
    `MockDiscardedError`. Outside of any barrier it belongs to no test and works
    all the same.

    Args:
        spec: what it stands for. A class, an object, a function, a module or a
            generic alias: names, signatures, sync or async shape are verified,
            and attributes and results by their annotations. The mock of a class
            is an instance; a call of it checks the constructor and gives
            another one, unless instances are callable. A list of names: only
            those. The name of a builder: see `register_mock_builder`.
        spec_set: the same, and setting other attributes raises; or True, with *spec*.
        name: its name in messages and reports.
        on_cleanup: called, and awaited if need be, when the barrier ends.
        strict: True raises on a call for which nothing is configured, and on use
            from a foreign barrier. None: foreign use is an error only if the
            barrier is strict.
        deep: False leaves attributes and results unverified, as ``AsyncMock(spec=...)`` does.
        own_class: give the mock a class of its own, so that
            ``type(mock).name = PropertyMock()`` works. Costs more to make.
        attributes: names the real object only gets at run time.
        **configure: attributes, dotted names and ``return_value``,
            ``side_effect``, ``wraps``, ``unsafe`` as for `AsyncMock`;
            for a builder, its options.

    Returns:
        The mock; this configuration is its baseline for `reset`. For a
        synchronous function it is a `MagicMock`.

    Raises:
        UnknownMockBuilderError: if *spec* names no builder.
        SpecificationError: if *spec* is a mock, a union, or says nothing.
        ConfigurationError: for *on_cleanup* or a builder outside of any barrier.
    """
    registry = _current()
    if registry is not None:
        return registry.create(
            spec, spec_set=spec_set, name=name, on_cleanup=on_cleanup, strict=strict, deep=deep, own_class=own_class,
            attributes=attributes, **configure,
        )  # fmt: skip
    if on_cleanup is not None or type(spec) is str:
        what = "on_cleanup" if on_cleanup is not None else f"the builder {spec!r}"
        raise ConfigurationError(
            f"{what} needs a barrier to end: use isolated_mock inside isolation_barrier()", name=what
        )
    mock = make(spec, spec_set, name=name, deep=deep, own_class=own_class, attributes=attributes, configure=configure)
    settle(mock, mock._isolation_state, None, strict)
    mock._isolation_state.made_at = caller()
    unowned.append(ref(mock))
    if len(unowned) > _UNOWNED_LIMIT:
        unowned[:] = [reference for reference in unowned if reference() is not None]
    return mock


_UNOWNED_LIMIT = 1024


def live_mocks() -> int:
    """Return how many isolated mocks are alive and not discarded, over all open barriers and outside of them."""
    free = sum(1 for reference in tuple(unowned) if (mock := reference()) is not None and not is_discarded(mock))
    return free + sum(map(len, open_registries()))
