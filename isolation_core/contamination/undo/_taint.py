"""What a test function says about the world it makes: patches, fakes, settings, temporary folders."""

from __future__ import annotations

import gc
import types
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["taint_of"]

_WORDS: Final = frozenset(
    {
        "AsyncMock", "MagicMock", "Mock", "MonkeyPatch", "NamedTemporaryFile", "PropertyMock", "TemporaryDirectory",
        "chdir", "create_autospec", "delenv", "environ", "freeze_time", "mkdtemp", "mock", "mocker", "monkeypatch",
        "override_settings", "patch", "putenv", "requests_mock", "respx", "responses", "setattr", "setenv", "settings",
        "tempfile", "testdir", "pytester", "time_machine", "tmp_path", "tmpdir", "travel",
    }
)  # fmt: skip
_MOST: Final = 200


def taint_of(function: Any) -> str | None:
    """Return a phrase for what the code of the test *function* changes the world with, or None.

    Looks at the function and at those of its own module that it names.
    """
    for code in _codes_of(function):
        found = _WORDS.intersection((*code.co_names, *code.co_varnames, *code.co_freevars))
        if found:
            return f"the test used {min(found)!r}"
    return None


def _codes_of(function: Any) -> Iterator[types.CodeType]:
    todo: list[Any] = [function]
    seen: set[int] = set()
    while todo and len(seen) < _MOST:
        current = todo.pop()
        if type(current) is types.MethodType:
            current = current.__func__
        if type(current) is types.FunctionType:
            if id(current) in seen:
                continue
            seen.add(id(current))
            todo += [each for cell in current.__closure__ or () for each in gc.get_referents(cell)]
            todo += [current.__dict__.get("__wrapped__")]
            todo += _named(current.__code__, current.__globals__)
            todo.append(current.__code__)
        elif isinstance(current, types.CodeType):
            yield current
            todo += [constant for constant in current.co_consts if type(constant) is types.CodeType]


def _named(code: types.CodeType, space: dict[str, Any]) -> Iterator[Any]:
    for name in code.co_names:
        value = space.get(name)
        if type(value) is types.FunctionType and value.__globals__ is space:
            yield value
