"""Component 5: what a test changed, who did it, and how to put it back."""

from isolation_core.contamination._probe import MISSING, Difference, Probe, is_same_value
from isolation_core.contamination._registry import default_probes, register_probe, registered_probes, unregister_probe
from isolation_core.contamination._summary import (
    debug_fixture_state,
    get_contamination_summary,
    register_live_source,
    validate_suite_isolation,
    validate_suite_isolation_sync,
)

__all__ = [
    "MISSING",
    "Difference",
    "Probe",
    "debug_fixture_state",
    "default_probes",
    "get_contamination_summary",
    "is_same_value",
    "register_live_source",
    "register_probe",
    "registered_probes",
    "unregister_probe",
    "validate_suite_isolation",
    "validate_suite_isolation_sync",
]
