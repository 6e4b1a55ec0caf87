"""Caches: what was learned in a clean world is kept, what may be false is taken out."""

from __future__ import annotations

import pytest

LIB = """
import functools
from collections import defaultdict

BASE = "real"
_memo = {}
_hooks = defaultdict(list)
REGISTRY = {}


def note(text):
    with open("calls.txt", "a") as file:
        print(text, file=file)


def table(name):
    if name not in _memo:
        note(name)
        _memo[name] = BASE + name
    return _memo[name]


@functools.lru_cache
def square(x):
    note(x)
    return (BASE, x * x)


class Client:
    @functools.cached_property
    def conn(self):
        note("conn")
        return BASE


CLIENT = Client()


def hooks(name):
    return list(_hooks[name])


def register(name, value):
    REGISTRY[name] = value
"""


def run(pytester: pytest.Pytester, suite: str, *options: str) -> pytest.RunResult:
    """Run a suite beside the module with caches, in a process of its own."""
    pytester.makepyfile(lib=LIB, test_it=suite)
    return pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-p", "no:randomly", *options)


def test_what_a_clean_test_learned_is_kept_silently(pytester: pytest.Pytester) -> None:
    """A memo, an lru_cache, a cached_property and the read of a defaultdict are made once, and strict mode passes."""
    result = run(
        pytester,
        """
        import lib
        import pytest

        @pytest.mark.parametrize("n", range(3))
        def test_use(n, capsys):
            assert (lib.table("a"), lib.square(2), lib.CLIENT.conn) == ("reala", ("real", 4), "real")
            assert lib.hooks("x") == []

        def test_once():
            assert open("calls.txt").read().split() == ["a", "2", "conn"]
        """,
        "--isolation=strict",
    )
    result.assert_outcomes(passed=4)
    assert "isolation" not in result.stdout.str()


@pytest.mark.parametrize(
    "pollute",
    [
        "def test_a(monkeypatch):\n    monkeypatch.setattr(lib, 'BASE', 'fake')\n    use()",
        "def test_a():\n    with mock.patch('lib.BASE', 'fake'):\n        use()",
        "@mock.patch('lib.BASE', 'fake')\ndef test_a():\n    use()",
        (
            "@pytest.fixture\ndef fake():\n    lib.BASE = 'fake'\n    yield\n    lib.BASE = 'real'\n"
            "def test_a(fake):\n    use()"
        ),
        "def test_a():\n    lib.BASE = 'fake'\n    use()",
        "def test_a():\n    lib.BASE, old = 'fake', lib.BASE\n    use()\n    lib.BASE = old",
        "def helper():\n    with mock.patch.object(lib, 'BASE', 'fake'):\n        use()\ndef test_a():\n    helper()",
        (
            "class TestA:\n    def setup_method(self):\n        lib.BASE = 'fake'\n"
            "    def teardown_method(self):\n        lib.BASE = 'real'\n    def test_a(self):\n        use()"
        ),
    ],
)
def test_what_was_learned_in_a_changed_world_is_taken_out(pytester: pytest.Pytester, pollute: str) -> None:
    """Whatever changed the world while a cache was filled, the next test gets the true answer."""
    suite = (
        "import lib, pytest\nfrom unittest import mock\n"
        "def use():\n    assert (lib.table('a'), lib.square(2)[0], lib.CLIENT.conn) == ('fakea', 'fake', 'fake')\n"
        f"{pollute}\n"
        "def test_b():\n    assert (lib.table('a'), lib.square(2)[0], lib.CLIENT.conn) == ('reala', 'real', 'real')\n"
    )
    run(pytester, suite).assert_outcomes(passed=2)


def test_a_registry_is_no_cache(pytester: pytest.Pytester) -> None:
    """An entry that no function asks for first, a class and a function are registrations, put back and reported."""
    result = run(
        pytester,
        """
        import lib

        def test_a():
            lib.register("a", 1)

        def test_b():
            assert lib.REGISTRY == {}
        """,
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*lib.REGISTRY*"])
