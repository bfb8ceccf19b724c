"""What a tile says: the words of each state, and those of a result in each kind of slot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from station.model import CommittedJob, JobState, Outcome
from station.properties import Gpio0, Moves, Reset, Role, SlotProperties
from station.reasons import MEANINGS, Reason, cause_of, deed_for, headline_for, words_for
from station.slotwords import Texts, texts_of
from station.transitions import Blocked, SlotState
from station.visit import Finding

STICK = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.HAND)
FIXTURE = SlotProperties(reset=Reset.LINES, gpio0=Gpio0.LINES, moves=Moves.BOARD)
PASS = CommittedJob(
    id="job-1",
    slot="A1",
    mac="5c:cf:7f:dd:c1:42",
    chip_id=0xDDC142,
    state=JobState.CLOSED,
    outcome=Outcome.PASS,
    reason="",
    detail="",
    phases=(),
    measurements=(),
)


def finding(reason: Reason, detail: str = "") -> Finding:
    """A visit without a job."""
    return Finding(visit_id="v", reason=reason, detail=detail)


def test_a_pass_says_where_the_hand_puts_it_and_at_which_attempt_it_came() -> None:
    """The first attempt is not mentioned; a later one is, and the deed follows what moves."""
    assert texts_of(SlotState.PASS, PASS, STICK) == Texts(
        headline="GOOD", words="passed", deed="unplug, put the board into GOOD"
    )
    third = texts_of(SlotState.PASS, replace(PASS, attempt=3), FIXTURE)
    assert (third.words, third.deed) == ("passed on attempt 3", "take the board out, put it into GOOD")


def test_an_empty_socket_asks_for_a_board() -> None:
    """READY looks empty and says what to do; a test slot wants a board that was flashed."""
    assert texts_of(SlotState.READY, None, FIXTURE) == Texts(headline="EMPTY", words="seat a board")
    testing = replace(FIXTURE, role=Role.TEST)
    assert texts_of(SlotState.READY, None, testing).words == "seat a flashed board"
    assert texts_of(SlotState.EMPTY, None, FIXTURE) == Texts(headline="EMPTY")


def test_a_programmer_without_its_board_says_so() -> None:
    """The board was lifted from a stick that stayed: nothing of it is shown, and the hand knows what to do."""
    texts = texts_of(SlotState.LIFTED, PASS, STICK)
    assert texts == Texts(headline="EMPTY", words="board gone: plug in again", deed="plug in again")


@pytest.mark.parametrize("properties", [STICK, FIXTURE, replace(FIXTURE, role=Role.TEST, gpio0=Gpio0.NEVER_LOW)])
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_speaks_with_the_words_of_the_one_place(reason: Reason, properties: SlotProperties) -> None:
    """Headline, words, deed and cause are those of `station.reasons` for this kind of slot, with the particulars in."""
    for shown, state in ((finding(reason, "D"), SlotState.ACTION), (Blocked(reason, "D"), SlotState.WAITING)):
        assert texts_of(state, shown, properties) == Texts(
            headline=headline_for(reason),
            words=words_for(reason, "D", properties),
            deed=deed_for(reason, "D", properties),
            reason=reason,
            cause=cause_of(reason, "D"),
        )


def test_nobody_is_told_to_unplug_where_the_programmer_stays() -> None:
    """In a fixture every sentence is about the board."""
    for reason in Reason:
        texts = texts_of(SlotState.ACTION, finding(reason, "D"), FIXTURE)
        assert "unplug" not in texts.words + texts.deed, reason
        assert "plug in again" not in texts.words + texts.deed, reason


def test_the_slot_for_another_try_is_named() -> None:
    """An ERROR asks for another slot; where one is free it is that one."""
    shown = finding(Reason.LINK_LOST)
    named = texts_of(SlotState.ACTION, shown, STICK, elsewhere="B3")
    assert named.words == "lost the board: try slot B3"
    assert named.deed == "unplug, try slot B3"
    assert "another slot" in texts_of(SlotState.ACTION, shown, STICK).words


def test_an_error_in_two_slots_goes_into_the_bad_tray() -> None:
    """A closed FAIL with the reason of an ERROR: the tray is the outcome's, the words are the reason's."""
    row = replace(PASS, outcome=Outcome.FAIL, reason="link_lost", detail="the same in slot A2 before")
    texts = texts_of(SlotState.FAIL, row, FIXTURE)
    assert (texts.headline, texts.deed) == ("BAD", "take the board out, put the board into BAD")
    assert texts.reason == Reason.LINK_LOST


def test_a_pulled_board_is_spoken_of_while_its_visit_is_closed() -> None:
    """The words of an early pull, whatever the visit will say."""
    assert texts_of(SlotState.CLOSING, None, STICK).words == MEANINGS[Reason.UNPLUGGED].words


def test_the_words_of_a_result_leave_its_notes_out() -> None:
    """The first line of a row's detail is what the words speak of; the rest is for the record."""
    row = replace(PASS, outcome=Outcome.FAIL, reason="check_raised", detail="free_ram\nTraceback")
    assert texts_of(SlotState.FAIL, row, STICK).words == "check free_ram crashed"
