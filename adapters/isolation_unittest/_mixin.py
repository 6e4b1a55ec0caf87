"""`IsolationMixin`: every test of a class behind a barrier of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from isolation_core.barrier import Barrier
from isolation_core.config import Mode
from isolation_unittest._install import isolate_class

__all__ = ["IsolationMixin"]


class IsolationMixin:
    """Mix it into a `unittest.TestCase` or `unittest.IsolatedAsyncioTestCase`, at any place among the bases.

    A barrier opens before `setUp` and closes after the last cleanup of a test;
    another one lies around the class, from before `setUpClass` until after its
    cleanups, so that what `setUpClass` prepares is there for each test.
    It works by wrapping `run` and `setUpClass` of each subclass, so nothing
    depends on anybody calling ``super().setUp()``.

    Attributes that are not set come from the settings; see `isolation_core.config`.

    Attributes:
        isolation_mode: ``"off"``, ``"report"``, ``"restore"`` or ``"strict"``.
        isolation_group: the isolation group.
        isolation_packages: whose module state is watched deeply.
        isolation_probes: kinds to watch.
        isolation_ignore: ``kind:path-glob`` patterns of changes to leave alone.
        isolation_timeout: seconds each cleanup may take.
    """

    _isolation_barrier: Barrier
    isolation_mode: ClassVar[Mode | None] = None
    isolation_group: ClassVar[str] = "default"
    isolation_packages: ClassVar[Sequence[str] | None] = None
    isolation_probes: ClassVar[Sequence[str] | None] = None
    isolation_ignore: ClassVar[Sequence[str] | None] = None
    isolation_timeout: ClassVar[float | None] = None

    @property
    def isolation(self) -> Barrier:
        """The barrier of this test.

        Raises:
            AttributeError: before the test was run.
        """
        return self._isolation_barrier

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        isolate_class(cls)
