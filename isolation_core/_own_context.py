"""A context of its own for one test, from its first hook to its last, without a nested call.

`contextvars.Context.run` needs a function to call, and a test is not one: its
set-up, its body and its teardown are calls of the runner one after the other.
To copy the context for the body alone breaks healthy tests: a token made in the
body cannot be reset in the teardown. The interpreter can switch the context of
a thread between two calls, by `PyContext_Enter` and `PyContext_Exit`. They are
part of its public C API and are reached through `ctypes`.

What is set in such a context is gone with it, also where a variable has no
default and its token was not kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, Token, copy_context
from typing import Any, Final, TypeVar

__all__ = ["OwnContext", "can_switch", "innermost_own_context"]

T = TypeVar("T")
_Switch = tuple[Callable[[Context], object], Callable[[Context], object]]
_ABSENT: Final = object()
_PROBE: Final[ContextVar[int]] = ContextVar("isolation_core.can_switch")


class _Entered(threading.local):
    """The own contexts that a thread is in, outermost first."""

    def __init__(self) -> None:
        self.stack: list[OwnContext] = []


_entered = _Entered()
_switch: _Switch | None = None
_looked = False


def _find_switch() -> _Switch | None:
    try:
        import ctypes

        enter, leave = ctypes.pythonapi.PyContext_Enter, ctypes.pythonapi.PyContext_Exit
        enter.argtypes = leave.argtypes = [ctypes.py_object]
    except Exception:  # no ctypes, no such function, a policy that forbids it
        return None
    return enter, leave


def _works(switch: _Switch) -> bool:
    """Tell whether *switch* does in this interpreter what is expected of it."""
    enter, leave = switch
    outer, inner = copy_context(), copy_context()

    def attempt() -> bool:
        enter(inner)
        try:
            token = _PROBE.set(1)
            seen = copy_context().get(_PROBE)
            _PROBE.reset(token)
            _PROBE.set(2)
        finally:
            leave(inner)
        return seen == 1 and _PROBE.get(_ABSENT) is _ABSENT and inner.get(_PROBE) == 2

    try:
        return outer.run(attempt)
    except Exception:
        return False


def can_switch() -> bool:
    """Tell whether a test can have a context of its own here. The answer is found out once, by trying."""
    global _looked, _switch  # noqa: PLW0603 - found out once for the process
    if not _looked:
        _looked = True
        found = _find_switch()
        _switch = found if found is not None and _works(found) else None
    return _switch is not None


def innermost_own_context() -> OwnContext | None:
    """Return the own context that this thread has entered last and not left, if any."""
    stack = _entered.stack
    return stack[-1] if stack else None


class OwnContext:
    """Enters a copy of the current context, and leaves it; one test after the other.

    It is for synchronous code that calls a test: between `enter` and `leave`
    the thread must not return to an event loop that runs the caller.
    """

    __slots__ = ("_context", "_thread")

    def __init__(self) -> None:
        self._context: Context | None = None
        self._thread = 0

    @property
    def is_entered(self) -> bool:
        """Whether it was entered and not yet left."""
        return self._context is not None

    def enter(self) -> bool:
        """Enter a copy of the current context; False where that is not possible, and then nothing has happened."""
        if not can_switch() or (self.is_entered and not self.leave()):
            return False
        assert _switch is not None
        context = copy_context()
        _switch[0](context)
        self._context = context
        self._thread = threading.get_ident()
        _entered.stack.append(self)
        return True

    def leave(self) -> bool:
        """Return to the context that was current at `enter`; what was set since then is gone.

        Returns:
            False if it was not entered, or cannot be left now: in another thread than it was entered in,
            or if another context has been entered since and not been left. It can be
            tried again, and is, before the next `enter`.
        """
        if self._context is None or self._thread != threading.get_ident():
            return False
        stack = _entered.stack
        # What was entered inside and not left goes first.
        while stack[-1] is not self:
            if not stack[-1].leave():
                return False
        if not _exit(self._context):
            return False
        stack.pop()
        self._context = None
        return True

    def look_around(self, look: Callable[[], T]) -> T:
        """Return what *look* returns in the context around this one; in this one, where it cannot be left now.

        Unlike in a block `outside`, nothing of the test is to be seen there.
        """
        __tracebackhide__ = True
        context = self._step_out()
        if context is None:
            return look()
        try:
            return look()
        finally:
            self._step_in(context)

    def _step_out(self) -> Context | None:
        """Leave the context for a while, and return it; None where it cannot be left now.

        That is so in another thread, and inside of a context that other code has entered, such as that of
        a task: what is set there does not come out of it without us either.
        """
        context = self._context
        if (
            context is None
            or innermost_own_context() is not self
            or self._thread != threading.get_ident()
            or not _exit(context)
        ):
            return None
        _entered.stack.pop()
        return context

    def _step_in(self, context: Context) -> None:
        assert _switch is not None
        _switch[0](context)
        _entered.stack.append(self)

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Run the block in the context around this one: what it sets outlives the test.

        It is for the set-up and the teardown of what other tests share. A token made in one of them is
        reset in the other, so both have to run in the same context, and that of a test is gone by then.

        The block still sees each variable as the test has it, as it would without us. Only what the block
        itself sets stays set around the test, and is set in the test as well.
        """
        context = self._step_out()
        if context is None:
            yield
            return
        lent = _lend(context, copy_context())
        start = copy_context()
        try:
            yield
        finally:
            # If an exception passes through, what was set until then is there all the same.
            end = copy_context()
            _take_back(lent)
            self._step_in(context)
            for variable, value in _steps(start, end):
                variable.set(value)


def _exit(context: Context) -> bool:
    """Leave *context* if it is the current one. A call that fails has changed nothing."""
    assert _switch is not None
    try:
        _switch[1](context)
    except RuntimeError:
        return False
    return True


def _lend(inner: Context, outer: Context) -> list[tuple[ContextVar[Any], Any, Token[Any]]]:
    """Set in the current context what *inner* has other than *outer*; return what `_take_back` needs."""
    return [
        (variable, value, variable.set(value))
        for variable, value in inner.items()
        if outer.get(variable, _ABSENT) is not value
    ]


def _take_back(lent: list[tuple[ContextVar[Any], Any, Token[Any]]]) -> None:
    """Undo `_lend`, except for variables that were set to something else since then."""
    for variable, value, token in reversed(lent):
        if variable.get(_ABSENT) is value:
            variable.reset(token)


def _steps(before: Context, after: Context) -> Iterator[tuple[ContextVar[Any], Any]]:
    """Yield each variable that has another value in *after* than in *before*, with that value."""
    for variable, value in after.items():
        if before.get(variable, _ABSENT) is not value:
            yield variable, value
    for variable in before:
        if variable not in after:
            # As good as unset, where there is a default; where there is none, only a token could do it.
            with suppress(LookupError):
                yield variable, Context().run(variable.get)
