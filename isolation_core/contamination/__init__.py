"""Component 5: what a test changed, who did it, and how to put it back."""

from isolation_core.contamination._probe import MISSING, Difference, Probe, is_same_value
from isolation_core.contamination._registry import default_probes, register_probe, registered_probes, unregister_probe

__all__ = [
    "MISSING",
    "Difference",
    "Probe",
    "default_probes",
    "is_same_value",
    "register_probe",
    "registered_probes",
    "unregister_probe",
]
