"""The public surface: every listed name is there, and importing it is light."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import isolation_core

PACKAGES = [
    name for _, name, is_package in pkgutil.walk_packages(isolation_core.__path__, "isolation_core.") if is_package
] + ["isolation_core", "isolation_pytest", "isolation_unittest", "isolation_script"]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_listed_name_exists(name: str) -> None:
    """`__all__` and reality agree, and the list is sorted."""
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    assert [entry for entry in listed if not hasattr(module, entry)] == []
    assert listed == sorted(listed, key=lambda entry: (not entry.isupper(), not entry[0].isupper(), entry))


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The lazy names do not swallow mistakes."""
    with pytest.raises(AttributeError, match="isolation_mock"):
        _ = isolation_core.isolation_mock


def test_importing_the_library_brings_no_event_loop_along() -> None:
    """A process that uses no mocks and nothing async does not get asyncio because of us."""
    code = (
        "import sys, isolation_core, isolation_core.barrier;"
        "sys.exit('asyncio' in sys.modules or 'unittest.mock' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_core_never_imports_an_adapter_or_a_runner() -> None:
    """Nothing of the core needs pytest, unittest or an adapter to be importable."""
    code = (
        "import sys, isolation_core, isolation_core.mocks, isolation_core.lifecycle, isolation_core.config;"
        "foreign = {'pytest', '_pytest', 'isolation_pytest', 'isolation_unittest'};"
        "sys.exit(not foreign.isdisjoint(m.partition('.')[0] for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
