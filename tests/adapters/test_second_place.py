"""The second place of a running station: every finished job gets there at once, and nothing ever waits for it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from station.adapters import second_place
from station.adapters.archive import backup_name
from station.adapters.job_journal import JobJournal, JobLine, read_journal
from station.adapters.records import Database
from station.adapters.second_place import SecondPlace
from station.model import Lot
from tests.adapters.records.samples import PASSED, PENDING, board, record
from tests.e2e.command import wait_for

NOW = datetime(2026, 11, 22, 3, 30, tzinfo=UTC)


def second(place: Path, records: Path) -> SecondPlace:
    """The second place, whose thread looks often."""
    return SecondPlace(place, "bench-1", records, now=lambda: NOW, look_s=0.05)


def journaled(place: Path) -> list[tuple[str, str]]:
    """Job and outcome of every line in the journal."""
    path = JobJournal(place, "bench-1").path
    if not path.exists():
        return []
    return [(line.job, line.outcome) for line in read_journal(path) if isinstance(line, JobLine)]


def test_a_finished_job_is_appended_at_once(place: Path, database: Database, lot: Lot, records: Path) -> None:
    """A job that was read back is in the journal without anybody asking; one that runs is not."""
    with SecondPlace(place, "bench-1", records, look_s=3600) as lane:
        record(database, "runs", lot, None, identity=board(1))
        record(database, "done", lot, PASSED, identity=board(2))
        lane.finished("done")
        wait_for(lambda: journaled(place), "the line")
        assert journaled(place) == [("done", "PASS")]
        wait_for(lambda: lane.behind() == 0, "nothing behind")


def test_what_others_finish_is_appended_too(place: Path, database: Database, lot: Lot, records: Path) -> None:
    """A job made by hand, one that a person dropped, and one that is closed later each get their line."""
    with second(place, records):
        record(database, "waits", lot, PENDING)
        wait_for(lambda: journaled(place) == [("waits", "")], "the waiting job")
        database.drop_pending("18:fe:34:dd:c1:42", "Ada", "fell")
        wait_for(lambda: journaled(place)[1:] == [("waits", "ABORTED")], "its end")


def test_what_a_crash_left_out_is_appended_at_the_next_start(
    place: Path, database: Database, lot: Lot, records: Path
) -> None:
    """A station that died between commit and journal makes up for it, and appends nothing twice."""
    record(database, "first", lot, PASSED, identity=board(1))
    with second(place, records):
        wait_for(lambda: journaled(place), "the first")
    record(database, "second", lot, PASSED, identity=board(2))
    for _ in range(2):
        with second(place, records) as lane:
            wait_for(lambda: len(journaled(place)) == 2, "the second")
        assert lane.behind() == 0
    assert journaled(place) == [("first", "PASS"), ("second", "PASS")]


def test_a_second_place_that_is_gone_is_said_once_and_caught_up(
    place: Path, database: Database, lot: Lot, records: Path
) -> None:
    """Unmounted, it is in the log once and counted; mounted again, everything missing is appended."""
    away = place.with_name("away")
    with capture_logs() as said, second(place, records) as lane:
        wait_for(lambda: lane.backup_age_s() == float("inf"), "the first look")
        place.rename(away)
        for number in range(3):
            record(database, f"job-{number}", lot, PASSED, identity=board(number))
            lane.finished(f"job-{number}")
        wait_for(lambda: [entry for entry in said if entry["event"] == "journal.behind"], "the log")
        assert lane.behind() == 3
        away.rename(place)
        wait_for(lambda: lane.behind() == 0, "caught up")
    assert len(journaled(place)) == 3
    assert [entry["event"] for entry in said].count("journal.behind") == 1
    assert [entry["event"] for entry in said][-1] == "journal.caught_up"


def test_another_disk_gets_everything(place: Path, database: Database, lot: Lot, records: Path) -> None:
    """A stick that was exchanged for an empty one while the station ran holds all jobs again, not only the new ones."""
    with second(place, records) as lane:
        record(database, "first", lot, PASSED, identity=board(1))
        lane.finished("first")
        wait_for(lambda: journaled(place), "the first")
        wait_for(lambda: lane.behind() == 0, "nothing behind")
        for file in place.iterdir():
            file.unlink()
        record(database, "second", lot, PASSED, identity=board(2))
        lane.finished("second")
        wait_for(lambda: len(journaled(place)) == 2, "both")
    assert {job for job, _ in journaled(place)} == {"first", "second"}


def test_a_share_that_hangs_costs_nobody_else(
    place: Path, database: Database, lot: Lot, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the second place hangs jobs are committed and told of at once, are counted as behind, and the end comes."""
    hangs, let_go = threading.Event(), threading.Event()

    def hang(*_arguments: object) -> None:
        hangs.set()
        let_go.wait(30)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(second_place, "CLOSE_S", 0.1)
    monkeypatch.setattr(JobJournal, "append", hang)
    with capture_logs() as said:
        with second(place, records) as lane:
            record(database, "job-1", lot, PASSED)
            lane.finished("job-1")
            assert hangs.wait(30)
            lane.finished("job-1")
            record(database, "job-2", lot, PASSED, identity=board(2))
            lane.finished("job-2")
            assert lane.behind() == 2
            thread = lane._thread
        assert next(entry for entry in said if entry["event"] == "journal.incomplete")["jobs"] == 2
        let_go.set()
        thread.join(30)
    assert not thread.is_alive()


def test_the_age_of_the_newest_backup(place: Path, database: Database, records: Path) -> None:
    """Infinite without a backup, else since the newest of this station, whatever other files lie there."""
    del database
    with second(place, records) as lane:
        assert lane.backup_age_s() == float("inf")
        (place / "station-notes.tar.gz").touch()
        for hours, station in ((1, "bench-2"), (30, "bench-1"), (5, "bench-1")):
            (place / backup_name(station, NOW - timedelta(hours=hours), "0.1.0")).touch()
        wait_for(lambda: lane.backup_age_s() <= 5 * 3600, "the newest backup of this station")
        assert lane.backup_age_s() == 5 * 3600
