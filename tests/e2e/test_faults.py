"""Every fault of the closed list, through the real daemon on the virtual bench: rows, lights, words and metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from station.bench.faults import FAULT_TOKENS
from station.model import Light
from tests.e2e.harness import Shift, request_for, work_a_shift

# token, outcome (None: a visit with a finding), reason, last light, tray or headline on the tile; written from the list of
# outcomes by hand. Faults of one batch run at the same time on one bench, with healthy boards beside them.
FAULTS = (
    ("no_answer", None, "no_answer", Light.ACTION, "ACTION"),
    ("run_mode", None, "not_in_download_mode", Light.ACTION, "ACTION"),
    ("echo", None, "adapter_echo", Light.FAULT, "CALL"),
    ("port_busy", None, "port_busy", Light.FAULT, "CALL"),
    ("noise@0.05", "ERROR", "link_unreliable", Light.ACTION, "AGAIN"),
    ("drop@40", "ERROR", "link_lost", Light.ACTION, "AGAIN"),
    ("hang@40", "ERROR", "deadline", Light.ACTION, "AGAIN"),
    ("unplug@40", "ABORTED", "unplugged", Light.ACTION, "AGAIN"),
    ("removed@40", "ABORTED", "board_removed", Light.ACTION, "AGAIN"),
    ("reset@40", "ERROR", "board_reset", Light.ACTION, "AGAIN"),
    ("bad_md5", "FAIL", "verify_mismatch", Light.FAIL, "BAD"),
    ("unstable_md5", "ERROR", "verify_unstable", Light.ACTION, "AGAIN"),
    ("worn", "FAIL", "verify_mismatch", Light.FAIL, "BAD"),
    ("write_protected", "FAIL", "flash_write_protected", Light.FAIL, "BAD"),
    ("flash_dead", "FAIL", "flash_no_answer", Light.FAIL, "BAD"),
    ("flash_dead@000000", "FAIL", "flash_no_answer", Light.FAIL, "BAD"),
    ("flash_unknown", "ERROR", "flash_unknown", Light.FAULT, "CALL"),
    ("small_flash", "FAIL", "flash_too_small", Light.FAIL, "BAD"),
    ("fake_flash", "FAIL", "flash_size_fake", Light.FAIL, "BAD"),
    ("puya", "PASS", None, Light.PASS, "GOOD"),
    ("puya_loses", "FAIL", "filesystem_lost_data", Light.FAIL, "BAD"),
    ("needs_dout", "PASS", None, Light.PASS, "GOOD"),
    ("slow_flash", "PASS", None, Light.PASS, "GOOD"),
    ("no_boot", "FAIL", "no_boot", Light.FAIL, "BAD"),
    ("boot_loop", "FAIL", "boot_loop", Light.FAIL, "BAD"),
    ("brownout_wifi", "FAIL", "brownout", Light.FAIL, "BAD"),
    ("fs_corrupt", "FAIL", "filesystem_corrupt", Light.FAIL, "BAD"),
    ("repl_silent", "FAIL", "repl_silent", Light.FAIL, "BAD"),
    ("repl_garbage", "FAIL", "repl_garbage", Light.FAIL, "BAD"),
    ("fake_pass", "FAIL", "repl_garbage", Light.FAIL, "BAD"),
    ("traceback", "FAIL", "check_raised", Light.FAIL, "BAD"),
    ("out_of_limits", "FAIL", "out_of_limits", Light.FAIL, "BAD"),
    ("slow_clock", "PASS", None, Light.PASS, "GOOD"),
    ("little_ram", "FAIL", "out_of_limits", Light.FAIL, "BAD"),
    ("loses_much", "PASS", None, Light.PASS, "GOOD"),
    ("weak_radio", "PASS", None, Light.PASS, "GOOD"),
    ("radio_dead", "FAIL", "out_of_limits", Light.FAIL, "BAD"),
    ("gpio@2floating", "PASS", None, Light.PASS, "GOOD"),
    ("brownout_once", "FAIL", "brownout", Light.FAIL, "BAD"),
    ("crashes_once", "PASS", None, Light.PASS, "GOOD"),
    ("ap_stays", "FAIL", "access_point_open", Light.FAIL, "BAD"),
    ("forgets_network", "PASS", None, Light.PASS, "GOOD"),
    ("swapped", "ERROR", "identity_mismatch", Light.ACTION, "AGAIN"),
    ("bad_mac", "FAIL", "identity_invalid", Light.FAIL, "BAD"),
    ("bad_mac@multicast", "FAIL", "identity_invalid", Light.FAIL, "BAD"),
    ("bad_mac@oui", "FAIL", "identity_invalid", Light.FAIL, "BAD"),
    ("wrong_chip", "FAIL", "wrong_chip", Light.FAIL, "BAD"),
    ("twin_chip_id@{next}", "PASS", None, Light.PASS, "GOOD"),
    ("duplicate_mac@{next}", "ERROR", "duplicate_mac", Light.FAULT, "CALL"),
    ("reused_mac", "ERROR", "mac_reused", Light.FAULT, "CALL"),
    ("soft_reset_hangs", "PASS", None, Light.PASS, "GOOD"),
    ("no_soft_start", "PASS", None, Light.PASS, "GOOD"),
    ("adapter_deaf", None, "adapter_deaf", Light.FAULT, "CALL"),
    ("adapter_hung", None, "adapter_hung", Light.FAULT, "CALL"),
)
BATCH = 7


def _slot(number: int) -> str:
    return f"{'ABCDEFGH'[number // 8]}{number % 8 + 1}"


# Each fault has a slot of its own, and the one after it for the healthy board that some faults need.
_PLACED = [
    (batch, row, _slot(2 * position))
    for batch in range(0, len(FAULTS), BATCH)
    for position, row in enumerate(FAULTS[batch : batch + BATCH])
]


@pytest.fixture(scope="module")
def shifts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Shift]:
    """One run of the bench per batch of faults."""
    return {
        batch: work_a_shift(_request(tmp_path_factory.mktemp(f"batch{batch}"), batch))
        for batch in range(0, len(FAULTS), BATCH)
    }


def _request(tmp_path: Path, batch: int):
    faults = []
    for of_batch, row, slot in _PLACED:
        if of_batch == batch:
            neighbour = f"{slot[0]}{int(slot[1:]) + 1}"
            faults.append(f"{slot}:{row[0].format(next=neighbour)}")
    return request_for(tmp_path, slots=2 * BATCH, faults=faults)


def test_every_token_of_the_closed_list_is_here() -> None:
    """No fault that the bench can play is left without an expectation."""
    assert {row[0].partition("@")[0] for row in FAULTS} == set(FAULT_TOKENS)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("batch", "row", "slot"), _PLACED, ids=[row[0] for _, row, _ in _PLACED])
def test_a_fault_ends_as_the_list_says(shifts: dict[int, Shift], batch: int, row: tuple, slot: str) -> None:
    """The record has the outcome and the reason, the light and the tile say the tray, and green only ever means PASS."""
    _, outcome, reason, light, headline = row
    shift = shifts[batch]
    rows = shift.jobs(slot)
    if outcome is None:
        assert rows == []
        assert [visit["finding"] for visit in shift.visits(slot)] == [reason]
        assert shift.metric("station_visit_findings_total", reason=reason) >= 1
    else:
        closed = [job for job in rows if job["state"] == "closed"]
        assert (closed[-1]["outcome"], closed[-1]["reason"]) == (outcome, reason)
        assert shift.metric("station_jobs_total", slot=slot, outcome=outcome) >= 1
        if reason is not None:
            assert shift.metric("station_job_reasons_total", reason=reason) >= 1
    assert (shift.last_view(slot).light, shift.last_view(slot).headline) == (light, headline)
    assert shift.metric("station_slot_state", slot=slot, light=light.value) == 1
    if outcome != "PASS" and row[0] != "reused_mac":
        assert Light.PASS not in shift.lights(slot)


@pytest.mark.timeout(600)
def test_the_boards_beside_a_fault_pass(shifts: dict[int, Shift]) -> None:
    """A fault costs its own slot only: every healthy board on the same bench passes."""
    for batch, shift in shifts.items():
        faulty = {slot for of_batch, _, slot in _PLACED if of_batch == batch}
        held = {f"{slot[0]}{int(slot[1:]) + 1}" for of, row, slot in _PLACED if of == batch and "duplicate" in row[0]}
        healthy = set(shift.history) - faulty - held
        assert len(healthy) >= BATCH - 1
        assert {slot: [job["outcome"] for job in shift.jobs(slot)] for slot in healthy} == {
            slot: ["PASS"] for slot in healthy
        }


@pytest.mark.timeout(600)
def test_both_boards_with_one_mac_are_held(shifts: dict[int, Shift]) -> None:
    """One MAC in two slots at the same time is an ERROR in both."""
    batch, _, slot = next(placed for placed in _PLACED if "duplicate" in placed[1][0])
    other = f"{slot[0]}{int(slot[1:]) + 1}"
    assert [job["reason"] for job in shifts[batch].jobs(other)] == ["duplicate_mac"]


@pytest.mark.timeout(600)
def test_a_swapped_board_leaves_the_flashed_one_pending(shifts: dict[int, Shift]) -> None:
    """The board that was flashed stays pending under its own MAC; the one that answered has an ERROR row of its own."""
    batch, _, slot = next(placed for placed in _PLACED if placed[1][0] == "swapped")
    flashed, other = shifts[batch].jobs(slot)
    assert (flashed["state"], flashed["outcome"], flashed["reason"]) == ("pending", None, "identity_mismatch")
    assert (other["state"], other["outcome"], other["reason"]) == ("closed", "ERROR", "identity_mismatch")


@pytest.mark.timeout(600)
def test_the_demo_judges_by_the_same_list(shifts: dict[int, Shift]) -> None:
    """The scenario's own expectations agree with the records of every batch."""
    assert {batch: shift.result.problems for batch, shift in shifts.items()} == {batch: [] for batch in shifts}
