"""Entry module of the plugin: options, marker, and the decision to do anything at all.

pytest imports this module in every run in which the package is installed, also
those with ``--isolation=off``. It therefore imports nothing but the standard
library and pytest; everything else comes in when a run is really isolated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from isolation_core.barrier import Barrier

__all__: list[str] = []

pytest_plugins = ("isolation_pytest._services",)

_MARKER = (
    "isolation(mode=None, group=None, ignore=()): how the isolation barrier treats this test: "
    "mode 'off', 'report', 'restore' or 'strict'; its isolation group; 'kind:path-glob' patterns to leave alone"
)
_SERVICES = (
    "services(*names, install=False, virtual_time=False): the service doubles this test uses, connected by the test; "
    "install: put them where the code under test makes its own clients; virtual_time: True, or the date it begins"
)
_INI = (
    ("isolation", "string", "mode of isolation-core: off, report, restore (default) or strict"),
    ("isolation_packages", "args", "packages whose module state is watched deeply"),
    ("isolation_ignore", "linelist", "kind:path-glob patterns of changes neither reported nor undone"),
    ("isolation_baseline", "string", "file of findings that are known and tolerated, relative to the rootdir"),
    ("isolation_journal", "string", "file (.jsonl) or folder the journal is written to"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options; the same names with underscores work in the configuration file."""
    group = parser.getgroup("isolation", "isolation of tests from each other (isolation-core)")
    group.addoption(
        "--isolation",
        choices=("off", "report", "restore", "strict"),
        default=None,
        help="off: do nothing; report: name what tests leave behind; restore: put it back (default); "
        "strict: put it back and fail the test",
    )
    group.addoption(
        "--isolation-packages",
        action="append",
        metavar="NAMES",
        help="comma-separated packages whose module state is watched deeply (default: what lies under rootdir)",
    )
    group.addoption(
        "--isolation-ignore",
        action="append",
        metavar="KIND:GLOB",
        help="changes neither reported nor undone, such as 'environ:TZ' or 'module:app.cache*'; repeatable",
    )
    group.addoption("--isolation-journal", metavar="PATH", help="write the journal to this .jsonl file or folder")
    group.addoption(
        "--isolation-baseline",
        metavar="FILE",
        help="file of findings that are known: only new ones are listed, or fail",
    )
    group.addoption(
        "--isolation-baseline-update",
        action="store_true",
        help="write what this run finds to the file of --isolation-baseline, instead of what was in it",
    )
    for name, kind, text in _INI:
        parser.addini(name, text, type=kind, default=None)  # type: ignore[arg-type]


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and the session's plugin unless isolation is off."""
    config.addinivalue_line("markers", _MARKER)
    config.addinivalue_line("markers", _SERVICES)
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        from isolation_pytest._relay import FixtureReports

        config.pluginmanager.register(FixtureReports(config), "isolation-fixture-reports")
    option = config.getoption("--isolation") or config.getini("isolation")
    if option == "off":
        return
    from isolation_pytest._session import start

    start(config, option or None)


@pytest.fixture
def isolation(request: pytest.FixtureRequest) -> Iterator[Barrier]:
    """The isolation barrier around this test; with ``--isolation=off`` one that only cleans up and owns mocks."""
    session = request.config.pluginmanager.get_plugin("isolation-session")
    barrier = None if session is None else session.function_barrier
    if barrier is not None:
        yield barrier
        return
    from isolation_core.barrier import isolation_barrier

    with isolation_barrier(mode="off", owner=request.node.nodeid, scope="function", packages=()) as barrier:
        yield barrier


@pytest.fixture
def isolated_mock(isolation: Barrier) -> Callable[..., object]:
    """Factory of isolated AsyncMocks that belong to this test: ``isolated_mock(spec, **configure)``."""
    return isolation.mock
