"""Component 5: changes that tests make to shared state, their owners, and their undoing."""

from isolation_core.contamination._difference import MISSING, Difference, is_same_value
from isolation_core.contamination.probes._probe import Probe
from isolation_core.contamination.probes._registered import (
    default_probes,
    register_probe,
    registered_probes,
    unregister_probe,
)

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
