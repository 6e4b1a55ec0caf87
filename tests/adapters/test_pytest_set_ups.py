"""Set-up of classes and modules, and pytest's own furniture: no finding, in every mode."""

from __future__ import annotations

import pytest

SUITE = """
import math
import unittest

import pytest

import settings_app

CLIENT = None
ROWS = []


def setup_module(module):
    global CLIENT
    CLIENT = {"host": "localhost"}
    module.ADDED = 1
    ROWS.append("row")


@pytest.fixture(scope="class")
def driver(request):
    request.cls.driver = ["driver"]


@pytest.fixture(scope="module", autouse=True)
def widen():
    global WIDENED
    WIDENED = True


@pytest.fixture(autouse=True)
def names(doctest_namespace):
    doctest_namespace["math"] = math


class TestCase(unittest.TestCase):
    value = None

    @classmethod
    def setUpClass(cls):
        cls.client = {"host": "localhost"}
        cls.value = 3

    def test_value(self):
        assert self.client and self.value == 3


class TestPlain:
    rows = []

    @classmethod
    def setup_class(cls):
        cls.value = 3
        cls.rows.append("row")

    def test_value(self):
        assert self.value == 3 and self.rows == ["row"] == ROWS and ADDED and CLIENT and WIDENED


@pytest.mark.usefixtures("driver")
class TestRequested:
    def test_driver(self):
        assert self.driver
"""


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run the suite in a process of its own."""
    return pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-p", "no:randomly", *options)


def test_what_a_class_or_module_sets_up_for_itself_is_no_finding(pytester: pytest.Pytester) -> None:
    """Class and module set-up of pytest and unittest passes strict mode, and the run prints no section."""
    pytester.makepyfile(settings_app="FLAG = False", test_it=SUITE)
    result = run(pytester, "--isolation=strict")
    result.assert_outcomes(passed=3)
    assert "isolation" not in result.stdout.str()


def test_what_a_class_set_up_does_elsewhere_is_put_back(pytester: pytest.Pytester) -> None:
    """State of another module that a class set-up changes is put back and reported when the class ends."""
    pytester.makepyfile(
        settings_app="FLAG = False\nNAMES = []",
        test_it="""
            import settings_app
            from settings_app import NAMES

            class TestOne:
                @classmethod
                def setup_class(cls):
                    settings_app.FLAG = True
                    NAMES.append("x")

                def test_it(self):
                    assert settings_app.FLAG and NAMES

            def test_afterwards():
                assert not settings_app.FLAG and not NAMES
        """,
    )
    result = run(pytester)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*settings_app.FLAG*"])


def test_what_a_test_changes_on_its_own_class_is_put_back(pytester: pytest.Pytester) -> None:
    """Only set-up owns the class: an attribute that a test changes is put back for the next test."""
    pytester.makepyfile(
        test_it="""
            class TestOne:
                @classmethod
                def setup_class(cls):
                    cls.rows = []

                def test_first(self):
                    self.rows.append(1)
                    type(self).extra = 1

                def test_second(self):
                    assert self.rows == [] and not hasattr(self, "extra")
        """,
    )
    result = run(pytester)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*TestOne.rows*"])


def test_the_place_of_pytests_own_log_handlers_is_no_finding(pytester: pytest.Pytester) -> None:
    """A handler of a wide fixture on the root logger may be behind or before pytest's."""
    pytester.makepyfile(
        test_it="""
            import logging
            import pytest

            @pytest.fixture(scope="module", autouse=True)
            def log():
                handler = logging.StreamHandler()
                logging.getLogger().addHandler(handler)
                yield
                logging.getLogger().removeHandler(handler)

            @pytest.mark.parametrize("n", range(3))
            def test_nothing(n):
                pass
        """,
    )
    result = run(pytester, "--isolation=strict")
    result.assert_outcomes(passed=3)
    assert "isolation" not in result.stdout.str()


def test_the_order_of_handlers_of_the_user_is_put_back(pytester: pytest.Pytester) -> None:
    """Two handlers of the user that change places are a finding, and get their places back."""
    pytester.makepyfile(
        log_app="""
            import logging

            ONE, TWO = logging.NullHandler(), logging.NullHandler()
            logging.getLogger("log_app").handlers[:] = [ONE, TWO]
        """,
        test_it="""
            import logging
            from log_app import ONE, TWO

            def test_turns_them():
                logging.getLogger("log_app").handlers.reverse()

            def test_order():
                assert logging.getLogger("log_app").handlers == [ONE, TWO]
        """,
    )
    result = run(pytester)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*handlers (order)*"])
