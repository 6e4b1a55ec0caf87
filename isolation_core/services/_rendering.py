"""A log as text: a timeline for people, JSONL for programs, a mermaid diagram for both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from isolation_core.journal import plain

if TYPE_CHECKING:
    from isolation_core.services._interactions import Interaction

__all__ = ["as_jsonl", "as_mermaid", "timeline"]


def timeline(entries: Iterable[Interaction], *, limit: int = 60) -> str:
    """Return one line for each interaction, nested calls indented; the middle of a long log is left out."""
    lines = []
    open_: list[Interaction] = []
    for entry in entries:
        open_ = [one for one in open_ if (one.end is None or one.end > entry.start) and one.task == entry.task]
        # To the tenth: in real time more is not needed, and two runs of one test read the same.
        moment = f"  at {tenths:g} s" if (tenths := round(entry.at, 1)) else ""
        lines.append(f"  {'  ' * len(open_)}{entry!r}{moment}")
        if entry.state != "event":
            open_.append(entry)
    if len(lines) > limit:
        left_out = f"  ... {len(lines) - limit} more ..."
        lines = [*lines[: limit // 2], left_out, *lines[len(lines) - limit // 2 :]]
    return "\n".join(lines) or "  nothing"


def as_jsonl(entries: Iterable[Interaction]) -> str:
    """Return one JSON object a line."""
    return "".join(json.dumps(_facts(entry), ensure_ascii=False) + "\n" for entry in entries)


def _facts(entry: Interaction) -> dict[str, object]:
    facts = {
        "start": entry.start, "end": entry.end, "service": entry.service, "double": entry.double,
        "client": entry.client, "operation": entry.operation, "args": plain(list(entry.args)),
        "kwargs": plain(dict(entry.kwargs)), "state": entry.state, "at": entry.at, "until": entry.until,
        "task": entry.task, "error": entry.error, "fault": entry.fault,
    }  # fmt: skip
    return {name: value for name, value in facts.items() if value not in (None, "")}


def as_mermaid(entries: Iterable[Interaction]) -> str:
    """Return a ``sequenceDiagram``: tasks on the left, doubles on the right."""
    entries = tuple(entries)
    names: dict[str, str] = {}
    lines = ["sequenceDiagram"]
    for prefix, found in (("t", [entry.task or "test" for entry in entries]), ("s", [e.double for e in entries])):
        for name in dict.fromkeys(found):
            names[prefix + name] = f"{prefix}{len(names)}"
            kind = "actor" if prefix == "t" else "participant"
            lines.append(f"    {kind} {names[prefix + name]} as {_label(name)}")
    moments: list[tuple[int, str]] = []
    for entry in entries:
        task, double = names["t" + (entry.task or "test")], names["s" + entry.double]
        shown = ", ".join([*map(repr, entry.args), *(f"{name}={value!r}" for name, value in entry.kwargs.items())])
        text = _label(f"{entry.operation}({shown})")
        if entry.state == "event":
            moments.append((entry.start, f"    Note over {double}: {text}"))
            continue
        moments.append((entry.start, f"    {task}->>{double}: {text}"))
        if entry.end is not None and entry.error is not None:
            moments.append((entry.end, f"    {double}--x{task}: {_label(entry.error)}"))
        elif entry.end is not None:
            moments.append((entry.end, f"    {double}-->>{task}: {entry.operation}"))
    lines += [line for _, line in sorted(moments)]
    return "\n".join(lines) + "\n"


def _label(text: str, limit: int = 80) -> str:
    text = text if len(text) <= limit else f"{text[: limit - 3]}..."
    # What has a meaning in mermaid is written as an entity.
    return re.sub(r"[#;<>{}\n\"]", lambda match: f"#{ord(match[0])};", text)
