"""kill -9 at each step of a serial number: no number is ever on two boards, and a board that comes back gets its own."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from station.adapters.records import HIGH_WATER, Database, high_water, numbers_report
from station.model import Outcome
from tests.e2e.killing import run_killable

NOT_ON_RECORD = ("torn", "line", "returned")
MOMENTS = (
    *NOT_ON_RECORD,
    "returning",
    "reserved",
    "begun",
    "after:FLASH",
    "after:PROVISION",
    "unrecorded",
    "confirming",
    "committed",
)


def url_in(tmp_path: Path) -> str:
    """The records of this test."""
    return f"sqlite:///{tmp_path / 'station.db'}"


def run_station(tmp_path: Path, *, seed: int, moment: str) -> int:
    """Run one board in a process of its own; return its exit code. A seed is a board."""
    state = tmp_path / "state"
    return run_killable("killed_numbers", url_in(tmp_path), state, seed, moment, timeout_s=150).returncode


def numbers_in(tmp_path: Path) -> dict[str, tuple[int, str]]:
    """MAC -> its number and state."""
    return {row["mac"]: (row["number"], row["state"]) for row in numbers_report(url_in(tmp_path), "sensors").rows}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_step_no_number_is_on_two_boards(tmp_path: Path, moment: str) -> None:
    """One board is killed, another one comes, then the first again: two numbers, each with its PASS, its value and its line."""
    assert run_station(tmp_path, seed=1, moment=moment) == -signal.SIGKILL, "the moment never came"
    killed = numbers_in(tmp_path)
    assert len(killed) == (moment not in NOT_ON_RECORD)
    for seed in (2, 1):
        assert run_station(tmp_path, seed=seed, moment="never") == 0
    left = numbers_in(tmp_path)
    assert sorted(left.values()) == [(1, "confirmed"), (2, "confirmed")]
    for mac, (number, _state) in killed.items():
        assert left[mac][0] == number, "the board that was killed has another number now"
    with Database.open(url_in(tmp_path)) as records:
        passed = {job.mac: dict(job.values) for job in records.jobs(10) if job.outcome is Outcome.PASS}
    assert passed == {mac: {"serial": f"SN{number:04d}"} for mac, (number, _state) in left.items()}
    lines = high_water.read(tmp_path / HIGH_WATER)
    assert lines is not None
    assert {(line.mac, line.first) for line in lines if line.event == "reserve"} >= {
        (mac, number) for mac, (number, _state) in left.items()
    }
