"""`managed_fixture` for pytest: a managed fixture that is a real pytest fixture as well."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast, overload

import pytest
from attrs import evolve

from isolation_core.errors import ConfigurationError
from isolation_core.fixtures import (
    REQUEST,
    FixtureScope,
    FixtureSpec,
    OnContamination,
    as_scope,
    current_registry,
    make_spec,
    spec_of,
)
from isolation_pytest._manager import ManagedFixtures, manager_of, requested

if TYPE_CHECKING:
    from isolation_core.fixtures import DynamicScope

__all__ = ["ManagedFixture", "as_pytest_fixture", "expose", "managed_fixture", "mark_dirty"]

_MARK: Final = "__managed_fixture__"
_PYTEST_SCOPES: Final = frozenset({"function", "class", "module", "package", "session"})

Scope: TypeAlias = "FixtureScope | str | DynamicScope | Callable[..., str]"
"""A scope, its name, or a function that returns one: called as pytest does, with ``fixture_name=`` and ``config=``,
if it has a parameter ``config``, and as the core does, with the name and None, otherwise."""


class ManagedFixture(Protocol):
    """The result of the decorator: a fixture for pytest, and a decorated object for the core.

    Attributes:
        spec: its definition; ``spec.function`` is the decorated function, which can be called by hand.
        name: the name that tests request.
    """

    spec: FixtureSpec
    name: str


class _NoInstance:
    """A placeholder for the object of a method while there is none."""


@overload
def managed_fixture(function: Callable[..., Any], /) -> ManagedFixture: ...


@overload
def managed_fixture(
    *,
    scope: Scope = ...,
    dependencies: Iterable[str | Callable[..., Any] | ManagedFixture] | None = ...,
    isolation_group: str | None = ...,
    priority: int = ...,
    cleanup_callbacks: Iterable[Callable[..., Any]] = ...,
    timeout: float | None = ...,
    setup_timeout: float | None = ...,
    on_contamination: OnContamination = ...,
    concurrent: bool = ...,
    sees_errors: bool = ...,
    params: Iterable[Any] | None = ...,
    ids: Iterable[str] | Callable[[Any], object] | None = ...,
    name: str | None = ...,
    autouse: bool = ...,
) -> Callable[[Callable[..., Any]], ManagedFixture]: ...


def managed_fixture(
    function: Callable[..., Any] | None = None,
    /,
    *,
    scope: Scope = FixtureScope.FUNCTION,
    dependencies: Iterable[str | Callable[..., Any] | ManagedFixture] | None = None,
    isolation_group: str | None = None,
    priority: int = 0,
    cleanup_callbacks: Iterable[Callable[..., Any]] = (),
    timeout: float | None = None,
    setup_timeout: float | None = None,
    on_contamination: OnContamination = "restore",
    concurrent: bool = True,
    sees_errors: bool = False,
    params: Iterable[Any] | None = None,
    ids: Iterable[str] | Callable[[Any], object] | None = None,
    name: str | None = None,
    autouse: bool = False,
) -> ManagedFixture | Callable[[Callable[..., Any]], ManagedFixture]:
    """Make a function a managed fixture and a pytest fixture at once.

    pytest finds it like any other: as an attribute of a test module, conftest, plugin or class. Its
    parameters may be managed fixtures and ordinary ones.

    Args:
        function: see `isolation_core.managed_fixture`; also a method, of a test class.
        scope: how long a value lives, see `Scope`.
        dependencies: names of fixtures of any kind, or decorated objects.
        isolation_group: see `isolation_core.managed_fixture`, as for all that follow.
        priority: among the managed fixtures a test asks for in one scope the higher is set up first.
        cleanup_callbacks: run after its own teardown.
        timeout: budget of each cleanup in seconds; by default that of the configuration, 10 seconds.
        setup_timeout: budget of an asynchronous set-up in seconds.
        on_contamination: the treatment of a value of a wide scope that a test has changed.
        concurrent: of no meaning here, pytest sets up one fixture after another.
        sees_errors: whether the exception of the test is thrown into it (function scope).
        params: as for `pytest.fixture`, ``pytest.param`` included.
        ids: as for `pytest.fixture`.
        name: the name that tests request; by default that of the function.
        autouse: as for `pytest.fixture`.

    Returns:
        The result of `pytest.fixture`, with the definition as ``spec``. As with every pytest fixture the
        name is not a function any more; call ``spec.function`` by hand.

    Raises:
        ConfigurationError: if an argument is wrong.
    """

    def decorate(thing: Callable[..., Any]) -> ManagedFixture:
        is_method = next(iter(_parameter_names(thing)), None) in ("self", "cls") and inspect.isfunction(thing)
        if isinstance(thing, staticmethod | classmethod):
            raise ConfigurationError(
                f"a {type(thing).__name__} is not a function; put @{type(thing).__name__} above @managed_fixture",
                name="function",
                value=thing,
            )
        given = None if params is None else tuple(params)
        spec = make_spec(
            MethodType(thing, _NoInstance()) if is_method else thing,
            scope=_core_scope(scope),
            dependencies=cast("Any", dependencies),
            isolation_group=isolation_group,
            priority=priority,
            cleanup_callbacks=tuple(cleanup_callbacks),
            timeout=timeout,
            setup_timeout=setup_timeout,
            on_contamination=on_contamination,
            concurrent=concurrent,
            sees_errors=sees_errors,
            params=() if given is None else given,
            ids=(),
            name=name,
        )
        if not is_method:
            current_registry().add(spec)
        return _definition(
            spec, thing if is_method else None, autouse=autouse, params=given, ids=ids, scope=_core_scope(scope)
        )

    return decorate if function is None else decorate(function)


def as_pytest_fixture(
    thing: object, *, name: str | None = None, scope: Scope | None = None, autouse: bool = False
) -> ManagedFixture:
    """Return a definition made with `isolation_core.managed_fixture` as a pytest fixture.

    Assign it where pytest finds it: in a conftest, a test module or a plugin.

    Args:
        thing: the decorated function, or its spec. Its dependencies have to be pytest fixtures too;
            `expose` sees to that.
        name: the name that tests request; by default that of the definition.
        scope: instead of its own.
        autouse: as for `pytest.fixture`.

    Returns:
        As for `managed_fixture`.

    Raises:
        ConfigurationError: if *thing* is not a managed fixture.
    """
    spec = spec_of(thing)
    if spec is None:
        text = getattr(thing, "__qualname__", repr(thing))
        raise ConfigurationError(
            f"{text} is not a managed fixture; decorate it with isolation_core.managed_fixture",
            name="thing",
            value=thing,
        )
    if name is not None and name != spec.name:
        spec = evolve(spec, name=name)
    if scope is not None:
        spec = evolve(spec, scope=_core_scope(scope))
    return _definition(spec, None, autouse=autouse, params=spec.params or None, ids=spec.ids or None, scope=spec.scope)


def expose(*things: object) -> dict[str, ManagedFixture]:
    """Return definitions of the core, and all their dependencies, as pytest fixtures by name.

    In a conftest: ``globals().update(expose(resources))``.

    Args:
        things: decorated functions, specs, or modules, of which all definitions are taken.

    Raises:
        ConfigurationError: if one of *things* is none of these, or two definitions have one name.
    """
    pending: list[FixtureSpec] = []
    for thing in things:
        if isinstance(thing, ModuleType):
            found = [spec for each in vars(thing).values() if (spec := spec_of(each)) is not None]
            if not found:
                raise ConfigurationError(
                    f"the module {thing.__name__} defines no managed fixture", name="things", value=thing
                )
            pending += found
        else:
            pending.append(cast("FixtureSpec", spec_of(as_pytest_fixture(thing))))
    chosen: dict[str, FixtureSpec] = {}
    while pending:
        spec = pending.pop(0)
        known = chosen.setdefault(spec.name, spec)
        if known is not spec:
            raise ConfigurationError(
                f"{spec} and {known} have one name, and a name means one fixture in one place; "
                "expose them in two places, or name one of them with as_pytest_fixture(..., name=...)",
                name="things",
                value=spec,
            )
        if known is spec:
            for each in spec.dependencies:
                if each in chosen:
                    continue
                near = current_registry().find(each, module=spec.module, among=spec.bound)
                if len(near) == 1:
                    pending.append(near[0])
    return {name: as_pytest_fixture(spec) for name, spec in chosen.items()}


def mark_dirty(request: pytest.FixtureRequest, name: str, reason: str) -> None:
    """Have a managed fixture, and all its dependents, rebuilt before the next test.

    Args:
        request: the ``request`` of a test or a fixture.
        name: the fixture; it has to be up.
        reason: why, for reports.

    Raises:
        LookupError: if no managed fixture of this name is up.
    """
    manager_of(request.config).mark_dirty(name, reason)


def _parameter_names(thing: object) -> list[str]:
    try:
        return list(inspect.signature(cast("Any", thing)).parameters)
    except (TypeError, ValueError):
        return []


def _core_scope(scope: Scope) -> FixtureScope | DynamicScope:
    if callable(scope) and not isinstance(scope, FixtureScope):
        return cast("DynamicScope", scope)
    return as_scope(scope)


def _definition(
    spec: FixtureSpec,
    method: Callable[..., Any] | None,
    *,
    autouse: bool,
    params: Iterable[Any] | None,
    ids: Any,
    scope: FixtureScope | DynamicScope,
) -> ManagedFixture:
    """Return *spec* as a fixture that pytest's own decorator makes of a stand-in function."""
    passed = tuple((parameter, name) for parameter, name in spec.arguments)
    dependencies = tuple(name for name in spec.dependencies if name != REQUEST)

    front: Callable[..., Any]
    if method is None:

        def of_function(**values: Any) -> Any:
            __tracebackhide__ = True
            manager, fixturedef, request = requested()
            return manager.set_up(spec, fixturedef, request, _arguments(passed, values) if values else values)

        front = of_function
    else:

        def of_method(self: object, **values: Any) -> Any:
            __tracebackhide__ = True
            bound = evolve(spec, function=MethodType(method, self))
            manager, fixturedef, request = requested()
            return manager.set_up(bound, fixturedef, request, _arguments(passed, values))

        front = of_method

    function = spec.function if method is None else method
    described: Any = front
    for attribute in ("__module__", "__qualname__", "__doc__"):
        setattr(described, attribute, getattr(function, attribute, None))
    described.__name__ = spec.name
    # Leads `pytest --fixtures` and error messages to the source.
    described.__wrapped__ = function
    named = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in dependencies]
    first = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)] if method is not None else []
    described.__signature__ = inspect.Signature([*first, *named])
    setattr(described, _MARK, spec)
    described.spec = spec

    def scope_of(*, fixture_name: str, config: pytest.Config) -> str:
        # pytest asks while it collects the fixture: also the moment to be there before the first set-up.
        manager = ManagedFixtures.of(config)
        found = _resolve(scope, fixture_name, config)
        manager.learn(spec, found)
        return found

    make = pytest.fixture(
        scope=cast("Any", scope_of),
        params=None if params is None else list(params),
        ids=ids if ids is None or callable(ids) else list(ids),
        autouse=autouse,
        name=spec.name,
    )
    return cast("ManagedFixture", make(front))


def _arguments(passed: tuple[tuple[str, str], ...], values: Mapping[str, Any]) -> dict[str, Any]:
    return {parameter: values[name] for parameter, name in passed}


def _resolve(scope: FixtureScope | DynamicScope, name: str, config: pytest.Config) -> str:
    given: Any = scope
    if not isinstance(scope, FixtureScope):
        asked: Any = scope
        given = asked(fixture_name=name, config=config) if "config" in _parameter_names(asked) else asked(name, None)
    found = as_scope(given, name=name).value
    if found not in _PYTEST_SCOPES:
        raise ConfigurationError(
            f"the fixture {name!r} has the scope {found!r}, which pytest does not have; "
            f"use one of {', '.join(sorted(_PYTEST_SCOPES))}",
            name="scope",
            value=found,
        )
    return found
