"""Suggestions: one module finds the name that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

import isolation_core
from isolation_core._suggest import did_you_mean, nearest, nearest_few

ROOT = Path(isolation_core.__file__).parent
# Not suggestions: names of mocks that are one letter off, and a diff of two sequences.
OTHER_USES = {"_contract.py", "_typos.py", "_queries.py"}


def test_the_nearest_name_is_found() -> None:
    """Of several similar names the most similar comes first; a name like none of them has no suggestion."""
    known = ["environ", "environment", "modules"]
    assert nearest("enviorn", known) == "environ"
    assert nearest_few("enviorn", known, limit=2) == ["environ", "environment"]
    assert nearest("zzz", known) is None


@pytest.mark.parametrize(("name", "text"), [("modulse", "; did you mean 'modules'?"), ("zzz", "known kinds: modules")])
def test_the_question_has_one_form(name: str, text: str) -> None:
    """Where no name is near, the caller's own hint takes the place of the question."""
    assert did_you_mean(name, ["modules"], before="; ", otherwise="known kinds: modules") == text


def test_no_other_module_looks_for_similar_names() -> None:
    """The cut-off and the words of a suggestion are chosen in one place."""
    users = {path.name for path in ROOT.rglob("*.py") if "difflib" in path.read_text("utf-8")}
    assert users - OTHER_USES == {"_suggest.py"}
