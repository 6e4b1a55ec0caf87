"""Every check, demo and measurement of the project: ``nox -l`` lists them, ``nox -s NAME`` runs one.

Works under any Python that can run nox; each session installs its tools into an environment of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"  # the suite runs on what is installed; nothing is fetched unasked
nox.options.error_on_missing_interpreters = False  # also under CI: one interpreter is enough to run the suite
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "lint", "typing"]

ROOT = Path(__file__).resolve().parent
PROJECT = nox.project.load_toml("pyproject.toml")
SUPPORTED = nox.project.python_versions(PROJECT)  # written once, in the classifiers
SOURCE = ("isolation_core", "adapters")  # what must be out of the way when the wheel is tested


def _group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PROJECT, name)


def _wake_pyenv_shims() -> None:
    # A shim of pyenv answers only for the versions that PYENV_VERSION names; the others look installed and fail.
    if not (pyenv := shutil.which("pyenv")):
        return
    listed = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True, check=False).stdout.split()
    newest = [next((v for v in reversed(listed) if v.startswith(f"{minor}.")), None) for minor in SUPPORTED]
    chosen = [*os.environ.get("PYENV_VERSION", "").split(":"), *filter(None, newest)]
    os.environ["PYENV_VERSION"] = ":".join(dict.fromkeys(filter(None, chosen)))


def _add_cached_interpreters() -> None:
    # Interpreters that are newer than the system's can be unpacked into the user's cache folder.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if (folder := cache / "newer-pythons" / "bin").is_dir():
        os.environ["PATH"] += os.pathsep + str(folder)


def _interpreters() -> list[str]:
    """Return the versions `tests` runs on: the oldest and the newest that is installed, or all of them if asked."""
    options, _, rest = " ".join(sys.argv[1:]).partition(" -- ")
    by_name = any(word.startswith(("-l", "-p", "-P", "--list", "--python", "tests-")) for word in options.split())
    running = "{}.{}".format(*sys.version_info)
    installed = [minor for minor in SUPPORTED if minor == running or shutil.which(f"python{minor}")]
    if by_name or "--all" in rest.split() or not installed:
        return SUPPORTED
    return list(dict.fromkeys((installed[0], installed[-1])))


_wake_pyenv_shims()
_add_cached_interpreters()


def _source(folder: str | os.PathLike[str], names: list[str]) -> set[str]:
    return {name for name in names if name in SOURCE and Path(folder) == ROOT}


@nox.session
def demo(session: nox.Session) -> None:
    """Run the polluted suite without isolation, reporting, and restoring."""
    session.install("-q", ".[pytest]")
    session.run("python", "examples/demo.py", *session.posargs)


@nox.session(python=_interpreters())
def tests(session: nox.Session) -> None:
    """Run the suite on the oldest and the newest interpreter there is (``-- --all``: on every supported one)."""
    session.log("Installing the project and its test tools, then about two minutes of tests on two cores.")
    session.install("-q", ".[pytest]", *_group("tests"))
    # Most of the suite is pytest inside pytest, in processes of its own: two of them at a time halve the wait.
    session.run("pytest", "-n", "auto", *(word for word in session.posargs if word != "--all"))


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure which lines the suite runs, child processes included, and fail below the figure in pyproject.toml."""
    session.install("-q", "-e", ".[pytest]", *_group("tests"), *_group("coverage"))
    session.run("coverage", "erase")
    # The source is read where it is, so the editable install: paths of workers and children need no mapping.
    session.run("coverage", "run", "-m", "pytest", "-n", "auto", *session.posargs)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report", "--skip-covered")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, spelling, plain words, and the fragments of the changelog."""
    session.install("-q", *_group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")
    # Tests misspell names on purpose, in strings and calls, to see what is suggested.
    session.run("codespell", "--ignore-regex", r"(?<!\")\"(?!\")[^\"\n]*\"|`[^`\n]*`|\.\w+|\w+(?=[=.(])", "tests")
    session.run("python", ".ci/words.py")
    session.run("towncrier", "build", "--draft", "--version", "next", silent=True)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site of the documentation into build/site; a warning is an error (``-- serve`` shows it live)."""
    session.install("-q", "-e", ".", *_group("docs"))
    session.run("zensical", *(session.posargs or ("build", "--strict", "--clean")))


@nox.session
def typing(session: nox.Session) -> None:
    """Check types with two checkers, those of the public API in tests/typing included."""
    session.install("-q", "-e", ".[pytest]", *_group("typing"))
    session.run("mypy")
    session.run("pyright")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel by way of the source archive, look inside, and run tests against it, far from the source."""
    away = Path(session.create_tmp()).resolve()
    shutil.rmtree(away)
    away.mkdir()
    session.install("-q", "build", "check-wheel-contents")
    session.run("python", "-m", "build", "--outdir", str(away / "dist"), silent=True)
    (built,) = (away / "dist").glob("*.whl")
    session.run("check-wheel-contents", str(built))

    fresh = away / "fresh"
    session.run("python", "-m", "venv", str(fresh))
    python = str(fresh / "bin" / "python")
    install = ("-m", "pip", "install", "-q", "--disable-pip-version-check")
    session.run(python, *install, f"{built}[pytest]", *_group("tests"), external=True)
    hidden = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(ROOT, away / "elsewhere", ignore=lambda at, names: hidden(at, names) | _source(at, names))
    session.chdir(away / "elsewhere")
    # What packaging can break: names, data files, entry points, the doors. The rest ran in `tests`.
    names = ("test_public_api", "test_barrier", "test_config", "examples/test_examples", "mocks/test_registry")
    chosen = [f"tests/{name}.py" for name in names]
    session.run(python, "-m", "pytest", *(session.posargs or chosen), external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what isolation costs, beside plain pytest and its peers (``-- --quick`` for a smoke run)."""
    session.install("-q", ".[pytest]")
    session.run("python", "-m", "benchmarks.bench_plugin", *session.posargs)
    session.run("python", "-m", "benchmarks.bench_barrier", *(flag for flag in session.posargs if flag == "--quick"))


@nox.session
def faults(session: nox.Session) -> None:
    """Inject every fault and every pair of faults into a graph of twelve fixtures (``-- --part 1/20`` for a part)."""
    session.install("-q", ".", "trio")
    session.run("python", "-m", "benchmarks.fixture_faults", *session.posargs)


@nox.session
def realworld(session: nox.Session) -> None:
    """Run recorded order-dependent tests of real projects without and with isolation (``-- NAME`` for one project)."""
    session.install("-q", "attrs")
    session.run("python", "-m", "benchmarks.realworld", *session.posargs)


@nox.session
def noharm(session: nox.Session) -> None:
    """Run whole healthy suites of real projects without and with isolation and compare (``-- NAME`` for one)."""
    session.install("-q", "attrs")
    session.run("python", "-m", "benchmarks.no_harm", *session.posargs)
