"""The journal of finished jobs: whole lines only, never behind a torn one, and begun anew only when a backup has it all."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.adapters.job_journal import BegunLine, JobJournal, JobLine, decoded, encoded, line_of, read_journal
from station.adapters.records import Database, copy_records, examine, job_marks, kept_jobs
from station.model import Lot
from tests.adapters.records.samples import FAILED, PASSED, PENDING, board, make_lot, record, url_of

NOW = datetime(2026, 11, 22, 3, 30, tzinfo=UTC)


def line(job: str = "job-1", version: str = "closed 2026") -> JobLine:
    """A line without rows."""
    return JobLine(station="bench-1", schema="0002", job=job, version=version, outcome="PASS", at="", rows={})


@pytest.fixture
def journal(place: Path) -> JobJournal:
    """The journal of one station in an empty second place."""
    return JobJournal(place, "bench-1")


def journaled(journal: JobJournal, records: Path, *jobs: str) -> None:
    """Append these jobs as they are on record."""
    journal.append([line_of("bench-1", kept, NOW) for kept in kept_jobs(records, jobs)])


def missing(journal: JobJournal, records: Path) -> list[str]:
    """The finished jobs that the second place does not have, as the journal says."""
    covered = journal.covered(records)
    marks = job_marks(records, after=covered.through, ids=list(covered.unfinished))
    return [mark.id for mark in marks if covered.missing(mark)]


def test_lines_are_appended_and_read_back(journal: JobJournal) -> None:
    """Every line comes back as it was, in order, however often the journal was opened."""
    journal.append([line("a"), line("b")])
    journal.append([line("c")])
    assert list(read_journal(journal.path)) == [line("a"), line("b"), line("c")]
    assert journal.path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("lost", [1, 2, 30, 150])
def test_a_torn_last_line_is_noticed_and_costs_no_other(journal: JobJournal, lost: int) -> None:
    """After a power cut in the middle of a line it is left out, and the line after it is whole."""
    journal.append([line("a"), line("torn")])
    os.truncate(journal.path, journal.path.stat().st_size - lost)
    whole = [line("a"), line("torn")] if lost == 1 else [line("a"), None]
    assert list(read_journal(journal.path)) == whole
    journal.append([line("after")])
    assert list(read_journal(journal.path)) == [*whole, line("after")]


@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_line_that_was_changed_is_never_believed(at: int, flip: int) -> None:
    """Whichever byte of the content or of its sum is another one, the line says nothing."""
    raw = bytearray(encoded(line()).rstrip(b"\n"))
    first, last = len(b'{"sha256":"'), len(raw) - 1
    position = first + at % (last - first)
    if raw[first + 64 : position + 1].startswith(b'","said":') or first + 64 <= position < first + 73:
        return
    raw[position] ^= flip
    assert decoded(bytes(raw)) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_no_line(raw: bytes) -> None:
    """What is no line at all is left out without a word of Python's."""
    assert decoded(raw) is None


def test_what_is_in_the_journal_is_not_missing(
    journal: JobJournal, database: Database, lot: Lot, records: Path
) -> None:
    """Finished jobs are missing until they are appended; a job that waited is missing again when it is closed."""
    record(database, "runs", lot, None, identity=board(1))
    record(database, "waits", lot, PENDING, identity=board(2))
    record(database, "done", lot, PASSED, identity=board(3))
    assert missing(journal, records) == ["waits", "done"]
    journaled(journal, records, "waits", "done")
    assert missing(journal, records) == []
    database.finish_job("waits", FAILED)
    assert missing(journal, records) == ["waits"]


def test_it_begins_anew_after_a_backup_that_holds_all_of_it(
    journal: JobJournal, database: Database, lot: Lot, records: Path, tmp_path: Path
) -> None:
    """Then nothing up to that backup is missing, what waited or ran is watched, and the old journal is kept aside."""
    record(database, "done", lot, PASSED, identity=board(1))
    record(database, "waits", lot, PENDING, identity=board(2))
    record(database, "runs", lot, None, identity=board(3))
    journaled(journal, records, "done", "waits")
    copy = tmp_path / "copy.db"
    copy_records(records, copy)
    assert journal.begin_anew("backup.tar.gz", copy, examine(copy), NOW, keep=3) == 0
    (begun,) = read_journal(journal.path)
    assert isinstance(begun, BegunLine)
    assert (begun.through, begun.through_job, begun.backup) == (3, "runs", "backup.tar.gz")
    assert [path.name for path in journal.aside()] == ["jobs-bench-1-until-20261122T033000Z.jsonl"]
    assert missing(journal, records) == []
    database.finish_job("runs", PASSED)
    database.finish_job("waits", PASSED)
    record(database, "next", lot, PASSED, identity=board(4))
    assert missing(journal, records) == ["waits", "runs", "next"]


def test_it_goes_on_when_the_backup_lacks_one_of_its_jobs(
    journal: JobJournal, database: Database, lot: Lot, records: Path, tmp_path: Path
) -> None:
    """Jobs that only the journal has (records restored without it, a job closed after the copy) keep it as it is."""
    record(database, "waits", lot, PENDING)
    journaled(journal, records, "waits")
    copy = tmp_path / "copy.db"
    copy_records(records, copy)
    database.finish_job("waits", PASSED)
    journaled(journal, records, "waits")
    journal.append([line("lost with the disk")])
    before = journal.path.read_bytes()
    assert journal.begin_anew("backup.tar.gz", copy, examine(copy), NOW, keep=3) == 2
    assert journal.path.read_bytes() == before
    assert journal.aside() == []


def test_journals_put_aside_are_kept_as_many_as_asked(
    journal: JobJournal, database: Database, lot: Lot, records: Path, tmp_path: Path
) -> None:
    """The oldest go first, and never one of another station."""
    stranger = journal.path.with_name("jobs-bench-10-until-20200101T000000Z.jsonl")
    stranger.write_bytes(b"")
    for number in range(4):
        record(database, f"job-{number}", lot, PASSED, identity=board(number))
        journaled(journal, records, f"job-{number}")
        copy = tmp_path / f"copy-{number}.db"
        copy_records(records, copy)
        journal.begin_anew("backup.tar.gz", copy, examine(copy), NOW.replace(hour=number), keep=2)
    assert [path.name[-13:-10] for path in journal.aside()] == ["023", "033"]
    assert stranger.exists()


def test_another_database_is_not_covered_by_an_old_journal(
    journal: JobJournal, database: Database, lot: Lot, records: Path, tmp_path: Path
) -> None:
    """After a fresh start with empty records its first jobs are missing, though the old backup went far beyond them."""
    for number in range(3):
        record(database, f"job-{number}", lot, PASSED, identity=board(number))
    journaled(journal, records, "job-0")
    copy = tmp_path / "copy.db"
    copy_records(records, copy)
    journal.begin_anew("backup.tar.gz", copy, examine(copy), NOW, keep=3)
    fresh = tmp_path / "fresh.db"
    with Database.open(url_of(fresh)) as empty:
        record(empty, "first again", make_lot(empty), PASSED)
    assert missing(journal, fresh) == ["first again"]


def test_a_disk_that_is_full_is_said(journal: JobJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that went only half onto the disk is an error, and the next one stands alone."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[: len(data) // 2]))
    with pytest.raises(OSError, match="No space left"):
        journal.append([line("torn")])
    monkeypatch.undo()
    journal.append([line("whole")])
    assert list(read_journal(journal.path)) == [None, line("whole")]
