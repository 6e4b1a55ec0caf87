"""Bounded, harmless text of values: no user ``__repr__``, no secrets, no megabytes."""

from __future__ import annotations

import hashlib
import os
import re
import types
from collections import deque
from collections.abc import Collection
from typing import Any, Final

__all__ = ["MAX_TEXT", "bounded_repr", "fingerprint", "is_secret_name", "redacted", "register_placeholder"]

MAX_TEXT: Final = 120
"""Longest text of one value, in characters."""

_MAX_ITEMS = 4
_MAX_DEPTH = 2
_SIZED: Final[tuple[Any, ...]] = (list, tuple, dict, set, frozenset, deque, str, bytes)
_BRACKETS: Final[dict[type, tuple[str, str]]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("{", "}"),
    deque: ("[", "]"),
}

# A key is random per process: equal values are recognisable within one run,
# and a short value cannot be guessed from the report by hashing candidates.
_FINGERPRINT_KEY = os.urandom(16)

_SECRET_NAME = re.compile(
    r"(?i)(pass(word|wd|phrase)?|secret|token|api_?key|private_?key|credential|auth|cookie|session_?id|dsn)"
)
# Shapes of well-known credentials: user:password@ in a URL, cloud and forge
# tokens, JSON web tokens, PEM blocks.
_SECRET_VALUE = re.compile(
    r"://[^/\s:@]+:[^/\s@]+@|\bAKIA[0-9A-Z]{12,}|\bgh[pousr]_[0-9A-Za-z]{20,}|\bsk-[0-9A-Za-z_-]{16,}"
    r"|\bxox[abprs]-[0-9A-Za-z-]{10,}|\beyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}\.|-----BEGIN [A-Z ]*PRIVATE KEY"
)


def fingerprint(text: str) -> str:
    """Return six hex digits that are equal for equal *text* within this process only."""
    data = text.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(data, key=_FINGERPRINT_KEY, digest_size=3).hexdigest()


def redacted(text: str) -> str:
    """Return type, length and fingerprint of *text* instead of the text itself."""
    return f"<str len={len(text)} #{fingerprint(text)}>"


def is_secret_name(name: str) -> bool:
    """Tell whether a variable of this *name* usually holds a credential."""
    return _SECRET_NAME.search(name) is not None


_PLACEHOLDERS: set[type] = set()


def register_placeholder(kind: type) -> None:
    """Show instances of *kind* by their own text, without quotes: ``<absent>`` and its like."""
    _PLACEHOLDERS.add(kind)


def bounded_repr(value: object, limit: int = MAX_TEXT) -> str:
    """Return text for *value*, at most *limit* characters, running no user code.

    Only exact builtin types are shown by content; anything else by type and,
    when it has one, name. Strings that look like credentials are redacted.
    """
    text = str(value) if type(value) in _PLACEHOLDERS else _render(value, 0)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _render(value: Any, depth: int) -> str:
    kind = type(value)
    if kind is str:
        return _render_text(str(value))
    if kind in (int, float, complex, bool, type(None), type(Ellipsis)):
        return _render_number(value)
    if kind in (bytes, bytearray):
        return _render_bytes(value)
    if kind in (list, tuple, set, frozenset, deque):
        return _render_items(value, depth)
    if kind is dict:
        return _render_mapping(value, depth)
    return _render_object(value)


def _render_text(value: str) -> str:
    if _SECRET_VALUE.search(value[:4096]):
        return redacted(value)
    return repr(value) if len(value) <= MAX_TEXT else f"{value[:60]!r}... ({len(value)} characters)"


def _render_number(value: object) -> str:
    # Beyond the interpreter's digit limit repr() of an int raises.
    if type(value) is int and value.bit_length() > 512:
        return f"<int of {value.bit_length()} bits>"
    return repr(value)


def _render_bytes(value: bytes | bytearray) -> str:
    if len(value) <= 40:
        return repr(value)
    return f"{bytes(value[:24])!r}... ({len(value)} bytes)"


def _render_items(value: Collection[object], depth: int) -> str:
    kind = type(value)
    opening, closing = _BRACKETS[kind]
    count = len(value)
    if depth >= _MAX_DEPTH:
        body = "..." if count else ""
    else:
        parts = []
        for index, item in enumerate(value):
            if index == _MAX_ITEMS:
                parts.append(f"... {count} items")
                break
            parts.append(_render(item, depth + 1))
        body = ", ".join(parts) + ("," if kind is tuple and count == 1 else "")
    text = f"{opening}{body}{closing}"
    if kind in (frozenset, deque) or (kind is set and not count):
        return f"{kind.__name__}({text if count else ''})"
    return text


def _render_mapping(value: dict[object, object], depth: int) -> str:
    if depth >= _MAX_DEPTH:
        return "{...}" if value else "{}"
    parts = []
    for index, (key, item) in enumerate(value.items()):
        if index == _MAX_ITEMS:
            parts.append(f"... {len(value)} items")
            break
        if type(key) is str and type(item) is str and is_secret_name(key):
            shown = redacted(item)
        else:
            shown = _render(item, depth + 1)
        parts.append(f"{_render(key, depth + 1)}: {shown}")
    return "{" + ", ".join(parts) + "}"


def _render_object(value: Any) -> str:
    kind = type(value)
    if issubclass(kind, type):
        return f"<class {_type_name(value)}>"
    if kind is types.FunctionType:
        return f"<function {value.__module__}.{value.__qualname__}>"
    if kind is types.ModuleType:
        return f"<module {types.ModuleType.__getattribute__(value, '__dict__').get('__name__')}>"
    if kind is types.BuiltinFunctionType:
        return f"<builtin {value.__name__}>"
    # Asked of the builtin type: a __len__ of its own is user code.
    size = next((f" of {base.__len__(value)}" for base in _SIZED if issubclass(kind, base)), "")
    # No address: it differs from run to run and says nothing to a reader.
    return f"<{_type_name(kind)} object{size}>"


def _type_name(kind: type) -> str:
    # type.__dict__ access, not attribute access: a metaclass may lie or raise.
    module = type.__getattribute__(kind, "__module__") if type(kind) is type else kind.__dict__.get("__module__")
    name = type.__dict__["__qualname__"].__get__(kind)
    return f"{module}.{name}" if isinstance(module, str) and module != "builtins" else str(name)
