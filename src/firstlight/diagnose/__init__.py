"""Findings from signals: what is wrong with a start, where, why, and what mends it."""

from firstlight.diagnose.bounds import BOUNDS, Bound
from firstlight.diagnose.diagnosis import RULES, Diagnosis, diagnose
from firstlight.diagnose.finding import KINDS, Finding
from firstlight.diagnose.prescribe import CANDIDATES, Candidate

__all__ = ["BOUNDS", "CANDIDATES", "KINDS", "RULES", "Bound", "Candidate", "Diagnosis", "Finding", "diagnose"]
