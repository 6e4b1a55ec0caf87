"""As much of SQL as a recorder has to know: where tokens and statements end, and which statements give rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["gives_rows", "inserted", "normalise", "split", "tag_of", "to_numbered", "verb_of"]

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|--[^\n]*)
    |(?P<comment>/\*)
    |(?P<string>[eE]'(?:[^'\\]|\\.|'')*'?|'(?:[^']|'')*'?|"(?:[^"]|"")*"?)
    |(?P<dollar>\$(?:[^\W\d]\w*)?\$)
    |(?P<word>[^\W\d][\w$]*)
    |(?P<other>\$\d+|\d[\w.]*|::|.)""",
    re.VERBOSE | re.DOTALL,
)
_PERCENT: Final = re.compile(r"%(?:%|s|\((\w+)\)s)")
_COMMENT: Final = re.compile(r"/\*|\*/")
_ROWS: Final = frozenset({"select", "values", "table", "show", "explain", "fetch", "call"})
_COUNTED: Final = frozenset({"select", "insert", "update", "delete", "merge", "move", "fetch", "copy"})


def _tokens(sql: str, *, percent: bool = False) -> Iterator[tuple[str, str, int]]:
    """Yield kind, text and end of each token; what is not finished goes to the end of the text."""
    at = 0
    while at < len(sql):
        if percent and (placeholder := _PERCENT.match(sql, at)):
            at = placeholder.end()
            yield "percent", placeholder.group(), at
            continue
        match = _TOKEN.match(sql, at)
        assert match is not None
        kind, start, at = str(match.lastgroup), at, match.end()
        if kind == "comment":
            depth = 1
            while depth:
                end = _COMMENT.search(sql, at)
                at, depth = (len(sql), 0) if end is None else (end.end(), depth + (1 if end.group() == "/*" else -1))
            kind = "space"
        elif kind == "dollar":
            stop = sql.find(match.group(), at)
            at, kind = len(sql) if stop < 0 else stop + len(match.group()), "string"
        yield kind, sql[start:at], at


def split(sql: str) -> list[str]:
    """Return the statements of *sql*, without those that are empty."""
    parts: list[list[str]] = [[]]
    for kind, text, _ in _tokens(sql):
        if text == ";":
            parts.append([])
        else:
            parts[-1].append(" " if kind == "space" else text)
    return [text for text in ("".join(part).strip() for part in parts) if text]


def normalise(sql: str) -> str:
    """Return *sql* with white space, comments, the case of words and a last semicolon evened out."""
    words = [text.lower() if kind == "word" else text for kind, text, _ in _tokens(sql) if kind != "space"]
    while words and words[-1] == ";":
        words.pop()
    return " ".join(words)


def to_numbered(sql: str, names: list[str | None]) -> str:
    """Return *sql* with ``%s`` and ``%(name)s`` turned into ``$1``, ``$2``...; *names* gets what each one is."""
    parts = []
    for kind, text, _ in _tokens(sql, percent=True):
        if kind != "percent":
            parts.append(text)
        elif text == "%%":
            parts.append("%")
        elif text != "%s" and text[2:-2] in names:
            parts.append(f"${names.index(text[2:-2]) + 1}")
        else:
            names.append(None if text == "%s" else text[2:-2])
            parts.append(f"${len(names)}")
    return "".join(parts)


def _words(statement: str) -> list[str]:
    """Return the words outside of parentheses, in lower case."""
    depth, found = 0, []
    for kind, text, _ in _tokens(statement):
        depth += (text == "(") - (text == ")")
        if kind == "word" and depth == 0:
            found.append(text.lower())
    return found


def verb_of(statement: str) -> str:
    """Return what *statement* does, in lower case; for ``WITH`` that of the statement it leads to."""
    words = _words(statement)
    if words[:1] == ["with"]:
        return next((word for word in words if word in _COUNTED or word in _ROWS), "select")
    if not words:
        return "select" if statement.lstrip().startswith("(") else ""
    return words[0]


def gives_rows(statement: str) -> bool:
    """Tell whether a server answers *statement* with rows."""
    return verb_of(statement) in _ROWS or "returning" in _words(statement)


def inserted(statement: str) -> int:
    """Return how many rows an ``INSERT`` has after ``VALUES``; 1 if it has none."""
    depth, rows, counting = 0, 0, False
    for kind, text, _ in _tokens(statement):
        depth += (text == "(") - (text == ")")
        counting = counting or (kind == "word" and depth == 0 and text.lower() == "values")
        if kind == "word" and depth == 0 and text.lower() in {"on", "returning"}:
            break
        rows += counting and text == "(" and depth == 1
    return rows or 1


def tag_of(statement: str, count: int | None = None) -> str:
    """Return the command tag of *statement*: that of a server, for *count* rows.

    Args:
        statement: one statement.
        count: how many; None: as many as an ``INSERT`` has, one for others.
    """
    verb, words = verb_of(statement), _words(statement)
    if verb == "insert":
        return f"INSERT 0 {inserted(statement) if count is None else count}"
    if verb in _COUNTED or verb in _ROWS:
        return f"{'SELECT' if verb in {'values', 'table'} else verb.upper()} {1 if count is None else count}"
    if verb in {"create", "drop", "alter"} and len(words) > 1:
        skipped = {"or", "replace", "unique", "temp", "temporary", "unlogged", "global", "local", "recursive"}
        kind = [word for word in words[1:] if word not in skipped]
        size = 2 if kind[:1] in (["materialized"], ["foreign"], ["event"]) else 1
        return " ".join((verb, *kind[:size])).upper()
    return {"end": "COMMIT", "abort": "ROLLBACK", "start": "START TRANSACTION", "truncate": "TRUNCATE TABLE"}.get(
        verb, verb.upper()
    )
