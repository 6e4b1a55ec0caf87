"""Bounded, harmless text of values: no user ``__repr__``, no secrets, no megabytes."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Collection
from typing import Any, Final

from isolation_core._secrets import holds_secret, is_secret_name, is_secret_option, redacted

__all__ = ["MAX_TEXT", "bounded_repr", "register_placeholder"]

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

_PLACEHOLDERS: set[type] = set()


def register_placeholder(kind: type) -> None:
    """Show instances of *kind* by their own text, without quotes: ``<absent>`` and its like."""
    _PLACEHOLDERS.add(kind)


def bounded_repr(value: object, limit: int = MAX_TEXT, *, secret: bool = False) -> str:
    """Return text for *value*, at most *limit* characters, running no user code.

    Only exact builtin types are shown by content; anything else by type and,
    when it has one, name. Text and bytes that look like credentials are redacted.

    Args:
        value: anything.
        limit: the greatest length, in characters.
        secret: whether what holds the value has the name of a credential: then all text in it is redacted.
    """
    text = str(value) if type(value) in _PLACEHOLDERS else _render(value, 0, secret=secret)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _render(value: Any, depth: int, *, secret: bool) -> str:
    kind = type(value)
    if kind is str:
        return _render_text(str(value), secret=secret)
    if kind in (int, float, complex, bool, type(None), type(Ellipsis)):
        return _render_number(value)
    if kind in (bytes, bytearray):
        return _render_bytes(value, secret=secret)
    if kind in (list, tuple, set, frozenset, deque):
        return _render_items(value, depth, secret=secret)
    if kind is dict:
        return _render_mapping(value, depth, secret=secret)
    return _render_object(value)


def _render_text(value: str, *, secret: bool) -> str:
    if (secret and value) or holds_secret(value):
        return redacted(value)
    return repr(value) if len(value) <= MAX_TEXT else f"{value[:60]!r}... ({len(value)} characters)"


def _render_number(value: object) -> str:
    # Beyond the interpreter's digit limit repr() of an int raises.
    if type(value) is int and value.bit_length() > 512:
        return f"<int of {value.bit_length()} bits>"
    return repr(value)


def _render_bytes(value: bytes | bytearray, *, secret: bool) -> str:
    # Only as much as is searched is decoded: the value may be huge.
    if (secret and value) or holds_secret(bytes(value[:4096]).decode("latin-1")):
        return redacted(value)
    if len(value) <= 40:
        return repr(value)
    return f"{bytes(value[:24])!r}... ({len(value)} bytes)"


def _render_items(value: Collection[object], depth: int, *, secret: bool) -> str:
    kind = type(value)
    opening, closing = _BRACKETS[kind]
    count = len(value)
    if depth >= _MAX_DEPTH:
        body = "..." if count else ""
    else:
        parts = []
        last: object = None
        for index, item in enumerate(value):
            if index == _MAX_ITEMS:
                parts.append(f"... {count} items")
                break
            # The value behind an option of the command line, or the second one of a pair with a name.
            named = type(last) is str and (is_secret_option(last) or (index == 1 and is_secret_name(last)))
            parts.append(_render(item, depth + 1, secret=secret or named))
            last = item
        body = ", ".join(parts) + ("," if kind is tuple and count == 1 else "")
    text = f"{opening}{body}{closing}"
    if kind in (frozenset, deque) or (kind is set and not count):
        return f"{kind.__name__}({text if count else ''})"
    return text


def _render_mapping(value: dict[object, object], depth: int, *, secret: bool) -> str:
    if depth >= _MAX_DEPTH:
        return "{...}" if value else "{}"
    parts = []
    for index, (key, item) in enumerate(value.items()):
        if index == _MAX_ITEMS:
            parts.append(f"... {len(value)} items")
            break
        named = type(key) is str and is_secret_name(key)
        shown = _render(item, depth + 1, secret=secret or named)
        parts.append(f"{_render(key, depth + 1, secret=False)}: {shown}")
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
