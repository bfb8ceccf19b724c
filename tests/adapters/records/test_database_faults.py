"""The records when the database fails: nothing half written, the cause in words, and a retry that completes."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from station.adapters.records import BoardEvent, Database, RejectReason, RejectRow, make_engine
from station.errors import ConfigurationError, RecordsUnwritable
from station.model import (
    Lot,
    Outcome,
)
from tests.adapters.records.samples import (
    BOARD,
    FAILED,
    PASSED,
    PENDING,
    PLUG,
    T0,
    VISIT_END,
    Fault,
    database_with,
    event_of,
    record,
    rows_of,
    start_of,
    url_of,
)

# --- the database fails: every operation, both ways ---------------------------------------------------------------------

Call = Callable[[Database, Lot], Any]
CALLS: dict[str, tuple[tuple[Call, ...], Call]] = {
    "begin_visit": ((), lambda database, _lot: database.begin_visit("visit-job-1", PLUG)),
    "begin_job": (
        (lambda database, _lot: database.begin_visit("visit-job-1", PLUG),),
        lambda database, lot: database.begin_job(start_of("job-1", lot)),
    ),
    "finish_job": (
        (lambda database, lot: record(database, "job-1", lot, None),),
        lambda database, _lot: database.finish_job("job-1", PASSED),
    ),
    "set_pending": (
        (lambda database, lot: record(database, "job-1", lot, None),),
        lambda database, _lot: database.finish_job("job-1", PENDING),
    ),
    "close_pending": (
        (lambda database, lot: record(database, "job-1", lot, PENDING),),
        lambda database, _lot: database.finish_job("job-1", replace(PASSED, ended_at=T0 + timedelta(seconds=60))),
    ),
    "end_visit": (
        (lambda database, lot: record(database, "job-1", lot, None),),
        lambda database, _lot: database.end_visit("visit-job-1", VISIT_END),
    ),
    "recover_running": (
        (lambda database, lot: record(database, "job-1", lot, None),),
        lambda database, _lot: database.recover_running(T0),
    ),
    "pause_lot": ((), lambda database, lot: database.pause_lot(lot.id, "Ada")),
    "add_board_event": (
        (),
        lambda database, _lot: database.add_board_event(event_of(BoardEvent.MARK_GOLDEN)),
    ),
    "add_rejects": (
        (),
        lambda database, lot: database.add_rejects(
            [RejectRow(id=f"r-{n}", lot_id=lot.id, reason=RejectReason.DAMAGED, person="Ada") for n in range(2)]
        ),
    ),
    "drop_pending": (
        (lambda database, lot: record(database, "job-1", lot, PENDING),),
        lambda database, _lot: database.drop_pending(BOARD.mac, "Ada", "lost"),
    ),
    "pending": (
        (lambda database, lot: record(database, "job-1", lot, PENDING),),
        lambda database, _lot: database.pending(),
    ),
    "number_in_lot": (
        (lambda database, lot: record(database, "job-1", lot, PENDING),),
        lambda database, _lot: database.number_in_lot("job-1"),
    ),
    "known_board": (
        (lambda database, lot: record(database, "job-1", lot, PASSED),),
        lambda database, _lot: database.known_board(BOARD.mac),
    ),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", CALLS)
def test_a_failure_at_any_operation_leaves_all_or_nothing_and_a_retry_completes(
    template: tuple[Path, Lot], tmp_path: Path, name: str, *, after: bool
) -> None:
    """Fail the N-th operation, for every N, before it happens or after it has: no half row, no row twice, then success."""
    prepare, call = CALLS[name]
    lot = template[1]

    def run(at: int | None) -> tuple[bool, Any, Any, Any, int]:
        """Return whether it failed; the rows before, after the failure and after the retry; the operations counted."""
        file = Path(shutil.copy(template[0], tmp_path / f"{at}.db"))
        fault = Fault()
        with database_with(fault, file) as database:
            for step in prepare:
                step(database, lot)
            before = rows_of(file)
            failed = False
            fault.arm(at, after=after)
            try:
                call(database, lot)
            except RecordsUnwritable:
                failed = True
            count, between = fault.count, rows_of(file)
            fault.arm(None)
            call(database, lot)
            return failed, before, between, rows_of(file), count

    failed, before, done, done_twice, operations = run(None)
    assert not failed
    assert operations > 1
    assert done_twice == done
    for at in range(1, operations + 1):
        failed, _, between, retried, _ = run(at)
        assert failed, f"operation {at} failed and nobody was told"
        assert between in (before, done), f"half a write after operation {at} failed"
        assert retried == done, f"the retry after operation {at} failed did not complete"


def test_after_a_failed_write_the_file_is_read_anew(file: Path) -> None:
    """What a connection believed about the file is forgotten after an error: the retry opens the file again."""
    fault = Fault()
    opened: list[object] = []
    writer = make_engine(url_of(file), writes=True, factory=fault.factory)
    event.listen(writer, "connect", lambda connection, _record: opened.append(connection))
    with Database(writer, make_engine(url_of(file), writes=False)) as database:
        assert database.writable()
        assert database.writable()
        assert len(opened) == 1
        fault.arm(2)
        assert not database.writable()
        assert database.writable()
    assert len(opened) == 2


def test_a_really_full_database_refuses_the_whole_result_and_takes_it_when_there_is_room(file: Path, lot: Lot) -> None:
    """SQLITE_FULL while a result is written leaves the job running; with room again the same call succeeds."""
    writer = make_engine(url_of(file), writes=True)
    pages = sqlite3.connect(file)
    (page_count,) = pages.execute("PRAGMA page_count").fetchone()
    pages.close()
    full = True

    @event.listens_for(writer, "checkout")
    def limit(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count={page_count + 2 if full else 100_000}")

    end = replace(FAILED, transcript=random.Random(1).randbytes(60_000))
    with Database(writer, make_engine(url_of(file), writes=False)) as database:
        record(database, "job-1", lot, None)
        before = rows_of(file)
        with pytest.raises(RecordsUnwritable, match="the disk is full: database or disk is full"):
            database.finish_job("job-1", end)
        assert rows_of(file) == before
        full = False
        assert database.finish_job("job-1", end).outcome is Outcome.FAIL


def test_a_read_only_database_is_readable_and_not_writable(database: Database, file: Path, lot: Lot) -> None:
    """What is on record can be asked, nothing can be written, and the words say why."""
    record(database, "job-1", lot, PASSED)
    with Database.open(f"sqlite:///file:{file}?mode=ro&uri=true") as read_only:
        assert not read_only.writable()
        assert "read-only" in read_only.write_problem()
        with pytest.raises(RecordsUnwritable, match="read-only"):
            read_only.begin_visit("visit-2", PLUG)
        assert [job.id for job in read_only.jobs(10)] == ["job-1"]


def test_a_locked_database_is_named_and_a_retry_after_the_lock_completes(file: Path, lot: Lot) -> None:
    """A second program that holds the write lock costs a wait, then a clear refusal, and no row."""
    url = url_of(file)
    writer = make_engine(url, writes=True, busy_timeout_s=0.05)
    with Database(writer, make_engine(url, writes=False)) as database:
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RecordsUnwritable, match="another program has locked the database: database is locked"):
            database.begin_visit("visit-job-1", PLUG)
        assert not database.writable()
        assert database.visits(1) == ()
        other.execute("ROLLBACK")
        other.close()
        assert database.writable()
        record(database, "job-1", lot, PASSED)


@pytest.mark.parametrize("page", [0, 1, -1], ids=["header", "schema", "rows"])
def test_a_corrupt_database_is_refused_at_start_and_left_alone(file: Path, page: int) -> None:
    """Flipped bytes in header, schema or rows are found before any job runs, and the file is not touched."""
    broken = bytearray(file.read_bytes())
    at = page * 4096 % len(broken)
    for index in range(at, at + 2000):
        broken[index] ^= 0xFF
    file.write_bytes(broken)
    with pytest.raises(RecordsUnwritable, match="corrupt"):
        Database.open(url_of(file))
    assert file.read_bytes() == broken


def test_corruption_while_running_is_named(file: Path, lot: Lot) -> None:
    """A file that is damaged under the open station refuses the next write in words, and nothing is lit."""
    with Database.open(url_of(file)) as database:
        size = file.stat().st_size
        with file.open("r+b") as raw:
            raw.seek(4096)
            raw.write(b"\xa5" * (size - 4096))
        with pytest.raises(RecordsUnwritable, match="corrupt"):
            record(database, "job-1", lot, PASSED)


def test_a_damaged_word_in_a_row_is_corruption_and_never_a_result(database: Database, file: Path, lot: Lot) -> None:
    """A phase that says what no phase can say is reported as a corrupt database."""
    record(database, "job-1", lot, PASSED)
    connection = sqlite3.connect(file)
    connection.execute("UPDATE phase SET outcome = 'PASQ'")
    connection.commit()
    connection.close()
    with pytest.raises(RecordsUnwritable, match="corrupt"):
        database.finish_job("job-1", PASSED)


def test_a_database_file_that_vanishes_is_noticed_before_the_next_row(database: Database, file: Path) -> None:
    """Rows are never written into a file that no name leads to any more."""
    assert database.writable()
    file.unlink()
    with pytest.raises(RecordsUnwritable, match="removed or replaced"):
        database.begin_visit("visit-1", PLUG)
    assert not database.writable()


def test_little_free_space_is_unwritable_before_the_disk_is_full(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the reserve no new job may begin, although a row would still fit."""
    assert database.writable()
    monkeypatch.setattr("station.adapters.records.database.MINIMUM_FREE_BYTES", 1 << 60)
    assert not database.writable()
    assert "MiB free" in database.write_problem()


def test_a_missing_directory_names_the_fix(tmp_path: Path) -> None:
    """A database in a directory that does not exist is the configuration's mistake."""
    with pytest.raises(ConfigurationError, match=r"directory does not exist.*mkdir"):
        Database.open(url_of(tmp_path / "nowhere" / "station.db"))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://host/db", "only SQLite"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("station.db", "not a database URL"),
    ],
)
def test_other_urls_are_refused_with_the_fix(url: str, problem: str) -> None:
    """Each wrong URL says what is wrong with it and what to write."""
    with pytest.raises(ConfigurationError, match=f"{problem}.*sqlite:////"):
        Database.open(url)
