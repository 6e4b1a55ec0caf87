"""The table of codes: complete, unambiguous, and helpful."""

from __future__ import annotations

import re
from pathlib import Path

import isolation_core
from isolation_core.codes import CODES
from isolation_core.contamination.probes._builtin import builtin_probes
from isolation_core.reports import explain
from isolation_core.reports._text import first_sentence

ROOT = Path(__file__).resolve().parents[2] / "adapters"


def test_every_code_in_the_sources_is_described() -> None:
    """No finding can have a code that `isolation explain` does not know."""
    root = Path(isolation_core.__file__).parent
    found = {
        code
        for path in root.rglob("*.py")
        if path.name != "codes.py"
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


def test_the_first_sentence_of_a_fix_fits_on_a_line() -> None:
    """A summary shows it behind eight columns, within 79, and it is a sentence."""
    for code, entry in CODES.items():
        hint = first_sentence(entry.fix)
        assert len(hint) <= 71, (code, hint)
        assert hint.count("(") == hint.count(")"), (code, hint)


def test_codes_nobody_reports_are_reserved() -> None:
    """A code is marked as reserved if and only if no probe, mock, adapter or graph check reports it."""
    sources = [*Path(isolation_core.__file__).parent.rglob("*.py")]
    sources += [path for name in ("pytest", "unittest", "script") for path in ROOT.glob(f"isolation_{name}/*.py")]
    text = "".join(path.read_text("utf-8") for path in sources if path.name != "codes.py")
    assert {code for code in CODES if f'"{code}"' not in text} == {c for c, entry in CODES.items() if entry.reserved}


def test_explain_finds_codes_in_any_case() -> None:
    """`explain` does not care about letter case."""
    assert explain("env001") is CODES["ENV001"]
