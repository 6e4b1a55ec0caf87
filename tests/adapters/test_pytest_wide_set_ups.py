"""Wide fixtures under pytest: changes of their set-up stay until their own teardown, and no test is blamed."""

from __future__ import annotations

import itertools
import re
import sys
import textwrap

import pytest

SCOPES = ("session", "package", "module", "class")
REQUESTS = ("argument", "marker", "autouse", "in_test", "in_fixture")
TESTS = ("first", "later")
DEEDS = {
    "sets_then_imports": "app.DB['NAME'] = os.environ[KEY] = 'test'; import {late}",
    "imports_then_sets": "import {late}; app.DB['NAME'] = os.environ[KEY] = 'test'",
    "asks_for_another": "os.environ[KEY] = 'test'; request.getfixturevalue('another'); app.DB['NAME'] = 'test'",
    "starts_a_thread": "app.DB['NAME'] = 'test'; run_in_thread(set_key_and_import); import {late}",
    "is_async": "app.DB['NAME'] = 'test'; await sleep(0); import {late}; os.environ[KEY] = 'test'; await sleep(0)",
    "fails": "request.addfinalizer(put_back); app.DB['NAME'] = os.environ[KEY] = 'test'; import {late}; fail('x')",
}
COMBINATIONS = list(itertools.product(SCOPES, REQUESTS, TESTS, DEEDS))

SUITE = """
import os, sys, threading
from anyio import sleep
import pytest
from pytest import fail
import {app} as app

KEY = "{app}".upper()
pytestmark = pytest.mark.usefixtures("anyio_backend")

def put_back():
    assert app.DB == {{"NAME": "test"}}, "the teardown would drop the real database"
    assert os.environ[KEY] == "test"
    app.DB["NAME"] = "real"
    del os.environ[KEY]

def set_key_and_import():
    os.environ[KEY] = "test"
    import {late}

def run_in_thread(target):
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()

@pytest.fixture(scope="{scope}")
def another():
    app.OTHER.append("set up")
    import {late}
    yield
    assert app.OTHER == ["set up"]
    app.OTHER.clear()

class TestBefore:
    def test_nothing(self):
        assert app.DB == {{"NAME": "real"}}

class TestIt:
    @pytest.fixture(scope="{scope}", autouse={autouse})
    {kind} wide(self, request):
        {deed}
        yield
        put_back()

    @pytest.fixture(autouse={in_fixture})
    def narrow(self, request):
        if request.node.name in {users}:
            request.getfixturevalue("wide")

    {decorator_1}
    def test_1(self, request{argument_1}):
        {body_1}
        self.check(request)

    {decorator_2}
    def test_2(self, request{argument_2}):
        {body_2}
        self.check(request)

    def test_3(self, request):
        self.check(request)

    def check(self, request):
        is_there = {autouse} or request.node.name >= {since!r}
        assert app.DB == {{"NAME": "test" if is_there else "real"}}
        assert (KEY in os.environ) is is_there
"""


def suite(number: int, scope: str, how: str, when: str, deed: str) -> str:
    """Return a test module in which a fixture of *scope*, requested as *how* says, does *deed*."""
    users = ["test_1", "test_2"] if when == "first" else ["test_2"]
    asks = {name: name in users for name in ("test_1", "test_2")}
    values = {
        "app": f"app_{number}",
        "late": f"late_{number}",
        "scope": scope,
        "autouse": how == "autouse",
        "in_fixture": how == "in_fixture",
        "users": users,
        "since": users[0],
        "kind": "async def" if deed == "is_async" else "def",
        "deed": DEEDS[deed].format(late=f"late_{number}"),
    }
    for each, name in enumerate(asks, 1):
        values[f"argument_{each}"] = ", wide" if asks[name] and how == "argument" else ""
        marked = asks[name] and how == "marker"
        values[f"decorator_{each}"] = "@pytest.mark.usefixtures('wide')" if marked else "# asks for nothing by marker"
        in_test = asks[name] and how == "in_test"
        values[f"body_{each}"] = "request.getfixturevalue('wide')" if in_test else "pass"
    return SUITE.format(**values)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a project with one package of tests for each combination."""
    root = tmp_path_factory.mktemp("wide")
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "conftest.py").write_text(
        "import pytest\n@pytest.fixture(scope='session')\ndef anyio_backend(): return 'asyncio'\n"
    )
    for number, combination in enumerate(COMBINATIONS):
        package = root / f"c{number}"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / f"test_{'_'.join(combination)}.py").write_text(suite(number, *combination))
        (root / f"app_{number}.py").write_text("DB = {'NAME': 'real'}\nOTHER = []\n")
        (root / f"late_{number}.py").write_text("LATE = True\n")
    return str(root)


def run(project: str, pytester: pytest.Pytester, mode: str, *args: str) -> tuple[list[tuple[str, str]], str]:
    """Return the outcome of each test, and the whole output."""
    plugins = ("--disable-plugin-autoload", "-p", "isolation", "-p", "anyio", "-p", "no:cacheprovider")
    options = ("-q", "-rA", "--tb=short", f"--rootdir={project}", f"--isolation={mode}")
    result = pytester.runpytest_subprocess(*plugins, *options, "-c", f"{project}/pytest.ini", project, *args)
    text = result.stdout.str()
    return sorted(re.findall(r"^(PASSED|FAILED|ERROR) (\S+)", text, re.MULTILINE)), text


def test_every_set_up_stays_until_its_own_teardown(
    project: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scope, way of request, first or later test, deed: with isolation all outcomes are as without, in silence."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    expected, _ = run(project, pytester, "off")
    errors = {name for outcome, name in expected if outcome != "PASSED"}
    assert len(expected) >= 4 * len(COMBINATIONS)
    assert all("_fails" in name for name in errors)
    for mode in ("restore", "strict"):
        outcomes, text = run(project, pytester, mode)
        assert outcomes == expected
        assert "= isolation =" not in text


LATE = """
import os, pytest, app

@pytest.fixture(scope="module")
def database():
    app.DB["NAME"] = "test"
    import late
    yield
    assert app.DB["NAME"] == "test"
    app.DB["NAME"] = "real"
"""


@pytest.fixture
def late(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return a project with a wide fixture."""
    pytester.makepyfile(app="DB = {'NAME': 'real'}\nLOG = []", late="LATE = True", conftest=LATE)
    return pytester


def passes(pytester: pytest.Pytester, text: str, *args: str) -> str:
    """Run *text* as a test module; all its tests must pass."""
    pytester.makepyfile(test_it=textwrap.dedent(text))
    result = pytester.runpytest_subprocess("--disable-plugin-autoload", "-p", "isolation", *args)
    assert result.ret == 0
    return result.stdout.str()


def test_pollution_on_top_of_a_late_set_up_is_healed(late: pytest.Pytester) -> None:
    """A slot that a late wide fixture wrote and the test changed afterwards is restored to the value of the fixture."""
    text = passes(
        late,
        """
        import app
        def test_pollutes(request):
            request.getfixturevalue("database")
            app.DB["NAME"] = "polluted"
        def test_next(database):
            assert app.DB["NAME"] == "test"
        """,
    )
    assert "app.DB['NAME']: 'test' -> 'polluted', put back" in text
    assert "test_it.py::test_pollutes" in text


def test_pollution_before_a_late_set_up_is_healed_around_it(late: pytest.Pytester) -> None:
    """Items that a test added to a list are removed; items added later by a late wide fixture stay."""
    passes(
        late,
        """
        import app, pytest
        @pytest.fixture(scope="module")
        def listener():
            app.LOG.append("listener")
            yield
            app.LOG.remove("listener")
        def test_pollutes(request):
            app.LOG.append("polluted")
            request.getfixturevalue("listener")
        def test_next(listener):
            assert app.LOG == ["listener"]
        """,
    )


def test_a_parameter_that_changes_in_a_test_tears_down_in_the_fixtures_own_name(late: pytest.Pytester) -> None:
    """The teardown of a wide fixture after a test has begun is not undone, and no test is blamed for it."""
    text = passes(
        late,
        """
        import app, pytest
        @pytest.fixture(scope="module", params=["a", "b"])
        def tenant(request):
            app.DB["TENANT"] = request.param
            yield request.param
            del app.DB["TENANT"]
        class TestInAClassThatIsOpen:
            def test_before(self):
                assert app.DB == {"NAME": "real"}
            def test_tenant(self, tenant):
                assert app.DB["TENANT"] == tenant
            def test_tenant_by_name(self, tenant, request):
                assert request.getfixturevalue("tenant") == app.DB["TENANT"] == tenant
        """,
        "--isolation=strict",
    )
    assert "= isolation =" not in text


def test_a_barrier_inside_a_set_up_owns_what_happens_in_it(late: pytest.Pytester) -> None:
    """A barrier opened by a wide fixture heals its own block, and the rest of the set-up stays."""
    passes(
        late,
        """
        import app, pytest
        from isolation_core import isolation_barrier
        @pytest.fixture(scope="session")
        def prepared():
            app.DB["NAME"] = "test"
            with isolation_barrier():
                app.LOG.append("tried")
                import late
            assert app.LOG == []
            app.DB["READY"] = True
            yield
            del app.DB["READY"]
            app.DB["NAME"] = "real"
        def test_first(request):
            request.getfixturevalue("prepared")
        def test_second(prepared):
            assert app.DB == {"NAME": "test", "READY": True}
        """,
    )


def test_unittest_set_up_of_class_and_module_stays(late: pytest.Pytester) -> None:
    """`setUpModule` and `setUpClass` keep what they did, imports in the middle included, until their teardown."""
    suite = """
        import unittest, app
        def setUpModule():
            app.DB["NAME"] = "test"
            import late
            app.DB["MODULE"] = True
        def tearDownModule():
            assert app.DB == {"NAME": "test", "MODULE": True}
            app.DB["NAME"] = "real"
            del app.DB["MODULE"]
        class A(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                app.LOG.append("class")
                import later
                app.LOG.append("class again")
            @classmethod
            def tearDownClass(cls):
                assert app.LOG == ["class", "class again"]
                app.LOG.clear()
            def test_1(self): assert app.DB["MODULE"] and app.LOG
            def test_2(self): assert app.DB["MODULE"] and app.LOG
        """
    late.makepyfile(later="LATER = True")
    assert "= isolation =" not in passes(late, suite, "--isolation=strict")
    result = late.run(sys.executable, "-m", "isolation_unittest", "test_it")
    assert result.ret == 0
    assert "isolation" not in result.stderr.str()


def test_managed_fixtures_keep_their_wide_set_up(pytester: pytest.Pytester) -> None:
    """A managed fixture of a wider barrier that is first requested in a narrow one keeps what it did and imported."""
    pytester.makepyfile(
        app="DB = {'NAME': 'real'}",
        late="LATE = True",
        run="""
        import app
        from isolation_core import isolation_barrier, managed_fixture

        @managed_fixture(scope="session")
        def database():
            app.DB["NAME"] = "test"
            import late
            yield "database"
            assert app.DB["NAME"] == "test"
            app.DB["NAME"] = "real"

        def main():
            with isolation_barrier(owner="session") as outer:
                outer.fixtures.rescope("database", "session")
                with isolation_barrier(owner="one") as one:
                    outer.fixture("database")
                assert one.clean, one.changes
                with isolation_barrier(owner="two") as two:
                    assert app.DB["NAME"] == "test"
            assert app.DB["NAME"] == "real"
            assert outer.clean, outer.changes
        main()
        """,
    )
    result = pytester.run(sys.executable, "run.py")
    assert result.ret == 0


def test_what_a_set_up_makes_and_its_teardown_drops_is_no_finding(late: pytest.Pytester) -> None:
    """An object made by a late set-up, with an import in the middle, may change until its teardown drops it."""
    text = passes(
        late,
        """
        import app, pytest
        class Engine:
            def __init__(self):
                self.pool, self.options = [1], {}
        @pytest.fixture(scope="session")
        def engine():
            app.engine = Engine()
            import late
            app.engine.calls = []
            app.engine.options["a"] = 1
            yield app.engine
            app.engine.pool = []
            del app.engine
        def test_asks_late(request):
            request.getfixturevalue("engine")
        def test_next(engine):
            assert engine.options == {"a": 1}
        """,
        "--isolation=strict",
    )
    assert "= isolation =" not in text


def test_a_warnings_filter_of_a_late_set_up_ends_with_the_test_under_pytest(late: pytest.Pytester) -> None:
    """The runner itself takes the filters of a test back, which is not a finding of the session."""
    text = passes(
        late,
        """
        import warnings, pytest
        @pytest.fixture(scope="session")
        def quiet():
            warnings.filterwarnings("ignore", "nothing")
        def test_asks_late(request):
            request.getfixturevalue("quiet")
        def test_next():
            pass
        """,
        "--isolation=strict",
    )
    assert "= isolation =" not in text


def test_a_class_fixture_outside_of_classes_belongs_to_its_test(late: pytest.Pytester) -> None:
    """It is made for each test outside of a class, so what it leaves behind is put back with the test."""
    text = passes(
        late,
        """
        import app, pytest
        @pytest.fixture(scope="class")
        def tenant():
            app.DB["TENANT"] = "x"
        def test_asks(tenant):
            assert app.DB["TENANT"] == "x"
        def test_next():
            assert app.DB == {"NAME": "real"}
        """,
    )
    assert "test_it.py::test_asks" in text


def test_strict_mode_ends_an_interrupted_run_as_pytest_does(late: pytest.Pytester) -> None:
    """Ctrl-C in the middle of a set-up: the summary tells what is left behind, and pytest says interrupted."""
    late.makepyfile(
        test_it="""
        import app, pytest
        @pytest.fixture(scope="session")
        def wide():
            app.DB["NAME"] = "test"
            raise KeyboardInterrupt
        def test_asks(request):
            request.getfixturevalue("wide")
        """
    )
    result = late.runpytest_subprocess("--disable-plugin-autoload", "-p", "isolation", "--isolation=strict")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "app.DB['NAME']: 'real' -> 'test', put back" in result.stdout.str()
    assert "Traceback" not in result.stderr.str()


def test_a_verdict_of_strict_mode_is_not_explained_by_another_finding(late: pytest.Pytester) -> None:
    """A test that fails for nothing but what it left behind gets no hint at who may have broken it."""
    late.makepyfile(
        test_it="""
        import app
        def test_one(): app.DB["NAME"] = "one"
        def test_two(): app.DB["NAME"] = "two"
        """
    )
    result = late.runpytest_subprocess("--disable-plugin-autoload", "-p", "isolation", "--isolation=strict")
    result.assert_outcomes(passed=2, errors=2)
    assert "may pass only after" not in result.stdout.str()
