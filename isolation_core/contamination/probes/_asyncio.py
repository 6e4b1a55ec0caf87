"""The event loop policy, and the current event loop of the main thread."""

from __future__ import annotations

import sys
import threading
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final

from isolation_core.contamination._difference import MISSING, Difference
from isolation_core.contamination.probes._keyed import KeyedProbe, attempt, loaded
from isolation_core.findings import Severity

__all__ = ["EventLoopProbe"]

_POLICY: Final = "asyncio.get_event_loop_policy()"
_LOOP: Final = "asyncio.get_event_loop()"
_ASKED: Final = "asyncio.get_event_loop_policy()._local._set_called"


class EventLoopProbe(KeyedProbe):
    """Which policy makes event loops, and which loop is set while none is running.

    The policy is created at the first use of asyncio, whichever test that is: it
    is made right away here, so that the first user is not blamed for it.

    Until Python 3.13 a policy also remembers whether a loop was ever set. From
    then on ``get_event_loop()`` raises where it would have made one. One
    ``asyncio.run()`` is enough for that, so it is put back, as a note.
    """

    kind = "event-loop"
    code = "AIO001"
    cost = 0.4

    def __init__(self) -> None:
        self._last: tuple[Any, Any, Any] | None = None
        self._had_loop = False

    def capture(self) -> Any:
        events: Any = loaded("asyncio.events")
        if events is None or "_set_running_loop" not in events.__dict__ or loaded("asyncio") is None:
            return None
        if threading.get_ident() != threading.main_thread().ident or events._get_running_loop() is not None:
            # The current loop is a matter of one thread, and of a running loop itself.
            return self._last
        policy = events.__dict__.get("_event_loop_policy")
        if policy is None:
            # Not while asyncio is still being imported.
            make = events.__dict__.get("_init_event_loop_policy")
            if make is None or "run" not in sys.modules["asyncio"].__dict__:
                return self._last
            attempt(make)
            policy = events.__dict__.get("_event_loop_policy")
        local = getattr(policy, "_local", None)
        loop = getattr(local, "_loop", None)
        # Not once there was a current loop: pytest-asyncio asks for one before each test, and would make
        # a new one each time, which is never closed.
        self._had_loop |= loop is not None
        asked = None if self._had_loop else getattr(local, "_set_called", None)
        last = self._last
        if last is None or last[0] is not policy or last[1] is not loop or last[2] is not asked:
            self._last = last = (policy, loop, asked)
        return last

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        if type(snapshot) is not tuple:
            return snapshot  # type: ignore[no-any-return]
        return dict(zip((_POLICY, _LOOP, _ASKED), snapshot, strict=True))

    def diff(self, before: Any, after: Any) -> Iterable[Difference]:
        return super().diff(before, after) if before is not None and after is not None else ()

    def severity_of(self, key: Hashable, before: Any, after: Any) -> Severity | None:
        return "note" if key == _ASKED else None

    def tolerates(self, key: Hashable, one: Any, other: Any) -> bool:
        if key == _ASKED:
            return (one, other) != (False, True)
        # A loop that was closed meanwhile must not come back.
        return key == _LOOP and one is not None and one is not MISSING and _is_closed(one)

    def restore(self, key: Hashable, value: Any) -> None:
        events: Any = sys.modules["asyncio.events"]
        if key == _POLICY:
            events._event_loop_policy = value
            return
        # Not set_event_loop(): it would attach child watchers as well.
        local = events._event_loop_policy._local
        if key == _ASKED:
            local._set_called = value
        else:
            local._loop = value

    def describe(self, key: Hashable) -> str:
        return str(key)


def _is_closed(loop: Any) -> bool:
    return bool(attempt(loop.is_closed, default=True))
