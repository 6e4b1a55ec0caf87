"""Event loops for asynchronous fixtures in synchronous code, for runners that bring a loop of their own.

A fixture has to live on the event loop of the test that uses it. A runner that has one derives
from `RemoteLoop` and gives it to `FixtureRun.live_on`; `Portal` is a loop in a thread, for tests
that have none.
"""

from isolation_core._drive import is_trio
from isolation_core.lifecycle._owner import Owner
from isolation_core.lifecycle._portal import Portal, RemoteLoop

__all__ = ["Owner", "Portal", "RemoteLoop", "is_trio"]
