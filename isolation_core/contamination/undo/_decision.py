"""One decision of the undo policy: the treatment of one change, its rule, and the reason."""

from __future__ import annotations

from typing import Final, Literal

from attrs import frozen

__all__ = ["CODE_OF", "Decision", "Fate"]

Fate = Literal["undone", "kept", "scope"]
"""``undone``: the old value is put back. ``kept``: the new value stays and is the baseline from now on.
``scope``: it belongs to the class or module that set it up, and is not a finding."""

CODE_OF: Final = {
    "set-up": "UND001",
    "counter": "UND002",
    "generator": "UND003",
    "fixture": "UND004",
    "first use": "UND005",
    "escaped": "UND006",
    "thread": "UND007",
    "cache": "UND008",
    "capsule": "UND009",
    "script": "UND020",
    "library": "UND030",
    "library-lazy": "UND031",
}
"""The rules by a short name, each with its stable code; `isolation explain` knows them."""


@frozen
class Decision:
    """The treatment of one change.

    Attributes:
        fate: see `Fate`.
        code: the stable code of the rule.
        reason: why, as the end of a sentence.
        polluted: whether a kept change is damage that a report has to name: a value in use
            was replaced or removed and cannot be undone whole.
        quiet: whether nothing is recorded either, because something of the kind was recorded before.
    """

    fate: Fate
    code: str
    reason: str
    polluted: bool = False
    quiet: bool = False

    @property
    def is_recorded(self) -> bool:
        """Whether there is a record of the change at all."""
        return self.fate != "scope" and not self.quiet

    @classmethod
    def undone(cls, rule: str, reason: str) -> Decision:
        """Return the decision to undo something silently, because it is not a finding."""
        return cls("undone", CODE_OF[rule], reason)

    @classmethod
    def kept(cls, rule: str, reason: str, *, polluted: bool = False, quiet: bool = False) -> Decision:
        """Return the decision to keep something."""
        return cls("kept", CODE_OF[rule], reason, polluted, quiet)

    @classmethod
    def of_scope(cls, reason: str) -> Decision:
        """Return the decision to leave something to the scope that set it up."""
        return cls("scope", CODE_OF["set-up"], reason)
