"""Jobs of a journal put into records that are older than they are: nothing twice, nothing lost, closed wins."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from station.adapters.records import (
    BoardEvent,
    Database,
    KeptJob,
    Merged,
    copy_records,
    examine,
    head,
    job_marks,
    kept_jobs,
    merge_jobs,
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
    T0,
    board,
    event_of,
    record,
    rows_of,
    url_of,
)


def all_jobs(file: Path) -> tuple[KeptJob, ...]:
    """Every job of the records, as a journal keeps it."""
    return kept_jobs(file, [mark.id for mark in job_marks(file, after=0)])


def rows_without_heartbeat(file: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the file that is about work."""
    return {table: rows for table, rows in rows_of(file).items() if table != "heartbeat"}


@pytest.fixture
def backup(file: Path, database: Database, lot: Lot, tmp_path: Path) -> Path:
    """A copy of the records with a passed job, one that waits and one that runs; after it the station went on."""
    record(database, "passed", lot, PASSED, identity=board(1))
    record(database, "waits", lot, PENDING, identity=board(2))
    record(database, "runs", lot, None, identity=board(3))
    copy = tmp_path / "backup.db"
    copy_records(file, copy)
    later = replace(PASSED, ended_at=T0 + timedelta(hours=1))
    database.finish_job("waits", later)
    database.finish_job("runs", FAILED)
    record(database, "failed", lot, FAILED, identity=board(1))
    record(database, "new", lot, later, identity=board(4))
    database.add_board_event(event_of(BoardEvent.MARK_GOLDEN, mac=board(4).mac))
    return copy


def test_a_backup_and_the_jobs_since_are_the_records_again(backup: Path, file: Path) -> None:
    """Merged with the jobs that were finished after it, the copy holds row for row what the station had."""
    assert rows_without_heartbeat(backup) != rows_without_heartbeat(file)
    assert merge_jobs(backup, all_jobs(file)) == Merged(jobs=4)
    assert rows_without_heartbeat(backup) == rows_without_heartbeat(file)


def test_merging_again_changes_nothing(backup: Path, file: Path) -> None:
    """What is there already is put once, however often it is offered."""
    kept = all_jobs(file)
    merge_jobs(backup, [*kept, *kept])
    before = rows_without_heartbeat(backup)
    assert merge_jobs(backup, kept) == Merged()
    assert rows_without_heartbeat(backup) == before


def test_an_older_word_never_undoes_a_newer_one(backup: Path, file: Path) -> None:
    """A line written while the job waited, read after the one that closed it, leaves it closed."""
    waiting = all_jobs(backup)
    merge_jobs(backup, all_jobs(file))
    before = rows_without_heartbeat(backup)
    assert merge_jobs(backup, waiting) == Merged()
    assert rows_without_heartbeat(backup) == before


def test_jobs_of_an_older_schema_go_up_first(file: Path, tmp_path: Path) -> None:
    """What an older station wrote is brought to this schema by the migrations, then merged; running jobs are news, too."""
    old = tmp_path / "old.db"
    populated_at_0001(old)
    kept = all_jobs(old)
    assert {job.revision for job in kept} == {"0001"}
    assert merge_jobs(file, kept) == Merged(jobs=len(kept))
    assert {mark.id for mark in job_marks(file, after=0)} == {mark.id for mark in job_marks(old, after=0)}
    assert examine(file, beside_a_station=True).revision == head()
    assert not list(tmp_path.glob("merge-*"))


def test_what_a_newer_station_wrote_is_left_out_and_counted(backup: Path, file: Path) -> None:
    """A schema that this station does not know is never guessed at; the rest is merged."""
    kept = [replace(job, revision="9999") if job.rows["job"][0]["id"] == "new" else job for job in all_jobs(file)]
    assert merge_jobs(backup, kept) == Merged(jobs=3, newer=1)
    assert "new" not in {mark.id for mark in job_marks(backup, after=0)}


@pytest.mark.parametrize("table", ["visit", "board", "lot", "recipe", "job"])
def test_a_job_with_rows_missing_is_left_out_whole(backup: Path, file: Path, table: str) -> None:
    """A job whose visit, board, lot or recipe came from nowhere is not half merged, and does not stop the others."""
    (new,) = kept_jobs(file, ["new"])
    rows = {name: of_table for name, of_table in new.rows.items() if name != table}
    for row in rows.get("job", ()):
        row.update(board_mac="never seen" if table == "board" else row["board_mac"])
        row.update(lot_id="never seen" if table == "lot" else row["lot_id"])
        row.update(recipe_hash="never seen" if table == "recipe" else row["recipe_hash"])
    merged = merge_jobs(backup, [KeptJob(revision=new.revision, rows=rows), *kept_jobs(file, ["failed"])])
    assert merged == Merged(jobs=1, unfit=1)
    found = rows_of(backup)
    assert "new" not in {row[0] for row in found["job"]}
    assert not [row for row in found["phase"] if row[0] == "new"]


@pytest.mark.parametrize("name", ["colour", "id = '' --", 'x" TEXT'])
def test_a_column_that_no_table_has_is_never_asked_for(backup: Path, file: Path, name: str) -> None:
    """Names in a journal are compared with those of the tables, and never become part of a statement otherwise."""
    (new,) = kept_jobs(file, ["new"])
    new.rows["job"][0][name] = 1
    assert merge_jobs(backup, [new]) == Merged(unfit=1)
    assert merge_jobs(backup, [KeptJob(revision=new.revision, rows={**new.rows, name: [{"id": 1}]})]) == Merged(unfit=1)


def test_two_histories_that_went_apart_keep_all_their_jobs(file: Path, tmp_path: Path) -> None:
    """After a restore without the journal both histories count from the same number; each job keeps its own row."""
    other = tmp_path / "other.db"
    shutil.copy(file, other)
    for each, name in ((file, "here"), (other, "there")):
        with Database.open(url_of(each), now=lambda: T0) as database:
            database.ensure_recipe(RECIPE)
            lot = database.current_lot() or database.standing_lot(REQUEST)
            record(database, name, lot, PASSED, identity=board(len(name)))
    assert merge_jobs(file, all_jobs(other)) == Merged(jobs=1)
    assert [(mark.sequence, mark.id) for mark in job_marks(file, after=0)] == [(1, "here"), (2, "there")]


def test_records_of_another_schema_take_nothing(tmp_path: Path, file: Path) -> None:
    """Whoever merges migrates first; otherwise not a row is written."""
    old = tmp_path / "old.db"
    populated_at_0001(old)
    before = rows_of(old)
    with pytest.raises(RecordsUnwritable, match="newest schema"):
        merge_jobs(old, all_jobs(file))
    assert rows_of(old) == before
