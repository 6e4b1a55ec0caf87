"""A barrier around each example of a Hypothesis test, so that no example sees the changes of another.

A test function runs many times in one test then, and the barrier of the test
sees only the first beginning and the last end.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

__all__ = ["isolate_examples"]


def isolate_examples(item: pytest.Function, make: Callable[[], AbstractContextManager[object]]) -> None:
    """Have each example of *item* run inside of a barrier of *make*, until the test ends.

    Args:
        item: a test; nothing happens if it is not one of Hypothesis.
        make: returns a new barrier, to be opened by ``with``.
    """
    handle: Any = getattr(item.obj, "hypothesis", None)
    inner = getattr(handle, "inner_test", None)
    # What no plugin has made a plain function of fails in a moment, and Hypothesis says it best.
    if inner is None or inspect.iscoroutinefunction(inner):
        return

    @wraps(inner)
    def isolated(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with make():
            return inner(*args, **kwargs)

    handle.inner_test = isolated
    # The handle belongs to the function: other items, of a parametrised test, have the same.
    item.addfinalizer(partial(setattr, handle, "inner_test", inner))
