"""Library objects that own code holds: what the library does by itself is kept, what code sets is put back."""

from __future__ import annotations

import pytest

LIBRARY = """
class App:
    stack = None

    def __init__(self):
        self.overrides = {}
        self.debug = False
        self.schema = None
        self.routes = []

    def serve(self):
        if self.stack is None:
            self.stack = ["middleware"]
        self._started = True
        self.schema = self.schema or {"paths": {}}


class Meta(type):
    def __call__(cls, *args, **kwargs):
        made = super().__call__(*args, **kwargs)
        cls.__validator__ = object()
        cls._cached = ["fields"]
        return made


class Model(metaclass=Meta):
    pass


class Settings:
    def __init__(self):
        self._wrapped = {"DEBUG": False, "ITEMS": 10}

    def __getattr__(self, name):
        try:
            value = self._wrapped[name]
        except KeyError:
            raise AttributeError(name) from None
        self.__dict__[name] = value
        return value

    def reload(self):
        for name in list(self.__dict__):
            if name != "_wrapped":
                del self.__dict__[name]
"""

OWN = """
import framework

app = framework.App()
settings = framework.Settings()


class User(framework.Model):
    limit = 3
"""


def run(pytester: pytest.Pytester, suite: str, *options: str) -> pytest.RunResult:
    """Run a suite with a framework that counts as installed, in a process of its own."""
    installed = pytester.mkdir("lib").joinpath("site-packages")
    installed.mkdir()
    (installed / "framework.py").write_text(LIBRARY)
    pytester.makepyfile(own=OWN, test_it=suite)
    pytester.makeini(f"[pytest]\npythonpath = {installed} .")
    return pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-p", "no:randomly", *options)


def test_what_a_library_does_by_itself_is_kept_silently(pytester: pytest.Pytester) -> None:
    """First requests, compiled models and remembered settings pass strict mode without a word."""
    result = run(
        pytester,
        """
        import pytest
        import own

        @pytest.mark.parametrize("n", range(2))
        def test_use(n):
            own.app.serve()
            own.User()
            assert own.settings.ITEMS == 10
            if n:
                own.settings.reload()
        """,
        "--isolation=strict",
    )
    result.assert_outcomes(passed=2)
    assert "isolation" not in result.stdout.str()


def test_what_a_test_sets_on_a_library_object_is_put_back(pytester: pytest.Pytester) -> None:
    """A setting, an override, a route and a class attribute that a test changes go back and are reported."""
    result = run(
        pytester,
        """
        import own

        def test_a():
            own.app.serve()
            own.app.debug = True
            own.app.overrides["user"] = "fake"
            own.app.routes.append("/extra")
            own.settings.ITEMS = 50
            own.User.limit = 5

        def test_b():
            assert (own.app.debug, own.app.overrides, own.app.routes) == (False, {}, [])
            assert (own.settings.ITEMS, own.User.limit) == (10, 3)
        """,
    )
    result.assert_outcomes(passed=2)
    for path in ("own.app.debug", "own.app.overrides", "own.app.routes", "own.settings.ITEMS", "own.User.limit"):
        assert path in result.stdout.str()


def test_what_follows_from_a_change_of_the_test_is_put_back_with_it(pytester: pytest.Pytester) -> None:
    """A class that a library compiled anew after the test changed its settings goes back as a whole."""
    result = run(
        pytester,
        """
        import own

        BEFORE = vars(own.User).get("__validator__")

        def test_a():
            own.User.limit = 5
            own.User()

        def test_b():
            assert own.User.limit == 3
            assert vars(own.User).get("__validator__") is BEFORE
        """,
    )
    result.assert_outcomes(passed=2)
