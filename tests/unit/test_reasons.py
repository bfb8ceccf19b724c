"""The closed list of reasons, held against the list of outcomes as it was agreed, copied here by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.model import Light
from station.properties import ANY_SLOT, Gpio0, Moves, Reset, Role, SlotProperties
from station.reasons import HEADLINES, MEANINGS, Reason, cause_of, deed_for, headline_for, words_for

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
    ("awaits_run_mode", None, "AGAIN", "flashed, not tested: take GPIO0 off GND and plug in again"),
    ("awaits_test_slot", None, "-", "flashed, not tested: next, test slot X"),
    ("test_interrupted", None, "AGAIN", "taken out during the test: flashed, not tested, do not ship"),
    ("never_started", None, "CALL", "flashed, never tested: came back X times with GPIO0 at GND"),
    ("in_download_mode", None, "-", "take GPIO0 off GND and plug in again"),
    ("no_pending_job", None, "-", "nothing to test: flash this board first"),
    ("not_flashed_here", None, "CALL", "this board was not flashed here"),
    ("pending_elsewhere", None, "CALL", "flashed under another recipe: X"),
    ("passed_before", None, "CALL", "passed before as X: not flashed again"),
    ("marked_board", None, "CALL", "X board: never flashed"),
    ("attempts_used_up", None, "BAD", "judged not good X times"),
    ("inspected", None, "-", "inspected: X"),
    ("no_work_order", None, "-", "NO WORK ORDER"),
    ("no_recipe", None, "CALL", "NO RECIPE"),
    ("unknown_place", None, "-", "unknown place"),
    ("flash_rejected", "FAIL", "BAD", "flash chip not allowed: X"),
    ("layout_mismatch", "ERROR", "CALL", "filesystem is not where it was expected"),
    ("access_point_open", "FAIL", "BAD", "own access point stays on"),
    ("network_not_set", "FAIL", "BAD", "network: X"),
    ("check_hung", "FAIL", "BAD", "check X does not end"),
    ("no_values", None, "CALL", "no values for this board: X"),
    ("numbers_used_up", None, "CALL", "no serial numbers left: X"),
    ("secret_missing", None, "CALL", "secret not usable: X"),
    ("not_released", None, "CALL", "recipe not released: X"),
    ("proof_needed", None, "-", "first X"),
    ("first_article_runs", None, "-", "wait: first article in slot X"),
    ("golden_passed", None, "-", "golden board judged good"),
    ("golden_failed", None, "CALL", "golden board judged bad: X"),
    ("red_caught", None, "-", "red board judged bad, as it must"),
    ("red_missed", None, "CALL", "red board not caught: X"),
    ("supply_weak", "ERROR", "CALL", "supply too weak: golden board in slot X reset, too"),
    ("slot_quarantined", None, "CALL", "quarantined: X"),
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
    for text in (words_for(reason, "D"), cause_of(reason, "D"), deed_for(reason, "D")):
        assert text.strip() == text != ""
        assert "{" not in text
    assert words_for(reason) != ""


@pytest.mark.parametrize("reason", Reason)
def test_blame_and_tray_fit_together(reason: Reason) -> None:
    """Only a FAIL goes to BAD, an ABORTED is done AGAIN, an ERROR is done again or calls; no reason is ever a PASS."""
    trays = {"FAIL": {"BAD"}, "ERROR": {"AGAIN", "CALL"}, "ABORTED": {"AGAIN"}, None: {"AGAIN", "CALL", "GOOD", "-"}}
    meaning = MEANINGS[reason]
    if reason is Reason.ATTEMPTS_USED_UP:
        assert (meaning.outcome, meaning.tray) == (None, "BAD"), "its jobs have blamed it already, this visit is no job"
        return
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


# -- words for every kind of slot --------------------------------------------------------------------------------------

EVERY_SLOT = [
    SlotProperties(reset=reset, gpio0=gpio0, moves=moves, role=role)
    for reset in (*Reset, None)
    for gpio0 in (*Gpio0, None)
    for moves in Moves
    for role in Role
]
GROUND = ("GPIO0 to GND", "ground GPIO0")
FREE = ("GPIO0 off GND", "off GND", "jumper off")


def said_in(slot: SlotProperties, reason: Reason) -> str:
    """All that a hand reads: words and deed."""
    return f"{words_for(reason, 'X', slot)} / {deed_for(reason, 'X', slot)}"


def a_hand_moves_gpio0(slot: SlotProperties) -> bool:
    """By hand: a jumper, or a stick of which nobody knows better; where the line to EN is known a hand is found out."""
    return slot.gpio0 is Gpio0.HAND or (slot.gpio0 is None and slot.reset is not Reset.LINES)


@pytest.mark.parametrize("reason", Reason)
def test_nobody_is_told_to_move_what_no_hand_can_move(reason: Reason) -> None:
    """In every slot: GPIO0 is grounded or freed by words only where a hand does it."""
    for slot in EVERY_SLOT:
        if not a_hand_moves_gpio0(slot):
            assert not any(words in said_in(slot, reason) for words in (*GROUND, *FREE)), slot


@pytest.mark.parametrize("reason", Reason)
def test_a_soldered_slot_never_speaks_of_gpio0(reason: Reason) -> None:
    """With gpio0 = always_low the pin is not even named, nor is a jumper."""
    for slot in EVERY_SLOT:
        if slot.gpio0 is Gpio0.ALWAYS_LOW:
            said = said_in(slot, reason).lower()
            assert "gpio0" not in said
            assert "jumper" not in said


@pytest.mark.parametrize("reason", Reason)
def test_where_boards_move_nobody_is_told_to_plug(reason: Reason) -> None:
    """The programmer stays: a board is taken out and seated; only a broken programmer is plugged anew."""
    for slot in EVERY_SLOT:
        said = said_in(slot, reason).replace("re-plug it", "")
        if slot.board_moves:
            assert "plug" not in said, slot
        else:
            assert "take the board out" not in said


@pytest.mark.parametrize("reason", [Reason.NO_ANSWER, Reason.IN_DOWNLOAD_MODE])
def test_a_slot_that_does_not_flash_wants_no_grounded_gpio0(reason: Reason) -> None:
    """Where firmware is wanted nobody is told to hold GPIO0 to GND."""
    for slot in EVERY_SLOT:
        if not slot.flashes:
            assert not any(words in said_in(slot, reason) for words in GROUND), slot


@pytest.mark.parametrize(
    ("reason", "slot", "words", "deed"),
    [
        (Reason.NO_ANSWER, ANY_SLOT, "no answer: re-seat the board, GPIO0 to GND, plug in again", None),
        (
            Reason.NO_ANSWER,
            SlotProperties(gpio0=Gpio0.HAND, moves=Moves.BOARD),
            "no answer: take the board out, GPIO0 to GND, seat it again",
            "take the board out, GPIO0 to GND, seat it again",
        ),
        (Reason.NO_ANSWER, SlotProperties(gpio0=Gpio0.ALWAYS_LOW), "no answer: re-seat the board, plug in again", None),
        (Reason.NOT_IN_DOWNLOAD_MODE, ANY_SLOT, "hold GPIO0 to GND and plug in again", None),
        (
            Reason.NOT_IN_DOWNLOAD_MODE,
            SlotProperties(reset=Reset.LINES, gpio0=Gpio0.LINES),
            "the board does not enter its loader: re-seat it",
            "re-seat the board, plug in again",
        ),
        (
            Reason.AWAITS_RUN_MODE,
            SlotProperties(gpio0=Gpio0.HAND, moves=Moves.EITHER),
            "flashed, not tested: take the board out, GPIO0 off GND, seat it again",
            "take the board out, GPIO0 off GND, seat it again",
        ),
        (
            Reason.AWAITS_RUN_MODE,
            SlotProperties(gpio0=Gpio0.ALWAYS_LOW),
            "flashed, not tested: next, a slot that tests",
            "put the board into a slot that tests",
        ),
        (
            Reason.AWAITS_TEST_SLOT,
            ANY_SLOT,
            "flashed, not tested: next, test slot T1",
            "put the board into test slot T1",
        ),
        (
            Reason.NO_BOOT,
            SlotProperties(moves=Moves.BOARD),
            "does not start",
            "take the board out, put the board into BAD",
        ),
        (Reason.UNPLUGGED, ANY_SLOT, "pulled too early: half-flashed, do not ship", "plug in again"),
        (Reason.PROOF_NEEDED, ANY_SLOT, "first T1", "plug in T1"),
        (Reason.PROOF_NEEDED, SlotProperties(moves=Moves.BOARD), "first T1", "seat T1"),
    ],
)
def test_words_and_deed_fit_the_slot(reason: Reason, slot: SlotProperties, words: str, deed: str | None) -> None:
    """A few of them, by hand."""
    assert words_for(reason, "T1", slot) == words
    if deed is not None:
        assert deed_for(reason, "T1", slot) == deed


@pytest.mark.parametrize("reason", Reason)
def test_no_slot_leaves_a_hand_without_words(reason: Reason) -> None:
    """In every slot there is something to read and something to do, without a placeholder."""
    for slot in EVERY_SLOT:
        for text in (words_for(reason, "D", slot), deed_for(reason, "D", slot)):
            assert text.strip() == text != ""
            assert "{" not in text


@pytest.mark.parametrize("reason", Reason)
def test_the_headline_is_one_big_word(reason: Reason) -> None:
    """GOOD alone is for a committed PASS: a board that passed before has a word of its own."""
    headline = headline_for(reason)
    assert headline.isupper()
    assert headline not in ("GOOD", "PASS", "-")
    assert headline == HEADLINES.get(reason, headline)
    assert headline_for(Reason.ALREADY_DONE) == "ALREADY DONE"
    assert headline_for(Reason.AWAITS_RUN_MODE) == headline_for(Reason.AWAITS_TEST_SLOT) == "TEST NEXT"
