"""Set-up of classes and modules under unittest: no finding, in every mode."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SUITE = """
import unittest

VALUE = None

def setUpModule():
    global VALUE
    VALUE = ["module"]

class T(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.conn = ["open"]

    def test_it(self):
        self.assertEqual(self.conn + VALUE, ["open", "module"])
"""


def test_class_and_module_set_up_pass_strict_mode(tmp_path: Path) -> None:
    """Attributes that setUpClass and setUpModule set on their own class and module are left to them."""
    (tmp_path / "test_it.py").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "isolation_unittest", "-v", "test_it"],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "CLS001" not in done.stderr + done.stdout
    assert "MOD001" not in done.stderr + done.stdout


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "ISOLATION_CORE_MODE": "strict"}
