"""Diagnosis: from a test that failed to the state that may be the reason, and to who left it."""

from isolation_core.diagnosis._candidates import Candidate, FailureFacts, find_candidates
from isolation_core.diagnosis._proof import Experiment, Prover, Verdict
from isolation_core.diagnosis._reach import modules_reached
from isolation_core.diagnosis._text import render_candidates

__all__ = [
    "Candidate",
    "Experiment",
    "FailureFacts",
    "Prover",
    "Verdict",
    "find_candidates",
    "modules_reached",
    "render_candidates",
]
