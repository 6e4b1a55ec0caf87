"""What looks like a secret, and what is shown instead: the one place that decides.

Findings go into terminals, journals, JUnit files and baselines that many people
read. Values are redacted where they are rendered, since only there the names
around them are known; and every text of a finding goes through `scrub` once
more, whichever part of the code made it.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Final

__all__ = ["fingerprint", "holds_secret", "is_secret_name", "is_secret_option", "redacted", "scrub"]

_SEARCHED: Final = 4096
"""Characters of a value that are searched; no more of it is ever shown."""

# A key is random per process: equal values are recognisable within one run,
# and a short value cannot be guessed from the report by hashing candidates.
_FINGERPRINT_KEY: Final = os.urandom(16)

_NAME: Final = (
    r"pass(?:word|wd|phrase|code)s?(?![a-z])|(?<![a-z])pass(?![a-z])|pwd(?![a-z])|secrets?(?![a-z])|secret[_-]?key|(?<!max_)tokens?(?![a-z])"
    r"|(?:api|access|private|signing|encryption)[_-]?keys?(?![a-z])|credentials?(?![a-z])|auth(?:orization)?(?![a-z])"
    r"|cookies?(?![a-z])|session[_-]?(?:id|key|cookie)s?(?![a-z])|dsn(?![a-z])|jwt(?![a-z])"
)
_SECRET_NAME: Final = re.compile(rf"(?:{_NAME})", re.IGNORECASE)

# A name and what follows it: `password=x`, `"token": "x"`, `--api-key=x`. Bounded everywhere, so that a long
# text costs what its length is. Text that was redacted already is left alone.
_PAIR: Final = re.compile(
    rf"(?P<head>(?:{_NAME})[\w-]{{0,40}}(?:\\?[\"'])?\]?\s{{0,3}}[=:]\s{{0,3}}(?:b?\\?[\"'])?)"
    r"(?P<value>(?!<(?:str|bytes|redacted|absent)\b)(?!\s)(?!(?:None|True|False|\d{1,4})\b)[^\s\"'&;,<>)\]}\\]{3,})",
    re.IGNORECASE,
)
# A parameter of an address; there the name may be a short one.
_QUERY: Final = re.compile(
    r"(?P<head>[?&;#](?:[\w.-]{0,40}(?:token|key|secret|sig|signature|auth|code|password|pwd|credential|session)[\w-]{0,20})=)"
    r"(?P<value>(?!<redacted)[^\s\"'&;#<>]{3,})",
    re.IGNORECASE,
)
_SCHEME: Final = re.compile(r"(?P<head>\b(?:bearer|basic|digest|token)\s+)(?P<value>[\w.~+/=-]{8,})", re.IGNORECASE)
_USER: Final = re.compile(r"(?P<head>://[^/\s:@]{0,200}:)(?P<value>(?!<redacted)[^/\s@]{1,400})(?=@)")
# Shapes of well-known credentials: cloud and forge tokens, JSON web tokens, PEM blocks.
_SHAPE: Final = re.compile(
    r"(?P<head>)(?P<value>\bAKIA[0-9A-Z]{12,}|\bgh[pousr]_[0-9A-Za-z]{20,}|\bsk-[0-9A-Za-z_-]{16,}"
    r"|\bglpat-[0-9A-Za-z_-]{16,}|\bxox[abprs]-[0-9A-Za-z-]{10,}|\beyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}[.\w-]{0,4000}"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY.{0,4000})",
    re.DOTALL,
)
# What such a container is keyed by is the secret itself.
_KEYED: Final = re.compile(
    r"(?P<head>(?:token|secret|api_?key|password|credential|cookie|session)s\w{0,40}\[b?[\"'])(?P<value>[^\"']{3,})(?=[\"']\])",
    re.IGNORECASE,
)
_ALL: Final = (_USER, _QUERY, _PAIR, _SCHEME, _SHAPE)
# One cheap question first: nearly every text of a finding holds none of these.
_SUSPICIOUS: Final = re.compile(
    rf"{_NAME}|://|[?&;#][\w.-]{{0,60}}=|bearer|basic|digest|token|AKIA|gh[pousr]_|sk-|glpat-|xox|eyJ|BEGIN",
    re.IGNORECASE,
)
_OPTION: Final = re.compile(rf"--?[\w-]{{0,40}}(?:{_NAME})[\w-]{{0,40}}$", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Return whether a variable, key or parameter of this *name* usually holds a credential."""
    return _SECRET_NAME.search(name) is not None


def is_secret_option(text: str) -> bool:
    """Return whether *text* is a command-line option whose value, the next argument, is a credential."""
    return _OPTION.match(text) is not None


def holds_secret(text: str) -> bool:
    """Return whether a value that reads *text* has a credential in it."""
    text = text[:_SEARCHED]
    return _SUSPICIOUS.search(text) is not None and any(pattern.search(text) for pattern in _ALL)


def scrub(text: str) -> str:
    """Return *text* with ``<redacted>`` in the place of everything in it that looks like a credential."""
    if _SUSPICIOUS.search(text) is None:
        return text
    for pattern in (*_ALL, _KEYED):
        text = pattern.sub(r"\g<head><redacted>", text)
    return text


def fingerprint(text: str) -> str:
    """Return six hex digits that are equal for equal *text* within this process only."""
    data = text.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(data, key=_FINGERPRINT_KEY, digest_size=3).hexdigest()


def redacted(value: str | bytes | bytearray) -> str:
    """Return type, length and fingerprint of *value* instead of the value itself."""
    if isinstance(value, str):
        return f"<str len={len(value)} #{fingerprint(value)}>"
    return f"<bytes len={len(value)} #{fingerprint(bytes(value).decode('latin-1'))}>"
