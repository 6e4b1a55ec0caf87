"""unittest: a mixin, one line for a module, and a command that isolates an unmodified suite."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import textwrap
import types
import unittest
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from isolation_unittest import IsolationMixin, isolate_suite

from isolation_core import managed_fixture
from isolation_core._baseline import Baseline, set_baseline
from isolation_core.config import Settings, use_settings
from isolation_core.findings import Change, Leak
from isolation_core.journal import Journal, as_finding, read_journal, use_journal

SUITE = Path(__file__).resolve().parents[2] / "examples" / "polluted_suite"
NAME = "ISOLATION_TEST_VARIABLE"


@pytest.fixture(autouse=True)
def journal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    """Each test has a journal of its own and default settings."""
    monkeypatch.delenv(NAME, raising=False)
    use_settings(Settings())
    with use_journal(Journal()) as own:
        yield own
    use_settings(None)


def run_cases(*cases: type[unittest.TestCase]) -> unittest.TextTestResult:
    """Run test classes the way a runner does and return the result."""
    loader = unittest.TestLoader()
    suite = unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in cases)
    return unittest.TextTestRunner(io.StringIO()).run(suite)


def findings(journal: Journal, *, notes: bool = False) -> list[Change | Leak]:
    """Return what was found."""
    found = [finding for event in journal.events if (finding := as_finding(event)) is not None]
    return [finding for finding in found if notes or finding.severity != "note"]


class TestMixin:
    def test_what_a_test_leaves_is_put_back_and_named(self, journal: Journal) -> None:
        """The next test finds a clean process; the finding names the first one."""

        class Case(IsolationMixin, unittest.TestCase):
            def test_1(self) -> None:
                os.environ[NAME] = "1"

            def test_2(self) -> None:
                assert NAME not in os.environ

        assert run_cases(Case).wasSuccessful()
        (finding,) = findings(journal)
        assert finding.owner == f"{__name__}.{Case.__qualname__}.test_1"
        assert (finding.kind, finding.scope) == ("environ", "function")

    def test_in_mode_strict_the_fact_is_told_without_our_frames(self) -> None:
        """The failure is its message alone, and begins with what leaked."""

        class Case(IsolationMixin, unittest.TestCase):
            isolation_mode = "strict"

            def test_1(self) -> None:
                os.environ[NAME] = "1"

        ((_, text),) = run_cases(Case).failures
        assert text.startswith(f"isolation_core.errors.ContaminationError: leaks os.environ['{NAME}']: ")

    def test_what_the_baseline_has_fails_nothing(self, journal: Journal, tmp_path: Path) -> None:
        """In mode strict, a known finding is restored without a failure, and only the new one is listed."""

        class Case(IsolationMixin, unittest.TestCase):
            isolation_mode = "strict"

            def test_1(self) -> None:
                os.environ[NAME] = "1"

            def test_2(self) -> None:
                os.environ[NAME] = os.environ[f"{NAME}_2"] = "2"

        file = tmp_path / "known.json"
        rows = [[f"{__name__}.{Case.__qualname__}.test_{n}", "ENV001", f"os.environ['{NAME}']"] for n in (1, 2)]
        file.write_text(json.dumps({"schema": "isolation-baseline/1", "findings": rows}))
        use_settings(Settings(baseline=file))
        try:
            ((case, text),) = run_cases(Case).failures
        finally:
            set_baseline(Baseline())
        assert case.id().endswith("test_2") and f"leaks os.environ['{NAME}_2']: " in text
        assert (journal.totals.known, journal.totals.restored) == (2, 3)

    @pytest.mark.parametrize("first", [True, False])
    def test_the_place_among_the_bases_does_not_matter(self, first: bool) -> None:
        """A mixin listed after TestCase works too, as does one in a base class, with no super() anywhere."""
        bases = (IsolationMixin, unittest.TestCase) if first else (unittest.TestCase, IsolationMixin)

        class Base(*bases):  # type: ignore[misc]
            def setUp(self) -> None:
                os.environ[NAME] = "base"

            def tearDown(self) -> None:
                pass

        class Case(Base):
            def setUp(self) -> None:
                assert NAME not in os.environ
                os.environ[NAME] = "case"

            def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
                return super().run(result)  # type: ignore[no-any-return]

            def test_1(self) -> None: ...

            def test_2(self) -> None: ...

        result = run_cases(Case)
        assert result.wasSuccessful(), result.errors
        assert result.testsRun == 2
        assert NAME not in os.environ

    def test_one_barrier_a_test_however_deep_the_inheritance(self, journal: Journal) -> None:
        """Wrapping in every subclass does not nest barriers."""

        class Base(IsolationMixin, unittest.TestCase):
            def test_1(self) -> None: ...

        class Middle(Base):
            def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
                return super().run(result)

        class Case(Middle):
            def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
                return super().run(result)

        run_cases(Case)
        assert journal.totals.by_scope == {"function": 1, "class": 1}

    def test_what_set_up_class_prepares_stays_for_every_test(self, journal: Journal) -> None:
        """State of setUpClass is there in each test, is undone with the class, and is the class's finding."""

        class Case(unittest.TestCase, IsolationMixin):
            @classmethod
            def setUpClass(cls) -> None:
                os.environ[NAME] = "class"

            def test_1(self) -> None:
                assert os.environ[NAME] == "class"
                os.environ[NAME] = "test"

            def test_2(self) -> None:
                assert os.environ[NAME] == "class"

        class Other(IsolationMixin, unittest.TestCase):
            def test_3(self) -> None:
                assert NAME not in os.environ

        result = run_cases(Case, Other)
        assert result.wasSuccessful(), result.failures
        assert [(finding.owner.rpartition(".")[2], finding.scope) for finding in findings(journal)] == [
            ("test_1", "function"),
            ("Case", "class"),
        ]

    def test_tear_down_class_and_class_cleanups_come_before_the_end_of_the_class(self, journal: Journal) -> None:
        """A class that cleans up after itself is clean, whichever way it does."""

        class Case(IsolationMixin, unittest.TestCase):
            @classmethod
            def setUpClass(cls) -> None:
                super().setUpClass()
                os.environ[NAME] = "class"
                cls.addClassCleanup(os.environ.pop, NAME)
                os.environ[f"{NAME}_2"] = "class"

            @classmethod
            def tearDownClass(cls) -> None:
                del os.environ[f"{NAME}_2"]

            def test_1(self) -> None: ...

        assert run_cases(Case).wasSuccessful()
        assert findings(journal) == []

    def test_a_class_whose_set_up_fails_is_cleaned_up(self) -> None:
        """The barrier of a class is closed when setUpClass fails, too."""

        class Case(IsolationMixin, unittest.TestCase):
            @classmethod
            def setUpClass(cls) -> None:
                os.environ[NAME] = "class"
                raise RuntimeError("no")

            def test_1(self) -> None: ...

        result = run_cases(Case)
        assert len(result.errors) == 1
        assert NAME not in os.environ

    def test_the_barrier_is_at_hand_in_the_test(self) -> None:
        """self.isolation takes cleanups, which run after tearDown and the test's own cleanups."""
        told: list[str] = []

        class Case(IsolationMixin, unittest.TestCase):
            isolation_group = "mine"
            isolation_ignore = ("cwd:*",)

            def tearDown(self) -> None:
                told.append("tearDown")

            def test_1(self) -> None:
                self.isolation.on_cleanup(lambda: told.append("barrier"))
                self.addCleanup(lambda: told.append("test"))
                told.append(f"{self.isolation.group} {self.isolation.owner == self.id()}")

        assert run_cases(Case).wasSuccessful()
        assert told == ["mine True", "tearDown", "test", "barrier"]

    def test_a_cleanup_that_fails_is_an_error_of_its_test(self) -> None:
        """Errors of the barrier's cleanups are reported like those of the test."""

        class Case(IsolationMixin, unittest.TestCase):
            def test_1(self) -> None:
                def fail() -> None:
                    raise OSError("no cleanup today")

                self.isolation.on_cleanup(fail)

        result = run_cases(Case)
        ((test, text),) = result.errors
        assert test.id().endswith("test_1")
        assert "no cleanup today" in text

    def test_strict_fails_the_guilty_test(self) -> None:
        """In mode strict leaving something behind is a failure that says what."""

        class Case(IsolationMixin, unittest.TestCase):
            isolation_mode = "strict"

            def test_1(self) -> None:
                os.environ[NAME] = "1"

            def test_2(self) -> None:
                assert NAME not in os.environ

        result = run_cases(Case)
        ((test, text),) = result.failures
        assert test.id().endswith("test_1")
        assert "ENV001" in text
        assert result.errors == []

    def test_off_leaves_everything_as_it_is(self, journal: Journal) -> None:
        """In mode off nothing is put back and nothing is found, and self.isolation still takes cleanups."""
        told: list[str] = []

        class Case(IsolationMixin, unittest.TestCase):
            isolation_mode = "off"

            def test_1(self) -> None:
                os.environ[NAME] = "1"
                self.isolation.on_cleanup(lambda: told.append("done"))

        assert run_cases(Case).wasSuccessful()
        assert os.environ.pop(NAME) == "1"
        assert told == ["done"]
        assert findings(journal) == []

    def test_outcomes_are_those_of_unittest(self) -> None:
        """Failures, errors, skips, expected failures and subtests are counted as without us."""

        class Plain(unittest.TestCase):
            def test_fail(self) -> None:
                self.fail("no")

            def test_error(self) -> None:
                raise KeyError

            @unittest.skip("not today")
            def test_skip(self) -> None: ...

            @unittest.expectedFailure
            def test_expected(self) -> None:
                self.fail("yes")

            def test_subtests(self) -> None:
                for number in range(3):
                    with self.subTest(number=number):
                        assert number != 1

        class Isolated(IsolationMixin, Plain):
            pass

        def counts(result: unittest.TextTestResult) -> tuple[int, ...]:
            lists = (result.failures, result.errors, result.skipped, result.expectedFailures)
            return (result.testsRun, *map(len, lists))

        assert counts(run_cases(Isolated)) == counts(run_cases(Plain))
        assert counts(run_cases(Isolated))[1:] == (2, 1, 1, 1)

    def test_a_test_run_by_hand_makes_its_own_result(self) -> None:
        """case.run() without a result returns one, as unittest's does."""

        class Case(IsolationMixin, unittest.TestCase):
            def test_1(self) -> None:
                os.environ[NAME] = "1"

        result = Case("test_1").run()
        assert result is not None
        assert result.testsRun == 1
        assert NAME not in os.environ

    def test_frames_of_ours_are_not_in_tracebacks(self) -> None:
        """The traceback of a failing test shows the test and no frames of the adapter."""

        class Case(IsolationMixin, unittest.TestCase):
            @classmethod
            def setUpClass(cls) -> None:
                raise RuntimeError("class")

            def test_1(self) -> None: ...

        class Other(IsolationMixin, unittest.TestCase):
            def test_1(self) -> None:
                raise RuntimeError("test")

        result = run_cases(Case, Other)
        assert len(result.errors) == 2
        assert not [text for _, text in result.errors if "isolation_unittest" in text]


class TestAsync:
    def test_state_and_context_of_async_tests(self, journal: Journal) -> None:
        """Async tests are isolated like others, and the barrier is the current one inside them."""

        class Case(IsolationMixin, unittest.IsolatedAsyncioTestCase):
            async def asyncSetUp(self) -> None:
                os.environ[NAME] = "set up"

            async def test_1(self) -> None:
                self.isolation.on_cleanup(lambda: None)
                assert self.isolation.is_open
                os.environ[NAME] = "test"

            async def test_2(self) -> None:
                assert os.environ[NAME] == "set up"

        result = run_cases(Case)
        assert result.wasSuccessful(), result.errors
        assert {finding.kind for finding in findings(journal)} == {"environ"}
        assert NAME not in os.environ

    def test_a_task_left_running_is_named(self, journal: Journal) -> None:
        """Tasks that outlive tearDown and all cleanups are reported with coroutine and line."""

        class Case(unittest.IsolatedAsyncioTestCase, IsolationMixin):
            async def poll(self) -> None:
                import asyncio

                await asyncio.sleep(60)

            async def test_1(self) -> None:
                import asyncio

                self.task = asyncio.create_task(self.poll())
                await asyncio.sleep(0)

            async def test_2(self) -> None:
                import asyncio

                self.task = asyncio.create_task(self.poll())
                self.addAsyncCleanup(asyncio.wait, [self.task])
                self.addCleanup(self.task.cancel)

        result = run_cases(Case)
        assert result.wasSuccessful(), result.errors
        (leak,) = findings(journal)
        assert isinstance(leak, Leak)
        assert (leak.kind, leak.code, leak.ended) == ("task", "TSK001", True)
        assert leak.path.endswith("Case.poll()")
        assert leak.owner.endswith("test_1")
        assert leak.created_at is not None and leak.created_at.startswith(f"{__file__}:")

    def test_async_fixtures_live_in_the_loop_of_the_test(self, journal: Journal) -> None:
        """``await self.isolation.afixture(...)`` works, task groups included; teardown is in the same loop."""
        order: list[str] = []

        @managed_fixture(name="loop_of_the_test")
        async def loop_of_the_test() -> AsyncIterator[asyncio.AbstractEventLoop]:
            loop = asyncio.get_running_loop()
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                yield loop
                assert asyncio.get_running_loop() is loop
                order.append("fixture")
                group.cancel_scope.cancel()

        @managed_fixture(name="on_top")
        def on_top(loop_of_the_test: asyncio.AbstractEventLoop) -> Iterator[asyncio.AbstractEventLoop]:
            yield loop_of_the_test
            order.append("on top")

        class Case(IsolationMixin, unittest.IsolatedAsyncioTestCase):
            async def asyncSetUp(self) -> None:
                self.loop = await self.isolation.afixture(loop_of_the_test)

            async def test_it(self) -> None:
                assert self.loop is asyncio.get_running_loop()
                assert await self.isolation.afixture(on_top) is self.loop
                order.append("test")

        result = run_cases(Case)
        assert result.wasSuccessful(), result.errors
        assert order == ["test", "on top", "fixture"]
        assert findings(journal) == []

    def test_a_clean_async_test_is_clean(self, journal: Journal) -> None:
        """The event loop of an async test and its helpers are not leaks."""

        class Case(IsolationMixin, unittest.IsolatedAsyncioTestCase):
            async def test_1(self) -> None:
                import asyncio

                await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
                await asyncio.to_thread(int)

        result = run_cases(Case, Case)
        assert result.wasSuccessful(), result.errors
        assert findings(journal) == []


class TestSuites:
    def test_an_untouched_suite_is_isolated_in_place(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        """isolate_suite() works on classes that know nothing of us, and doing it twice changes nothing."""
        # A module of its own: what is isolated in place stays so, and the other tests here are not to be.
        monkeypatch.setitem(sys.modules, "untouched_suite", types.ModuleType("untouched_suite"))

        class Case(unittest.TestCase):
            isolation = "an attribute of their own"

            def test_1(self) -> None:
                os.environ[NAME] = "1"

            def test_2(self) -> None:
                assert NAME not in os.environ
                assert self.isolation == "an attribute of their own"

        Case.__module__ = "untouched_suite"
        suite = unittest.TestSuite([unittest.TestLoader().loadTestsFromTestCase(Case)])
        isolate_suite(suite)
        isolate_suite(suite)
        result = unittest.TextTestRunner(io.StringIO()).run(suite)
        assert result.wasSuccessful(), result.failures
        assert journal.totals.by_scope["function"] == 2
        assert [finding.owner.rpartition(".")[2] for finding in findings(journal)] == ["test_1"]


def python(folder: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in *folder*, free of the settings and plugins of this run."""
    foreign = ("PYTEST_", "PYTHONWARN", "ISOLATION_", "COV_")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | variables
    return subprocess.run(
        [sys.executable, *args], cwd=folder, env=ours, capture_output=True, text=True, timeout=60, check=False
    )


MODULE = """
    import os
    import unittest
    {extra}

    def setUpModule():
        os.environ["ISOLATION_TEST_VARIABLE"] = "module"

    class OneTest(unittest.TestCase):
        def test_1(self):
            self.assertEqual(os.environ["ISOLATION_TEST_VARIABLE"], "module")
            os.environ["ISOLATION_TEST_VARIABLE"] = "test"

        def test_2(self):
            self.assertEqual(os.environ["ISOLATION_TEST_VARIABLE"], "module")
    """
OTHER = """
    import os
    import unittest

    class OtherTest(unittest.TestCase):
        def test_3(self):
            self.assertNotIn("ISOLATION_TEST_VARIABLE", os.environ)
    """


def project(folder: Path, *, extra: str = "") -> Path:
    """Write two test modules into *folder*."""
    (folder / "test_one.py").write_text(textwrap.dedent(MODULE.format(extra=extra)), encoding="utf-8")
    (folder / "test_two.py").write_text(textwrap.dedent(OTHER), encoding="utf-8")
    return folder


class TestCommand:
    def test_a_suite_nobody_touched_is_healed_and_its_polluters_named(self, tmp_path: Path) -> None:
        """Victims pass; stderr names test and module, after unittest's own output; the exit code is 0."""
        project(tmp_path)
        plain = python(tmp_path, "-m", "unittest")
        assert (plain.returncode, "FAILED (failures=2)" in plain.stderr) == (1, True)
        done = python(tmp_path, "-m", "isolation_unittest")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        before, _, summary = done.stderr.partition("== isolation ==")
        assert before.rstrip("= \n").endswith("OK")
        assert "\ntest_one.OneTest.test_1\n" in summary
        assert "and   test_one (module scope)\n" in summary

    @pytest.mark.parametrize(
        "args",
        [
            ["-v", "test_one.OneTest.test_1", "test_two"],
            ["discover", "-p", "test_t*.py"],
            ["-k", "test_3"],
            ["-b", "test_two"],
            ["-h"],
            ["test_missing"],
            ["-k", "nothing_of_this_name"],
        ],
    )
    def test_arguments_and_exit_codes_are_those_of_unittest(self, tmp_path: Path, args: list[str]) -> None:
        """The same tests run, and the exit code is the same, for whatever unittest understands."""
        project(tmp_path)

        def told(module: str) -> tuple[int, list[str]]:
            done = python(tmp_path, "-m", module, *args)
            words = [line.split(" in ")[0] for line in done.stderr.splitlines() if line.startswith("Ran ")]
            return done.returncode, words

        if args[0] != "-v":
            assert told("isolation_unittest") == told("unittest")
        else:
            assert told("isolation_unittest") == (0, told("unittest")[1])

    def test_switched_off_it_is_plain_unittest(self, tmp_path: Path) -> None:
        """Mode off changes nothing: the victims fail, and nothing is said."""
        project(tmp_path)
        done = python(tmp_path, "-m", "isolation_unittest", ISOLATION_CORE_MODE="off")
        assert done.returncode == 1
        assert "FAILED (failures=2)" in done.stderr
        assert "== isolation ==" not in done.stderr

    def test_a_clean_suite_says_nothing(self, tmp_path: Path) -> None:
        """No findings, no summary."""
        (tmp_path / "test_two.py").write_text(textwrap.dedent(OTHER), encoding="utf-8")
        done = python(tmp_path, "-m", "isolation_unittest")
        assert (done.returncode, "isolation" in done.stderr) == (0, False)

    def test_settings_come_from_the_project(self, tmp_path: Path) -> None:
        """[tool.isolation-core] counts; a mistake in it is exit code 2 with the way out."""
        project(tmp_path)
        settings = tmp_path / "pyproject.toml"
        settings.write_text('[tool.isolation-core]\nmode = "strict"\njournal_dir = "out"\n', encoding="utf-8")
        done = python(tmp_path, "-m", "isolation_unittest")
        assert "ContaminationError" in done.stderr and done.returncode == 1
        assert read_journal(tmp_path / "out").processes[0].header["runner"] == "unittest"
        settings.write_text('[tool.isolation-core]\nmoed = "strict"\n', encoding="utf-8")
        done = python(tmp_path, "-m", "isolation_unittest")
        assert done.returncode == 2
        assert "did you mean 'mode'?" in done.stderr and "Traceback" not in done.stderr

    def test_one_line_isolates_a_module_under_plain_unittest(self, tmp_path: Path) -> None:
        """``from isolation_unittest import load_tests`` heals a module, and the summary comes at exit."""
        project(tmp_path, extra="from isolation_unittest import load_tests")
        done = python(tmp_path, "-m", "unittest")
        assert done.returncode == 0, done.stderr
        assert "\ntest_one.OneTest.test_1\n" in done.stderr.partition("== isolation ==")[2]

    def test_the_polluted_example_is_healed(self, tmp_path: Path) -> None:
        """The victims of the example suite fail under unittest and pass with isolation; its polluters are named."""
        assert python(SUITE, "-m", "unittest", "discover", "-s", "tests", "-t", ".").returncode == 1
        journal_dir = str(tmp_path / "out")
        done = python(
            SUITE,
            *("-m", "isolation_unittest", "discover", "-s", "tests", "-t", "."),
            ISOLATION_CORE_JOURNAL_DIR=journal_dir,
        )
        assert done.returncode == 0, done.stderr
        found = [as_finding(event) for event in read_journal(journal_dir).events]
        owners = {finding.owner for finding in found if finding and finding.severity != "note"}
        assert len([owner for owner in owners if owner.startswith(("tests.test_admin.", "tests.test_campaigns."))]) >= 8
