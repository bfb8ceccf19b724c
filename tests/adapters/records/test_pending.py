"""Jobs that wait for another visit: what is told of them, what binds a later visit, and what closes them."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from station.adapters.records import Database, pending_report
from station.adapters.records.board_report import format_age
from station.model import (
    BootEvidence,
    JobState,
    Lot,
    Measurement,
    Outcome,
    PendingJob,
    Phase,
    PhaseOutcome,
    PhaseRecord,
    VisitEnd,
)
from tests.adapters.records.samples import (
    BOARD,
    FAILED,
    FLASH,
    PASSED,
    PENDING,
    PLUG,
    RECIPE,
    REQUEST,
    T0,
    board,
    record,
    rows_of,
    start_of,
    url_of,
)

MEASURED = Measurement(name="flash_md5", value="d41d8cd98f00b204e9800998ecf8427e")
FLASHED = replace(PENDING, measurements=(MEASURED,), detail="B1")
TESTED = PhaseRecord(phase=Phase.SELF_TEST, outcome=PhaseOutcome.PASS, duration_s=2.0)
LATER = T0 + timedelta(minutes=30)
UNTOUCHED = {"flash_touched": False, "bytes_flashed": 0, "baud_used": None, "flash_mode": ""}


def interrupted(database: Database, job_id: str, number: int = 2) -> None:
    """A later visit of a pending job that the board did not stay for."""
    database.begin_visit(f"visit-{number}", PLUG)
    end = VisitEnd(
        ended_at=LATER, job_id=job_id, finding="test_interrupted", detail="unplugged", transcript=b">>>", mac=BOARD.mac
    )
    database.end_visit(f"visit-{number}", end)


def test_what_waits_is_told_with_all_that_a_later_visit_needs(database: Database, lot: Lot) -> None:
    """Identity, flash, lot, firmware, mode, attempt and what was measured come back as they were given."""
    record(database, "job-1", lot, FLASHED, attempt=3)
    expected = PendingJob(
        id="job-1",
        identity=BOARD,
        flash=FLASH,
        lot=lot,
        slot="A3",
        since=T0 + timedelta(seconds=30),
        reason="awaits_run_mode",
        detail="B1",
        attempt=3,
        flash_mode="dout",
        firmware_sha256=RECIPE.firmware_sha256,
        measurements=(MEASURED,),
    )
    assert database.pending_job(BOARD.mac) == expected
    assert database.pending() == (expected,)
    assert database.pending_job(board(1).mac) is None


@pytest.mark.parametrize("end", [PASSED, FAILED, None], ids=["passed", "failed", "running"])
def test_what_does_not_wait_is_not_told(database: Database, lot: Lot, end: object) -> None:
    """Closed and running jobs wait for nobody."""
    record(database, "job-1", lot, end)  # type: ignore[arg-type]
    assert database.pending_job(BOARD.mac) is None
    assert database.pending() == ()


def test_a_board_that_only_its_firmware_named_can_wait(database: Database, lot: Lot) -> None:
    """Without OTP words the identity comes back without them."""
    record(database, "job-1", lot, PENDING, identity=replace(BOARD, otp_words=None))
    waiting = database.pending_job(BOARD.mac)
    assert waiting is not None
    assert waiting.identity == replace(BOARD, otp_words=None)


def test_the_longest_waiting_comes_first_and_every_lot_is_there(database: Database, lot: Lot) -> None:
    """Order is by the end of the last visit, over boards of different lots."""
    database.ensure_recipe(replace(RECIPE, hash="ef" * 32, name="other"))
    other = database.standing_lot(replace(REQUEST, recipe_hash="ef" * 32, product="other"))
    record(database, "job-1", lot, PENDING)
    record(database, "job-2", other, PENDING, identity=board(2))
    record(database, "job-3", lot, PENDING, identity=board(3))
    interrupted(database, "job-2")
    assert [(one.id, one.lot.product, one.since) for one in database.pending()][-1] == ("job-2", "other", LATER)
    interrupted(database, "job-1", 3)
    assert database.pending()[0].id == "job-3"


def test_an_interrupted_test_is_a_visit_of_the_job_which_still_waits(database: Database, file: Path, lot: Lot) -> None:
    """The visit has a finding and its job; the job row is as it was, over a restart of the station too."""
    record(database, "job-1", lot, PENDING)
    before = rows_of(file)["job"]
    interrupted(database, "job-1")
    assert database.recover_running(LATER) == 0
    (visit, first) = database.visits(10)
    assert (visit.finding, visit.detail, visit.mac, visit.job_ids) == (
        "test_interrupted",
        "unplugged",
        BOARD.mac,
        ("job-1",),
    )
    assert (first.finding, first.job_ids) == ("", ("job-1",))
    assert rows_of(file)["job"] == before


def test_a_later_visit_closes_the_job_and_adds_what_it_did(database: Database, file: Path, lot: Lot) -> None:
    """Phases and measurements come behind those of the first visit; the bytes of the first stay; three visits are tied."""
    record(database, "job-1", lot, FLASHED)
    interrupted(database, "job-1")
    database.begin_visit("visit-3", PLUG)
    passed = replace(
        PASSED,
        phases=(TESTED,),
        measurements=(Measurement(name="mac", value=BOARD.mac),),
        ended_at=LATER,
        duration_s=4.0,
        boot_evidence=BootEvidence.COLD,
        **UNTOUCHED,  # type: ignore[arg-type]
    )
    closed = database.finish_job("job-1", passed)
    database.end_visit("visit-3", VisitEnd(ended_at=LATER, job_id="job-1", finding="", detail=""))
    assert (closed.state, closed.outcome, closed.reason) == (JobState.CLOSED, Outcome.PASS, "")
    assert closed.boot_evidence is BootEvidence.COLD
    assert [phase.phase for phase in closed.phases] == [*(phase.phase for phase in PENDING.phases), Phase.SELF_TEST]
    assert [one.name for one in closed.measurements] == ["flash_md5", "mac"]
    assert set(rows_of(file)["job_visit"]) == {("job-1", "visit-job-1"), ("job-1", "visit-2"), ("job-1", "visit-3")}
    found = database.known_board(BOARD.mac)
    assert found is not None
    assert [earlier.job_id for earlier in found.passes] == ["job-1"]
    assert database.pending() == ()


def test_what_is_flashed_anew_waits_no_more_for_its_old_content(database: Database, lot: Lot) -> None:
    """A job that touched flash closes the older one that waits for the same board; other boards wait on."""
    record(database, "job-1", lot, PENDING)
    record(database, "job-2", lot, PENDING, identity=board(2))
    record(database, "job-3", lot, PENDING, attempt=2)
    assert {one.id for one in database.pending()} == {"job-2", "job-3"}
    old = next(job for job in database.jobs(10) if job.id == "job-1")
    assert (old.outcome, old.reason, old.detail) == (
        Outcome.ABORTED,
        "stopped_by_request",
        "flashed anew by job job-3",
    )
    record(database, "job-4", lot, replace(FAILED, flash_touched=False, reason="mac_reused"), attempt=3)
    waiting = database.pending_job(BOARD.mac)
    assert waiting is not None
    assert waiting.id == "job-3"


def test_while_the_new_job_runs_both_may_wait_and_the_newest_is_meant(database: Database, lot: Lot, file: Path) -> None:
    """Of several jobs that wait for one board the one begun last is the one to test."""
    record(database, "job-1", lot, PENDING)
    record(database, "job-2", lot, PENDING, attempt=2)
    connection = sqlite3.connect(file)
    connection.execute("UPDATE job SET state = 'pending', outcome = NULL WHERE id = 'job-1'")
    connection.commit()
    connection.close()
    waiting = database.pending_job(BOARD.mac)
    assert waiting is not None
    assert waiting.id == "job-2"
    assert database.drop_pending(BOARD.mac, "Ada", "lost") == 2


def test_a_crash_while_flashing_anew_leaves_nothing_to_test(database: Database, lot: Lot) -> None:
    """Nobody knows how far the new job came, so the old content counts as gone."""
    record(database, "job-1", lot, PENDING)
    record(database, "job-2", lot, None, attempt=2)
    database.recover_running(LATER)
    assert database.pending() == ()
    assert [(job.outcome, job.reason) for job in database.jobs(2)] == [
        (Outcome.ABORTED, "station_restarted"),
        (Outcome.ABORTED, "stopped_by_request"),
    ]


def test_a_person_drops_what_waits(database: Database, lot: Lot) -> None:
    """The job is closed as ABORTED with name and reason, once; a test that comes after it is not green."""
    record(database, "job-1", lot, PENDING)
    record(database, "job-2", lot, PENDING, identity=board(2))
    assert database.drop_pending(BOARD.mac, "Ada", "fell to the floor") == 1
    assert database.drop_pending(BOARD.mac, "Ada", "fell to the floor") == 0
    (one,) = [job for job in database.jobs(10) if job.mac == BOARD.mac]
    assert (one.state, one.outcome, one.reason, one.detail) == (
        JobState.CLOSED,
        Outcome.ABORTED,
        "stopped_by_request",
        "dropped by Ada: fell to the floor",
    )
    assert [waiting.id for waiting in database.pending()] == ["job-2"]
    assert database.finish_job("job-1", replace(PASSED, ended_at=LATER)).outcome is Outcome.ABORTED


# --- how often it came back --------------------------------------------------------------------------------------------


def test_returns_with_gpio0_at_ground_are_counted_per_job(database: Database, lot: Lot) -> None:
    """A test that was interrupted is no such return, nor is the visit that flashed the board, nor the one under way."""
    record(database, "job-1", lot, PENDING)
    interrupted(database, "job-1")
    assert database.returns_at_ground("job-1") == 0
    for number in range(2):
        database.begin_visit(f"again-{number}", PLUG)
        end = VisitEnd(ended_at=LATER, job_id="job-1", finding="awaits_run_mode", detail="")
        database.end_visit(f"again-{number}", end)
    database.begin_visit("now", PLUG)
    assert database.returns_at_ground("job-1") == 2
    assert database.returns_at_ground("nowhere") == 0


# --- which board of its lot --------------------------------------------------------------------------------------------


def test_boards_of_a_lot_are_counted_in_the_order_of_first_attempts(database: Database, lot: Lot) -> None:
    """A second attempt keeps the board's number, what was refused untouched has none, other lots do not count."""
    database.ensure_recipe(replace(RECIPE, hash="ef" * 32, name="other"))
    other = database.standing_lot(replace(REQUEST, recipe_hash="ef" * 32))
    record(database, "other", other, PASSED, identity=board(9))
    record(database, "job-1", lot, FAILED, identity=board(1))
    record(database, "refused", lot, replace(FAILED, flash_touched=False), identity=board(2))
    record(database, "job-3", lot, PENDING, identity=board(3))
    record(database, "job-4", lot, None, identity=board(1), attempt=2)
    record(database, "job-5", lot, None, identity=board(5))
    numbers = {job_id: database.number_in_lot(job_id) for job_id in ("other", "job-1", "job-3", "job-4", "job-5")}
    assert numbers == {"other": 1, "job-1": 1, "job-3": 2, "job-4": 1, "job-5": 3}


def test_boards_that_run_at_once_have_different_numbers(database: Database, lot: Lot) -> None:
    """Whether a running job touched flash is not on record yet: each counts from its beginning."""
    for number in range(1, 5):
        record(database, f"job-{number}", lot, None, identity=board(number))
    assert [database.number_in_lot(f"job-{number}") for number in range(1, 5)] == [1, 2, 3, 4]


def test_a_job_without_a_board_has_no_number(database: Database, lot: Lot) -> None:
    """An unknown job and one of nobody are mistakes that are named."""
    with pytest.raises(LookupError, match="nowhere"):
        database.number_in_lot("nowhere")
    database.begin_visit("visit-job-1", PLUG)
    database.begin_job(start_of("job-1", lot, identity=None))
    with pytest.raises(LookupError, match="job-1"):
        database.number_in_lot("job-1")


# --- the list for a person ---------------------------------------------------------------------------------------------


def test_the_list_shows_age_board_slot_recipe_and_words(database: Database, lot: Lot, file: Path) -> None:
    """Each line says how old, which board, where flashed, for which recipe, and what it waits for."""
    waits = replace(PENDING, reason="awaits_test_slot", detail="T1\nnote")
    record(database, "job-1", lot, waits)
    (row,) = pending_report(url_of(file), T0 + timedelta(hours=3, minutes=5, seconds=30)).rows
    expected = {
        "age_s": 11_100.0,
        "age": "3 h 05 min",
        "mac": BOARD.mac,
        "chip_id": "0x00ddc142",
        "slot": "A3",
        "recipe": "blink",
        "since": "2025-11-22T08:02:30.123Z",
        "attempt": 1,
        "reason": "awaits_test_slot",
        "waits_for": "flashed, not tested: next, test slot T1",
        "job": "job-1",
    }
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("age_s", "words"),
    [(-5, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h 00 min"), (90_061, "1 d 1 h"), (864_000, "10 d 0 h")],
)
def test_an_age_is_said_as_people_say_it(age_s: float, words: str) -> None:
    """Two units at most, and a clock that went back makes nothing negative."""
    assert format_age(age_s) == words
