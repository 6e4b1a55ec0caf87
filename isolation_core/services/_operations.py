"""`operation`: a method of a double that is an isolated mock with behaviour.

Read from an instance it is a verified mock with the whole mock API. A call
checks the signature, is logged, passes the fault plan, and then runs what was
configured (``return_value``, ``side_effect``) or else the method's body.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, cached_property
from types import FunctionType, MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Final,
    Generic,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

from isolation_core._suggest import nearest
from isolation_core.errors import UnknownOperationError
from isolation_core.mocks import back, register_shape_profile
from isolation_core.services._interactions import snapshot_arguments

if TYPE_CHECKING:
    from isolation_core.mocks import Shape
    from isolation_core.services._context import MockContext
    from isolation_core.services._double import ServiceDouble
    from isolation_core.services._interactions import Interaction
    from isolation_core.services._snapshots import Snapshot

__all__ = ["Operable", "Operation", "OperationMock", "known_operations", "operation"]

_SUSPENDS: Final = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class OperationMock(Protocol[P, R_co]):
    """An operation as read from an instance: its body to call, and the API of `AsyncMock`."""

    return_value: Any
    side_effect: Any
    called: bool
    call_count: int
    call_args: Any
    call_args_list: Any
    mock_calls: Any
    await_count: int
    await_args: Any
    await_args_list: Any

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Do it."""
        ...

    def assert_called(self) -> None: ...
    def assert_called_once(self) -> None: ...
    def assert_called_with(self, /, *args: Any, **kwargs: Any) -> None: ...
    def assert_called_once_with(self, /, *args: Any, **kwargs: Any) -> None: ...
    def assert_any_call(self, /, *args: Any, **kwargs: Any) -> None: ...
    def assert_has_calls(self, calls: Any, any_order: bool = ...) -> None: ...  # noqa: FBT001
    def assert_not_called(self) -> None: ...
    def assert_awaited(self) -> None: ...
    def assert_awaited_once(self) -> None: ...
    def assert_awaited_with(self, *args: Any, **kwargs: Any) -> None: ...
    def assert_awaited_once_with(self, *args: Any, **kwargs: Any) -> None: ...
    def assert_any_await(self, *args: Any, **kwargs: Any) -> None: ...
    def assert_has_awaits(self, calls: Any, any_order: bool = ...) -> None: ...  # noqa: FBT001
    def assert_not_awaited(self) -> None: ...
    def reset_mock(self, *args: Any, **kwargs: Any) -> None: ...
    def configure_mock(self, **kwargs: Any) -> None: ...


class Operation(Generic[P, R]):
    """The descriptor behind `operation`.

    Attributes:
        function: the body, as written.
        name: its name in the log.
        attribute: the name of the method.
        snapshot: how the log keeps arguments.
        shape: the kind of a call's result; None if the declaration determines it.
    """

    def __init__(
        self, function: Callable[Concatenate[Any, P], R], name: str | None, snapshot: Snapshot, shape: Shape | None
    ) -> None:
        self.function = function
        self.attribute: str = getattr(function, "__name__", "operation")
        self.name = name or self.attribute
        self.snapshot: Snapshot = snapshot
        self.shape: Shape | None = shape
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.attribute = name

    @cached_property
    def signature(self) -> inspect.Signature:
        """The parameters that a caller may pass."""
        signature = inspect.signature(self.function)
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    @property
    def declared_shape(self) -> Shape | None:
        """The kind of result that the contract of a mock cannot express: a plain body returns the object it makes."""
        function = self.function
        plain = isinstance(function, FunctionType) and not hasattr(function, "__wrapped__")
        if self.shape is None and plain and not function.__code__.co_flags & _SUSPENDS:
            return "sync"
        return self.shape

    def signature_of(self) -> inspect.Signature:
        """Return `signature`; kept as a method so that a log record costs no look at it."""
        return self.signature

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Operation[P, R]: ...
    @overload
    def __get__(self, instance: Operable, owner: type[Any] | None = None) -> OperationMock[P, R]: ...
    def __get__(self, instance: Operable | None, owner: type[Any] | None = None) -> Any:
        if instance is None:
            return self
        if type(instance)._operations.get(self.attribute) is not self:
            # Overridden: this is ``super().method()``, part of a call that is logged already.
            return MethodType(self.function, instance)
        return instance._operation_mock(self)

    def __set__(self, instance: Operable, value: object) -> NoReturn:
        raise UnknownOperationError(
            type(instance).__name__,
            self.attribute,
            None,
            f"{type(instance).__name__}.{self.attribute} is verified and cannot be replaced; "
            f"configure it: .{self.attribute}.side_effect = ... or .{self.attribute}.return_value = ...",
        )


@overload
def operation(function: Callable[Concatenate[Any, P], R], /) -> Operation[P, R]: ...
@overload
def operation(
    *, name: str | None = None, snapshot: Snapshot = "containers", shape: Shape | None = None
) -> Callable[[Callable[Concatenate[Any, P], R]], Operation[P, R]]: ...
def operation(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    snapshot: Snapshot = "containers",
    shape: Shape | None = None,
) -> Any:
    """Make a method, sync or async, of a double or client object an operation.

    In a method with ``**options`` write ``self, /``: the type checkers then know that no option can be called self.

    Args:
        function: the method, when used without arguments.
        name: its name in the log and in fault plans; by default that of the method.
        snapshot: how the log keeps its arguments.
        shape: ``"dual"`` for an ``async def`` whose result can be awaited and used with
            ``async with`` (it enters what the body returns), ``"iterating"`` for one used with ``async for``.
    """

    def decorate(function: Callable[..., Any]) -> Operation[..., Any]:
        return Operation(function, name, snapshot, shape)

    return decorate if function is None else decorate(function)


class _OperableType(type):
    """Seals an instance when its ``__init__`` is done: from then on a new attribute is a typing error."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        instance = super().__call__(*args, **kwargs)
        instance.__dict__["_sealed"] = True
        return instance


_clients_of_package: Final[dict[str, list[type[Operable]]]] = {}
_OURS: Final = __name__.rpartition(".")[0] + "."
_EVENTS: Final = ("begin", "commit", "rollback")
"""Events that rules ask for; a double may have them or not."""


def _package_of(cls: type[Any]) -> str | None:
    """Return the package of a built-in service that *cls* is defined in; None: it is of no built-in service."""
    package = str(cls.__module__).rpartition(".")[0]
    return package if package.startswith(_OURS) else None


@cache
def known_operations(cls: type[Operable]) -> Mapping[str, frozenset[str] | None]:
    """Return all operations of a double's class and of the client objects it hands out, with their parameters.

    Client objects are known of built-in services, each of which is a package of its own, and of doubles
    derived from them.

    Args:
        cls: the class of a double.

    Returns:
        For each name those of its parameters; None: it takes any.
    """
    classes = [cls]
    for base in cls.__mro__:
        for module in vars(base).get("_client_modules", ()):
            importlib.import_module(module)
        classes += _clients_of_package.get(_package_of(base) or "", ())
    found: dict[str, frozenset[str] | None] = dict.fromkeys((*_EVENTS, *getattr(cls, "events", ())))
    for each in classes:
        for operation in each._operations.values():
            parameters = _parameters_of(operation)
            known = found.get(operation.name, frozenset())
            found[operation.name] = None if parameters is None or known is None else known | parameters
    return found


def _parameters_of(operation: Operation[Any, Any]) -> frozenset[str] | None:
    parameters = operation.signature.parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return frozenset(each.name for each in parameters)


class Operable(metaclass=_OperableType):
    """Something with operations: a service double, or a client object that belongs to one.

    Attributes:
        label: the name of client objects of this class in the log; empty for doubles.
    """

    label: ClassVar[str] = ""
    _operations: ClassVar[dict[str, Operation[Any, Any]]] = {}
    _operation_names: ClassVar[frozenset[str]] = frozenset()
    _shape_class: ClassVar[type[Any]]
    _sealed: bool = False
    _root: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in tuple(vars(cls).items()):
            if isinstance(value, FunctionType) and name in cls._operations:
                # Overridden without the decorator: it stays an operation.
                known = cls._operations[name]
                replaced: Operation[Any, Any] = Operation(value, known.name, known.snapshot, known.shape)
                setattr(cls, name, replaced)
        found: dict[str, Operation[Any, Any]] = {}
        for base in reversed(cls.__mro__):
            found.update((name, value) for name, value in vars(base).items() if isinstance(value, Operation))
        cls._operations = {name: each for name, each in found.items() if getattr(cls, name, None) is each}
        cls._operation_names = frozenset(each.name for each in cls._operations.values())
        package = _package_of(cls)
        if package is not None:
            _clients_of_package.setdefault(package, []).append(cls)
        # The specification of the mocks: the bodies under their names, nothing else.
        functions = {name: each.function for name, each in cls._operations.items()}
        cls._shape_class = type(cls.__name__, (), functions)
        shapes = {
            option: [name for name, each in cls._operations.items() if each.declared_shape == shape]
            for shape, option in (("dual", "dual"), ("iterating", "iterating"), ("sync", "synchronous"))
        }
        register_shape_profile(cls._shape_class, **shapes)  # type: ignore[arg-type]

    @property
    def context(self) -> MockContext:
        """The double it belongs to."""
        raise NotImplementedError

    @property
    def double(self) -> ServiceDouble:
        """The double it belongs to; a double is its own."""
        raise NotImplementedError

    def connection_lost(self, error: BaseException) -> None:
        """A fault has cut the connection that a call used. Subclasses do what their client does then."""

    def _operation_mock(self, operation: Operation[Any, Any]) -> Any:
        """Return the mock that is *operation* here; made on first touch."""
        root = self._root
        if root is None:
            root = self._root = self.context._mock_for(self)
        attribute = operation.attribute
        found = root.__dict__.get(attribute)
        if found is None:
            found = getattr(root, attribute)
            back(found, _Behaviour(self, operation))
        return found

    @property
    def mock(self) -> Any:
        """The mock all operations hang on: ``double.mock.mock_calls`` has them in order."""
        if self._root is None:
            self._root = self.context._mock_for(self)
        return self._root

    def __getattr__(self, name: str) -> Any:
        if name[:1] == "_":
            raise AttributeError(name)
        raise self._unknown(name)

    def __setattr__(self, name: str, value: object) -> None:
        if self._sealed and name[:1] != "_" and name not in self.__dict__ and not hasattr(type(self), name):
            raise self._unknown(name)
        super().__setattr__(name, value)

    def _unknown(self, name: str) -> UnknownOperationError:
        public = [each for each in (*dir(type(self)), *self.__dict__) if each[:1] != "_"]
        return UnknownOperationError(type(self).__name__, name, nearest(name, public))


class _Behaviour:
    """One operation of one instance, as the backing of its mock."""

    __slots__ = ("_operable", "_operation")

    def __init__(self, operable: Operable, operation: Operation[Any, Any]) -> None:
        self._operable = operable
        self._operation = operation

    def called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Interaction:
        operable, operation = self._operable, self._operation
        double = operable.double
        context = double.context
        context.clock.touch()
        if args or kwargs:
            context.check_arguments(operable, operation, args, kwargs)
            args, kwargs = snapshot_arguments(args, kwargs, operation.snapshot)
        return context.log.begin(
            double.service, double.name, operation.name, operable.label, args, kwargs,
            context.clock.now(), operation.signature_of,
        )  # fmt: skip

    async def run(self, entry: Interaction, outcome: Callable[[], Awaitable[Any]]) -> Any:
        context = self._operable.context
        entry.state = "pending"
        try:
            if context.faults.active:
                result = await context.faults.conduct(self._operable, entry, outcome)
            else:
                result = await outcome()
        except BaseException as error:
            context.log.finish(entry, context.clock.now(), error)
            raise
        context.log.finish(entry, context.clock.now())
        return result

    def run_sync(self, entry: Interaction, outcome: Callable[[], Any]) -> Any:
        context = self._operable.context
        entry.state = "pending"
        try:
            faults = context.faults
            result = faults.conduct_sync(self._operable, entry, outcome) if faults.active else outcome()
        except BaseException as error:
            context.log.finish(entry, context.clock.now(), error)
            raise
        context.log.finish(entry, context.clock.now())
        return result

    def behave(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._operation.function(self._operable, *args, **kwargs)
