"""The closed list of reasons, held against the list of outcomes as it was agreed, copied here by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.model import Light
from station.reasons import MEANINGS, Reason, cause_of, words_for

# reason, outcome (None: a visit's finding, or a job that waits), tray, and words the person reads. Written by hand from
# the list of outcomes, never from the program; the words are a part that must be in what the person reads.
AGREED = (
    ("no_answer", None, "-", "no answer: re-seat the board, GPIO0 to GND, plug in again"),
    ("not_in_download_mode", None, "-", "hold GPIO0 to GND and plug in again"),
    ("adapter_echo", None, "CALL", "adapter echoes: TX and RX shorted"),
    ("port_busy", None, "CALL", "port held by X"),
    ("link_unreliable", "ERROR", "AGAIN", "bad contact: try"),
    ("link_lost", "ERROR", "AGAIN", "lost the board: try"),
    ("deadline", "ERROR", "AGAIN", "no progress: unplug, try"),
    ("unplugged", "ABORTED", "AGAIN", "pulled too early: half-flashed, do not ship"),
    ("board_removed", "ABORTED", "AGAIN", "lifted too early: half-flashed, do not ship"),
    ("board_reset", "ERROR", "AGAIN", "supply weak or bad contact: try"),
    ("verify_mismatch", "FAIL", "BAD", "flash memory faulty"),
    ("verify_unstable", "ERROR", "AGAIN", "supply or contact: try"),
    ("flash_write_protected", "FAIL", "BAD", "flash is write-protected"),
    ("flash_no_answer", "FAIL", "BAD", "flash does not answer"),
    ("flash_unknown", "ERROR", "CALL", "unknown flash chip, ask the engineer"),
    ("flash_too_small", "FAIL", "BAD", "X"),
    ("flash_size_fake", "FAIL", "BAD", "flash smaller than it claims"),
    ("filesystem_lost_data", "FAIL", "BAD", "flash loses data"),
    ("no_boot", "FAIL", "BAD", "does not start"),
    ("boot_loop", "FAIL", "BAD", "restarts for ever"),
    ("brownout", "FAIL", "BAD", "resets under load"),
    ("filesystem_corrupt", "FAIL", "BAD", "filesystem cannot be made"),
    ("repl_silent", "FAIL", "BAD", "no REPL"),
    ("repl_garbage", "FAIL", "BAD", "answers nonsense"),
    ("check_raised", "FAIL", "BAD", "check X crashed"),
    ("out_of_limits", "FAIL", "BAD", "X"),
    ("identity_mismatch", "ERROR", "AGAIN", "this is not the board that was flashed"),
    ("identity_invalid", "FAIL", "BAD", "no valid MAC"),
    ("wrong_chip", "FAIL", "BAD", "wrong part"),
    ("duplicate_mac", "ERROR", "CALL", "two boards with one MAC"),
    ("mac_reused", "ERROR", "CALL", "MAC seen before on another board"),
    ("adapter_deaf", None, "CALL", "programmer deaf: re-plug it"),
    ("adapter_hung", None, "CALL", "programmer hangs: re-plug it"),
    ("hub_disturbed", "ERROR", "AGAIN", "hub disturbed, wait"),
    ("station_restarted", "ABORTED", "AGAIN", "station restarted: half-flashed, do not ship"),
    ("image_changed", None, "CALL", "firmware file changed"),
    ("records_unwritable", None, "CALL", "records cannot be written"),
    ("already_done", None, "GOOD", "already done"),
)
# Reasons the list of outcomes did not have when it was agreed; each is in a decision record.
ADDED = (
    ("port_denied", None, "CALL", "no permission to open X"),
    ("station_stopped", "ABORTED", "AGAIN", "half-flashed, do not ship"),
    ("station_bug", "ERROR", "CALL", "station error: X"),
    ("evidence_missing", "ERROR", "CALL", "no proof of: X"),
    ("stopped_by_request", None, "-", "stopped after X as asked"),
    ("awaits_run_mode", None, "AGAIN", "flashed, not tested"),
    ("no_work_order", None, "-", "NO WORK ORDER"),
    ("no_recipe", None, "CALL", "NO RECIPE"),
    ("unknown_place", None, "-", "unknown place"),
)
ALL = AGREED + ADDED


@pytest.mark.parametrize(("reason", "outcome", "tray", "words"), ALL, ids=[row[0] for row in ALL])
def test_a_reason_means_what_was_agreed(reason: str, outcome: str | None, tray: str, words: str) -> None:
    """Outcome, tray and words of each reason are those of the list of outcomes."""
    meaning = MEANINGS[Reason(reason)]
    assert (meaning.outcome, meaning.tray) == (outcome, tray)
    assert words in words_for(Reason(reason), "X")


def test_the_list_is_closed() -> None:
    """Every reason of the program is agreed, every agreed reason is in the program, and each has exactly one meaning."""
    agreed = [row[0] for row in ALL]
    assert sorted(agreed) == sorted(reason.value for reason in Reason)
    assert set(MEANINGS) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_says_a_cause_and_a_deed(reason: Reason) -> None:
    """Nobody is left with a bare state name: there are words, a likely cause, and something for the hand to do."""
    meaning = MEANINGS[reason]
    for text in (words_for(reason, "D"), cause_of(reason, "D"), meaning.deed):
        assert text.strip() == text != ""
        assert "{" not in text
    assert words_for(reason) != ""


@pytest.mark.parametrize("reason", Reason)
def test_blame_and_tray_fit_together(reason: Reason) -> None:
    """Only a FAIL goes to BAD, an ABORTED is done AGAIN, an ERROR is done again or calls; no reason is ever a PASS."""
    trays = {"FAIL": {"BAD"}, "ERROR": {"AGAIN", "CALL"}, "ABORTED": {"AGAIN"}, None: {"AGAIN", "CALL", "GOOD", "-"}}
    meaning = MEANINGS[reason]
    assert meaning.tray in trays[meaning.outcome]


@pytest.mark.parametrize("reason", Reason)
def test_no_reason_lights_green(reason: Reason) -> None:
    """Green comes from a committed PASS alone: BAD is red, CALL calls the technician, everything else wants a hand."""
    meaning = MEANINGS[reason]
    expected = {"BAD": Light.FAIL, "CALL": Light.FAULT}.get(meaning.tray, Light.ACTION)
    assert meaning.light is expected


@given(detail=st.text())
def test_particulars_are_put_in_as_they_are(detail: str) -> None:
    """Braces, percent signs and the placeholder itself in a detail are text, not a format."""
    assert words_for(Reason.CHECK_RAISED, detail) == f"check {detail or '?'} crashed"
    assert words_for(Reason.NO_BOOT, detail) == "does not start"
