"""Where a filesystem lies: what a board says of it, and what of that is believed."""

from __future__ import annotations

import json

import pytest

from station.errors import ReplGarbage
from station.layouts import LAYOUT_CODE, Layout, cannot_make, layout_that_answers
from tests.unit.file_board import LAYOUT, FileSystem

HEAD = bytes.fromhex("01000000f00ffff76c6974746c6566732fe00010000002000010000062000000")


def says(first: int, sectors: int, *heads: bytes) -> bytes:
    """What a board prints, with some chatter before it."""
    return b"chatter\r\n" + json.dumps([first, sectors, *(head.hex() for head in heads)]).encode() + b"\r\n"


def test_a_board_with_littlefs_shows_its_layout():
    """First sector and number of sectors come from the block device, and the superblock must agree."""
    assert layout_that_answers(FileSystem().execute(LAYOUT_CODE)) == LAYOUT
    assert layout_that_answers(says(153, 98, HEAD, bytes(32))) == LAYOUT
    assert layout_that_answers(says(153, 98, b"\xff" * 32, HEAD)) == LAYOUT
    assert str(LAYOUT) == "sector 153, 98 sectors"


def test_a_build_without_a_filesystem_has_no_layout():
    """The 512 KiB build has no block device."""
    assert layout_that_answers(FileSystem(says=None).execute(LAYOUT_CODE)) is None


@pytest.mark.parametrize(("at", "byte"), [(8, b"L"), (20 + 2, b"\1"), (22, b"\3"), (25, b"\2"), (28, b"\x61")], ids=str)
def test_what_is_no_littlefs_2_of_our_sectors_has_no_layout(at, byte):
    """Another name, version, block size or number of blocks: nothing may be written there blindly."""
    head = HEAD[:at] + byte + HEAD[at + 1 :]
    assert layout_that_answers(says(153, 98, head, head)) is None


@pytest.mark.parametrize("payload", [b"", b"{}", b"[1,2]", b'[1,2,"00","00"]', b"5", b"[" * 5000, b" " * 5000])
def test_nonsense_is_no_layout(payload):
    """What is not the answer of our code is an error of the conversation."""
    with pytest.raises(ReplGarbage):
        layout_that_answers(payload)


def test_a_layout_lies_behind_the_image_and_inside_the_flash():
    """One byte too much on either side, and it is not used."""
    fits = {"image_bytes": 153 * 4096, "flash_bytes": 251 * 4096}
    assert LAYOUT.fits(**fits)
    assert not LAYOUT.fits(**fits | {"image_bytes": 153 * 4096 + 1})
    assert not LAYOUT.fits(**fits | {"flash_bytes": 251 * 4096 - 1})
    assert not Layout(first_sector=153, sectors=1).fits(**fits)
    assert not Layout(first_sector=153, sectors=-5).fits(**fits)


def test_a_station_without_a_maker_makes_nothing():
    """Then every file goes through the REPL."""
    assert cannot_make(LAYOUT, {"a": b""}, ()) is None
