"""Context variables under pytest: set-up, body and teardown of a test share a context; each test has its own."""

from __future__ import annotations

import pytest

HEADER = """
import asyncio, contextvars, sys
import pytest
BARE = contextvars.ContextVar("BARE")
VAR = contextvars.ContextVar("VAR", default=0)
"""
SWITCH_OFF = """
import isolation_core._own_context as own
own._looked, own._switch = True, None
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder for a suite, with the plugins of both kinds of async tests."""
    pytester.makepyprojecttoml("[tool.pytest]\nasyncio_default_fixture_loop_scope = 'function'\n")
    return pytester


def run(suite: pytest.Pytester, body: str, *options: str, strict: bool = True) -> pytest.RunResult:
    """Run a suite of one file, in mode strict unless told otherwise."""
    suite.makepyfile(HEADER + body)
    mode = "strict" if strict else "restore"
    return suite.runpytest_subprocess(
        "-q", "-p", "no:randomly", "-p", "no:cacheprovider", f"--isolation={mode}", *options
    )


def is_silent(result: pytest.RunResult) -> bool:
    """Tell whether the plugin wrote no section."""
    return "= isolation =" not in result.stdout.str()


TOKENS = {
    "fixture": """
@pytest.fixture
def login():
    tokens = []
    yield lambda: tokens.append(BARE.set(1))
    BARE.reset(tokens.pop())
def test_it(login): login(); assert BARE.get() == 1
""",
    "finalizer": """
def test_it(request):
    token = BARE.set(1)
    request.addfinalizer(lambda: BARE.reset(token))
""",
    "method": """
class TestIt:
    def setup_method(self): self.first = VAR.set(1)
    def test_it(self): self.token = BARE.set(1); assert VAR.get() == 1
    def teardown_method(self): BARE.reset(self.token); VAR.reset(self.first)
""",
    "unittest": """
import unittest
class TestIt(unittest.TestCase):
    def setUp(self): self.first = VAR.set(1)
    def test_it(self): self.addCleanup(BARE.reset, BARE.set(1)); assert VAR.get() == 1
    def tearDown(self): VAR.reset(self.first)
""",
    "anyio": """
@pytest.fixture
def login():
    tokens = [VAR.set(1)]
    yield tokens
    VAR.reset(tokens.pop())
    assert not tokens
@pytest.mark.anyio
async def test_it(login): login.insert(0, BARE.set(1)); BARE.reset(login.pop(0)); assert VAR.get() == 1
""",
    "pytest_asyncio": """
import pytest_asyncio
@pytest_asyncio.fixture
async def login():
    token = VAR.set(1)
    yield
    VAR.reset(token)
@pytest.mark.asyncio
async def test_it(login): BARE.set(1); await asyncio.sleep(0); assert VAR.get() == 1
""",
    "generator": """
import contextlib
@contextlib.contextmanager
def pushed():
    token = BARE.set(1)
    yield
    BARE.reset(token)
@pytest.fixture
def stack():
    with contextlib.ExitStack() as made: yield made
def test_it(stack): stack.enter_context(pushed()); assert BARE.get() == 1
""",
}


@pytest.mark.parametrize("kind", TOKENS)
def test_what_a_test_sets_can_be_reset_in_its_teardown(suite: pytest.Pytester, kind: str) -> None:
    """A token fits wherever the test, its set-up or its teardown uses it; in strict that is not a finding."""
    result = run(suite, TOKENS[kind] + "\ndef test_next(): assert BARE.get(None) is None; assert VAR.get() == 0")
    assert result.ret == 0
    assert is_silent(result)


HOOKS = [
    ("pytest_runtest_setup", "pytest_runtest_teardown"),
    ("pytest_runtest_setup", "pytest_runtest_logfinish"),
    ("pytest_runtest_logstart", "pytest_runtest_logfinish"),
    ("pytest_runtest_logstart", "pytest_runtest_teardown"),
    ("pytest_runtest_call", "pytest_runtest_teardown"),
]


@pytest.mark.parametrize(("first", "last"), HOOKS)
def test_what_a_hook_sets_can_be_reset_in_another_hook(suite: pytest.Pytester, first: str, last: str) -> None:
    """A plugin that keeps a variable set during each test goes on working."""
    suite.makeconftest(f"""
import contextvars, pytest
CURRENT = contextvars.ContextVar("CURRENT")
pytest.tokens = []
def {first}(): pytest.tokens.append(CURRENT.set("test"))
def {last}(): CURRENT.reset(pytest.tokens.pop())
""")
    result = run(suite, "def test_one(): pass\ndef test_two(): pass")
    result.assert_outcomes(passed=2)
    assert is_silent(result)


LEFT = {
    "body": "def test_one(): BARE.set(1); VAR.set(1)",
    "fixture": "@pytest.fixture\ndef fix(): BARE.set(1); VAR.set(1)\ndef test_one(fix): assert BARE.get() == 1",
    "teardown": "@pytest.fixture\ndef fix(): yield; BARE.set(1); VAR.set(1)\ndef test_one(fix): pass",
    "unittest": "import unittest\nclass T(unittest.TestCase):\n    def setUp(self): BARE.set(1); VAR.set(1)\n"
    "    def test_one(self): assert BARE.get() == 1",
    "pytest_asyncio": "import pytest_asyncio\n@pytest_asyncio.fixture\nasync def fix(): BARE.set(1); VAR.set(1)\n"
    "@pytest.mark.asyncio\nasync def test_one(fix): assert BARE.get() == 1",
    "thread": "import threading\ndef test_one():\n"
    "    threading.Thread(target=contextvars.copy_context().run, args=(BARE.set, 1)).start()\n    VAR.set(1)",
}


@pytest.mark.parametrize("kind", LEFT)
def test_what_is_left_set_is_gone_for_the_next_test_and_reported(suite: pytest.Pytester, kind: str) -> None:
    """With a default or without; who set it is named."""
    check = "\ndef test_two(): assert BARE.get(None) is None; assert VAR.get() == 0"
    result = run(suite, LEFT[kind] + check, "-v", strict=False)
    assert result.ret == 0
    if kind != "pytest_asyncio":  # its plugin resets what an asynchronous fixture has set
        result.stdout.fnmatch_lines(["*test_one*", "*CTX001*VAR*"])


WIDE = """
WIDE = contextvars.ContextVar("WIDE")
@pytest.fixture(scope={scope!r}{autouse})
def wide(request):
    seen = VAR.get()
    token = WIDE.set(1)
    yield seen
    assert WIDE.get() == 1
    WIDE.reset(token)
"""
REQUESTS = {
    "first": "def test_one(wide): assert WIDE.get() == 1",
    "late": "def test_one(request):\n    VAR.set(5)\n    assert request.getfixturevalue('wide') == 5\n"
    "    assert WIDE.get() == 1 and VAR.get() == 5\n    VAR.set(0)",
    "late_fixture": "@pytest.fixture\ndef narrow(request): request.getfixturevalue('wide'); assert WIDE.get() == 1\n"
    "def test_one(narrow): assert WIDE.get() == 1",
    "second": "def test_zero(): pass\ndef test_one(wide): assert WIDE.get() == 1",
    "teardown": "@pytest.fixture\ndef narrow(request): yield; request.getfixturevalue('wide')\n"
    "def test_one(narrow): pass",
}


@pytest.mark.parametrize("scope", ["session", "package", "module"])
@pytest.mark.parametrize("kind", REQUESTS)
def test_a_wide_fixture_keeps_its_variable_until_its_own_teardown(
    suite: pytest.Pytester, kind: str, scope: str
) -> None:
    """Also if it is first requested inside a test: other tests see the variable, and its own token fits."""
    wide = WIDE.format(scope=scope, autouse="")
    tests = f"\n{REQUESTS[kind]}\ndef test_two(wide): assert WIDE.get() == 1; assert VAR.get() == 0"
    result = run(suite, wide + tests)
    assert result.ret == 0
    assert is_silent(result)


@pytest.mark.parametrize("decorator", ["pytest.fixture", "pytest_asyncio.fixture(loop_scope='module')"])
def test_a_wide_asynchronous_fixture_keeps_its_variable(suite: pytest.Pytester, decorator: str) -> None:
    """The same for the fixtures of pytest-asyncio and anyio, whose plugins carry the variables over."""
    opening = decorator.replace("fixture(", "fixture(scope='module', ").replace("fixture", "fixture", 1)
    if "(" not in opening:
        opening += "(scope='module')"
    asyncios = "asyncio" in decorator
    asks = "@pytest.mark.asyncio(loop_scope='module')\n" if asyncios else "@pytest.mark.anyio\n"
    backend = "" if asyncios else "@pytest.fixture(scope='module')\ndef anyio_backend(): return 'asyncio'\n"
    result = run(
        suite,
        f"import pytest_asyncio\n{backend}@{opening}\nasync def wide():\n    token = VAR.set(1)\n    yield\n"
        f"    VAR.reset(token)\n{asks}async def test_one(wide): await asyncio.sleep(0)\n"
        f"{asks}async def test_two(wide): await asyncio.sleep(0)\n",
    )
    result.assert_outcomes(passed=2)
    assert is_silent(result)


def test_a_setup_class_may_set_and_reset(suite: pytest.Pytester) -> None:
    """A token of setUpClass or setup_module fits in its teardown, and the tests between see the variable."""
    result = run(
        suite,
        """
import unittest
def setup_module(): VAR.set(1)
def teardown_module(): assert VAR.get() == 1; VAR.set(0)
class TestCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls): TOKENS.append(BARE.set(2))
    def test_one(self): assert (VAR.get(), BARE.get()) == (1, 2)
    def test_two(self): assert (VAR.get(), BARE.get()) == (1, 2)
    @classmethod
    def tearDownClass(cls): BARE.reset(TOKENS.pop())
TOKENS = []
""",
    )
    result.assert_outcomes(passed=2)
    assert is_silent(result)


def test_sessions_nest(suite: pytest.Pytester) -> None:
    """What an inner session sets stays inside; the variables of the outer test are as it left them."""
    result = run(
        suite,
        """
pytest_plugins = ["pytester"]
@pytest.fixture
def login():
    tokens = []
    yield tokens
    BARE.reset(tokens.pop())
def test_outer(login, pytester):
    login.append(BARE.set(1))
    pytester.makepyfile(test_inner=f'''
import pytest, test_sessions_nest as outer
@pytest.fixture(scope="module")
def wide():
    token = outer.VAR.set(3); yield; outer.VAR.reset(token)
def test_one(wide): outer.BARE.set(2); assert outer.VAR.get() == 3
def test_two(wide): assert outer.BARE.get() == 1
''')
    pytester.inline_run("-q", "--isolation=restore").assertoutcome(passed=2)
    assert BARE.get() == 1
    assert VAR.get() == 0
def test_next(): assert BARE.get(None) is None
""",
        strict=False,
    )
    result.assert_outcomes(passed=2)


def test_a_rerun_begins_with_the_variables_of_the_first_run(suite: pytest.Pytester) -> None:
    """What the failed attempt has set, with a default, is put back before the next."""
    result = run(
        suite,
        "TRIES = []\ndef test_one():\n    assert VAR.get() == 0\n    VAR.set(1)\n    sys.TRIES.append(1)\n"
        "    assert len(sys.TRIES) == 2\nsys.TRIES = []\n",
        "--reruns=1",
        strict=False,
    )
    assert "1 passed" in result.stdout.str()


def test_without_ctypes_what_cannot_be_unset_is_reported(suite: pytest.Pytester) -> None:
    """Tokens fit there as well; a variable without a default stays set, and that is said, with the reason."""
    suite.makeconftest(SWITCH_OFF)
    result = run(
        suite,
        TOKENS["fixture"] + "\ndef test_left(): BARE.set(1)\ndef test_put_back(): VAR.set(1)\n"
        "def test_next(): assert BARE.get() == 1; assert VAR.get() == 0\n",
        strict=False,
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_left*", "*BARE*cannot be undone*", "*ctypes*"])


def test_without_ctypes_the_header_says_so(suite: pytest.Pytester) -> None:
    """One line with -v."""
    suite.makeconftest(SWITCH_OFF)
    result = run(suite, "def test_one(): pass", "-v", "-v")
    result.stdout.fnmatch_lines(["isolation: *context variables: put back one by one*"])
