"""The pytest plugin: state it restores, tests it blames, and state it does not touch."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

CLEAN_SLATE = ("-p", "no:cacheprovider", "-p", "no:randomly")


def run_among_others(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    """Run pytest in a process of its own with every plugin there is, but those that reorder or remember."""
    return pytester.runpytest_subprocess(*CLEAN_SLATE, *args)


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    """Run pytest in a process of its own with our plugin, by its entry point, and those that *args* name."""
    # The other plugins installed here take two thirds of a run's time to import, and have tests of their own below.
    return run_among_others(pytester, "--disable-plugin-autoload", "-p", "isolation", *args)


APP = """
import functools
CONFIG = {"users": []}
registry = {}
def register(name):
    def add(function):
        registry[name] = function
        return function
    return add
class Service:
    calls = []
    def ping(self): return "pong"
"""

POLLUTED = """
import os, app

def test_polluter():
    app.CONFIG["users"].append("eve")
    app.Service.ping = lambda self: "fake"

def test_victim():
    assert app.CONFIG == {"users": []}
    assert app.Service().ping() == "pong"
"""


@pytest.fixture
def app(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return a folder with a module that has state."""
    pytester.makepyfile(app=APP)
    return pytester


def test_off_changes_nothing(app: pytest.Pytester) -> None:
    """With --isolation=off the victim fails as ever and nothing is said."""
    app.makepyfile(POLLUTED)
    result = run_among_others(app, "--isolation=off")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*isolation score*")


def test_off_loads_nothing_of_the_core(app: pytest.Pytester) -> None:
    """With --isolation=off not one module of the core is imported."""
    app.makepyfile("import sys\ndef test_it(): assert not [m for m in sys.modules if m.startswith('isolation_core')]")
    run_among_others(app, "--isolation=off").assert_outcomes(passed=1)


def test_the_plugin_can_be_removed_by_name(app: pytest.Pytester) -> None:
    """-p no:isolation takes the options away with it."""
    app.makepyfile(POLLUTED)
    run_among_others(app, "-p", "no:isolation").assert_outcomes(passed=1, failed=1)


@pytest.mark.parametrize("door", ["-p", "conftest", "entry point and -p"])
def test_every_way_of_loading_works(app: pytest.Pytester, door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By -p or pytest_plugins with autoloading off, and by -p on top of the entry point."""
    app.makepyfile(POLLUTED)
    if door != "entry point and -p":
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    if door == "conftest":
        app.makeconftest("pytest_plugins = ['isolation_pytest.plugin']")
        run_among_others(app).assert_outcomes(passed=2)
    else:
        run_among_others(app, "-p", "isolation_pytest.plugin").assert_outcomes(passed=2)


def test_by_default_the_victim_is_healed_and_the_polluter_named(app: pytest.Pytester) -> None:
    """Default mode: both pass, and the summary says who, what and what it is now."""
    app.makepyfile(test_app=POLLUTED)
    result = run_among_others(app)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_app.py::test_polluter*", "*app.CONFIG*users*", "*isolation score*"])
    result.stdout.fnmatch_lines(["*app.Service.ping*"])


def test_report_mode_names_and_changes_nothing(app: pytest.Pytester) -> None:
    """--isolation=report: the victim fails as without us, the polluter is named once."""
    app.makepyfile(test_app=POLLUTED)
    result = run(app, "--isolation=report")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_app.py::test_polluter*", "*app.CONFIG*users*"])
    assert result.stdout.str().partition("= isolation =")[2].count("app.CONFIG['users']") == 1
    result.stdout.no_fnmatch_line("*test_app.py::test_victim*app.CONFIG*")


def test_strict_mode_fails_the_polluter_and_heals(app: pytest.Pytester) -> None:
    """--isolation=strict: an error at the polluter's teardown, the victim passes."""
    app.makepyfile(POLLUTED)
    result = run(app, "--isolation=strict")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ContaminationError*"])


def test_a_healthy_suite_hears_nothing(app: pytest.Pytester) -> None:
    """A run without leaks prints no section and no header line."""
    app.makepyfile(
        "import app\n"
        "def test_one(): app.Service().ping()\n"
        "def test_two(tmp_path, monkeypatch): monkeypatch.setattr(app, 'CONFIG', 1)"
    )
    result = run(app)
    result.assert_outcomes(passed=2)
    assert "isolation" not in result.stdout.str().replace("isolation-", "").partition("collected")[2]


def test_wide_fixtures_keep_what_they_set(app: pytest.Pytester) -> None:
    """State made by session, package, module and class fixtures lives as long as they do, and no longer."""
    app.makepyfile(
        test_a="""
import os, app, pytest

@pytest.fixture(scope="session", autouse=True)
def everywhere():
    app.CONFIG["session"] = 1; yield; app.CONFIG.pop("session")

@pytest.fixture(scope="module", autouse=True)
def here():
    app.CONFIG["module"] = 1          # never taken back: the module barrier does that

class TestIt:
    @pytest.fixture(scope="class", autouse=True)
    def around(self): app.CONFIG["class"] = 1
    def test_one(self): assert {"session", "module", "class"} <= app.CONFIG.keys()
    def test_two(self): assert {"session", "module", "class"} <= app.CONFIG.keys()

def test_outside(): assert "module" in app.CONFIG and "class" not in app.CONFIG
""",
        test_b="""
import app
def test_next_module(): assert "module" not in app.CONFIG and "session" in app.CONFIG
""",
    )
    run(app).assert_outcomes(passed=4)


def test_unittest_classes_keep_their_class_state(app: pytest.Pytester) -> None:
    """State of setUpClass and setUpModule survives the tests inside and is gone after; its objects are watched."""
    app.makepyfile(
        test_a="""
import unittest, app
def setUpModule(): app.CONFIG["module"] = 1
class Skill:
    valid = True
class First(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.skill = Skill(); app.CONFIG["class"] = 1
    def setUp(self): app.CONFIG["test"] = 1
    def test_a(self): self.skill.valid = False; self.assertIn("class", app.CONFIG)
    def test_b(self): self.assertTrue(self.skill.valid); self.assertIn("class", app.CONFIG)
class Second(unittest.TestCase):
    def test_c(self): self.assertEqual({"users", "module"}, set(app.CONFIG))
""",
        test_b="import app\ndef test_d(): assert set(app.CONFIG) == {'users'}",
    )
    result = run(app)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*First::test_a*", "*skill.valid*"])


def test_a_late_wide_fixture_is_not_the_tests_doing(app: pytest.Pytester) -> None:
    """A session fixture first requested inside a test keeps its state; the test's own leak beside it goes."""
    app.makepyfile(
        """
import app, pytest
@pytest.fixture(scope="session")
def late():
    app.CONFIG["late"] = 1
    return 1
def test_one(request):
    app.CONFIG["mine"] = 1
    app.CONFIG["users"].append("mine")
    request.getfixturevalue("late")
def test_two(late): assert app.CONFIG == {"users": [], "late": 1}
"""
    )
    run(app).assert_outcomes(passed=2)


def test_a_parametrised_wide_fixture_is_rebuilt_between_tests(app: pytest.Pytester) -> None:
    """A module fixture torn down during the set-up of the next test is not a leak of that test."""
    app.makepyfile(
        test_a="""
import app, pytest
@pytest.fixture(scope="module", params=[1, 2])
def level(request):
    app.CONFIG["level"] = request.param
    yield request.param
    del app.CONFIG["level"]
def test_one(level): assert app.CONFIG["level"] == level
def test_two(level): assert app.CONFIG["level"] == level
""",
        test_b="import app\ndef test_last(): assert 'level' not in app.CONFIG",
    )
    result = run(app)
    result.assert_outcomes(passed=5)
    result.stdout.no_fnmatch_line("*isolation score*")


def test_imports_and_what_they_register_survive(app: pytest.Pytester) -> None:
    """A module first imported inside a test stays imported, and so does its registration elsewhere."""
    app.makepyfile(
        app_plugin="""
import app, os
@app.register('mail')
def send(): pass
os.environ['APP_PLUGIN'] = '1'
STATE = []
""",
        test_a="""
import os, sys, app
def test_one():
    app.CONFIG["mine"] = 1
    import app_plugin
    app_plugin.STATE.append(1)
    app.registry["mine"] = 1
def test_two():
    assert set(app.registry) == {"mail"}
    assert os.environ["APP_PLUGIN"] == "1"
    assert "app_plugin" in sys.modules
    assert "mine" not in app.CONFIG
    import app_plugin
    assert app_plugin.STATE == []
""",
    )
    run(app).assert_outcomes(passed=2)


def test_the_value_of_a_wide_fixture_is_restored(app: pytest.Pytester) -> None:
    """A module fixture's value changed by one test is back for the next, under a path that names the fixture."""
    app.makepyfile(
        """
import pytest
class Router:
    def __init__(self): self._routes = []
@pytest.fixture(scope="module")
def router(): return Router()
def test_one(router): router._routes.append(1)
def test_two(router): assert router._routes == []
"""
    )
    result = run(app)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_one*", "*getfixturevalue('router')._routes*"])


def test_parametrize_values_are_restored(app: pytest.Pytester) -> None:
    """A list shared by several parametrised tests is as written for each of them."""
    app.makepyfile(
        """
import pytest
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("payload", [{"items": []}])
def test_it(payload, n):
    assert payload == {"items": []}
    payload["items"].append(n)
"""
    )
    result = run(app)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*params?'payload'??'items'?*"])


def test_context_variables_of_a_body_die_with_it(app: pytest.Pytester) -> None:
    """Context variables of a test are undone; those of a wide fixture stay, and its reset by token works."""
    app.makepyfile(
        """
import contextvars, pytest
VAR = contextvars.ContextVar("VAR", default=0)
WIDE = contextvars.ContextVar("WIDE", default=0)
@pytest.fixture(scope="module", autouse=True)
def wide():
    token = WIDE.set(1); yield; WIDE.reset(token)
def test_one(): VAR.set(1); assert WIDE.get() == 1
def test_two(): assert VAR.get() == 0; assert WIDE.get() == 1
"""
    )
    run(app).assert_outcomes(passed=2)


def test_a_function_fixture_leak_belongs_to_its_test(app: pytest.Pytester) -> None:
    """Changes that a function fixture leaves behind are undone after its own teardown."""
    app.makepyfile(
        """
import app, pytest
@pytest.fixture
def leaky():
    app.CONFIG["a"] = 1
    yield
    assert app.CONFIG["a"] == 1
    app.CONFIG["b"] = 1
def test_one(leaky): pass
def test_two(): assert app.CONFIG == {"users": []}
"""
    )
    result = run(app)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_one*"])


def test_a_profiler_switched_on_by_a_hook_stays_on(app: pytest.Pytester) -> None:
    """A context variable that a hook sets between two tests is not undone when the module ends."""
    app.makeconftest("""
        import sys

        def watch(frame, event, argument):
            pass

        def pytest_runtest_logstart(nodeid):
            if nodeid.endswith("test_second"):
                sys.setprofile(watch)

        def pytest_sessionfinish(session):
            print("still:", sys.getprofile())
    """)
    app.makepyfile(test_one="def test_first(): pass\ndef test_second(): pass", test_two="def test_third(): pass")
    result = run(app, "-s", "test_one.py", "test_two.py")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*still: <function watch*"])
    result.stdout.no_fnmatch_line("*isolation score*")


def test_hooks_of_a_conftest_own_what_they_do(app: pytest.Pytester) -> None:
    """State that a conftest's runtest hook prepares is there for the test and no test is blamed for it."""
    app.makeconftest("import app\ndef pytest_runtest_setup(item): app.CONFIG['current'] = item.name")
    app.makepyfile(
        "import app\n"
        "def test_one(): assert app.CONFIG['current'] == 'test_one'\n"
        "def test_two(): assert app.CONFIG['current'] == 'test_two'"
    )
    result = run(app)
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*test_one*CONFIG*")


def test_the_marker_changes_one_test(app: pytest.Pytester) -> None:
    """mode= and ignore= of the marker hold for that test alone."""
    app.makepyfile(
        """
import app, pytest
@pytest.mark.isolation(mode="off")
def test_off(): app.CONFIG["off"] = 1
@pytest.mark.isolation(ignore=["container:app.CONFIG*"])
def test_ignore(): app.CONFIG["ignored"] = 1; app.registry["x"] = 1
def test_after(): assert "ignored" in app.CONFIG; assert app.registry == {}
"""
    )
    run(app).assert_outcomes(passed=3)


@pytest.mark.parametrize("arguments", ["'off'", "mood='off'", "mode='of'"])
def test_a_wrong_marker_says_what_is_wrong(app: pytest.Pytester, arguments: str) -> None:
    """Positional, unknown and mistaken arguments are errors that name the test and the argument."""
    app.makepyfile(test_app=f"import pytest\n@pytest.mark.isolation({arguments})\ndef test_it(): pass")
    result = run(app)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*test_app.py::test_it*"])


def test_settings_come_from_every_place(app: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Command line over ini over environment over [tool.isolation-core]."""
    app.makepyfile(POLLUTED)
    app.makepyprojecttoml('[tool.isolation-core]\nmode = "off"')
    run(app).assert_outcomes(passed=1, failed=1)
    monkeypatch.setenv("ISOLATION_CORE_MODE", "restore")
    run(app).assert_outcomes(passed=2)
    run(app, "-o", "isolation=off").assert_outcomes(passed=1, failed=1)
    run(app, "-o", "isolation=off", "--isolation=restore").assert_outcomes(passed=2)


def test_a_wrong_setting_is_a_usage_error(app: pytest.Pytester) -> None:
    """An unknown key names itself, its file and the nearest known key."""
    app.makepyfile(POLLUTED)
    app.makepyprojecttoml('[tool.isolation-core]\nmoed = "off"')
    result = run(app)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*moed*mode*"])


def test_the_journal_is_written(app: pytest.Pytester) -> None:
    """--isolation-journal=FILE.jsonl: a header, then one event a line, the change among them."""
    app.makepyfile(test_app=POLLUTED)
    run(app, "--isolation-journal=out.jsonl")
    header, *events = [json.loads(line) for line in (app.path / "out.jsonl").read_text().splitlines()]
    assert header["schema"] == "isolation-journal/1"
    changes = [event for event in events if event["ev"] == "change"]
    assert {change["path"] for change in changes} >= {"app.CONFIG['users']", "app.Service.ping"}
    assert {change["owner"] for change in changes} == {"test_app.py::test_polluter"}


def test_findings_reach_junit(app: pytest.Pytester) -> None:
    """The polluter's entry in the JUnit file carries what it left behind."""
    app.makepyfile(test_app=POLLUTED)
    run(app, "--junit-xml=out.xml")
    assert "isolation.leaks" in (app.path / "out.xml").read_text()


def test_two_sessions_in_one_process_do_not_meet(app: pytest.Pytester) -> None:
    """The second pytest.main of a process finds the state the first one found."""
    app.makepyfile(
        test_app="import app\ndef test_once(): app.CONFIG['users'].append(1); assert len(app.CONFIG['users']) == 1"
    )
    script = (
        "import pytest, sys; ours = ('--disable-plugin-autoload', '-p', 'isolation'); "
        "sys.exit(max(pytest.main([*ours, '-q', 'test_app.py']) for _ in range(2)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=app.path, env={**os.environ}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_doctests_are_isolated(app: pytest.Pytester) -> None:
    """A doctest's pollution is undone like a test's."""
    app.makepyfile(
        other='''
def one():
    """
    >>> import app
    >>> app.CONFIG["x"] = 1
    """
def two():
    """
    >>> import app
    >>> app.CONFIG
    {'users': []}
    """
'''
    )
    run(app, "--doctest-modules", "other.py").assert_outcomes(passed=2)


def test_a_polluter_that_fails_is_undone_too(app: pytest.Pytester) -> None:
    """A failing test, a failing set-up and a failing teardown do not keep the barrier from closing."""
    app.makepyfile(
        """
import app, pytest
def test_fails(): app.CONFIG["a"] = 1; assert False
@pytest.fixture
def bad_start(): app.CONFIG["b"] = 1; raise RuntimeError
def test_set_up(bad_start): pass
@pytest.fixture
def bad_end(): yield; app.CONFIG["c"] = 1; raise RuntimeError
def test_teardown(bad_end): pass
def test_after(): assert app.CONFIG == {"users": []}
"""
    )
    run(app).assert_outcomes(passed=2, failed=1, errors=2)


def test_weak_references_behave_as_without_us(app: pytest.Pytester) -> None:
    """Objects that a test creates and drops are freed at once, also in watched containers; so are fixture values."""
    app.makepyfile(
        """
import gc, pathlib, sys, weakref, app, pytest
class Thing: pass
GONE = pathlib.Path("gone.txt").absolute()
@pytest.fixture(scope="class")
def thing():
    it = Thing(); weakref.finalize(it, GONE.write_text, "gone"); yield it
class TestIt:
    def test_uses(self, thing): thing.x = 1
def test_fixture_value_died(): assert GONE.exists()
def test_own():
    it = Thing(); r = weakref.ref(it); app.registry["x"] = it; del app.registry["x"]; del it
    assert r() is None
def test_count():
    it = Thing(); before = sys.getrefcount(it); app.registry["x"] = it
    assert sys.getrefcount(it) == before + 1
def test_collector():
    a = Thing(); a.me = a; r = weakref.ref(a); del a; gc.collect(); assert r() is None
"""
    )
    run(app).assert_outcomes(passed=5)


def test_the_isolation_fixture_is_the_tests_barrier(app: pytest.Pytester) -> None:
    """isolation.on_cleanup runs when the test ends; with isolation off the fixture is None."""
    app.makepyfile(
        """
import app
DONE = []
def test_it(isolation):
    if isolation is not None:
        assert isolation.is_open and isolation.owner.endswith("test_it")
        isolation.on_cleanup(lambda: print("CLEANED"))
"""
    )
    result = run(app, "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*CLEANED*"])
    run(app, "--isolation=off").assert_outcomes(passed=1)


# -- beside other plugins ------------------------------------------------------

ASYNC = """
import asyncio, app, pytest
{mark}
async def test_polluter(): await asyncio.sleep(0); app.CONFIG["users"].append(1)
{mark}
async def test_victim(): await asyncio.sleep(0); assert app.CONFIG == {{"users": []}}
"""


def test_beside_the_anyio_plugin(app: pytest.Pytester) -> None:
    """Async tests on asyncio and trio are healed, with a module-scoped async fixture alive."""
    app.makepyfile(
        """
import anyio, app, pytest
pytestmark = pytest.mark.anyio
@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request): return request.param
@pytest.fixture(scope="module")
async def server(anyio_backend):
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever); yield {"hits": 0}; group.cancel_scope.cancel()
async def test_polluter(server): await anyio.sleep(0); app.CONFIG["users"].append(1); server["hits"] += 1
async def test_victim(server): await anyio.sleep(0); assert app.CONFIG == {"users": []}; assert server["hits"] == 0
"""
    )
    run_among_others(app).assert_outcomes(passed=4)


@pytest.mark.parametrize("loop_scope", ["function", "module", "session"])
def test_beside_pytest_asyncio(app: pytest.Pytester, loop_scope: str) -> None:
    """Async tests are healed whatever the scope of their loop."""
    app.makepyfile(ASYNC.format(mark=f"@pytest.mark.asyncio(loop_scope='{loop_scope}')"))
    run_among_others(app, "-W", "ignore").assert_outcomes(passed=2)


def test_beside_pytest_randomly(app: pytest.Pytester) -> None:
    """Reordering and reseeding plugins are left alone: same random numbers, victims healed in any order."""
    app.makepyfile(
        "import app, random\n"
        + "\n".join(
            f"def test_{i}(): assert app.CONFIG == {{'users': []}}; app.CONFIG['users'].append({i}); random.random()"
            for i in range(8)
        )
    )
    for seed in ("1", "2"):
        app.runpytest_subprocess("-p", "randomly", f"--randomly-seed={seed}").assert_outcomes(passed=8)


def test_beside_xdist(app: pytest.Pytester) -> None:
    """Workers heal on their own, and the controller's summary has their findings once."""
    app.makepyfile(test_app=POLLUTED)
    result = run_among_others(app, "-n", "2", "--dist=loadfile")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_app.py::test_polluter*", "*app.CONFIG*", "*isolation score*"])
    assert result.stdout.str().partition("= isolation =")[2].count("app.CONFIG['users']") == 1


def test_beside_rerunfailures(app: pytest.Pytester) -> None:
    """Each attempt has a barrier of its own: the second finds what the first found."""
    app.makepyfile(
        """
import app, sys
def test_it():
    assert app.CONFIG == {"users": []}
    app.CONFIG["users"].append(1)
    sys.attempts = getattr(sys, "attempts", 0) + 1
    assert False
"""
    )
    result = run_among_others(app, "--reruns", "2")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*assert app.CONFIG ==*users*1*")


def test_beside_coverage(app: pytest.Pytester) -> None:
    """Measuring coverage goes on from test to test: its tracer is not a leak."""
    app.makepyfile(test_app="import app\ndef test_one(): app.register('a')\ndef test_two(): app.Service().ping()")
    result = run_among_others(app, "--cov=app", "--cov-report=term-missing")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["app.py*6-7*"])
    result.stdout.no_fnmatch_line("*isolation score*")


USES_ITS_BARRIER = """
import pytest
undone = []
def test_it(isolation, isolated_mock):
    assert isolation.is_open and isolation.mode == {mode!r}
    isolation.on_cleanup(lambda: undone.append("undone"))
    test_it.mock, test_it.barrier = isolated_mock(), isolation
def test_next():
    assert undone == ["undone"] and not test_it.barrier.is_open
    with pytest.raises(Exception, match="test_it"):
        test_it.mock()
"""


@pytest.mark.parametrize("mode", ["off", "report"])
def test_the_barrier_of_a_test_works_in_every_mode(app: pytest.Pytester, mode: str) -> None:
    """Also with --isolation=off `isolation` is an open barrier, with cleanups and mocks that end with the test."""
    app.makepyfile(USES_ITS_BARRIER.format(mode=mode))
    run(app, f"--isolation={mode}").assert_outcomes(passed=2)


def test_strict_mode_shows_the_fact_and_none_of_our_frames(app: pytest.Pytester) -> None:
    """The error is its message alone, and the short summary names the state within 80 columns."""
    app.makepyfile(test_x=POLLUTED)
    result = run(app, "--isolation=strict")
    shown = result.stdout.str()
    assert "barrier.py" not in shown.partition("short test summary")[0] and "_layers.py" not in shown
    result.stdout.fnmatch_lines(
        [
            "E  *ContaminationError: leaks app.* (+1 more): test_x.py::test_polluter left 2 things behind",
            "ERROR test_x.py::test_polluter - leaks app.*",
        ]
    )


CACHED = """
import app, functools
@functools.cache
def rate(): return app.CONFIG["rate"]
app.rate = rate
app.CONFIG["rate"] = 1
def test_fills():
    assert app.rate() == 1
def test_fails():
    assert {failing}
"""


def test_a_cache_filled_before_a_failure_is_named(app: pytest.Pytester) -> None:
    """Harmless by itself and not listed, unless a later test fails: then it may be the reason."""
    app.makepyfile(CACHED.format(failing="False"))
    result = run(app, "--isolation=report")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["before a test failed there was also this*", "*::test_fills", "  MOD008 *rate*"])
    app.makepyfile(CACHED.format(failing="True"))
    result = run(app, "--isolation=report")
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*MOD008*")


def test_the_summary_is_coloured_where_the_terminal_is(app: pytest.Pytester) -> None:
    """With --color=yes what was put back is green; otherwise there is not one escape sequence."""
    app.makepyfile(POLLUTED)
    assert "\x1b[32mput back\x1b[0m" in run(app, "--color=yes").stdout.str()
    assert "\x1b" not in run(app, "--color=no").stdout.str()


def test_a_baseline_lets_only_new_findings_count(app: pytest.Pytester) -> None:
    """In mode strict, known findings are one line and no failure; new findings are listed and fail the run."""
    app.makepyfile(POLLUTED)
    known = app.path / "known.json"
    option = f"--isolation-baseline={known}"
    run(app, option, "--isolation-baseline-update").assert_outcomes(passed=2)
    written = known.read_text()
    rows = json.loads(written)["findings"]
    assert [row[1:] for row in rows] == [["CLS001", "app.Service.ping"], ["MOD002", "app.CONFIG['users']"]]

    result = run(app, option, "--isolation=strict")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["2 known findings (baseline) not listed"])
    result.stdout.no_fnmatch_line("*MOD002*")

    known.write_text(json.dumps({"schema": "isolation-baseline/1", "findings": [rows[0], ["gone", "X", "y"]]}))
    result = run(app, option, "--isolation=strict")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["E *leaks app.CONFIG?'users'?: *", "  MOD002 *", "1 known finding (baseline) not listed"]
    )
    assert ["gone", "X", "y"] in json.loads(known.read_text())["findings"]

    run(app, option, "--isolation-baseline-update").assert_outcomes(passed=2)
    assert known.read_text() == written


def test_a_baseline_is_written_by_workers_together(app: pytest.Pytester) -> None:
    """With several processes the file has the findings of all of them, and each of them knows it."""
    app.makepyfile(POLLUTED)
    options = ("-p", "xdist", "-n2", "--isolation-baseline=known.json", "--isolation=strict")
    run(app, *options, "--isolation-baseline-update").assert_outcomes(passed=2, errors=1)
    assert len(json.loads((app.path / "known.json").read_text())["findings"]) == 2
    run(app, *options).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--isolation-baseline=none.json",), "*none.json cannot be read*--isolation-baseline-update writes it*"),
        (("--isolation-baseline=app.py",), "*app.py is not a baseline*"),
        (("--isolation-baseline-update",), "*give --isolation-baseline=FILE*"),
    ],
)
def test_a_wrong_baseline_is_a_usage_error(app: pytest.Pytester, options: tuple[str, ...], message: str) -> None:
    """A file that is missing or something else is named with the way out."""
    app.makepyfile(POLLUTED)
    result = run(app, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n2")])
def test_a_package_that_does_not_exist_is_told(app: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """A slip in --isolation-packages watches nothing: the summary says so once and suggests the nearest name."""
    app.mkpydir("store").joinpath("__init__.py").write_text("TABLE = {}")
    app.mkpydir("unused")
    app.makepyfile("import store\ndef test_it(): store.TABLE['a'] = 1")
    result = run(app, "--isolation-packages=stoer,unused", *workers)
    assert result.stdout.str().count("there is no package") == 1
    result.stdout.fnmatch_lines(
        ["note  there is no package 'stoer', so nothing of it was watched; did you mean 'store'?"]
    )
    run(app, "--isolation-packages=store,unused", *workers).stdout.no_fnmatch_line("*there is no package*")
