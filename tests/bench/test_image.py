"""The image maker: real in every check, the same bytes every time, recognised in a flash."""

import hashlib
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station.bench.chip import check_image, make_chip
from station.bench.image import SMALL_IMAGE_BYTES, Variant, check_trailer, describe_image, make_image

IMAGE = make_image()
VARIANTS: tuple[tuple[Variant, str], ...] = (
    ("512K", "ESP module (512K) with ESP8266"),
    ("1M", "ESP module (1M) with ESP8266"),
    ("2M", "ESP module with ESP8266"),
)


def rom_accepts(image: bytes) -> bool:
    """Whether the virtual chip's ROM would start this image."""
    _, problem = check_image(make_chip(mac=bytes(6), image=image).flash)
    return problem == b""


@pytest.mark.parametrize("variant", ["512K", "1M", "2M"])
def test_image_passes_the_checks_of_micropython_and_of_the_rom(variant: Variant) -> None:
    """Every variant has the magic, the length word and the MD5 trailer of makeimg.py, and the ROM would start it."""
    image = make_image(variant=variant)
    assert image[0] == 0xE9
    assert int.from_bytes(image[0x8FFC:0x9000], "little") == len(image) - 16
    assert hashlib.md5(image[4:-16]).digest() == image[-16:]  # noqa: S324 - MicroPython's choice
    assert check_trailer(image).holds
    assert rom_accepts(image)


def test_the_small_image_is_a_whole_one() -> None:
    """What `station bench --small-image` writes is below 100 KB, starts, holds its trailer and names its release."""
    image = make_image(size_bytes=SMALL_IMAGE_BYTES)
    assert len(image) == SMALL_IMAGE_BYTES < 100_000
    assert check_trailer(image).holds
    assert rom_accepts(image)
    found = describe_image(image)
    assert found is not None
    assert (found.release, found.filesystem_sectors) == ("1.27.0", (0x99, 98))


@settings(deadline=None, max_examples=60)
@given(bit=st.integers(min_value=32, max_value=8 * len(IMAGE) - 1))
def test_one_flipped_bit_breaks_the_trailer(bit: int) -> None:
    """A bit flipped anywhere after the four header bytes that flashing may patch makes the trailer wrong."""
    damaged = bytearray(IMAGE)
    damaged[bit // 8] ^= 1 << bit % 8
    assert not check_trailer(damaged).holds


def test_rom_refuses_a_damaged_segment_and_does_not_look_at_the_rest() -> None:
    """The ROM's checksum covers what it loads into RAM and nothing of what runs from flash."""
    in_segment, in_irom = bytearray(IMAGE), bytearray(IMAGE)
    in_segment[0x100] ^= 1
    in_irom[0x20000] ^= 1
    assert not rom_accepts(bytes(in_segment))
    assert rom_accepts(bytes(in_irom))


def test_flashing_may_patch_the_header() -> None:
    """Flash mode and size in the header can be changed, as esptool does, and the trailer still holds."""
    patched = bytes((IMAGE[0], IMAGE[1], 3, 0x40)) + IMAGE[4:]
    found = describe_image(patched)
    assert check_trailer(patched).holds
    assert found is not None
    assert found.flash_size_bytes == 4 * 1024 * 1024


def test_same_arguments_same_bytes() -> None:
    """An image is a function of its arguments; another seed is another content."""
    assert make_image() == IMAGE
    assert make_image(seed=1) != IMAGE
    assert make_image(version="1.26.1", built="2025-09-11") != IMAGE


@pytest.mark.parametrize("variant", ["512K", "1M", "2M"])
def test_image_compresses_like_a_real_one(variant: Variant) -> None:
    """Compressed by zlib -9 there is 65 to 66 % left, so that a flash takes as long as a real one."""
    image = make_image(variant=variant)
    assert 0.645 < len(zlib.compress(image, 9)) / len(image) < 0.665


def test_image_size_is_chosen_within_what_the_variant_has_room_for() -> None:
    """A size is honoured to the byte; one that would reach the filesystem is refused with the limits."""
    assert len(make_image(variant="2M", size_bytes=633_688)) == 633_688
    assert len(make_image(size_bytes=102_400)) == 102_400
    with pytest.raises(ValueError, match="give a multiple of 8 from 40976 to 606224"):
        make_image(variant="1M", size_bytes=633_688)
    with pytest.raises(ValueError, match="multiple of 8"):
        make_image(size_bytes=102_401)


@pytest.mark.parametrize(("variant", "machine"), VARIANTS)
def test_image_is_recognised_in_a_flash(variant: Variant, machine: str) -> None:
    """Version, machine and length are read back from a flash that holds other things behind the image."""
    image = make_image(variant=variant, version="1.27.0", built="2025-12-09")
    found = describe_image(image.ljust(1024 * 1024, b"\xff"))
    assert found is not None
    assert found.version == "v1.27.0 on 2025-12-09"
    assert found.release == "1.27.0"
    assert found.machine == machine
    assert found.length_bytes == len(image) - 16


def test_filesystem_lies_where_flashbdev_puts_it() -> None:
    """1 MB: sector 0x99, 98 sectors; 512 KB build: none; 2 MB build on 1 MB: a negative number, as on a chip."""
    places = {}
    for variant, machine in VARIANTS:
        found = describe_image(make_image(variant=variant))
        assert found is not None
        places[machine] = found.filesystem_sectors
    assert list(places.values()) == [None, (0x99, 98), (0x101, -6)]
    on_two_megabytes = describe_image(b"\xe9\x03\x00\x30" + make_image(variant="2M")[4:])
    assert on_two_megabytes is not None
    assert on_two_megabytes.filesystem_sectors == (0x101, 250)


def test_early_micropython_without_a_length_word_is_recognised() -> None:
    """Without makeimg.py's length word the texts still say what it is; the trailer does not hold."""
    early = bytearray(IMAGE)
    early[0x8FFC:0x9000] = b"\xff" * 4
    found = describe_image(early)
    assert found is not None
    assert found.length_bytes is None
    assert not check_trailer(early).holds


@settings(deadline=None, max_examples=50)
@given(start=st.binary(max_size=64), length=st.integers(min_value=0, max_value=0x9100))
def test_what_is_no_micropython_is_not_recognised(start: bytes, length: int) -> None:
    """Blank, short, foreign or random content describes nothing and raises nothing."""
    assert describe_image(start + b"\xe9" + b"\xff" * length) is None
    assert describe_image(b"\xe9" + start * 600) is None
    assert describe_image(IMAGE.replace(b"MicroPython v", b"SomethingElse")) is None
