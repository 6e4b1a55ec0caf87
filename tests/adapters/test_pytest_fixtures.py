"""Managed fixtures under pytest: fixtures first, and then everything that is promised of managed ones."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from contextvars import copy_context
from importlib import import_module
from typing import Final, TypeAlias

import pytest

from isolation_core import isolation_barrier

QUIET = ("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:asyncio")
OURS_ALONE = ("-p", "no:cacheprovider", "--disable-plugin-autoload", "-p", "isolation")
"""Our plugin by its entry point, without the others installed here, which take longer to import than a run takes."""

HEADER = "import asyncio, contextvars, pytest\nfrom isolation_pytest import managed_fixture\nLOG = []\n"


def run(pytester: pytest.Pytester, text: str, *args: str, plugins: tuple[str, ...] = QUIET) -> pytest.RunResult:
    """Run *text* as a test module, with isolation off: managed fixtures are fixtures first."""
    pytester.makepyfile(test_it=HEADER + text)
    # Event loops and context variables of the run inside are not for the tests that come after.
    with isolation_barrier(packages=()):
        return copy_context().run(pytester.runpytest_inprocess, *plugins, "--isolation=off", *args)


def run_in_process_of_its_own(pytester: pytest.Pytester, text: str, *args: str) -> pytest.RunResult:
    """Run *text* as a test module in another process."""
    pytester.makepyfile(test_it=HEADER + text)
    return pytester.runpytest_subprocess(*OURS_ALONE, *args)


# Imported here, these are not imported anew by each of the runs in this process.
for _name in ("_loop_choice", "_loops", "_managed", "_manager", "_session"):
    import_module(f"isolation_pytest.{_name}")
for _name in ("_asyncio", "_trio"):
    import_module(f"anyio._backends.{_name}")

SUITE: Final[dict[str, str]] = {}
"""Modules that one process runs together, with a barrier around each test."""

Passed: TypeAlias = Callable[[str], int]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """Run all modules of SUITE."""
    folder = tmp_path_factory.mktemp("together")
    (folder / "app.py").write_text("CONFIG = {}\n")
    for name, text in SUITE.items():
        (folder / f"test_{name}.py").write_text(HEADER + text)
    command = [sys.executable, "-m", "pytest", *QUIET[:4], "-rA", "--isolation=restore", str(folder)]
    options = ["-o", "asyncio_default_fixture_loop_scope=function", "-p", "no:xdist"]
    return subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def passed(together: subprocess.CompletedProcess[str]) -> Passed:
    """Return a function that counts the passed tests of a module of SUITE and fails on any other outcome."""

    def count(name: str) -> int:
        found = re.findall(rf"^([A-Z]+) test_{name}\.py\b", together.stdout, re.MULTILINE)
        assert set(found) == {"PASSED"}, together.stdout + together.stderr
        return len(found)

    return count


# -- fixtures first ---------------------------------------------------------------

ALL_SHAPES = """
import contextlib

@managed_fixture
def plain(): return 1
@managed_fixture
def generator(plain): LOG.append("up"); yield plain + 1; LOG.append("down")
@managed_fixture
@contextlib.contextmanager
def manager(generator): yield generator + 1
@managed_fixture
async def coroutine(manager): return manager + 1
@managed_fixture
async def agen(coroutine): yield coroutine + 1
@managed_fixture
@contextlib.asynccontextmanager
async def amanager(agen): yield agen + 1

def test_all(amanager, generator): assert (amanager, generator) == (6, 2)
def test_torn_down(): assert LOG == ["up", "down"]
"""


def test_every_shape_is_a_pytest_fixture(pytester: pytest.Pytester) -> None:
    """Six shapes of definition depend on one another by parameter, in a synchronous test."""
    run(pytester, ALL_SHAPES).assert_outcomes(passed=2)


def test_without_the_plugin_they_are_plain_fixtures(pytester: pytest.Pytester) -> None:
    """With -p no:isolation, as with --isolation=off, everything works."""
    pytester.makepyfile(test_it=HEADER + ALL_SHAPES)
    pytester.runpytest_inprocess(*QUIET, "-p", "no:isolation").assert_outcomes(passed=2)


def test_with_a_barrier_around_each_test_they_work_the_same(pytester: pytest.Pytester) -> None:
    """In the default mode nothing is reported of a healthy suite."""
    text = ALL_SHAPES.replace('LOG.append("up"); ', "").replace('; LOG.append("down")', "").rpartition("def")[0]
    result = run_in_process_of_its_own(pytester, text)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*isolation score*")


def test_the_function_can_be_called_by_hand(pytester: pytest.Pytester) -> None:
    """As with every pytest fixture, the name is not a function any more; the spec holds the function."""
    run(
        pytester,
        """
@managed_fixture(priority=3)
def five(): return 5
def test_it(): assert five.spec.function() == 5 and five.spec.priority == 3 and five.name == "five"
""",
    ).assert_outcomes(passed=1)


def test_pytest_lists_them_with_docstring_and_place(pytester: pytest.Pytester) -> None:
    """The list of fixtures shows scope, file, line of the definition and the docstring."""
    pytester.makeconftest(
        HEADER + "\n@managed_fixture(scope='session')\ndef db():\n    '''The one database.'''\n    yield 1\n"
    )
    result = pytester.runpytest_inprocess(*QUIET, "--isolation=off", "--fixtures")
    result.stdout.fnmatch_lines(["db [[]session scope[]] -- conftest.py:?", "*The one database.*"])


def test_managed_and_ordinary_fixtures_stand_on_one_another(pytester: pytest.Pytester) -> None:
    """An ordinary fixture is up before the managed one that needs it and down after it, and the other way round."""
    run(
        pytester,
        """
@pytest.fixture
def low(): LOG.append("low"); yield 1; LOG.append("-low")
@managed_fixture(dependencies=["low", "waited_for"])
def middle(low): LOG.append("middle"); yield low + 1; LOG.append("-middle")
@pytest.fixture
def waited_for(): LOG.append("waited"); yield; LOG.append("-waited")
@pytest.fixture
def high(middle): LOG.append("high"); yield middle + 1; LOG.append("-high")
def test_up(high): assert high == 3
def test_down():
    assert LOG == ["low", "waited", "middle", "high", "-high", "-middle", "-waited", "-low"]
""",
    ).assert_outcomes(passed=2)


def test_dependencies_can_be_decorated_objects(pytester: pytest.Pytester) -> None:
    """dependencies=[db] means the fixture called db."""
    run(
        pytester,
        """
@managed_fixture
def db(): return [1]
@managed_fixture(dependencies=[db])
def repo(db): return db
def test_it(repo, db): assert repo is db
""",
    ).assert_outcomes(passed=1)


def test_parameters_ids_autouse_and_late_requests(pytester: pytest.Pytester) -> None:
    """Values and ids make tests, autouse and getfixturevalue work, the request is pytest's and the core's."""
    result = run(
        pytester,
        """
@managed_fixture(scope="module", params=[1, pytest.param(2, id="zwei")])
def number(request): yield request.param
@managed_fixture(autouse=True)
def always(request):
    request.add_cleanup(lambda: LOG.append(request.node.name))
    assert request.name == "always" and request.config is request.node.config
@managed_fixture
def late(): return "late"
def test_number(number): assert number in (1, 2)
def test_late(request): assert request.getfixturevalue("late") == "late"
def test_cleanups(): assert LOG == ["test_number[1]", "test_number[zwei]", "test_late"]
""",
        "-v",
    )
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*test_number?1?*", "*test_number?zwei?*"])


def test_in_classes_in_unittest_and_overridden_nearer(pytester: pytest.Pytester) -> None:
    """Methods get their test instance, TestCases use fixtures, a nearer definition may use the farther one."""
    pytester.makeconftest(
        "from isolation_pytest import managed_fixture\n@managed_fixture\ndef db(): yield ['conftest']\n"
    )
    run(
        pytester,
        """
import unittest
@managed_fixture
def db(db): return [*db, "module"]
class TestIt:
    @managed_fixture
    def db(self, db): yield [*db, type(self).__name__]
    @managed_fixture
    async def own(self, db): return self
    def test_it(self, db, own): assert db == ["conftest", "module", "TestIt"] and own is self
@managed_fixture(scope="class")
def on_class(request): request.cls.value = 7; yield
@pytest.mark.usefixtures("on_class", "db")
class Old(unittest.TestCase):
    def test_old(self): self.assertEqual(self.value, 7)
""",
    ).assert_outcomes(passed=2)


def test_definitions_of_the_core_are_exposed_with_what_they_stand_on(pytester: pytest.Pytester) -> None:
    """A shared module knows nothing of pytest; expose and as_pytest_fixture make fixtures of its definitions."""
    pytester.makepyfile(
        resources="""
from isolation_core.fixtures import managed_fixture
@managed_fixture
def shared_settings(): "Settings."; return {"a": 1}
@managed_fixture(scope="function", dependencies=[shared_settings])
def shared_client(shared_settings): yield shared_settings["a"]
"""
    )
    run(
        pytester,
        """
import resources
from isolation_pytest import as_pytest_fixture, expose
from isolation_core.errors import ConfigurationError
globals().update(expose(resources.shared_client))
other = as_pytest_fixture(resources.shared_settings, name="other", scope="session")
def test_it(shared_client, shared_settings, other): assert shared_client == 1 and other == shared_settings
def test_by_hand(): assert resources.shared_settings() == {"a": 1}
def test_no_fixture():
    with pytest.raises(ConfigurationError, match="test_it is not a managed fixture"): as_pytest_fixture(test_it)
    assert set(expose(resources)) == {"shared_client", "shared_settings"}
""",
    ).assert_outcomes(passed=3)


def test_a_scope_may_be_a_function(pytester: pytest.Pytester) -> None:
    """Called as pytest does or as the core does; a scope that pytest has not is refused."""
    run(
        pytester,
        """
@managed_fixture(scope=lambda fixture_name, config: "module")
def one(): LOG.append(1)
@managed_fixture(scope=lambda name, barrier: "session")
def two(): LOG.append(2)
def test_a(one, two): pass
def test_b(one, two): assert LOG == [2, 1]
""",
    ).assert_outcomes(passed=2)
    result = run(pytester, "@managed_fixture(scope='example')\ndef one(): pass\ndef test_it(one): pass")
    result.stdout.fnmatch_lines(["*'one' has the scope 'example', which pytest does not have*"])


def test_priority_decides_within_a_scope(pytester: pytest.Pytester) -> None:
    """The higher goes first, whatever the order of parameters; dependencies always win."""
    run(
        pytester,
        """
@managed_fixture
def a(c): LOG.append("a")
@managed_fixture(priority=5)
def b(): LOG.append("b")
@managed_fixture(priority=-1)
def c(): LOG.append("c")
def test_it(a, b, c): assert LOG == ["b", "c", "a"]
""",
    ).assert_outcomes(passed=1)


# -- what goes wrong ----------------------------------------------------------------


def test_wide_on_narrow_and_circles_are_drawn_before_anything_is_set_up(pytester: pytest.Pytester) -> None:
    """Both problems come at once, with their codes; tests that do not ask for the fixtures are not concerned."""
    result = run(
        pytester,
        """
@managed_fixture
def narrow(): LOG.append("never")
@managed_fixture(scope="session")
def wide(narrow): pass
@managed_fixture
def hen(egg): pass
@managed_fixture
def egg(hen): pass
def test_it(wide, hen): pass
def test_other(narrow): assert LOG == ["never"]
""",
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*2 problems*", "*ISO001*"])
    result.stdout.fnmatch_lines(["*ISO003 'wide' lives for a whole session and needs 'narrow'*"])


def test_a_circle_is_a_loop_and_a_misspelt_name_has_a_suggestion(pytester: pytest.Pytester) -> None:
    """A cycle of three fixtures is drawn; an undefined name is reported with the nearest defined one."""
    result = run(
        pytester,
        """
@managed_fixture
def a(b): pass
@managed_fixture
def b(c): pass
@managed_fixture
def c(a): pass
@managed_fixture
def database(): pass
@managed_fixture
def repository(databse): pass
def test_circle(a): pass
def test_other(database): pass
def test_misspelt(repository): pass
""",
    )
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(["*┌─> 'a' needs 'b'*", "*└── 'c' needs 'a'*"])
    result.stdout.fnmatch_lines(["*'repository' needs 'databse'*did you mean 'database'*"])


def test_an_interrupt_in_one_teardown_drops_no_other(pytester: pytest.Pytester) -> None:
    """KeyboardInterrupt in the teardown of b, managed or ordinary: a and m go down all the same, then it is raised."""
    for decorator in ("managed_fixture", "pytest.fixture"):
        pytester.makepyfile(
            test_it=HEADER
            + f"""
@managed_fixture(scope="module")
def m(): yield; print("M-DOWN")
@managed_fixture
def a(m): yield; print("A-DOWN")
@{decorator}
def b(): yield; raise KeyboardInterrupt
def test_it(a, b): pass
"""
        )
        result = pytester.runpytest_inprocess(*QUIET, "--isolation=off", "-s", no_reraise_ctrlc=True)
        result.stdout.fnmatch_lines(["*A-DOWN*", "*M-DOWN*", "*KeyboardInterrupt*"])
        assert result.ret == pytest.ExitCode.INTERRUPTED


def test_every_error_of_a_teardown_is_kept_in_one_shape(pytester: pytest.Pytester) -> None:
    """Several cleanups fail, one pytest.fail() among them: all run, one TeardownErrors holds each with its note."""
    result = run(
        pytester,
        """
@managed_fixture
def a(request):
    request.add_cleanup(lambda: LOG.append("last"))
    yield
    raise OSError("a broke")
@managed_fixture(cleanup_callbacks=[lambda value: 1 / 0])
def b(a): yield 1; pytest.fail("b broke")
def test_it(b): pass
def test_ran(): assert LOG == ["last"]
""",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*TeardownErrors: 3 cleanups failed after test_it.py::test_it*"])
    for text in ("*OSError: a broke*", "*ZeroDivisionError*", "*b broke*", "*while tearing down 'a' (function scope*"):
        result.stdout.fnmatch_lines([text])


def test_a_wide_fixture_fails_under_its_own_name(pytester: pytest.Pytester) -> None:
    """A failed wide teardown is not an error of the last test: it names fixture and users, and the run fails."""
    result = run(
        pytester,
        """
@managed_fixture(scope="module")
def db(): yield; raise OSError("db broke")
def test_one(db): pass
def test_two(db): pass
""",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of module fixture 'db'*", "*2 tests used it*::test_one*"])
    result.stdout.fnmatch_lines(["*used by test_it.py::test_one, test_it.py::test_two*", "ERROR test_it.py::db*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_hanging_teardown_has_a_budget(pytester: pytest.Pytester) -> None:
    """It is cut short and named, and the others run."""
    result = run(
        pytester,
        """
@managed_fixture
def first(): yield; LOG.append("first")
@managed_fixture(timeout=0.02)
async def stuck(first): yield; await asyncio.sleep(60)
def test_it(stuck): pass
def test_ran(): assert LOG == ["first"]
""",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*TeardownTimeout*stuck*"])


def test_the_error_of_the_test_is_thrown_in_on_request(pytester: pytest.Pytester) -> None:
    """sees_errors=True: a transaction learns that its test has failed; the others resume normally."""
    run(
        pytester,
        """
@managed_fixture(sees_errors=True)
def transaction():
    try: yield
    except AssertionError: LOG.append("rollback"); raise
@managed_fixture
def other(): yield; LOG.append("normal")
def test_it(other, transaction): assert False
def test_ran(): assert LOG == ["rollback", "normal"]
""",
    ).assert_outcomes(passed=1, failed=1)


def test_a_skip_in_a_set_up_skips(pytester: pytest.Pytester) -> None:
    """Outcomes of pytest pass through."""
    run(
        pytester,
        "@managed_fixture\ndef a(): pytest.skip('not here')\ndef test_it(a): pass",
    ).assert_outcomes(skipped=1)


def test_a_failed_set_up_shows_the_fixture_and_not_us(pytester: pytest.Pytester) -> None:
    """The traceback begins in the fixture; a note says whose set-up it was."""
    result = run(pytester, "@managed_fixture\ndef a():\n    raise OSError('no disk')\ndef test_it(a): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_it.py:6: OSError"])
    result.stdout.no_fnmatch_line("*lifecycle.py*")


# -- event loops ----------------------------------------------------------------------

TASK_GROUPS = """
import anyio
@managed_fixture(scope="{scope}")
async def background():
    async with anyio.create_task_group() as group:
        ready = anyio.Event()
        async def work(): ready.set(); await anyio.sleep_forever()
        group.start_soon(work)
        await ready.wait()
        with anyio.CancelScope():
            yield anyio.get_current_task().id, group
        group.cancel_scope.cancel()
    LOG.append("down")
"""


@pytest.mark.parametrize("scope", ["function", "module", "session"])
def test_a_fixture_holds_a_task_group_under_anyio(pytester: pytest.Pytester, scope: str) -> None:
    """Any scope, both backends, parametrised as by default: opened and closed in one task, on the loop of the test."""
    run(
        pytester,
        TASK_GROUPS.format(scope=scope)
        + """
import sniffio
@managed_fixture(scope="SCOPE")
async def library(background): return sniffio.current_async_library()
@pytest.mark.anyio
async def test_async(background, library, anyio_backend):
    done = anyio.Event()
    async def note(): done.set()
    background[1].start_soon(note)
    await done.wait()
    assert library == anyio_backend == sniffio.current_async_library()
def test_sync(background): pass
""".replace("SCOPE", scope),
    ).assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("mode", "scope"),
    [("strict", "function"), ("strict", "class"), ("strict", "module"), ("strict", "session"), ("auto", "module")],
)
def test_a_fixture_holds_a_task_group_under_pytest_asyncio(pytester: pytest.Pytester, mode: str, scope: str) -> None:
    """Any loop scope at least as wide as the fixture: the loop is that of the test."""
    pytest.importorskip("pytest_asyncio")
    mark = f"@pytest.mark.asyncio(loop_scope='{scope}')"
    result = run(
        pytester,
        TASK_GROUPS.format(scope=scope)
        + f"""
@managed_fixture(scope="{scope}")
async def loop(): yield asyncio.get_running_loop()
@managed_fixture
async def narrow(): return asyncio.get_running_loop()
class TestIt:
    {mark}
    async def test_async(self, background, loop, narrow):
        assert loop is narrow is asyncio.get_running_loop()
        done = asyncio.Event()
        async def note(): done.set()
        background[1].start_soon(note)
        await done.wait()
    def test_sync(self, background, loop): pass
""",
        f"--asyncio-mode={mode}",
        "-W",
        "ignore::pytest.PytestDeprecationWarning",
        plugins=("-p", "no:cacheprovider", "-p", "no:randomly", "-o", "asyncio_default_fixture_loop_scope=function"),
    )
    result.assert_outcomes(passed=2)


def test_a_value_on_the_wrong_loop_is_rebuilt(pytester: pytest.Pytester) -> None:
    """First asked for by a synchronous test, it moves from the portal to the loop of the test that has one."""
    result = run(
        pytester,
        """
@managed_fixture(scope="session")
async def loop(): yield asyncio.get_running_loop(); LOG.append("down")
@pytest.fixture(scope="session")
def on_it(loop): return loop
def test_sync(on_it): assert not LOG
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_async(on_it): assert on_it is asyncio.get_running_loop() and LOG == ["down"]
def test_again(on_it): assert LOG == ["down"]
""",
    )
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*managed fixtures*", "*1 rebuilt*"])


def test_a_late_request_inside_of_a_coroutine_is_explained(pytester: pytest.Pytester) -> None:
    """The loop is busy with the test that asks; the error says what to do instead of hanging."""
    result = run(
        pytester,
        """
@managed_fixture
async def late(): return 1
@pytest.mark.anyio
async def test_it(request): request.getfixturevalue("late")
""",
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*'late' is asked for inside of a coroutine*as a parameter of the test*"])


def test_a_crash_in_the_background_ends_the_test(pytester: pytest.Pytester) -> None:
    """The body is cancelled instead of waiting for ever; the error comes under the name of the fixture."""
    result = run(
        pytester,
        """
import anyio
@managed_fixture
async def server():
    async with anyio.create_task_group() as group:
        async def fail(): raise OSError("server died")
        yield lambda: group.start_soon(fail)
@pytest.mark.anyio
async def test_it(server): server(); await anyio.sleep(60)
""",
    )
    result.assert_outcomes(failed=2, errors=2)
    result.stdout.fnmatch_lines(["*OSError: server died*"])
    result.stdout.fnmatch_lines(["*'server' failed in the background*"])


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_context_variables_are_seen_and_undone(pytester: pytest.Pytester, asynchronous: bool) -> None:
    """Set in a fixture, seen by dependents and the test body, gone for the next test, also on a runner that is kept."""
    a, mark = ("async ", "@pytest.mark.anyio\n") if asynchronous else ("", "")
    run(
        pytester,
        f"""
VAR = contextvars.ContextVar("VAR", default="unset")
@managed_fixture(scope="module")
{a}def keeper(): yield
@managed_fixture
{a}def setter(): VAR.set("set"); yield; assert VAR.get() == "set"
@managed_fixture
{a}def dependent(setter): return VAR.get()
{mark}{a}def test_one(keeper, dependent): assert dependent == VAR.get() == "set"
{mark}{a}def test_two(keeper): assert VAR.get() == "unset"
@managed_fixture
def sync_setter(): VAR.set("sync"); yield
{mark}{a}def test_three(keeper, sync_setter): assert VAR.get() == "sync"
{mark}{a}def test_four(keeper): assert VAR.get() == "unset"
def test_five(): assert VAR.get() == "unset"
""",
    ).assert_outcomes(passed=9 if asynchronous else 5)


def test_a_task_group_whose_teardown_hangs_hits_its_budget(pytester: pytest.Pytester) -> None:
    """The deadline reaches into the task group of the fixture, on both backends; its dependencies end after it."""
    result = run(
        pytester,
        """
import anyio
@managed_fixture
async def base(): yield; LOG.append("base")
@managed_fixture(timeout=0.02)
async def stuck(base):
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        yield
@pytest.mark.anyio
async def test_it(stuck): pass
def test_ran(): assert LOG == ["base", "base"]
""",
    )
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*TeardownTimeout*stuck*"])


SUITE["e14"] = """
import threading
LOOPS, initialise = [], asyncio.BaseEventLoop.__init__
@pytest.fixture(autouse=True)
def counted(monkeypatch):
    monkeypatch.setattr(asyncio.BaseEventLoop, "__init__", lambda self: LOOPS.append(self) or initialise(self))
@managed_fixture(scope="module")
def wide(counted_threads): yield threading.active_count()
@managed_fixture(scope="module")
def counted_threads(): return threading.active_count()
@managed_fixture
def narrow(wide): yield wide
@managed_fixture
def asking(narrow, request): request.add_cleanup(lambda: None); return narrow
def test_sync(asking, counted_threads): assert asking == counted_threads == threading.active_count() and not LOOPS
def test_after(): assert not LOOPS
@managed_fixture
async def coroutine(): yield threading.active_count()
def test_the_check_can_fail(coroutine, counted_threads): assert coroutine > counted_threads and LOOPS
"""


def test_synchronous_fixtures_start_no_event_loop(passed: Passed) -> None:
    """Neither a loop nor a thread, until a fixture is asynchronous."""
    assert passed("e14") == 3


SUITE["e15"] = """
import os, app
class Stubborn:
    def __delattr__(self, name): raise OSError("it stays")
@pytest.fixture
def undone():
    patch = pytest.MonkeyPatch()
    yield patch
    # Undoes the last step first, raises there, and so never comes to the others.
    with pytest.raises(OSError, match="it stays"): patch.undo()
    assert os.environ["E15_SHOP"] == app.CONFIG["shop"] == "open"
@managed_fixture
def patched(undone):
    undone.setenv("E15_SHOP", "open")
    undone.setitem(app.CONFIG, "shop", "open")
    undone.setattr(Stubborn(), "new", 1, raising=False)
    yield
def test_one(patched): assert os.environ["E15_SHOP"] == app.CONFIG["shop"] == "open"
def test_two(): assert "E15_SHOP" not in os.environ and "shop" not in app.CONFIG
"""


def test_what_an_undo_that_fails_leaves_is_put_back(passed: Passed) -> None:
    """The environment variable and the entry beside it are as before for the next test."""
    assert passed("e15") == 2


SUITE["e16"] = """
import app
@managed_fixture(scope="session")
def session(): app.CONFIG["session"] = 1; yield; del app.CONFIG["session"]
@managed_fixture(scope="module")
async def module(session): app.CONFIG["module"] = 1; yield; del app.CONFIG["module"]
@pytest.fixture(scope="class")
def ordinary(module): app.CONFIG["class"] = 1; yield; del app.CONFIG["class"]
@managed_fixture
def leaking(): app.CONFIG["function"] = 1
WIDE = {"session": 1, "module": 1, "class": 1}
class TestIt:
    def test_one(self, leaking, ordinary): app.CONFIG["test"] = 1; assert len(app.CONFIG) == 5
    def test_two(self): assert app.CONFIG == WIDE
    def test_three(self, leaking): assert app.CONFIG == WIDE | {"function": 1}
def test_four(): assert app.CONFIG == {"session": 1, "module": 1}
"""


def test_the_barrier_of_a_test_begins_between_wide_and_narrow_fixtures(passed: Passed) -> None:
    """Changes of wide fixtures during their first test stay; those of function fixtures and of the test are undone."""
    assert passed("e16") == 4


SUITE["e17"] = """
import app
@managed_fixture(scope="module")
def late(): app.CONFIG["late"] = 1; yield app.CONFIG; del app.CONFIG["late"]
def test_one(request): app.CONFIG["mine"] = 1; request.getfixturevalue("late")
def test_two(late): assert "mine" not in app.CONFIG and app.CONFIG["late"] == 1
"""


def test_a_late_wide_fixture_is_not_the_tests_doing(passed: Passed) -> None:
    """A wide fixture first asked for inside of a test keeps what it set; the test's own leak beside it goes."""
    assert passed("e17") == 2


SUITE["e18"] = """
import unittest
VAR = contextvars.ContextVar("VAR", default="unset")
@managed_fixture(scope="module")
def wide():
    token = VAR.set("wide")
    yield
    # Belongs to the context it was made in, or this raises.
    VAR.reset(token)
def test_sync(wide): assert VAR.get() == "wide"; VAR.set("sync")
def test_after_sync(wide): assert VAR.get() == "wide"
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.anyio
async def test_anyio(wide): assert VAR.get() == "wide"; VAR.set("anyio")
def test_after_anyio(wide): assert VAR.get() == "wide"
@pytest.mark.usefixtures("wide")
class Old(unittest.TestCase):
    def test_a(self): self.assertEqual(VAR.get(), "wide"); VAR.set("unittest")
    def test_b(self): self.assertEqual(VAR.get(), "wide")
"""


def test_context_variables_that_a_test_sets_end_with_it(passed: Passed) -> None:
    """Functions, coroutines and TestCases; the token of a wide fixture stays valid all the same."""
    assert passed("e18") == 7


SUITE["e19"] = """
import app
from hypothesis import given, settings, strategies as st
@managed_fixture(scope="module")
def once(): LOG.append("up"); return ("once",)
@settings(max_examples=20, database=None, deadline=None)
@given(n=st.integers())
def test_it(once, n):
    assert LOG == ["up"] and "seen" not in app.CONFIG
    app.CONFIG["seen"] = n
"""


def test_each_example_of_hypothesis_is_isolated(passed: Passed) -> None:
    """A fixture is set up once for all examples, as in pytest; changes of one example are undone before the next."""
    assert passed("e19") == 1


# -- contamination, leaks, reruns --------------------------------------------------------


SUITE["l12"] = """
@managed_fixture(scope="session")
def restored(): return {"a": [1]}
@managed_fixture(scope="session", on_contamination="recreate")
def recreated(): LOG.append("made"); return {"a": 1}
@managed_fixture(scope="module")
def dependent(recreated): LOG.append("dependent"); return recreated
@managed_fixture(scope="session", on_contamination="report")
def left(): return []
def test_polluter(restored, recreated, dependent, left):
    restored["a"].append(2); recreated["b"] = 2; left.append(1)
def test_victim(restored, recreated, dependent, left):
    assert restored == {"a": [1]} and recreated == {"a": 1} and dependent is recreated
    assert LOG == ["made", "dependent"] * 2 and left == [1]
"""


def test_a_changed_value_is_restored_or_rebuilt_and_named(
    passed: Passed, together: subprocess.CompletedProcess[str]
) -> None:
    """With "restore" it is put back in place; "recreate" builds it and its dependents anew; "report" leaves it."""
    assert passed("l12") == 2
    assert re.search(r"test_l12\.py::test_polluter.*\n(.*\n)*?.*fixture\('recreated'\)", together.stdout)
    assert "1 rebuilt" in together.stdout


def test_dirty_by_hand(pytester: pytest.Pytester) -> None:
    """request.mark_dirty inside of a test has the fixture rebuilt before the next one, its dependents too."""
    run(
        pytester,
        """
from isolation_pytest import mark_dirty
@managed_fixture(scope="session")
def server(): LOG.append("server"); return object()
@pytest.fixture(scope="module")
def client(server): LOG.append("client"); return server
def test_one(request, client): mark_dirty(request, "server", "it was killed")
def test_two(client, server): assert LOG == ["server", "client"] * 2 and client is server
def test_unknown(request, client):
    with pytest.raises(LookupError, match="did you mean 'server'"): mark_dirty(request, "servre", "why")
""",
    ).assert_outcomes(passed=3)


def test_leaks_are_told_under_the_name_of_the_fixture(pytester: pytest.Pytester) -> None:
    """A file and a thread opened in a set-up and alive after the teardown are the fixture's, not the test's."""
    result = run(
        pytester,
        """
import os, threading
STOP = threading.Event()
@managed_fixture
def leaky(tmp_path):
    LOG.append(os.open(tmp_path / "leaked.txt", os.O_CREAT))
    LOG.append(threading.Thread(target=STOP.wait, name="left behind"))
    LOG[-1].start()
    yield
def test_it(leaky): pass
def test_end_it(): STOP.set(); LOG[1].join(); os.close(LOG[0])
""",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*managed fixtures*", "*fixture 'leaky'*leaked.txt*"])
    result.stdout.fnmatch_lines(["*fixture 'leaky'*left behind*"])


def test_what_a_set_up_opens_after_something_it_closes_is_noticed(pytester: pytest.Pytester) -> None:
    """Also where the descriptor that was free before is free again."""
    result = run(
        pytester,
        """
import os
@managed_fixture
def leaky(tmp_path):
    first = os.open(tmp_path / "first.txt", os.O_CREAT)
    LOG.append(os.open(tmp_path / "second.txt", os.O_CREAT))
    os.close(first)
def test_it(leaky): pass
def test_end_it(): os.close(LOG[0])
""",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*fixture 'leaky'*second.txt*"])
    result.stdout.no_fnmatch_line("*first.txt*")


def test_debug_fixture_state_tells_of_fixtures_of_every_kind(pytester: pytest.Pytester) -> None:
    """Those that go the short way too: scope, age, users, dependencies, pending cleanups, and the slowest chain."""
    run(
        pytester,
        """
import json
from isolation_core import debug_fixture_state
@managed_fixture(scope="module")
def wide(request): request.add_cleanup(lambda: None, name="flush"); yield 1
@managed_fixture
def light(wide): yield 2
@managed_fixture
async def coroutine(light): return 3
@managed_fixture
def last(coroutine): return debug_fixture_state
def test_one(wide): pass
def test_two(last):
    state = debug_fixture_state()
    json.dumps(state)
    wide, light, coroutine, last = state["fixtures"]
    assert [each["name"] for each in state["fixtures"]] == ["wide", "light", "coroutine", "last"]
    assert {each["state"] for each in state["fixtures"]} == {"up"}
    assert [each["scope"] for each in (wide, light)] == ["module", "function"]
    assert wide["users"] == ["test_it.py::test_one", "test_it.py::test_two"]
    assert light["users"] == last["users"] == ["test_it.py::test_two"] and light["owner"] == "test_it.py::test_two"
    assert [each["dependencies"] for each in (wide, light, coroutine, last)] == [[], ["wide"], ["light"], ["coroutine"]]
    assert wide["pending_cleanups"] == ["the teardown of 'wide'", "wide: flush"]
    assert light["pending_cleanups"] == ["the teardown of 'light'"] and last["pending_cleanups"] == []
    assert wide["age"] >= light["age"] >= last["age"] >= 0 and light["set_up_seconds"] > 0
    assert state["critical_path"]["path"] == ["wide", "light", "coroutine", "last"]
    assert "stands on: light" in state["text"] and len(state["alive"]["fixtures"]) == 4
def test_three():
    assert [each["name"] for each in debug_fixture_state()["fixtures"]] == ["wide"]
""",
    ).assert_outcomes(passed=3)


def test_reruns_get_fresh_values(pytester: pytest.Pytester) -> None:
    """pytest-rerunfailures: function fixtures anew for each attempt, every one of them torn down."""
    pytest.importorskip("pytest_rerunfailures")
    run(
        pytester,
        """
@managed_fixture
def fresh(): LOG.append("up"); yield; LOG.append("down")
def test_flaky(fresh): assert LOG.count("up") == 2
def test_down(): assert LOG == ["up", "down"] * 2
""",
        "--reruns=1",
    ).assert_outcomes(passed=2)


def test_in_random_order_and_by_several_workers(pytester: pytest.Pytester) -> None:
    """pytest-randomly and pytest-xdist change nothing; workers hand reports of wide fixtures over."""
    pytest.importorskip("xdist")
    pytester.makepyfile(
        test_it=HEADER
        + """
@managed_fixture(scope="session")
def wide(): return {}
@managed_fixture(params=[1, 2])
async def narrow(wide, request): yield request.param; assert not wide
@pytest.mark.parametrize("n", range(4))
def test_it(narrow, wide, n): assert narrow in (1, 2)
@managed_fixture(scope="session")
def db(): yield; raise OSError("db broke")
def test_one(db): pass
"""
    )
    result = pytester.runpytest_subprocess(*OURS_ALONE, "-p", "randomly", "-p", "xdist", "-n2")
    result.assert_outcomes(passed=9, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of session fixture 'db'*", "ERROR test_it.py::db*"])


def test_suites_without_managed_fixtures_do_not_pay(pytester: pytest.Pytester) -> None:
    """The manager is not even imported, let alone asked for each test."""
    pytester.makepyfile(
        """
import sys
def test_it(request):
    assert "isolation_pytest._manager" not in sys.modules
    assert not request.config.pluginmanager.has_plugin("isolation-managed-fixtures")
"""
    )
    pytester.runpytest_subprocess(*OURS_ALONE).assert_outcomes(passed=1)
