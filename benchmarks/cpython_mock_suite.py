"""Run CPython's own tests of `unittest.mock` with isolated mocks in place of its own.

    python benchmarks/cpython_mock_suite.py [--engine product|shared|own|...] [--module testasync] [--verbose]

The tests are those of the interpreter that runs this, never copied. ``product``
makes every mock by ``isolated_mock(...)``, each test inside a barrier of its
own; the other engines put a class of the implementation in place of
`AsyncMock`, and ``stdlib`` changes nothing. Only tests in which such a mock was
made count: a test of `patch` that makes a `Mock` shows nothing about isolated
mocks. Exits with 1 when fewer than 95 % of those pass with an implementation
class; what ``product`` does differently on purpose is listed in docs/mock_isolation.md.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import platform
import sys
import unittest
import warnings
from types import ModuleType
from typing import Any
from unittest import mock

MODULES = ("testasync", "testmock", "testhelpers", "testsealable", "testwith", "testpatch", "testmagicmethods")
REQUIRED = ("testasync", "testmock")
ENGINES = ("product", "shared", "own", "own-magic", "stdlib")


def stand_ins(engine: str) -> dict[str, type[Any]]:
    """Return the classes that stand in for those of `unittest.mock`, by name."""
    from isolation_core.mocks import _kinds

    classes: dict[str, dict[str, type[Any]]] = {
        "stdlib": {"AsyncMock": mock.AsyncMock},
        "product": {"AsyncMock": _kinds.IsolatedMock},
        "own": {"AsyncMock": _kinds.OwnClassMock},
        "shared": {"AsyncMock": _kinds.IsolatedMock},
        # Most tests of testmock and its neighbours are about Mock and
        # MagicMock; this shows how far the synchronous kind carries.
        "own-magic": {"AsyncMock": _kinds.OwnClassMock, "MagicMock": _kinds.SyncOwnClassMock},
    }
    return {
        name: _counting(cls, getattr(mock, name), product=engine == "product") for name, cls in classes[engine].items()
    }


made = [0]
"""How many mocks were made by the stand-ins."""


def _counting(cls: type[Any], real: type[Any], *, product: bool) -> Any:
    """Return a subclass of *cls* that stands in for *real* and counts what is made of it.

    Args:
        cls: the class.
        real: what ``isinstance`` checks.
        product: whether `isolated_mock` makes the mocks.
    """
    from isolation_core import isolated_mock

    class Counting(type(cls)):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            made[0] += 1
            if product and self is stand_in and not any(name[:1] == "_" or name == "parent" for name in kwargs):
                positional = dict(zip(("spec", "side_effect", "return_value", "wraps", "name"), args, strict=False))
                return isolated_mock(**positional, **kwargs)
            return super().__call__(*args, **kwargs)

        def __instancecheck__(self, instance: object) -> bool:
            return isinstance(instance, real) if self is stand_in else super().__instancecheck__(instance)

    stand_in = Counting(cls.__name__, (cls,), {"__slots__": ()} if hasattr(cls, "_isolation_kinds") else {})
    return stand_in


def find(name: str) -> ModuleType | None:
    """Import a module of CPython's mock tests, wherever this version keeps them."""
    for package in ("test.test_unittest.testmock", "unittest.test.testmock"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(f"{package}.{name}")
    return None


class _Result(unittest.TextTestResult):  # type: ignore[type-arg,unused-ignore]
    """Opens a barrier around each test, and notes in which of them mocks were made."""

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        """Open it."""
        from isolation_core import isolation_barrier

        super().startTest(test)
        made[0] = 0
        self.barrier = isolation_barrier(packages=[], probes=[], owner=test.id())
        self.barrier.__enter__()

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        """Close it."""
        self.barrier.__exit__(None, None, None)
        if made[0]:
            counted.add(test.id())
        super().stopTest(test)


counted: set[str] = set()


def run(module: ModuleType) -> tuple[int, list[str], str]:
    """Return how many tests made a mock, the ids of those of them that did not pass, and what was printed."""
    stream = io.StringIO()
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    counted.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = unittest.TextTestRunner(stream, verbosity=0, resultclass=_Result).run(suite)  # type: ignore[arg-type]
    failed = {getattr(test, "test_case", test).id() for test, _ in (*result.failures, *result.errors)}
    return len(counted), sorted(failed & counted), stream.getvalue()


def main(arguments: list[str]) -> int:
    """Print one line for each module, and the tests that did not pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES, default="own")
    parser.add_argument("--module", action="append", choices=MODULES)
    parser.add_argument("--verbose", action="store_true", help="print the tracebacks")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args(arguments)
    for name, stand_in in stand_ins(options.engine).items():
        # Before the test modules import the name.
        setattr(mock, name, stand_in)
    results: dict[str, dict[str, Any]] = {}
    for name in options.module or REQUIRED:
        module = find(name)
        if module is None:
            continue
        count, failed, text = run(module)
        results[name] = {"ran": count, "failed": failed}
        if not options.json:
            passed = count - len(failed)
            share = f"{passed}/{count}" + (f" ({passed / count:.1%})" if count else "")
            print(f"Python {platform.python_version()} {name:18} {options.engine:11} {share}")
            print("".join(f"    {test}\n" for test in failed), end="")
            if options.verbose:
                print(text)
    if options.json:
        print(json.dumps(results))
    if not results:
        print("this interpreter has no tests of unittest.mock installed", file=sys.stderr)
        return 0
    return int(options.engine != "product" and any(len(r["failed"]) > 0.05 * r["ran"] for r in results.values()))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
