"""FLASH and VERIFY of an image with a filesystem behind it: by the chip's own word every byte is written or blank."""

from __future__ import annotations

import re

import pytest

from station.errors import JobEnded
from station.flashing import Area, image_for
from station.reasons import Reason
from tests.unit.link_rig import Rig
from tests.unit.scripted_board import MIB, ScriptedBoard
from tests.unit.small_image import small_recipe

SECTOR = 4096
OFFSET = 0x99000
FILES = (
    b"superblock".ljust(SECTOR, b"\xff") * 2
    + b"\xff" * 10 * SECTOR
    + b"content".ljust(SECTOR, b"\0")
    + b"\xff" * 5 * SECTOR
)


def make(rig: Rig, areas: tuple[Area, ...] = (Area(offset=OFFSET, content=FILES),)) -> bytes:
    """CONNECT, FLASH and VERIFY; what the flash must hold then."""
    chip = rig.connect()
    image = image_for(rig.recipe, chip, "dout")
    rig.evidence.flash_mode = "dout"
    rig.link.write(image, areas)
    rig.link.verify(image, chip, areas)
    whole = bytearray(image.ljust(MIB, b"\xff"))
    for area in areas:
        whole[area.offset : area.offset + len(area.content)] = area.content
    return bytes(whole)


def measured(rig: Rig) -> dict[str, object]:
    """What is within its limits, by name."""
    return {each.name: each.value for each in rig.evidence.measurements if each.within}


def test_image_and_filesystem_are_written_and_the_rest_is_blank(tmp_path):
    """The flash holds both to the byte; only sectors that are not blank go over the line, and progress counts them all."""
    rig = Rig(ScriptedBoard(), small_recipe(tmp_path))
    whole = make(rig)
    assert bytes(rig.board.flash) == whole
    assert rig.board.count("write at 460800") == 3
    assert rig.evidence.bytes_flashed == len(rig.recipe.image) + 3 * SECTOR
    fractions = [told.fraction for told in rig.told if told.fraction is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert measured(rig)["filesystem_md5"] is True
    assert measured(rig)["flash_rest_blank"] is True


def test_without_a_filesystem_nothing_is_said_of_one(tmp_path):
    """An image alone has no such measurement."""
    rig = Rig(ScriptedBoard(), small_recipe(tmp_path))
    make(rig, ())
    assert "filesystem_md5" not in measured(rig)


@pytest.mark.parametrize("sector", [0, 1, 12], ids=["superblock", "its pair", "content"])
def test_a_stuck_bit_in_the_filesystem_is_a_faulty_flash(tmp_path, sector):
    """The chip's MD5 of the filesystem is wrong twice in the same way."""
    board = ScriptedBoard(stuck={OFFSET + sector * SECTOR + 3: 0x00})
    rig = Rig(board, small_recipe(tmp_path))
    with pytest.raises(JobEnded) as ended:
        make(rig)
    assert ended.value.reason is Reason.VERIFY_MISMATCH
    assert ended.value.detail == "MD5 of the filesystem deviates"
    assert "filesystem_md5" not in measured(rig)
    assert measured(rig)["flash_md5"]


@pytest.mark.parametrize("place", [0x98000, OFFSET - 1, OFFSET + 5 * SECTOR, OFFSET + len(FILES), MIB - 1], ids=hex)
def test_a_bit_that_is_not_blank_anywhere_else_is_found(tmp_path, place):
    """Between image and filesystem, in a blank sector of it, and behind it: what must be blank is blank."""
    board = ScriptedBoard(stuck={place: 0x7F})
    rig = Rig(board, small_recipe(tmp_path))
    with pytest.raises(JobEnded) as ended:
        make(rig)
    assert ended.value.reason is Reason.VERIFY_MISMATCH


def test_a_write_protection_is_lifted_and_everything_is_written_again(tmp_path):
    """The second write brings the filesystem as well as the image."""
    rig = Rig(ScriptedBoard(protected="until lifted"), small_recipe(tmp_path))
    whole = make(rig)
    assert bytes(rig.board.flash) == whole


def test_a_flash_that_wraps_is_found_out_behind_a_filesystem(tmp_path):
    """A fake size is still said to be one when a filesystem lies in the upper half."""
    board = ScriptedBoard(real_bytes=MIB // 2)
    rig = Rig(board, small_recipe(tmp_path))
    with pytest.raises(JobEnded) as ended:
        make(rig)
    assert ended.value.reason is Reason.FLASH_SIZE_FAKE


def test_a_digest_of_the_filesystem_is_in_no_record(tmp_path):
    """A short secret could be guessed from it: neither measurement nor note holds it."""
    rig = Rig(ScriptedBoard(stuck={OFFSET + 3: 0x00}), small_recipe(tmp_path))
    with pytest.raises(JobEnded) as ended:
        make(rig)
    values = [str(each.value) for each in rig.evidence.measurements if each.name != "flash_md5"]
    said = "\n".join([ended.value.detail, *rig.evidence.notes, *values])
    assert "filesystem deviates" in said
    assert not re.search("[0-9a-f]{32}", said)
