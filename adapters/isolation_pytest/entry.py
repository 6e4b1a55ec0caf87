"""The module that the entry point names; it leads to the plugin itself.

pytest refuses to load one module under two names. Through this detour the
plugin is known by its module name only, so that ``-p isolation_pytest.plugin``
and ``pytest_plugins = ["isolation_pytest.plugin"]`` work whether or not the
entry point was loaded before, and ``-p no:isolation`` still removes it.
"""

from __future__ import annotations

from typing import Final

__all__ = ["pytest_plugins"]

pytest_plugins: Final = ("isolation_pytest.plugin",)
