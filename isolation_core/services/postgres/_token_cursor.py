"""What both halves of the parser stand on: a place in a list of tokens."""

from __future__ import annotations

from typing import Final, NoReturn

from isolation_core.errors import UnsupportedSQLError
from isolation_core.services.postgres._errors import pg_error
from isolation_core.services.postgres._tokens import Token, tokenize

__all__ = ["RESERVED", "TokenCursor"]

RESERVED: Final = frozenset(
    [
        "all",
        "analyse",
        "analyze",
        "and",
        "any",
        "array",
        "as",
        "asc",
        "asymmetric",
        "both",
        "case",
        "cast",
        "check",
        "collate",
        "column",
        "constraint",
        "create",
        "current_catalog",
        "current_date",
        "current_role",
        "current_time",
        "current_timestamp",
        "current_user",
        "default",
        "deferrable",
        "desc",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "false",
        "fetch",
        "for",
        "foreign",
        "from",
        "grant",
        "group",
        "having",
        "in",
        "initially",
        "intersect",
        "into",
        "lateral",
        "leading",
        "limit",
        "localtime",
        "localtimestamp",
        "not",
        "null",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "placing",
        "primary",
        "references",
        "returning",
        "select",
        "session_user",
        "some",
        "symmetric",
        "table",
        "then",
        "to",
        "trailing",
        "true",
        "union",
        "unique",
        "user",
        "using",
        "variadic",
        "when",
        "where",
        "window",
        "with",
        "cross",
        "full",
        "inner",
        "is",
        "isnull",
        "join",
        "left",
        "like",
        "natural",
        "notnull",
        "outer",
        "overlaps",
        "right",
        "similar",
        "ilike",
    ]
)
"""Words that name nothing unless quoted."""


class TokenCursor:
    """Looks at tokens and takes them.

    Args:
        sql: the statement.
        tokens: of it; taken apart if None.
    """

    def __init__(self, sql: str, tokens: list[Token] | None = None) -> None:
        self.sql = sql
        self.tokens = tokenize(sql) if tokens is None else tokens
        self.at = 0

    @property
    def token(self) -> Token:
        """The next one."""
        return self.tokens[self.at]

    def peek(self, ahead: int = 1) -> Token:
        """Return one further on."""
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)]

    def take(self) -> Token:
        """Take the next one."""
        token = self.tokens[self.at]
        if token.kind != "end":
            self.at += 1
        return token

    def is_word(self, *words: str) -> bool:
        """Return whether the next tokens are these words."""
        return all(self.peek(i).kind == "word" and self.peek(i).text == word for i, word in enumerate(words))

    def is_op(self, text: str) -> bool:
        """Return whether the next token is this operator."""
        return self.token.kind == "op" and self.token.text == text

    def word(self, *words: str) -> bool:
        """Take these words if they are next."""
        if self.is_word(*words):
            self.at += len(words)
            return True
        return False

    def one_of(self, *words: str) -> str | None:
        """Take one of these words if one is next."""
        if self.token.kind == "word" and self.token.text in words:
            return self.take().text
        return None

    def op(self, text: str) -> bool:
        """Take this operator if it is next."""
        if self.is_op(text):
            self.at += 1
            return True
        return False

    def need_word(self, *words: str) -> None:
        """Take these words.

        Raises:
            PostgresSyntaxError: if they are not next.
        """
        for word in words:
            if not self.word(word):
                self.fail()

    def need_op(self, text: str) -> None:
        """Take this operator.

        Raises:
            PostgresSyntaxError: if it is not next.
        """
        if not self.op(text):
            self.fail()

    def identifier(self) -> str:
        """Take a name.

        Raises:
            PostgresSyntaxError: if none is next.
        """
        token = self.token
        if token.kind == "name" or (token.kind == "word" and token.text not in RESERVED):
            return self.take().text
        return self.fail()

    def label(self) -> str:
        """Take a name that may be any word, as after AS."""
        return self.take().text if self.token.kind in {"word", "name"} else self.fail()

    def names(self) -> tuple[str, ...]:
        """Take names in parentheses."""
        self.need_op("(")
        found = [self.identifier()]
        while self.op(","):
            found.append(self.identifier())
        self.need_op(")")
        return tuple(found)

    def table_name(self) -> str:
        """Take the name of a table; ``public.`` before it changes nothing."""
        name = self.identifier()
        if self.op("."):
            if name != "public":
                self.unsupported(f"the schema {name!r}")
            name = self.identifier()
        return name

    def fail(self) -> NoReturn:
        """Raise the server's syntax error for the next token."""
        token = self.token
        if token.kind == "end":
            raise pg_error("PostgresSyntaxError", "syntax error at end of input")
        text = self.sql[token.start : token.stop]
        raise pg_error("PostgresSyntaxError", f'syntax error at or near "{text}"')

    def unsupported(self, construct: str) -> NoReturn:
        """Raise that the engine does not know *construct*."""
        raise UnsupportedSQLError(self.sql, construct)
