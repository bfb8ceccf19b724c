"""CONNECT, FLASH and VERIFY against a scripted board: what is tried again, what is not, and what is never believed."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station.config import FlashingSection
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
from station.flashing import BoardLink, Evidence, image_for
from station.model import FlashChip, Measurement, Progress, StopCause
from station.reasons import Reason
from station.recipe import Recipe
from tests.unit.scripted_board import (
    MAC,
    MIB,
    OTHER_MAC,
    PROGRAMMER,
    Act,
    InstantStop,
    ScriptedBoard,
    ScriptedFlasher,
    at,
    for_ever,
    identity_of,
)
from tests.unit.small_image import small_recipe

LADDER = (460_800, 230_400, 115_200)
SETTINGS = FlashingSection(baud_ladder=LADDER, identity_reads_over_s=0.3)


class Rig:
    """A link to one scripted board, and the three steps of the loader's half of a job."""

    def __init__(self, board: ScriptedBoard, recipe: Recipe, flashing: FlashingSection = SETTINGS) -> None:
        self.board, self.recipe = board, recipe
        self.evidence = Evidence()
        self.told: list[Progress] = []
        self.stop = InstantStop(board.clock)
        self.link = BoardLink(
            programmer=PROGRAMMER,
            opener=board,
            flasher=ScriptedFlasher(board),
            stop=self.stop,
            settings=flashing,
            evidence=self.evidence,
            clock=board.clock,
            tell=self.told.append,
        )

    def connect(self) -> FlashChip:
        """CONNECT."""
        self.link.connect()
        return self.link.read_chip(self.recipe)

    def make(self) -> bytes:
        """CONNECT, FLASH and VERIFY; return the image."""
        chip = self.connect()
        image = image_for(self.recipe, chip, "dout")
        self.evidence.flash_mode = "dout"
        self.link.write(image)
        self.link.verify(image, chip)
        return image

    def ends(self) -> JobEnded:
        """Do all of it, which must end early for a reason of the closed list; nothing was proved."""
        with pytest.raises(JobEnded) as ended:
            self.make()
        return ended.value

    def value(self, name: str) -> Measurement | None:
        """The measurement of that name."""
        return next((each for each in self.evidence.measurements if each.name == name), None)


@functools.cache
def _recipe(size_bytes: int = 0x9400) -> Recipe:
    with tempfile.TemporaryDirectory() as directory:
        return small_recipe(Path(directory), size_bytes=size_bytes)  # type: ignore[arg-type]


def rig(board: ScriptedBoard | None = None, **changes) -> Rig:
    """A rig for this board."""
    return Rig(board or ScriptedBoard(), _recipe(), msgspec.structs.replace(SETTINGS, **changes))


def silent() -> LinkSilent:
    """Nothing came back."""
    return LinkSilent("nothing came back")


def corrupt() -> LinkCorrupt:
    """Something else came back."""
    return LinkCorrupt("invalid head of packet")


def erases(board: ScriptedBoard) -> list[str]:
    """The rates at which the chip was erased, in order."""
    return [event.removeprefix("erase at ") for event in board.journal if event.startswith("erase")]


# -- what a good board gets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_bytes", [MIB, 2 * MIB, 4 * MIB])
def test_a_good_board_holds_the_image_and_nothing_else(size_bytes: int) -> None:
    """After VERIFY every byte of the flash is the image's or blank, and each proof of it is a measurement."""
    board = ScriptedBoard(claimed_bytes=size_bytes, real_bytes=size_bytes)
    made = rig(board)
    image = made.make()
    assert bytes(board.flash) == image.ljust(size_bytes, b"\xff")
    assert image[2:4] == bytes([3, {MIB: 0x20, 2 * MIB: 0x30, 4 * MIB: 0x40}[size_bytes]])
    assert made.evidence.identity == identity_of(MAC)
    assert made.evidence.flash == FlashChip(jedec_id=board.jedec_id, size_bytes=size_bytes)
    assert (made.evidence.baud_used, made.evidence.baud_fallbacks) == (460_800, 0)
    assert (made.evidence.bytes_flashed, made.evidence.flash_touched) == (len(image), True)
    assert {each.name: each.value for each in made.evidence.measurements} == {
        "flash_md5": hashlib.md5(image, usedforsecurity=False).hexdigest(),
        "flash_real_size": size_bytes,
        "flash_rest_blank": True,
        "mac_after_write": MAC,
    }
    assert made.evidence.notes == []
    assert erases(board) == ["460800"]


def test_progress_is_told_from_erase_to_the_last_byte() -> None:
    """The tile sees the erase, with the time it may take, then growing fractions up to the whole."""
    made = rig()
    made.make()
    fractions = [step.fraction for step in made.told if step.note in ("erasing", "writing")]
    assert fractions == [0.0, 0.5, 1.0]
    assert next(step.allow_s for step in made.told if step.note == "erasing") == pytest.approx(125.0)


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
    assert between[0] == "connect at 115200"
    assert [event.partition(" at ")[0] for event in between[1:]] == ["identity", "identity", "stub"]


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


def test_a_programmer_that_stays_deaf_calls_the_technician() -> None:
    """Opened twice and still deaf: it is the programmer, and nothing was written."""
    board = ScriptedBoard().on("chip", for_ever(silent())).on("connect", [None, *[silent() for _ in range(50)]])
    board.on("presence", for_ever(lambda: False))
    assert rig(board).ends().reason is Reason.ADAPTER_DEAF
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


# -- what cannot carry the recipe --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jedec_id", "size_bytes", "reason", "detail"),
    [
        (0x000000, None, Reason.FLASH_NO_ANSWER, "000000"),
        (0xFFFFFF, None, Reason.FLASH_NO_ANSWER, "ffffff"),
        (0xFFFF3F, None, Reason.FLASH_NO_ANSWER, "ffff3f"),
        (0x0040EF, None, Reason.FLASH_UNKNOWN, "0040ef"),
        (0x1340EF, 512 << 10, Reason.FLASH_TOO_SMALL, "512 KB board, this product needs 1 MB"),
        (0x1240EF, 256 << 10, Reason.FLASH_TOO_SMALL, "256 KB board, this product needs 1 MB"),
        (0x1940EF, 32 << 20, Reason.FLASH_UNKNOWN, "1940ef"),
    ],
)
def test_a_flash_that_cannot_carry_the_recipe_is_refused_unwritten(
    jedec_id: int, size_bytes: int | None, reason: Reason, detail: str
) -> None:
    """Dead, unknown and too small flash chips are told apart before the first byte, by words that name them."""
    board = ScriptedBoard(jedec_id=jedec_id, claimed_bytes=size_bytes, real_bytes=MIB)
    ended = rig(board).ends()
    assert (ended.reason, ended.detail) == (reason, detail)
    assert bytes(board.flash) == b"\x5a" * MIB
    assert not any(event.startswith(("erase", "write")) for event in board.journal)


def test_an_image_larger_than_its_recipe_thinks_is_refused() -> None:
    """The image itself must fit, whatever the recipe says of the smallest flash."""
    made = rig()
    made.recipe = msgspec.structs.replace(_recipe(2 * MIB), minimum_flash_bytes=MIB)
    assert made.ends().reason is Reason.FLASH_TOO_SMALL
    assert erases(made.board) == []


# -- MD5: what is believed ---------------------------------------------------------------------------------------------


def test_one_damaged_md5_answer_is_asked_for_again() -> None:
    """A wrong answer is asked for twice before anything is erased, since answers carry no checksum of their own."""
    board = ScriptedBoard().on("md5", at(2, lambda: "0" * 32))
    made = rig(board)
    made.make()
    assert erases(board) == ["460800"]
    assert made.evidence.notes == []


def test_the_same_wrong_content_after_two_writes_is_the_flash() -> None:
    """A bit that cannot be 1 again gives the same wrong MD5 twice: the board is to blame (A-12)."""
    board = ScriptedBoard(stuck={0x4321: 0xFE})
    image = bytearray(_recipe().image)
    assert image[0x4321] & 1, "the stuck bit must matter"
    made = rig(board)
    ended = made.ends()
    assert ended.reason is Reason.VERIFY_MISMATCH
    assert erases(board) == ["460800", "115200"]
    measured = made.value("flash_md5")
    assert measured is not None
    assert not measured.within


def test_another_wrong_content_each_time_is_the_supply() -> None:
    """Two different wrong MD5s blame nobody on the board (A-12)."""
    board = ScriptedBoard()
    places = iter((0x4000, 0x5000))

    def spoil() -> None:
        board.flash[next(places)] ^= 0x10

    assert rig(board.on("written", for_ever(spoil))).ends().reason is Reason.VERIFY_UNSTABLE
    assert erases(board) == ["460800", "115200"]


def test_a_second_write_that_holds_is_good_and_noted() -> None:
    """One bad write passes after a rewrite at the lowest rate, and the record tells of it."""
    board = ScriptedBoard()

    def spoil() -> None:
        board.flash[0x4000] ^= 0x10

    made = rig(board.on("written", [spoil]))
    image = made.make()
    assert bytes(board.flash) == image.ljust(MIB, b"\xff")
    assert made.evidence.baud_used == 115_200
    assert len(made.evidence.notes) == 1
    assert "erased and written again at the lowest rate" in made.evidence.notes[0]
    assert made.evidence.bytes_flashed == 2 * len(image)


@pytest.mark.parametrize("flashed_before", [False, True])
def test_a_worn_flash_is_not_called_write_protected(*, flashed_before: bool) -> None:
    """Also on a board that carried this very image before, wrong content behind the first sector is the flash's fault."""
    board = ScriptedBoard(stuck={0x8001: 0x00})
    if flashed_before:
        board.flash[:] = image_for(_recipe(), FlashChip(jedec_id=0, size_bytes=MIB), "dout").ljust(MIB, b"\xff")
    assert rig(board).ends().reason is Reason.VERIFY_MISMATCH
    assert board.count("unprotect") == 0


def test_write_protection_that_can_be_lifted_is_lifted_once() -> None:
    """A flash that did not take a byte gets its protection lifted, is written again, passes and is noted (A-13)."""
    board = ScriptedBoard(protected="until lifted")
    made = rig(board)
    image = made.make()
    assert bytes(board.flash) == image.ljust(MIB, b"\xff")
    assert board.count("unprotect") == 1
    assert made.evidence.notes == ["nothing was written: write protection lifted, written again"]


@pytest.mark.parametrize("content", [b"\x5a", b"\xff"], ids=["full", "blank"])
def test_write_protection_for_good_is_the_boards_fault(content: bytes) -> None:
    """A flash that does not take a byte even then is write-protected, whatever was in it before."""
    board = ScriptedBoard(protected="for good", flash=bytearray(content * MIB))
    assert rig(board).ends().reason is Reason.FLASH_WRITE_PROTECTED
    assert bytes(board.flash) == content * MIB
    assert board.count("unprotect") == 1


# -- the whole flash ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claimed_bytes", "real_bytes", "detail"),
    [
        (MIB, MIB // 2, "512 KB instead of 1 MB"),
        (2 * MIB, MIB, "1 MB instead of 2 MB"),
        (4 * MIB, MIB, "1 MB instead of 4 MB"),
        (4 * MIB, 512 << 10, "512 KB instead of 4 MB"),
        (16 * MIB, 2 * MIB, "2 MB instead of 16 MB"),
    ],
)
@pytest.mark.parametrize("image_bytes", [0x9400, 600 << 10], ids=["small image", "large image"])
def test_a_flash_smaller_than_it_claims_is_found_out(
    claimed_bytes: int, real_bytes: int, detail: str, image_bytes: int
) -> None:
    """Where addresses wrap the first sector is seen again, also when the image itself wrapped over its own head (D-5)."""
    board = ScriptedBoard(claimed_bytes=claimed_bytes, real_bytes=real_bytes)
    made = rig(board)
    made.recipe = _recipe(image_bytes)
    ended = made.ends()
    assert (ended.reason, ended.detail) == (Reason.FLASH_SIZE_FAKE, detail)
    assert made.value("flash_real_size") == Measurement(
        name="flash_real_size", value=real_bytes, unit="B", low=claimed_bytes, high=claimed_bytes, within=False
    )


def test_an_image_that_repeats_its_own_head_is_not_called_fake() -> None:
    """Where the image itself has its first sector again at half the size, that proves nothing and blames nobody."""
    image = bytearray(_recipe(600 << 10).image)
    board = ScriptedBoard()
    made = rig(board)
    chip = made.connect()
    head = image_for(made.recipe, chip, "dout")[:4096]
    image[:4096] = head
    image[512 << 10 : (512 << 10) + 4096] = head
    made.link.write(bytes(image))
    made.link.verify(bytes(image), chip)
    assert made.value("flash_real_size") is not None


@pytest.mark.parametrize("behind", [0, 1, 2, 3, 100, 4096, 500_000])
def test_a_rest_that_is_not_blank_is_the_flash(behind: int) -> None:
    """From the word after the image's last byte to the end of the flash everything must be blank."""
    end = -(-len(_recipe().image) // 4) * 4
    board = ScriptedBoard()

    def spoil() -> None:
        board.flash[end + behind] = 0x7F

    made = rig(board.on("written", for_ever(spoil)))
    ended = made.ends()
    assert ended.reason is Reason.VERIFY_MISMATCH
    assert "is not blank" in ended.detail
    assert made.value("flash_rest_blank") == Measurement(name="flash_rest_blank", value=False, within=False)


def test_an_image_that_fills_the_flash_leaves_no_rest() -> None:
    """An image as large as the flash is proved by its MD5 alone; that there is no rest is said, not left out."""
    made = rig()
    made.recipe = msgspec.structs.replace(_recipe(MIB - 16), minimum_flash_bytes=MIB)
    image = made.make()
    assert len(image) == MIB
    rest = made.value("flash_rest_blank")
    assert rest is not None
    assert rest.within


# -- whatever happens --------------------------------------------------------------------------------------------------

STEPS = ("connect", "identity", "stub", "baud", "chip", "erase", "write", "half", "written", "md5", "presence")
ACTS = st.sampled_from(["nothing", "nothing", "silent", "corrupt", "refused", "restarted", "lift", "spoil", "lie"])


@given(
    faults=st.dictionaries(st.sampled_from(STEPS), st.lists(ACTS, max_size=6), max_size=4),
    protected=st.sampled_from(["no", "no", "until lifted"]),
    real_bytes=st.sampled_from([MIB, MIB, 512 << 10]),
)
@settings(max_examples=150, deadline=None)
def test_verify_never_returns_over_wrong_content(faults: dict[str, list[str]], protected: str, real_bytes: int) -> None:
    """Whatever breaks, lies or is lifted at any step: either the flash holds exactly the image, or the job has ended."""
    board = ScriptedBoard(real_bytes=real_bytes, protected=protected)  # type: ignore[arg-type]

    def act(name: str, step: str) -> Act:
        def lift() -> None:
            board.present = False

        def spoil() -> None:
            board.flash[(len(board.journal) * 4099) % real_bytes] ^= 0x20

        acts: dict[str, Act] = {
            "silent": silent(),
            "corrupt": corrupt(),
            "refused": LoaderRefused("refused", 0xC100),
            "restarted": BoardRestarted("ets"),
            "lift": lift,
            "spoil": spoil if step in ("erase", "write", "half") else None,
            "lie": (lambda: "0" * 32) if step == "md5" else None,
        }
        return acts.get(name)

    for step, names in faults.items():
        board.on(step, [act(name, step) for name in names])
    made = rig(board)
    made.stop = made.link._stop = InstantStop(board.clock, deadline_s=60)
    try:
        image = made.make()
    except (StationError, LineStopped):
        assert not made.evidence.flash_touched or made.evidence.identity is not None
        if not made.evidence.flash_touched:
            assert bytes(board.flash) == b"\x5a" * real_bytes
        return
    assert bytes(board.flash) == image.ljust(MIB, b"\xff")
    proved = {each.name for each in made.evidence.measurements if each.within}
    assert proved >= {"flash_md5", "flash_real_size", "flash_rest_blank", "mac_after_write"}


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
