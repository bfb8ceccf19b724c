"""What a slot turns out to be while it is used, and what silence means where boards move and the programmer stays."""

from __future__ import annotations

import dataclasses

import pytest

from station.errors import FirmwareAnswers, JobEnded, LinkSilent
from station.properties import ANY_SLOT, Gpio0, Moves, Reset, Role, SlotProperties
from station.reasons import Reason
from tests.unit.job_rig import flashed_board
from tests.unit.link_rig import Rig, rig, silent
from tests.unit.scripted_board import MIB, OTHER_MAC, ScriptedBoard, at
from tests.unit.scripted_talk import ScriptedLine

# -- boards that move while the programmer stays -----------------------------------------------------------------------

SOCKET = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.HAND, moves=Moves.BOARD)


@pytest.mark.parametrize("moves", [Moves.BOARD, Moves.EITHER])
@pytest.mark.parametrize("reset", [Reset.NONE, Reset.LINES])
@pytest.mark.parametrize("step", ["erase", "write", "half", "written", "md5"])
def test_silence_in_mid_write_is_a_lifted_board_where_boards_move(step: str, reset: Reset, moves: Moves) -> None:
    """No uevent tells it: before the link is blamed somebody is looked for, and the baud ladder is not touched."""
    lines = reset is Reset.LINES
    board = ScriptedBoard(lines=lines, gpio0="low")

    def lift() -> None:
        board.present = False

    # The first MD5 is asked for before anything is written.
    board.on(step, at(2 if step == "md5" else 1, lift))
    made = rig(board, dataclasses.replace(SOCKET, reset=reset, moves=moves))
    assert made.ends().reason is Reason.BOARD_REMOVED
    assert (made.evidence.baud_fallbacks, made.evidence.notes) == (0, [])
    assert board.clock.now_s - 1000 < 5


def test_where_programmers_move_silence_stays_a_lost_link() -> None:
    """Without lines and without moving boards nothing can tell, so nobody is said to have lifted it."""
    board = ScriptedBoard(lines=False)

    def lift() -> None:
        board.present = False

    assert rig(board.on("half", [lift])).ends().reason is Reason.LINK_LOST


def test_a_board_that_is_there_is_slowed_down_where_boards_move() -> None:
    """Silence of a board whose loader still answers is the link's, as everywhere."""
    made = rig(ScriptedBoard(lines=False).on("half", [silent()]), SOCKET)
    made.make()
    assert (made.evidence.baud_used, made.evidence.baud_fallbacks) == (230_400, 1)


def test_before_the_first_write_nobody_is_said_to_have_lifted_it() -> None:
    """Nothing is half-flashed, so there is nothing to warn of."""
    board = ScriptedBoard(lines=False)

    def lift() -> None:
        board.present = False

    made = rig(board.on("chip", [lift]), SOCKET)
    assert made.ends().reason is Reason.LINK_LOST
    assert not made.evidence.flash_touched


# -- what a slot turns out to be ---------------------------------------------------------------------------------------


def learned(made: Rig) -> list[tuple[Reset | None, Gpio0 | None]]:
    """What was found out, in order; each with its evidence."""
    assert all(what.evidence for what in made.learned)
    return [(what.reset, what.gpio0) for what in made.learned]


@pytest.mark.parametrize(
    ("lines", "modem_lines", "reset"),
    [(True, True, Reset.LINES), (False, True, Reset.NONE), (False, False, Reset.NONE)],
)
@pytest.mark.parametrize("gpio0", ["lines", "low"])
def test_the_first_board_tells_whether_a_line_resets(lines: bool, modem_lines: bool, reset: Reset, gpio0) -> None:  # noqa: FBT001
    """A pulse brings the boot message, or the board answers on as if nothing had happened, or there is no line at all."""
    board = ScriptedBoard(lines=lines, modem_lines=modem_lines, gpio0=gpio0 if lines else "low")
    made = rig(board, ANY_SLOT)
    image = made.make()
    assert learned(made) == [(reset, None)]
    assert made.link.properties.reset is reset
    assert made.evidence.baud_fallbacks == 0, "after the pulse the ROM is synchronised with again"
    assert bytes(board.flash) == image.ljust(MIB, b"\xff"), "the pulse does no harm"
    assert ("legacy stub" in board.journal) is (reset is Reset.NONE)


def test_a_pulse_nobody_can_judge_teaches_nothing() -> None:
    """No message, and no answer afterwards either: the slot stays unknown, and the job finds out why."""
    board = ScriptedBoard()

    def lift() -> bool:
        board.present = False
        return False

    made = rig(board.on("presence", [lift]), ANY_SLOT)
    with pytest.raises(JobEnded):
        made.connect()
    assert made.learned == []


def test_an_unknown_slot_is_probed_only_when_a_board_answers() -> None:
    """An empty programmer teaches nothing about its lines."""
    made = rig(ScriptedBoard(present=False), ANY_SLOT)
    with pytest.raises(LinkSilent):
        made.connect()
    assert made.learned == []
    assert made.board.count("pulse") == 0


@pytest.mark.parametrize(("gpio0", "found", "started"), [("lines", Gpio0.LINES, True), ("low", Gpio0.HAND, False)])
def test_the_first_start_tells_who_holds_gpio0(gpio0, found: Gpio0, started: bool) -> None:  # noqa: FBT001
    """The ROM's boot message after a reset with GPIO0 released says it: mode 1 is the loader."""
    made = rig(ScriptedBoard(gpio0=gpio0), SlotProperties(reset=Reset.LINES))
    made.make()
    assert made.link.reset_into_firmware() is started
    assert learned(made) == [(None, found)]
    assert made.board.runs == ("firmware" if started else "rom")
    line = made.link.line
    assert isinstance(line, ScriptedLine)
    assert line.baud == 115_200


def test_a_start_whose_message_was_not_heard_teaches_nothing() -> None:
    """Without the boot message the firmware is given the benefit of the doubt."""
    board = ScriptedBoard()
    board.watch = lambda event: board.on("sign of life", [lambda: b"\x00"] * 99) if event.startswith("reset") else None  # type: ignore[assignment, return-value]
    made = rig(board, SlotProperties(reset=Reset.LINES))
    made.make()
    board.said = b""
    board.lines = False
    assert made.link.reset_into_firmware()
    assert made.learned == []


def test_where_no_line_resets_the_modem_lines_are_never_touched() -> None:
    """Reset = none is a promise: not one pulse, whatever happens."""
    board = ScriptedBoard(lines=False, modem_lines=True).on("half", [silent()])
    rig(board).make()
    assert not any(event.startswith(("reset", "pulse")) for event in board.journal)


@pytest.mark.parametrize("kept", [True, False], ids=["in the stub", "lost"])
def test_a_start_by_software_leaves_the_loader_it_is_in(kept: bool) -> None:  # noqa: FBT001
    """The stub that runs is told; after a break the ROM is asked for the same board first."""
    board = ScriptedBoard(lines=False)
    made = rig(board)
    made.make()
    if not kept:
        board.runs = "rom"
        made.link._in_stub = False
    mark = len(board.journal)
    made.link.start_firmware_by_software()
    assert board.runs == "firmware"
    assert board.journal[mark:][-1] == "start firmware"
    assert any(event.startswith("identity") for event in board.journal[mark:]) is not kept
    assert not made.link.loader_still_answers()


def test_another_board_is_not_started_by_software() -> None:
    """Who was exchanged meanwhile is noticed on the way."""
    board = ScriptedBoard(lines=False)
    made = rig(board)
    made.make()
    made.link._in_stub, board.mac = False, OTHER_MAC
    with pytest.raises(JobEnded, match="identity_mismatch"):
        made.link.start_firmware_by_software()
    assert board.count("start firmware") == 0


@pytest.mark.parametrize(
    ("gpio0", "resets"), [(Gpio0.LINES, 4), (None, 4), (Gpio0.HAND, 2), (Gpio0.ALWAYS_LOW, 2), (Gpio0.NEVER_LOW, 2)]
)
def test_a_firmware_is_not_reset_again_and_again_where_the_line_does_not_move_gpio0(
    gpio0: Gpio0 | None, resets: int
) -> None:
    """More resets would only make its words come later: they cannot bring the loader."""
    board = flashed_board(gpio0="free")
    made = rig(board, SlotProperties(reset=Reset.LINES, gpio0=gpio0, role=Role.TEST))
    before = board.resets
    with pytest.raises(FirmwareAnswers):
        made.connect()
    assert board.resets - before == resets
