"""`station doctor`: looks at machine, bench and records, and says of each thing ok, warning or problem, and the fix in words.

A problem keeps boards from being made or records from being safe; a warning may. What cannot be looked at is a warning that
says so, never ok. Nothing is changed by looking, and nothing is asked of a programmer: the daemon runs the same examination.
"""

from __future__ import annotations

from station.doctor.examination import CHECKS, examine, without_the_well
from station.doctor.patient import Patient

__all__ = ["CHECKS", "Patient", "examine", "without_the_well"]
