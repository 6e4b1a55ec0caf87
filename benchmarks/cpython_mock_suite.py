"""Run CPython's own tests of `unittest.mock` with an isolated mock class in place of `AsyncMock`.

    python benchmarks/cpython_mock_suite.py [--engine own|plain|shared|...] [--module testasync] [--verbose]

The tests are those of the interpreter that runs this, never copied. ``stdlib``
runs them unchanged, for comparison. Exits with 1 when fewer than 95 % pass.
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
ENGINES = ("own", "shared", "own-magic", "stdlib")


def stand_ins(engine: str) -> dict[str, type[Any]]:
    """Return the classes that stand in for those of `unittest.mock`, by name."""
    from isolation_core.mocks import _kinds

    return {
        "stdlib": {},
        "own": {"AsyncMock": _kinds.OwnClassMock},
        "shared": {"AsyncMock": _kinds.IsolatedMock},
        # Most tests of testmock and its neighbours are about Mock and
        # MagicMock; this shows how far the synchronous kind carries.
        "own-magic": {"AsyncMock": _kinds.OwnClassMock, "MagicMock": _kinds.SyncOwnClassMock},
    }[engine]


def find(name: str) -> ModuleType | None:
    """Import a module of CPython's mock tests, wherever this version keeps them."""
    for package in ("test.test_unittest.testmock", "unittest.test.testmock"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(f"{package}.{name}")
    return None


def run(module: ModuleType) -> tuple[int, list[str], str]:
    """Return how many tests ran, the ids of those that did not pass, and what was printed."""
    stream = io.StringIO()
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = unittest.TextTestRunner(stream, verbosity=0).run(suite)
    failed = {getattr(test, "test_case", test).id() for test, _ in (*result.failures, *result.errors)}
    return result.testsRun, sorted(failed), stream.getvalue()


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
            share = f"{passed}/{count} ({passed / count:.1%})"
            print(f"Python {platform.python_version()} {name:18} {options.engine:11} {share}")
            print("".join(f"    {test}\n" for test in failed), end="")
            if options.verbose:
                print(text)
    if options.json:
        print(json.dumps(results))
    if not results:
        print("this interpreter has no tests of unittest.mock installed", file=sys.stderr)
        return 0
    return int(any(len(r["failed"]) > 0.05 * r["ran"] for r in results.values()))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
