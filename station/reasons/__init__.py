"""The closed list of reasons: what each thing that can go wrong is, whose fault, which tray, and in what words.

The one place in the program where a reason meets its outcome, its tray and the words a person reads; page, terminal, log
and records all take them from here. Changing the list takes a decision record (see `docs/decisions/`).
"""

from station.reasons.codes import Meaning, Reason
from station.reasons.table import HEADLINES, MEANINGS
from station.reasons.words import CAUSES_BY_MEASUREMENT, cause_of, deed_for, headline_for, words_for

__all__ = [
    "CAUSES_BY_MEASUREMENT",
    "HEADLINES",
    "MEANINGS",
    "Meaning",
    "Reason",
    "cause_of",
    "deed_for",
    "headline_for",
    "words_for",
]
