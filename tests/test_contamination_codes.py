"""The table of codes: complete, unambiguous, and helpful."""

from __future__ import annotations

import re
from pathlib import Path

import isolation_core
from isolation_core.contamination._codes import CODES
from isolation_core.contamination.probes import builtin_probes
from isolation_core.reports import explain


def test_every_code_in_the_sources_is_described() -> None:
    """No finding can have a code that `isolation explain` does not know."""
    root = Path(isolation_core.__file__).parent
    found = {
        code
        for path in root.rglob("*.py")
        if path.name != "_codes.py"
        for code in re.findall(r'code(?:: ClassVar\[str\])? ?= ?"([A-Z]{3}\d{3})"', path.read_text("utf-8"))
    }
    assert found - CODES.keys() == set()


def test_probes_agree_with_the_table() -> None:
    """The kind in the table is the kind the probe reports."""
    assert {probe.code: probe.kind for probe in builtin_probes()} == {
        probe.code: CODES[probe.code].kind for probe in builtin_probes()
    }


def test_entries_say_what_why_and_what_to_type() -> None:
    """Each entry has a short title, an explanation in sentences and a fix."""
    for code, entry in CODES.items():
        assert entry.code == code
        assert 3 < len(entry.title) <= 60
        assert entry.explanation.endswith(".")
        assert entry.fix.endswith(".")
    assert len({entry.title for entry in CODES.values()}) == len(CODES)


def test_explain_finds_codes_in_any_case() -> None:
    """`explain` does not care about letter case."""
    assert explain("env001") is CODES["ENV001"]
