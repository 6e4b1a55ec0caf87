"""The ways in which a call can fail."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import anyio
import anyio.lowlevel
from attrs import field, frozen

from isolation_core.errors import ConfigurationError

if TYPE_CHECKING:
    from isolation_core.services._faults import FaultPlan, FaultRule
    from isolation_core.services._operations import Operable

__all__ = [
    "FaultAction",
    "FaultKind",
    "answer",
    "cancel",
    "delay",
    "disconnect",
    "duplicate",
    "fail",
    "hang",
    "lose_reply",
]

FaultKind = Literal["unavailable", "timeout", "disconnected", "rejected"]
"""What the real client's exception is about; `ServiceDouble.fault_error` has it."""

_KINDS: tuple[str, ...] = ("unavailable", "timeout", "disconnected", "rejected")


@frozen
class FaultAction(ABC):
    """Base of the actions. Derive from it for one of your own."""

    verb: ClassVar[str] = "fault"

    def __str__(self) -> str:
        return self.verb

    @abstractmethod
    async def run(
        self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Do it to a call; *outcome* runs the call itself."""

    def run_sync(self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Callable[[], Any]) -> Any:
        """Do it to a synchronous call."""
        raise ConfigurationError(
            f"{rule}: this operation is synchronous and cannot wait; use fail(), lose_reply(), duplicate() or answer()",
            name="action",
            value=str(self),
        )


def _error(plan: FaultPlan, rule: FaultRule, target: Operable, cause: object) -> BaseException:
    if isinstance(cause, str):
        error = plan.sign(target.double.fault_error(cause), rule)
        if cause == "disconnected":
            target.connection_lost(error)
        return error
    if isinstance(cause, type) and issubclass(cause, BaseException):
        return plan.sign(cause(), rule)
    if isinstance(cause, BaseException):
        # Raised more than once it must not carry the frames of the first time.
        cause.__traceback__ = None
        if hasattr(cause, "__notes__"):
            cause.__notes__.clear()
        return plan.sign(cause, rule)
    assert callable(cause)
    made = cause()
    assert isinstance(made, BaseException)
    return plan.sign(made, rule)


def _check_cause(_action: object, _attribute: object, value: object) -> None:
    fits = value in _KINDS if isinstance(value, str) else isinstance(value, BaseException) or callable(value)
    if not fits:
        raise ConfigurationError(
            f"{value!r} is nothing to raise: give one of {', '.join(map(repr, _KINDS))}, an exception, or a function "
            "that makes one",
            name="cause",
            value=value,
        )


@frozen
class _Fail(FaultAction):
    cause: object = field(validator=_check_cause)

    def __str__(self) -> str:
        return f"fail({self.cause!r})"

    async def run(self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        raise _error(plan, rule, target, self.cause)

    def run_sync(self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Any) -> Any:
        raise _error(plan, rule, target, self.cause)


@frozen
class _Delay(FaultAction):
    seconds: float

    def __str__(self) -> str:
        return f"delay({self.seconds:g})"

    async def run(self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Any) -> Any:
        await target.context.clock.sleep(self.seconds)
        return await outcome()

    def run_sync(self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Any) -> Any:
        entry = plan.sync_call
        limit = None if entry is None else target.double.call_timeout(target, entry)
        if entry is None or limit is None or self.seconds <= limit:
            target.context.clock.pause(self.seconds)
            return outcome()
        target.context.clock.pause(limit)
        try:
            return target.double.call_timed_out(target, entry)
        except BaseException as error:
            raise plan.sign(error, rule) from None


@frozen
class _Hang(FaultAction):
    verb = "hang()"

    async def run(self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Any) -> Any:
        await anyio.sleep_forever()


@frozen
class _Disconnect(FaultAction):
    seconds: float | None

    def __str__(self) -> str:
        return f"disconnect({'' if self.seconds is None else f'{self.seconds:g}'})"

    async def run(self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return self.run_sync(plan, rule, target, outcome)

    def run_sync(self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Any) -> Any:
        double = target.double
        plan.down[double.name] = rule
        double._disconnect_now()
        if self.seconds is not None:
            clock = target.context.clock
            clock.call_at(clock.now() + self.seconds, lambda: plan.restore(double.name))
        raise plan.sign(double.fault_error("disconnected"), rule)


@frozen
class _Duplicate(FaultAction):
    verb = "duplicate()"

    async def run(self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Any) -> Any:
        await outcome()
        return await outcome()

    def run_sync(self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Any) -> Any:
        outcome()
        return outcome()


@frozen
class _LoseReply(FaultAction):
    cause: object = field(validator=_check_cause)

    def __str__(self) -> str:
        return f"lose_reply({self.cause!r})"

    async def run(self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Any) -> Any:
        await outcome()
        raise _error(plan, rule, target, self.cause)

    def run_sync(self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Any) -> Any:
        outcome()
        raise _error(plan, rule, target, self.cause)


@frozen
class _Answer(FaultAction):
    change: Callable[[Any], Any]
    verb = "answer(...)"

    async def run(self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Any) -> Any:
        return self.change(await outcome())

    def run_sync(self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Any) -> Any:
        return self.change(outcome())


@frozen
class _Cancel(FaultAction):
    scope: anyio.CancelScope | None
    done: bool

    def __str__(self) -> str:
        return f"cancel({'after=True' if self.done else ''})"

    async def run(self, plan: FaultPlan, rule: FaultRule, target: Operable, outcome: Any) -> Any:
        result = await outcome() if self.done else None
        if self.scope is not None:
            self.scope.cancel()
        elif asyncio._get_running_loop() is not None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        else:
            raise ConfigurationError(
                f"{rule}: trio cancels scopes, not tasks; give the scope to cancel: cancel(scope)", name="scope"
            )
        await anyio.lowlevel.checkpoint()
        # The scope was not around the call: nothing is cancelled here.
        return result if self.done else await outcome()


def fail(cause: FaultKind | BaseException | Callable[[], BaseException] = "unavailable") -> FaultAction:
    """The call raises and has no effect.

    Args:
        cause: the exception to raise: a kind, for which the double knows the real client's exception; an
            exception or its class; a function that makes one for each call.
    """
    return _Fail(cause)


def delay(seconds: float) -> FaultAction:
    """The call takes *seconds* longer; where it has a timeout that is shorter, it times out as the client does."""
    return _Delay(seconds)


def hang() -> FaultAction:
    """The call never ends, until it is cancelled or its timeout is over."""
    return _Hang()


def disconnect(seconds: float | None = None) -> FaultAction:
    """The service is gone: this call and all later ones raise, open connections and transactions end.

    Args:
        seconds: until it can be reached again; None: until `FaultPlan.restore`.
    """
    return _Disconnect(seconds)


def duplicate() -> FaultAction:
    """The call takes effect twice: a message delivered twice, a request retried below the client."""
    return _Duplicate()


def lose_reply(cause: FaultKind | BaseException | Callable[[], BaseException] = "timeout") -> FaultAction:
    """The call takes effect, but the caller sees an error: finds code that is not idempotent."""
    return _LoseReply(cause)


def answer(change: Callable[[Any], Any]) -> FaultAction:
    """The call takes effect, and *change* replaces its result: stale, cut short, corrupt."""
    return _Answer(change)


def cancel(scope: anyio.CancelScope | None = None, *, after: bool = False) -> FaultAction:
    """The caller is cancelled at this call.

    Args:
        scope: what to cancel; None: the task, which only asyncio can do.
        after: True: once the call took effect; False: before.
    """
    return _Cancel(scope, after)
