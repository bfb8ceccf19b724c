"""Copies of the records beside a station that writes them, and single jobs with every row that belongs to them."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.adapters.records import (
    BoardEvent,
    Database,
    as_json,
    copy_records,
    copying,
    examine,
    from_json,
    job_marks,
    kept_jobs,
    under_way,
)
from station.errors import RecordsUnwritable
from station.model import Lot
from tests.adapters.records.old_records import populated_at_0001
from tests.adapters.records.samples import (
    FAILED,
    PASSED,
    PENDING,
    RECIPE,
    REQUEST,
    board,
    event_of,
    record,
    rows_of,
)


def test_a_copy_is_one_moment_of_records_that_are_being_written(
    database: Database, lot: Lot, file: Path, tmp_path: Path
) -> None:
    """Whatever the station writes meanwhile, every job in a copy is whole, and the copy is one file without a log."""
    finish = threading.Event()
    written = 0

    def work() -> None:
        nonlocal written
        while not finish.is_set():
            record(database, f"job-{written}", lot, PASSED, identity=board(written))
            written += 1

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for number in range(5):
            copy = tmp_path / f"copy-{number}.db"
            copy_records(file, copy)
            contents = examine(copy)
            found = rows_of(copy)
            assert contents.rows == {table: len(rows) for table, rows in found.items() if table in contents.rows}
            assert contents.rows["visit"] >= contents.rows["job"] == contents.rows["job_visit"]
            assert len(found["phase"]) == len(PASSED.phases) * contents.passes
    finally:
        finish.set()
        worker.join()
    assert written > 0
    assert sorted(path.name for path in tmp_path.glob("copy-*")) == [f"copy-{number}.db" for number in range(5)]


def test_a_copy_holds_what_is_only_in_the_write_ahead_log(
    database: Database, lot: Lot, file: Path, tmp_path: Path
) -> None:
    """The newest rows are in the copy though the file itself does not have them yet."""
    record(database, "job-1", lot, PASSED)
    copy_records(file, tmp_path / "copy.db")
    assert examine(tmp_path / "copy.db").passes == 1
    assert rows_of(tmp_path / "copy.db") == rows_of(file)


def test_a_damaged_file_is_never_examined_as_whole(database: Database, lot: Lot, file: Path, tmp_path: Path) -> None:
    """A page that was overwritten, and a file that is no database, are refused."""
    for number in range(40):
        record(database, f"job-{number}", lot, FAILED, identity=board(number))
    copy = tmp_path / "copy.db"
    copy_records(file, copy)
    raw = bytearray(copy.read_bytes())
    raw[8192:40960] = b"\xa5" * (40960 - 8192)
    copy.write_bytes(raw)
    with pytest.raises(RecordsUnwritable, match="corrupt"):
        examine(copy)
    copy.write_bytes(b"no database at all" * 1000)
    with pytest.raises(RecordsUnwritable, match="not a database"):
        examine(copy)


def test_a_locked_file_is_given_up(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver would wait for ever for records that another program keeps locked; the copy does not."""
    monkeypatch.setattr(copying, "COPY_WAITS_S", 0.3)
    monkeypatch.setattr(copying, "BUSY_TIMEOUT_S", 0.05)
    holder = sqlite3.connect(file, isolation_level=None)
    try:
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RecordsUnwritable, match="locked"):
            copy_records(file, tmp_path / "copy.db")
    finally:
        holder.close()


def test_a_job_comes_with_every_row_that_belongs_to_it(database: Database, lot: Lot, file: Path) -> None:
    """Its own rows, its visit, board, lot, recipe and image, and what was said about board and lot; of others nothing."""
    record(database, "job-1", lot, FAILED)
    record(database, "job-2", lot, PASSED, identity=board(2))
    database.add_board_event(event_of(BoardEvent.REWORK_OPEN))
    (kept,) = kept_jobs(file, ["job-1", "never made"])
    counted = {table: len(rows) for table, rows in kept.rows.items()}
    assert counted == {
        "job": 1,
        "job_visit": 1,
        "visit": 1,
        "phase": len(FAILED.phases),
        "board": 1,
        "board_event": 1,
        "lot": 1,
        "lot_event": 1,
        "recipe": 1,
        "firmware": 1,
    }
    assert kept.rows["job"][0]["transcript"] == FAILED.transcript
    everything = rows_of(file)
    for table, rows in kept.rows.items():
        assert all(tuple(row.values()) in everything[table] for row in rows)


def test_rows_come_back_from_json_as_they_were(database: Database, lot: Lot, file: Path) -> None:
    """Through text and back every value and every type is the same."""
    record(database, "job-1", lot, FAILED)
    (kept,) = kept_jobs(file, ["job-1"])
    assert from_json(json.loads(json.dumps(as_json(kept.rows)))) == kept.rows


@given(st.one_of(st.none(), st.text(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.binary()))
def test_any_value_comes_back_from_json(value: str | float | bytes | None) -> None:
    """Bytes are told from text, whatever the text is."""
    rows = {"table": [{"column": value}]}
    back = from_json(json.loads(json.dumps(as_json(rows))))["table"][0]["column"]
    assert (type(back), back) == (type(value), value)


def test_what_no_station_wrote_is_refused() -> None:
    """A row of a journal holds text, numbers, nothing and bytes; a list is none of them."""
    with pytest.raises(ValueError, match="nothing that a row holds"):
        from_json({"job": [{"id": ["a"]}]})


def test_marks_change_with_the_job(database: Database, lot: Lot, file: Path) -> None:
    """A job that waits and is then closed has another version; asked are those named and those begun after one."""
    record(database, "job-1", lot, PENDING)
    record(database, "job-2", lot, PASSED, identity=board(2))
    (before,) = job_marks(file, ids=["job-1"])
    database.drop_pending("18:fe:34:dd:c1:42", "Ada", "fell")
    (after,) = job_marks(file, ids=["job-1"])
    assert before.state == "pending"
    assert after.state == "closed"
    assert before.version != after.version
    assert [mark.id for mark in job_marks(file, after=1)] == ["job-2"]
    assert job_marks(file) == ()


def test_contents_tell_the_unfinished_and_the_newest(database: Database, lot: Lot, file: Path) -> None:
    """What the journal's first line needs: up to which job the copy goes, and which of them will change."""
    record(database, "job-1", lot, PENDING)
    record(database, "job-2", lot, None, identity=board(2))
    record(database, "job-3", lot, PASSED, identity=board(3))
    contents = examine(file, beside_a_station=True)
    assert [mark.id for mark in contents.unfinished] == ["job-1", "job-2"]
    assert contents.newest is not None
    assert contents.newest.id == "job-3"
    assert (contents.jobs, contents.passes, contents.holds_work) == (3, 1, True)


def test_a_station_that_was_only_started_holds_no_work(file: Path) -> None:
    """A recipe and its standing lot are nothing that a restore could lose."""
    assert not examine(file, beside_a_station=True).holds_work


def test_an_older_schema_can_be_copied_and_asked(tmp_path: Path) -> None:
    """Before it is migrated the file of an older station is backed up as it is."""
    old = tmp_path / "old.db"
    populated_at_0001(old)
    copy_records(old, tmp_path / "copy.db")
    assert examine(tmp_path / "copy.db").revision == "0001"
    assert rows_of(tmp_path / "copy.db") == rows_of(old)
    assert all(kept.revision == "0001" and "lot" in kept.rows for kept in kept_jobs(old, ["old-1"]))


def test_what_is_under_way(database: Database, lot: Lot, file: Path) -> None:
    """Running jobs and lots that a person opened are under way; a standing lot and a paused one are not."""
    assert under_way(file).open_lots == ()
    record(database, "job-1", lot, None)
    opened = database.open_lot(REQUEST)
    at_work = under_way(file)
    assert [slot for slot, _began in at_work.running] == ["A3"]
    assert at_work.open_lots == ((RECIPE.name, REQUEST.person),)
    database.pause_lot(opened.id, "Ada")
    assert under_way(file).open_lots == ()
