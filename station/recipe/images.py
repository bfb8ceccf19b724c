"""Firmware images for the ESP8266: whether one is whole, what it says of itself, and its header for the flash it goes to.

Pure functions over bytes; nothing here opens a file or talks to a board. Format of the image: micropython
`ports/esp8266/makeimg.py`; format of the header: Espressif's ESP8266 "firmware image format".
"""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path

import msgspec

from station.errors import ConfigurationError

HEADER_MAGIC = 0xE9
FLASH_MODES = {"qio": 0, "qout": 1, "dio": 2, "dout": 3}
FLASH_FREQUENCIES = {"40m": 0x0, "26m": 0x1, "20m": 0x2, "80m": 0xF}
# High nibble of header byte 3 (esptool 5.6 ESP8266ROM.FLASH_SIZES).
FLASH_SIZE_CODES = {
    512 << 10: 0x00,
    256 << 10: 0x10,
    1 << 20: 0x20,
    2 << 20: 0x30,
    4 << 20: 0x40,
    8 << 20: 0x80,
    16 << 20: 0x90,
}
TRAILER_LENGTH_OFFSET = 0x8FFC
TRAILER_SIZE_BYTES = 16
_MACHINE = re.compile(rb"ESP module(?: \((512K|1M)\))? with ESP8266")
_VERSION = re.compile(rb"v(\d+\.\d+(?:\.\d+)?(?:-[A-Za-z0-9.\-]+)?) on \d{4}-\d\d-\d\d")
_VARIANT_FLASH_BYTES = {b"512K": 512 << 10, b"1M": 1 << 20, None: 2 << 20}


_SECTOR_BYTES = 4096
_SDK_PARAMETERS_BYTES = 20 << 10
_FILESYSTEM_STARTS = {"1M": 0x99000, "2M": 0x101000}
"""One sector behind what the linker scripts keep for the firmware (esp8266_1MiB.ld, esp8266_2MiB.ld, flashbdev.py)."""


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What an image says of itself."""

    version: str
    machine: str
    variant: str
    """`512K` or `1M`; empty for the build without a suffix, and for images that name no machine."""
    needs_flash_bytes: int

    @property
    def build(self) -> str:
        """Which of MicroPython's own builds it calls itself: `512K`, `1M`, `2M`; empty for another firmware."""
        return self.variant or ("2M" if self.machine else "")


def describe(image: bytes) -> Description:
    """Return what an image says of itself; one that names no machine needs the next flash size above its length."""
    machine, version = _MACHINE.search(image), _VERSION.search(image)
    variant = machine.group(1) if machine else None
    return Description(
        version=version.group(1).decode() if version else "",
        machine=machine.group(0).decode() if machine else "",
        variant=variant.decode() if variant else "",
        needs_flash_bytes=_VARIANT_FLASH_BYTES[variant] if machine else _round_up_to_flash_size(len(image)),
    )


def filesystem_blocks(build: str, flash_size_bytes: int) -> int | None:
    """Return how many blocks of 4 KiB the filesystem of MicroPython's own `1M` or `2M` build has on such a flash.

    None where nobody knows. It is an estimate for the size budget; where a filesystem is written, its place is learned.
    """
    start = _FILESYSTEM_STARTS.get(build)
    return None if start is None else max(0, (flash_size_bytes - _SDK_PARAMETERS_BYTES - start) // _SECTOR_BYTES)


def verify_image(image: bytes, *, sha256: str, trailer: str, file: str, recipe: Path, key: str = "firmware") -> None:
    """Check an image's sha256 and, unless `trailer` is `none`, MicroPython's own trailer (faults D-9).

    Raises `ConfigurationError`.
    """
    actual = hashlib.sha256(image).hexdigest()
    if actual != sha256.lower():
        raise ConfigurationError(
            file=str(recipe),
            key=f"{key}.sha256",
            problem=f"{file} ({len(image)} bytes) has sha256 {actual}, the recipe says {sha256.lower()}",
            fix="fetch the image again if it is damaged, or write the new sha256 if you meant to change it",
        )
    problem = image_problem(image)
    if problem:
        raise ConfigurationError(
            file=file, problem=problem, fix="use an ESP8266 firmware image (it starts with byte 0xE9)"
        )
    if trailer == "micropython":
        problem = trailer_problem(image)
        if problem:
            raise ConfigurationError(
                file=file,
                problem=f"not a complete MicroPython image: {problem}",
                fix=f'fetch the image again; for an early MicroPython or another firmware say {key}.trailer = "none"',
            )


def image_problem(image: bytes) -> str:
    """Return what makes `image` no ESP8266 firmware at all, or an empty string."""
    if len(image) < 16:  # noqa: PLR2004 - header (8) and the first segment's header (8)
        return f"only {len(image)} bytes long"
    if image[0] != HEADER_MAGIC:
        return f"first byte is {image[0]:#04x}, not 0xe9"
    return ""


def trailer_problem(image: bytes) -> str:
    """Return why MicroPython's trailer (length at 0x8ffc, MD5 of all but the first 4 bytes at the end) does not hold."""
    if len(image) < TRAILER_LENGTH_OFFSET + 4 + TRAILER_SIZE_BYTES:
        return f"only {len(image)} bytes long"
    (length,) = struct.unpack_from("<I", image, TRAILER_LENGTH_OFFSET)
    if length != len(image) - TRAILER_SIZE_BYTES:
        return f"the image says it is {length + TRAILER_SIZE_BYTES} bytes long, the file has {len(image)}"
    if hashlib.md5(image[4:-TRAILER_SIZE_BYTES], usedforsecurity=False).digest() != image[-TRAILER_SIZE_BYTES:]:
        return "its MD5 does not match its content"
    return ""


def with_header(image: bytes, flash_size_bytes: int, *, mode: str, frequency: str) -> bytes:
    """Return the image with header bytes 2 and 3 set for this flash, as `esptool --flash-size detect` does (D-8).

    `flash_size_bytes` must be a key of `FLASH_SIZE_CODES`, `mode` of `FLASH_MODES`, `frequency` of `FLASH_FREQUENCIES`.
    """
    size = FLASH_SIZE_CODES[flash_size_bytes]
    return image[:2] + bytes((FLASH_MODES[mode], size | FLASH_FREQUENCIES[frequency])) + image[4:]


def _round_up_to_flash_size(length: int) -> int:
    return next(size for size in sorted(FLASH_SIZE_CODES) if size >= length or size == max(FLASH_SIZE_CODES))
