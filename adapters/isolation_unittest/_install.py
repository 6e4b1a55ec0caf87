"""Put barriers around test cases, their classes and their modules, by unittest's public hooks.

A class barrier opens before `setUpClass` and is closed by the first class
cleanup, which runs last; a module barrier does the same around `setUpModule`.
So what they set up stays for their tests, and what they leave is theirs.
"""

from __future__ import annotations

import functools
import sys
import types
import unittest
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from isolation_core.barrier import Barrier
from isolation_core.runner import NO_TEST, TestFacts
from isolation_unittest._barriers import SESSION, make_barrier, print_summary_at_exit
from isolation_unittest._facts import CaseFacts
from isolation_unittest._tasks import watch_tasks

__all__ = ["isolate_class", "isolate_suite", "load_tests"]

# unittest leaves frames of modules with this name out of tracebacks.
__unittest = True

_BARRIER: Final = "_isolation_barrier"
_MARK: Final = "__isolation__"
_open_classes: dict[type, Barrier] = {}
_open_modules: dict[str, Barrier] = {}


def isolate_suite(suite: unittest.TestSuite | unittest.TestCase) -> None:
    """Put a barrier around every test of *suite*, every class and every module of them.

    Does nothing in mode ``off``. Doing it twice changes nothing.
    """
    if SESSION.settings.mode == "off":
        return
    for test in _tests_of(suite):
        kind = type(test)
        isolate_class(kind)
        module = sys.modules.get(kind.__module__)
        if module is not None and kind.__module__ not in ("unittest.loader", "unittest.case", "doctest"):
            _isolate_module(module)


def load_tests(_loader: unittest.TestLoader, tests: unittest.TestSuite, _pattern: str | None) -> unittest.TestSuite:
    """Isolate a whole test module: ``from isolation_unittest import load_tests`` at its top.

    This is unittest's protocol for modules that load their tests themselves.
    """
    isolate_suite(tests)
    return tests


def isolate_class(cls: type) -> None:
    """Put a barrier around each test of *cls* and one around the class."""
    if not issubclass(cls, unittest.TestCase):
        return
    if not hasattr(cls.run, _MARK):
        cls.run = _isolated_run(cls.run)  # type: ignore[method-assign]
    if not hasattr(cls.setUpClass, _MARK):
        set_up = vars(cls).get("setUpClass")
        cls.setUpClass = _isolated_set_up_class(cls, set_up)  # type: ignore[method-assign]


def _tests_of(suite: unittest.TestSuite | unittest.TestCase) -> Iterator[unittest.TestCase]:
    if isinstance(suite, unittest.TestCase):
        yield suite
        return
    for part in suite:
        # A suite that ran leaves None in the place of its tests.
        if isinstance(part, (unittest.TestSuite, unittest.TestCase)):
            yield from _tests_of(part)


def _isolated_run(run: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(run)
    def isolated_run(self: unittest.TestCase, result: unittest.TestResult | None = None) -> Any:
        current: Barrier | None = vars(self).get(_BARRIER)
        if current is not None and current.is_open:
            # A subclass called super().run(), and this wrapper is around both.
            return run(self, result)
        if result is None:
            return _run_alone(self)
        barrier = make_barrier(self.id(), "function", self)
        setattr(self, _BARRIER, barrier)
        with SESSION.test_context(barrier.mode):
            _enter(barrier, test=CaseFacts(self), test_module=type(self).__module__)
            try:
                if barrier.mode != "off":
                    watch_tasks(self, barrier)
                return run(self, result)
            finally:
                try:
                    SESSION.close(barrier)
                except AssertionError:
                    result.addFailure(self, cast("Any", sys.exc_info()))
                except Exception:
                    result.addError(self, cast("Any", sys.exc_info()))

    setattr(isolated_run, _MARK, True)
    return isolated_run


def _enter(barrier: Barrier, subject: object = None, test: TestFacts = NO_TEST, test_module: str | None = None) -> None:
    SESSION.enter(barrier, subject=subject, test=test, test_module=test_module)
    if barrier.mode != "off":
        print_summary_at_exit()


def _run_alone(test: unittest.TestCase) -> unittest.TestResult:
    """Do what a test case does that is run without a result: make one, start and stop it."""
    result = test.defaultTestResult()
    result.startTestRun()
    try:
        test.run(result)
    finally:
        result.stopTestRun()
    return result


def _isolated_set_up_class(owner: Any, inner: Any) -> Any:
    def setUpClass(cls: type[unittest.TestCase]) -> None:
        _open_class(cls)
        if inner is None:
            super(owner, cls).setUpClass()
        else:
            inner.__get__(None, cls)()

    setattr(setUpClass, _MARK, True)
    if inner is not None:
        functools.update_wrapper(setUpClass, getattr(inner, "__func__", inner))
    return classmethod(setUpClass)


def _open_class(cls: type[unittest.TestCase]) -> None:
    if cls in _open_classes:
        return
    barrier = make_barrier(f"{cls.__module__}.{cls.__qualname__}", "class", cls)
    if barrier.mode == "off":
        return
    _open_classes[cls] = barrier
    _enter(barrier, cls)
    cls.addClassCleanup(_close_class, cls)


def _isolate_module(module: types.ModuleType) -> None:
    inner = getattr(module, "setUpModule", None)
    if hasattr(inner, _MARK):
        return
    name = module.__name__

    def setUpModule() -> None:
        if name not in _open_modules:
            barrier = _open_modules[name] = make_barrier(name, "module", module)
            _enter(barrier, module)
            unittest.addModuleCleanup(_close_module, name)
        if inner is not None:
            inner()

    setattr(setUpModule, _MARK, True)
    if inner is not None:
        functools.update_wrapper(setUpModule, inner)
    module.setUpModule = setUpModule  # type: ignore[attr-defined]


# What unittest keeps for later is state of the suite, which is watched: it must
# lead to names only, or we would watch ourselves.


def _close_class(cls: type) -> None:
    SESSION.close(_open_classes.pop(cls))


def _close_module(name: str) -> None:
    SESSION.close(_open_modules.pop(name))
