"""Embedded servers: shared by processes, gone with the last of them, one clear error when they do not start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the servers of these tests listen on a socket in a folder")

SERVER = """
import os, socket, sys
from pathlib import Path
from isolation_core.services._embedded import Launch

CODE = "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); time.sleep(600)"

def prepare(folder):
    path = str(folder / "socket")
    return Launch(argv=(sys.executable, "-c", CODE, path), address={"path": path}, ready=lambda: os.path.exists(path))

def broken(folder):
    return Launch(
        argv=(sys.executable, "-c", "raise SystemExit('no room left on the planet')"),
        address={}, ready=lambda: False,
    )
"""

USER = """
import json, sys, time
from isolation_core.services._embedded import embedded_server
server = embedded_server("toy", "toy_server:" + sys.argv[1])
print(json.dumps({"pid": server.pid, "folder": str(server.folder), "path": server.address["path"]}), flush=True)
sys.stdin.readline()
"""


class Users:
    """Processes that use the server."""

    def __init__(self, tmp_path: Path) -> None:
        (tmp_path / "toy_server.py").write_text(SERVER)
        # Short, for the sockets in it.
        self.place = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
        self.place.chmod(0o711)  # as root, servers get a place that every user can reach
        path = os.pathsep.join([str(tmp_path), *sys.path])
        self.environ = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(self.place)}
        self.started: list[subprocess.Popen[str]] = []

    def start(self, function: str = "prepare") -> tuple[subprocess.Popen[str], dict[str, Any]]:
        """Start one, and return what it says."""
        user = subprocess.Popen(
            [sys.executable, "-c", USER, function],
            env=self.environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(user)
        assert user.stdout is not None
        line = user.stdout.readline()
        return user, json.loads(line) if line else {}

    def folders(self) -> list[Path]:
        """Return what is left of servers."""
        return [each for each in self.place.glob("isolation-core-*/*") if each.name != "lock"]


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Users]:
    """Processes that use the server, ended at the end."""
    made = Users(tmp_path)
    yield made
    for each in made.started:
        each.kill()
        each.communicate()
    eventually(lambda: made.folders() == [])
    subprocess.run(["rm", "-rf", str(made.place)])


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for *condition*."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def runs(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        os.kill(pid, 0)
        return True


def test_processes_share_one_server(users: Users) -> None:
    """A second process gets the server of the first, which stays until both are gone."""
    first, one = users.start()
    second, two = users.start()
    assert one == two
    first.communicate("\n")
    time.sleep(1.5)  # longer than the supervisor waits for another user
    assert runs(one["pid"]) and Path(one["path"]).exists()
    second.communicate("\n")
    eventually(lambda: not runs(one["pid"]) and users.folders() == [])


def test_nothing_is_left_after_sigkill_of_the_user(users: Users) -> None:
    """Server, supervisor and folder are gone although the process that used them had no chance to say so."""
    user, facts = users.start()
    user.kill()
    eventually(lambda: not runs(facts["pid"]) and users.folders() == [])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start ends the server")
def test_the_next_start_removes_what_a_killed_supervisor_left(users: Users) -> None:
    """A killed supervisor takes the server along; its folder goes at the next start, which gets a new server."""
    _, facts = users.start()
    state = json.loads((Path(facts["folder"]) / "state.json").read_text())
    os.kill(state["supervisor"], signal.SIGKILL)
    eventually(lambda: not runs(facts["pid"]))
    assert Path(facts["folder"]).exists()
    _, other = users.start()
    assert other["folder"] != facts["folder"]
    assert not Path(facts["folder"]).exists()


def test_a_server_that_does_not_start_is_one_clear_error(users: Users) -> None:
    """The error shows what the server wrote and says what else can be done; nothing is left."""
    user, facts = users.start("broken")
    _, errors = user.communicate("\n")
    assert facts == {}
    last = errors[errors.index("ServiceStartError") :]
    assert "no room left on the planet" in last
    assert "ISOLATION_CORE_TOY=virtual" in last
    eventually(lambda: users.folders() == [])


def test_the_folder_is_private(users: Users) -> None:
    """Other users can neither list the folder of the servers nor enter one."""
    _, facts = users.start()
    private = Path(facts["path"]).parent
    assert private.stat().st_mode & 0o077 == 0
    assert private.parent.parent.stat().st_mode & 0o066 == 0
