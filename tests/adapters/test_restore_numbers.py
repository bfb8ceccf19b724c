"""A backup that is put back: no number that may be on a board is handed out again, exactly where that can be known."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from station.adapters import restore
from station.adapters.archive import unpack
from station.adapters.backup import make_backup
from station.adapters.job_journal import JobJournal, line_of
from station.adapters.records import (
    HIGH_WATER,
    Database,
    Span,
    high_water,
    kept_jobs,
    numbers_report,
    ranges_report,
)
from station.adapters.restore import Restored, restore_backup
from station.config import Config, load_config
from station.errors import ConfigurationError
from station.model import JobState, Outcome
from tests.adapters.records.samples import PASSED, PLUG, T0, board, make_lot, start_of

KILLED_AT: dict[str, tuple[Any, str]] = {
    "line": (high_water, "append"),
    "burned": (restore, "burn_since_backup"),
    "merged": (restore, "merge_jobs"),
    "parted": (restore, "part_spans"),
    "moved": (restore._Places, "_move"),
    "written": (restore._Places, "_write"),
    "put": (restore._Places, "put_records"),
}
"""Step of a restore -> what it calls there."""
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Station:
    """A station with a range, whose boards come one after the other."""

    def __init__(self, directory: Path, suffix: str = "") -> None:
        self.directory, self.suffix = directory, suffix
        self.second = directory / "second"
        self.second.mkdir()
        (directory / "state").mkdir()
        self.file = directory / "station.toml"
        self.file.write_text(
            f'[station]\nid = "bench-1"\nstate_dir = "{directory / "state"}"\n[backup]\ndirectory = "{self.second}"\n'
        )
        self.jobs = 0

    @property
    def config(self) -> Config:
        """Its configuration."""
        return load_config(self.file)

    def opened(self) -> Database:
        """Its records."""
        return Database.open(self.config.database_url, station_id="bench-1", now=lambda: T0)

    def grant(self, first: int, last: int) -> None:
        """A person grants a range."""
        with self.opened() as records:
            records.numbers.grant(Span(pool="sensors", first=first, last=last), "Ada", "for the test")

    def makes(self, number: int, outcome: Outcome | None = Outcome.PASS, *, journal: bool = False) -> int | None:
        """Make a board; None as outcome: its job is cut off. Return the serial number it got."""
        self.jobs += 1
        job_id = f"job-{self.jobs}{self.suffix}"
        with self.opened() as records:
            issued = records.numbers.reserve_number("sensors", board(number).mac, job_id)
            if issued is None:
                return None
            records.begin_visit(f"visit-{job_id}", PLUG)
            records.begin_job(start_of(job_id, make_lot(records), identity=board(number)))
            if outcome is not None:
                reason = "" if outcome is Outcome.PASS else "no_boot"
                end = replace(PASSED, outcome=outcome, reason=reason, values=(("serial", str(issued.number)),))
                records.finish_job(job_id, replace(end, ended_at=T0 + timedelta(minutes=self.jobs)))
        if journal:
            (kept,) = kept_jobs(self.directory / "state/station.db", [job_id])
            JobJournal(self.second, "bench-1").append([line_of("bench-1", kept, NOW)])
        return issued.number

    def backs_up(self) -> Path:
        """A backup, read back."""
        backup = self.directory / f"backup-{self.jobs}.tar.gz"
        return make_backup(self.config, self.file, to=backup, before="", now=NOW).path

    def restores(self, backup: Path, *journals: Path) -> Restored:
        """Put it back over what is there."""
        return restore_backup(backup, config_file=self.file, journals=journals, replace=True, now=NOW)

    def loses(self, *names: str) -> None:
        """These files of the state directory are gone."""
        for name in names:
            for file in (self.directory / "state").glob(f"{name}*"):
                file.unlink()

    def numbers(self) -> dict[str, tuple[int, str]]:
        """MAC -> number and state."""
        rows = numbers_report(self.config.database_url, "sensors").rows
        return {row["mac"]: (row["number"], row["state"]) for row in rows}

    def ranges(self) -> list[tuple[int, int, int, int]]:
        """First, last, free and burned of every range."""
        rows = ranges_report(self.config.database_url).rows
        return [(row["first"], row["last"], row["free"], row["burned"]) for row in rows]


@pytest.fixture
def station(tmp_path: Path) -> Station:
    """Numbers 1 to 9, of which the first is in a board."""
    made = Station(tmp_path)
    made.grant(1, 9)
    assert made.makes(1) == 1
    return made


@pytest.mark.parametrize("lost", [(), ("station.db",), (HIGH_WATER,)], ids=["nothing", "records", "high-water file"])
def test_what_was_handed_out_since_is_burned_exactly(station: Station, lost: tuple[str, ...]) -> None:
    """The old records or the high-water file show it: the boards keep their numbers, all others are free."""
    backup = station.backs_up()
    assert [station.makes(2), station.makes(3, Outcome.FAIL), station.makes(4, None)] == [2, 3, 4]
    station.grant(20, 29)
    station.loses(*lost)
    restored = station.restores(backup)
    assert any(
        "3 serial numbers were handed out after the backup and are burned: sensors" in note for note in restored.notes
    )
    assert station.ranges() == [(1, 9, 5, 3), (20, 29, 10, 0)]
    assert station.numbers()[board(3).mac] == (3, "burned")
    assert station.makes(5) == 5
    assert [station.makes(3), station.makes(2), station.makes(1)] == [3, 2, 1]
    assert station.numbers()[board(3).mac] == (3, "confirmed")


@pytest.mark.parametrize("damage", ["lost", "damaged"])
def test_where_nothing_shows_it_the_whole_rest_is_burned(station: Station, damage: str) -> None:
    """A disk that is gone: no number of the range is ever handed out again, and it is said; a new range goes on."""
    backup = station.backs_up()
    station.makes(2)
    if damage == "lost":
        station.loses("station.db", HIGH_WATER)
    else:
        (station.directory / "state/station.db").write_bytes(b"\0" * 8192)
        (station.directory / "state" / HIGH_WATER).write_bytes(b"nonsense\nmore of it\n")
    restored = station.restores(backup)
    assert any("all 8 that were left are burned (sensors)" in note for note in restored.notes)
    assert station.ranges() == [(1, 9, 0, 8)]
    assert station.makes(3) is None
    assert station.makes(1) == 1
    station.grant(100, 109)
    assert station.makes(3) == 100
    with station.opened() as records:
        assert records.numbers.release(Span(pool="sensors", first=5, last=9), "Ada", "the labels are here") == 5
    assert station.makes(4) == 5


def test_a_high_water_file_that_began_anew_proves_nothing(station: Station) -> None:
    """It holds what came last, and not the last thing that the backup knows: what came between the two is unknown."""
    backup = station.backs_up()
    assert station.makes(2) == 2
    station.loses(HIGH_WATER)
    assert station.makes(3) == 3
    station.loses("station.db")
    station.restores(backup)
    assert station.ranges() == [(1, 9, 0, 8)]
    assert station.makes(4) is None


def test_where_nothing_shows_it_what_was_only_reserved_is_burned_as_well(station: Station) -> None:
    """Its job may have given the number back after the backup, and another board may have it by now."""
    assert station.makes(2, None) == 2
    backup = station.backs_up()
    with station.opened() as records:
        unused = replace(PASSED, outcome=Outcome.FAIL, reason="no_boot", number_used=False)
        records.finish_job("job-2", unused)
    assert station.makes(3) == 2
    station.loses("station.db", HIGH_WATER)
    station.restores(backup)
    station.grant(100, 109)
    assert station.makes(2) == 100
    assert station.makes(3) == 101


def test_a_board_that_waits_keeps_what_it_carries(station: Station) -> None:
    """It was flashed with its number before the backup: whatever is lost, its second visit finds the same one."""
    with station.opened() as records:
        issued = records.numbers.reserve_number("sensors", board(2).mac, "job-2")
        assert issued is not None
        records.begin_visit("visit-job-2", PLUG)
        records.begin_job(start_of("job-2", make_lot(records), identity=board(2)))
        waits = replace(PASSED, state=JobState.PENDING, outcome=None, reason="awaits_run_mode")
        records.finish_job("job-2", waits)
    backup = station.backs_up()
    station.loses("station.db", HIGH_WATER)
    station.restores(backup)
    assert station.numbers()[board(2).mac] == (issued.number, "reserved")


def test_a_backup_that_nothing_followed_burns_nothing(station: Station) -> None:
    """Put back at once, everything is as it was, and nothing is said about numbers."""
    restored = station.restores(station.backs_up())
    assert not any("serial" in note for note in restored.notes)
    assert station.ranges() == [(1, 9, 8, 0)]
    assert station.makes(2) == 2


def test_put_back_twice_the_numbers_stay_burned(station: Station) -> None:
    """The second time finds in records and file what the first one burned, and what was handed out between the two."""
    backup = station.backs_up()
    station.makes(2)
    station.restores(backup)
    assert station.makes(3) == 3
    station.restores(backup)
    assert station.makes(4) == 4
    assert [station.makes(2), station.makes(3)] == [2, 3]
    station.loses("station.db", HIGH_WATER)
    station.restores(backup)
    assert station.makes(5) is None


@pytest.mark.parametrize("lost", [(), ("station.db",), ("station.db", HIGH_WATER)], ids=["nothing", "records", "all"])
def test_jobs_of_the_journal_bring_their_numbers_along(station: Station, lost: tuple[str, ...]) -> None:
    """The journal has the PASS of a board, and so the number it got: it keeps it, whatever else is lost."""
    backup = station.backs_up()
    assert station.makes(2, journal=True) == 2
    station.loses(*lost)
    restored = station.restores(backup, station.second / "jobs-bench-1.jsonl")
    assert restored.merged.jobs == 1
    assert restored.merged.unfit == 0
    (row,) = ranges_report(station.config.database_url).rows
    assert sum(row[state] for state in ("free", "reserved", "confirmed", "burned")) == 9, "a number is in two places"
    assert station.numbers()[board(2).mac][0] == 2
    assert station.makes(2) == 2
    assert station.makes(3) != 2
    with station.opened() as records:
        assert {job.id: dict(job.values) for job in records.jobs(9)}["job-2"] == {"serial": "2"}


def test_a_journal_of_another_station_with_the_same_numbers_is_told(station: Station, tmp_path: Path) -> None:
    """Two stations that knew nothing of one another were granted the same range: the boards that have one number are named."""
    (tmp_path / "other").mkdir()
    other = Station(tmp_path / "other", suffix="-there")
    other.grant(1, 9)
    assert [other.makes(5, journal=True), other.makes(1, journal=True)] == [1, 2]
    restored = station.restores(station.backs_up(), other.second / "jobs-bench-1.jsonl")
    assert restored.merged.twice == (f"sensors 1 ({board(1).mac}, {board(5).mac})",)
    assert any("two boards have the same serial number" in note for note in restored.notes), restored.notes
    assert station.makes(1) == 1


def test_a_job_of_the_journal_whose_number_was_burned_since_still_comes_back(station: Station) -> None:
    """The job counts; the number that a person burned after it does not become the board's again."""
    backup = station.backs_up()
    station.makes(2, journal=True)
    with station.opened() as records:
        records.numbers.burn(Span(pool="sensors", first=2, last=2), "Ada", "label torn")
    assert station.makes(2) == 3
    restored = station.restores(backup, station.second / "jobs-bench-1.jsonl")
    assert (restored.merged.jobs, restored.merged.unfit) == (1, 0)
    assert station.numbers()[board(2).mac] == (3, "burned")
    assert station.makes(2) == 3
    assert station.makes(5) == 4


def test_the_high_water_file_is_in_no_backup_and_is_never_put_back(station: Station, tmp_path: Path) -> None:
    """It may only grow: an older one in its place would forget numbers."""
    (tmp_path / "unpacked").mkdir()
    backup = station.backs_up()
    members = unpack(backup, tmp_path / "unpacked").manifest.members
    assert all(HIGH_WATER not in member.path for member in members)
    before = high_water.read(station.directory / "state" / HIGH_WATER)
    station.makes(2)
    station.restores(backup)
    after = high_water.read(station.directory / "state" / HIGH_WATER)
    assert before is not None
    assert after is not None
    assert after[: len(before)] == before
    assert len(after) > len(before)


def killed_restore(station: Station, backup: Path, owner: object, name: str, *, before: bool) -> None:
    """Put a backup back in a process that dies by SIGKILL right before or after it calls this."""
    child = os.fork()
    if child == 0:
        called = getattr(owner, name)

        def deadly(*arguments: object, **named: object) -> object:
            if before:
                os.kill(os.getpid(), signal.SIGKILL)
            result = called(*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, deadly)
        try:
            station.restores(backup)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the moment never came"


@pytest.mark.parametrize("step", KILLED_AT)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_restore_killed_at_any_step_puts_no_number_on_two_boards(
    station: Station, step: str, *, before: bool
) -> None:
    """Boards come after the kill, a person grants the range anew where the records are gone, and it is restored again."""
    backup = station.backs_up()
    on = {1: {1}, 2: {2}, 3: {3}}
    assert [station.makes(number) for number in (2, 3)] == [2, 3]
    owner, name = KILLED_AT[step]
    killed_restore(station, backup, owner, name, before=before)
    if not (station.directory / "state/station.db").exists():
        with pytest.raises(ConfigurationError, match="went to boards before these records began"):
            station.grant(1, 9)
    for number in (6, 2):
        on.setdefault(station.makes(number) or 0, set()).add(number)
    station.restores(backup)
    for number in (7, 3, 6, 2, 1):
        on.setdefault(station.makes(number) or 0, set()).add(number)
    on.pop(0, None)
    assert all(len(boards) == 1 for boards in on.values()), on
    assert [station.makes(number) for number in (1, 2, 3)] == [1, 2, 3]


def test_a_killed_restore_leaves_nothing_worse(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the file was written and before the records were moved: the old records go on as they were."""
    backup = station.backs_up()
    station.makes(2)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("station.adapters.restore.merge_jobs", dies)
    with pytest.raises(KeyboardInterrupt):
        station.restores(backup)
    monkeypatch.undo()
    assert station.makes(3) == 3
    shutil.rmtree(station.second)
    assert station.makes(2) == 2
