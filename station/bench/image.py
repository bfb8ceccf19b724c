"""MicroPython-format images for the ESP8266: makes them for the bench and recognises them in a flash.

An image made here passes every check that a real one passes (the ROM's header, segments and checksum, the length word at
0x8ffc and the MD5 trailer of MicroPython's makeimg.py), has a real build's strings, size and compressibility, and is the
same bytes for the same arguments. It is no program: the bench reads from it which firmware it is and plays that one.
This module must never judge an image for production; the recipe does that.
"""

import hashlib
import random
import re
from dataclasses import dataclass
from typing import Literal

Variant = Literal["512K", "1M", "2M"]
"""The three builds of ESP8266_GENERIC, by the least flash they need."""

IMAGE_MAGIC = 0xE9
CHECKSUM_SEED = 0xEF
IROM_OFFSET = 0x9000
"""Where the part that runs from flash begins; header and RAM segments lie before it (makeimg.py, SEGS_MAX_SIZE)."""
LENGTH_OFFSET = IROM_OFFSET - 4
TRAILER_BYTES = 16
SECTOR_BYTES = 4096
SMALL_IMAGE_BYTES = 48 * 1024
"""Enough for everything that makes an image one, and quick over a slow line; no real build is so small."""
SDK_PARAMETERS_BYTES = 20480
"""What the SDK keeps for itself at the end of the flash (flashbdev.py)."""
MIB = 1024 * 1024

_SEGMENTS = ((0x40100000, 31_504), (0x3FFE8000, 1_308), (0x3FFE8520, 3_040))
"""Address and length of .text, .data and .rodata, about as in a release build."""
_SYMBOLS = 31
"""That many different byte values, uniformly spread, deflate to about 65 %, as real builds do (speed.md, section 2)."""
_HEADER_SIZES = {
    0: MIB // 2,
    1: MIB // 4,
    2: MIB,
    3: 2 * MIB,
    4: 4 * MIB,
    5: 2 * MIB,
    6: 4 * MIB,
    8: 8 * MIB,
    9: 16 * MIB,
}
_VERSION = re.compile(rb"MicroPython (v[0-9][0-9A-Za-z.+-]{0,40} on [0-9]{4}-[0-9]{2}-[0-9]{2})")
_MACHINE = re.compile(rb"(ESP module(?: \([0-9]+[KM]\))? with ESP8266)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """One variant: its machine string, its name, and where its parts lie (boards/esp8266_*.ld), in bytes."""

    machine: str
    name: str
    irom_end: int
    user_start: int
    size_bytes: int


_BUILDS: dict[str, _Build] = {
    "512K": _Build(
        machine="ESP module (512K) with ESP8266",
        name="ESP8266_GENERIC-FLASH_512K",
        irom_end=0x79000,
        user_start=0x7B000,
        size_bytes=481_840,
    ),
    # 0x94000 to 0x98000 is the ROM filesystem; up to 1.24 it belonged to the firmware, the end was the same.
    "1M": _Build(
        machine="ESP module (1M) with ESP8266",
        name="ESP8266_GENERIC-FLASH_1M",
        irom_end=0x94000,
        user_start=0x98000,
        size_bytes=601_848,
    ),
    "2M": _Build(
        machine="ESP module with ESP8266",
        name="ESP8266_GENERIC",
        irom_end=0xC0000,
        user_start=0x100000,
        size_bytes=633_688,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareDescription:
    """What the firmware in a flash says of itself.

    `version` is "v1.27.0 on 2025-12-09", `machine` "ESP module (1M) with ESP8266", `build` the name of that variant;
    `length_bytes` is makeimg.py's length word, the trailer not counted (None: an early MicroPython without one), and
    `flash_size_bytes` what its header says of the flash, which is what the firmware believes.
    """

    version: str
    machine: str
    build: str
    length_bytes: int | None
    flash_size_bytes: int
    user_start_bytes: int

    @property
    def release(self) -> str:
        """The version number alone: "1.27.0"."""
        return self.version.split(" ")[0].removeprefix("v")

    @property
    def filesystem_sectors(self) -> tuple[int, int] | None:
        """First sector and number of sectors of its filesystem, as flashbdev.py computes them; None: it has none.

        One sector after the firmware is left free, the last 20 KiB are the SDK's. A build for 2 MiB on 1 MiB gets a
        negative number of sectors, exactly as on a chip.
        """
        if self.flash_size_bytes < MIB or "(512K)" in self.machine:
            return None
        start = self.user_start_bytes // SECTOR_BYTES + 1
        return start, (self.flash_size_bytes - SDK_PARAMETERS_BYTES) // SECTOR_BYTES - start


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailerCheck:
    """What `esp.check_fw()` prints and returns; `digest` is None when the length word is no length."""

    length_bytes: int
    digest: bytes | None
    holds: bool


def make_image(
    *,
    variant: Variant = "1M",
    version: str = "1.27.0",
    built: str = "2025-12-09",
    seed: int = 0,
    size_bytes: int | None = None,
) -> bytes:
    """One image, trailer included: the bytes that are flashed to address 0.

    `size_bytes` defaults to about a release's size and is a multiple of 8; ValueError when the variant has no room for
    it. Another `seed` gives another content under the same name. The header says qio, 40 MHz and 1 MB, as elf2image does.
    """
    build = _BUILDS[variant]
    size = build.size_bytes if size_bytes is None else size_bytes
    smallest, largest = IROM_OFFSET + SECTOR_BYTES + TRAILER_BYTES, build.irom_end + TRAILER_BYTES
    if not smallest <= size <= largest or size % 8:
        raise ValueError(f"an image of {size} bytes for {variant}: give a multiple of 8 from {smallest} to {largest}")
    dice = random.Random(f"image {variant} {version} {built} {seed}")  # noqa: S311 - reproducible, not secret
    head = _head(dice)
    irom_length = size - IROM_OFFSET - TRAILER_BYTES
    strings = _strings(build, version, built)
    irom = _code(dice, irom_length // 2) + strings
    irom += _code(dice, irom_length - len(irom))
    padding = b"\xff" * (LENGTH_OFFSET - len(head))
    body = head + padding + (IROM_OFFSET + irom_length).to_bytes(4, "little") + irom
    return body + hashlib.md5(body[4:], usedforsecurity=False).digest()


def describe_image(flash: bytes | bytearray) -> FirmwareDescription | None:
    """Recognise the MicroPython at the start of a flash (or in an image file); None when there is none.

    Uses only what every ESP8266_GENERIC build contains: the image header, makeimg.py's length word and the texts of the
    banner. Whether the ROM would start it, and whether its trailer holds, is not asked here.
    """
    if len(flash) <= IROM_OFFSET or flash[0] != IMAGE_MAGIC:
        return None
    length: int | None = int.from_bytes(flash[LENGTH_OFFSET:IROM_OFFSET], "little")
    if length is not None and not IROM_OFFSET < length <= MIB:
        length = None
    firmware = bytes(flash[: length or MIB])
    version, machine = _VERSION.search(firmware), _MACHINE.search(firmware)
    if version is None or machine is None:
        return None
    named = machine.group(1).decode()
    build = next((build for build in _BUILDS.values() if build.machine == named), _BUILDS["2M"])
    return FirmwareDescription(
        version=version.group(1).decode(),
        machine=named,
        build=build.name,
        length_bytes=length,
        flash_size_bytes=_HEADER_SIZES.get(flash[3] >> 4, MIB),
        user_start_bytes=build.user_start,
    )


def check_trailer(flash: bytes | bytearray) -> TrailerCheck:
    """What `esp.check_fw()` finds in this flash: the MD5 over all but the first four bytes must be the trailer."""
    length = int.from_bytes(flash[LENGTH_OFFSET:IROM_OFFSET], "little")
    if length > MIB:
        return TrailerCheck(length_bytes=length, digest=None, holds=False)
    digest = hashlib.md5(flash[4:length], usedforsecurity=False).digest()
    holds = digest == bytes(flash[length : length + TRAILER_BYTES])
    return TrailerCheck(length_bytes=length, digest=digest, holds=holds)


def _head(dice: random.Random) -> bytes:
    """The header and the segments that the ROM loads into RAM, their checksum in the last byte."""
    head = bytes((IMAGE_MAGIC, len(_SEGMENTS), 0x00, 0x20)) + (0x40100004).to_bytes(4, "little")
    checksum = CHECKSUM_SEED
    for address, length in _SEGMENTS:
        content = _code(dice, length)
        head += address.to_bytes(4, "little") + length.to_bytes(4, "little") + content
        for byte in content:
            checksum ^= byte
    return head + b"\0" * (15 - len(head) % 16) + bytes((checksum,))


def _code(dice: random.Random, length: int) -> bytes:
    """That many bytes that compress like machine code."""
    return dice.randbytes(length).translate(bytes((value % _SYMBOLS) * 7 + 0x20 for value in range(256)))


def _strings(build: _Build, version: str, built: str) -> bytes:
    """The texts one finds in a real build with `strings`."""
    banner = f"MicroPython v{version} on {built}"
    texts = (
        banner,
        f"; {build.machine}",
        'Type "help()" for more information.',
        f"3.4.0; {banner}",
        build.machine,
        build.name,
        "esp8266",
        "2.2.0-dev(9422289)",
        "raw REPL; CTRL-B to exit",
        "MPY: soft reboot",
        "Performing initial setup",
        "micropythoN",
        "frequency can only be either 80Mhz or 160MHz",
        "flash location must be below 1MByte",
        "len must be multiple of 4",
    )
    return b"\0".join(text.encode() for text in texts) + b"\0"
