"""How each slot did lately, as `station slots list` says it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from station.adapters.records import Database, SlotHealth, slots_health
from station.adapters.records.slot_health import LAST_JOBS
from station.errors import ConfigurationError
from station.model import Lot, Outcome
from tests.adapters.records.samples import FAILED, PASSED, PENDING, PLUG, record, url_of


def test_the_last_jobs_of_a_slot_are_counted(database: Database, file: Path, lot: Lot) -> None:
    """Outcomes and rates of the last fifty closed jobs of each slot; older ones, waiting ones and other slots do not count."""
    elsewhere = replace(PLUG, slot="B1")
    slow = replace(PASSED, baud_used=115_200, baud_fallbacks=2)
    silent = replace(FAILED, outcome=Outcome.ERROR, reason="link_lost", baud_used=None)
    record(database, "job-b", lot, silent, visit_id="visit-b", plug=elsewhere)
    ends = (
        [FAILED] * 10 + [PASSED] * (LAST_JOBS - 3) + [slow, silent, replace(silent, outcome=Outcome.ABORTED), PENDING]
    )
    for number, end in enumerate(ends):
        record(database, f"job-{number}", lot, end, visit_id=f"visit-{number}")
    found = slots_health(url_of(file), [PLUG.slot, "B1", "C1"])
    assert found[PLUG.slot] == SlotHealth(
        jobs=LAST_JOBS, passed=LAST_JOBS - 2, errors=1, aborted=1, baud=460_800, first_try=LAST_JOBS - 3, fell_back=1
    )
    assert str(found[PLUG.slot]) == (
        "last 50: 48 PASS, 1 ERROR, 1 ABORTED; 460800 baud, 47 at the first try, 1 fell back"
    )
    assert found["B1"] == SlotHealth(jobs=1, errors=1)
    assert str(found["B1"]) == "last 1: 1 ERROR"
    assert str(found["C1"]) == "no records"


def test_without_records_there_is_no_health(tmp_path: Path) -> None:
    """Asking makes no new file."""
    with pytest.raises(ConfigurationError):
        slots_health(url_of(tmp_path / "none.db"), ["A1"])
    assert list(tmp_path.iterdir()) == []
