"""Text to tokens, by PostgreSQL's lexical rules (standard_conforming_strings on)."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from isolation_core.errors import UnsupportedSQLError
from isolation_core.services.postgres._errors import pg_error

__all__ = ["Token", "normalise", "to_numbered", "tokenize"]

Kind = Literal["word", "name", "string", "number", "param", "op", "percent", "end"]


class Token(NamedTuple):
    """One token.

    Attributes:
        kind: ``word``: an identifier or key word, folded to lower case; ``name``: a quoted identifier;
            ``percent``: a ``%s`` or ``%(name)s``, only where those are looked for.
        text: its value: without quotes, with escapes done.
        start: where it begins in the text.
        stop: where it ends.
    """

    kind: Kind
    text: str
    start: int
    stop: int


_SPACE: Final = re.compile(r"(?:\s+|--[^\n]*)+")
_WORD: Final = re.compile(r"[^\W\d][\w$]*")
_NUMBER: Final = re.compile(r"(?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_PARAM: Final = re.compile(r"\$(\d+)")
_DOLLAR: Final = re.compile(r"\$([^\W\d]\w*)?\$")
_OP: Final = re.compile(r"::|<=|>=|<>|!=|\|\||->>|->|[-+*/%^=<>(),;.\[\]:]")
_OTHER_OP: Final = re.compile(r"[-+*/<>=~!@#%^&|`?]+")
_PERCENT: Final = re.compile(r"%(?:%|s|\((\w+)\)s)")


def _comment(sql: str, at: int) -> int:
    """Return the end of the block comment at *at*; those nest."""
    depth, place = 1, at + 2
    while depth:
        match = re.compile(r"/\*|\*/").search(sql, place)
        if match is None:
            raise pg_error("PostgresSyntaxError", f'unterminated /* comment at or near "{sql[at:]}"')
        depth += 1 if match.group() == "/*" else -1
        place = match.end()
    return place


def _quoted(sql: str, at: int, quote: str) -> tuple[str, int]:
    place, parts = at + 1, []
    while True:
        stop = sql.find(quote, place)
        if stop < 0:
            what = "quoted string" if quote == "'" else "quoted identifier"
            raise pg_error("PostgresSyntaxError", f'unterminated {what} at or near "{sql[at:]}"')
        parts.append(sql[place:stop])
        if sql[stop + 1 : stop + 2] != quote:
            return quote.join(parts), stop + 1
        place = stop + 2


def tokenize(sql: str, *, percent: bool = False, strict: bool = True) -> list[Token]:
    """Split *sql* into tokens; the last one is of kind ``end``.

    Args:
        sql: the text.
        percent: whether ``%s``, ``%(name)s`` and ``%%`` are placeholders.
        strict: whether what the engine does not know is refused here.

    Raises:
        PostgresSyntaxError: for an unterminated string, identifier or comment.
        UnsupportedSQLError: for lexical forms the engine does not know.
    """
    tokens: list[Token] = []
    at, size = 0, len(sql)
    while at < size:
        if match := _SPACE.match(sql, at):
            at = match.end()
            continue
        if sql.startswith("/*", at):
            at = _comment(sql, at)
            continue
        token = _token(sql, at, percent=percent, strict=strict)
        tokens.append(token)
        at = token.stop
    tokens.append(Token("end", "", size, size))
    return tokens


def _token(sql: str, at: int, *, percent: bool, strict: bool) -> Token:
    char = sql[at]
    if percent and (match := _PERCENT.match(sql, at)):
        return Token("percent", match.group(), at, match.end())
    if char == "'":
        text, stop = _quoted(sql, at, "'")
        return Token("string", text, at, stop)
    if char == '"':
        text, stop = _quoted(sql, at, '"')
        return Token("name", text, at, stop)
    if strict and char in "eEbBxXuUnN" and (sql.startswith("'", at + 1) or sql[at : at + 3].lower() in {"u&'", 'u&"'}):
        raise UnsupportedSQLError(sql, f"the string form {sql[at]}'...'")
    if match := _NUMBER.match(sql, at):
        return Token("number", match.group(), at, match.end())
    if match := _WORD.match(sql, at):
        return Token("word", match.group().lower(), at, match.end())
    if match := _PARAM.match(sql, at):
        return Token("param", match.group(1), at, match.end())
    if match := _DOLLAR.match(sql, at):
        stop = sql.find(match.group(), match.end())
        if stop < 0:
            raise pg_error("PostgresSyntaxError", f'unterminated dollar-quoted string at or near "{sql[at:]}"')
        return Token("string", sql[match.end() : stop], at, stop + len(match.group()))
    known = _OP.match(sql, at)
    # A run of operator characters is one operator, so what is longer than ours is another one.
    longer = _OTHER_OP.match(sql, at)
    if longer and (known is None or longer.end() > known.end()):
        text = longer.group()
        # ... except that one does not end in + or -, nor does it run into a comment.
        while len(text) > 1 and text[-1] in "+-" and not set(text) & set("~!@#%^&|`?"):
            text = text[:-1]
        if known is None or len(text) > len(known.group()):
            if strict:
                raise UnsupportedSQLError(sql, f"the operator {text}")
            return Token("op", text, at, at + len(text))
    if known is None:
        raise pg_error("PostgresSyntaxError", f'syntax error at or near "{char}"')
    return Token("op", known.group(), at, known.end())


def normalise(sql: str) -> str:
    """Return *sql* with white space, comments, the case of words and a last semicolon evened out."""
    words = []
    for token in tokenize(sql, strict=False):
        if token.kind in {"word", "number", "op"}:
            words.append(token.text)
        elif token.kind != "end":
            words.append(sql[token.start : token.stop])
    while words and words[-1] == ";":
        words.pop()
    return " ".join(words)


def to_numbered(sql: str, names: list[str | None]) -> str:
    """Return *sql* with ``%s`` and ``%(name)s`` turned into ``$1``, ``$2``...; *names* gets what each one is."""
    parts, at = [], 0
    for token in tokenize(sql, percent=True, strict=False):
        if token.kind != "percent":
            continue
        parts.append(sql[at : token.start])
        at = token.stop
        if token.text == "%%":
            parts.append("%")
            continue
        name = token.text[2:-2] if token.text != "%s" else None
        if name is not None and name in names:
            parts.append(f"${names.index(name) + 1}")
            continue
        names.append(name)
        parts.append(f"${len(names)}")
    return "".join((*parts, sql[at:]))
