"""In no situation does a specified mock of the standard library behave more like the real thing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from isolation_core.mocks import isolated_mock


def load_situations() -> ModuleType:
    """Import the situations without making their folder importable."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "mock_situations.py"
    spec = importlib.util.spec_from_file_location("mock_situations", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


situations = load_situations()


@pytest.mark.parametrize("situation", situations.SITUATIONS, ids=lambda each: each.name)
def test_a_specified_mock_behaves_like_the_real_thing(situation: Any) -> None:
    """Names, arguments, sync or async, results: as the class or function would answer."""
    assert situations.is_right(situation, isolated_mock)
