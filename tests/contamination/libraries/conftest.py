"""One check for every piece of library state: polluted, put back, used by healthy tests."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isolation_core import Barrier, isolation_barrier

Own = Callable[[str], types.ModuleType]
"""Makes the module `own_app` from source text."""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Own]:
    """Return a function that makes a first-party module."""

    def make(source: str) -> types.ModuleType:
        (tmp_path / "own_app.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        import own_app  # type: ignore[import-not-found]

        module: types.ModuleType = own_app
        return module

    yield make
    sys.modules.pop("own_app", None)


def barrier(**options: Any) -> Barrier:
    """Return a barrier around code that uses `own_app`."""
    return isolation_barrier(packages=["own_app"], **options)


class Check:
    """Checks one piece of state."""

    def __call__(
        self,
        pollute: Callable[[], object],
        victim: Callable[[], object],
        *healthy: Callable[[], object],
        named: str,
    ) -> None:
        """Assert that pollution is put back and named, and that healthy use goes on in silence.

        Args:
            pollute: the polluting test.
            victim: a test that fails after it.
            healthy: tests that must stay healthy, and receive no report.
            named: pattern of the path in the report.
        """
        with barrier():
            pollute()
            with pytest.raises((Exception, pytest.fail.Exception)):
                victim()
        for _ in range(2):
            with barrier() as around:
                pollute()
            assert re.search(named, " ".join(change.path for change in around.changes)), around.changes
            assert [change for change in around.changes if not change.restored] == []
            with barrier():
                victim()
            for use in healthy:
                with barrier(mode="strict") as calm:
                    use()
                assert [change for change in calm.changes if change.severity != "note"] == []


@pytest.fixture
def check() -> Check:
    """Return the check of one piece of state."""
    return Check()
