"""The open line and the loader behind it: what is tried again, what is not, and who it is."""

from __future__ import annotations

import dataclasses

import pytest

from station.errors import (
    BoardRestarted,
    IdentityInvalid,
    JobEnded,
    LineStopped,
    LinkCorrupt,
    LinkSilent,
    LoaderRefused,
    PortBusy,
    StationError,
)
from station.model import Measurement, StopCause
from station.properties import ANY_SLOT, Moves, SlotProperties
from station.reasons import Reason
from tests.unit.link_rig import corrupt, erases, rig, silent
from tests.unit.memory_records import AUTO
from tests.unit.scripted_board import MAC, MIB, OTHER_MAC, InstantStop, ScriptedBoard, at, for_ever, identity_of

# -- the ladder --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["stub", "baud", "chip", "erase", "write", "half", "written", "md5"])
@pytest.mark.parametrize(
    "broken", [silent(), corrupt(), LoaderRefused("checksum", 0xC100)], ids=lambda e: type(e).__name__
)
def test_a_link_that_breaks_once_is_tried_one_rung_lower(step: str, broken: StationError) -> None:
    """Wherever the conversation breaks, the step is done again at the next lower rate, and the record says so."""
    board = ScriptedBoard().on(step, [broken])
    made = rig(board)
    image = made.make()
    assert bytes(board.flash) == image.ljust(MIB, b"\xff")
    assert (made.evidence.baud_used, made.evidence.baud_fallbacks) == (230_400, 1)
    assert made.evidence.notes == [f"{type(broken).__name__} at 460800 baud: retry at 230400"]


@pytest.mark.parametrize("ladder", [(460_800, 230_400, 115_200), (230_400, 115_200), (115_200,)])
@pytest.mark.parametrize(("broken", "reason"), [(silent(), Reason.LINK_LOST), (corrupt(), Reason.LINK_UNRELIABLE)])
def test_each_rung_is_tried_once(ladder: tuple[int, ...], broken: StationError, reason: Reason) -> None:
    """A link that breaks at every rate ends the job after one try per rung: lost when silent, unreliable when damaged."""
    board = ScriptedBoard().on("half", for_ever(broken))
    made = rig(board, baud_ladder=ladder)
    ended = made.ends()
    assert (ended.reason, ended.detail) == (reason, f"{broken} at {ladder[-1]} baud")
    assert erases(board) == [str(baud) for baud in ladder]
    assert made.evidence.baud_fallbacks == len(ladder) - 1
    assert made.evidence.baud_used == ladder[0]


def test_one_damaged_answer_makes_the_link_unreliable() -> None:
    """Bytes that arrived damaged once are remembered: a link that is silent afterwards is unreliable, not lost."""
    board = ScriptedBoard().on("half", [corrupt(), silent(), silent()])
    made = rig(board)
    assert made.ends().reason is Reason.LINK_UNRELIABLE
    assert made.link.saw_corruption


def test_a_rung_that_broke_is_not_climbed_again() -> None:
    """What follows a fallback stays at the lower rate: VERIFY does not go back to the one that broke in FLASH."""
    board = ScriptedBoard().on("half", [silent()]).on("md5", at(2, silent()))
    made = rig(board)
    made.make()
    assert made.evidence.baud_used == 115_200
    assert made.evidence.baud_fallbacks == 2


def test_the_way_back_leads_through_the_rom_and_the_same_board() -> None:
    """Before it is written again a board is reset into its ROM at 115200 and says once more who it is."""
    board = ScriptedBoard().on("half", [silent()])
    rig(board).make()
    between = board.journal[board.journal.index("write at 460800") + 1 : board.journal.index("erase at 230400")]
    assert between[:2] == ["pulse", "connect at 115200"]
    assert [event.partition(" at ")[0] for event in between[2:]] == ["identity", "identity", "stub"]


def test_another_board_on_the_way_back_is_not_written() -> None:
    """A board that was exchanged while the link was broken is noticed before its first byte."""
    board = ScriptedBoard()

    def exchange() -> None:
        board.mac = OTHER_MAC
        board.flash[:] = b"\x77" * MIB
        raise LinkSilent("exchanged")

    board.on("half", [exchange])
    ended = rig(board).ends()
    assert ended.reason is Reason.IDENTITY_MISMATCH
    assert OTHER_MAC in ended.detail
    assert bytes(board.flash) == b"\x77" * MIB


# -- what is not tried again -------------------------------------------------------------------------------------------


def test_a_board_that_restarts_itself_is_not_written_again() -> None:
    """The ROM's boot message in the middle of a write is a supply that gives way, not a link to be slowed down."""
    board = ScriptedBoard().on("half", [BoardRestarted("ets Jan  8 2013")])
    assert rig(board).ends().reason is Reason.BOARD_RESET
    assert erases(board) == ["460800"]


def test_a_rom_where_the_stub_was_is_a_board_that_restarted() -> None:
    """After a silence the ROM answers instead of the stub: the board reset itself without a word."""
    board = ScriptedBoard()

    def restart() -> None:
        board.runs = "rom"
        raise LinkSilent("silence")

    assert rig(board.on("half", [restart])).ends().reason is Reason.BOARD_RESET
    assert erases(board) == ["460800"]


@pytest.mark.parametrize(
    ("moves", "reason"), [(Moves.BOARD, Reason.BOARD_REMOVED), (Moves.PROGRAMMER, Reason.BOARD_RESET)]
)
def test_another_board_in_the_place_of_the_written_one_is_a_hand_and_no_weak_supply(
    moves: Moves, reason: Reason
) -> None:
    """Where boards move the ROM that answers instead of the stub is asked for its name first."""
    board = ScriptedBoard()

    def exchange() -> None:
        board.mac, board.runs = OTHER_MAC, "rom"
        raise LinkSilent("silence")

    assert rig(board.on("half", [exchange]), dataclasses.replace(AUTO, moves=moves)).ends().reason is reason


def test_a_board_that_was_lifted_in_mid_write_is_said_to_be() -> None:
    """Silence of the line and of the ROM after a reset: nobody is in the socket any more."""
    board = ScriptedBoard()

    def lift() -> None:
        board.present = False

    assert rig(board.on("half", [lift])).ends().reason is Reason.BOARD_REMOVED
    assert erases(board) == ["460800"]


def test_a_board_lifted_after_damaged_bytes_is_said_to_be_lifted() -> None:
    """A contact that opens damages bytes first: the empty socket is found on the way back, and no programmer is blamed."""
    board = ScriptedBoard()

    def lift() -> None:
        board.present = False
        raise LinkCorrupt("contact opens")

    assert rig(board.on("half", [lift])).ends().reason is Reason.BOARD_REMOVED
    assert board.count("open") == 1


def test_a_board_that_is_there_and_silent_keeps_us_until_the_deadline() -> None:
    """A hung board is asked again and again and ends by the deadline, not by a guess that it is gone."""
    board = ScriptedBoard().on("half", [silent()]).on("connect", [None, *[LinkSilent("hangs") for _ in range(10_000)]])
    made = rig(board)
    made.stop = made.link._stop = InstantStop(board.clock, deadline_s=30)
    with pytest.raises(LineStopped) as stopped:
        made.make()
    assert stopped.value.cause is StopCause.DEADLINE
    assert board.clock.now_s - 1000 == pytest.approx(30, abs=1)
    assert erases(board) == ["460800"]


def test_without_reset_lines_a_silent_board_is_lost_at_once() -> None:
    """Where nothing can be reset nothing can be probed: the ladder ends as lost, without waiting for the deadline."""
    board = ScriptedBoard(lines=False).on("half", [silent()]).on("connect", [None, *[silent() for _ in range(9)]])
    assert rig(board).ends().reason is Reason.LINK_LOST
    assert board.clock.now_s - 1000 < 5


# -- a deaf programmer -------------------------------------------------------------------------------------------------


def test_a_deaf_programmer_is_opened_once_more() -> None:
    """A stalled pipe gives silence without an error (B-8): opening the port anew re-arms it, and the job goes on."""
    board = ScriptedBoard()

    def deaf() -> None:
        if board.count("open") < 2:
            raise LinkSilent("deaf")

    def hears() -> bool:
        return board.count("open") >= 2

    board.on("stub", for_ever(deaf)).on("connect", [None, *[deaf] * 50]).on("presence", for_ever(hears))
    made = rig(board)
    image = made.make()
    assert board.count("open") == 2
    assert bytes(board.flash) == image.ljust(MIB, b"\xff")


@pytest.mark.parametrize(("step", "properties"), [("chip", AUTO), ("identity", AUTO), ("identity", ANY_SLOT)])
def test_a_programmer_that_stays_deaf_calls_the_technician(step: str, properties: SlotProperties) -> None:
    """Opened twice and still deaf: it is the programmer, and nothing was written; also where nobody knows the lines yet."""
    board = ScriptedBoard().on(step, for_ever(silent())).on("connect", [None, *[silent() for _ in range(50)]])
    board.on("presence", for_ever(lambda: False))
    assert rig(board, properties).ends().reason is Reason.ADAPTER_DEAF
    assert board.count("open") == 2
    assert bytes(board.flash) == b"\x5a" * MIB


# -- who it is ---------------------------------------------------------------------------------------------------------


def test_the_identity_is_read_three_times_before_and_once_after() -> None:
    """At least three readings spread over at least the configured time lie before the first erase, one after the last byte."""
    board = ScriptedBoard()
    rig(board, identity_reads_over_s=0.6).make()
    erase, write = board.journal.index("erase at 460800"), board.journal.index("write at 460800")
    before = [event for event in board.journal[:erase] if event.startswith("identity")]
    times = sorted({float(event.split()[2]) for event in before})
    assert times == [0.0, 0.3, 0.6]
    assert all(before.count(f"identity at {time:.2f} s") >= 2 for time in times), "each is read until two agree"
    assert any(event.startswith("identity") for event in board.journal[write:])


@pytest.mark.parametrize("reading", [3, 4, 5, 6])
def test_a_board_exchanged_between_two_readings_is_not_written(reading: int) -> None:
    """Another MAC at any reading before the first erase ends the job with the flash as it was."""
    board = ScriptedBoard()

    def exchange() -> None:
        board.mac = OTHER_MAC

    made = rig(board.on("identity", at(reading, exchange)))
    with pytest.raises(JobEnded) as ended:
        made.make()
    assert ended.value.reason is Reason.IDENTITY_MISMATCH
    assert bytes(board.flash) == b"\x5a" * MIB
    assert not made.evidence.flash_touched


def test_a_board_lifted_between_two_readings_is_not_written() -> None:
    """An empty socket at the second reading ends the visit before the first erase."""
    board = ScriptedBoard()

    def lift() -> None:
        board.present = False

    made = rig(board.on("identity", at(3, lift)))
    with pytest.raises(JobEnded):
        made.make()
    assert erases(board) == []
    assert bytes(board.flash) == b"\x5a" * MIB


def test_a_board_exchanged_during_the_write_is_noticed_after_the_last_byte() -> None:
    """Who is there after the last byte must be who was there before the first."""
    board = ScriptedBoard()

    def exchange() -> None:
        board.mac = OTHER_MAC

    made = rig(board.on("written", [exchange]))
    assert made.ends().reason is Reason.IDENTITY_MISMATCH
    assert made.value("mac_after_write") is None
    assert made.value("flash_md5") is None


def test_the_same_mac_on_another_flash_word_is_another_identity() -> None:
    """All OTP words count, not the MAC alone: a board that differs in one of them is not the same."""
    board = ScriptedBoard()
    other = dataclasses.replace(identity_of(MAC), otp_words=(0, 1, 2, 4))
    board.on("identity", [None, None, *[lambda: other] * 10])
    assert rig(board).ends().reason is Reason.IDENTITY_MISMATCH


def test_an_identity_that_flickers_once_is_read_again() -> None:
    """Replies carry no checksum: one odd reading is not believed, and a note is not even needed."""
    board = ScriptedBoard().on("identity", at(1, lambda: identity_of(OTHER_MAC)))
    made = rig(board)
    made.make()
    assert made.evidence.observed_mac == MAC
    assert made.value("mac_after_write") == Measurement(name="mac_after_write", value=MAC)


def test_an_identity_that_never_settles_is_a_bad_line() -> None:
    """Readings of which no two in a row agree blame the line, after CONNECT was tried three times."""
    flicker = [lambda mac=f"5c:cf:7f:00:00:{number:02x}": identity_of(mac) for number in range(60)]
    made = rig(ScriptedBoard().on("identity", flicker))
    with pytest.raises(LinkCorrupt):
        made.connect()
    assert made.link.saw_corruption
    assert made.board.count("connect at 115200") == 3


def test_what_was_read_of_an_invalid_identity_is_kept() -> None:
    """A board without a usable MAC leaves what was read in the evidence, for the record of its FAIL."""
    made = rig(ScriptedBoard().on("identity", for_ever(IdentityInvalid("zero", observed="00:00:00:00:00:00"))))
    with pytest.raises(IdentityInvalid):
        made.connect()
    assert (made.evidence.identity, made.evidence.observed_mac) == (None, "00:00:00:00:00:00")


# -- the port ----------------------------------------------------------------------------------------------------------


def test_a_busy_port_is_tried_three_times_over_the_configured_time() -> None:
    """ModemManager and brltty let go after seconds (B-5): the holder is shown meanwhile, and the third try may work."""
    busy = PortBusy("/dev/scripted", "ModemManager (42)")
    made = rig(ScriptedBoard().on("open", [busy, busy]), port_busy_s=10.0)
    made.connect()
    assert made.board.count("open") == 3
    assert made.board.clock.now_s - 1000 >= 10.0
    assert [step.note for step in made.told][:2] == ["port held by ModemManager (42)"] * 2


def test_a_port_that_stays_busy_names_its_holder() -> None:
    """After the third try the holder is known to whoever reads the finding."""
    busy = PortBusy("/dev/scripted", "screen (42)")
    made = rig(ScriptedBoard().on("open", for_ever(busy)))
    with pytest.raises(PortBusy, match=r"screen \(42\)"):
        made.connect()
    assert made.board.count("open") == 3


def test_closing_twice_releases_once() -> None:
    """The port is released once, its transcript is gone with it, and the next use opens it anew."""
    made = rig()
    made.connect()
    assert made.link.transcript == b"what the board said"
    made.link.close()
    made.link.close()
    assert made.board.journal[-1] == "close"
    assert made.board.count("close") == 1
    assert made.link.transcript == b""
    assert made.link.line is not None
    assert made.board.count("open") == 2
