"""What slots have proven and what was said about them, as rows: whole or not at all, in order, and over a restart."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from station.adapters.records import BoardEvent, Database, copy_records
from station.errors import ConfigurationError, RecordsUnwritable
from station.model import BoardMark, JobEnd, Lot, Measurement, Outcome, VisitEnd
from station.proving import Lately, Proof, Sample, SlotEvent, SlotWord, Standing
from station.reasons import Reason
from tests.adapters.records.samples import (
    FAILED,
    PASSED,
    PENDING,
    PLUG,
    T0,
    VISIT_END,
    board,
    event_of,
    record,
    rows_of,
    url_of,
)

GOLDEN = Sample(mark=BoardMark.GOLDEN)
SPOKEN = SlotEvent(id="e1", slot="A3", word=SlotWord.QUARANTINE, cause="bent pin", person="Ada")


def proof(lot: Lot, number: int = 1, finding: Reason = Reason.GOLDEN_PASSED, **changes: Any) -> Proof:
    """What slot A3 made of a known board."""
    values: dict[str, Any] = {
        "id": f"proof-{number}",
        "visit_id": "visit-p",
        "slot": "A3",
        "mac": "5c:cf:7f:00:00:01",
        "sample": GOLDEN,
        "observed": "",
        "finding": finding,
        "recipe_hash": lot.recipe_hash,
        "lot_id": lot.id,
        "measurements": (Measurement(name="free_ram", value=37_000, unit="B", low=10_000, high=120_000),),
    }
    return Proof(**{**values, **changes})


@pytest.fixture
def visited(database: Database) -> Database:
    """Records with a visit that proofs can be about."""
    database.begin_visit("visit-p", PLUG)
    return database


def standing(database: Database, lot: Lot, slot: str = "A3") -> Standing:
    """What holds for it in this lot."""
    return database.proofs.standing(slot, lot.id, None)


def job(database: Database, lot: Lot, number: int, end: JobEnd, slot: str = "A3", **changes: Any) -> None:
    """One board that was made in this slot."""
    record(database, f"job-{number}", lot, end, plug=replace(PLUG, slot=slot), identity=board(number), **changes)


def test_a_proof_is_one_row_with_all_that_was_measured(visited: Database, file: Path, lot: Lot) -> None:
    """Asked for twice it is one row; values, units and limits come back as they were."""
    for _ in range(2):
        visited.proofs.put(proof(lot), None)
    ((row,),) = [rows_of(file)["proof"]]
    assert row[:10] == (
        "proof-1",
        1,
        "visit-p",
        "A3",
        "5c:cf:7f:00:00:01",
        "golden",
        "",
        "golden_passed",
        "",
        lot.recipe_hash,
    )
    assert json.loads(row[11]) == [
        {"name": "free_ram", "value": 37_000, "low": 10_000, "high": 120_000, "unit": "B", "within": True}
    ]


def test_the_last_verdict_on_each_mark_counts_in_its_slot_lot_and_shift(visited: Database, lot: Lot) -> None:
    """A later failure takes an earlier proof back; another slot, another lot and another shift know nothing of it."""
    visited.proofs.put(proof(lot, 1), None)
    assert standing(visited, lot).latest == {BoardMark.GOLDEN: True}
    assert visited.proofs.standing("A3", lot.id, T0 + timedelta(seconds=1)).latest == {}
    assert visited.proofs.standing("A3", lot.id, T0).latest == {BoardMark.GOLDEN: True}
    assert visited.proofs.standing("A3", "another", None).latest == {}
    assert visited.proofs.standings(("A3", "B1"), lot.id, None)["B1"].latest == {}
    visited.proofs.put(proof(lot, 2, Reason.GOLDEN_FAILED), None)
    red = Sample(mark=BoardMark.RED, enrolled="no_boot")
    visited.proofs.put(proof(lot, 3, Reason.RED_CAUGHT, sample=red), None)
    assert standing(visited, lot).latest == {BoardMark.GOLDEN: False, BoardMark.RED: True}


def test_a_proof_and_what_it_changes_are_one_transaction(visited: Database, file: Path, lot: Lot) -> None:
    """Where the word about the slot cannot be written the proof is not there either."""
    visited.proofs.say(SPOKEN)
    with pytest.raises(Exception, match="UNIQUE"):
        visited.proofs.put(proof(lot), replace(SPOKEN, word=SlotWord.RELEASE))
    assert rows_of(file)["proof"] == []
    visited.proofs.put(proof(lot), replace(SPOKEN, id="e2", word=SlotWord.RELEASE))
    assert standing(visited, lot).quarantine == ""


def test_the_last_word_about_a_slot_holds_over_a_restart_and_in_a_copy(
    visited: Database, file: Path, lot: Lot, tmp_path: Path
) -> None:
    """Said by a person or by the station; a word that changes nothing is refused; the other slots are not concerned."""
    visited.proofs.say(replace(SPOKEN, release_by=BoardMark.RED))
    with pytest.raises(ConfigurationError, match="already"):
        visited.proofs.say(replace(SPOKEN, id="e2"))
    with pytest.raises(ConfigurationError, match="no quarantine"):
        visited.proofs.say(replace(SPOKEN, id="e3", slot="B1", word=SlotWord.RELEASE))
    visited.proofs.put(proof(lot), None)
    copy_records(file, tmp_path / "copy.db")
    with Database.open(url_of(tmp_path / "copy.db")) as restored:
        assert standing(restored, lot) == Standing(
            quarantine="bent pin", release_by=BoardMark.RED, latest={BoardMark.GOLDEN: True}
        )
        assert standing(restored, lot, "B1") == Standing()


def test_what_slots_did_lately_is_newest_first_and_begins_anew_after_a_word(database: Database, lot: Lot) -> None:
    """Verdicts alone, in the slot of the visit that closed the job; nothing from before a quarantine or release."""
    job(database, lot, 1, FAILED)
    job(database, lot, 2, PASSED, "B1")
    job(database, lot, 3, replace(FAILED, outcome=Outcome.ABORTED, reason="unplugged"))
    job(database, lot, 4, replace(FAILED, outcome=Outcome.ERROR, reason="hub_disturbed"))
    job(database, lot, 5, PENDING)
    assert database.proofs.lately("A3") == (
        Lately(slot="B1", mac=board(2).mac, passed=True),
        Lately(slot="A3", mac=board(1).mac, passed=False),
    )
    database.begin_visit("later", replace(PLUG, slot="T1"))
    database.finish_job("job-5", FAILED)
    database.end_visit("later", replace(VISIT_END, job_id="job-5"))
    assert database.proofs.lately("A3")[0] == Lately(slot="T1", mac=board(5).mac, passed=False)
    database.proofs.say(SPOKEN)
    assert database.proofs.lately("A3") == ()
    assert len(database.proofs.lately("B1")) == 3
    job(database, lot, 6, FAILED)
    assert [each.mac for each in database.proofs.lately("A3")] == [board(6).mac]


def test_the_first_article_is_a_pass_of_this_lot_and_shift_that_was_flashed(database: Database, lot: Lot) -> None:
    """A failure is none, nor is a test of a board that somebody else flashed, nor one from before the shift began."""
    job(database, lot, 1, FAILED)
    job(database, lot, 2, replace(PASSED, flash_touched=False))
    assert not database.proofs.has_pass(lot.id, None)
    job(database, lot, 3, PASSED)
    assert database.proofs.has_pass(lot.id, None)
    assert database.proofs.has_pass(lot.id, PASSED.ended_at)
    assert not database.proofs.has_pass(lot.id, PASSED.ended_at + timedelta(seconds=1))
    assert not database.proofs.has_pass("another", None)


def test_a_red_board_carries_what_it_was_enrolled_with_last(database: Database) -> None:
    """A later enrolment replaces the earlier one; a golden board has none."""
    for number, code in enumerate(("no_boot", "out_of_limits:free_ram")):
        database.add_board_event(event_of(BoardEvent.MARK_RED, f"e{number}", reason_code=code))
    known = database.known_board("18:fe:34:dd:c1:42")
    assert known is not None
    assert known.enrolled == "out_of_limits:free_ram"


def test_a_damaged_word_about_a_slot_never_releases_it(visited: Database, file: Path, lot: Lot) -> None:
    """What is none of our words is corruption: the visit gets no board made, instead of a slot that looks free."""
    visited.proofs.say(SPOKEN)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        connection.execute("UPDATE slot_event SET event = 'quaranti\x01e'")
    with pytest.raises(RecordsUnwritable, match="corrupt"):
        standing(visited, lot)


def test_a_proof_needs_its_visit(database: Database, lot: Lot) -> None:
    """A row that refers to no visit is refused by the records themselves."""
    with pytest.raises(Exception, match="FOREIGN KEY"):
        database.proofs.put(proof(lot), None)
    database.begin_visit("visit-p", PLUG)
    database.end_visit("visit-p", VisitEnd(ended_at=T0, job_id=None, finding="golden_passed", detail=""))
    database.proofs.put(proof(lot), None)
    assert standing(database, lot).latest == {BoardMark.GOLDEN: True}
