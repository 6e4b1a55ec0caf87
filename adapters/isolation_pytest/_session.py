"""The part of the plugin that lives for one isolated test session."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Final

import pytest

from isolation_core import isolation_barrier
from isolation_core.barrier import Barrier
from isolation_core.config import Settings, load_settings
from isolation_core.errors import ConfigurationError
from isolation_core.runner import RunnerSession
from isolation_pytest._examples import isolate_examples
from isolation_pytest._facts import ItemFacts
from isolation_pytest._layers import Layers
from isolation_pytest._marker import find_mistakes, read_marker
from isolation_pytest._projects import Projects
from isolation_pytest._summary import Findings, is_verdict

__all__ = ["SessionIsolation", "start"]

_NAME: Final = "isolation-session"

# Hooks that run between the end of one test's barrier and the start of the next.
_BETWEEN: Final = (
    "pytest_runtest_logstart", "pytest_runtest_protocol", "pytest_runtest_setup", "pytest_runtest_teardown",
    "pytest_runtest_makereport", "pytest_runtest_logreport", "pytest_runtest_logfinish", "pytest_report_teststatus",
    "pytest_fixture_setup", "pytest_fixture_post_finalizer", "pytest_exception_interact",
)  # fmt: skip
_QUIET: Final = frozenset(
    {
        "_hypothesis_pytestplugin",
        "_pytest",
        "anyio",
        "isolation_pytest",
        "pytest_asyncio",
        "pytest_cov",
        "pytest_rerunfailures",
        "xdist",
    }
)


def start(config: pytest.Config, mode: str | None) -> None:
    """Read the settings and register the session's plugin, unless they say off.

    Raises:
        pytest.UsageError: if a setting is wrong; the text names it and its source.
    """
    packages = _names(config.getoption("--isolation-packages")) or config.getini("isolation_packages")
    overrides = {
        "mode": mode,
        "packages": packages or None,
        "ignore": config.getoption("--isolation-ignore") or config.getini("isolation_ignore") or None,
        "baseline": _baseline_of(config),
        "journal_dir": config.getoption("--isolation-journal") or config.getini("isolation_journal") or None,
    }
    load = partial(load_settings, overrides=overrides)
    try:
        settings = load(config.rootpath)
        if settings.mode != "off":
            projects = Projects(config.rootpath, settings, load)
            config.pluginmanager.register(SessionIsolation(config, settings, projects), _NAME)
    except ConfigurationError as error:
        raise pytest.UsageError(str(error)) from error


def _baseline_of(config: pytest.Config) -> str | None:
    given: str | None = config.getoption("--isolation-baseline")
    inherited: str | None = config.getini("isolation_baseline")
    return given or (str(config.rootpath / inherited) if inherited else None)


def _names(texts: list[str] | None) -> list[str] | None:
    return [name.strip() for text in texts for name in text.split(",") if name.strip()] if texts else None


class SessionIsolation:
    """Opens and closes barriers as pytest walks through the session.

    Attributes:
        settings: the settings of the run.
        function_barrier: the barrier around the test that is running.
    """

    def __init__(self, config: pytest.Config, settings: Settings, projects: Projects) -> None:
        self.settings = settings
        self._projects = projects
        self._config = config
        self._item: pytest.Item | None = None
        self._mistakes: Mapping[pytest.Item, str] = {}
        # Whether a wide fixture came or went since the last look.
        self._stirred = True
        self._parameters: list[tuple[pytest.Item, str]] = []
        self._strangers: bool | None = None
        # The function-scoped fixtures of the current test.
        self._fixtures: list[pytest.FixtureDef[Any]] = []
        update = bool(config.getoption("--isolation-baseline-update"))
        if update and settings.baseline is None:
            raise ConfigurationError(
                "--isolation-baseline-update needs to know the file: give --isolation-baseline=FILE", name="baseline"
            )
        worker = getattr(config, "workerinput", None)
        self._session = RunnerSession(
            settings,
            runner="pytest",
            root=config.rootpath,
            worker="main" if worker is None else str(worker.get("workerid")),
            update_baseline=update,
        )
        self._layers = Layers(self._session, self._open_barrier)
        self._findings = Findings(config, self._session)

    @property
    def function_barrier(self) -> Barrier | None:
        """The barrier around the current test."""
        return self._session.find("function")

    def _open_barrier(self, scope: str, node: Any, item: pytest.Item) -> Barrier:
        if scope != "function":
            subject = getattr(node, "obj", None) if scope in ("class", "module") else None
            settings = self.settings if scope == "session" else self._projects.settings_of(item)
            owner = node.nodeid or "session"
            return self._session.open(scope, owner, after_hooks=True, subject=subject, settings=settings)
        untouched = not self._stirred and not self._has_strangers()
        options = self._options_of(item)
        test = ItemFacts(item, self._fixtures)
        return self._session.open(scope, item.nodeid, after_hooks=True, untouched=untouched, test=test, **options)

    def _options_of(self, item: pytest.Item) -> dict[str, Any]:
        """Return what is special about the barriers of *item*: that of the test, and those of its examples."""
        settings = self._projects.settings_of(item)
        test_module = getattr(getattr(item, "module", None), "__name__", None)
        options: dict[str, Any] = {"test_module": test_module, "settings": settings}
        asked = read_marker(item)
        if asked.ignore:
            options["ignore"] = (*settings.ignore, *asked.ignore)
        return {**options, "mode": asked.mode, "group": asked.group or "default"}

    def _has_strangers(self) -> bool:
        """Return whether code that may change shared state runs between two tests.

        pytest's own hooks do not, nor do those of the plugins named here. A
        conftest's or any other plugin's may: then the world is looked at once
        more before each test, so that no test is blamed for them.
        """
        if self._strangers is None:
            hooks = self._config.hook
            impls = (impl for name in _BETWEEN for impl in getattr(hooks, name).get_hookimpls())
            modules = (getattr(impl.function, "__module__", "") or "" for impl in impls)
            self._strangers = any(module.partition(".")[0] not in _QUIET for module in modules)
        return self._strangers

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Record in a journal of this session from now on."""
        self._session.start()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Separate test modules from modules under test, and check the requested settings."""
        self._mistakes = find_mistakes(session.items)
        try:
            # Only now are all conftest files loaded, which may register probes of their own.
            isolation_barrier(probes=self.settings.probes, ignore=self.settings.ignore)
            for root in self._projects.roots_of(session.items):
                self._session.add_root(root)
            for text in self._projects.shared(session.items):
                self._session.note(text)
        except ConfigurationError as error:
            raise pytest.UsageError(str(error)) from error
        modules = {getattr(item, "module", None) for item in session.items}
        self._session.set_test_modules(module.__name__ for module in modules if module is not None)
        plugins = self._config.pluginmanager.get_plugins()
        names = (plugin.__name__ for plugin in plugins if type(plugin) is ModuleType)
        self._session.leave_alone(name for name in names if name.rpartition(".")[2] != "conftest")

    # -- around one test -----------------------------------------------------

    # Around the whole protocol, not only from the first fixture to the last teardown: a plugin may set a
    # variable in its hook before the set-up and reset it in its hook after the teardown.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Give the test a context of its own, for its set-up, its body and its teardown together."""
        marker = item.get_closest_marker("isolation")
        with self._session.test_context(None if marker is None else marker.kwargs.get("mode")):
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Remember whose fixtures are being set up."""
        self._item = item
        # The test's facts keep the list of the one before.
        self._fixtures = []
        if self._mistakes and item in self._mistakes:
            pytest.fail(self._mistakes[item], pytrace=False)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Open barriers between the scopes, and watch the values of wide fixtures."""
        item = self._item
        if item is None:
            return (yield)
        scope = fixturedef.scope
        with self._layers.setting_up(fixturedef, request, item):
            value = yield
        if scope == "function":
            self._fixtures.append(fixturedef)
            return value
        self._stirred = True
        # A managed fixture has its value watched itself; what pytest's own fixtures hand out is pytest's.
        pytests_own = (getattr(fixturedef.func, "__module__", None) or "").startswith("_pytest.")
        if not pytests_own and not hasattr(fixturedef.func, "__managed_fixture__"):
            self._session.watch(fixturedef, f"request.getfixturevalue({fixturedef.argname!r})", value)
        return value

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Release the value of a wide fixture that was torn down."""
        if fixturedef.scope != "function":
            self._stirred = True
            self._session.forget(fixturedef)

    @pytest.hookimpl(trylast=True, specname="pytest_runtest_setup")
    def pytest_runtest_setup_last(self, item: pytest.Item) -> None:
        """Open the function barrier of a test that has no function-scoped fixture."""
        self._layers.open_until("function", item)
        self._stirred = False
        callspec = getattr(item, "callspec", None)
        if callspec is not None:
            self._watch_parameters(item, callspec.params)

    # Neither first nor last: after plugins that make a plain function of a coroutine, and before pytest's own.
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> None:
        """Isolate the examples of a Hypothesis test from one another."""
        barrier = self._session.innermost
        if barrier is not None and barrier.mode in ("restore", "strict") and hasattr(pyfuncitem.obj, "hypothesis"):
            options = self._options_of(pyfuncitem)
            isolate_examples(pyfuncitem, partial(self._session.barrier, "example", pyfuncitem.nodeid, **options))

    def _watch_parameters(self, item: pytest.Item, params: dict[str, Any]) -> None:
        """Watch the values a test is parametrised with: other tests may have the same objects."""
        for name, value in params.items():
            self._session.watch((item, name), f"item.callspec.params[{name!r}]", value)
            # Runs before the barrier's own finalizer, which was added first:
            # so let go only once that is done, when the next test begins.
            self._parameters.append((item, name))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note that a test failed, with what may be the reason."""
        report = yield
        if report.failed and call.excinfo is not None:
            self._findings.note_failure(report, item, call.excinfo)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Attach to the teardown report what the test left behind; remember failures of other origin."""
        if report.failed:
            self._findings.note_other_failure(report)
        if report.when == "teardown":
            for key in self._parameters:
                self._session.forget(key)
            self._parameters.clear()
            self._findings.attach(report)

    # -- around the session --------------------------------------------------

    # Innermost, because pytest-xdist sends what a worker has to say in a wrapper.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Close what is still open when the session ends, however it ends."""
        try:
            return (yield)
        except Exception as error:
            # A run that was interrupted tears down here, where no test is left to fail: the summary tells.
            if not is_verdict(error):
                raise
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
            return None
        finally:
            self._session.close_all()
            self._findings.hand_over()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take the findings of a worker of pytest-xdist."""
        self._findings.take_over(node, error)

    def pytest_terminal_summary(self, terminalreporter: Any, exitstatus: int) -> None:
        """Say what there is to say, if anything."""
        complete = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        self._findings.write(terminalreporter, complete=complete)

    def pytest_report_header(self, config: pytest.Config) -> list[str]:
        """Return what a reader has to know before the run; more of it with ``-v``, nothing with ``-q``."""
        return self._session.header(config.get_verbosity())

    def pytest_unconfigure(self) -> None:
        """Give the journal of the process back."""
        self._session.stop()
