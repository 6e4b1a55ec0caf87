"""A journal as plain text for a terminal: polluter, state, victim, advice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from isolation_core.findings import Change, Leak
from isolation_core.journal import EventSource, JournalRecords, Totals, totals_of
from isolation_core.reports._grouping import (
    Group,
    explained_failures,
    fold_keys,
    group_findings,
    join_patches,
    suspects_in,
    unfinished_barriers,
)
from isolation_core.reports._hints import explain

__all__ = ["SECTION_HEADER", "Style", "first_sentence", "render_change", "render_score", "render_summary"]

Style = Callable[[str, str], str]
"""Gets a piece of text and what it is (``owner``, ``code``, ``path``, ``good``, ``bad``,
``hint`` or ``dim``) and returns it dressed, for example in colour."""

SECTION_HEADER: Final = f"{' isolation ':=^70}"
"""The line above a summary, where no runner has a style of its own."""

_NARROW_SCOPES: Final = frozenset({"function", "barrier"})
_MAX_ASIDES = 5
_MAX_SUSPECTS = 5
_MIN_VALUE = 16
_SENTENCE_END: Final = re.compile(r"\. (?=[A-Z])")
# `<function app.Service.ping>` is as well told by `ping()`, `<app.Thing object>` by `<Thing object>`.
_FUNCTION: Final = re.compile(r"<function (?:[\w.]|<locals>)*?(\w+|<lambda>)>")
_QUALIFIER: Final = re.compile(
    # One character at a time: a repeated \w+ would try every way to divide a name.
    r"<(class |builtin )(?:[\w.]|<locals>)*\.(?=\w)|<(?:[\w.]|<locals>)*\.(?=\w+ object\b)"
)


def render_summary(
    source: EventSource,
    *,
    limit: int | None = 10,
    owners: int = 3,
    include_notes: bool = False,
    always: bool = False,
    width: int | None = 79,
    style: Style | None = None,
) -> list[str]:
    """Return the lines of the summary; none when there is nothing to say.

    Args:
        source: a live journal or one that was read.
        limit: how many entries are shown; None for all of them.
        owners: how many owners (and victims) of one entry are named.
        include_notes: show harmless findings as entries too, not only their number. If tests
            failed, a few of those that came before are shown anyway: a cache may be the reason.
        always: give the score line also when everything was clean.
        width: values are cut so that an entry fits into that many columns, if it can;
            None for values in full. Names and paths are never cut.
        style: dresses pieces of text; without it the lines are plain.
    """
    totals = totals_of(source)
    dress = style or _undressed
    found = group_findings(source, include_known=False)
    groups = fold_keys(join_patches(group for group in found if include_notes or group.severity != "note"))
    suspects = () if include_notes else suspects_in(source)
    shown, cut = groups[:limit], groups[len(groups) if limit is None else limit :]
    lines = list(_entries(shown, owners, width, dress))
    if cut:
        lines.append(f"... and {_count(len(cut), 'more entry', 'more entries')} ({_fates(cut)})")
    lines += _explained(explained_failures(source), dress)
    if suspects:
        lines.append(dress("before a test failed there was also this, harmless as a rule:", "dim"))
        lines += _entries(suspects[:_MAX_SUSPECTS], owners, width, dress)
        if more := suspects[_MAX_SUSPECTS:]:
            lines.append(f"... and {_count(len(more), 'more entry', 'more entries')} of this kind")
    if entries := [*shown, *suspects]:
        lines.append(f"{dress('more', 'dim')}  isolation explain {entries[0].finding.code}")
    lines += _asides(source, totals, dress)
    if totals.known:
        lines.append(dress(f"{_count(totals.known, 'known finding', 'known findings')} (baseline) not listed", "dim"))
    if not lines and not always:
        return []
    if not include_notes:
        lines += _notes_line(totals, dress)
    return [*lines, render_score(totals, style=style)]


def render_score(totals: Totals, *, style: Style | None = None) -> str:
    """Return the score as one line, with what it is a share of."""
    dress = style or _undressed
    if not totals.checked:
        return dress("isolation: no boundary was compared, so there is no score", "dim")
    percent = f"{_percent(totals.isolation_score)} %"
    parts = [f"{totals.clean:,} clean"]
    if undone := totals.contaminated - totals.escaped:
        parts.append(f"{undone:,} cleaned up")
    if totals.escaped:
        parts.append(dress(f"{totals.escaped:,} not cleaned up", "bad"))
    line = f"isolation score {dress(percent, 'bad' if totals.escaped else 'good')}: "
    line += f"{_count(totals.checked, 'barrier', 'barriers')} checked, {', '.join(parts)}"
    # What is not put back hides whatever later tests do to the same state.
    return f"{line} (the count of findings is a lower bound)" if totals.remaining else line


def render_change(finding: Change | Leak) -> str:
    """Return one finding as one line, without its owner, for use in error messages."""
    return f"{finding.code} {_what(finding, finding.path)}, {_fate(finding)}"


def _who(group: Group, owners: int, dress: Style) -> Iterator[str]:
    first, *others = (_owner(*who, dress) for who in zip(group.owners, group.scopes, strict=True))
    yield first
    yield from (f"  and   {text}" for text in _some(others, owners - 1))


def _entries(groups: Sequence[Group], owners: int, width: int | None, dress: Style) -> Iterator[str]:
    """Yield what each owner left, the owners in the order of the worst they left."""
    by_owner: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Group]] = {}
    for group in groups:
        by_owner.setdefault((group.owners, group.scopes), []).append(group)
    for members in by_owner.values():
        yield from _who(members[0], owners, dress)
        for index, group in enumerate(members):
            following = members[index + 1].finding.code if index + 1 < len(members) else None
            yield from _entry(group, owners, width, dress, hint=group.finding.code != following)


def _explained(failures: Sequence[tuple[str, str, str]], dress: Style) -> Iterator[str]:
    """Yield which failed tests may rely on what was put back before them."""
    for test, path, owner in failures[:_MAX_SUSPECTS]:
        who = dress(_printable(test), "owner")
        yield f"{who} failed, and may pass only after {_printable(owner)}: {_printable(path)} is put back now"
    if more := failures[_MAX_SUSPECTS:]:
        yield f"... and {_count(len(more), 'more failed test', 'more failed tests')} of this kind"


def _entry(group: Group, owners: int, width: int | None, dress: Style, *, hint: bool) -> Iterator[str]:
    finding = group.finding
    fate = _fate(finding)
    if group.severity == "note" and _is_undone(finding):
        fate = "put back"
    tone = "dim" if group.severity == "note" else "good" if group.undone else "bad"
    path = _printable(finding.path)
    if group.more_keys:
        path = f"{path} and {group.more_keys:,} more keys"
    room = None if width is None else width - len(f"  {finding.code} {path}: , {fate}")
    yield f"  {dress(finding.code, 'code')} {_what(finding, dress(path, 'path'), room)}, {dress(fate, tone)}"
    victims = [dress(_printable(victim), "owner") for victim in group.victims]
    yield from (f"  broke {text}" for text in _some(victims, owners))
    entry = explain(finding.code)
    if hint and entry is not None and entry.fix:
        yield f"  try   {dress(first_sentence(entry.fix), 'hint')}"


def first_sentence(text: str) -> str:
    """Return the first sentence of *text*, without its full stop."""
    return _SENTENCE_END.split(text, 1)[0].removesuffix(".")


def _owner(owner: str, scope: str, dress: Style) -> str:
    name = dress(_printable(owner), "owner")
    return name if scope in _NARROW_SCOPES else f"{name} ({_printable(scope)} scope)"


def _some(texts: Sequence[str], limit: int) -> Iterator[str]:
    yield from texts[:limit]
    if len(texts) > limit:
        yield f"{len(texts) - limit:,} more"


def _what(finding: Change | Leak, path: str, room: int | None = None) -> str:
    if isinstance(finding, Change):
        return f"{path}: {' -> '.join(_values(finding, room))}"
    entry = explain(finding.code)
    title = f": {entry.title}" if entry else ""
    born = f" (made at {_printable(finding.created_at)})" if finding.created_at else ""
    return f"{path}{title}{born}"


def _values(change: Change, room: int | None) -> tuple[str, str]:
    """Return the values at entry and exit, shortened to *room* columns unless that leaves too little of them."""
    full = _printable(change.before), _printable(change.after)
    if room is None:
        return full
    before, after = short = _short(full[0]), _short(full[1])
    if before == after:
        return full
    room -= len(" -> ")
    if len(before) + len(after) > room:
        # The shorter one may need less than its half.
        half = max(room // 2, _MIN_VALUE)
        spare = max(0, half - min(len(before), len(after)))
        cut = _cut(before, half + spare), _cut(after, half + spare)
        return short if cut[0] == cut[1] else cut
    return short


def _short(text: str) -> str:
    return _QUALIFIER.sub(lambda match: f"<{match[1] or ''}", _FUNCTION.sub(r"\1()", text))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _fate(finding: Change | Leak) -> str:
    if isinstance(finding, Change):
        text = "put back" if finding.restored else "left as it is"
    else:
        text = "ended" if finding.ended else "still alive"
    if finding.severity == "unrecoverable":
        text = "cannot be undone"
    elif finding.severity == "note":
        text = "harmless"
    return f"{text} ({_printable(finding.reason)})" if finding.reason else text


def _is_undone(finding: Change | Leak) -> bool:
    return finding.restored if isinstance(finding, Change) else finding.ended


def _fates(groups: Sequence[Group]) -> str:
    names = ("cannot be undone", "left as they are", "put back", "notes")
    counts = [sum(group.rank == rank for group in groups) for rank in range(len(names))]
    return ", ".join(f"{count} {name}" for count, name in zip(counts, names, strict=True) if count)


def _asides(source: EventSource, totals: Totals, dress: Style) -> Iterator[str]:
    """Facts that a reader must know before trusting the findings."""
    texts = [f"the process is dirty: {reason}" for reason in totals.dirty]
    texts += [f"not watched: {kind} (its probe failed: {why})" for kind, why in totals.disabled_probes.items()]
    texts += [f"not watched to the end: {what} (limit {limit})" for what, limit in totals.truncated.items()]
    texts += list(totals.notes)
    if isinstance(source, JournalRecords):
        texts += [f"open when the process ended: {text}" for text in unfinished_barriers(source)]
        texts += source.warnings
    if totals.dropped:
        texts.append(f"{_count(totals.dropped, 'finding', 'findings')} more, counted but no longer available")
    yield from (f"{dress('note', 'dim')}  {_printable(text)}" for text in texts[:_MAX_ASIDES])
    if len(texts) > _MAX_ASIDES:
        yield f"{dress('note', 'dim')}  and {len(texts) - _MAX_ASIDES} more notes of this kind"


def _notes_line(totals: Totals, dress: Style) -> Iterator[str]:
    if count := sum(totals.notes_by_kind.values()):
        kinds = ", ".join(sorted(totals.notes_by_kind))
        yield dress(f"{_count(count, 'harmless change', 'harmless changes')} not listed ({_printable(kinds)})", "dim")


def _percent(share: float) -> str:
    # 100 is for nothing escaped, 0 for nothing kept: rounding must not say so.
    text = f"{share * 100:.1f}".removesuffix(".0")
    if text == "100" and share < 1:
        return "99.9"
    return "0.1" if text == "0" and share > 0 else text


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _printable(text: str) -> str:
    """Return *text* on one line and safe for any terminal, nothing cut."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _undressed(text: str, _kind: str) -> str:
    return text
