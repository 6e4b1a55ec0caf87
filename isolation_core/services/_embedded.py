"""Embedded servers: started on first use, shared by the processes of this user, gone with the last of them.

A supervisor process, which is not a child of the test run, runs each server in a private
folder. A process that uses the server holds a connection to its supervisor. The next
start removes what a supervisor that was killed has left.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from attrs import field, frozen

from isolation_core.errors import ServiceStartError

__all__ = ["EmbeddedServer", "Launch", "embedded_server", "open_to_all", "unprivileged_user"]

START_TIMEOUT: Final = 60.0
_SUPERVISOR: Final = os.path.join(os.path.dirname(__file__), "_supervisor.py")


@frozen(kw_only=True)
class Launch:
    """How to start a server; the result of the *prepare* function of a service.

    Attributes:
        argv: the command.
        address: the data that clients need, as JSON values.
        ready: returns whether the server takes connections; called until it does.
        env: variables added to the environment.
        stop: the signal that ends the server.
        user: user and group to run as; None: as this process.
    """

    argv: tuple[str, ...]
    address: Mapping[str, Any]
    ready: Callable[[], bool]
    env: Mapping[str, str] = field(factory=dict)
    stop: int = signal.SIGTERM
    user: tuple[int, int] | None = None


@frozen
class EmbeddedServer:
    """A running server.

    Attributes:
        service: the service.
        address: what clients need.
        folder: its private folder, removed when it ends.
        pid: the number of its process.
    """

    service: str
    address: Mapping[str, Any]
    folder: Path
    pid: int
    _control: socket.socket = field(repr=False, eq=False)

    def is_alive(self) -> bool:
        """Return whether the server still runs: its supervisor keeps the connection open that long."""
        try:
            self._control.setblocking(False)  # noqa: FBT003 - the signature of the standard library
            return bool(self._control.recv(16, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def leave(self) -> None:
        """Stop using the server; it ends soon without other users. Only for users that end before the process does."""
        self._control.close()


_running: Final[dict[tuple[int, str, str], EmbeddedServer]] = {}
_lock: Final = threading.RLock()


def embedded_server(service: str, prepare: str) -> EmbeddedServer:
    """Return the server of *service*, started if it does not run yet. Blocks until it takes connections.

    Args:
        service: the service.
        prepare: ``"module:function"``, called as ``function(folder)`` with a private, empty folder, to return
            a `Launch`. Processes that name the same function of the same file share the server.

    Raises:
        ServiceStartError: with the reason and the end of the server's log.
    """
    key = os.getpid(), service, prepare
    with _lock:
        found = _running.get(key)
        if found is not None and found.is_alive():
            return found
        try:
            base = _base()
            with _locked(base):
                found = _join(base, service, prepare) or _start(base, service, prepare)
        except OSError as error:
            raise ServiceStartError(service, f"{type(error).__name__}: {error}") from error
        if not _running:
            atexit.register(_leave_all)
        _running[key] = found
        return found


def _leave_all() -> None:
    for server in _running.values():
        server.leave()


def unprivileged_user() -> tuple[int, int] | None:
    """Return user and group of ``nobody`` for a server that does not run as root; None if we are not root."""
    if os.name == "nt" or os.geteuid() != 0:
        return None
    import pwd

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return 65534, 65534
    return entry.pw_uid, entry.pw_gid


def open_to_all(path: str | os.PathLike[str]) -> bool:
    """Return whether every user can reach *path*."""
    whole = Path(path).resolve()
    return all(folder.stat().st_mode & 0o001 for folder in (whole, *whole.parents))


# -- where ---------------------------------------------------------------------------


def _base() -> Path:
    """Return the folder of this user's servers, to which no other user can write."""
    if os.name == "nt":
        base = Path(tempfile.gettempdir()) / "isolation-core"
        base.mkdir(exist_ok=True)
        return base
    root = os.geteuid() == 0
    place = Path(tempfile.gettempdir())
    if root and not open_to_all(place):
        place = Path("/tmp")  # noqa: S108 - a server that runs as an unprivileged user must reach its folder
    base = place / f"isolation-core-{os.geteuid()}"
    # Others may pass through, if the server is one of them, but see and change nothing.
    mode = 0o711 if root else 0o700
    with contextlib.suppress(FileExistsError):
        base.mkdir(mode)
    info = base.lstat()
    if info.st_uid != os.geteuid() or not base.is_dir() or base.is_symlink():
        raise PermissionError(f"{base} belongs to another user; remove it or set TMPDIR")
    base.chmod(mode)
    return base


@contextlib.contextmanager
def _locked(base: Path) -> Iterator[None]:
    """Let one process at a time start servers and clean up."""
    descriptor = os.open(base / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _pointer(base: Path, service: str, prepare: str) -> Path:
    """Return the file with the address of the running server."""
    module = importlib.import_module(prepare.partition(":")[0])
    said = [prepare, str(module.__file__), sys.prefix, *map(str, getattr(module, "SHARED_BY", ()))]
    fingerprint = hashlib.blake2b("\0".join(said).encode(), digest_size=6).hexdigest()
    return base / f"{service}-{fingerprint}.json"


# -- join a running one ----------------------------------------------------------------


def _join(base: Path, service: str, prepare: str) -> EmbeddedServer | None:
    """Return the server that another process has started; None if there is none."""
    try:
        facts = json.loads(_pointer(base, service, prepare).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    control = _connect(facts["control"])
    if control is None:
        return None
    return EmbeddedServer(service, facts["address"], Path(facts["folder"]), facts["server"], control)


def _connect(address: Any) -> socket.socket | None:
    """Return a connection to a supervisor; None if it is gone, or about to go."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    control = socket.socket(family, socket.SOCK_STREAM)
    try:
        control.settimeout(10)
        control.connect(address if isinstance(address, str) else tuple(address))
        if control.recv(5) == b"here\n":
            return control
    except OSError:
        pass
    control.close()
    return None


# -- start -----------------------------------------------------------------------------


def _start(base: Path, service: str, prepare: str) -> EmbeddedServer:
    _sweep(base)
    folder = Path(tempfile.mkdtemp(prefix=f"{service}-", dir=base))
    folder.chmod(0o711 if unprivileged_user() else 0o700)
    private = folder / "s"
    private.mkdir(0o700)
    pointer = _pointer(base, service, prepare)
    try:
        launch = _prepared(service, prepare, private)
        # Open from the start: a supervisor whose server fails removes the folder with the log.
        with open(folder / "log", "w+b") as log:
            facts = _supervise(service, folder, launch, log, pointer)
            server = EmbeddedServer(
                service, dict(launch.address), folder, facts["server"], _connect_first(service, facts, log)
            )
            _wait(server, launch, log)
    except BaseException:
        _end_left(folder)
        raise
    pointer.write_text(json.dumps({**facts, "folder": str(folder), "address": dict(launch.address)}), encoding="utf-8")
    return server


def _prepared(service: str, prepare: str, folder: Path) -> Launch:
    module, _, function = prepare.partition(":")
    try:
        launch: Launch = getattr(importlib.import_module(module), function)(folder)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or b"").decode(errors="replace")
        raise ServiceStartError(service, f"{os.path.basename(error.cmd[0])} failed", said) from error
    return launch


def _connect_first(service: str, facts: Mapping[str, Any], log: BinaryIO) -> socket.socket:
    control = _connect(facts["control"])
    if control is None:
        raise ServiceStartError(service, "the server ended at once", _tail(log))
    return control


def _supervise(service: str, folder: Path, launch: Launch, log: BinaryIO, pointer: Path) -> dict[str, Any]:
    spec = {
        "folder": str(folder), "log": str(folder / "log"), "state": str(folder / "state.json"),
        "pointer": str(pointer), "argv": list(launch.argv), "env": dict(launch.env), "stop": int(launch.stop),
        "user": launch.user,
    }  # fmt: skip
    # Forked once more, so that it is our child for a moment only and never one that is left behind.
    twice = f"import os, runpy; os.fork() and os._exit(0); runpy.run_path({_SUPERVISOR!r}, run_name='__main__')"
    starter = subprocess.Popen(  # noqa: S603 - this interpreter and a file of this package
        [sys.executable, "-I", *([_SUPERVISOR] if os.name == "nt" else ["-c", twice])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        cwd=folder,
        start_new_session=os.name != "nt",
        creationflags=getattr(subprocess, "DETACHED_PROCESS", 0),
    )
    assert starter.stdin is not None
    assert starter.stdout is not None
    with starter.stdin, starter.stdout:
        starter.stdin.write(json.dumps(spec).encode())
        starter.stdin.close()
        line = starter.stdout.readline()
    if os.name != "nt":
        starter.wait()
    if not line:
        raise ServiceStartError(service, "its supervisor did not start", _tail(log))
    facts: dict[str, Any] = json.loads(line)
    return facts


def _wait(server: EmbeddedServer, launch: Launch, log: BinaryIO) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not launch.ready():
        if not server.is_alive():
            raise ServiceStartError(server.service, "the server ended while it was starting", _tail(log))
        if time.monotonic() > deadline:
            server.leave()
            raise ServiceStartError(server.service, f"it took no connections within {START_TIMEOUT:g} s", _tail(log))
        time.sleep(0.01)


def _tail(log: BinaryIO) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")[-2000:]


# -- clean up --------------------------------------------------------------------------


def _sweep(base: Path) -> None:
    """Remove what supervisors that were killed, and starts that were, have left. Called under the lock."""
    for folder in base.iterdir():
        if not folder.is_dir():
            continue
        try:
            facts = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            facts = None
        if facts is not None and (control := _connect(facts["control"])) is not None:
            control.close()
            continue
        _end_left(folder)
    for pointer in base.glob("*.json"):
        with contextlib.suppress(OSError, ValueError):
            if not Path(json.loads(pointer.read_text(encoding="utf-8"))["folder"]).exists():
                pointer.unlink()


def _end_left(folder: Path) -> None:
    """End the server of *folder*, if it still runs, and remove the folder."""
    with contextlib.suppress(OSError, ValueError):
        facts = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if _runs_in(facts["server"], folder):
            os.kill(facts["server"], getattr(signal, "SIGQUIT", signal.SIGTERM))
            deadline = time.monotonic() + 5
            while _runs_in(facts["server"], folder) and time.monotonic() < deadline:
                time.sleep(0.02)
            if _runs_in(facts["server"], folder):
                os.kill(facts["server"], getattr(signal, "SIGKILL", signal.SIGTERM))
    shutil.rmtree(folder, ignore_errors=True)


def _runs_in(pid: int, folder: Path) -> bool:
    """Return whether process *pid* is a server of *folder*: its command names it, so the number was not given anew."""
    if os.name == "nt":
        return False
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes() if sys.platform == "linux" else _command_of(pid)
    except OSError:
        return False
    return os.fsencode(folder) in command


def _command_of(pid: int) -> bytes:
    command = ["/bin/ps", "-p", str(pid), "-o", "command="]
    return subprocess.run(command, capture_output=True, check=False).stdout  # noqa: S603 - fixed but for a number
