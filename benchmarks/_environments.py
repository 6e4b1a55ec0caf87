"""Cached virtual environments and source trees for suites that are not ours.

Everything lands under ``.realworld/`` in the checkout: ``envs/`` (one virtual
environment per project), ``sdists/`` (as downloaded), ``trees/`` (unpacked,
fresh for every run, because suites write into their own tree), ``wheel/``.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypedDict

from attrs import frozen

__all__ = [
    "CACHE",
    "ROOT",
    "Environment",
    "Observed",
    "Run",
    "fetch_sdist",
    "find_python",
    "make_environment",
    "run",
    "unpack",
]

ROOT: Final = Path(__file__).resolve().parents[1]
CACHE: Final = (ROOT / ".realworld").resolve()  # pytest compares resolved paths
_DRIVER: Final = Path(__file__).with_name("_driver.py")


def run(command: Sequence[str | Path], *, cwd: Path | None = None, timeout: float = 1200.0) -> str:
    """Run *command* to its end and return what it printed.

    Raises:
        SystemExit: if it fails; the message holds the command and its last lines.
    """
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise SystemExit(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{tail}")
    return done.stdout


@functools.cache
def find_python(version: str) -> str:
    """Return an interpreter of *version* (``"3.11"``): ours, one on PATH, or one of pyenv's.

    Raises:
        SystemExit: if there is none.
    """
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on_path = shutil.which(f"python{version}")
    managed = sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python")), reverse=True)
    for candidate in [on_path, *managed] if on_path else managed:
        # A shim on PATH may exist without an interpreter behind it: only an answer counts.
        answer = subprocess.run([candidate, "-c", "print('here')"], capture_output=True, text=True, check=False)
        if answer.stdout.strip() == "here":
            return candidate
    raise SystemExit(f"no Python {version} found: put python{version} on PATH (the recorded verdicts hold for it)")


@frozen
class Environment:
    """A virtual environment of the cache."""

    path: Path

    @property
    def python(self) -> Path:
        """The interpreter inside."""
        return self.path / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

    def install_checkout(self) -> None:
        """Install the wheel of this checkout, unless that very wheel is there already."""
        wheel = _checkout_wheel()
        stamp = self.path / "checkout.txt"
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if stamp.exists() and stamp.read_text() == digest:
            return
        run([self.python, "-m", "pip", "install", "-q", wheel])
        run([self.python, "-m", "pip", "install", "-q", "--force-reinstall", "--no-deps", wheel])
        stamp.write_text(digest)

    def remove_checkout(self) -> None:
        """Uninstall this checkout, if it is installed."""
        stamp = self.path / "checkout.txt"
        if stamp.exists():
            stamp.unlink()
            run([self.python, "-m", "pip", "uninstall", "-q", "-y", "isolation-core"])

    def pytest(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        times: int = 1,
        shuffle: int | None = None,
        autoload: bool = False,
        hooks_between: bool = True,
        variables: Mapping[str, str] | None = None,
        timeout: float = 1200.0,
    ) -> Observed:
        """Run pytest with *arguments* inside and return what was seen.

        Args:
            arguments: of pytest; ``{run}`` becomes the number of the run.
            cwd: where to run.
            times: how often, in one process.
            shuffle: seed of a random order of the tests.
            hooks_between: whether what observes may hook in between two tests, to see messages and phases.
            autoload: load the plugins that are installed; else only those named in *arguments* take part.
            variables: set in the environment.
            timeout: seconds until the process is ended.
        """
        observations = CACHE / f"observed-{os.getpid()}.json"
        observations.unlink(missing_ok=True)
        command = [str(self.python), str(_DRIVER), str(observations), str(times), str(shuffle or "")]
        command += ["between" if hooks_between else "during", *arguments]
        surroundings = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON", "NOX", "COV"))}
        surroundings |= ({} if autoload else {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}) | dict(variables or {})
        try:
            done = subprocess.run(
                command,
                cwd=cwd,
                env=surroundings,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
            output = done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            output = f"still running after {timeout:.0f} s, ended"
        runs = json.loads(observations.read_text()) if observations.exists() else []
        observations.unlink(missing_ok=True)
        return Observed(runs, output)


class Run(TypedDict):
    """One call of ``pytest.main``, as ``_driver.py`` writes it; clocks in seconds of CPU of the process."""

    exit: int
    outcomes: dict[str, str]
    messages: dict[str, str]
    uncollected: list[str]
    starts: list[float]
    cpu: float
    children: float
    wall: float


@frozen
class Observed:
    """What one process of `Environment.pytest` did: its runs, and its output."""

    runs: list[Run]
    output: str

    @property
    def outcomes(self) -> dict[str, str]:
        """The outcome of each test in the last run."""
        return self.runs[-1]["outcomes"] if self.runs else {}


@functools.cache
def _checkout_wheel() -> Path:
    # One for each process that measures: another one may be building at the same time.
    target = CACHE / "wheel" / str(os.getpid())
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", target, ROOT])
    (wheel,) = target.glob("*.whl")
    return wheel


def make_environment(name: str, requirements: Sequence[str], *, python: str) -> Environment:
    """Return the virtual environment *name* with exactly *requirements*, made if it is not in the cache."""
    environment = Environment(CACHE / "envs" / name)
    wanted = json.dumps([python, sorted(requirements)])
    stamp = environment.path / "requirements.json"
    if not (stamp.exists() and stamp.read_text() == wanted):
        shutil.rmtree(environment.path, ignore_errors=True)
        run([find_python(python), "-m", "venv", environment.path])
        run([environment.python, "-m", "pip", "install", "-q", *requirements])
        stamp.write_text(wanted)
    return environment


def fetch_sdist(requirement: str) -> Path:
    """Return the source archive of *requirement* (``"name==1.0"``), downloaded by pip once."""
    target = CACHE / "sdists" / requirement
    if not list(target.glob("*.tar.gz")):
        # pip prepares metadata even for a mere download, which old projects only survive with a recent pip.
        fetcher = make_environment("fetch", ["pip>=25.1"], python=f"{sys.version_info.major}.{sys.version_info.minor}")
        run(
            [fetcher.python, "-m", "pip", "download", "-q", "--no-deps", "--no-binary=:all:", "-d", target, requirement]
        )
    (archive,) = target.glob("*.tar.gz")
    return archive


def unpack(archive: Path, label: str) -> Path:
    """Unpack *archive* into a fresh tree named *label* and return the project's folder inside."""
    target = CACHE / "trees" / label
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tarfile.open(archive) as opened:
        opened.extractall(target, filter="data")
    # pytest looks for its configuration in all parents: stop it before it finds that of this checkout.
    (CACHE / "pytest.ini").write_text("[pytest]\n")
    (project,) = (entry for entry in target.iterdir() if entry.is_dir())
    return project
