"""FLASH and VERIFY against a scripted board: what is written, and what is never believed."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station.errors import BoardRestarted, LineStopped, LoaderRefused, StationError
from station.flashing import image_for
from station.model import FlashChip, Measurement
from station.reasons import Reason
from tests.unit.link_rig import corrupt, erases, link_recipe, rig, silent
from tests.unit.scripted_board import MAC, MIB, Act, InstantStop, ScriptedBoard, at, for_ever, identity_of

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
    made.recipe = msgspec.structs.replace(link_recipe(2 * MIB), minimum_flash_bytes=MIB)
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
    image = bytearray(link_recipe().image)
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
        board.flash[:] = image_for(link_recipe(), FlashChip(jedec_id=0, size_bytes=MIB), "dout").ljust(MIB, b"\xff")
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
    made.recipe = link_recipe(image_bytes)
    ended = made.ends()
    assert (ended.reason, ended.detail) == (Reason.FLASH_SIZE_FAKE, detail)
    assert made.value("flash_real_size") == Measurement(
        name="flash_real_size", value=real_bytes, unit="B", low=claimed_bytes, high=claimed_bytes, within=False
    )


def test_an_image_that_repeats_its_own_head_is_not_called_fake() -> None:
    """Where the image itself has its first sector again at half the size, that proves nothing and blames nobody."""
    image = bytearray(link_recipe(600 << 10).image)
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
    end = -(-len(link_recipe().image) // 4) * 4
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
    made.recipe = msgspec.structs.replace(link_recipe(MIB - 16), minimum_flash_bytes=MIB)
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
