"""Runs a dependency graph: set-up, teardown, budgets, error groups."""

from isolation_core.lifecycle._lifecycle import Lifecycle

__all__ = ["Lifecycle"]
