"""kill -9 at every boundary of a job: after the restart no job is green without its row, none is lost, the next passes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from station.adapters.records import Database
from station.model import CommittedJob, JobState, Outcome
from tests.e2e.killing import run_killable

PHASES = ("CONNECT", "FLASH", "VERIFY", "BOOT", "SELF_TEST")
MOMENTS = (
    *(f"before:{phase}" for phase in PHASES),
    "begun",
    *(f"after:{phase}" for phase in PHASES),
    "unrecorded",
    "committed",
    "shown",
)


def run_station(tmp_path: Path, *, seed: int, moment: str) -> tuple[int, list[str]]:
    """Run one board in a process of its own; return its exit code and the lights it showed."""
    records, state = f"sqlite:///{tmp_path / 'station.db'}", tmp_path / "state"
    done = run_killable("killed_station", records, state, seed, moment, timeout_s=120)
    return done.returncode, done.stdout.split("\n")


def rows_of(tmp_path: Path) -> list[CommittedJob]:
    """What is on record, oldest first."""
    with Database.open(f"sqlite:///{tmp_path / 'station.db'}") as records:
        return list(reversed(records.jobs(10)))


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_boundary_the_books_are_right(tmp_path: Path, moment: str) -> None:
    """Whatever the moment: green was shown only with a PASS on record, and after the restart the next board passes."""
    code, lights = run_station(tmp_path, seed=1, moment=moment)
    assert code == -signal.SIGKILL, "the moment never came"
    left = rows_of(tmp_path)
    began = moment != "before:CONNECT"
    touched = began and moment != "shown"
    if "PASS" in lights:
        assert [row.outcome for row in left] == [Outcome.PASS]
    if moment in ("committed", "shown"):
        assert [row.outcome for row in left] == [Outcome.PASS]
    elif touched:
        assert [(row.state, row.outcome) for row in left] == [(JobState.RUNNING, None)]

    code, lights = run_station(tmp_path, seed=2, moment="never")
    assert code == 0
    *earlier, newest = rows_of(tmp_path)
    assert newest.outcome is Outcome.PASS
    assert "PASS" in lights
    assert len(earlier) == len(left), "a job was lost"
    for row, was in zip(earlier, left, strict=True):
        if was.state is JobState.RUNNING:
            assert (row.state, row.outcome, row.reason) == (JobState.CLOSED, Outcome.ABORTED, "station_restarted")
        else:
            assert row == was
