"""The built-in probes, one module per family of state."""

from isolation_core.contamination.probes._all import builtin_probes

__all__ = ["builtin_probes"]
