"""Which implementation makes the mocks: the light one, or plain `AsyncMock` with deep cleanup.

The light engine leans on private names of ``unittest.mock``. They are checked
at import, and the result is tried out; when either fails the plain engine
takes over, slower but built on the standard library's own code only. Set
``ISOLATION_CORE_MOCK_ENGINE=plain`` to force it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from unittest.mock import AsyncMock, call

from isolation_core.errors import ConfigurationError
from isolation_core.mocks._contract import contract_for
from isolation_core.mocks._kinds import IsolatedMock, OwnClassMock
from isolation_core.mocks._light import born
from isolation_core.mocks._plain_engine import make_plain
from isolation_core.mocks._stdlib import MISSING_NAMES

__all__ = ["ENGINE", "ENGINE_REASON", "Engine", "make"]

Engine = Literal["light", "plain"]

VARIABLE: Final = "ISOLATION_CORE_MOCK_ENGINE"


def _self_test() -> str | None:
    """Return what does not work as it should, or None."""
    try:
        mock = IsolatedMock(name="m")
        mock.child.return_value = 1
        coroutine = mock.child(2, a=3)
        try:
            coroutine.send(None)
        except StopIteration as stop:
            if stop.value != 1:
                return "a return value got lost"
        mock.child.assert_awaited_once_with(2, a=3)
        if mock.mock_calls != [call.child(2, a=3)] or not isinstance(mock, AsyncMock) or len(mock) != 0:
            return "calls are not recorded as expected"
        mock.reset_mock()
        if mock.mock_calls or mock.child.await_count:
            return "calls are not forgotten"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _choose() -> tuple[Engine, str]:
    wish = os.environ.get(VARIABLE, "")
    if wish not in ("", "light", "plain"):
        raise ConfigurationError(f"{VARIABLE} is {wish!r}; use 'light' or 'plain'", name=VARIABLE, value=wish)
    if wish == "plain":
        return "plain", f"asked for by {VARIABLE}"
    if MISSING_NAMES:
        return "plain", f"this version of unittest.mock has no {', '.join(MISSING_NAMES)}"
    problem = _self_test()
    if problem is not None:
        return "plain", f"the self-test of the light engine failed: {problem}"
    return "light", "all private names are there and the self-test passed"


ENGINE, ENGINE_REASON = _choose()


def make(
    spec: Any,
    *,
    name: str | None,
    own_class: bool,
    attributes: Sequence[str],
    configure: Mapping[str, Any],
    engine: Engine | None = None,
) -> Any:
    """Make one mock; see `isolated_mock` for the arguments."""
    contract = None
    if spec is not None and type(spec) not in (list, tuple):
        contract = contract_for(spec, attributes)
    if (engine or ENGINE) == "plain":
        return make_plain(spec, contract, name=name, attributes=attributes, configure=configure)
    cls = OwnClassMock if own_class else IsolatedMock
    if contract is None and not configure and spec is None:
        return born(cls, None, name, "", None)
    options = dict(configure)
    if contract is not None:
        mock = born(cls, None, name, "", None)
        mock.fulfil(contract)
        if "wraps" in options:
            object.__setattr__(mock, "_mock_wraps", options.pop("wraps"))
        if options.pop("unsafe", False):
            object.__setattr__(mock, "_mock_unsafe", True)
        if options:
            mock.configure_mock(**options)
        return mock
    if spec is not None:
        spec = [*spec, *attributes]
    return cls(spec, name=name, **options)
