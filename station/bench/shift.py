"""What must be on record after an operator's shift: board by board, written down by hand.

An operator may plug one board in many times; what counts is what its rows say when everything is put away. Never imported
from, or derived from, the code that judges boards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from station.bench.chip import Chip
from station.model import format_mac

# A healthy board, whatever hands did to it on the way.
_GOOD = ("", "puya", "needs_dout", "slow_flash", "twin_chip_id", "no_soft_start", "soft_reset_hangs")
SHIFT_EXPECTED: dict[str, tuple[str, tuple[str, ...]]] = {
    **dict.fromkeys(_GOOD, ("PASS", ("",))),
    "bad_md5": ("FAIL", ("verify_mismatch",)),
    "worn": ("FAIL", ("verify_mismatch",)),
    "write_protected": ("FAIL", ("flash_write_protected",)),
    "flash_dead": ("FAIL", ("flash_no_answer",)),
    "small_flash": ("FAIL", ("flash_too_small",)),
    "fake_flash": ("FAIL", ("flash_size_fake",)),
    "puya_loses": ("FAIL", ("filesystem_lost_data",)),
    "brownout_wifi": ("FAIL", ("brownout",)),
    "traceback": ("FAIL", ("check_raised",)),
    "out_of_limits": ("FAIL", ("out_of_limits",)),
    "fake_pass": ("FAIL", ("repl_garbage",)),
    "no_boot": ("FAIL", ("no_boot",)),
    "boot_loop": ("FAIL", ("boot_loop",)),
    "repl_silent": ("FAIL", ("repl_silent",)),
}
"""Fault token (empty: none) -> outcome and reasons of the board's last closed job."""
# Where nothing can reset a board, one that never gives a prompt has no name: its job waits for a person to drop it.
WAITS_WITHOUT_LINES = ("no_boot", "boot_loop", "repl_silent")
_HANDS = ("unplugged", "board_removed", "station_stopped")


def check_playable(chips: Sequence[Chip]) -> None:
    """Raise ValueError for a fault of which it is not written down how a shift with it must end."""
    for chip in chips:
        for fault in chip.faults:
            if fault.token not in SHIFT_EXPECTED:
                known = ", ".join(sorted(token for token in SHIFT_EXPECTED if token))
                raise ValueError(
                    f"fault {fault}: not played with an operator, who plugs a board in many times; known: {known}"
                )


def check_shift(chips: Sequence[Chip], jobs: Sequence[Mapping[str, object]], *, lines: bool) -> list[str]:
    """Return a sentence for every board whose rows are not what they must be; empty when all are.

    `lines`: whether the programmers can reset a board. `jobs` are as `station demo --json` prints them, in the order in
    which they began.
    """
    return [f"{format_mac(chip.mac)}: {problem}" for chip in chips if (problem := _problem(chip, jobs, lines=lines))]


def _problem(chip: Chip, jobs: Sequence[Mapping[str, object]], *, lines: bool) -> str:
    mine = [job for job in jobs if job["mac"] == format_mac(chip.mac)]
    found = [(job["state"], job["outcome"], job["reason"]) for job in mine]
    token = chip.faults[0].token if chip.faults else ""
    if token in WAITS_WITHOUT_LINES and not lines:
        return "" if [state for state, *_ in found] == ["pending"] else f"expected one job that waits, got {found}"
    outcome, reasons = SHIFT_EXPECTED[token]
    if not mine or mine[-1]["outcome"] != outcome or (mine[-1]["reason"] or "") not in reasons:
        return f"expected {outcome} {reasons} at last, got {found}"
    if any(job["outcome"] == "PASS" for job in mine[:-1]):
        return f"made again after its PASS: {found}"
    if outcome == "PASS" and any(job["outcome"] != "ABORTED" or job["reason"] not in _HANDS for job in mine[:-1]):
        return f"a healthy board was held responsible for something: {found}"
    return ""
