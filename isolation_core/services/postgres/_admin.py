"""Administration of a server from a thread of its own: usable from any event loop, and from none."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

__all__ = ["Admin", "admin"]

T = TypeVar("T")
NAME: Final = "isolation-core postgres"


class Admin:
    """One daemon thread with an event loop, in which connections for administration live."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=NAME, daemon=True)
        self._thread.start()
        self._endings: list[Callable[[], Coroutine[Any, Any, object]]] = []
        atexit.register(self.stop)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run *work* over there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* over there, and wait for it here."""
        return self.submit(work).result()

    def at_exit(self, ending: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run *ending* over there before the thread ends."""
        self._endings.append(ending)

    def stop(self) -> None:
        """Run the endings and end the thread."""
        if self.pid != os.getpid() or not self._thread.is_alive():
            return

        async def end() -> None:
            for ending in reversed(self._endings):
                try:
                    await asyncio.wait_for(ending(), 10)
                except Exception:  # noqa: S112 - the server may be gone, and nobody is left to tell
                    continue

        self.run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


_made: Final[list[Admin]] = []
_lock: Final = threading.Lock()


def admin() -> Admin:
    """Return the one of this process."""
    with _lock:
        if not _made or _made[0].pid != os.getpid():
            _made[:] = [Admin()]
        return _made[0]
