"""State of the operating-system process: working directory and file mode mask."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.probes._keyed import KeyedProbe
from isolation_core.contamination.probes._probe import Guard

__all__ = ["CwdProbe", "UmaskProbe"]

_CWD: Final = "os.getcwd()"
_UMASK: Final = "os.umask()"


class _Folder:
    """The working directory, held open so that it can be returned to whatever its name is now.

    The descriptor is ours for as long as the snapshot lives (close-on-exec, and
    where possible good for nothing but returning).
    """

    __slots__ = ("_identity", "descriptor", "path")

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.descriptor = -1
        self._identity: tuple[int, int] | None = None
        flags = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
        if hasattr(os, "fchdir"):
            try:
                self.descriptor = os.open(".", flags)
                status = os.fstat(self.descriptor)
                self._identity = (status.st_dev, status.st_ino)
            except OSError:
                pass

    def is_open(self) -> bool:
        """Return whether the descriptor is still the one we opened."""
        # Code that closes ranges of descriptors has closed ours as well,
        # and its number may mean another file by now.
        try:
            status = os.fstat(self.descriptor)
        except (OSError, OverflowError):
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def enter(self) -> None:
        """Make this the working directory again."""
        if self.path is not None:
            try:
                os.chdir(self.path)
            except OSError:
                if not self.is_open():
                    raise
            else:
                return
        if not self.is_open():
            raise FileNotFoundError("the working directory was deleted before the barrier opened, and is not held open")
        os.fchdir(self.descriptor)

    def __del__(
        self, fstat: Callable[[int], os.stat_result] = os.fstat, close: Callable[[int], None] = os.close
    ) -> None:
        # At the end of the interpreter the module `os` may be gone already.
        if self._identity is not None:
            try:
                status = fstat(self.descriptor)
                if (status.st_dev, status.st_ino) == self._identity:
                    close(self.descriptor)
            except OSError:
                pass


class CwdProbe(KeyedProbe):
    """The working directory, also if it was deleted.

    Attributes:
        descriptors: the file descriptors the probe holds; an audit of
            descriptors must not report them.
    """

    kind = "cwd"
    code = "CWD001"
    cost = 0.6

    def __init__(self) -> None:
        self._last: _Folder | None = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        return () if self._last is None else (self._last.descriptor,)

    def capture(self) -> Any:
        try:
            path: str | None = os.getcwd()
        except OSError:
            path = None
        last = self._last
        if last is None or last.path != path:
            self._last = last = _Folder(path)
        return last

    def guard(self) -> Guard:
        return Guard((os.getcwd,))

    def entries(self, snapshot: Any) -> Mapping[Hashable, Any]:
        return {_CWD: snapshot} if isinstance(snapshot, _Folder) else snapshot

    def unchanged(self, key: Hashable, one: Any, other: Any) -> bool:
        return isinstance(one, _Folder) and isinstance(other, _Folder) and one.path == other.path

    def restore(self, key: Hashable, value: Any) -> None:
        value.enter()

    def describe(self, key: Hashable) -> str:
        return _CWD

    def render(self, key: Hashable, value: Any) -> str:
        if value is MISSING:
            return repr(MISSING)
        return repr(value.path) if value.path is not None else "<deleted folder>"


class UmaskProbe(KeyedProbe):
    """The mask of permission bits new files do not get.

    The only way to read it is to set it. Setting it to its last known value
    opens no window for other threads as long as it did not change.
    """

    kind = "umask"
    code = "CWD002"
    cost = 0.2

    def __init__(self) -> None:
        self._last: dict[str, int] | None = None
        self._lock = threading.Lock()

    def capture(self) -> Any:
        with self._lock:
            last = self._last
            guess = 0o077 if last is None else last[_UMASK]
            mask = os.umask(guess)
            if mask != guess:
                os.umask(mask)
            if last is None or mask != guess:
                self._last = last = {_UMASK: mask}
            return last

    def restore(self, key: Hashable, value: Any) -> None:
        os.umask(value)

    def describe(self, key: Hashable) -> str:
        return _UMASK

    def render(self, key: Hashable, value: Any) -> str:
        return f"{value:#05o}"
