"""Process that runs one embedded server, and ends it and its folder when the last user is gone.

It is started as a script with the standard library only. Every process that uses the
server keeps a connection to the control socket open; the kernel closes it whatever
ends that process, a SIGKILL included.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any, Final

__all__: list[str] = []

GRACE: Final = 1.0  # seconds without a user before the server ends: a worker that crashed is replaced meanwhile
FIRST: Final = 60.0  # seconds for the first user to come
PATIENCE: Final = 5.0  # seconds for the server to end by itself
_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Run the server that the description on standard input asks for."""
    spec = json.load(sys.stdin)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener, address = _listen(spec["folder"])
    with open(spec["log"], "ab") as log:
        server = _start(spec, log)
    try:
        _write(spec, {"control": address, "supervisor": os.getpid(), "server": server.pid})
        sys.stdout.write(json.dumps({"control": address, "server": server.pid}) + "\n")
        sys.stdout.flush()
        # Readers that wait for the end of our output wait no longer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _serve(listener, server)
    finally:
        _forget(spec)
        listener.close()
        _end(server, spec["stop"])
        shutil.rmtree(spec["folder"], ignore_errors=True)


def _listen(folder: str) -> tuple[socket.socket, Any]:
    if hasattr(socket, "AF_UNIX"):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = os.path.join(folder, "control")
        listener.bind(path)
        address: Any = path
    else:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1", 0))
        address = listener.getsockname()
    listener.listen(64)
    return listener, address


def _start(spec: dict[str, Any], log: Any) -> subprocess.Popen[bytes]:
    user = spec["user"]
    return subprocess.Popen(  # noqa: S603 - the command comes from this package
        spec["argv"],
        env={**os.environ, **spec["env"]},
        cwd=spec["folder"],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - there is one thread
        user=user and user[0],
        group=user and user[1],
        extra_groups=user and [],
    )


def _die_with_parent() -> None:
    # After the change of user, which clears it. SIGQUIT: database servers end at once.
    # A run that a shell started in the background has it ignored, and so would its children.
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _write(spec: dict[str, Any], facts: dict[str, Any]) -> None:
    temporary = spec["state"] + ".new"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(facts, file)
    os.replace(temporary, spec["state"])


def _forget(spec: dict[str, Any]) -> None:
    """Remove the record of this server, unless another one has replaced it."""
    with contextlib.suppress(OSError, ValueError), open(spec["pointer"], encoding="utf-8") as file:
        if json.load(file)["folder"] == spec["folder"]:
            os.unlink(spec["pointer"])


def _serve(listener: socket.socket, server: subprocess.Popen[bytes]) -> None:
    """Return when the server has no users any more, or when it has ended."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    users: set[socket.socket] = set()
    alone_until: float | None = time.monotonic() + FIRST
    while server.poll() is None:
        left = 0.25 if alone_until is None else min(max(alone_until - time.monotonic(), 0), 0.25)
        for key, _ in selector.select(left):
            if key.fileobj is listener:
                user, _ = listener.accept()
                user.sendall(b"here\n")
                users.add(user)
                selector.register(user, selectors.EVENT_READ)
                alone_until = None
                continue
            assert isinstance(key.fileobj, socket.socket)
            user = key.fileobj
            gone = True
            with contextlib.suppress(OSError):
                gone = not user.recv(1024)
            if gone:
                selector.unregister(user)
                user.close()
                users.discard(user)
                if not users:
                    alone_until = time.monotonic() + GRACE
        if not users and alone_until is not None and time.monotonic() >= alone_until:
            return


def _end(server: subprocess.Popen[bytes], stop: int) -> None:
    if server.poll() is None:
        server.send_signal(stop)
        try:
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()
    server.wait()


if __name__ == "__main__":
    main()
