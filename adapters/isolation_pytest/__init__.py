"""The pytest plugin of isolation-core.

Installed, it is loaded through its entry point; with autoloading off, load it
by ``-p isolation_pytest.plugin`` or ``pytest_plugins = ["isolation_pytest.plugin"]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isolation_pytest._managed import ManagedFixture, as_pytest_fixture, expose, managed_fixture, mark_dirty

__all__ = ["ManagedFixture", "as_pytest_fixture", "expose", "managed_fixture", "mark_dirty"]


def __getattr__(name: str) -> object:
    # pytest imports this package in every run, also in projects without managed fixtures.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from isolation_pytest import _managed

    return getattr(_managed, name)
