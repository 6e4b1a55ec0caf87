"""Real resources under the barrier: files, databases, anything a test gets a share of that has to be clean again."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import tempfile
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from isolation_core._suggest import did_you_mean
from isolation_core.errors import ConfigurationError

__all__ = ["Folder", "Resource", "namespace_name", "register_resource", "resource_named", "unregister_resource"]

T = TypeVar("T")


class Resource(ABC, Generic[T]):
    """A kind of real thing; derive from it for one of your own, and give it to `register_resource`.

    A share is acquired once in a process and used by one barrier after another: at the end of each it is reset,
    and compared with what it was like when it was new. A share that cannot be brought back is released and
    reported, and the next barrier gets a new one.
    """

    @abstractmethod
    def acquire(self, namespace: str) -> T:
        """Return a share for exclusive use.

        Args:
            namespace: a name for it, different for each worker and share, made of letters, digits and ``_``.
        """

    @abstractmethod
    def fingerprint(self, share: T) -> object:
        """Return what *share* is like, for comparison with ``==``."""

    @abstractmethod
    def reset(self, share: T) -> None:
        """Bring *share* back to how it was when it was acquired."""

    def verify(self, share: T, clean: object) -> str:
        """Return how *share* differs from what it was like when it was *clean*; empty if it does not."""
        found = self.fingerprint(share)
        return "" if found == clean else f"it is {found!r} after the reset, and was {clean!r}"

    @abstractmethod
    def release(self, share: T) -> None:
        """Give *share* up: the process ends, or it could not be reset."""


def namespace_name(owner: str, *, worker: str | None = None, limit: int = 48) -> str:
    """Return a name for what belongs to *owner*: the same in every run, different for each owner and worker.

    Args:
        owner: usually a test id.
        worker: of pytest-xdist; None: that of this process.
        limit: how long it may be.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main") if worker is None else worker
    digest = hashlib.blake2b(f"{worker}\0{owner}".encode(), digest_size=5).hexdigest()
    words = re.sub(r"\W+", "_", owner.rpartition("/")[2].lower(), flags=re.ASCII).strip("_")
    return f"{words[: limit - len(worker) - len(digest) - 2]}_{worker}_{digest}".lstrip("_")


class Folder(Resource[Path]):
    """A folder with the content of *template*, empty by default.

    Args:
        template: a folder whose content every test finds.
    """

    def __init__(self, template: str | os.PathLike[str] | None = None) -> None:
        self._template = None if template is None else Path(template)

    def acquire(self, namespace: str) -> Path:
        """Return a new folder."""
        share = Path(tempfile.mkdtemp(prefix=f"{namespace}-"))
        self._fill(share)
        return share

    def _fill(self, share: Path) -> None:
        if self._template is not None:
            shutil.copytree(self._template, share, symlinks=True, dirs_exist_ok=True)

    def fingerprint(self, share: Path) -> object:
        """Return names, kinds, modes and content of everything in it."""
        found = []
        for folder, folders, files in os.walk(share):
            for name in (*folders, *files):
                path = Path(folder, name)
                mode = path.lstat().st_mode
                if path.is_symlink():
                    content = os.readlink(path)
                else:
                    content = hashlib.blake2b(path.read_bytes()).hexdigest() if path.is_file() else ""
                found.append((str(path.relative_to(share)), mode, content))
        return tuple(sorted(found))

    def reset(self, share: Path) -> None:
        """Empty it and fill it anew, also when a test has removed it."""
        shutil.rmtree(share, ignore_errors=True)
        share.mkdir(mode=0o700, exist_ok=True)
        self._fill(share)

    def release(self, share: Path) -> None:
        """Remove it."""
        shutil.rmtree(share, ignore_errors=True)


class Shares(Generic[T]):
    """The shares of one resource in this process: those that are clean wait for the next barrier.

    Args:
        name: of the resource.
        resource: what makes them.
    """

    def __init__(self, name: str, resource: Resource[T]) -> None:
        self.name = name
        self.resource = resource
        self._free: list[tuple[T, object]] = []
        self._made = 0
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def take(self) -> tuple[T, object]:
        """Return a clean share and its fingerprint."""
        with self._lock:
            if self._pid != os.getpid():  # forked: the shares are those of the parent
                self._free, self._pid = [], os.getpid()
            if self._free:
                return self._free.pop()
            self._made += 1
            number = self._made
        share = self.resource.acquire(namespace_name(f"{self.name}_{number}"))
        return share, self.resource.fingerprint(share)

    def give_back(self, share: T, clean: object) -> str:
        """Reset *share* and keep it; return what is wrong with it if that did not help."""
        try:
            self.resource.reset(share)
            wrong = self.resource.verify(share, clean)
        except Exception as error:
            wrong = f"it could not be reset: {type(error).__name__}: {error}"
        if wrong:
            self.resource.release(share)
        else:
            with self._lock:
                self._free.append((share, clean))
        return wrong

    def release_all(self) -> None:
        """Give up unused shares."""
        with self._lock:
            free, self._free = self._free, []
        if self._pid == os.getpid():
            for share, _ in free:
                self.resource.release(share)


_registered: Final[dict[str, Shares[Any]]] = {}


def register_resource(name: str, resource: Resource[Any]) -> None:
    """Make a real resource available by *name* to every barrier: ``barrier.services.resource(name)``.

    A later registration under the same name replaces the earlier one.

    Args:
        name: what to ask for.
        resource: a `Folder`, or one of your own.

    Raises:
        ConfigurationError: if it is no `Resource`.
    """
    if not isinstance(resource, Resource):
        raise ConfigurationError(
            f"{resource!r} is no resource: derive from isolation_core.services.Resource, or give a Folder",
            name="resource",
            value=resource,
        )
    unregister_resource(name)
    if not _registered:
        atexit.register(_release_all)
    _registered[name] = Shares(name, resource)


def unregister_resource(name: str) -> None:
    """Remove a registration and release unused shares. Unknown names are ignored."""
    shares = _registered.pop(name, None)
    if shares is not None:
        shares.release_all()


def resource_named(name: str) -> Shares[Any]:
    """Return the shares of the resource *name*.

    Raises:
        ConfigurationError: with a did-you-mean.
    """
    found = _registered.get(name)
    if found is None:
        raise ConfigurationError(
            f"no resource is called {name!r}; register it with register_resource({name!r}, ...)"
            f"{did_you_mean(name, _registered, before='; ')}",
            name="resource",
            value=name,
        )
    return found


def _release_all() -> None:
    for shares in _registered.values():
        shares.release_all()
