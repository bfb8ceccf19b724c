"""The records: what is in them after every way a write can go, and what a light may be lit from."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from station.adapters.records import Database, make_engine
from station.errors import RecordsUnwritable
from station.model import (
    BootEvidence,
    CommittedJob,
    JobState,
    Lot,
    Measurement,
    Outcome,
    VisitEnd,
)
from tests.adapters.records.samples import (
    BOARD,
    FAILED,
    PASSED,
    PENDING,
    PLUG,
    RECIPE,
    REQUEST,
    T0,
    VISIT_END,
    board,
    make_lot,
    record,
    rows_of,
    start_of,
    url_of,
)

# --- what is written and read back -----------------------------------------------------------------------------------


def test_a_fresh_file_gets_its_tables_by_itself(tmp_path: Path) -> None:
    """Opening a database that does not exist yet creates it, ready for a job."""
    with Database.open(url_of(tmp_path / "new.db")) as database:
        record(database, "job-1", make_lot(database), PASSED)
        assert [job.outcome for job in database.jobs(10)] == [Outcome.PASS]


def test_a_finished_job_is_returned_as_it_stands_in_the_file(database: Database, lot: Lot) -> None:
    """`finish_job` returns slot, identity, outcome, phases and measurements exactly as they were given."""
    database.begin_visit("visit-job-1", PLUG)
    database.begin_job(start_of("job-1", lot))
    assert database.finish_job("job-1", PASSED) == CommittedJob(
        id="job-1",
        slot="A3",
        mac=BOARD.mac,
        chip_id=0xDDC142,
        state=JobState.CLOSED,
        outcome=Outcome.PASS,
        reason="",
        detail="",
        phases=PASSED.phases,
        measurements=PASSED.measurements,
        attempt=1,
        boot_evidence=BootEvidence.RESET_LINE,
    )


def test_green_comes_from_the_row_and_not_from_what_was_asked(file: Path, lot: Lot) -> None:
    """When the database holds something else than the job meant to write, the caller gets what the database holds."""
    connection = sqlite3.connect(file)
    connection.execute(
        "CREATE TRIGGER other AFTER UPDATE OF outcome ON job WHEN new.outcome = 'PASS' BEGIN "
        "UPDATE job SET outcome = 'ERROR', reason = 'station_bug' WHERE id = new.id; END"
    )
    connection.close()
    with Database.open(url_of(file)) as database:
        database.begin_visit("visit-job-1", PLUG)
        database.begin_job(start_of("job-1", lot))
        assert database.finish_job("job-1", PASSED).outcome is Outcome.ERROR


def test_what_is_read_back_was_committed_and_came_over_another_connection(file: Path, lot: Lot) -> None:
    """No connection that wrote is used to read, and the read happens after the commit."""
    writer, reader = make_engine(url_of(file), writes=True), make_engine(url_of(file), writes=False)
    events: list[str] = []
    event.listen(writer, "commit", lambda _connection: events.append("commit"))
    event.listen(reader, "before_cursor_execute", lambda *_: events.append("read"))
    database = Database(writer, reader)
    with database:
        database.begin_visit("visit-job-1", PLUG)
        database.begin_job(start_of("job-1", lot))
        events.clear()
        database.finish_job("job-1", PASSED)
    assert events[0] == "commit"
    assert set(events[1:]) == {"read"}


def test_every_column_that_cannot_be_added_afterwards_is_there_from_the_first_day(
    database: Database, file: Path
) -> None:
    """A job row names station, place, adapter, lot, recipe, versions, host boot, clock, baud and boot evidence."""
    lot = database.standing_lot(REQUEST)
    record(database, "job-1", lot, PASSED)
    connection = sqlite3.connect(file)
    connection.row_factory = sqlite3.Row
    row = dict(connection.execute("SELECT * FROM job").fetchone())
    connection.close()
    expected = {
        "station_id": "bench-1",
        "slot": "A3",
        "place": PLUG.programmer.place,
        "hub_path": "2.3",
        "usb_id": "1a86:7523",
        "adapter_version": "0262",
        "adapter_product": "USB2.0-Serial",
        "lot_id": lot.id,
        "operator": "Ada",
        "supplier_batch": "B-7",
        "recipe_hash": RECIPE.hash,
        "firmware_sha256": RECIPE.firmware_sha256,
        "station_version": "0.1.0",
        "esptool_version": "5.6.0",
        "kernel_version": "6.1.0-31-amd64",
        "boot_id": "5a1e0c2e-8f5e-4b0e-9c0e-2f6d1f4b7a11",
        "clock_synchronised": 1,
        "baud_used": 460_800,
        "baud_fallbacks": 0,
        "boot_evidence": "reset_line",
        "board_mac": BOARD.mac,
        "observed_mac": BOARD.mac,
        "chip_id": 0xDDC142,
        "otp_words": "0x42000000 0x0000ddc1 0x00000000 0x0018fe34",
        "flash_id": 0x1440E0,
        "flash_size_bytes": 1 << 20,
        "flash_mode": "dout",
        "flash_touched": 1,
        "bytes_flashed": 633_688,
        "attempt": 1,
        "started_at": "2025-11-22 08:02:00.123456",
        "ended_at": "2025-11-22 08:02:21.123456",
        "duration_s": 21.25,
    }
    assert {name: row[name] for name in expected} == expected


def test_a_running_job_is_durable_before_flash_is_touched(database: Database, file: Path, lot: Lot) -> None:
    """After `begin_job` another program sees the job, running, and its board."""
    database.begin_visit("visit-job-1", PLUG)
    database.begin_job(start_of("job-1", lot))
    rows = rows_of(file)
    assert rows["job"][0][:4] == ("job-1", 1, "running", None)
    assert rows["board"][0][:2] == (BOARD.mac, 0xDDC142)
    assert rows["job_visit"] == [("job-1", "visit-job-1")]


def test_a_failed_job_keeps_its_raw_transcript_capped(database: Database, file: Path, lot: Lot) -> None:
    """Bytes that are no text survive; of a flood the last 64 KiB are kept."""
    record(database, "job-1", lot, replace(FAILED, transcript=b"first" + b"\xff\x00" * 60_000 + b"last"))
    connection = sqlite3.connect(file)
    (transcript,) = connection.execute("SELECT transcript FROM job").fetchone()
    connection.close()
    assert len(transcript) == 64 << 10
    assert transcript.endswith(b"\xff\x00last")


def test_a_board_without_identity_has_a_job_and_no_board_row(database: Database, file: Path, lot: Lot) -> None:
    """What was read in place of a MAC is kept in the job, and no board is invented."""
    record(database, "job-1", lot, FAILED, identity=None, flash=None)
    assert database.jobs(1)[0].mac is None
    assert rows_of(file)["board"] == []
    assert "ff:ff:ff:ff:ff:ff" in rows_of(file)["job"][0]


def test_a_time_without_a_zone_is_refused(database: Database, lot: Lot) -> None:
    """A naive wall time never gets into the records, and nothing is written with it."""
    database.begin_visit("visit-job-1", PLUG)
    with pytest.raises(Exception, match="no time zone"):
        database.begin_job(start_of("job-1", lot, started_at=T0.replace(tzinfo=None)))
    assert database.jobs(1) == ()


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=50).filter(lambda text: "\x00" not in text),
)
limits = st.one_of(st.none(), st.integers(), st.floats(allow_nan=False))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.builds(Measurement, name=st.just("x"), value=values, low=limits, high=limits, within=st.booleans())))
def test_measurements_come_back_with_value_and_type(
    hypothesis_database: tuple[Database, Lot], measurements: list[Measurement]
) -> None:
    """1, 1.0, True, "1" and None stay apart, and no digit or character of a value is lost."""
    database, lot = hypothesis_database
    job_id = f"job-{time.monotonic_ns()}"
    database.begin_visit(f"visit-{job_id}", PLUG)
    database.begin_job(start_of(job_id, lot))
    found = database.finish_job(job_id, replace(PASSED, measurements=tuple(measurements))).measurements
    assert [repr(m) for m in found] == [repr(m) for m in measurements]


@pytest.fixture(scope="module")
def hypothesis_database(
    template: tuple[Path, Lot], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Database, Lot]]:
    """A database shared by all examples."""
    file = Path(shutil.copy(template[0], tmp_path_factory.mktemp("examples") / "station.db"))
    with Database.open(url_of(file)) as database:
        yield database, template[1]


def test_hostile_text_is_stored_as_escapes(database: Database, lot: Lot) -> None:
    """NUL, lone surrogates and floods in text of a board or an adapter cost neither the row nor another database."""
    programmer = replace(PLUG.programmer, product="a\x00b\ud800")
    measured = Measurement(name="v\x00", value="x\x00\ud800" + "y" * 10_000)
    end = replace(FAILED, detail="z" * 10_000, measurements=(measured, Measurement(name="huge", value=10**400)))
    record(database, "job-1", lot, end, plug=replace(PLUG, programmer=programmer))
    (job,) = database.jobs(1)
    assert job.detail == "z" * 3999 + "…"
    assert job.measurements[0].name == "v\\x00"
    assert str(job.measurements[0].value).startswith("x\\x00\\ud800yyy")
    assert len(str(job.measurements[0].value)) == 4000
    assert job.measurements[1].value == 10**400


# --- attempts are append-only ------------------------------------------------------------------------------------------


def test_every_attempt_is_a_row_and_the_first_stays_as_it_was(database: Database, file: Path, lot: Lot) -> None:
    """A second job of the same board changes nothing of what the first one said."""
    record(database, "job-1", lot, FAILED)
    before = rows_of(file)
    record(database, "job-2", lot, PASSED, attempt=2)
    after = rows_of(file)
    for table in ("job", "phase", "measurement", "visit"):
        assert set(before[table]) <= set(after[table])
    assert [(job.attempt, job.outcome) for job in database.jobs(10)] == [(2, Outcome.PASS), (1, Outcome.FAIL)]


def test_a_closed_job_is_never_written_again(database: Database, file: Path, lot: Lot) -> None:
    """Another end of a closed job changes no row, and the caller gets the first end."""
    record(database, "job-1", lot, FAILED)
    before = rows_of(file)
    assert database.finish_job("job-1", PASSED).outcome is Outcome.FAIL
    assert rows_of(file) == before


def test_a_pending_job_is_closed_by_a_later_visit_which_adds_to_it(database: Database, file: Path, lot: Lot) -> None:
    """The visit in run mode adds its phases, measurements and time; bytes and touched flash of the first visit stay."""
    record(database, "job-1", lot, PENDING)
    again = replace(
        PASSED, phases=PASSED.phases[:1], flash_touched=False, bytes_flashed=0, baud_used=None, flash_mode=""
    )
    database.begin_visit("visit-2", PLUG)
    closed = database.finish_job("job-1", replace(again, ended_at=T0 + timedelta(seconds=60), duration_s=4.0))
    database.end_visit("visit-2", replace(VISIT_END, job_id="job-1"))
    assert closed.outcome is Outcome.PASS
    assert closed.phases == (*PENDING.phases, PASSED.phases[0])
    assert closed.measurements == PASSED.measurements
    assert set(rows_of(file)["job_visit"]) == {("job-1", "visit-job-1"), ("job-1", "visit-2")}
    assert database.known_board(BOARD.mac) is not None
    connection = sqlite3.connect(file)
    row = connection.execute(
        "SELECT flash_touched, bytes_flashed, baud_used, duration_s, flash_mode FROM job"
    ).fetchone()
    connection.close()
    assert row == (1, 633_688, 460_800, 25.25, "dout")


def test_the_records_themselves_refuse_a_pass_that_is_not_closed(database: Database, file: Path, lot: Lot) -> None:
    """A job that waits cannot carry an outcome, nor a PASS a reason: our mistake, so it is not called unwritable."""
    for wrong in (replace(PENDING, outcome=Outcome.PASS), replace(PASSED, reason="no_boot")):
        database.begin_visit("visit-job-1", PLUG)
        database.begin_job(start_of("job-1", lot))
        with pytest.raises(IntegrityError):
            database.finish_job("job-1", wrong)
    assert rows_of(file)["phase"] == []


def test_jobs_and_visits_that_were_never_begun_cannot_end(database: Database, lot: Lot) -> None:
    """An end without a beginning is a mistake that is named, not a row."""
    with pytest.raises(LookupError, match="job nowhere was never begun"):
        database.finish_job("nowhere", PASSED)
    with pytest.raises(LookupError, match="visit nowhere was never begun"):
        database.end_visit("nowhere", VISIT_END)
    with pytest.raises(LookupError, match="visit visit-job-1 was never begun"):
        database.begin_job(start_of("job-1", lot))
    assert database.jobs(1) == ()


def test_a_visit_without_a_job_is_a_row_with_its_finding(database: Database) -> None:
    """An empty programmer leaves a visit that says what was found, and no job."""
    database.begin_visit("visit-1", PLUG)
    database.end_visit("visit-1", VisitEnd(ended_at=T0, job_id=None, finding="no_answer", detail="", transcript=b"?"))
    (visit,) = database.visits(10)
    assert (visit.slot, visit.finding, visit.job_ids, visit.ended_at) == ("A3", "no_answer", (), T0)
    assert visit.mac == ""
    assert database.jobs(10) == ()


def test_two_jobs_of_one_visit_are_both_tied_to_it(database: Database, lot: Lot) -> None:
    """When another board answers in run mode, its row belongs to the same plug."""
    record(database, "job-1", lot, PENDING)
    database.begin_job(start_of("job-2", lot, visit_id="visit-job-1", identity=None))
    assert database.visits(1)[0].job_ids == ("job-1", "job-2")


# --- after a crash -----------------------------------------------------------------------------------------------------


def test_after_a_crash_running_jobs_are_aborted_and_pending_ones_wait_on(
    database: Database, file: Path, lot: Lot
) -> None:
    """A running job becomes ABORTED `station_restarted`, counts as an attempt, and its visit has ended."""
    record(database, "job-1", lot, PASSED, identity=board(1))
    record(database, "job-2", lot, PENDING, identity=board(2))
    record(database, "job-3", lot, None, identity=board(3))
    assert database.recover_running(T0 + timedelta(hours=1)) == 1
    found = {job.id: (job.state, job.outcome, job.reason) for job in database.jobs(10)}
    assert found == {
        "job-1": (JobState.CLOSED, Outcome.PASS, ""),
        "job-2": (JobState.PENDING, None, "awaits_run_mode"),
        "job-3": (JobState.CLOSED, Outcome.ABORTED, "station_restarted"),
    }
    known = database.known_board(board(3).mac)
    assert known is not None
    assert known.attempts == 1
    assert all(visit.ended_at is not None for visit in database.visits(10))
    assert database.recover_running(T0) == 0


def test_a_result_that_comes_after_the_crash_was_recorded_is_not_green(database: Database, lot: Lot) -> None:
    """Once a job is on record as aborted, a late PASS does not turn it."""
    record(database, "job-1", lot, None)
    database.recover_running(T0)
    assert database.finish_job("job-1", PASSED).outcome is Outcome.ABORTED


# --- one lane ------------------------------------------------------------------------------------------------------------


def test_many_slots_write_at_once_and_every_row_is_there(database: Database, lot: Lot) -> None:
    """Writes of sixteen threads go through the one lane without a lock error, each job with its own number."""
    seconds: list[float] = []
    database._on_write = seconds.append
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            record(database, f"job-{number}", lot, PASSED, identity=board(number))
        except BaseException as error:  # noqa: BLE001 - carried to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert {job.id for job in database.jobs(100)} == {f"job-{number}" for number in range(16)}
    assert len(seconds) == 16 * 4
    assert min(seconds) > 0


def test_writes_wait_for_another_programs_lock_and_are_then_done(database: Database, file: Path) -> None:
    """While another program holds the lock nothing is written; afterwards all rows are there."""
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    threads = [threading.Thread(target=database.begin_visit, args=(f"visit-{n}", PLUG)) for n in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    assert database.visits(10) == ()
    other.execute("ROLLBACK")
    other.close()
    for thread in threads:
        thread.join()
    assert len(database.visits(10)) == 3


def test_a_closed_database_refuses_in_words(file: Path) -> None:
    """A write after the close is unwritable, so a late slot thread holds its result instead of crashing."""
    database = Database.open(url_of(file))
    database.close()
    with pytest.raises(RecordsUnwritable, match="closed"):
        database.begin_visit("visit-1", PLUG)


def test_boot_evidence_of_a_later_visit_is_kept(database: Database, file: Path, lot: Lot) -> None:
    """A job that was pending and then passed says by what the firmware was brought up."""
    record(database, "job-1", lot, PENDING)
    database.finish_job("job-1", replace(PASSED, ended_at=T0 + timedelta(minutes=1), boot_evidence=BootEvidence.COLD))
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT boot_evidence FROM job").fetchone() == ("cold",)
    connection.close()
