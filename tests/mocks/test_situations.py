"""In no situation does a specified mock of the standard library behave more like the real thing."""

from __future__ import annotations

import pytest

from benchmarks.mock_situations import SITUATIONS, Situation, is_right
from isolation_core.mocks import isolated_mock


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda each: each.name)
def test_a_specified_mock_behaves_like_the_real_thing(situation: Situation) -> None:
    """Names, arguments, sync or async, results: as the class or function would answer."""
    assert is_right(situation, isolated_mock)
