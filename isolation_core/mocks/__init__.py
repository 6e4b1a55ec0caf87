"""Isolated mocks: light verified doubles that are real `AsyncMock` objects, owned and cleaned by a barrier."""

from __future__ import annotations

from isolation_core.mocks._backing import Backing, back
from isolation_core.mocks._builders import MockBuilder, MockRequest, mock_builder, mock_builders, register_mock_builder
from isolation_core.mocks._create import isolated_mock, live_mocks
from isolation_core.mocks._levels import Level, clear, deep_cleanup, discard, reset, restore, set_baseline
from isolation_core.mocks._light import define_property
from isolation_core.mocks._ownership import current_registry
from isolation_core.mocks._poison import is_discarded
from isolation_core.mocks._profiles import Shape, ShapeProfile, register_shape_profile
from isolation_core.mocks._registry import MockRegistry
from isolation_core.mocks._wide import WideMocksProbe

__all__ = [
    "Backing",
    "Level",
    "MockBuilder",
    "MockRegistry",
    "MockRequest",
    "Shape",
    "ShapeProfile",
    "WideMocksProbe",
    "back",
    "clear",
    "current_registry",
    "deep_cleanup",
    "define_property",
    "discard",
    "is_discarded",
    "isolated_mock",
    "live_mocks",
    "mock_builder",
    "mock_builders",
    "register_mock_builder",
    "register_shape_profile",
    "reset",
    "restore",
    "set_baseline",
]
