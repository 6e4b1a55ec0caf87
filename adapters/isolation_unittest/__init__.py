"""Isolation for unittest: a mixin, a line for a module, and ``python -m isolation_unittest`` for a whole suite."""

from isolation_unittest._install import isolate_suite, load_tests
from isolation_unittest._mixin import IsolationMixin

__all__ = ["IsolationMixin", "isolate_suite", "load_tests"]
