"""When the board's own LED is lit: after the record, never instead of it, and whatever happens then changes nothing."""

from __future__ import annotations

import pytest

from station.blinking import code_for
from station.errors import LineStopped, PortGone, ReplSilent
from station.model import Outcome, StopCause
from station.properties import Gpio0, Moves, Reset, SlotProperties
from tests.unit.job_rig import recipe_for, visited
from tests.unit.scripted_board import ScriptedBoard

LIT = recipe_for('[signal]\nled = "gpio2"\n')
WRONG = {"cpu_frequency": b"52000000"}


def lights(board: ScriptedBoard) -> list[str]:
    """What the LED did."""
    return [event for event in board.journal if event.startswith("blinks")]


def test_pass_blinks_slowly_after_its_record_and_before_the_port_is_released() -> None:
    """The row is closed first; the port is closed last, once."""
    shown = visited(recipe=LIT)
    assert shown.job.outcome is Outcome.PASS
    journal = shown.board.journal
    assert lights(shown.board) == ["blinks at 1 Hz"]
    assert journal.index("job row closed") < journal.index("blinks at 1 Hz") < journal.index("close")
    assert journal.count("close") == 1


def test_fail_blinks_fast_where_the_prompt_answers() -> None:
    """A value out of its limits: the firmware runs, so the board can say so."""
    shown = visited(ScriptedBoard(checks=dict(WRONG)), LIT)
    assert shown.job.outcome is Outcome.FAIL
    assert lights(shown.board) == ["blinks at 8 Hz"]


def test_without_a_wish_the_port_is_released_before_the_record() -> None:
    """As ever: nothing of the light is in the way of a recipe that wants none."""
    shown = visited()
    assert lights(shown.board) == []
    assert shown.board.journal.index("close") < shown.board.journal.index("job row closed")


@pytest.mark.parametrize(
    "trouble",
    [ReplSilent("nothing"), PortGone("pulled"), LineStopped(StopCause.UNPLUGGED), LineStopped(StopCause.SHUTDOWN)],
)
@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.FAIL])
def test_a_board_that_cannot_be_told_keeps_its_verdict(trouble, outcome) -> None:
    """Silent, pulled or stopped at that very moment: the row stands, the port is released."""
    board = ScriptedBoard(script={"blink": iter([trouble])})
    board.checks |= WRONG if outcome is Outcome.FAIL else {}
    shown = visited(board, LIT)
    assert shown.job.outcome is outcome
    assert lights(shown.board) == []
    assert "close" in shown.board.journal


@pytest.mark.parametrize("broken", ["station.blinking.show", "station.proofs.watch_slot"])
def test_a_mistake_of_ours_after_the_record_releases_the_port(monkeypatch, broken) -> None:
    """The port that was kept open for the light is not kept for ever, and the row stands."""

    def raises(*_what: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(broken, raises)
    shown = visited(ScriptedBoard(), LIT)
    assert shown.job.outcome is Outcome.PASS
    assert shown.board.journal[-1] == "close"


def test_what_is_not_on_record_is_not_shown() -> None:
    """The database is full: the result is held, and the board stays dark."""
    shown = visited(recipe=LIT, refuse={"finish_job"})
    assert lights(shown.board) == []
    assert "close" in shown.board.journal


def test_a_board_that_never_started_stays_dark() -> None:
    """FAIL without a firmware that answers: nobody is asked, and the port is released first."""
    board = ScriptedBoard(protected="for good")
    shown = visited(board, LIT)
    assert shown.job.outcome is Outcome.FAIL
    assert lights(board) == []
    assert board.journal.index("close") < board.journal.index("job row closed")


def test_an_error_of_the_station_is_not_shown_on_the_board() -> None:
    """Only PASS and FAIL are about the board."""
    board = ScriptedBoard(script={"run": iter([None, RuntimeError("ours")])})
    shown = visited(board, LIT)
    assert shown.job.outcome is Outcome.ERROR
    assert lights(board) == []


def test_no_board_blinks_where_the_station_asks_its_loader() -> None:
    """Boards move and lines reset them: the firmware ends with the visit."""
    fixture = SlotProperties(reset=Reset.LINES, gpio0=Gpio0.LINES, moves=Moves.BOARD)
    shown = visited(recipe=LIT, properties=fixture)
    assert shown.job.outcome is Outcome.PASS
    assert lights(shown.board) == []


def test_the_led_is_on_for_half_of_the_time() -> None:
    """One LED hangs at VCC, the other at GND: with half a period each both blink alike."""
    assert code_for(2, 8) == "import machine;machine.PWM(machine.Pin(2),freq=8,duty=512)"
