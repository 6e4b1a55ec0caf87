"""The findings of a barrier: `Change` (state) and `Leak` (living things).

Both are plain frozen values that hold text, never the objects they speak of,
so that keeping a finding keeps nothing else alive. Whatever looks like a credential
is taken out of the text on the way in.
"""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen
from attrs.converters import optional

from isolation_core._secrets import scrub

__all__ = ["Change", "Leak", "Severity"]

Severity = Literal["note", "leak", "unrecoverable"]
"""``note``: worth knowing, never a fault (caches, counters, lazy imports).
``leak``: state that was left behind.
``unrecoverable``: left behind and not put back; the process is dirty."""


@frozen
class Change:
    """One piece of state that is not what it was when the barrier opened.

    Attributes:
        kind: stable word for the family of state, such as ``"environ"``.
        path: where it is, pasteable into Python where that is possible.
        before: bounded, redacted text of the value at entry (``<absent>`` if none).
        after: the same at exit.
        code: stable code of the finding, explained by ``isolation explain CODE``.
        owner: the polluter (a test id); ``"A or B"`` if overlapping barriers make it ambiguous.
        scope: the scope that owned it, such as ``"function"`` or ``"barrier"``.
        restored: whether the value at entry is back and was verified.
        severity: see `Severity`.
        reason: why it could not be put back, or what else is to be said.
        known: whether the baseline has it.
        decision: code of the rule of the undo policy under which it was kept, or undone as no finding;
            None: it is a finding like any other.
    """

    kind: str
    path: str = field(converter=scrub)
    before: str = field(kw_only=True, converter=scrub)
    after: str = field(kw_only=True, converter=scrub)
    code: str = field(kw_only=True)
    owner: str = field(kw_only=True)
    scope: str = field(default="barrier", kw_only=True)
    restored: bool = field(default=False, kw_only=True)
    severity: Severity = field(default="leak", kw_only=True)
    reason: str | None = field(default=None, kw_only=True, converter=optional(scrub))
    known: bool = field(default=False, kw_only=True)
    decision: str | None = field(default=None, kw_only=True)

    def __str__(self) -> str:
        kept = self.decision is not None and not self.restored
        fate = "restored" if self.restored else "kept" if kept else "not restored"
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.code} {self.path}: {self.before} -> {self.after} [{fate}]{why}"


@frozen
class Leak:
    """One living thing that outlived the barrier it was born in.

    Attributes:
        kind: ``"task"``, ``"thread"``, ``"patch"``, ``"coroutine"``, ...
        path: a name that identifies it.
        code: stable code of the finding.
        created_at: ``file:line`` where it was made, when that is known.
        owner: the polluter (a test id).
        scope: the scope that owned it.
        ended: whether the barrier could end it.
        severity: see `Severity`.
        reason: further explanation.
        known: whether the baseline has it.
    """

    kind: str
    path: str = field(converter=scrub)
    code: str = field(kw_only=True)
    owner: str = field(kw_only=True)
    scope: str = field(default="barrier", kw_only=True)
    created_at: str | None = field(default=None, kw_only=True)
    ended: bool = field(default=False, kw_only=True)
    severity: Severity = field(default="leak", kw_only=True)
    reason: str | None = field(default=None, kw_only=True, converter=optional(scrub))
    known: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        fate = "ended" if self.ended else "still alive"
        born = f", made at {self.created_at}" if self.created_at else ""
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.code} {self.path} [{fate}{born}]{why}"
