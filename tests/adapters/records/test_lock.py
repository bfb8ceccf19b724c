"""One station's running jobs are in one database: a second station never takes them for dead ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from station.adapters.records import Database
from station.errors import ConfigurationError
from station.model import JobState, Lot, Outcome
from tests.adapters.records.samples import PASSED, T0, board, record, rows_of, url_of

HOLDER = """
import sys, time
from station.adapters.records import Database
with Database.open(sys.argv[1], exclusive=True):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_second_station_is_refused_with_the_first_ones_pid_and_touches_nothing(file: Path, lot: Lot) -> None:
    """The second start is refused before it aborts a job; the first one's job ends as it would have."""
    with Database.open(url_of(file), exclusive=True) as first:
        record(first, "job-1", lot, None)
        before = rows_of(file)
        with pytest.raises(ConfigurationError, match=rf"another station \(PID {os.getpid()}\).*Fix: stop it first"):
            Database.open(url_of(file), exclusive=True)
        assert rows_of(file) == before
        assert first.finish_job("job-1", PASSED).outcome is Outcome.PASS
    Database.open(url_of(file), exclusive=True).close()


def test_who_recovers_must_have_the_file_for_itself(file: Path, lot: Lot) -> None:
    """`recover_running` takes the lock by itself, so that no start can forget it, and keeps it until the close."""
    with Database.open(url_of(file)) as first, Database.open(url_of(file)) as second:
        record(first, "job-1", lot, None)
        assert first.recover_running(T0) == 1
        record(first, "job-2", lot, None, identity=board(2))
        with pytest.raises(ConfigurationError, match="another station"):
            second.recover_running(T0)
        assert first.jobs(1)[0].state is JobState.RUNNING
        first.close()
        assert second.recover_running(T0) == 1


def test_other_programs_work_beside_the_station(file: Path, lot: Lot) -> None:
    """A hand at the command line reads and writes while a station has the file for itself."""
    with Database.open(url_of(file), exclusive=True) as station, Database.open(url_of(file)) as by_hand:
        record(station, "job-1", lot, None)
        record(by_hand, "job-2", lot, PASSED, identity=board(2))
        assert station.finish_job("job-1", PASSED).outcome is Outcome.PASS
        assert {job.id for job in by_hand.jobs(10)} == {"job-1", "job-2"}


def test_two_names_of_one_file_have_one_lock(file: Path) -> None:
    """A symbolic link to the database does not get around it."""
    link = file.with_name("other.db")
    link.symlink_to(file)
    with Database.open(url_of(file), exclusive=True), pytest.raises(ConfigurationError, match="another station"):
        Database.open(url_of(link), exclusive=True)


def test_a_killed_station_leaves_no_lock_behind(file: Path) -> None:
    """After kill -9 the next start gets the file, although the lock file is still there."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url_of(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(ConfigurationError, match=rf"PID {holder.pid}\)"):
            Database.open(url_of(file), exclusive=True)
    finally:
        holder.kill()
        holder.communicate()
    assert file.with_name("station.db.lock").exists()
    Database.open(url_of(file), exclusive=True).close()


def test_a_refused_open_gives_the_lock_back(tmp_path: Path) -> None:
    """A file that is no database does not stay locked by who found that out; a missing directory is named."""
    file = tmp_path / "station.db"
    file.write_bytes(b"\xa5" * 8192)
    with pytest.raises(Exception, match="corrupt"):
        Database.open(url_of(file), exclusive=True)
    file.unlink()
    Database.open(url_of(file), exclusive=True).close()
    with pytest.raises(ConfigurationError, match=r"directory does not exist.*mkdir"):
        Database.open(url_of(tmp_path / "nowhere" / "station.db"), exclusive=True)
